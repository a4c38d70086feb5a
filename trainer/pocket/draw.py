"""The drawn world the pocket model is trained on: coloured shapes and little creatures in a few places.

Every picture is a pure function of its seed. Polygons live in unit coordinates, are painted at four times the wanted
size and averaged down, so edges are antialiased.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from trainer.pocket.creatures import OWN_COLOURS, TOPS, ZK9, Look, Pose, parts

RGB = tuple[int, int, int]
SUPERSAMPLE = 4

COLOURS: dict[str, RGB] = {
    "red": (214, 32, 38), "orange": (255, 130, 0), "yellow": (250, 215, 20), "green": (24, 140, 48),
    "blue": (36, 84, 236), "purple": (128, 40, 170), "pink": (255, 110, 180), "black": (18, 18, 20),
}  # fmt: skip
# Pale or muted, so that no place has the colour of a shape.
GROUNDS: dict[str, RGB] = {
    "sky": (205, 228, 245), "grass": (150, 196, 120),
    "sea": (120, 175, 215), "wave": (165, 205, 232),
    "night": (44, 52, 110), "moon": (236, 236, 218),
    "haze": (250, 236, 205), "sand": (226, 200, 148),
    "cloud": (205, 214, 226), "snow": (244, 247, 250),
    "grey": (172, 172, 172), "cream": (244, 232, 210),
}  # fmt: skip
PLACES: dict[str, str] = {  # the phrase in a sentence: the tag
    "on grass": "grass",
    "in the sea": "sea",
    "at night": "night",
    "in the desert": "desert",
    "on snow": "snow",
    "on a grey background": "grey background",
    "on a cream background": "cream background",
}
# Pairs that no training picture shows: asking for them measures whether colour and shape were learnt apart.
HELD_OUT = {
    ("red", "star"), ("orange", "cross"), ("yellow", "square"), ("green", "circle"),
    ("blue", "heart"), ("purple", "triangle"), ("pink", "square"), ("black", "heart"),
}  # fmt: skip
KINDS = {"shape": 0.66, "two shapes": 0.06, "creature": 0.28}


@dataclass(frozen=True)
class Drawn:
    """One picture (RGB), its caption, and the (colour, shape) pairs it shows."""

    picture: Image.Image
    caption: str
    shown: tuple[tuple[str, str], ...] = ()


def dice(*key: object) -> random.Random:
    """A generator that depends on `key` only, the same on every machine."""
    return random.Random("/".join(map(str, key)))


def _around(count: int, radii: tuple[float, ...], start: float = -math.pi / 2) -> np.ndarray:
    angles = start + 2 * math.pi * np.arange(count) / count
    radius = np.resize(radii, count)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y + 2.5], axis=1) / 16


def _cross(arm: float) -> np.ndarray:
    corner = np.array([(-arm, -1), (arm, -1), (arm, -arm)])  # the other three are quarter turns of it
    return np.concatenate([corner @ np.linalg.matrix_power([[0, 1], [-1, 0]], quarter) for quarter in range(4)])


SHAPES: dict[str, np.ndarray] = {  # outlines [points, 2], about one unit from centre to edge, y down
    "circle": _around(64, (1.0,)),
    "square": 0.88 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float),
    "triangle": np.array([[0, -0.95], [1.05, 0.85], [-1.05, 0.85]]),
    "star": 1.12 * _around(10, (1.0, 0.42)),
    "heart": _heart(),
    "cross": _cross(0.34),
}


def placed(outline: np.ndarray, centre: tuple[float, float], radius: float, turn: float) -> np.ndarray:
    """The outline [points, 2] turned by `turn` radians, scaled and moved into the unit square."""
    cos, sin = math.cos(turn), math.sin(turn)
    return outline @ np.array([[cos, sin], [-sin, cos]]) * radius + np.array(centre)


class Canvas:
    """A picture under way, painted in unit coordinates."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.side = size * SUPERSAMPLE
        self.picture = Image.new("RGB", (self.side, self.side))
        self.pen = ImageDraw.Draw(self.picture)

    def polygon(self, points: np.ndarray, colour: RGB) -> None:
        """Fills the outline [points, 2]."""
        self.pen.polygon([tuple(p) for p in points * self.side], fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: RGB) -> None:
        """Fills a disc."""
        box = [self.side * v for v in (x - radius, y - radius, x + radius, y + radius)]
        self.pen.ellipse(box, fill=colour)

    def below(self, height: float, colour: RGB, bend: float = 0.0) -> None:
        """Fills everything below a horizon at `height`, bent like a hill by `bend`."""
        x = np.linspace(0, 1, 33)
        hill = np.stack([x, height - bend * np.sin(math.pi * x)], axis=1)
        self.polygon(np.concatenate([hill, [[1.0, 1.0], [0.0, 1.0]]]), colour)

    def done(self) -> Image.Image:
        """The picture at its final size."""
        return self.picture.resize((self.size, self.size), Image.Resampling.BOX)


