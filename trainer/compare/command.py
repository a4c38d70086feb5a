"""`python -m trainer sample PROMPT ...` and `python -m trainer grid ...`"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from trainer.compare.options import Generate, Grid, Look
from trainer.config.parts import Part
from trainer.errors import InputError
from trainer.flags import DEST, add_flags, read_flags
from trainer.tools.report import Report, Stop, Tell, never, silent

TOOLS: dict[str, tuple[type[Look], str]] = {
    "sample": (Generate, "draw pictures from a base model and LoRAs"),
    "grid": (Grid, "draw a grid of pictures: checkpoints, strengths, prompts, seeds, CFG, samplers, base models"),
}


def add(words: Any) -> None:
    """Adds `sample` and `grid` to the command line's words."""
    for word, (options, help_text) in TOOLS.items():
        tool = words.add_parser(word, help=help_text, description=options.__doc__)
        tool.add_argument("text", nargs="?", metavar="PROMPT", help="the same as --prompt")
        add_flags(tool, {word: options})
        tool.add_argument("--json", action="store_true", help="print the report as JSON")
        tool.set_defaults(do=run_command, part=options)


def run_command(given: argparse.Namespace) -> int:
    """Draws; Ctrl-C stops between two steps, and what is drawn is kept."""
    from tqdm import tqdm

    from trainer.terminal import Wish

    if given.text is not None:
        if hasattr(given, f"{DEST}prompt"):
            raise InputError("prompt: it is given twice, as PROMPT and as --prompt; give it once")
        setattr(given, f"{DEST}prompt", given.text)
    options = read_flags(given, given.part)
    with Wish().heard() as wish, tqdm(unit=" pictures", disable=None) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        def should_stop() -> bool:
            wish.patient = True
            return wish.stop

        report = run_tool(options, tell, should_stop)
    print(json.dumps(report.to_json(), indent=2) if given.json else report.text())
    return 0


def run_tool(
    options: Part,
    tell: Tell = silent,
    should_stop: Stop = never,
    event: Callable[..., None] | None = None,
) -> Report:
    """Draws what the options say. tell: called with (pictures done, pictures in all); event: as a run folder's,
    told `picture` or `cell`."""
    from trainer.compare import generate, grid

    event = event or generate.quiet
    if isinstance(options, Grid):
        return grid.run(options, tell, should_stop, event)
    assert isinstance(options, Generate), "there are two tools"
    return generate.run(options, tell, should_stop, event)
