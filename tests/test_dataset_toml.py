"""Dataset files of sd-scripts: what our options can say is read, and what they cannot is an error that names it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.pictures import draw_folder
from trainer import configio
from trainer.__main__ import main
from trainer.config import Config
from trainer.data.folders import collect
from trainer.dataset_toml import read_dataset
from trainer.tree import ConfigError

WHOLE = """
[general]
shuffle_caption = true
caption_extension = '.cap'
keep_tokens = 2
enable_bucket = true
bucket_reso_steps = 32

[[datasets]]
resolution = [512, 768]
batch_size = 4
min_bucket_reso = 320
validation_split = 0.1

  [[datasets.subsets]]
  image_dir = 'img/10_zk9 thing'
  num_repeats = 10
  class_tokens = 'zk9 thing'
  flip_aug = true
  caption_prefix = 'a photo of'

  [[datasets.subsets]]
  image_dir = 'img/3_zk9 body'
  num_repeats = 3
  flip_aug = true
  caption_prefix = 'a photo of'

  [[datasets.subsets]]
  is_reg = true
  image_dir = 'reg'
  flip_aug = true
  caption_prefix = 'a photo of'
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "set.toml"
    file.write_text(text)
    return file


def two(first: str, second: str, above: str = "") -> str:
    """A file with two subsets."""
    return f"{above}\n[[datasets]]\n[[datasets.subsets]]\n{first}\n[[datasets.subsets]]\n{second}\n"


def one(subset: str, above: str = "") -> str:
    """A file with one subset."""
    return f"{above}\n[[datasets]]\n[[datasets.subsets]]\n{subset}\n"


def test_a_whole_file(tmp_path: Path) -> None:
    config = configio.load(str(write(tmp_path, WHOLE)))
    data, captions = config.data, config.captions
    told = [(subset.folder, subset.repeats, subset.words, subset.reg) for subset in data.subsets]
    assert told == [
        (str(tmp_path / "img" / "10_zk9 thing"), 10, "zk9 thing", False),
        (str(tmp_path / "img" / "3_zk9 body"), 3, "", False),
        (str(tmp_path / "reg"), 1, "", True),
    ]
    assert (data.resolution, data.flip, config.train.batch) == ((512, 768), True, 4)
    assert data.buckets and (data.buckets.step, data.buckets.smallest) == (32, 320)
    assert (captions.shuffle, captions.extension, captions.keep_tokens) == (True, ".cap", 2)
    assert (captions.prefix, config.validation.share) == ("a photo of", 0.1)
    assert config.optimizer == Config().optimizer


def test_folders_are_trained_as_the_file_says(tmp_path: Path) -> None:
    draw_folder(tmp_path / "img", {"4_zk9 thing": 3, "2_zk9 body": 2})
    text = two("image_dir = 'img/4_zk9 thing'\nnum_repeats = 4", "image_dir = 'img/2_zk9 body'\nnum_repeats = 2")
    config = configio.load(str(write(tmp_path, text)))
    found = collect(config.data, config.captions)
    assert sorted((picture.folder.name, picture.folder.repeats) for picture in found.pictures) == [
        *[("2_zk9 body", 2)] * 2,
        *[("4_zk9 thing", 4)] * 3,
    ]


def test_options_of_a_subset_outrank_those_above_it(tmp_path: Path) -> None:
    text = "[general]\nkeep_tokens = 1\nnum_repeats = 2\n[[datasets]]\nkeep_tokens = 2\n"
    text += "[[datasets.subsets]]\nimage_dir = 'a'\n"
    assert read_dataset(write(tmp_path, text))[0] == {"keep_tokens": 2}
    shared, subsets = read_dataset(write(tmp_path, f"{text}keep_tokens = 3\nnum_repeats = 5\n"))
    assert shared == {"keep_tokens": 3}
    assert subsets == [{"dataset": 1, "folder": str(tmp_path / "a"), "repeats": 5}]


