"""What a terminal sees, kept in stdout.log as well; and Ctrl-C as a wish to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TextIO


def quiet() -> None:
    """Keeps libraries from telling a person what a person need not know; to be called before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


class Tee:
    """A stream that writes to two."""

    def __init__(self, first: TextIO, second: TextIO) -> None:
        self.first, self.second = first, second

    def write(self, text: str) -> int:
        """Writes to both; a full disk under the log must not end a training."""
        with contextlib.suppress(OSError):
            self.second.write(text)
        return self.first.write(text)

    def flush(self) -> None:
        """Flushes both."""
        with contextlib.suppress(OSError):
            self.second.flush()
        self.first.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self.first, name)


@contextlib.contextmanager
def copied_to(log: Path) -> Iterator[None]:
    """Copies output to the log while inside, unless it goes there already (the page starts the engine so)."""
    with contextlib.suppress(OSError):
        if log.exists() and os.path.samestat(os.fstat(1), log.stat()):
            yield
            return
    with open(log, "a", encoding="utf-8", errors="replace") as file:
        out, err = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Tee(out, file), Tee(err, file)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err


class Wish:
    """Whether Ctrl-C or SIGTERM came. The first asks to stop; after it the second ends the process as usual."""

    def __init__(self) -> None:
        self.stop = False

    @contextlib.contextmanager
    def heard(self) -> Iterator[Wish]:
        """Listens while inside."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.stop = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        print("\nStopping after this step; once more ends at once.", file=sys.stderr)
