"""Pictures and captions, found in folders, every one opened before training starts.

The layout is the Kohya one: the image folder holds folders named `<repeats>_<words>`. A folder that holds pictures
directly works too, with `data.repeats`. Names that start with a dot are the system's and passed over; folders inside
a picture folder are not entered. Whatever is not trained, or not as it lies there, becomes a Problem.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from trainer.config import Captions, Data
from trainer.data.encoding import decode
from trainer.data.pictures import PictureError, plain, read_picture
from trainer.errors import InputError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
UNREAD = (".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw")
"""Endings of pictures that are not read, so that they are listed and not overlooked."""

SMALLEST_SIDE = 32
MOST_REPEATS = 10_000
LONGEST_CAPTION = 64 * 1024
SHIPPED = {"zk9": Path(__file__).resolve().parents[1] / "pocket" / "zk9"}
"""Data sets that have a name in place of a path."""

CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class FolderError(InputError):
    """A folder that cannot be trained from, and what to do."""


@dataclass(frozen=True)
class Folder:
    """Pictures that belong together; `reg` marks regularisation."""

    name: str
    path: Path
    repeats: int
    words: str
    reg: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture that opens, and its words. size: (width, height) upright; digest: sha256 of the file's bytes."""

    path: Path
    folder: Folder
    size: tuple[int, int]
    caption: str
    caption_source: Literal["file", "folder", "none"]
    digest: str
    notes: tuple[str, ...] = ()


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
        return [f"{len(paths)} x {note} ({_names(paths)})" for note, paths in done.items()]


@dataclass(frozen=True)
class Listing:
    """The files of one folder that matter, sorted; `root` is what no link may leave."""

    folder: Folder
    root: Path
    pictures: list[Path]
    captions: dict[str, Path]
    loose: dict[str, Path]

    def caption(self, picture: Path) -> Path | None:
        """The caption beside a picture, by its very name, else by one that reads the same (macOS splits accents).

        Face croppers add four parts with `_` to a name; such a crop falls back on its picture's caption (sd-scripts).
        """
        parts = picture.stem.split("_")
        stems = [picture.stem] if len(parts) < 5 else [picture.stem, "_".join(parts[:-4])]
        found = (self.captions.get(stem) or self.loose.get(_loosely(stem)) for stem in stems)
        return next((path for path in found if path), None)


def collect(
    data: Data, captions: Captions, progress: Callable[[int, int], None] | None = None, field: str = "data.images"
) -> Collection:
    """Finds and opens every picture of a training; about 0.2 s for a photo of 12 megapixels, four at a time.

    progress: called with (pictures opened, pictures in all); field: the option that `data.images` came from, for
    messages. Raises FolderError when there is nothing to train from.
    """
    problems: list[Problem] = []
    images = _place(field, data.images, "img")
    fields, roots = {False: field, True: "data.reg"}, {False: images.resolve()}  # by Folder.reg
    folders = _folders(field, images, data.repeats, data.words, problems)
    if data.reg is not None:
        reg = _place("data.reg", data.reg, "reg")
        roots[True] = reg.resolve()
        if roots[True] == roots[False]:
            raise FolderError(f"data.reg: {plain(str(reg))} is the image folder: choose another, or leave it empty")
        folders += [replace(folder, reg=True) for folder in _folders("data.reg", reg, 1, "", problems)]
    listings = [_list(folder, roots[folder.reg], captions.extension, problems) for folder in folders]

    def look(item: tuple[Listing, Path]) -> tuple[Picture | None, list[Problem]]:
        listing, path = item
        said: list[Problem] = []
        try:
            return _look(path, listing, data.background, captions.wildcards, said), said
        except PictureError as error:
            return None, [Problem(_shown(path), str(error), "left out")]
        except OSError as error:
            return None, [Problem(_shown(path), f"cannot be read ({error.strerror})", "left out")]

    wanted = [(listing, path) for listing in listings for path in listing.pictures]
    pictures: list[Picture] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # decoders let go of Python's lock
        for done, (picture, said) in enumerate(pool.map(look, wanted), 1):
            pictures += [picture] if picture else []
            problems += said
            if progress:
                progress(done, len(wanted))
    if barren := roots.keys() - {picture.folder.reg for picture in pictures}:
        lost = [str(problem) for problem in problems if problem.done == "left out"]
        raise FolderError(f"{fields[min(barren)]}: none of its pictures can be trained: {'; '.join(lost[:5])}")
    problems += [problem for listing in listings for problem in _without_caption(listing, pictures, captions)]
    problems += _twice(pictures)
    return Collection(pictures, problems)


def listings(field: str, images: str, extension: str) -> tuple[list[Listing], list[Problem]]:
    """Pictures and captions as they lie there, not opened, folder by folder; and what is passed over.

    For tools that work on files: `images` may be one picture folder too, whatever its name.
    """
    problems: list[Problem] = []
    root = _place(field, images, "img")
    numbered = any(path.is_dir() and _repeats(path.name) for path in _entries(root))
    if not numbered and any(map(_is_picture, _entries(root))):
        name = root.resolve().name
        found = [Folder(name, root, _repeats(name) or 1, _words(name))]
    else:
        found = _folders(field, root, 1, "", problems)
    return [_list(folder, root.resolve(), extension, problems) for folder in found], problems


