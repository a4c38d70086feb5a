"""Where a picture is cut, how far it is scaled and what is put around it: numbers only, no pixels.

Sizes are (width, height) and boxes (left, top, right, bottom), in pixels of the upright picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from trainer.config import Buckets
from trainer.data.buckets import nearest, place
from trainer.data.folders import SMALLEST_SIDE
from trainer.data.pictures import MOST_PIXELS
from trainer.errors import InputError
from trainer.images.options import How

Size = tuple[int, int]


class GeometryError(InputError):
    """A picture that cannot be brought to the size that is wanted, and why."""


class Box(NamedTuple):
    """A rectangle in a picture, or a point where both corners are one; parts of a pixel count."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle, from left and from top."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def enlarged(self, factor: float) -> Box:
        """As many times as wide and as high, around the same middle; it may stick out of the picture."""
        (x, y), (width, height) = self.centre, self.size
        return Box(x - width * factor / 2, y - height * factor / 2, x + width * factor / 2, y + height * factor / 2)


class Placement(NamedTuple):
    """A picture is cut to `crop`, which is resized to `size` and laid on a canvas of its own, `at` (left, top)."""

    crop: tuple[int, int, int, int]
    size: Size
    canvas: Size
    at: Size = (0, 0)

    @property
    def scale(self) -> float:
        """Pixels that become of one pixel's side: above 1 the picture is enlarged."""
        return self.size[0] / (self.crop[2] - self.crop[0])


def target_of(size: Size, sizes: Sequence[Size], buckets: Buckets | None) -> Size:
    """The size for a picture: the one of nearest aspect ratio, or its bucket (of the first size's area).

    Raises BucketError when no bucket fits.
    """
    return nearest(size, tuple(sizes)) if buckets is None else place(size, sizes[0], buckets).bucket


def fit(size: Size, target: Size, how: How, focus: Box | None = None, upscale: bool = True) -> Placement:
    """How a picture of this size is brought to the target.

    cover: fills it, what is too much is cut, around `focus` if there is one. contain: the whole picture, with padding
    to exactly the target. inside: the whole picture, as large as fits, no padding. extend: no pixel is resized, the
    canvas grows to the target's shape, and at least to its size. keep: as it is. Without `upscale` nothing is enlarged:
    a small picture keeps its pixels, in the target's shape with cover, in the middle of the target with contain.
    Raises GeometryError for pictures that are too thin or would become too large.
    """
    width, height = size
    whole = (0, 0, width, height)
    if how == "cover":
        crop = window(size, shaped(size, target), focus)
        shape = (crop[2] - crop[0], crop[3] - crop[1])
        if min(shape) < SMALLEST_SIDE:
            raise GeometryError(
                f"{width} x {height} pixels, of which {target[0]}x{target[1]} would show {shape[0]} x {shape[1]}, less "
                f"than {SMALLEST_SIDE} on a side: leave it out, or choose contain"
            )
        final = target if upscale or (shape[0] >= target[0] and shape[1] >= target[1]) else shape
        return Placement(crop, final, final)
    scale = min(target[0] / width, target[1] / height)
    inner = size
    if how in ("contain", "inside") and (upscale or scale < 1):
        inner = max(1, min(target[0], round(width * scale))), max(1, min(target[1], round(height * scale)))
    outer = {"contain": target, "extend": extended(size, target)}.get(how, inner)
    if outer[0] * outer[1] > MOST_PIXELS:
        raise GeometryError(
            f"{width} x {height} pixels would need a canvas of {outer[0]} x {outer[1]}, more than "
            f"{MOST_PIXELS // 10**6} megapixels: it is too thin, crop it"
        )
    return Placement(whole, inner, outer, ((outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2))


def shaped(size: Size, target: Size) -> Size:
    """The largest size of the target's shape in a picture; at least one pixel a side."""
    if size[0] * target[1] > size[1] * target[0]:  # wider than the target
        return max(1, min(size[0], round(size[1] * target[0] / target[1]))), size[1]
    return size[0], max(1, min(size[1], round(size[0] * target[1] / target[0])))


def extended(size: Size, target: Size) -> Size:
    """The smallest canvas of the target's shape that holds both the picture and the target."""
    factor = max(1, size[0] / target[0], size[1] / target[1])
    return max(size[0], round(target[0] * factor)), max(size[1], round(target[1] * factor))


def window(size: Size, inner: Size, focus: Box | None = None) -> tuple[int, int, int, int]:
    """The box of size `inner` in a picture: in its middle, or around the focus, which lies inside wherever it can."""
    corner: list[int] = []
    for side, length in enumerate(inner):
        spare = size[side] - length
        start = spare // 2
        if focus is not None:
            low, high = focus[side], focus[side + 2]
            start = round((low + high - length) / 2)
            if math.ceil(high) - math.floor(low) <= length:  # rounding must not push it out
                start = max(math.ceil(high) - length, min(start, math.floor(low)))
        corner.append(max(0, min(start, spare)))
    left, top = corner
    return left, top, left + inner[0], top + inner[1]


def around(size: Size, box: Box, target: Size) -> Box:
    """The smallest box of the target's shape around `box`, moved and, where it must be, cut down into the picture."""
    width, height = box.size
    wide = max(width, height * target[0] / target[1])
    most = shaped(size, target)
    inner = min(most[0], max(1, round(wide))), min(most[1], max(1, round(wide * target[1] / target[0])))
    return Box(*window(size, inner, box))
