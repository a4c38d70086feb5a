"""Which GPUs a training gets that runs as several processes, each on one of its own."""

from __future__ import annotations

from typing import Any

from trainer.config import Config
from trainer.errors import InputError
from webui import machine, process
from webui.runs import Runs


def processes(config: dict[str, Any]) -> int:
    """How many GPUs a run wants, by its config as it lies in its folder; 1 for anything but a training."""
    train = config.get("train")
    count = train.get("processes", 1) if isinstance(train, dict) else 1
    return count if isinstance(count, int) else 1


def choose(first: int | None, free: set[int | None], count: int) -> list[int]:
    """So many of the free GPUs, those with most free memory, with `first` where one was wished for; none while there
    are too few. Who wants more than there are gets all, and is told by the engine."""
    roomy = sorted(machine.gpus(), key=lambda gpu: -(gpu["memory_free"] or 0))
    wished = [] if first is None else [first]
    found = [*wished, *(gpu["index"] for gpu in roomy if gpu["index"] in free and gpu["index"] != first)]
    count = min(count, len(roomy))
    return found[:count] if len(found) >= count and free.issuperset(wished) else []


def several(runs: Runs, run: str) -> list[int]:
    """The GPUs of a running training that has more than one process; none for any other."""
    config = runs.config(run)
    count = processes(config)
    on_cpu = count > 1 and config["train"].get("device") == "cpu"
    return [] if count == 1 or on_cpu else process.gpus_of(runs.folder(run))[:count]


def check(config: Config) -> None:
    """InputError when a training wants more GPUs than this machine has; processes on the CPU need none."""
    here = len(machine.gpus())
    if config.train.device in ("auto", "cuda") and 0 < here < config.train.processes:
        raise InputError(
            f"train.processes: {config.train.processes}, each needs a GPU of its own, and {here} can be used:"
            f" set it to {here}"
        )
