"""Pictures one after the other, into a folder, each saying how it was made."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer import places
from trainer.compare.info import info_of, png_of
from trainer.compare.options import Generate
from trainer.compare.painter import Painter
from trainer.compare.shot import Stage
from trainer.durable import make_folder, write_aside
from trainer.terminal import Stop, Stopped, Tell, never, silent
from trainer.tools.report import Report

Event = Callable[..., None]
"""Told of what happens, as a run folder's `event`."""
SEEDS = 2**32
EVERY = 0.5  # seconds between two events of steps


def quiet(kind: str, /, **facts: Any) -> None:
    """Tells nobody."""


def run(
    options: Generate,
    tell: Tell = silent,
    should_stop: Stop = never,
    event: Event = quiet,
    painter: Painter | None = None,
) -> Report:
    """Draws the pictures. tell: called with (pictures done, pictures in all); event: told `picture` for each,
    and `step` now and then; painter: one that has a model loaded already.

    InputError for names, files and settings that do not fit, before a model is loaded wherever that can be known.
    """
    stage = Stage(options)
    shot = stage.shot(stage.chosen())
    folder = Path(options.out).expanduser() if options.out else places.home() / "pictures"
    make_folder(folder)
    painter = painter or Painter(options, say)
    files: list[Path] = []
    total = options.count * options.batch
    tell(0, total)
    stopped = False
    try:
        for start in range(0, total, options.batch):
            begun = time.monotonic()
            seeds = [(shot.seed + start + n) % SEEDS for n in range(options.batch)]
            pictures = painter.paint_batch(shot, seeds, ticking(should_stop, event))
            for seed, picture in zip(seeds, pictures, strict=True):
                files.append(folder / f"{_next_number(folder):05d}-{seed}.png")
                write_aside(files[-1], png_of(picture, info_of(replace(shot, seed=seed))))
                seconds = round((time.monotonic() - begun) / len(seeds), 3)
                event("picture", file=str(files[-1]), seed=seed, seconds=seconds)
            tell(len(files), total)
    except Stopped:
        stopped = True
    said = f"{len(files)} of {total} pictures in {folder}."
    return Report(said, [str(file) for file in files], notes_of(stage), {"folder": str(folder)}, stopped)


def notes_of(stage: Stage) -> list[str]:
    """What was not as asked, each once."""
    return list(dict.fromkeys([*stage.notes, *stage.shelf.notes]))


def ticking(should_stop: Stop, event: Event = quiet) -> Callable[[], None]:
    """Ends the work between two steps when someone asks to. event: told `step` now and then, with how many are done and
    the seconds that they took."""
    begun = told = time.monotonic()
    done = -1  # it ticks before each step

    def tick() -> None:
        nonlocal begun, told, done
        if should_stop():
            raise Stopped
        done += 1
        now = time.monotonic()
        if not done:
            begun = now  # the model is there only now
        elif now - told >= EVERY:
            told = now
            event("step", done=done, seconds=round(now - begun, 3))

    return tick


def say(text: str) -> None:
    """Says something on stderr; stdout may be a --json report."""
    print(text, file=sys.stderr)


def _next_number(folder: Path) -> int:
    """One more than the highest of A1111's names, `00001-42.png`."""
    numbers: list[Any] = [re.match(r"(\d{5,})-", file.name) for file in folder.iterdir()]
    return max((int(found[1]) for found in numbers if found), default=0) + 1
