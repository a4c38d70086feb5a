"""Buckets: which size a picture is resized to, and what is cut off. The same as sd-scripts to the pixel.

All sizes are (width, height) in pixels, unless a name says otherwise.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from trainer.config import Buckets, Data
from trainer.data.folders import Picture
from trainer.data.pictures import MOST_PIXELS, plain
from trainer.errors import InputError
from trainer.families import FAMILIES

Size = tuple[int, int]


class BucketError(InputError):
    """A picture that no bucket fits, or bucket settings that contradict each other."""


class Placement(NamedTuple):
    """Where a picture goes: it is resized to `resized`, which covers `bucket`, and cut to `bucket`."""

    bucket: Size
    resized: Size


def place(size: Size, resolution: Size, buckets: Buckets | None) -> Placement:
    """The bucket of a picture; BucketError when the picture is too thin or too small for any.

    Without buckets there is one, the resolution itself. With `no_upscale` a picture gets a bucket of its own size, cut
    down to multiples of the step. Else it gets the one of `bucket_sizes` whose aspect ratio is nearest.
    """
    if buckets is not None and buckets.no_upscale:
        resized = size if size[0] * size[1] <= resolution[0] * resolution[1] else shrink(size, resolution, buckets.step)
        bucket = floor_to(resized[0], buckets.step), floor_to(resized[1], buckets.step)
    else:
        bucket = nearest(size, (resolution,) if buckets is None else bucket_sizes(resolution, buckets))
        resized = cover(size, bucket)
    becomes = f"{size[0]}x{size[1]} pixels become {resized[0]}x{resized[1]}"
    if buckets is not None and not all(bucket):
        raise BucketError(f"{becomes}, with a side below data.buckets.step {buckets.step}: crop it, or leave it out")
    if resized[0] * resized[1] > MOST_PIXELS:  # a strip one pixel high would grow to gigabytes
        raise BucketError(f"{becomes}, above {MOST_PIXELS // 10**6} megapixels: it is too thin, crop it")
    return Placement(bucket, resized)


def place_all(pictures: Sequence[Picture], data: Data) -> list[Placement]:
    """The bucket of every picture; BucketError names those that fit none."""
    placements: list[Placement] = []
    refused: list[str] = []
    for picture in pictures:
        try:
            own = data.of(picture.folder.subset)
            found = place(picture.trained or picture.size, own.resolution, own.buckets)
            if picture.trained:  # its bucket is that of another size than its own
                found = Placement(found.bucket, cover(picture.size, found.bucket))
            placements.append(found)
        except BucketError as error:
            refused.append(f"{plain(str(picture.path))}: {error}")
    if refused:
        more = [f"and {len(refused) - 5} more"] if len(refused) > 5 else []
        raise BucketError("\n".join(refused[:5] + more))
    return placements


@lru_cache
def bucket_sizes(resolution: Size, buckets: Buckets) -> tuple[Size, ...]:
    """All buckets of about the resolution's area, sorted; `smallest` is rounded down to the step, `largest` up."""
    area, step = resolution[0] * resolution[1], buckets.step
    smallest, largest = floor_to(buckets.smallest, step), -floor_to(-buckets.largest, step)
    side = floor_to(math.isqrt(area), step)
    sizes = {(side, side)}
    for width in range(max(smallest, step), largest + 1, step):
        height = min(largest, floor_to(area // width, step))
        if height >= max(smallest, step):
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def nearest(size: Size, sizes: tuple[Size, ...]) -> Size:
    """The picture's own size if it is there, else the first of the nearest aspect ratio."""
    aspect = size[0] / size[1]
    return size if size in sizes else min(sizes, key=lambda bucket: abs(bucket[0] / bucket[1] - aspect))


def cover(size: Size, bucket: Size) -> Size:
    """The smallest resized picture that covers the bucket."""
    wider = size[0] / size[1] > bucket[0] / bucket[1]
    scale = bucket[1] / size[1] if wider else bucket[0] / size[0]
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def shrink(size: Size, resolution: Size, step: int) -> Size:
    """A larger picture at the resolution's area, one side a multiple of the step: the one that bends its shape less."""
    aspect, area = size[0] / size[1], resolution[0] * resolution[1]
    exact = math.sqrt(area * aspect)
    width, height = floor_to(int(exact + 0.5), step), floor_to(int(area / exact + 0.5), step)
    height_of_width = floor_to(int(width / aspect + 0.5), step)
    width_of_height = floor_to(int(height * aspect + 0.5), step)
    if not (height_of_width and height):  # about as thin as a step; sd-scripts divides by zero here
        return int(exact + 0.5), int(area / exact + 0.5)
    if abs(width / height_of_width - aspect) < abs(width_of_height / height - aspect):
        return width, int(width / aspect + 0.5)
    return int(height * aspect + 0.5), height


def floor_to(value: int, step: int) -> int:
    """The multiple of the step at or below a value."""
    return value - value % step


def crop_box(placement: Placement, mode: Literal["center", "random"], dice: random.Random) -> tuple[int, int]:
    """(left, top) of the bucket inside the resized picture."""
    spare = [have - want for have, want in zip(placement.resized, placement.bucket, strict=True)]
    left, top = (dice.randint(0, trim) if mode == "random" else trim // 2 for trim in spare)
    return left, top


def sdxl_crop(size: Size, bucket: Size, flipped: bool = False) -> tuple[int, int]:
    """(top, left) that SDXL is told: the formula of Stability AI's data, as sd-scripts applies it to a whole picture.

    It is not where the picture was cut: it is the margin that the picture would leave if it were fitted inside its
    bucket, and 0 when both have the same shape. The mirror of a picture has the right margin for its left one.
    """
    aspect = size[0] / size[1]
    if bucket[0] / bucket[1] > aspect:
        width, height = bucket[1] * aspect, float(bucket[1])
    else:
        width, height = float(bucket[0]), bucket[0] / aspect
    left, top = (bucket[0] - width) // 2, (bucket[1] - height) // 2
    return int(top), int(bucket[0] - (left + width) if flipped else left)


def check_buckets(data: Data, family: str) -> None:
    """BucketError when resolution and buckets contradict each other, or the family cannot work at such sizes."""
    for place in range(len(data.subsets)):
        try:
            _check_sizes(data.of(place), family)
        except BucketError as error:
            raise BucketError(f"data.subsets: {plain(data.subsets[place].folder)}: {error}") from error
    if not data.subsets:
        _check_sizes(data, family)


def _check_sizes(data: Data, family: str) -> None:
    (width, height), buckets = data.resolution, data.buckets
    if buckets is None:
        if width % 8 or height % 8:
            raise BucketError(f"data.resolution: {width},{height} must be multiples of 8, the step of the VAE")
        return
    unit, at = FAMILIES[family].unit, f"the resolution {width},{height}"
    if buckets.step % unit:
        raise BucketError(
            f"data.buckets.step: {buckets.step} must be a multiple of {unit}, which the {family} UNet needs"
        )
    if buckets.step > min(width, height):
        raise BucketError(f"data.buckets.step: {buckets.step} is above {at}: set it to {unit}")
    if buckets.no_upscale:  # buckets follow the pictures: smallest and largest are not used
        return
    if floor_to(buckets.smallest, buckets.step) > min(width, height):
        raise BucketError(f"data.buckets.smallest: {buckets.smallest} is above {at}: lower it to {min(width, height)}")
    if -floor_to(-buckets.largest, buckets.step) < max(width, height):
        raise BucketError(f"data.buckets.largest: {buckets.largest} is below {at}: raise it to {max(width, height)}")
