"""Whole trainings on tiny models: what they leave behind, how they stop, and what they say when something is wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import trainer.train
from tests.conftest import Train, Tree
from trainer import durable
from trainer.config import Config
from trainer.optimizers import Scaler
from trainer.runfolder import RunFolder
from trainer.train import run
from trainer.tree import overlay

GOLDEN = Path(__file__).parent / "golden" / "losses.json"
KINDS: dict[str, Tree] = {
    "sd15 lora": {},
    "sd15 locon": {"network": {"conv_rank": 1}},
    "sd15 v": {"model": {"prediction": "v", "zero_terminal_snr": True}},
    "sdxl lora": {"model": {"base": "sdxl"}},
}


def losses(folder: RunFolder) -> list[float]:
    return [event["loss"] for event in folder.events() if event["kind"] == "step"]


def kinds(folder: RunFolder) -> list[str]:
    return [event["kind"] for event in folder.events()]


def start(folder: RunFolder) -> dict[str, Any]:
    return next(event for event in folder.events() if event["kind"] == "start")


def last(folder: RunFolder) -> dict[str, Any]:
    return folder.events()[-1]


def weights(folder: RunFolder, name: str = "zk9.safetensors") -> dict[str, torch.Tensor]:
    return load_file(folder.checkpoints / name)


@pytest.mark.parametrize("kind", KINDS)
def test_golden_losses(kind: str, train: Train, bases: dict[str, Path]) -> None:
    """A change that moves these must say why. Written by `LIKENESS_GOLDEN=write`."""
    base = bases[KINDS[kind].get("model", {}).get("base", "sd15")]
    changes = overlay({"train": {"steps": 6, "batch": 2}}, KINDS[kind])
    found = losses(train(overlay(changes, {"model": {"base": str(base)}})))
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("LIKENESS_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps({**golden, kind: found}, indent=1) + "\n")
    else:
        assert found == pytest.approx(golden[kind], rel=1e-4)  # processors round apart: 2e-5 was seen


def test_what_a_training_leaves_behind(train: Train, tmp_path: Path) -> None:
    output = tmp_path / "model"
    folder = train(
        {
            "train": {"epochs": 2, "steps": None, "batch": 4},
            "sample": {"prompts": ["zk9 thing --s 2"], "every_epochs": 1, "first": True},
            "validation": {"share": 0.2},
            "save": {"every_steps": 3, "precision": "fp16"},
            "output": {"folder": str(output), "logging": str(tmp_path / "log"), "comment": "trigger: zk9"},
        }
    )
    names = {path.name for path in folder.checkpoints.iterdir()}
    assert names == {"zk9-000001.safetensors", "zk9-step00000003.safetensors", "zk9.safetensors"}
    assert {path.name for path in output.glob("*.safetensors")} == names
    assert len(list(folder.samples.glob("zk9_e*.png"))) == len(list((output / "sample").glob("*.png"))) == 3
    assert list((tmp_path / "log").rglob("events.out.tfevents.*"))
    assert folder.state() == "done"
    assert {"start", "step", "epoch", "validation", "sample", "checkpoint", "done"} <= set(kinds(folder))
    with safe_open(folder.checkpoints / "zk9.safetensors", "pt") as file:
        words = file.metadata()
        assert file.get_tensor(next(iter(file.keys()))).dtype == torch.float16
    assert words["ss_training_comment"] == "trigger: zk9"
    assert words["ss_steps"] == str(start(folder)["steps"])
    assert json.loads(words["ss_dataset_dirs"])["2_zk9 thing"]["n_repeats"] == 2
    assert len(words["ss_new_sd_model_hash"]) == 64
    assert str(tmp_path) not in json.dumps(words)


def test_a_part_that_is_off_leaves_no_tensors(train: Train) -> None:
    """sd-scripts saves text encoder modules at rate 0 as idle tensors, and reports the U-Net's rate as theirs."""
    folder = train({"rates": {"text_encoder": None}})
    assert all(name.startswith("lora_unet_") for name in weights(folder))
    steps = [event for event in folder.events() if event["kind"] == "step"]
    assert list(steps[0]["lr"]) == ["unet"]
    assert all(name.startswith("lora_te_") for name in weights(train({"rates": {"unet": None}})))


