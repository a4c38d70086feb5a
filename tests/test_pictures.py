"""Every kind of picture that people have, made here, must open in the colours they see, or be refused by name."""

from __future__ import annotations

import colorsys
import io
import os
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from trainer.data.pictures import (
    MOST_PIXELS,
    Opened,
    PictureError,
    color_augment,
    open_picture,
    pixels,
    plain,
    read_picture,
    resize,
)

PINK = "#ff0080"
NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(data: bytes) -> Opened:
    return read_picture(io.BytesIO(data), PINK)


def flat(mode: str, colour: Any, size: tuple[int, int] = (40, 40)) -> Image.Image:
    return Image.new(mode, size, colour)


def deep(value: float, kind: type) -> Image.Image:
    return Image.fromarray(np.full((40, 40), value, kind))


def palette(colour: tuple[int, int, int]) -> Image.Image:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, *colour])
    return image


def tiff(bits: int, photometric: int, value: int) -> bytes:
    """A little-endian TIFF of 2 x 2 equal grey pixels, for kinds that Pillow reads and does not write."""
    row = int(f"{value:0{bits}b}" * 2, 2).to_bytes(bits // 4, "big") if bits < 16 else struct.pack("<2H", value, value)
    tags = {256: 2, 257: 2, 258: bits, 259: 1, 262: photometric, 273: 122, 277: 1, 278: 2, 279: 2 * len(row)}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, what) for tag, what in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + row * 2


def profile(space: bytes, kind: bytes, tags: dict[bytes, bytes], meeting: bytes = b"XYZ ") -> bytes:
    """An ICC profile, version 2 (ICC.1:2001-04)."""
    head = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", head + len(body), len(data))
        body += data
    size = struct.pack(">I", head + len(body))
    white = struct.pack(">3i", 63190, 65536, 54061)
    header = size + b"\0\0\0\0\x02\x20\0\0" + kind + space + meeting + b"\x07\xd1\0\x01\0\x01\0\0\0\0\0\0acsp"
    return (header + b"\0" * 28 + white).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


NAMED = {
    b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + b"\0" * 78,
    b"cprt": b"text\0\0\0\0none\0",
    b"wtpt": xyz(0.9642, 1, 0.8249),
}
ADOBE_COLOURS = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB_COLOURS = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
ADOBE = profile(
    b"RGB ",
    b"mntr",
    NAMED
    | {name: xyz(*column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE_COLOURS.T.tolist(), strict=True)}
    | {name: gamma(2.19921875) for name in (b"rTRC", b"gTRC", b"bTRC")},
)
LINEAR_GREY = profile(b"GRAY", b"mntr", NAMED | {b"kTRC": gamma(1.0)})
INKS = [(255, 128, 128), *[(0, 128, 128)] * 15]  # Lab of the 16 corners: bare paper is white, ink is black,
INKS[8] = (128, 128, 128)  # but cyan alone prints a middle grey, which shows that the profile was used
CMYK = profile(
    *(b"CMYK", b"prtr"),
    NAMED
    | {
        b"A2B0": b"mft1\0\0\0\0\x04\x03\x02\0"
        + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
        + bytes(range(256)) * 4
        + bytes(value for ink in INKS for value in ink)
        + bytes(range(256)) * 3
    },
    b"Lab ",
)


def adobe_to_srgb(*colour: int) -> list[float]:
    """Long-hand: Adobe RGB (1998) section 4.3, then IEC 61966-2-1."""
    linear = np.linalg.solve(SRGB_COLOURS, ADOBE_COLOURS @ (np.array(colour) / 255) ** 2.19921875).clip(0, 1)
    return [float(255 * (12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055)) for x in linear]


JPEG_GREEN = (120, 160, 90)  # a colour that JPEG's YCbCr keeps exactly


def srgb_profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def half(first: Any, second: Any, mode: str = "RGB") -> list[Image.Image]:
    return [flat(mode, first), flat(mode, second)]


