"""What stands out in a picture, found without any model: edges, and colours that the border does not have."""

from __future__ import annotations

import numpy as np
from PIL import Image

from trainer.images.geometry import Box

SIDE = 96  # pixels of the longer side: a subject is found, not its pores
SPREAD = 0.35  # of the prior, in parts of a side: pictures are taken with the subject near the middle
SHARE = 0.8
FLOOR = 0.05  # a spread of colour that is there in the plainest photo


def saliency(image: Image.Image) -> np.ndarray:
    """How much each place stands out, as float64 [h, w] of a small copy, at most 96 on a side; its sum is 1, or 0.

    Edges (the gradient's length) beyond what the border has of them, plus the distance from the border's colours
    (Mahalanobis 1936), so that leaves, bricks or a sky all around do not count. Their third power, so that a small
    subject outweighs a large background; times a Gaussian prior on the middle.
    """
    scale = SIDE / max(image.size)
    size = max(3, round(image.width * scale)), max(3, round(image.height * scale))
    values = np.asarray(image.resize(size, Image.Resampling.BOX), np.float64) / 255  # [h, w, 3]
    down, across = np.gradient(values.mean(2))
    edges = np.hypot(down, across)
    ground = _border(values)
    inverse = np.linalg.inv(np.cov(ground.T, bias=True) + FLOOR**2 * np.eye(3))
    off = values - ground.mean(0)
    colour = np.sqrt(np.einsum("hwi,ij,hwj->hw", off, inverse, off)) * FLOOR
    y, x = (np.linspace(-0.5, 0.5, length) for length in values.shape[:2])
    prior = np.exp(-(x[None, :] ** 2 + y[:, None] ** 2) / (2 * SPREAD**2))
    seen = (_to_one(edges - _border(edges).mean()) + _to_one(colour)) ** 3 * prior
    return seen / max(seen.sum(), 1e-12)


def subject(image: Image.Image) -> Box | None:
    """The box around the middle 80 % of what stands out, from side to side and from top to bottom; None in a plain one.

    It is in pixels of the picture.
    """
    seen = saliency(image)
    if not seen.any():
        return None
    (top, bottom), (left, right) = (_middle(seen.sum(axis)) for axis in (1, 0))
    return Box(left * image.width, top * image.height, right * image.width, bottom * image.height)


def _to_one(values: np.ndarray) -> np.ndarray:
    """Values with their largest at 1; what is too weak to be seen counts as nothing."""
    highest = values.max()
    return values.clip(0) / highest if highest > 1 / 255 else np.zeros_like(values)


def _border(values: np.ndarray) -> np.ndarray:
    """The outermost places, in one row."""
    return np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])


def _middle(weights: np.ndarray) -> tuple[float, float]:
    """Where the middle 80 % of the weights begin and end, in parts of the whole."""
    total = np.concatenate([[0.0], weights.cumsum()])
    places = np.linspace(0, 1, len(total))
    low, high = np.interp([(1 - SHARE) / 2, (1 + SHARE) / 2], total / total[-1], places)
    return float(low), float(high)
