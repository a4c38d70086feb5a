"""Buckets and crops: equal to sd-scripts on 90,000 sizes, and to what the rules say when they are spelled out."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainer.config import Buckets, Data
from trainer.data.buckets import (
    BucketError,
    Placement,
    Size,
    bucket_sizes,
    check_buckets,
    crop_box,
    place,
    place_all,
    sdxl_crop,
)
from trainer.data.folders import Folder, Picture
from trainer.draws import dice

UP = Buckets(no_upscale=False)
RECORDED: dict[str, tuple[Size, Buckets | None, str]] = {
    "off": ((512, 512), None, "af1d114dcae921ad"),
    "wide off": ((768, 512), None, "773699be546e9193"),
    "sd15": ((512, 512), UP, "51a4ad393a0c279a"),
    "sd15 small": ((128, 128), Buckets(smallest=64, largest=256, no_upscale=False), "3e89a049ef279029"),
    "sdxl": ((1024, 1024), Buckets(smallest=300, largest=2000, step=32, no_upscale=False), "13a13f153de0c737"),
    "tall": ((512, 768), Buckets(largest=1024, no_upscale=False), "b041ac74a01ad382"),
    "shrink": ((512, 512), Buckets(), "bf078b59e91d235a"),
    "shrink sdxl": ((1024, 1024), Buckets(step=32), "c72fd9dbbb37b32a"),
    "shrink tall": ((512, 768), Buckets(), "732562b0e071d1a1"),
}
"""Settings, and a digest of what BucketManager of sd-scripts 48d368fa answers to 10,000 sizes with them."""


@pytest.mark.parametrize("name", RECORDED)
def test_ten_thousand_sizes_as_in_sd_scripts(name: str) -> None:
    resolution, buckets, recorded = RECORDED[name]
    sizes, digest = random.Random(f"sizes {name}"), hashlib.sha256()
    for _ in range(10_000):
        plain = sizes.random() < 0.7
        size = tuple(sizes.randint(64, 4096) if plain else int(64 * 2 ** sizes.uniform(0, 5)) for _ in range(2))
        bucket, resized = place(size, resolution, buckets)
        (top, left), (_, right) = sdxl_crop(size, bucket), sdxl_crop(size, bucket, flipped=True)
        placed = f"{size} {bucket[0]}x{bucket[1]} {resized[0]}x{resized[1]} {top},{left},{right}\n"
        digest.update(placed.encode())
    assert digest.hexdigest()[:16] == recorded


def test_the_buckets_of_a_run_of_sd_scripts() -> None:
    buckets = Buckets(smallest=64, largest=192, no_upscale=False)
    assert bucket_sizes((128, 128), buckets) == ((64, 192), (128, 128), (192, 64))


def test_well_known_sizes_of_sdxl() -> None:
    sizes = bucket_sizes((1024, 1024), Buckets(smallest=512, no_upscale=False))
    assert {(1024, 1024), (832, 1216), (896, 1152), (1152, 896), (1216, 832), (768, 1344), (1344, 768)} <= set(sizes)


@pytest.mark.parametrize(
    ("size", "buckets", "bucket", "resized"),
    [
        ((512, 512), None, (512, 512), (512, 512)),
        ((1024, 768), None, (512, 512), (683, 512)),
        ((600, 800), None, (512, 512), (512, 683)),
        ((100, 100), None, (512, 512), (512, 512)),
        ((1920, 1080), UP, (640, 384), (683, 384)),
        ((1080, 1920), UP, (384, 640), (384, 683)),
        ((640, 384), UP, (640, 384), (640, 384)),  # a bucket's own size
        ((300, 300), UP, (512, 512), (512, 512)),
        ((300, 400), Buckets(), (256, 384), (300, 400)),  # small: as it is, cut to the step
        ((512, 512), Buckets(), (512, 512), (512, 512)),
        ((64, 64), Buckets(), (64, 64), (64, 64)),
        ((1000, 1000), Buckets(), (512, 512), (512, 512)),
        ((1920, 1080), Buckets(), (640, 384), (683, 384)),
        ((1100, 500), Buckets(), (704, 320), (704, 320)),
    ],
)
def test_placements(size: Size, buckets: Buckets | None, bucket: Size, resized: Size) -> None:
    assert place(size, (512, 512), buckets) == Placement(bucket, resized)


def spelled_out(resolution: Size, smallest: int, largest: int, step: int) -> set[Size]:
    """All sizes on the grid that cannot grow in height, or that cannot in width; and the square."""
    area, grid = resolution[0] * resolution[1], range(smallest, largest + 1, step)
    fits = {(width, height) for width in grid for height in grid if width * height <= area}
    tallest = {(w, h) for w, h in fits if (w, h + step) not in fits}
    square = max(side for side in range(step, largest + 1, step) if side * side <= area)
    return tallest | {(h, w) for w, h in tallest} | {(square, square)}


@pytest.mark.parametrize("resolution", [(512, 512), (512, 768), (640, 384), (1024, 1024)])
@pytest.mark.parametrize(("smallest", "largest", "step"), [(256, 2048, 64), (128, 1024, 128), (320, 1088, 64)])
def test_sizes_by_brute_force(resolution: Size, smallest: int, largest: int, step: int) -> None:
    buckets = Buckets(smallest=smallest, largest=largest, step=step, no_upscale=False)
    sizes = bucket_sizes(resolution, buckets)
    assert set(sizes) == spelled_out(resolution, smallest, largest, step)
    assert list(sizes) == sorted(sizes)


sides = st.integers(64, 5000)


@given(sides, sides, st.sampled_from([(512, 512), (512, 768), (1024, 1024)]))
def test_the_nearest_bucket_by_brute_force(width: int, height: int, resolution: Size) -> None:
    sizes = bucket_sizes(resolution, UP)
    bucket, resized = place((width, height), resolution, UP)
    errors = {size: abs(Fraction(*size) - Fraction(width, height)) for size in sizes}
    assert bucket == (width, height) or float(errors[bucket]) == pytest.approx(float(min(errors.values())), abs=1e-12)
    assert resized[0] >= bucket[0] and resized[1] >= bucket[1]
    assert bucket[0] in resized or resized[1] == bucket[1]  # no more than needed


@given(sides, sides, st.sampled_from([(512, 512), (512, 768), (1024, 1024)]), st.sampled_from([32, 64]))
def test_no_upscale_never_enlarges(width: int, height: int, resolution: Size, step: int) -> None:
    try:
        bucket, resized = place((width, height), resolution, Buckets(step=step))
    except BucketError:
        assume(False)
        return
    area = resolution[0] * resolution[1]
    assert bucket[0] % step == bucket[1] % step == 0
    assert all(0 <= resized[i] - bucket[i] < step for i in (0, 1))
    assert resized[0] <= width and resized[1] <= height
    if width * height <= area:
        assert resized == (width, height)
    else:
        assert resized[0] % step == 0 or resized[1] % step == 0
        assert resized[0] * resized[1] <= area * (1 + step / min(resized)) ** 2


@given(sides, sides)
def test_a_turned_picture_gets_the_turned_bucket(width: int, height: int) -> None:
    """Only without a tie: two neighbours equally far apart in width / height are not so in height / width."""
    bucket = place((width, height), (512, 512), None).bucket
    assert bucket == place((height, width), (512, 512), None).bucket[::-1]


@pytest.mark.parametrize(
    ("size", "buckets", "message"),
    [
        ((5000, 10), Buckets(), "below data.buckets.step 64: crop it, or leave it out"),
        ((40, 40), Buckets(), "40x40 pixels become 40x40, with a side below"),
        ((20_000, 30), Buckets(), "below data.buckets.step 64"),
        ((64_000_000, 1), UP, "above 64 megapixels: it is too thin, crop it"),
        ((1, 200_000), None, "above 64 megapixels"),
    ],
)
def test_pictures_that_fit_nowhere(size: Size, buckets: Buckets | None, message: str) -> None:
    with pytest.raises(BucketError, match=message):
        place(size, (512, 512), buckets)


def test_a_strip_on_which_sd_scripts_divides_by_zero() -> None:
    sizes = [(width, height) for width in range(3000, 9000, 37) for height in (60, 64, 65, 80, 100)]
    for size in sizes:
        try:
            bucket, _ = place(size, (512, 512), Buckets())
        except BucketError:
            continue
        assert min(bucket) >= 64


def test_every_refused_picture_is_named() -> None:
    folder = Folder("1_a", Path("1_a"), 1, "a")
    good = Picture(Path("1_a/good.png"), folder, (512, 512), "", "none", "00")
    thin = [replace(good, path=Path(f"1_a/thin{i}.png"), size=(5000, 10)) for i in range(7)]
    with pytest.raises(BucketError) as error:
        place_all([good, *thin], Data())
    assert "good.png" not in str(error.value)
    assert str(error.value).count("thin") == 5 and str(error.value).endswith("and 2 more")
    assert place_all([good], Data()) == [Placement((512, 512), (512, 512))]


def test_the_cut_is_in_the_middle_or_anywhere() -> None:
    placement = Placement((512, 384), (515, 400))
    assert crop_box(placement, "center", dice(1, "crop")) == (1, 8)
    boxes = {crop_box(placement, "random", dice(1, "crop", i)) for i in range(500)}
    assert boxes == {(left, top) for left in range(4) for top in range(17)}
    assert crop_box(Placement((8, 8), (8, 8)), "random", dice(1, "crop")) == (0, 0)


@pytest.mark.parametrize(
    ("size", "bucket", "top_left", "mirrored"),
    [
        ((1000, 1000), (1024, 1024), (0, 0), (0, 0)),
        ((1920, 1080), (1344, 768), (6, 0), (6, 0)),
        ((1080, 1920), (768, 1344), (0, 6), (0, 6)),
        ((1000, 1500), (832, 1216), (0, 10), (0, 11)),  # 810.67 wide: 21.33 to spare, 10 left and 11.33 right
        ((1200, 700), (1024, 1024), (213, 0), (213, 0)),
    ],
)
def test_what_sdxl_is_told(size: Size, bucket: Size, top_left: Size, mirrored: Size) -> None:
    assert sdxl_crop(size, bucket) == top_left
    assert sdxl_crop(size, bucket, flipped=True) == mirrored


@pytest.mark.parametrize(
    ("family", "data", "message"),
    [
        ("sd15", {"resolution": 500, "buckets": None}, "data.resolution: 500,500 must be multiples of 8"),
        (
            "sd15",
            {"buckets": {"step": 32}},
            "data.buckets.step: 32 must be a multiple of 64, which the sd15 UNet needs",
        ),
        ("sdxl", {"buckets": {"step": 8}}, "data.buckets.step: 8 must be a multiple of 32"),
        ("sd15", {"resolution": 64, "buckets": {"step": 128}}, "data.buckets.step: 128 is above the resolution 64,64"),
        (
            "sd15",
            {"resolution": (512, 192), "buckets": {"no_upscale": False}},
            "smallest: 256 is above .* lower it to 192",
        ),
        ("sd15", {"buckets": {"largest": 448, "no_upscale": False}}, "largest: 448 is below .* raise it to 512"),
    ],
)
def test_settings_that_contradict_each_other(family: str, data: dict[str, Any], message: str) -> None:
    with pytest.raises(BucketError, match=message):
        check_buckets(Data.model_validate(data), family)


@pytest.mark.parametrize(
    ("family", "data"),
    [
        ("sd15", {}),
        ("sdxl", {"buckets": {"step": 32}}),
        ("sd15", {"resolution": 64}),  # smallest is not used without enlarging
        ("sd15", {"resolution": 504, "buckets": None}),
        ("sd15", {"resolution": 256, "buckets": {"smallest": 300, "no_upscale": False}}),  # taken as 256
    ],
)
def test_settings_that_work(family: str, data: dict[str, Any]) -> None:
    check_buckets(Data.model_validate(data), family)
