"""Trains in pairs of processes: `python -m tests.pair`, with [[how, run folder], ...] as JSON on stdin.

how: `own`, where the first starts the second; `launcher`, where both were started; `stopped`, the same, and someone
asks them to stop; `fails`, and the second runs out of memory at its second step; `killed`, and there it is killed, of
two where the first starts the second. Prints the exit codes of each pair.
The heavy imports are done once, before the first process is forked. An alarm ends each, whatever it waits for.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import trainer.train
from tests.waiting import PATIENCE
from trainer import several
from trainer.runfolder import RunFolder


class Fork:
    """A process that was forked, with what `several` uses of Popen."""

    def __init__(self, work: Callable[[], int]) -> None:
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                signal.alarm(PATIENCE)
                os.close(write)
                os.dup2(read, 0)
                code = work()
            finally:
                os._exit(code)
        os.close(read)
        self.stdin = os.fdopen(write, "wb")
        self.code: int | None = None

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.code is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.code = os.waitstatus_to_exitcode(found[1])
        return self.code

    def kill(self) -> None:
        """Ends it at once."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended; its alarm limits the wait."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code


def member(path: Path, rank: int, port: int, how: str) -> int:
    """What one of two processes does."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    if how == "killed":
        os.environ[several.LED] = "1"
    if how in ("fails", "killed") and rank == 1:
        real, calls = trainer.train.micro_loss, iter(range(100))

        def full(*words: Any) -> Any:
            if next(calls) == 3:  # the rehearsal, and two batches of the first step, went well
                if how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return real(*words)

        trainer.train.micro_loss = full
    return trainer.train.run(RunFolder(path))


def leader(path: Path, dies: bool) -> int:
    """The first of two, which starts the second: as it does for everyone, or, if that is to be killed, as a fork."""
    real, others = several._help, list[Any]()

    def begin(folder: RunFolder, flags: Sequence[str], rank: int, size: int, port: int) -> Any:
        fork = dies and Fork(lambda: member(folder.path, rank, port, "killed"))
        others.append(fork or real(folder, flags, rank, size, port))
        return others[-1]

    several._help = begin
    return trainer.train.run(RunFolder(path)) or max(abs(other.poll()) for other in others)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def pair(how: str, path: Path) -> list[int]:
    """The exit codes of a pair."""
    if how in ("own", "killed"):
        return [Fork(lambda: leader(path, how == "killed")).wait()]
    port = free_port()
    if how == "stopped":
        RunFolder(path).send("stop")
    both = [Fork(lambda rank=rank: member(path, rank, port, how)) for rank in (0, 1)]
    return [one.wait() for one in both]


if __name__ == "__main__":
    signal.alarm(2 * PATIENCE)
    gc.freeze()  # else each fork would look through all that was imported
    found = [pair(how, Path(path)) for how, path in json.load(sys.stdin)]
    print(json.dumps(found))