def test_what_differs_stays_each_subset_s_own(tmp_path: Path) -> None:
    text = """
[general]
shuffle_caption = true
[[datasets]]
resolution = 512
batch_size = 4
bucket_no_upscale = true
[[datasets.subsets]]
image_dir = 'a'
random_crop = true
caption_prefix = 'zk9'
caption_dropout_every_n_epochs = 2
[[datasets.subsets]]
image_dir = 'b'
conditioning_data_dir = 'masks'
alpha_mask = true
[[datasets]]
resolution = [768, 640]
batch_size = 2
enable_bucket = false
[[datasets.subsets]]
image_dir = 'a'
metadata_file = 'meta_lat.json'
"""
    config = configio.load(str(write(tmp_path, text)), ["data.cache_latents=false"])
    data, (a, b, c) = config.data, config.data.subsets
    assert config.captions.shuffle and data.resolution == (512, 512) and config.train.batch == 1
    assert (a.resolution, a.batch, a.dataset, a.crop, a.prefix) == ((512, 512), 4, 1, "random", "zk9")
    assert (b.masks, b.alpha_mask, b.dataset) == (str(tmp_path / "masks"), True, 1)
    assert (c.resolution, c.batch, c.dataset, c.bucketed) == ((768, 640), 2, 2, False)
    assert c.metadata == str(tmp_path / "meta_lat.json")
    assert data.of(1).buckets and data.of(1).buckets.no_upscale and data.of(2).buckets is None
    assert config.captions.of(a).dropout_every_n_epochs == 2 and config.captions.of(c).prefix == ""


def test_a_dataset_file_of_a_kohya_file_outranks_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, one("image_dir = 'pics'\nnum_repeats = 3", "[general]\nshuffle_caption = true"))
    file = tmp_path / "k.json"
    tree = {
        "dataset_config": "set.toml",
        "train_data_dir": "/other",
        "reg_data_dir": "/reg",
        "max_resolution": "640,640",
    }
    file.write_text(json.dumps({**tree, "shuffle_caption": False, "epoch": 5}))
    loaded = configio.open_config(str(file))
    config = loaded.config
    assert [(one.folder, one.repeats) for one in config.data.subsets] == [(str(tmp_path / "pics"), 3)]
    assert config.captions.shuffle and config.data.resolution == (640, 640) and config.train.epochs == 5
    assert any(change.startswith("dataset_config 'set.toml'") for change in loaded.changes)
    file.write_text(json.dumps({**tree, "dataset_config": "gone.toml"}))
    assert main(["config", str(file)]) == 2
    assert "gone.toml: cannot be read (No such file or directory)" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="there it is a path like any other")
def test_a_windows_path_is_left_for_its_reader_to_refuse(tmp_path: Path) -> None:
    file = write(tmp_path, one("image_dir = 'C:\\pics\\10_zk9'\nnum_repeats = 10"))
    assert configio.load(str(file)).data.subsets[0].folder == "C:\\pics\\10_zk9"


def test_class_tokens_caption_what_has_no_caption(tmp_path: Path) -> None:
    draw_folder(tmp_path, {"pics": 2})
    first, _ = captions = sorted(tmp_path.glob("pics/*.txt"))
    first.write_text("a written one")
    captions[1].unlink()
    config = configio.load(str(write(tmp_path, one("image_dir = 'pics'\nclass_tokens = 'zk9 girl'"))))
    assert config.data.subsets[0].words == "zk9 girl"
    found = collect(config.data, config.captions).pictures
    assert sorted((picture.caption, picture.caption_source) for picture in found) == [
        ("a written one", "file"),
        ("zk9 girl", "folder"),
    ]


WRONG: dict[str, tuple[Any, str]] = {
    "broken": ("[general", "broken TOML"),
    "empty": ("", "names no subset"),
    "typo": (one("image_dir = 'a'\nnum_repeat = 2"), "num_repeat is no option there; did you mean num_repeats?"),
    "typo of a part": ("[generel]", "generel is no part of a dataset file"),
    "no folder": (one("num_repeats = 2"), "dataset 1, subset 1: image_dir is not given: write text"),
    "repeats": (one("image_dir = 'a'\nnum_repeats = 0"), "num_repeats is 0: write a whole number from 1"),
    "kind": (one("image_dir = 'a'\nis_reg = 1"), "is_reg is 1: write true or false"),
    "list": ("[datasets]\nresolution = 1", "datasets is no list of tables"),
    "two shares": (
        "[[datasets]]\nvalidation_split = 0.1\n[[datasets.subsets]]\nimage_dir = 'a'\n"
        "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'b'",
        "dataset 1, subset 1: validation_split 0.1: all data sets share one here",
    ),
    "twice": (two("image_dir = 'a'", "image_dir = './a'"), "dataset 1, subset 2: the same as dataset 1, subset 1"),
    "only reg": (one("image_dir = 'a'\nis_reg = true"), "regularisation alone"),
    "training file": ("network_module = 'networks.lora'", "open the JSON that the Kohya GUI saved beside it"),
    "value": (one("image_dir = 'a'", "[general]\nkeep_tokens = -1"), "keep_tokens -> captions.keep_tokens: -1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_said_is_named(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        configio.load(str(file))
    assert message in str(caught.value) and str(file) in str(caught.value)
