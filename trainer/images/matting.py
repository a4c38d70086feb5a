"""Which parts of a picture are its subject: masks by BiRefNet, ISNet or U²-Net from a file on the disk.

They take pictures of different sizes and normalisation, and say it in different numbers; each is used as its authors
publish it. What kind a file is, is told by its name, as rembg names them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.data.pictures import plain
from trainer.downloads import how_to_get
from trainer.errors import InputError
from trainer.images.models import Model, model_files


@dataclass(frozen=True)
class Kind:
    """How one kind of model is used. side: of its square input, where the file allows any.

    to_highest: values are divided by the picture's highest, not by 255. logits: outputs go through a sigmoid.
    stretched: the mask is stretched from its lowest value to its highest. boxed: the picture keeps its shape, with
    black around it.
    """

    words: tuple[str, ...]
    side: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    to_highest: bool = False
    logits: bool = False
    stretched: bool = False
    boxed: bool = False


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KINDS = {
    "birefnet": Kind(("birefnet",), 1024, *IMAGENET, logits=True),
    "isnet": Kind(("isnet", "dis_"), 1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), stretched=True),
    "u2net": Kind(("u2net", "silueta"), 320, *IMAGENET, to_highest=True, stretched=True),
    "anime": Kind(("isnet-anime", "isnetis"), 1024, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), boxed=True),
}
"""Zheng et al. 2024 (BiRefNet, image_proc.py); Qin et al. 2022 (DIS, Inference.py); Qin et al. 2020 (U-2-Net); SkyTNT
2022 (anime-segmentation, inference.py). The first that is there is taken."""


def kind_of(file: Path) -> str | None:
    """Which kind of model a file is by its name; the longest word counts, for an `isnet-anime` is an `isnet` too."""
    words = {word: name for name, kind in KINDS.items() for word in kind.words if word in file.name.lower()}
    return words[max(words, key=len)] if words else None


def open_matter(given: str | None, kind: str) -> Matter | None:
    """The model of a file, or of the models folder; None when there is none. InputError when it is of no known kind."""
    wanted = KINDS if kind == "auto" else [kind]
    found = next((file for name in wanted for file in model_files() if kind_of(file) == name), None)
    file = Path(given).expanduser() if given else found
    return Matter(file, kind) if file else None


def no_matter() -> InputError:
    """What to say to someone who has no model."""
    return InputError(
        f"model: no background model is here: {how_to_get('isnet', 'birefnet', 'u2net')}, or set model to one"
    )


class Matter:
    """A model that tells subject from background; several threads may use it at once."""

    def __init__(self, file: Path, kind: str = "auto") -> None:
        name = kind_of(file) if kind == "auto" else kind
        if name is None:
            raise InputError(f"kind: {plain(file.name)} does not say which model it is: set kind to {', '.join(KINDS)}")
        self.kind = KINDS[name]
        self.model = Model("model", file)
        self.sides = self.model.sides or (self.kind.side, self.kind.side)

    def mask(self, image: Image.Image) -> Image.Image:
        """The mask of a picture, of its size, in grey: white is the subject."""
        found = self.model.run(self.prepared(image))[
            0
        ]  # U²-Net and ISNet give coarser masks too; the first is the best
        values = found.reshape(-1, *found.shape[-2:])[0].astype(np.float64)  # [h, w]
        if self.kind.logits:
            values = 1 / (1 + np.exp(-values.clip(-60, 60)))
        if self.kind.stretched:
            low, high = values.min(), values.max()
            values = (values - low) / (high - low) if high > low else np.zeros_like(values)
        grey = Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))
        return grey.resize(image.size, Image.Resampling.LANCZOS, self._box(image.size))

    def prepared(self, image: Image.Image) -> np.ndarray:
        """A picture as the model takes it: float32 [1, 3, H, W]."""
        left, top, right, bottom = self._box(image.size)
        boxed = Image.new("RGB", self.sides)
        boxed.paste(image.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
        values = np.asarray(boxed, np.float32)
        highest = max(float(values.max()), 1e-6) if self.kind.to_highest else 255.0
        mean, deviation = np.array(self.kind.mean, np.float32), np.array(self.kind.deviation, np.float32)
        return ((values / np.float32(highest) - mean) / deviation).transpose(2, 0, 1)[None]

    def _box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where a picture of this size lies in the model's input."""
        if not self.kind.boxed:
            return 0, 0, *self.sides
        scale = min(self.sides[0] / size[0], self.sides[1] / size[1])
        width, height = (max(1, int(length * scale + 1e-6)) for length in size)
        left, top = (self.sides[0] - width) // 2, (self.sides[1] - height) // 2
        return left, top, left + width, top + height
