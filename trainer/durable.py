"""Files that are whole or absent: written aside, flushed to the disk, then renamed, so that no crash shows half of one.

The order matters (Pillai et al. 2014, "All File Systems Are Not Created Equal", OSDI): without the fsync before the
rename, a power cut can leave the new name on an empty file. `safetensors.save_file` has no fsync, gives every file mode
0600 and orders metadata at random, hence the writer here.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import secrets
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from trainer.errors import InputError

Stream = Callable[[BinaryIO], None]
Check = Callable[[Path], None]
PART = re.compile(r"\.[0-9a-f]{8}\.part$")
TEMPORARY = ".tmp-"
TOGETHER = 16  # files that `write_many` flushes at once; disks join such flushes into one
DTYPES = {
    **{"bool": "BOOL", "uint8": "U8", "int8": "I8", "float8_e5m2": "F8_E5M2", "float8_e4m3fn": "F8_E4M3"},
    **{"int16": "I16", "uint16": "U16", "float16": "F16", "bfloat16": "BF16"},
    **{"int32": "I32", "uint32": "U32", "float32": "F32", "float64": "F64", "int64": "I64", "uint64": "U64"},
}
"""Names of numpy and torch, and of the file; in the order of the official writer, which puts the widest first."""

_calls: Counter[str] = Counter()


class DiskError(InputError):
    """Something could not be written; what was there before is untouched. The OSError is its cause."""


def write_aside(path: Path, data: bytes | Stream, check: Check | None = None) -> None:
    """Writes a file so that its name shows the old content or the new, never a part.

    `check` reads the new file before it takes its name, and raises when it is wrong. Raises DiskError when the disk
    fails; an error in `check` or `data` passes as it is.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")  # two processes may write one name
    try:
        _write_part(part, data)
        if check:
            check(part)
        _fault("rename")
        os.replace(part, path)
        sync_folder(path.parent)
    except OSError as error:
        raise failed(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # gone already when it took its name
            part.unlink()


def write_many(files: Mapping[Path, bytes]) -> None:
    """Writes small files: none before all are on the disk under names of their own, then each shows old or new.

    Several are flushed at once, which disks join into one flush, and each folder once. Raises DiskError; one from
    before the first rename leaves every file as it was.
    """
    ending = f".{secrets.token_hex(4)}.part"
    parts = {path: path.with_name(path.name + ending) for path in files}

    def write(path: Path) -> None:
        try:
            _write_part(parts[path], files[path])
        except OSError as error:
            raise failed(path, error) from error

    path = Path()
    try:
        with ThreadPoolExecutor(TOGETHER) as pool:
            list(pool.map(write, files))
        for path, part in parts.items():
            _fault("rename")
            os.replace(part, path)
        for path in {path.parent for path in parts}:
            sync_folder(path)
    except OSError as error:
        raise failed(path, error) from error
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):  # gone already when it took its name
                part.unlink()


