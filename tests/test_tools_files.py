"""Verify, metadata, averages, DyLoRA; what is refused and why; memory; the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.lora_files import META, changes, make_lora, metadata_of, same_tensors
from tests.tiny import CONFIGS, tiny_file
from trainer.__main__ import parser
from trainer.checkpoint import hashes
from trainer.config.parts import Part
from trainer.durable import DiskError
from trainer.errors import InputError
from trainer.families import family_class
from trainer.families.find import POCKET
from trainer.flags import read_flags
from trainer.jobs import Job
from trainer.tools import command
from trainer.tools.checkpoints import Checkpoint, skeletons, spots
from trainer.tools.command import LORA, MODEL, run_tool
from trainer.tools.options import (
    Average,
    Convert,
    ConvertModel,
    DyLora,
    Extract,
    Merge,
    Metadata,
    Resize,
    Verify,
)
from trainer.tree import fields

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lora(tmp_path_factory.mktemp("lora") / "zk9.safetensors", "sd15")


def hashed(path: Path) -> bool:
    """Whether a file's hashes are those of its tensors and metadata."""
    told = metadata_of(path)
    bare = {key: text for key, text in told.items() if not key.startswith("sshs_")}
    return {**bare, **hashes(load_file(path), bare)} == told


# Verify


def test_a_good_lora_is_told_in_words(lora: Path, bases: dict[str, Path]) -> None:
    report = run_tool(Verify(model=str(lora), base=str(bases["sd15"])))
    found = report.to_json()
    assert found["good"] and (found["family"], found["hash"]) == ("sd15", "none")
    assert found["tags"] == {"zk9": 16, "smile": 3}
    assert not any(found[kind] for kind in ("dead", "unknown", "missing", "wrong_shape", "not_finite"))
    text = report.text()
    assert "a LoCon for Stable Diffusion 1.5, ranks 2 to 4, 289 layers. It is whole." in text
    assert "277 layers of the U-Net" in text and "zk9 16, smile 3" in text and "comment: first try" in text
    long = changes(lora)
    for line in found["modules"]:
        assert line["norm"] == pytest.approx((long[line["name"]] ** 2).sum() ** 0.5, rel=1e-6)


def test_every_fault_is_named(lora: Path, bases: dict[str, Path], tmp_path: Path) -> None:
    tensors = load_file(lora)
    names = sorted({key.split(".")[0] for key in tensors if "attn1" in key})
    tensors[f"{names[0]}.lora_up.weight"][0, 0] = float("nan")
    tensors[f"{names[1]}.lora_up.weight"].zero_()
    tensors[f"{names[2]}.lora_up.weight"] = torch.ones(99, 4)
    for key in [key for key in tensors if key.startswith(names[3])]:
        tensors[f"lora_unet_elsewhere.{key.partition('.')[2]}"] = tensors.pop(key)
    tensors["stray.weight"] = torch.ones(1)
    metadata = {"sshs_model_hash": "0" * 64, "ss_training_comment": "<img>" + "x" * 500 + "\x1b[31m"}
    save_file(tensors, tmp_path / "bad.safetensors", metadata)
    report = run_tool(Verify(model=str(tmp_path / "bad.safetensors"), base=str(bases["sd15"])))
    found = report.to_json()
    assert not found["good"] and found["hash"] == "wrong"
    assert (found["not_finite"], found["dead"], found["wrong_shape"]) == ([names[0]], [names[1]], [names[2]])
    assert (found["unknown"], found["missing"]) == (["lora_unet_elsewhere", "stray.weight"], [names[3]])
    assert json.loads(json.dumps(found, allow_nan=False)) and "\x1b" not in report.text()
    assert max(map(len, report.text().splitlines())) < 1000


