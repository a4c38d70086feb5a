"""Pictures set aside: moved with what lies beside them to `.likeness/aside/` in the data set, and back.

Nothing is deleted or overwritten. Each time has a folder of its own there, so that no name is ever taken; a name that
begins with a dot is no data to any trainer.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from trainer import own
from trainer.data.folders import ENDINGS
from trainer.data.pictures import plain
from trainer.durable import failed, make_folder, stamp, sync_folder
from trainer.errors import InputError

PLACE = Path(".likeness") / "aside"


def away(folder: Path, pictures: Iterable[Path], needed: Collection[Path] = ()) -> dict[Path, Path]:
    """Where pictures of a data set go, with the files of their names, such as captions.

    Those that another picture of the same name has too stay, and those that are `needed`.
    """
    place = own.place(folder, PLACE) / stamp(time.time_ns())
    gone = dict.fromkeys(sorted(pictures))
    for picture in gone:
        _need(picture)
    files = dict.fromkeys(gone)
    beside = _by_name({picture.parent for picture in gone})
    for picture in gone:
        same = beside[picture.with_suffix("")]
        if not any(_is_picture(path) and path not in gone for path in same):
            files |= dict.fromkeys(path for path in same if not _is_picture(path) and path not in needed)
    return {file: place / file.relative_to(folder) for file in files}


def back(folder: Path, names: Iterable[str]) -> dict[Path, Path]:
    """Where pictures go that were set aside, by their names below `.likeness/aside/`; InputError for one not there.

    What is in the data set already, such as a caption that another picture shares, stays as it is there; of captions
    that would have one name the first comes back.
    """
    own.settled(folder)
    aside = own.place(folder, PLACE)
    moves: dict[Path, Path] = {}
    goals: set[Path] = set()
    for name in dict.fromkeys(names):
        place = PurePosixPath(name)
        picture = aside / place
        if place.is_absolute() or ".." in place.parts or len(place.parts) < 2 or not _shown(aside, picture):
            raise InputError(f"names: {plain(name)} is not set aside in {plain(str(folder))}: choose one that is")
        for path in sorted(_by_name({picture.parent})[picture.with_suffix("")]):
            goal = own.place(folder, *path.relative_to(aside).parts[1:-1]) / path.name
            if path == picture or not (_is_picture(path) or goal in goals or os.path.lexists(goal)):
                moves[path] = goal
                goals.add(goal)
    return moves


def names(folder: Path) -> list[str]:
    """The pictures of a data set that are set aside, the newest first, as `back` takes them."""
    aside = own.place(folder, PLACE)
    found = [path for path in aside.glob("*/**/*") if _shown(aside, path)]
    return [path.relative_to(aside).as_posix() for path in sorted(found, reverse=True)]


def move(moves: Mapping[Path, Path]) -> None:
    """Moves files, all or none. InputError when one is gone or its goal is taken, DiskError when the disk fails."""
    goals: set[Path] = set()
    for file, goal in moves.items():
        _need(file)
        if os.path.lexists(goal):
            raise InputError(f"{plain(goal.name)}: is in {plain(str(goal.parent))} already: rename one of the two")
        if goal in goals:
            raise InputError(f"{plain(goal.name)}: two files would have this name: move one, and rename it first")
        goals.add(goal)
    for folder in {goal.parent for goal in goals}:
        make_folder(folder)
    done: dict[Path, Path] = {}
    for file, goal in moves.items():
        try:
            os.rename(file, goal)
        except OSError as error:
            for old, new in done.items():
                os.rename(new, old)
            raise failed(goal, error) from error
        done[file] = goal
    for folder in {path.parent for pair in moves.items() for path in pair}:
        try:
            sync_folder(folder)
        except OSError as error:
            raise failed(folder, error) from error


def set_aside(folder: Path, pictures: Iterable[Path]) -> list[str]:
    """Moves pictures of a data set aside; gives their names there, as `put_back` takes them."""
    moves = away(folder, pictures)
    move(moves)
    return [goal.relative_to(folder / PLACE).as_posix() for goal in moves.values() if _is_picture(goal)]


def put_back(folder: Path, names: Iterable[str]) -> list[Path]:
    """Moves pictures back where they were, by their names below `.likeness/aside/`; gives the pictures."""
    moves = back(folder, names)
    move(moves)
    return [goal for goal in moves.values() if _is_picture(goal)]


def _need(file: Path) -> None:
    if not os.path.lexists(file):
        raise InputError(f"{plain(file.name)}: is no longer in {plain(str(file.parent))}: refresh the list")


def _by_name(folders: Iterable[Path]) -> dict[Path, list[Path]]:
    """The files of folders by the path, without ending, of the picture whose name they begin with."""
    found: dict[Path, list[Path]] = {}
    for folder in folders:
        paths = sorted(folder.iterdir())
        pictures = {path.stem for path in paths if _is_picture(path)}
        for path in paths:
            starts = [path.name[: dot.start()] for dot in re.finditer(r"\.", path.name)]
            stem = next((start for start in reversed(starts) if start in pictures), path.stem)
            found.setdefault(folder / stem, []).append(path)
    return found


def _shown(aside: Path, path: Path) -> bool:
    """Whether a picture is set aside there; a data set from elsewhere may hold links to anything."""
    return _is_picture(path) and path.is_file() and path.resolve().is_relative_to(aside.resolve())


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS
