"""Pictures, pixels and latents, one into the other."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from trainer.families.base import Family


def to_picture(pixels: Tensor) -> Image.Image:
    """A picture of pixels [1, 3, H, W] in -1..1, rounded as diffusers' pipelines do."""
    grid = ((pixels[0].float() / 2 + 0.5).clamp(0, 1).cpu() * 255).round().to(torch.uint8)
    return Image.fromarray(grid.permute(1, 2, 0).numpy())


def to_latents(family: Family, picture: Image.Image) -> Tensor:
    """Scaled latents [1, 4, H / 8, W / 8] of a picture, float32: the posterior's mean, no draw."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]  # [1, 3, H, W]
    return family.encode_images((pixels.float() / 127.5 - 1).to(family.unet.device)).float()


def enlarge(family: Family, latents: Tensor, scale: float, upscaler: str) -> Tensor:
    """Latents [B, 4, h, w] made larger, as they are or by way of the picture (Lanczos); sides are rounded."""
    height, width = (round(side * scale) for side in latents.shape[-2:])
    if upscaler == "Lanczos":
        pictures = [to_picture(family.decode(one[None])) for one in latents]
        size = width * 8, height * 8
        return torch.cat([to_latents(family, one.resize(size, Image.Resampling.LANCZOS)) for one in pictures])
    mode = {"Latent": "bilinear", "Latent (nearest-exact)": "nearest-exact"}[upscaler]
    return F.interpolate(latents.float(), (height, width), mode=mode)