def test_a_lora_for_the_shipped_model_is_whole(tmp_path: Path) -> None:
    """Its layers are smaller than SD1.5's; its own metadata says which model it was trained on."""
    model = Checkpoint("base", str(POCKET))
    layers = {}
    for name, spot in model.spots.items():
        if spot.kind == "lora":
            ones = (1,) * (len(spot.shape) - 2)
            layers[f"{name}.lora_down.weight"] = torch.rand(2, *spot.shape[1:])
            layers[f"{name}.lora_up.weight"] = torch.rand(spot.shape[0], 2, *ones)
    for config, good in (({"model": {"base": "pocket"}}, True), ({}, False)):
        save_file(layers, tmp_path / "a.safetensors", {"likeness_config": json.dumps(config)})
        report = run_tool(Verify(model=str(tmp_path / "a.safetensors")))
        assert report.found["good"] is good and len(report.found["modules"]) == 264
        assert len(report.found["wrong_shape"]) == (0 if good else 264)


def test_other_files_are_called_what_they_are(bases: dict[str, Path], tmp_path: Path) -> None:
    base = run_tool(Verify(model=str(bases["sdxl"])))
    assert base.said.endswith("is no LoRA: it is SDXL, a base model.")
    save_file({"lora_unet_mid.hada_w1_a": torch.ones(2, 2)}, tmp_path / "loha.safetensors")
    assert "it is a LoHa file of LyCORIS" in run_tool(Verify(model=str(tmp_path / "loha.safetensors"))).said
    save_file({"emb_params": torch.full((2, 768), float("inf"))}, tmp_path / "word.safetensors")
    word = run_tool(Verify(model=str(tmp_path / "word.safetensors")))
    assert "textual inversion" in word.said and word.found["not_finite"] == ["emb_params"]


# Metadata


def test_metadata_is_edited_and_tensors_stay(lora: Path, tmp_path: Path) -> None:
    run_tool(
        Metadata(
            model=str(lora), save_to=str(tmp_path / "b"), title="Zoë", comment="trigger: zk9", set=("ss_seed=7",),
            remove=("ss_tag_*",),
        )
    )  # fmt: skip
    told = metadata_of(tmp_path / "b.safetensors")
    assert same_tensors(load_file(tmp_path / "b.safetensors"), load_file(lora)) and hashed(tmp_path / "b.safetensors")
    wanted = {**META, "modelspec.title": "Zoë", "ss_training_comment": "trigger: zk9", "ss_seed": "7"}
    wanted.pop("ss_tag_frequency")
    assert {key: text for key, text in told.items() if not key.startswith("sshs_")} == wanted
    with pytest.raises(InputError, match="set overwrite"):
        run_tool(Metadata(model=str(lora), title="x"))
    copy = tmp_path / "c.safetensors"
    copy.write_bytes(lora.read_bytes())
    run_tool(Metadata(model=str(copy), title="x", overwrite=True))
    assert metadata_of(copy)["modelspec.title"] == "x"
    with pytest.raises(InputError, match="nothing would change"):
        run_tool(Metadata(model=str(copy), title="x", overwrite=True))


# Average


def epochs(folder: Path, count: int = 4) -> list[Path]:
    files = []
    for number in range(1, count + 1):
        name = f"zk9-{number:06}.safetensors" if number < count else "zk9.safetensors"
        files.append(make_lora(folder / name, "sd15", number, metadata={**META, "ss_steps": str(100 * number)}))
    return files


def test_the_mean_of_the_newest(tmp_path: Path) -> None:
    files = epochs(tmp_path)
    report = run_tool(Average(models=(str(tmp_path),), last=2, save_to="mean"))
    one, other, mean = (load_file(file) for file in (*files[2:], tmp_path / "mean.safetensors"))
    assert mean.keys() == one.keys() and hashed(tmp_path / "mean.safetensors")
    assert all(torch.equal(mean[key], ((one[key].double() + other[key].double()) / 2).float()) for key in one)
    assert "50%" in metadata_of(tmp_path / "mean.safetensors")["ss_training_comment"]
    assert list(report.found["weights"]) == [str(file) for file in files[2:]]
    again = run_tool(Average(models=(str(tmp_path),), save_to="again"))
    assert list(again.found["weights"]) == [str(file) for file in files]  # averages are not averaged