def _place(field: str, value: str, shipped: str) -> Path:
    """The folder that a field names, or an error that helps to find it."""
    if not value.strip():
        raise FolderError(f"{field}: is empty: choose the folder that holds your folders of pictures")
    path = SHIPPED[value] / shipped if value in SHIPPED else Path(value).expanduser()
    try:
        if path.is_dir():
            return path
        if path.exists():
            raise FolderError(f"{field}: {plain(str(path))} is a file: choose the folder that it lies in")
        near = next(parent for parent in path.absolute().parents if parent.is_dir())
        like = [near / name for name in get_close_matches(path.name, [entry.name for entry in near.iterdir()], 3, 0.5)]
    except OSError as error:
        raise FolderError(f"{field}: {plain(str(path))} cannot be opened ({error.strerror})") from error
    hint = f"; {plain(str(near))} does" + (f", and holds {_names(like)}" if like else "")
    if os.name != "nt" and re.match(r"[A-Za-z]:[\\/]", value):
        hint = " here: it is a path of a Windows machine; choose the folder on this one"
    raise FolderError(f"{field}: {plain(str(path), 1000)} does not exist{hint}")


def _folders(field: str, root: Path, repeats: int, words: str, problems: list[Problem]) -> list[Folder]:
    """The picture folders of an image folder, sorted; itself, of these repeats and words, if none is inside."""
    entries, shown = _entries(root), plain(str(root))
    direct = [path for path in entries if _is_picture(path)]
    inside = [path for path in entries if path.is_dir() and _holds_pictures(path)]
    numbered = [path for path in entries if path.is_dir() and _repeats(path.name)]
    if not numbered and direct:
        where = root.resolve()
        if "_" in where.name and _repeats(where.name):
            raise FolderError(
                f"{field}: {shown} is itself a folder of {_repeats(where.name)} repeats: choose its parent, "
                f"{plain(str(where.parent))}; or rename it if that number counts something else"
            )
        return [Folder(where.name, root, repeats, words)]
    if not numbered and inside:
        raise FolderError(
            f"{field}: the folders in {shown} do not say how often to repeat their pictures: rename {_names(inside)} "
            f"to <repeats>_<words>, such as '10_{plain(inside[0].name)}'; or choose one of them, with data.repeats"
        )
    kept = [path for path in numbered if path in inside and not leaves(path, root.resolve())]
    if not kept:
        kinds = Counter(path.suffix.lower() or ("folder" if path.is_dir() else "no ending") for path in entries)
        there = ", ".join(f"{count} {plain(kind)}" for kind, count in kinds.most_common(6)) or "nothing at all"
        raise FolderError(f"{field}: {shown} holds no pictures, but {there}; {' '.join(ENDINGS)} are read")
    if direct:
        what = f"{len(direct)} pictures beside the picture folders ({_names(direct)})"
        problems.append(Problem(plain(root.name), what, "left out"))
    strange = [path for path in inside if path not in numbered]
    problems += _left_out(strange, "its name does not begin with a number of repeats")
    problems += _left_out([path for path in numbered if path not in inside], "holds no pictures")
    leaving = [path for path in numbered if path in inside and path not in kept]
    problems += _left_out(leaving, "a link that leaves the image folder")
    for path in kept:
        if (count := _repeats(path.name)) > MOST_REPEATS:
            raise FolderError(f"{field}: {_shown(path)} asks for {count} repeats, more than {MOST_REPEATS}: rename it")
    return [Folder(path.name, path, _repeats(path.name), _words(path.name)) for path in kept]


def _repeats(name: str) -> int:
    """The number that a folder's name starts with, as sd-scripts reads it; 0 for a name without one."""
    first = name.split("_")[0].strip()
    return int(first) if first.isdecimal() else 0


def _words(name: str) -> str:
    words = "_".join(name.split("_")[1:]).encode("utf-8", "ignore").decode()  # a name may hold bytes that are no text
    return CONTROLS.sub(" ", words.replace("\n", " ")).strip()


def _list(folder: Folder, root: Path, extension: str, problems: list[Problem]) -> Listing:
    entries = _entries(folder.path)
    pictures = [path for path in entries if _is_picture(path)]
    ends = extension.lower()
    captions = {path.name[: -len(ends)]: path for path in entries if path.name.lower().endswith(ends)}
    listing = Listing(folder, root, pictures, captions, {_loosely(stem): path for stem, path in captions.items()})

    unread = [path for path in entries if path.suffix.lower() in UNREAD]
    problems += _left_out(unread, "a kind that is not read: save it as PNG or JPEG")
    nested = [path for path in entries if path.is_dir() and _holds_pictures(path)]
    problems += _left_out(nested, "a folder inside a picture folder")
    used = {listing.caption(path) for path in pictures}
    likely = (ends, ".txt", ".caption")
    unused = [path for path in entries if path.name.lower().endswith(likely) and path not in used]
    if unused:
        what = f"{len(unused)} files that are no picture's {extension} caption ({_names(unused)})"
        problems.append(Problem(plain(folder.name), what, "not used"))
    first: dict[str, Path] = {}
    for path in pictures:
        if (other := first.setdefault(path.stem, path)) != path:
            what = f"{plain(other.name)} has the same name, so both have one caption"
            problems.append(Problem(_shown(path), what, "both are trained"))
    return listing


