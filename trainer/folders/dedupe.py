"""Pictures that are there twice or nearly so, in one data set or several: found, and all but the best set aside."""

from __future__ import annotations

import glob
import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer import aside
from trainer.ahead import THREADS, ahead
from trainer.data.folders import Problem
from trainer.data.pictures import PictureError, open_picture, plain
from trainer.errors import InputError
from trainer.folders.files import digest_of, is_caption, is_picture, not_ours, shown, walk
from trainer.folders.options import Dedupe
from trainer.folders.report import Report
from trainer.images.measures import copy_of, sharpness
from trainer.images.similar import duplicates, fingerprint_of
from trainer.named import folder_of
from trainer.terminal import Stop, Tell, never, silent

WHY = (
    "it is the largest",
    "it is the sharpest",
    "it has a caption",
    "it is the least compressed",
    "it is the first by name",
)
WORDS = {"file": "the same file", "pixels": "the same pixels", "near": "nearly the same"}


@dataclass(frozen=True)
class Found:
    """A picture of a data set: `root` is the folder that was given."""

    path: Path
    root: Path


@dataclass(frozen=True)
class Copy:
    """A picture of a group. same: "file", "pixels" or "near", as it is to the one that is kept, which has a `why`."""

    picture: Found
    size: tuple[int, int]
    bytes: int
    sharpness: float
    caption: bool
    digest: str
    pixels: str
    same: str = ""
    why: str = ""

    def rank(self) -> tuple[Any, ...]:
        """The best comes first: the largest, the sharpest, one with a caption, the least compressed.

        Sharpness within a tenth is equal: noise of compression looks sharp too.
        """
        sharp = round(math.log(max(self.sharpness, 1e-9)) / math.log(1.1))
        return -self.size[0] * self.size[1], -sharp, not self.caption, -self.bytes, str(self.picture.path)


