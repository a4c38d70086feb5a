"""Pictures that show the same: near duplicates, mirrored ones too, and many pictures of one photo session."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import numpy as np

from trainer.doctor.seeing import Seen
from trainer.images import similar

SAME = 0.78
"""Agreement of two thumbnails' slopes from which pictures are near duplicates: cut by 3 %, most photos have 0.8."""
UNSURE = 2.0  # grey levels between the halves of a picture
PAUSE = timedelta(minutes=30)
"""A longer one begins a new session."""
SAME_PLACE = 0.53
"""Agreement of two pictures' rims from which they were taken before the same background."""
RIM = similar.SIDE * 3 // 16
"""Places of the thumbnail's rim, at the top and at both sides; below stands the person."""
STEEPEST = 8.0  # grey levels from place to place that count: one hand before the background must not outweigh it
LEAST_DETAIL = 60.0
"""Length of a rim's slopes below which it is a plain ground, which many sessions share."""
BLOCK = 512


def duplicates(seen: Sequence[Seen]) -> list[list[int]]:
    """Groups of near duplicates by their places in `seen`, each of two or more.

    A person before the same background is no duplicate, hence the second look: at the slopes from place to place, which
    agree only where the edges lie in the same places.
    """
    plain = [(place, picture.thumb) for place, picture in enumerate(seen)]
    turned = [turn for place, thumb in plain for turn in _lit_from_left(place, thumb)]
    found: list[list[int]] = []
    for thumbs in (plain, turned):
        for group in similar.groups([thumb for _, thumb in thumbs]):
            edges = _edges(np.stack([thumbs[entry][1] for entry in group]))
            same = edges @ edges[0] >= SAME
            found.append([thumbs[entry][0] for entry, is_same in zip(group, same, strict=True) if is_same])
    return joined(len(seen), found)


def _lit_from_left(place: int, thumb: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A thumbnail turned so that its left half is the lighter one, as its mirror image is then too; both if unsure."""
    lean = thumb[:, : similar.SIDE // 2].mean() - thumb[:, similar.SIDE // 2 :].mean()
    if lean > -UNSURE:
        yield place, thumb
    if lean < UNSURE:
        yield place, thumb[:, ::-1]


def _edges(thumbs: np.ndarray) -> np.ndarray:
    """Slopes of uint8 [n, 32, 32, 3] in grey, of 2 x 2 places each, as rows of length 1."""
    grey = thumbs.mean(3, dtype=np.float32).reshape(len(thumbs), similar.SIDE // 2, 2, -1, 2).mean((2, 4))
    rows = np.concatenate([np.diff(grey, axis=axis).reshape(len(grey), -1) for axis in (1, 2)], 1)
    rows = rows.clip(-STEEPEST, STEEPEST)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)


def joined(count: int, known: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of the numbers below `count` without overlap: those with a number in common become one."""
    label = np.arange(count)
    for group in filter(None, known):
        meet = label[list(group)]
        label[np.isin(label, meet)] = meet.min()
    names, sizes = np.unique(label, return_counts=True)
    return [np.flatnonzero(label == name).tolist() for name in names[sizes > 1]]


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
    return np.concatenate(slopes).clip(-STEEPEST, STEEPEST)


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
