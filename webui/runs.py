"""Run folders as the page shows them: a line for each in the list, the whole story of one, several compared."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trainer.durable import read_json
from trainer.errors import InputError
from trainer.jobs import JOBS, REPORT
from trainer.runfolder import Event, RunFolder
from trainer.verdict.candidates import folders_in
from webui.fields import FIELDS
from webui.form import in_words

Facts = dict[str, Any]
TAIL = 1 << 14  # bytes at the end of the events in which the newest step is looked for, and the start at the beginning
UNDONE = "undone.json"  # how a job's work, which was taken back, is made again
MOST_STEPS = 2000  # points of a curve that are sent
STORIES = 16  # runs whose whole story is kept at hand


class Missing(InputError):
    """A run or a file that is not there."""


class Conflict(InputError):
    """What cannot be done in the state in which a run is."""


class Runs:
    """All run folders in one place. What was read is kept until the files change."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._lines: dict[str, tuple[object, Facts]] = {}
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._lock = threading.Lock()

    def folder(self, run: str) -> RunFolder:
        """The folder of a run; Missing for what is none, or is a link to somewhere else."""
        path = self.root / run
        with contextlib.suppress(OSError, ValueError):  # a name too long, or with a NUL
            if run and Path(run).name == run and path.resolve() == path and (path / "config.json").is_file():
                return RunFolder(path)
        raise Missing(f"{run[:100]}: there is no such run in {self.root}; it may have been moved to the trash")

    def config(self, run: str) -> Facts:
        """The config of a run as it lies there, {} when it cannot be read: one of a later version is shown too."""
        return _config(self.folder(run))

    def ids(self) -> list[str]:
        """The names of all runs."""
        try:
            found = [path for path in self.root.iterdir() if not path.name.startswith(".") and path.is_dir()]
        except FileNotFoundError:
            return []
        return [path.name for path in found if not path.is_symlink() and (path / "config.json").is_file()]

    def lines(self) -> list[Facts]:
        """Every run in short, the newest first."""
        found = []
        for run in self.ids():
            try:
                found.append(self.line(run))
            except (Missing, OSError):  # it went to the trash meanwhile
                continue
        return sorted(found, key=lambda line: (line["created"], line["id"]), reverse=True)

    def line(self, run: str) -> Facts:
        """One run in short. Costs a few looks at files while nothing changes."""
        folder = self.folder(run)
        stamp = [
            stamp_of(folder.path / name) for name in ("events.jsonl", "pid.json", "note.txt", "checkpoints", UNDONE)
        ]
        kept = self._lines.get(run)
        if kept is None or kept[0] != stamp:
            kept = stamp, _line(folder)
            self._lines[run] = kept
        facts = kept[1]
        if facts["state"] == "running" and not folder.alive():
            facts = _line(folder)
            self._lines[run] = [], facts  # the engine may have said its last word after the stamp was taken
        if facts["state"] != "running":
            facts = {**facts, "progress": {**facts["progress"], "rate": None, "left_s": None}}
        return facts

    def story(self, run: str) -> Story:
        """All that a run has told so far, as a copy that others do not read on."""
        folder = self.folder(run)
        with self._lock:
            story = self._stories.pop(run, None) or Story(folder)
            self._stories[run] = story
            while len(self._stories) > STORIES:
                self._stories.popitem(last=False)
            story.read_on()
            return story.copy()

    def forget(self, run: str) -> None:
        """Lets go of what was kept of a run that is no longer here."""
        with self._lock:
            self._stories.pop(run, None)
            self._lines.pop(run, None)

    def detail(self, run: str) -> Facts:
        """One run in full."""
        folder, story = self.folder(run), self.story(run)
        plan = story.last("start")
        return {
            **self.line(run),
            "settings": dict(flat(_config(folder))),
            "plan": {name: value for name, value in plan.items() if name not in ("kind", "time", "step")},
            "checkpoints": [
                {**link(folder, str(event.get("file"))), "step": event.get("step"), "epoch": event.get("epoch")}
                for event in story.files("checkpoint")
            ],
            "samples": samples(folder, story),
            "warnings": list(dict.fromkeys(str(event.get("text")) for event in story.events if _is(event, "warning"))),
            "error": _error(folder, story),
        }

    def compare(self, runs: Sequence[str]) -> Facts:
        """What differs between runs: `different` {option: [value of each]}, `curves` and `samples`, one list each."""
        configs = [dict(flat(self.config(run))) for run in runs]
        names = list(dict.fromkeys(name for config in configs for name in config))
        values = {name: [config.get(name) for config in configs] for name in names}
        stories = [self.story(run) for run in runs]
        return {
            "runs": [self.line(run) for run in runs],
            "different": {name: row for name, row in values.items() if any(value != row[0] for value in row)},
            "curves": [
                {"id": run, "steps": [event for event in thin(story.events) if _is(event, "step")]}
                for run, story in zip(runs, stories, strict=True)
            ],
            "samples": [samples(self.folder(run), story) for run, story in zip(runs, stories, strict=True)],
        }


