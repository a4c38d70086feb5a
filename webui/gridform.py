"""The form of the X/Y/Z grid: its fields and axes for the page, and what stands in it counted before it is drawn."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from trainer.compare.options import Axis, Grid
from trainer.compare.plan import SIDES, Plan, make_plan
from trainer.compare.samplers import NAMES
from trainer.compare.shelf import checkpoints_of
from trainer.compare.shot import Stage, precision_of
from trainer.errors import InputError
from trainer.tree import validate
from webui import machine, modelshelf
from webui.browse import Outside, inside
from webui.fields import Field, fields_of
from webui.jobs import Jobs
from webui.settings import Settings
from webui.tasks import config_of
from webui.toolform import form_of, options_of

JOB = "compare.grid"
FIELDS = fields_of(Grid)
KINDS: Mapping[str, tuple[str, str, str]] = {
    "none": ("Nothing", "", ""),
    "checkpoint": ("LoRA checkpoint", "LoRA files, or run folders with all their files, one a line", ""),
    "strength": ("LoRA strength", "Numbers or ranges: 0.6-1 (+0.2), or 0.5, 0.8", "0.4-1 (+0.2)"),
    "prompt": ("Prompt S/R", "One a line: the first is looked for in the prompt, and the others take its place", ""),
    "seed": ("Seed", "Numbers or ranges: 1-4, or 42, 1234", "1-4"),
    "cfg": ("CFG Scale", "Numbers or ranges: 3-9 (+2), or 4, 7", "3-9 (+2)"),
    "steps": ("Steps", "Numbers or ranges: 10-40 (+10), or 0-100 [5]", "10-40 (+10)"),
    "sampler": ("Sampler", "Names, one a line: Euler a, DPM++ 2M Karras", "\n".join(NAMES)),
    "base": ("Base model (Checkpoint name)", "Base models as files or `pocket`, one a line", ""),
}
"""Types of axes: what A1111 calls them, what is to be written, and what Fill writes."""
MOST_LEARNT = 5  # grids whose pace is looked at, the newest first
_counting = threading.Lock()  # so that a large file is not read once for each key that is pressed


def form(settings: Settings, jobs: Jobs) -> dict[str, Any]:
    """What the grid's form shows (webui.toolform), with {"kinds": types of axes, "runs": those that have LoRAs}."""
    told = form_of(settings, JOB)
    fields = {field["name"]: field for group in told["groups"] for field in group["fields"]}
    fields["base"]["offers"] = modelshelf.bases(settings)
    for side in SIDES:
        fields[f"{side}.kind"] |= {"label": f"{side.upper()} type", "help": ""}  # there is a hint for each type
        fields[f"{side}.values"] |= {"label": f"{side.upper()} values", "help": ""}
    names = ("kind", "label", "hint", "fill")
    kinds = [dict(zip(names, (kind, *words), strict=True)) for kind, words in KINDS.items()]
    return {**told, "kinds": kinds, "runs": runs_of(jobs)}


