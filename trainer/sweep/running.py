"""Trains the runs of a sweep one after the other, each in a process of its own, and goes on where it was left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from trainer.launcher import child_env
from trainer.runfolder import RunFolder
from trainer.sweep.adaptive import Study
from trainer.sweep.folder import Sweep, SweepFolder, ended
from trainer.sweep.table import VERDICT, table_of
from trainer.sweep.vary import config_of, told

# -P: a torch.py or trainer/ that lies among someone's pictures is not imported.
ENGINE = [sys.executable, "-P", "-m", "trainer"]
LOOK = 0.2  # seconds between two looks at a run


class Asked(Protocol):
    """Someone who may wish that a training stops."""

    @property
    def stop(self) -> bool:
        """Whether it is to stop now."""
        ...


Train = Callable[[RunFolder, Asked], int]
"""Trains a run, and gives the exit code."""


def call(words: Sequence[str], run: RunFolder, wish: Asked) -> int:
    """Runs a command of the engine in a process of its own; when someone wishes to stop, it saves and ends."""
    child = subprocess.Popen([*ENGINE, *words], env=child_env())
    asked = False
    while child.poll() is None:
        if wish.stop and not asked:
            asked = True
            run.send("stop")  # a terminal has told it already, a signal to us alone has not
        time.sleep(LOOK)
    return child.returncode


def train(run: RunFolder, wish: Asked) -> int:
    """Trains a run from where it stands, and finds the best of its files where its config asks for that."""
    code = 0 if ended(run) else call(["train", "--run", str(run.path)], run, wish)
    wants = run.config().compare.afterwards and not (run.path / VERDICT).exists()
    if ended(run) and wants and not wish.stop:
        code = call(["compare", str(run.path)], run, wish)
    return code


def train_all(folder: SweepFolder, wish: Asked, begin: Train = train, say: Callable[[str], None] = print) -> bool:
    """Trains what is not trained yet; whether it came to the end. A run that fails is said, and the next is begun."""
    sweep = folder.read()
    study = Study(folder, sweep) if sweep.how == "optuna" else None
    for place in range(sweep.count):
        if study and place == len(sweep.trials):
            sweep.trials.append(study.ask(place))
            config_of(sweep.config, sweep.trials[-1].values, place)
            folder.write(sweep)
        if place >= len(sweep.trials):
            break
        if not _train_one(folder, sweep, place, wish, begin, say):
            return False
        if study:
            row = next(row for row in table_of(folder, study.by).rows if row.place == place + 1)
            study.tell(sweep.trials[place], row.measure(study.by))
    return True


def _train_one(
    folder: SweepFolder, sweep: Sweep, place: int, wish: Asked, begin: Train, say: Callable[[str], None]
) -> bool:
    """Whether the sweep should go on after it."""
    if wish.stop:
        return False
    run = folder.begin(sweep, place)
    say(f"run {place + 1} of {sweep.count}: {told(sweep.trials[place].values)}; {run.path.name}")
    code = begin(run, wish)
    if code == 0 and not ended(run):  # someone asked it to stop
        return False
    if code:
        say(f"run {place + 1} failed (exit code {code}); the next one is begun")
    return True
