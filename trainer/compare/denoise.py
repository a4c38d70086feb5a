"""From noise to a picture: the loop over a sampler's steps, from the start or from the middle."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from trainer.compare.prompts import by_step
from trainer.compare.samplers import KARRAS, WORDS
from trainer.compare.words import Words
from trainer.families.base import Conditioning, Family
from trainer.sample import make_scheduler

Tick = Callable[[], None]
"""Called before each step; may raise to end the work."""


def scheduler_of(sampler: str, family: Family) -> Any:
    """diffusers' scheduler for a sampler's name in A1111, as samples of a training have it."""
    made = make_scheduler(WORDS[sampler.removesuffix(KARRAS)], family)
    return type(made).from_config(made.config, use_karras_sigmas=True) if sampler.endswith(KARRAS) else made


class Readings:
    """What the U-Net reads at each step: the words to avoid, and those to follow, of one prompt or of several at once.

    Several are as long as the longest of them, which changes the numbers of the others: `chunks_of` tells.
    """

    def __init__(self, words: Words, prompts: Sequence[str], negative: str, steps: int, guided: bool) -> None:
        self.steps, self.guided, self._words = steps, guided, words
        self.follow, self.avoid = [by_step(prompt, steps) for prompt in prompts], by_step(negative, steps)
        texts = {text for follow in self.follow for text in follow} | {*(self.avoid if guided else ())}
        self._longest = max(texts, key=lambda text: len(words.chunks(text)))  # all are brought to its length

    def at(self, step: int, batch: int) -> Conditioning:
        """[2 * batch, ...], the words to avoid first; [batch, ...] where nothing is avoided. One prompt serves all."""
        follow = [texts[step] for texts in self.follow]
        follow = follow * batch if len(follow) == 1 else follow
        texts = [self.avoid[step]] * batch * self.guided + follow
        each = list(dict.fromkeys([*texts, self._longest]))
        read = self._words.read(each)
        rows = torch.tensor([each.index(text) for text in texts])
        return {name: value[rows.to(value.device)] for name, value in read.items()}


def chunks_of(words: Words, prompt: str, steps: int) -> int:
    """How many chunks of 75 tokens the longest text of a prompt has."""
    return max(len(words.chunks(text)) for text in by_step(prompt, steps))


def draw_latents(seeds: Sequence[int], height: int, width: int) -> tuple[Tensor, list[torch.Generator]]:
    """Noise [seeds, 4, height / 8, width / 8] on the CPU, and the generators that go on from there.

    One to a picture, from the seed itself, so that a picture is the same in any batch and on any device.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = 1, 4, height // 8, width // 8
    return torch.cat([torch.randn(shape, generator=generator) for generator in generators]), generators


@torch.no_grad()
def denoise(
    family: Family, sampler: str, readings: Readings, cfg: float, noise: Tensor, generators: list[torch.Generator],
    tick: Tick, over: tuple[Tensor, float] | None = None,
) -> Tensor:  # fmt: skip
    """Latents [B, 4, h, w] float32 out of noise [B, 4, h, w], with classifier-free guidance (arXiv 2207.12598).

    over: latents to go on from, and how much of them is drawn anew; of the steps that share is done, as in A1111.
    Latents stay in float32 whatever the model's precision.
    """
    device, steps = family.unet.device, readings.steps
    scheduler = scheduler_of(sampler, family)
    scheduler.set_timesteps(steps, device=device)
    timesteps, order = scheduler.timesteps, getattr(scheduler, "order", 1)
    noise = noise.to(device)
    if over is None:
        begin, latents = 0, noise * scheduler.init_noise_sigma
    else:
        begin = (steps - max(1, min(int(steps * over[1]), steps))) * order
        timesteps = timesteps[begin:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        latents = scheduler.add_noise(over[0].to(device), noise, timesteps[:1])
    takes = inspect.signature(scheduler.step).parameters
    draws = {"generator": generators if len(generators) > 1 else generators[0]} if "generator" in takes else {}
    for place, t in enumerate(timesteps, begin):
        tick()
        cond = readings.at(place * steps // (begin + len(timesteps)), len(latents))
        given = scheduler.scale_model_input(latents, t)
        given = torch.cat([given, given]) if readings.guided else given
        answer = family.predict(given, t.expand(len(given)), cond).float()
        if readings.guided:
            away, towards = answer.chunk(2)
            answer = away + cfg * (towards - away)
        latents = scheduler.step(answer, t, latents, **draws).prev_sample
    return latents
