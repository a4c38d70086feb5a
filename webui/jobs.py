"""Jobs: what may be done with runs. All that is known of them stands in files, so that any server can go on."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer import configio
from trainer.config import Config
from trainer.durable import DiskError, failed, make_folder, replace_folder, write_aside
from trainer.errors import InputError
from trainer.jobs import JOBS
from trainer.runfolder import COMMANDS, RunFolder
from trainer.tree import absolute, overlay
from webui import form, machine, places, process
from webui.afterwards import find_the_best, is_asked
from webui.queue import Queue, Waiting
from webui.runs import Conflict, Facts, Runs, flat, place_of
from webui.settings import Settings
from webui.tasks import config_of, title_of

TICK = 0.5  # seconds between two looks at the queue
AT_ONCE = 2.0  # seconds in which two presses of Start with the same settings are one
ONE_PRESS = 0.4  # seconds in which two presses of Stop are one: a double click must not end the saving
NEVER = 0, -math.inf  # presses of Stop, and when the last was, of a run that nobody has stopped
LONGEST_NOTE = 20_000
Place = int | None  # where a job trains: the number of a GPU; None without one


class Jobs:
    """Starts, stops and queues jobs. A thread of its own moves the queue on while the object is open."""

    def __init__(self, settings: Settings, watch: bool = True) -> None:
        self.settings = settings
        self.runs = Runs(settings.runs)
        self.queue = Queue(self.runs.root)
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._stops: dict[Any, tuple[int, float]] = {}  # presses of Stop by engine, and when the last was
        self._closed = threading.Event()
        if watch:
            threading.Thread(target=self._watch, name="queue", daemon=True).start()

    @property
    def closed(self) -> bool:
        """Whether the server is going."""
        return self._closed.is_set()

    def close(self) -> None:
        """Leaves the queue alone from now on; jobs that run go on."""
        self._closed.set()

    # Start

    def start(self, config: Config, press: str | None = None, gpu: int | None = None, at: float | None = None) -> str:
        """Queues a new run and gives its id; it starts at once when its GPU is free.

        Two presses are one when they have the same `press`, or the same config while the first run waits or runs or is
        2 s old. `gpu`: the one it must have, None for any; `at`: unix time before which it does not start.
        """
        self._check_gpu(gpu)
        same = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
        with self.queue.change() as waiting:
            for key in filter(None, (press, same)):
                made = waiting.pressed.get(key)
                if made and (key == press or self._is_fresh(*made, waiting)):
                    return made[0]
            run = self._add(config, waiting, gpu, at)
            for key in filter(None, (press, same)):
                waiting.remember(key, run)
        self.advance()
        return run

    def do(self, name: str, options: Mapping[str, Any]) -> str:
        """Starts a tool (trainer.jobs) and gives the id of its run; one that wants a GPU waits until one is free.

        Conflict while the same tool works on the same folder, or draws into it.
        """
        config = config_of(name, options, self.settings)
        folder = place_of(config["options"])
        with self.queue.change() as waiting:
            for line in self.tasks():
                if line["job"] == name and line["about"]["folder"] == folder and line["state"] in ("queued", "running"):
                    raise Conflict(f"folder: {line['name']} is at work on {folder or 'it'} already; wait, or stop it")
            run = RunFolder.make(self.runs.root, title_of(config), config).path.name
            waiting.add(run)
        self.advance()
        return run

    def again(self, run: str, changes: Mapping[str, Any], gpu: int | None = None) -> str:
        """Queues a new run with the config of another and `changes` {dotted name: value}; gives its id."""
        self._check_gpu(gpu)
        folder = self.runs.folder(run)
        if folder.job:
            raise Conflict(f"{run}: it is no training; start its tool once more where it was started")
        before = folder.config()
        tree = before.model_dump(mode="json")
        for flag in flags_of(changes):
            tree = overlay(tree, configio.flag_tree(flag))
        tree = absolute(tree, self.settings.data_dir)
        config = form.check(tree, {**form.write(before), **changes})
        with self.queue.change() as waiting:
            made = self._add(config, waiting, gpu, None)
        self.advance()
        return made

    def resume(self, run: str) -> None:
        """Queues a run that ended early, or that never began; it goes on in its own folder."""
        folder = self.runs.folder(run)
        with self.queue.change() as waiting:
            state = folder.state()
            if state in ("done", "running"):
                raise Conflict(f"{run}: it is {state} and cannot be resumed; duplicate it to train once more")
            waiting.add(run)
        self.advance()

    def _add(self, config: Config, waiting: Waiting, gpu: int | None, at: float | None) -> str:
        run = RunFolder.create(self.runs.root, config).path.name
        waiting.add(run, gpu, at)
        return run

    def _is_fresh(self, run: str, when: float, waiting: Waiting) -> bool:
        if run in waiting.order or abs(time.time() - when) < AT_ONCE:
            return True
        with contextlib.suppress(InputError):
            return self.runs.folder(run).alive()
        return False

    # Commands

    def command(self, run: str, word: str) -> str:
        """Does what a button says (stop, pause, save, sample, resume, cancel), and tells in words what was done."""
        if word == "resume":
            self.resume(run)
            return "resumed"
        if word == "cancel":
            return self._cancel(run)
        command = next((known for known in COMMANDS if known == word), None)
        if command is None:
            raise InputError(f"command: {word!r} is none; there are {', '.join(COMMANDS)}, resume, cancel")
        folder = self.runs.folder(run)
        if not folder.alive():
            raise Conflict(f"{run}: it is {folder.state()}, not running, so there is nothing to {word}")
        if command == "stop":
            return self._stop(run, folder)
        folder.send(command)
        return f"asked to {word}"

    def _stop(self, run: str, folder: RunFolder) -> str:
        """The first press saves and ends, the second terminates, the third kills."""
        engine = process.engine_of(folder)
        presses, last = self._stops.get(engine, NEVER)
        if time.monotonic() - last > ONE_PRESS:
            presses += 1
            self._stops[engine] = presses, time.monotonic()
            if presses == 1:
                folder.send("stop")
            elif presses == 2:
                process.terminate(folder)
            else:
                process.kill(folder)
        return ("asked to stop", "terminated", "killed")[min(presses, 3) - 1]

    def _cancel(self, run: str) -> str:
        """Takes a run out of the queue; to the trash if it never began, for then it holds nothing else."""
        folder = self.runs.folder(run)
        with self.queue.change() as waiting:
            if run not in waiting.order:
                raise Conflict(f"{run}: it is {folder.state()}, and does not wait in the queue")
            waiting.drop(run)
            if folder.state() == "queued":
                waiting.forget(run)
                self._to_trash(folder)
        return "cancelled"

    def note(self, run: str, text: str) -> None:
        """Keeps a person's note about a run."""
        if len(text) > LONGEST_NOTE:
            raise InputError(f"note: {len(text)} characters, the limit is {LONGEST_NOTE}; shorten it")
        write_aside(self.runs.folder(run).path / "note.txt", text.encode("utf-8", "replace"))

    def trash(self, run: str) -> Path:
        """Moves a run to the trash, and gives its place there; Conflict while it runs."""
        folder = self.runs.folder(run)
        with self.queue.change() as waiting:
            if folder.alive():
                raise Conflict(f"{run}: it is running; stop it first")
            waiting.forget(run)
            return self._to_trash(folder)

    def _to_trash(self, folder: RunFolder) -> Path:
        trash = self.settings.data_dir / "trash"
        make_folder(trash)
        place = trash / folder.path.name
        count = 1
        while place.exists():
            count += 1
            place = trash / f"{folder.path.name}-{count}"
        try:
            try:
                os.rename(folder.path, place)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                aside = trash / f".tmp-{place.name}"  # another disk: whole there before it is gone here
                shutil.copytree(folder.path, aside, symlinks=True)
                replace_folder(aside, place)
                shutil.rmtree(folder.path)
        except OSError as error:
            raise failed(place, error) from error
        self.runs.forget(folder.path.name)
        return place

    # What the page shows

    def lines(self) -> list[Facts]:
        """Every training in short, the newest first, with its place in the queue."""
        return [line for line in self._all() if not line["job"]]

    def tasks(self) -> list[Facts]:
        """The same for every other job."""
        return [line for line in self._all() if line["job"]]

    def _all(self) -> list[Facts]:
        self._reap()
        waiting = self.queue.read()
        return [self._with_place(line, waiting) for line in self.runs.lines()]

    def line(self, run: str) -> Facts:
        """One run in short."""
        self._reap()
        return self._with_place(self.runs.line(run), self.queue.read())

    def detail(self, run: str) -> Facts:
        """One run in full."""
        self._reap()
        return self._with_place(self.runs.detail(run), self.queue.read())

    def _check_gpu(self, gpu: int | None) -> None:
        there = [found["index"] for found in machine.gpus()]
        if gpu is not None and gpu not in there:
            raise InputError(f"gpu: {gpu} is not here; there are {', '.join(map(str, there)) or 'none'}")

    def _with_place(self, line: Facts, waiting: Waiting) -> Facts:
        """A run that waits to go on is queued, whatever it was before."""
        run, state = line["id"], line["state"]
        queued = run in waiting.order and state != "running"
        engine = process.engine_of(self.runs.folder(run)) if state == "running" else None
        return {
            **line,
            "state": "queued" if queued else state,
            "place": waiting.order.index(run) if queued else None,
            "at": waiting.at.get(run),
            "gpu": self._gpu_of(run) if state == "running" else waiting.gpus.get(run),
            "stops": self._stops.get(engine, NEVER)[0] if engine else 0,
        }

    # The queue

    def waiting(self) -> Facts:
        """The queue: `order`, `running`, `paused`, `at` and `gpus` by id, `problem` in words."""
        waiting = self.queue.read()
        there = {gpu["index"] for gpu in machine.gpus()}
        lost = [f"{run} waits for GPU {gpu}, which is not here; choose another" for run, gpu in waiting.gpus.items()
                if gpu not in there]  # fmt: skip
        return {
            "order": waiting.order,
            "running": self._running(),
            "paused": waiting.paused,
            "at": waiting.at,
            "gpus": waiting.gpus,
            "problem": waiting.problem or "; ".join(lost) or None,
        }

    def arrange(self, order: Sequence[str]) -> None:
        """Puts the runs that wait into this order; those that it does not name come after."""
        with self.queue.change() as waiting:
            known = [run for run in dict.fromkeys(order) if run in waiting.order]
            waiting.order = known + [run for run in waiting.order if run not in known]

    def pause(self, paused: bool) -> None:
        """Starts nothing more, or goes on."""
        with self.queue.change() as waiting:
            waiting.paused, waiting.problem = paused, None
        self.advance()

    def wish(self, run: str, **wishes: Any) -> None:
        """Sets `at` (unix time) or `gpu` (number) of a run that waits; None takes it away."""
        self._check_gpu(wishes.get("gpu"))
        with self.queue.change() as waiting:
            if run not in waiting.order:
                raise Conflict(f"{run}: it does not wait in the queue")
            for name, kept in (("at", waiting.at), ("gpu", waiting.gpus)):
                if name in wishes:
                    kept.pop(run, None)
            waiting.add(run, **wishes)
        self.advance()

    def advance(self) -> None:
        """Starts every run whose turn it is."""
        self._reap()
        before = self.queue.read()
        if not before.order and not before.then:
            return
        with self.queue.change() as waiting:
            find_the_best(waiting, self.runs, self.settings)
            free: set[Place] = set() if waiting.paused else self._free()
            for run in list(waiting.order):
                try:
                    state = self.runs.folder(run).state()
                except InputError:  # it was taken away by hand
                    state = "done"
                if state in ("running", "done"):
                    waiting.drop(run)
                elif (not waiting.paused or self._is_light(run)) and waiting.at.get(run, 0) <= time.time():
                    self._begin(run, free, waiting)

    def _begin(self, run: str, free: set[Place], waiting: Waiting) -> None:
        """Starts a run if its place is free, and takes the place; a tool that wants no GPU takes none."""
        light = self._is_light(run)
        taken: list[Place] = [waiting.gpus.get(run)]
        if not light and not self._on_cpu(run):
            taken = [*places.choose(taken[0], free, places.processes(self.runs.config(run)))]
        if not light and not (taken and free.issuperset(taken)):
            return
        try:
            folder = self.runs.folder(run)
            (folder.path / "exit.json").unlink(missing_ok=True)
            child = process.start(folder, self.settings.data_dir, *taken)
        except (DiskError, OSError) as error:
            waiting.paused, waiting.problem = True, f"{run} could not be started: {error}"
            return
        self._children.append((run, child))
        if not light:
            free.difference_update(taken)
        waiting.drop(run)
        if is_asked(self.runs, run) and run not in waiting.then:
            waiting.then.append(run)

    def _free(self) -> set[Place]:
        """The places where no job is: one for each GPU, and one beside them."""
        running = [line["id"] for line in self.runs.lines() if line["state"] == "running"]
        busy = [run for run in running if not self._is_light(run)]
        taken = {place for run in busy for place in places.several(self.runs, run) or [self._gpu_of(run)]}
        return {None, *(gpu["index"] for gpu in machine.gpus())} - taken

    def _gpu_of(self, run: str) -> Place:
        """Where a running job trains."""
        return None if self._on_cpu(run) else process.gpu_of(self.runs.folder(run))

    def _on_cpu(self, run: str) -> bool:
        return not machine.gpus() or dict(flat(self.runs.config(run))).get("train.device") == "cpu"

    def _is_light(self, run: str) -> bool:
        """Whether it is a tool that wants no GPU, and so never waits."""
        job = JOBS.get(str(self.runs.config(run).get("job")))
        return job is not None and not job.gpu

    def _running(self) -> list[str]:
        return [line["id"] for line in self.runs.lines() if line["state"] == "running" and not line["job"]]

    def _reap(self) -> None:
        """Lets our ended children go, or they would stay as zombies; keeps what only their exit code says."""
        for run, child in list(self._children):
            code = child.poll()
            if code is None:
                continue
            with contextlib.suppress(InputError, DiskError):  # it may be in the trash already
                folder = self.runs.folder(run)
                if folder.state() == "interrupted":
                    process.note_end(folder, code)
            with contextlib.suppress(ValueError):  # another thread was faster
                self._children.remove((run, child))

    def _watch(self) -> None:
        told = ""
        while not self._closed.wait(TICK):
            try:
                self.advance()
            except Exception as error:  # a disk that is full now may have room later: the thread must live on
                if told != str(error):
                    told = str(error)
                    print(f"The queue cannot move on: {type(error).__name__}: {error}", file=sys.stderr)


def flags_of(changes: Mapping[str, Any]) -> list[str]:
    """Changes {dotted name: value} as flags; a changed type replaces its whole part, so it comes first."""
    names = sorted(changes, key=lambda name: not name.endswith(".type"))
    return [f"{name}={json.dumps(changes[name])}" for name in names]