class Story:
    """The events of one run, read on as they come; of a long curve only what can be seen is kept."""

    def __init__(self, folder: RunFolder, offset: int = 0, epoch: int = 0) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.offset = offset
        self.epoch = epoch  # under way

    def copy(self) -> Story:
        """Another story that is as far."""
        story = Story(self.folder, self.offset, self.epoch)
        story.events = list(self.events)
        return story

    def read_on(self) -> list[Event]:
        """Takes in what was written since, and gives it; a sample learns which epoch it belongs to."""
        new, self.offset = self.folder.tail(self.offset)
        for event in new:
            if _is(event, "start"):  # a run that goes on from a state repeats the steps after it
                again = event.get("step") or 0
                self.events = [old for old in self.events if not (_is(old, "step") and old.get("step", 0) > again)]
            elif _is(event, "progress"):  # only the newest counts
                self.events = [old for old in self.events if not _is(old, "progress")]
            elif _is(event, "step"):
                self.epoch = event.get("epoch") or self.epoch
            elif _is(event, "sample"):
                event["epoch"] = self.epoch if event.get("step") else 0
            self.events.append(event)
        if len(self.events) > 2 * MOST_STEPS:
            self.events = thin(self.events)
        return new

    def last(self, kind: str) -> Event:
        """The newest event of a kind, {} when there is none."""
        return next((event for event in reversed(self.events) if _is(event, kind)), {})

    def files(self, kind: str) -> list[Event]:
        """The newest event of each file that is still there, in the order of steps."""
        told = {str(event.get("file")): event for event in self.events if _is(event, kind)}
        there = [event for file, event in told.items() if (self.folder.path / file).exists()]
        return sorted(there, key=lambda event: event.get("step") or 0)


