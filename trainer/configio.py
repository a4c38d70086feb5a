"""From files and flags to a Config: defaults < preset < file < flags, with an error that names the field."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from trainer import kohya, places
from trainer.config import VERSION, Config
from trainer.durable import read_text
from trainer.kohya import Reading
from trainer.tree import LARGEST, PATHS, TEXTS, ConfigError, Tree, absolute, check, did_you_mean, overlay

MIGRATIONS: dict[int, Callable[[Tree], Tree]] = {}
"""`MIGRATIONS[n]` turns a tree of version n into one of version n + 1."""


@dataclass(frozen=True)
class Loaded:
    """A Config, and what was changed on the way from a foreign file: lines for a person, and facts for a program."""

    config: Config
    changes: tuple[str, ...] = ()
    keys: tuple[dict[str, Any], ...] = ()


def load(source: str, flags: Sequence[str] = ()) -> Config:
    """The Config of a file or a preset's name, with `a.b=value` flags on top.

    Relative paths count from the file they stand in, and from the current folder in flags.
    Raises ConfigError when a name, a value or a file is wrong.
    """
    return open_config(source, flags).config


def open_config(source: str, flags: Sequence[str] = ()) -> Loaded:
    """As `load`, with all that was changed: files of the Kohya GUI and of sd-scripts' datasets are read too."""
    file = find(source)
    tree, said = read_file(file)
    if preset := tree.pop("preset", None):
        tree = overlay(read_file(find(str(preset)))[0], tree)
    for flag in flags:
        tree = overlay(tree, absolute(flag_tree(flag), Path.cwd()))
    whole = overlay(Config().model_dump(mode="json"), tree)
    if said is None:
        return Loaded(check(whole, str(file)))
    config = check(whole, str(file), said.sources)
    changes = said.lines()
    if config.train.attention == "xformers" and find_spec("xformers") is None:  # what a fresh Kohya page holds
        config = config.model_copy(update={"train": config.train.model_copy(update={"attention": "sdpa"})})
        changes.append("xformers is not installed: train.attention is set to sdpa, which computes the same")
    return Loaded(config, tuple(changes), tuple(asdict(note) for note in said.notes))


def read_file(file: Path) -> tuple[Tree, Reading | None]:
    """The options in a file, in today's layout and with absolute paths, and what was said of a foreign one's keys."""
    foreign = file.suffix.lower() == ".toml"
    tree = {"dataset_config": str(file)} if foreign else read_tree(file)
    if not (foreign or kohya.is_kohya(tree)):
        return absolute(migrate(tree, str(file)), file.parent), None
    said = kohya.read(tree, str(file))
    return absolute(said.config_tree, file.parent), said


def find(source: str) -> Path:
    """The file meant by a path or by a preset's name."""
    places_to_look = [
        Path(source),
        *(folder / f"{source}.json" for folder in (places.home() / "presets", places.PRESETS)),
    ]
    for path in places_to_look:
        if path.is_file():
            return path.resolve()
    names = sorted(path.stem for path in places.PRESETS.glob("*.json"))
    raise ConfigError(
        f"{source}: no such file, and no preset of that name{did_you_mean(source, names)}; presets: {', '.join(names)}"
    )


def read_tree(path: Path) -> Tree:
    """The JSON object in a file; says where it is broken."""

    def refuse(word: str) -> NoReturn:
        raise ConfigError(f"{path}: {word} is not a number that JSON has; write a finite number, or null for off")

    def once(pairs: list[tuple[str, Any]]) -> Tree:
        names = [name for name, _ in pairs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"{path}: {', '.join(twice)} given twice; keep one")
        return dict(pairs)

    text = read_text(f"{path}:", path, LARGEST, "choose a JSON file", ConfigError)
    try:
        tree = json.loads(text, parse_constant=refuse, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: broken JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply to be a config") from None
    except ValueError as error:  # a number of more than 4300 digits
        raise error if isinstance(error, ConfigError) else ConfigError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds a {type(tree).__name__}, not a JSON object of options")
    return tree


def migrate(tree: Tree, name: str) -> Tree:
    """The tree in today's layout."""
    version = tree.get("version", VERSION)
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise ConfigError(f"{name}: version {version!r} is not known here (1 to {VERSION}); update Likeness to read it")
    for step in range(version, VERSION):
        tree = MIGRATIONS[step](tree)
    return {**tree, "version": VERSION}


def flag_tree(flag: str) -> Tree:
    """`optimizer.lr=1e-4` as a tree; the value is JSON where it can be and the option is not text, else text."""
    name, equals, text = flag.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {flag}: write it as part.option=value, for instance optimizer.lr=1e-4")
    *parts, option = name.split(".")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if name in TEXTS and not isinstance(value, str) and (value is not None or TEXTS[name] is str):
        value = text  # a name such as 2024
    tree: Tree = {option: value}
    for part in reversed(parts):
        tree = {part: tree}
    return tree


def is_path(flag: str) -> bool:
    """Whether a flag sets a file or folder: these may move while a run goes on."""
    return tuple(flag.partition("=")[0].split(".")) in PATHS
