"""Folders renamed so that each has the weight in a training that it should: Kohya's dataset balancing, and more.

A training uses each folder's pictures as often as the number says that its name begins with.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from trainer import own
from trainer.aside import PLACE as ASIDE
from trainer.data.folders import MOST_REPEATS, Problem
from trainer.data.pictures import FORMATS, plain
from trainer.durable import DiskError, failed, make_folder, sync_folder, write_aside, write_json
from trainer.errors import InputError
from trainer.folders.files import is_picture, not_ours
from trainer.folders.options import Balance
from trainer.folders.report import Report
from trainer.named import folder_of
from trainer.own import RENAMING
from trainer.snapshots import PLACE as SNAPSHOTS
from trainer.terminal import Stop, Tell, never, silent

PLACE = Path(".likeness") / "balance.json"
"""The last renaming: new names by old ones, in the order in which it was done."""
NUMBER = re.compile(r"(\d+)_(.+)")
WEIGHT = re.compile(r"\{(\d+(?:\.\d*)?)\}(.+)")
FACES, BODIES = 24, 16
"""Repeats of close-ups and of bodies, as tutorials for characters have them: with 1.5 to 2 times as many close-ups as
bodies, about 70 % of a training are faces."""
FACE_WORDS = re.compile(r"face|head|close|portrait", re.IGNORECASE)
EVEN = 0.05  # share by which folders of equal weight may differ
MOST_EQUAL = 60  # repeats of the largest folder that are tried for it


@dataclass(frozen=True)
class Line:
    """One folder of the plan: its name, its pictures, and the repeats it should have."""

    old: str
    new: str
    pictures: int
    repeats: int

    @property
    def steps(self) -> int:
        """Pictures x repeats."""
        return self.pictures * self.repeats


@dataclass(frozen=True)
class _Concept:
    name: str
    words: str
    pictures: int
    weight: float = 1.0


def run(options: Balance, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Plans new names, and gives them with `apply`; with `undo` gives the old ones back.

    The report's `found` has `folder`, `plan` (old, new, pictures, repeats, steps), `applied`, `undo` (whether there is
    a renaming to take back), and `hint`: what the tutorials would do. Raises InputError, before anything is renamed,
    for names that clash.
    """
    folder = folder_of("folder", options.folder)
    if options.undo:
        return _undone(folder)
    if options.apply and own.place(folder, RENAMING).exists():
        _take_back(not_ours("folder", folder))
    problems: list[Problem] = []
    concepts = _concepts(folder, options.insecure, problems)
    plan = [
        Line(concept.name, f"{repeats}_{concept.words}", concept.pictures, repeats)
        for concept, repeats in zip(concepts, _repeats(folder, concepts, options), strict=True)
    ]
    renames = {line.old: line.new for line in plan if line.old != line.new}
    order, hint = _order(folder, renames), _hint(folder, concepts)
    if options.apply and renames:
        _apply(not_ours("folder", folder), order)
    tell(len(plan), len(plan))
    told = [{**asdict(line), "steps": line.steps} for line in plan]
    found = {"folder": str(folder), "plan": told, "applied": options.apply, "hint": hint}
    if not renames:
        said = f"The {len(plan)} folders have these repeats already."
    else:
        said = f"{len(renames)} of {len(plan)} folders {'renamed' if options.apply else 'would be renamed'}."
    lines = [f"{line.old} -> {line.new}: {line.pictures} x {line.repeats} = {line.steps:,}" for line in plan]
    return Report(said, problems, found | {"undo": bool(_last(folder))}, lines)


def repeats_for(pictures: int, steps: int, weight: float = 1.0) -> int:
    """Kohya's rule: as many repeats as bring `pictures` near to `steps`, at least 1."""
    return min(MOST_REPEATS, max(1, round(steps / pictures * weight)))


def equal_repeats(pictures: Sequence[int], weights: Sequence[float] | None = None) -> list[int]:
    """The fewest repeats with which pictures x repeats differ by 5 % at most; the evenest there are, if none do."""
    weights = weights or [1.0] * len(pictures)
    most = max(count / weight for count, weight in zip(pictures, weights, strict=True))
    best: tuple[float, list[int]] | None = None
    pairs = list(zip(pictures, weights, strict=True))
    for times in range(1, MOST_EQUAL + 1):
        tried = [repeats_for(count, round(most * times), weight) for count, weight in pairs]
        steps = [count * each / weight for (count, weight), each in zip(pairs, tried, strict=True)]
        apart = max(steps) / min(steps) - 1
        if best is None or apart < best[0]:
            best = apart, tried
        if apart <= EVEN:
            break
    assert best
    return best[1]