def _look(path: Path, listing: Listing, background: str, wildcards: bool, said: list[Problem]) -> Picture:
    """Opens one picture whole, with its caption; what was made of the caption goes to `said`."""
    if leaves(path, listing.root):
        raise PictureError("a link that leaves the image folder, or leads nowhere")
    if not path.is_file():
        raise PictureError("not a file")  # opening a pipe would wait for ever
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        opened = read_picture(file, background)
    width, height = opened.image.size
    if min(width, height) < SMALLEST_SIDE:
        raise PictureError(f"{width} x {height} pixels, less than {SMALLEST_SIDE} on a side: too small to learn from")
    words = listing.folder.words
    source = "folder" if words else "none"
    found = Picture(path, listing.folder, (width, height), words, source, digest, opened.notes)
    beside = listing.caption(path)
    if beside is None:
        return found
    if leaves(beside, listing.root):
        raise PictureError(f"its caption {plain(beside.name)} is a link that leaves the image folder")
    caption, changes = read_caption(beside, wildcards)
    said += [Problem(_shown(beside), what, done) for what, done in changes]
    return replace(found, caption=caption, caption_source="file")


def read_caption(path: Path, wildcards: bool = False) -> tuple[str, list[tuple[str, str]]]:
    """The first line of a caption file with words (all lines with wildcards), and (what was odd, what was done).

    Raises PictureError for a caption over 64 KiB, or one that is no text: better no picture than one with wrong words.
    """
    name = plain(path.name)
    if not path.is_file():
        raise PictureError(f"its caption {name} is not a file")
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_CAPTION + 1)
    except OSError as error:
        raise PictureError(f"its caption {name} cannot be read ({error.strerror})") from error
    if len(raw) > LONGEST_CAPTION:
        raise PictureError(f"its caption {name} is longer than {LONGEST_CAPTION // 1024} KiB: shorten it")
    changes: list[tuple[str, str]] = []
    try:
        text, encoding = decode(raw)
    except UnicodeDecodeError as error:
        raise PictureError(f"its caption {name} is in no encoding that can be told: save it as UTF-8") from error
    if encoding != "utf-8":
        changes.append((f"not in plain UTF-8 ({plain(text.strip(), 40)})", f"read as {encoding}"))
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    if CONTROLS.search(text):
        changes.append(("holds control characters", "trained with blanks in their place"))
    lines = [line.strip() for line in CONTROLS.sub(" ", text).split("\n") if line.strip()]
    if not lines:
        changes.append(("an empty caption", "trained without words"))
    if len(lines) > 1 and not wildcards:
        changes.append((f"a caption of {len(lines)} lines", "trained with the first line"))
    return "\n".join(lines if wildcards else lines[:1]), changes


def _without_caption(listing: Listing, pictures: list[Picture], captions: Captions) -> list[Problem]:
    """One problem for all pictures of a folder that have no caption."""
    own = [picture for picture in pictures if picture.folder == listing.folder]
    bare = [picture.path for picture in own if picture.caption_source != "file"]
    if not bare:
        return []
    words = listing.folder.words
    done = f"trained with the folder's words '{plain(words)}'" if words else "trained without words"
    what = f"{len(bare)} of {len(own)} pictures have no {captions.extension} caption ({_names(bare)})"
    return [Problem(plain(listing.folder.name), what, done)]


def _twice(pictures: list[Picture]) -> list[Problem]:
    first: dict[str, Picture] = {}
    pairs = [(picture, first.setdefault(picture.digest, picture)) for picture in pictures]
    return [
        Problem(_shown(picture.path), f"the same picture as {_shown(other.path)}", "both are trained")
        for picture, other in pairs
        if other is not picture
    ]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise FolderError(f"{plain(str(folder))}: cannot be opened ({error.strerror})") from error


def _holds_pictures(folder: Path) -> bool:
    """Also true of a folder that cannot be opened, so that it is spoken of."""
    try:
        return any(map(_is_picture, _entries(folder)))
    except FolderError:
        return True


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def leaves(path: Path, root: Path) -> bool:
    """Whether a link leads nowhere or out of the image folder: a set from elsewhere must not show private files."""
    return path.is_symlink() and not (path.exists() and path.resolve().is_relative_to(root))


def _loosely(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _shown(path: Path) -> str:
    return plain(f"{path.parent.name}/{path.name}")


def _left_out(paths: list[Path], what: str) -> list[Problem]:
    return [Problem(_shown(path), what, "left out") for path in paths]


def _names(paths: list[Path]) -> str:
    """A few of many names."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(plain(path.name) for path in paths[:3]) + more
