"""The layers of each family by kind, block and shape, so that any network's size is known before a model is loaded.

`shapes.json` holds a row for each: [part, kind, block, shape, how many]. A test makes it anew from the models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from trainer.blocks import sizes
from trainer.config import Blocks, Config, LoKr
from trainer.filters import Filter, filter_of

KINDS = {
    "attention": ("Transformer2DModel", "BasicTransformerBlock", "Attention", "CLIPAttention", "CLIPEncoderLayer"),
    "feed": ("Transformer2DModel", "BasicTransformerBlock", "FeedForward", "CLIPMLP", "CLIPEncoderLayer"),
    "resnet": ("ResnetBlock2D",),
    "sampler": ("Downsample2D", "Upsample2D"),
}
"""Kinds of layers, and the classes of blocks that hold them."""
NAMES = {"time": "time_embedding.linear_1", "first": "conv_in", "last": "conv_out"}
"""Kinds of layers of SD1.5 that only a name chooses; sd-scripts gives SDXL's another, which no preset knows."""


class Row(NamedTuple):
    """Layers that are alike: `shape` is that of their weights, of norms [channels]."""

    part: str
    kind: str
    block: int
    shape: tuple[int, ...]
    count: int


@cache
def layers_of(model: str) -> tuple[Row, ...]:
    """All layers of a family, or of the shipped `pocket`."""
    table = json.loads((Path(__file__).parent / "shapes.json").read_text("utf-8"))
    return tuple(Row(part, kind, block, tuple(shape), count) for part, kind, block, shape, count in table[model])


def size_of(config: Config, family: str) -> tuple[int, int]:
    """Parameters that a network trains, and the rows and columns of all its matrices together."""
    model, trained, edges = "pocket" if config.model.base == "pocket" else family, 0, 0
    for row, rank in trained_layers(config.network, model, family):
        if getattr(config.rates, row.part):
            trained += row.count * parameters(config.network, row, rank)
            edges += row.count * math.prod(row.shape[2:]) * sum(row.shape[:2])
    return trained, edges


def trained_layers(network: Any, model: str, family: str) -> Iterator[tuple[Row, int]]:
    """The layers that a network changes, each with the rank it gets there; of a filter file names are left out."""
    if isinstance(network, Blocks):
        yield from _of_lora(network, model, family)
        return
    chosen, norms = filter_of(network), getattr(network, "train_norm", False)
    for row in layers_of(model):
        wide, norm = len(row.shape) == 4 and row.shape[-1] > 1, len(row.shape) == 1
        if _chosen(row, chosen) and (norms if norm else chosen.conv or not wide):
            rank = getattr(network, "rank", 1)
            yield row, (getattr(network, "conv_rank", None) or rank) if wide else rank


def _of_lora(network: Blocks, model: str, family: str) -> Iterator[tuple[Row, int]]:
    blocks = sizes(network, family)
    conv = network.conv_rank is not None or network.conv_block_ranks is not None
    kinds = ("attention", "feed", "resnet", "sampler") if conv else ("attention", "feed")
    for row in layers_of(model):
        if len(row.shape) == 1 or row.kind not in kinds:
            continue
        wide = len(row.shape) == 4 and row.shape[-1] > 1
        rank, conv_rank = network.rank, network.conv_rank or 0
        if blocks and row.part == "unet":
            rank, conv_rank = blocks[row.block].rank, blocks[row.block].conv_rank
        if rank := conv_rank if wide else rank:
            yield row, rank


def _chosen(row: Row, chosen: Filter) -> bool:
    classes, names = (chosen.unet, chosen.names) if row.part == "unet" else (chosen.text, chosen.text_names)
    if row.kind in NAMES:
        return chosen.fits(names, NAMES[row.kind])
    return any(kind in classes for kind in KINDS[row.kind])


def parameters(network: Any, row: Row, rank: int) -> int:
    """What a network trains in one layer of a shape."""
    if len(row.shape) == 1:
        return 2 * row.shape[0]
    out, fan_in, *window = row.shape
    area = math.prod(window)
    down, up, rows = rank * fan_in * area, rank * out, out if getattr(network, "dora", False) else 0
    rows += 1 if getattr(network, "scalar", False) else 0
    cut = getattr(network, "tucker", False) and area > 1
    match network.type:
        case "lora_fa":
            return up
        case "loha" if cut:
            return 2 * (rank * (fan_in + out) + rank * rank * area) + rows
        case "loha":
            return 2 * (down + up) + rows
        case "lokr":
            return _kronecker(network, (out, fan_in, area), rank, cut) + rows
        case "glora":
            return down + up + 2 * rank * fan_in
        case "ia3":
            return fan_in if network.on_input else out
        case "diag_oft":
            size, count = factors(out, rank)
            return count * size * size + (out if network.rescaled else 0)
        case "boft":
            size, count = butterfly(out, rank)
            stages = (count - 1).bit_count() + 1
            return stages * count * size * size + (out if network.rescaled else 0)
        case "native":
            return out * fan_in * area  # and the biases, which are too few to count
        case "locon" if cut:
            return rank * (fan_in + out) + rank * rank * area + rows
        case _:
            return down + up + rows


def _kronecker(network: LoKr, shape: tuple[int, int, int], rank: int, cut: bool) -> int:
    out, fan_in, area = shape
    (left, right), (top, bottom) = factors(out, network.factor), factors(fan_in, network.factor)
    small = left * top
    if network.decompose_both and rank < max(left, top) / 2:
        small = rank * (left + top)
    if rank >= max(right, bottom) / 2:
        return small + right * bottom * area
    if cut:
        return small + rank * (right + bottom) + rank * rank * area
    return small + rank * (right + bottom * area)


def factors(number: int, wanted: int) -> tuple[int, int]:
    """Two factors of a number, the smaller first: as alike as can be, the first at most `wanted`, which is met if it
    divides the number; -1 wants nothing (lycoris's `factorization`)."""
    if wanted > 0 and number % wanted == 0:
        return min(wanted, number // wanted), max(wanted, number // wanted)
    most = math.isqrt(number) if wanted < 0 else min(wanted, math.isqrt(number))
    small = next(size for size in range(max(most, 1), 0, -1) if number % size == 0)
    return small, number // small


def butterfly(rows: int, most: int) -> tuple[int, int]:
    """Size and number of a BOFT's blocks: the largest even size up to `most` whose number is a power of two.

    Where there is none, which is refused, the smallest that there is.
    """
    fitting = [size for size in range(2, rows + 1, 2) if rows % size == 0 and (rows // size).bit_count() == 1]
    size = max((size for size in fitting if size <= most), default=min(fitting, default=rows))
    return size, rows // size
