"""The rows of trainer/shapes.json, counted in a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from trainer.blocks import block_of
from trainer.networks.chosen import Norm
from trainer.networks.keys import Target, kohya_name
from trainer.shapes import NAMES

OWNERS = (
    ("attention", ("Attention", "CLIPAttention")), ("feed", ("Transformer2DModel", "CLIPMLP")),
    ("resnet", ("ResnetBlock2D",)), ("sampler", ("Downsample2D", "Upsample2D")),
)  # fmt: skip


def rows(family: str, parts: Mapping[str, nn.Module]) -> list[list[Any]]:
    """[part, kind, block, shape, count] of every layer that a network can change."""
    found: Counter[tuple[Any, ...]] = Counter()
    for part in ("unet", "text_encoder", "text_encoder_2"):
        if part not in parts:
            continue
        kinds: dict[str, str] = {}
        for kind, classes in reversed(OWNERS):
            for path, block in parts[part].named_modules():
                if type(block).__name__ in classes:
                    kinds |= dict.fromkeys((name for name, _ in block.named_modules(prefix=path)), kind)
        if family == "sd15" and part == "unet":
            kinds |= {"time_embedding.linear_2": "time", **{path: kind for kind, path in NAMES.items()}}
        for path, module in parts[part].named_modules():
            if isinstance(module, (*Target.__args__, *Norm.__args__)) and path in kinds:
                block = block_of(family, kohya_name(family, part, path)) if part == "unet" else 0
                found[part, kinds[path], block, tuple(module.weight.shape)] += 1
    return [[part, kind, block, [*shape], count] for (part, kind, block, shape), count in found.items()]
