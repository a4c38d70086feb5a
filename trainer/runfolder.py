"""The run folder: all that the engine and the page share, as files that either may read at any time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import filelock
import psutil

from trainer import configio
from trainer.config import Config
from trainer.durable import DiskError, append_line, make_folder, read_json, sweep, write_json
from trainer.errors import InputError

Event = dict[str, Any]
State = Literal["queued", "running", "stopped", "done", "error", "interrupted"]
Command = Literal["stop", "pause", "save", "sample"]
COMMANDS: tuple[Command, ...] = ("stop", "pause", "save", "sample")
ENDS = ("stopped", "done", "error")
TAIL = 1 << 16  # bytes; an ending is the last thing a run says, so a look at its last words is enough


class RunError(InputError):
    """A run folder that cannot be used."""


def make_dated(root: Path, name: str) -> Path:
    """Makes `2026-11-21_1412_<name>`; a second one within the minute gets `-2`. RunError where none can be made."""
    name, count = f"{time.strftime('%Y-%m-%d_%H%M')}_{name}", 1
    while True:
        path = root / (name if count == 1 else f"{name}-{count}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            count += 1
        except OSError as error:
            raise RunError(
                f"{root}: no run folder can be made there ({error.strerror}); choose another with --runs"
            ) from error


class RunFolder:
    """The folder of a training or of another job. Making the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.log = self.path / "stdout.log"
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.states = self.path / "state"
        self.tb = self.path / "tb"
        self._control = self.path / "control"
        self._events = self.path / "events.jsonl"
        self._full = False

    @classmethod
    def create(cls, root: Path, config: Config) -> RunFolder:
        """Makes the folder of a training, with its config in it."""
        return cls.make(root, config.output.name, config.model_dump(mode="json"))

    @classmethod
    def make(cls, root: Path, name: str, tree: Mapping[str, Any]) -> RunFolder:
        """Makes `2026-11-21_1412_<name>` with config.json in it; a second one within the minute gets `-2`."""
        folder = cls(make_dated(root, name))
        write_json(folder.path / "config.json", tree)
        folder._make_folders()
        return folder

    @property
    def job(self) -> str | None:
        """The tool that works here (trainer.jobs); None for a training."""
        try:
            told = read_json(self.path / "config.json")
        except (OSError, ValueError):
            return None
        return told.get("job") if isinstance(told, dict) else None

    def config(self, flags: Sequence[str] = ()) -> Config:
        """The config that this run was made with; `flags` say where a file is now that has moved."""
        self._check()
        return configio.load(str(self.path / "config.json"), [*self.fitting(), *flags])

    @property
    def fitted(self) -> Path:
        """What "fit to my card" turned on, as flags; config.json stays as it was written."""
        return self.path / "fit.json"

    def fitting(self) -> list[str]:
        """The flags in `fitted`."""
        return json.loads(self.fitted.read_text("utf-8")) if self.fitted.exists() else []

    # Events

    def event(self, kind: str, /, **facts: Any) -> None:
        """Appends one line to events.jsonl. A full disk is said once on stderr; the training goes on."""
        event = {"kind": kind, "time": time.time(), **facts}
        try:
            line = json.dumps(event, ensure_ascii=False, allow_nan=False)
        except ValueError:
            line = json.dumps(_finite(event), ensure_ascii=False)
        try:
            append_line(self._events, line.encode("utf-8", "replace") + b"\n")
        except DiskError as error:
            if not self._full:
                self._full = True
                with contextlib.suppress(OSError):  # stderr may lead to the same disk
                    print(f"{error}; training goes on", file=sys.stderr)

    def events(self) -> list[Event]:
        """All events in order; a line that a crash tore is left out."""
        return self.tail(0)[0]

    def tail(self, start: int) -> tuple[list[Event], int]:
        """The events after a byte offset, and the offset to go on from."""
        try:
            with open(self._events, "rb") as file:
                file.seek(start)
                data = file.read()
        except FileNotFoundError:
            return [], start
        whole = data[: data.rfind(b"\n") + 1]
        return [event for line in whole.splitlines() if (event := _parsed(line))], start + len(whole)

    # Commands

    def send(self, command: Command) -> None:
        """Asks the engine for something; it looks once a step."""
        self._control.mkdir(parents=True, exist_ok=True)
        (self._control / command).touch()

    def asked_to_end(self) -> bool:
        """Whether stop or pause waits to be taken."""
        return any((self._control / command).exists() for command in ("stop", "pause"))

    def take_command(self) -> Command | None:
        """The most urgent wish, which is then gone; after stop or pause nothing else is wished for."""
        try:
            waiting = set(os.listdir(self._control))
        except FileNotFoundError:
            return None
        for command in COMMANDS:
            if command in waiting:
                for done in waiting & {*COMMANDS} if command in ("stop", "pause") else {command}:
                    (self._control / done).unlink(missing_ok=True)
                return command
        return None

    # Who works here

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Keeps a second engine out while inside, clears what a killed one left, and says who works here.

        Raises RunError when another engine has it.
        """
        self._check()
        lock = filelock.FileLock(self.path / "lock", blocking=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise RunError(f"{self.path}: an engine works here already; stop it first, or start a new run") from None
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror}); check its permissions") from error
        begun = 0
        try:
            self._make_folders()
            for folder in (self.path, self.checkpoints, self.states, self.samples):
                sweep(folder)
            begun = self.size()
            self.write_pid(events=begun)
            self._forget_old_commands()
            yield
        finally:
            with contextlib.suppress(DiskError):
                self.write_pid(events=begun, ended=time.time())
            lock.release()

    def write_pid(self, **more: float) -> None:
        """Writes who works here, told apart from a later process that gets the same number.

        `events`: bytes of events.jsonl that earlier attempts wrote; `ended`: unix time.
        """
        write_json(self.path / "pid.json", {**identity(psutil.Process()), **more})

    def alive(self) -> bool:
        """Whether the engine named in pid.json still runs, on this machine."""
        try:
            written = read_json(self.path / "pid.json")
            now = identity(psutil.Process(written["pid"]))
            return "ended" not in written and _same(written, now)
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return False

    def state(self) -> State:
        """What became of the run, read from its files."""
        if not (self.path / "pid.json").exists():
            return "queued"
        if self.alive():
            return "running"
        for event in reversed(self.tail(max(self._begun(), self.size() - TAIL))[0]):
            if event["kind"] in ENDS:
                return event["kind"]
            if event["kind"] == "start":
                break
        return "interrupted"

    def size(self) -> int:
        """Bytes of events.jsonl."""
        return self._events.stat().st_size if self._events.exists() else 0

    def _begun(self) -> int:
        """Where the events of the last attempt begin: what an earlier one said last is not how this one ended."""
        try:
            return int(read_json(self.path / "pid.json").get("events", 0))
        except (OSError, ValueError, TypeError, AttributeError):
            return 0

    def _check(self) -> None:
        if not (self.path / "config.json").is_file():
            raise RunError(f"{self.path}: not a run folder, it has no config.json; choose a folder inside runs/")

    def _forget_old_commands(self) -> None:
        """Wishes older than this process were meant for the one before; those since its start are kept."""
        started = psutil.Process().create_time() - 2  # seconds; Linux rounds the time of boot to one
        for file in (self._control / command for command in COMMANDS):
            if file.exists() and file.stat().st_mtime < started:
                file.unlink(missing_ok=True)

    def _make_folders(self) -> None:
        of_training = () if self.job else (self.checkpoints, self.samples, self.states, self.tb)
        for folder in (*of_training, self._control):
            make_folder(folder)


def identity(process: psutil.Process) -> dict[str, Any]:
    """What tells a process from all others. Its start counts from boot: the wall clock may be set meanwhile."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "pid": process.pid,
        "started": round(process.create_time() - psutil.boot_time(), 2),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "host": socket.gethostname(),
        "command": process.cmdline(),
    }


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    names = ("pid", "boot", "host", "command")
    return all(one[name] == other[name] for name in names) and abs(one["started"] - other["started"]) < 2


def _parsed(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None


def _finite(value: Any) -> Any:
    """The value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
