"""What the engine knows of a model family: how it encodes, how it adds noise, how it predicts. Nothing else differs.

A new family is one file that fulfils `Family`, a record in FAMILIES, a word in the schema, a builder in tests/tiny.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from trainer.config import Prediction

Conditioning = dict[str, Tensor]
"""What a caption becomes: "states" [B, 77, 152 or 227, width]; for SDXL also "pooled" [B, 1280]."""


class Tokens(NamedTuple):
    """Captions as numbers, so that a training step starts from tensors alone."""

    ids: tuple[Tensor, ...]
    """One to a text encoder, [B, chunks, 77] int64: begin, 75 tokens, end."""
    weights: Tensor | None
    """[B, 75 * chunks + 2] float32; None when captions carry no weights."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        weights = None if self.weights is None else self.weights.to(device)
        return self._replace(ids=tuple(ids.to(device) for ids in self.ids), weights=weights)


class Sizes(NamedTuple):
    """Where each picture was cut from, in pixels; SDXL is conditioned on it (Podell et al. 2023, arXiv 2307.01952)."""

    original: Tensor
    """[B, 2] height and width of the file."""
    crop: Tensor
    """[B, 2] top and left of the cut."""
    target: Tensor
    """[B, 2] height and width that are trained."""

    @classmethod
    def whole(cls, latents: Tensor) -> Self:
        """Sizes of pictures that were not cut: eight pixels to a latent [B, 4, H, W]."""
        size = torch.tensor([latents.shape[-2:]], device=latents.device).mul(8).expand(len(latents), 2)
        return cls(size, torch.zeros_like(size), size)


class Family(Protocol):
    """A loaded model. Its modules are frozen, in eval mode, and on one device."""

    name: str
    prediction: Prediction
    zero_terminal_snr: bool
    latent_scale: float
    alphas_cumprod: Tensor  # [1000] float32: share of signal left at each timestep, rescaled for zero-terminal SNR
    unet: Any
    vae: Any
    text_encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """What can be trained, in saving order: "unet", "text_encoder", and for SDXL "text_encoder_2"."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Scaled latents [B, 4, H / 8, W / 8], the posterior's mean, for pixels [B, 3, H, W] in -1..1."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in about -1..1 for scaled latents [B, 4, H / 8, W / 8]."""
        ...

    def count_tokens(self, caption: str) -> int:
        """How many tokens a caption has; those beyond `captions.max_tokens` are cut."""
        ...

    def tokenize(self, captions: Sequence[str]) -> Tokens:
        """Captions as token ids, cut into chunks of 75; tensors on the CPU."""
        ...

    def encode_tokens(self, tokens: Tokens) -> Conditioning:
        """What the U-Net reads; differentiable, and a function of tensors alone."""
        ...

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """`tokenize` and `encode_tokens` in one."""
        ...

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents [B, 4, h, w] after noise [B, 4, h, w] for timesteps [B]."""
        ...

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What `predict` should answer: the noise, or the velocity."""
        ...

    def predict(self, noisy: Tensor, timesteps: Tensor, cond: Conditioning, sizes: Sizes | None = None) -> Tensor:
        """The U-Net's answer [B, 4, h, w] for noisy latents [B, 4, h, w] at timesteps [B]."""
        ...

    def enable_checkpointing(self) -> None:
        """Compute activations twice in place of keeping them, in every part."""
        ...

    def pipeline(self, scheduler: Any) -> Any:
        """A diffusers pipeline on these very modules."""
        ...

    def original_state(self) -> dict[str, Tensor]:
        """All weights under the names of the original single-file layout."""
        ...
