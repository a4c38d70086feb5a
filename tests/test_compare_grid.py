"""Grids: planned as data, drawn cell by cell, gone on with after a kill, never drawn twice; and the command line."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.lora_files import make_lora
from trainer import durable
from trainer.compare import command, grid
from trainer.compare.info import read_info
from trainer.compare.options import Generate, Grid
from trainer.compare.painter import Painter
from trainer.compare.plan import make_plan
from trainer.compare.shot import Stage
from trainer.errors import InputError
from trainer.tools.report import Report
from trainer.tree import validate

Tree = dict[str, Any]
Draw = Callable[..., Report]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("loras")
    names = {"one": ("sd15", 0), "two": ("sd15", 1), "foreign": ("sdxl", 2)}
    return {name: make_lora(folder / f"{name}.safetensors", kind, seed) for name, (kind, seed) in names.items()}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))


@pytest.fixture
def tree(bases: dict[str, Path], loras: dict[str, Path], tmp_path: Path) -> Tree:
    """Two checkpoints at two strengths, small."""
    return {
        "base": str(bases["sd15"]), "prompt": "zk9, red hat", "size": 64, "steps": 1, "sampler": "Euler",
        "device": "cpu",
        "x": {"kind": "strength", "values": ["0.5-1 (+0.5)"]},
        "y": {"kind": "checkpoint", "values": [str(loras["one"]), str(loras["two"])]},
        "out": str(tmp_path / "grid"),
    }  # fmt: skip


def planned(tree: Tree) -> Any:
    options = validate(Grid, tree)
    return make_plan(options, Stage(options), "fp32")


@cache
def painter() -> Painter:
    """One for all tests, for a load takes longer than a picture."""
    return Painter(Generate(device="cpu"))


def draw(tree: Tree, **given: Any) -> Report:
    return grid.run(validate(Grid, tree), painter=painter(), **given)


def pictures(folder: Path) -> dict[str, bytes]:
    return {file.name[:8]: file.read_bytes() for file in sorted((folder / "pictures").iterdir())}


# Plans


def test_the_base_without_lora_is_always_a_row(tree: Tree) -> None:
    plan = planned(tree)
    assert plan.labels == {"x": ["strength 0.5", "strength 1"], "y": ["no LoRA", "one", "two"], "z": [""]}
    assert plan.reference == "y" and len(plan.cells) == 6
    worn = {(cell.x, cell.y): [(lora.file.stem, lora.unet) for lora in cell.shot.loras] for cell in plan.cells}
    assert worn == {
        (0, 0): [], (1, 0): [], (0, 1): [("one", 0.5)], (1, 1): [("one", 1.0)], (0, 2): [("two", 0.5)],
        (1, 2): [("two", 1.0)],
    }  # fmt: skip
    assert len({cell.key for cell in plan.cells}) == 5  # the row's pictures are one


def test_the_reference_stands_beside_what_it_is_compared_with(tree: Tree, loras: dict[str, Path]) -> None:
    turned = planned({**tree, "x": tree["y"], "y": {"kind": "seed", "values": ["1-2"]}})
    assert turned.reference == "x" and turned.labels["x"] == ["no LoRA", "one", "two"]
    assert [cell.shot.seed for cell in turned.cells if cell.x == 0] == [1, 2]
    fixed = planned({**tree, "x": {"kind": "cfg", "values": ["3", "5"]}, "y": {}, "loras": [f"{loras['one']}:0.7"]})
    assert fixed.reference == "y" and fixed.labels["y"] == ["no LoRA", ""]
    assert [cell.shot.loras == () for cell in sorted(fixed.cells)] == [True, False] * 2
    plain = planned({**tree, "x": {"kind": "seed", "values": ["1-2"]}, "y": {}})
    assert plain.reference is None and len(plain.cells) == 2


def test_a_strength_without_checkpoints_is_that_of_all_loras(tree: Tree, loras: dict[str, Path]) -> None:
    tags = {"prompt": "<lora:two:0.3> a", "folders": [str(loras["two"].parent)], "loras": [f"{loras['one']}:0.7"]}
    plan = planned({**tree, **tags, "x": {"kind": "strength", "values": ["0.5", "0"]}, "y": {}})
    assert [[lora.unet for lora in cell.shot.loras] for cell in sorted(plan.cells)] == [[], [0.5, 0.5], []]
    assert plan.reference == "x"


def test_a_base_and_a_lora_are_taken_up_once(tree: Tree, bases: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copy(bases["sd15"], tmp_path / "other.safetensors")
    plan = planned({**tree, "x": {"kind": "base", "values": [str(bases["sd15"]), str(other)]},
                    "z": {"kind": "prompt", "values": ["red", "blue"]}})  # fmt: skip
    told = [(cell.shot.base.name, cell.shot.loras) for cell in plan.cells]
    assert len(told) == 12 and sum(a != b for a, b in pairwise(told)) == 5
    assert {cell.shot.prompt for cell in plan.cells if cell.z == 1} == {"zk9, blue hat"}
    assert plan.labels["x"] == ["sd15", "other"] and plan.labels["z"] == ["red", "blue"]


def test_files_of_one_name_are_told_apart(tree: Tree, loras: dict[str, Path], tmp_path: Path) -> None:
    for run in ("first", "second"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        shutil.copy(loras["one"], tmp_path / run / "checkpoints" / "zk9.safetensors")
        (tmp_path / run / "config.json").write_text("{}")
    values = [str(tmp_path / "first"), str(tmp_path / "second")]
    assert planned({**tree, "y": {"kind": "checkpoint", "values": values}}).labels["y"][1:] == [
        "first/zk9",
        "second/zk9",
    ]


def test_too_large_a_grid_is_refused(tree: Tree) -> None:
    with pytest.raises(InputError, match="more than 10,000"):
        planned({**tree, "x": {"kind": "seed", "values": ["1-200"]}, "y": {"kind": "cfg", "values": ["1-100"]}})


# Drawing


def test_a_grid_is_a_folder_and_one_picture_and_is_told_cell_by_cell(tree: Tree, tmp_path: Path) -> None:
    events: list[Tree] = []
    told: list[tuple[int, int]] = []
    report = draw(
        tree, tell=lambda *done: told.append(done), event=lambda kind, **facts: events.append({"kind": kind, **facts})
    )
    out = tmp_path / "grid"
    assert report.found["drawn"] == 5 and report.found["kept"] == 1 and not report.stopped
    assert told[0] == (0, 6) and told[-1] == (6, 6)
    assert {(event["x"], event["y"], event["z"]) for event in events} == {(x, y, 0) for x in (0, 1) for y in (0, 1, 2)}
    assert all(event["kind"] == "cell" and Path(event["file"]).is_file() and event["seconds"] >= 0 for event in events)
    told_json = json.loads((out / "grid.json").read_text())
    assert told_json["reference"] == "y" and len(told_json["cells"]) == 6
    assert all((out / cell["file"]).is_file() for cell in told_json["cells"])
    names = [file.name for file in sorted((out / "pictures").iterdir())]
    assert names[0] == "01-01-01 no_LoRA strength_0.5.png" and names[-1] == "01-03-02 two strength_1.png"
    info = read_info(out / "pictures" / names[-1])
    assert info and info.prompt == "zk9, red hat <lora:two:1>" and info.settings["Lora hashes"].startswith("two: ")
    with Image.open(out / "sheet.png") as sheet:
        corner = sheet.size[0] - 4 - 64, sheet.size[1] - 4 - 64
        last = np.asarray(sheet.crop((*corner, corner[0] + 64, corner[1] + 64)))
        labels = np.asarray(sheet.convert("L"))[: corner[1] - 3 * 64]
    with Image.open(out / "pictures" / names[-1]) as cell:
        assert np.array_equal(np.asarray(cell), last)
    assert (labels < 64).any()  # something is written above the columns


def test_a_cell_is_the_picture_that_generate_draws(tree: Tree, loras: dict[str, Path], tmp_path: Path) -> None:
    draw(tree)
    alone = validate(Generate, {**{k: v for k, v in tree.items() if k not in "xy"}, "loras": [f"{loras['two']}:0.5"]})
    report = command.run_tool(alone.model_copy(update={"out": str(tmp_path / "alone")}))
    with Image.open(report.files[0]) as ours, Image.open(next((tmp_path / "grid").glob("pictures/01-03-01*"))) as cell:
        assert np.array_equal(np.asarray(ours), np.asarray(cell))


def test_one_more_row_draws_only_that_row(tree: Tree, loras: dict[str, Path], tmp_path: Path) -> None:
    first = {**tree, "y": {"kind": "checkpoint", "values": [str(loras["one"])]}}
    assert draw(first).found["drawn"] == 3
    before = pictures(tmp_path / "grid")
    report = draw({**tree, "out": str(tmp_path / "second")})
    assert (report.found["drawn"], report.found["kept"]) == (2, 4)
    after = pictures(tmp_path / "second")
    assert {name: after[name] for name in before} == before
    again = draw({**tree, "out": str(tmp_path / "second")})
    assert (again.found["drawn"], again.found["kept"]) == (0, 6)
    assert [name[:5] for name in pictures(tmp_path / "grid")] == ["01-01"] * 2 + ["01-02"] * 2
    moved = shutil.copy(loras["one"], tmp_path / "renamed.safetensors")
    report = draw({**tree, "y": {"kind": "checkpoint", "values": [str(moved)]}})
    assert report.found["drawn"] == 0  # files are known by their content
    names = [file.name for file in sorted((tmp_path / "grid" / "pictures").iterdir())]
    assert names[2:] == [
        "01-02-01 renamed strength_0.5.png",
        "01-02-02 renamed strength_1.png",
    ]


def test_nothing_is_loaded_when_all_is_there(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tree)
    monkeypatch.setattr(Painter, "load", lambda *given: pytest.fail("a model was loaded"))
    assert draw(tree).found["drawn"] == 0


def test_a_damaged_cell_is_drawn_again(tree: Tree, tmp_path: Path) -> None:
    draw(tree)
    whole = pictures(tmp_path / "grid")
    cells = sorted((tmp_path / "home" / "grids" / "cells").glob("*.png"))
    cells[0].unlink()
    cells[1].write_bytes(cells[1].read_bytes()[:200])
    assert draw(tree).found["drawn"] == 2
    assert pictures(tmp_path / "grid") == whole


def killed(tree: Tree, operation: int) -> None:
    """Dies at one of the operations on the disk that come after three cells."""
    told: list[Tree] = []

    def event(kind: str, **facts: Any) -> None:
        told.append(facts)
        if len(told) == 3:
            durable._calls.clear()
            os.environ["LIKENESS_FAULT"] = f"any:{operation}:KILL"

    draw(tree, event=event)


@pytest.mark.parametrize("operation", [1, 3])
def test_a_killed_grid_goes_on(operation: int, tree: Tree, tmp_path: Path) -> None:
    """kill -9 while a cell's file is written, and before it takes its name."""
    process = multiprocessing.get_context("fork").Process(target=killed, args=(tree, operation))
    process.start()
    process.join(120)
    assert process.exitcode == -9
    pool = tmp_path / "home" / "grids" / "cells"
    kept = list(pool.glob("*.png"))
    assert len(kept) == 2 and all(grid.is_whole(file) for file in kept)  # two of the three are one picture
    report = draw(tree)
    assert report.found["drawn"] == 3 and len(list(pool.glob("*.png"))) == 5
    once = {**tree, "out": str(tmp_path / "once"), "cells": str(tmp_path / "fresh")}
    draw(once)
    assert pictures(tmp_path / "grid") == pictures(tmp_path / "once")


