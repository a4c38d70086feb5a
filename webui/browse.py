"""The file browser of the page: looks only into the folders that the settings name."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.data.folders import ENDINGS
from trainer.errors import InputError
from webui.settings import shows

MOST = 5000  # entries that are listed
COUNTING = 0.3  # seconds that may be spent on counting the pictures in folders
REPEATS = re.compile(r"\d+_")


class Outside(InputError):
    """A place that the page may not look at."""


def inside(path: str, roots: Sequence[Path], field: str = "path") -> Path:
    """The place that a path leads to, all links followed; Outside unless it lies in a root and is not hidden there."""
    try:
        real = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise Outside(f"{field}: {path[:200]!r} cannot be a path ({error}); choose another") from None
    if not Path(path).expanduser().is_absolute():
        raise Outside(f"{field}: {path[:200]!r} is not a whole path; choose it in the file browser")
    if any(shows(root, real) for root in map(_real, roots)):
        return real
    places = ", ".join(map(str, roots))
    raise Outside(
        f"{field}: {path[:200]} is not in a folder that the page may use ({places}); choose one in these, or start the"
        " page with --browse-dir FOLDER"
    )


def browse(path: str, roots: Sequence[Path], kind: str = "folder", endings: Sequence[str] = ()) -> dict[str, Any]:
    """What lies in a folder: folders first, then with kind "file" the files with one of the endings.

    Without a path, the roots. Hidden entries, and links that lead out of the roots, are left out.
    """
    shown = [{"name": root.name or str(root), "path": str(root)} for root in map(_real, roots) if root.is_dir()]
    if not path:
        entries = [{**root, "folder": True, "size": None, "pictures": None} for root in shown]
        return {"path": "", "parent": None, "entries": entries, "roots": shown}
    folder = inside(path, roots)
    if folder.is_file():
        folder = folder.parent
    try:
        with os.scandir(folder) as found:
            listed = sorted((entry for entry in found if _is_shown(entry, roots)), key=lambda entry: _order(entry.name))
    except OSError as error:
        raise InputError(f"path: {folder} cannot be looked at ({error.strerror}); choose another") from error
    until = time.monotonic() + COUNTING
    entries = [_entry(entry, until) for entry in listed if entry.is_dir()]
    if kind == "file":
        files = (entry for entry in listed if entry.is_file())
        ends = tuple(ending.lower() for ending in endings)
        entries += [_entry(entry, until) for entry in files if not ends or entry.name.lower().endswith(ends)]
    parent = str(folder.parent) if any(folder.parent.is_relative_to(root) for root in map(_real, roots)) else ""
    more = max(0, len(entries) - MOST)
    return {"path": str(folder), "parent": parent, "entries": entries[:MOST], "more": more, "roots": shown}


def count_pictures(folder: str | Path, deep: bool = True) -> int:
    """Pictures in a folder, and in its folders named `<repeats>_<words>`, by their endings."""
    count = 0
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.lower().endswith(ENDINGS) and not entry.name.startswith("."):
                    count += 1
                elif deep and REPEATS.match(entry.name) and entry.is_dir(follow_symlinks=False):
                    count += count_pictures(entry.path, deep=False)
    except OSError:  # one that may not be looked at holds nothing for us
        return count
    return count


def _entry(entry: os.DirEntry[str], until: float) -> dict[str, Any]:
    folder = entry.is_dir()
    pictures = count_pictures(entry.path) if folder and time.monotonic() < until else None
    size = None if folder else entry.stat().st_size
    return {"name": entry.name, "path": entry.path, "folder": folder, "size": size, "pictures": pictures}


def _is_shown(entry: os.DirEntry[str], roots: Sequence[Path]) -> bool:
    try:
        entry.name.encode("utf-8")  # a name in another encoding cannot be sent, nor sent back
        if entry.name.startswith(".") or not (entry.is_dir() or entry.is_file()):
            return False
        return not entry.is_symlink() or bool(inside(entry.path, roots))
    except (OSError, UnicodeEncodeError, Outside):
        return False


def _order(name: str) -> list[tuple[int, str]]:
    """Names as people order them: 2 before 10."""
    return [(int(part), "") if part.isdecimal() else (0, part.lower()) for part in re.split(r"(\d+)", name) if part]


def _real(root: Path) -> Path:
    return root.expanduser().resolve()
