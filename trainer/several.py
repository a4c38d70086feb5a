"""Several processes that train as one: each learns from its share of every batch, and all take the same steps.

The first process starts the others by itself (`train.processes`), or `accelerate launch` or torchrun has started them
all, on one machine or on several. Every draw follows from the seed and the picture, so nothing random is passed around:
what one process alone would learn from a batch of all their pictures, they learn together. The first one alone hears
commands, tells, and writes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.config import Config, Sample, Train, Watch
from trainer.devices import choose_device
from trainer.errors import InputError
from trainer.launcher import child_env
from trainer.report import Report
from trainer.runfolder import Command, RunFolder

LED = "LIKENESS_LED"  # set for processes that the first one has started
PATIENT = timedelta(days=30)  # the others wait while the first draws samples, which may take hours
AT_ONCE = 1 << 24  # numbers that are summed in one go: 64 MB
GRACE = 20.0  # seconds in which the others end by themselves
ENDING = 3.0  # seconds after which they are ended when the first one is gone
KINDS: Mapping[str, type[Exception]] = {
    "input": InputError,
    "memory": torch.OutOfMemoryError,
    "engine": RuntimeError,
}


class LostError(RuntimeError):
    """Another process is gone, and could not say why."""


@dataclass
class Group:
    """The processes of a training, as one of them sees it; without others when it is alone.

    rank: which this is, 0 the first; size: how many; local: which it is on its own machine.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    talk: Any = None
    """A torch process group on the CPU, over which they agree without waiting for a GPU."""
    over: bool = False

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and tells."""
        return self.rank == 0

    @property
    def apart(self) -> tuple[int, ...]:
        """What tells this process's draws of network dropouts from those of the first."""
        return () if self.leads else (self.rank,)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What fails in one process while inside fails in all, with the words of the first that failed."""
        try:
            yield
        except Exception as error:
            if not self.over:
                self._settle(error)
            raise
        self._settle(None)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process of each machine goes first; the others find in its cache what it made."""
        if self.local:
            self._settle(None)
        yield
        if not self.local:
            self._settle(None)

    def add_up(self, parameters: Iterable[nn.Parameter], total: Tensor) -> None:
        """Sums the gradients and the loss over all processes, in place; weights that none used keep no gradient."""
        if self.size == 1:
            return
        weights = list(parameters)
        used = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.int32)
        self._sum(used, self.talk)
        for weight, count in zip(weights, used.tolist(), strict=True):
            if count and weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        for some in _some([*(weight.grad for weight in weights if weight.grad is not None), total]):
            flat = torch.cat([one.detach().flatten().float() for one in some])
            self._sum(flat)
            for one, part in zip(some, flat.split([one.numel() for one in some]), strict=True):
                one.copy_(part.view_as(one))

    def agree(self, wish: bool) -> bool:
        """What the first process wishes."""
        if self.size == 1:
            return wish
        asked = torch.tensor([wish and self.leads], dtype=torch.int32)
        self._sum(asked, self.talk)
        return bool(asked.item())

    def config_of(self, config: Config) -> Config:
        """The config as this process has to see it: samples, comparisons and other folders are the first one's."""
        if self.leads:
            return config
        output = config.output.model_copy(update={"folder": None, "logging": None})
        return config.model_copy(update={"sample": Sample(), "compare": Watch(), "output": output})

    def _sum(self, numbers: Tensor, group: Any = None) -> None:
        """Sums over all processes, in place; LostError when one of them is gone."""
        try:
            dist.all_reduce(numbers, group=group)
        except RuntimeError as error:
            self.over = True
            raise LostError(
                f"one of the {self.size} processes of this training has ended or cannot be reached; if it could say"
                " why, its words are above"
            ) from error

    def _settle(self, error: Exception | None) -> None:
        """Waits for all; raises what went wrong in any of them."""
        if self.size == 1:
            return
        failed = torch.tensor([error is not None], dtype=torch.int32)
        self._sum(failed, self.talk)
        if not failed.item():
            return
        self.over = True
        said: list[tuple[str, str] | None] = [None] * self.size
        dist.all_gather_object(said, error and _words(error), group=self.talk)
        rank, (kind, text) = next((rank, words) for rank, words in enumerate(said) if words)
        if error is None or rank != self.rank:
            raise KINDS[kind](text if rank == 0 else f"process {rank + 1} of {self.size}: {text}") from error


def _words(error: Exception) -> tuple[str, str]:
    """An error as it is passed on: its kind, and what it says."""
    if isinstance(error, InputError):
        return "input", str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "memory", str(error)
    return "engine", f"{type(error).__name__}: {error}"