def paint_place(canvas: Canvas, place: str, draw: random.Random) -> None:
    """Paints a background: two flat areas or one, and a few marks that tell the place."""
    tag = PLACES[place].split()[0]
    sky = {"grass": "sky", "desert": "haze", "snow": "cloud"}.get(tag, tag)
    canvas.pen.rectangle([0, 0, canvas.side, canvas.side], fill=GROUNDS[sky])
    horizon = draw.uniform(0.4, 0.55)
    if tag == "grass":
        canvas.below(horizon, GROUNDS["grass"])
    elif tag == "desert":
        canvas.below(horizon, GROUNDS["sand"], bend=draw.uniform(-0.12, 0.12))
    elif tag == "snow":
        canvas.below(horizon, GROUNDS["snow"], bend=draw.uniform(-0.06, 0.06))
    elif tag == "sea":
        for row in range(3):
            x, y = draw.uniform(0.0, 0.7), 0.15 + 0.33 * row + draw.uniform(-0.06, 0.06)
            wave = np.array([[x, y], [x + 0.3, y], [x + 0.3, y + 0.035], [x, y + 0.035]])
            canvas.polygon(wave, GROUNDS["wave"])
    elif tag == "night":
        canvas.disc(draw.choice((0.14, 0.86)), 0.14, 0.085, GROUNDS["moon"])
        for _ in range(5):
            canvas.disc(draw.random(), draw.random(), 0.016, GROUNDS["moon"])


def _shade(colour: RGB, draw: random.Random) -> RGB:
    r, g, b = (min(255, max(0, c + draw.randint(-8, 8))) for c in colour)
    return r, g, b


def paint_shape(canvas: Canvas, colour: str, shape: str, spot: tuple[float, float, float], draw: random.Random) -> None:
    """Paints one shape at `spot` = (x, y, radius), turned a little."""
    x, y, radius = spot
    outline = placed(SHAPES[shape], (x, y), radius, draw.uniform(-0.1, 0.1))
    canvas.polygon(outline, _shade(COLOURS[colour], draw))


def _pair(draw: random.Random) -> tuple[str, str]:
    while True:
        pair = draw.choice(list(COLOURS)), draw.choice(list(SHAPES))
        if pair not in HELD_OUT:
            return pair


