"""A LoRA file read: whichever tool wrote it, its layers under the names that this engine uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trainer.errors import InputError
from trainer.networks.keys import family_of

DOWN = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight")
UP = (".lora_up.weight", ".lora_B.weight", ".lora.up.weight")
FOREIGN = {
    ".hada_": "LoHa",
    ".lokr_": "LoKr",
    ".dora_scale": "DoRA",
    ".oft_": "OFT",
    ".lora_mid": "LoRA with Tucker cores",
}


class NetworkError(InputError):
    """A LoRA file that does not fit."""


class Weights(NamedTuple):
    """One layer of a file; alpha is the rank when the file has none."""

    down: Tensor  # [rank, in] or [rank, in, kh, kw]
    up: Tensor  # [out, rank] or [out, rank, 1, 1]
    alpha: float


def read_lora(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a LoRA file; NetworkError when it is no safetensors file, or damaged."""
    if not Path(path).is_file():
        raise NetworkError(f"{path}: there is no such file; choose a LoRA in .safetensors form")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise NetworkError(
            f"{path}: not a readable .safetensors file ({error}); choose another, or save it again"
        ) from None


def layers_of(tensors: Mapping[str, Tensor], source: str) -> dict[str, Weights]:
    """A file's layers by the names that it gives them; NetworkError for kinds other than LoRA and LoCon."""
    for key in tensors:
        if kind := next((name for mark, name in FOREIGN.items() if mark in key), None):
            raise NetworkError(f"{source}: {key} belongs to a {kind}; only LoRA and LoCon files can be gone on from")
    layers: dict[str, Weights] = {}
    for key, down in tensors.items():
        if suffix := next((suffix for suffix in DOWN if key.endswith(suffix)), None):
            name = key.removesuffix(suffix)
            up = tensors.get(name + UP[DOWN.index(suffix)])
            if up is None:
                raise NetworkError(f"{source}: {key} has no up matrix beside it; the file is damaged, choose another")
            alpha = tensors.get(f"{name}.alpha")
            layers[name] = Weights(down, up, float(len(down) if alpha is None else alpha))
    return layers


def check_family(names: Iterable[str], family: str, source: str) -> None:
    """NetworkError when module names tell of another family."""
    told = family_of(names)
    if told and told != family:
        raise NetworkError(f"{source}: a LoRA for {told}, and the base model is {family}; choose one for it")
