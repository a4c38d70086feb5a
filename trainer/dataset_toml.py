"""Dataset files of sd-scripts: TOML with `general`, `datasets` and their `subsets`, as far as our options go.

There every folder has options of its own; here one image folder holds them all, and its folders' names say how often
each is repeated. What cannot be said so is an error that names the subset.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from trainer.data.folders import ENDINGS
from trainer.tree import LARGEST, WINDOWS, ConfigError, Tree

KEYS = {"batch_size": "train_batch_size", "resolution": "max_resolution"}
"""Options that the Kohya GUI names otherwise."""
DATASET = {
    *("batch_size", "bucket_no_upscale", "bucket_reso_steps", "enable_bucket", "max_bucket_reso", "min_bucket_reso"),
    *("resolution", "resize_interpolation", "validation_split"),
}
SUBSET = {
    *("caption_dropout_every_n_epochs", "caption_dropout_rate", "caption_extension", "caption_prefix"),
    *("caption_separator", "caption_suffix", "caption_tag_dropout_rate", "color_aug", "enable_wildcard", "flip_aug"),
    *("keep_tokens", "keep_tokens_separator", "random_crop", "secondary_separator", "shuffle_caption"),
    *("token_warmup_min", "token_warmup_step"),
}
OWN = {"image_dir", "num_repeats", "class_tokens", "is_reg"}
"""Options that may differ from folder to folder."""
IDLE: dict[str, tuple[Any, ...]] = {"cache_info": (True, False), "network_multiplier": (1,), "alpha_mask": (False,)}
LATER = {
    "metadata_file": "sets for fine-tuning are still to come",
    "conditioning_data_dir": "ControlNet sets are not supported",
    "alpha_mask": "masked loss is still to come: set it to false",
    "face_crop_aug_range": "crops of faces are still to come: leave it out",
    "custom_attributes": "it is not supported: leave it out",
    "network_multiplier": "it is not supported: leave it out",
    "skip_image_resolution": "it is not supported: leave it out",
    "validation_seed": "which pictures are held out does not depend on a seed: leave it out",
}


@dataclass(frozen=True)
class Subset:
    """One folder of pictures: `place` names it in messages, `options` are its own and those that stand above it."""

    place: str
    folder: PurePath
    options: Tree

    @property
    def repeats(self) -> int:
        """How often each picture is seen in an epoch."""
        return self.options.get("num_repeats", 1)


def read_dataset(path: Path, given: Tree | None = None) -> Tree:
    """A dataset file as keys of the Kohya GUI.

    `num_repeats` and `class_tokens` are there for a folder that holds pictures directly. Paths count from the file.
    `given` are the keys around it, which hold where the file says nothing. Raises ConfigError.
    """
    subsets = [*_subsets(_parsed(path), path)]
    if not subsets:
        raise ConfigError(f"{path}: names no subset: add [[datasets]] and [[datasets.subsets]] with image_dir")
    tree: Tree = {}
    for name in sorted({name for subset in subsets for name in subset.options if name not in OWN}):
        values = {subset.place: subset.options.get(name) for subset in subsets}
        first, *others = values.items()
        for place, value in others:
            if value != first[1]:
                raise ConfigError(
                    f"{path}: {name} is {_said(first[1])} in {first[0]} and {_said(value)} in {place}:"
                    " all folders share one value here"
                )
        tree[KEYS.get(name, name)] = first[1]
    extension = str(tree.get("caption_extension") or (given or {}).get("caption_extension") or ".txt")
    for key, reg in (("train_data_dir", False), ("reg_data_dir", True)):
        chosen = [subset for subset in subsets if subset.options.get("is_reg", False) is reg]
        if chosen:
            folder, direct = _folder(path, chosen, extension)
            tree[key] = str(folder)
            if direct and not reg:  # regularisation is evened out with the pictures, whatever its repeats
                tree |= {"num_repeats": direct.repeats, "class_tokens": direct.options.get("class_tokens", "")}
        elif not reg:
            raise ConfigError(f"{path}: has regularisation alone: add a subset without is_reg")
        else:
            tree[key] = ""
    return tree


def _parsed(path: Path) -> Tree:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes is no dataset file (limit {LARGEST:,})")
        tree = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check dataset_config") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: broken TOML: {error}") from error
    if "datasets" not in tree and tree.keys() & {"network_module", "max_train_steps", "output_dir"}:
        raise ConfigError(f"{path}: a training file of sd-scripts: open the JSON that the Kohya GUI saved beside it")
    return tree


def _subsets(tree: Tree, path: Path) -> list[Subset]:
    """All subsets with the options that hold for them: their own before the dataset's before the general ones."""
    general = _table(tree.get("general", {}), path, "general", DATASET | SUBSET | OWN)
    if strange := sorted(tree.keys() - {"general", "datasets"}):
        raise ConfigError(f"{path}: {strange[0]} is no part of a dataset file: general and datasets are")
    found = []
    for number, dataset in enumerate(_tables(tree.get("datasets", []), path, "datasets"), 1):
        inner = _tables(dataset.get("subsets", []), path, "datasets.subsets")
        place = f"dataset {number}"
        outer = {name: value for name, value in dataset.items() if name != "subsets"}
        above = general | _table(outer, path, place, DATASET | SUBSET | OWN)
        for count, subset in enumerate(inner, 1):
            here = f"{place}, subset {count}"
            options = above | _table(subset, path, here, SUBSET | OWN | {"resize_interpolation"})
            _check(options, path, here)
            text = options["image_dir"]
            foreign = os.name != "nt" and WINDOWS.match(text)
            folder = PureWindowsPath(text) if foreign else (path.resolve().parent / Path(text).expanduser()).resolve()
            found.append(Subset(here, folder, options))
    return found