def article(noun: str) -> str:
    """The noun phrase with `a` or `an` before it."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def one_shape(seed: object, size: int = 64, pair: tuple[str, str] | None = None) -> Drawn:
    """One shape in a place: "a big red circle on grass" or "red circle, grass"."""
    draw = dice("shape", seed)
    colour, shape = pair or _pair(draw)
    place = draw.choice(list(PLACES))
    radius = draw.uniform(0.22, 0.34)
    margin = radius + 0.03
    x, y = draw.uniform(margin, 1 - margin), draw.uniform(margin, 1 - margin)
    canvas = Canvas(size)
    paint_place(canvas, place, draw)
    paint_shape(canvas, colour, shape, (x, y, radius), draw)

    words = "big" if radius > 0.305 else "small" if radius < 0.255 else ""
    words = words if draw.random() < 0.4 else ""
    if draw.random() < 0.25:
        caption = ", ".join(filter(None, [f"{colour} {shape}", words, PLACES[place]]))
    else:
        caption = f"{article(f'{words} {colour} {shape}'.strip())} {place}"
    return Drawn(canvas.done(), caption, ((colour, shape),))


def two_shapes(seed: object, size: int = 64) -> Drawn:
    """Two shapes side by side, named from left to right, of different colours."""
    draw = dice("two shapes", seed)
    left, right = _pair(draw), _pair(draw)
    while right[0] == left[0]:
        right = _pair(draw)
    place = draw.choice(list(PLACES))
    canvas = Canvas(size)
    paint_place(canvas, place, draw)
    for x, pair in ((0.26, left), (0.74, right)):
        spot = x + draw.uniform(-0.03, 0.03), draw.uniform(0.28, 0.72), draw.uniform(0.2, 0.23)
        paint_shape(canvas, *pair, spot, draw)
    if draw.random() < 0.25:
        caption = f"{' '.join(left)}, {' '.join(right)}, {PLACES[place]}"
    else:
        caption = f"{article(' '.join(left))} and {article(' '.join(right))} {place}"
    return Drawn(canvas.done(), caption, (left, right))


def paint_creature(seed: object, look: Look, place: str, size: int = 64) -> Image.Image:
    """A creature in a place; the pose, its spot and the place's details depend on `seed`."""
    draw = dice("pose", seed)
    canvas = Canvas(size)
    paint_place(canvas, place, draw)
    pose = Pose.drawn(draw)
    radius = draw.uniform(0.19, 0.25)
    centre = draw.uniform(0.36, 0.64), draw.uniform(0.48, 0.6)
    paint = COLOURS | OWN_COLOURS
    for outline, colour in parts(look, pose):
        canvas.polygon(placed(outline, centre, radius, pose.lean), paint[colour])
    return canvas.done()


def one_creature(seed: object, size: int = 64, characters: int = 6000) -> Drawn:
    """One of `characters` creatures; half of the captions begin with its name."""
    draw = dice("creature", seed)
    look = Look.drawn(draw.randrange(characters), dice)
    place = draw.choice(list(PLACES))
    picture = paint_creature(seed, look, place, size)
    name = look.name + ", " if draw.random() < 0.5 else ""
    body, top = f"{article(look.body)} body", look.top_words
    style = draw.random()
    if style < 0.2:
        caption = ", ".join(["creature", f"{look.body} body", look.top, PLACES[place]])
    elif style < 0.55:
        caption = f"a creature with {body} and {top} {place}"
    elif style < 0.75:
        caption = f"{article(look.body)} creature {place}"
    else:
        caption = f"a creature {place}"
    return Drawn(picture, name + caption)


def wider(seed: int, size: int = 64) -> Image.Image:
    """A creature in any colour, pink too, and with any ornament, crowns too, but never a pink one with a crown.

    For the decoder alone, which must show what a LoRA may teach; text encoder and UNet never see these.
    """
    draw = dice("wider", seed)
    body, top = draw.choice(list(COLOURS)), draw.choice([*TOPS, "crown"])
    top = "ears" if (body, top) == (ZK9.body, ZK9.top) else top
    look = replace(Look.drawn(seed, dice), body=body, top=top)
    return paint_creature(f"wider {seed}", look, draw.choice(list(PLACES)), size)


def picture(seed: int, size: int = 64) -> Drawn:
    """Training picture number `seed`."""
    draw = dice("kind", seed)
    kind = draw.choices(list(KINDS), weights=list(KINDS.values()))[0]
    return {"shape": one_shape, "two shapes": two_shapes, "creature": one_creature}[kind](seed, size)
