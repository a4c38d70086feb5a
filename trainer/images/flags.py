"""Flags of the command line, made from a model of options, and read back into it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError

from trainer.config.parts import Part, label
from trainer.errors import InputError
from trainer.tree import fields

Options = TypeVar("Options", bound=Part)
DEST = "option "
"""Before the names of options among all that argparse gives, so that no two meet."""


def add_flags(parser: argparse.ArgumentParser, part: type[Part]) -> None:
    """A flag for every option: `buckets.no_upscale` is `--buckets-no-upscale`; what is on has a `--no-` twin."""
    flat = part().model_dump(mode="json")
    for name, field in fields(part):
        shown = _shown(name, flat)
        given: dict[str, Any] = {"dest": DEST + name, "default": argparse.SUPPRESS}
        given["help"] = f"{label(name.split('.')[-1], field)}. {field.description} {shown}".replace("%", "%%")
        kinds = get_args(field.annotation)
        if field.annotation is bool or any(isinstance(kind, type) and issubclass(kind, Part) for kind in kinds):
            given["action"] = argparse.BooleanOptionalAction if field.default else "store_true"
        elif get_origin(field.annotation) is Literal:
            given["choices"] = kinds
        elif _is_list(field.annotation):
            given |= {"nargs": "+", "metavar": name.split(".")[-1].removesuffix("s").upper()}
        else:
            given["metavar"] = name.split(".")[-1].upper()
        parser.add_argument("--" + name.replace(".", "-").replace("_", "-"), **given)


def read_flags(options: argparse.Namespace, part: type[Options]) -> Options:
    """The options that flags give; InputError has a line for each mistake: flag, value, limit, what it is for."""
    tree: dict[str, Any] = {}
    for name, value in _given(options):
        *above, last = name.split(".")
        node = tree
        for word in above:
            node = node.setdefault(word, {})
        node[last] = {} if _is_group(name, part) else value
    try:
        return part.model_validate(tree)
    except ValidationError as error:
        known = dict(fields(part))
        lines: list[str] = []
        for mistake in error.errors():
            place = ".".join(str(word) for word in mistake["loc"] if not isinstance(word, int))
            what = mistake["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            help_text = f" ({known[place].description})" if place in known else ""
            lines.append(f"{place}: {mistake['input']!r}: {what}{help_text}" if place else what)
        raise InputError("\n".join(dict.fromkeys(lines))) from None


def _given(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of the flags that were written; a part's own switch before what is in it."""
    found = {name.removeprefix(DEST): value for name, value in vars(options).items() if name.startswith(DEST)}
    return iter(sorted(found.items(), key=lambda item: item[0].count(".")))


def _is_group(name: str, part: type[Part]) -> bool:
    """Whether an option is a part that may be off."""
    return any(other.startswith(f"{name}.") for other, _ in fields(part))


def _is_list(annotation: Any) -> bool:
    """Whether an option is a list of any length; a size of two numbers is one word."""
    return get_origin(annotation) is tuple and Ellipsis in get_args(annotation)


def _shown(name: str, tree: dict[str, Any]) -> str:
    value: Any = tree
    for word in name.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    if isinstance(value, list):
        sizes = [value] if all(isinstance(side, int) for side in value) else value
        value = " ".join("x".join(map(str, size)) for size in sizes)
    return "" if value in (None, "") or isinstance(value, (bool, dict)) else f"(default: {value})"
