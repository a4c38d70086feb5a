"""Text out of bytes whose encoding nobody wrote down, as captions from many programs are."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from trainer.data.pictures import PictureError, plain

LONGEST_CAPTION = 64 * 1024
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
MARKS = {  # of UTF-32 before UTF-16, whose mark it begins with
    **{codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"},
    **{codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"},
}


def decode(raw: bytes) -> tuple[str, str]:
    """Text and its encoding: by its mark, else UTF-8, else UTF-16 by its zeros, else Western Windows if it looks so.

    Raises UnicodeDecodeError when none can be told.
    """
    for mark, encoding in MARKS.items():
        if raw.startswith(mark):
            return raw.decode(encoding), encoding
    if raw.count(0) * 3 > len(raw):  # Latin text in UTF-16: every other byte is zero
        encoding = "utf-16-le" if raw[1::2].count(0) > raw[::2].count(0) else "utf-16-be"
        return raw.decode(encoding), encoding
    try:
        return raw.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        if re.search(rb"[\x80-\xff]{4}", raw):  # no Western word has so many accents in a row: Chinese, Cyrillic, ...
            raise
        return raw.decode("cp1252"), "cp1252"


def read_caption(path: Path, wildcards: bool = False) -> tuple[str, list[tuple[str, str]]]:
    """The first line of a caption file with words (all lines with wildcards), and (what was odd, what was done).

    Raises PictureError for a caption over 64 KiB, or one that is no text: better no picture than one with wrong words.
    """
    name = plain(path.name)
    if not path.is_file():
        raise PictureError(f"its caption {name} is not a file")
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_CAPTION + 1)
    except OSError as error:
        raise PictureError(f"its caption {name} cannot be read ({error.strerror})") from error
    if len(raw) > LONGEST_CAPTION:
        raise PictureError(f"its caption {name} is longer than {LONGEST_CAPTION // 1024} KiB: shorten it")
    changes: list[tuple[str, str]] = []
    try:
        text, encoding = decode(raw)
    except UnicodeDecodeError as error:
        raise PictureError(f"its caption {name} is in no encoding that can be told: save it as UTF-8") from error
    if encoding != "utf-8":
        changes.append((f"not in plain UTF-8 ({plain(text.strip(), 40)})", f"read as {encoding}"))
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    if CONTROLS.search(text):
        changes.append(("holds control characters", "trained with blanks in their place"))
    lines = [line.strip() for line in CONTROLS.sub(" ", text).split("\n") if line.strip()]
    if not lines:
        changes.append(("an empty caption", "trained without words"))
    if len(lines) > 1 and not wildcards:
        changes.append((f"a caption of {len(lines)} lines", "trained with the first line"))
    return "\n".join(lines if wildcards else lines[:1]), changes
