"""Where programs that make pictures look for files of each kind, from whatever folder of theirs a person named."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import InputError
from trainer.families.header import Header, ModelError, read_header
from trainer.named import folder_of
from trainer.verdict.scores import What

LORAS = ("lora", "loras")
KINDS = ("lora", "hada", "lokr", "oft_")
"""Parts of the names of a LoRA's tensors, LyCORIS's kinds among them."""
LOOKED_AT = 5  # files of a folder that are opened to see whether it is one of LoRAs
MODELS, IMPORTS = "models", "autoimport"
BESIDE = "../"


@dataclass(frozen=True)
class Program:
    """A program: its folder for each kind, in its `models`, with other spellings, of which the first is made.

    nested: where its packages hold it; word: how a prompt calls an embedding; sides: whether it reads a preview and a
    side file.
    """

    title: str
    folders: Mapping[What, tuple[str, ...]]
    nested: str = ""
    word: str = "{}"
    sides: bool = True


_WEBUI: Mapping[What, tuple[str, ...]] = {
    "lora": ("Lora", "loras"),
    "model": ("Stable-diffusion",),
    "embedding": (f"{BESIDE}embeddings",),
}
PROGRAMS: Mapping[str, Program] = {
    "a1111": Program("A1111", _WEBUI, "webui"),
    "forge": Program("Forge", _WEBUI, "webui"),
    "comfyui": Program(
        "ComfyUI",
        {"lora": ("loras", "lora"), "model": ("checkpoints",), "embedding": ("embeddings",)},
        "ComfyUI",
        word="embedding:{}",
    ),
    "invokeai": Program(
        "InvokeAI",
        {"lora": LORAS, "model": ("main",), "embedding": ("embedding", "embeddings")},
        word="<{}>",
        sides=False,
    ),
}
"""By option. InvokeAI's folders are in its `autoimport`."""


def folder_for(option: str, text: str, what: What) -> Path | None:
    """The folder of a program for a kind of file; None for InvokeAI where it imports nothing by itself.

    text: where the program is installed, its `models`, its folder of LoRAs or one within that; for LoRAs also any
    folder outside `models` that holds some, since all programs can be told to look elsewhere. InputError when that does
    not tell the folder.
    """
    program, given = PROGRAMS[option], folder_of(option, text)
    if option == "invokeai":
        return _import_folder(given, program.folders[what])
    named = Path(os.path.abspath(Path(text).expanduser()))  # it may be a link to a folder of any name
    loras = [one for one in map(_loras, (given, named)) if one]
    if what == "lora" and loras:
        return given
    for models, is_installed in _models(program, (given, named), loras):
        if found := _first(models, program.folders[what]):
            return found
        first = program.folders[what][0]
        if is_installed or not first.startswith(BESIDE):  # beside models that lie anywhere, nobody may look for it
            return _within(models, first)
    is_outside = given.parent.name.casefold() != MODELS
    if what == "lora" and is_outside and any(map(_is_lora, sorted(given.glob("*.safetensors"))[:LOOKED_AT])):
        return given
    usual = _within(Path(MODELS), program.folders[what][0]).as_posix()
    other = "or its folder of LoRAs" if what == "lora" else "or give any folder as save_to"
    raise InputError(
        f"{option}: {given} holds no {usual}; choose the folder that {program.title} is installed in, {other}"
    )


def holds_lora(header: Header) -> bool:
    """Whether a file is a LoRA, by the names of its tensors."""
    return any(kind in tensor for tensor in header.tensors for kind in KINDS)


def _import_folder(given: Path, names: Iterable[str]) -> Path | None:
    """The folder that InvokeAI takes files from when it starts, as it did until 3.x; None where it has none.

    Its own `models` is never written: the program keeps a list of what is there.
    """
    near = next((one for one in (given, given.parent) if one.name.casefold() == IMPORTS), None)
    home = near or _first(given, (IMPORTS,))
    return home and (_first(home, names) or home / next(iter(names)))


def _models(program: Program, given: Iterable[Path], loras: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """What may be a program's `models`, and whether it lies where the program is installed."""
    near: list[tuple[Path | None, bool]] = []
    for root in dict.fromkeys(place for one in given for place in (one, one / program.nested)):
        near += [(_first(root, (MODELS,)), True), (root, False)]
    for models, is_installed in [*near, *((one.parent, False) for one in loras)]:
        if models and _first(models, (*program.folders["lora"], *program.folders["model"])):
            yield models, is_installed


def _is_lora(path: Path) -> bool:
    try:
        return holds_lora(read_header(path))
    except (ModelError, OSError):
        return False


def _loras(folder: Path) -> Path | None:
    """The folder of LoRAs that a folder is, or that of a program that it lies in."""
    for one in (folder, *folder.parents):
        if one.name.casefold() in LORAS and (one == folder or one.parent.name.casefold() == MODELS):
            return one
    return None


def _within(folder: Path, name: str) -> Path:
    return folder.parent / name.removeprefix(BESIDE) if name.startswith(BESIDE) else folder / name


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these folders that is there, whatever the case of its letters."""
    for path in (_within(folder, name) for name in names):
        near = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
        if found := next((one for one in near if one.name.casefold() == path.name.casefold() and one.is_dir()), None):
            return found
    return None
