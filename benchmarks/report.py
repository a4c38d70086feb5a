"""The doctor's rate and memory on thousands of pictures: `python benchmarks/report.py [--pictures N]`.

A mix as people have it: phone photos of 2048 x 1536, smaller ones from the network, PNG screenshots and crops. A few
dozen pictures are drawn; the others are copies whose last bytes differ, opened and decoded like any other.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DRAWN = 30
LIMIT = 180  # seconds for 5,000 pictures
LOOK = """
import json, resource, sys, time
from trainer.doctor.options import Doctor
from trainer.doctor.report import report
began = time.monotonic(), time.process_time()
found = report(Doctor(folder=sys.argv[1]))
spent = time.monotonic() - began[0], time.process_time() - began[1]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
json_size = len(json.dumps(found.to_json()))
print(json.dumps({"pictures": found.pictures, "seconds": spent[0], "work": spent[1], "peak": peak, "json": json_size}))
"""


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--pictures", type=int, default=5000)
    given = words.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    load = f", load before {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{datetime.date.today()}, {platform.machine()}, {os.cpu_count()} cores{load}, commit {commit.strip()}")
    with tempfile.TemporaryDirectory() as place:
        drawn = draw(Path(place) / "drawn")
        print("| pictures | seconds | pictures a second | processor seconds | peak memory, MB | report, MB |")
        print(f"|{' --- |' * 6}")
        for count in (given.pictures // 10, given.pictures):
            folder = copies(drawn, Path(place) / str(count), count)
            told = look(folder)
            rate, size = told["pictures"] / told["seconds"], told["json"] / 1e6
            cells = (
                f"{told['seconds']:.0f}",
                f"{rate:.1f}",
                f"{told['work']:.0f}",
                f"{told['peak']:.0f}",
                f"{size:.1f}",
            )
            print(f"| {told['pictures']:,} | {' | '.join(cells)} |", flush=True)
        print(f"goal for 5,000: below {LIMIT} s, {5000 / LIMIT:.0f} pictures a second")


def draw(folder: Path) -> list[Path]:
    """The pictures that are copied: every third a phone photo, every sixth a PNG."""
    folder.mkdir()
    made: list[Path] = []
    for number in range(DRAWN):
        dice = np.random.default_rng(number)
        size = (2048, 1536) if number % 3 == 0 else [(1024, 1536), (1200, 900), (768, 1152)][number % 3 - 1]
        shapes = Image.fromarray(dice.integers(0, 256, (24, 32, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        fine = Image.fromarray(dice.integers(80, 176, (size[1] // 3, size[0] // 3), np.uint8)).resize(size)
        values = np.asarray(shapes, np.float32) * (np.asarray(fine, np.float32)[:, :, None] / 128)
        values += dice.normal(0, 4, (size[1], size[0], 1)).astype(np.float32)
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
        file = folder / (f"{number}.png" if number % 6 == 5 else f"{number}.jpg")
        image.crop((0, 0, 640, 640)).save(file) if number % 6 == 5 else image.save(file, quality=88)
        made.append(file)
    return made


def copies(drawn: list[Path], folder: Path, count: int) -> Path:
    """A data set of so many pictures, and captions."""
    place = folder / "1_zk9"
    place.mkdir(parents=True)
    for number in range(count):
        source = drawn[number % len(drawn)]
        copy = place / f"{number:05}{source.suffix}"
        copy.write_bytes(source.read_bytes() + number.to_bytes(8, "big"))
        copy.with_suffix(".txt").write_text(f"zk9, 1girl, portrait, thing {number}, smile, outdoors")
    return folder


def look(folder: Path) -> dict[str, float]:
    """Figures of a report, made in a process of its own, so that its memory is its own."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"all in all {time.monotonic() - began:.0f} s")