FRAMES = half((9, 99, 199), (255, 255, 255))
SEVERAL = {"save_all": True, "append_images": FRAMES[1:]}
GOLDEN: dict[str, tuple[bytes, Any, str | None]] = {
    "png rgb": (stored(flat("RGB", (10, 20, 30))), (10, 20, 30), None),
    "bmp rgb": (stored(flat("RGB", (10, 20, 30)), "BMP"), (10, 20, 30), None),
    "jpeg rgb": (stored(flat("RGB", (10, 20, 30)), "JPEG", quality=100), (10, 20, 30), None),
    "jpeg progressive": (stored(flat("RGB", (10, 20, 30)), "JPEG", quality=100, progressive=True), (10, 20, 30), None),
    "webp lossless": (stored(flat("RGB", (10, 20, 30)), "WEBP", lossless=True), (10, 20, 30), None),
    "tiff rgb": (stored(flat("RGB", (10, 20, 30)), "TIFF"), (10, 20, 30), None),
    "tiff lzw": (stored(flat("RGB", (10, 20, 30)), "TIFF", compression="tiff_lzw"), (10, 20, 30), None),
    "tiff ycbcr": (stored(flat("YCbCr", (100, 128, 128)), "TIFF", compression="jpeg"), (100, 100, 100), None),
    "tiff lab": (stored(flat("LAB", (255, 128, 128)), "TIFF"), (255, 255, 255), None),
    "gif palette": (stored(palette((10, 20, 30)), "GIF"), (10, 20, 30), None),
    "png palette": (stored(palette((10, 20, 30))), (10, 20, 30), None),
    "png palette see-through": (stored(palette((10, 20, 30)), transparency=1), (255, 0, 128), "transparent"),
    "png palette half": (stored(palette((0, 0, 0)), transparency=b"\xff\x80"), (127, 0, 64), "transparent"),
    "gif see-through": (stored(palette((10, 20, 30)), "GIF", transparency=1), (255, 0, 128), "transparent"),
    "png 1 bit white": (stored(flat("1", 1)), (255, 255, 255), None),
    "tiff 1 bit black": (stored(flat("1", 0), "TIFF"), (0, 0, 0), None),
    "png grey": (stored(flat("L", 77)), (77, 77, 77), None),
    "jpeg grey": (stored(flat("L", 77), "JPEG", quality=100), (77, 77, 77), None),
    "png grey alpha opaque": (stored(flat("LA", (77, 255))), (77, 77, 77), None),
    "png grey alpha clear": (stored(flat("LA", (77, 0))), (255, 0, 128), "transparent"),
    "png grey key": (stored(flat("L", 77), transparency=77), (255, 0, 128), "transparent"),
    "png rgb key": (stored(flat("RGB", (1, 2, 3)), transparency=(1, 2, 3)), (255, 0, 128), "transparent"),
    "png rgba hidden red": (stored(flat("RGBA", (255, 255, 0, 0))), (255, 0, 128), "transparent"),
    "png rgba half": (stored(flat("RGBA", (0, 0, 0, 128))), (127, 0, 64), "transparent"),
    "png rgba opaque": (stored(flat("RGBA", (1, 2, 3, 255))), (1, 2, 3), None),
    "webp rgba clear": (stored(flat("RGBA", (9, 9, 9, 0)), "WEBP", lossless=True, exact=True), (255, 0, 128), "transp"),
    "tiff rgba clear": (stored(flat("RGBA", (9, 9, 9, 0)), "TIFF"), (255, 0, 128), "transparent"),
    "png grey 16 bit": (stored(deep(40000, np.uint16)), (155, 155, 155), None),
    "png grey 16 bit white": (stored(deep(65535, np.uint16)), (255, 255, 255), None),
    "png grey 16 bit dark": (stored(deep(257, np.uint16)), (1, 1, 1), None),
    "png grey 16 bit key": (stored(deep(40000, np.uint16), transparency=40000), (255, 0, 128), "transparent"),
    "tiff grey 16 bit": (stored(deep(40000, np.uint16), "TIFF"), (155, 155, 155), None),
    "tiff grey 16 bit negative": (tiff(16, 0, 65535 - 40000), (155, 155, 155), None),
    "tiff grey 12 bit": (tiff(12, 1, 2048), (127, 127, 127), None),
    "tiff grey 8 bit negative": (tiff(8, 0, 200), (55, 55, 55), None),
    "tiff float to 1": (stored(deep(0.5, np.float32), "TIFF"), (127, 127, 127), "1 is taken as white"),
    "tiff float to 255": (stored(deep(200.0, np.float32), "TIFF"), (200, 200, 200), "255 is taken as white"),
    "tiff float below 0": (stored(deep(-3.0, np.float32), "TIFF"), (0, 0, 0), "1 is taken as white"),
    "tiff 32 bit": (stored(deep(40000, np.int32), "TIFF"), (155, 155, 155), "65535 is taken as white"),
    "jpeg cmyk bare": (stored(flat("CMYK", (0, 255, 255, 0)), "JPEG", quality=100), (255, 0, 0), "without a colour"),
    "tiff cmyk bare": (stored(flat("CMYK", (0, 0, 0, 128)), "TIFF"), (127, 127, 127), "without a colour profile"),
    "jpeg cmyk profile paper": (stored(flat("CMYK", 0), "JPEG", quality=100, icc_profile=CMYK), (255, 255, 255), None),
    "tiff cmyk profile ink": (
        stored(flat("CMYK", (255, 0, 0, 0)), "TIFF", icc_profile=CMYK), (119, 119, 119), "converted to sRGB"
    ),
    "png adobe rgb": (
        stored(flat("RGB", (200, 80, 60)), icc_profile=ADOBE), adobe_to_srgb(200, 80, 60), "converted to sRGB"
    ),
    "jpeg adobe rgb": (
        stored(flat("RGB", JPEG_GREEN), "JPEG", quality=100, icc_profile=ADOBE),
        adobe_to_srgb(*JPEG_GREEN), "converted to sRGB",
    ),
    "png adobe rgb half": (
        stored(flat("RGBA", (200, 80, 60, 128)), icc_profile=ADOBE),
        [(c * 128 + p * 127) / 255 for c, p in zip(adobe_to_srgb(200, 80, 60), (255, 0, 128), strict=True)],
        "transparent",
    ),
    "png linear grey": (stored(flat("L", 55), icc_profile=LINEAR_GREY), (128, 128, 128), "converted to sRGB"),
    "png linear grey alpha": (stored(flat("LA", (55, 255)), icc_profile=LINEAR_GREY), (128, 128, 128), "converted"),
    "png linear grey 16 bit": (stored(deep(14135, np.uint16), icc_profile=LINEAR_GREY), (128, 128, 128), "converted"),
    "grey jpeg with sRGB": (stored(flat("L", 77), "JPEG", quality=100, icc_profile=srgb_profile()), (77, 77, 77), None),
    "profile of another kind": (stored(flat("RGB", (1, 2, 3)), icc_profile=LINEAR_GREY), (1, 2, 3), "of another kind"),
    "profile damaged": (stored(flat("RGB", (1, 2, 3)), icc_profile=b"\1" * 300), (1, 2, 3), "profile is damaged"),
    "gif animated": (stored(FRAMES[0], "GIF", **SEVERAL), (9, 99, 199), "the first is taken"),
    "webp animated": (stored(FRAMES[0], "WEBP", lossless=True, **SEVERAL), (9, 99, 199), "the first is taken"),
    "apng": (stored(FRAMES[0], "PNG", **SEVERAL), (9, 99, 199), "the first is taken"),
    "tiff pages": (stored(FRAMES[0], "TIFF", **SEVERAL), (9, 99, 199), "the first is taken"),
    "phone photo with a second picture": (stored(FRAMES[0], "MPO", quality=100, **SEVERAL), (9, 99, 199), None),
    "exif damaged": (stored(flat("RGB", (1, 2, 3)), exif=b"Exif\0\0" + b"\xff" * 30), (1, 2, 3), "EXIF data is dam"),
}  # fmt: skip
if features.check("avif"):
    GOLDEN["avif"] = (stored(flat("RGB", (100, 120, 140)), "AVIF", quality=100), (100, 120, 140), None)
    GOLDEN["avif rgba clear"] = (stored(flat("RGBA", (9, 9, 9, 0)), "AVIF", quality=100), (255, 0, 128), "transparent")
