"""Weights by block of the U-Net, as sd-scripts and the block-weight extension of A1111 write them."""

from __future__ import annotations

import json
import re

from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.layout import unet_key

BLOCKS = ("BASE", *(f"IN{n:02}" for n in range(12)), "MID", *(f"OUT{n:02}" for n in range(12)))
"""BASE is the text encoders; the U-Net's blocks by their numbers in the original layout."""
ATTENTION = {
    "sd15": ("BASE", "IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "MID", *(f"OUT{n:02}" for n in range(3, 12))),
    "sdxl": ("BASE", "IN04", "IN05", "IN07", "IN08", "MID", *(f"OUT{n:02}" for n in range(6))),
}
"""Blocks with attention, which a LoRA without convolutions changes."""
ALL = {"sd15": BLOCKS, "sdxl": tuple(block for block in BLOCKS if not block.endswith(("09", "10", "11")))}
NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)")


def block_of(part: str, path: str) -> str:
    """The block of a module by its diffusers path; "" for the U-Net's time and size embeddings and its last layers."""
    if part != "unet":
        return "BASE"
    match unet_key(path).split("."):
        case ["input_blocks", number, *_]:
            return f"IN{int(number):02}"
        case ["middle_block", *_]:
            return "MID"
        case ["output_blocks", number, *_]:
            return f"OUT{int(number):02}"
    return ""


def read_weights(text: str, family: str) -> dict[str, float]:
    """Weights by block out of `1,0,0.5,...`, `[1, 0, 0.5]` or `IN04:0.5, MID:0`; InputError says what is expected."""
    pieces = [piece for piece in re.split(r"[,\s]+", text.strip().strip("[]")) if piece]
    if any(":" in piece for piece in pieces):
        return dict(_named(piece, family) for piece in re.sub(r"\s*:\s*", ":", text).replace(",", " ").split())
    if bad := next((piece for piece in pieces if not NUMBER.fullmatch(piece)), None):
        raise InputError(f"lbws: {bad[:40]!r} is no number; write numbers with commas, or IN04:0.5")
    short, whole = ATTENTION[family], ALL[family]
    names = {len(short): short, len(whole): whole}.get(len(pieces))
    if names is None:
        raise InputError(
            f"lbws: {len(pieces)} numbers for {FAMILIES[family].title}; give {len(short)} ({' '.join(short)})"
            f" or {len(whole)} ({whole[0]} {whole[1]} ... {whole[-1]})"
        )
    return dict(zip(names, map(float, pieces), strict=True))


def _named(piece: str, family: str) -> tuple[str, float]:
    name, _, number = piece.partition(":")
    name = name.strip("\"'").upper()
    if name not in ALL[family]:
        raise InputError(
            f"lbws: {json.dumps(name[:40])} is no block of {FAMILIES[family].title}; they are {' '.join(ALL[family])}"
        )
    if not NUMBER.fullmatch(number):
        raise InputError(f"lbws: {piece[:40]!r} has no number; write it as IN04:0.5")
    return name, float(number)
