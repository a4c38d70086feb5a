"""From files and flags to a Config: defaults < preset < file < flags, with an error that names the field."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from trainer import places
from trainer.config import VERSION, Config
from trainer.config.parts import IsPath
from trainer.errors import InputError

if TYPE_CHECKING:
    from trainer.kohya import Reading

Tree = dict[str, Any]
BUILT_IN = {"model.base": "pocket", "data.images": "zk9", "data.reg": "zk9", "validation.folder": "zk9"}
WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
LARGEST = 4 * 2**20  # bytes; a config is a few kB, so anything larger is some other file

MIGRATIONS: dict[int, Callable[[Tree], Tree]] = {}
"""`MIGRATIONS[n]` turns a tree of version n into one of version n + 1."""


class ConfigError(InputError):
    """A config that cannot be used; the message names the file and the field."""


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
    from trainer import kohya  # here, because it is made of this module's words
    from trainer.dataset_toml import read_dataset

    foreign = file.suffix.lower() == ".toml"
    tree = read_dataset(file) if foreign else read_tree(file)
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

    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(
                f"{path}: {path.stat().st_size:,} bytes is no config (limit {LARGEST:,}); choose a JSON file"
            )
        tree = json.loads(path.read_bytes().decode("utf-8-sig"), parse_constant=refuse, object_pairs_hook=once)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); save it again as UTF-8") from error
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


def overlay(below: Tree, above: Mapping[str, Any]) -> Tree:
    """`above` on top of `below`; a part whose `type` changes is replaced, not mixed with the old one."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        same_kind = (
            isinstance(old, dict)
            and isinstance(value, Mapping)
            and value.get("type", old.get("type")) == old.get("type")
        )
        result[name] = overlay(old, value) if same_kind else value
    return result


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


def absolute(tree: Tree, folder: Path) -> Tree:
    """The tree with its relative paths counted from `folder`; built-in names, hub ids and Windows' paths stay.

    A Windows path that is met elsewhere is left to who opens it, and can say so.
    """
    result = dict(tree)
    for part, option in PATHS:
        node = result.get(part)
        text = node.get(option) if isinstance(node, dict) else None
        if not isinstance(text, str) or text in ("", BUILT_IN.get(f"{part}.{option}")):
            continue
        if os.name != "nt" and WINDOWS.match(text):
            continue
        try:
            path = folder / Path(text).expanduser()
            if option != "base" or path.exists() or not HUB_ID.match(text):
                result[part] = {**result[part], option: str(path.resolve())}
        except (OSError, RuntimeError, ValueError) as error:  # too long; ~ of a stranger; a NUL
            raise ConfigError(f"{part}.{option}: {text[:200]!r} cannot be a path ({error}); choose another") from None
    return result


def is_path(flag: str) -> bool:
    """Whether a flag sets a file or folder: these may move while a run goes on."""
    return tuple(flag.partition("=")[0].split(".")) in PATHS


def check(tree: Tree, name: str, sources: Mapping[str, str] | None = None) -> Config:
    """The Config of a whole tree, or a ConfigError with one line for each mistake.

    sources: the key of a foreign file that an option came from, by dotted name, to be named too.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [f"{name}: {explain(mistake, sources or {})}" for mistake in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def explain(mistake: ErrorDetails, sources: Mapping[str, str]) -> str:
    """One mistake in a line: the field, the value, the limit, and what the field is for."""
    names = dict(leaves())
    known = {word for name in names for word in name.split(".")}
    place = ".".join(str(word) for word in mistake["loc"] if str(word) in known or mistake["type"] == "extra_forbidden")
    if mistake["type"] == "extra_forbidden":
        place = ".".join(str(word) for word in mistake["loc"] if word not in TAGS)
        return f"{place}: no such option{did_you_mean(place, [*names, *Config.model_fields])}"
    if mistake["type"] == "union_tag_invalid":
        return f"{place}.type: {mistake['ctx']['tag']!r} is not one of {mistake['ctx']['expected_tags']}"
    message = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    value = json.dumps(mistake["input"], default=str)
    told = (
        f"{place or 'config'}: {value[:60]}{'…' if len(value) > 60 else ''}"
        if not isinstance(mistake["input"], dict)
        else place or "config"
    )
    help_text = names.get(place, "")
    key = f"{sources[place]} -> " if place in sources else ""
    return f"{key}{told}: {message}{f' ({help_text})' if help_text else ''}"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A suggestion, when something near exists: by the whole dotted name, else by its last word."""
    last = {name.rsplit(".", 1)[-1]: name for name in known}
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.75)
    near = near or [
        last[hit] for hit in difflib.get_close_matches(word.rsplit(".", 1)[-1], list(last), n=1, cutoff=0.7)
    ]
    return f"; did you mean {near[0]}?" if near else ""


def leaves() -> Iterator[tuple[str, str]]:
    """Dotted name and help of every option, all members of a union in turn."""
    return ((name, field.description or "") for name, field in fields())


def fields(part: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Dotted name and definition of every option, all members of a union in turn."""
    for name, field in part.model_fields.items():
        parts = members(field.annotation)
        for member in parts:
            yield from fields(member, f"{prefix}{name}.")
        if not parts or type(None) in get_args(field.annotation):
            yield f"{prefix}{name}", field


def members(annotation: Any) -> list[type[BaseModel]]:
    """The parts that an annotation can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [member for argument in get_args(annotation) for member in members(argument)]


def _tags() -> set[str]:
    """The values of all `type` fields: pydantic puts them into the place of an error."""
    found: set[str] = set()

    def walk(part: type[BaseModel]) -> None:
        for name, field in part.model_fields.items():
            if name == "type":
                found.add(str(field.default))
            for member in members(field.annotation):
                walk(member)

    walk(Config)
    return found


TAGS = _tags()
TEXTS: dict[str, Any] = {name: field.annotation for name, field in fields() if field.annotation in (str, str | None)}
PATHS = tuple(
    (part, option)
    for part, field in Config.model_fields.items()
    for member in members(field.annotation)
    for option, inner in member.model_fields.items()
    if any(isinstance(mark, IsPath) for mark in inner.metadata)
)
