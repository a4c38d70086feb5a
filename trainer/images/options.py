"""Options of the tools for pictures, each written once: flags and fields of the page are made of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trainer.config import Buckets
from trainer.config.parts import Folder, IsPath, Part, Size, Text

How = Literal["cover", "contain", "inside", "extend", "keep"]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Factor = Annotated[float, Field(ge=0, le=4)]
Repeats = Annotated[int, Field(ge=1, le=10000)]


def _some(sizes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    if not sizes:
        raise ValueError("no size is given: write one such as 512x512")
    return sizes


Sizes = Annotated[tuple[Size, ...], AfterValidator(_some)]


class Edits(Part):
    """Light and colour."""

    sharpen: Annotated[float, Field(ge=0, le=5)] = 0.0
    """How much sharper, as an unsharp mask: 1 is clearly seen, 0 is off."""
    brightness: Factor = 1.0
    """Light: 1 leaves it, 0 is black."""
    contrast: Factor = 1.0
    """Light against dark: 1 leaves it, 0 is grey."""
    saturation: Annotated[Factor, Field(title="Colour")] = 1.0
    """Strength of colours: 1 leaves it, 0 is black and white."""
    even_out: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Take coloured light away, by as much as this: 1 makes red, green and blue equally strong."""


class Output(Edits):
    """What is read, what is written, and where."""

    folder: Annotated[Folder, Field(title="Folder of pictures")]
    """The folder of pictures."""
    out: Annotated[Text, Field(title="Output folder"), IsPath()] = None
    """Where the new pictures go, with their captions; empty makes a folder beside the one that is read."""
    in_place: bool = False
    """Change the pictures themselves; a copy of each is kept in the folder, to go back to."""
    recursive: Annotated[bool, Field(title="Folders inside too")] = True
    """Read the folders inside the folder too."""
    format: Annotated[Literal["keep", "png", "jpeg", "webp"], Field(title="Picture format")] = "png"
    """Kind of file; keep leaves PNG, JPEG and WebP as they are, and makes PNG of all others."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Quality of JPEG and WebP; WebP at 100 loses nothing."""
    rename: Annotated[str, Field(max_length=200, pattern=r"^[^/\\\x00-\x1f]*$")] = ""
    """New names, such as `zk9_{n:03}`: {n} counts, {name} is the old name, {folder} the folder's; empty keeps names."""
    captions: Annotated[str, Field(title="Caption extension", pattern=r"^(\.[A-Za-z0-9_.-]+)?$")] = ".txt"
    """Captions with this ending are copied along with their pictures; empty copies none."""
    group: Annotated[bool, Field(title="Group by aspect ratio")] = False
    """Put pictures of one size into a folder of their own, such as `512x768`."""
    background: Annotated[Colour, Field(title="Padding colour")] = "#ffffff"
    """Colour around a picture that does not fill its size, and behind transparent parts."""

    @model_validator(mode="after")
    def _in_place_keeps_places(self) -> Self:
        moving = [name for name in ("out", "rename", "group") if getattr(self, name)]
        if self.in_place and moving:
            raise ValueError(f"in_place leaves pictures where they are: it goes without {' and '.join(moving)}")
        return self


class Sized(Output):
    """Pictures of given sizes."""

    sizes: Sizes = ((512, 512),)
    """Sizes such as 512x512 or 768; of several, each picture gets the one of nearest aspect ratio."""
    buckets: Buckets | None = None
    """Each picture gets the size that training would give it, of about the first size's area."""
    no_upscale: bool = False
    """Never enlarge: a picture that is too small keeps its pixels."""
    interpolation: Literal["auto", "lanczos", "area", "bicubic"] = "lanczos"
    """How pictures are resized; lanczos is sharp, auto is what training does."""


class Resize(Sized):
    """Pictures brought to a size."""

    how: Annotated[How, Field(title="Fit")] = "cover"
    """cover fills the size and cuts the rest; contain pads with a colour; inside fits without padding; extend pads
    and resizes nothing; keep changes no size."""


class Crop(Sized):
    """Pictures cut around the face, or around what stands out."""

    focus: Literal["auto", "face", "saliency", "centre"] = "auto"
    """What to cut around: the face when a detector's file is there, else what stands out; the report says which."""
    detector: Annotated[Text, Field(title="Face detector"), IsPath()] = None
    """YuNet's file; empty looks for one with `yunet` in its name in the models folder."""
    boxes: Annotated[Text, Field(title="Boxes drawn by hand"), IsPath()] = None
    """A JSON file of boxes by file name, `{"a.png": [left, top, right, bottom]}` in parts of 1: they go before any
    detector."""
    close_ups: bool = False
    """Make a close-up of the face as well, out of each picture that shows more than it."""
    close_up_factor: Annotated[float, Field(ge=1, le=6)] = 2.2
    """A close-up is as many times as large as the face; 2.2 reaches to the neck."""
    split: Annotated[bool, Field(title="Split into faces and bodies")] = False
    """Put faces and bodies into folders of their own, each with its repeats."""
    trigger: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f]*$")] = ""
    """The trigger word, for the names of these folders: `24_zk9` and `16_zk9`."""
    face_repeats: Repeats = 24
    """Repeats of the faces."""
    body_repeats: Repeats = 16
    """Repeats of the bodies."""
    body_size: Size = (512, 768)
    """Size of the bodies, when they are split from the faces."""

    @model_validator(mode="after")
    def _split_needs_names(self) -> Self:
        if self.split and not self.trigger.strip():
            raise ValueError("split names its folders after the trigger: set trigger, for instance to zk9")
        if self.split and self.boxes:
            raise ValueError("a box drawn by hand does not say whether it is a face: use boxes without split")
        if self.split and self.face_repeats == self.body_repeats:
            raise ValueError(f"face_repeats and body_repeats are both {self.face_repeats}: one folder would hold both")
        if self.in_place and (self.split or self.close_ups):
            raise ValueError("in_place makes no new files: it goes without split and close_ups")
        return self


class Background(Output):
    """Another background, or none."""

    fill: Literal["random", "colour", "blur", "picture", "transparent"] = "random"
    """What takes the background's place; random is a colour for each picture, of saturation and value 0.5."""
    colour: Annotated[Colour, Field(title="Background colour")] = "#808080"
    """The colour for all, with fill colour."""
    blur: Annotated[float, Field(gt=0, le=50)] = 4.0
    """Blur of the old background, in percent of the picture's longer side, with fill blur."""
    picture: Annotated[Text, IsPath()] = None
    """The picture behind all, with fill picture; it is cut to each picture's shape."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """The same seed gives the same random colours; each depends on the picture's file name alone."""
    model: Annotated[Text, Field(title="Background model"), IsPath()] = None
    """An ONNX file of BiRefNet, ISNet or U²-Net; empty looks for one in the models folder."""
    kind: Literal["auto", "birefnet", "isnet", "u2net", "anime"] = "auto"
    """Which of them it is; auto goes by its file's name. Anime is the ISNet of anime-segmentation."""
    save_masks: bool = True
    """Save each mask too, in the folder `masks`, for masked training; one that is changed by hand is used again."""

    @model_validator(mode="after")
    def _fill_has_what_it_needs(self) -> Self:
        if self.fill == "picture" and not self.picture:
            raise ValueError("fill picture needs one: set picture to a file, or choose another fill")
        if self.fill == "transparent" and self.format not in ("png", "webp"):
            raise ValueError(f"format {self.format} cannot be transparent: set it to png or webp")
        return self
