"""Which candidate is best, how sure that is, and what to do when none is good. Works without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from trainer.verdict import wording
from trainer.verdict.diagnosis import HOW, Diagnosis, Facts, dead, fault, next_step, rising
from trainer.verdict.noise import EQUAL, NEAR, SURE, ages, check, redrawn, shared, thin, totals
from trainer.verdict.scores import LOSSES, MEASURES, Row

Sureness = Literal["clear", "likely", "a toss-up", "the only one"]
CLEAR, LIKELY = 0.9, 0.6
"""Shares of redraws: nine of ten, and more often than not by some way."""
FORGIVEN = 0.1
"""One without fault is preferred to one with, unless its total is lower by more than this share."""


@dataclass(frozen=True)
class Verdict:
    """What `judge` says."""

    pick: Row | None
    """The one to use; None when none is good enough."""
    best: Row | None
    """The best of them all the same; None only when the likeness was not measured."""
    sentence: str
    """One or two sentences for a beginner."""
    evidence: tuple[str, ...]
    """A line for each measure: what the best has, and the earlier, later, weaker and stronger ones."""
    confidence: float
    """The share of redraws of the pictures in which the best is the best, or within 2 % of it."""
    sureness: Sureness
    """The same in a word; `the only one`: there was nothing to compare with."""
    ties: tuple[Row, ...]
    """Those that cannot be told apart from the best, the nearest first."""
    diagnosis: Diagnosis
    next_step: str
    not_measured: tuple[str, ...]
    """What is missing, and how to get it."""

    def to_json(self) -> dict[str, Any]:
        """All of it for the page; candidates without their numbers, by file and strength."""
        return {
            "pick": self.pick and _mark(self.pick), "best": self.best and _mark(self.best),
            "sentence": self.sentence, "evidence": list(self.evidence),
            "confidence": self.confidence, "sureness": self.sureness,
            "ties": [_mark(row) for row in self.ties], "diagnosis": self.diagnosis,
            "next_step": self.next_step, "not_measured": list(self.not_measured),
        }  # fmt: skip


def judge(rows: Sequence[Row], facts: Facts) -> Verdict:
    """The verdict on all candidates of a run; InputError when they cannot be compared, or hold NaN.

    The total decides, over the measures that every row has. Of those that tie the earlier is taken, then the strength
    nearest to 0.8 to 1.
    """
    check(rows)
    missing, known = _missing(rows), shared(rows)
    whole, rows = rows, [replace(row, values={name: row.values[name] for name in known}) for row in rows]
    if "likeness" not in known:
        found: Diagnosis = "not measured"
        said = wording.blame(found, rows[0], rows, False)
        step = next_step(found, rows[0], [], facts)
        return Verdict(None, None, said, (), 0.0, "a toss-up", (), found, step, missing)
    goods, redraws = totals(rows), redrawn(rows)
    faults = [fault(row.scores) for row in rows]
    least = (1 - FORGIVEN) * goods.max()
    sound = [place for place in range(len(rows)) if faults[place] == "good" and goods[place] >= least]
    allowed = sound or list(range(len(rows)))
    best = _preferred(rows, goods, redraws, allowed)
    worse = [_below(place, best, goods, redraws) for place in range(len(rows))]
    ties = sorted((place for place in allowed if place != best and not worse[place]), key=lambda place: -goods[place])
    share, word = _confidence(rows, redraws, best, allowed, bool(ties))
    found, about = _diagnosis(rows, goods, faults, best)
    row, files = rows[about], wording.siblings(rows[about], rows)
    if found == "good":
        bad = {id(rows[place]) for place in range(len(rows)) if worse[place]}
        said = wording.praise(rows[best], [rows[place] for place in ties], rows, lambda one: id(one) in bad)
    else:
        said = wording.blame(found, row, rows, rising(files))
    lines, step = tuple(wording.evidence(rows[best], rows)), next_step(found, row, files, facts)
    tied, top = tuple(whole[place] for place in ties), whole[best]
    return Verdict(top if found == "good" else None, top, said, lines, share, word, tied, found, step, missing)


def _preferred(rows: Sequence[Row], goods: np.ndarray, redraws: np.ndarray, allowed: Sequence[int]) -> int:
    """The best of those allowed; of those that are as good, the earlier, then the more usual strength."""
    top = max(allowed, key=lambda place: goods[place])
    equal = [
        place
        for place in allowed
        if goods[place] >= (1 - EQUAL) * goods[top] and not _below(place, top, goods, redraws)
    ]
    when = ages(rows)
    return min(equal, key=lambda place: (*wording.preference(rows[place], when[place]), -goods[place]))


def _below(place: int, other: int, goods: np.ndarray, redraws: np.ndarray) -> bool:
    """Whether one is worse than another by more than the pictures' noise."""
    return bool(goods[place] < goods[other] and np.mean(redraws[place] < redraws[other]) >= SURE)


def _confidence(
    rows: Sequence[Row], redraws: np.ndarray, best: int, allowed: Sequence[int], tied: bool
) -> tuple[float, Sureness]:
    if len(rows) == 1:
        return 1.0, "the only one"
    share = float(np.mean(redraws[best] >= (1 - NEAR) * redraws[list(allowed)].max(axis=0)))
    if thin(rows):
        return min(share, 0.5), "a toss-up"  # one picture says nothing of what another would have shown
    return share, "clear" if share >= CLEAR and not tied else "likely" if share >= LIKELY else "a toss-up"


def _diagnosis(rows: Sequence[Row], goods: np.ndarray, faults: Sequence[Diagnosis], best: int) -> tuple[Diagnosis, int]:
    """What is wrong, and with which candidate it is shown.

    A weak strength hides what a LoRA does wrong, so one with little likeness stands aside for the best that has it, or
    for the one that has most.
    """
    if faults[best] == "good":
        return "good", best
    if dead(rows):
        return "no difference", best
    likeness = [row.scores["likeness"] or 0.0 for row in rows]
    alike = [place for place in range(len(rows)) if likeness[place] >= wording.LIKE]
    about = best
    if likeness[best] < wording.LIKE:
        about = max(alike, key=lambda place: goods[place]) if alike else int(np.argmax(likeness))
    return (faults[about], about) if faults[about] != "good" else (faults[best], best)


def _missing(rows: Sequence[Row]) -> tuple[str, ...]:
    """A line for each measure that is not there for all, and how to get it."""
    lines = []
    for name in (*MEASURES, *LOSSES):
        have = sum(row.scores[name] is not None for row in rows)
        if have == len(rows):
            continue
        left = ", and so left out" if name in MEASURES else ""
        partly = f"measured for {have} of {len(rows)} only{left}" if have else "not measured"
        lines.append(f"{wording.TITLES[name]}: {partly}; {HOW[name]}")
    if shared(rows) and thin(rows):
        lines.append("Noise: not measured, since there is one picture of a kind; draw more seeds or prompts")
    return tuple(lines)


def _mark(row: Row) -> dict[str, Any]:
    """A candidate by what the page knows it by."""
    told = {"file": row.file, "label": row.label, "strength": row.strength}
    return {**told, "epoch": row.epoch, "step": row.step, "kind": row.kind}