def thin(events: list[Event], most: int = MOST_STEPS) -> list[Event]:
    """Events with at most so many steps: of each stretch of a curve the lowest and the highest loss, and both ends.

    Stretches are cut by the number of the step, so that what is thinned again and again stays evenly spread.
    """
    places = [place for place, event in enumerate(events) if _is(event, "step")]
    if len(places) <= most:
        return list(events)
    kept = {places[0], places[-1]}
    stretches: dict[int, list[int]] = {}

    def step(place: int) -> int:
        return events[place].get("step") or 0

    def loss(place: int) -> float:
        value = events[place].get("loss")
        return float("inf") if value is None else value  # NaN is what one must see

    first, last = min(map(step, places)), max(map(step, places))
    for place in places:
        stretches.setdefault((step(place) - first) * ((most - 2) // 2) // (last - first + 1), []).append(place)
    for stretch in stretches.values():
        kept |= {min(stretch, key=loss), max(stretch, key=loss)}
    return [event for place, event in enumerate(events) if place in kept or not _is(event, "step")]


def samples(folder: RunFolder, story: Story) -> list[Facts]:
    """The sample pictures of a run, with where to get them large and small."""
    found = []
    for event in story.files("sample"):
        picture = link(folder, str(event["file"]))
        facts = {name: event.get(name) for name in ("step", "epoch", "prompt", "seed", "index")}
        found.append({**picture, "thumb": picture["url"].replace("/file/", "/thumb/", 1), **facts})
    return found


def link(folder: RunFolder, file: str) -> Facts:
    """A file of a run, or a model's folder: name, address relative to the page, bytes (None when it is gone)."""
    path = folder.path / file
    inside = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    sizes = [stamp[1] for each in inside if (stamp := stamp_of(each))]
    return {
        "file": file,
        "url": f"api/runs/{quote(folder.path.name, safe='')}/file/{quote(file)}",
        "size": sum(sizes) if sizes else None,
    }


def flat(tree: Facts, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every option; of a part that could be off, and is not, True besides."""
    for name, value in tree.items():
        dotted = f"{prefix}{name}"
        if isinstance(value, dict):
            if dotted in FIELDS:
                yield dotted, True
            yield from flat(value, f"{dotted}.")
        else:
            yield dotted, value


def _line(folder: RunFolder) -> Facts:
    """What is common to all run folders, and what is told of a training or of another job."""
    config = _config(folder)
    note = folder.path / "note.txt"
    return {
        "id": folder.path.name,
        "job": config.get("job"),
        "state": folder.state(),
        "created": (folder.path / "config.json").stat().st_mtime,
        "note": note.read_text("utf-8", "replace") if note.is_file() else "",
        **(_of_job(folder, config) if config.get("job") else _of_training(folder, config)),
    }


def _of_job(folder: RunFolder, config: Facts) -> Facts:
    job, options = JOBS.get(str(config["job"])), _part(config, "options")
    said, ending = _newest(folder, "progress"), _newest(folder, "done") or _newest(folder, "stopped")
    return {
        "name": job.title if job else str(config["job"]),
        "about": {"folder": place_of(options), "summary": ending.get("summary")},
        "undone": (folder.path / UNDONE).is_file(),
        "progress": {name: said.get(name) for name in ("done", "total", "rate", "left_s")},
        "files": [link(folder, REPORT)] if (folder.path / REPORT).is_file() else [],
    }


def place_of(options: Facts) -> str | None:
    """The folder that a job works on; that into which it draws, for one that works on none."""
    return options.get("folder") or options.get("out")


def _of_training(folder: RunFolder, config: Facts) -> Facts:
    start, step = _start(folder), _newest(folder, "step")
    model, train = _part(config, "model"), _part(config, "train")
    saved = [*folder.checkpoints.glob("*.safetensors"), *folders_in(folder.checkpoints)]
    files = [link(folder, f"checkpoints/{path.name}") for path in sorted(saved)]
    return {
        "name": _part(config, "output").get("name") or folder.path.name,
        "family": start.get("family") or (model.get("family") if model.get("family") != "auto" else None),
        "about": {
            "rank": _part(config, "network").get("rank"),
            "lr": _part(config, "optimizer").get("lr"),
            "epochs": start.get("epochs") or train.get("epochs"),
            "base": Path(str(model.get("base") or "")).name,
            "pictures": start.get("images"),
        },
        "progress": {
            "step": step.get("step", start.get("step") or 0),
            "steps": start.get("steps"),
            "epochs": start.get("epochs"),
            **{name: step.get(name) for name in ("epoch", "rate", "left_s", "loss", "average", "lr", "memory")},
        },
        "files": files,
    }


def _config(folder: RunFolder) -> Facts:
    try:
        config = read_json(folder.path / "config.json")
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _part(config: Facts, name: str) -> Facts:
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _start(folder: RunFolder) -> Event:
    """The first start: looked for where it should be, and only if many warnings came before it, everywhere."""
    try:
        with open(folder.path / "events.jsonl", "rb") as file:
            data = file.read(TAIL)
            if b'"kind": "start"' not in data:
                data += file.read()
    except FileNotFoundError:
        return {}
    lines = (line for line in data.splitlines() if b'"kind": "start"' in line)
    return next((event for event in map(_read, lines) if _is(event, "start")), {})


def _newest(folder: RunFolder, kind: str) -> Event:
    """The newest event of a kind; only if many others came after it, more than the last words are read."""
    stamp, mark = stamp_of(folder.path / "events.jsonl"), f'"kind": "{kind}"'.encode()
    size = stamp[1] if stamp else 0
    for start in dict.fromkeys((max(0, size - TAIL), 0)):
        with contextlib.suppress(FileNotFoundError), open(folder.path / "events.jsonl", "rb") as file:
            file.seek(start)
            for line in reversed(file.read().split(b"\n")):
                if mark in line and _is(event := _read(line), kind):
                    return event
    return {}


def _error(folder: RunFolder, story: Story) -> Facts | None:
    """Why a run failed; for one that could not say it, what its exit code says."""
    state = folder.state()
    if state == "error":
        return _told(story.last("error"))
    if state != "interrupted":
        return None
    try:
        code = int(read_json(folder.path / "exit.json")["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return {
            "text": "The engine was cut off before it could say why",
            "remedy": "Resume goes on from its last state",
        }
    if code in (-9, 137):
        remedy = "If nobody did, this machine's memory was full: lower train.batch or data.resolution, then Resume"
        return {"text": "The engine was killed (signal 9)", "remedy": in_words(remedy)}
    if code in (-15, 143):
        return {
            "text": "The engine was ended without saving (signal 15)",
            "remedy": "Resume goes on from its last state",
        }
    return {"text": f"The engine ended with exit code {code}", "remedy": "The last lines of its log say why"}


def _told(event: Event) -> Facts:
    """Cause and remedy, in the words of the page; what a person can mend has its remedy in its last words."""
    text, remedy = (in_words(str(event.get(name) or "")) for name in ("text", "remedy"))
    if not remedy and "\n" not in text:
        text, _, remedy = text.partition("; ")
    return {"text": text, "remedy": remedy[:1].upper() + remedy[1:]}


def stamp_of(path: Path) -> tuple[int, int] | None:
    """By what a file is known to be as it was: its time of change in nanoseconds and its size; None without one."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _read(line: bytes) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _is(event: Event, kind: str) -> bool:
    return event.get("kind") == kind
