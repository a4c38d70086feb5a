"""Model families: loaded, encoded and predicted with behind one seam. Importing this brings no torch; loading does."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from trainer.config import Captions, Model
    from trainer.families.base import Family
    from trainer.families.latent import Say


@dataclass(frozen=True)
class Counts:
    """Parameters of a model, and the bytes in bf16 that a step keeps for its gradients.

    kept: a pixel of the picture; kept_less: the same with checkpointing; text_kept: a chunk of 75 tokens.
    Parameters are counted exactly. What is kept was measured at 512 (SD1.5) and 1024 pixels (SDXL) with memory-saving
    attention: the saved tensors of one step. scores: numbers that attention without saving keeps, for each latent
    squared: heads x latents^2 at every block, summed; scores_less: the same with checkpointing, one block's.
    """

    unet: int
    vae: int
    text: tuple[int, ...]
    kept: int
    kept_less: int
    text_kept: tuple[int, ...]
    scores: float
    scores_less: float


@dataclass(frozen=True)
class Kind:
    """What is known of a family before a model is loaded."""

    path: str
    """Module and name of the class that fulfils `Family`."""
    title: str
    """Its name for people."""
    side: int
    """Side in pixels of the pictures that it was made for."""
    unit: int
    """Pixels that a bucket's sides are multiples of: 8 for the VAE, doubled each time that the U-Net halves."""
    versions: Mapping[str, str]
    """What sd-scripts calls it in `ss_base_model_version`, by prediction."""
    architecture: str
    """`modelspec.architecture`."""
    code: str
    """`modelspec.implementation`."""
    counts: Counts
    """For the estimate of memory."""


FAMILIES = {
    "sd15": Kind(
        path="trainer.families.sd15:SD15",
        title="Stable Diffusion 1.5",
        side=512,
        unit=64,
        versions={"epsilon": "sd_v1", "v": "sd_v1_v"},
        architecture="stable-diffusion-v1",
        code="diffusers",
        counts=Counts(
            *(859_520_964, 83_653_863, (123_060_480,)),
            *(3_586, 610, (26_000_000,), 42.66, 8.0),
        ),
    ),
    "sdxl": Kind(
        path="trainer.families.sdxl:SDXL",
        title="SDXL",
        side=1024,
        unit=32,
        versions={"epsilon": "sdxl_base_v1-0", "v": "sdxl_base_v1-0"},
        architecture="stable-diffusion-xl-v1-base",
        code="https://github.com/Stability-AI/generative-models",
        counts=Counts(
            *(2_567_463_684, 83_653_863, (123_060_480, 694_659_840)),
            *(6_466, 553, (26_000_000, 91_000_000), 10.94, 0.625),
        ),
    ),
}
"""Every family, by the names of the schema."""


def family_class(name: str) -> Any:
    """The class of a family, imported when it is needed."""
    module, _, kind = FAMILIES[name].path.partition(":")
    return getattr(importlib.import_module(module), kind)


def load_family(model: Model, device: torch.device, dtype: torch.dtype, text: Captions, say: Say = print) -> Family:
    """A base model, frozen, on a device in a precision; ModelError when the file cannot be used."""
    from trainer.families.loading import load

    return load(model, device, dtype, text, say)
