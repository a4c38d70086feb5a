"""Memory and time of the tools for LoRA and model files: `python benchmarks/tools.py [--family sdxl] [--extract]`.

The base model has full size and random weights, made here (SD1.5 2.1 GB, SDXL 6.9 GB; three times that on the disk
while it runs). Each tool runs in a process of its own. Memory is the most that the process held, less what it held
before the tool began, as a share of the largest file that was read or written.
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
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.golden.make_base import write_base  # noqa: E402
from trainer.tools.checkpoints import spots  # noqa: E402

CHILD = """
import json, sys, threading, time
import psutil
import trainer.tools.average, trainer.tools.convert, trainer.tools.convert_model, trainer.tools.extract
import trainer.tools.merge, trainer.tools.resize
from trainer.tools import options
from trainer.tools.command import run_tool
kind, given = json.loads(sys.argv[1])
process = psutil.Process()
before = most = process.memory_info().rss
def watch():
    global most
    while True:
        most = max(most, process.memory_info().rss)
        time.sleep(0.005)
threading.Thread(target=watch, daemon=True).start()
began = time.perf_counter()
run_tool(getattr(options, kind).model_validate(given))
print(json.dumps([most - before, time.perf_counter() - began]))
"""
RANK = 64


def main() -> None:
    """Prints a row for each tool."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--family", choices=("sd15", "sdxl"), default="sd15")
    words.add_argument("--extract", action="store_true", help="extraction too, which takes minutes")
    words.add_argument("--folder", help="where the files are made, instead of the system's folder for such")
    given = words.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{datetime.date.today()}, {platform.processor()}, {os.cpu_count()} cores, commit {commit.strip()}")
    print(
        "| tool | largest file | memory beyond it was begun with | share | seconds |\n| --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        measure(Path(place), given.family, given.extract)


def measure(folder: Path, family: str, extract: bool) -> None:
    """Makes the files, and runs each tool on them."""
    base, one, other = (str(folder / f"{name}.safetensors") for name in ("base", "one", "other"))
    write_base(family, Path(base))
    for path in (one, other):
        save_file(lora_for(family), path, {"ss_session_id": "1"})
    size = {path: Path(path).stat().st_size for path in (base, one)}
    merged = str(folder / "merged.safetensors")
    into = {"sd_model": base, "models": [one], "save_to": merged, "save_precision": "keep"}
    row("merge into a checkpoint", "Merge", into, size[base])
    if extract:
        options = {
            "model_org": base,
            "model_tuned": merged,
            "dim": 16,
            "conv_dim": 0,
            "save_to": "out",
            "overwrite": True,
        }
        row("extract, rank 16", "Extract", {**options, "min_diff": 0}, size[base])
    os.unlink(merged)
    row("checkpoint to folder", "ConvertModel", {"model": base, "save_to": "folder"}, size[base])
    os.unlink(base)
    back = {"model": str(folder / "folder"), "form": "safetensors", "save_to": base}
    row("folder to checkpoint", "ConvertModel", back, size[base])
    save = {"save_to": str(folder / "out"), "save_precision": "keep", "overwrite": True}
    row("sum of two LoRAs", "Merge", {**save, "models": [one, other]}, 2 * size[one])
    row(
        f"the same, to rank {RANK}",
        "Merge",
        {**save, "models": [one, other], "method": "svd", "new_rank": RANK},
        size[one],
    )
    row("resize", "Resize", {**save, "model": one, "new_rank": 32}, size[one])
    row("average of two", "Average", {**save, "models": [one, other]}, size[one])
    row("kohya to diffusers", "Convert", {**save, "model": one}, size[one])


def lora_for(family: str) -> dict[str, torch.Tensor]:
    """A LoRA of random numbers in fp16."""
    tensors = {}
    for name, spot in spots(family).items():
        if spot.kind == "lora":
            ones = (1,) * (len(spot.shape) - 2)
            tensors[f"{name}.lora_down.weight"] = torch.rand(RANK, *spot.shape[1:]).half() * 0.01
            tensors[f"{name}.lora_up.weight"] = torch.rand(spot.shape[0], RANK, *ones).half() * 0.01
    return tensors


def row(title: str, kind: str, options: dict[str, object], size: int) -> None:
    """Runs a tool in a process of its own and prints its figures."""
    words = [sys.executable, "-c", CHILD, json.dumps([kind, options])]
    told = subprocess.run(words, check=True, cwd=ROOT, capture_output=True, text=True).stdout
    grown, seconds = json.loads(told)
    print(
        f"| {title} | {size / 1e6:,.0f} MB | {grown / 1e6:,.0f} MB | {grown / size:.2f} | {seconds:.1f} |", flush=True
    )


if __name__ == "__main__":
    main()
