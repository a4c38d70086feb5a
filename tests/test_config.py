"""The schema and the way to it: names that stay, bounds that hold, and messages that name the field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import configio, places
from trainer.config import Config, Cosine, Lion, Lora, Polynomial
from trainer.data.folders import FolderError, collect
from trainer.tree import ConfigError, leaves, overlay

NAMES = Path(__file__).parent / "golden" / "options.txt"


def write(folder: Path, tree: Any) -> str:
    file = folder / "config.json"
    file.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return str(file)


def test_names_of_options_are_public() -> None:
    """A name that users have in their files may come, but not go."""
    assert set(NAMES.read_text().split()) <= {name for name, _ in leaves()}


def test_every_option_has_help() -> None:
    silent = [name for name, help_text in leaves() if not help_text.endswith(".")]
    assert not [name for name in silent if not name.endswith(".type")]


def test_a_config_survives_its_file(tmp_path: Path) -> None:
    config = Config(network=Lora(rank=3, conv_rank=2), optimizer=Lion(), schedule=Polynomial(power=2.0, warmup="5%"))
    assert configio.load(write(tmp_path, config.model_dump_json())).model_dump() == config.model_dump()


def test_flags_beat_the_file_which_beats_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PRESETS", tmp_path)
    (tmp_path / "soft.json").write_text('{"about": "soft", "train": {"batch": 2, "epochs": 3}, "network": {"rank": 4}}')
    source = write(tmp_path, {"preset": "soft", "train": {"epochs": 5}})
    config = configio.load(source, ["network.rank=8"])
    assert (config.train.batch, config.train.epochs, config.network.rank, config.about) == (2, 5, 8, "soft")


def test_a_changed_type_drops_the_old_part(tmp_path: Path) -> None:
    source = write(tmp_path, {"optimizer": {"type": "prodigy", "d_coef": 2.0}})
    assert configio.load(source, ["optimizer.type=lion"]).optimizer == Lion()


def test_relative_paths_count_from_the_file_and_built_in_names_stay(tmp_path: Path) -> None:
    config = configio.load(
        write(tmp_path, {"data": {"images": "img"}, "model": {"base": "org/name", "vae": "v.safetensors"}})
    )
    assert config.data.images == str(tmp_path / "img")
    assert config.model.base == "org/name"
    assert config.model.vae == str(tmp_path / "v.safetensors")
    assert configio.load(write(tmp_path, {})).model.base == "pocket"


@pytest.mark.skipif(os.name == "nt", reason="there it is a path like any other")
@pytest.mark.parametrize("path", ["C:\\pics\\img", "d:/pics", "\\\\server\\pics"])
def test_a_windows_path_is_left_for_its_reader_to_refuse(path: str, tmp_path: Path) -> None:
    config = configio.load(write(tmp_path, {"data": {"images": path}, "model": {"base": path}}))
    assert (config.data.images, config.model.base) == (path, path)
    with pytest.raises(FolderError, match="a path of a Windows machine" if ":" in path else "does not exist"):
        collect(config.data, config.captions)


def test_a_built_in_name_is_one_only_where_it_is_built_in(tmp_path: Path) -> None:
    tree = {
        "model": {"base": "pocket", "vae": "pocket"},
        "data": {"images": "zk9", "reg": "zk9"},
        "validation": {"folder": "zk9"},
        "output": {"folder": "zk9"},
    }
    config = configio.load(write(tmp_path, tree))
    assert (config.model.base, config.data.images, config.data.reg) == ("pocket", "zk9", "zk9")
    assert config.validation.folder == "zk9"
    assert (config.model.vae, config.output.folder) == (str(tmp_path / "pocket"), str(tmp_path / "zk9"))


def test_flags_are_text_where_the_option_is_text(tmp_path: Path) -> None:
    flags = ["output.name=2024", "output.comment=true", "output.title=null", 'output.author="x"', "model.vae=null"]
    config = configio.load(write(tmp_path, {}), [*flags, "schedule.warmup=20", "train.clip=null"])
    output = config.output
    assert (output.name, output.comment, output.title, output.author) == ("2024", "true", "null", "x")
    assert (config.model.vae, config.schedule, config.train.clip) == (None, Cosine(warmup=20), None)


def test_flags_that_are_paths() -> None:
    assert configio.is_path("model.base=/x=y") and configio.is_path("output.folder=x")
    assert not configio.is_path("output.name=x") and not configio.is_path("model=x")


WRONG: dict[str, tuple[Any, str]] = {
    "typo": ({"optimizer": {"lrr": 1}}, "optimizer.lrr: no such option; did you mean optimizer.lr?"),
    "typo of a part": ({"trian": {}}, "trian: no such option; did you mean train?"),
    "too small": ({"train": {"batch": 0}}, "train.batch: 0: it must be 1 or more"),
    "wrong kind": ({"train": {"batch": "two"}}, 'train.batch: "two": it must be a whole number'),
    "unknown variant": ({"optimizer": {"type": "adam"}}, "optimizer.type: 'adam' is not one of 'adamw'"),
    "unknown word": ({"sample": {"sampler": "eular"}}, 'sample.sampler: "eular"'),
    "endless": ({"train": {"epochs": None}}, "one of epochs and steps must be given"),
    "file name": ({"output": {"name": "../x"}}, "cannot be a file name"),
    "device name": ({"output": {"name": "NUL"}}, "cannot be a file name"),
    "warm-up": ({"schedule": {"type": "linear", "warmup": "ten"}}, "neither a number of steps nor a share"),
    "text cache": ({"data": {"cache_text": True}, "captions": {"shuffle": True}}, "captions that do not vary"),
    "moving picture": ({"data": {"crop": "random"}}, "crop=random changes a picture at each use"),
    "nothing trained": (
        {"rates": {"unet": None, "text_encoder": None, "text_encoder_2": None}},
        "nothing would be trained",
    ),
    "rate": ({"rates": {"text_encoder": 0}}, "rates.text_encoder: 0: it must be more than 0"),
    "schedule": ({"schedule": {"type": "adafactor"}}, "belong together"),
    "not finite": ('{"optimizer": {"lr": NaN}}', "NaN is not a number"),
    "too large": ('{"optimizer": {"lr": 1e999}}', "optimizer.lr"),
    "twice": ('{"seed": 1, "seed": 2}', "seed given twice"),
    "broken": ('{"seed": 1,', "broken JSON at line 1"),
    "list": ("[1]", "not a JSON object"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "digits": ('{"seed": ' + "1" * 5000 + "}", "4300"),
    "future": ({"version": 99}, "version 99 is not known"),
    "path of a stranger": (
        {"data": {"images": "~nobody-here/img"}},
        "data.images: '~nobody-here/img' cannot be a path",
    ),
    "path with a NUL": ({"model": {"vae": "a\0b"}}, "model.vae: 'a\\x00b' cannot be a path"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    tree, message = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        configio.load(write(tmp_path, tree))
    assert message in str(caught.value)
    assert "config.json" in str(caught.value) or "cannot be a path" in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        configio.load(write(tmp_path, {"train": {"batch": 0, "epochs": -1}, "seed": "x"}))
    assert len(str(caught.value).splitlines()) == 3


def test_a_missing_preset_names_the_others() -> None:
    with pytest.raises(ConfigError, match=r"did you mean demo\?"):
        configio.load("dmeo")


def test_encodings_that_editors_write(tmp_path: Path) -> None:
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + b'{"seed": 3}')
    assert configio.load(str(tmp_path / "bom.json")).seed == 3
    (tmp_path / "wide.json").write_bytes('{"seed": 3}'.encode("utf-16"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        configio.load(str(tmp_path / "wide.json"))


def test_old_versions_are_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configio, "VERSION", 2)
    monkeypatch.setitem(configio.MIGRATIONS, 1, lambda tree: {**tree, "seed": tree["random_seed"]})
    assert configio.migrate({"version": 1, "random_seed": 5}, "x")["seed"] == 5


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("abc"), st.integers())))
def test_overlay_keeps_what_is_above(above: dict[str, Any]) -> None:
    merged = overlay({"a": 1, "b": {"c": 2}}, above)
    for name, value in above.items():
        assert merged[name] == value or value.items() <= merged[name].items()


@pytest.mark.parametrize("preset", sorted(places.PRESETS.glob("*.json")), ids=lambda path: path.stem)
def test_every_preset_is_valid_and_says_what_it_is_for(preset: Path) -> None:
    assert configio.load(str(preset)).about
