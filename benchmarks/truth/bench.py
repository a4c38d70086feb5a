"""Is the verdict right? Runs on made characters, whose true scores the verdict never sees.

    python -m benchmarks.truth.bench run FOLDER [--part 1/2]    trains, draws and measures; goes on where it was ended
    python -m benchmarks.truth.bench weights FOLDER             the weights that would suit the FIT runs best
    python -m benchmarks.truth.bench table FOLDER               writes results.json and prints the table

About five minutes a run on one core. The measures and their weights were made on FIT; TABLE came after.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from trainer.compare.options import Look
from trainer.compare.painter import Painter
from trainer.compare.shelf import checkpoints_of
from trainer.compare.shot import Stage
from trainer.durable import read_json, write_json
from trainer.runfolder import RunFolder
from trainer.verdict.diagnosis import Facts
from trainer.verdict.options import Compare
from trainer.verdict.run import run as compare
from trainer.verdict.scores import MEASURES, Row, total
from trainer.verdict.verdict import judge

from .measure import PLAIN, Truth, merged
from .runs import FILES, FIT, TABLE, Run

RESULTS = Path(__file__).with_name("results.json")
STRENGTHS = (1.0, 0.7)
ROUNDS, CONTENDER = 4, 0.85
"""Rounds of pictures for the truth; from the second on for those with at least this share of the best one's."""
NEAR = 0.95
"""A pick is right when its true score is at least this share of the best file's."""


def options(run: RunFolder) -> Compare:
    """What the verdict is asked; the pocket model needs few steps and little guidance."""
    asked = {"questions": 4, "seeds": 4, "steps": 8, "cfg": 4, "batch": 24, "device": "cpu", "precision": "fp32"}
    return Compare(folder=str(run.path), strengths=STRENGTHS, average=False, finalists=FILES, **asked)


def painter() -> Painter:
    """The pocket model, loaded once."""
    made = Painter(Look(device="cpu", precision="fp32"), lambda text: None)
    made.load(Stage(Look()).base("pocket"))[0].unet.to(memory_format=torch.channels_last)
    return made


def measure(run: Run, folder: Path, paint: Painter) -> dict[str, Any]:
    """Everything about a run: the truth of each candidate, and what the verdict says."""
    trained = run.train(folder)
    file = trained.path / "truth.json"
    if not file.exists():
        write_json(file, truth_of(run, trained, paint))
    said = compare(options(trained), painter=paint).to_json()
    rows = [{key: row[key] for key in ("label", "strength", "scores", "values", "epoch")} for row in said["rows"]]
    told = {"run": run.name, "truth": read_json(file), "rows": rows, "best": said["verdict"]["best"]}
    return {**told, "sentence": said["summary"], "diagnosis": said["verdict"]["diagnosis"]}


def truth_of(run: Run, trained: RunFolder, paint: Painter) -> list[dict[str, Any]]:
    """The truth of every file at every strength; of those that may be the best from up to four times the pictures."""
    base, character = Stage(Look()).base("pocket"), run.made()
    found = {(file, strength): Truth() for file in checkpoints_of(str(trained.path)) for strength in STRENGTHS}
    for number in range(ROUNDS):
        best = max(truth.score for truth in found.values()) if number else 0.0
        for (file, strength), truth in found.items():
            if number == 0 or (len(truth.plain) == number * PLAIN and truth.score >= CONTENDER * best):
                with merged(paint, base, file, strength) as family:
                    truth.look(family, character, number)
    return [
        {"label": file.stem, "strength": strength, "truth": truth.score, "pictures": len(truth.shown + truth.plain),
         "shown": fmean(truth.shown), "plain": fmean(truth.plain)}
        for (file, strength), truth in found.items()
    ]  # fmt: skip


def run_all(folder: Path, part: int, parts: int) -> None:
    """Every run of a part that is not measured yet."""
    paint = painter()
    for place, run in enumerate([*TABLE, *FIT]):
        file = folder / "results" / f"{run.name}.json"
        if place % parts == part - 1 and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, measure(run, folder, paint))
            print(f"{run.name}: measured", flush=True)


# Which picks are right


