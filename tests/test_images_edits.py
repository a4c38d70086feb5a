"""Every change of light and colour, against NumPy written the long way."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.test_pictures import ADOBE, GOLDEN, adobe_to_srgb
from trainer.data.pictures import read_picture
from trainer.errors import InputError
from trainer.images.edits import edit, even_out, put
from trainer.images.geometry import Placement, Size, fit
from trainer.images.options import Edits, How
from trainer.images.saving import check_pattern, renamed, stored, suffix_for

dice = np.random.default_rng(5)
WAVES = np.add.outer(np.sin(np.arange(48) / 5) * 60, np.cos(np.arange(64) / 7) * 60)[:, :, None] + [120, 140, 90]
PICTURE = Image.fromarray((WAVES + dice.normal(0, 12, (48, 64, 3))).clip(0, 255).astype(np.uint8))
VALUES = np.asarray(PICTURE, np.float64)


def grey(values: np.ndarray) -> np.ndarray:
    """ITU-R 601-2 luma, in whole numbers."""
    return np.rint(values @ [0.299, 0.587, 0.114])


def near(image: Image.Image, expected: np.ndarray, by: float = 1.0) -> bool:
    return bool(np.abs(np.asarray(image, np.float64) - expected.clip(0, 255)).max() <= by)


def test_nothing_is_changed_by_default() -> None:
    assert edit(PICTURE, Edits()) is PICTURE


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.3, 4.0])
def test_brightness_contrast_and_colour(factor: float) -> None:
    assert near(edit(PICTURE, Edits(brightness=factor)), VALUES * factor)
    middle = np.rint(grey(VALUES).mean())
    assert near(edit(PICTURE, Edits(contrast=factor)), middle + (VALUES - middle) * factor, max(1.0, factor))
    tone = grey(VALUES)[:, :, None]
    assert near(edit(PICTURE, Edits(saturation=factor)), tone + (VALUES - tone) * factor, max(1.0, factor))


@pytest.mark.parametrize("amount", [0.5, 1.0, 3.0])
def test_sharpening_adds_what_a_blur_takes_away(amount: float) -> None:
    soft = np.asarray(PICTURE.filter(ImageFilter.GaussianBlur(2)), np.float64)
    lost = VALUES - soft
    expected = np.where(np.abs(lost) > 3, VALUES + lost * round(amount * 100) / 100, VALUES)
    assert near(edit(PICTURE, Edits(sharpen=amount)), expected)


def test_coloured_light_is_taken_away() -> None:
    warm = Image.fromarray((VALUES * [1.0, 0.8, 0.6]).clip(0, 255).astype(np.uint8))
    values = np.asarray(warm, np.float64)
    means = values.reshape(-1, 3).mean(0)
    assert near(even_out(warm, 1.0), values * (means.mean() / means), 0.51)
    assert near(even_out(warm, 0.5), values * np.sqrt(means.mean() / means), 0.51)
    even = np.asarray(even_out(warm, 1.0), np.float64).reshape(-1, 3).mean(0)
    assert np.ptp(even) < 1 < np.ptp(means)
    black = Image.new("RGB", (4, 4), (0, 90, 0))
    assert even_out(black, 1.0).getpixel((0, 0)) == (0, 30, 0)
    assert np.array_equal(np.asarray(edit(warm, Edits(even_out=1.0))), np.asarray(even_out(warm, 1.0)))


def test_edits_are_done_in_one_order() -> None:
    all_at_once = edit(PICTURE, Edits(even_out=0.7, brightness=1.2, contrast=0.9, saturation=1.4, sharpen=1.0))
    one = PICTURE
    for wanted in ({"even_out": 0.7}, {"brightness": 1.2}, {"contrast": 0.9}, {"saturation": 1.4}, {"sharpen": 1.0}):
        one = edit(one, Edits.model_validate(wanted))
    assert np.array_equal(np.asarray(all_at_once), np.asarray(one))


@pytest.mark.parametrize("how", ["cover", "contain", "inside", "extend", "keep"])
@pytest.mark.parametrize("target", [(40, 40), (64, 96), (128, 64)])
def test_a_placement_is_what_pillow_would_do_by_hand(how: How, target: Size) -> None:
    where = fit(PICTURE.size, target, how)
    found = np.asarray(put(PICTURE, where, "#ff0080", "lanczos"))
    left, top, right, bottom = where.crop
    part = Image.fromarray(np.asarray(PICTURE)[top:bottom, left:right])
    expected = np.tile(np.array([255, 0, 128], np.uint8), (where.canvas[1], where.canvas[0], 1))
    x, y = where.at
    resized = part.resize(where.size, Image.Resampling.LANCZOS)
    expected[y : y + where.size[1], x : x + where.size[0]] = np.asarray(resized)
    assert np.array_equal(found, expected) and found.shape[:2] == where.canvas[::-1]


def test_shrinking_as_training_does() -> None:
    where = Placement((0, 0, 64, 48), (16, 12), (16, 12))
    found = np.asarray(put(PICTURE, where, "#000000", "auto"), np.float64)
    assert np.abs(found - VALUES.reshape(12, 4, 16, 4, 3).mean((1, 3))).max() <= 0.501


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(orientation: int) -> None:
    turned = {1: 0, 2: None, 3: 2, 6: 3, 8: 1}.get(orientation, -1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    PICTURE.save(file, "PNG", exif=exif)
    found = np.asarray(read_picture(file, "#000000").image)
    values = np.asarray(PICTURE)
    by_hand = {2: values[:, ::-1], 4: values[::-1], 5: values.swapaxes(0, 1), 7: values[::-1, ::-1].swapaxes(0, 1)}
    expected = by_hand[orientation] if orientation in by_hand else np.rot90(values, turned or 0)
    assert np.array_equal(found, expected)


def far(data: bytes) -> float:
    with Image.open(io.BytesIO(data)) as image:
        return float(np.abs(np.asarray(image.convert("RGB"), np.float64) - VALUES).mean())


@pytest.mark.parametrize(
    ("wanted", "suffix", "kind"), [("png", ".png", "PNG"), ("jpeg", ".jpg", "JPEG"), ("webp", ".webp", "WEBP")]
)
def test_kinds_of_file(wanted: str, suffix: str, kind: str) -> None:
    assert suffix_for(".tiff", wanted) == suffix
    low, high = (stored(PICTURE, suffix, quality) for quality in (30, 95))
    with Image.open(io.BytesIO(high)) as image:
        assert image.format == kind and image.size == PICTURE.size
    if kind == "PNG":
        assert low == high and far(high) == 0
    else:
        assert len(low) < len(high) and far(high) < far(low)
    assert stored(PICTURE, suffix, 95) == high  # the same bytes each time
    if kind == "WEBP":
        with Image.open(io.BytesIO(stored(PICTURE, suffix, 100))) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(PICTURE))


def test_keeping_the_kind() -> None:
    kept = [suffix_for(suffix, "keep") for suffix in (".JPG", ".jpeg", ".webp", ".png", ".bmp", ".gif", ".avif")]
    assert kept == [".JPG", ".jpeg", ".webp", ".png", ".png", ".png", ".png"]


def test_colours_are_srgb_and_no_profile_is_left() -> None:
    data = GOLDEN["png adobe rgb"][0]
    assert ADOBE in Image.open(io.BytesIO(data)).info.values()
    image = read_picture(io.BytesIO(data), "#000000").image
    with Image.open(io.BytesIO(stored(image, ".png", 95))) as written:
        assert "icc_profile" not in written.info
        assert written.getpixel((0, 0)) == pytest.approx(adobe_to_srgb(200, 80, 60), abs=2)


def test_names(tmp_path: Path) -> None:
    assert renamed("", "old", "10_zk9", 3) == "old"
    assert renamed("zk9_{n:03}", "old", "10_zk9", 3) == "zk9_003"
    assert renamed("{folder}-{name}-{n}", "old", "10_zk9", 12) == "10_zk9-old-12"
    assert renamed("{n:2}", "old", "10_zk9", 123) == "123"
    with pytest.raises(InputError, match="is not known: use"):
        check_pattern("{x}_{n}")
    with pytest.raises(InputError, match="gives all pictures one name"):
        check_pattern("zk9_{folder}")
    check_pattern("")
