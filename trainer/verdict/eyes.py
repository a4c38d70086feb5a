"""The base model's own eyes: what it makes of a picture tells what is on it, without any download."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from trainer.data.dataset import LATENT
from trainer.families.base import Conditioning, Family

SIDE = 16
"""Places a side: small pictures are enlarged until there are so many, features of large ones are averaged down."""
TIMESTEP = 100
"""Little noise, so that colours and small parts are still there."""
TIMESTEPS = (200, 400, 600, 800)
"""Where noise is held against a picture."""


class BaseEye:
    """A model's U-Net, looking at pictures of one size.

    Its activations on a picture with a little noise are features that tell the parts of subjects apart (DIFT: Tang et
    al. 2023, arXiv 2306.03881); and it tells the noise on a picture that it could have drawn better than that on a
    ruined one. The same noise for every picture. Nothing may be worn meanwhile.
    """

    def __init__(
        self,
        load: Callable[[], Family],
        size: tuple[int, int],
        batch: int = 4,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._load, self.size, self.batch, self.tick = load, size, batch, tick
        times = max(1, -(-SIDE * LATENT // min(size)))
        self._enlarged = size[0] * times, size[1] * times
        self._read: Conditioning | None = None

    @property
    def family(self) -> Family:
        """The model, asked for at each use: it may make way for a candidate that is a model too."""
        return self._load()

    def parts(self, pictures: Sequence[Image.Image]) -> Tensor:
        """What is seen at each place: [pictures, places, channels] float32 on the CPU."""
        return torch.cat([self._parts(latents) for latents in self._latents(pictures, self._enlarged)])

    def errors(self, pictures: Sequence[Image.Image]) -> Tensor:
        """How strange each picture is: the mean squared error of the noise that is predicted without a prompt.

        [pictures] float32 on the CPU.
        """
        found = [
            torch.stack([self._predict(latents, timestep).cpu() for timestep in TIMESTEPS]).mean(0)
            for latents in self._latents(pictures, self.size)
        ]
        return torch.cat(found)

    @torch.no_grad()
    def _latents(self, pictures: Sequence[Image.Image], size: tuple[int, int]) -> Iterator[Tensor]:
        """A batch at a time, [batch, 4, h, w]; size: of the pictures, in pixels."""
        for start in range(0, len(pictures), self.batch):
            self.tick()
            fitted = [
                ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.LANCZOS)
                for picture in pictures[start : start + self.batch]
            ]
            pixels = torch.from_numpy(np.stack([np.asarray(picture, np.float32) for picture in fitted]))
            scaled = pixels.permute(0, 3, 1, 2) / 127.5 - 1
            home = self.family.unet.device
            yield torch.cat([self.family.encode_images(picture[None].to(home)).float() for picture in scaled])

    @torch.no_grad()
    def _parts(self, latents: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def keep(module: Any, given: Any, answer: Tensor) -> None:
            seen.append(answer)

        hook = self.family.unet.up_blocks[-1].register_forward_hook(keep)
        try:
            self._predict(latents, TIMESTEP)
        finally:
            hook.remove()
        features = seen[0].float()
        height, width = (min(SIDE, side) for side in features.shape[-2:])
        return F.adaptive_avg_pool2d(features, (height, width)).flatten(2).transpose(1, 2).cpu()

    @torch.no_grad()
    def _predict(self, latents: Tensor, timestep: int) -> Tensor:
        """The mean squared error of each picture at a timestep, [batch]; the same noise for all."""
        self.tick()
        count = len(latents)
        generator = torch.Generator().manual_seed(timestep)
        noise = torch.randn((1, *latents.shape[1:]), generator=generator).to(latents).expand_as(latents)
        timesteps = torch.full((count,), timestep, device=latents.device)
        noisy = self.family.noisy(latents, noise, timesteps)
        cond = {name: value.expand(count, *value.shape[1:]) for name, value in self._empty().items()}
        answer = self.family.predict(noisy, timesteps, cond).float()
        return (answer - self.family.target(latents, noise, timesteps)).square().mean((1, 2, 3))

    def _empty(self) -> Conditioning:
        """The empty prompt, read once."""
        if self._read is None:
            self._read = self.family.encode_text([""])
        return self._read
