"""What a model file is, told by its first bytes, and what a safetensors file holds, told by its header.

Nothing here needs torch, and nothing is believed: files come from strangers, and are often not what they are called.
"""

from __future__ import annotations

import json
import math
import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trainer.config.embedding import BUNDLE
from trainer.durable import DTYPES
from trainer.errors import InputError

LARGEST_HEADER = 100_000_000  # the limit of the safetensors library
LARGEST_PICKLE = 16_000_000  # of the part that names the tensors, without their numbers; SD1.5 has 0.3 MB
BYTES = {word: int(bits[0]) // 8 if (bits := re.search(r"\d+", word)) else 1 for word in DTYPES.values()}
"""Bytes of a number by the words of a header, which say its bits; BOOL says none."""


class ModelError(InputError):
    """A model file that cannot be used: which file, what it is, and what to do about it."""

    def __init__(self, path: str | Path, what: str, remedy: str) -> None:
        super().__init__(f"{path} {what}. {remedy}")
        self.path, self.what, self.remedy = str(path), what, remedy


class Entry(NamedTuple):
    """One tensor: its type as safetensors writes it, its shape, and where its bytes begin and end in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Header(NamedTuple):
    """What a safetensors file says about itself."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def kind_of(path: Path) -> Literal["safetensors", "pickle"]:
    """How a file is written, by content and never by name; raises ModelError that names what holds no model."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise ModelError(path, f"cannot be read ({error.strerror})", "Check the path and its permissions.") from None
    text = start.lstrip().lower()
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LARGEST_HEADER:
        return "safetensors"
    if start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        return "pickle"
    if not start:
        raise ModelError(path, "is empty", "Download it again.")
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(path, "is a web page, not a model", "Download the file itself; that may need a log-in.")
    if text.startswith(b"version https://git-lfs"):
        raise ModelError(path, "is a git-lfs pointer, not a model", "Run `git lfs pull`, or download the file.")
    if start.startswith(b"GGUF"):
        raise ModelError(path, "is a GGUF file, quantised for inference", "Choose the .safetensors file of the model.")
    if start[257:262] == b"ustar":
        raise ModelError(path, "is a tar archive", "Unpack it, or choose a .safetensors file.")
    if text.startswith(b"{"):
        raise ModelError(path, "is a JSON text, not a model", "Download the file itself; this may be an error message.")
    raise ModelError(path, "is not a model file, or its beginning is damaged", "Download it again.")


def is_zip(path: Path) -> bool:
    """Whether a .ckpt file is a zip archive, as torch has written them since 1.6."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def read_header(path: Path) -> Header:
    """The header of a safetensors file, every entry checked against the file's size; the tensors are not read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if length > min(LARGEST_HEADER, size - 8):
                raise ValueError(f"the header claims {length} bytes of a file of {size}")
            text = file.read(length).decode()
        fields = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        if type(fields) is not dict:
            raise ValueError("the header is not an object")
        metadata = _metadata(fields.pop("__metadata__", {}))
        tensors = {name: _entry(name, value, 8 + length) for name, value in fields.items()}
        _check_spans(tensors, 8 + length, size)
    except (ValueError, RecursionError, MemoryError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = str(error)[:200] or type(error).__name__
        raise ModelError(path, f"is a damaged safetensors file ({reason})", "Download it again.") from None
    return Header(tensors, metadata)


def bundled_words(header: Header) -> dict[str, int]:
    """The new words that a LoRA's file brings along, and how many vectors it has for each."""
    found: dict[str, int] = {}
    for name, entry in header.tensors.items():
        begin, _, rest = name.partition(".")
        if begin == BUNDLE and entry.shape:
            found[rest.partition(".")[0]] = entry.shape[0] if len(entry.shape) > 1 else 1
    return found


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name occurs twice in the header")
    return fields


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _metadata(value: Any) -> dict[str, str]:
    if type(value) is not dict or not all(type(text) is str for text in value.values()):
        raise ValueError("__metadata__ holds something other than texts")
    return value


def _entry(name: str, value: Any, base: int) -> Entry:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop]} if len(value) == 3:
            numbers = [*shape, start, stop]
            counts = dtype in BYTES and all(type(n) is int and n >= 0 for n in numbers)
            if counts and math.prod(shape) * BYTES[dtype] == stop - start:
                return Entry(dtype, tuple(shape), base + start, base + stop)
    raise ValueError(f"the entry of tensor {name[:80]!r} makes no sense")


def _check_spans(tensors: dict[str, Entry], base: int, size: int) -> None:
    """Tensors must fill the file with no overlap, hole or rest, so that no byte has two meanings or none."""
    end = base
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.stop)):
        if entry.start != end:
            raise ValueError("tensors overlap or leave a hole")
        end = entry.stop
    if end != size:
        raise ValueError(f"tensors end at byte {end} of {size}")


def pickle_names(path: Path) -> set[str]:
    """Every text in a .ckpt file's pickle, the tensors' names among them; its opcodes are read and never executed."""
    try:
        return set(_pickle_texts(path))
    except ModelError:
        raise
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(path, f"is a damaged .ckpt file ({error})", "Download it again.") from None


def _pickle_texts(path: Path) -> Iterator[str]:
    if not is_zip(path):
        with path.open("rb") as file:
            for _ in range(4):  # before torch 1.6: magic number, version, machine, and then the tensors
                yield from _texts(file)
        return
    with zipfile.ZipFile(path) as archive:
        member = next((info for info in archive.infolist() if info.filename.endswith("/data.pkl")), None)
        if member is None:
            raise ModelError(path, "is a zip archive without a model", "Unpack it, or choose a .safetensors file.")
        if member.file_size > LARGEST_PICKLE:
            raise ValueError(f"its table of tensors has {member.file_size} bytes")
        with archive.open(member) as file:
            yield from _texts(file)


def _texts(file: Any) -> Iterator[str]:
    return (argument for _, argument, _ in pickletools.genops(file) if isinstance(argument, str))
