"""Pictures from prompts, many at once: what the checks of the pocket model look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel

from trainer.pocket import models
from trainer.pocket.make import tokenize


@torch.no_grad()
def paint(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    prompts: Sequence[str],
    steps: int = 20,
    guidance: float = 5.0,
    first: int = 0,
) -> list[Image.Image]:
    """One picture for each prompt by DPM-Solver++ 2M with classifier-free guidance (Ho and Salimans 2022).

    Prompt number i starts from the noise of seed `first` + i, so two models can be compared picture by picture.
    """
    schedule = {key: value for key, value in models.NOISE.items() if key != "clip_sample"}
    solver = DPMSolverMultistepScheduler(**schedule, use_karras_sigmas=True)
    solver.set_timesteps(steps)
    text = text_encoder(tokenize([*prompts, ""])).last_hidden_state  # [B + 1, 77, width]
    asked, empty = text[:-1], text[-1:].expand(len(prompts), -1, -1)
    seeds = [torch.Generator().manual_seed(first + i) for i in range(len(prompts))]
    x = torch.cat([torch.randn(1, 4, 8, 8, generator=seed) for seed in seeds])
    for t in solver.timesteps:
        without, with_text = unet(torch.cat([x, x]), t, torch.cat([empty, asked])).sample.chunk(2)
        x = solver.step(without + guidance * (with_text - without), t, x).prev_sample
    return to_pictures(vae.decode(x / vae.config.scaling_factor).sample)


def to_pictures(pixels: Tensor) -> list[Image.Image]:
    """Pictures from tensors [B, 3, H, W] in -1..1."""
    as_bytes = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    return [Image.fromarray(picture.numpy()) for picture in as_bytes]