KINDS = {
    "png": stored(Image.fromarray(NOISE)),
    "jpeg": stored(Image.fromarray(NOISE), "JPEG"),
    "webp": stored(Image.fromarray(NOISE), "WEBP"),
    "bmp": stored(Image.fromarray(NOISE), "BMP"),
    "gif": stored(Image.fromarray(NOISE).quantize(), "GIF"),
    "tiff": stored(Image.fromarray(NOISE), "TIFF", compression="tiff_lzw"),
}
PNG_BOMB = stored(Image.new("1", (13000, 13000)))
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file"),
    "one byte": (b"\x89", "not a picture"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
    "web page after blanks": (b"\r\n\r\n <HTML><body>404</body></html>", "a web page"),
    "jpeg of 3 bytes": (b"\xff\xd8\xff", "damaged or cut off"),
    "text": (b"zk9, a photo", "not a picture"),
    "zeros": (bytes(5000), "not a picture"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not a picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture"),
    "ppm": (b"P6 2 2 255\n" + bytes(12), "not a picture"),
    "psd": (b"8BPS\0\x01" + bytes(40), "not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    "png header only": (KINDS["png"][:33], "damaged or cut off"),
    "jpeg header only": (KINDS["jpeg"][:20], "damaged or cut off"),
    "png head, other body": (KINDS["png"][:60] + b"<html>" * 400, "damaged or cut off"),
    "gif without a frame": (b"GIF89a\x40\0\x40\0\0\0\0;", "damaged or cut off"),
    "tiff that points outside": (b"II*\0\xff\xff\xff\x7f", "damaged or cut off"),
    "tiff that loops": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "damaged or cut off"),
    "tiff with nan": (stored(deep(float("nan"), np.float32), "TIFF"), "not numbers"),
    "png of 169 megapixels": (PNG_BOMB, "13000 x 13000 pixels, more than 64 megapixels"),
    "png of 196 megapixels": (stored(Image.new("1", (14000, 14000))), "more than 64 megapixels"),
    "gif of 4 gigapixels": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;", "more than 64"),
    "bmp of 400 megapixels": (KINDS["bmp"][:18] + struct.pack("<ii", 20000, 20000) + KINDS["bmp"][26:], "more than 64"),
    **{f"{kind} cut at {share} %": (data[: len(data) * share // 100], "damaged or cut off")
       for kind, data in KINDS.items() for share in (30, 70, 95)},
}  # fmt: skip


def test_the_corpus_is_large() -> None:
    assert len(GOLDEN) >= 40 and len(BROKEN) >= 40


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_picture_opens_in_the_colours_that_people_see(name: str) -> None:
    data, colour, note = GOLDEN[name]
    found = opened(data)
    assert found.image.mode == "RGB"
    assert found.image.getpixel((1, 1)) == pytest.approx(colour, abs=1)
    if note is None:
        assert not found.notes
    else:
        assert any(note in line for line in found.notes)


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_a_broken_picture_is_refused_with_its_reason(name: str) -> None:
    data, reason = BROKEN[name]
    with pytest.raises(PictureError, match=reason):
        opened(data)


def test_a_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    assert len(PNG_BOMB) < 30_000
    (tmp_path / "bomb.png").write_bytes(PNG_BOMB)
    code = "import resource, sys\nfrom pathlib import Path\nfrom trainer.data.pictures import *\n" + (
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: open_picture(Path(sys.argv[1]), '#ffffff')\nexcept PictureError: pass\nelse: raise SystemExit('opened')\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\nassert grown < 20_000, grown"
    )
    if os.name == "posix":
        import subprocess
        import sys

        root = Path(__file__).parents[1]
        subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "bomb.png")], check=True, cwd=root)


