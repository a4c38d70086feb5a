"""What a tool for files says when it is done, and how it is told and stopped meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainer.terminal import Stop, Stopped, Tell, never, silent


@dataclass
class Report:
    """What came of it. said: a sentence; files: those written; lines: more for a person; found: for a program."""

    said: str
    files: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    def summary(self) -> str:
        """The figures in a sentence."""
        return self.said

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        told = {"summary": self.said, "stopped": self.stopped, "files": self.files, "lines": self.lines}
        return {**told, **self.found}

    def text(self) -> str:
        """All of it for a person."""
        return "\n".join([*self.lines, self.said])


@dataclass
class Steps:
    """Counts the steps of a tool: tells how many are done, and stops between two when it is asked to."""

    total: int
    tell: Tell = silent
    should_stop: Stop = never
    done: int = 0

    def step(self) -> None:
        """One more is done; raises Stopped when someone wishes so."""
        self.done += 1
        self.tell(self.done, self.total)
        if self.should_stop():
            raise Stopped
