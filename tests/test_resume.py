"""kill -9 at any moment, any number of times: the final weights are those of a training that nobody disturbed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.pictures import draw_folder
from tests.tiny import tiny_sd15
from trainer.config import Config
from trainer.runfolder import RunFolder

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"type": "adamw", "lr": 1e-3},
    "adafactor": {"type": "adafactor", "lr": 1e-3},
    "prodigy": {"type": "prodigy"},
}
KILLS = 8
ROOT = Path(__file__).resolve().parents[1]
Told = tuple[RunFolder, RunFolder, dict[str, int]]
"""A training in peace, one that was killed again and again, and how often by each kind of kill."""


def tree(base: Path, images: Path) -> dict[str, Any]:
    """A small training with every kind of draw; 16 steps of 2 batches, in 4 epochs."""
    return {
        "model": {"base": str(base)},
        "data": {"images": str(images), "resolution": 64, "buckets": None, "flip": True, "workers": 0},
        "captions": {"shuffle": True, "dropout": 0.2, "tag_dropout": 0.2},
        "network": {
            "rank": 2,
            "alpha": 2,
            "dropout": 0.1,
            "rank_dropout": 0.1,
            "module_dropout": 0.1,
            "max_norm": 0.5,
        },
        "objective": {"noise": {"type": "offset"}, "perturbation": 0.1},
        "train": {"epochs": 4, "batch": 2, "accumulate": 2, "threads": 1, "device": "cpu"},
        "save": {"state_minutes": 0, "precision": "fp32"},
        "output": {"name": "zk9"},
        "schedule": {"type": "cosine", "warmup": 2},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """What happened, by optimizer."""
    place = tmp_path_factory.mktemp("resume")
    small = tree(tiny_sd15(place), draw_folder(place / "img", {"2_zk9 thing": 8}))
    pairs = {
        name: [
            RunFolder.create(place / name / mood, Config.model_validate({**small, "optimizer": optimizer}))
            for mood in ("calm", "harried")
        ]
        for name, optimizer in sorted(OPTIMIZERS.items())
    }
    words = ["-m", "tests.killer", str(KILLS), *(str(run.path) for pair in pairs.values() for run in pair)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_HOME", str(place / "home"))
        done = subprocess.run([sys.executable, *words], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    killed = json.loads(done.stdout.splitlines()[-1])
    return {name: (calm, harried, told) for (name, (calm, harried)), told in zip(pairs.items(), killed, strict=True)}


def final(folder: RunFolder) -> dict[str, bytes]:
    tensors = load_file(folder.checkpoints / "zk9.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_killed_again_and_again(optimizer: str, trained: dict[str, Told]) -> None:
    calm, harried, killed = trained[optimizer]
    assert sum(killed.values()) >= KILLS - 1 and killed["at the disk"] >= 2, killed
    assert final(calm) == final(harried)
    assert harried.state() == "done"
    starts = [event["step"] for event in harried.events() if event["kind"] == "start"]
    assert starts == sorted(starts)
    assert any(start % 4 for start in starts), "no start in the middle of an epoch"
