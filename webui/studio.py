"""The resident painter as the page uses it: what it is asked for, how far it is, and its process.

Its run folder is `studio` in the data folder, with requests and answers in it (trainer.compare.studio). It stands
beside the runs, not among them: it starts at once, waits in no queue, and makes way for what wants the GPU.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from trainer.compare.prompts import take_tags
from trainer.durable import failed, make_folder, read_json, stamp, write_json
from trainer.jobs import JOBS
from trainer.runfolder import Event, RunFolder
from webui import machine, process
from webui.jobs import Jobs
from webui.modelshelf import folders, loras
from webui.settings import Settings
from webui.tasks import config_of

Facts = dict[str, Any]
IDLE = 30.0  # minutes after which it gives the memory back by itself
TRIES = 2  # times that it may end while it does one request
ANSWERS = 20  # that are kept
SEEDS = 2**32
RANDOM = ("", "-1")
"""What stands for a random seed, as in A1111."""
TWICE = ("Heun", "DPM2")
"""Samplers that look twice at each step."""


class Studio:
    """The painter of one data folder. All that is known of it stands in files, so that any server can go on."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings, self.jobs = settings, jobs
        self.run = RunFolder(settings.data_dir / "studio")
        self.requests, self.answers = self.run.path / "requests", self.run.path / "answers"
        self._child: subprocess.Popen[bytes] | None = None
        self._starts: Counter[str] = Counter()  # how often one was started for a request
        self._heard = Heard(self.run)
        self._lock = threading.Lock()

    # What is asked for

    def ask(self, options: Mapping[str, Any]) -> Facts:
        """Asks for pictures: {"id", "seed"}; InputError has a line for each option that is wrong."""
        seed = options.get("seed", "")
        seed = secrets.randbelow(SEEDS) if str(seed).strip() in RANDOM else seed
        config = config_of("compare.sample", {**options, "seed": seed}, self.settings)["options"]
        config["folders"] += self._shelves(config)
        request = stamp(time.time_ns())
        make_folder(self.requests)
        total = config["count"] * config["batch"]
        write_json(self.requests / f"{request}.json", {"tool": "sample", "options": config, "total": total})
        self._sweep()
        self.wake()
        return {"id": request, "seed": config["seed"]}

    def _shelves(self, config: Facts) -> list[str]:
        """The folders of the LoRAs that the prompt names, as far as they are at hand; and the other model folders."""
        named = {tag.name.lower() for tag in take_tags(config["prompt"])[1]}
        there = [one for one in loras(self.settings, self.jobs.runs) if one["name"].lower() in named] if named else []
        return [*dict.fromkeys(str(Path(one["file"]).parent) for one in there), *folders(self.settings)]

    def stop(self, request: str | None) -> int:
        """Calls off a request, or with None all of them; what is drawn stays. Gives how many it were."""
        waiting = [file for file in self._waiting() if request in (None, file.stem)]
        for file in waiting:
            file.unlink(missing_ok=True)
        return len(waiting)

    def free(self) -> None:
        """Ends the painter, which gives the memory back; what it is asked for is called off."""
        self.stop(None)
        process.terminate(self.run)

    # How it is

    def look(self) -> Facts:
        """{"state", "holder", "requests", "answer", "drawn", "memory"}.

        state: off, starting, ready, drawing or waiting; holder: the run that comes first, {"id", "name"};
        requests: the oldest first, with how far each is; answer: to the newest that is done; drawn: another text
        whenever a picture has come; memory: of the GPU, in bytes, None without one.
        """
        self.wake()
        self._heard.read_on()
        alive, holder = self.run.alive(), self._holder()
        requests = [self._heard.far(file.stem, told) for file in self._waiting() if (told := _read(file))]
        if not alive:
            state = "off"
        elif requests and holder:
            state = "waiting"
        else:
            state = "starting" if not self._heard.begun else "drawing" if requests else "ready"
        newest = max(self.answers.glob("*.json"), default=None)
        return {
            "state": state,
            "holder": holder,
            "requests": requests,
            "answer": _answer(newest) if newest else None,
            "drawn": self._heard.drawn,
            "memory": self._memory() if alive else None,
            "idle": IDLE,
        }

    def wake(self) -> None:
        """Starts the painter when something waits and none is there; one that broke is started again."""
        with self._lock, self._alone():
            if self._child and self._child.poll() is not None:
                self._child = None  # or it would stay as a zombie
            if self.run.alive() or not self._waiting():
                return
            self._mend(self._waiting()[0])
            if not self._waiting():
                return
            self._starts[self._waiting()[0].stem] += 1
            config = {"folder": str(self.run.path), "runs": str(self.settings.runs), "idle_minutes": IDLE}
            write_json(self.run.path / "config.json", {"job": "compare.studio", "options": config})
            for name in ("events.jsonl", "stdout.log", "pid.json"):  # of the last one, which nobody asks for again
                (self.run.path / name).unlink(missing_ok=True)
            self._heard.forget()
            roomy = max(machine.gpus(), key=lambda gpu: gpu["memory_free"] or 0, default=None)
            self._child = process.start(self.run, self.settings.data_dir, roomy["index"] if roomy else None)

    def _mend(self, file: Path) -> None:
        """Takes off a request what a painter that ended has drawn of it; answers one at which two have ended."""
        self._heard.read_on()
        told, drawn = _read(file), self._heard.done[file.stem]
        if told is None or self._starts[file.stem] >= TRIES:
            why = self._heard.error or "if memory ran out, make the picture or the batch smaller"
            write_json(self.answers / file.name, {"error": f"The painter ended {TRIES} times at this: {why}"})
            file.unlink(missing_ok=True)
            return
        options, batch = told["options"], told["options"]["batch"]
        left = (told["total"] - told.get("done", 0)) // batch - drawn // batch
        skipped = options["count"] - left  # one that made way has taken off the others by itself
        if not left:
            file.unlink(missing_ok=True)
        elif skipped:
            options |= {"seed": (options["seed"] + skipped * batch) % SEEDS, "count": left}
            write_json(file, {**told, "done": told["total"] - left * batch})

    def _waiting(self) -> list[Path]:
        """The requests, the oldest first."""
        return sorted(self.requests.glob("*.json"))

    def _holder(self) -> Facts | None:
        """The run that has the GPU before us, as trainer.compare.studio sees it."""
        for line in [*self.jobs.lines(), *self.jobs.tasks()]:
            if line["state"] == "running" and (not line["job"] or (line["job"] in JOBS and JOBS[line["job"]].gpu)):
                return {"id": line["id"], "name": line["name"], "job": line["job"]}
        return None

    def _memory(self) -> Facts | None:
        place = process.gpu_of(self.run)
        gpu = next((gpu for gpu in machine.gpus() if gpu["index"] == place), None)
        return gpu and {"name": gpu["name"], "used": gpu["memory_used"], "total": gpu["memory_total"]}

    def _sweep(self) -> None:
        for old in sorted(self.answers.glob("*.json"))[:-ANSWERS]:
            old.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No second server starts a painter meanwhile."""
        make_folder(self.answers)
        lock = filelock.FileLock(self.run.path / "wake.lock", thread_local=False)
        try:
            lock.acquire()
        except OSError as error:
            raise failed(self.run.path, error) from error
        try:
            yield
        finally:
            lock.release()


class Heard:
    """What the painter has told since it began, read on as it comes."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.forget()

    def forget(self) -> None:
        """Knows nothing, because another painter begins."""
        self._offset = 0
        self.error = ""
        self.begun = 0.0
        self.done: Counter[str] = Counter()
        self.drawn = ""
        self._step: Event = {}
        self._seconds = 0.0  # for a picture, the last time

    def read_on(self) -> None:
        """Takes in what was told since."""
        if self.run.size() < self._offset:  # another painter
            self.forget()
        new, self._offset = self.run.tail(self._offset)
        for event in new:
            kind = event["kind"]
            if kind == "start":
                self.begun = event["time"]
            elif kind == "error":
                self.error = str(event.get("text"))
            elif kind == "step":
                self._step = event
            elif kind == "picture":
                self.done[str(event.get("request"))] += 1
                self.drawn = f"{self.begun} {sum(self.done.values())}"
                self._seconds = float(event.get("seconds") or 0)
                self._step = {}

    def far(self, request: str, told: Facts) -> Facts:
        """How far a request is: {"id", "prompt", "done", "total", "step", "steps", "share" in parts of 1, "left_s"}."""
        options = told["options"]
        batch, steps = options["batch"], steps_of(options)
        done, total = told.get("done", 0) + self.done[request], told["total"]
        mine = self._step if self._step.get("request") == request else {}
        step = min(mine.get("done", 0), steps)
        a_batch = mine["seconds"] / step * steps if step else self._seconds * batch if self.done[request] else None
        batches = total / batch
        share = min(1.0, (done / batch + step / steps) / batches)
        left = None if a_batch is None else a_batch * batches * (1 - share)
        facts = {"id": request, "prompt": options["prompt"], "done": done, "total": total}
        return {**facts, "step": step, "steps": steps, "share": share, "left_s": left}


def steps_of(options: Mapping[str, Any]) -> int:
    """Steps of one picture, as near as they are known before: faces are found only then."""
    steps = options["steps"]
    if hires := options["hires"]:
        steps += max(1, int((hires.get("steps") or steps) * hires["strength"]))
    return steps * (2 if options["sampler"].startswith(TWICE) else 1)


def _read(file: Path) -> Facts | None:
    """A request of the page; None for one that is gone, or that someone else wrote."""
    try:
        told = read_json(file)
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and "total" in told else None


def _answer(file: Path) -> Facts | None:
    """{"id", "error", "lines", "stopped"} of an answer."""
    try:
        told = read_json(file)
    except (OSError, ValueError):  # swept away meanwhile
        return None
    report = told.get("report") or {}
    facts = {"id": file.stem, "error": told.get("error")}
    return {**facts, "lines": report.get("lines", []), "stopped": report.get("stopped", False)}
