"""Pictures and captions from elsewhere, out of a zip too: looked at one by one, kept aside, and nothing else taken."""

from __future__ import annotations

import lzma
import mmap
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data.folders import Problem
from trainer.data.pictures import plain
from trainer.durable import failed, megabytes
from trainer.errors import InputError
from trainer.folders.files import KOHYA, bad_name, is_caption, is_picture, why_no_picture

LARGEST = 256 * 2**20  # bytes of one picture
LONGEST_CAPTION = 64 * 2**10
MOST_SHRUNK = 100  # a picture shrinks little in a zip: what unfolds more than this is a bomb
DAMAGED = zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, struct.error
Step = Callable[[int, int], bool]
"""Told (entries done, entries in all) before each; False ends it."""


class TooLarge(InputError):
    """More than may come at once."""


@dataclass(frozen=True)
class Limits:
    """How much may come at once, unpacked too."""

    bytes: int = 4 * 2**30
    files: int = 20_000


class Intake:
    """Files that come in. `kept`: where each lies aside, by the folder that it is to be in, and its name."""

    def __init__(self, aside: Path, limits: Limits, place: Callable[[Sequence[str]], str]) -> None:
        """`aside` holds what is kept; `place` gives the folder for a file out of the names of those it came in."""
        self.aside, self.limits, self.place = aside, limits, place
        self.kept: dict[tuple[str, str], Path] = {}
        self.problems: list[Problem] = []
        self.unpacked = 0  # bytes
        self.files = 0

    def take(self, name: str, path: Path) -> None:
        """Moves a file here, if it is a picture or a caption; any other is listed. name: with the folders it came in.

        Raises TooLarge when there are too many.
        """
        self.files += 1
        if self.files > self.limits.files:
            raise TooLarge(f"files: more than {self.limits.files:,}; bring them in parts")
        *above, short = re.split(r"[/\\]", name)
        folder = self.place(above)
        size, limit = path.stat().st_size, LARGEST if is_picture(short) else LONGEST_CAPTION
        if not is_picture(short) and not is_caption(short):
            why = "neither a picture nor a caption"
        elif ".." in above or name[:1] in ("/", "\\") or bad_name(short):
            why = "a name that cannot be kept"
        elif (folder, short) in self.kept:
            why = "another of this name came before"
        elif size > limit:
            why = f"larger than {megabytes(limit)}"
        else:
            why = why_no_picture(path) if is_picture(short) else ""
        if why:
            return self.leave_out(name, why)
        self.kept[folder, short] = path.rename(self.aside / str(self.files))

    def unpack(self, name: str, path: Path, step: Step = lambda done, total: True) -> bool:
        """Takes what a zip holds; one that is damaged is listed. False when `step` ended it. TooLarge as in `take`."""
        if count_entries(path, self.limits.files) > self.limits.files:
            raise TooLarge(f"{plain(name)}: more than {self.limits.files:,} files; bring them in parts")
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
                for done, entry in enumerate(entries):
                    if not step(done, len(entries)):
                        return False
                    self._unpack_one(archive, entry)
        except (*DAMAGED, ValueError) as error:
            if isinstance(error, InputError):
                raise
            self.leave_out(name, f"a damaged zip ({error})")
        return True

    def leave_out(self, name: str, why: str) -> None:
        """Lists a file; what systems add by themselves is not worth a word."""
        parts = re.split(r"[/\\]", name)
        if not (parts[-1].startswith(".") or "__MACOSX" in parts or parts[-1].lower() in ("thumbs.db", "desktop.ini")):
            self.problems.append(Problem(plain(name), why, "left out"))

    def _unpack_one(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        if entry.flag_bits & 1:
            return self.leave_out(entry.filename, "locked with a password")
        if stat.S_ISLNK(entry.external_attr >> 16):
            return self.leave_out(entry.filename, "a link")
        if entry.file_size > 2**20 and entry.file_size > MOST_SHRUNK * max(1, entry.compress_size):
            return self.leave_out(entry.filename, "it unfolds to more than a picture would")
        self.unpacked += entry.file_size
        if self.unpacked > self.limits.bytes:
            raise TooLarge(
                f"{plain(archive.filename or '')}: more than {megabytes(self.limits.bytes)}; bring it in parts"
            )
        path = self.aside / "entry"
        try:
            with archive.open(entry) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file)  # reads no more than the size that was looked at
        except DAMAGED as error:
            return self.leave_out(entry.filename, f"damaged in the zip ({error})")
        except OSError as error:
            if error.errno is None:  # no disk's fault: bzip2 says so of damaged data
                return self.leave_out(entry.filename, f"damaged in the zip ({error})")
            raise failed(self.aside, error) from error
        self.take(entry.filename, path)


def numbered(above: Sequence[str]) -> str:
    """The folder `<repeats>_<words>` that a file came in, "" for another."""
    return above[-1] if above and KOHYA.fullmatch(above[-1]) and not bad_name(above[-1]) else ""


def count_entries(path: Path, most: int) -> int:
    """Entries of a zip by their marks, counted no further than matters: its own table may lie, or hold millions."""
    if not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count = place = 0
        while count <= most and (place := data.find(b"PK\1\2", place) + 1):
            count += 1
        return count