def _concepts(folder: Path, insecure: bool, problems: list[Problem]) -> list[_Concept]:
    """The folders to balance, sorted; InputError when there are none."""
    found: list[_Concept] = []
    strange: list[str] = []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        numbered, weighed = NUMBER.fullmatch(place.name), WEIGHT.fullmatch(place.name)
        pictures = sum(is_picture(file.name) and not file.name.startswith(".") for file in place.iterdir())
        if not numbered and not insecure:
            strange += [place.name] if pictures else []
        elif not pictures:
            problems.append(Problem(plain(place.name), "holds no pictures", "left as it is"))
        elif weighed and float(weighed[1]) > 0:
            found.append(_Concept(place.name, weighed[2].strip(), pictures, float(weighed[1])))
        else:
            found.append(_Concept(place.name, numbered[2] if numbered else place.name, pictures))
    if not found:
        hint = f"; {plain(strange[0])} has none: set insecure to number it too" if strange else ""
        if any(place.name == "img" for place in folder.iterdir()):
            hint = f"; choose {plain(str(folder / 'img'))}"
        raise InputError(
            f"folder: {plain(str(folder), 1000)} holds no folders of pictures with a number, such as 10_zk9{hint}"
        )
    problems += [Problem(plain(name), "its name has no number of repeats", "left as it is") for name in strange]
    return found


def _repeats(folder: Path, concepts: Sequence[_Concept], options: Balance) -> list[int]:
    if options.how == "equal":
        return equal_repeats([concept.pictures for concept in concepts], [concept.weight for concept in concepts])
    if options.how == "faces":
        faces = _faces(folder, concepts, options.faces)
        return [FACES if concept.name == faces else BODIES for concept in concepts]
    return [repeats_for(concept.pictures, options.steps, concept.weight) for concept in concepts]


def _faces(folder: Path, concepts: Sequence[_Concept], named: str) -> str:
    """Which of two folders is the one of faces; InputError when that cannot be told."""
    names = [concept.name for concept in concepts]
    if named and named not in names:
        raise InputError(f"faces: {plain(named)!r} is none of {plain(', '.join(names))}; choose one")
    if not named and len(concepts) != 2:
        raise InputError(f"faces: there are {len(concepts)} folders, not two; name the one of faces")
    worded = [name for name in names if FACE_WORDS.search(name)]
    if named or len(worded) == 1:
        return named or worded[0]
    shapes = [_aspect(folder / name) for name in names]
    if min(shapes) > 0.95 * max(shapes):
        raise InputError("faces: both folders hold pictures of one shape; name the one of faces")
    return names[shapes.index(max(shapes))]


def _hint(folder: Path, concepts: Sequence[_Concept]) -> str:
    """What the tutorials' rule would make of two folders; "" where it says nothing."""
    try:
        faces = _faces(folder, concepts, "")
    except InputError:
        return ""
    steps = {concept.name: concept.pictures * (FACES if concept.name == faces else BODIES) for concept in concepts}
    share = round(100 * steps[faces] / sum(steps.values()))
    return (
        f"Tutorials for characters give faces {FACES} repeats and bodies {BODIES}: {plain(faces)} would have {share} %"
        " of the training."
    )


