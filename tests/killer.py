"""Trains in children that are killed again and again: `python -m tests.killer KILLS CALM HARRIED CALM HARRIED ...`.

CALM and HARRIED are run folders of the same training. Prints as JSON what happened to each two. The heavy imports are
done once, before the first child is forked, so that a start costs a fraction of a second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from trainer import durable
from trainer.imports import load
from trainer.runfolder import RunFolder

run = load("trainer.train").run
NEVER = "any:1000000000:KILL"


def child(path: Path, fault: str = NEVER) -> int:
    """Starts an engine, which dies by itself before an operation on the disk; at its end it says how many it did."""
    pid = os.fork()
    if pid:
        return pid
    durable._calls.clear()
    os.environ["LIKENESS_FAULT"] = fault
    code = 1
    try:
        code = run(RunFolder(path))
        (path / "operations").write_text(str(durable._calls["any"]))
    finally:
        os._exit(code)


def train(path: Path) -> float:
    """A whole training; how long its steps took."""
    _, status = os.waitpid(child(path), 0)
    if status:
        sys.exit(f"exit code {os.waitstatus_to_exitcode(status)}")
    times = [event["time"] for event in RunFolder(path).events() if event["kind"] in ("start", "step")]
    return times[-1] - times[0]


def kill_later(pid: int, folder: RunFolder, delay: float) -> None:
    """Waits for the first step, and a little longer."""
    seen = len(folder.events())
    while all(event["kind"] != "step" for event in folder.events()[seen:]):
        time.sleep(0.01)
        if os.waitpid(pid, os.WNOHANG)[0]:
            sys.exit("it ended before its first step")
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)


def harry(calm: Path, harried: Path, dice: random.Random, kills: int) -> dict[str, int]:
    """Trains in peace, then under so many kills; how many there were of each kind."""
    took = train(calm)
    operations = int((calm / "operations").read_text())
    killed = {"at a random time": 0, "at the disk": 0}
    for turn in range(kills):
        if turn % 2:
            pid = child(harried, f"any:{dice.randint(operations // 16, operations // 7)}:KILL")
        else:
            pid = child(harried)
            kill_later(pid, RunFolder(harried), dice.uniform(0, 0.1) * took)
        if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
            killed["at the disk" if turn % 2 else "at a random time"] += 1
    train(harried)
    return killed


if __name__ == "__main__":
    kills, *folders = sys.argv[1:]
    pairs = zip(map(Path, folders[::2]), map(Path, folders[1::2]), strict=True)
    print(json.dumps([harry(*pair, random.Random(seed), int(kills)) for seed, pair in enumerate(pairs)]))
