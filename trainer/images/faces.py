"""Faces, found by YuNet (Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector").

The model and the way its outputs are read are those of OpenCV's FaceDetectorYN; OpenCV itself is not needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from trainer.downloads import how_to_get
from trainer.errors import InputError
from trainer.images.geometry import Box
from trainer.images.models import Model, find_model

STRIDES = (8, 16, 32)
OUTPUTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
"""Of each cell of a stride's grid: how likely it is a face, how well its box fits, the box, and five points."""

LONGEST_SIDE = 640
LEAST_SCORE, MOST_OVERLAP = 0.7, 0.3


class Face(NamedTuple):
    """A face in pixels of the picture. points: right and left eye, nose, right and left corner of the mouth; [5, 2]."""

    box: Box
    points: np.ndarray
    score: float


def open_detector(given: str | None) -> Detector | None:
    """The detector of a file, or of the models folder; None when there is none. InputError for a file that is not."""
    file = Path(given).expanduser() if given else find_model(["yunet"])
    return Detector(file) if file else None


def no_detector(option: str) -> InputError:
    """What to say to someone whose option wants faces, and who has no detector."""
    return InputError(f"{option}: needs a face detector: {how_to_get('yunet')}, or set detector")


class Detector:
    """YuNet in an ONNX file; several threads may use it at once."""

    def __init__(self, file: Path) -> None:
        self.model = Model("detector", file)
        self.sides = self.model.sides
        wanted = {f"{name}_{stride}" for name in OUTPUTS for stride in STRIDES}
        if missing := wanted - set(self.model.outputs):
            raise InputError(
                f"detector: {file.name} has no output {min(missing)}: it is not YuNet; {how_to_get('yunet')}"
            )

    def faces(self, image: Image.Image) -> list[Face]:
        """All faces of a picture, the surest first; boxes are cut off at the picture's edge."""
        longest = self.sides or (LONGEST_SIDE, LONGEST_SIDE)
        scale = min(longest[0] / image.width, longest[1] / image.height)
        scale = scale if self.sides else min(scale, 1.0)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        small = image.resize(size, Image.Resampling.BILINEAR)
        width, height = self.sides or (32 * math.ceil(size[0] / 32), 32 * math.ceil(size[1] / 32))
        canvas = np.zeros((height, width, 3), np.float32)
        canvas[: size[1], : size[0]] = np.asarray(small, np.float32)[:, :, ::-1]  # BGR, 0 to 255, no mean taken off
        found = self.model.run(canvas.transpose(2, 0, 1)[None])
        outputs = dict(zip(self.model.outputs, found, strict=True))
        sides = np.array([image.width / size[0], image.height / size[1]])
        faces = [_in_picture(face, sides, image.size) for face in decode(outputs, (width, height))]
        return [face for face in faces if min(face.box.size) > 0]  # none lies in the padding


def decode(outputs: Mapping[str, np.ndarray], size: tuple[int, int], least: float = LEAST_SCORE) -> list[Face]:
    """Faces in YuNet's twelve outputs for an input of this (width, height), the surest first; none overlap much.

    Of cell (row, column) at stride s: score = sqrt(cls * obj), middle = (column + dx, row + dy) * s,
    sides = exp(dw, dh) * s, point = (column + px, row + py) * s.
    """
    found: list[Face] = []
    for stride in STRIDES:
        columns, rows = size[0] // stride, size[1] // stride
        cells = {name: outputs[f"{name}_{stride}"].reshape(columns * rows, wide) for name, wide in OUTPUTS.items()}
        scores = np.sqrt(cells["cls"][:, 0].clip(0, 1) * cells["obj"][:, 0].clip(0, 1))
        for index in np.flatnonzero(scores >= least):
            corner = np.array([index % columns, index // columns], np.float64)
            middle = (corner + cells["bbox"][index, :2]) * stride
            half = np.exp(cells["bbox"][index, 2:].clip(-10, 10)) * stride / 2
            points = (corner + cells["kps"][index].reshape(5, 2)) * stride
            found.append(Face(Box(*(middle - half).tolist(), *(middle + half).tolist()), points, float(scores[index])))
    return unlike(sorted(found, key=lambda face: -face.score))


def unlike(faces: list[Face], most: float = MOST_OVERLAP) -> list[Face]:
    """Faces without those that overlap a surer one: by shared area over joined area (non-maximum suppression)."""
    kept: list[Face] = []
    for face in faces:
        if all(overlap(face.box, other.box) <= most for other in kept):
            kept.append(face)
    return kept


def overlap(one: Box, other: Box) -> float:
    """Shared area over joined area, 0 to 1."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    shared = max(0.0, width) * max(0.0, height)
    areas = [box.size[0] * box.size[1] for box in (one, other)]
    return shared / max(sum(areas) - shared, 1e-9)


def largest(faces: list[Face]) -> Face | None:
    """The face that a picture is about."""
    return max(faces, key=lambda face: face.box.size[0] * face.box.size[1], default=None)


def _in_picture(face: Face, sides: np.ndarray, size: tuple[int, int]) -> Face:
    """A face in pixels of the whole picture, its box inside."""
    limits = np.array([*size, *size])
    box = (np.array(face.box) * np.tile(sides, 2)).clip(0, limits)
    return Face(Box(*box.tolist()), face.points * sides, face.score)
