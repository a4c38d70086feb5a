"""What is kept of each picture once it was looked at: numbers, a thumbnail of 32 pixels, and its faces.

Pictures are opened as training opens them, so that what training refuses is refused here, in a few threads that are
never more than a handful of pictures ahead: memory does not grow with the data set but for what is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.ahead import THREADS, ahead
from trainer.data.folders import SMALLEST_SIDE, Listing, leaves
from trainer.data.pictures import FORMATS, PictureError, plain, read_picture
from trainer.images import measures
from trainer.images.faces import Detector, Face
from trainer.images.similar import fingerprint

COLOURS = 96  # pixels a side of the copy whose colours are judged
MAKE, MODEL, CAMERA_IFD, TAKEN = 0x010F, 0x0110, 0x8769, 0x9003  # of EXIF
BAD_EXIF = (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error)  # as in trainer.data.pictures
BACKGROUND = "#ffffff"


@dataclass(frozen=True, slots=True)
class FaceSeen:
    """A face in parts of the picture. cut: the picture's edge goes through it."""

    height: float
    area: float
    cut: bool
    eyes: float
    """Contrast of the weaker eye against that of the whole face: an open eye is above 0.5, a closed one below 0.3."""
    apart: float
    """Pixels between the eyes in the copy that is measured."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture that opens. size: (width, height) upright; thumb: uint8 [32, 32, 3]; faces: None without a detector."""

    name: str
    size: tuple[int, int]
    sharpness: float
    noise: float
    light: measures.Light
    cast: float
    thumb: np.ndarray
    taken: tuple[str, datetime] | None
    """Camera and time, where the file tells both."""
    faces: tuple[FaceSeen, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """A picture that cannot be trained, and why. is_file: not a folder, a pipe or a link, so that it can be moved."""

    name: str
    why: str
    is_file: bool


def see_all(
    pictures: Sequence[tuple[str, Path, Listing]], detector: Detector | None
) -> Generator[Seen | Refused, None, None]:
    """Every picture in order: (name in the report, file, the listing that it stands in)."""
    with closing(ahead(pictures, lambda item: see(*item, detector), THREADS, 2 * THREADS)) as work:
        for _, seen in work:
            yield seen.result()


def see(name: str, path: Path, listing: Listing, detector: Detector | None = None) -> Seen | Refused:
    """Looks at one picture."""
    try:
        if leaves(path, listing.root):
            raise PictureError("a link that leaves the folder, or leads nowhere")
        if not path.is_file():
            raise PictureError("not a file")  # opening a pipe would wait for ever
        with path.open("rb") as file:
            opened = read_picture(file, BACKGROUND)
        if min(opened.image.size) < SMALLEST_SIDE:
            width, height = opened.image.size
            raise PictureError(f"{width} x {height} pixels, less than {SMALLEST_SIDE} on a side")
        return _seen(name, path, opened.image, opened.notes, detector)
    except PictureError as error:
        why = str(error)
    except OSError as error:
        why = f"cannot be read ({error.strerror or plain(str(error))})"
    return Refused(name, why, path.is_file() and not path.is_symlink())


def _seen(name: str, path: Path, image: Image.Image, notes: tuple[str, ...], detector: Detector | None) -> Seen:
    copy = measures.copy_of(image)
    grey = copy.convert("L")
    values = np.asarray(grey, np.float32)
    colours = np.asarray(copy.resize((COLOURS, COLOURS), Image.Resampling.BOX, reducing_gap=1.0), np.float32)
    faces = None if detector is None else tuple(_face(face, values) for face in detector.faces(copy))
    numbers = measures.sharpness(grey), measures.noise(values), measures.light(values), measures.cast(colours)
    return Seen(name, image.size, *numbers, fingerprint(copy), taken(path), faces, notes)


def taken(path: Path) -> tuple[str, datetime] | None:
    """Camera and time of a photo, by its EXIF data; None when it does not tell both."""
    try:
        with Image.open(path, formats=FORMATS) as image:  # reads the head alone
            exif = Image.Exif()
            exif.load(image.info.get("exif") or b"")
        when = str(exif.get_ifd(CAMERA_IFD).get(TAKEN, ""))[:19]
        camera = " ".join(filter(None, (plain(str(exif.get(tag, "")).strip(), 40) for tag in (MAKE, MODEL))))
        return (camera, datetime.strptime(when, "%Y:%m:%d %H:%M:%S")) if camera else None
    except BAD_EXIF:
        return None


def _face(face: Face, values: np.ndarray) -> FaceSeen:
    """A face as parts of the picture, from grey values [h, w]."""
    height, width = values.shape
    wide, high = face.box.size
    eyes = face.points[:2]
    apart = float(np.hypot(*(eyes[0] - eyes[1])))
    whole = _contrast(values, *face.box)
    reach = 0.22 * apart  # of an eye to each side of its middle
    around = [_contrast(values, x - reach, y - reach, x + reach, y + reach) for x, y in eyes]
    return FaceSeen(
        round(high / height, 3),
        wide * high / (width * height),
        _is_cut(face, (width, height)),
        round(min(around) / max(whole, 1.0), 2),
        round(apart, 1),
    )


def _contrast(values: np.ndarray, left: float, top: float, right: float, bottom: float) -> float:
    """Difference between light and dark in a box, in grey levels; 0 where the box is outside of the picture."""
    part = values[max(0, round(top)) : max(0, round(bottom)) + 1, max(0, round(left)) : max(0, round(right)) + 1]
    return float(np.subtract(*np.percentile(part, [95, 5]))) if part.size else 0.0


def _is_cut(face: Face, size: tuple[int, int]) -> bool:
    """Whether an edge of the picture goes through a face: its box, cut off there, is no more even around its points."""
    x, y = face.points.mean(0)
    sides = [(x - face.box.left, face.box.right - x), (y - face.box.top, face.box.bottom - y)]
    near = [(face.box.left <= 0, face.box.right >= size[0]), (face.box.top <= 0, face.box.bottom >= size[1])]
    return any(
        touches and side < 0.7 * max(other, 1e-6)
        for pair, touching in zip(sides, near, strict=True)
        for side, other, touches in ((*pair, touching[0]), (*pair[::-1], touching[1]))
    )
