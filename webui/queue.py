"""The queue: which runs wait, in what order, from when and for which GPU. One file, which two servers may share."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import filelock
from pydantic import TypeAdapter, ValidationError

from trainer.durable import failed, make_folder, write_json

REMEMBERED = 100  # presses of Start that are recognised when they come twice


@dataclass
class Waiting:
    """What queue.json holds.

    order: ids of the runs that wait; at: unix time before which one must not start; gpus: the GPU that one must have;
    pressed: for each press of Start the run that it made and when; problem: why the queue was paused by itself;
    then: trainings whose best file is to be found when they have ended.
    """

    order: list[str] = field(default_factory=list)
    paused: bool = False
    at: dict[str, float] = field(default_factory=dict)
    gpus: dict[str, int] = field(default_factory=dict)
    pressed: dict[str, tuple[str, float]] = field(default_factory=dict)
    problem: str | None = None
    then: list[str] = field(default_factory=list)

    def add(self, run: str, gpu: int | None = None, at: float | None = None) -> None:
        """Puts a run at the end, unless it waits already."""
        if run not in self.order:
            self.order.append(run)
        if gpu is not None:
            self.gpus[run] = gpu
        if at is not None:
            self.at[run] = at

    def drop(self, run: str) -> None:
        """Takes a run out, with what was wished for it."""
        if run in self.order:
            self.order.remove(run)
        self.at.pop(run, None)
        self.gpus.pop(run, None)

    def forget(self, run: str) -> None:
        """Takes a run out for good: another may get its name."""
        self.drop(run)
        self.then = [other for other in self.then if other != run]
        self.pressed = {press: made for press, made in self.pressed.items() if made[0] != run}

    def remember(self, press: str, run: str) -> None:
        """Keeps which run a press of Start made; the oldest are forgotten."""
        self.pressed[press] = (run, time.time())
        for old in sorted(self.pressed, key=lambda key: self.pressed[key][1])[:-REMEMBERED]:
            del self.pressed[old]


FORM = TypeAdapter(Waiting)


class Queue:
    """queue.json in the folder of runs. Every change is made alone, among threads and among processes."""

    def __init__(self, runs: Path) -> None:
        self._file = runs / "queue.json"
        self._lock = filelock.FileLock(runs / "queue.lock", thread_local=False)
        self._threads = threading.RLock()

    def read(self) -> Waiting:
        """What waits now."""
        try:
            return self._load()
        except ValidationError:
            with self.change() as waiting:
                return waiting

    @contextlib.contextmanager
    def change(self) -> Iterator[Waiting]:
        """Gives what waits, and writes it when the body has changed it and did not fail."""
        make_folder(self._file.parent)
        with self._threads:
            try:
                self._lock.acquire()
            except OSError as error:
                raise failed(self._file, error) from error
            try:
                waiting, before = self._mended()
                yield waiting
                if asdict(waiting) != before:
                    write_json(self._file, asdict(waiting))
            finally:
                self._lock.release()

    def _load(self) -> Waiting:
        try:
            return FORM.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return Waiting()

    def _mended(self) -> tuple[Waiting, dict[str, Any]]:
        """What waits, and as it stands in the file; a broken file is kept beside, and nothing starts by itself."""
        try:
            waiting = self._load()
            return waiting, asdict(waiting)
        except ValidationError:
            aside = self._file.with_name(f"queue.broken-{time.time_ns()}.json")
            os.replace(self._file, aside)
            told = f"{self._file} was broken and is kept as {aside.name}; put the runs in again, then go on"
            return Waiting(paused=True, problem=told), {}
