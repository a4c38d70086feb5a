"""Draws the demo data set in zk9/: 12 pictures of one character, and ordinary pictures to hold everything else.

    python -m trainer.pocket.demo

The folders follow the Kohya layout: `img/10_zk9 creature` is seen ten times an epoch, `reg/1_things` once.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from trainer.pocket.creatures import TRIGGER, ZK9
from trainer.pocket.draw import PLACES, Drawn, one_creature, one_shape, paint_creature

FOLDER = Path(__file__).with_name("zk9")
SIZE = 128  # twice what the pocket model paints, so that thumbnails look well


def subject(count: int = 12) -> list[Drawn]:
    """zk9 in every place, captioned by trigger, class and place."""
    places = [list(PLACES)[i % len(PLACES)] for i in range(count)]
    return [
        Drawn(paint_creature(f"zk9 {i}", ZK9, place, SIZE), f"{TRIGGER}, a creature {place}")
        for i, place in enumerate(places)
    ]


def ordinary(count: int = 120) -> list[Drawn]:
    """Shapes and, twice as many, other creatures, as the base model knows them."""
    return [(one_shape, one_creature, one_creature)[i % 3](f"reg {i}", SIZE) for i in range(count)]


def write(folder: Path, drawn: list[Drawn]) -> list[dict[str, str]]:
    """Writes pictures with their captions beside them; returns a row for each."""
    folder.mkdir(parents=True)
    rows = []
    for number, item in enumerate(drawn, start=1):
        file = folder / f"{number:03}.png"
        item.picture.save(file, optimize=True)
        file.with_suffix(".txt").write_text(item.caption + "\n")
        rows.append({"file": file.relative_to(FOLDER).as_posix(), "caption": item.caption})
    return rows


def main() -> None:
    """Draws the whole set anew."""
    for part in ("img", "reg"):
        shutil.rmtree(FOLDER / part, ignore_errors=True)
    rows = write(FOLDER / "img" / f"10_{TRIGGER} creature", subject()) + write(FOLDER / "reg" / "1_things", ordinary())
    (FOLDER / "list.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
