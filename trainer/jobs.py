"""Jobs beside training: tools that work on a folder in a process of their own, and tell a run folder how it goes.

config.json of such a run folder is `{"job": name, "options": {...}}`; `python -m trainer job --run DIR` does it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.captioners.options import Basic, Blip2, Endpoint, Git, Sentences, Wd14
from trainer.compare.options import ClassPictures, Generate, Grid, Studio
from trainer.config.parts import Part
from trainer.doctor.options import Doctor
from trainer.downloads import Downloads
from trainer.durable import read_json, write_json
from trainer.errors import InputError
from trainer.folders.options import Dedupe, Group, Import
from trainer.images.options import Background, Crop, Resize
from trainer.imports import load
from trainer.runfolder import RunFolder
from trainer.terminal import Stop, Tell, Wish, copied_to
from trainer.tools import options as lora
from trainer.tree import validate
from trainer.verdict.options import Compare
from trainer.verdict.use_options import Use

EVERY = 0.5  # seconds between two events of progress
WINDOW = 20.0  # seconds over which the rate is measured
REPORT = "report.json"


class Report(Protocol):
    """What a tool gives back."""

    stopped: bool

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        ...

    def summary(self) -> str:
        """The figures in a sentence."""
        ...


@dataclass(frozen=True)
class Job:
    """A tool. work: `module:function` of (options, tell, should_stop), imported when it runs; gpu: it wants one.

    events: it is also given `event`, the run folder's, to tell there what it makes while it runs.
    """

    title: str
    options: type[Part]
    work: str
    gpu: bool = False
    events: bool = False

    def run(self, options: Part, tell: Tell, should_stop: Stop, event: Callable[..., None] | None = None) -> Report:
        """Does the work."""
        module, function = self.work.split(":")
        more = {"event": event} if self.events and event else {}
        return getattr(load(module), function)(options, tell, should_stop, **more)


CAPTIONS = "trainer.captioners.command:run_captions"
IMAGES, FOLDERS, LORAS, DRAWING = (
    f"trainer.{room}.command:run_tool" for room in ("images", "folders", "tools", "compare")
)
JOBS: Mapping[str, Job] = {
    "caption.wd14": Job("WD14 captioning", Wd14, CAPTIONS, gpu=True),
    "caption.basic": Job("Basic captioning", Basic, CAPTIONS),
    "caption.sentences": Job("Captioning by a model", Sentences, CAPTIONS, gpu=True),
    "caption.blip2": Job("BLIP-2 captioning", Blip2, CAPTIONS, gpu=True),
    "caption.git": Job("GIT captioning", Git, CAPTIONS, gpu=True),
    "caption.endpoint": Job("Captioning by a server", Endpoint, CAPTIONS),
    "images.resize": Job("Resize", Resize, IMAGES),
    "images.crop": Job("Crop", Crop, IMAGES),
    "images.background": Job("Background", Background, IMAGES, gpu=True),
    "images.report": Job("Data set doctor", Doctor, "trainer.doctor.report:report"),
    "folders.dedupe": Job("Find duplicates", Dedupe, FOLDERS),
    "folders.import": Job("Import pictures", Import, FOLDERS),
    "folders.group": Job("Group images", Group, FOLDERS),
    "lora.extract": Job("Extract LoRA", lora.Extract, LORAS, gpu=True),
    "lora.merge": Job("Merge LoRA", lora.Merge, LORAS),
    "lora.resize": Job("Resize LoRA", lora.Resize, LORAS),
    "lora.convert": Job("Convert LoRA", lora.Convert, LORAS),
    "lora.verify": Job("Verify LoRA", lora.Verify, LORAS),
    "lora.metadata": Job("LoRA metadata", lora.Metadata, LORAS),
    "lora.average": Job("Average LoRAs", lora.Average, LORAS),
    "lora.dylora": Job("Extract DyLoRA", lora.DyLora, LORAS),
    "lora.use": Job("Use this one", Use, "trainer.verdict.use:run"),
    "model.convert": Job("Convert model", lora.ConvertModel, LORAS),
    "compare.sample": Job("Generate", Generate, DRAWING, gpu=True, events=True),
    "compare.grid": Job("X/Y/Z grid", Grid, DRAWING, gpu=True, events=True),
    "reg.make": Job("Class pictures", ClassPictures, DRAWING, gpu=True, events=True),
    "compare.verdict": Job("Find the best file", Compare, "trainer.verdict.command:compare", gpu=True, events=True),
    # It holds a GPU but never waits for one, nor keeps one from others: it makes way by itself.
    "compare.studio": Job("Resident painter", Studio, "trainer.compare.studio:run", events=True),
    "models.get": Job("Fetching models", Downloads, "trainer.downloads:get_models"),
}


def job_of(name: str) -> Job:
    """The job of a name; InputError lists those there are."""
    if name not in JOBS:
        raise InputError(f"job: {name[:60]!r} is none; there are {', '.join(JOBS)}")
    return JOBS[name]


def run(folder: RunFolder) -> int:
    """Does the job of a run folder; 0 done or stopped on request, 2 bad input, 1 a failure of the tool.

    What goes wrong becomes an event with its cause; the traceback stays in the log.
    """
    with folder.owned(), copied_to(folder.log):
        try:
            told = read_json(folder.path / "config.json")
            job = job_of(str(told.get("job")))
            options = validate(job.options, told.get("options"))
            folder.event("start", job=told["job"])
            with Wish().heard() as wish:

                def should_stop() -> bool:
                    wish.stop = wish.asked() or folder.take_command() == "stop"  # a command is taken but once
                    return wish.stop

                report = job.run(options, Progress(folder).tell, should_stop, folder.event)
            write_json(folder.path / REPORT, report.to_json())
            folder.event("stopped" if report.stopped else "done", summary=report.summary())
            return 0
        except KeyboardInterrupt:
            folder.event("stopped", summary="Ended at once; what was done is kept.")
            return 0
        except InputError as error:
            folder.event("error", text=str(error), remedy="")
            return 2
        except Exception as error:
            traceback.print_exc()
            folder.event("error", text=f"{type(error).__name__}: {error}", remedy=f"the whole story is in {folder.log}")
            return 1


class Progress:
    """Tells how far a job is, now and then, with its rate and the seconds that are left."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._told = -EVERY
        self._marks: list[tuple[float, int]] = []

    def tell(self, done: int, total: int) -> None:
        """`done` pictures, files or bytes of `total`."""
        now = time.monotonic()
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()  # it began anew
        if now - self._told < EVERY and done < total:
            return
        self._told = now
        if not self._marks or done > self._marks[-1][1]:
            self._marks = [mark for mark in self._marks if now - mark[0] < WINDOW] or self._marks[-1:]
            self._marks.append((now, done))  # beside the last one at least: a single step may take longer
        (began, before), (ended, after) = self._marks[0], self._marks[-1]
        rate = (after - before) / (ended - began) if ended > began else None
        left = (total - done) / rate if rate else None
        self.folder.event("progress", done=done, total=total, rate=rate, left_s=left)
