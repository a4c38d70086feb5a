"""Models in ONNX files on the disk: found, opened and run; nothing is ever downloaded here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer import places
from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.sessions import open_session


def model_files() -> list[Path]:
    """The ONNX files in the models folders and the folders inside, in order."""
    found = (path for folder in places.models() for path in sorted(folder.rglob("*")))
    return [path for path in found if path.suffix.lower() == ".onnx" and path.is_file()]


def find_model(words: Sequence[str]) -> Path | None:
    """The first of them whose name holds one of the words, the first word before the second."""
    files = model_files()
    return next((file for word in words for file in files if word in file.name.lower()), None)


class Model:
    """An ONNX model of one picture in, some arrays out. Several threads may run it at once."""

    def __init__(self, option: str, file: Path) -> None:
        """Opens a file; `option` is what it was given as, for messages. InputError when it is missing or no model."""
        self.option, self.file = option, file
        if not file.is_file():
            raise InputError(
                f"{option}: {plain(str(file), 1000)} does not exist: put the file there, or choose another"
            )
        self.session, device = open_session(file, option)
        self.notes = (f"{file.name}: {device}",)
        self.input = self.session.get_inputs()[0]
        self.outputs = [output.name for output in self.session.get_outputs()]

    @property
    def sides(self) -> tuple[int, int] | None:
        """(width, height) that its input must have; None when any will do. InputError when it takes no pictures."""
        shape: list[Any] = list(self.input.shape)
        if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            raise InputError(
                f"{self.option}: {plain(self.file.name)} takes {shape}, not one picture of three colours: "
                "choose another file"
            )
        height, width = shape[2:]
        return (width, height) if isinstance(height, int) and isinstance(width, int) else None

    def run(self, values: np.ndarray) -> list[np.ndarray]:
        """Its outputs for float32 [1, 3, H, W], each as float32; InputError when it fails."""
        kind = np.float16 if self.input.type == "tensor(float16)" else np.float32
        try:
            found = self.session.run(self.outputs, {self.input.name: np.ascontiguousarray(values, kind)})
        except Exception as error:  # onnxruntime has a class of its own for each kind of failure
            raise InputError(
                f"{self.option}: {plain(self.file.name)} fails on a picture ({plain(str(error), 120)}); "
                "it may be a model of another kind"
            ) from error
        return [np.asarray(array, np.float32) for array in found]
