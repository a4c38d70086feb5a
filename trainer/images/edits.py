"""Changes of light and colour: each leaves the picture's size as it is, and does nothing at its default.

Turning upright, filling transparent parts and coming to sRGB happen when a picture is opened (trainer.data.pictures).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from trainer.data.pictures import Interpolation, resize
from trainer.images.geometry import Placement
from trainer.images.options import Edits

RADIUS, THRESHOLD = 2, 3  # Pillow's own of an unsharp mask: differences up to 3 are taken for noise


def edit(image: Image.Image, wanted: Edits) -> Image.Image:
    """Evened out, brightened, given contrast and colour, then sharpened: in this order, as sharpening shows noise."""
    if wanted.even_out:
        image = even_out(image, wanted.even_out)
    if wanted.brightness != 1:
        image = ImageEnhance.Brightness(image).enhance(wanted.brightness)
    if wanted.contrast != 1:
        image = ImageEnhance.Contrast(image).enhance(wanted.contrast)
    if wanted.saturation != 1:
        image = ImageEnhance.Color(image).enhance(wanted.saturation)
    if wanted.sharpen:
        image = image.filter(ImageFilter.UnsharpMask(RADIUS, round(wanted.sharpen * 100), THRESHOLD))
    return image


def even_out(image: Image.Image, strength: float) -> Image.Image:
    """Coloured light taken away: each channel is scaled towards the mean of all (grey world, Buchsbaum 1980).

    strength: 1 makes the three means equal, 0.5 goes half of the way. A channel that is black everywhere stays so.
    """
    means = np.asarray(image, np.float64).mean((0, 1))  # [3]
    gains = np.where(means > 0, means.mean() / np.maximum(means, 1e-9), 1.0) ** strength
    steps = np.arange(256)
    return image.point([int(value) for gain in gains for value in np.rint(steps * gain).clip(0, 255)])


def put(image: Image.Image, where: Placement, padding: str, interpolation: Interpolation) -> Image.Image:
    """The picture cut, resized and laid on its canvas; `padding` is the colour around it."""
    if where.crop != (0, 0, *image.size):
        image = image.crop(where.crop)
    image = resize(image, where.size, interpolation)
    if where.canvas == where.size:
        return image
    canvas = Image.new("RGB", where.canvas, padding)
    canvas.paste(image, where.at)
    return canvas
