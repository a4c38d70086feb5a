"""Draws pictures: one base model stays loaded, LoRAs and strengths change while it stays."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from trainer.checkpoint import PRECISIONS
from trainer.compare.denoise import Readings, Tick, chunks_of, denoise, draw_latents
from trainer.compare.faces import redraw_faces
from trainer.compare.options import Look
from trainer.compare.pixels import enlarge, to_picture
from trainer.compare.shelf import digest_of
from trainer.compare.shot import Base, Shot, precision_of
from trainer.compare.wardrobe import Wardrobe
from trainer.compare.words import Words
from trainer.config import Captions, Model, Train
from trainer.devices import choose_device
from trainer.errors import InputError
from trainer.families import load_family
from trainer.families.base import Family
from trainer.images.faces import Detector


class PaintError(InputError):
    """A picture that came to nothing; others may well be drawn."""


class Painter:
    """Holds a base model and draws shots with it. A picture follows from its shot alone."""

    def __init__(self, look: Look, say: Callable[[str], None] = print) -> None:
        try:
            self.device = choose_device(Train(device=look.device))
        except InputError as error:
            raise InputError(str(error).removeprefix("train.")) from None
        self.precision, self._say = precision_of(look, self.device.type), say
        self._said: set[str] = set()
        self.wanted = look.device, look.precision
        self._base: tuple[Base, str, str | None] | None = None
        self._held: tuple[Family, Wardrobe, Words] | None = None
        self._lent: tuple[Family, Wardrobe, Words] | None = None
        self._detectors: dict[Path, Detector] = {}

    @classmethod
    def holding(cls, family: Family, say: Callable[[str], None] = print) -> Self:
        """A painter of a model that is loaded already, with what it wears now; it draws every shot, whatever its base.

        What it reads is kept as it was first read: make another when the model reads otherwise.
        """
        painter = cls(Look(device=family.unet.device.type), say)
        painter.precision = next(name for name, dtype in PRECISIONS.items() if dtype == family.unet.dtype)
        painter._lent = family, Wardrobe(family), Words(family)
        return painter

    def load(self, base: Base) -> tuple[Family, Wardrobe, Words]:
        """The model, what it wears and how it reads; another one is let go of first, so that two are never held."""
        if self._lent:
            return self._lent
        vae_digest = digest_of(base.vae) if base.vae else None
        wanted = base, digest_of(base.path), vae_digest  # a file may have changed meanwhile
        if self._held is None or wanted != self._base:
            self.free()
            vae = str(base.vae) if base.vae else None
            model = Model(base=str(base.path), vae=vae, clip_skip=base.clip_skip)
            dtype = PRECISIONS[self.precision]
            family = load_family(model, self.device, dtype, Captions(weighted=True), self.say)
            self._base, self._held = wanted, (family, Wardrobe(family), Words(family))
        return self._held

    def free(self) -> None:
        """Gives the memory back."""
        self._base = self._held = None
        self._said.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def say(self, text: str) -> None:
        """Says something, once for each base model."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    def paint(self, shot: Shot, tick: Tick = lambda: None) -> Image.Image:
        """The picture of a shot."""
        return self.paint_batch(shot, [shot.seed], tick)[0]

    def paint_batch(self, shot: Shot, seeds: Sequence[int], tick: Tick = lambda: None) -> list[Image.Image]:
        """A shot with each of these seeds, all at once."""
        return self.paint_many([replace(shot, seed=seed) for seed in seeds], tick)

    def paint_many(self, shots: Sequence[Shot], tick: Tick = lambda: None) -> list[Image.Image]:
        """Shots that differ in prompt, its embeddings and seed alone, all at once.

        Prompts of one length in chunks go together.
        InputError for a file that does not fit the model; PaintError for NaN, and when memory runs out.
        """
        family = self.load(shots[0].base)[0]
        precision = family.vae.dtype
        try:
            return self._paint(shots, tick)
        except torch.OutOfMemoryError as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            size = f"{shots[0].width}x{shots[0].height}"
            raise PaintError(
                f"size: {len(shots)} x {size} takes more memory than there is; make it or the batch"
                " smaller, or take the hires pass away"
            ) from error
        finally:
            if family.vae.dtype != precision:  # one that overflowed goes on in fp32, and the next picture must not know
                family.vae.to(dtype=precision)

    @torch.no_grad()
    def _paint(self, shots: Sequence[Shot], tick: Tick) -> list[Image.Image]:
        one = shots[0]
        own = {"prompt": one.prompt, "seed": one.seed, "embeddings": one.embeddings}
        assert all(replace(shot, **own) == one for shot in shots), "only prompt, its embeddings and seed"
        _, wardrobe, words = self.load(one.base)
        wardrobe.wear(one.loras)
        words.wearing(wardrobe.in_text)
        while wardrobe.notes:
            self.say(wardrobe.notes.pop(0))
        words.learn(list(dict.fromkeys(word for shot in shots for word in shot.words)))
        lengths = [chunks_of(words, shot.prompt, shot.steps) for shot in shots]
        pictures: dict[int, Image.Image] = {}
        for length in sorted({*lengths}):
            places = [place for place, other in enumerate(lengths) if other == length]
            drawn = self._paint_alike([shots[place] for place in places], tick)
            pictures |= dict(zip(places, drawn, strict=True))
        return [pictures[place] for place in range(len(shots))]

    def _paint_alike(self, shots: Sequence[Shot], tick: Tick) -> list[Image.Image]:
        """Shots whose prompts are of one length."""
        shot = shots[0]
        family, _, words = self.load(shot.base)
        guided, prompts, seeds = shot.cfg > 1, [one.prompt for one in shots], [one.seed for one in shots]
        readings = Readings(words, prompts, shot.negative, shot.steps, guided)
        noise, generators = draw_latents(seeds, shot.height, shot.width)
        latents = denoise(family, shot.sampler, readings, shot.cfg, noise, generators, tick)
        if hires := shot.hires:
            readings = Readings(words, prompts, shot.negative, hires.steps or shot.steps, guided)
            larger = enlarge(family, latents, hires.scale, hires.upscaler)
            noise, generators = draw_latents(seeds, larger.shape[-2] * 8, larger.shape[-1] * 8)
            over = larger, hires.strength
            latents = denoise(family, shot.sampler, readings, shot.cfg, noise, generators, tick, over)
        pictures = [self._picture(family, one[None]) for one in latents]  # a VAE's batch is all memory and no speed
        if shot.face and shot.detector:
            detector = self._detector(shot.detector)
            for place, one in enumerate(shots):
                readings = Readings(words, [shot.face.prompt or one.prompt], shot.negative, shot.steps, guided)
                pictures[place] = redraw_faces(family, one, readings, pictures[place], detector, tick)
        return pictures

    def _picture(self, family: Family, latents: Tensor) -> Image.Image:
        pixels = family.decode(latents)
        if not pixels.isfinite().all():
            raise PaintError(
                f"precision: {self.precision} gives NaN with this model; set it to bf16 or fp32, or check the LoRAs"
            )
        return to_picture(pixels)

    def _detector(self, file: Path) -> Detector:
        if file not in self._detectors:
            self._detectors[file] = Detector(file)
        return self._detectors[file]
