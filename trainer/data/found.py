"""What is found in image folders: folders, pictures with their words, and what is wrong with them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.data.pictures import plain
from trainer.data.sidecars import Entry, Masks, Sheet
from trainer.errors import InputError


class FolderError(InputError):
    """A folder that cannot be trained from, and what to do."""


@dataclass(frozen=True)
class Folder:
    """Pictures that belong together; `reg` marks regularisation, `subset` is the place of its own settings.

    Pictures of one `dataset` share batches, and regularisation is evened out within it.
    """

    name: str
    path: Path
    repeats: int
    words: str
    reg: bool = False
    subset: int | None = None
    dataset: int = 1


@dataclass(frozen=True)
class Picture:
    """A picture that opens, and its words. size: (width, height) upright; digest: sha256 of the file's bytes.

    mask: a file of the same size that says what counts; trained: the size whose bucket a metadata file puts it into.
    """

    path: Path
    folder: Folder
    size: tuple[int, int]
    caption: str
    caption_source: Literal["file", "folder", "none"]
    digest: str
    notes: tuple[str, ...] = ()
    mask: Path | None = None
    trained: tuple[int, int] | None = None


@dataclass(frozen=True)
class Problem:
    """Something that is not trained, or not as it lies there: the file, what is wrong, what was done. Safe to print."""

    file: str
    what: str
    done: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}: {self.done}"


@dataclass(frozen=True)
class Collection:
    """All pictures that are trained, folder by folder in sorted order, and all problems."""

    pictures: list[Picture]
    problems: list[Problem]

    def summary(self) -> list[str]:
        """What was done to pictures that are trained, a line for each kind: "2 x first frame taken (a.gif, b.gif)"."""
        done: dict[str, list[Path]] = {}
        for picture in self.pictures:
            for note in picture.notes:
                done.setdefault(note, []).append(picture.path)
        return [f"{len(paths)} x {note} ({names_of(paths)})" for note, paths in done.items()]


@dataclass(frozen=True)
class Listing:
    """The files of one folder that matter, sorted; `root` is what no link may leave; `sheet` outranks caption files."""

    folder: Folder
    root: Path
    pictures: list[Path]
    captions: dict[str, Path]
    loose: dict[str, Path]
    sheet: Sheet | None = None
    masks: Masks | None = None

    def entry(self, picture: Path) -> Entry | None:
        """What the metadata file says of a picture."""
        return self.sheet.of(picture, self.root) if self.sheet else None

    def caption(self, picture: Path) -> Path | None:
        """The caption beside a picture, by its very name, else by one that reads the same (macOS splits accents).

        Face croppers add four parts with `_` to a name; such a crop falls back on its picture's caption (sd-scripts).
        """
        parts = picture.stem.split("_")
        stems = [picture.stem] if len(parts) < 5 else [picture.stem, "_".join(parts[:-4])]
        found = (self.captions.get(stem) or self.loose.get(loosely(stem)) for stem in stems)
        return next((path for path in found if path), None)


def loosely(stem: str) -> str:
    """A name however its accents and capitals are written."""
    return unicodedata.normalize("NFC", stem).casefold()


def names_of(paths: list[Path]) -> str:
    """A few of many names."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(plain(path.name) for path in paths[:3]) + more