def test_the_moving_average_is_that_of_the_paper(tmp_path: Path) -> None:
    """Weights by the integral of t^g between the files, with g solved for here by numpy's polynomial roots."""
    import numpy as np

    files = epochs(tmp_path)
    report = run_tool(Average(models=tuple(map(str, reversed(files))), profile="ema", width=0.15, save_to="ema"))
    weights = list(report.found["weights"].values())
    # (g + 1) = width^2 (g + 2)^2 (g + 3)
    roots = np.roots(np.polysub(0.15**2 * np.polymul(np.polymul([1, 2], [1, 2]), [1, 3]), [0, 0, 1, 1]))
    power = max(root.real for root in roots if abs(root.imag) < 1e-9)
    marks = (np.arange(5) / 4) ** (power + 1)
    assert weights == pytest.approx(list(np.diff(marks))) and sum(weights) == pytest.approx(1)
    assert weights == sorted(weights)


def test_only_files_of_one_run_are_averaged(tmp_path: Path) -> None:
    a = make_lora(tmp_path / "a.safetensors", "sd15", 1)
    b = make_lora(tmp_path / "b.safetensors", "sd15", 2, metadata={**META, "ss_session_id": "8"})
    c = make_lora(tmp_path / "c.safetensors", "sd15", 2, rank=3)
    for other, said in ((b, "different trainings"), (c, "other layers or ranks")):
        with pytest.raises(InputError, match=said):
            run_tool(Average(models=(str(a), str(other)), save_to="x"))
    d = make_lora(tmp_path / "d.safetensors", "sd15", 3)
    with pytest.raises(InputError, match="is read; choose"):
        run_tool(Average(models=(str(a), str(d)), save_to="a", overwrite=True))
    with pytest.raises(InputError, match="1 file to average"):
        run_tool(Average(models=(str(a),), save_to="x"))


# DyLoRA


def test_a_dylora_is_cut_at_every_unit(lora: Path, tmp_path: Path) -> None:
    source = make_lora(tmp_path / "d.safetensors", "sd15", rank=4, conv_rank=None)
    report = run_tool(DyLora(model=str(source), unit=2, save_to="cut"))
    assert report.files == [str(tmp_path / "cut-0002.safetensors")]
    whole, cut = load_file(source), load_file(report.files[0])
    assert whole.keys() == cut.keys() and hashed(Path(report.files[0]))
    for key, tensor in whole.items():
        wanted = tensor[:2] if "lora_down" in key else tensor[:, :2] if "lora_up" in key else tensor
        assert torch.equal(cut[key], wanted)
    assert metadata_of(Path(report.files[0]))["ss_network_dim"] == "2"
    with pytest.raises(InputError, match="unit: 4"):
        run_tool(DyLora(model=str(source), unit=4, save_to="x"))


# What is refused, before anything is computed


