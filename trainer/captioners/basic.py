"""Kohya's basic captioning: the same words for every picture, and changes to the words that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.captioners.options import Basic, Existing


class BasicCaptioner:
    """Writes words without a look at the pictures."""

    what = "Basic captions"
    batch = 64
    separator = ","

    def __init__(self, options: Basic) -> None:
        self.options = options
        self.by = options.model_dump_json(exclude={"folder", "recursive", "workers", "overwrite"})
        self.existing: Existing = "append" if options.overwrite else "skip"

    def prepare(self, picture: Path) -> None:
        """Nothing: a picture need not even open to get these words."""

    def look(self, pictures: Sequence[None]) -> Sequence[None]:
        """Nothing."""
        return pictures

    def caption(self, seen: None, before: str | None) -> str:
        """The prefix, the caption text or else the words that were there, the postfix; then find and replace."""
        options = self.options
        parts = [options.prefix, options.caption_text or before or "", options.postfix]
        text = " ".join(part.strip() for part in parts if part.strip())
        return text.replace(options.find, options.replace) if options.find else text
