"""Two processes that train as one: the same losses, exact resume, one voice, one end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Train, Tree
from tests.pictures import draw_folder
from tests.test_train import losses, weights
from tests.tiny import tiny_sd15
from trainer import several
from trainer.config import Config
from trainer.devices import choose_device
from trainer.errors import InputError
from trainer.runfolder import RunFolder
from trainer.train import run
from trainer.tree import overlay

ROOT = Path(__file__).resolve().parents[1]
TOGETHER = {"train": {"processes": 2, "batch": 2}}
ALONE = {"train": {"batch": 4}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run folders of trainings by one process and by two, and the exit codes of each pair.

    Of six pictures one is held out. Four of the five others make a batch and the last is alone: the second process then
    has no share. Those of regularisation have a bucket of their own, and a weight.
    """
    home = tmp_path_factory.mktemp("several")
    base = tiny_sd15(home)
    tree: Tree = {
        "model": {"base": str(base)},
        "data": {
            "images": str(draw_folder(home / "img", {"1_zk9 thing": 6})),
            "reg": str(draw_folder(home / "reg", {"1_thing": 3}, size=(64, 128))),
            "resolution": 96, "workers": 0, "flip": True, "buckets": {"smallest": 64, "largest": 128},
        },
        "captions": {"shuffle": True, "tag_dropout": 0.2},
        "network": {"rank": 2, "alpha": 1},
        "optimizer": {"type": "adamw", "lr": 1e-3, "eps": 1e-4},
        "objective": {"prior_weight": 0.5, "noise": {"type": "offset"}},
        "train": {"epochs": 1, "accumulate": 2, "threads": 1, "device": "cpu"},
        "sample": {"prompts": ["zk9 --s 1 --w 64 --h 64"], "every_epochs": 1},
        "validation": {"share": 0.2},
        "save": {"precision": "fp32"},
        "output": {"name": "zk9"},
    }  # fmt: skip

    def folder(name: str, changes: Tree) -> RunFolder:
        return RunFolder.create(home / name, Config.model_validate(overlay(tree, changes)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_HOME", str(home / "home"))
        alone, pair = folder("alone", ALONE), folder("pair", TOGETHER)
        halted, failing = folder("halted", TOGETHER), folder("failing", TOGETHER)
        killed = folder("killed", TOGETHER)
        assert run(alone) == 0
        wishes = [["own", pair], ["stopped", halted], ["launcher", halted], ["fails", failing], ["killed", killed]]
        told = json.dumps([[how, str(where.path)] for how, where in wishes])
        done = subprocess.run(
            [sys.executable, "-m", "tests.pair"], input=told, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
    codes = json.loads(done.stdout.splitlines()[-1])
    folders = {"alone": alone, "pair": pair, "halted": halted, "failing": failing, "killed": killed}
    return {**folders, "codes": codes}


def test_two_learn_what_one_learns_from_twice_the_batch(trained: dict[str, Any]) -> None:
    assert trained["codes"][0] == [0]
    assert losses(trained["pair"]) == pytest.approx(losses(trained["alone"]), rel=1e-6)
    one, two = weights(trained["alone"]), weights(trained["pair"])
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-6


def test_one_of_them_tells_and_writes(trained: dict[str, Any]) -> None:
    def told(folder: RunFolder) -> list[tuple[str, Any]]:
        return [(event["kind"], event.get("step")) for event in folder.events() if event["kind"] != "warning"]

    def files(folder: RunFolder) -> set[str]:
        samples = {path.name[:14] for path in folder.samples.iterdir()}  # before the time of day
        return samples | {path.name for path in folder.checkpoints.iterdir()}

    assert told(trained["pair"]) == told(trained["alone"])
    assert files(trained["pair"]) == files(trained["alone"])
    assert len(list(trained["pair"].tb.iterdir())) == 1


def test_a_pair_that_was_stopped_goes_on_exactly(trained: dict[str, Any]) -> None:
    assert trained["codes"][1:3] == [[0, 0], [0, 0]]
    ends = [event for event in trained["halted"].events() if event["kind"] in ("stopped", "done")]
    assert [event["kind"] for event in ends] == ["stopped", "done"] and ends[0]["step"] == 1
    whole, halted = weights(trained["pair"]), weights(trained["halted"])
    assert all(torch.equal(whole[name], halted[name]) for name in whole)


def test_what_fails_in_one_ends_both_with_its_words(trained: dict[str, Any]) -> None:
    folder = trained["failing"]
    assert trained["codes"][3] == [1, 1]
    last = folder.events()[-1]
    assert last["kind"] == "error" and "process 2 of 2: CUDA out of memory" in last["text"]
    assert folder.state() == "error" and [path.name for path in folder.states.iterdir()] == ["00000001"]


def test_when_one_is_killed_the_first_says_so(trained: dict[str, Any]) -> None:
    folder = trained["killed"]
    assert trained["codes"][4] == [1] and folder.state() == "error"
    assert "process 2 of 2 has ended (killed by signal 9: is main memory full?)" in folder.events()[-1]["text"]


def test_the_plan_counts_what_is_learned_at_once(trained: dict[str, Any]) -> None:
    alone, pair = (trained[name].events() for name in ("alone", "pair"))
    counts = [next(event for event in events if event["kind"] == "start") for events in (alone, pair)]
    assert counts[0]["steps"] == counts[1]["steps"] == 2 and counts[0]["batches"] == counts[1]["batches"]


def test_another_number_than_was_started_is_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    folder = train({"train": {"processes": 2}}, expect=2)
    assert folder.events()[-1]["text"].startswith("train.processes: 2, and 3 were started")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"train\.processes: 3 here, .* 2 can be used; set it to 2"):
        choose_device(Config.model_validate({"train": {"processes": 3}}).train)
    assert choose_device(Config.model_validate({"train": {"processes": 3, "device": "cpu"}}).train).type == "cpu"


def test_the_others_are_started_with_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: seen.update(more, command=command))
    several._help(RunFolder(tmp_path), ["model.base=x.safetensors"], 1, 2, 1234)
    assert seen["command"][-4:] == ["--run", str(tmp_path), "--set", "model.base=x.safetensors"]
    assert {name: seen["env"][name] for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")} == {
        "RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1234",
    }  # fmt: skip
