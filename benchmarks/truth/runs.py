"""The runs of the benchmark: which character, how many pictures, how long and how fast; our own engine trains them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import train
from trainer.config import Config
from trainer.draws import seed_of
from trainer.runfolder import RunFolder
from trainer.tree import validate

from .world import Character

FILES = 6
"""Files that each run saves."""
HELD_OUT = 6
"""Pictures of each character that are not trained."""


@dataclass(frozen=True)
class Run:
    """One training. lr is the U-Net's; the text encoder learns `text` times as fast, or not at all."""

    name: str
    character: int
    places: int = 3
    pictures: int = 12
    steps: int = 432
    lr: float = 1e-3
    text: float = 0.0
    rank: int = 8
    batch: int = 4

    def made(self) -> Character:
        """Its character."""
        return Character.made(self.character, self.places)

    def train(self, folder: Path, files: int = FILES) -> RunFolder:
        """Trains it below `folder`, or takes what was trained before; as far as its first `files` files."""
        runs = folder / "runs" / self.name
        for path in runs.iterdir() if runs.is_dir() else ():
            if RunFolder(path).state() == "done":
                return RunFolder(path)
        character = self.made()
        data = folder / "data" / self.name
        if not data.is_dir():
            each = self.steps // FILES * self.batch
            assert each % self.pictures == 0, f"{self.name}: {each} uses an epoch do not divide by {self.pictures}"
            character.write(data / "img", self.pictures, self.character, each // self.pictures)
            character.write(data / "held_out", HELD_OUT, self.character + 10**6, 1)
        config = self.config(data)
        steps = config.train.model_copy(update={"steps": self.steps // FILES * files})
        run = RunFolder.create(runs, config.model_copy(update={"train": steps}))
        assert train.run(run) == 0, f"{self.name}: the training failed"
        return run

    def config(self, data: Path) -> Config:
        """What the engine is told."""
        return validate(Config, {
            "seed": seed_of(0, self.name, self.character) % 2**32,
            "model": {"base": "pocket"},
            "data": {"images": str(data / "img"), "resolution": 64, "buckets": None},
            "network": {"rank": self.rank, "alpha": self.rank, "conv_rank": self.rank, "conv_alpha": self.rank},
            "optimizer": {"type": "adamw", "lr": self.lr},
            "rates": {"unet": self.lr, "text_encoder": self.text * self.lr or None},
            "schedule": {"type": "constant", "warmup": 0},
            "train": {"batch": self.batch, "epochs": FILES, "threads": 1},
            "validation": {"folder": str(data / "held_out")},
            "output": {"name": self.made().trigger},
        })  # fmt: skip


KINDS: dict[str, dict[str, Any]] = {
    "cold": {"lr": 3e-4, "steps": 216},
    "short": {"steps": 108},
    "plain": {},
    "long": {"steps": 648},
    "text": {"text": 2.0},
    "warm": {"lr": 4e-3},
    "hot": {"lr": 8e-3, "steps": 216},
    "few": {"lr": 2e-3, "text": 4.0, "places": 1, "pictures": 4},
    "place": {"lr": 2e-3, "text": 1.0, "places": 1, "pictures": 6, "steps": 648},
}
"""What a person may do: too short, too cold, too hot, too long, too few pictures, all pictures in one place."""


def _listed(first: int, characters: int, counts: dict[str, int]) -> list[Run]:
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    return [Run(f"{kind}-{first + n:02}", first + n % characters, **KINDS[kind]) for n, kind in enumerate(kinds)]


COUNTS = {"plain": 3, "text": 3, "warm": 3, "hot": 2, "few": 2, "short": 2, "cold": 2, "long": 2, "place": 1}
FIT = [*_listed(40, 10, COUNTS), *_listed(60, 10, COUNTS)]
"""The runs that the measures and their weights were made on."""
TABLE = _listed(80, 10, COUNTS)
"""The runs that the verdict was tried on afterwards, each once."""
