"""The yardstick of one comparison: what the base model draws is its zero, what the data set shows its one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from trainer.verdict import measures
from trainer.verdict.eyes import BaseEye
from trainer.verdict.questions import Question

RIVALS = 3
"""Captions of the data set that a contradicting picture is held against."""


@dataclass(frozen=True)
class Exhibit:
    """What candidates are held against."""

    asked: Sequence[tuple[Question, int]]
    """Questions with their seeds."""
    base: Sequence[Image.Image]
    """What the base model draws for each, without the trigger."""
    data: Sequence[Image.Image]
    """The data set."""
    bare: Sequence[str]
    """Its captions without the trigger."""

    def of(self, *kinds: str) -> list[int]:
        """The places of the questions of these kinds."""
        return [place for place, (question, _) in enumerate(self.asked) if question.kind in kinds]


class Witness(Protocol):
    """Something that looks at a candidate's pictures."""

    name: str

    def values(self, pictures: Sequence[Image.Image]) -> Mapping[str, tuple[float, ...]]:
        """What it can say, by measure: a number for each picture (or prompt) that the measure is of."""
        ...


class BaseWitness:
    """What the base model's own eyes and plain pixels say: every measure, without any download."""

    name = "the base model's own eyes"

    def __init__(self, eye: BaseEye, exhibit: Exhibit) -> None:
        self.eye, self.exhibit = eye, exhibit
        self.base, self.data = eye.parts(exhibit.base), eye.parts(exhibit.data)
        self.subject, self.plain = exhibit.of("subject", "contradicting"), exhibit.of("plain")
        self.contradicting = exhibit.of("contradicting")
        self.likeness = measures.Likeness(self.data, self.base[self.subject])
        self.whole = measures.Whole(self.base)
        self.usual = [measures.pixels(picture) for picture in (*exhibit.base, *exhibit.data)]
        strange = torch.cat([self._strange(exhibit.base), self._strange(exhibit.data)])
        self.strange = float(strange.max())
        self.rivals = list(dict.fromkeys(exhibit.bare))[:RIVALS]
        self.margin = self._margin(exhibit.base)

    def values(self, pictures: Sequence[Image.Image]) -> dict[str, tuple[float, ...]]:
        """All measures that there are questions for."""
        parts = self.eye.parts(pictures)
        prompts = [question.prompt for question, _ in self.exhibit.asked]
        mine, others, whole = parts[self.subject], parts[self.plain], self.whole
        found: dict[str, Tensor] = {
            "likeness": self.likeness.of(mine),
            "copying": measures.copying(whole, mine, self.data),
            "variety": measures.variety(whole, mine, self.base[self.subject], [prompts[n] for n in self.subject]),
            "burn": self._burn([pictures[n] for n in self.subject]),
        }
        if self.plain:
            said = [prompts[n] for n in self.plain]
            found["spill"] = measures.spill(whole, others, self.base[self.plain], said)
        if self.contradicting:
            found["obedience"] = measures.obedience(self._margin(pictures), self.margin)
        return {name: tuple(value.tolist()) for name, value in found.items() if len(value)}

    def _margin(self, pictures: Sequence[Image.Image]) -> Tensor:
        """By how much what was asked explains each contradicting picture better than captions of the data set do."""
        if not self.contradicting:
            return torch.zeros(0)
        shown = [pictures[n] for n in self.contradicting]
        rivals = self.eye.errors(shown, self.rivals).amin(1)
        asked = [self.exhibit.asked[n][0].bare for n in self.contradicting]
        mine = torch.zeros(len(shown))
        for text in dict.fromkeys(asked):
            places = [place for place, other in enumerate(asked) if other == text]
            mine[places] = self.eye.errors([shown[place] for place in places], [text])[:, 0]
        return rivals - mine

    def _strange(self, pictures: Sequence[Image.Image]) -> Tensor:
        return self.eye.errors(pictures, [""])[:, 0]

    def _burn(self, pictures: Sequence[Image.Image]) -> Tensor:
        """The worse of what pixels tell, and of how strange a picture is to the base model."""
        seen = torch.tensor(measures.burn([measures.pixels(picture) for picture in pictures], self.usual))
        return torch.maximum(seen, measures.strangeness(self._strange(pictures), self.strange))
