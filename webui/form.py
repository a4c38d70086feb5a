"""The form of a training: a Config into boxes and back, with each mistake at its field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.config import VERSION, Config
from trainer.config.parts import Part
from trainer.errors import InputError
from trainer.tree import LIMITS, TAGS, explain, limit_of, members
from webui.fields import FIELDS, Field, Values, variant_of

HIDDEN = ("version",)
"""Options that are not on the page."""
PLACED = tuple(shown for shown in FIELDS.values() if shown.name not in HIDDEN)
OWNERS = frozenset(shown.owner for shown in FIELDS.values())
"""Unions, and parts that may be off."""
MISSING = object()
NAME = r"[a-z_0-9]+(?:\.[a-z_0-9]+)*"


class Mistakes(InputError):
    """What stands in the form cannot be trained. `at`: what is wrong, by field; `general`: what belongs to none."""

    def __init__(self, at: Mapping[str, str], general: Iterable[str] = ()) -> None:
        self.at, self.general = dict(at), tuple(general)
        lines = [*self.general, *dict.fromkeys(f"{FIELDS[name].label}: {said}" for name, said in self.at.items())]
        super().__init__("\n".join(lines))


def write(config: Config) -> dict[str, Any]:
    """What stands in each box for a config. A field that has no place in it gets its default, ready to be shown."""
    tree = config.model_dump()
    values: dict[str, Any] = {}
    for shown in PLACED:
        value = found(tree, shown.name)
        meaning = shown.meaning(values) or next(iter(shown.meanings.values()))
        values[shown.name] = shown.write(meaning.default if value is MISSING else value)
    return values


def read(values: Values) -> Config:
    """The config that stands in the boxes; Mistakes when there is none."""
    return check(tree_of(values), values)


def check(tree: Mapping[str, Any], values: Values) -> Config:
    """The config of a tree; Mistakes, with what stands in the boxes, when there is none."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise _mistakes(error.errors(), values) from None


def tree_of(values: Values) -> dict[str, Any]:
    """What stands in the boxes as a tree, unchecked: only fields that have a place beside the others."""
    tree: dict[str, Any] = {"version": VERSION}
    for shown in PLACED:
        if shown.meaning(values) is None:
            continue
        *above, last = shown.name.split(".")
        part = tree
        for name in above:
            part = part.setdefault(name, {})
        value = shown.read(values[shown.name])
        if shown.kind == "check" and shown.name in OWNERS:
            part[last] = {} if value else None
        else:
            part[last] = value
    return tree


def changed(values: Values) -> list[str]:
    """The fields that do not stand at their default."""
    told = ((shown, shown.meaning(values)) for shown in PLACED)
    return [shown.name for shown, meaning in told if meaning and values[shown.name] != shown.write(meaning.default)]


def switch(values: Values, owner: str, before: str) -> dict[str, Any]:
    """The boxes of a union whose variant was `before` and now is another, with the new variant's own values.

    What both variants have from a common ancestor stays: AdamW and AdamW8bit share a rate, AdamW and Prodigy do not.
    """
    variant = variant_of(owner, values)
    old, new = (_class_of(owner, word) for word in (before, variant))
    shared = next((kind for kind in new.__mro__ if kind in old.__mro__ and issubclass(kind, Part)), Part)
    fresh = {}
    for shown in PLACED:
        if (
            shown.owner == owner
            and variant in shown.meanings
            and shown.name.rsplit(".", 1)[-1] not in shared.model_fields
        ):
            fresh[shown.name] = shown.write(shown.meanings[variant].default)
    return fresh


def found(tree: Any, name: str) -> Any:
    """The value of a dotted name in a tree, MISSING where there is none."""
    for word in name.split("."):
        if not isinstance(tree, Mapping) or word not in tree:
            return MISSING
        tree = tree[word]
    return tree


