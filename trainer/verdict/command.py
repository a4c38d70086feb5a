"""`python -m trainer compare RUN_DIR` and `python -m trainer use FILE ...`"""

from __future__ import annotations

from typing import Any

from trainer.imports import load
from trainer.terminal import Stop, Tell, never, silent
from trainer.tools.report import Report
from trainer.toolwords import add_tool
from trainer.verdict import use
from trainer.verdict.options import Compare
from trainer.verdict.use_options import Use


def add(words: Any) -> None:
    """Adds `compare` and `use` to the command line's words."""
    add_tool(words, "compare", "find the best file of a run, and say why", Compare, compare, "pictures")
    about = "copy a LoRA, embedding or model under its final name to A1111, Forge, ComfyUI, InvokeAI"
    add_tool(words, "use", about, Use, use.run, "folders", {"file": "FILE"})


def compare(options: Compare, tell: Tell = silent, should_stop: Stop = never, **more: Any) -> Report:
    """Compares the files of a run (trainer.verdict.run). more: `event`, told what a run folder is."""
    return load("trainer.verdict.run").run(options, tell, should_stop, **more)
