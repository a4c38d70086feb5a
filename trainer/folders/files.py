"""Files and folders by name: which are pictures, which names any disk takes, and copies that are sure to be equal."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from trainer import places
from trainer.config.run import RESERVED
from trainer.data.folders import ENDINGS, Problem
from trainer.data.pictures import FORMATS, plain
from trainer.durable import TEMPORARY, DiskError, failed, make_folder, sweep, write_aside
from trainer.errors import InputError
from trainer.images.batch import MASKS

CODE = [places.ROOT / name for name in ("trainer", "webui", "presets", "docs", "tests", ".venv", ".git")]
CAPTIONS = (".txt", ".caption", ".tags")
KOHYA = re.compile(r"\d+_.+")
NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
STALE = 24 * 3600  # seconds after which what was cut off is swept


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its ending."""
    return name.lower().endswith(ENDINGS)


def is_caption(name: str) -> bool:
    """Whether a file is a caption by its ending."""
    return name.lower().endswith(CAPTIONS)


def why_no_picture(path: Path) -> str:
    """Why a file is no picture, "" when it begins like one: whether all of it is whole is seen before training."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS):
            return ""
    except Exception:  # on damaged bytes decoders raise nearly anything
        return "not a picture that can be read"


def bad_name(name: str) -> bool:
    """Whether a file cannot have this name on every system."""
    return (
        not name or name != name.strip(" .") or len(name.encode("utf-8", "replace")) > 200
        or bool(NOT_IN_NAMES.search(name) or RESERVED.match(name)) or plain(name) != name
    )  # fmt: skip


def folder_name(field: str, name: str) -> str:
    """A name that a folder can have; InputError when this one cannot be."""
    if bad_name(name):
        raise InputError(
            f'{field}: {plain(name)!r} cannot be the name of a folder: no < > : " / \\ | ? *, no dot or space at an'
            " end, at most 200 bytes; choose another"
        )
    return name


def not_ours(field: str, folder: Path) -> Path:
    """A folder that may be changed; InputError for one of Likeness itself."""
    if any(folder.is_relative_to(code) for code in CODE):
        raise InputError(f"{field}: {folder} is where Likeness itself lies; choose another folder")
    return folder


def walk(root: Path, problems: list[Problem], deep: bool = True) -> Iterator[Path]:
    """Every file of a folder and of those in it, sorted; not what is hidden, masks, and links that lead out."""

    def closed(error: OSError) -> None:
        problems.append(Problem(shown(Path(error.filename), root), f"cannot be opened ({error.strerror})", "left out"))

    for place, folders, files in os.walk(root, onerror=closed):
        here = Path(place)
        hidden = [name for name in folders if name.startswith(".") or (name == MASKS and here == root)]
        links = [name for name in folders if name not in hidden and (here / name).is_symlink()]
        problems += [Problem(shown(here / name, root), "a link to a folder", "left out") for name in links if deep]
        folders[:] = sorted({*folders} - {*hidden, *links}) if deep else []
        for name in sorted(name for name in files if not name.startswith(".")):
            file = here / name
            if file.is_symlink() and not file.resolve().is_relative_to(root):
                problems.append(Problem(shown(file, root), "a link that leaves the folder", "left out"))
            elif file.is_file():  # opening a pipe would wait for ever
                yield file


def shown(file: Path, root: Path) -> str:
    """A file's name as it is told: from the folder on, and safe to print."""
    return plain(file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file))


def digest_of(path: Path) -> str:
    """sha256 of a file; InputError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{plain(str(path), 1000)}: cannot be read ({error.strerror}); check it") from error


def copy(source: Path, target: Path) -> str:
    """Copies a file with its time, reads the copy again and compares; gives its sha256. DiskError when it differs."""

    def stream(file: BinaryIO) -> None:
        with source.open("rb") as old:
            shutil.copyfileobj(old, file)

    wanted = digest_of(source)

    def check(part: Path) -> None:
        if digest_of(part) != wanted:
            raise DiskError(f"{target}: the copy differs from {source}; check the disk, and try again")

    write_aside(target, stream, check)
    try:
        shutil.copystat(source, target)
    except OSError as error:
        raise failed(target, error) from error
    return wanted


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder` where work is made ready; it is gone afterwards, with what is left in it."""
    make_folder(folder)
    sweep(folder, STALE)
    aside = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder))
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def free_name(folder: Path) -> Path:
    """The folder, or the first of `-2`, `-3`, ... that is not there."""
    count, free = 1, folder
    while free.exists():
        count += 1
        free = folder.with_name(f"{folder.name}-{count}")
    return free