def apply(values: Values, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The boxes with some options set to new values; a changed type brings its part's defaults."""
    result = dict(values)
    for name in sorted(changes, key=lambda name: not name.endswith(".type")):
        owner, before = name.removesuffix(".type"), dict(result)
        result[name] = FIELDS[name].write(changes[name])
        if owner != name and owner in OWNERS:
            result |= switch(result, owner, variant_of(owner, before))
    return result


def place_of(message: str, prefix: str = "") -> list[str]:
    """The fields that a message names: by dotted name anywhere, by the last word inside a part."""
    meant = {name for word in re.findall(NAME, message) for name in _meant(word, prefix)}
    return [name for name in FIELDS if name in meant and name not in HIDDEN]


def _meant(word: str, prefix: str) -> tuple[str, ...]:
    """The dotted names that a word can stand for."""
    whole = (word, f"{word}.type") if "." in word else ()
    return (*whole, f"{prefix}.{word}") if prefix else whole


def at_fields(error: InputError) -> Mistakes:
    """What another part of the program refuses, with each line at the field it begins with."""
    if isinstance(error, Mistakes):
        return error
    at: dict[str, str] = {}
    general: list[str] = []
    for line in str(error).splitlines():
        name, colon, said = line.partition(":")
        name = name if name in FIELDS else f"{name}.type"
        if colon and name in FIELDS and name not in HIDDEN:
            at[name] = in_words(said.strip())
        elif named := place_of(line) or place_of(said, line.partition(":")[0]):
            at |= dict.fromkeys(named, in_words(said.strip(), line.partition(":")[0]))
        else:
            general.append(line)
    return Mistakes(at, general)


def in_words(message: str, prefix: str = "") -> str:
    """A message with the labels of the page in place of the options' names."""

    def label_of(word: re.Match[str]) -> str:
        name = next((name for name in _meant(word[0], prefix) if name in FIELDS), None)
        return f"“{FIELDS[name].label}”" if name else word[0]

    return re.sub(NAME, label_of, message)


def _mistakes(errors: Iterable[ErrorDetails], values: Values) -> Mistakes:
    """Each mistake at its field; one of several fields at those of them that were changed."""
    at: dict[str, str] = {}
    general: list[str] = []
    moved = changed(values)
    for mistake in errors:
        words = [str(word) for word in mistake["loc"] if word not in TAGS]  # of unions; no part of a name
        places = (".".join(words[:count]) for count in range(len(words), 0, -1))
        name = next((name for name in places if name in FIELDS and name not in OWNERS), "")
        prefix = ".".join(words)
        if name and name not in HIDDEN:
            at.setdefault(name, _refusal(mistake, FIELDS[name], values))
            continue
        message = in_words(mistake["msg"].removeprefix("Value error, "), prefix)
        named = [name for name in place_of(mistake["msg"], prefix) if FIELDS[name].meaning(values)]
        for name in [name for name in named if name in moved] or named:
            at.setdefault(name, message)
        general += [] if named else [explain(mistake, {})]
    return Mistakes(at, general)


def _refusal(mistake: ErrorDetails, shown: Field, values: Values) -> str:
    """What is wrong with one value: the value, its limit, and what is right."""
    kind, meaning = mistake["type"], shown.meaning(values)
    if kind == "value_error":
        return mistake["msg"].removeprefix("Value error, ")
    must = limit_of(mistake)
    if kind not in LIMITS and (shown.kind == "numbers" or kind in ("tuple_type", "missing", "too_long")):
        must = f"numbers with commas between, such as {shown.write(meaning.default) if meaning else ''}"
    value = json.dumps(values[shown.name], default=str, ensure_ascii=False)
    return f"{value[:60]} is not possible here: it must be {must}"


def _class_of(owner: str, word: str) -> type[BaseModel]:
    """The class of a union's variant."""
    kinds: list[type[BaseModel]] = [Config]
    for name in owner.split("."):
        kinds = members(kinds[0].model_fields[name].annotation)
    return next(kind for kind in kinds if str(kind.model_fields["type"].default) == word)
