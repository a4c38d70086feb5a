"""The schema as fields of a page: what each option is called, how its value is written into a box, and read back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from trainer.config import Config, Kohya, Subset
from trainer.config.parts import IsPath, label
from trainer.config.subset import written
from trainer.tree import members
from webui.layout import WORDS

Kind = Literal["check", "choice", "text", "lines", "number", "numbers", "sizes", "tables"]
Values = Mapping[str, Any]
"""What stands in the boxes, by dotted name."""

THREE = (("auto", None), ("on", True), ("off", False))
WHOLE = re.compile(r"[+-]?\d{1,18}")


@dataclass(frozen=True)
class Meaning:
    """What a field means in one variant of its part: AdamW's rate is not Prodigy's."""

    default: Any
    help: str


@dataclass(frozen=True)
class Field:
    """One option as the page shows it.

    name: dotted; choices: (word, value) of a choice; owner: the dotted name of the union or the part that may be off in
    which it lives, "" when it always counts; meanings: by variant of the owner ("" without one).
    """

    name: str
    label: str
    kind: Kind
    choices: tuple[tuple[str, Any], ...] = ()
    key: str = ""
    today: str = ""
    is_path: bool = False
    owner: str = ""
    meanings: dict[str, Meaning] = field(default_factory=dict)

    def meaning(self, values: Values) -> Meaning | None:
        """What it means beside these values; None where it has no place."""
        return self.meanings.get(variant_of(self.owner, values))

    def said(self, word: str) -> str:
        """A choice as the page calls it."""
        return WORDS.get(self.name, {}).get(word, word)

    def write(self, value: Any) -> Any:
        """A value as it stands in its box."""
        if self.kind == "check":
            return value is not None and value is not False
        if self.kind == "choice":
            return next(word for word, meant in self.choices if meant == value and type(meant) is type(value))
        if self.kind == "lines":
            return "\n".join(value)
        if self.kind == "tables":
            return written(tuple(map(Subset.model_validate, value)))
        if self.kind == "sizes":
            return ", ".join("x".join(map(_number, size)) for size in value)
        if isinstance(value, (tuple, list)):
            return ",".join(map(_number, value))
        return "" if value is None else value if isinstance(value, str) else _number(value)

    def read(self, value: Any) -> Any:
        """What stands in a box as a value; what it cannot be is left for the schema to refuse."""
        if self.kind == "choice":
            return dict(self.choices).get(value, value)
        if self.kind == "lines":
            return [line for line in (value or "").split("\n") if line.strip()]
        if self.kind == "sizes":
            return [size for size in re.split(r"[,;\s]+", value or "") if size]
        if self.kind in ("check", "text", "tables"):
            return value
        text = str(value or "").strip()
        if self.kind == "numbers" or "," in text:  # Adafactor's eps are two, AdamW's is one
            return [_parsed(piece) for piece in re.split("[,x]", text)]
        return _parsed(text) if text else None


def _number(value: float) -> str:
    """The shortest text that reads as the same number."""
    return repr(value).removesuffix(".0")


def _parsed(text: str) -> Any:
    text = text.strip()
    try:
        return int(text) if WHOLE.fullmatch(text) else float(text)
    except ValueError:
        return text


def variant_of(owner: str, values: Values) -> str:
    """Which variant of a union is chosen; of a part that may be off, "on" or "off"; "" where there is no owner."""
    if not owner:
        return ""
    return ("on" if values[owner] else "off") if owner in values else str(values.get(f"{owner}.type"))


def _walk(part: type[BaseModel], prefix: str, owner: str, variant: str) -> Iterator[tuple[Field, str, Meaning]]:
    """Every field with the variant and the meaning that this part gives it."""
    for name, info in part.model_fields.items():
        dotted, inside = f"{prefix}{name}", members(info.annotation)
        may_be_off = type(None) in get_args(info.annotation)
        if len(inside) > 1:
            words = tuple((word, word) for word in map(_type_of, inside))
            said = Meaning(_type_of(type(info.default)), info.description or "")
            yield _field(f"{dotted}.type", name, info, "choice", choices=words, owner=owner), variant, said
            for member in inside:
                yield from _walk(member, f"{dotted}.", dotted, _type_of(member))
        elif inside and may_be_off:
            said = Meaning(info.default is not None, info.description or "")
            yield _field(dotted, name, info, "check", owner=owner), variant, said
            yield from _walk(inside[0], f"{dotted}.", dotted, "on")
        elif inside:
            yield from _walk(inside[0], f"{dotted}.", owner, variant)
        elif name != "type" or not owner:
            kind, choices = _kind(info.annotation)
            made = _field(dotted, name, info, kind, choices=choices, owner=owner)
            yield made, variant, Meaning(info.default, info.description or "The kind of network that is trained.")


def _field(dotted: str, name: str, info: FieldInfo, kind: Kind, **more: Any) -> Field:
    mark = next((mark for mark in info.metadata if isinstance(mark, Kohya)), None)
    is_path = any(isinstance(mark, IsPath) for mark in info.metadata)
    key, today = (mark.key, mark.today) if mark else ("", "")
    return Field(dotted, label(name, info), kind, key=key, today=today, is_path=is_path, **more)


def _type_of(part: type[BaseModel]) -> str:
    return str(part.model_fields["type"].default)


def _kind(annotation: Any) -> tuple[Kind, tuple[tuple[str, Any], ...]]:
    """How an option is shown, and between what one chooses."""
    arguments = get_args(annotation)
    if annotation is bool:
        return "check", ()
    if set(arguments) == {bool, type(None)}:
        return "choice", THREE
    if get_origin(annotation) is Literal:
        return "choice", tuple((str(word), word) for word in arguments)
    if annotation is str or set(arguments) == {str, type(None)}:
        return "text", ()
    if (
        get_origin(annotation) is tuple
        and get_origin(get_args(arguments[0])[:1] and get_args(arguments[0])[0]) is tuple
    ):
        return "sizes", ()
    if get_origin(annotation) is tuple and arguments[0] is Subset:
        return "tables", ()
    if get_origin(annotation) is tuple:
        return ("lines" if arguments[0] is str or str in get_args(arguments[0]) else "numbers"), ()
    return "number", ()


def fields_of(part: type[BaseModel]) -> dict[str, Field]:
    """Every option of a part by its dotted name, in the order of its definition."""
    found: dict[str, Field] = {}
    for made, variant, said in _walk(part, "", "", ""):
        found.setdefault(made.name, made).meanings[variant] = said
    return found


FIELDS = fields_of(Config)
"""Every option of a training."""


def names() -> dict[str, Any]:
    """What the page calls options and their choices: {dotted name: {"label", "kind", "choices": [[value, word]]}}."""
    owners = {shown.owner for shown in FIELDS.values()}

    def choices(shown: Field) -> list[list[Any]]:
        if shown.kind == "check":
            return [[True, "on"], [None if shown.name in owners else False, "off"]]
        return [[value, shown.said(word)] for word, value in shown.choices]

    return {
        name: {"label": shown.label, "kind": shown.kind, "choices": choices(shown)} for name, shown in FIELDS.items()
    }
