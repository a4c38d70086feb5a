"""Whether steps are slow because video memory spills into main memory, as the Windows driver lets it. Brings no torch.

Elsewhere a full card ends in an error at once; there the driver moves pages over the bus, and a step takes many times
as long without a word.
"""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

WINDOW = 5  # steps that must be slow
SLOWER = 1.8  # times as long as it should take; noise stays below, a bus instead of memory does not
FULL = 0.85  # share of the card that this training holds when nothing is left
KEPT = 200  # steps that are remembered
PAUSE = 0.5  # of a step's time between it and the step before: something else was done
LEFT = 0.03  # share of the card that is still free then


class Pace(NamedTuple):
    """One step: its seconds, its batches as (pictures, width, height), and bytes held and free after it.

    paused: whether something else was done since the step before: a file saved, samples made.
    """

    seconds: float
    shape: tuple[tuple[int, int, int], ...]
    held: int
    free: int
    paused: bool = False


def spilled(paces: Sequence[Pace], total: int) -> tuple[float, float] | None:
    """(seconds that a step takes, seconds that it should take) when memory spills, else None.

    `paces` are in order, the first that of the rehearsal; `total` is bytes of the card. More held than the card has is
    proof enough. Else it must be full, and the last steps slow beside the quickest earlier one of their shape, or
    beside the rehearsal scaled by pixels. The first step of a shape does not count, nor one after a pause.
    """
    if len(paces) < 2 or not total:
        return None
    seen: set[tuple[tuple[int, int, int], ...]] = set()
    counted: list[Pace] = []
    for pace in paces[1:]:
        if pace.shape in seen and not pace.paused:
            counted.append(pace)
        seen.add(pace.shape)
    late = counted[-WINDOW:]
    last = paces[-1]
    proof = last.held > total
    if len(late) < WINDOW or not (proof or (last.held >= FULL * total and last.free <= LEFT * total)):
        return None
    expected = [usual(pace, paces[0], counted[: -len(late)]) for pace in late]
    ratios = [pace.seconds / should for pace, should in zip(late, expected, strict=True)]
    if proof or sum(ratio >= SLOWER for ratio in ratios) >= WINDOW - 1:
        return statistics.median(pace.seconds for pace in late), statistics.median(expected)
    return None


def usual(pace: Pace, rehearsal: Pace, earlier: Sequence[Pace]) -> float:
    """Seconds that a step of this shape takes when all is well."""
    alike = [one.seconds for one in (rehearsal, *earlier) if one.shape == pace.shape]
    return min(alike, default=rehearsal.seconds * pixels(pace) / pixels(rehearsal))


def pixels(pace: Pace) -> int:
    """Pixels of all pictures of a step."""
    return sum(count * width * height for count, width, height in pace.shape)


def may_spill() -> bool:
    """Whether this system's driver lets video memory spill: Windows, and Linux within it."""
    return sys.platform == "win32" or "microsoft" in platform.release().lower()


class Alarm:
    """Looks at each step, and speaks once; a resumed training compares with its first step, for want of a rehearsal.

    `total`: bytes of the card; 0 where nothing spills.
    """

    def __init__(self, rehearsal: Pace | None, total: int) -> None:
        self.paces, self.total = [rehearsal] if rehearsal else [], total
        self.ended = 0.0

    def hear(self, began: float, ended: float, pace: Callable[[float, bool], Pace]) -> tuple[float, float] | None:
        """What `spilled` says after a step that began and ended at these times, the first time that it says it."""
        if not self.total:
            return None
        seconds, paused = ended - began, began - self.ended > PAUSE * (ended - began)
        self.ended = ended
        self.paces = [*self.paces[:1], *self.paces[1:][-KEPT:], pace(seconds, paused)]
        found = spilled(self.paces, self.total)
        if found:
            self.total = 0
        return found
