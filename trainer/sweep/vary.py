"""Which options a sweep varies, and with which values: written in a line, checked, and made into trials."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer import configio
from trainer.config import Config
from trainer.draws import dice
from trainer.errors import InputError
from trainer.tree import ConfigError, check, overlay

MOST = 1000  # runs; more is a slip of the pen
SPAN = re.compile(r"([^,\[\]]+?)\.\.([^,\[\]]+?)(\s+log)?")
DIGITS = 4  # of a number that is drawn: nobody needs a rate of 0.00021379620895

Values = dict[str, Any]
"""The options of one trial, by dotted name."""


@dataclass(frozen=True)
class Vary:
    """An option and what it may be: listed values, or any number between two."""

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    """Whether numbers are drawn evenly by their logarithm, as learning rates should be."""

    @property
    def whole(self) -> bool:
        """Whether the numbers of a range are whole ones."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def text(self) -> str:
        """As it is written."""
        if any(isinstance(value, tuple) for value in self.values):
            return f"{self.name}={json.dumps(self.values)}"
        if self.values:
            return f"{self.name}={','.join(map(word, self.values))}"
        return f"{self.name}={word(self.low)}..{word(self.high)}{' log' if self.log else ''}"

    def at(self, share: float) -> Any:
        """The value at a share from 0 to 1 of the way."""
        if self.values:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        if self.whole:
            return min(int(self.low) + int(share * (self.high - self.low + 1)), int(self.high))
        found = self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
        return min(max(float(f"{found:.{DIGITS}g}"), self.low), self.high)


def read(line: str) -> Vary:
    """An option from `optimizer.lr=1e-4,3e-4`, `network.rank=4..64` or `optimizer.lr=1e-5..1e-3 log`.

    Values are parted by commas; one that holds commas is written as JSON: `data.resolution=[[512,512],[768,768]]`.
    InputError says what is wrong with it.
    """
    name, equals, text = (part.strip() for part in line.partition("="))
    if not (equals and name and text):
        raise InputError(f"vary: {line!r}: write an option and its values, such as optimizer.lr=1e-4,3e-4")
    if span := SPAN.fullmatch(text):
        return _range(name, span)
    if text.startswith("["):
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"vary: {name}: {text} is no list ({error}); write [[512,512],[768,768]]") from None
    else:
        words = [part.strip() for part in text.split(",")]
        values = [_value(name, part) for part in words if part]
    distinct = [value for place, value in enumerate(values) if value not in values[:place]]
    if len(distinct) < 2:
        raise InputError(f"vary: {name}: {text!r} is a single value; give two or more, or set it in the config")
    return Vary(name, tuple(tuple(value) if isinstance(value, list) else value for value in distinct))


def _range(name: str, span: re.Match[str]) -> Vary:
    low, high = (_value(name, part.strip()) for part in span.groups()[:2])
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high)) or not low < high:
        raise InputError(f"vary: {name}: {span[0]!r} is no range; write the lower number, two dots, the higher one")
    if span[3] and low <= 0:
        raise InputError(f"vary: {name}: log needs numbers above 0, and {low} is not")
    return Vary(name, (), low, high, bool(span[3]))


def _value(name: str, text: str) -> Any:
    """A value as `--set` reads it."""
    tree = configio.flag_tree(f"{name}={text}")
    for part in name.split("."):
        tree = tree[part]
    return tree


def read_all(lines: Sequence[str]) -> tuple[Vary, ...]:
    """All options of a sweep; InputError when one is named twice, or none is."""
    fields = tuple(read(line) for line in lines if line.strip())
    names = [one.name for one in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"vary: {twice[0]} is named twice; write all its values in one line")
    if not fields:
        raise InputError("vary: no option is named; give one with its values, such as optimizer.lr=1e-4,3e-4")
    return fields


def grid(fields: Sequence[Vary]) -> list[Values]:
    """Every combination, the last option changing fastest; InputError for a range, which has no end."""
    for one in fields:
        if not one.values:
            raise InputError(f"vary: {one.text()}: a grid needs listed values; ranges are for a random search")
    if (count := math.prod(len(one.values) for one in fields)) > MOST:
        raise InputError(f"vary: {count:,} runs, the limit is {MOST:,}; leave values out, or draw some at random")
    rows = itertools.product(*(one.values for one in fields))
    return [dict(zip((one.name for one in fields), row, strict=True)) for row in rows]


def drawn(fields: Sequence[Vary], count: int, seed: int) -> list[Values]:
    """So many different combinations, by chance; fewer where there are no more. A longer list begins with a shorter."""
    if not 1 <= count <= MOST:
        raise InputError(f"random: {count} runs; give 1 to {MOST:,}")
    found: list[Values] = []
    for place in range(20 * count):
        values = {one.name: one.at(dice(seed, "sweep", place, one.name).random()) for one in fields}
        if values not in found:
            found.append(values)
        if len(found) == count:
            break
    return found


def config_of(base: Mapping[str, Any], values: Values, place: int) -> Config:
    """The config of a trial, the place-th from 0; ConfigError names the option that cannot be so.

    base: a whole config as a tree. Each run has a name of its own, so that their files can lie in one folder.
    """
    tree = dict(base)
    for name in sorted(values, key=lambda name: not name.endswith(".type")):  # a changed type brings a fresh part
        above: Any = values[name]
        for part in reversed(name.split(".")):
            above = {part: above}
        tree = overlay(tree, above)
    output = tree["output"]
    tree = overlay(tree, {"output": {"name": f"{output['name']}-{place + 1:02d}"}})
    try:
        return check(tree, f"run {place + 1}")
    except ConfigError as error:
        raise ConfigError(f"{error}\nrun {place + 1} is {told(values)}") from None


def told(values: Values) -> str:
    """A trial in a line."""
    return ", ".join(f"{name} {word(value)}" for name, value in values.items())


def word(value: Any) -> str:
    """A value as a person writes it."""
    if isinstance(value, (list, tuple)):
        return json.dumps(value)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
