"""How sure an order of candidates is: what would come out had other pictures been drawn. Works without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from trainer.errors import InputError
from trainer.verdict.scores import MEASURES, Row, total

REDRAWS, SEED = 1000, 0
NEAR = 0.02
"""A pick whose total is this near to the best is no mistake that anyone would see."""
EQUAL = 1e-6
"""Totals that differ by this share are the same number: of those the earlier file is taken."""
SURE = 0.95
"""The share of redraws in which one must be below another to be called worse: the usual bar of statistics."""


def shared(rows: Sequence[Row]) -> list[str]:
    """The measures that every row has; only these can be compared."""
    return [name for name in MEASURES if all(row.values.get(name) for row in rows)]


def check(rows: Sequence[Row]) -> None:
    """InputError for rows that cannot be compared: none at all, a number that is none, other pictures."""
    if not rows:
        raise InputError("rows: nothing was measured; give a run folder that holds at least one LoRA")
    for row in rows:
        for name, values in row.values.items():
            if name not in MEASURES:
                raise InputError(f"{row.label}: {name!r} is no measure; there are {', '.join(MEASURES)}")
            if not all(map(math.isfinite, values)):
                raise InputError(
                    f"{row.label} at strength {row.strength:g}: {name} holds a number that is none (NaN or infinity);"
                    " run `lora verify` on the file, and measure it again"
                )
    for name in shared(rows):
        counts = sorted({len(row.values[name]) for row in rows})
        if len(counts) > 1:
            raise InputError(
                f"{name}: measured on {counts[0]} pictures of one candidate and {counts[-1]} of another; candidates"
                " are compared picture by picture, so measure all on the same ones"
            )


def scores(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """The mean of each shared measure, by row."""
    return {name: np.array([np.mean(row.values[name]) for row in rows]) for name in shared(rows)}


def totals(rows: Sequence[Row]) -> np.ndarray:
    """The total of each row over the shared measures."""
    return np.zeros(len(rows)) + total(scores(rows))


def redrawn(rows: Sequence[Row]) -> np.ndarray:
    """The totals had other pictures been drawn: [row, redraw], the same pictures for every row (paired bootstrap)."""
    means = {}
    for name in shared(rows):
        table = np.array([row.values[name] for row in rows])  # [row, picture]
        means[name] = table @ _shares(table.shape[1]).T
    return np.zeros((len(rows), REDRAWS)) + total(means)


@lru_cache(64)
def _shares(count: int) -> np.ndarray:
    """How much each of `count` pictures counts in each redraw: [redraw, picture], the same for all measures on them.

    One picture fewer than there are is drawn each time: only then is the spread that of the mean (Rao and Wu 1988,
    "Resampling inference with complex survey data"). A single picture has no spread.
    """
    drawn = max(1, count - 1)
    return np.random.default_rng([SEED, count]).multinomial(drawn, np.full(count, 1 / count), REDRAWS) / drawn


def thin(rows: Sequence[Row]) -> bool:
    """Whether a measure rests on a single picture, so that nothing is known of its noise."""
    return any(len(rows[0].values[name]) < 2 for name in shared(rows))


def ages(rows: Sequence[Row]) -> list[float]:
    """When each was saved: its step, or its epoch where not all have steps; averages, and what says neither, last."""
    files = [row for row in rows if row.kind == "file"]
    by_step = all(row.step is not None for row in files)
    return [
        float(age) if row.kind == "file" and (age := row.step if by_step else row.epoch) is not None else math.inf
        for row in rows
    ]


def turned(rows: Sequence[Row], patience: int) -> bool:
    """Whether a training may stop: the last `patience` files, at least 1, are all worse than an earlier one, by more
    than noise. A file counts with its best strength; averages do not count."""
    files = [row for row in rows if row.kind == "file"]
    if not files:
        return False
    check(files)
    when, goods, redraws = ages(files), totals(files), redrawn(files)
    best: dict[float, int] = {}
    for place in range(len(files)):
        if when[place] not in best or goods[place] > goods[best[when[place]]]:
            best[when[place]] = place
    places = [best[age] for age in sorted(best)]
    peak = max(range(len(places)), key=lambda number: goods[places[number]])
    since = places[peak + 1 :]
    below = [np.mean(redraws[place] < redraws[places[peak]]) >= SURE for place in since]
    return len(since) >= max(1, patience) and all(below) and not thin(files)
