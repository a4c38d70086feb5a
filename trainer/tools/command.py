"""`python -m trainer lora extract|merge|resize|convert|verify|metadata|average|dylora ...`, and `model convert ...`"""

from __future__ import annotations

from typing import Any

from trainer.config.parts import Part
from trainer.imports import load
from trainer.terminal import Stop, Stopped, Tell, never, silent
from trainer.tools.options import (
    Average,
    Convert,
    ConvertModel,
    DyLora,
    Extract,
    Merge,
    Metadata,
    Resize,
    Verify,
)
from trainer.tools.report import Report
from trainer.toolwords import add_tool

LORA: dict[str, tuple[type[Part], str, str]] = {
    "extract": (Extract, "extract", "extract a LoRA or LoCon from two checkpoints"),
    "merge": (Merge, "merge", "merge LoRAs into a checkpoint, or into one LoRA"),
    "resize": (Resize, "resize", "bring a LoRA to another rank"),
    "convert": (Convert, "convert", "write a LoRA under the names of kohya, diffusers or peft"),
    "verify": (Verify, "verify", "look at a file: is it a LoRA, is it whole, what does it say of itself?"),
    "metadata": (Metadata, "editing", "change what a file says of itself"),
    "average": (Average, "average", "average the files of one run"),
    "dylora": (DyLora, "dylora", "split a DyLoRA into LoRAs of smaller ranks"),
}
"""By word: options, module of this room, and what it does."""
MODEL: dict[str, tuple[type[Part], str, str]] = {
    "convert": (ConvertModel, "convert_model", "write a base model as a single file or as a diffusers folder"),
}
BARE = {"model": "FILE", "models": "FILE"}
"""Options that may be given without a flag."""


def add(words: Any) -> None:
    """Adds `lora` and `model` to the command line's words."""
    for word, about, tools in (
        ("lora", "extract, merge, resize, convert and verify LoRA files", LORA),
        ("model", "convert base models", MODEL),
    ):
        group = words.add_parser(word, help=about).add_subparsers(required=True, metavar="TOOL")
        for name, (options, _, help_text) in tools.items():
            add_tool(group, name, help_text, options, run_tool, "tensors", BARE)


def run_tool(options: Part, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Does what the options of a tool say. tell: called with (tensors done, tensors in all). InputError, DiskError."""
    tools = (*LORA.values(), *MODEL.values())
    module = next(module for part, module, _ in tools if isinstance(options, part))
    try:
        return load(f"trainer.tools.{module}").run(options, tell, should_stop)
    except Stopped:
        return Report("Stopped; nothing was written.", stopped=True)
