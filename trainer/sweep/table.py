"""What became of the runs of a sweep, side by side: which is best, and which of its files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from trainer.durable import read_json
from trainer.errors import InputError
from trainer.runfolder import Event, RunFolder
from trainer.sweep.folder import Sweep, SweepFolder
from trainer.sweep.vary import Values, word

VERDICT = "verdict.json"  # of trainer.verdict.run
WAYS = ("score", "held_out", "loss")
"""What runs may be ordered by, the most telling first: of scores more is better, of losses less."""
TITLES = {"score": "score", "held_out": "held-out loss", "loss": "final loss"}


@dataclass(frozen=True)
class Row:
    """A run of a sweep.

    loss: the average over the last epoch's worth of steps; held_out: the lowest on held-out pictures; score: the best
    total of a comparison, 0 to 1; seconds of training; memory: most bytes; file: its best file, and why that one.
    """

    place: int
    values: Values
    run: str | None
    state: str
    step: int = 0
    steps: int | None = None
    loss: float | None = None
    held_out: float | None = None
    score: float | None = None
    seconds: float | None = None
    memory: int | None = None
    file: str | None = None
    why: str = ""
    said: str = ""

    def measure(self, by: str) -> float:
        """What it is ordered by, less is better; infinite where it was not measured."""
        value = getattr(self, by)
        return math.inf if value is None else -value if by == "score" else value


@dataclass(frozen=True)
class Table:
    """All runs, the best first. by: what orders them; None while nothing is measured."""

    name: str
    fields: tuple[str, ...]
    by: str | None
    rows: tuple[Row, ...]

    @property
    def best(self) -> Row | None:
        """The best run, as far as is known."""
        return self.rows[0] if self.by and math.isfinite(self.rows[0].measure(self.by)) else None

    def sentence(self) -> str:
        """Which is best, in words."""
        left = sum(row.state not in ("done", "stopped", "error") for row in self.rows)
        rest = f" {left} of {len(self.rows)} runs are not done." if left else ""
        if self.best is None or self.by is None:
            return f"Nothing is measured yet.{rest}"
        values = ", ".join(f"{name} {word(value)}" for name, value in self.best.values.items())
        number = f"{TITLES[self.by]} {getattr(self.best, self.by):.4g}"
        file = f" Use {PurePath(self.best.file).name}: {self.best.why}." if self.best.file else ""
        return f"Best: run {self.best.place} ({values}), {number}.{file}{rest}"

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        best = self.best
        rows = [asdict(row) for row in self.rows]
        return {"name": self.name, "fields": list(self.fields), "by": self.by, "rows": rows,
                "best": best and {"place": best.place, "run": best.run, "file": best.file},
                "sentence": self.sentence()}  # fmt: skip

    def text(self) -> str:
        """All of it for a person: columns of plain text."""
        head = ["run", *(name.split(".", 1)[-1] for name in self.fields), "state", "loss", "held-out", "score",
                "time", "memory", "best file"]  # fmt: skip
        lines = [head, *(self._cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([*(row.rstrip() for row in rows), self.sentence()])

    def _cells(self, row: Row) -> list[str]:
        numbers = ["" if value is None else f"{value:.4g}" for value in (row.loss, row.held_out, row.score)]
        time = "" if row.seconds is None else f"{row.seconds / 60:.1f} min"
        memory = "" if row.memory is None else f"{row.memory / 1e9:.1f} GB"
        values = [word(row.values.get(name, "")) for name in self.fields]
        file = PurePath(row.file).name if row.file else row.said[:60]
        return [str(row.place), *values, row.state, *numbers, time, memory, file]


def table_of(folder: SweepFolder, by: str | None = None) -> Table:
    """The table of a sweep as it stands now."""
    sweep = folder.read()
    rows = [_row(folder, sweep, place) for place in range(len(sweep.trials))]
    order = way(by or sweep.by, rows)
    if order:
        rows.sort(key=lambda row: (row.measure(order), row.place))
    fields = tuple(line.partition("=")[0].strip() for line in sweep.vary)
    return Table(folder.path.name, fields, order, tuple(rows))


def way(by: str, rows: Sequence[Row]) -> str | None:
    """What to order by: what was asked for, else the most telling that all finished runs have."""
    if by in WAYS:
        return by
    if by != "auto":
        raise InputError(f"by: {by!r} is none; there are {', '.join(WAYS)} and auto")
    told = [row for row in rows if row.state in ("done", "stopped") and row.loss is not None]
    return next((name for name in WAYS if told and all(getattr(row, name) is not None for row in told)), None)


def _row(folder: SweepFolder, sweep: Sweep, place: int) -> Row:
    trial, run = sweep.trials[place], folder.run_of(sweep.trials[place])
    if run is None:
        return Row(place + 1, trial.values, trial.run, "removed" if trial.run else "planned")
    events = run.events()
    steps = [event for event in events if event["kind"] == "step"]
    start = next((event for event in events if event["kind"] == "start"), {})
    error = next((event for event in reversed(events) if event["kind"] == "error"), {})
    file, why, score = best_file(run, events)
    state = run.state()
    return Row(
        place + 1, trial.values, trial.run, state, steps[-1]["step"] if steps else 0, start.get("steps"),
        steps[-1].get("average") if steps else None, _lowest(events), score, _seconds(events),
        max((event["memory"] for event in steps if event.get("memory")), default=None),
        file, why, str(error.get("text", "")) if state == "error" else "",
    )  # fmt: skip


def best_file(run: RunFolder, events: Sequence[Event]) -> tuple[str | None, str, float | None]:
    """The file to use, why, and the best score of a comparison; a file by its whole path."""
    judged = _judged(run)
    if judged:
        return judged
    saved = {int(event["step"]): str(run.path / event["file"]) for event in events if event["kind"] == "checkpoint"}
    saved = {step: file for step, file in saved.items() if (run.path / file).is_file()}
    scores = {int(event["step"]): event["row"] for event in events if event["kind"] == "score"}
    if scores:
        best = max(scores.values(), key=lambda row: row["total"])
        return best["file"], "it scored best while it was trained", float(best["total"])
    losses = {int(e["step"]): e["loss"] for e in events if e["kind"] == "validation" and e["loss"] is not None}
    kept = [step for step in saved if step in losses]
    if kept:
        return (
            saved[min(kept, key=losses.__getitem__)],
            "its held-out loss is the lowest of the saved",
            None,
        )
    return (saved[max(saved)], "it is the last one", None) if saved else (None, "", None)


def _judged(run: RunFolder) -> tuple[str | None, str, float | None] | None:
    """What the comparison of all its files says, when there was one."""
    try:
        told = read_json(run.path / VERDICT)
        best = told["verdict"]["best"]
        total = max(row["total"] for row in told["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if best is None:
        return None
    return best["file"], f"the comparison says so, at strength {best['strength']:g}", float(total)


def _lowest(events: Sequence[Event]) -> float | None:
    losses = [event["loss"] for event in events if event["kind"] == "validation" and event["loss"] is not None]
    return min(losses, default=None)


def _seconds(events: Sequence[Event]) -> float | None:
    """How long it was trained, over all attempts."""
    total, since, last = 0.0, None, 0.0
    for event in events:
        if event["kind"] == "start":
            total, since = total + (last - since if since else 0.0), event["time"]
        last = event["time"]
    return total + last - since if since else None
