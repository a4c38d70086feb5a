"""Where pictures are cut and how they are scaled, for any size: held against what the words promise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import Buckets
from trainer.data.buckets import BucketError, place
from trainer.images.geometry import Box, GeometryError, Size, around, extended, fit, shaped, target_of, window
from trainer.images.options import How

SIDES = st.integers(40, 6000)
SIZES = st.tuples(SIDES, SIDES)
TARGETS = st.sampled_from([(512, 512), (512, 768), (768, 768), (1024, 1024), (832, 1216), (64, 4096)])
PARTS = st.floats(0, 1)
Parts = tuple[float, float, float, float]


def box_in(size: tuple[int, int], parts: Parts) -> Box:
    (left, right), (top, bottom) = sorted(parts[:2]), sorted(parts[2:])
    return Box(left * size[0], top * size[1], right * size[0], bottom * size[1])


@given(SIZES, TARGETS, st.none() | st.tuples(PARTS, PARTS, PARTS, PARTS), st.booleans())
def test_cover_fills_the_target_from_inside_the_picture(
    size: Size, target: Size, parts: Parts | None, upscale: bool
) -> None:
    focus = box_in(size, parts) if parts else None
    try:
        found = fit(size, target, "cover", focus, upscale)
    except GeometryError:
        assert min(shaped(size, target)) < 32
        return
    left, top, right, bottom = found.crop
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    assert right - left == size[0] or bottom - top == size[1]  # no more is cut than must be
    exact = (bottom - top) * target[0] / target[1]
    assert abs(right - left - exact) <= 0.5 + 0.5 * target[0] / target[1]  # the target's shape, but for half a pixel
    assert found.canvas == found.size and found.at == (0, 0)
    assert found.size == target if upscale else found.scale <= 1
    if not upscale and found.size != target:
        assert found.size == (right - left, bottom - top)
    if focus is None:
        assert (left, top) == ((size[0] - (right - left)) // 2, (size[1] - (bottom - top)) // 2)
        return
    for low, high, start, end in ((focus.left, focus.right, left, right), (focus.top, focus.bottom, top, bottom)):
        if math.ceil(high) - math.floor(low) <= end - start:
            assert start <= low and high <= end


@given(SIZES, TARGETS, st.booleans())
def test_contain_and_inside_show_the_whole_picture(size: Size, target: Size, upscale: bool) -> None:
    found = fit(size, target, "contain", upscale=upscale)
    assert found.crop == (0, 0, *size) and found.canvas == target
    assert found.size[0] <= target[0] and found.size[1] <= target[1]
    scale = min(target[0] / size[0], target[1] / size[1])
    if upscale or scale < 1:
        assert target[0] == found.size[0] or target[1] == found.size[1]
        assert all(abs(found.size[i] - max(1, size[i] * scale)) <= 0.5 for i in (0, 1))
    else:
        assert found.size == size
    for i in (0, 1):  # in the middle
        assert 0 <= (target[i] - found.size[i]) - 2 * found.at[i] <= 1
    assert fit(size, target, "inside", upscale=upscale) == (found.crop, found.size, found.size, (0, 0))


@given(SIZES, TARGETS)
def test_extend_resizes_nothing(size: Size, target: Size) -> None:
    try:
        found = fit(size, target, "extend")
    except GeometryError as error:
        canvas = extended(size, target)
        assert canvas[0] * canvas[1] > 64_000_000 and f"{canvas[0]} x {canvas[1]}" in str(error)
        return
    assert found.crop == (0, 0, *size) and found.size == size
    assert all(found.canvas[i] >= max(size[i], target[i]) for i in (0, 1))
    assert any(found.canvas[i] == max(size[i], target[i]) for i in (0, 1))
    assert abs(found.canvas[0] / target[0] - found.canvas[1] / target[1]) <= 1 / min(target)
    assert fit(size, target, "keep") == (found.crop, size, size, (0, 0))


def test_figures_of_a_photo() -> None:
    photo = (3000, 2000)
    assert fit(photo, (512, 512), "cover") == ((500, 0, 2500, 2000), (512, 512), (512, 512), (0, 0))
    assert fit(photo, (512, 512), "cover").scale == pytest.approx(0.256)
    assert fit(photo, (512, 768), "cover").crop == (833, 0, 2166, 2000)
    assert fit(photo, (512, 512), "contain") == ((0, 0, *photo), (512, 341), (512, 512), (0, 85))
    assert fit(photo, (512, 512), "extend") == ((0, 0, *photo), photo, (3000, 3000), (0, 500))
    assert fit((300, 200), (512, 512), "extend").canvas == (512, 512)
    assert fit((300, 200), (512, 512), "cover", upscale=False).size == (200, 200)
    assert fit((300, 200), (512, 512), "contain", upscale=False) == (
        (0, 0, 300, 200),
        (300, 200),
        (512, 512),
        (106, 156),
    )
    assert fit(photo, (512, 512), "cover", Box(2900, 900, 3000, 1000)).crop == (1000, 0, 3000, 2000)
    assert fit(photo, (512, 512), "cover", Box(700, 0, 700, 0)).crop == (0, 0, 2000, 2000)
    assert window((100, 100), (40, 20), Box(50, 50, 50, 50)) == (30, 40, 70, 60)


@pytest.mark.parametrize(
    ("size", "how", "said"),
    [
        ((1, 4000), "cover", "less than 32 on a side"),
        ((20, 20), "cover", "20 x 20"),
        ((1, 20000), "extend", "too thin"),
    ],
)
def test_what_cannot_be_brought_to_a_size_is_said(size: Size, how: How, said: str) -> None:
    with pytest.raises(GeometryError, match=said):
        fit(size, (512, 512), how)
    assert fit(size, (512, 512), "contain").canvas == (512, 512)


def test_of_several_sizes_the_nearest_shape_is_taken() -> None:
    sizes = ((512, 512), (512, 768), (768, 512))
    assert target_of((900, 1000), sizes, None) == (512, 512)
    assert target_of((1000, 1500), sizes, None) == (512, 768)
    assert target_of((4000, 3000), sizes, None) == (768, 512)


@given(SIZES, st.booleans())
def test_a_bucket_is_the_one_that_training_takes(size: Size, no_upscale: bool) -> None:
    buckets = Buckets(no_upscale=no_upscale)
    try:
        expected = place(size, (768, 768), buckets).bucket
    except BucketError:
        with pytest.raises(BucketError):
            target_of(size, [(768, 768)], buckets)
        return
    assert target_of(size, [(768, 768)], buckets) == expected
    assert place(expected, (768, 768), buckets) == (expected, expected)  # training cuts nothing more


@given(SIZES, st.tuples(PARTS, PARTS, PARTS, PARTS), TARGETS, st.floats(1, 6))
def test_a_close_up_has_the_target_s_shape_and_holds_the_box(
    size: Size, parts: Parts, target: Size, factor: float
) -> None:
    face = box_in(size, parts)
    if min(face.size) < 1:
        return
    large = face.enlarged(factor)
    assert large.centre == pytest.approx(face.centre) and large.size == pytest.approx([s * factor for s in face.size])
    found = around(size, large, target)
    width, height = found.size
    assert found.left >= 0 and found.top >= 0 and found.right <= size[0] and found.bottom <= size[1]
    most = shaped(size, target)
    if width < most[0] and height < most[1]:
        assert abs(width - height * target[0] / target[1]) <= 0.5 + 0.5 * target[0] / target[1]
        assert width >= large.size[0] - 1 and height >= large.size[1] - 1
    if all(math.ceil(face[i + 2]) - math.floor(face[i]) <= found.size[i] - 2 for i in (0, 1)) and factor > 1.2:
        inside = Box(*(max(0, min(face[i], size[i % 2])) for i in range(4)))
        assert found.left <= inside.left + 1 and found.right >= inside.right - 1
        assert found.top <= inside.top + 1 and found.bottom >= inside.bottom - 1
