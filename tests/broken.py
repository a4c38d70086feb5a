"""Pictures and captions such as arrive from everywhere: damaged, odd, hostile; each kind has a writer of its files."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Writer = Callable[[Path], None]
KINDS: dict[str, tuple[str, Writer]] = {}
"""By the name of the file that the report must speak of: (words that it must say, empty if it is fine; the writer)."""


def kind(name: str, says: str) -> Callable[[Writer], Writer]:
    """Notes a kind."""

    def note(writer: Writer) -> Writer:
        KINDS[name] = (says, writer)
        return writer

    return note


def good(mode: str = "RGB", size: tuple[int, int] = (640, 640)) -> Image.Image:
    """A picture with something in it."""
    dice = np.random.default_rng(len(mode) + size[0])
    small = Image.fromarray(dice.integers(0, 256, (20, 20, 3), np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(kind: str, image: Image.Image | None = None, **options: Any) -> bytes:
    """A picture as bytes."""
    file = io.BytesIO()
    (image or good()).save(file, kind, **options)
    return file.getvalue()


def raw(name: str, says: str, content: Callable[[], bytes], words: bytes | None = b"zk9, tree") -> None:
    """A kind that is one file of bytes, with a good caption."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(content())
        if words is not None:
            (folder / name).with_suffix(".txt").write_bytes(words)

    KINDS[name] = (says, write)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes that unfolds into gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def palette() -> Image.Image:
    image = good().quantize(32)
    image.info["transparency"] = 0
    return image


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("JPEG", good(size=(700, 640)), exif=exif)


def deep() -> Image.Image:
    return Image.fromarray((np.asarray(good("L"), np.uint32) * 257).astype(np.uint16))


def captioned(stem: str, says: str, words: bytes, ending: str = ".txt") -> None:
    """A good picture with an odd caption."""

    def write(folder: Path) -> None:
        (folder / f"{stem}.png").write_bytes(encoded("PNG", good(size=(640, 641 + len(KINDS)))))
        (folder / f"{stem}{ending}").write_bytes(words)

    KINDS[f"{stem}.png"] = (says, write)


