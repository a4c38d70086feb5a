"""What Likeness keeps inside a data set: in `.likeness` there, and never behind a link that leads out of it.

A data set may come from anywhere, and hold links to anything.
"""

from __future__ import annotations

from pathlib import Path

from trainer.data.pictures import plain
from trainer.errors import InputError

RENAMING = Path(".likeness") / "renaming.json"
"""A renaming of folders (trainer.folders.balance) that goes on, or that a crash cut off."""


def place(folder: Path, *names: str | Path) -> Path:
    """Where something of ours lies or will lie in a data set; InputError when a link leads out of the folder."""
    found = folder.joinpath(*names)
    try:
        stays = found.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # links in a circle; a NUL
        stays = False
    if not stays:
        raise InputError(f"{plain(str(found), 1000)}: a link leads out of the folder of pictures: remove it")
    return found


def settled(folder: Path) -> None:
    """InputError while folders are half renamed: what is put back then would come into the wrong ones."""
    if place(folder, RENAMING).exists():
        raise InputError(
            f"{plain(str(folder / RENAMING), 1000)}: folders are being renamed, or were when it was cut off: take that "
            "back first, with undo in Dataset balancing"
        )
