"""Options of the doctor, each written once: flags and fields of the page are made of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.config import Buckets
from trainer.config.parts import IsPath, Part, Size, Text


class Doctor(Part):
    """A data set, and what it is for."""

    folder: Annotated[str, Field(min_length=1, title="Image folder"), IsPath()]
    """A folder of pictures, or the parent of folders such as `24_zk9 woman`."""
    resolution: Size = (512, 512)
    """Width and height that pictures will be trained at; with buckets, their area."""
    buckets: Buckets | None = Buckets()
    """Sort pictures by shape, as training does; off cuts each one to the resolution."""
    purpose: Literal["person", "character", "style"] = "person"
    """What is learned: a person from photos, a drawn character, or a style, whose faces and sessions do not matter."""
    trigger: Annotated[str, Field(title="Trigger word", max_length=200, pattern=r"^[^,\r\n]*$")] = ""
    """The word that stands for what is learned; empty takes it from the folder's name, `zk9` from `24_zk9 woman`."""
    caption_extension: Annotated[str, Field(pattern=r"^\.[A-Za-z0-9_.-]+$")] = ".txt"
    """A caption has its picture's name with this ending."""
    max_tokens: Annotated[Literal[75, 150, 225], Field(title="Max token length")] = 75
    """How much of a caption training reads."""
    steps: Annotated[int | None, Field(ge=1, le=10_000_000, title="Steps planned")] = None
    """Training steps you mean to make; empty takes what practice advises."""
    detector: Annotated[Text, Field(title="Face detector"), IsPath()] = None
    """YuNet's file; empty looks for one with `yunet` in its name in the models folder."""
