"""Full-size models with random weights train within their memory: `pytest -m slow tests/test_full_size.py`, minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.golden.make_base import write_base
from tests.pictures import draw_folder
from trainer.runfolder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
LIMITS: dict[str, tuple[float, dict[str, Any]]] = {
    # family: (bytes, options beside 128 pixels and 5 steps)
    "sd15": (8e9, {"train": {"precision": "no"}}),
    "sdxl": (16e9, {"train": {"precision": "bf16"}, "save": {"precision": "bf16"}}),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", LIMITS)
def test_five_steps_fit(family: str, tmp_path: Path) -> None:
    limit, options = LIMITS[family]
    base = tmp_path / f"{family}.safetensors"
    write_base(family, base)
    images = draw_folder(tmp_path / "img", {"1_zk9": 4}, size=(128, 128))
    tree = {
        "model": {"base": str(base)},
        "data": {"images": str(images), "resolution": 128, "buckets": None},
        "train": {"epochs": None, "steps": 5, **options.pop("train")},
        "output": {"name": "full"},
        **options,
    }
    (tmp_path / "config.json").write_text(json.dumps(tree))
    environment = {**os.environ, "LIKENESS_HOME": str(tmp_path / "home")}
    began = time.time()
    words = [sys.executable, "-m", "trainer", "train", str(tmp_path / "config.json")]
    subprocess.run(words, check=True, cwd=ROOT, env=environment)
    folder = RunFolder(next((tmp_path / "home" / "runs").iterdir()))
    steps = [event for event in folder.events() if event["kind"] == "step"]
    peak = max(event["memory"] for event in steps)
    per_step = (steps[-1]["time"] - steps[0]["time"]) / 4
    print(
        f"{family}: peak {peak / 1e9:.2f} GB, first step after {steps[0]['time'] - began:.1f} s, {per_step:.2f} s/step"
    )
    assert len(steps) == 5
    assert peak <= limit
