"""Writes pocket.safetensors: half precision, Stable Diffusion's original single-file layout, configs in the header."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from trainer.durable import write_tensors
from trainer.layout import text_to_original, unet_to_original, vae_to_original
from trainer.pocket import models

FILE = Path(__file__).with_name("pocket.safetensors")
LARGEST = 16_000_000  # bytes


def averaged_parts(state_file: Path) -> nn.ModuleDict:
    """UNet and text encoder with the averaged weights of a training state."""
    state = torch.load(state_file, map_location="cpu", weights_only=True)
    parts = nn.ModuleDict({"unet": models.build_unet(), "text_encoder": models.build_text_encoder()})
    average = EMAModel(parts.parameters())
    average.load_state_dict(state["average"])
    average.copy_to(parts.parameters())
    return parts.eval().requires_grad_(False)


def original_layout(folder: Path) -> dict[str, Tensor]:
    """Every weight in half precision under its original name."""
    parts = averaged_parts(folder / "model.state")
    tensors = (
        unet_to_original(parts["unet"].state_dict())
        | vae_to_original(torch.load(folder / "vae.pt", weights_only=True))
        | text_to_original(parts["text_encoder"].state_dict())
    )
    return {name: tensor.half().contiguous() for name, tensor in tensors.items()}


def export(folder: Path, file: Path = FILE) -> None:
    """Writes the file aside, then renames it; raises ValueError if it would be larger than 16 MB."""
    configs = {"family": "sd15", "unet": models.UNET, "vae": models.VAE, "text_encoder": models.TEXT}

    def check(part: Path) -> None:
        if part.stat().st_size > LARGEST:
            raise ValueError(f"{part.stat().st_size:,} bytes, the limit is {LARGEST:,}: use smaller widths")

    write_tensors(file, original_layout(folder), {"format": "pt", "likeness_model": json.dumps(configs)}, check)
