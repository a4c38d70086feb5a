"""Tags that a person may be about to write: those of the data set by frequency, then those of lists."""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from trainer.data.encoding import decode
from trainer.data.pictures import plain
from trainer.errors import InputError

LARGEST = 100_000_000  # bytes; the largest list that is passed around has 8 MB


class Known(NamedTuple):
    """A tag of a list: how often it is used there, and its other names."""

    tag: str
    count: int
    aliases: tuple[str, ...] = ()
    category: str = ""


class Offer(NamedTuple):
    """A tag that is offered; `own` ones are in the data set, `alias` is the other name that was found."""

    tag: str
    count: int
    own: bool
    alias: str = ""


def read_list(file: Path, blanks: bool = True) -> list[Known]:
    """The tags of a list in the tagcomplete format (tag,category,count,"aliases") or with a tag a line, by count.

    `blanks` writes `_` as a blank, but for emoticons (up to three letters). 140,000 tags take 0.5 s.
    InputError for a file that is no such list.
    """
    try:
        if file.stat().st_size > LARGEST:
            raise InputError(f"{plain(str(file))}: more than {LARGEST // 1_000_000} MB: choose a list of tags")
        text = decode(file.read_bytes())[0]
    except OSError as error:
        raise InputError(f"{plain(str(file))}: cannot be read ({error.strerror}): choose another list") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{plain(str(file))}: is no text: choose a list of tags") from error
    known = []
    rows = csv.reader(text.splitlines())
    try:
        for row in rows:
            if row and row[0].strip():
                known.append(_known([cell.strip() for cell in row], blanks))
    except (csv.Error, ValueError) as error:
        wrong = f"{plain(str(file))}, line {rows.line_num}: {plain(str(error))}"
        raise InputError(f'{wrong}: each line is tag,category,count,"aliases", or a tag alone') from error
    return sorted(known, key=lambda tag: -tag.count)


_Read = dict[Path, tuple[tuple[int, int], list[Known] | str]]  # by file: when it was written, and what it holds


class Lists:
    """The tag lists of a folder, each read anew only when its file has changed. Safe to call from several threads."""

    problems: list[str]
    """What is wrong with lists that are left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems = []
        self._read: _Read = {}
        self._known: list[Known] = []
        self._lock = threading.Lock()

    def files(self) -> list[Path]:
        """The lists that are there."""
        return sorted(file for file in self.folder.glob("*") if file.suffix.lower() in (".csv", ".txt"))

    def known(self) -> list[Known]:
        """The tags of all lists, by count; one that several have as the first of them has it."""
        with self._lock:
            now: _Read = {}
            for file in self.files():
                old, stamp = self._read.get(file), _stamp(file)
                now[file] = old if old and old[0] == stamp else (stamp, _tried(file))
            if self._read != now:
                self._read = now
                self.problems = [tags for _, tags in self._read.values() if isinstance(tags, str)]
                first: dict[str, Known] = {}
                for _, tags in self._read.values():
                    for tag in () if isinstance(tags, str) else tags:
                        first.setdefault(_simple(tag.tag), tag)
                self._known = sorted(first.values(), key=lambda tag: -tag.count)
            return self._known


def complete(
    text: str,
    own: Mapping[str, int],
    lists: Iterable[Known] = (),
    mode: Literal["start", "contain"] = "start",
    most: int = 20,
) -> list[Offer]:
    """Tags that start with or contain a text, whatever its capitals: own ones by frequency, then those of the list.

    Blanks and `_` are the same. 140,000 tags take 30 ms when none fits, less when many do.
    """
    wanted = _simple(text.strip())
    if not wanted:
        return []

    def fits(name: str) -> bool:
        return _simple(name).startswith(wanted) if mode == "start" else wanted in _simple(name)

    mine = sorted(((tag, count) for tag, count in own.items() if fits(tag)), key=lambda pair: (-pair[1], pair[0]))
    offers = [Offer(tag, count, True) for tag, count in mine[:most]]
    there = {_simple(tag) for tag in own}

    def listed() -> Iterable[Offer]:
        for known in lists:
            if _simple(known.tag) in there:
                continue
            if fits(known.tag):
                yield Offer(known.tag, known.count, False)
            elif alias := next((name for name in known.aliases if fits(name)), ""):
                yield Offer(known.tag, known.count, False, alias)

    return [*offers, *islice(listed(), most - len(offers))]


def _stamp(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:  # gone meanwhile, or a link to nowhere: reading it says so
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _tried(file: Path) -> list[Known] | str:
    """The tags of a list, or what is wrong with it."""
    try:
        return read_list(file)
    except InputError as error:
        return str(error)


def _known(row: list[str], blanks: bool) -> Known:
    """A tag of a row; the columns after the first may be missing."""
    tag, category, count, aliases = (*row, "", "", "", "")[:4]
    names = [tag, *(name.strip() for name in aliases.split(",") if name.strip())]
    tag, *others = (name.replace("_", " ") if blanks and len(name) > 3 else name for name in names)
    if not (count or "0").isdecimal():
        raise ValueError(f"{count!r} is no count")
    return Known(tag, int(count or 0), tuple(others), category)


def _simple(text: str) -> str:
    return text.replace("_", " ").casefold()
