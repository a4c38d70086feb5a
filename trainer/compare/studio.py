"""A resident painter: holds a base model, draws what is asked for by files, and makes way for what needs the GPU.

A request is `requests/<name>.json`, `{"tool": "sample" or "grid", "options": {...}}`, renamed into place; the oldest
comes first, and taking the file away again calls it off. Its answer is `answers/<name>.json`: `{"report": ...}`, or
`{"error": ...}` when the options do not fit. While a training runs, or another job that wants the GPU, the model is let
go of, and what was begun goes on later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from trainer import places
from trainer.compare import generate
from trainer.compare.command import TOOLS, run_tool
from trainer.compare.generate import Event, quiet, say
from trainer.compare.options import Generate, Look, Studio
from trainer.compare.painter import Painter
from trainer.durable import make_folder, read_json, write_json
from trainer.errors import InputError
from trainer.jobs import JOBS
from trainer.runfolder import RunFolder
from trainer.terminal import Stop, Tell, never, silent
from trainer.tools.report import Report
from trainer.tree import validate

LOOK = 0.2  # seconds between two looks for a request
LOOK_AT_RUNS = 2.0  # seconds between two looks for what comes first, which reads a file for each run


def comes_first(folder: Path) -> str | None:
    """The name of a run in a folder that has the GPU before us: a training, or a tool that wants one."""
    try:
        runs = [RunFolder(path) for path in folder.iterdir() if (path / "pid.json").exists()]
    except OSError:
        return None
    return next((run.path.name for run in runs if _wants_gpu(run.job) and run.alive()), None)


def _wants_gpu(name: str | None) -> bool:
    """Whether a run's job does; a training, which has no name, always may."""
    return name is None or (name in JOBS and JOBS[name].gpu)


def run(
    options: Studio,
    tell: Tell = silent,
    should_stop: Stop = never,
    event: Event = quiet,
    busy: Callable[[], str | None] | None = None,
) -> Report:
    """Answers requests until it is asked to stop, or nothing was asked for long enough.

    event: told `picture` and `cell` with the name of their request, `answer` for each, and `waiting` for a run
    that comes first. busy: names it; as it is, `comes_first` does.
    """
    runs = Path(options.runs).expanduser() if options.runs else places.runs()
    desk = Desk(Path(options.folder).expanduser(), tell, should_stop, event, busy or partial(comes_first, runs))
    last = time.monotonic()
    while not should_stop() and time.monotonic() - last < options.idle_minutes * 60:
        if desk.makes_way():
            last = time.monotonic()
        elif (request := desk.oldest()) is not None:
            desk.answer(request)
            last = time.monotonic()
            continue
        time.sleep(LOOK)
    desk.free()
    return Report(f"{desk.answered} requests answered.", found={"answered": desk.answered}, stopped=should_stop())


@dataclass
class Desk:
    """Requests and answers, and the painter that is kept between them."""

    folder: Path
    tell: Tell
    should_stop: Stop
    event: Event
    busy: Callable[[], str | None]
    answered: int = 0
    painter: Painter | None = None
    _waits: str | None = None
    _looked: float = field(default=float("-inf"))

    def __post_init__(self) -> None:
        for name in ("requests", "answers"):
            make_folder(self.folder / name)

    def oldest(self) -> Path | None:
        """The request that has waited longest."""
        waiting = []
        for file in (self.folder / "requests").glob("*.json"):
            try:
                waiting.append((file.stat().st_mtime_ns, file.name, file))
            except FileNotFoundError:
                continue  # called off this moment
        return min(waiting)[2] if waiting else None

    def makes_way(self) -> bool:
        """Whether something comes first; the model is then let go of. Looked at now and then."""
        before = self._waits
        if waits := self._look():
            self.free()
            if not before:
                self.event("waiting", run=waits)
        return waits is not None

    def _look(self) -> str | None:
        """What comes first, as it was seen last."""
        if time.monotonic() - self._looked >= LOOK_AT_RUNS:
            self._looked, self._waits = time.monotonic(), self.busy()
        return self._waits

    def free(self) -> None:
        """Gives the memory back."""
        if self.painter:
            self.painter.free()
            self.painter = None

    def answer(self, file: Path) -> None:
        """Does what a request says; one that makes way stays, with what is left of it to do."""
        try:
            told = self._read(file)
            if told is None:
                return
            options = validate(TOOLS[told["tool"]][0], told.get("options"))
            report = self._draw(options, file)
            if report.stopped and self._waits and file.exists():
                self._keep(file, told, options, report)
                return
            self._say(file, report=report.to_json())
        except InputError as error:
            self._say(file, error=str(error))
        except Exception as error:  # it ends this painter; if the request stayed, it would end the next one too
            self._say(file, error=f"{type(error).__name__}: {error}")
            raise

    def _read(self, file: Path) -> dict[str, Any] | None:
        """What a request says; None when it was called off this moment."""
        try:
            told = read_json(file)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError(f"{file.name} is no JSON ({error})") from error
        if not isinstance(told, dict) or told.get("tool") not in TOOLS:
            raise InputError(f"tool: {file.name} names none; there are {', '.join(TOOLS)}")
        return told

    def _say(self, file: Path, **answer: Any) -> None:
        """Answers a request, which is done with."""
        write_json(self.folder / "answers" / file.name, answer)
        file.unlink(missing_ok=True)
        self.answered += 1
        self.event("answer", request=file.stem, error=answer.get("error"))

    def _draw(self, options: Look, file: Path) -> Report:
        wanted = options.device, options.precision
        if self.painter is None or self.painter.wanted != wanted:
            self.free()
            self.painter = Painter(options, say)

        def gone() -> bool:
            return self.should_stop() or not file.exists() or self._look() is not None

        def event(kind: str, /, **facts: Any) -> None:
            self.event(kind, request=file.stem, **facts)

        return run_tool(options, self.tell, gone, event=event, painter=self.painter)

    def _keep(self, file: Path, told: dict[str, Any], options: Look, report: Report) -> None:
        """Leaves a request for later: a grid keeps its cells by itself; pictures that are done are taken off."""
        self.event("waiting", run=self._waits, request=file.stem)
        if isinstance(options, Generate):
            done = len(report.files)
            left = {"seed": (options.seed + done) % generate.SEEDS, "count": options.count - done // options.batch}
            write_json(file, {**told, "options": {**told["options"], **left}})
