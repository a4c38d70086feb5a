"""Text out of bytes whose encoding nobody wrote down, as captions from many programs are."""

from __future__ import annotations

import codecs
import re

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