def append_line(path: Path, line: bytes, flush: bool = False) -> None:
    """Appends a line, or several, in one write, so that a reader sees them whole; one that a crash tore is ended first.

    flush: waits until it is on the disk. Raises DiskError.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            size = os.fstat(handle).st_size
            os.lseek(handle, max(0, size - 1), os.SEEK_SET)
            torn = size > 0 and os.read(handle, 1) != b"\n"
            line = b"\n" + line if torn else line
            while line:  # twice only on a disk that fills up, which the second write says
                line = line[os.write(handle, line) :]
            if flush:
                os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise failed(path, error) from error


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Writes JSON; numbers must be finite (ValueError). indent None: in one line, which takes a tenth of the time."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_aside(path, f"{text}\n".encode("utf-8", "replace"))


def read_json(path: Path) -> Any:
    """The value in a JSON file; OSError or ValueError when there is none."""
    return json.loads(path.read_text("utf-8"))


def read_text(shown: str, path: Path, most: int, remedy: str, error: type[InputError] = InputError) -> str:
    """A text file in UTF-8, with a mark at its beginning or without, of at most so many bytes.

    shown: what messages call it. Raises `error`, with the remedy, for what is larger, or cannot be read.
    """
    try:
        if (size := path.stat().st_size) > most:
            raise error(f"{shown} has {size:,} bytes, more than {most:,}: {remedy}")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as why:
        raise error(f"{shown} cannot be read ({why.strerror}): {remedy}") from why
    except UnicodeDecodeError as why:
        raise error(f"{shown} is not UTF-8 text (byte {why.start}): save it again as UTF-8, or {remedy}") from why


def write_tensors(
    path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str], check: Check | None = None
) -> None:
    """Writes numpy or torch tensors as safetensors, one tensor in memory at a time; equal content gives equal bytes."""

    def stream(file: BinaryIO) -> None:
        for chunk in tensor_chunks(tensors, metadata):
            file.write(chunk)

    write_aside(path, stream, check)


def tensor_chunks(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """A safetensors file in pieces: the header, then each tensor's bytes, ordered as the official writer does.

    https://huggingface.co/docs/safetensors: 8 bytes of length, a JSON header padded with spaces to 8, the data.
    """
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
    rank = {kind: place for place, kind in enumerate(DTYPES)}
    names = sorted(tensors, key=lambda name: (-rank[kinds[name]], name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name in names:
        end = start + _size(tensors[name])
        header[name] = {"dtype": DTYPES[kinds[name]], "shape": list(tensors[name].shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    yield from (_bytes(tensors[name]) for name in names)


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it; DiskError when something is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failed(folder, error) from error


def replace_folder(temporary: Path, final: Path) -> None:
    """Gives a finished folder its name; its files must have come through this module. `final` must not exist yet."""
    try:
        sync_folder(temporary)
        _fault("rename")
        os.rename(temporary, final)
        sync_folder(final.parent)
    except OSError as error:
        raise failed(final, error) from error


def sweep(folder: Path, older: float = 0.0) -> list[Path]:
    """Removes what a killed writer left in a folder (not below it), and names it.

    In a folder that several processes share, `older` seconds keep away from files that are being written now.
    """
    left = [path for path in folder.glob("*") if PART.search(path.name) or path.name.startswith(TEMPORARY)]
    left = [path for path in left if path.lstat().st_mtime <= time.time() - older]
    for path in left:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return left


def need_space(folder: Path, size: int) -> None:
    """Raises DiskError when fewer than `size` bytes are free where `folder` is or will be."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise DiskError(
            f"{folder}: {megabytes(free)} free, {megabytes(size)} needed; make room, or choose another folder"
        )


def stamp(nanoseconds: int) -> str:
    """A moment of `time.time_ns` as a name, `2026-11-21_140755-123456789`: later ones sort behind."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%d_%H%M%S', time.localtime(seconds))}-{rest:09}"


def failed(path: Path, error: OSError) -> DiskError:
    """The DiskError that says what happened to a file, and what can be done."""
    remedies = {
        errno.ENOSPC: "make room on this disk",
        errno.EDQUOT: "your quota is used up: make room",
        errno.EACCES: "give yourself the right to write there, or choose another folder",
        errno.EROFS: "the disk is read-only: choose another folder",
        errno.ENOENT: "the folder is gone: make it again, or choose another",
        errno.EIO: "the disk reports a fault: copy your files elsewhere and check it",
    }
    remedy = remedies.get(error.errno or 0, "check the disk and the path")
    return DiskError(f"{path}: cannot be written ({error.strerror or error}); {remedy}")


def megabytes(size: int) -> str:
    """Bytes in words."""
    return f"{size / 1e6:,.1f} MB"


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power cut; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    _fault("fsync")
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network and FUSE disks that cannot sync a folder
            raise
    finally:
        os.close(handle)


def _write_part(part: Path, data: bytes | Stream) -> None:
    """Writes a new file, and waits until it is on the disk."""
    with io.BufferedWriter(_File(part, "xb")) as file:  # the umask decides the mode
        _ = data(file) if callable(data) else file.write(data)
        file.flush()
        _fault("fsync")
        os.fsync(file.fileno())


class _File(io.FileIO):
    """An unbuffered file whose writes pass the seam for faults."""

    def write(self, data: Any, /) -> int:
        _fault("write")
        return super().write(data)


def _size(tensor: Any) -> int:
    return int(tensor.nbytes)


def _bytes(tensor: Any) -> memoryview:
    """The bytes of a numpy or torch tensor, row by row; copies only what is not on the CPU or not contiguous."""
    import numpy as np

    if not isinstance(tensor, np.ndarray):
        import torch

        tensor = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def _fault(operation: str) -> None:
    """The seam for tests: LIKENESS_FAULT="write:3:ENOSPC" fails write 3, "any:7:KILL" dies before operation 7."""
    if not (wish := os.environ.get("LIKENESS_FAULT")):
        return
    kind, count, what = wish.split(":")
    _calls[operation] += 1
    _calls["any"] += 1
    if (kind == operation or kind == "any") and _calls[kind] == int(count):
        if what == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(getattr(errno, what), os.strerror(getattr(errno, what)))
