"""A config as a tree of names and values: laid over another, with whole paths, checked with errors that name fields."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from trainer.config import Config
from trainer.config import subset as subsets
from trainer.config.parts import IsPath
from trainer.errors import InputError

Tree = dict[str, Any]
Options = TypeVar("Options", bound=BaseModel)
BUILT_IN = {"model.base": "pocket", "data.images": "zk9", "data.reg": "zk9", "validation.folder": "zk9"}
WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
LIMITS = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "a number"),
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "string_pattern_mismatch": "of another form",
}
"""What pydantic says of a value, in words of our own."""
LARGEST = 4 * 2**20  # bytes; a config is a few kB, so anything larger is some other file


class ConfigError(InputError):
    """A config that cannot be used; the message names the file and the field."""


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
        path = located(f"{part}.{option}", text, folder)
        if option != "base" or os.path.exists(path) or not HUB_ID.match(text):
            result[part] = {**result[part], option: str(path)}
    data = result.get("data")
    if isinstance(data, dict) and data.get("subsets"):
        result["data"] = {**data, "subsets": _located_subsets(data["subsets"], folder)}
    return result


def located(name: str, text: str, folder: Path) -> Path:
    """A path as it stands in an option, counted from `folder`; one of Windows' stays as it is elsewhere."""
    if os.name != "nt" and WINDOWS.match(text):
        return Path(text)
    try:
        return (folder / Path(text).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long; ~ of a stranger; a NUL
        raise ConfigError(f"{name}: {text[:200]!r} cannot be a path ({error}); choose another") from None


def _located_subsets(given: Any, folder: Path) -> Any:
    """Subsets with whole paths; what is none is left for the schema to refuse."""
    try:
        tree = subsets.read(given)
    except ValueError:
        return given
    if not isinstance(tree, (list, tuple)) or not all(isinstance(one, dict) for one in tree):
        return tree
    whole = []
    for one in tree:
        paths = {name: one[name] for name in subsets.FILES if isinstance(one.get(name), str) and one[name]}
        whole.append(
            {**one, **{name: str(located(f"data.subsets.{name}", text, folder)) for name, text in paths.items()}}
        )
    return whole


def check(tree: Tree, name: str, sources: Mapping[str, str] | None = None) -> Config:
    """The Config of a whole tree, or a ConfigError with one line for each mistake.

    sources: the key of a foreign file that an option came from, by dotted name, to be named too.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        lines = [f"{name}: {explain(mistake, sources or {})}" for mistake in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def validate(part: type[Options], tree: Any) -> Options:
    """A part of a whole tree, or an InputError with one line for each mistake."""
    try:
        return part.model_validate(tree)
    except ValidationError as error:
        lines = [explain(mistake, {}, part) for mistake in error.errors()]
        raise InputError("\n".join(dict.fromkeys(lines))) from None


def explain(mistake: ErrorDetails, sources: Mapping[str, str], part: type[BaseModel] = Config) -> str:
    """One mistake in a line: the field, the value, the limit, and what the field is for."""
    names = {name: field.description or "" for name, field in fields(part)}
    known = {word for name in names for word in name.split(".")}
    place = ".".join(str(word) for word in mistake["loc"] if str(word) in known or mistake["type"] == "extra_forbidden")
    if mistake["type"] == "extra_forbidden":
        place = ".".join(str(word) for word in mistake["loc"] if word not in TAGS)
        return f"{place}: no such option{did_you_mean(place, [*names, *part.model_fields])}"
    if mistake["type"] == "union_tag_invalid":
        return f"{place}.type: {mistake['ctx']['tag']!r} is not one of {mistake['ctx']['expected_tags']}"
    told, given = place or part.__name__.lower(), mistake["input"]
    if mistake["type"] in ("missing", "string_too_short") or (mistake["type"] in LIMITS and given in (None, "")):
        message = "it is empty; give one"
    elif mistake["type"] in LIMITS:
        message = f"it must be {limit_of(mistake)}"
    else:
        message = limit_of(mistake)
    value = json.dumps(given, default=str)
    if not isinstance(given, dict) and given not in (None, ""):
        told += f": {value[:60]}{'…' if len(value) > 60 else ''}"
    help_text = names.get(place, "")
    key = f"{sources[place]} -> " if place in sources else ""
    return f"{key}{told}: {message}{f' ({help_text})' if help_text else ''}"


def limit_of(mistake: ErrorDetails) -> str:
    """What a value must be, in plain words: "a whole number", "0 or more"."""
    if mistake["type"] in LIMITS:
        return LIMITS[mistake["type"]].format(**mistake.get("ctx", {}))
    return mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


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
    """The parts that an annotation can hold; a list of parts is one option."""
    if get_origin(annotation) is tuple:
        return []
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
