"""Near duplicates: pictures that a person would call the same one, saved again, resized, lightly cropped or lit.

A perceptual hash (the signs of the low frequencies of a cosine transform: Zauner 2010, "Implementation and Benchmarking
of Perceptual Image Hash Functions") finds candidates quickly among thousands; a comparison of thumbnails confirms them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data.pictures import MOST_PIXELS, UPRIGHT, open_picture

SIDE = 32
"""Pixels of a fingerprint's side."""
LOW = 8
"""Frequencies of the hash, each way."""
MOST_BITS = 14
"""Bits of 63 in which the hashes of near duplicates may differ: 4 % cut off each side changes so many."""
CELLS = 8
"""Parts of a side in which two pictures are compared: fewer forgive a crop, more see what moved."""
MOST_DIFFERENT = 0.25
"""Mean difference of these parts, in standard deviations of a picture."""
MOST_ANYWHERE = 0.55
"""The same of all parts but a tenth, which may be a watermark."""
MOST_LIGHT = 48.0
"""Difference of their mean light, of 255."""
FLATTEST = 4.0
"""Standard deviation below which a picture has nothing to compare but its colour."""
BLOCK = 1024


def fingerprint(image: Image.Image) -> np.ndarray:
    """A thumbnail that stands for a picture: uint8 [32, 32, 3], the mean of each area, whatever the picture's shape."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small)


def fingerprint_of(path: Path) -> np.ndarray:
    """The fingerprint of a picture's file; an ordinary JPEG is decoded at an eighth of its size, which is much quicker.

    Raises PictureError for a file that is no whole picture.
    """
    return fingerprint(_sketch(path) or open_picture(path, "#ffffff").image)


def hashes(fingerprints: Sequence[np.ndarray]) -> np.ndarray:
    """The perceptual hash of each fingerprint: uint64 [n], the first frequency's bit (its light) left at 0."""
    bits = _bits(_greys(np.stack(fingerprints)))  # [n, 64]
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def groups(fingerprints: Sequence[np.ndarray]) -> list[list[int]]:
    """Places of near duplicates, two or more in a group, in rising order; 5,000 pictures take about two seconds.

    Every member is near the first of its group: no chain of small differences joins two that are far apart.
    """
    if not fingerprints:
        return []
    colours = np.stack(fingerprints)  # [n, 32, 32, 3]
    signs = np.where(_bits(_greys(colours)), 1, -1).astype(np.float32)  # [n, 64]
    cells, light = _cells(colours)
    free = np.ones(len(colours), bool)
    found: list[list[int]] = []
    for start in range(0, len(signs), BLOCK):
        alike = signs[start : start + BLOCK] @ signs.T >= 64 - 2 * MOST_BITS  # equal signs less different ones
        for first in range(start, start + len(alike)):
            if not free[first]:
                continue
            others = np.flatnonzero(alike[first - start] & free & (np.arange(len(free)) > first))
            others = others[_near(cells[first], light[first], cells[others], light[others])]
            free[others] = False
            if len(others):
                found.append([first, *others.tolist()])
    return found


def _near(cells: np.ndarray, light: np.ndarray, others: np.ndarray, lights: np.ndarray) -> np.ndarray:
    """Which of the others show the same picture, but for its light and contrast: bool [n]."""
    if not len(others):
        return np.zeros(0, bool)
    apart = np.abs(others - cells).mean(axis=2)  # [n, 64]
    same = (apart.mean(axis=1) <= MOST_DIFFERENT) & (np.quantile(apart, 0.9, axis=1) <= MOST_ANYWHERE)
    return same & (np.abs(lights - light) <= MOST_LIGHT)


def _cells(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean colours of each fingerprint's parts, from its mean in its standard deviations, [n, 64, 3]; its mean."""
    step = SIDE // CELLS
    means = (
        colours.reshape(-1, CELLS, step, CELLS, step, 3).mean(axis=(2, 4), dtype=np.float32).reshape(-1, CELLS**2, 3)
    )
    light, spread = means.mean(axis=(1, 2)), means.std(axis=(1, 2))
    return (means - light[:, None, None]) / np.maximum(spread, FLATTEST)[:, None, None], light


def _sketch(path: Path) -> Image.Image | None:
    """A JPEG in small, upright; None for whatever needs more care, and for what is broken, to be told of there."""
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            if image.mode != "RGB" or image.info.get("icc_profile") or image.width * image.height > MOST_PIXELS:
                return None
            image.draft("RGB", (SIDE * 4, SIDE * 4))
            turned = UPRIGHT.get(image.getexif().get(0x0112, 1))
            return image.convert("RGB") if turned is None else image.transpose(turned)
    except Exception:  # on damaged bytes decoders raise nearly anything
        return None


def _greys(colours: np.ndarray) -> np.ndarray:
    return colours.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)  # [n, 32, 32]


def _bits(greys: np.ndarray) -> np.ndarray:
    """Which low frequencies are above their median: bool [n, 64]."""
    wave = np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(LOW)[:, None]).astype(np.float32)  # [8, 32]
    low = (wave @ greys @ wave.T).reshape(-1, LOW * LOW)  # [n, 64]
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False
    return bits
