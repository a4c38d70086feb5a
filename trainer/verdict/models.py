"""Which eyes there are on this machine beside the base model's own, and what is said of those that are not.

Works without torch. Nothing is fetched: what is not here is not measured, and the report says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from trainer.captioners.models import GRAPHS
from trainer.captioners.options import OrPath
from trainer.captioners.tags import LABELS
from trainer.config.parts import Part, Text
from trainer.data.pictures import plain
from trainer.downloads import in_models, models_folder
from trainer.errors import InputError
from trainer.images.models import model_files

Kind = Literal["dino", "clip", "face", "tagger"]
Given = Annotated[Text, OrPath()]
AUTO = "auto"

DINO = ("Dinov2Model", "Dinov2WithRegistersModel", "Dinov2ForImageClassification")
READERS = ("CLIPModel", "SiglipModel")
"""Models that read text too, so that a picture can be held against its prompt."""
CLIP = (*READERS, "CLIPVisionModelWithProjection")

_DINO = {"image_size": 518, "patch_size": 14}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "dinov2-small": ("Dinov2Model", {"hidden_size": 384, "num_attention_heads": 6, **_DINO}),
    "dinov2-base": ("Dinov2Model", _DINO),
    "clip-vit-base-patch32": ("CLIPModel", {}),
    "clip-vit-large-patch14": (
        "CLIPModel",
        {
            "projection_dim": 768,
            "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
            "vision_config": {**_LARGE, "patch_size": 14},
        },
    ),
}
"""Files that `models get` fetches: architecture, and the settings in which its published config.json differs from the
default, so that one .safetensors file is all that is needed."""

MEASURES: dict[Kind, str] = {
    "dino": "likeness by DINOv2",
    "clip": "agreement with the prompt by CLIP",
    "face": "face likeness",
    "tagger": "tag recall",
}


class Eyes(Part):
    """What looks at the pictures beside the base model itself. None is fetched; empty leaves one out."""

    dino: Given = AUTO
    """DINOv2, for likeness: its folder, file or hub name; auto takes the largest in the models folder."""
    clip: Given = AUTO
    """CLIP or SigLIP, for likeness and for how well a prompt is obeyed: folder, file or hub name; auto takes the
    largest in the models folder."""
    face: Given = AUTO
    """What tells faces apart: auto takes SFace in the models folder. An .onnx file of your own with 112x112 pixels in,
    as in insightface's packs, can be given; mind that those packs may be used for non-commercial research only."""
    detector: Given = AUTO
    """What finds faces: YuNet's .onnx file; auto takes the one in the models folder."""
    tagger: Given = AUTO
    """A WD14 tagger's folder or hub name, for tags that come back; auto takes the largest in the models folder."""


