"""Our presets and those of the Kohya GUI: each one is a config, and trains two steps on tiny models."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from tests.pictures import draw_folder
from trainer import configio, kohya, places
from trainer.config import Config
from trainer.runfolder import RunFolder
from trainer.train import run
from trainer.tree import Tree, check, overlay

THEIRS = sorted((Path(__file__).parent / "golden" / "kohya_presets").glob("*.json"))
OURS = sorted(path.stem for path in places.PRESETS.glob("*.json") if path.stem != "demo")  # it has tests of its own
README = (places.PRESETS / "README.md").read_text("utf-8")
DEFAULTS = Config().model_dump(mode="json")


def tiny(config: Config, base: Path, images: Path) -> Tree:
    """A config as it is, but small: two steps at 64 pixels on a tiny model, of which nothing is kept elsewhere."""
    tree = config.model_dump(mode="json")
    few = {name: min(tree["network"][name] or 2, 2) for name in ("rank", "conv_rank") if tree["network"].get(name)}
    begun = {"start_from": None, "rank_from_file": False}  # no test has the file
    start = {name: value for name, value in begun.items() if name in tree["network"]}
    buckets = tree["data"]["buckets"] and {"smallest": 64, "largest": 64, "step": 64, "no_upscale": False}
    small = {
        "about": "",
        "model": {"base": str(base), "vae": None},
        "data": {"images": str(images), "reg": None, "resolution": [64, 64], "buckets": buckets, "workers": 0},
        "captions": {"extension": ".txt"},
        "network": {**few, **start},
        "train": {"epochs": None, "steps": 2, "batch": 1, "accumulate": 1, "device": "cpu", "threads": 1},
        "save": {"every_epochs": None, "every_steps": None},
        "sample": {"prompts": [], "file": None},
        "output": {"name": "tiny", "folder": None, "logging": None, "title": "", "comment": ""},
    }
    attention = {"train": {"attention": "sdpa"}} if tree["train"]["attention"] == "xformers" else {}
    return overlay(overlay(tree, small), attention)


def trains(tree: Tree, folder: Path) -> None:
    """Two steps with finite losses, and a file."""
    made = RunFolder.create(folder, Config.model_validate(tree))
    assert run(made) == 0, made.log.read_text()
    losses = [event["loss"] for event in made.events() if event["kind"] == "step"]
    assert len(losses) == 2 and all(0 < loss < 100 for loss in losses)
    assert list(made.checkpoints.iterdir())


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture."""
    return draw_folder(tmp_path_factory.mktemp("one") / "img", {"2_zk9 thing": 1}, size=(72, 72))


@pytest.mark.parametrize("name", OURS)
def test_our_presets_say_what_they_are_for(name: str) -> None:
    assert len(configio.load(name).about) > 40 and f"| `{name}` |" in README


def read(file: Path) -> tuple[kohya.Reading, Config]:
    said = kohya.read(json.loads(file.read_text("utf-8")), str(file))
    return said, check(overlay(DEFAULTS, said.config_tree), str(file), said.sources)


def test_all_presets_of_the_kohya_gui_convert_and_nothing_is_ignored_in_silence() -> None:
    assert len(THEIRS) == 30
    for file in THEIRS:
        said, config = read(file)
        keys = json.loads(file.read_text("utf-8"))
        told = {note.key for note in said.notes}
        assert keys.keys() <= told, file.name
        assert not [note for note in said.notes if note.outcome in ("unsupported", "unknown") and not note.loud]
        words = {"LyCORIS/LoKr": "lokr", "LyCORIS/LoHa": "loha", "LyCORIS/LoCon": "locon", "LyCORIS/iA3": "ia3"}
        assert config.network.type == words.get(keys["LoRA_type"], "lora"), file.name
        assert config.optimizer.type == keys["optimizer"].lower(), file.name
        assert (config.model.family == "sdxl") is bool(keys.get("sdxl")), file.name


@cache
def everything() -> dict[str, Config]:
    """Our presets and theirs by name."""
    ours = {name: configio.load(name) for name in OURS}
    return ours | {file.stem: read(file)[1] for file in THEIRS}


def family_of(name: str) -> str:
    """The family that a preset is for."""
    return "sdxl" if everything()[name].model.family == "sdxl" or name.startswith("sdxl") else "sd15"


@pytest.mark.parametrize("name", [*OURS, *(file.stem for file in THEIRS)])
def test_presets_train(
    name: str, bases: dict[str, Path], one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(one.parent / "home"))  # the encoded picture is shared by all trainings
    trains(tiny(everything()[name], bases[family_of(name)], one), tmp_path)
