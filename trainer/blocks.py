"""Blocks of a UNet as sd-scripts counts them, and the rate, rank and alpha of each (networks/lora.py). No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from trainer.config import Blocks
from trainer.errors import InputError


class Count(NamedTuple):
    """How many blocks a family's UNet has: going down, in the middle, going up, and at each end without a layer."""

    down: int
    mid: int
    up: int
    ends: int

    @property
    def all(self) -> int:
        """Numbers that a list for all blocks has."""
        return self.down + self.mid + self.up + 2 * self.ends


class Size(NamedTuple):
    """Ranks and alphas of a block: of its linear and 1x1 layers, and of its 3x3 convolutions."""

    rank: int
    alpha: float
    conv_rank: int
    conv_alpha: float


BLOCKS = {"sd15": Count(12, 1, 12, 0), "sdxl": Count(9, 3, 9, 1)}
CURVES = ("sine", "cosine", "linear", "reverse_linear", "zeros")
_SD15 = re.compile(r"(up|down)_blocks_(\d+)_(resnets|attentions|upsamplers|downsamplers)_(\d+)_")
_SDXL = re.compile(r"(input_blocks|middle_block|output_blocks)_(\d+)_")


def block_of(family: str, name: str) -> int:
    """The block of a UNet layer by its name in a file: `lora_unet_down_blocks_0_attentions_1_proj_in` is in block 2."""
    count = BLOCKS[family]
    if family == "sdxl":
        found = _SDXL.search(name)
        if not found:
            return 0 if "time_embed" in name or "label_emb" in name else count.all - 1
        start = {"input_blocks": 1, "middle_block": 1 + count.down, "output_blocks": 1 + count.down + count.mid}
        return start[found[1]] + int(found[2])
    if found := _SD15.search(name):
        place = 3 * int(found[2]) + (2 if found[3].endswith("samplers") else int(found[4]))
        return 1 + place if found[1] == "down" else count.down + count.mid + place
    return count.down if "mid_block" in name else 0


def sizes(options: Blocks, family: str) -> list[Size] | None:
    """Ranks and alphas of every block, a rank of 0 where it is left out; None where all blocks are alike."""
    if not options.by_block:
        return None
    count = BLOCKS[family].all
    conv = options.conv_rank or 0
    columns = (
        _listed(options.block_ranks, "block_ranks", count) or [options.rank] * count,
        _listed(options.block_alphas, "block_alphas", count) or [options.alpha] * count,
        _listed(options.conv_block_ranks, "conv_block_ranks", count) or [conv] * count,
        _listed(options.conv_block_alphas, "conv_block_alphas", count) or [options.conv_alpha] * count,
    )
    shares = weights(options, family) or [1.0] * count
    rows = zip(*columns, shares, strict=True)
    return [
        Size(int(rank) if share else 0, alpha, int(wide) if share else 0, wide_alpha)
        for rank, alpha, wide, wide_alpha, share in rows
    ]


def weights(options: Blocks, family: str) -> list[float] | None:
    """Each block's share of the UNet's rate; None where all learn alike."""
    if not options.weighted:
        return None
    count = BLOCKS[family]
    ends = [1.0] * count.ends
    parts = (
        _shares(options.down_weights, "down_weights", count.down, options.zero_threshold),
        _shares(options.mid_weights, "mid_weights", count.mid, options.zero_threshold),
        _shares(options.up_weights, "up_weights", count.up, options.zero_threshold),
    )
    return [*ends, *(share for part in parts for share in part), *ends]


def _shares(text: str | None, name: str, count: int, threshold: float) -> list[float]:
    if text is None:
        return [1.0] * count
    word, _, base = text.strip().partition("+")
    remedy = f"give {count} numbers with commas between, or one of {', '.join(CURVES)}, with such as +0.5 behind"
    try:
        if word in CURVES:
            shares = [share + float(base or 0) for share in _curve(word, count)]
        else:
            shares = [float(number) if number.strip() else 0.0 for number in text.split(",")]
    except ValueError:
        raise InputError(f"network.{name}: {text!r} cannot be read: {remedy}") from None
    if len(shares) != count or not all(0 <= share < math.inf for share in shares):
        raise InputError(f"network.{name}: {text!r} is not right for the {count} blocks of this model: {remedy}")
    return [share if share > threshold else 0.0 for share in shares]


def _curve(word: str, count: int) -> list[float]:
    """The curve over so many blocks; with one block there is only its beginning."""
    ramp = [step / max(1, count - 1) for step in range(count)]
    match word:
        case "sine":
            return [math.sin(math.pi / 2 * step) for step in ramp]
        case "cosine":
            return [math.sin(math.pi / 2 * step) for step in reversed(ramp)]
        case "linear":
            return ramp
        case "reverse_linear":
            return ramp[::-1]
        case _:
            return [0.0] * count


def _listed(numbers: Sequence[float] | None, name: str, count: int) -> list[float] | None:
    if numbers is not None and len(numbers) != count:
        raise InputError(
            f"network.{name}: {len(numbers)} numbers for the {count} blocks of this model: give {count}, or none"
        )
    return None if numbers is None else [*numbers]
