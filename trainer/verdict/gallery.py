"""The pictures of a comparison: asked for once, kept by all that decides their pixels, so a killed one goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from trainer.compare.generate import SEEDS
from trainer.compare.grid import is_whole
from trainer.compare.info import info_of, png_of
from trainer.compare.options import Look
from trainer.compare.painter import Painter
from trainer.compare.shelf import Embedding
from trainer.compare.shot import Shot, Stage, Worn
from trainer.data.pictures import open_picture
from trainer.durable import write_aside
from trainer.verdict.candidates import Saved
from trainer.verdict.options import Compare
from trainer.verdict.questions import Question
from trainer.verdict.setting import Setting


class Gallery:
    """Draws the questions with a candidate, or with the base model alone."""

    def __init__(
        self, options: Compare, setting: Setting, asked: Sequence[Question], painter: Painter, pool: Path
    ) -> None:
        look = Look(
            base=setting.base, vae=setting.vae, clip_skip=setting.clip_skip, negative=options.negative,
            sampler=options.sampler, steps=options.steps, cfg=options.cfg, size=options.size, device=options.device,
            precision=options.precision,
        )  # fmt: skip
        self.stage, self.painter, self.pool, self.batch = Stage(look), painter, pool, options.batch
        self.base = self.stage.base(setting.base)
        self.asked = seeded(asked, options.seed, options.seeds)

    def shots(self, saved: Saved | None, strength: float = 1.0) -> list[Shot]:
        """What is drawn of a candidate; without one the prompts are bare."""
        chosen = self.stage.chosen()
        made = [
            self.stage.shot(chosen._replace(prompt=question.prompt if saved else question.bare, seed=seed))
            for question, seed in self.asked
        ]
        return [self._with(shot, saved, strength) for shot in made]

    def _with(self, shot: Shot, saved: Saved | None, strength: float) -> Shot:
        """A shot drawn with a candidate and nothing else: LoRAs that a caption names are left out."""
        shot = replace(shot, loras=())
        if saved is None:
            return shot
        if saved.what == "model":
            return replace(shot, base=self.stage.base(str(saved.path)))
        if saved.what == "lora":
            return replace(shot, loras=(Worn(saved.path, strength, strength),))
        others = [one for one in shot.embeddings if one.word != saved.word]
        return replace(shot, embeddings=(*others, Embedding(saved.word, saved.path)))

    def draw(
        self, saved: Saved | None, strength: float, tick: Callable[[], None], told: Callable[[int], None]
    ) -> list[Path]:
        """The files of the pictures of a candidate, those that are missing drawn. told: of how many are there."""
        shots = self.shots(saved, strength)
        files = [self.pool / f"{shot.key(self.painter.precision)}.png" for shot in shots]
        missing = list({file: place for place, file in enumerate(files) if not is_whole(file)}.values())  # once each
        told(len(files) - len(missing))
        for start in range(0, len(missing), self.batch):
            places = missing[start : start + self.batch]
            drawn = self.painter.paint_many([shots[place] for place in places], tick)
            for place, picture in zip(places, drawn, strict=True):
                write_aside(files[place], png_of(picture, info_of(shots[place])))
            told(len(files) - len(missing) + start + len(places))
        return files


def open_all(files: Sequence[Path], background: str = "#ffffff") -> list[Image.Image]:
    """Pictures as they are trained on: RGB, upright, with a background behind what is transparent."""
    return [open_picture(file, background).image for file in files]


def seeded(asked: Sequence[Question], first: int, count: int) -> list[tuple[Question, int]]:
    """Each question with `count` seeds from the first on; one that is asked again goes on where it left off."""
    used: Counter[Question] = Counter()
    pairs: list[tuple[Question, int]] = []
    for question in asked:
        pairs += [(question, (first + used[question] + number) % SEEDS) for number in range(count)]
        used[question] += count
    return pairs
