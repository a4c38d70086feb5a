"""What the doctor has to say: a finding, and the cures that go with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.data.pictures import plain

Severity = Literal["bad", "care", "hint"]


@dataclass(frozen=True)
class Cure:
    """One click: what `trainer.doctor.cures.cure` is asked to do, with which pictures and arguments."""

    do: str
    label: str
    pictures: Sequence[str]
    arguments: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the page sends it back, but for the folder."""
        return {"do": self.do, "label": self.label, "pictures": list(self.pictures), **self.arguments}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, the pictures that it is wrong with, and why: figure and limit.

    Pictures are paths in the data set with `/`. bad: spoils what is learned; care: look at it; hint: could be better.
    """

    kind: str
    severity: Severity
    title: str
    why: str
    pictures: Sequence[str]
    details: dict[str, str] = field(default_factory=dict)
    """Of each picture: what was measured, and the limit."""
    groups: Sequence[Sequence[str]] | None = None
    keep: Sequence[str] | None = None
    """The best of each group."""
    cures: Sequence[Cure] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        groups = None if self.groups is None else [list(group) for group in self.groups]
        return {
            **{"kind": self.kind, "severity": self.severity, "title": self.title, "why": self.why},
            **{"pictures": list(self.pictures), "groups": groups, "details": self.details},
            **{"keep": None if self.keep is None else list(self.keep)},
            **{"cures": [cure.to_json() for cure in self.cures]},
        }

    def text(self, most: int = 5) -> str:
        """All of it for a person: a line, why, and a few of the pictures."""
        lines = [f"{self.severity.upper():<4} {self.title}: {self.why}"]
        names = list(dict.fromkeys([*self.pictures, *self.details]))
        lines += [f"     {plain(name)}: {plain(self.details.get(name, ''))}".rstrip(": ") for name in names[:most]]
        more = len(names) - most
        return "\n".join([*lines, *([f"     and {more} more"] if more > 0 else [])])


def several(count: int, one: str, many: str) -> str:
    """A count with its words: "1 picture is", "3 pictures are"."""
    return f"{count} {one if count == 1 else many}"


def aside(pictures: Sequence[str], label: str = "Set these pictures aside", extension: str = ".txt") -> Cure:
    """The cure that takes pictures out of the data set, and can put them back."""
    return Cure("set_aside", label, pictures, {"caption_extension": extension})
