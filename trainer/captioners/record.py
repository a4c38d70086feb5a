"""Which captions were made from what, so that a run that was cut off goes on, and a second one has nothing to do.

A line for each caption in `.likeness/captions.jsonl` of the data set. It counts only while the picture and the caption
are still those that it speaks of; losing it costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from trainer import own
from trainer.durable import append_line, make_folder

FILE = Path(".likeness") / "captions.jsonl"


class Record:
    """The captions of a folder that were made by one way of captioning (`by`)."""

    def __init__(self, folder: Path, by: str) -> None:
        self.folder, self.by = folder, _digest(by.encode())
        self.file = own.place(folder, FILE)
        self.known: dict[str, str] = {}
        text = self.file.read_text("utf-8", "replace") if self.file.is_file() else ""
        for line in text.splitlines():
            try:
                told = json.loads(line)
                self.known[told["caption"]] = told["made"]
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut off: its caption is made again

    def holds(self, picture: Path, caption: Path, content: bytes) -> bool:
        """Whether this caption was made in this way, from the picture as it is, and not changed since."""
        return self.known.get(self._name(caption)) == self._made(picture, content)

    def add(self, made: Mapping[Path, tuple[Path, bytes]]) -> None:
        """Notes captions that are written: {caption: (picture, content)}."""
        lines = {self._name(caption): self._made(*made[caption]) for caption in made}
        make_folder(self.file.parent)
        told = (json.dumps({"caption": name, "made": state}) + "\n" for name, state in lines.items())
        append_line(self.file, "".join(told).encode())
        self.known |= lines

    def _name(self, caption: Path) -> str:
        return caption.relative_to(self.folder).as_posix()

    def _made(self, picture: Path, content: bytes) -> str:
        """What a caption was made from and by, and what came of it."""
        try:
            state = picture.stat()
        except OSError:
            return "gone"
        return f"{picture.name} {state.st_size} {state.st_mtime_ns} {self.by} {_digest(content)}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
