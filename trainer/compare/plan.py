"""A grid as a plan: which pictures it has, and where they stand. Works without torch."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from trainer.compare.options import Axis, Grid, Seed, Steps, Strength
from trainer.compare.samplers import NAMES, name_of
from trainer.compare.shelf import checkpoints_of
from trainer.compare.shot import Chosen, Shot, Stage
from trainer.errors import InputError
from trainer.tree import limit_of

Side = Literal["x", "y", "z"]
SIDES: tuple[Side, ...] = ("x", "y", "z")
Place = tuple[int, int, int]
BARE = "no LoRA"
MOST = 10_000  # cells
NUMBERS: dict[str, tuple[str, Any]] = {
    "seed": ("seed", Seed), "steps": ("steps", Steps), "strength": ("strength", Strength), "cfg": ("cfg", float),
}  # fmt: skip
"""Axes of numbers: what they change, and its type."""
_N = r"-?(?:\d+(?:\.\d*)?|\.\d+)"
_RANGE = re.compile(rf"({_N})\s*-\s*({_N})(?:\s*\(\s*\+?({_N})\s*\)|\s*\[\s*(\d+)\s*\])?")


class Value(NamedTuple):
    """One place on an axis: its label, and what it changes."""

    label: str
    change: Callable[[Chosen], Chosen]


class Cell(NamedTuple):
    """One picture and where it stands."""

    x: int
    y: int
    z: int
    shot: Shot
    key: str


@dataclass(frozen=True)
class Plan:
    """All cells in the order in which they are drawn: a base model and a LoRA are taken up once."""

    kinds: dict[Side, str]
    labels: dict[Side, list[str]]
    reference: Side | None
    """The side whose first place is the base model without LoRAs."""
    cells: list[Cell]

    def to_json(self) -> dict[str, Any]:
        """All of it for the page."""
        cells = [
            {"x": cell.x, "y": cell.y, "z": cell.z, "key": cell.key, "file": f"pictures/{self.name(cell)}",
             "prompt": cell.shot.prompt, "negative": cell.shot.negative, "seed": cell.shot.seed}
            for cell in self.cells
        ]  # fmt: skip
        sides = {"kinds": self.kinds, "labels": self.labels, "reference": self.reference}
        return {**sides, "cells": cells, "sheet": "sheet.png"}

    def name(self, cell: Cell) -> str:
        """A file name that says what the picture is: where it stands, and the labels of the sides that change."""
        places = {"x": cell.x, "y": cell.y, "z": cell.z}
        words = [self.labels[side][places[side]] for side in reversed(SIDES)]
        number = "-".join(f"{places[side] + 1:02d}" for side in reversed(SIDES))
        text = " ".join(re.sub(r"[^\w.+-]+", "_", word)[:40] for word in words if word)
        return f"{number} {text}".strip(" .") + ".png"


def make_plan(options: Grid, stage: Stage, precision: str) -> Plan:
    """The cells of a grid; InputError for an axis that makes no sense.

    The reference stands on the side of the checkpoints, else on that of the strengths, else on y.
    """
    axes: dict[Side, Axis] = {"x": options.x, "y": options.y, "z": options.z}
    values = {side: values_of(side, axes[side], stage.chosen()) for side in SIDES}
    if (count := math.prod(len(values[side]) for side in SIDES)) > MOST:
        raise InputError(f"grid: {count:,} pictures, more than {MOST:,}; give the axes fewer values")
    shots = _shots(stage, values)
    reference: Side | None = None
    if any(shot.loras for shot in shots.values()) or any(axis.kind == "checkpoint" for axis in axes.values()):
        wanted = [side for kind in ("checkpoint", "strength") for side in SIDES if axes[side].kind == kind]
        reference = next(iter(wanted), "y")
        bare = Value(BARE, partial(_replaced, bare=True))
        move = [int(side == reference) for side in SIDES]
        shots = {(x + move[0], y + move[1], z + move[2]): shot for (x, y, z), shot in shots.items()}
        shots |= _shots(stage, {**values, reference: [bare]})
        values[reference].insert(0, bare)
    cells = [Cell(x, y, z, shots[x, y, z], shots[x, y, z].key(precision)) for x, y, z in sorted(shots, key=_upwards)]
    first: dict[Any, int] = {}  # bases and what is worn on them, in the order of their first cell
    for cell in cells:
        first.setdefault(cell.shot.base, len(first))
        first.setdefault((cell.shot.base, cell.shot.loras), len(first))
    cells.sort(key=lambda cell: (first[cell.shot.base], first[cell.shot.base, cell.shot.loras]))
    labels = {side: [value.label for value in values[side]] for side in SIDES}
    return Plan({side: axes[side].kind for side in SIDES}, labels, reference, cells)


def _shots(stage: Stage, values: dict[Side, list[Value]]) -> dict[Place, Shot]:
    """The picture of every place."""
    found: dict[Place, Shot] = {}
    for (x, in_x), (y, in_y), (z, in_z) in product(*(enumerate(values[side]) for side in SIDES)):
        found[x, y, z] = stage.shot(in_z.change(in_y.change(in_x.change(stage.chosen()))))
    return found


def _upwards(place: Place) -> Place:
    return place[::-1]


def _replaced(chosen: Chosen, **changes: Any) -> Chosen:
    return chosen._replace(**changes)


def values_of(side: Side, axis: Axis, chosen: Chosen) -> list[Value]:
    """The places of an axis; one without a label where nothing changes."""
    where = f"{side}.values"
    if axis.kind == "none":
        return [Value("", _replaced)]
    if axis.kind == "checkpoint":
        files = [file for text in axis.values for file in checkpoints_of(text)]
        return [Value(label, partial(_replaced, lora=file)) for label, file in zip(_apart(files), files, strict=True)]
    if axis.kind == "base":
        names = _apart([Path(text) for text in axis.values])
        return [Value(name, partial(_replaced, base=text)) for name, text in zip(names, axis.values, strict=True)]
    if axis.kind == "prompt":
        return _words(where, axis.values, chosen)
    if axis.kind == "sampler":
        return [Value(name, partial(_replaced, sampler=name)) for name in (_sampler(where, v) for v in axis.values)]
    field, kind = NUMBERS[axis.kind]
    numbers = [number for text in axis.values for piece in text.split(",") for number in _numbers(where, piece, kind)]
    title = {"cfg": "CFG"}.get(axis.kind, axis.kind)
    return [Value(f"{title} {number:.10g}", partial(_replaced, **{field: number})) for number in numbers]


def _apart(files: Sequence[Path]) -> list[str]:
    """Labels of files: their names, with the folder before those that occur twice."""
    names = [file.stem for file in files]
    return [
        name if names.count(name) == 1 else f"{_owner(file)}/{name}" for name, file in zip(names, files, strict=True)
    ]


def _owner(file: Path) -> str:
    return file.parent.parent.name if file.parent.name == "checkpoints" else file.parent.name


def _words(where: str, values: Sequence[str], chosen: Chosen) -> list[Value]:
    """Search and replace: the first value is looked for, in the prompt and in the negative prompt."""
    old = values[0]
    if not old or (old not in chosen.prompt and old not in chosen.negative):
        raise InputError(
            f"{where}: {old[:80]!r} is not in the prompt; the first value is the text that the others take the place of"
        )

    def change(new: str, choice: Chosen) -> Chosen:
        return choice._replace(prompt=choice.prompt.replace(old, new), negative=choice.negative.replace(old, new))

    return [Value(new or "(nothing)", partial(change, new)) for new in values]


def _sampler(where: str, text: str) -> str:
    name = name_of(text)
    if name not in NAMES:
        close = difflib.get_close_matches(str(name), NAMES, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"{where}: {text[:40]!r} is no sampler; {meant}There are {', '.join(NAMES)}")
    return name


def _numbers(where: str, text: str, kind: Any) -> list[Any]:
    """Numbers out of `5`, `1-5`, `0.6-1 (+0.2)` or `0-1 [5]`, as A1111 reads them."""
    text = text.strip()
    if found := _RANGE.fullmatch(text):
        start, stop = float(found[1]), float(found[2])
        step = float(found[3] or (1 if stop >= start else -1))
        count = int(found[4]) if found[4] else int((stop - start) / step + 1.000001) if step else 0
        if not 1 <= count <= MOST:
            raise InputError(f"{where}: {text[:40]!r} is no range; write one such as 0.6-1 (+0.2)")
        step = (stop - start) / max(1, count - 1) if found[4] else step
        numbers = [round(start + step * place, 9) for place in range(count)]
    else:
        try:
            numbers = [float(text)]
        except ValueError:
            raise InputError(
                f"{where}: {text[:40]!r} is no number; write one such as 0.8, or a range such as 1-5"
            ) from None
    try:
        return [
            TypeAdapter(kind).validate_python(int(n) if n.is_integer() and kind is not float else n) for n in numbers
        ]
    except ValidationError as error:
        raise InputError(f"{where}: {text[:40]!r}: it must be {limit_of(error.errors()[0])}") from None