def _aspect(folder: Path) -> float:
    """The middle width / height of a folder's pictures, of a hundred at most."""
    shapes: list[float] = []
    for file in sorted(file for file in folder.iterdir() if is_picture(file.name))[:100]:
        try:
            with Image.open(file, formats=FORMATS) as image:
                shapes.append(image.width / image.height)
        except Exception:  # on damaged bytes decoders raise nearly anything; such a picture has no shape
            continue
    return sorted(shapes)[len(shapes) // 2] if shapes else 1.0


def _order(folder: Path, renames: Mapping[str, str]) -> list[tuple[str, str]]:
    """Renames in an order in which each new name is free; InputError when there is none."""
    there = {path.name for path in folder.iterdir()}
    left, order = dict(renames), list[tuple[str, str]]()
    for new in set(left.values()):
        both = [old for old, name in left.items() if name == new]
        if len(both) > 1:
            raise InputError(
                f"folder: {plain(' and '.join(sorted(both)))} would both become {plain(new)}; rename one by hand first"
            )
    while left:
        free = next((old for old, new in left.items() if new not in there), None)
        if free is None:
            old, new = next(iter(left.items()))
            raise InputError(
                f"folder: {plain(old)} would become {plain(new)}, which is there already; rename that first"
            )
        order.append((free, left.pop(free)))
        there = there - {free} | {order[-1][1]}
    return order


def _apply(folder: Path, order: Sequence[tuple[str, str]]) -> None:
    """Renames, all or none.

    Until all is done the new names stand in a file of their own, by which `_take_back` mends what a crash cuts off; the
    undo of the renaming before is kept so long.
    """
    begun, goes_along = own.place(folder, RENAMING), _goes_along(folder)
    make_folder(begun.parent)
    write_json(begun, dict(order))
    try:
        for old, new in order:
            _rename(folder, old, new)
            _rename_along(goes_along, old, new)
        _replace(begun, own.place(folder, PLACE))
    except DiskError:
        _take_back(folder)
        raise


def _take_back(folder: Path) -> list[tuple[str, str]]:
    """Takes the last renaming back, or what was done of one that was cut off; gives the renames that it made.

    A folder itself was the first that got its new name, and is the last that loses it. So whatever is cut off, here
    too, counts as done until all that goes along is as before; and it can be begun again, as nothing is renamed twice.
    """
    begun, last, goes_along = own.place(folder, RENAMING), own.place(folder, PLACE), _goes_along(folder)
    back = _back(folder, _read(begun if begun.exists() else last))
    if not begun.exists():
        _replace(last, begun)
    for new, old in back:
        _rename_along(goes_along, new, old)
        _rename(folder, new, old)
    begun.unlink()
    return back


def _back(folder: Path, renames: Mapping[str, str]) -> list[tuple[str, str]]:
    """The renames that take those back that were done, the last first; InputError when a name is taken meanwhile."""
    there = {path.name for path in folder.iterdir()}
    back: list[tuple[str, str]] = []
    for old, new in reversed([*renames.items()]):
        if new in there and old not in there:
            back.append((new, old))
            there = there - {new} | {old}
        elif new in there and new not in renames:
            raise InputError(
                f"folder: {plain(new)} would become {plain(old)}, which is there already; rename that first"
            )
    return back


def _rename(folder: Path, old: str, new: str) -> None:
    """Gives a folder inside a folder its new name, if it has the old one."""
    if (folder / old).is_dir() and not os.path.lexists(folder / new):
        try:
            os.rename(folder / old, folder / new)
            sync_folder(folder)
        except OSError as error:
            raise failed(folder / new, error) from error


def _goes_along(folder: Path) -> list[Path]:
    """What is to know of new names, so that it comes back to them: folders set aside, and the lists of snapshots."""
    aside, kept = own.place(folder, ASIDE).glob("*/"), own.place(folder, SNAPSHOTS).glob("*/list.jsonl")
    return [own.place(folder, place) for place in (*aside, *kept)]


def _rename_along(places: Iterable[Path], old: str, new: str) -> None:
    for place in places:
        if place.is_dir():
            _rename(place, old, new)
            continue
        try:
            before = place.read_bytes()
        except OSError as error:
            raise failed(place, error) from error
        if json.dumps(f"{old}/")[:-1].encode() in before:  # most lists tell of few folders
            write_aside(place, b"".join(_told_anew(line, old, new) for line in before.splitlines(keepends=True)))


def _told_anew(line: bytes, old: str, new: str) -> bytes:
    """A line of a snapshot's list with its file's new name."""
    try:
        told = json.loads(line)
        above, _, rest = told["file"].partition("/")
    except (ValueError, LookupError, TypeError, AttributeError):  # cut off by a crash, or of another kind
        return line
    return json.dumps({**told, "file": f"{new}/{rest}"}).encode() + b"\n" if rest and above == old else line


def _replace(old: Path, new: Path) -> None:
    try:
        os.replace(old, new)
        sync_folder(new.parent)
    except OSError as error:
        raise failed(new, error) from error


def _undone(folder: Path) -> Report:
    if not _last(folder):
        raise InputError(f"folder: nothing was renamed in {plain(str(folder), 1000)}, so there is nothing to take back")
    back = _take_back(folder)
    lines = [f"{new} -> {old}" for new, old in back]
    plan = [{"old": new, "new": old} for new, old in back]
    found = {"folder": str(folder), "plan": plan, "applied": True, "undo": bool(_last(folder)), "hint": ""}
    return Report(f"{len(back)} folders have their old names again.", found=found, lines=lines)


def _last(folder: Path) -> dict[str, str]:
    """The renaming that an undo takes back: one that was cut off, else the last one."""
    return _read(own.place(folder, RENAMING)) or _read(own.place(folder, PLACE))


def _read(file: Path) -> dict[str, str]:
    """A renaming in a file; {} when there is none that can be read and stays in the folder."""
    try:
        told = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    names = [*told, *told.values()] if isinstance(told, dict) else [""]
    good = all(isinstance(name, str) and name and name[0] != "." and not set(name) & {"/", "\\"} for name in names)
    return told if good else {}
