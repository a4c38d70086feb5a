"""A grid drawn cell by cell: what is drawn stays, so a killed grid goes on, and a larger one draws only what is new."""

from __future__ import annotations

import os
import time
from pathlib import Path

from PIL import Image

from trainer import places
from trainer.compare.generate import Event, notes_of, quiet, say, ticking
from trainer.compare.info import info_of, png_of
from trainer.compare.options import Grid
from trainer.compare.painter import Painter, PaintError
from trainer.compare.plan import Plan, make_plan
from trainer.compare.sheet import write_sheet
from trainer.compare.shot import Stage
from trainer.durable import make_folder, read_json, sweep, write_aside, write_json
from trainer.networks.lora_file import NetworkError
from trainer.terminal import Stop, Stopped, Tell, never, silent
from trainer.tools.report import Report


def run(
    options: Grid,
    tell: Tell = silent,
    should_stop: Stop = never,
    event: Event = quiet,
    painter: Painter | None = None,
) -> Report:
    """Draws a grid into a folder: grid.json (the plan), pictures/ (each cell by name), sheet.png (all as one).

    tell: called with (cells done, cells in all); event: told `cell` for each, with its place, file and seconds;
    painter: one that has a model loaded already.
    InputError as of `make_plan`; a cell that comes to nothing is left empty, and it is said why.
    """
    stage = Stage(options)
    painter = painter or Painter(options, say)
    plan = make_plan(options, stage, painter.precision)
    grids = places.home() / "grids"
    out = Path(options.out).expanduser() if options.out else _fresh(grids)
    pool = Path(options.cells).expanduser() if options.cells else grids / "cells"
    for folder in (out / "pictures", pool):
        make_folder(folder)
    _clear(out, plan)
    write_json(out / "grid.json", plan.to_json())
    sweep(pool, older=3600)
    tick, stopped = ticking(should_stop), False
    wrong: list[str] = []
    drawn = kept = 0
    files: dict[str, Path] = {}
    tell(0, len(plan.cells))
    try:
        for done, cell in enumerate(plan.cells):
            tick()
            begun = time.monotonic()
            file = pool / f"{cell.key}.png"
            is_kept = cell.key in files or is_whole(file)
            try:
                if not is_kept:
                    picture = painter.paint(cell.shot, tick)
                    write_aside(file, png_of(picture, info_of(cell.shot)))
            except (PaintError, NetworkError) as error:
                wrong.append(f"{plan.name(cell).removesuffix('.png')}: {error}")
                event("warning", text=wrong[-1])
                continue
            drawn, kept = drawn + (not is_kept), kept + is_kept
            files[cell.key] = file
            named = out / "pictures" / plan.name(cell)
            place(file, named)
            seconds = round(time.monotonic() - begun, 3)
            event("cell", x=cell.x, y=cell.y, z=cell.z, file=str(named), seconds=seconds, kept=is_kept)
            tell(done + 1, len(plan.cells))
    except Stopped:
        stopped = True
    lines = [*notes_of(stage), *wrong]
    if files:
        lines += write_sheet(out / "sheet.png", plan, files)
    said = f"{drawn} cells drawn, {kept} taken from before, of {len(plan.cells)}, in {out}."
    found = {"folder": str(out), "drawn": drawn, "kept": kept, "cells": len(plan.cells)}
    sheet = [str(out / "sheet.png")] if files else []
    return Report(said, sheet, lines, found, stopped)


def is_whole(file: Path) -> bool:
    """Whether a drawn cell is there and can be read to its end."""
    try:
        with Image.open(file, formats=("PNG",)) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def place(file: Path, named: Path) -> None:
    """A cell under its name in the grid's folder: the same file where the disk allows, else a copy."""
    aside = named.with_name(f"{named.name}.{file.stem[:8]}.part")
    try:
        aside.unlink(missing_ok=True)
        os.link(file, aside)
        os.replace(aside, named)
        aside.unlink(missing_ok=True)  # renaming a link over its own twin leaves both
    except OSError:
        write_aside(named, file.read_bytes())


def _clear(out: Path, plan: Plan) -> None:
    """Takes away the pictures of an earlier grid in the same folder that this one does not have; cells stay."""
    try:
        told = {str(cell["file"]) for cell in read_json(out / "grid.json")["cells"]}
    except (OSError, ValueError, KeyError, TypeError):
        return
    kept = {plan.name(cell) for cell in plan.cells}
    for name in {Path(file).name for file in told} - kept:
        (out / "pictures" / name).unlink(missing_ok=True)


def _fresh(grids: Path) -> Path:
    """A new folder by the time."""
    name, count = time.strftime("%Y-%m-%d_%H%M%S"), 1
    while (folder := grids / (name if count == 1 else f"{name}-{count}")).exists():
        count += 1
    return folder
