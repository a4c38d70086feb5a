"""The command line: what goes in, what comes out, and the exit codes that other programs rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import Tree
from tests.pictures import draw_folder
from trainer.__main__ import main
from trainer.config import Config
from trainer.data import folders
from trainer.runfolder import RunFolder
from trainer.tree import overlay


@pytest.fixture
def file(small: Tree, tmp_path: Path) -> Any:
    """Writes the small config with changes, and gives its path."""

    def write(changes: Tree | None = None) -> str:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(overlay(small, changes or {})))
        return str(path)

    return write


def test_a_training_from_the_command_line(file: Any, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert main(["train", file(), "--runs", str(runs), "--set", "output.name=mine", "--set", "train.steps=1"]) == 0
    folder = next(runs.iterdir())
    assert folder.name.endswith("_mine")
    assert (folder / "checkpoints" / "mine.safetensors").exists()
    assert "rehearsed" in (folder / "stdout.log").read_text()
    assert main(["train", "--resume", str(folder)]) == 0
    assert main(["train", "--run", str(folder)]) == 0


def test_the_plan(file: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "whole.json"
    assert main(["config", file({"train": {"batch": 2, "steps": None, "epochs": 3}}), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Stable Diffusion 1.5\n")
    assert "5 an epoch" in said and "15 in 3 epochs" in said
    assert Config.model_validate_json(out.read_text()).train.batch == 2
    assert main(["config", file(), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["plan"]["items"], said["plan"]["steps"]) == (10, 2)
    assert said["base"]["title"] == "Stable Diffusion 1.5" and said["base"]["reasons"]


def test_nothing_runs_1600_steps_that_nobody_asked_for(file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", file({"train": {"epochs": 1, "steps": None}}), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["steps"] == 10


WRONG: dict[str, tuple[Tree, str]] = {
    "typo": ({"train": {"batchh": 1}}, "did you mean train.batch?"),
    "number": ({"train": {"batch": 0}}, "train.batch: 0"),
    "no folder": ({"data": {"images": "/nowhere/img"}}, "data.images"),
    "no reg folder": ({"data": {"reg": "/nowhere/reg"}}, "data.reg"),
    "no base": ({"model": {"base": "/nowhere/model.safetensors"}}, "does not exist"),
    "no VAE": ({"model": {"vae": "/nowhere/vae.safetensors"}}, "vae.safetensors"),
    "no LoRA to go on from": ({"network": {"start_from": "/nowhere/l.safetensors"}}, "l.safetensors"),
    "no prompts": ({"sample": {"file": "/nowhere/prompts.txt"}}, "prompts.txt"),
    "a prompt": ({"sample": {"prompts": ["cat --s many"]}}, "--s 'many'"),
    "no validation pictures": ({"validation": {"folder": "/nowhere/val"}}, "validation.folder"),
    "all held out": ({"validation": {"share": 1.0}}, "validation.share"),
    "rates": ({"optimizer": {"type": "prodigy"}, "rates": {"unet": 0.5}}, "Prodigy finds one rate"),
    "weights of the other prediction": ({"objective": {"scale_v": True}}, "objective.scale_v"),
    "xformers": ({"train": {"attention": "xformers"}}, "train.attention"),
    "another device": ({"train": {"device": "mps"}}, "train.device: mps is not available here"),
}


@pytest.mark.parametrize("name", sorted(WRONG.keys() - {"a prompt", "another device"}))
def test_bad_input_is_seen_without_a_model(name: str, file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """But prompts and devices, which only torch can judge."""
    changes, message = WRONG[name]
    assert main(["config", file(changes)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_two_and_says_what(
    name: str, file: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, message = WRONG[name]
    assert main(["train", file(changes), "--runs", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


def test_bad_pictures_are_told_with_their_names(file: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = draw_folder(tmp_path / "img", {"1_zk9": 3})
    (images / "1_zk9" / "broken.png").write_bytes(b"<html>")
    (images / "1_zk9" / "2.txt").write_bytes("caf\xe9".encode("cp1252"))
    assert main(["config", file({"data": {"images": str(images)}})]) == 0
    said = capsys.readouterr().out
    assert "broken.png" in said and "left out" in said
    assert "2.txt" in said and "cp1252" in said
    colours = draw_folder(tmp_path / "val", {"1_zk9": 4})
    for picture in (colours / "1_zk9").glob("*.png"):
        Image.open(picture).convert("CMYK").save(picture, "TIFF")
    (colours / "1_zk9" / "worse.png").touch()
    assert main(["config", file({"validation": {"folder": str(colours)}, "rates": {"text_encoder_2": 0.1}})]) == 0
    said = capsys.readouterr().out
    assert "4 x CMYK" in said and "and 1 more)" in said and "worse.png" in said
    assert "warning: rates.text_encoder_2: 0.1 is not used" in said
    for leaf, words in ((images / "1_zk9", "choose its parent"), (tmp_path / "empty", "data.images")):
        leaf.mkdir(exist_ok=True)
        assert main(["config", file({"data": {"images": str(leaf)}})]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a":', "\x00", '{"seed": NaN}'])
def test_a_file_that_is_no_config(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.json").write_text(text)
    assert main(["train", str(tmp_path / "c.json")]) == 2
    assert "c.json" in capsys.readouterr().err


def test_a_folder_that_is_no_run_and_words_that_do_not_go_together(tmp_path: Path, file: Any) -> None:
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert main(["train"]) == 2
    assert main(["train", file(), "--run", str(tmp_path)]) == 2
    assert main(["train", "--run", str(tmp_path), "--set", "train.batch=2"]) == 2


def test_files_may_move_while_a_run_goes_on(small: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = f"model.base={small['model']['base']}"
    config = Config.model_validate(overlay(small, {"model": {"base": str(tmp_path / "gone.safetensors")}}))
    run = str(RunFolder.create(tmp_path, config).path)
    assert main(["train", "--resume", run]) == 2
    assert "gone.safetensors" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--set", moved, "--set", "network.rank=3"]) == 2
    assert "--set network.rank=3: while a run goes on" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--set", moved]) == 0


def test_ctrl_c_is_one_line(file: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "collect", stop)
    assert main(["config", file()]) == 130
    assert capsys.readouterr().err.strip() == "Interrupted."


def test_help_stands_a_percent_in_a_path(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LIKENESS_HOME", "/tmp/100%d")
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    assert "/tmp/100%d" in "".join(capsys.readouterr().out.split())


def test_two_engines_cannot_have_one_run(small: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder.create(tmp_path, Config.model_validate(small))
    with folder.owned():
        assert main(["train", "--run", str(folder.path)]) == 2
    assert "an engine works here already" in capsys.readouterr().err
