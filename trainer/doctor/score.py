"""A score with its parts: each says its points, of how many, and why. What was not checked has no points to lose."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.doctor.finding import Finding

WEIGHT = {"bad": 2.0, "care": 1.0, "hint": 0.3}
"""Points a picture costs, in its part of the set: half of the pictures bad is no point left."""
WHOLE = {"bad": 1.0, "care": 0.5, "hint": 0.2}
"""The part of the points that something costs which is about the set, not about pictures."""
OF_THE_SET = ("framing", "too_few", "costume", "session")


@dataclass(frozen=True)
class Kinds:
    """A part of the score: of how many points, and which findings count."""

    of: int
    kinds: tuple[str, ...]
    right: str
    """What is said when nothing is wrong."""


PARTS = {
    "Files": Kinds(10, ("broken", "left_out", "changed", "same_name"), "every picture can be read"),
    "Size": Kinds(10, ("too_small", "small", "shape"), "every picture is large enough"),
    "Sharpness": Kinds(15, ("blurred", "noisy"), "no picture is blurred or noisy"),
    "Light": Kinds(10, ("blown_out", "dark", "cast"), "no picture is blown out, dark or in coloured light"),
    "Variety": Kinds(15, ("duplicates", "session", "costume"), "no picture is there twice"),
    "Subject": Kinds(15, ("other_people", "face_missing", "face_cut", "eyes"), "no other people, no bad face"),
    "Framing": Kinds(5, ("framing",), "close-ups and bodies are in the right shares"),
    "Captions": Kinds(
        10,
        ("no_caption", "empty_caption", "caption_unread", "caption_odd", "long_caption", "trigger", "contradiction"),
        "every caption is in order",
    ),
    "Watermarks": Kinds(5, ("watermark",), "no tag speaks of a watermark or text"),
    "Amount": Kinds(5, ("too_few",), "enough pictures"),
}
OF_PICTURES = tuple(name for name in PARTS if name not in ("Files", "Amount"))
"""Parts of which nothing is known when no picture can be read."""


@dataclass(frozen=True)
class Part:
    """Points, of how many, and why."""

    name: str
    points: int
    of: int
    why: str


@dataclass(frozen=True)
class Score:
    """The sum of parts; parts that could not be checked are not among them."""

    parts: tuple[Part, ...]

    @property
    def points(self) -> int:
        """The sum."""
        return sum(part.points for part in self.parts)

    @property
    def of(self) -> int:
        """What it could be: 100 when everything was checked."""
        return sum(part.of for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        return {"points": self.points, "of": self.of, "parts": [asdict(part) for part in self.parts]}


def score(findings: Sequence[Finding], pictures: int, unchecked: Collection[str]) -> Score:
    """The score of a set with so many pictures; unchecked: names of parts that nothing was found out about."""
    parts: list[Part] = []
    for name, part in PARTS.items():
        mine = [finding for finding in findings if finding.kind in part.kinds]
        if name in unchecked and not mine:
            continue
        left = max(0.0, 1 - sum(_loss(finding, pictures) for finding in mine))
        why = "; ".join(finding.title for finding in mine) or part.right
        parts.append(Part(name, min(round(part.of * left), part.of - bool(mine)), part.of, why))
    return Score(tuple(parts))


def _loss(finding: Finding, pictures: int) -> float:
    if finding.kind in OF_THE_SET or not finding.pictures:
        return WHOLE[finding.severity]
    bad = len(finding.pictures) - len(finding.keep or ())
    return WEIGHT[finding.severity] * bad / max(pictures, 1)


def said(found: Mapping[str, Any]) -> str:
    """A score in a line for each part, for a person."""
    lines = [f"Score: {found['points']} of {found['of']}"]
    lines += [f"  {part['name']:<11} {part['points']:>2} of {part['of']:>2}  {part['why']}" for part in found["parts"]]
    return "\n".join(lines)