def refusals(lora: Path, bases: dict[str, Path], folder: Path) -> list[tuple[Part, str]]:
    sd15, sdxl, out = str(bases["sd15"]), str(bases["sdxl"]), str(folder / "out")
    xl = str(make_lora(folder / "xl.safetensors", "sdxl"))
    (folder / "text.safetensors").write_text("<!doctype html>")
    save_file({"a.hada_w1_a": torch.ones(1)}, folder / "loha.safetensors")
    half = {"lora_unet_x.lora_down.weight": torch.ones(1, 2)}
    whole = {**half, "lora_unet_x.lora_up.weight": torch.ones(2, 1)}
    save_file(half, folder / "half.safetensors")
    save_file({**whole, "lora_unet_x.alpha": torch.tensor(float("nan"))}, folder / "nan.safetensors")
    save_file({**whole, "lora_unet_x.lora_up.weight": torch.ones(2, 3)}, folder / "odd.safetensors")
    save_file(
        {key: tensor[:0] if "down" in key else tensor[:, :0] for key, tensor in whole.items()},
        folder / "no.safetensors",
    )
    config = json.dumps({"unet": {"time_embedding_act_fn": "x"}})
    save_file(load_file(sd15), folder / "code.safetensors", {"likeness_model": config})
    made = str(folder / "xl.safetensors")
    return [
        (Resize(model=str(folder / "none.safetensors"), save_to=out), "model: .*none.safetensors does not exist"),
        (Resize(model=sd15, save_to=out), "is no LoRA: it is Stable Diffusion 1.5, a base model; choose a LoRA"),
        (Resize(model=str(folder / "text.safetensors"), save_to=out), "is a web page, not a model"),
        (Resize(model=str(folder / "loha.safetensors"), save_to=out), "is a LoHa; only LoRA, LoCon and DoRA"),
        (Resize(model=str(folder / "half.safetensors"), save_to=out), "has no .lora_up.weight beside it"),
        (Resize(model=str(folder / "nan.safetensors"), save_to=out), "alpha is nan; the file is damaged"),
        (Resize(model=str(folder / "odd.safetensors"), save_to=out), "do not fit each other"),
        (Resize(model=str(folder / "no.safetensors"), save_to=out), "is empty; the file is damaged"),
        (ConvertModel(model=str(folder / "code.safetensors"), save_to=out), "unknown names .*time_embedding_act_fn"),
        (Resize(model=str(lora), save_to=str(lora), overwrite=True), "is read; choose another name"),
        (Resize(model=str(lora), save_to=made), "exists; choose another name, or set overwrite"),
        (Resize(model=str(lora), save_to=str(folder)), "is a folder; add the file's name"),
        (Resize(model=str(lora), save_to=out, device="cuda"), "device: cuda is not available"),
        (Merge(models=(str(lora), xl), save_to=out), "is a LoRA for SDXL, and the first is for Stable Diffusion 1.5"),
        (Merge(sd_model=sdxl, models=(str(lora),), save_to=out), "and sd_model is SDXL"),
        (Merge(sd_model=xl, models=(xl,), save_to=out), "is a LoRA, not a base model"),
        (Merge(models=(str(lora),), save_to=out), "one LoRA alone"),
        (Merge(models=(str(lora),), lbws=("1,2",), save_to=out), "2 numbers for Stable Diffusion 1.5"),
        (Merge(sd_model=sd15, models=(str(lora),), save_to=sd15, overwrite=True), "is read; choose another name"),
        (Merge(models=(made, made), save_to=made, overwrite=True), "is read; choose another name"),
        (Extract(model_tuned=sd15, model_org=sdxl, save_to=out), "choose two models of one family"),
        (Extract(model_tuned=sd15, model_org=sd15, save_to=out), "is model_org itself"),
        (Extract(model_tuned=sd15, model_org=str(lora), save_to=out), "is a LoRA, not a base model"),
        (ConvertModel(model=str(lora), save_to=out), "is a LoRA, not a base model"),
        (ConvertModel(model=sd15, save_to=str(folder), overwrite=True), "is no diffusers folder"),
        (Convert(model=str(lora), form="peft", save_to=str(folder), overwrite=True), "other things than adapters"),
        (Metadata(model=str(lora), set=("a b",), save_to=out), "no key with a value"),
    ]


