"""`python -m trainer use FILE --strength 0.8 --a1111 DIR ...`"""

from __future__ import annotations

from typing import Any

from trainer.toolwords import add_tool
from trainer.verdict.use import run
from trainer.verdict.use_options import Use


def add(words: Any) -> None:
    """Adds `use` to the command line's words."""
    about = "copy a LoRA under its final name to A1111, Forge, ComfyUI, InvokeAI"
    add_tool(words, "use", about, Use, run, "folders", {"file": "FILE"})
