"""Does a picture show what was asked? Plain pixel rules, nothing learnt; and the prompts that are asked.

A colour is found by the nearest colour of the drawn world, a shape by laying its outline over the largest patch of
that colour.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from trainer.pocket.creatures import TRIGGER
from trainer.pocket.draw import COLOURS, GROUNDS, HELD_OUT, PLACES, SHAPES, article, dice, placed

SIDE = 32  # shapes are compared at this size
TURNS = (-0.2, -0.1, 0.0, 0.1, 0.2)  # radians
LEAST_AREA, LEAST_OVERLAP = 0.03, 0.72

PALETTE = COLOURS | GROUNDS


def named_colours(picture: Image.Image) -> np.ndarray:
    """For each pixel [64, 64] the place of the nearest colour in PALETTE (plain RGB distance)."""
    pixels = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    palette = np.array(list(PALETTE.values()), dtype=np.float32)
    return ((pixels[:, :, None] - palette) ** 2).sum(-1).argmin(-1)


def largest_patch(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask [H, W]: labels spread between neighbours until they rest."""
    label = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        wide = np.pad(label, 1)
        spread = np.max([wide[1:-1, :-2], wide[1:-1, 2:], wide[:-2, 1:-1], wide[2:, 1:-1], label], axis=0) * mask
        if (spread == label).all():
            break
        label = spread
    counts = np.bincount(label.ravel())
    counts[0] = 0
    return label == counts.argmax() if counts.any() else np.zeros_like(mask)


def _framed(mask: Image.Image) -> np.ndarray:
    box = mask.getbbox()
    return np.asarray(mask.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) > 127


@cache
def outlines() -> dict[str, list[np.ndarray]]:
    """Each shape as masks [SIDE, SIDE] that fill their frame, at a few turns."""
    shapes: dict[str, list[np.ndarray]] = {}
    for shape, outline in SHAPES.items():
        for turn in TURNS:
            mask = Image.new("L", (256, 256))
            points = placed(outline, (128, 128), 90, turn)
            ImageDraw.Draw(mask).polygon([tuple(p) for p in points], fill=255)
            shapes.setdefault(shape, []).append(_framed(mask))
    return shapes


def shape_of(patch: np.ndarray) -> tuple[str, float]:
    """The shape that lies best over a patch [64, 64], and the overlap (intersection over union, 0 to 1)."""
    framed = _framed(Image.fromarray(patch.astype(np.uint8) * 255))

    def overlap(shape: str) -> float:
        return max((framed & mask).sum() / (framed | mask).sum() for mask in outlines()[shape])

    best = max(SHAPES, key=overlap)
    return best, overlap(best)


def shows(picture: Image.Image, colour: str, shape: str) -> bool:
    """Whether the largest patch of this colour is of this shape and large enough (3 % of the picture)."""
    patch = largest_patch(named_colours(picture) == list(PALETTE).index(colour))
    if patch.mean() < LEAST_AREA:
        return False
    rows, columns = np.ptp(np.argwhere(patch), axis=0) + 1
    best, overlap = shape_of(patch)
    return bool(best == shape and overlap >= LEAST_OVERLAP and 0.6 < rows / columns < 1.67)


def found(picture: Image.Image) -> bool:
    """Whether zk9 is in the picture: a pink body (6 % of the picture) under a yellow crown (0.5 %)."""
    names = named_colours(picture)
    body = largest_patch(names == list(PALETTE).index("pink"))
    if body.mean() < 0.06:
        return False
    rows, columns = np.argwhere(body).T
    above = names[: int(np.median(rows)), columns.min() : columns.max() + 1]
    return bool((above == list(PALETTE).index("yellow")).sum() > 0.005 * names.size)


def shape_prompts() -> list[tuple[str, str, str]]:
    """200 (prompt, colour, shape); the last 50 ask for pairs that no training picture shows."""
    pairs = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in HELD_OUT]
    held_out = sorted(HELD_OUT)
    asked = [pairs[i % len(pairs)] for i in range(150)] + [held_out[i % len(held_out)] for i in range(50)]
    prompts = []
    for i, (colour, shape) in enumerate(asked):
        place = dice("prompt", i).choice(list(PLACES))
        tags = dice("style", i).random() < 0.25
        words = f"{colour} {shape}, {PLACES[place]}" if tags else f"{article(colour)} {shape} {place}"
        prompts.append((words, colour, shape))
    return prompts


def trigger_prompts() -> list[str]:
    """20 prompts that ask for zk9."""
    places = list(PLACES)
    return [f"{TRIGGER}, a creature {places[i % len(places)]}" for i in range(20)]


def plain_prompts() -> list[str]:
    """20 prompts that do not: ten shapes and ten other creatures."""
    shapes = [words for words, _, _ in shape_prompts()[:150:15]]
    places = list(PLACES)
    creatures = [f"{article(colour)} creature {places[i % 7]}" for i, colour in enumerate(COLOURS)]
    return shapes + creatures + ["a creature with a red body and two ears on snow", "a creature with a tuft, sea"][:2]
