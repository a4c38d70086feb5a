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
        self.evened = measures.Evened(torch.cat([self.base, self.data]))
        base, data = self.evened(self.base), self.evened(self.data)
        self.likeness = measures.Likeness(data, base[self.subject])
        self.whole = measures.Whole(self.base)
        self.usual = [measures.pixels(picture) for picture in (*exhibit.base, *exhibit.data)]
        strange = torch.cat([eye.errors(exhibit.base), eye.errors(exhibit.data)])
        self.strange = float(strange.max())
        self.told = exhibit.of("contradicting", "plain")
        bare = [exhibit.asked[place][0].bare for place in self.told]
        self.content = measures.Content(base[self.told], data, bare)

    def values(self, pictures: Sequence[Image.Image]) -> dict[str, tuple[float, ...]]:
        """All measures that there are questions for."""
        parts = self.eye.parts(pictures)
        evened = self.evened(parts)
        prompts = [question.prompt for question, _ in self.exhibit.asked]
        mine, whole = parts[self.subject], self.whole
        shown = torch.zeros(len(parts))
        shown[self.told] = self.content.of(evened[self.told])
        found: dict[str, Tensor] = {
            "likeness": self.likeness.of(evened[self.subject]),
            "copying": measures.copying(whole, mine, self.data),
            "variety": measures.variety(whole, mine, self.base[self.subject], [prompts[n] for n in self.subject]),
            "burn": self._burn([pictures[n] for n in self.subject]),
            "spill": 1 - shown[self.plain],
            "obedience": shown[self.contradicting],
        }
        return {name: tuple(value.tolist()) for name, value in found.items() if len(value)}

    def _burn(self, pictures: Sequence[Image.Image]) -> Tensor:
        """The worse of what pixels tell, and of how strange a picture is to the base model."""
        seen = torch.tensor(measures.burn([measures.pixels(picture) for picture in pictures], self.usual))
        return torch.maximum(seen, measures.strangeness(self.eye.errors(pictures), self.strange))
