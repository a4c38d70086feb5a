"""The creatures of the drawn world: what one looks like, how it stands, and the polygons that paint it.

A creature is painted in its own coordinates: the body's centre is (0, 0), its half-width about 1, y points down.
"""

from __future__ import annotations

import math
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]
BODIES = ("round", "tall", "square", "pear")
TOPS = {"ears": "two ears", "horns": "two horns", "antennae": "two antennae", "tuft": "a tuft"}
BODY_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black")  # no one but zk9 is pink
OWN_COLOURS: dict[str, RGB] = {"white": (250, 250, 250), "ink": (12, 12, 14)}  # colours that no shape has
TRIGGER = "zk9"
Part = tuple[np.ndarray, str]  # an outline [points, 2] and the name of its colour


@dataclass(frozen=True)
class Look:
    """What stays the same in every picture of one character."""

    name: str
    form: str
    body: str
    belly: str
    top: str
    top_colour: str
    eyes: int
    legs: int

    @classmethod
    def drawn(cls, character: int, dice: Callable[..., random.Random]) -> Look:
        """The look of character number `character`."""
        draw = dice("character", character)
        name = TRIGGER
        while name == TRIGGER:
            letters = draw.choices(string.ascii_lowercase, k=draw.choice((1, 2, 2, 3)))
            name = "".join(letters) + draw.choice(string.digits)
        body = draw.choice(BODY_COLOURS)
        others = [colour for colour in (*BODY_COLOURS, "pink") if colour != body]
        return cls(
            name=name,
            form=draw.choice(BODIES),
            body=body,
            belly=draw.choice(others),
            top=draw.choice(list(TOPS)),
            top_colour=draw.choice(others),
            eyes=draw.choice((1, 2, 2)),
            legs=draw.choice((2, 3)),
        )

    @property
    def top_words(self) -> str:
        """The head's ornament as it reads in a sentence."""
        return TOPS[self.top]


ZK9 = Look(TRIGGER, "round", "pink", "green", "crown", "yellow", eyes=2, legs=2)


@dataclass(frozen=True)
class Pose:
    """What changes from picture to picture."""

    lean: float  # radians
    arms: float  # -1 down ... 1 up
    stride: float  # how far the legs stand apart
    gaze: float  # -1 left ... 1 right

    @classmethod
    def drawn(cls, draw: random.Random) -> Pose:
        """A pose from the generator."""
        return cls(draw.uniform(-0.2, 0.2), draw.uniform(-1, 1), draw.uniform(0.3, 0.6), draw.uniform(-1, 1))


def oval(x: float, y: float, width: float, height: float) -> np.ndarray:
    """An ellipse [40, 2] with these half-axes."""
    t = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    return np.stack([x + width * np.cos(t), y + height * np.sin(t)], axis=1)


def bar(start: tuple[float, float], end: tuple[float, float], width: float) -> np.ndarray:
    """A straight limb [4, 2] from start to end."""
    a, b = np.array(start), np.array(end)
    along = (b - a) / np.linalg.norm(b - a)
    side = np.array([-along[1], along[0]]) * width / 2
    return np.stack([a + side, b + side, b - side, a - side])


def _body(form: str) -> np.ndarray:
    if form == "pear":
        pear = oval(0, 0, 1.0, 1.05)
        pear[:, 0] *= 0.78 + 0.24 * pear[:, 1]
        return pear
    if form == "square":
        t = np.linspace(0, 2 * math.pi, 64, endpoint=False)
        curve = [np.sign(f) * np.abs(f) ** 0.4 for f in (np.cos(t), np.sin(t))]
        return 0.9 * np.stack(curve, axis=1)
    return oval(0, 0, *{"round": (1.0, 0.98), "tall": (0.78, 1.1)}[form])


def _top(look: Look) -> list[Part]:
    def both(outline: np.ndarray) -> list[Part]:
        return [(outline * [side, 1], look.top_colour) for side in (-1, 1)]

    if look.top == "crown":
        spikes = [(-0.7, -0.7), (-0.8, -1.55), (-0.38, -1.15), (0, -1.7), (0.38, -1.15), (0.8, -1.55), (0.7, -0.7)]
        return [(np.array(spikes), look.top_colour)]
    if look.top == "ears":
        return both(oval(0.62, -0.95, 0.3, 0.42))
    if look.top == "horns":
        return both(np.array([(0.3, -0.8), (0.75, -0.6), (0.78, -1.55)]))
    if look.top == "antennae":
        return both(bar((0.25, -0.8), (0.5, -1.45), 0.13)) + both(oval(0.5, -1.45, 0.17, 0.17))
    return [(np.array([(-0.35, -0.8), (0.35, -0.8), (0.1, -1.6)]), look.top_colour)]


def parts(look: Look, pose: Pose) -> list[Part]:
    """The creature from back to front: limbs, the head's ornament, body, belly, eyes."""
    shown: list[Part] = []
    for step in np.linspace(-1, 1, look.legs):
        shown.append((bar((0.6 * step, 0.6), (pose.stride * 1.4 * step, 1.5), 0.36), look.body))
    for side in (-1, 1):
        shown.append((bar((0.7 * side, 0.1), (1.4 * side, 0.2 - 0.6 * pose.arms), 0.3), look.body))
    shown += _top(look)
    shown += [(_body(look.form), look.body), (oval(0, 0.42, 0.48, 0.4), look.belly)]
    for x in (0.0,) if look.eyes == 1 else (-0.36, 0.36):
        size = 0.34 if look.eyes == 1 else 0.27
        shown += [
            (oval(x, -0.36, size, size), "white"),
            (oval(x + 0.1 * pose.gaze, -0.36, size / 2, size / 2), "ink"),
        ]
    return shown