def test_a_picture_larger_than_the_resolution_needs_no_buckets_and_no_cache(train: Train) -> None:
    """sd-scripts stops at that picture's turn, in the middle of a training."""
    folder = train({"data": {"cache_latents": False, "crop": "random", "color_aug": True, "workers": 2}})
    assert last(folder)["kind"] == "done"


def test_stop_saves_and_goes_on_exactly(train: Train, small: Tree, tmp_path: Path) -> None:
    changes = {"train": {"steps": 5}, "captions": {"shuffle": True}}
    whole = weights(train(changes))
    folder = RunFolder.create(tmp_path / "stopped", Config.model_validate(overlay(small, changes)))
    folder.send("stop")
    assert run(folder) == 0
    assert last(folder) | {"kind": "stopped", "reason": "stop", "step": 1} == last(folder)
    assert (folder.checkpoints / "zk9-step00000001.safetensors").exists()
    folder.send("pause")
    assert run(folder) == 0
    assert last(folder)["reason"] == "pause"
    assert run(folder) == 0
    assert folder.state() == "done"
    assert all(torch.equal(whole[name], tensor) for name, tensor in weights(folder).items())
    before = folder.events()
    assert run(folder) == 0 and folder.events() == before, "a finished run is finished"


def test_save_and_sample_on_request(small: Tree, tmp_path: Path) -> None:
    tree = overlay(small, {"train": {"steps": 3}, "sample": {"prompts": ["zk9 --s 2"]}})
    folder = RunFolder.create(tmp_path, Config.model_validate(tree))
    folder.send("sample")
    folder.send("save")
    assert run(folder) == 0
    assert (folder.checkpoints / "zk9-step00000001.safetensors").exists()
    assert len(list(folder.samples.iterdir())) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_ctrl_c_stops_and_saves(number: signal.Signals, small: Tree, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, Config.model_validate(overlay(small, {"train": {"steps": 200}})))
    before = signal.signal(number, signal.SIG_DFL)  # a shell that starts us in the background has SIGINT ignored

    def press() -> None:
        while not any(event["kind"] == "step" for event in folder.events()):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        assert run(folder) == 0
    finally:
        presser.join()
        signal.signal(number, before)
    assert last(folder)["kind"] == "stopped"
    assert list(folder.states.iterdir()) and list(folder.checkpoints.iterdir())


def test_a_loss_that_is_no_number_stops_before_the_weights_are_spoilt(train: Train) -> None:
    folder = train({"optimizer": {"lr": 1.0}, "rates": {"unet": 1e30}, "train": {"steps": 9, "clip": None}}, expect=2)
    error = last(folder)
    assert error["kind"] == "error" and "the loss is" in error["text"] and "Lower optimizer.lr" in error["text"]
    assert all(math.isfinite(loss) for loss in losses(folder))
    assert "Traceback" not in folder.log.read_text()
    assert all(tensor.isfinite().all() for file in folder.checkpoints.iterdir() for tensor in load_file(file).values())


