"""What a terminal sees, kept in stdout.log as well; how far work is, and Ctrl-C as a wish to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

Tell = Callable[[int, int], None]
"""Told how far work is: how much is done, and how much there is in all."""
Stop = Callable[[], bool]
"""Asked whether work should stop."""


class Stopped(Exception):
    """Ends work in the middle, since someone asked to stop; who began it knows what is kept."""


def silent(done: int, total: int) -> None:
    """Tells nobody."""


def never() -> bool:
    """Nobody asks to stop."""
    return False


def quiet() -> None:
    """Keeps libraries from telling a person what a person need not know; to be called before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


class Tee:
    """A stream that writes to several. One that fails, a closed terminal or a full disk, must not end a training."""

    def __init__(self, *streams: TextIO) -> None:
        self.streams = streams

    def write(self, text: str) -> int:
        """Writes to all."""
        for stream in self.streams:
            with contextlib.suppress(OSError):
                stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes all."""
        for stream in self.streams:
            with contextlib.suppress(OSError):
                stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self.streams[0], name)


@contextlib.contextmanager
def copied_to(log: Path) -> Iterator[None]:
    """Copies output to the log while inside, unless it goes there already (the page starts the engine so)."""
    out, err = sys.stdout, sys.stderr
    with contextlib.ExitStack() as files:
        copies = [] if _goes_to(log) else [files.enter_context(open(log, "a", encoding="utf-8", errors="replace"))]
        sys.stdout, sys.stderr = Tee(out, *copies), Tee(err, *copies)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err


def _goes_to(log: Path) -> bool:
    """Whether our output is that very file."""
    try:
        return os.path.samestat(os.fstat(1), log.stat())
    except OSError:
        return False


@contextlib.contextmanager
def bar(unit: str, what: str = "") -> Iterator[Tell]:
    """Gives a `tell` that draws a bar on a terminal, `what` before it; when less is done than before, a new one.

    unit: of what is done, such as "pictures"; "B" is bytes, shown as kB, MB or GB. For commands alone: a job writes
    down what it is told.
    """
    drawn: tqdm[Any] | None = None

    def tell(done: int, total: int) -> None:
        nonlocal drawn
        if drawn is None or done < drawn.n:
            from tqdm import tqdm

            if drawn is not None:
                drawn.close()
            scaled = unit == "B"
            shown = unit if scaled else f" {unit}"
            drawn = tqdm(desc=what or None, total=total, initial=done, unit=shown, unit_scale=scaled, disable=None)
        drawn.total = total
        drawn.update(done - drawn.n)
        if done >= total:
            drawn.close()  # now, so that the bar of what comes next has the line below

    try:
        yield tell
    finally:
        if drawn is not None:
            drawn.close()


class Wish:
    """Whether someone asked to stop: by Ctrl-C, SIGTERM, or by closing the terminal (not under nohup).

    Until `patient` is set a signal ends the work at once, for there is nothing to save. After it the first asks to
    stop, and a second ends the process as usual.
    """

    def __init__(self) -> None:
        self.stop = False
        self.patient = False

    def asked(self) -> bool:
        """Whether someone did. From the first call on there is something to finish, and a signal only asks."""
        self.patient = True
        return self.stop

    @contextlib.contextmanager
    def heard(self) -> Iterator[Wish]:
        """Listens while inside."""
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
        heard = [number for number in numbers if before[number] is not signal.SIG_IGN]
        for number in heard:
            signal.signal(number, self._hear)
        try:
            yield self
        finally:
            for number in heard:
                signal.signal(number, before[number])

    @contextlib.contextmanager
    def ignored(self) -> Iterator[Wish]:
        """Hears none of them while inside; for a process that ends when another does."""
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            yield self
        finally:
            for number, old in before.items():
                signal.signal(number, old)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.patient:
            raise KeyboardInterrupt
        self.stop = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        with contextlib.suppress(OSError):  # not print: the signal may have come in the middle of one
            os.write(2, b"\nStopping after this step; once more ends at once.\n")
