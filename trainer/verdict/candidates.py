"""What may be the one: a run's files as what they are: LoRAs, whole models or new words. Works without torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.compare.shelf import is_embedding
from trainer.config import Config, Embedding
from trainer.errors import InputError
from trainer.families.header import read_header
from trainer.runfolder import RunFolder
from trainer.verdict.scores import Kind, What

AVERAGES = "averages"
"""The folder, in the one that is compared, of the averages that the comparison makes."""
CHOSEN = "chosen"
"""The folder, in the one that is compared, of copies that someone chose to use."""
INDEX = "model_index.json"
"""What makes a folder a model of diffusers."""
SAVED = re.compile(r"-(step\d+|\d{6,})$")
"""The end of a name before the training's own end."""
_UNET = "model.diffusion_model."
_FIRST: tuple[What, ...] = ("lora", "model", "embedding")
"""Of a folder that holds several kinds of files, the first of these is compared: a LoRA's words lie beside it."""


@dataclass(frozen=True)
class Saved:
    """A file that may be the one; of a model in the layout of diffusers its folder."""

    path: Path
    label: str
    epoch: int | None = None
    step: int | None = None
    losses: Mapping[str, float | None] = field(default_factory=dict)
    kind: Kind = "file"
    what: What = "lora"
    word: str = ""
    """The word that an embedding is for."""


def what_trained(config: Config) -> What:
    """What the files of a training hold."""
    kind = config.network.type
    return "model" if kind == "full_model" else "embedding" if kind == "embedding" else "lora"


def strengths_of(what: What, wanted: Sequence[float]) -> list[float]:
    """The strengths at which files are tried: whole models and new words have none."""
    return list(dict.fromkeys(wanted)) if what == "lora" else [1.0]


def find_saved(folder: Path, run: RunFolder | None, config: Config | None, trigger: str | None) -> list[Saved]:
    """The files of a run or of another folder in the order of saving, without what an earlier comparison made.

    InputError when there are none, and for a training of several words.
    """
    home = run.checkpoints if run else folder
    found: dict[What, list[Path]] = {}
    for path in _models(home):
        if not {AVERAGES, CHOSEN} & {*path.relative_to(home).parts}:
            found.setdefault(what_of(path), []).append(path)
    what = next((one for one in _FIRST if one in found), None)
    if what is None:
        raise InputError(f"folder: {folder} holds no LoRA, model or embedding yet; train it, or give another folder")
    word = trigger
    if config and isinstance(config.network, Embedding):
        word, *others = (one.token for one in config.network.words())
        if others:
            raise InputError(
                f"folder: {folder} learned {len(others) + 1} words, and a comparison asks with and without one; draw"
                " with each of its embeddings in Generate"
            )
    losses = losses_of(run) if run else {}
    told = _told(run) if run else {}
    saved = []
    for path in found[what]:
        step, epoch = _age(path, told.get(path.name, (None, None)))
        own = (word or SAVED.sub("", path.stem)).lower() if what == "embedding" else ""
        saved.append(Saved(path, path.stem, epoch, step, losses.get(step or -1, {}), what=what, word=own))
    return sorted(saved, key=_order)


def what_of(path: Path) -> What:
    """What a file or a folder of diffusers holds; what is neither a model nor an embedding counts as a LoRA."""
    if path.is_dir() or any(name.startswith(_UNET) for name in read_header(path).tensors):
        return "model"
    return "embedding" if is_embedding(path) else "lora"


def folders_in(home: Path) -> list[Path]:
    """The models in a folder that are folders of diffusers; one that is being written begins with a dot."""
    return sorted(index.parent for index in home.glob(f"*/{INDEX}") if not index.parent.name.startswith("."))


def losses_of(run: RunFolder) -> dict[int, dict[str, float | None]]:
    """What the run measured, by step: the epoch's average loss, the held-out one, and its gap to the trained one."""
    found: dict[int, dict[str, float | None]] = {}
    for event in run.events():
        losses = found.setdefault(int(event.get("step") or 0), {})
        if event["kind"] == "epoch":
            losses["train_loss"] = event["loss"]
        elif event["kind"] == "validation":
            held_out, trained = event["loss"], event["train_loss"]  # null where it was NaN
            gap = (held_out - trained) / trained if trained and held_out is not None else None
            losses |= {"held_out_loss": held_out, "gap": gap}
    return found


def _models(home: Path) -> Iterator[Path]:
    """Every .safetensors file; in the place of those of a folder of diffusers, that folder."""
    folders = folders_in(home)
    yield from folders
    for file in sorted(home.rglob("*.safetensors")):
        is_hidden = any(part.startswith(".") for part in file.relative_to(home).parts)
        if file.is_file() and not is_hidden and not set(folders) & set(file.parents):
            yield file


def _told(run: RunFolder) -> dict[str, tuple[int | None, int | None]]:
    """Step and epoch of each file by its name, as the run told: a whole model's file does not say them itself."""
    events = list(run.events())
    epochs = {event.get("step"): event.get("epoch") for event in events if event["kind"] == "epoch"}
    return {
        Path(str(event["file"])).name: (event.get("step"), event.get("epoch") or epochs.get(event.get("step")))
        for event in events
        if event["kind"] == "checkpoint"
    }


def _age(path: Path, told: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    """Step and epoch at which a file was saved: by its own words, else as its run told, the epoch else by its name."""
    own = {} if path.is_dir() else read_header(path).metadata
    step, epoch = (int(text) if (text := own.get(key, "")).isdigit() else None for key in ("ss_steps", "ss_epoch"))
    named = SAVED.search(path.stem)
    if named and named[1].startswith("step"):
        epoch = None
    elif epoch is None:
        epoch = told[1] or (int(named[1]) if named else None)
    return told[0] if step is None else step, epoch


def _order(saved: Saved) -> tuple[float, bool, str]:
    """By steps; the final file comes after the others of its step, and last where no step is known."""
    is_final = not SAVED.search(saved.label)
    step = saved.step if saved.step is not None else float("inf") if is_final else 0
    return step, is_final, saved.path.name
