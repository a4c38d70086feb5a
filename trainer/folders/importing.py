"""Pictures and captions copied into a data set from a zip or a folder. What the data set has already is passed over."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections import Counter
from pathlib import Path

from trainer.data.folders import Problem
from trainer.data.pictures import plain
from trainer.durable import failed, make_folder, need_space, sync_folder
from trainer.errors import InputError
from trainer.folders.files import KOHYA, beside, digest_of, is_picture, not_ours, walk
from trainer.folders.intake import Intake, Limits, numbered
from trainer.folders.options import Import
from trainer.folders.report import Report
from trainer.terminal import Stop, Tell, never, silent


def run(options: Import, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Copies what `source` holds into `folder`: a picture with its captions, or not at all.

    Folders named `<repeats>_<words>` keep their names, unless `folder` is one itself; all other pictures go into
    `folder`. A name that is taken gets `-2`. Nothing comes in when it is stopped; what a crash cut off goes on with the
    same command. The report's `found` has `folder`, and how many `pictures` and `captions` came in, and were `known`.
    """
    source, goal = Path(options.source).expanduser().resolve(), Path(options.folder).expanduser().resolve()
    _check(source, not_ours("folder", goal))
    count: Counter[str] = Counter()
    with beside(goal) as aside:
        # Folders stay apart until each file has its name: a.txt of one is not the caption of another's a.png.
        intake = Intake(aside, Limits(), "/".join)
        if not _taken(source, intake, tell, should_stop):
            return Report("Stopped: nothing came in.", intake.problems, {"folder": str(goal), **count}, stopped=True)
        known = {digest_of(file) for file in walk(goal, []) if is_picture(file.name)}
        flat = bool(KOHYA.fullmatch(goal.name))
        for (above, stem), files in _together(intake).items():
            digests = {name: digest_of(path) for name, path in files.items() if is_picture(name)}
            kept = {name: path for name, path in files.items() if digests.get(name) not in known}
            fresh = [name for name in kept if name in digests]
            count["known"] += len(digests) - len(fresh)
            if not digests:
                intake.problems += [Problem(plain(name), "a caption without its picture", "left out") for name in files]
            if fresh:
                known |= {*digests.values()}
                _settle(kept, stem, goal / ("" if flat else numbered(above.split("/"))))
                count["pictures"] += len(fresh)
                count["captions"] += len(kept) - len(fresh)
    said = f"{count['pictures']} pictures and {count['captions']} captions came in"
    said += f", {count['known']} pictures were there already." if count["known"] else "."
    return Report(said, intake.problems, {"folder": str(goal), **count})


def _check(source: Path, goal: Path) -> None:
    if not source.exists():
        raise InputError(f"source: {plain(str(source), 1000)} does not exist: check the path")
    if source.is_file() and not zipfile.is_zipfile(source):
        raise InputError(f"source: {plain(str(source), 1000)} is no zip: choose a zip, or a folder")
    if goal.exists() and not goal.is_dir():
        raise InputError(f"folder: {plain(str(goal), 1000)} is a file: choose a folder")
    if goal.is_relative_to(source) or source.is_relative_to(goal):
        raise InputError(f"source: {plain(str(source), 1000)} and the data set lie in each other: choose another")


def _taken(source: Path, intake: Intake, tell: Tell, should_stop: Stop) -> bool:
    """Takes in what there is; False when it was stopped."""

    def step(done: int, total: int) -> bool:
        tell(done, total)
        return not should_stop()

    if source.is_file():
        need_space(intake.aside, source.stat().st_size)
        return intake.unpack(source.name, source, step)
    files = list(walk(source, intake.problems))
    need_space(intake.aside, sum(file.stat().st_size for file in files))
    for done, file in enumerate(files):
        if not step(done, len(files)):
            return False
        copy = intake.aside / "copy"
        try:
            shutil.copy2(file, copy)
        except OSError as error:
            intake.leave_out(file.relative_to(source).as_posix(), f"cannot be copied ({error.strerror})")
            continue
        intake.take(file.relative_to(source).as_posix(), copy)
    return True


def _together(intake: Intake) -> dict[tuple[str, str], dict[str, Path]]:
    """What came in, by folder and name without ending; pictures with captions first, as others may be the same."""
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for (above, name), path in intake.kept.items():
        found.setdefault((above, Path(name).stem), {})[name] = path
    return dict(sorted(found.items(), key=lambda item: (all(map(is_picture, item[1])), item[0])))


def _settle(files: dict[str, Path], stem: str, goal: Path) -> None:
    """Gives files their names, all with one stem that nothing there has; captions first, for a picture ends it."""
    make_folder(goal)
    taken = {Path(name).stem.casefold() for name in os.listdir(goal)}
    free, count = stem, 1
    while free.casefold() in taken:
        count += 1
        free = f"{stem}-{count}"
    try:
        for name in sorted(files, key=is_picture):
            files[name].chmod(files[name].stat().st_mode | stat.S_IWUSR)  # the copy of one that is for reading only
            with files[name].open("r+b") as file:  # Windows flushes only what it may write
                os.fsync(file.fileno())
            os.rename(files[name], goal / f"{free}{Path(name).suffix}")
        sync_folder(goal)
    except OSError as error:
        raise failed(goal, error) from error
