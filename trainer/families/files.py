"""Model files as mappings from names to tensors, read one at a time, so that loading never holds a model twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainer.durable import DTYPES
from trainer.families.header import ModelError, is_zip, kind_of, read_header

Tensors = Mapping[str, Tensor]

KINDS = {word: getattr(torch, name) for name, word in DTYPES.items()}
"""Types by the words of a safetensors header."""


class SafetensorsFile(Tensors):
    """A safetensors file: each access reads that tensor anew.

    Read, not mapped: mapped pages would count double while a tensor is cast, and a mapped file that another program
    writes to or a share that goes away kills the process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = read_header(path)

    def __getitem__(self, name: str) -> Tensor:
        entry = self.header.tensors[name]
        raw = np.fromfile(self.path, np.uint8, entry.stop - entry.start, offset=entry.start)
        return torch.from_numpy(raw).view(KINDS[entry.dtype]).reshape(entry.shape)

    def __contains__(self, name: object) -> bool:
        return name in self.header.tensors  # a Mapping's own would read the tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.header.tensors)

    def __len__(self) -> int:
        return len(self.header.tensors)


def open_tensors(path: Path) -> Tensors:
    """A model file's tensors by name, whatever the file is called; ModelError when it is none, damaged, or unsafe."""
    return SafetensorsFile(path) if kind_of(path) == "safetensors" else _unpickle(path)


def _unpickle(path: Path) -> Tensors:
    """A .ckpt file's tensors. Pickles can run programs: only torch's list of harmless types is let through, always."""
    mapped = is_zip(path) and path.suffix.lower() != ".safetensors"  # by that name torch would not take it for a pickle
    try:
        with path.open("rb") as file:
            loaded = torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a hostile or broken pickle can fail in any way
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(
            path,
            f"is a pickle that holds more than tensors, or is damaged ({reason})",
            "It was not opened, for such a file can run any program. Use the model's .safetensors file.",
        ) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else {}
    return {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, Tensor)}
