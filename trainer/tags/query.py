"""The filter language: `tag:"long hair" AND NOT (tokens:>75 OR name:*close*)`.

    word            in the caption or the path      tag:word    a whole tag, its weight and escapes aside
    caption:word    in the caption                  tags:>20    number of tags; also chars: and tokens:
    name:word       in the file's name              = != < > <= >=   (tags:5 is tags:=5)
    path:word       in the path inside the folder

`*` stands for any letters and `?` for one; words with blanks or brackets go between quotes, where `\\` takes the
meaning from a quote, `*`, `?` or `\\`. NOT binds closest, then AND, XOR, OR. Capital letters and small ones are the
same, but for these four words, which are written in capitals.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple, NoReturn

from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.tags.tag import Tags, bare

TEXTS = ("tag", "caption", "name", "path")
NUMBERS = ("tags", "chars", "tokens")
COMPARE: dict[str, Callable[[int, int], bool]] = {
    **{"!=": operator.ne, "<=": operator.le, ">=": operator.ge},
    **{"=": operator.eq, "<": operator.lt, ">": operator.gt},
}
JOINS = ("OR", "XOR", "AND")  # the loosest first
LONGEST, DEEPEST = 2000, 20

_TOKEN = re.compile(
    r"""\s*(?:[()]|(?:(?:[A-Za-z]+:)?(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?:[^\s()"'\\]|\\.)+)(?=[\s()]|$)|$)""",
    re.S,
)
_FIELD = re.compile(r"([A-Za-z]+):(.*)", re.S)
_NUMBER = re.compile(r"(!=|<=|>=|=|<|>)?([0-9]{1,9})")


class Entry(NamedTuple):
    """What a filter sees of one picture."""

    path: str
    name: str
    tags: Tags
    caption: str
    tokens: Callable[[], int]


@dataclass(frozen=True)
class Words:
    """`tag:long*`: a field and its words, wildcards and escapes as written; no field is caption or path."""

    field: str
    pattern: str

    @cached_property
    def found(self) -> Callable[[str], bool]:
        """Whether a text holds the words; a tag is them from end to end. Remembers, since tags come again and again."""
        inside = "" if self.field == "tag" else "*"
        expression = wildcards(f"{inside}{self.pattern}{inside}")

        @lru_cache(65_536)
        def found(text: str) -> bool:
            return expression.match(text) is not None

        return found

    def matches(self, entry: Entry) -> bool:
        """Whether a picture passes."""
        if self.field == "tag":
            return any(self.found(bare(tag)) for tag in entry.tags)
        if self.field:
            return self.found(getattr(entry, self.field))
        return self.found(entry.caption) or self.found(entry.path)

    def __str__(self) -> str:
        quoted = re.sub(r'\\.|"', lambda piece: '\\"' if piece[0] == '"' else piece[0], self.pattern, flags=re.S)
        return f'{self.field}:"{quoted}"' if self.field else f'"{quoted}"'


@dataclass(frozen=True)
class Number:
    """`tokens:>75`."""

    field: str
    compare: str
    value: int

    def matches(self, entry: Entry) -> bool:
        """Whether a picture passes."""
        if self.field == "tokens":
            number = entry.tokens()
        else:
            number = len(entry.tags if self.field == "tags" else entry.caption)
        return COMPARE[self.compare](number, self.value)

    def __str__(self) -> str:
        return f"{self.field}:{self.compare}{self.value}"


@dataclass(frozen=True)
class Not:
    """What does not pass `part`."""

    part: Query

    def matches(self, entry: Entry) -> bool:
        """Whether a picture passes."""
        return not self.part.matches(entry)

    def __str__(self) -> str:
        return f"NOT {_inner(self.part)}"


@dataclass(frozen=True)
class Joined:
    """Two parts or more with one word between them; XOR of several is true for an odd number."""

    word: str
    parts: tuple[Query, ...]

    def matches(self, entry: Entry) -> bool:
        """Whether a picture passes."""
        passed = (part.matches(entry) for part in self.parts)
        if self.word == "XOR":
            return sum(passed) % 2 == 1
        return all(passed) if self.word == "AND" else any(passed)

    def __str__(self) -> str:
        return f" {self.word} ".join(map(_inner, self.parts))


Query = Words | Number | Not | Joined


def wildcards(pattern: str) -> re.Pattern[str]:
    r"""A pattern with `*`, `?` and `\` as a regular expression for the whole text, whatever its capitals.

    The pieces between stars are each taken where they come first and never tried again, so that no pattern is slow.
    """
    parts = [""]
    for piece in re.findall(r"\\.|.", pattern, re.S):
        if piece == "*":
            parts.append("")
        else:
            parts[-1] += "." if piece == "?" else re.escape(piece[-1])
    first, *rest = parts
    if not rest:
        return re.compile(rf"{first}\Z", re.I | re.S)
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1] if part)
    return re.compile(rf"{first}{middle}.*{rest[-1]}\Z", re.I | re.S)


def parse(text: str) -> Query:
    """The filter that a text means; InputError with the place when it means none."""
    if len(text) > LONGEST:
        raise InputError(f"filter: {len(text)} letters, more than {LONGEST}: shorten it")
    reader = _Reader(text)
    query = reader.joined(0)
    if reader.word:
        reader.fail('follows without AND, OR or XOR; blanks and brackets go between quotes, as in "long hair"')
    return query


class _Reader:
    """Reads a filter from left to right; `word` is the next piece, empty at the end, `place` where it begins."""

    def __init__(self, text: str) -> None:
        self.text, self.word, self.place, self.end, self.depth = text, "", 0, 0, 0
        self.next()

    def next(self) -> str:
        """Takes a piece."""
        taken, rest = self.word, self.text[self.end :]
        self.place = self.end + len(rest) - len(rest.lstrip())
        found = _TOKEN.match(self.text, self.end)
        self.word = self.text[self.place : found.end()] if found else self.text[self.place :]
        if found is None:
            self.fail("has a quote that is not closed, or stands inside a word: put the whole word between quotes")
        self.end = found.end()
        return taken

    def fail(self, why: str) -> NoReturn:
        """Says what is wrong with the next piece, and where it is."""
        raise InputError(f"filter, letter {self.place + 1}: {plain(self.word, 40) or 'the end'} {why}")

    def joined(self, level: int) -> Query:
        """Parts with the word of a level between them."""
        if level == len(JOINS):
            return self.part()
        parts = [self.joined(level + 1)]
        while self.word == JOINS[level]:
            self.next()
            parts.append(self.joined(level + 1))
        return parts[0] if len(parts) == 1 else Joined(JOINS[level], tuple(parts))

    def part(self) -> Query:
        """A term, what NOT takes away, or brackets."""
        if self.word in ("NOT", "("):
            self.depth += 1
            if self.depth > DEEPEST:
                self.fail(f"goes more than {DEEPEST} deep: take some brackets away")
            part = Not(self.part()) if self.next() == "NOT" else self.brackets()
            self.depth -= 1
            return part
        if self.word in ("", ")", *JOINS):
            self.fail("stands where a word to look for is missing")
        return self.term()

    def brackets(self) -> Query:
        """What is between brackets; the opening one is taken."""
        inside = self.joined(0)
        if self.word != ")":
            self.fail("stands where a closing bracket is missing")
        self.next()
        return inside

    def term(self) -> Query:
        """`field:words`, `field:>number` or words."""
        split = _FIELD.fullmatch(self.word)
        name, words = (split[1].lower(), split[2]) if split else ("", self.word)
        if split and name not in (*TEXTS, *NUMBERS):
            self.fail(f"asks for {name}: there are {', '.join((*TEXTS, *NUMBERS))}; a colon of a word needs quotes")
        if not words:
            self.fail("has nothing after its colon")
        if name in NUMBERS:
            number = _NUMBER.fullmatch(words)
            if number is None:
                self.fail(f"needs a whole number, such as {name}:>20, with {' '.join(COMPARE)}")
            self.next()
            return Number(name, number[1] or "=", int(number[2]))
        if words[0] in "\"'":
            words = words[1:-1]
        self.next()
        return Words(
            name, re.sub(r"\\(.)", lambda piece: piece[1] if piece[1] in "\"'" else piece[0], words, flags=re.S)
        )


def asks(query: Query, name: str) -> bool:
    """Whether a filter looks at a field."""
    if isinstance(query, Joined):
        return any(asks(part, name) for part in query.parts)
    return asks(query.part, name) if isinstance(query, Not) else query.field == name


def _inner(part: Query) -> str:
    return f"({part})" if isinstance(part, Joined) else str(part)