def test_wrong_input_is_refused_and_writes_nothing(
    lora: Path, bases: dict[str, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    cases = refusals(lora, bases, tmp_path)
    monkeypatch.setattr("trainer.tools.tensors.write_aside", None)
    before = sorted(tmp_path.rglob("*"))
    for options, said in cases:
        if isinstance(options, Resize) and options.device == "cuda" and torch.cuda.is_available():
            continue
        with pytest.raises(InputError, match=said):
            run_tool(options)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        (Merge, {"models": ["a", "b"], "ratios": [1, 2, 3]}, "3 numbers for 2 LoRAs"),
        (Merge, {"models": ["a", "b", "c"], "lbws": ["1", "2"]}, "2 lines for 3 LoRAs"),
        (Merge, {"models": []}, "at least 1"),
        (Resize, {"model": "a", "dynamic_method": "sv_ratio"}, "must be above 1"),
        (Resize, {"model": "a", "dynamic_param": 2}, "must be 1 at most"),
        (Extract, {"model_tuned": "a", "model_org": "b", "clamp_quantile": 0}, "greater than 0"),
    ],
)
def test_options_that_make_no_sense(part: type[Part], values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        part.model_validate({"save_to": "x", **values})


def test_an_empty_box_of_ratios_is_none() -> None:
    assert Merge.model_validate({"models": ["a"], "ratios": [""], "save_to": "x"}).ratios == ()


def test_a_name_alone_lies_beside_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    run = str(tmp_path / "run")
    assert Resize(model="/a/b.safetensors", save_to="c").save_to == str(Path("/a/c"))
    assert Resize(model="/a/b.safetensors", save_to="./c").save_to == "./c"
    assert Merge(sd_model="/m/x.safetensors", models=("/a/b.safetensors",), save_to="c").save_to == str(Path("/m/c"))
    assert Merge(models=("/a/b.safetensors",), save_to="c").save_to == str(Path("/a/c"))
    assert Metadata(model="/a/b.safetensors", save_to="c").save_to == str(Path("/a/c"))
    assert ConvertModel(model=run, save_to="c").save_to == str(tmp_path / "c")
    assert Average(models=(run,), save_to="c").save_to == str(tmp_path / "run" / "checkpoints" / "c")


def test_a_full_disk_leaves_what_was_there(lora: Path, tmp_path: Path, monkeypatch: Any) -> None:
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"before")
    monkeypatch.setattr("trainer.durable.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(DiskError, match="make room"):
        run_tool(Resize(model=str(lora), save_to=str(out), overwrite=True))
    assert out.read_bytes() == b"before"


def test_a_failing_write_leaves_what_was_there(bases: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    """In the middle of a folder that replaces another one."""
    options = {"model": str(bases["sd15"]), "save_to": str(tmp_path / "folder"), "overwrite": True}
    run_tool(ConvertModel.model_validate(options))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    monkeypatch.setenv("LIKENESS_FAULT", "write:300:ENOSPC")
    monkeypatch.setattr("trainer.durable._calls", __import__("collections").Counter())
    with pytest.raises(DiskError):
        run_tool(ConvertModel.model_validate({**options, "save_precision": "fp32"}))
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_number_too_large_for_fp16_is_named(bases: dict[str, Path], tmp_path: Path) -> None:
    tensors = load_file(make_lora(tmp_path / "a.safetensors", "sd15"))
    name = "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"
    save_file({**tensors, name: tensors[name] * 1e8}, tmp_path / "a.safetensors", META)
    options = {
        "sd_model": str(bases["sd15"]),
        "models": [str(tmp_path / "a.safetensors")],
        "save_to": str(tmp_path / "b"),
    }
    with pytest.raises(InputError, match=r"middle_block.1.proj_in.weight does not fit in torch.float16; set save_prec"):
        run_tool(Merge.model_validate(options))
    assert not list(tmp_path.glob("b*"))


def test_numbers_that_are_none_go_nowhere(bases: dict[str, Path], tmp_path: Path) -> None:
    lora = make_lora(tmp_path / "a.safetensors", "sd15")
    tensors = load_file(lora)
    name = "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"
    save_file({**tensors, name: tensors[name] / 0}, lora, META)
    base = tmp_path / "base.safetensors"
    save_file(
        {key: tensor.float() for key, tensor in load_file(bases["sd15"]).items()}, base, metadata_of(bases["sd15"])
    )
    broken = load_file(base)
    broken["model.diffusion_model.middle_block.1.proj_in.weight"][0] = float("nan")
    save_file(broken, tmp_path / "broken.safetensors", metadata_of(base))
    for options in (
        Merge(sd_model=str(base), models=(str(lora),), save_to="x", save_precision="keep"),
        Merge(models=(str(lora),), ratios=(0.5,), save_to="x", save_precision="fp32"),
        Merge(models=(str(lora),), method="svd", save_to="x"),
        Resize(model=str(lora), save_to="x"),
        Extract(model_org=str(base), model_tuned=str(tmp_path / "broken.safetensors"), save_to="x"),
    ):
        with pytest.raises(InputError, match="proj_in holds NaN"):
            run_tool(options)
    assert not list(tmp_path.glob("x*"))


def test_a_stranger_s_endless_metadata_is_cut(tmp_path: Path) -> None:
    words = json.dumps({"10_x": {f"tag{number}" * 100: number + 1 for number in range(3000)}})
    deep = "[" * 100_000
    told = {"ss_tag_frequency": words, "ss_datasets": deep, "a": "b" * 10**6}
    tensors = {"x.lora_up.weight": torch.ones(2, 1), "x.lora_down.weight": torch.ones(1, 2)}
    save_file(tensors, tmp_path / "a.safetensors", told)
    report = run_tool(Verify(model=str(tmp_path / "a.safetensors")))
    assert len(json.dumps(report.to_json())) < 300_000 and len(report.found["tags"]) == 1000
    assert len(report.text()) < 5000


def test_stopping_writes_nothing(lora: Path, bases: dict[str, Path], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    options = Merge(sd_model=str(bases["sd15"]), models=(str(lora),), save_to=str(tmp_path / "out"))
    report = run_tool(options, lambda *pair: told.append(pair), lambda: len(told) == 5)
    assert report.stopped and report.summary() == "Stopped; nothing was written." and not list(tmp_path.iterdir())
    assert [done for done, _ in told] == [1, 2, 3, 4, 5] and len({total for _, total in told}) == 1


# Memory


MEASURE = """
import json, sys, threading, time
from pathlib import Path
import psutil
from trainer.tools.command import run_tool
from trainer.tools.options import Average, Convert, ConvertModel, Extract, Merge, Resize
folder, warm = Path(sys.argv[1]), Path(sys.argv[2])
process, most = psutil.Process(), 0
def watch():
    global most
    while True:
        most = max(most, process.memory_info().rss)
        time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
def loras(at):
    lora, other = str(at / "lora.safetensors"), str(at / "lora2.safetensors")
    run_tool(Resize(model=lora, new_rank=8, save_to="a", save_precision="keep"))
    run_tool(Average(models=(lora, other), save_to="b"))
    run_tool(Convert(model=lora, save_to="c"))
    run_tool(Merge(models=(lora, other), save_to="near", method="svd", new_rank=64, save_precision="keep"))
    run_tool(Merge(models=(lora, other), save_to="sum", save_precision="keep"))
def models(at):
    model, lora = str(at / "model.safetensors"), str(at / "lora.safetensors")
    run_tool(Merge(sd_model=model, models=(lora,), save_to="d", save_precision="keep"))
    run_tool(ConvertModel(model=model, save_to="folder"))
    run_tool(Extract(model_org=model, model_tuned=str(at / "d.safetensors"), conv_dim=0, dim=4, save_to="e"))
def grown(work):
    global most
    work(warm)
    before = most = process.memory_info().rss
    work(folder)
    return most - before
print(json.dumps([grown(loras), grown(models)]))
"""


def test_memory_stays_below_two_files(tmp_path: Path) -> None:
    """The most that a process holds beyond what it holds for tiny files, in files of the largest one's size."""
    for folder, widths, rank in (("warm", [16, 16, 32, 32], 4), ("large", [64, 128, 192, 192], 64)):
        at = tmp_path / folder
        at.mkdir()
        _write_pair(at, widths, rank)
    words = [sys.executable, "-c", MEASURE, str(tmp_path / "large"), str(tmp_path / "warm")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    grown = json.loads(subprocess.run(words, check=True, cwd=ROOT, env=environment, capture_output=True).stdout)
    for name, more in zip(("sum", "model"), grown, strict=True):
        size = (tmp_path / "large" / f"{name}.safetensors").stat().st_size
        assert size > 30e6 and more < 2 * size, (name, size, more / size)


def _write_pair(folder: Path, widths: list[int], rank: int) -> None:
    """A model of given widths, and two LoRAs for it, of random numbers."""
    config = {**CONFIGS["sd15"], "unet": {**CONFIGS["sd15"]["unet"], "block_out_channels": widths}}
    parts = json.dumps(config, sort_keys=True)
    layout, tensors = family_class("sd15").LAYOUT, {}
    for part, module in skeletons("sd15", parts).items():
        state = module.state_dict()
        for name, key in layout[part].keys(state).items():
            shape = [*state[name].shape, 1, 1] if ".attn_1." in key and state[name].ndim == 2 else state[name].shape
            tensors[key] = torch.rand(*shape).half()
    save_file(tensors, folder / "model.safetensors", {"likeness_model": json.dumps({"family": "sd15", **config})})
    for word in ("lora", "lora2"):
        layers = {}
        for name, spot in spots("sd15", parts).items():
            if spot.kind == "lora":
                ones = (1,) * (len(spot.shape) - 2)
                layers[f"{name}.lora_down.weight"] = torch.rand(rank, *spot.shape[1:])
                layers[f"{name}.lora_up.weight"] = torch.rand(spot.shape[0], rank, *ones)
        save_file(layers, folder / f"{word}.safetensors", {"ss_session_id": "1"})


# The command line


def parsed(*words: str) -> Any:
    if words[0] not in ("lora", "model"):
        raise AssertionError(words)
    top = parser()
    actions = next(action for action in top._actions if getattr(action, "choices", None))
    if "lora" not in (actions.choices or {}):
        command.add(actions)
    return top.parse_args(words)


def test_every_option_has_its_help_and_its_flag() -> None:
    for word, tools in (("lora", LORA), ("model", MODEL)):
        for name, (part, _, _) in tools.items():
            for option, field in fields(part):
                assert field.description and field.description.strip().endswith("."), (name, option)
            required = [option for option, field in fields(part) if field.is_required()]
            words = [item for option in required for item in (f"--{option.replace('_', '-')}", "x")]
            given = parsed(word, name, *words)
            expected = {option: ["x"] if option == "models" else "x" for option in required}
            assert read_flags(given, part) == part.model_validate(expected)


def test_a_tool_on_the_command_line(lora: Path, tmp_path: Path, capsys: Any) -> None:
    given = parsed("lora", "resize", str(lora), "--save-to", str(tmp_path / "b"), "--new-rank", "2", "--json")
    assert given.do(given) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(tmp_path / "b.safetensors")] and told["modules"][0]["rank"] <= 2
    given = parsed("lora", "merge", str(lora), str(lora), "--ratios", "0.5", "0.5", "--save-to", str(tmp_path / "c"))
    assert given.do(given) == 0 and "the sum of zk9.safetensors" in capsys.readouterr().out
    given = parsed("lora", "verify", str(lora), "--model", str(lora))
    with pytest.raises(InputError, match="given twice"):
        given.do(given)


def test_each_tool_can_be_a_job(lora: Path, tmp_path: Path) -> None:
    job = Job("Resize LoRA", Resize, "trainer.tools.command:run_tool")
    options = Resize(model=str(lora), save_to=str(tmp_path / "b"))
    report = job.run(options, lambda done, total: None, lambda: False)
    assert not report.stopped and report.summary().startswith(str(tmp_path / "b.safetensors"))
    assert json.loads(json.dumps(report.to_json()))["files"]


def test_a_tiny_file_without_a_config_is_no_model(tmp_path: Path) -> None:
    """A model of another size that does not say so is refused by its shapes."""
    base = tiny_file("sd15", tmp_path)
    save_file(load_file(base), base)
    with pytest.raises(InputError, match="reads texts of width 32"):
        run_tool(ConvertModel(model=str(base), save_to="x"))
