"""Layers of a LoRA as they are written: three tensors under kohya's name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.checkpoint import PRECISIONS
from trainer.errors import InputError
from trainer.tools.loras import Layer, LoraFile
from trainer.tools.tensors import Later, at_hand

Weighted = Sequence[tuple[Layer, float]]
"""Layers of one module, each with its strength."""


def dtype_of(precision: str, files: Sequence[LoraFile]) -> torch.dtype:
    """The type that a file is written in; keep takes the widest of what is read."""
    if precision != "keep":
        return PRECISIONS[precision]
    dtypes = {layer.up.dtype for file in files for layer in file.layers.values()}
    return max(dtypes, key=lambda dtype: (dtype.itemsize, dtype == torch.bfloat16))


def written(
    name: str, up: Tensor, down: Tensor, shape: Sequence[int], alpha: float, dtype: torch.dtype
) -> dict[str, Tensor]:
    """The three tensors of a layer of up [out, rank] and down [rank, fan in], for a weight of a shape.

    What rounding takes from alpha goes into up, so that the change stays what it is.
    """
    rank = len(down)
    kept = torch.tensor(alpha, dtype=dtype)
    kept = kept if kept else torch.ones_like(kept)  # an alpha of 0, or too small for its type, is all in up
    up = (up * (alpha / float(kept))).to(dtype).cpu().reshape(len(up), rank, *(1,) * (len(shape) - 2))
    tensors = {
        f"{name}.alpha": kept,
        f"{name}.lora_down.weight": down.to(dtype).cpu().reshape(rank, *shape[1:]).contiguous(),
        f"{name}.lora_up.weight": up.contiguous(),
    }
    if bad := next((key for key, tensor in tensors.items() if not tensor.isfinite().all()), None):
        raise InputError(f"{bad} does not fit in {dtype}, or is not finite; set save_precision to fp32 or bf16")
    return tensors


def stacked(layers: Weighted) -> tuple[Tensor, Tensor, float]:
    """The sum of changes as one: up [out, R], down [R, fan in], alpha, where R is the sum of the ranks.

    alpha / R is a power of two, which every precision holds; what is left of each scale goes into up.
    """
    down = _down(layers)
    return _up(layers), down, _unit(layers) * len(down)


def stacked_later(name: str, layers: Weighted, dtype: torch.dtype) -> dict[str, Later]:
    """The same as the three tensors of a file, made when they are written."""
    shape, rank = layers[0][0].shape, sum(layer.rank for layer, _ in layers)
    alpha = torch.tensor(_unit(layers) * rank).to(dtype)
    rest = _unit(layers) * rank / float(alpha)  # bf16 holds few whole numbers beyond 256
    wide, narrow = (shape[0], rank, *(1,) * (len(shape) - 2)), (rank, *shape[1:])
    up, down = f"{name}.lora_up.weight", f"{name}.lora_down.weight"
    return {
        f"{name}.alpha": at_hand(alpha, f"{name}.alpha"),
        up: Later(dtype, wide, lambda: (_up(layers) * rest).reshape(wide), up),
        down: Later(dtype, narrow, lambda: _down(layers).reshape(narrow), down),
    }


def _up(layers: Weighted) -> Tensor:
    unit = _unit(layers)
    scaled = [layer.sound("models", layer.wide()) * (_scale(layer, strength) / unit) for layer, strength in layers]
    return torch.cat(scaled, dim=1)


def _down(layers: Weighted) -> Tensor:
    return torch.cat([layer.sound("models", layer.narrow()) for layer, _ in layers])


def _scale(layer: Layer, strength: float) -> float:
    return layer.alpha / layer.rank * strength


def _unit(layers: Weighted) -> float:
    """The power of two at or below the largest scale."""
    largest = max(abs(_scale(layer, strength)) for layer, strength in layers)
    return 2.0 ** math.floor(math.log2(largest)) if largest else 1.0
