"""What lies beside pictures in files of its own: the metadata file of the Kohya GUI's Finetuning tab, and masks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from trainer.data.pictures import ENDINGS, plain
from trainer.durable import read_text
from trainer.errors import InputError

LARGEST = 256 * 2**20  # bytes; a million captions


class SidecarError(InputError):
    """A metadata file or a mask folder that cannot be read, and what to do."""


@dataclass(frozen=True)
class Entry:
    """What a metadata file says of a picture. size: `train_resolution`, (width, height) of its bucket."""

    key: str
    caption: str
    size: tuple[int, int] | None


class Sheet:
    """A metadata file: captions by a picture's whole path, its path within the image folder, or its name."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries
        names = Counter(map(_stem, entries))
        self._by_name = {_stem(key): entry for key, entry in entries.items() if names[_stem(key)] == 1}

    def of(self, picture: Path, root: Path) -> Entry | None:
        """The entry of a picture below a root; the longest name that is known counts, without its ending too.

        A file written on another machine holds paths that are not here: then the name alone tells, if no other has it.
        """
        for key in _keys(picture, root):
            if entry := self.entries.get(key):
                return entry
        return self._by_name.get(picture.stem)


def _keys(picture: Path, root: Path) -> Iterator[str]:
    whole: list[PurePath] = [picture.absolute(), picture.resolve()]
    near = [path.relative_to(base) for path in whole for base in (root, root.resolve()) if path.is_relative_to(base)]
    for path in (*whole, *near, PurePath(picture.name)):
        for form in (path, path.with_suffix("")):
            yield from dict.fromkeys((str(form), form.as_posix()))


def _stem(key: str) -> str:
    return PureWindowsPath(key).stem  # knows both slashes


def read_sheet(field: str, path: Path) -> Sheet:
    """The metadata file at a path: `{"a": {"caption": "a cat", "tags": "cat, sitting", "train_resolution": [w, h]}}`.

    Tags are put behind the caption, as sd-scripts does. Raises SidecarError.
    """
    shown = f"{field}: {plain(str(path), 1000)}"
    text = read_text(shown, path, LARGEST, "choose another, or leave it empty", SidecarError)
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SidecarError(f"{shown} is no JSON ({plain(str(error))}): make it anew") from error
    if not isinstance(tree, dict) or not tree:
        raise SidecarError(f"{shown} names no picture: it must hold {{'name': {{'caption': 'words'}}}}")
    return Sheet({key: _entry(shown, key, value) for key, value in tree.items()})


def _entry(shown: str, key: str, value: Any) -> Entry:
    told = f"{shown}: {plain(key, 80)}"
    if not isinstance(value, dict):
        raise SidecarError(f"{told} is no table: write {{'caption': 'words'}}")
    caption, tags, size = (value.get(name) for name in ("caption", "tags", "train_resolution"))
    for name, text in (("caption", caption), ("tags", tags)):
        if text is not None and not isinstance(text, str):
            raise SidecarError(f"{told}: {name} is {plain(repr(text), 40)}: write text")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side <= 65536 for side in size)
    ):
        raise SidecarError(f"{told}: train_resolution is {plain(repr(size), 40)}: write [width, height]")
    return Entry(key, ", ".join(text for text in (caption, tags) if text), (size[0], size[1]) if size else None)


class Masks:
    """The masks in a folder: `<picture's folder>/<name>.png` before `<name>.png`."""

    def __init__(self, field: str, folder: Path) -> None:
        """Raises SidecarError for a folder that cannot be opened."""
        self.folder = folder
        try:
            places = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
            found = [path for place in places for path in sorted(place.iterdir()) if path.suffix.lower() in ENDINGS]
        except OSError as error:
            shown = plain(str(folder), 1000)
            raise SidecarError(f"{field}: {shown} cannot be opened ({error.strerror}): choose the folder") from error
        self._by_place = {(path.parent, path.stem): path for path in found}

    def of(self, picture: Path, within: str) -> Path | None:
        """The mask of a picture in a folder of this name."""
        own = self._by_place.get((self.folder / within, picture.stem))
        return own or self._by_place.get((self.folder, picture.stem))