for _name, _says, _content in (
    ("empty.jpg", "an empty file", lambda: b""),
    ("truncated.jpg", "damaged or cut off", lambda: encoded("JPEG")[:9000]),
    ("truncated.png", "damaged or cut off", lambda: encoded("PNG")[:4000]),
    ("truncated.webp", "damaged or cut off", lambda: encoded("WEBP")[:900]),
    ("flipped.png", "damaged or cut off", lambda: encoded("PNG")[:3000] + b"\0" * 400 + encoded("PNG")[3400:]),
    ("page.jpg", "a web page", lambda: b"<!DOCTYPE html><html><body>404</body></html>"),
    ("notes.png", "not a picture", lambda: b"these are notes, not a picture" * 20),
    ("zeros.jpg", "not a picture", lambda: bytes(5000)),
    ("only_head.jpg", "damaged or cut off", lambda: b"\xff\xd8\xff\xe0"),
    ("heic_inside.jpg", "a HEIC picture", lambda: b"\0\0\0\x18ftypheic" + bytes(200)),
    ("bomb.png", "megapixels", lambda: png_that_claims(20000, 20000)),
    ("large.png", "megapixels", lambda: png_that_claims(9000, 9000)),
    ("dot.png", "less than 32 on a side", lambda: encoded("PNG", good(size=(1, 1)))),
    ("strip.png", "less than 32 on a side", lambda: encoded("PNG", good(size=(4000, 1)))),
    ("thin.png", "too small|crop", lambda: encoded("PNG", good(size=(4000, 33)))),
    ("tiny.png", "too small|pixels", lambda: encoded("PNG", good(size=(48, 48)))),
    ("postscript.png", "not a picture", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    ("phone.heic", "a kind that is not read", lambda: b"\0\0\0\x18ftypheic" + bytes(200)),
    ("layers.psd", "a kind that is not read", lambda: b"8BPS" + bytes(100)),
    ("drawing.svg", "a kind that is not read", lambda: b"<svg/>"),
    ("camera.CR2", "a kind that is not read", lambda: b"II*\0" + bytes(100)),
    ("moving.gif", "several frames", lambda: encoded("GIF", good(), save_all=True, append_images=[good("L")])),
    ("moving.webp", "several frames", lambda: encoded("WEBP", good(), save_all=True, append_images=[good("L")])),
    ("rotated.jpg", "turned upright", rotated),
    ("cmyk.jpg", "CMYK", lambda: encoded("JPEG", good("CMYK"))),
    ("deep.png", "", lambda: encoded("PNG", deep())),
    ("float.tif", "", lambda: encoded("TIFF", good("F"))),
    ("palette.png", "transparent parts", lambda: encoded("PNG", palette(), transparency=0)),
    ("see_through.png", "transparent parts", lambda: encoded("PNG", good("RGBA").rotate(20))),
    ("grey_alpha.png", "", lambda: encoded("PNG", good("LA"))),
    ("one_bit.png", "", lambda: encoded("PNG", good("1"))),
    ("wrong_ending.jpg", "", lambda: encoded("PNG", good(size=(650, 660)))),
    ("bad_profile.jpg", "profile", lambda: encoded("JPEG", good(size=(645, 655)), icc_profile=b"no profile" * 30)),
    ("bad_exif.jpg", "", lambda: encoded("JPEG", good(size=(655, 645)), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" * 3)),
    ("name with blanks, and [brackets].jpg", "", lambda: encoded("JPEG", good(size=(661, 645)))),
    ("na\u00efve \u7530\u4e2d \U0001f600.jpg", "", lambda: encoded("JPEG", good(size=(662, 645)))),
    ("back\u202egpj.jpg", "", lambda: encoded("JPEG", good(size=(663, 645)))),
    (os.fsdecode(b"latin\xe9.jpg"), "", lambda: encoded("JPEG", good(size=(665, 645)))),
    ("LOUD.JPG", "", lambda: encoded("JPEG", good(size=(664, 645)))),
):
    raw(_name, _says, _content)

captioned("utf16", "read as utf-16", "zk9, Stra\u00dfe".encode("utf-16"))
captioned("bom", "not in plain UTF-8", b"\xef\xbb\xbfzk9, tree")
captioned("cp1252", "read as", "zk9, caf\u00e9".encode("cp1252"))
captioned("nul", "control characters", b"zk9, tr\x00ee\x07")
captioned("lines", "lines", b"zk9, tree\r\nanother line\r\n")
captioned("blank", "trained without any words|no words", b" \r\n\t\n")
captioned("huge", "longer than 64 KiB", b"zk9, " * 40_000)
captioned("binary", "no encoding|not plain|control", bytes(range(128, 256)) * 9)
captioned("caption_ending", "", b"zk9, tree", ".caption")


@kind("folder_caption.png", "cannot be read")
def folder_caption(folder: Path) -> None:
    """A folder named like a caption."""
    (folder / "folder_caption.png").write_bytes(encoded("PNG", good(size=(671, 645))))
    (folder / "folder_caption.txt").mkdir()


@kind("is_a_folder.png", "not a file")
def is_a_folder(folder: Path) -> None:
    """A folder named like a picture."""
    (folder / "is_a_folder.png").mkdir()


@kind("pipe.png", "not a file")
def pipe(folder: Path) -> None:
    """Opening it would wait for ever."""
    os.mkfifo(folder / "pipe.png")


@kind("link_out.png", "a link that leaves")
def link_out(folder: Path) -> None:
    """A link to somebody's private file."""
    (folder.parent.parent / "private.png").write_bytes(encoded("PNG"))
    (folder / "link_out.png").symlink_to(folder.parent.parent / "private.png")


@kind("link_nowhere.png", "leads nowhere")
def link_nowhere(folder: Path) -> None:
    """A link to nothing, and one to itself."""
    (folder / "link_nowhere.png").symlink_to(folder / "gone.png")
    (folder / "link_itself.png").symlink_to(folder / "link_itself.png")


@kind("caption_link.png", "link")
def caption_link(folder: Path) -> None:
    """A caption that is a link out of the set."""
    (folder / "caption_link.png").write_bytes(encoded("PNG", good(size=(672, 645))))
    (folder.parent.parent / "secret.txt").write_text("my password")
    (folder / "caption_link.txt").symlink_to(folder.parent.parent / "secret.txt")


@kind("twin.png", "one caption|same name")
def twins(folder: Path) -> None:
    """Two pictures of one name."""
    (folder / "twin.png").write_bytes(encoded("PNG", good(size=(673, 645))))
    (folder / "twin.jpg").write_bytes(encoded("JPEG", good(size=(645, 673))))
    (folder / "twin.txt").write_text("zk9, twin")


@kind("inside", "a folder inside a picture folder")
def nested(folder: Path) -> None:
    """Pictures a level too deep."""
    (folder / "inside").mkdir()
    (folder / "inside" / "a.png").write_bytes(encoded("PNG"))