def judged(result: dict[str, Any]) -> dict[str, Any]:
    """A run as the table has it: candidates with their truth and scores, and what each way of picking is worth.

    Worth: the true score of what is picked, in shares of the best file's.
    """
    truth = {(one["label"], one["strength"]): one for one in result["truth"]}
    rows = [
        Row(row["label"], row["label"], row["strength"], row["epoch"], values=row["values"], losses=row["scores"])
        for row in result["rows"]
    ]
    best = max(one["truth"] for one in truth.values())
    full = [row for row in rows if row.strength == STRENGTHS[0]]  # as they were saved, in the order of saving
    verdict = judge(rows, Facts())
    picks = {
        "verdict": verdict.best,
        "last file": full[-1],
        "lowest training loss": _lowest(full, "train_loss"),
        "lowest held-out loss": _lowest(full, "held_out_loss"),
    }
    worth = {way: truth[row.label, row.strength]["truth"] / best for way, row in picks.items() if row}
    worth["random"] = float(np.mean([one["truth"] >= NEAR * best for one in truth.values()]))
    candidates = [
        {**truth[row.label, row.strength], "total": row.total, **{name: row.scores[name] for name in MEASURES}}
        for row in rows
    ]
    said = {"sentence": verdict.sentence, "diagnosis": verdict.diagnosis, "sureness": verdict.sureness}
    pick = {"label": verdict.best.label, "strength": verdict.best.strength} if verdict.best else None
    return rounded({"run": result["run"], "worth": worth, "pick": pick, **said, "candidates": candidates})


def _lowest(rows: Sequence[Row], loss: str) -> Row:
    return min(rows, key=lambda row: row.losses.get(loss) or float("inf"))


def rounded(told: Any) -> Any:
    """Numbers to four places, so that the file is small."""
    if isinstance(told, dict):
        return {key: rounded(value) for key, value in told.items()}
    if isinstance(told, list):
        return [rounded(value) for value in told]
    return round(told, 4) if isinstance(told, float) else told


WAYS = ("verdict", "last file", "lowest training loss", "lowest held-out loss", "random")


def table(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each run, and how often each way of picking was right."""
    lines = ["| run | " + " | ".join(WAYS) + " |", "| --- |" + " --- |" * len(WAYS)]
    for run in runs:
        shares = [f"{run['worth'][way]:.2f}" for way in WAYS[:-1]] + [f"{run['worth']['random']:.0%}"]
        lines.append(f"| {run['run']} | " + " | ".join(shares) + " |")
    rights = [f"{share:.0%}" for share in right(runs).values()]
    means = [f"{np.mean([run['worth'][way] for run in runs]):.2f}" for way in WAYS[:-1]]
    lines.append(f"| **within 5 % of the best** | {' | '.join(rights)} |")
    return "\n".join([*lines, f"| **worth on average** | {' | '.join(means)} | |"])


def right(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """For each way of picking the share of runs in which it was right; by chance the share of candidates."""
    shares = {way: float(np.mean([run["worth"][way] >= NEAR for run in runs])) for way in WAYS[:-1]}
    return {**shares, "random": float(np.mean([run["worth"]["random"] for run in runs]))}


def best_weights(results: Sequence[dict[str, Any]], tries: int = 4000) -> list[tuple[float, dict[str, float]]]:
    """The weights under which picks are worth most on average, found by chance; the ten best."""
    draw, found = np.random.default_rng(0), []
    for _ in range(tries):
        weights = {name: float(draw.choice([0, 0.05, 0.1, 0.2, 0.4, 0.6, 1])) for name in MEASURES} | {"likeness": 1.0}
        worth = []
        for result in results:
            told = [row["scores"] for row in result["rows"]]
            seen = [{name: one[name] for name in MEASURES if one[name] is not None} for one in told]
            totals = [total(scores, weights) for scores in seen]
            truth = {(one["label"], one["strength"]): one["truth"] for one in result["truth"]}
            pick = result["rows"][int(np.argmax(totals))]
            worth.append(truth[pick["label"], pick["strength"]] / max(truth.values()))
        found.append((float(np.mean(worth)), weights))
    return sorted(found, key=lambda one: -one[0])[:10]


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
    elif given.stage == "weights":
        for worth, weights in best_weights(measured(given.folder, FIT)):
            print(f"{worth:.3f}", weights)
    else:
        results = [judged(one) for one in measured(given.folder, TABLE)]
        write_json(RESULTS, results)
        print(table(results))


def measured(folder: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Those of the runs that are measured."""
    files = [folder / "results" / f"{run.name}.json" for run in runs]
    return [read_json(file) for file in files if file.exists()]


if __name__ == "__main__":
    main()
