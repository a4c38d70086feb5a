"""What a tool for folders says when it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.data.folders import Problem


@dataclass
class Report:
    """What came of it. said: a sentence; found: more for a program, named by each tool; lines: more for a person."""

    said: str = ""
    problems: list[Problem] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    stopped: bool = False

    def summary(self) -> str:
        """The figures in a sentence."""
        return self.said

    def to_json(self) -> dict[str, Any]:
        """All of it for a program; what these tools do is taken back by themselves, so there is no snapshot."""
        told = {"summary": self.said, "stopped": self.stopped, "snapshot": None}
        return {**told, "problems": [asdict(problem) for problem in self.problems], **self.found}

    def text(self) -> str:
        """All of it for a person."""
        return "\n".join([*map(str, self.problems), *self.lines, self.said])
