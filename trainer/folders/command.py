"""`python -m trainer folders prepare|balance|dedupe|import|group ...`"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trainer.config.parts import Part
from trainer.folders.options import Balance, Dedupe, Group, Import, Prepare
from trainer.folders.report import Report
from trainer.terminal import Stop, Tell, never, silent
from trainer.toolwords import add_tool

TOOLS: dict[str, tuple[type[Part], str, str]] = {
    "prepare": (Prepare, "prepare", "build img, reg, log and model by copying pictures"),
    "balance": (Balance, "balance", "rename folders of pictures so that each counts as much in a training"),
    "dedupe": (Dedupe, "dedupe", "find pictures that are there twice, and set all but the best aside"),
    "import": (Import, "importing", "copy pictures and captions from a zip or a folder into a data set"),
    "group": (Group, "group", "copy pictures in groups of one shape each"),
}
"""By word: options, module of this room, and what it does."""


def add(words: Any) -> None:
    """Adds `folders` to the command line's words."""
    folders = words.add_parser("folders", help="prepare, balance, fill and clean folders of pictures")
    tools = folders.add_subparsers(required=True, metavar="TOOL")
    for word, (options, _, help_text) in TOOLS.items():
        add_tool(tools, word, help_text, options, run_tool, "files")


def run_tool(options: Part, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Does what the options of a tool say. tell: called with (files done, files in all). InputError, DiskError."""
    module = next(module for part, module, _ in TOOLS.values() if isinstance(options, part))
    return import_module(f"trainer.folders.{module}").run(options, tell, should_stop)
