"""A data set's captions in memory: which picture has which tags, how often each tag is there.

Tags are those of a caption's first line with words, which is the line that is trained; other lines are kept. A caption
that no edit changes is never written again, whatever its encoding, line ends and blanks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Literal

from trainer.data.encoding import CONTROLS, LONGEST_CAPTION, decode
from trainer.data.folders import Folder, Listing, Problem, leaves, listings
from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.tags import tokens
from trainer.tags.kinds import kind
from trainer.tags.query import Entry, Query, asks
from trainer.tags.tag import Tags, bare

Scope = Literal["one", "selected", "filtered", "all"]


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption file, read with `read`."""

    raw: bytes | None = None
    """The file's bytes; None when there is no file, or none that can be read."""
    text: str = ""
    line: str = ""
    """The first line with words, control characters turned to blanks."""
    tags: Tags = ()
    separator: str = ","
    locked: str = ""
    """Why it cannot be edited; empty when it can."""

    def with_tags(self, tags: Sequence[str]) -> Caption:
        """The caption with other tags, joined the way the line joined them; itself when they are the same."""
        if tuple(tags) == self.tags:
            return self
        joint = re.search(re.escape(self.separator) + r"\s*(?=\S)", self.line)
        return self.with_line((joint[0] if joint else f"{self.separator} ").join(map(_of_a_line, tags)))

    def with_line(self, line: str) -> Caption:
        """The caption with other words in place of those that are trained; other lines stay."""
        start, end = _span(self.text)
        return self.with_text(self.text[:start] + _of_a_line(line) + self.text[end:])

    def with_text(self, text: str) -> Caption:
        """The caption with another text, as UTF-8; itself when it is the same. InputError when it cannot be saved."""
        if text == self.text and not self.locked:
            return self
        if self.locked:
            raise InputError(f"caption: {self.locked}; mend the file in another program first")
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"caption: {plain(text)} holds half a letter: type that word again") from error
        if len(raw) > LONGEST_CAPTION:
            size = len(raw) // 1024
            raise InputError(f"caption: {size} KiB, more than {LONGEST_CAPTION // 1024} KiB: shorten it")
        return read(raw, self.separator)


@dataclass(frozen=True)
class Picture:
    """A picture and the file of its caption, which need not be there yet. Two pictures can share one caption."""

    path: Path
    file: Path
    folder: Folder


