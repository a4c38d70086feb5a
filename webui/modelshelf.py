"""The models that are at hand, by name: base models and VAEs in the folders of models, LoRAs there and in the runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from trainer.compare.shelf import EMBEDDING, network_hash, words_beside
from trainer.config import Config
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.detect import Detected
from trainer.families.header import ModelError, kind_of, read_header
from webui.layout import PICKS
from webui.planning import base_of
from webui.runs import Runs
from webui.settings import Settings

Kind = Literal["base", "lora", "embedding", "vae", ""]
Facts = dict[str, Any]
ENDINGS = (".safetensors", ".ckpt")
OF_LORA = (".lora_", ".lora.", "_lora.", "lora_unet_", "lora_te", "lycoris_")
LARGEST_VAE = 10**9  # bytes; a .ckpt is not opened to see what it holds


def folders(settings: Settings) -> list[str]:
    """The folders of models that are there now: a disk may have been taken away."""
    return [str(folder) for folder in settings.models if folder.is_dir()]


def loras(settings: Settings, runs: Runs) -> list[Facts]:
    """Every LoRA at hand: {"name", "file", "place": its run or folder}; the newest runs first, then the models."""
    return list(_at_hand(settings, runs, "lora"))


def embeddings(settings: Settings, runs: Runs) -> list[Facts]:
    """Every embedding at hand, told as LoRAs are, with "folder": where to look for its name, "" where all do.

    A word that was learned together with a LoRA comes with that.
    """
    worn = {file for one in loras(settings, runs) for file in words_beside(Path(one["file"])).values()}
    found = [(Path(one["file"]), one) for one in _at_hand(settings, runs, "embedding")]
    return [
        {**one, "folder": str(file.parent) if runs.root in file.parents else ""}
        for file, one in found
        if file not in worn
    ]


def _at_hand(settings: Settings, runs: Runs, wanted: Kind) -> Iterator[Facts]:
    for run in sorted(runs.ids(), reverse=True):
        files = sorted((runs.root / run / "checkpoints").glob("*.safetensors"))
        yield from (_told(file, run) for file in reversed(files) if kind(file) == wanted)
    for folder in settings.models:
        files = [file for file in _files(folder) if kind(file) == wanted]
        yield from (_told(file, file.parent.relative_to(folder.parent).as_posix()) for file in files)


def bases(settings: Settings) -> list[tuple[str, str]]:
    """Base models to choose from: what is shown, and what is taken."""
    found = [
        (file.relative_to(folder).as_posix(), str(file))
        for folder in settings.models
        for file in _files(folder)
        if kind(file) == "base"
    ]
    return [*PICKS[:1], *found, *PICKS[1:]]


def about(base: str) -> Facts:
    """{"title", "family", "side": pixels it was made for} of a base model, as far as this machine knows it; InputError
    for none."""
    found, said = base_of(Config.model_validate({"model": {"base": base}}))
    if found is None:
        return {"title": "; ".join(said), "family": None, "side": None}
    return {"title": "; ".join([found.title, *said]), "family": found.family, "side": side_of(found)}


def side_of(found: Detected) -> int:
    """Pixels a side that a base model was made for."""
    return int(found.config.get("unet", {}).get("sample_size", FAMILIES[found.family].side // 8)) * 8


def base_named(settings: Settings, name: str) -> str | None:
    """The base model of a name as pictures tell it; None when there is none here."""
    return next((taken for _, taken in bases(settings) if name in (taken, Path(taken).stem)), None)


def vae_named(settings: Settings, name: str) -> str | None:
    """The VAE of a file's name."""
    files = (file for folder in settings.models for file in _files(folder))
    return next((str(file) for file in files if file.name == name), None)


def lora_named(found: list[Facts], name: str, digest: str) -> Facts | None:
    """The LoRA of a name; of several called so the one whose hash begins with `digest`, as pictures tell it."""
    same = [one for one in found if one["name"].lower() == name.lower()]
    if len(same) < 2 or not digest:
        return next(iter(same), None)
    return next((one for one in same if network_hash(Path(one["file"])).startswith(digest)), None)


def kind(file: Path) -> Kind:
    """What a file of weights is, by its header; "" for one that cannot be used here."""
    try:
        told = file.stat()
        return _kind(file, told.st_size, told.st_mtime_ns)
    except OSError:
        return ""


@lru_cache(4096)
def _kind(file: Path, size: int, changed: int) -> Kind:
    try:
        if kind_of(file) == "pickle":
            return "vae" if size < LARGEST_VAE else "base"
        names = read_header(file).tensors
    except (ModelError, InputError):
        return ""
    if any(word in name for name in names for word in OF_LORA):
        return "lora"
    if any(EMBEDDING.fullmatch(name) for name in names):
        return "embedding"
    return "base" if any(name.startswith("model.diffusion_model.") for name in names) else "vae"


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())


def _told(file: Path, place: str) -> Facts:
    return {"name": file.stem, "file": str(file), "place": place}
