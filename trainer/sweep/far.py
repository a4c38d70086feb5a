"""The runs of a sweep on the machines of a Ray cluster, as many at once as there are GPUs.

It needs folders that all machines see under one path: the runs, the pictures, the base model. Not tried on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer.errors import InputError
from trainer.runfolder import RunFolder
from trainer.sweep.folder import SweepFolder
from trainer.sweep.running import train
from trainer.terminal import Wish


def check_ray() -> None:
    """InputError when Ray is not installed."""
    if find_spec("ray") is None:
        raise InputError("ray: it is not installed: `pip install ray`, or leave --ray out")


def train_far(folder: SweepFolder, address: str, say: Callable[[str], None] = print) -> bool:
    """Trains every run on a cluster; whether all came to an end without a failure.

    address: `auto` inside `ray job submit`, else that of the head, such as ray://head:10001.
    """
    check_ray()
    ray: Any = import_module("ray")
    ray.init(address=address)
    sweep, waiting = folder.read(), dict[Any, int]()
    for place in range(len(sweep.trials)):
        run = folder.begin(sweep, place)
        options = run.config().train
        gpus = 0 if options.device == "cpu" else options.processes
        waiting[ray.remote(num_gpus=gpus, max_retries=0)(train_there).remote(str(run.path))] = place
    good = True
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        place, code = waiting.pop(done[0]), ray.get(done[0])
        good = good and code == 0
        say(f"run {place + 1} of {len(sweep.trials)}: {'done' if code == 0 else f'failed (exit code {code})'}")
    return good


def train_there(path: str) -> int:
    """Trains a run in a process that Ray has given its GPUs to."""
    return train(RunFolder(Path(path)), Wish())
