"""Class pictures: what the base model draws of a class, for a regularisation folder; none is drawn twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trainer.compare.generate import SEEDS, Event, notes_of, quiet, say, ticking
from trainer.compare.info import info_of, png_of
from trainer.compare.options import ClassPictures
from trainer.compare.painter import Painter
from trainer.compare.shot import Stage
from trainer.durable import make_folder, write_aside
from trainer.terminal import Stop, Stopped, Tell, never, silent
from trainer.tools.report import Report


def run(
    options: ClassPictures,
    tell: Tell = silent,
    should_stop: Stop = never,
    event: Event = quiet,
    painter: Painter | None = None,
) -> Report:
    """Draws the pictures that are still missing into `1_<class>`. tell: called with (pictures there, pictures in all);
    event: told `picture` for each, and `step` now and then; painter: one that has a model loaded already.

    InputError for names, files and settings that do not fit, before a model is loaded wherever that can be known.
    """
    stage = Stage(options)
    shot = stage.shot(stage.chosen()._replace(prompt=options.prompt or options.words))
    folder = Path(options.folder).expanduser() / f"1_{options.words}"
    make_folder(folder)
    known = numbers_in(folder)
    missing = [number for number in range(1, options.count + 1) if number not in known]
    painter = painter or Painter(options, say)
    there, made, stopped = options.count - len(missing), list[str](), False
    tell(there, options.count)
    try:
        for start in range(0, len(missing), options.batch):
            seeds = {n: (shot.seed + n - 1) % SEEDS for n in missing[start : start + options.batch]}
            tick = ticking(should_stop, event)
            pictures = painter.paint_many([replace(shot, seed=seed) for seed in seeds.values()], tick)
            for (number, seed), picture in zip(seeds.items(), pictures, strict=True):
                file = folder / f"{number:05d}-{seed}.png"
                write_aside(file, png_of(picture, info_of(replace(shot, seed=seed))))
                made.append(str(file))
                event("picture", file=str(file), seed=seed)
            tell(there + len(made), options.count)
    except Stopped:
        stopped = True
    said = f"{len(made)} class pictures drawn, {there} were there: {there + len(made)} of {options.count} in {folder}."
    return Report(said, made, notes_of(stage), {"folder": options.folder}, stopped)


def numbers_in(folder: Path) -> set[int]:
    """The numbers of the pictures that are there, whatever their seeds."""
    return {int(file.name.split("-")[0]) for file in folder.glob("[0-9][0-9][0-9][0-9][0-9]-*.png")}
