"""Opening a picture as a person would see it, resizing it, and turning it into numbers.

Pillow alone would be wrong in silence five ways: `convert("RGB")` clips 16-bit greys, shows the hidden colours of
transparent pixels, and ignores EXIF rotation, colour profiles and CMYK profiles. Every such case is handled here.
"""

from __future__ import annotations

import io
import random
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image, ImageChops, ImageCms, UnidentifiedImageError, features

from trainer.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", *(("AVIF",) if features.check("avif") else ()))
"""What is read. A short list on purpose: Pillow would also try EPS and other formats whose decoders run programs."""

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
"""What the files of pictures end with."""

MOST_PIXELS = 64_000_000
"""A 24 KB file can unfold into gigabytes; looked at before anything is decoded."""

SIGNS = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")
UPRIGHT = {  # what undoes each EXIF orientation
    **{2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM},
    **{5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270},
    **{7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90},
}

Interpolation = Literal["auto", "lanczos", "area", "bicubic"]


class PictureError(InputError):
    """A picture that cannot be used, and why."""


@dataclass(frozen=True)
class Opened:
    """An upright picture in 8-bit sRGB, and what was changed to make it so; alpha: its channel, 255 is opaque."""

    image: Image.Image
    notes: tuple[str, ...]
    alpha: Image.Image | None = None


def plain(text: str, longest: int = 200) -> str:
    """Text that is safe in a line of a log: no control characters, reversed writing or broken bytes, nor too long."""
    shown = "".join(ascii(char)[1:-1] if _is_hidden(char) else char for char in text[: longest + 1])
    return shown if len(text) <= longest else shown[:longest] + "…"


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") and char != "\u200d"  # the joiner makes emoji


def open_picture(path: Path, background: str, least: int | None = None) -> Opened:
    """The picture in a file, whatever its ending says; `background` (`#rrggbb`) goes behind transparent parts.

    least: pixels that its longer side needs; a larger JPEG is then decoded at a half, a quarter or an eighth of its
    size, which is faster and nearly as exact.
    Raises PictureError for a file that is missing, damaged, cut off, no picture, or larger than 64 megapixels.
    """
    try:
        with path.open("rb") as file:
            return read_picture(file, background, least)
    except PictureError as error:
        raise PictureError(f"{plain(path.name)}: {error}") from error
    except OSError as error:
        raise PictureError(f"{plain(path.name)}: cannot be opened ({error.strerror})") from error


