"""A tool as a word of the command line: flags made of its options, a bar while it works, then its report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from trainer.config.parts import Part
from trainer.errors import InputError
from trainer.flags import DEST, add_flags, is_list, read_flags
from trainer.terminal import Stop, Tell, Wish, bar

Options = TypeVar("Options", bound=Part)
BARE = "bare"
NONE: Mapping[str, str] = {}


class Report(Protocol):
    """What a tool gives back."""

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        ...

    def text(self) -> str:
        """All of it for a person."""
        ...


def add_tool(
    words: Any,
    word: str,
    about: str,
    part: type[Options],
    work: Callable[[Options, Tell, Stop], Report],
    unit: str,
    bare: Mapping[str, str] = NONE,
) -> None:
    """Adds a word that does `work` as its flags say, and prints what came of it; `--json` prints it for a program.

    Ctrl-C asks the work to stop, and what came of it until then is printed. unit: of what the bar counts; bare: options
    that may be given without a flag, and what each is called then; the first that the tool has counts.
    """
    tool = words.add_parser(word, help=about, description=part.__doc__)
    first = next((name for name in bare if name in part.model_fields), "")
    if first:
        field = part.model_fields[first]
        text = f"{field.description} The same as --{first}.".replace("%", "%%")
        count = "*" if is_list(field.annotation) else "?"
        tool.add_argument(BARE, nargs=count, metavar=bare[first], default=argparse.SUPPRESS, help=text)
    add_flags(tool, {word: part})
    tool.add_argument("--json", action="store_true", help="print the report as JSON")

    def do(given: argparse.Namespace) -> int:
        if hasattr(given, BARE):
            if hasattr(given, DEST + first):
                raise InputError(f"{first}: it is given twice, as {bare[first]} and as --{first}; give it once")
            setattr(given, DEST + first, given.bare)
        options = read_flags(given, part)
        with Wish().heard() as wish, bar(unit) as tell:
            report = work(options, tell, wish.asked)
        print(json.dumps(report.to_json(), indent=2) if given.json else report.text())
        return 0

    tool.set_defaults(do=do)
