"""`python -m trainer sample PROMPT ...` and `python -m trainer grid ...`"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trainer.compare.options import Generate, Grid, Look
from trainer.config.parts import Part
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
BARE = {"prompt": "PROMPT"}
"""The option that may be given without a flag."""


def add(words: Any) -> None:
    """Adds `sample` and `grid` to the command line's words."""
    for word, (options, _, help_text) in TOOLS.items():
        add_tool(words, word, help_text, options, run_tool, "pictures", BARE)


def run_tool(options: Part, tell: Tell = silent, should_stop: Stop = never, **more: Any) -> Report:
    """Draws what the options say. tell: called with (pictures done, pictures in all); more: `event`, told `picture` or
    `cell` as a run folder's, and `painter`, one that has a model loaded already."""
    module = next(module for part, module, _ in TOOLS.values() if isinstance(options, part))
    return import_module(f"trainer.compare.{module}").run(options, tell, should_stop, **more)
