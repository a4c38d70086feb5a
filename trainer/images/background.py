"""Another background behind the subject of each picture, and the mask that tells the two apart, kept for training."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from trainer.data.pictures import PictureError, open_picture, plain
from trainer.draws import dice
from trainer.errors import InputError
from trainer.images.batch import MASKS, Drawn, Piece, Source, Tool, folder_of, out_of
from trainer.images.edits import edit, put
from trainer.images.geometry import fit
from trainer.images.ledger import Entry, digest_of
from trainer.images.matting import Matter, no_matter, open_matter
from trainer.images.options import Background


def background_tool(options: Background) -> Tool:
    """The tool for a folder of pictures; InputError when the model or the picture behind is missing.

    A mask that someone made or changed by hand goes before the model's. With masks for all, no model is needed.
    """
    out, folder = out_of(options, "background"), folder_of(options)
    behind, matter = _behind(options), open_matter(options.model, options.kind)
    model = f"{digest_of(matter.model.file)} {options.kind}" if matter else ""
    ground = digest_of(Path(options.picture).expanduser()) if options.picture and behind else ""

    def salt(source: Source, entry: Entry | None) -> str:
        given = mask_by_hand(folder, out, source, entry)
        return f"{ground} {digest_of(given) if given else model}"

    def draw(source: Source, image: Image.Image, entry: Entry | None) -> Drawn:
        given = mask_by_hand(folder, out, source, entry)
        if given is None and matter is None:
            raise no_matter()
        mask = open_mask(given, image.size) if given else _masked(matter, image)
        made = replaced(image, mask, options, source.name.name, behind)
        pieces = [Piece(made), *([Piece(mask, mask=True)] if options.save_masks else [])]
        notes = () if np.asarray(mask).max() >= 128 else ("no subject was found: look at its mask",)
        how = "by a mask made by hand" if given or not matter else f"by {plain(matter.model.file.name)}"
        return Drawn(pieces, how, by_hand=given is not None, notes=notes)

    return Tool("background", draw, salt, matter.model.notes if matter else ())


def mask_by_hand(folder: Path, out: Path, source: Source, entry: Entry | None) -> Path | None:
    """The mask that a person gave: in `masks` of the folder, or one of ours in the output folder that was changed."""
    made = {out / name: digest for name, digest in (entry.made.items() if entry else ())}
    own = [file for file in made if file.is_relative_to(out / MASKS)]
    for file in [(folder / MASKS / source.name).with_suffix(".png"), *own]:
        ours = entry is not None and not entry.by_hand and made.get(file) == digest_of(file)
        if file.is_file() and not ours:
            return file
    return None


def open_mask(file: Path, size: tuple[int, int]) -> Image.Image:
    """A mask as grey of the picture's size; PictureError when it has another shape, or cannot be read."""
    return fitted(open_picture(file, "#000000").image.convert("L"), size, file.name)


def fitted(mask: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    """A mask brought to its picture's size; PictureError, with the mask's name, when it has another shape."""
    if abs(mask.width * size[1] - mask.height * size[0]) > max(size[0], size[1]) * 2:
        raise PictureError(f"its mask {plain(name)} is {mask.width} x {mask.height}: of another shape than it")
    return mask if mask.size == size else mask.resize(size, Image.Resampling.LANCZOS)


def replaced(
    image: Image.Image, mask: Image.Image, options: Background, name: str, behind: Image.Image | None = None
) -> Image.Image:
    """A picture with another background: `name` is its file's, for the random colour; `behind` for fill picture."""
    image = edit(image, options)
    if options.fill == "transparent":
        image = image.copy()
        image.putalpha(mask)
        return image
    if options.fill == "blur":
        ground = blurred(image, mask, options.blur / 100 * max(image.size))
    elif behind is not None:
        ground = put(behind, fit(behind.size, image.size, "cover"), options.background, "lanczos")
    else:
        colour = options.colour if options.fill == "colour" else random_colour(options.seed, name)
        ground = Image.new("RGB", image.size, colour)
    return Image.composite(image, ground, mask)


def random_colour(seed: int, name: str) -> tuple[int, int, int]:
    """A hue drawn by seed and file name, saturation 0.5, value 0.5."""
    text = name.encode("utf-8", "backslashreplace").decode()  # a name may hold bytes that are no text
    rgb = colorsys.hsv_to_rgb(dice(seed, "background", text).random(), 0.5, 0.5)
    red, green, blue = (round(255 * part) for part in rgb)
    return red, green, blue


def blurred(image: Image.Image, mask: Image.Image, radius: float) -> Image.Image:
    """The background blurred, and nothing of the subject in it: each place is the mean of what is background around it.

    Far inside the subject, where no background is near, it stays black; the subject hides that.
    """
    outside = ImageChops.invert(mask)
    soft = ImageFilter.GaussianBlur(radius)
    light = ImageChops.multiply(image, Image.merge("RGB", [outside] * 3)).filter(soft)
    weight = np.asarray(outside.filter(soft), np.float32)[:, :, None]
    values = np.asarray(light, np.float32) * (255 / np.maximum(weight, 1))
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))


def _behind(options: Background) -> Image.Image | None:
    """The picture for fill picture; InputError when it cannot be opened."""
    if options.fill != "picture" or not options.picture:
        return None
    try:
        return open_picture(Path(options.picture).expanduser(), options.background).image
    except PictureError as error:
        raise InputError(f"picture: {error}") from None


def _masked(matter: Matter | None, image: Image.Image) -> Image.Image:
    if matter is None:
        raise no_matter()
    return matter.mask(image)