def test_it_stops_when_asked_and_keeps_what_is_drawn(tree: Tree, tmp_path: Path) -> None:
    drawn: list[int] = []
    report = draw(tree, should_stop=lambda: len(drawn) >= 2, event=lambda kind, **facts: drawn.append(1))
    assert report.stopped and report.found["drawn"] == 1 and report.found["kept"] == 1
    assert len(pictures(tmp_path / "grid")) == 2 and (tmp_path / "grid" / "sheet.png").is_file()
    assert draw(tree).found["drawn"] == 4


def test_a_lora_that_does_not_fit_leaves_its_cells_empty(tree: Tree, loras: dict[str, Path], tmp_path: Path) -> None:
    events: list[str] = []
    values = [str(loras["foreign"]), str(loras["one"])]
    report = draw(
        {**tree, "x": {}, "y": {"kind": "checkpoint", "values": values}},
        event=lambda kind, **facts: events.append(kind),
    )
    assert report.found["drawn"] == 2 and events.count("warning") == 1
    assert len(report.lines) == 1 and "foreign" in report.lines[0] and "a LoRA for sdxl" in report.lines[0]
    assert len(pictures(tmp_path / "grid")) == 2


def test_cells_of_several_sizes_and_a_large_sheet(
    tree: Tree, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.compare.sheet.MOST_PIXELS", 10_000)
    report = draw({**tree, "x": {"kind": "base", "values": list(map(str, bases.values()))}, "y": {}, "size": None})
    assert report.found["drawn"] == 2
    wide = {**tree, "x": {"kind": "seed", "values": ["1-3"]}, "y": {"kind": "cfg", "values": ["1", "3"]}, "out": None}
    report = draw(wide)
    assert "sheet.png shows the cells at" in report.lines[-1]
    with Image.open(report.files[0]) as sheet:
        assert sheet.width * sheet.height < 30_000
    assert Path(report.found["folder"]).parent.name == "grids"


# The command line


def run(*words: str) -> int:
    top = argparse.ArgumentParser()
    command.add(top.add_subparsers(required=True))
    given = top.parse_args(words)
    return given.do(given)


def test_sample_draws_and_numbers_its_files(
    bases: dict[str, Path], loras: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    options = ["--base", str(bases["sd15"]), "--size", "64", "--steps", "1", "--device", "cpu", "--out", str(tmp_path)]
    assert (
        run(
            "sample",
            "a cat",
            *options,
            "--loras",
            f"{loras['one']}:0.5",
            "--count",
            "2",
            "--sampler",
            "Euler a",
            "--json",
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert [Path(file).name for file in told["files"]] == ["00001-42.png", "00002-43.png"]
    assert run("sample", "--prompt", "a cat", *options, "--batch", "2", "--count", "2", "--seed", "4294967294") == 0
    assert sorted(file.name for file in tmp_path.glob("*.png"))[2:] == [
        "00003-4294967294.png", "00004-4294967295.png", "00005-0.png", "00006-1.png"
    ]  # fmt: skip
    info = read_info(Path(told["files"][1]))
    assert info and info.settings["Seed"] == "43" and info.settings["Sampler"] == "Euler a"
    assert info.prompt == "a cat <lora:one:0.5>" and info.settings["Size"] == "64x64"
    with pytest.raises(InputError, match="given twice"):
        run("sample", "a", "--prompt", "b")


def test_grid_by_flags(tree: Tree, loras: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    flags = ["--base", tree["base"], "--size", "64", "--steps", "1", "--device", "cpu", "--out", str(tmp_path / "g")]
    axes = [
        "--y-kind",
        "checkpoint",
        "--y-values",
        str(loras["one"]),
        "--x-kind",
        "sampler",
        "--x-values",
        "ddim",
        "Heun",
    ]
    assert run("grid", "zk9", *flags, *axes) == 0
    assert "4 cells drawn" in capsys.readouterr().out
    assert json.loads((tmp_path / "g" / "grid.json").read_text())["labels"]["x"] == ["DDIM", "Heun"]
