"""Flags of the command line, made from the options of tools, and read back into them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic.fields import FieldInfo

from trainer.config.parts import Part, label
from trainer.tree import fields, validate

Options = TypeVar("Options", bound=Part)
FOLDER = "folder"
DEST = "option "
"""Before the names of options among all that argparse gives, so that no two meet."""


def add_flags(parser: argparse.ArgumentParser, parts: Mapping[str, type[Part]]) -> None:
    """DIR for an option `folder`, and a flag for every other option of one part, or of several told apart by a word.

    `buckets.no_upscale` is `--buckets-no-upscale`; what is on by default has a `--no-` twin. An option that is not
    given is not set, so that each part has its own default.
    """
    known: set[str] = set()
    for word, part in parts.items():
        about = (part.__doc__ or "").strip().splitlines()[0].rstrip(".")
        group = parser.add_argument_group(f"{word}: {about}") if len(parts) > 1 else parser
        for name, field in fields(part):
            if name == FOLDER and name not in known:
                parser.add_argument(DEST + name, metavar="DIR", help=field.description)
            elif name not in known:
                infos = {word: dict(fields(other)).get(name) for word, other in parts.items()}
                _add(group, name, field, {word: info for word, info in infos.items() if info})
            known.add(name)


def _add(group: Any, name: str, field: FieldInfo, infos: Mapping[str, FieldInfo]) -> None:
    texts = {word: _help(name, info) for word, info in infos.items()}
    text = " ".join(f"{word}: {text}" for word, text in texts.items())
    text = texts[next(iter(texts))] if len(set(texts.values())) == 1 else text
    kinds = get_args(field.annotation)
    given: dict[str, Any] = {"dest": DEST + name, "default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    if field.annotation is bool or any(isinstance(kind, type) and issubclass(kind, Part) for kind in kinds):
        on = any(info.default is True for info in infos.values())
        given["action"] = argparse.BooleanOptionalAction if on else "store_true"
    elif get_origin(field.annotation) is Literal:
        given["choices"] = kinds
    elif is_list(field.annotation):
        given |= {"nargs": "+", "metavar": name.split(".")[-1].removesuffix("s").upper()}
    else:
        given["metavar"] = name.split(".")[-1].upper()
    group.add_argument("--" + name.replace(".", "-").replace("_", "-"), **given)


def read_flags(given: argparse.Namespace, part: type[Options]) -> Options:
    """The options that flags give; InputError has a line for each mistake: option, value, limit, what it is for."""
    known, tree = dict(fields(part)), dict[str, Any]()
    flags = {name.removeprefix(DEST): value for name, value in vars(given).items() if name.startswith(DEST)}
    for name in sorted(flags, key=lambda name: name.count(".")):  # a part's own switch before what is in it
        *above, last = name.split(".")
        node = tree
        for word in above:
            node = node.setdefault(word, {})
        is_part = any(other.startswith(f"{name}.") for other in known)
        node[last] = {} if is_part else _value(flags[name], known.get(name))
    return validate(part, tree)


def _value(value: Any, field: FieldInfo | None) -> Any:
    """A flag that takes several values for one part may stand for a single one in another."""
    single = isinstance(value, list) and len(value) == 1 and field and not is_list(field.annotation)
    return value[0] if single else value


def is_list(annotation: Any) -> bool:
    """Whether an option is a list of any length; a size of two numbers is one word."""
    return get_origin(annotation) is tuple and Ellipsis in get_args(annotation)


def _help(name: str, field: FieldInfo) -> str:
    shown = "" if field.is_required() or isinstance(field.default, bool) else field.default
    if isinstance(shown, tuple):
        sizes = [shown] if all(isinstance(side, int) for side in shown) else shown
        shown = " ".join("x".join(map(str, size)) if isinstance(size, tuple) else str(size) for size in sizes)
    text = f"{label(name.split('.')[-1], field)}. {field.description or ''}"
    return text if shown in ("", None) else f"{text} (default: {shown})"
