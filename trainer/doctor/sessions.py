"""Many pictures of one photo session: by camera and time, else by their background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np

from trainer.doctor.seeing import Seen
from trainer.images import similar

PAUSE = timedelta(minutes=30)
"""A longer one begins a new session."""
SAME_PLACE = 0.53
"""Agreement of two pictures' rims from which they were taken before the same background."""
RIM = similar.SIDE * 3 // 16
"""Places of the thumbnail's rim, at the top and at both sides; below stands the person."""
LEAST_DETAIL = 60.0
"""Length of a rim's slopes below which it is a plain ground, which many sessions share."""
BLOCK = 512


def sessions(seen: Sequence[Seen]) -> list[tuple[list[int], str]]:
    """Groups of pictures of one session, by their places in `seen`, and how that is known; the largest first.

    By camera and time where the files tell them, else by the background at the pictures' rim.
    """
    by_time = [(group, "taken by one camera within minutes") for group in _by_time(seen)]
    rest = [place for place, picture in enumerate(seen) if picture.taken is None]
    by_place = [
        ([rest[place] for place in group], "before the same background, in the same light")
        for group in _by_place([seen[place] for place in rest])
    ]
    return sorted(by_time + by_place, key=lambda found: -len(found[0]))


def _by_time(seen: Sequence[Seen]) -> list[list[int]]:
    """Groups by camera, without a longer pause in between."""
    known = sorted((picture.taken, place) for place, picture in enumerate(seen) if picture.taken)
    found: list[list[int]] = [[]]
    for before, (taken, place) in zip([None, *known], known, strict=False):
        if before and (before[0][0] != taken[0] or taken[1] - before[0][1] > PAUSE):
            found.append([])
        found[-1].append(place)
    return [sorted(group) for group in found if len(group) > 1]


def _by_place(seen: Sequence[Seen]) -> list[list[int]]:
    """Groups whose rims agree: the slopes from place to place as vectors, by the cosine between them."""
    if not seen:
        return []
    slopes = np.stack([_rim(picture.thumb) for picture in seen])
    lengths = np.linalg.norm(slopes, axis=1)
    slopes[lengths < LEAST_DETAIL] = 0
    slopes /= np.maximum(lengths, 1)[:, None]
    return _groups(len(seen), lambda rows: slopes[rows] @ slopes.T >= SAME_PLACE)


def _rim(thumb: np.ndarray) -> np.ndarray:
    """The slopes from place to place at the rim of uint8 [32, 32, 3], in grey."""
    grey = thumb.mean(2, dtype=np.float32)
    rim = np.zeros(grey.shape, bool)
    rim[:RIM], rim[:, :RIM], rim[:, -RIM:] = True, True, True
    rim[-RIM:] = False
    slopes = [np.diff(grey, axis=1)[rim[:, 1:] & rim[:, :-1]], np.diff(grey, axis=0)[rim[1:] & rim[:-1]]]
    return np.concatenate(slopes).clip(-similar.STEEPEST, similar.STEEPEST)


def _groups(count: int, alike: Callable[[slice], np.ndarray]) -> list[list[int]]:
    """Groups of two and more, of pictures like the first of each. alike: bool [rows, count] of some rows."""
    free = np.ones(count, bool)
    found: list[list[int]] = []
    for start in range(0, count, BLOCK):  # a block at a time: the whole table of 5,000 would be 100 MB
        for place, row in enumerate(alike(slice(start, start + BLOCK)), start):
            mine = np.flatnonzero(row & free)
            if free[place] and len(mine) > 1:
                found.append(mine.tolist())
                free[mine] = False
    return found
