"""Ours against a plain diffusers + peft loop (plain.py) on the same job: `python benchmarks/run.py BASE DIFFUSERS`.

BASE is a single-file SD1.5, DIFFUSERS the same weights as a folder. Each engine runs in a process of its own, in turn,
so that both see the same machine; a ratio below 1 means that ours is faster or smaller.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("diffusers", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="no", choices=["no", "bf16"])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        draw(work / "img" / "1_zk9")
        pairs = [(plain(options, work), ours(options, work / f"home{i}", work)) for i in range(options.rounds)]
    for key, better in (("step_s", -1), ("peak_mb", -1), ("first_step_s", -1), ("cached_per_s", 1)):
        theirs, mine = (statistics.median(pair[side][key] for pair in pairs) for side in (0, 1))
        ratio = mine / theirs if better < 0 else theirs / mine
        print(f"{key:14} plain {theirs:10.3f}   ours {mine:10.3f}   ratio {ratio:.2f}")


def draw(folder: Path, count: int = 8) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (256, 256, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"zk9, thing {i}")


def plain(options: argparse.Namespace, work: Path) -> Figures:
    job = {key: getattr(options, key) for key in ("size", "steps", "batch", "precision")}
    job |= {"diffusers": str(options.diffusers), "images": str(work / "img" / "1_zk9")}
    job |= {"rank": 16, "threads": os.cpu_count()}
    (work / "job.json").write_text(json.dumps(job))
    words = [sys.executable, str(Path(__file__).with_name("plain.py")), str(work / "job.json")]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def ours(options: argparse.Namespace, home: Path, work: Path) -> Figures:
    config = {
        "model": {"base": str(options.base)},
        "data": {"images": str(work / "img"), "resolution": options.size, "buckets": None},
        "schedule": {"type": "constant"},
        "train": {"epochs": None, "steps": options.steps, "batch": options.batch, "precision": options.precision},
        "output": {"name": "bench"},
    }
    home.mkdir()
    (home / "config.json").write_text(json.dumps(config))
    environment = {**os.environ, "LIKENESS_HOME": str(home)}
    began = time.time()
    words = [sys.executable, "-m", "trainer", "train", str(home / "config.json")]
    subprocess.run(words, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    events = [json.loads(line) for line in next(home.rglob("events.jsonl")).read_text().splitlines()]
    steps: list[dict[str, Any]] = [event for event in events if event["kind"] == "step"]
    times = [event["time"] for event in steps]
    cached = next(event for event in events if event["kind"] == "cached")
    return {
        "step_s": statistics.median(b - a for a, b in pairwise(times)),
        "peak_mb": max(event["memory"] for event in steps) / 2**20,
        "first_step_s": times[0] - began,
        "cached_per_s": cached["pictures"] / cached["seconds"],
    }


if __name__ == "__main__":
    main()
