"""`python -m trainer lora extract|merge|resize|convert|verify|metadata|average|dylora ...`, and `model convert ...`"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from typing import Any

from trainer.config.parts import Part
from trainer.errors import InputError
from trainer.flags import DEST, add_flags, read_flags
from trainer.terminal import Stop, Tell, Wish, bar, never, silent
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
from trainer.tools.report import Report, Stopped

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
FIRST = ("model", "models")
"""Options that may be given without a flag."""


def add(words: Any) -> None:
    """Adds `lora` and `model` to the command line's words."""
    for word, about, tools in (
        ("lora", "extract, merge, resize, convert and verify LoRA files", LORA),
        ("model", "convert base models", MODEL),
    ):
        group = words.add_parser(word, help=about).add_subparsers(required=True, metavar="TOOL")
        for name, (options, _, help_text) in tools.items():
            tool = group.add_parser(name, help=help_text, description=options.__doc__)
            _add_first(tool, options)
            add_flags(tool, {name: options})
            tool.add_argument("--json", action="store_true", help="print the report as JSON")
            tool.set_defaults(do=run_command, part=options)


def _add_first(tool: argparse.ArgumentParser, options: type[Part]) -> None:
    """FILE for `--model`, FILES for `--models`."""
    first = next((name for name in FIRST if name in options.model_fields), None)
    if first:
        count = "*" if first == "models" else "?"
        about = options.model_fields[first].description
        tool.add_argument("files", nargs=count, metavar="FILE", default=None, help=f"{about} The same as --{first}.")
        tool.set_defaults(first=first)


def run_command(given: argparse.Namespace) -> int:
    """Runs one tool; Ctrl-C stops it, and then nothing is written."""
    if getattr(given, "files", None):
        if hasattr(given, DEST + given.first):
            raise InputError(f"{given.first}: it is given twice, as FILE and as --{given.first}; give it once")
        setattr(given, DEST + given.first, given.files)
    options = read_flags(given, given.part)
    with Wish().heard() as wish, bar("tensors") as tell:
        report = run_tool(options, tell, wish.asked)
    print(json.dumps(report.to_json(), indent=2) if given.json else report.text())
    return 0


def run_tool(options: Part, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Does what the options of a tool say. tell: called with (tensors done, tensors in all). InputError, DiskError."""
    tools = (*LORA.values(), *MODEL.values())
    module = next(module for part, module, _ in tools if isinstance(options, part))
    try:
        return import_module(f"trainer.tools.{module}").run(options, tell, should_stop)
    except Stopped:
        return Report("Stopped; nothing was written.", stopped=True)