class CaptionSet:
    """The captions of a data set, or of one picture folder. Change them with `trainer.tags.history` alone."""

    folder: Path
    """Absolute, without links."""
    pictures: list[Picture]
    captions: dict[Path, Caption]
    """By file, since pictures can share one. Those of pictures that are gone stay, so that changes can be undone."""
    problems: list[Problem]

    def __init__(self, folder: str, extension: str = ".txt", separator: str = ",", weighted: bool = False) -> None:
        """Reads all captions: 5000 take about 1 s. extension, separator, weighted: as in the schema's captions.

        Raises FolderError when there is no folder, or nothing in it.
        """
        self.folder = Path(folder).expanduser().resolve()
        self.extension, self.separator, self.weighted = extension, separator, weighted
        self._given = folder
        self.captions = {}
        self.list_pictures()

    def list_pictures(self) -> None:
        """Lists the pictures anew, and reads captions that were not known."""
        found, self.problems = listings("folder", str(self.folder) if self._given.strip() else "", self.extension)
        self.pictures = [
            Picture(path, self._beside(path, listing), listing.folder)
            for listing in found
            for path in listing.pictures
            if not leaves(path, listing.root)
        ]
        files = {picture.file for picture in self.pictures}
        self.captions |= {file: self.read(file) for file in sorted(files - self.captions.keys())}
        for file in sorted(files):
            if locked := self.captions[file].locked:
                self.problems.append(Problem(plain(f"{file.parent.name}/{file.name}"), locked, "not edited"))

    def read(self, file: Path) -> Caption:
        """A caption as it is on the disk now."""
        try:
            if not file.resolve().is_relative_to(self.folder):
                return Caption(locked="a link that leaves the folder")
            if file.exists() and not file.is_file():  # opening a pipe would wait for ever
                return Caption(locked="not a file")
            with file.open("rb") as opened:
                raw = opened.read(LONGEST_CAPTION + 1)
        except FileNotFoundError:
            return Caption(separator=self.separator)
        except RuntimeError:  # what pathlib makes of a link to itself
            return Caption(locked="a link that leads nowhere")
        except OSError as error:
            return Caption(locked=f"cannot be read ({error.strerror})")
        return read(raw, self.separator)

    def is_on_disk(self, file: Path) -> bool:
        """Whether a file still says what its caption says."""
        caption = self.captions[file]
        if caption.raw is None or caption.locked:
            return self.read(file) == caption
        try:
            with file.open("rb") as opened:
                return opened.read(LONGEST_CAPTION + 1) == caption.raw
        except OSError:
            return False

    def caption(self, picture: Picture) -> Caption:
        """The caption of a picture."""
        return self.captions[picture.file]

    def counts(self) -> Counter[str]:
        """On how many pictures each tag is, weights and escapes aside."""
        found: Counter[str] = Counter()
        for picture in self.pictures:
            found.update(list(dict.fromkeys(map(bare, self.captions[picture.file].tags))))
        return found

    def trigger(self) -> str:
        """The trigger word: what most captions begin with, else the first word of the folders' names; "" for none.

        A subject such as `1girl` is none, since every model knows it.
        """
        tags = [caption.tags for picture in self.pictures if (caption := self.caption(picture)).tags]
        first = Counter(bare(of[0]) for of in tags).most_common(1)
        found = [word for word, count in first if 2 * count > len(tags)]
        folders = {picture.folder.name: picture.folder for picture in self.pictures}
        found += [folder.words.split()[0] for name, folder in folders.items() if name[:1].isdecimal() and folder.words]
        return next((word for word in found if kind(word) != "subject"), "")

    def tokens(self, pictures: Iterable[Picture]) -> list[int]:
        """How many tokens the caption of each picture takes."""
        return tokens.count([self.caption(picture).line for picture in pictures], self.weighted)

    def find(self, query: Query) -> list[Picture]:
        """The pictures that a filter lets through."""
        if asks(query, "tokens"):
            self.tokens(self.pictures)  # all at once is faster than one by one
        return [picture for picture in self.pictures if query.matches(self.entry(picture))]

    def entry(self, picture: Picture) -> Entry:
        """What a filter sees of a picture."""
        caption = self.caption(picture)
        path = picture.path.relative_to(self.folder).as_posix()
        return Entry(path, picture.path.name, caption.tags, caption.line, lambda: self.tokens([picture])[0])

    def scoped(self, scope: Scope, chosen: Sequence[Picture] = (), query: Query | None = None) -> Sequence[Picture]:
        """The pictures of a scope: the first of those chosen, all of those chosen, those that the filter shows, all."""
        if scope == "one":
            return chosen[:1]
        if scope == "selected":
            return chosen
        return self.find(query) if scope == "filtered" and query else self.pictures

    def _beside(self, path: Path, listing: Listing) -> Path:
        """The caption of a picture, the file itself when it is a link, so that the link stays."""
        beside = listing.caption(path) or path.with_name(f"{path.stem}{self.extension}")
        return beside.resolve() if beside.is_symlink() and not leaves(beside, listing.root) else beside


def read(raw: bytes, separator: str = ",") -> Caption:
    """A caption out of a file's bytes. One that is too long, or no text, is locked."""
    if len(raw) > LONGEST_CAPTION:
        return Caption(locked=f"longer than {LONGEST_CAPTION // 1024} KiB")
    try:
        text = decode(raw)[0]
    except UnicodeDecodeError:
        return Caption(raw, locked="in no encoding that can be told")
    start, end = _span(text)
    line = CONTROLS.sub(" ", text[start:end])  # the same object as `text` where it can be: undo holds many of them
    tags = tuple(intern(tag) for piece in line.split(separator) if (tag := piece.strip()))
    return Caption(raw, text, line, tags, separator)


def _of_a_line(words: str) -> str:
    """Words as they stand in one line."""
    return CONTROLS.sub(" ", words.replace("\n", " ")).strip()


def _span(text: str) -> tuple[int, int]:
    """Where the first line with words begins and ends, without the blanks around it."""
    for line in re.finditer(r"[^\r\n]+", text):
        words = CONTROLS.sub(" ", line[0])
        if words.strip():
            start = line.start() + len(words) - len(words.lstrip())
            return start, start + len(words.strip())
    return 0, 0
