"""`python -m trainer images resize|crop|background DIR ...`"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from trainer.flags import add_flags, read_flags
from trainer.images.options import Background, Crop, Output, Resize
from trainer.terminal import Stop, Tell, Wish, bar, never, silent

if TYPE_CHECKING:
    from trainer.images.batch import Report, Tool

TOOLS: dict[str, tuple[type[Output], str]] = {
    "resize": (Resize, "bring pictures to a size, change light, colour and kind of file"),
    "crop": (Crop, "cut pictures around the face, or around what stands out"),
    "background": (Background, "take the background away, or put another behind"),
}


def add(words: Any) -> Any:
    """Adds `images` to the command line's words; gives its own words, for tools of other rooms."""
    images = words.add_parser("images", help="make the pictures of a data set ready")
    tools = images.add_subparsers(required=True, metavar="TOOL")
    for word, (options, help_text) in TOOLS.items():
        tool = tools.add_parser(word, help=help_text)
        add_flags(tool, {word: options})
        tool.add_argument("--json", action="store_true", help="print the report as JSON")
        tool.set_defaults(do=run_images, tool=word)
    return tools


def run_images(given: argparse.Namespace) -> int:
    """Runs one tool; Ctrl-C stops after the pictures in hand, and the same command goes on."""
    options = read_flags(given, TOOLS[given.tool][0])
    with Wish().heard() as wish, bar("pictures") as tell:
        report = run_tool(options, tell, wish.asked)
    print(json.dumps(report.to_json(), indent=2) if given.json else report.text())
    return 0


def run_tool(options: Output, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Does to a folder what the options of a tool say, and says what came of it.

    tell: called with (pictures done, pictures in all); should_stop: asked before each. InputError as of `batch.run`,
    and when a file that the tool needs is missing.
    """
    from trainer.images.batch import run

    return run(options, make_tool(options), tell, should_stop)


def make_tool(options: Output) -> Tool:
    """The tool that options belong to; InputError when a file it needs is missing."""
    from trainer.images.background import background_tool
    from trainer.images.focus import crop_tool
    from trainer.images.resize import resize_tool

    if isinstance(options, Background):
        return background_tool(options)
    if isinstance(options, Crop):
        return crop_tool(options)
    return resize_tool(Resize.model_validate(options.model_dump()))
