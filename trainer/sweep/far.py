"""The runs of a sweep on the machines of a Ray cluster, as many at once as there are GPUs.

It needs folders that all machines see under one path: the runs, the pictures, the base model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainer.errors import InputError
from trainer.runfolder import RunFolder
from trainer.sweep.folder import SweepFolder, ended
from trainer.sweep.running import LOOK, train
from trainer.terminal import Wish

STOP = "stop"
"""A file in the sweep's folder: what its runs on all machines look for."""


def check_ray() -> None:
    """InputError when Ray is not installed."""
    if find_spec("ray") is None:
        raise InputError("ray: it is not installed: `pip install ray`, or leave --ray out")


def train_far(folder: SweepFolder, address: str, say: Callable[[str], None] = print) -> None:
    """Trains every run on a cluster; at a wish to stop, those that train save and end, and no other is begun.

    address: `auto` inside `ray job submit`, else that of the head, such as ray://head:10001.
    """
    check_ray()
    ray: Any = import_module("ray")
    ray.init(address=address)
    stop = folder.path / STOP
    stop.unlink(missing_ok=True)
    sweep, waiting = folder.read(), dict[Any, RunFolder]()
    for place in range(len(sweep.trials)):
        run = folder.begin(sweep, place)
        options = run.config().train
        gpus = 0 if options.device == "cpu" else options.processes
        waiting[ray.remote(num_gpus=gpus, max_retries=0)(train_there).remote(str(run.path), str(stop))] = run
    with Wish().heard() as wish:  # after `init`, which listens for signals too
        wish.patient = True
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=LOOK)
            if wish.stop:
                stop.touch()
            for one in done:
                run, code = waiting.pop(one), ray.get(one)
                state = f"failed (exit code {code})" if code else "done" if ended(run) else "stopped"
                say(f"{run.path.name}: {state}; {len(waiting)} to go")


def train_there(path: str, stop: str) -> int:
    """Trains a run in a process that Ray has given its GPUs to; none that is begun after a stop."""
    wish = _Shared(Path(stop))
    return 0 if wish.stop else train(RunFolder(Path(path)), wish)


@dataclass(frozen=True)
class _Shared:
    """A wish that all machines can read."""

    file: Path

    @property
    def stop(self) -> bool:
        return self.file.exists()
