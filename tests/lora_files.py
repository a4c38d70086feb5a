"""LoRA files for tests of the tools: made on the tiny models, under any program's names."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import build
from trainer.config import Lora, Rates
from trainer.networks.lora import LoraNetwork

LOCON = {"rank": 4, "alpha": 2, "conv_rank": 2, "conv_alpha": 1}
META = {
    "ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora", "ss_network_dim": "4",
    "ss_network_alpha": "2.0", "ss_session_id": "7", "ss_training_comment": "first try",
    "ss_tag_frequency": '{"10_zk9 woman": {"zk9": 12, "smile": 3}, "5_zk9": {"zk9": 4}}',
    "modelspec.title": "zk9", "modelspec.prediction_type": "epsilon",
}  # fmt: skip


def trained(family: Any, seed: int = 0, **options: Any) -> LoraNetwork:
    """A LoRA on a model, whose up matrices are filled, so that it changes something."""
    network = LoraNetwork.attach(family, Lora(**{**LOCON, **options}), Rates(), seed=seed)
    with torch.no_grad():
        for place, layer in enumerate(network.layers.values()):
            layer.up.normal_(std=0.05, generator=torch.Generator().manual_seed(1000 * seed + place))
    network.ready()
    return network


def make_lora(
    path: Path, family: str, seed: int = 0, dtype: torch.dtype = torch.float32, metadata: dict[str, str] | None = None,
    **options: Any,
) -> Path:  # fmt: skip
    """Writes a LoRA of random numbers for a tiny model."""
    size, generator = {**LOCON, **options}, torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name, (out, *fan_in) in shapes(family).items():
        conv = len(fan_in) == 3 and fan_in[-1] > 1
        rank, alpha = (size["conv_rank"], size["conv_alpha"]) if conv else (size["rank"], size["alpha"])
        if rank is None or (size["conv_rank"] is None and is_locon(name)):
            continue
        tensors[f"{name}.alpha"] = torch.tensor(alpha, dtype=dtype)
        ones = (1,) * len(fan_in[1:])
        for side, shape in (("down", (rank, *fan_in)), ("up", (out, rank, *ones))):
            tensors[f"{name}.lora_{side}.weight"] = (0.1 * torch.randn(shape, generator=generator)).to(dtype)
    save_file(tensors, path, META if metadata is None else metadata)
    return path


@cache
def shapes(family: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights that a LoCon changes in a tiny model."""
    network = LoraNetwork.attach(build(family), Lora(**LOCON), Rates(), seed=0)
    return {name: tuple(place.module.weight.shape) for name, place in network.places.items()}


def is_locon(name: str) -> bool:
    """Whether a layer is one that LoCon adds."""
    return not any(word in name for word in ("_te", "attn", "_ff_", "proj_in", "proj_out"))


def changes(path: Path) -> dict[str, np.ndarray]:
    """What a file of kohya's names adds to each weight, the long way in float64: up x down x alpha / rank."""
    tensors = {key: tensor.double().numpy() for key, tensor in load_file(path).items()}
    found: dict[str, np.ndarray] = {}
    for key in [key for key in tensors if key.endswith(".lora_down.weight")]:
        name = key.removesuffix(".lora_down.weight")
        up, down = tensors[f"{name}.lora_up.weight"], tensors[key]
        product = up.reshape(len(up), -1) @ down.reshape(len(down), -1)
        alpha = tensors.get(f"{name}.alpha", np.float64(len(down)))
        found[name] = (product * alpha / len(down)).reshape(len(up), *down.shape[1:])
    return found


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The norm of the difference of all changes, as a share of the second's."""
    names = {*one, *other}
    gap = sum(np.square(one.get(name, 0) - other.get(name, 0)).sum() for name in names)
    return float(np.sqrt(gap / sum(np.square(change).sum() for change in other.values())))


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """The same names, types, shapes and numbers, to the bit."""
    return one.keys() == other.keys() and all(
        one[key].dtype == other[key].dtype and torch.equal(one[key], other[key]) for key in one
    )
