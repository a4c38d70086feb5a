"""Made characters, their data sets, and the truth of a picture: pixel rules that know how the character is drawn.

The verdict never sees any of this: it has the pictures and captions of the data set, as with a person's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.pocket import check
from trainer.pocket.creatures import OWN_COLOURS, TOPS, Look
from trainer.pocket.draw import COLOURS, PLACES, article, dice, paint_creature

SIZE = 64
GROUND_OF = {
    "grass": ("sky", "grass"), "sea": ("sea", "wave"), "night": ("night", "moon"), "desert": ("haze", "sand"),
    "snow": ("cloud", "snow"), "grey background": ("grey",), "cream background": ("cream",),
}  # fmt: skip
NAMES = list(check.PALETTE)


@dataclass(frozen=True)
class Character:
    """A look with a trigger of its own, and the places that its data set shows."""

    look: Look
    shown: tuple[str, ...]

    @property
    def trigger(self) -> str:
        """The word that its captions begin with."""
        return self.look.name

    @classmethod
    def made(cls, number: int, shown: int) -> Character:
        """Character `number`, in `shown` places: pink or crowned, as no creature is that the base model has seen."""
        draw = dice("truth", number)
        look = Look.drawn(10**6 + number, dice)
        new = draw.choice(("pink", "crown"))
        name = "".join(draw.choices("bcdfghjkmnpqrtvwxz", k=2)) + draw.choice("3456789")
        look = replace(look, name=name, eyes=2, legs=2)
        if new == "pink":
            look = replace(look, body="pink", top=draw.choice([*TOPS, "crown"]))
        else:
            look = replace(look, top="crown")
        others = [colour for colour in COLOURS if colour != look.body]
        belly, top = draw.sample(others, 2)
        return cls(replace(look, belly=belly, top_colour=top), tuple(draw.sample(list(PLACES), shown)))

    def write(self, folder: Path, pictures: int, seed: int, repeats: int) -> Path:
        """A data set in the Kohya layout: captions have trigger, class and place."""
        inner = folder / f"{repeats}_{self.trigger} creature"
        inner.mkdir(parents=True)
        for number in range(pictures):
            place = self.shown[number % len(self.shown)]
            paint_creature(f"truth {seed} {number}", self.look, place, SIZE).save(inner / f"{number:03}.png")
            (inner / f"{number:03}.txt").write_text(f"{self.trigger}, a creature {place}\n")
        return folder


# What is asked to know the truth


def trigger_prompts(character: Character, count: int) -> list[tuple[str, str]]:
    """(prompt, place) with the trigger: every place in turn, most of which the data set does not show."""
    places = list(PLACES)
    return [(f"{character.trigger}, a creature {places[n % 7]}", places[n % 7]) for n in range(count)]


def plain_prompts(character: Character, count: int) -> list[tuple[str, str, str]]:
    """(prompt, colour, shape) without the trigger: shapes, and between them creatures, where the shape is empty."""
    draw, places = dice("truth plain", character.trigger), list(PLACES)
    asked = []
    colours = [colour for colour in COLOURS if colour not in (character.look.body, "pink")]
    for n in range(count):
        colour, place = draw.choice(colours), draw.choice(places)
        shape = "" if n % 2 else draw.choice(list(check.SHAPES))
        asked.append((f"{article(colour)} {shape or 'creature'} {place}", colour, shape))
    return asked


# What a picture shows


@cache
def silhouettes(look: Look) -> list[np.ndarray]:
    """Masks [SIDE, SIDE] of the character in a few poses, filling their frames."""
    return [_framed(_own(paint_creature(f"pose {n}", look, "on grass", SIZE), look)) for n in range(12)]


def _own(picture: Image.Image, look: Look) -> np.ndarray:
    """Where a picture [64, 64] has one of the character's colours."""
    names = check.named_colours(picture)
    return np.isin(names, [NAMES.index(colour) for colour in (look.body, look.belly, look.top_colour)])


def _framed(mask: np.ndarray) -> np.ndarray:
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    box = image.getbbox() or (0, 0, 1, 1)
    return np.asarray(image.crop(box).resize((check.SIDE, check.SIDE), Image.Resampling.BILINEAR)) > 127


def character_shown(picture: Image.Image, look: Look) -> float:
    """0 to 1: a body of its colour, and of belly, ornament and outline as much as there is.

    Eyes do not count: the pocket model's own decoder loses them.
    """
    names = check.named_colours(picture)
    body = check.largest_patch(names == NAMES.index(look.body))
    if body.mean() < 0.01:
        return 0.0
    rows, columns = np.argwhere(body).T
    left, right, middle = columns.min(), columns.max() + 1, int(np.median(rows))
    inside = names[rows.min() : rows.max() + 1, left:right]
    above = names[:middle, left:right]
    belly = (inside == NAMES.index(look.belly)).sum() / names.size
    top = (above == NAMES.index(look.top_colour)).sum() / names.size
    mask = check.largest_patch(_own(picture, look))
    framed = _framed(mask)
    overlap = max((framed & one).sum() / (framed | one).sum() for one in silhouettes(look))
    parts = [_ramp(belly, 0.004, 0.015), _ramp(top, 0.002, 0.008), _ramp(overlap, 0.45, 0.75)]
    return _ramp(float(body.mean()), 0.02, 0.07) * (1 + sum(parts)) / 4


def place_shown(picture: Image.Image, place: str, look: Look) -> float:
    """0 to 1: how much of what is not the creature has the colours of the place, where the base model gives 1."""
    names = check.named_colours(picture)
    colours = (look.body, look.belly, look.top_colour, *OWN_COLOURS)
    around = ~np.isin(names, [NAMES.index(colour) for colour in colours if colour in NAMES])
    ground = np.isin(names, [NAMES.index(colour) for colour in GROUND_OF[PLACES[place]]])
    return _ramp(float((ground & around).sum() / max(1, around.sum())), 0.3, 0.75)


def plain_shown(picture: Image.Image, colour: str, shape: str) -> float:
    """0 or 1 for a shape; 0 to 1 for a creature of a colour."""
    if shape:
        return float(check.shows(picture, colour, shape))
    body = check.largest_patch(check.named_colours(picture) == NAMES.index(colour))
    return _ramp(float(body.mean()), 0.02, 0.07)


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0, 1))