def test_64_megapixels_are_allowed() -> None:
    assert opened(stored(Image.new("1", (8000, 8000)))).image.size == (8000, 8000) and MOST_PIXELS == 8000**2


TURNS = {  # what a camera did to an upright picture, by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_photo_stands_upright(orientation: int, kind: str) -> None:
    upright = Image.fromarray(NOISE)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = opened(stored(upright.transpose(TURNS[orientation]), kind, exif=exif, lossless=True))
    assert np.array_equal(np.asarray(found.image), NOISE)
    assert found.notes == ("turned upright by its EXIF data",)


def test_a_picture_that_says_srgb_keeps_every_number() -> None:
    found = opened(stored(Image.fromarray(NOISE), icc_profile=srgb_profile()))
    assert np.array_equal(np.asarray(found.image), NOISE) and not found.notes


def test_the_file_decides_and_not_its_ending(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(KINDS["png"])
    assert np.array_equal(np.asarray(open_picture(tmp_path / "a.jpg", PINK).image), NOISE)


def test_errors_name_the_file_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad\nname\x1b[2J.png"
    path.write_bytes(b"")
    with pytest.raises(PictureError) as error:
        open_picture(path, PINK)
    assert str(error.value) == "bad\\nname\\x1b[2J.png: an empty file"
    with pytest.raises(PictureError, match=r"none.png: cannot be opened \(No such file"):
        open_picture(tmp_path / "none.png", PINK)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_never_raise_anything_else(kind: str) -> None:
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.integers(0, len(KINDS[kind]) - 1), st.integers(0, 255)), min_size=1, max_size=8))
    def mutate(changes: list[tuple[int, int]]) -> None:
        data = bytearray(KINDS[kind])
        for place, value in changes:
            data[place % (200 if value % 2 else len(data))] = value  # half of them in the header
        try:
            assert opened(bytes(data)).image.mode == "RGB"
        except PictureError as error:
            assert "\n" not in str(error)

    mutate()


