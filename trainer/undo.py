"""`python -m trainer undo DIR`: what was changed in a data set, by any tool, and the way back."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from trainer import aside
from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.snapshots import load, snapshots

LAST = "last"


def add(words: Any) -> None:
    """Adds the word `undo` to the engine's command line."""
    about = "list what was changed in a data set, and take it back"
    undo = words.add_parser("undo", help=about, description=f"{about[0].upper()}{about[1:]}.")
    undo.add_argument("folder", type=Path, metavar="DIR", help="the data set's folder")
    undo.add_argument("--snapshot", metavar="ID", help=f"put the files of a change back; {LAST}: the newest")
    undo.add_argument("--aside", action="store_true", help="put all pictures back that were set aside")
    undo.set_defaults(do=run_undo)


def run_undo(given: argparse.Namespace) -> int:
    """Lists the changes, or takes one back; that can be taken back too."""
    folder = given.folder.expanduser().resolve()
    if not folder.is_dir():
        raise InputError(f"folder: {plain(str(given.folder))} is no folder here: choose the data set's")
    if given.snapshot:
        print(restored(folder, given.snapshot))
    if given.aside:
        print(f"{len(aside.put_back(folder, aside.names(folder)))} pictures are back")
    if not (given.snapshot or given.aside):
        print("\n".join(listed(folder)))
    return 0


def restored(folder: Path, name: str) -> str:
    """Puts a snapshot's files back, and says so. InputError when there is none of that name."""
    found = snapshots(folder) if name == LAST else [load(folder, name)]
    if not found:
        raise InputError(f"snapshot: nothing was changed in {plain(str(folder))} by these tools")
    undo = found[0].restore()
    return f"{len(undo.files)} files are as before: {found[0].what}; snapshot {undo.id} takes this back"


def listed(folder: Path) -> list[str]:
    """A line for each change, the newest first, and one for the pictures that are set aside."""
    lines = [
        f"{one.id}  {time.strftime('%d %b %H:%M', time.localtime(one.time))}  {len(one.files):>5} files  {one.what}"
        for one in snapshots(folder)
    ]
    away = len(aside.names(folder))
    lines += [f"{away} pictures are set aside; --aside puts them back"] if away else []
    return lines or ["Nothing was changed here by these tools"]
