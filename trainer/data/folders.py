"""Pictures and captions, found in folders, every one opened before training starts.

The layout is the Kohya one: the image folder holds folders named `<repeats>_<words>`. A folder that holds pictures
directly works too, with `data.repeats`. Names that start with a dot are the system's and passed over; folders inside
a picture folder are not entered. Whatever is not trained, or not as it lies there, becomes a Problem.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from trainer.config import Captions, Data
from trainer.data.encoding import CONTROLS, read_caption
from trainer.data.found import Collection, Folder, FolderError, Listing, Picture, Problem, loosely, names_of
from trainer.data.pictures import ENDINGS, PictureError, open_picture, plain, read_picture
from trainer.data.sidecars import Masks, SidecarError, read_sheet

UNREAD = (".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw")
"""Endings of pictures that are not read, so that they are listed and not overlooked."""

SMALLEST_SIDE = 32
MOST_REPEATS = 10_000
SHIPPED = {"zk9": Path(__file__).resolve().parents[1] / "pocket" / "zk9"}
"""Data sets that have a name in place of a path."""


def collect(
    data: Data, captions: Captions, progress: Callable[[int, int], None] | None = None, field: str = "data.images"
) -> Collection:
    """Finds and opens every picture of a training; about 0.2 s for a photo of 12 megapixels, four at a time.

    progress: called with (pictures opened, pictures in all); field: the option that `data.images` came from, for
    messages. Raises FolderError when there is nothing to train from.
    """
    problems: list[Problem] = []
    if field == "validation.folder":
        data = data.model_copy(update={"subsets": (), "metadata": None, "masks": None})
    listings = [
        _beside(_list(folder, root, _words_of(captions, data, folder).extension, problems), data, problems)
        for folder, root in _sources(data, field, problems)
    ]

    def look(item: tuple[Listing, Path]) -> tuple[Picture | None, list[Problem]]:
        listing, path = item
        said: list[Problem] = []
        try:
            return _look(
                path, listing, data.background, _words_of(captions, data, listing.folder).wildcards, said
            ), said
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
    if barren := {listing.folder.reg for listing in listings} - {picture.folder.reg for picture in pictures}:
        lost = [str(problem) for problem in problems if problem.done == "left out"]
        named = "data.subsets" if listings[0].folder.subset is not None else "data.reg" if min(barren) else field
        raise FolderError(f"{named}: none of its pictures can be trained: {'; '.join(lost[:5])}")
    for listing in listings:
        problems += _without(listing, pictures, _words_of(captions, data, listing.folder).extension)
    problems += _twice(pictures)
    return Collection(pictures, problems)


def _sources(data: Data, field: str, problems: list[Problem]) -> list[tuple[Folder, Path]]:
    """The picture folders of a training, each with what no link may leave."""
    if data.subsets:
        return [_subset(place, data) for place in range(len(data.subsets))]
    images = _place(field, data.images, "img")
    root = images.resolve()
    sources = [(folder, root) for folder in _folders(field, images, data.repeats, data.words, problems)]
    if data.reg is not None:
        reg = _place("data.reg", data.reg, "reg")
        if reg.resolve() == root:
            raise FolderError(f"data.reg: {plain(str(reg))} is the image folder: choose another, or leave it empty")
        folders = _folders("data.reg", reg, 1, "", problems)
        sources += [(replace(folder, reg=True), reg.resolve()) for folder in folders]
    return sources


def _subset(place: int, data: Data) -> tuple[Folder, Path]:
    """The folder of a subset, which holds pictures directly."""
    subset = data.subsets[place]
    path = _place("data.subsets", subset.folder, "img")
    if not _holds_pictures(path):
        raise FolderError(f"data.subsets: {plain(str(path))} holds no pictures directly; {' '.join(ENDINGS)} are read")
    root = path.resolve()
    return Folder(root.name, path, subset.repeats, subset.words, subset.reg, place, subset.dataset), root


def _words_of(captions: Captions, data: Data, folder: Folder) -> Captions:
    return captions.of(data.subset_at(folder.subset))


def _beside(listing: Listing, data: Data, problems: list[Problem]) -> Listing:
    """A listing with its metadata file, which says what is trained, and its masks; of plain regularisation neither."""
    folder = listing.folder
    if folder.reg and folder.subset is None:
        return listing
    part, options = "data.subsets" if folder.subset is not None else "data", data.of(folder.subset)
    try:
        if options.metadata:
            listing = replace(listing, sheet=read_sheet(f"{part}.metadata", Path(options.metadata).expanduser()))
        if options.masks:
            listing = replace(listing, masks=Masks(f"{part}.masks", Path(options.masks).expanduser()))
    except SidecarError as error:
        raise FolderError(str(error)) from error
    if listing.sheet and (absent := [path for path in listing.pictures if not listing.entry(path)]):
        what = f"{len(absent)} pictures are not in the metadata file ({names_of(absent)})"
        problems.append(Problem(plain(folder.name), what, "left out"))
        listing = replace(listing, pictures=[path for path in listing.pictures if path not in absent])
    return listing


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
    hint = f"; {plain(str(near))} does" + (f", and holds {names_of(like)}" if like else "")
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
            f"{field}: the folders in {shown} do not say how often to repeat their pictures: rename {names_of(inside)} "
            f"to <repeats>_<words>, such as '10_{plain(inside[0].name)}'; or choose one of them, with data.repeats"
        )
    kept = [path for path in numbered if path in inside and not leaves(path, root.resolve())]
    if not kept:
        kinds = Counter(path.suffix.lower() or ("folder" if path.is_dir() else "no ending") for path in entries)
        there = ", ".join(f"{count} {plain(kind)}" for kind, count in kinds.most_common(6)) or "nothing at all"
        raise FolderError(f"{field}: {shown} holds no pictures, but {there}; {' '.join(ENDINGS)} are read")
    if direct:
        what = f"{len(direct)} pictures beside the picture folders ({names_of(direct)})"
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
    listing = Listing(folder, root, pictures, captions, {loosely(stem): path for stem, path in captions.items()})

    unread = [path for path in entries if path.suffix.lower() in UNREAD]
    problems += _left_out(unread, "a kind that is not read: save it as PNG or JPEG")
    nested = [path for path in entries if path.is_dir() and _holds_pictures(path)]
    problems += _left_out(nested, "a folder inside a picture folder")
    used = {listing.caption(path) for path in pictures}
    likely = (ends, ".txt", ".caption")
    unused = [path for path in entries if path.name.lower().endswith(likely) and path not in used]
    if unused:
        what = f"{len(unused)} files that are no picture's {extension} caption ({names_of(unused)})"
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
    mask = _mask(path, listing, (width, height), background)
    found = Picture(path, listing.folder, (width, height), words, source, digest, opened.notes, mask)
    if entry := listing.entry(path):
        return replace(found, caption=CONTROLS.sub(" ", entry.caption), caption_source="file", trained=entry.size)
    beside = listing.caption(path)
    if beside is None:
        return found
    if leaves(beside, listing.root):
        raise PictureError(f"its caption {plain(beside.name)} is a link that leaves the image folder")
    caption, changes = read_caption(beside, wildcards)
    said += [Problem(_shown(beside), what, done) for what, done in changes]
    return replace(found, caption=caption, caption_source="file")


def _mask(path: Path, listing: Listing, size: tuple[int, int], background: str) -> Path | None:
    """The mask of a picture; PictureError when it does not open, or has another size."""
    mask = listing.masks.of(path, listing.folder.name) if listing.masks else None
    if mask:
        width, height = open_picture(mask, background).image.size
        if (width, height) != size:
            raise PictureError(f"its mask has {width} x {height} pixels, not {size[0]} x {size[1]}: make them alike")
    return mask


def _without(listing: Listing, pictures: list[Picture], extension: str) -> list[Problem]:
    """One problem for all pictures of a folder that have no caption, and one for those that have no mask."""
    own, name = [picture for picture in pictures if picture.folder == listing.folder], plain(listing.folder.name)
    problems: list[Problem] = []
    if bare := [picture.path for picture in own if picture.caption_source != "file"]:
        words = listing.folder.words
        done = f"trained with the folder's words '{plain(words)}'" if words else "trained without words"
        what = f"{len(bare)} of {len(own)} pictures have no {extension} caption ({names_of(bare)})"
        problems.append(Problem(name, what, done))
    if listing.masks and (whole := [picture.path for picture in own if not picture.mask]):
        what = f"{len(whole)} of {len(own)} pictures have no mask ({names_of(whole)})"
        problems.append(Problem(name, what, "all of each counts"))
    return problems


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


def _shown(path: Path) -> str:
    return plain(f"{path.parent.name}/{path.name}")


def _left_out(paths: list[Path], what: str) -> list[Problem]:
    return [Problem(_shown(path), what, "left out") for path in paths]
