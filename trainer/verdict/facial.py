"""Likeness of faces: found by YuNet, laid upright, and told apart by SFace or another network of ArcFace's form.

The alignment and SFace's input are those of OpenCV's FaceRecognizerSF (Zhong et al. 2021, "SFace: Sigmoid-Constrained
Hypersphere Loss for Robust Face Recognition"); OpenCV itself is not needed. Works without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.images.faces import Detector, largest
from trainer.images.models import Model
from trainer.verdict.models import Found

SIDE = 112
POINTS = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
"""Where the two eyes, the nose and the corners of the mouth lie in a picture of SIDE pixels, the left of it first."""

Directions = list[np.ndarray | None]
"""Of each picture where its face points, float64 [D] of length one; None without a face."""


@dataclass(frozen=True)
class Likeness:
    """How like a face each picture is: cosines from -1 to 1; None where no face was found."""

    values: tuple[float | None, ...]

    @property
    def faces(self) -> tuple[float, ...]:
        """Those of the pictures with a face, in order."""
        return tuple(value for value in self.values if value is not None)

    @property
    def missing(self) -> str:
        """What is said of pictures without a face; empty when each has one."""
        lost, pictures = self.values.count(None), len(self.values)
        return f"no face in {lost} of {pictures} picture{'' if pictures == 1 else 's'}" if lost else ""


class FaceEye:
    """Looks at the largest face of each picture."""

    def __init__(self, found: Found) -> None:
        """Opens what `available` found; InputError when one of the files is none of its kind."""
        file, detector = found.files
        self.name, self.detector, self.model = found.name, Detector(detector), Model("face", file)
        if self.model.sides not in (None, (SIDE, SIDE)):
            raise InputError(
                f"face: {plain(file.name)} takes {self.model.sides} pixels, not {SIDE}x{SIDE} as SFace and ArcFace do: "
                "choose another file"
            )
        # Networks that came from MXNet, SFace too, call their input `data` and scale it themselves. Those of
        # insightface's packs that came from torch want it between -1 and 1.
        self.scales = self.model.input.name == "data" or "sface" in file.name.lower()

    def look(self, pictures: Sequence[Image.Image]) -> Directions:
        """Where the largest face of each picture points."""
        return [self._look(picture.convert("RGB")) for picture in pictures]

    def _look(self, picture: Image.Image) -> np.ndarray | None:
        face = largest(self.detector.faces(picture))
        if face is None or np.ptp(face.points, axis=0).max() == 0:  # five points in one place are no face
            return None
        values = np.asarray(aligned(picture, face.points), np.float32).transpose(2, 0, 1)[None]  # RGB, 0 to 255
        told = self.model.run(values if self.scales else (values - 127.5) / 127.5)[0].astype(np.float64)
        length = float(np.linalg.norm(told))
        if told.ndim != 2 or len(told) != 1 or not np.isfinite(told).all() or length == 0:
            raise InputError(
                f"face: {plain(self.model.file.name)} gives {list(told.shape)} numbers of length {length:g}, not one "
                "direction for a face: choose another file"
            )
        return told[0] / length


def aligned(picture: Image.Image, points: np.ndarray) -> Image.Image:
    """A face turned, scaled and moved so that its five points [5, 2] (pixels) lie on POINTS; SIDE x SIDE, RGB.

    With points z and targets w as complex numbers, the similarity w = a z + b of least squares has
    a = sum(conj(z - mean z) (w - mean w)) / sum |z - mean z|^2 and b = mean w - a mean z: a rotation by arg(a) and a
    scale |a|, never mirrored. It is Umeyama's (1991) in two dimensions, as in OpenCV. Linear interpolation; black
    where the picture ends.
    """
    z, w = points @ (1, 1j), POINTS @ (1, 1j)
    around = z - z.mean()
    a = (around.conj() @ (w - w.mean())) / (around.conj() @ around).real
    back = 1 / a  # Pillow asks where a pixel comes from, and counts from its corner: half a pixel on both sides
    start = z.mean() - back * w.mean() + (0.5 + 0.5j) - back * (0.5 + 0.5j)
    rows = (back.real, -back.imag, start.real, back.imag, back.real, start.imag)
    return picture.transform((SIDE, SIDE), Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)


def mean_face(faces: Directions) -> np.ndarray | None:
    """Where the faces of some pictures point together, [D] of length one; None without any face."""
    seen = [face for face in faces if face is not None]
    middle = np.mean(seen, axis=0) if seen else None
    return None if middle is None or not middle.any() else middle / np.linalg.norm(middle)


def likeness(faces: Directions, mean: np.ndarray) -> Likeness:
    """How like the mean face of the data set the faces of some pictures are."""
    return Likeness(tuple(None if face is None else float(face @ mean) for face in faces))
