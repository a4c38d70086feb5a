"""Tensors that are read when they are written: a file goes through memory one tensor at a time."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from trainer.checkpoint import PRECISIONS, hashes
from trainer.durable import TEMPORARY, failed, make_folder, need_space, replace_folder, tensor_chunks, write_aside
from trainer.errors import InputError
from trainer.families.files import KINDS, SafetensorsFile, open_tensors
from trainer.families.header import kind_of
from trainer.tools.report import Steps

HEADER = 1 << 20  # bytes beside the tensors


@dataclass(frozen=True)
class Later:
    """A tensor to be: its type and shape are known, its numbers are read or computed each time they are asked for.

    Stands where `trainer.durable` and `trainer.checkpoint` take tensors.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]
    name: str = ""
    """What it is called in its file, for messages about numbers that do not fit."""

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    def detach(self) -> Tensor:
        """Its numbers, in its type; InputError when a number is too large for it, or is none."""
        made = self.make()
        if made.dtype == self.dtype:
            return made
        cast = made.to(self.dtype)
        if made.is_floating_point() and not cast.isfinite().all():
            why = "does not fit" if made.isfinite().all() else "holds NaN or infinity"
            raise InputError(f"{self.name or 'a tensor'} {why} in {self.dtype}; set save_precision to fp32 or bf16")
        return cast

    def to(self, dtype: torch.dtype) -> Later:
        """The same in another type; whole numbers stay what they are."""
        return Later(dtype, self.shape, self.make, self.name) if self.dtype.is_floating_point else self

    def then(self, change: Callable[[Tensor], Tensor], shape: tuple[int, ...] | None = None) -> Later:
        """What becomes of it, in the same type."""
        return Later(self.dtype, self.shape if shape is None else shape, lambda: change(self.detach()), self.name)


Tensors = Mapping[str, Later]


def at_hand(tensor: Tensor, name: str = "") -> Later:
    """A tensor that is in memory already."""
    return Later(tensor.dtype, tuple(tensor.shape), lambda: tensor, name)


class Shelf:
    """Computed tensors, laid aside on the disk until they are written, so that memory holds one at a time.

    They lie in a file without a name in the folder that the result goes to; it is gone when the shelf is closed.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self.path = path
        try:
            self.file = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115, __exit__ closes it
        except OSError as error:
            raise failed(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def keep(self, tensors: Mapping[str, Tensor]) -> dict[str, Later]:
        """Lays tensors aside; DiskError when there is no room."""
        kept: dict[str, Later] = {}
        for name, tensor in tensors.items():
            raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            try:
                start = self.file.seek(0, os.SEEK_END)
                self.file.write(raw.data)
            except OSError as error:
                raise failed(self.path, error) from error
            make = partial(self._read, start, len(raw), tensor.dtype, tuple(tensor.shape))
            kept[name] = Later(tensor.dtype, tuple(tensor.shape), make, name)
        return kept

    def _read(self, start: int, size: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        self.file.seek(start)
        return torch.frombuffer(bytearray(self.file.read(size)), dtype=torch.uint8).view(dtype).reshape(shape)


def read_file(path: Path) -> tuple[dict[str, Later], dict[str, str]]:
    """A model file's tensors and metadata; ModelError when it is none, damaged, or unsafe."""
    file = open_tensors(path)
    if isinstance(file, SafetensorsFile):
        header = file.header
        tensors = {
            name: Later(KINDS[entry.dtype], entry.shape, partial(file.__getitem__, name), name)
            for name, entry in header.tensors.items()
        }
        return tensors, dict(header.metadata)
    return {name: at_hand(tensor, name) for name, tensor in file.items()}, {}


def cast(tensors: Tensors, precision: str) -> dict[str, Later]:
    """Tensors in a precision of the options; keep leaves each in its own."""
    if precision == "keep":
        return dict(tensors)
    return {name: tensor.to(PRECISIONS[precision]) for name, tensor in tensors.items()}


def existing(option: str, text: str) -> Path:
    """The file or folder that an option names; InputError when there is none."""
    path = Path(text).expanduser()
    if not path.exists():
        raise InputError(f"{option}: {text} does not exist; check the path")
    if path.is_file():
        kind_of(path)  # what holds no model is refused before anything else
    return path


def destination(save_to: str, sources: Sequence[Path], overwrite: bool, ending: str = ".safetensors") -> Path:
    """Where a file goes, with the ending it needs; InputError when it exists, or is one of those that are read."""
    path = Path(save_to).expanduser()
    if path.is_dir() and ending:
        raise InputError(f"save_to: {path} is a folder; add the file's name")
    if ending and path.suffix.lower() != ending:
        path = path.with_name(path.name + ending)
    if path.exists() and any(path.samefile(source) for source in sources):
        raise InputError(f"save_to: {path} is read; choose another name")
    if path.exists() and not overwrite:
        raise InputError(f"save_to: {path} exists; choose another name, or set overwrite")
    return path


def write(path: Path, tensors: Mapping[str, Later], metadata: Mapping[str, str], steps: Steps | None = None) -> None:
    """Writes a safetensors file, a step for each tensor, and reads it back before it takes its name.

    Raises DiskError when it cannot be written, and then leaves an older file as it was.
    """
    make_folder(path.parent)
    need_space(path.parent, sum(tensor.nbytes for tensor in tensors.values()) + HEADER)
    digest = hashlib.sha256()

    def stream(file: BinaryIO) -> None:
        for number, chunk in enumerate(tensor_chunks(tensors, metadata)):
            digest.update(chunk)
            file.write(chunk)
            if number and steps:  # the first is the header
                steps.step()

    def same(part: Path) -> None:
        with part.open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != digest.digest():
                raise InputError(f"{path}: the disk gave back other data than was written; save to another disk")

    write_aside(path, stream, same)


def write_network(
    path: Path, tensors: Mapping[str, Later], metadata: Mapping[str, str], steps: Steps | None = None
) -> None:
    """The same for a LoRA, with the two hashes by which web UIs know one; its numbers are read or computed twice."""
    bare = {key: value for key, value in metadata.items() if not key.startswith("sshs_")}
    stand_ins: Any = tensors
    write(path, tensors, {**bare, **hashes(stand_ins, bare)}, steps)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes its name when it is whole; one that was there before goes only then."""
    make_folder(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    old = path.with_name(f"{TEMPORARY}{path.name}-old")
    for left in (temporary, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rename(old)
        replace_folder(temporary, path)
    except OSError as error:
        raise failed(path, error) from error
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for left in (temporary, old):
            shutil.rmtree(left, ignore_errors=True)
