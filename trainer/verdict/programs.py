"""Where programs that make pictures look for LoRAs, from whatever folder of theirs a person named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from trainer.errors import InputError
from trainer.families.header import Header, ModelError, read_header
from trainer.named import folder_of

LORAS = ("lora", "loras")
KINDS = ("lora", "hada", "lokr", "oft_")
"""Parts of the names of a LoRA's tensors, LyCORIS's kinds among them."""
LOOKED_AT = 5  # files of a folder that are opened to see whether it is one of LoRAs


@dataclass(frozen=True)
class Program:
    """A program: its folder of LoRAs within `models`, where its packages nest it, what else is in its `models`."""

    title: str
    loras: str
    nested: str
    beside: str


PROGRAMS: Mapping[str, Program] = {
    "a1111": Program("A1111", "Lora", "webui", "Stable-diffusion"),
    "forge": Program("Forge", "Lora", "webui", "Stable-diffusion"),
    "comfyui": Program("ComfyUI", "loras", "ComfyUI", "checkpoints"),
}
"""By option. Their one-click packages hold the program in a folder of its own."""


def lora_folder(option: str, text: str) -> Path:
    """The folder of LoRAs of a program; InputError when there is none to be found.

    text: where the program is installed, its `models`, its folder of LoRAs or one within that; or any folder outside
    `models` that holds LoRA files, since all of them can be told to look elsewhere.
    """
    program, given = PROGRAMS[option], folder_of(option, text)
    if _is_loras(given) or _is_loras(Path(text).expanduser()):  # it may be a link to a folder of any name
        return given
    for root in (given, given / program.nested):
        for models in (_child(root, "models"), root):
            found = models and next(filter(None, (_child(models, name) for name in (program.loras, *LORAS))), None)
            if found:
                return found
            if models and _child(models, program.beside):  # freshly installed
                return models / program.loras
    if given.parent.name.casefold() != "models" and any(map(_is_lora, sorted(given.glob("*.safetensors"))[:LOOKED_AT])):
        return given
    raise InputError(
        f"{option}: {given} holds no models/{program.loras}; choose the folder that {program.title} is installed in, "
        "or its folder of LoRAs"
    )


def import_folder(text: str) -> Path | None:
    """The folder that InvokeAI takes LoRAs from when it starts, as it did until 3.x; None where it has none.

    Its own `models` is never written: the program keeps a list of what is there.
    """
    given = folder_of("invokeai", text)
    automatic = given if given.name.casefold() == "autoimport" else _child(given, "autoimport")
    if given.name.casefold() in LORAS and given.parent.name.casefold() == "autoimport":
        return given
    if automatic is None:
        return None
    return next(filter(None, (_child(automatic, name) for name in LORAS)), automatic)


def holds_lora(header: Header) -> bool:
    """Whether a file is a LoRA, by the names of its tensors."""
    return any(kind in tensor for tensor in header.tensors for kind in KINDS)


def _is_lora(path: Path) -> bool:
    try:
        return holds_lora(read_header(path))
    except (ModelError, OSError):
        return False


def _is_loras(folder: Path) -> bool:
    """Whether a folder is one of LoRAs, or lies in that of a program."""
    above = [part.casefold() for part in folder.parts]
    return above[-1] in LORAS or any(pair[0] == "models" and pair[1] in LORAS for pair in pairwise(above))


def _child(folder: Path, name: str) -> Path | None:
    """A folder within another, whatever the case of its letters."""
    if not folder.is_dir():
        return None
    return next(
        (one for one in sorted(folder.iterdir()) if one.name.casefold() == name.casefold() and one.is_dir()), None
    )