def area_mean(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """The definition, pixel by pixel: each output is the mean of the source over its rectangle."""
    source_height, source_width = values.shape[:2]
    result = np.zeros((height, width, values.shape[2]))
    for y in range(height):
        for x in range(width):
            top, bottom = y * source_height / height, (y + 1) * source_height / height
            left, right = x * source_width / width, (x + 1) * source_width / width
            for row in range(int(top), min(int(np.ceil(bottom)), source_height)):
                for column in range(int(left), min(int(np.ceil(right)), source_width)):
                    covered = (min(row + 1, bottom) - max(row, top)) * (min(column + 1, right) - max(column, left))
                    result[y, x] += covered * values[row, column]
            result[y, x] /= (bottom - top) * (right - left)
    return result


@pytest.mark.parametrize("size", [(63, 47), (40, 30), (17, 23), (64, 5), (1, 1), (64, 47), (33, 48)])
@pytest.mark.parametrize("interpolation", ["auto", "area"])
def test_shrinking_is_the_mean_over_the_area(size: tuple[int, int], interpolation: Any) -> None:
    found = resize(Image.fromarray(NOISE), size, interpolation)
    assert found.size == size and found.mode == "RGB"
    assert np.abs(np.asarray(found) - area_mean(NOISE, *size)).max() <= 0.501


def test_shrinking_by_whole_numbers_is_pillow_s_reduce() -> None:
    image = Image.fromarray(NOISE)
    assert np.abs(np.asarray(resize(image, (16, 12), "auto"), int) - np.asarray(image.reduce(4), int)).max() <= 1


def test_growing_is_lanczos_even_in_one_direction() -> None:
    image = Image.fromarray(NOISE)
    for size in ((128, 96), (128, 20)):
        expected = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
        assert np.array_equal(np.asarray(resize(image, size, "auto")), expected)
        assert np.array_equal(np.asarray(resize(image, size, "lanczos")), expected)
    assert np.array_equal(resize(image, (80, 60), "bicubic"), image.resize((80, 60), Image.Resampling.BICUBIC))
    assert np.array_equal(resize(image, (80, 60), "area"), image.resize((80, 60), Image.Resampling.BILINEAR))
    assert not np.array_equal(resize(image, (32, 24), "lanczos"), resize(image, (32, 24), "area"))


def test_the_same_size_changes_nothing() -> None:
    for interpolation in ("auto", "lanczos", "area", "bicubic"):
        assert np.array_equal(np.asarray(resize(Image.fromarray(NOISE), (64, 48), interpolation)), NOISE)


def test_pixels_lie_between_minus_one_and_one() -> None:
    image = Image.fromarray(np.array([[[0, 128, 255], [1, 2, 3]]], np.uint8))
    found = pixels(image)
    assert found.dtype == np.float32 and found.shape == (3, 1, 2) and found.flags.c_contiguous
    assert found[:, 0, 0].tolist() == [-1.0, pytest.approx(128 / 127.5 - 1, abs=1e-7), 1.0]
    assert np.rint((found + 1) * 127.5).astype(np.uint8)[:, 0, 1].tolist() == [1, 2, 3]


def test_colours_vary_a_little_a_third_of_the_time() -> None:
    image = flat("RGB", (200, 60, 60), (4, 4))
    uses = [color_augment(image, random.Random(seed)).getpixel((0, 0)) for seed in range(600)]
    changed = [use for use in uses if use != (200, 60, 60)]
    assert 150 < len(changed) < 240
    start = colorsys.rgb_to_hsv(200, 60, 60)[0] * 360
    for red, green, blue in changed:
        turn = (colorsys.rgb_to_hsv(red, green, blue)[0] * 360 - start + 180) % 360 - 180
        assert abs(turn) <= 19 and abs(red - 200) <= 4  # 16 degrees and the rounding of Pillow's 256 hues
    assert len(set(changed)) > 20
    again = [color_augment(image, random.Random(seed)).getpixel((0, 0)) for seed in range(600)]
    assert again == uses


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b é 女 😀", "a b é 女 😀"),
        ("👨\u200d👩\u200d👧.png", "👨\u200d👩\u200d👧.png"),
        ("a\nb\rc\0", "a\\nb\\rc\\x00"),
        ("\x1b]0;title\x07\x9b", "\\x1b]0;title\\x07\\x9b"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        ("x\u2028y", "x\\u2028y"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\udce9.png"),
    ],
)
def test_names_are_shown_safely(text: str, shown: str) -> None:
    assert plain(text) == shown
    plain(text).encode("utf-8")


def test_long_names_are_cut() -> None:
    assert plain("x" * 300) == "x" * 200 + "…" and plain("x" * 200) == "x" * 200