def read_picture(file: BinaryIO, background: str, least: int | None = None) -> Opened:
    """As `open_picture`, from a file that is open for reading."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise PictureError(_too_large(f"{image.width} x {image.height} pixels"))
            if least and (longest := max(image.size)) > least:
                width, height = (max(1, side * least // longest) for side in image.size)
                image.draft(None, (width, height))  # does nothing where the decoder knows no smaller sizes
            return _as_seen(image, background)
    except PictureError:
        raise
    except Exception as error:  # on damaged bytes decoders raise nearly anything, IndexError and SyntaxError too
        raise PictureError(_why_not(file, error)) from error


def _too_large(size: str) -> str:
    return f"{size}, more than {MOST_PIXELS // 10**6} megapixels: make it smaller"


def _why_not(file: BinaryIO, error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return _too_large("too many pixels")
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine: make it smaller"
    file.seek(0)
    head = file.read(64)
    if not head:
        return "an empty file"
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html", b"<head"):
        return "a web page, not a picture: download the picture itself"
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "a HEIC picture, which is not read: save it as JPEG or PNG"
    if not isinstance(error, UnidentifiedImageError):
        return f"damaged or cut off ({plain(str(error))}): save it again or leave it out"
    if not head.startswith(SIGNS):
        return f"not a picture that can be read ({', '.join(FORMATS)} are): save it as PNG"
    return "damaged or cut off: save it again or leave it out"


def _as_seen(image: Image.Image, background: str) -> Opened:
    """The first frame, upright, in sRGB, 8 bits, over the background: in this order, as each step feeds the next."""
    notes: list[str] = []
    if getattr(image, "is_animated", False) and image.format != "MPO":  # phones put a depth map behind the photo as MPO
        notes.append("several frames: the first is taken")
    profile, tags = image.info.get("icc_profile"), getattr(image, "tag_v2", {})  # TIFF alone has tags
    image = _upright(image, notes)
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image, tags, notes)

    grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
    if image.mode not in ("CMYK", "LAB"):
        image = image.convert("RGB")  # drops alpha and keeps the colour
        image = image.convert("L") if grey else image  # no copy without need: it costs a third of decoding
    image = _in_srgb(image, profile, notes)
    if alpha is not None and alpha.getextrema() != (255, 255):
        notes.append(f"transparent parts filled with {background}")
        ground = Image.new("RGB", image.size, background)
        ground.paste(image, mask=alpha)
        image = ground
    return Opened(image, tuple(notes), alpha)


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    """The decoded picture, turned as the camera says it was held."""
    turned = getattr(image, "tag_v2", {}).get(0x0112) in UPRIGHT  # Pillow turns a TIFF itself, and forgets that it did
    image.load()  # before getexif, which decodes a PNG too: damage must be met here, and not be taken for bad EXIF
    try:
        orientation = image.getexif().get(0x0112)
    except (OSError, SyntaxError, ValueError, LookupError, TypeError, struct.error):  # no reason to lose a good picture
        notes.append("its EXIF data is damaged: taken as it lies")
        return image
    if turned or orientation in UPRIGHT:
        notes.append("turned upright by its EXIF data")
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _eight_bits(image: Image.Image, tags: Mapping[int, Any], notes: list[str]) -> Image.Image:
    """Grey of 16 or 32 bits, whole or floating, as grey (with alpha) of 8 bits: 65535 becomes 255."""
    values = np.asarray(image)  # [H, W]
    if not np.isfinite(values).all():
        raise PictureError("holds values that are not numbers (NaN or infinity): save it again")
    if image.mode.startswith("I;16"):
        top = 2 ** tags.get(258, (16,))[0] - 1.0  # bits per sample: there are files of 12
    else:  # wider numbers do not say what is white
        top = next((top for top in (1.0, 255.0, 65535.0) if values.max() <= top), 2.0**32 - 1)
        top = top if image.mode == "F" else max(top, 255.0)
        notes.append(f"values up to {values.max():g}: {top:g} is taken as white")
    values = values.astype(np.float32).clip(0, top)
    if tags.get(262) == 0:  # a negative: white is 0. Pillow turns those of 8 bits itself
        values = top - values
    grey = Image.fromarray((values * (255 / top) + 1e-3).astype(np.uint8))  # rounded down: 40000 is 155
    if (key := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))  # PNG's one see-through grey
    return grey


def _in_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """RGB in the colours of sRGB, by the embedded profile if there is one that fits."""
    if image.mode == "LAB":
        return _convert(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    bare = image if image.mode == "RGB" else image.convert("RGB")
    if profile is None:
        if image.mode == "CMYK":
            notes.append("CMYK without a colour profile: colours are near, not exact")
        return bare
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() == "RGB" and image.mode == "L":  # a grey JPEG often says sRGB
            image = bare
        converted = _convert(image, source)
    except (ImageCms.PyCMSError, OSError):
        notes.append("its colour profile is damaged or of another kind: taken as sRGB")
        return bare
    if np.asarray(ImageChops.difference(bare, converted)).max() <= 2:  # sRGB itself, rounded: keep the numbers
        return bare
    notes.append("colours converted to sRGB by its colour profile")
    return converted


def _convert(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.buildTransform(source, srgb, image.mode, "RGB").apply(image)


def resize(image: Image.Image, size: tuple[int, int], interpolation: Interpolation) -> Image.Image:
    """The picture at `size` (width, height).

    auto: the mean over the covered area where both sides shrink or stay, else Lanczos, as sd-scripts does (its OpenCV
    INTER_AREA weighs pixels at the edge of an area by the part covered; Pillow's BOX does not, so it is done here).
    lanczos and bicubic are Pillow's, which smooth while shrinking. area enlarges by straight lines.
    """
    if image.size == size:
        return image
    shrinks = size[0] <= image.width and size[1] <= image.height
    if shrinks and interpolation in ("auto", "area"):
        rows = _area(np.asarray(image), size[1])  # [h, W, 3]
        mean = _area(rows.swapaxes(0, 1), size[0]).swapaxes(0, 1)  # [h, w, 3]
        return Image.fromarray(np.rint(mean).astype(np.uint8))
    filters = {"auto": "LANCZOS", "lanczos": "LANCZOS", "area": "BILINEAR", "bicubic": "BICUBIC"}
    return image.resize(size, Image.Resampling[filters[interpolation]])


def _area(values: np.ndarray, length: int) -> np.ndarray:
    """Axis 0 cut into `length` equal stretches, and the mean of each; a value on a cut counts by its part. float32."""
    step = len(values) / length
    means = np.empty((length, *values.shape[1:]), np.float32)
    for i in range(length):
        low, high = i * step, min((i + 1) * step, len(values))
        cells = np.arange(int(low), int(np.ceil(high)))
        part = np.minimum(cells + 1, high) - np.maximum(cells, low)
        means[i] = np.tensordot((part / part.sum()).astype(np.float32), values[cells[0] : cells[-1] + 1], 1)
    return means


def pixels(image: Image.Image) -> np.ndarray:
    """The picture as float32 [3, H, W] between -1 and 1, in the steps of torchvision's ToTensor and Normalize(0.5)."""
    values = np.asarray(image, np.float32) / np.float32(255)
    return np.ascontiguousarray(((values - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1))


def color_augment(image: Image.Image, dice: random.Random) -> Image.Image:
    """Now and then another hue or gamma, as sd-scripts' color_aug: two uses of three stay as they are.

    The rest gets, in equal parts, a hue turned by at most 16 degrees, or a gamma between 0.95 and 1.05.
    """
    if dice.random() >= 1 / 3:
        return image
    if dice.random() < 0.5:
        turn = round(dice.uniform(-16, 16) * 256 / 360)  # Pillow's hue circle has 256 steps
        hue, saturation, value = image.convert("HSV").split()
        hue = hue.point([(i + turn) % 256 for i in range(256)])
        return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    gamma = dice.uniform(0.95, 1.05)
    return image.point([round(255 * (i / 255) ** gamma) for i in range(256)] * 3)
