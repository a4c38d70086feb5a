"""What was measured of each candidate, and the one number that candidates are ordered by. Works without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Kind = Literal["file", "average"]
What = Literal["lora", "model", "embedding"]


@dataclass(frozen=True)
class Measure:
    """Something that is seen in pictures.

    weight: its share in the total; good: whether more of it is better; most: the mean of all pictures counts up to it.
    """

    title: str
    about: str
    weight: float
    good: bool = True
    most: float = 1.0


MEASURES: Mapping[str, Measure] = {
    "likeness": Measure(
        "Likeness", "0: as the base model draws; 1: as like the data set as its pictures are", 1.0, most=math.inf
    ),
    "obedience": Measure("Obeys the prompt", "1: what contradicts the data set is drawn as the base model does", 0.8),
    "spill": Measure("Spill", "what the base model draws without the trigger, and this does not", 1.0, good=False),
    "copying": Measure("Copying", "1: a training picture over again", 0.0, good=False),
    "variety": Measure("Variety", "1: seeds differ as much as the base model's", 0.0),
    "burn": Measure("Burn", "strange colours, contrast, edges; 1: noise to the base model", 0.4, good=False),
}
"""What is seen in pictures: 0 to 1, though it may run a little over.

The weights were fixed on runs whose truth is known (benchmarks/truth). Copying and variety got none there: they tell
what is wrong, and not which of two files is better.
"""
LEAST = 0.02
"""What counts as nothing: one measure alone does not make the others meaningless."""
LOSSES = ("train_loss", "held_out_loss", "gap")
"""One number for a file, for a person to see; the total does not know them."""


@dataclass(frozen=True)
class Row:
    """A candidate: a LoRA file at a strength; or a model or an embedding, whose strength is 1.

    values: for each measure one number for each picture (or prompt) it is seen on, the same ones in the same order in
    every row, so that rows can be compared picture by picture; empty where it was not measured.
    """

    file: str
    label: str
    strength: float
    epoch: int | None = None
    step: int | None = None
    kind: Kind = "file"
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    losses: Mapping[str, float | None] = field(default_factory=dict)
    what: What = "lora"

    @property
    def scores(self) -> dict[str, float | None]:
        """The mean of each measure; None where it was not measured."""
        means = {name: _mean(name, self.values[name]) if self.values.get(name) else None for name in MEASURES}
        return {**means, **{name: self.losses.get(name) for name in LOSSES}}

    @property
    def total(self) -> float:
        """What candidates are ordered by: 0 to 1, or a little over."""
        return float(
            total({name: score for name, score in self.scores.items() if score is not None and name in MEASURES})
        )

    def to_json(self) -> dict[str, Any]:
        """All of it for the page."""
        told: dict[str, Any] = {"file": self.file, "label": self.label, "strength": self.strength, "epoch": self.epoch}
        told |= {"step": self.step, "kind": self.kind, "what": self.what}
        values = {name: list(value) for name, value in self.values.items()}
        return {**told, "values": values, "scores": self.scores, "total": self.total}


def total(scores: Mapping[str, Any], weights: Mapping[str, float] | None = None) -> Any:
    """The weighted geometric mean of the measures that are there, each turned so that 1 is good.

    Geometric, since a file that fails in one thing is not saved by the others. Takes numbers, or arrays of one shape
    (as of many resamples at once), and gives the same. weights: in the place of the measures' own.
    """
    shares = weights or {name: measure.weight for name, measure in MEASURES.items()}
    weight = sum(shares[name] for name in scores)
    logs = sum(shares[name] * np.log(_good(name, score)) for name, score in scores.items())
    return np.exp(logs / weight) if weight else 0.0


def _good(name: str, score: Any) -> Any:
    """A measure turned so that 1 is good."""
    measure = MEASURES[name]
    return np.clip(score if measure.good else 1 - score, LEAST, measure.most)


def _mean(name: str, values: Sequence[float]) -> float:
    """What is shown of a measure: a spill below 0, or an obedience above 1, is chance."""
    measure, mean = MEASURES[name], float(np.mean(values))
    return min(mean, measure.most) if measure.good else max(mean, 1 - measure.most)
