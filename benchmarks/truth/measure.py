"""The true score of a LoRA at a strength: pictures of other seeds, judged by the pixel rules of world.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch

from trainer.compare.painter import Painter
from trainer.compare.shot import Base, Worn
from trainer.families.base import Family
from trainer.pocket.sampler import paint

from .world import Character, character_shown, place_shown, plain_prompts, plain_shown, trigger_prompts

TRIGGER, PLAIN = 42, 42
"""Pictures of a round: with the trigger, six of each place, and without it."""
STEPS, GUIDANCE = 8, 4.0


@contextmanager
def merged(painter: Painter, base: Base, file: Path, strength: float) -> Iterator[Family]:
    """The base model with a LoRA in its weights, which draws faster than with one beside them."""
    family, wardrobe, _ = painter.load(base)
    wardrobe.wear([Worn(file, strength, strength)])
    layers = list(wardrobe.layers.values())
    before = [layer.frozen[0].weight.data for layer in layers]
    for layer in layers:
        down, up = layer.weights
        weight = layer.frozen[0].weight
        weight.data = weight.data + (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    wardrobe.undress()
    try:
        yield family
    finally:
        for layer, weight in zip(layers, before, strict=True):
            layer.frozen[0].weight.data = weight


@dataclass
class Truth:
    """What is true of a candidate, each 0 to 1."""

    shown: list[float] = field(default_factory=list)
    """For each picture asked with the trigger: the character, in the place that was asked for."""
    plain: list[float] = field(default_factory=list)
    """For each picture asked without the trigger: what was asked."""

    @property
    def score(self) -> float:
        """That a picture asked with the trigger comes out, and one asked without it does too."""
        return fmean(self.shown) * fmean(self.plain)

    def look(self, family: Family, character: Character, number: int) -> None:
        """One more round of what a model with a LoRA in its weights draws, by the pixel rules."""
        asked, plain = trigger_prompts(character, TRIGGER), plain_prompts(character, PLAIN)
        prompts = [prompt for prompt, *_ in (*asked, *plain)]
        first = number * len(prompts)
        with torch.no_grad():
            pictures = paint(family.unet, family.vae, family.text_encoders[0], prompts, STEPS, GUIDANCE, first)
        look = character.look
        self.shown += [
            character_shown(picture, look) * place_shown(picture, place, look)
            for picture, (_, place) in zip(pictures, asked, strict=False)
        ]
        others = zip(pictures[len(asked) :], plain, strict=True)
        self.plain += [plain_shown(picture, colour, shape) for picture, (_, colour, shape) in others]
