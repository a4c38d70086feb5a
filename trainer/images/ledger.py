"""What a tool has made of which picture, so that a second run skips it: `.likeness/images.jsonl` in the output folder.

A line is written before its files are: whatever is cut off is made again, and a file that no line tells of is not ours
and never overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer import own
from trainer.durable import append_line, make_folder

PLACE = Path(".likeness") / "images.jsonl"


@dataclass(frozen=True)
class Entry:
    """One picture as it was made. made: sha256 of each file, by its name in the output folder; by_hand: its masks too.

    source: the picture's path from the output folder; stamp: its size and time of change then.
    """

    tool: str
    source: str
    stamp: tuple[int, int]
    settings: str
    made: Mapping[str, str]
    how: str = ""
    by_hand: bool = False


@dataclass
class Ledger:
    """All entries of an output folder, the newest of each picture and tool."""

    folder: Path
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """The source of every file that was made."""

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """The ledger of a folder; empty when there is none, or nothing that can be read."""
        ledger = cls(folder)
        with contextlib.suppress(OSError):
            for line in own.place(folder, PLACE).read_text("utf-8", "replace").splitlines():
                with contextlib.suppress(ValueError, TypeError, AttributeError):  # a line cut off by a crash
                    told: dict[str, Any] = json.loads(line)
                    size, time = told.pop("stamp")
                    ledger._take(Entry(**told, stamp=(int(size), int(time))))
        return ledger

    def add(self, entry: Entry) -> None:
        """Writes an entry down, before its files are written; DiskError when it cannot be."""
        place = own.place(self.folder, PLACE)
        make_folder(place.parent)
        append_line(place, json.dumps(entry.__dict__ | {"made": dict(entry.made)}).encode() + b"\n")
        self._take(entry)

    def find(self, tool: str, source: Path) -> Entry | None:
        """What a tool made of a picture, last time, or when it made this very file of another."""
        name = self.name(source)
        return self.entries.get((tool, name)) or self.entries.get((tool, self.owners.get(name, "")))

    def is_done(self, entry: Entry | None, source: Path, settings: str) -> bool:
        """Whether a picture was made with these settings, is still the same, and so is there."""
        if (
            entry is None
            or entry.settings != settings
            or not all((self.folder / name).is_file() for name in entry.made)
        ):
            return False
        own = next((digest for name, digest in entry.made.items() if self.folder / name == source), None)
        return digest_of(source) == own if own else stamp_of(source) == entry.stamp

    def name(self, source: Path) -> str:
        """A picture's path from the output folder, so that both may move together."""
        try:
            return Path(os.path.relpath(source, self.folder)).as_posix()
        except ValueError:  # another drive of Windows
            return source.as_posix()

    def _take(self, entry: Entry) -> None:
        self.entries[entry.tool, entry.source] = entry
        self.owners |= dict.fromkeys(entry.made, entry.source)


def stamp_of(file: Path) -> tuple[int, int]:
    """Size and time of change, by which a file is known again without reading it."""
    seen = file.stat()
    return seen.st_size, seen.st_mtime_ns


def digest_of(file: Path) -> str:
    """sha256 of a file; "" when it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
