"""Options of the tools for folders, each written once: flags and fields of the page are made of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.parts import Count, Folder, IsPath, Part, Text
from trainer.data.folders import MOST_REPEATS
from trainer.images.options import Colour

Repeats = Annotated[int, Field(ge=1, le=MOST_REPEATS)]
Ending = Annotated[str, Field(pattern=r"^\.[A-Za-z0-9_.-]+$")]


class Prepare(Part):
    """Build the folders img, reg, log and model of the Kohya GUI, by copying."""

    trigger: Annotated[str, Field(title="Instance prompt")] = ""
    """The trigger word."""
    class_word: Annotated[str, Field(title="Class prompt")] = ""
    """What it is: woman, dog; may stay empty without regularisation pictures."""
    repeats: Annotated[Repeats, Field(title="Repeats in img")] = 10
    """How often each picture is used in an epoch."""
    images: Annotated[Text, Field(title="Training images"), IsPath()] = None
    """The folder of pictures as they lie now, with their captions."""
    reg: Annotated[Text, Field(title="Regularisation images"), IsPath()] = None
    """Pictures of the class; may stay empty."""
    reg_repeats: Annotated[Repeats, Field(title="Repeats in reg")] = 1
    """How often each regularisation picture is used in an epoch."""
    destination: Annotated[Text, Field(title="Destination training directory"), IsPath()] = None
    """Where the folders are made."""


class Balance(Part):
    """Rename folders of pictures so that each counts as much as the others in a training."""

    folder: Annotated[Folder, Field(title="Dataset folder")]
    """The folder that holds the concepts' folders, such as `10_zk9`."""
    how: Annotated[Literal["steps", "equal", "faces"], Field(title="Repeats by")] = "steps"
    """steps: as many as give each folder the steps below; equal: the fewest that give all folders the same pictures x
    repeats; faces: 24 for close-ups of faces, 16 for bodies."""
    steps: Annotated[Count, Field(title="Training steps per concept per epoch")] = 1000
    """Pictures x repeats of each folder, with repeats by steps."""
    faces: str = ""
    """The name of the folder of faces, with repeats by faces; empty: its name says so, or its pictures are wider."""
    insecure: Annotated[bool, Field(title="Insecure folder renaming")] = False
    """Rename folders too whose names have no number; `{2}zk9` then counts twice."""
    apply: bool = False
    """Rename the folders; without it the plan is shown alone."""
    undo: bool = False
    """Give the folders the names that they had before the last renaming."""


class Dedupe(Part):
    """Find pictures that are there twice or nearly so, in several folders, and set all but the best aside."""

    folder: Annotated[Folder, Field(title="Data set folder")]
    """The folder of pictures, with the folders in it."""
    others: Annotated[tuple[Folder, ...], Field(title="Other folders"), IsPath()] = ()
    """More folders that are compared with it and with each other."""
    near: Annotated[bool, Field(title="Near duplicates too")] = True
    """Find pictures too that were saved again, resized, mirrored, lightly cropped or lit."""
    apply: Annotated[bool, Field(title="Set aside")] = False
    """Set all but the best of each group aside, in `.likeness/aside` of their folder; without it they are listed
    alone."""
    undo: Annotated[bool, Field(title="Put back")] = False
    """Put everything back that was set aside in these folders."""


class Import(Part):
    """Copy pictures and captions from a zip or a folder into a data set; what is there already is passed over."""

    folder: Annotated[Folder, Field(title="Data set folder")]
    """Where the pictures go; it is made if it is not there."""
    source: Annotated[Folder, Field(title="Zip file or folder")]
    """The zip, or the folder with all folders in it."""


class Group(Part):
    """Copy pictures in groups of one shape each, cut or padded to it, so that a batch wastes no pixels."""

    folder: Annotated[Folder, Field(title="Input folder")]
    """The folder with the pictures to group."""
    out: Annotated[Folder, Field(title="Output folder")]
    """Where the grouped pictures are stored, as `group-1-image-1.png`."""
    group_size: Annotated[int, Field(ge=1, le=64)] = 4
    """Number of pictures in a group; the batch size, so that a batch is of one group."""
    subfolders: Annotated[bool, Field(title="Include Subfolders")] = False
    """Take pictures in the folders inside too."""
    no_copy: Annotated[bool, Field(title="Do not copy other files")] = False
    """Leave captions and other files of a picture's name behind."""
    pad: bool = False
    """Pad pictures to their group's shape in place of cutting them."""
    colour: Annotated[Colour, Field(title="Padding colour")] = "#000000"
    """Colour around padded pictures, and behind transparent parts."""
    caption: Annotated[bool, Field(title="Generate Captions")] = False
    """Write a caption from the folder's name for pictures that come without one."""
    caption_extension: Annotated[Ending, Field(title="Caption file extension")] = ".txt"
    """The ending of captions."""
    format: Annotated[Literal["png", "jpeg", "webp"], Field(title="Picture format")] = "png"
    """Kind of file."""
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    """Quality of JPEG and WebP; WebP at 100 loses nothing."""