def run(options: Dedupe, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Finds groups of duplicates in all folders, and with `apply` sets all but the best aside; `undo` puts them back.

    The report's `found` has `folders`, `pictures` (how many were looked at), `groups` (lists of pictures, the one to
    keep first) and `aside` (of each folder, the names that were set aside). A search that was stopped has no groups.
    """
    folders = list(dict.fromkeys(folder_of("folder", path) for path in (options.folder, *options.others)))
    if options.undo:
        return _undone(folders)
    problems: list[Problem] = []
    pictures = _pictures(folders, problems)
    prints: list[np.ndarray] = []
    seen: list[Found] = []
    wanted = itertools.takewhile(lambda picture: not should_stop(), pictures)
    with closing(ahead(wanted, lambda picture: fingerprint_of(picture.path), THREADS, 2 * THREADS)) as looks:
        for done, (picture, look) in enumerate(looks, 1):
            try:
                prints.append(look.result())
                seen.append(picture)
            except PictureError as error:
                why = str(error).removeprefix(f"{plain(picture.path.name)}: ")
                problems.append(Problem(shown(picture.path, picture.root.parent), why, "not compared"))
            tell(done, len(pictures))
    found: dict[str, Any] = {"folders": [str(folder) for folder in folders], "pictures": len(seen), "aside": []}
    if should_stop():
        return Report("Stopped: nothing was set aside.", problems, found | {"groups": []}, stopped=True)
    sorted_out = [group for places in duplicates(prints) for group in _sorted(seen, places, options.near, problems)]
    found["groups"] = [[_told(copy) for copy in group] for group in sorted_out]
    more = sum(len(group) - 1 for group in sorted_out)
    if options.apply:
        found["aside"] = set_aside(folders, [copy.picture.path for group in sorted_out for copy in group[1:]])
    return Report(_said(len(seen), len(sorted_out), more, options.apply), problems, found, _lines(sorted_out))


def set_aside(folders: Sequence[Path], pictures: Sequence[Path]) -> list[dict[str, Any]]:
    """Sets pictures aside, each in the folder that it lies in; gives `[{"folder", "names"}]`, as they are put back."""
    chosen: dict[Path, list[Path]] = {}
    inner_first = sorted(folders, key=lambda folder: -len(folder.parts))
    for picture in pictures:
        root = next((folder for folder in inner_first if picture.is_relative_to(folder)), None)
        if root is None or ".." in picture.parts or picture.is_symlink() or not is_picture(picture.name):
            raise InputError(f"{plain(str(picture), 1000)}: is no picture of these folders; look for duplicates again")
        chosen.setdefault(not_ours("folder", root), []).append(picture)
    return [{"folder": str(root), "names": aside.set_aside(root, names)} for root, names in chosen.items()]


def _pictures(folders: Sequence[Path], problems: list[Problem]) -> list[Found]:
    """All pictures, each once, with the innermost of the folders that it lies in."""
    found: dict[Path, Found] = {}
    for folder in sorted(folders, key=lambda path: len(path.parts)):
        for file in walk(folder, problems):
            if is_picture(file.name) and file.is_symlink():
                problems.append(Problem(shown(file, folder.parent), "a link", "not compared"))
            elif is_picture(file.name):
                found[file] = Found(file, folder)
    if not found:
        raise InputError(f"folder: no picture lies in {plain(', '.join(map(str, folders)), 1000)}; choose another")
    return list(found.values())


def _sorted(seen: Sequence[Found], places: Sequence[int], near: bool, problems: list[Problem]) -> Iterator[list[Copy]]:
    """A group with the best first; without `near`, the groups of equal pixels in it."""
    copies: list[Copy] = []
    for place in places:
        try:
            copies.append(_copy(seen[place]))
        except InputError as error:
            problems.append(Problem(shown(seen[place].path, seen[place].root.parent), str(error), "not compared"))
    if near:
        parts = [copies]
    else:
        equal: dict[str, list[Copy]] = {}
        for copy in copies:
            equal.setdefault(copy.pixels, []).append(copy)
        parts = [*equal.values()]
    for part in parts:
        if len(part) > 1:
            best, *others = sorted(part, key=Copy.rank)
            why = next(
                word for word, one, other in zip(WHY, best.rank(), others[0].rank(), strict=True) if one != other
            )
            yield [replace(best, why=why), *(_compared(copy, best) for copy in others)]


def _copy(picture: Found) -> Copy:
    """A picture with all that decides which is kept; it is decoded whole."""
    path, image = picture.path, open_picture(picture.path, "#ffffff").image
    pixels = hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest()
    caption = any(is_caption(file.name) for file in path.parent.glob(f"{glob.escape(path.stem)}.*"))
    sharp = sharpness(copy_of(image).convert("L"))
    return Copy(picture, image.size, path.stat().st_size, sharp, caption, digest_of(path), pixels)


def _compared(copy: Copy, best: Copy) -> Copy:
    same = "file" if copy.digest == best.digest else "pixels" if copy.pixels == best.pixels else "near"
    return replace(copy, same=same)


def _told(copy: Copy) -> dict[str, Any]:
    path, root = copy.picture.path, copy.picture.root
    return {
        "path": str(path), "name": shown(path, root.parent), "width": copy.size[0], "height": copy.size[1],
        "bytes": copy.bytes, "sharpness": copy.sharpness, "caption": copy.caption,
        "same": WORDS.get(copy.same, ""), "why": copy.why,
    }  # fmt: skip


def _said(pictures: int, many: int, more: int, applied: bool) -> str:
    if not many:
        return f"No duplicates among {pictures:,} pictures."
    return f"{more:,} of {pictures:,} pictures are duplicates, in {many:,} groups{': set aside' if applied else ''}."


def _lines(found: Sequence[Sequence[Copy]]) -> list[str]:
    lines: list[str] = []
    for best, *others in found:
        lines.append(f"keep {shown(best.picture.path, best.picture.root.parent)} ({best.size[0]}x{best.size[1]})")
        lines += [f"  {shown(copy.picture.path, copy.picture.root.parent)}: {WORDS[copy.same]}" for copy in others]
    return lines


def _undone(folders: Sequence[Path]) -> Report:
    back = Counter({str(folder): len(aside.put_back(folder, aside.names(folder))) for folder in folders})
    return Report(f"{back.total()} pictures are back.", found={"folders": [*back], "back": back, "groups": []})
