"""`python -m trainer images resize|crop|background DIR ...`"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.images.flags import add_flags, read_flags
from trainer.images.options import Background, Crop, Output, Resize

if TYPE_CHECKING:
    from trainer.images.batch import Tool

TOOLS: dict[str, tuple[type[Output], str]] = {
    "resize": (Resize, "bring pictures to a size, change light, colour and kind of file"),
    "crop": (Crop, "cut pictures around the face, or around what stands out"),
    "background": (Background, "take the background away, or put another behind"),
}


def add(words: Any) -> None:
    """Adds `images` to the command line's words."""
    images = words.add_parser("images", help="make the pictures of a data set ready")
    tools = images.add_subparsers(required=True, metavar="TOOL")
    for word, (options, help_text) in TOOLS.items():
        tool = tools.add_parser(word, help=help_text)
        tool.add_argument("folder", type=Path, metavar="DIR", help="the folder of pictures")
        add_flags(tool, options)
        tool.add_argument("--json", action="store_true", help="print the report as JSON")
        tool.set_defaults(do=run_images, tool=word)


def run_images(options: argparse.Namespace) -> int:
    """Runs one tool; Ctrl-C stops after the pictures in hand, and the same command goes on."""
    from trainer.images.batch import run
    from trainer.terminal import Wish

    wanted = read_flags(options, TOOLS[options.tool][0])
    tool = make_tool(options.folder, wanted)
    wish = Wish()
    wish.patient = True
    with wish.heard():
        report = run(options.folder, wanted, tool, should_stop=lambda: wish.stop)
    print(json.dumps(report.to_json(), indent=2) if options.json else report.text())
    return 0


def make_tool(folder: Path, options: Output) -> Tool:
    """The tool that options belong to; InputError when a file it needs is missing."""
    from trainer.images.background import background_tool
    from trainer.images.focus import crop_tool
    from trainer.images.resize import resize_tool

    if isinstance(options, Background):
        return background_tool(folder, options)
    if isinstance(options, Crop):
        return crop_tool(options)
    return resize_tool(Resize.model_validate(options.model_dump()))
