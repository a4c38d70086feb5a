"""A sweep on the disk: `runs/sweeps/<name>/sweep.json` says what is tried, and which run tries it.

The runs lie beside all others, so that the page's queue and list know them. What became of each is read from its own
folder: a sweep that was killed goes on, and trains nothing twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from trainer.durable import read_json, write_json
from trainer.errors import InputError
from trainer.runfolder import RunFolder, make_dated
from trainer.sweep.vary import Values, config_of

SWEEPS = "sweeps"
FILE = "sweep.json"


@dataclass
class Trial:
    """One combination of values; run: the name of its run folder, None before it has one; number: Optuna's."""

    values: Values
    run: str | None = None
    number: int | None = None


@dataclass
class Sweep:
    """What sweep.json holds.

    how: grid, random or optuna; vary: the options as they were written; by: what runs are ordered by (score, held_out,
    loss, or auto, the first of these that there is); count: how many runs there are to be.
    """

    name: str
    how: str
    vary: list[str]
    config: dict[str, Any]
    count: int
    trials: list[Trial] = field(default_factory=list)
    by: str = "auto"
    seed: int = 0
    made: float = 0.0


FORM = TypeAdapter(Sweep)


class SweepFolder:
    """The folder of a sweep. Making the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.runs = self.path.parent.parent

    @classmethod
    def make(cls, runs: Path, sweep: Sweep) -> SweepFolder:
        """Makes the folder with sweep.json in it; a second of that name within the minute gets `-2`."""
        folder = cls(make_dated(runs / SWEEPS, sweep.name))
        sweep.made = time.time()
        folder.write(sweep)
        return folder

    def read(self) -> Sweep:
        """What is tried; InputError when there is no sweep here."""
        try:
            return FORM.validate_python(read_json(self.path / FILE))
        except (OSError, ValueError, ValidationError) as error:
            raise InputError(f"{self.path}: no sweep can be read here ({error}); give a folder in {SWEEPS}/") from error

    def write(self, sweep: Sweep) -> None:
        """Keeps what is tried."""
        write_json(self.path / FILE, FORM.dump_python(sweep, mode="json"))

    def run_of(self, trial: Trial) -> RunFolder | None:
        """The run folder of a trial; None before it has one, and when it was taken away."""
        path = self.runs / str(trial.run)
        return RunFolder(path) if trial.run and (path / "config.json").is_file() else None

    def begin(self, sweep: Sweep, place: int) -> RunFolder:
        """The run folder of the place-th trial, made when it has none."""
        trial = sweep.trials[place]
        if found := self.run_of(trial):
            return found
        made = RunFolder.create(self.runs, config_of(sweep.config, trial.values, place))
        trial.run = made.path.name
        self.write(sweep)
        return made


def sweeps(runs: Path) -> list[SweepFolder]:
    """All sweeps of a folder of runs, the newest first."""
    found = [file.parent for file in (runs / SWEEPS).glob(f"*/{FILE}")]
    return [SweepFolder(path) for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def ended(run: RunFolder) -> bool:
    """Whether a run has come to its end by itself: done, or stopped early since nothing got better."""
    state = run.state()
    reasons = [event.get("reason") for event in run.events() if event["kind"] == "stopped"]
    return state == "done" or (state == "stopped" and reasons[-1:] == ["turned"])