@dataclass(frozen=True)
class Found:
    """An eye that is here, or why it is not.

    files: for dino and clip the folder or file of the model, for face what tells faces apart and what finds them, for
    tagger its folder; empty when missing.
    """

    kind: Kind
    files: tuple[Path, ...] = ()
    missing: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it can be opened."""
        return bool(self.files)

    @property
    def name(self) -> str:
        """What its model is called on this machine; empty when it is missing."""
        return _called(self.files[0]) if self.files else ""

    @property
    def sentence(self) -> str:
        """What the report says of one that is not here."""
        return f"{MEASURES[self.kind]} was not measured: {self.missing}"


def available(options: Eyes) -> list[Found]:
    """The eyes of this machine, one for each kind in a fixed order, here or missing.

    Raises InputError for a file or folder that was given by name and is not there, or is a model of another kind.
    """
    return [
        _vision("dino", options.dino, DINO, "dinov2-small"),
        _vision("clip", options.clip, CLIP, "clip-vit-base-patch32"),
        _face(options),
        _tagger(options.tagger),
    ]


def architecture(model: Path) -> str | None:
    """The class that a transformers folder, or one of the PUBLISHED files, says it is of; None when it says nothing.

    By class and not by `model_type`: the safety checker of old base models says that it is of type clip.
    """
    if model.is_file():
        return PUBLISHED.get(model.stem, (None,))[0] if model.suffix == ".safetensors" else None
    try:
        told = json.loads((model / "config.json").read_text("utf-8"))
        return str(told["architectures"][0])
    except (OSError, ValueError, LookupError, TypeError):  # no JSON, no such key, or not of the form of a config
        return None


def _vision(kind: Kind, given: str | None, kinds: tuple[str, ...], remedy: str) -> Found:
    """The model of one of some architectures, the first of them before the others, the larger before the smaller."""
    if given is None:
        return Found(kind, missing=f"{kind} was left empty")
    if given == AUTO:
        if found := next(_in_folder(kinds), None):
            return Found(kind, (found,))
        what = "DINOv2" if kind == "dino" else "CLIP"
        return Found(kind, missing=f"{what} is not in the models folder ({_get(remedy)})")
    own = Path(given).expanduser()
    if not own.exists():  # a name on the hub: the models folder has it under its last part
        own = next((model for model in _in_folder(kinds) if _called(model) == own.name), own)
    if not own.exists():
        raise InputError(
            f"{kind}: {plain(given)!r} is no folder or file here, nor in {models_folder()}: put a folder with "
            f"config.json and .safetensors there, or {_get(remedy)}"
        )
    if (said := architecture(own)) not in kinds:
        known = ", ".join(f"{name}.safetensors" for name, (which, _) in PUBLISHED.items() if which in kinds)
        raise InputError(
            f"{kind}: {plain(str(own), 1000)} {f'is a {plain(said)}' if said else 'does not say what it is'}: give a "
            f"transformers folder of a {' or '.join(kinds)}, or {known}"
        )
    return Found(kind, (own,))


def _in_folder(kinds: tuple[str, ...]) -> Iterator[Path]:
    folders = [config.parent for config in in_models("config.json")]
    files = [file for name in PUBLISHED for file in in_models(f"{name}.safetensors")]
    there = {model: _size(model) for model in {*folders, *files} if architecture(model) in kinds}
    readers = [model for model in there if architecture(model) in READERS]
    for some in (readers, there.keys() - readers):
        yield from sorted((model for model in some if there[model]), key=lambda model: (-there[model], model))


def _size(model: Path) -> int:
    """Bytes of its weights; pickled ones are not read, and do not count."""
    return sum(file.stat().st_size for file in ([model] if model.is_file() else model.glob("*.safetensors")))


def _face(options: Eyes) -> Found:
    if options.face is None or options.detector is None:
        return Found("face", missing=f"{'face' if options.face is None else 'detector'} was left empty")
    face, detector = _onnx("face", options.face, "sface"), _onnx("detector", options.detector, "yunet")
    if face and detector:
        return Found("face", (face, detector))
    lacks = {"SFace": face, "YuNet": detector}
    names = [name for name, file in lacks.items() if not file]
    what = f"{' and '.join(names)} {'are' if len(names) > 1 else 'is'} not in the models folder"
    return Found("face", missing=f"{what} ({_get(*(name.lower() for name in names))})")


def _onnx(option: str, given: str, word: str) -> Path | None:
    if given == AUTO:
        return next((file for file in model_files() if word in file.name.lower()), None)
    file = Path(given).expanduser()
    if not file.is_file():
        raise InputError(f"{option}: {plain(str(file), 1000)} does not exist: put the file there, or choose another")
    return file


def _tagger(given: str | None) -> Found:
    if given is None:
        return Found("tagger", missing="tagger was left empty")
    there = {
        labels.parent: graph.stat().st_size
        for name in LABELS
        for labels in in_models(name)
        for graph in (labels.with_name(graph) for graph in GRAPHS)
        if graph.is_file()
    }
    largest = sorted(there, key=lambda folder: (-there[folder], folder))
    if given == AUTO:
        where = f"no WD14 tagger is in the models folder (the first captioning by WD14 puts one into {models_folder()})"
        return Found("tagger", tuple(largest[:1]), "" if largest else where)
    own = Path(given).expanduser()
    called = {given.removeprefix("SmilingWolf/").replace("/", "_"), own.name}
    if not own.is_dir():
        own = next((folder for folder in largest if folder.name in called), own)
    if not own.is_dir():
        raise InputError(
            f"tagger: {plain(given)!r} is no folder here, nor in {models_folder() / 'wd14'}: put {GRAPHS[0]} and "
            f"{LABELS[0]} into one, or caption with it once, which fetches it"
        )
    return Found("tagger", (own,))


def _called(model: Path) -> str:
    return model.stem if model.is_file() else model.name


def _get(*names: str) -> str:
    return f"python launch.py models get {' '.join(names)}"
