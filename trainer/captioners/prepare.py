"""Pictures as the taggers were trained on them.

The recipe is that of SmilingWolf's own program: transparent parts white, white bars to a square, Pillow's bicubic
filter, blue before red, numbers from 0 to 255.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

WHITE = (255, 255, 255)


def square(image: Image.Image, side: int) -> Image.Image:
    """An RGB picture on a white square of `side` pixels; the same pixels as padding first and resizing then.

    Pillow resizes rows before columns, so the bars above and below need not go through the first half: a quarter less
    work for a landscape.
    """
    width, height = image.size
    if width <= height:
        return _padded(image, (height, height)).resize((side, side), Image.Resampling.BICUBIC)
    narrow = image.resize((side, height), Image.Resampling.BICUBIC)
    return _padded(narrow, (side, width)).resize((side, side), Image.Resampling.BICUBIC)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    ground = Image.new("RGB", size, WHITE)
    ground.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return ground


def numbers(image: Image.Image) -> np.ndarray:
    """The picture as float32 [H, W, 3] from 0 to 255, blue first."""
    return np.asarray(image)[:, :, ::-1].astype(np.float32)
