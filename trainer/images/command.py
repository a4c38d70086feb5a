"""`python -m trainer images resize|crop|background DIR ...`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.images.options import Background, Crop, Output, Resize
from trainer.terminal import Stop, Tell, never, silent
from trainer.toolwords import add_tool

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
        add_tool(tools, word, help_text, options, run_tool, "pictures")
    return tools


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
