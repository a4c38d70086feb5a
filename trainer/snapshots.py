"""Copies of captions and pictures from before a change, so that every change can be taken back, byte for byte.

They lie in `.likeness/snapshots/` inside the data set's own folder, one folder for each change, with `list.jsonl`,
whose first line says what was done and when, and copies of large files. A name that begins with a dot is no data to
any trainer.
"""

from __future__ import annotations

import contextlib
import json
import time
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer import own
from trainer.durable import append_line, failed, make_folder, stamp, write_aside, write_many
from trainer.errors import InputError

SMALL = 65_536  # bytes: a caption, never a picture worth training on
PLACE = Path(".likeness") / "snapshots"


@dataclass
class Snapshot:
    """How files were before one change. Make it with `begin`, and `keep` each file before it is written."""

    folder: Path
    """The data set."""
    id: str
    what: str = ""
    time: float = 0.0
    """Unix seconds."""
    files: dict[str, bytes | str | None] = field(default_factory=dict)
    """Each file, relative to the data set with `/`: its content if it is small, the name of its copy if it is large,
    None when it did not exist."""

    @property
    def place(self) -> Path:
        """Where its list and its copies lie."""
        return own.place(self.folder, PLACE, self.id)

    def keep(self, *files: Path) -> None:
        """Copies files as they are now, unless they were kept already. Do it before writing: DiskError when it fails.

        All together cost one flush to the disk, however many captions there are.
        """
        lines: list[dict[str, Any]] = [] if self.files else [{"what": self.what, "time": self.time}]
        kept: dict[str, bytes | str | None] = {}
        for file in files:
            name = file.relative_to(self.folder).as_posix()
            if name not in self.files and name not in kept:
                kept[name] = self._copied(file, len(self.files) + len(kept))
                lines.append({"file": name, **_told(kept[name])})
        if kept:
            make_folder(self.place)
            self._note(lines)
            self.files |= kept

    def write(self, file: Path, content: bytes) -> None:
        """Keeps a file, then writes it."""
        self.keep(file)
        make_folder(file.parent)
        write_aside(file, content)

    def before(self, name: str) -> bytes | None:
        """A file as it was, None when it did not exist."""
        kept = self.files[name]
        return (self.place / kept).read_bytes() if isinstance(kept, str) else kept

    def restore(self) -> Snapshot:
        """Puts every file back as it was; gives the snapshot of how they were until now, so this can be undone too.

        InputError while folders are half renamed.
        """
        own.settled(self.folder)
        undo = begin(self.folder, f"before undoing: {self.what}")
        undo.keep(*(self.folder / name for name in self.files))
        small: dict[Path, bytes] = {}
        for name, kept in self.files.items():
            file = self.folder / name
            make_folder(file.parent)
            if kept is None:
                file.unlink(missing_ok=True)
            elif isinstance(kept, bytes):
                small[file] = kept
            else:
                write_aside(file, (self.place / kept).read_bytes())
        write_many(small)
        return undo

    def _copied(self, file: Path, number: int) -> bytes | str | None:
        """What is kept of a file: a copy is written for a large one."""
        if not file.is_file():
            return None
        copy = f"{number:06}{file.suffix}"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise failed(self.place / copy, error) from error
        if len(content) <= SMALL:
            return content
        make_folder(self.place)
        write_aside(self.place / copy, content)
        return copy

    def _note(self, lines: list[dict[str, Any]]) -> None:
        """Appends to the list; what a power cut takes with it was not changed in the data set yet."""
        told = "".join(json.dumps(line) + "\n" for line in lines)  # names may hold bytes that are no text
        append_line(self.place / "list.jsonl", told.encode(), flush=True)


def _told(kept: bytes | str | None) -> dict[str, str]:
    if kept is None:
        return {}
    return {"copy": kept} if isinstance(kept, str) else {"content": b64encode(kept).decode()}


def begin(folder: Path, what: str) -> Snapshot:
    """A new snapshot of a data set, for a change in words ("WD14 captions"); nothing is on the disk before `keep`."""
    now = time.time_ns()
    return Snapshot(folder, stamp(now), what, now / 1e9)


def snapshots(folder: Path) -> list[Snapshot]:
    """All snapshots of a data set, the newest first."""
    lists = sorted(own.place(folder, PLACE).glob("*/list.jsonl"), reverse=True)
    found = [load(folder, file.parent.name) for file in lists]
    return [snapshot for snapshot in found if snapshot.files]


def load(folder: Path, name: str) -> Snapshot:
    """A snapshot by its id; InputError when there is none."""
    made = Snapshot(folder, name)
    if {*name} & {"/", "\\", "\0"} or not own.place(folder, PLACE, name, "list.jsonl").is_file():
        raise InputError(f"snapshot: {name!r} is none of {folder}; choose one of its list")
    held: dict[Path, bool] = {}  # by folder, since links are slow to follow
    for line in (made.place / "list.jsonl").read_text("utf-8").splitlines():
        # A last line cut off by a crash: its file was not changed yet. The list of a data set from elsewhere may lie.
        with contextlib.suppress(ValueError, LookupError, TypeError):
            told = json.loads(line)
            if "what" in told:
                made.what, made.time = told["what"], told["time"]
            elif _held(folder, folder / told["file"], held) and (
                "copy" not in told or _inside(made.place, told["copy"])
            ):
                content = told.get("content")
                made.files[told["file"]] = told.get("copy") if content is None else b64decode(content)
    return made


def _held(folder: Path, file: Path, known: dict[Path, bool]) -> bool:
    """Whether a file lies in a folder; what is found out about the folders between goes to `known`."""
    place = file if file.name == ".." or file.is_symlink() else file.parent
    if place not in known:
        known[place] = place.resolve().is_relative_to(folder.resolve())
    return known[place]


def _inside(folder: Path, name: str) -> bool:
    """Whether a name stays in a folder: the list of a data set from elsewhere may say anything."""
    return (folder / name).resolve().is_relative_to(folder.resolve())
