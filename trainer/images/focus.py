"""What a picture is cut around: a box drawn by hand, a face, or what stands out; and what becomes of it then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from trainer import own
from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.images.batch import Drawn, Piece, Source, Tool, folder_of
from trainer.images.edits import edit, put
from trainer.images.faces import Detector, largest, no_detector, open_detector
from trainer.images.geometry import Box, Placement, Size, around, fit, target_of
from trainer.images.ledger import Entry, digest_of
from trainer.images.options import Crop
from trainer.images.saliency import subject

CLOSE = 0.25
"""A picture whose face is at least this part of its height is a close-up; below, it shows the body."""

SMALLEST_CLOSE_UP = 192
"""Pixels a side that a close-up needs in the old picture; fewer are mush when they are enlarged."""


DRAWN = Path(".likeness") / "boxes.json"
"""Where the page keeps boxes that are drawn there, in the folder of pictures."""


class Frame(NamedTuple):
    """What is cut out of a picture, in its pixels, the size that it is brought to, and how it was found."""

    crop: tuple[int, int, int, int]
    size: Size
    how: str


class Found(NamedTuple):
    """What to cut around, and how it was found. face: whether the box is a face's."""

    box: Box | None
    how: str
    face: bool = False


@dataclass(frozen=True)
class Finder:
    """Finds what each picture is about."""

    focus: str
    detector: Detector | None
    boxes: Mapping[str, Box] = field(default_factory=dict)
    """Boxes drawn by hand, in parts of 1, by the picture's path in its folder."""
    loose: bool = False
    """Whether a file name alone names the pictures of all folders inside."""

    def __call__(self, image: Image.Image) -> Found:
        """The face, else what stands out, as far as the option allows."""
        if self.detector and (face := largest(self.detector.faces(image))):
            return Found(face.box, "around the face (YuNet)", face=True)
        if self.focus in ("auto", "saliency"):
            why = " (no face found)" if self.detector else ""
            box = subject(image)
            return Found(box, f"around what stands out{why}" if box else f"in the middle: nothing stands out{why}")
        return Found(None, "in the middle" if self.focus == "centre" else "in the middle: no face found")

    def by_hand(self, source: Source, size: Size) -> Box | None:
        """The box drawn for a picture, in its pixels."""
        box = self.boxes.get(source.name.as_posix()) or (self.boxes.get(source.name.name) if self.loose else None)
        return box and Box(box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1])


def crop_tool(options: Crop) -> Tool:
    """The tool that cuts pictures; InputError when a file it needs is missing or wrong."""
    finder = finder_of(options)
    detector = finder.detector
    needy = [name for name in ("close_ups", "split") if getattr(options, name)]
    if detector is None and needy:
        raise no_detector(" and ".join(needy))
    model = digest_of(detector.model.file) if detector else ""
    notes = detector.model.notes if detector else ()
    if options.split and finder.boxes:
        finder = replace(finder, boxes={})
        notes = (*notes, "boxes drawn in the page are not used: they do not say what is a face, and split asks for it")

    def salt(source: Source, entry: Entry | None) -> str:
        box = finder.by_hand(source, (1, 1))
        return repr(tuple(box)) if box else model

    def draw(source: Source, image: Image.Image, entry: Entry | None) -> Drawn:
        if box := finder.by_hand(source, image.size):
            return Drawn([cut(image, options, box)], "around the box drawn by hand", by_hand=True)
        found = finder(image)
        return split(image, found, options) if options.split or options.close_ups else whole(image, found, options)

    return Tool("crop", draw, salt, notes)


def finder_of(options: Crop) -> Finder:
    """The finder that options ask for, with the boxes of their file, else with those that were drawn in the page.

    InputError when the detector or the boxes cannot be opened, or a face is asked for and no detector is there.
    """
    detector = open_detector(options.detector) if options.focus in ("auto", "face") else None
    if detector is None and options.focus == "face":
        raise no_detector("focus")
    drawn = own.place(folder_of(options), DRAWN)
    given = options.boxes or (str(drawn) if drawn.is_file() else None)
    return Finder(options.focus, detector, read_boxes(given), loose=bool(options.boxes))


def automatic(image: Image.Image, finder: Finder, options: Crop) -> Frame:
    """What is cut out of a picture for which no box is drawn, when it is neither split nor made a close-up of."""
    found, target = finder(image), target_of(image.size, options.sizes, options.buckets)
    return Frame(_placed(image.size, found, target, options).crop, target, found.how)


