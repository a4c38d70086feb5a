"""Very small random models made from the real classes, as single files in the original layout.

Every block of SD1.5 and SDXL is there, so module lists, names and shapes follow the same rules; only widths and SDXL's
depth differ. Weights follow from a seed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainer.config import Captions, Model
from trainer.families import family_class, load_family
from trainer.families.base import Family
from trainer.families.latent import Settings
from trainer.families.loading import SHIPPED

CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
VAE = {"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4, "sample_size": 32}
UNET = {"block_out_channels": [16, 16, 32, 32], "norm_num_groups": 4, "sample_size": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15": {"unet": {**UNET, "attention_head_dim": 2, "cross_attention_dim": 32}, "text_encoder": CLIP, "vae": VAE},
    "sdxl": {
        "unet": {
            **UNET,
            "block_out_channels": [16, 16, 32],
            "attention_head_dim": [2, 2, 4],
            "transformer_layers_per_block": [1, 1, 2],
            "cross_attention_dim": 64,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 24 + 6 * 8,
        },
        "text_encoder": CLIP,
        "text_encoder_2": {**CLIP, "projection_dim": 24},
        "vae": VAE,
    },
}
CONFIGS["sdxl wide"] = {
    **CONFIGS["sdxl"],
    "unet": {**CONFIGS["sdxl"]["unet"], "cross_attention_dim": 32 + 48},
    "text_encoder_2": {**CONFIGS["sdxl"]["text_encoder_2"], "hidden_size": 48},
}
"""With text encoders of two widths, as the full-size one has: by them diffusers tells those of a single file apart."""


def tiny_sd15(folder: Path) -> Path:
    """Writes `sd15.safetensors`, an SD1.5 of 2 million parameters, 1.6 million of them token embeddings."""
    return tiny_file("sd15", folder)


def tiny_sdxl(folder: Path) -> Path:
    """Writes `sdxl.safetensors`, an SDXL of 4 million parameters, 3.2 million of them token embeddings."""
    return tiny_file("sdxl", folder)


def tiny_file(name: str, folder: Path, seed: int = 0, **metadata: str) -> Path:
    """Writes a tiny model of a family as `<name>.safetensors` in fp16, its configuration in the header."""
    config = json.dumps({"family": _family(name), **CONFIGS[name]})
    path = folder / f"{name}.safetensors"
    save_file(_state(name, seed), path, {"format": "pt", "likeness_model": config, **metadata})
    return path


def tiny_family(name: str, folder: Path, model: dict[str, Any] | None = None, **captions: Any) -> Family:
    """A tiny model, loaded on the CPU in fp32 as any other would be; the rest are options of the schema."""
    options = Model(base=str(tiny_file(name, folder)), **(model or {}))
    return load_family(options, torch.device("cpu"), torch.float32, Captions(**captions), say=lambda line: None)


def build(name: str, seed: int = 0) -> Any:
    """A tiny model of a family with random weights, never on disk."""
    kind = family_class(_family(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = {part: where.build(_config(name, part)).eval() for part, where in kind.LAYOUT.items()}
    return kind(modules, Settings())


@cache
def _state(name: str, seed: int) -> dict[str, Tensor]:
    return {key: tensor.half().contiguous() for key, tensor in build(name, seed).original_state().items()}


def _config(name: str, part: str) -> dict[str, Any]:
    return {**json.loads((SHIPPED / _family(name) / part / "config.json").read_text()), **CONFIGS[name][part]}


def _family(name: str) -> str:
    return name.partition(" ")[0]