def values_of(options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Options of a grid as they stand in the boxes; the models folders, which `grid_of` adds, stand in none."""
    found = {}
    for name, shown in FIELDS.items():
        value: Any = options
        for word in name.split("."):
            value = value.get(word) if isinstance(value, Mapping) else None
        if name == "folders":
            value = [folder for folder in value or () if folder not in map(str, settings.models)]
        off = value is None and shown.owner
        text = _default(shown) if off else shown.write(value)
        found[name] = "x".join(map(str, value)) if name == "size" and value else text
    return found


def grid_of(values: Mapping[str, Any], settings: Settings) -> Grid:
    """What stands in the form, checked, with whole paths; names are looked for in the models folders too.

    InputError begins each line with its field. Raises Outside for what the page may not use.
    """
    try:
        tree = config_of(JOB, options_of(JOB, values), settings)["options"]
    except Outside:
        raise
    except InputError as error:
        lines = [_named(line) for line in str(error).split("\n")]
        raise InputError("\n".join(lines)) from None
    tree["folders"] = list(dict.fromkeys([*tree["folders"], *modelshelf.folders(settings)]))
    return validate(Grid, tree)


def count(options: Grid, jobs: Jobs) -> dict[str, Any]:
    """What would be drawn: {"sides": [x, y, z] without the reference, "reference": pictures of it, "pictures", "new":
    those that must be drawn (None when that is not known), "seconds": about, or None, "side": pixels of the width,
    "labels", "notes"}.

    InputError begins with its field.
    """
    here, known = _without_hub(options)
    try:
        with _counting:
            stage = Stage(here)
            plan = make_plan(here, stage, precision_of(here, _device(here)))
    except InputError as error:
        raise InputError(_at_field(str(error), options)) from None
    bare = [cell for cell in plan.cells if plan.reference and (cell.x, cell.y, cell.z)["xyz".index(plan.reference)] < 1]
    pool = Path(options.cells).expanduser() if options.cells else jobs.settings.data_dir / "grids" / "cells"
    new = {cell.key for cell in plan.cells if not (pool / f"{cell.key}.png").is_file()} if known else None
    work = sum(_work(cell.shot.steps, cell.shot.width * cell.shot.height, cell.shot.cfg) for cell in plan.cells)
    rate = pace(jobs, options) if known else None
    seconds = rate * work * len(new) / len(plan.cells) if new is not None and rate else None
    return {
        "sides": [len(plan.labels[side]) - (side == plan.reference) for side in SIDES],
        "reference": len(bare),
        "pictures": len(plan.cells),
        "new": None if new is None else len(new),
        "same": len(plan.cells) - len({cell.key for cell in plan.cells}),
        "seconds": seconds,
        "side": plan.cells[0].shot.width,
        "labels": labels_of(plan),
        "notes": [] if known else ["The base model is fetched from the hub first."],
    }


def labels_of(plan: Plan) -> dict[str, list[str]]:
    """The labels of each side that changes, the reference among them."""
    return {side: labels for side, labels in plan.labels.items() if any(labels)}


def pace(jobs: Jobs, options: Grid) -> float | None:
    """Seconds for a unit of `_work`, by the newest grids with the same base; None when there were none."""
    lines = [line for line in jobs.tasks() if line["job"] == JOB]
    for line in islice(lines, MOST_LEARNT):
        told = jobs.runs.config(line["id"]).get("options") or {}
        if told.get("base") != options.base or not isinstance(told.get("steps"), int):
            continue
        story = jobs.runs.story(line["id"]).events
        took = [event["seconds"] for event in story if event.get("kind") == "cell" and not event.get("kept")]
        side = Stage(Grid(base=options.base)).base(options.base).side if took and not told.get("size") else 0
        width, height = told.get("size") or (side, side)
        if took:
            return median(took) / _work(told["steps"], width * height, told.get("cfg", 7.0))
    return None


def fill(settings: Settings, jobs: Jobs, kind: str, values: Sequence[str]) -> list[str]:
    """What Fill writes into the box of an axis: the files of the runs that stand there, or of the newest run; or every
    base model in the models folders."""
    if kind == "checkpoint":
        runs = [text for text in values if text.strip()] or [run["folder"] for run in runs_of(jobs)[:1]]
        places = [inside(str(Path(text).expanduser()), settings.roots, "values") for text in runs]
        return [str(file) for place in places for file in checkpoints_of(str(place))]
    if kind == "base":
        return [taken for _, taken in modelshelf.bases(settings) if taken == "pocket" or _is_path(taken)]
    return KINDS[kind][2].split("\n") if kind in KINDS else []


def runs_of(jobs: Jobs) -> list[dict[str, Any]]:
    """The trainings that have LoRA files, the newest first, with what a grid of them begins with."""
    found = []
    for line in jobs.lines():
        if not line["files"]:
            continue
        config = jobs.runs.config(line["id"])
        prompts = (config.get("sample") or {}).get("prompts") or [""]
        found.append({
            "id": line["id"], "name": line["name"], "files": len(line["files"]), "created": line["created"],
            "folder": str(jobs.runs.folder(line["id"]).path), "base": (config.get("model") or {}).get("base"),
            "prompt": str(prompts[0]).partition(" --")[0],
        })  # fmt: skip
    return found


def _default(shown: Field) -> Any:
    return shown.write(next(iter(shown.meanings.values())).default)


def _is_path(text: str) -> bool:
    return text.startswith(("/", "~", ".")) or Path(text).is_absolute()


def _without_hub(options: Grid) -> tuple[Grid, bool]:
    """The same with the shipped base in place of those that lie on the hub: counting fetches nothing. False when there
    were such, for then it is not known what is drawn already."""

    def here(text: str) -> str:
        hub = text != "pocket" and not _is_path(text) and text.count("/") == 1 and not Path(text).exists()
        return "pocket" if hub else text

    changes: dict[str, Any] = {"base": here(options.base)}
    for side in SIDES:
        axis: Axis = getattr(options, side)
        if axis.kind == "base":
            changes[side] = axis.model_copy(update={"values": tuple(map(here, axis.values))})
    changed = options.model_copy(update=changes)
    return changed, changed == options


def _device(options: Grid) -> str:
    """Where it would be drawn, as far as it can be known without torch."""
    return ("cuda" if machine.gpus() else "cpu") if options.device == "auto" else options.device


def _work(steps: int, pixels: int, cfg: float) -> float:
    """How much there is to do for a picture; guidance reads it twice."""
    return steps * pixels * (2 if cfg > 1 else 1)


def _named(line: str) -> str:
    """A mistake in an axis as a whole is one of its values."""
    name, colon, words = line.partition(": ")
    return f"{name}.values{colon}{words}" if name in SIDES else line


def _at_field(words: str, options: Grid) -> str:
    """What the plan says, with the field first: a file that is no model belongs to the box in which it stands."""
    if words.partition(": ")[0] in FIELDS:
        return words
    for side in SIDES:
        axis: Axis = getattr(options, side)
        if axis.kind in ("checkpoint", "base") and any(value in words for value in axis.values):
            return f"{side}.values: {words.removeprefix('checkpoint: ')}"
    return f"base: {words}" if options.base in words else words
