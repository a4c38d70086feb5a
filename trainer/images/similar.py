"""Near duplicates: pictures that a person would call the same one, saved again, mirrored, resized, cut or lit.

A perceptual hash (the signs of the low frequencies of a cosine transform: Zauner 2010, "Implementation and Benchmarking
of Perceptual Image Hash Functions") finds candidates quickly among thousands; a comparison of thumbnails confirms them,
and a second one of their slopes tells the same picture from one of the same person before the same background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
SAME = 0.78
"""Agreement of two thumbnails' slopes from which pictures are near duplicates: cut by 3 %, most photos have 0.8."""
STEEPEST = 8.0  # grey levels from place to place that count: one hand before the background must not outweigh it
UNSURE = 2.0  # grey levels between the halves of a picture
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


def duplicates(fingerprints: Sequence[np.ndarray]) -> list[list[int]]:
    """Places of near duplicates, mirrored ones too, two or more in a group, in rising order; no place is in two groups.

    A person before the same background is no duplicate, hence the second look at what is alike: at the slopes from
    place to place, which agree only where the edges lie in the same places. Equal fingerprints always agree, those of
    plain grounds too, which have no slopes.
    """
    upright = list(enumerate(fingerprints))
    turned = [turn for place, thumb in upright for turn in _lit_from_left(place, thumb)]
    found: list[list[int]] = []
    for entries in (upright, turned):
        for group in _alike([thumb for _, thumb in entries]):
            thumbs = np.stack([entries[entry][1] for entry in group])  # [n, 32, 32, 3]
            edges = _edges(thumbs)
            same = (edges @ edges[0] >= SAME) | (thumbs == thumbs[0]).all((1, 2, 3))
            found.append([entries[entry][0] for entry, is_same in zip(group, same, strict=True) if is_same])
    return _joined(len(fingerprints), found)


def _alike(fingerprints: Sequence[np.ndarray]) -> list[list[int]]:
    """Places of pictures alike in light and colour, in groups of two or more; 5,000 pictures take about two seconds.

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


def _lit_from_left(place: int, thumb: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A thumbnail turned so that its left half is the lighter one, as its mirror image is then too; both if unsure."""
    lean = thumb[:, : SIDE // 2].mean() - thumb[:, SIDE // 2 :].mean()
    if lean > -UNSURE:
        yield place, thumb
    if lean < UNSURE:
        yield place, thumb[:, ::-1]


def _edges(thumbs: np.ndarray) -> np.ndarray:
    """Slopes of uint8 [n, 32, 32, 3] in grey, of 2 x 2 places each, as rows of length 1."""
    grey = thumbs.mean(3, dtype=np.float32).reshape(len(thumbs), SIDE // 2, 2, -1, 2).mean((2, 4))
    rows = np.concatenate([np.diff(grey, axis=axis).reshape(len(grey), -1) for axis in (1, 2)], 1)
    rows = rows.clip(-STEEPEST, STEEPEST)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)


def _joined(count: int, known: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of the numbers below `count` without overlap: those with a number in common become one."""
    label = np.arange(count)
    for group in filter(None, known):
        meet = label[list(group)]
        label[np.isin(label, meet)] = meet.min()
    names, sizes = np.unique(label, return_counts=True)
    return [np.flatnonzero(label == name).tolist() for name in names[sizes > 1]]


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