def _some(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors a few at a time, so that their sum takes little memory of its own."""
    some: list[Tensor] = []
    for one in tensors:
        if some and sum(other.numel() for other in some) + one.numel() > AT_ONCE:
            yield some
            some = []
        some.append(one)
    if some:
        yield some


# Who takes part


def started() -> int:
    """How many processes a launcher, or the first process, has started for this training; 1 where nobody has."""
    there = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ["WORLD_SIZE"]) if there else 1


def follows() -> bool:
    """Whether this is not the first of several processes."""
    return started() > 1 and os.environ["RANK"] != "0"


@contextmanager
def company(folder: RunFolder, flags: Sequence[str] = ()) -> Iterator[Group]:
    """The processes that train together in a run folder; starts those that are missing, and lets them go at the end.

    InputError when another number was started than the config says, or there are fewer GPUs.
    """
    train, there = folder.config(flags).train, started()
    if there > 1 and there != train.processes:
        raise InputError(
            f"train.processes: {train.processes}, and {there} were started: start as many, or change it in a new run"
        )
    if train.processes == 1:
        yield Group()
        return
    device = choose_device(train)
    helpers: list[subprocess.Popen[bytes]] = []
    try:
        if there == 1:
            store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            helpers += [_help(folder, flags, rank, train.processes, store.port) for rank in range(1, train.processes)]
            _await(store, helpers)
            yield _join(device, 0, train.processes, 0, store)
        elif os.environ.get(LED):
            store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
            store.add("here", 1)
            rank = int(os.environ["RANK"])
            yield _join(device, rank, train.processes, rank, store)
        else:
            yield _launched(device)
    except BaseException as error:
        ended = _ended(helpers, ENDING) if isinstance(error, LostError) else ""
        for helper in helpers:  # they write nothing, and may wait for us
            helper.kill()
        if ended:
            raise LostError(ended) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        _let_go(helpers)


def _join(device: torch.device, rank: int, size: int, local: int, store: Any) -> Group:
    if device.type == "cuda":
        torch.cuda.set_device(local)
    fast = device.type == "cuda" and dist.is_nccl_available()
    dist.init_process_group("nccl" if fast else "gloo", rank=rank, world_size=size, store=store)
    return Group(rank, size, local, dist.new_group(backend="gloo", timeout=PATIENT))


@cache
def _launched(device: torch.device) -> Group:
    """The processes that a launcher has started; they are joined but once."""
    return _join(device, int(os.environ["RANK"]), started(), int(os.environ.get("LOCAL_RANK", "0")), None)


def _help(folder: RunFolder, flags: Sequence[str], rank: int, size: int, port: int) -> subprocess.Popen[bytes]:
    """Starts one more process. It ends when this one does, whatever that ends by: then its stdin is closed."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    env = {**child_env(), **{name: str(value) for name, value in told.items()}, LED: "1", "TQDM_DISABLE": "1"}
    words = [word for flag in flags for word in ("--set", flag)]
    command = [sys.executable, "-P", "-m", "trainer", "train", "--run", str(folder.path), *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env)


def _await(store: Any, helpers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits until all are there; LostError when one has ended on its way, which takes as long as importing does."""
    while store.add("here", 0) < len(helpers):
        if ended := _ended(helpers):
            raise LostError(ended)
        time.sleep(0.05)


def _ended(helpers: Sequence[subprocess.Popen[bytes]], wait: float = 0.0) -> str:
    """Which of the others has ended, and by what; empty when none has, nor does within so many seconds."""
    until = time.monotonic() + wait
    while True:
        codes = {helper.poll(): rank for rank, helper in enumerate(helpers, 2)}
        if found := [code for code in codes if code is not None]:
            code = min(found)  # one that was killed comes before those that lost it
            how = f"killed by signal {-code}: is main memory full?" if code < 0 else f"exit code {code}: see above"
            return f"process {codes[code]} of {len(helpers) + 1} has ended ({how})"
        if time.monotonic() >= until:
            return ""
        time.sleep(0.05)


def _let_go(helpers: Sequence[subprocess.Popen[bytes]]) -> None:
    for helper in helpers:
        if helper.stdin:
            helper.stdin.close()
    for helper in helpers:
        try:
            helper.wait(GRACE)
        except subprocess.TimeoutExpired:
            helper.kill()
            helper.wait()


# Those that follow


def end_with_the_first() -> None:
    """Ends this process when the first one, which has started it, is gone; a thread waits for that."""
    if os.environ.get(LED):

        def wait() -> None:
            while os.read(0, 1):  # sys.stdin's lock would be held, and Python dies of that at its end
                pass
            time.sleep(ENDING)  # what ends as it should needs no help
            os._exit(1)

        threading.Thread(target=wait, name="first", daemon=True).start()


class Shadow(RunFolder):
    """A run folder as those see it who follow: they read it, write nothing, and hear no command."""

    def event(self, kind: str, /, **facts: Any) -> None:
        """The first process tells it."""

    def take_command(self) -> Command | None:
        """None: the first process takes it."""
        return None


class Silent(Report):
    """Tells nobody."""

    def start(self, *counts: Any, **facts: Any) -> None:
        """No bar, and no files of TensorBoard."""

    def say(self, text: str) -> None:
        """The first process says it."""


def one_folder(make: Callable[[], RunFolder], train: Train) -> RunFolder:
    """A run folder that the first process makes and all get; for processes that a launcher has started together."""
    if started() == 1:
        return make()
    group = _launched(choose_device(train))
    made: list[str] = [""]
    with group.together():
        if group.leads:
            made[0] = str(make().path)
    dist.broadcast_object_list(made, src=0, group=group.talk)
    return RunFolder(Path(made[0]))
