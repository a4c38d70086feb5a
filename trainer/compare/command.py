"""`python -m trainer sample PROMPT ...`, `python -m trainer grid ...` and `python -m trainer reg make DIR ...`"""

from __future__ import annotations

from typing import Any

from trainer.compare.options import ClassPictures, Generate, Grid, Look
from trainer.config.parts import Part
from trainer.imports import load
from trainer.terminal import Stop, Tell, never, silent
from trainer.tools.report import Report
from trainer.toolwords import add_tool

TOOLS: dict[str, tuple[type[Look], str, str]] = {
    "sample": (Generate, "generate", "draw pictures from a base model and LoRAs"),
    "grid": (
        Grid,
        "grid",
        "draw a grid of pictures: checkpoints, strengths, prompts, seeds, CFG, samplers, base models",
    ),
}
"""By word: options, module of this room, and what it does."""
REG = {"make": (ClassPictures, "reg", "draw class pictures with the base model, for regularisation")}
BARE = {"prompt": "PROMPT"}
"""The option that may be given without a flag."""


def add(words: Any) -> None:
    """Adds `sample`, `grid` and `reg make` to the command line's words."""
    reg = words.add_parser("reg", help="make regularisation pictures").add_subparsers(required=True, metavar="TOOL")
    for word, (options, _, help_text) in REG.items():
        add_tool(reg, word, help_text, options, run_tool, "pictures")
    for word, (options, _, help_text) in TOOLS.items():
        add_tool(words, word, help_text, options, run_tool, "pictures", BARE)


def run_tool(options: Part, tell: Tell = silent, should_stop: Stop = never, **more: Any) -> Report:
    """Draws what the options say. tell: called with (pictures done, pictures in all); more: `event`, told `picture` or
    `cell` as a run folder's, and `painter`, one that has a model loaded already."""
    tools = (*TOOLS.values(), *REG.values())
    module = next(module for part, module, _ in tools if isinstance(options, part))
    return load(f"trainer.compare.{module}").run(options, tell, should_stop, **more)
