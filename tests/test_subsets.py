"""Folders with settings of their own, and the metadata file: what is found, how it is counted, and what is trained."""

from __future__ import annotations

import json
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors import safe_open

from tests.conftest import Train, Tree
from tests.pictures import draw_folder
from tests.test_train import start
from tests.tiny import build
from trainer import configio
from trainer.config import Config
from trainer.data.buckets import BucketError
from trainer.data.cache import Cache
from trainer.data.dataset import Dataset
from trainer.data.folders import Collection, FolderError, collect
from trainer.data.order import expand
from trainer.datasets import datasets_of, folders_of
from trainer.metadata import public_config
from trainer.plan import PlanError, make_plan
from trainer.tree import ConfigError
from trainer.validation import still
from webui import form

SHAPES = {"a": (96, 128), "b": (128, 64), "reg": (64, 64), "c": (80, 80)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of five, three, four and two pictures."""
    folder = tmp_path_factory.mktemp("subsets")
    for name, count in {"a": 5, "b": 3, "reg": 4, "c": 2}.items():
        draw_folder(folder, {name: count}, SHAPES[name])
    return folder


def config_of(root: Path, *subsets: Tree, **parts: Tree) -> Config:
    whole = [{**subset, "folder": str(root / subset["folder"])} for subset in subsets]
    data = {"subsets": whole, "resolution": 64, "buckets": None, "workers": 0, **parts.pop("data", {})}
    return Config.model_validate({"data": data, **parts})


def found(config: Config) -> Collection:
    return collect(config.data, config.captions)


# Counts


def test_steps_are_those_of_sd_scripts(root: Path) -> None:
    """Two data sets, counted the long way: in each, buckets fill batches of its own size; regularisation is its own."""
    config = config_of(
        root,
        {"folder": "a", "repeats": 3, "dataset": 1, "batch": 4},
        {"folder": "b", "repeats": 2, "dataset": 1, "batch": 4},
        {"folder": "reg", "repeats": 1, "dataset": 1, "batch": 4, "reg": True},
        {"folder": "c", "repeats": 5, "dataset": 2, "batch": 3, "resolution": (128, 128), "bucketed": True, "step": 64},
        {"folder": "a", "repeats": 1, "dataset": 2, "batch": 3, "resolution": (128, 128), "bucketed": True, "step": 64},
        train={"batch": 7, "epochs": 2, "accumulate": 2},
    )
    collection = found(config)
    plan = make_plan(config, collection, "sd15")
    trained = 5 * 3 + 3 * 2
    reg, left = [0] * 4, trained
    first = True
    while left > 0:  # sd-scripts: own repeats in the first round, then one more each until there are enough
        for i in range(4):
            if left > 0:
                reg[i] += 1
                left -= 1
        first = False
    assert not first and sum(reg) == trained
    squares = 5 * 3 + 3 * 2 + sum(reg)  # no buckets: all are 64 x 64
    one = ceil(squares / 4)
    shapes = {(64, 64): 2 * 5, (64, 128): 5 * 1}  # 80 x 80 and 96 x 128 are not enlarged, but cut to steps of 64
    two = sum(ceil(uses / 3) for uses in shapes.values())
    assert (plan.items, plan.reg_items) == (trained + 2 * 5 + 5, trained)
    assert (plan.batches, plan.steps_per_epoch) == (one + two, ceil((one + two) / 2))
    assert plan.steps == 2 * ceil((one + two) / 2)
    assert [(f.name, f.repeats, f.uses) for f in plan.folders][:2] == [("a", 3, 15), ("b", 2, 6)]

    told = datasets_of(config, collection.pictures)
    assert [(one["batch_size_per_device"], one["num_train_images"], one["num_reg_images"]) for one in told] == [
        (4, 21, 4),
        (3, 15, 0),
    ]
    assert [one["bucket_info"] is None for one in told] == [True, False] and told[1]["enable_bucket"]
    assert folders_of(told) == {"a": (3, 5), "b": (2, 3), "c": (5, 2), "a (2)": (1, 5)}


def test_data_sets_share_no_batch_and_every_use_is_there_once(root: Path, tmp_path: Path) -> None:
    subsets: list[Tree] = [
        {"folder": "a", "repeats": 2, "prefix": "mine", "flip": True},
        {"folder": "b", "dataset": 2, "batch": 2, "suffix": "other", "dropout": 1.0},
    ]
    config = config_of(root, *subsets, data={"cache_latents": False}, captions={"prefix": "all"}, train={"batch": 3})
    family = build("sd15")
    collection = found(config)
    made, again = (Dataset(config, collection, family, Cache(tmp_path)) for _ in range(2))
    assert [made.batch(1, 0).captions, made.batch(1, 2).pictures] == [
        again.batch(1, 0).captions,
        again.batch(1, 2).pictures,
    ]
    items, captions = [], set[str]()
    for epoch in range(3):
        for index in range(len(made)):
            batch = made.items_of(epoch, index)
            owners = {collection.pictures[item.picture].folder.name for item in batch}
            assert len(owners) == 1 and len(batch) <= (3 if owners == {"a"} else 2)
            items += batch
            captions |= {made.caption(item, epoch, index) for item in batch}
    assert sorted(items) == sorted(expand(collection.pictures) * 3)
    assert {caption.split()[0] for caption in captions if caption} == {"mine"} and "" in captions
    flips = [shot for epoch in range(4) for index in range(len(made)) for shot in made.shots_of(epoch, index)]
    assert {shot.picture.folder.name for shot in flips if shot.flipped} == {"a"}

    fixed = still(config)
    assert not any(fixed.captions.of(subset).vary or subset.flip for subset in fixed.data.subsets)
    assert fixed.captions.of(fixed.data.subsets[0]).prefix == "mine"


def test_a_training_from_subsets(train: Train, images: Path, small: Tree) -> None:
    folder, other = images / "2_zk9 thing", images / "1_zk9 body"
    subsets = [
        {"folder": str(folder), "repeats": 2, "batch": 2},
        {"folder": str(other), "dataset": 2, "resolution": 128, "metadata": None, "prefix": "zk9 body"},
    ]
    run = train({"data": {"subsets": subsets}})
    assert start(run)["batches"] == ceil(2 * 4 / 2) + 2
    with safe_open(run.checkpoints / "zk9.safetensors", "pt") as file:
        told = file.metadata()
    assert [one["resolution"] for one in json.loads(told["ss_datasets"])] == [[64, 64], [128, 128]]
    assert json.loads(told["ss_dataset_dirs"]) == {
        "2_zk9 thing": {"n_repeats": 2, "img_count": 4},
        "1_zk9 body": {"n_repeats": 1, "img_count": 2},
    }
    assert "ss_resolution" not in told and "ss_bucket_info" not in told and json.loads(told["ss_tag_frequency"])
    config = Config.model_validate(small | {"data": {"subsets": subsets}})
    assert str(images) not in public_config(config) and "2_zk9 thing" in public_config(config)


# Files and the page


def test_subsets_on_the_page_and_in_files(tmp_path: Path) -> None:
    text = '[[subsets]]\nfolder = "pics"\nrepeats = 3\nresolution = [512, 640]\nprefix = "zk9 \\"x\\""'
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"version": 1, "data": {"subsets": text}}))
    config = configio.load(str(file))
    assert config.data.subsets[0].folder == str(tmp_path / "pics") and config.data.subsets[0].prefix == 'zk9 "x"'
    boxes = form.write(config)
    assert boxes["data.subsets"] == text.replace('"pics"', json.dumps(str(tmp_path / "pics")))
    assert form.read(boxes) == config and Config.model_validate_json(config.model_dump_json()) == config
    for wrong, said in {"[[subsets]\n": "broken TOML", "repeats = 1": "stands outside a table"}.items():
        with pytest.raises(form.Mistakes) as caught:
            form.read({**boxes, "data.subsets": wrong})
        assert said in caught.value.at["data.subsets"]
    file.write_text(json.dumps({"version": 1, "data": {"subsets": [{"folder": "a", "repeats": 0}]}}))
    with pytest.raises(ConfigError, match=r"data.subsets.repeats: 0: it must be 1 or more"):
        configio.load(str(file))


def test_what_cannot_be_trained_is_said(root: Path) -> None:
    moving: Tree = {"folder": "a", "crop": "random"}
    with pytest.raises(ValidationError, match="crop=random changes a picture at each use"):
        config_of(root, moving)
    with pytest.raises(ValidationError, match="captions that do not vary"):
        config_of(root, {"folder": "a", "shuffle": True}, data={"cache_text": True})
    with pytest.raises(FolderError, match=r"data.subsets: .*nowhere"):
        found(config_of(root, {"folder": "nowhere"}))
    thin = config_of(root, {"folder": "a", "bucketed": True, "step": 8})
    with pytest.raises(BucketError, match=r"data.subsets: .*step: 8 must be a multiple"):
        make_plan(thin, found(thin), "sd15")
    alone = config_of(root, {"folder": "a", "reg": True})
    with pytest.raises(PlanError, match="no picture to train on"):
        make_plan(alone, found(alone), "sd15")


# The metadata file


def sheet(folder: Path, entries: Any) -> str:
    file = folder / "meta_lat.json"
    file.write_text(json.dumps(entries))
    return str(file)


def test_a_metadata_file_says_what_is_trained_and_with_which_words(tmp_path: Path) -> None:
    images = draw_folder(tmp_path / "img", {"2_zk9 thing": 5}, size=(100, 128))
    folder = images / "2_zk9 thing"
    entries = {
        str(folder / "0.png"): {"caption": "by its path", "tags": "one, two"},
        "2_zk9 thing/1": {"caption": "by its place"},
        "2.png": {"tags": "by, name", "train_resolution": [64, 192]},
        "/content/elsewhere/3.png": {"caption": "from\nanother machine"},
    }
    data: Tree = {"images": str(images), "metadata": sheet(tmp_path, entries), "resolution": 128, "workers": 0}
    buckets = {"smallest": 64, "largest": 256, "no_upscale": False}
    config = Config.model_validate({"data": {**data, "buckets": buckets}})
    collection = found(config)
    told = {picture.path.name: (picture.caption.split("\n")[0], picture.trained) for picture in collection.pictures}
    assert told == {
        "0.png": ("by its path, one, two", None),
        "1.png": ("by its place", None),
        "2.png": ("by, name", (64, 192)),
        "3.png": ("from", None),
    }
    assert "1 pictures are not in the metadata file (4.png): left out" in " ".join(map(str, collection.problems))
    plan = make_plan(config, collection, "sd15")
    assert [(b.width, b.height, b.uses) for b in plan.buckets] == [(64, 192, 2), (128, 128, 6)]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "names no picture"),
        ({"a": "words"}, "a is no table"),
        ({"a": {"caption": 3}}, "caption is 3: write text"),
        ({"a": {"caption": "x", "train_resolution": [0, 64]}}, "train_resolution is .0, 64.: write .width, height."),
    ],
)
def test_a_metadata_file_that_cannot_be_read(entries: Any, said: str, root: Path, tmp_path: Path) -> None:
    config = config_of(root, {"folder": "a", "metadata": sheet(tmp_path, entries)})
    with pytest.raises(FolderError, match=rf"data.subsets.metadata: .*{said}"):
        found(config)