def test_what_was_learned_before_a_bad_step_is_kept(train: Train, monkeypatch: Any) -> None:
    count = 0
    real = trainer.train.micro_loss

    def spoil(*rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal count
        count += 1
        loss, each = real(*rest)
        return loss * (float("nan") if count == 4 else 1), each  # the rehearsal is the first

    monkeypatch.setattr("trainer.train.micro_loss", spoil)
    folder = train({"train": {"steps": 5}}, expect=2)
    assert (folder.checkpoints / "zk9-step00000002.safetensors").exists()
    assert [state.name for state in folder.states.iterdir()] == ["00000002"]
    assert ".png" in last(folder)["text"]


def test_a_gradient_that_is_no_number_is_as_bad(train: Train, monkeypatch: Any) -> None:
    monkeypatch.setattr("trainer.train.clip", lambda *_: torch.tensor(float("inf")))
    assert "the gradient inf" in last(train(expect=2))["text"]


def test_ctrl_c_before_the_first_step_ends_at_once(train: Train, monkeypatch: Any) -> None:
    def press(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr("trainer.train.rehearse", press)
    folder = train()
    assert last(folder)["kind"] == "stopped" and "step" not in kinds(folder)


def test_an_overflow_in_fp16_skips_the_step_and_the_schedule(train: Train, monkeypatch: Any) -> None:
    monkeypatch.setattr("trainer.work.Scaler", partial(Scaler, init_scale=2.0**60, growth_interval=10**6))
    options = {"type": "adafactor", "lr": None}
    change = {"train": {"precision": "fp16", "steps": 3}, "optimizer": options, "schedule": {"type": "adafactor"}}
    assert train(change).state() == "done"


def test_a_full_disk_is_told_and_loses_nothing(train: Train, small: Tree, tmp_path: Path, monkeypatch: Any) -> None:
    """The second of two saves fails; the first stays whole, and the training can go on from its state."""
    tree = overlay(small, {"train": {"steps": 4}, "save": {"every_steps": 1, "state_minutes": 0}})
    folder = RunFolder.create(tmp_path / "full", Config.model_validate(tree))
    whole = weights(train(overlay(tree, {})))
    durable._calls.clear()
    monkeypatch.setenv("LIKENESS_FAULT", "rename:9:ENOSPC")
    assert run(folder) == 2
    assert "No space left on device" in last(folder)["text"]
    for file in folder.checkpoints.glob("*.safetensors"):
        assert load_file(file)
    monkeypatch.delenv("LIKENESS_FAULT")
    assert run(folder) == 0
    assert all(torch.equal(whole[name], tensor) for name, tensor in weights(folder).items())


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(train: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = train({"output": {"folder": str(tmp_path / "file" / "model")}}, expect=2)
    assert "file" in last(folder)["text"]
    assert "step" not in kinds(folder)


def test_a_failed_sample_ends_no_training(train: Train, monkeypatch: Any) -> None:
    def fail(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("trainer.sample.draw", fail)
    folder = train({"sample": {"prompts": ["zk9"], "every_steps": 1}})
    assert any(event["kind"] == "warning" and "no such kernel" in event["text"] for event in folder.events())
    assert folder.state() == "done"


def test_a_failure_of_the_engine_is_one_line_and_its_traceback_is_in_the_log(train: Train, monkeypatch: Any) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("trainer.train.micro_loss", fail)
    folder = train(expect=1)
    assert last(folder)["text"] == "RuntimeError: out of luck"
    assert "Traceback" in folder.log.read_text()


def test_changed_pictures_are_told_at_a_resume(small: Tree, tmp_path: Path, images: Path) -> None:
    mine = tmp_path / "mine" / "1_zk9"
    mine.mkdir(parents=True)
    for i, file in enumerate(sorted(images.rglob("*.png"))[:3]):
        (mine / f"{i}.png").write_bytes(file.read_bytes())
    tree = overlay(small, {"data": {"images": str(mine.parent)}, "train": {"steps": 6}})
    folder = RunFolder.create(tmp_path / "runs", Config.model_validate(tree))
    folder.send("stop")
    assert run(folder) == 0
    Image.new("RGB", (80, 80), "red").save(mine / "0.png")
    assert run(folder) == 0
    assert any("not those of before" in event.get("text", "") for event in folder.events())


def test_a_second_run_encodes_nothing_again(train: Train, monkeypatch: Any) -> None:
    train({"data": {"flip": True}})

    def never(*_: object) -> Iterator[None]:
        raise AssertionError("encoded again")

    monkeypatch.setattr("trainer.data.dataset.encode", never)
    assert train({"data": {"flip": True}}).state() == "done"
