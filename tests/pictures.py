"""Pictures for tests: noise with a colour, so that no two are alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def draw_folder(root: Path, folders: Mapping[str, int], size: tuple[int, int] = (64, 64)) -> Path:
    """An image folder in the Kohya layout: how many pictures (width, height) in each folder; captions beside them."""
    for number, (name, count) in enumerate(folders.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            dice = np.random.default_rng((number, i))
            pixels = dice.integers(0, 64, (size[1], size[0], 3)) + dice.integers(0, 192, 3)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
            (root / name / f"{i}.txt").write_text(f"zk9, thing {i}, red, on grass")
    return root
