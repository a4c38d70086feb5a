"""One tool over a folder of pictures: finds them, hands each to the tool, writes what it makes, and tells of the rest.

Decoding and drawing run in a few threads, writing in one; a handful of pictures is in memory, however many there are.
Originals are read only, or, when they are to change in place, copied into a snapshot first.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from trainer import named
from trainer.ahead import THREADS, ahead
from trainer.data.buckets import BucketError
from trainer.data.encoding import LONGEST_CAPTION
from trainer.data.folders import ENDINGS, UNREAD, Problem
from trainer.data.pictures import PictureError, open_picture, plain
from trainer.durable import failed, make_folder, write_aside
from trainer.errors import InputError
from trainer.images.geometry import GeometryError
from trainer.images.ledger import Entry, Ledger, digest_of, stamp_of
from trainer.images.options import Output
from trainer.images.saving import check_pattern, renamed, stored, suffix_for
from trainer.snapshots import begin
from trainer.terminal import Stop, Tell, never, silent

MASKS = "masks"
REFUSED = (PictureError, GeometryError, BucketError)
ENDS = {"resize": "resized", "crop": "cropped", "background": "background"}
LONGEST_NAME = 240
"""Bytes: disks take 255, and a file that is being written has a longer name."""


class Piece(NamedTuple):
    """A picture that a tool made. folder: in place of the one it came from; tail: after its name; mask: it is one."""

    image: Image.Image
    folder: str | None = None
    tail: str = ""
    mask: bool = False


@dataclass(frozen=True)
class Drawn:
    """What a tool made of one picture; how: in a word for the report; by_hand: from a mask or box made by hand."""

    pieces: Sequence[Piece]
    how: str = ""
    by_hand: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A picture to read: its path, its place in the folder, and its number among its neighbours, from 1."""

    file: Path
    name: Path
    number: int


@dataclass(frozen=True)
class Tool:
    """A tool: its word of the command line, how it draws, and what decides how one picture comes out.

    Both functions are given what was made of the picture last time, and run in several threads.
    """

    word: str
    draw: Callable[[Source, Image.Image, Entry | None], Drawn]
    salt: Callable[[Source, Entry | None], str] = lambda source, entry: ""
    notes: tuple[str, ...] = ()
    """For the report."""


@dataclass
class Report:
    """What came of a batch."""

    out: Path
    made: int = 0
    skipped: int = 0
    stopped: bool = False
    snapshot: str | None = None
    problems: list[Problem] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)
    """Of each picture that is made, now or before: its file, what was made of it, and how."""
    notes: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        problems = [{"file": problem.file, "what": problem.what, "done": problem.done} for problem in self.problems]
        counts = {"made": self.made, "skipped": self.skipped, "stopped": self.stopped, "snapshot": self.snapshot}
        return {"out": str(self.out), **counts, "problems": problems, "notes": self.notes, "pictures": self.pictures}

    def summary(self) -> str:
        """The figures in a sentence."""
        parts = [f"{self.made} pictures made"]
        parts += [f"{self.skipped} were done before"] if self.skipped else []
        parts += [f"{len(self.problems)} left out"] if self.problems else []
        parts += ["stopped before the end: run it again to go on"] if self.stopped else []
        return f"{', '.join(parts)}; they are in {plain(str(self.out), 1000)}"

    def text(self) -> str:
        """All of it for a person, in a few lines."""
        lines = [str(problem) for problem in self.problems]
        lines += [f"{count} x {plain(note)}" for note, count in self.notes.items()]
        how = Counter(picture["how"] for picture in self.pictures if picture["how"])
        lines += [f"{count} x {what}" for what, count in how.items()]
        if self.snapshot:
            lines.append(f"The old ones are kept as snapshot {self.snapshot}")
        return "\n".join([*lines, self.summary()])


