"""What can be measured of a picture without any model: pure functions of pixels, all of a copy of one size.

grey: float32 [h, w] from 0 to 255; colour: float32 [h, w, 3] from 0 to 255. The limits that go with the measures are in
`trainer.doctor.rules`; how they were found stands in docs/doctor.md.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

SIDE = 768
"""Pixels of the copy's longer side, about what training sees; a smaller picture is measured as it is."""

REBLUR = 1.0  # pixels: sigma of the blur that edges are compared with
EDGES = 0.007  # of all places are looked at as edges, in each direction
FAINTEST = 2.0  # grey levels a pixel: below, an edge is noise
FEWEST = 40  # edges in a direction that tell anything
SHARP = 0.5  # pixels: sigma of an edge that no lens made softer than the pixels are
BLOCK = 16
WHITE, BLACK = 250, 5


class Light(NamedTuple):
    """Shares of the pixels, 0 to 1, and how bright the brighter part is. A plain ground to the rim is not counted."""

    white: float
    black: float
    bright: float
    """The grey that a tenth of the pixels exceeds, 0 to 255."""


def copy_of(image: Image.Image) -> Image.Image:
    """The copy that is measured: at most 768 pixels on its longer side, each the mean of those it covers."""
    scale = SIDE / max(image.size)
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=1.0)


def sharpness(grey: Image.Image) -> float:
    """How sharp the sharpest edges are, 0 to 100; 100 is as sharp as pixels can be, 20 is an edge five times as wide.

    A picture blurred once more changes less the softer it is: where an edge of width s (sigma) has the slope g, and g1
    after a blur of width r, s = r / sqrt((g / g1)^2 - 1) (Zhuo and Sim 2011, "Defocus map estimation from a single
    image", eq. 6). Of each of four directions the median of the steepest 0.7 % counts, so that a soft background is
    allowed, and of the directions the root mean square, since motion blurs in one only.
    """
    values = np.asarray(grey, np.float32)
    soft = np.asarray(grey.filter(ImageFilter.GaussianBlur(REBLUR)), np.float32)
    widths = [width for width in map(_width, _slopes(values), _slopes(soft)) if width is not None]
    if not widths:
        return 0.0
    return round(min(100.0, 100 * SHARP / float(np.sqrt(np.mean(np.square(widths))))), 1)


def _slopes(values: np.ndarray) -> list[np.ndarray]:
    """Differences across two pixels, along the row, down, and along both diagonals, each per pixel of length."""
    inner = slice(1, -1)
    across = (values[inner, 2:] - values[inner, :-2]) / 2
    down = (values[2:, inner] - values[:-2, inner]) / 2
    falling = (values[2:, 2:] - values[:-2, :-2]) / np.float32(8**0.5)
    rising = (values[:-2, 2:] - values[2:, :-2]) / np.float32(8**0.5)
    return [np.abs(slope) for slope in (across, down, falling, rising)]


def _width(slope: np.ndarray, soft: np.ndarray) -> float | None:
    """Sigma of the steepest edges of one direction, in pixels; None when there are too few."""
    count = int(slope.size * EDGES)
    if count < FEWEST:
        return None
    least = np.partition(slope.ravel(), -count)[-count]
    edge = slope >= max(least, FAINTEST)
    if edge.sum() < FEWEST:
        return None
    ratio = np.maximum(slope[edge] / np.maximum(soft[edge], 1e-3), 1.001)
    return REBLUR / (float(np.median(ratio)) ** 2 - 1) ** 0.5


def noise(values: np.ndarray) -> float:
    """Standard deviation of the noise, in grey levels.

    The mean of |I * N| times sqrt(pi / 2) / 6, N a difference of two Laplacians that lines and ramps do not touch
    (Immerkaer 1996, "Fast noise variance estimation"); of blocks of 16 pixels, those that are not black or white, the
    quietest tenth, since texture is no noise.
    """
    step = values[:-2] - 2 * values[1:-1] + values[2:]
    found = np.abs(step[:, :-2] - 2 * step[:, 1:-1] + step[:, 2:])
    found, middle = _blocks(found), _blocks(values[1:-1, 1:-1])
    if not len(found):
        return 0.0
    means, light = found.mean(1), middle.mean(1)
    seen = (light > 4 * BLACK) & (light < 255 - 4 * BLACK)
    if not seen.any():
        return 0.0
    return round(float(np.percentile(means[seen], 10)) * (np.pi / 2) ** 0.5 / 6, 2)


def _blocks(values: np.ndarray) -> np.ndarray:
    """Whole blocks of 16 x 16 as rows; what is left at the right and below is not looked at."""
    rows, columns = (length // BLOCK for length in values.shape)
    cut = values[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return cut.swapaxes(1, 2).reshape(rows * columns, BLOCK * BLOCK)


def light(values: np.ndarray) -> Light:
    """How much of a picture is white or black beyond detail.

    A ground that is white (or black) nearly all around is a studio's, not a fault: then its part is not counted.
    """
    sides = slice(0, max(1, len(values) * 3 // 5))  # below stands the person
    rim = np.concatenate([values[0], values[sides, 0], values[sides, -1]])
    white, black = values >= WHITE, values <= BLACK
    nearly = ((values >= WHITE - 15) & ~white).sum()  # of what is blown out, much is nearly so; a white ground ends
    plain_white = (rim >= WHITE).mean() > 0.5 and nearly < 0.03 * white.sum()
    plain_black = (rim <= BLACK).mean() > 0.5
    lit = values[~black] if plain_black else values
    bright = float(np.percentile(lit.ravel()[::4], 90)) if lit.size else 0.0
    return Light(
        0.0 if plain_white else round(float(white.mean()), 3),
        0.0 if plain_black else round(float(black.mean()), 3),
        round(bright, 1),
    )


def cast(values: np.ndarray) -> float:
    """How coloured the light is, in degrees between its colour and grey: 0 is neutral, a lamp left warm is near 10.

    Three guesses of the light's colour: the mean (Buchsbaum 1980), the sixth power's mean, which is near the brightest
    (Finlayson and Trezzi 2004, "Shades of gray"), and the mean edge (van de Weijer 2007, "Edge-based color constancy").
    Leaves or a red wall mislead one of them, coloured light all three: the least angle counts. values: a small copy.
    """
    linear = (values / 255) ** 2.2
    flat = linear.reshape(-1, 3)
    edges = np.abs(np.diff(linear, axis=1)).reshape(-1, 3).mean(0)
    lights = [flat.mean(0), (flat**6).mean(0) ** (1 / 6), edges]
    return round(min(_from_grey(colour) for colour in lights), 1)


def _from_grey(colour: np.ndarray) -> float:
    length = float(np.linalg.norm(colour))
    if length < 1e-6:
        return 0.0
    return float(np.degrees(np.arccos(np.clip(colour.sum() / (length * 3**0.5), -1, 1))))
