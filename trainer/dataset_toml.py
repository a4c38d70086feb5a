"""Dataset files of sd-scripts: TOML with `general`, `datasets` and their `subsets`.

What all subsets share becomes options of the whole training; the rest stays each subset's own.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config.subset import FILES, KEYS
from trainer.durable import read_text
from trainer.tree import LARGEST, WINDOWS, ConfigError, Tree

WHOLE = {"batch_size": "train_batch_size", "resolution": "max_resolution"}
"""Options that the Kohya GUI names otherwise."""
DATASET = {
    *("batch_size", "bucket_no_upscale", "bucket_reso_steps", "enable_bucket", "max_bucket_reso", "min_bucket_reso"),
    *("resolution", "resize_interpolation", "validation_split"),
}
SUBSET = {*KEYS} - DATASET | {"resize_interpolation"}
OWN = {"image_dir", "num_repeats", "class_tokens", "is_reg", "metadata_file", "conditioning_data_dir"}
"""Options that always stay a subset's own."""
IDLE: dict[str, tuple[Any, ...]] = {"cache_info": (True, False), "network_multiplier": (1,)}
LATER = {
    "face_crop_aug_range": "crops of faces are still to come: leave it out",
    "custom_attributes": "it is not supported: leave it out",
    "network_multiplier": "it is not supported: leave it out",
    "skip_image_resolution": "it is not supported: leave it out",
    "validation_seed": "which pictures are held out does not depend on a seed: leave it out",
}


@dataclass(frozen=True)
class Found:
    """One folder of pictures: `place` names it in messages, `options` are its own and those that stand above it."""

    place: str
    dataset: int
    options: Tree


def read_dataset(path: Path) -> tuple[Tree, list[Tree]]:
    """A dataset file as keys of the Kohya GUI, which hold for all folders, and `data.subsets`.

    Paths count from the file. Raises ConfigError.
    """
    found = _found(_parsed(path), path)
    if not found:
        raise ConfigError(f"{path}: names no subset: add [[datasets]] and [[datasets.subsets]] with image_dir")
    if all(one.options.get("is_reg") for one in found):
        raise ConfigError(f"{path}: has regularisation alone: add a subset without is_reg")
    first, *others = found
    shared = {
        name: value
        for name, value in first.options.items()
        if name not in OWN and all(name in one.options and one.options[name] == value for one in others)
    }
    if lost := next((one for one in found if "validation_split" in one.options.keys() - shared.keys()), None):
        given = _said(lost.options["validation_split"])
        raise ConfigError(
            f"{path}: {lost.place}: validation_split {given}: all data sets share one here: write it once"
        )
    subsets = []
    for one in found:
        own = {name: value for name, value in one.options.items() if name not in shared}
        subsets.append({"dataset": one.dataset, **{KEYS[name]: _value(name, value) for name, value in own.items()}})
    return {WHOLE.get(name, name): value for name, value in shared.items()}, subsets


def _value(name: str, value: Any) -> Any:
    if name == "random_crop":
        return {True: "random", False: "center"}.get(value, value)
    return value


def _parsed(path: Path) -> Tree:
    text = read_text(f"{path}:", path, LARGEST, "check dataset_config", ConfigError)
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: broken TOML: {error}") from error
    if "datasets" not in tree and tree.keys() & {"network_module", "max_train_steps", "output_dir"}:
        raise ConfigError(f"{path}: a training file of sd-scripts: open the JSON that the Kohya GUI saved beside it")
    return tree


def _found(tree: Tree, path: Path) -> list[Found]:
    """All subsets with the options that hold for them: their own before the dataset's before the general ones."""
    general = _table(tree.get("general", {}), path, "general", DATASET | SUBSET)
    if strange := sorted(tree.keys() - {"general", "datasets"}):
        raise ConfigError(f"{path}: {strange[0]} is no part of a dataset file: general and datasets are")
    found: list[Found] = []
    for number, dataset in enumerate(_tables(tree.get("datasets", []), path, "datasets"), 1):
        inner = _tables(dataset.get("subsets", []), path, "datasets.subsets")
        place = f"dataset {number}"
        outer = {name: value for name, value in dataset.items() if name != "subsets"}
        above = general | _table(outer, path, place, DATASET | SUBSET)
        for count, subset in enumerate(inner, 1):
            here = f"{place}, subset {count}"
            options = above | _table(subset, path, here, SUBSET)
            _check(options, path, here)
            options |= {name: _whole(options[name], path) for name in options if KEYS.get(name) in FILES}
            if twice := next((one for one in found if one.dataset == number and _same(one.options, options)), None):
                raise ConfigError(
                    f"{path}: {here}: the same as {twice.place}, {options['image_dir']}: keep one of them"
                )
            found.append(Found(here, number, options))
    return found


def _same(one: Tree, other: Tree) -> bool:
    """sd-scripts takes the first of two subsets of one folder, and says so in a line of its log."""
    return all(one.get(name) == other.get(name) for name in ("image_dir", "metadata_file"))


def _whole(text: str, path: Path) -> str:
    """A path counted from the file; one of Windows' is left to who opens it."""
    foreign = os.name != "nt" and WINDOWS.match(text)
    return text if foreign or not text else str((path.resolve().parent / Path(text).expanduser()).resolve())


def _check(options: Tree, path: Path, place: str) -> None:
    """The options that folders have of their own must be of their kind."""
    kinds = {"image_dir": (str, None), "num_repeats": (int, 1), "class_tokens": (str, ""), "is_reg": (bool, False)}
    kinds |= dict.fromkeys(("metadata_file", "conditioning_data_dir"), (str, ""))
    for name, (kind, default) in kinds.items():
        value = options.get(name, default)
        if type(value) is not kind or (name == "num_repeats" and int(value) < 1):
            wanted = {str: "text", int: "a whole number from 1", bool: "true or false"}[kind]
            raise ConfigError(f"{path}: {place}: {name} is {_said(value)}: write {wanted}")


def _table(table: Any, path: Path, place: str, known: set[str]) -> Tree:
    """The options of a table that mean something here; those that are not known, or not here, are errors."""
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {place} is no table: write it as [{place}]")
    for name, value in table.items():
        if name in LATER and value not in IDLE.get(name, ()):
            raise ConfigError(f"{path}: {place}: {name} {_said(value)}: {LATER[name]}")
        if name not in known and name not in LATER and name not in IDLE:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{path}: {place}: {name} is no option there{hint}")
    return {name: value for name, value in table.items() if name in known}


def _tables(value: Any, path: Path, place: str) -> list[Tree]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigError(f"{path}: {place} is no list of tables: write [[{place}]]")
    return value


def _said(value: Any) -> str:
    return "not given" if value is None else repr(value)
