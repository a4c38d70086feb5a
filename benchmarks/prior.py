"""What each way of keeping the rest saves from spill: `python -m benchmarks.prior`, with .venv's Python.

The shipped demo is trained on the pocket model with nothing to keep, with its regularisation pictures, and with the
model's own view of the trained pictures (`objective.prior`), each as often as the pictures of zk9 are seen in the demo.
Then every LoRA paints twenty prompts with the trigger and twenty without; how far the latter moved from what the base
model paints, as mean absolute difference of pixels, is the spill.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from trainer import configio
from trainer.config import Captions, Lora, Model, Rates
from trainer.families import load_family
from trainer.networks.lora import LoraNetwork
from trainer.pocket.check import found, plain_prompts, trigger_prompts
from trainer.pocket.sampler import paint
from trainer.runfolder import RunFolder
from trainer.train import run

OWN = ["data.reg=null", "objective.prior=trained"]
WAYS: dict[str, list[str]] = {
    "nothing": ["data.reg=null", "objective.prior=pictures"],
    "trained, weight 1": [*OWN, "objective.prior_weight=1"],
    "trained, weight 30": OWN,
    "trained, weight 30, all but zk9": [*OWN, "objective.prior_words=zk9"],
    "reg pictures, as the model sees them": [],
}
QUIET = ["sample.prompts=[]", "save.every_epochs=null"]
Pictures = list[Image.Image]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seeds", type=int, default=1)
    words.add_argument("--ways", nargs="*", default=[*WAYS])
    given = words.parse_args()
    print(f"{datetime.date.today()}, {os.cpu_count()} cores", flush=True)
    base = painted(None)
    with tempfile.TemporaryDirectory() as place:
        os.environ["LIKENESS_HOME"] = place
        for way in given.ways:
            for seed in range(given.seeds):
                began = time.process_time()
                asked, plain = painted(trained(Path(place) / f"{way} {seed}", [*WAYS[way], f"seed={seed}"]))
                shown, spilt, moved = sum(map(found, asked)), apart(base[1], plain), apart(base[0], asked)
                took = time.process_time() - began
                said = f"zk9 in {shown} of {len(asked)}, moved by {moved:.1f} of 255; plain prompts by {spilt:.1f}"
                print(f"{way}, seed {seed}: {said}; {took:.0f} s of core", flush=True)


def trained(folder: Path, flags: list[str]) -> Path:
    """A LoRA of the demo, with changes."""
    made = RunFolder.create(folder, configio.load("demo", [*QUIET, *flags]))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = run(made)
    if code:
        raise SystemExit(made.log.read_text())
    return made.checkpoints / "zk9.safetensors"


def painted(lora: Path | None) -> tuple[Pictures, Pictures]:
    """Pictures with the trigger and without, by the pocket model alone or with a LoRA."""
    family = load_family(Model(), torch.device("cpu"), torch.float32, Captions(), say=lambda line: None)
    if lora:
        LoraNetwork.attach(family, Lora(start_from=str(lora), rank_from_file=True), Rates(), seed=0).eval()
    models = family.unet, family.vae, family.text_encoders[0]
    return paint(*models, trigger_prompts()), paint(*models, plain_prompts())


def apart(one: Pictures, two: Pictures) -> float:
    """Mean absolute difference of pixels, 0 to 255."""
    pairs = zip(one, two, strict=True)
    return float(np.mean([np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean() for a, b in pairs]))


if __name__ == "__main__":
    main()
