"""Cures of what the doctor finds, each one click, and none loses anything: every one says how it is taken back.

Pictures that are set aside are moved (trainer.aside); changed captions and renamed pictures are kept as snapshots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import aside, snapshots
from trainer.data.folders import ENDINGS
from trainer.data.pictures import plain
from trainer.doctor.finding import several
from trainer.doctor.options import Doctor
from trainer.durable import write_aside
from trainer.errors import InputError
from trainer.tags import edits, groups, tokens
from trainer.tags.captions import CaptionSet, Picture
from trainer.tags.edits import Edit
from trainer.tags.history import History
from trainer.tags.tag import Tags
from trainer.tree import validate

Told = dict[str, Any]
NOT_ARGUMENTS = ("do", "label", "pictures", "folder")
KINDS = {**dict.fromkeys(("caption_extension", "trigger", "words", "snapshot"), str), "tokens": int}
"""Arguments of cures."""


@dataclass(frozen=True)
class Wish:
    """What is to be done with which pictures, named by their paths in the folder. Not every cure needs every field."""

    folder: Path
    pictures: Sequence[str]
    caption_extension: str = ".txt"
    trigger: str = ""
    words: str = ""
    tokens: int = 75
    snapshot: str = ""

    def data(self) -> CaptionSet:
        """The captions of the folder."""
        return CaptionSet(str(self.folder), self.caption_extension)

    def chosen(self, data: CaptionSet) -> list[Picture]:
        """The pictures that are named; InputError when one is none of the set."""
        known = {picture.path.relative_to(data.folder).as_posix(): picture for picture in data.pictures}
        if strange := [name for name in self.pictures if name not in known]:
            raise InputError(
                f"pictures: {plain(strange[0])} is none of {plain(str(self.folder))}: make the report again"
            )
        return [known[name] for name in self.pictures]


def cure(folder: str, do: str, pictures: Sequence[str], arguments: dict[str, Any] | None = None) -> Told:
    """Does what a finding's cure says. Gives {"done": files changed, "what": in words, "undo": {"do", ...} or None}.

    arguments: those of the cure's JSON; `do`, `label` and `pictures` among them are passed over. Raises InputError for
    a cure or picture that is not known, DiskError when something cannot be written.
    """
    if do not in CURES:
        raise InputError(f"do: {plain(do)} is no cure: choose from {', '.join(CURES)}")
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise InputError(f"folder: {plain(folder)} is no folder here: choose the folder of pictures")
    given = {name: value for name, value in (arguments or {}).items() if name not in NOT_ARGUMENTS}
    for name, value in given.items():
        if name not in KINDS or not isinstance(value, KINDS[name]):
            raise InputError(f"{plain(name)}: {plain(str(value), 60)} is no argument of a cure: make the report again")
    if "caption_extension" in given:
        validate(Doctor, {"folder": str(root), "caption_extension": given["caption_extension"]})
    return CURES[do](Wish(root, list(dict.fromkeys(pictures)), **given))


def set_aside(wish: Wish) -> Told:
    """Moves pictures out of the data set, each with its caption unless another picture has it too."""
    files = [_inside(wish.folder, name) for name in wish.pictures]
    if gone := [file for file in files if not file.is_file()]:
        raise InputError(f"pictures: {plain(gone[0].name)} is not there any more: make the report again")
    names = aside.set_aside(wish.folder, files)
    what = f"{several(len(names), 'picture is', 'pictures are')} set aside"
    return _told(len(names), what, {"do": "put_back", "pictures": names} if names else None)


def put_back(wish: Wish) -> Told:
    """Moves pictures that were set aside to where they were, by their names below `.likeness/aside/`."""
    there = [path.relative_to(wish.folder).as_posix() for path in aside.put_back(wish.folder, wish.pictures)]
    what = f"{several(len(there), 'picture is', 'pictures are')} back"
    return _told(len(there), what, {"do": "set_aside", "pictures": there} if there else None)


def add_trigger(wish: Wish) -> Told:
    """Puts the trigger word before the first tag of each caption."""
    trigger = wish.trigger.strip()
    if not trigger:
        raise InputError("trigger: is empty: write the trigger word")
    return _edited(wish, edits.add([trigger], "top", move=True))


def write_missing(wish: Wish) -> Told:
    """Writes words as the caption of pictures that have none, or an empty one."""
    tags = edits.split(wish.words)
    if not tags:
        raise InputError("words: is empty: write what the captions shall say, such as zk9 woman")
    return _edited(wish, edits.set_all(tags, only_empty=True))


def truncate(wish: Wish) -> Told:
    """Takes tags from the end of captions until they have no more than so many tokens."""
    if wish.tokens not in tokens.MARKS:
        raise InputError(f"tokens: {wish.tokens} is no limit of a text encoder: choose from {tokens.MARKS}")
    data = wish.data()
    chosen = wish.chosen(data)

    def count(captions: list[Tags]) -> list[int]:
        return tokens.count([", ".join(tags) for tags in captions])

    edit = edits.truncate(wish.tokens, [data.caption(picture).tags for picture in chosen], count)
    return _run(data, [(picture, edit) for picture in chosen])


def fix_captions(wish: Wish) -> Told:
    """Takes the tags away that contradict others, or say nothing more."""
    data = wish.data()
    files = {picture.file for picture in wish.chosen(data)}
    found = [finding for finding in groups.findings(data) if finding.picture.file in files]
    return _run(data, groups.cures(found))


def rename(wish: Wish) -> Told:
    """Gives pictures of one name and several kinds names of their own, each with a copy of the caption they shared."""
    data = wish.data()
    chosen = wish.chosen(data)
    kept = snapshots.begin(data.folder, "rename pictures")
    first: set[tuple[Path, str]] = set()
    renamed = 0
    for picture in chosen:
        path = picture.path
        if (path.parent, path.stem) not in first:
            first.add((path.parent, path.stem))
            continue
        new = _free(path)
        captions = {picture.file: new.with_suffix(wish.caption_extension)} if picture.file.is_file() else {}
        kept.keep(path, new, *captions.values())
        for old, copy in captions.items():
            write_aside(copy, old.read_bytes())
        aside.move({path: new})
        renamed += 1
    what = f"{several(renamed, 'picture has', 'pictures have')} a new name"
    return _told(renamed, what, _undo(kept.id) if renamed else None)


def restore(wish: Wish) -> Told:
    """Puts files back as they were before a cure."""
    snapshot = snapshots.load(wish.folder, wish.snapshot)
    before = snapshot.restore()
    return _told(len(snapshot.files), f"taken back: {snapshot.what}", _undo(before.id))


CURES: dict[str, Callable[[Wish], Told]] = {
    **{"set_aside": set_aside, "put_back": put_back, "add_trigger": add_trigger, "write_missing": write_missing},
    **{"truncate": truncate, "fix_captions": fix_captions, "rename": rename, "restore": restore},
}


def _edited(wish: Wish, edit: Edit) -> Told:
    data = wish.data()
    return _run(data, [(picture, edit) for picture in wish.chosen(data)])


def _run(data: CaptionSet, changes: Sequence[tuple[Picture, Edit]]) -> Told:
    """Makes edits, each on its picture's caption, with a snapshot from before."""
    what = next((edit.what for _, edit in changes), "")
    history = History(data)
    done = history.run(what, changes)
    undo = _undo(history.done[-1].snapshot or history._single.id) if done else None  # a single caption's has no own
    return _told(done, f"{several(done, 'caption is', 'captions are')} changed", undo)


def _undo(snapshot: str) -> Told:
    pictures: list[str] = []
    return {"do": "restore", "pictures": pictures, "snapshot": snapshot}


def _told(done: int, what: str, undo: Told | None) -> Told:
    return {"done": done, "what": what, "undo": undo}


def _inside(folder: Path, name: str) -> Path:
    """A picture of the data set by its name; InputError for a name that leads out of it, or to anything else."""
    file = folder / name
    hidden = any(part.startswith(".") for part in Path(name).parts)
    if hidden or not file.parent.resolve().is_relative_to(folder) or file.suffix.lower() not in ENDINGS:
        raise InputError(f"pictures: {plain(name)} is no picture of {plain(str(folder))}: make the report again")
    return file


def _free(path: Path) -> Path:
    """A new name beside a picture that no other file has, whatever its kind: `a-2.jpg`."""
    number = 2
    while any(path.parent.glob(f"{_literal(path.stem)}-{number}.*")):
        number += 1
    return path.with_stem(f"{path.stem}-{number}")


def _literal(stem: str) -> str:
    """A name for `glob`, in which brackets and stars mean themselves."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)
