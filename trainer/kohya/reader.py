"""Reads one file: takes keys, puts options, and keeps for each key what became of it."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.config import Config, Kohya
from trainer.kohya.table import FRESH
from trainer.kohya.words import WordError, coerce, migrated, shown
from trainer.tree import ConfigError, Tree, members

Outcome = Literal["converted", "same", "unsupported", "family", "unused", "unknown", "secret"]


@dataclass(frozen=True)
class Note:
    """What became of one key.

    converted: it changed an option, `text` says how when that is not plain; same: what it asks for is what happens
    here anyway; unsupported: it has no place here, `text` says why; family: other model families read it; unused: it
    has no effect in the Kohya GUI either; unknown: the GUI does not know it; secret: it was left behind.
    """

    key: str
    value: str
    outcome: Outcome
    text: str = ""
    loud: bool = False

    def __str__(self) -> str:
        return f"{self.key} {self.value}: {self.text or self.outcome}"


class Reader:
    """A file while it is read; `refused` holds what stands against training from it, by key."""

    def __init__(self, tree: Tree, name: str) -> None:
        self.name = name
        self.left = dict(tree)
        self.tree: Tree = {}
        self.notes: dict[str, Note] = {}
        self.sources: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self._values = dict(tree)

    def add(self, tree: Tree) -> None:
        """Puts keys on top of those that the file has."""
        self.left |= tree
        self._values |= tree

    def peek(self, key: str, kind: type) -> Any:
        """The value of a key, or None; says nothing about it."""
        try:
            return coerce(key, self._values.get(key), kind)
        except WordError:
            return None

    def take(self, key: str, kind: type) -> Any:
        """The value of a key, which is then done; None where it is missing, null or cannot be read."""
        if key not in self.left:
            return None
        value = self.left.pop(key)
        odd = value != "" and migrated(key, value)
        self.say(key, "converted" if value is not None else "same")
        try:
            read = coerce(key, value, kind)
        except WordError as error:
            return self.refuse(key, str(error))
        if odd:
            self.say(key, "converted", f"no number that the Kohya GUI can read, which takes {read}", loud=True)
        return read

    def put(self, dotted: str, value: Any, key: str) -> None:
        """Sets an option, and remembers the key that it came from."""
        *parts, option = dotted.split(".")
        node = self.tree
        for part in parts:
            node = node.setdefault(part, {})
        node[option] = value
        self.sources[dotted] = key

    def say(self, key: str, outcome: Outcome, text: str = "", loud: bool | None = None) -> None:
        """Notes what became of a key; the last word counts."""
        told = outcome in ("unsupported", "unknown", "secret") if loud is None else loud
        value = shown(key, self._values[key]) if key in self._values else "(missing)"
        self.notes[key] = Note(key, value, outcome, text, told)
        self.left.pop(key, None)

    def refuse(self, key: str, why: str) -> None:
        """Notes why there can be no training from this file."""
        self.say(key, "unsupported", why)
        self.refused[key] = f"{self.name}: {key} {self.notes[key].value}: {why}"

    def check(self) -> None:
        """Raises ConfigError with a line for each key that was refused."""
        if self.refused:
            raise ConfigError("\n".join(self.refused.values()))


def did_you_mean(key: str) -> str:
    """A suggestion for a key that nobody knows."""
    near = difflib.get_close_matches(key, FRESH, n=1, cutoff=0.8)
    return f"; did you mean {near[0]}?" if near else ""


def places(whole: Tree, part: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, str, FieldInfo]]:
    """(key of the Kohya GUI or '', dotted name, field) of the options in a whole tree: of unions the chosen member."""
    for name, key, field, parts in _options(part):
        if not parts:
            yield key, f"{prefix}{name}", field
        elif whole[name] is not None:
            yield from places(whole[name], parts.get(whole[name].get("type"), parts[None]), f"{prefix}{name}.")


@functools.cache
def _options(part: type[BaseModel]) -> list[tuple[str, str, FieldInfo, dict[str | None, type[BaseModel]]]]:
    """(name, key, field, the parts that it can hold by their `type`) of each option of a part; None is the first."""
    found = []
    for name, field in part.model_fields.items():
        key = next((mark.key for mark in field.metadata if isinstance(mark, Kohya)), "")
        inner = members(field.annotation)
        by_type = {one.model_fields["type"].default: one for one in inner if "type" in one.model_fields}
        found.append((name, key, field, {None: inner[0], **by_type} if inner else {}))
    return found
