"""Faces drawn again at full size: cut out, drawn over, and laid back with soft edges."""

from __future__ import annotations

from PIL import Image, ImageFilter

from trainer.compare.denoise import Readings, Tick, denoise, draw_latents
from trainer.compare.pixels import to_latents, to_picture
from trainer.compare.shot import Shot
from trainer.families.base import Family
from trainer.images.faces import Detector
from trainer.images.geometry import Box, window

SOFT = 0.1
"""Width of the soft edge, in sides of the square that is cut out."""


def redraw_faces(
    family: Family, shot: Shot, readings: Readings, picture: Image.Image, detector: Detector, tick: Tick
) -> Image.Image:
    """The picture with its largest faces drawn again, each in a square of the size that the base was made for."""
    assert shot.face, "faces are wanted"
    faces = sorted(detector.faces(picture), key=lambda face: -face.box.size[0] * face.box.size[1])
    for face in faces[: shot.face.most]:
        box = square(picture.size, face.box, shot.face.padding)
        side = max(shot.base.side, (box[2] - box[0]) // 8 * 8)
        cut = picture.crop(box)
        larger = cut.resize((side, side), Image.Resampling.LANCZOS)
        noise, generators = draw_latents([shot.seed], side, side)
        over = to_latents(family, larger), shot.face.strength
        latents = denoise(family, shot.sampler, readings, shot.cfg, noise, generators, tick, over)
        drawn = to_picture(family.decode(latents)).resize(cut.size, Image.Resampling.LANCZOS)
        picture = picture.copy()
        picture.paste(drawn, box[:2], soft_mask(cut.size[0], box, picture.size))
    return picture


def square(size: tuple[int, int], box: Box, padding: float) -> tuple[int, int, int, int]:
    """The square around a face: so many times its longer side, cut down and moved into the picture."""
    side = max(8, min(round(max(box.size) * padding), *size))
    return window(size, (side, side), box.enlarged(padding))


def soft_mask(side: int, box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """White inside, black at the edges of a square; not at those of the picture, where nothing lies beyond."""
    soft = max(1, round(side * SOFT))
    ends = box[0] == 0, box[1] == 0, box[2] == size[0], box[3] == size[1]
    left, top, right, bottom = (-soft if end else soft for end in ends)
    mask = Image.new("L", (side + 2 * soft, side + 2 * soft), 0)
    mask.paste(255, (soft + left, soft + top, soft + side - right, soft + side - bottom))
    return mask.filter(ImageFilter.GaussianBlur(soft / 3)).crop((soft, soft, side + soft, side + soft))
