"""What a person named: whether it is there, said in the same words everywhere."""

from __future__ import annotations

from pathlib import Path

from trainer.data.pictures import plain
from trainer.errors import InputError


def folder_of(field: str, path: str | Path) -> Path:
    """The folder that a path names, all links followed; InputError when there is none."""
    try:
        folder = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{field}: {plain(str(path))!r} cannot be a path ({error}); choose another") from None
    if not folder.is_dir():
        what = "is a file: choose the folder that it lies in" if folder.exists() else "does not exist: check the path"
        raise InputError(f"{field}: {plain(str(folder), 1000)} {what}")
    return folder
