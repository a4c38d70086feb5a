"""Grids as they lie in folders: what each holds, how far it is, and how it leaves. Works from files alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from statistics import median

from PIL import Image

from trainer.durable import failed, make_folder, read_json
from trainer.errors import InputError
from webui import votes
from webui.gridform import JOB, values_of
from webui.jobs import Jobs
from webui.runs import Conflict, Facts, Missing, stamp_of

PLAN, SHEET, PICTURES = "grid.json", "sheet.png", "pictures"
PARTS = (PLAN, PICTURES, SHEET, votes.FILE)
"""What a grid consists of; whatever else lies in its folder is not its own."""

EMPTY: Facts = {"sides": [], "cells": None, "prompt": ""}


class Grids:
    """The grids of the page: those in `grids` of the data folder, and those that a run drew elsewhere."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.root = jobs.settings.data_dir / "grids"

    def lines(self) -> list[Facts]:
        """Every grid in short, the newest first."""
        runs = self._runs()
        folders = [Path(folder) for folder in runs]
        if self.root.is_dir():
            folders += [path for path in self.root.iterdir() if (path / PLAN).is_file()]
        lines = [self._line(folder, runs.get(str(folder))) for folder in dict.fromkeys(folders)]
        return sorted((line for line in lines if line), key=lambda line: (line["time"], line["folder"]), reverse=True)

    def one(self, folder: Path, known: str = "") -> Facts:
        """One grid in full; `known`: the stamp of the plan that the asker has, which is then not told again."""
        run = self._runs().get(str(folder))
        line = self._line(folder, run)
        if line is None:
            raise Missing(f"folder: {folder} holds no grid; it may have been moved to the trash")
        plan = plan_of(folder) if line["stamp"] else None
        drawn = self._drawn(folder, plan, run) if plan else {}
        wrong = self._wrong(run, drawn)
        sizes = [_size(folder / name, stamp) for name, stamp in drawn.items()]
        told: Facts = {
            **line, "drawn": drawn, "wrong": wrong, "sheet": (folder / SHEET).is_file(), "left_s": None, "error": None,
            "side": [max(sides) for sides in zip(*sizes, strict=True)] if sizes else None,
            "votes": votes.tally(folder, plan) if plan else None,
        }  # fmt: skip
        if run:
            told["values"] = values_of(self._wanted(run), self.jobs.settings)
            if run["state"] in ("error", "interrupted"):
                told["error"] = self.jobs.detail(run["id"])["error"]
            if plan:
                told["left_s"] = self._left(run, len(plan["cells"]) - len(drawn) - len(wrong))
        if plan and line["stamp"] != known:
            told["plan"] = plan
        return told

    def run_of(self, folder: Path) -> Facts | None:
        """The newest run that draws, or drew, into a folder."""
        return self._runs().get(str(folder))

    def trash(self, folder: Path) -> Path:
        """Moves a grid and its runs to the trash, and gives its place there; Conflict while it is drawn."""
        line = self._line(folder, run := self.run_of(folder))
        if line is None:
            raise Missing(f"folder: {folder} holds no grid; it may be in the trash already")
        if run and run["state"] == "running":
            raise Conflict(f"{run['id']}: it is being drawn; stop it first")
        trash, count = self.jobs.settings.data_dir / "trash", 1
        while (place := trash / (folder.name if count == 1 else f"{folder.name}-{count}")).exists():
            count += 1
        for found in [one for one in self._all_runs() if one["about"]["folder"] == str(folder)]:
            self.jobs.trash(found["id"])
        try:
            make_folder(place)
            for part in PARTS:
                if (folder / part).exists():
                    shutil.move(folder / part, place / part)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        except OSError as error:
            raise failed(place, error) from error
        return place

    def _all_runs(self) -> list[Facts]:
        return [line for line in self.jobs.tasks() if line["job"] == JOB]

    def _runs(self) -> dict[str, Facts]:
        """The newest run of each folder."""
        found: dict[str, Facts] = {}
        for line in self._all_runs():
            if out := line["about"]["folder"]:
                found.setdefault(out, line)
        return found

    def _line(self, folder: Path, run: Facts | None) -> Facts | None:
        """A grid in short; None for a folder that holds none. `stamp` is "" while it is not planned yet."""
        told = stamp_of(folder / PLAN)
        if told is None and run is None:
            return None
        fresh = told is not None and (run is None or told[0] / 1e9 >= run["created"])
        short = _short(folder, *told) if told and fresh else {**EMPTY, "prompt": self._wanted(run).get("prompt", "")}
        pictures = _count(folder, stamp_of(folder / PICTURES)) if fresh else 0
        state = run["state"] if run else "done" if pictures == short["cells"] else "stopped"
        return {
            "folder": str(folder),
            "name": folder.name,
            "time": run["created"] if run else told[0] / 1e9 if told else 0,
            "state": state,
            "run": run["id"] if run else None,
            "stops": run["stops"] if run else 0,
            "progress": run["progress"] if run else None,
            "summary": run["about"]["summary"] if run else None,
            "pictures": pictures,
            "stamp": "-".join(map(str, told)) if told and fresh else "",
            **short,
        }

    def _wanted(self, run: Facts | None) -> Facts:
        """The options of a run; {} for one of which they cannot be read."""
        return (self.jobs.runs.config(run["id"]).get("options") or {}) if run else {}

    def _drawn(self, folder: Path, plan: Facts, run: Facts | None) -> dict[str, int]:
        """The pictures that are there, with a stamp that another picture has not; of a grid that is drawn again over an
        earlier one only those that are known to be of it."""
        names = {cell["file"] for cell in plan["cells"]}
        if run:
            story = self.jobs.runs.story(run["id"]).events
            told = {Path(str(event.get("file"))).name for event in story if event.get("kind") == "cell"}
            names = {name for name in names if Path(name).name in told}
        stamps = {name: stamp_of(folder / name) for name in sorted(names)}
        return {name: stamp[0] for name, stamp in stamps.items() if stamp}

    def _left(self, run: Facts, cells: int) -> float | None:
        """Seconds until all is drawn, by what a picture took; None while none was drawn."""
        story = self.jobs.runs.story(run["id"]).events
        took = [event["seconds"] for event in story if event.get("kind") == "cell" and not event.get("kept")]
        return median(took) * cells if took and run["state"] == "running" else None

    def _wrong(self, run: Facts | None, drawn: Mapping[str, int]) -> dict[str, str]:
        """Why pictures are missing, by their files."""
        if run is None:
            return {}
        found = {}
        for event in self.jobs.runs.story(run["id"]).events:
            name, colon, words = str(event.get("text")).partition(": ")
            if event.get("kind") == "warning" and colon and f"{PICTURES}/{name}.png" not in drawn:
                found[f"{PICTURES}/{name}.png"] = words
        return found


