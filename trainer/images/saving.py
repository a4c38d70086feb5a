"""A picture as the bytes of a file, and the name of that file."""

from __future__ import annotations

import io
import re

from PIL import Image

from trainer.errors import InputError

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
WORD = re.compile(r"\{(\w*)(?::0?(\d))?\}")


def suffix_for(source: str, wanted: str) -> str:
    """The ending of the new file for one of ending `source`; keep changes only endings that cannot be written."""
    if wanted != "keep":
        return SUFFIXES[wanted]
    return source if source.lower() in KINDS else ".png"


def stored(image: Image.Image, suffix: str, quality: int) -> bytes:
    """A picture in sRGB (or with transparency) as a file's bytes; JPEG from 90 up keeps colour at full size.

    No profile goes into it: a file without one is sRGB to every program.
    """
    kind, file = KINDS[suffix.lower()], io.BytesIO()
    bare = image.copy()
    bare.info = {}  # profiles and marks of the old file are true no more
    if kind == "png":
        bare.save(file, "PNG", compress_level=4)  # as small as 6, in half the time
    elif kind == "jpeg":
        # without `optimize`, which fails on noise: Pillow's buffer for it is smaller than such a file
        bare.save(file, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
    else:
        bare.save(file, "WEBP", quality=quality, lossless=quality == 100)
    return file.getvalue()


def renamed(pattern: str, name: str, folder: str, number: int) -> str:
    """A new name without ending: `{n:03}` counts with three digits, {name} and {folder} are the old ones."""
    known = {"n": str(number), "name": name, "folder": folder}
    return WORD.sub(lambda found: known[found[1]].rjust(int(found[2] or 0), "0"), pattern) if pattern else name


def check_pattern(pattern: str) -> None:
    """InputError when a pattern holds a word that is not known, or gives all pictures one name."""
    words = [found[1] for found in WORD.finditer(pattern)]
    if strange := [word for word in words if word not in ("n", "name", "folder")]:
        raise InputError(f"rename: {{{strange[0]}}} in {pattern!r} is not known: use {{n:03}}, {{name}} and {{folder}}")
    if pattern and not {"n", "name"} & set(words):
        raise InputError(f"rename: {pattern!r} gives all pictures one name: put {{n:03}} or {{name}} into it")
