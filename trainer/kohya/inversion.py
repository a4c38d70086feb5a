"""Files of the Kohya GUI's Textual Inversion tab: those of its keys that the LoRA tab does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.kohya.reader import Reader

TAB = "Textual Inversion"
FRESH: dict[str, Any] = json.loads((Path(__file__).parent / "fresh_inversion.json").read_text("utf-8"))
"""What the tab saves from a fresh page: all 128 keys with their first values."""
TEMPLATES = {"caption": "caption", "object template": "object", "style template": "style"}
MARKS = ("token_string", "init_word", "num_vectors_per_token")
"""Keys that no other tab has."""


def read_words(reader: Reader) -> bool:
    """Chooses textual inversion where a file is of its tab; the schema's marks read the rest. Whether it is."""
    if not any(reader.peek(key, str) is not None for key in MARKS):
        return False
    reader.put("network.type", "embedding", "token_string")
    if not reader.peek("token_string", str):
        reader.refuse("token_string", "is empty: give the word that is to be learned")
    if not reader.peek("init_word", str):
        reader.take("init_word", str)
        reader.say("init_word", "same", "empty: * is taken, as on a fresh page of the Kohya GUI", loud=True)
    return True
