"""Is the verdict right? Runs on made characters, whose true scores the verdict never sees.

    python -m benchmarks.truth.bench run FOLDER [--part 1/2]    trains, draws and measures; goes on where it was ended
    python -m benchmarks.truth.bench weights FOLDER             the weights that would suit the FIT runs best
    python -m benchmarks.truth.bench table FOLDER               writes results.json and prints the table

About three minutes a run on one core. The weights in trainer/verdict/scores.py were fixed on FIT; TABLE came after.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from trainer.compare.options import Look
from trainer.compare.painter import Painter
from trainer.compare.shelf import checkpoints_of
from trainer.compare.shot import Stage
from trainer.durable import write_json
from trainer.runfolder import RunFolder
from trainer.verdict.options import Compare
from trainer.verdict.run import run as compare

from .measure import CLOSELY, ROUGHLY, merged, true_score
from .runs import FILES, FIT, TABLE, Run

RESULTS = Path(__file__).with_name("results.json")
STRENGTHS = (1.0, 0.7)
NEAR = 0.95
"""A pick is right when its true score is at least this share of the best file's."""


def options(run: RunFolder) -> Compare:
    """What the verdict is asked; the pocket model needs few steps and little guidance."""
    return Compare(
        folder=str(run.path), strengths=STRENGTHS, average=False, finalists=FILES, steps=8, cfg=4, questions=4, seeds=6, batch=24,
        device="cpu", precision="fp32",
    )  # fmt: skip


def painter() -> Painter:
    """The pocket model, loaded once."""
    made = Painter(Look(device="cpu", precision="fp32"), lambda text: None)
    made.load(Stage(Look()).base("pocket"))[0].unet.to(memory_format=torch.channels_last)
    return made


def measure(run: Run, folder: Path, paint: Painter) -> dict[str, Any]:
    """Everything about a run: the truth of each candidate, and what the verdict says."""
    trained = run.train(folder)
    base, character = Stage(Look()).base("pocket"), run.made()
    counts = ROUGHLY if run in FIT else CLOSELY
    truth = []
    for file in checkpoints_of(str(trained.path)):
        for strength in STRENGTHS:
            with merged(paint, base, file, strength) as family:
                found = true_score(family, character, counts)
            told = {"file": file.name, "strength": strength, "shown": found.shown, "plain": found.plain}
            truth.append({**told, "truth": found.score})
    said = compare(options(trained), painter=paint).to_json()
    rows = [{key: row[key] for key in ("label", "strength", "scores", "values", "epoch")} for row in said["rows"]]
    best = said["verdict"]["best"]
    return {"run": run.name, "truth": truth, "rows": rows, "best": best, "sentence": said["summary"]}


def run_all(folder: Path, part: int, parts: int) -> None:
    """Every run of a part that is not measured yet."""
    paint = painter()
    for place, run in enumerate([*TABLE, *FIT]):
        file = folder / "results" / f"{run.name}.json"
        if place % parts == part - 1 and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, measure(run, folder, paint))
            print(f"{run.name}: measured", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["run", "weights", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", default="1/1")
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("LIKENESS_HOME", str(given.folder / "home"))
    if given.stage == "run":
        part, parts = map(int, given.part.split("/"))
        run_all(given.folder, part, parts)


if __name__ == "__main__":
    main()