def run(options: Output, tool: Tool, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Runs a tool over the folder of its options.

    tell: called with (pictures done, pictures in all); should_stop: asked before each.
    Raises InputError for a folder or options that cannot be used, DiskError when nothing more can be written.
    """
    check_pattern(options.rename)
    out = out_of(options, tool.word)
    work = _Work(folder_of(options), out, options, tool)
    sources = work.sources()
    with closing(ahead(_until_stopped(work, sources, should_stop), work.draw, THREADS, THREADS + 1)) as drawn:
        for done, (source, ready) in enumerate(drawn, 1):
            work.finish(source, ready.result())
            tell(done, len(sources))
    return work.report


def folder_of(options: Output) -> Path:
    """The folder that is read; InputError when it is none."""
    return named.folder_of("folder", options.folder)


def out_of(options: Output, word: str) -> Path:
    """Where a tool's pictures go; a folder of repeats keeps its name, in a new folder beside its parent.

    Raises InputError for a folder that is none, or an output folder that cannot be one.
    """
    folder = folder_of(options)
    if options.in_place:
        return folder
    if options.out:
        place = Path(options.out).expanduser().resolve()
        if place == folder:
            raise InputError(f"out: {plain(options.out)} is the folder itself: choose another, or set in_place")
        if place.exists() and not place.is_dir():
            raise InputError(f"out: {plain(options.out)} is a file: choose a folder")
        return place
    if folder.name.split("_")[0].strip().isdecimal():
        return folder.parent.with_name(f"{folder.parent.name}_{ENDS[word]}") / folder.name
    return folder.with_name(f"{folder.name}_{ENDS[word]}")


def _until_stopped(work: _Work, sources: Sequence[Source], should_stop: Stop) -> Iterator[Source]:
    for source in sources:
        if should_stop():
            work.report.stopped = True
            return
        yield source


@dataclass(frozen=True)
class _Ready:
    """A picture as bytes, to be written: (piece, content) of each file."""

    files: list[tuple[Piece, bytes]]
    drawn: Drawn
    settings: str
    stamp: tuple[int, int]


class _Work:
    """What a batch knows while it runs: `draw` runs in threads, all else in one."""

    def __init__(self, folder: Path, out: Path, options: Output, tool: Tool) -> None:
        self.folder, self.out, self.options, self.tool = folder, out, options, tool
        self.ledger, self.report = Ledger.read(out), Report(out, notes=Counter(tool.notes))
        self.snapshot = begin(folder, f"images {tool.word}") if options.in_place else None
        kept = options.model_dump_json(exclude={"folder", "out", "recursive", "captions"})
        self.settings = f"{tool.word} {kept}"

    def sources(self) -> list[Source]:
        """All pictures of the folder, in sorted order; what cannot be one is a problem."""

        def closed(error: OSError) -> None:
            self._problem(Path(error.filename), f"cannot be opened ({error.strerror})")

        def entered(here: Path, name: str) -> bool:
            """Whether the pictures in a folder are this tool's business; a link may lead anywhere, or in circles."""
            if name.startswith(".") or here / name == self.out or (name == MASKS and here == self.folder):
                return False
            if (here / name).is_symlink():
                self._problem(here / name, "a link to a folder")
            return not (here / name).is_symlink()

        found: list[Source] = []
        for place, folders, files in os.walk(self.folder, onerror=closed):
            here = Path(place)
            folders[:] = sorted(name for name in folders if self.options.recursive and entered(here, name))
            number = 0
            for name in sorted(name for name in files if not name.startswith(".")):
                file, kind = here / name, Path(name).suffix.lower()
                if kind in UNREAD:
                    self._problem(file, "a kind that is not read: save it as PNG or JPEG")
                elif kind in ENDINGS and file.is_symlink() and not file.resolve().is_relative_to(self.folder):
                    self._problem(file, "a link that leaves the folder")
                elif kind in ENDINGS:
                    number += 1
                    found.append(Source(file, file.relative_to(self.folder), number))
        return found

    def draw(self, source: Source) -> _Ready | Problem | None:
        """A picture as it will be written, what is wrong with it, or None when it is done already."""
        try:
            if not source.file.is_file():
                return self._told(source.file, "not a file")  # opening a pipe would wait for ever
            entry = self.ledger.find(self.tool.word, source.file)
            text = f"{self.settings} {self.tool.salt(source, entry)}"
            settings = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
            if self.ledger.is_done(entry, source.file, settings):
                return None
            stamp = stamp_of(source.file)
            opened = open_picture(source.file, self.options.background)
            drawn = self.tool.draw(source, opened.image, entry)
            kind, quality = suffix_for(source.file.suffix, self.options.format), self.options.quality
            files = [(piece, stored(piece.image, ".png" if piece.mask else kind, quality)) for piece in drawn.pieces]
            return _Ready(files, replace(drawn, notes=(*opened.notes, *drawn.notes)), settings, stamp)
        except REFUSED as error:
            return self._told(source.file, str(error).removeprefix(f"{plain(source.file.name)}: "))
        except OSError as error:
            return self._told(source.file, f"cannot be read ({error.strerror or error})")

    def finish(self, source: Source, ready: _Ready | Problem | None) -> None:
        """Writes what was made of a picture, its captions too, and notes it for the report."""
        if isinstance(ready, Problem):
            self.report.problems.append(ready)
            return
        before = self.ledger.find(self.tool.word, source.file)
        if ready is None:
            if before is not None:
                self.report.skipped += 1
                self._note(source, before.made, before.how)
            return
        contents = self._named(source, ready.files)
        if any(len(os.fsencode(Path(name).name)) > LONGEST_NAME for name in contents):
            self._problem(source.file, "its name is too long to write a new file: shorten it, or set rename")
            return
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        name, how = self.ledger.name(source.file), ready.drawn.how
        if self.snapshot:
            self.snapshot.keep(source.file, *(self.out / name for name in contents))
        self.ledger.add(
            Entry(self.tool.word, name, ready.stamp, ready.settings, digests, how, by_hand=ready.drawn.by_hand)
        )
        for made, content in contents.items():
            make_folder((self.out / made).parent)
            write_aside(self.out / made, content)
        self._remove_old(source, before, contents)
        self.report.made += 1
        self.report.notes.update(ready.drawn.notes)
        self._note(source, digests, how)
        self.report.snapshot = self.snapshot.id if self.snapshot else None

    def _named(self, source: Source, files: Sequence[tuple[Piece, bytes]]) -> dict[str, bytes]:
        """Each file's content by its name in the output folder; a mask lies in `masks` under its picture's name."""
        contents: dict[str, bytes] = {}
        picture = source.name
        kind = suffix_for(source.file.suffix, self.options.format)
        folder = source.file.parent.name
        for piece, content in files:
            if piece.mask:
                contents[(Path(MASKS) / picture).with_suffix(".png").as_posix()] = content
                continue
            stem = renamed(self.options.rename, source.file.stem, folder, source.number) + piece.tail
            place = source.name.parent if piece.folder is None else Path(piece.folder)
            if self.options.group:
                place = Path("{}x{}".format(*piece.image.size)) / place
            picture = self._free(source, place, stem, kind)
            contents[picture.as_posix()] = content
        return contents

    def _free(self, source: Source, place: Path, stem: str, suffix: str) -> Path:
        """A name that is this picture's own or nobody's: `a.png`, else `a-2.png`, ..."""
        own, number = self.ledger.name(source.file), 1
        while True:
            path = place / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
            is_itself = self.out / path == source.file
            if is_itself or self.ledger.owners.get(path.as_posix()) == own or not os.path.lexists(self.out / path):
                return path
            number += 1

    def _remove_old(self, source: Source, before: Entry | None, contents: Mapping[str, bytes]) -> None:
        """Takes away what other settings made of this picture, if nobody changed it; in place, the old kind of file."""
        old = [] if before is None else [name for name in before.made if name not in contents]
        try:
            if self.snapshot:
                if self.ledger.name(source.file) not in contents:
                    source.file.unlink()
            elif before is not None:
                for name in old:
                    if digest_of(self.out / name) == before.made[name]:
                        (self.out / name).unlink()
        except OSError as error:
            raise failed(source.file, error) from error

    def _note(self, source: Source, made: Iterable[str], how: str) -> None:
        """Captions beside what was made, where there are none yet, and a line for the report."""
        names = [name for name in made if not name.startswith(f"{MASKS}/")]
        caption = source.file.with_suffix(self.options.captions) if self.options.captions else None
        for name in names:
            copy = (self.out / name).with_suffix(self.options.captions)
            if caption and caption.is_file() and not copy.exists():
                try:
                    if not caption.resolve().is_relative_to(self.folder) or caption.stat().st_size > LONGEST_CAPTION:
                        raise OSError  # a link to a private file; a file that is no caption
                    content = caption.read_bytes()
                except OSError:
                    self._problem(caption, "no caption that can be read", "not copied")
                    break
                write_aside(copy, content)
        self.report.pictures.append({"file": source.name.as_posix(), "made": list(made), "how": how})

    def _told(self, file: Path, what: str, done: str = "left out") -> Problem:
        inside = file.relative_to(self.folder) if file.is_relative_to(self.folder) else file
        return Problem(plain(inside.as_posix()), what, done)

    def _problem(self, file: Path, what: str, done: str = "left out") -> None:
        self.report.problems.append(self._told(file, what, done))