def _check(options: Tree, path: Path, place: str) -> None:
    """The options that folders have of their own must be of their kind."""
    kinds = {"image_dir": (str, None), "num_repeats": (int, 1), "class_tokens": (str, ""), "is_reg": (bool, False)}
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


def _folder(path: Path, subsets: list[Subset], extension: str) -> tuple[PurePath, Subset | None]:
    """The image folder for some subsets, and the one that it is when it holds pictures directly."""
    first = subsets[0]
    if len(subsets) == 1 and not _numbered(first.folder.name):
        if first.options.get("is_reg"):
            _check_words(path, first, "", extension)
        return first.folder, first
    parent = first.folder.parent
    remedy = "put the folders side by side in one folder, each named <repeats>_<words>"
    for subset in subsets:
        name = subset.folder.name
        if subset.folder.parent != parent:
            raise ConfigError(f"{path}: {subset.place}: {subset.folder} is not in {parent}, as others are: {remedy}")
        if _numbered(name) != subset.repeats:
            wanted = f"{subset.repeats}_{subset.options.get('class_tokens') or name.split('_', 1)[-1]}"
            said = f"{name} is to be repeated {subset.repeats} times: name it {wanted}"
            raise ConfigError(f"{path}: {subset.place}: {said}")
        _check_words(path, subset, name.partition("_")[2].strip(), extension)
    names = {subset.folder.name for subset in subsets}
    for entry in sorted(Path(parent).iterdir()) if Path(parent).is_dir() else ():
        if entry.is_dir() and _numbered(entry.name) and entry.name not in names:
            raise ConfigError(f"{path}: {entry} is no subset, but would be trained with them: {remedy} of their own")
    return parent, None


def _numbered(name: str) -> int:
    """The repeats that a folder's name begins with; 0 for none."""
    first, line, _ = name.partition("_")
    return int(first) if line and first.strip().isdecimal() else 0


def _check_words(path: Path, subset: Subset, words: str, extension: str) -> None:
    """class_tokens caption what has no caption; here the folder's name does, so they must agree where it matters."""
    tokens = subset.options.get("class_tokens") or words
    if tokens == words or not Path(subset.folder).is_dir():
        return
    files = [*Path(subset.folder).iterdir()]
    captioned = {file.name[: -len(extension)] for file in files if file.name.endswith(extension)}
    bare = [file.name for file in files if file.suffix.lower() in ENDINGS and file.stem not in captioned]
    if bare:
        raise ConfigError(
            f"{path}: {subset.place}: {bare[0]} has no {extension} caption, and class_tokens {tokens!r} cannot caption"
            f" it here: name the folder {subset.repeats}_{tokens}, and give image_dir so"
        )


def _said(value: Any) -> str:
    return "not given" if value is None else repr(value)