def by_hand(size: Size, box: Box, options: Crop) -> Frame:
    """A box as it was drawn, in the shape that its size has; what sticks out is moved into the picture."""
    target = target_of((max(1, round(box.size[0])), max(1, round(box.size[1]))), options.sizes, options.buckets)
    left, top, right, bottom = (round(value) for value in around(size, box, target))
    return Frame((left, top, right, bottom), target, "around the box drawn by hand")


def cut(image: Image.Image, options: Crop, box: Box) -> Piece:
    """What a box drawn by hand shows."""
    frame = by_hand(image.size, box, options)
    return _piece(image, Box(*frame.crop), frame.size, options)


def whole(image: Image.Image, found: Found, options: Crop) -> Drawn:
    """As much of a picture as its size can show, around what was found."""
    target = target_of(image.size, options.sizes, options.buckets)
    return Drawn([_framed(image, found, target, options)], found.how)


def split(image: Image.Image, found: Found, options: Crop) -> Drawn:
    """A close-up and the body, each into its own folder if they are to be split; a picture that is close is one only.

    Without a face a picture counts as a body.
    """
    faces = f"{options.face_repeats}_{options.trigger.strip()}" if options.split else None
    bodies = f"{options.body_repeats}_{options.trigger.strip()}" if options.split else None
    face_target = target_of(image.size, options.sizes, options.buckets)
    if options.split:  # faces are of one shape, the one nearest to a square
        face_target = target_of((1, 1), options.sizes, None)
    body_target = options.body_size if options.split else face_target
    if found.box is None or not found.face:
        return Drawn([_framed(image, found, body_target, options)._replace(folder=bodies)], found.how)
    if found.box.size[1] >= CLOSE * image.height:
        return Drawn([_framed(image, found, face_target, options)._replace(folder=faces)], found.how)
    pieces, notes = [_framed(image, found, body_target, options)._replace(folder=bodies)], ()
    if options.close_ups:
        near = around(image.size, found.box.enlarged(options.close_up_factor), face_target)
        if min(near.size) >= SMALLEST_CLOSE_UP:
            pieces.append(_piece(image, near, face_target, options)._replace(folder=faces, tail="_face"))
        else:
            notes = (f"no close-up: the face is smaller than {SMALLEST_CLOSE_UP} pixels with its surroundings",)
    return Drawn(pieces, found.how, notes=notes)


def read_boxes(file: str | None) -> dict[str, Box]:
    """Boxes by file name, in parts of 1; InputError names what is wrong."""
    if file is None:
        return {}
    try:
        told = json.loads(Path(file).expanduser().read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"boxes: {plain(file, 1000)} cannot be read as JSON ({error}): check the file") from None
    boxes: dict[str, Box] = {}
    for name, box in told.items() if isinstance(told, dict) else [("the file", told)]:
        boxes[name] = box_of(name, box)
    return boxes


def box_of(name: str, told: Any) -> Box:
    """A picture's box out of JSON, in parts of 1; InputError when it is none."""
    numbers = isinstance(told, list) and len(told) == 4 and all(isinstance(value, int | float) for value in told)
    if not numbers or not (0 <= told[0] < told[2] <= 1 and 0 <= told[1] < told[3] <= 1):
        raise InputError(
            f"boxes: {plain(str(name))}: is no box: write [left, top, right, bottom], each from 0 to 1, left below "
            "right and top below bottom"
        )
    return Box(*map(float, told))


def _placed(size: Size, found: Found, target: Size, options: Crop) -> Placement:
    return fit(size, target, "cover", found.box, not options.no_upscale)


def _framed(image: Image.Image, found: Found, target: Size, options: Crop) -> Piece:
    placement = _placed(image.size, found, target, options)
    return Piece(edit(put(image, placement, options.background, options.interpolation), options))


def _piece(image: Image.Image, box: Box, target: Size, options: Crop) -> Piece:
    """The part of a picture in a box of the target's shape, at the target's size."""
    left, top, right, bottom = (round(value) for value in box)
    part = image.crop((left, top, right, bottom))
    placement = fit(part.size, target, "cover", None, not options.no_upscale)
    return Piece(edit(put(part, placement, options.background, options.interpolation), options))