def plan_of(folder: Path) -> Facts:
    """grid.json; Missing when there is none that can be read."""
    try:
        plan = read_json(folder / PLAN)
        for side in votes.SIDES:
            plan["labels"][side], plan["kinds"][side]
        plan["cells"][0]["file"], plan["cells"][0]["key"]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise Missing(f"folder: {folder} holds no grid that can be read; draw it again") from None
    return plan


def file_of(folder: Path, name: str) -> Path:
    """A picture of a grid, or its sheet; Missing for anything else."""
    plan = plan_of(folder)
    path = folder / name
    if name not in (SHEET, *(cell["file"] for cell in plan["cells"])) or not path.is_file():
        raise Missing(f"file: {name[:200]} is not in this grid, or not drawn yet")
    return path


def files_of(folder: Path) -> dict[str, Path]:
    """All files of a grid by their names in it."""
    plan = plan_of(folder)
    names = [PLAN, SHEET, votes.FILE, *(cell["file"] for cell in plan["cells"])]
    return {name: folder / name for name in names if (folder / name).is_file()}


def check_free(folder: Path, grids: Grids) -> None:
    """Refuses a folder into which a grid is being drawn, and what is no folder."""
    run = grids.run_of(folder)
    if run and run["state"] in ("running", "queued"):
        raise Conflict(f"out: {run['id']} is drawing into {folder}; stop it first, or give another folder")
    if folder.is_file():
        raise InputError(f"out: {folder} is a file; give a folder")


@lru_cache(500)
def _short(folder: Path, changed: int, size: int) -> Facts:
    """What a grid is about, as its plan was then."""
    try:
        plan = plan_of(folder)
    except Missing:
        return EMPTY
    kinds = [plan["kinds"][side] for side in votes.SIDES]
    labels = [plan["labels"][side] for side in votes.SIDES]
    sides = [
        [len(of) - (plan["reference"] == side), kind]
        for side, kind, of in zip(votes.SIDES, kinds, labels, strict=True)
        if kind != "none"
    ]
    return {"sides": sides, "cells": len(plan["cells"]), "prompt": plan["cells"][0]["prompt"]}


@lru_cache(20_000)
def _size(path: Path, changed: int) -> tuple[int, int]:
    """Width and height of a picture as it was then."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.size
    except (OSError, SyntaxError, ValueError):
        return 1, 1


@lru_cache(500)
def _count(folder: Path, stamp: tuple[int, int] | None) -> int:
    """How many pictures lie there, as it was then."""
    try:
        return sum(name.endswith(".png") for name in os.listdir(folder / PICTURES))
    except OSError:
        return 0
