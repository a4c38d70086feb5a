"""Where things live: the data folder with runs, cache, models and presets, and what is shipped beside the code."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRESETS = ROOT / "presets"


def home() -> Path:
    """The data folder: LIKENESS_HOME, else `workspace/` beside launch.py."""
    return Path(os.environ.get("LIKENESS_HOME") or ROOT / "workspace").expanduser().resolve()


def models() -> list[Path]:
    """Where models are looked for when no file is given: in the data folder, where those go that are fetched, then in
    the folders of LIKENESS_MODELS, which are written as those of PATH are."""
    named = os.environ.get("LIKENESS_MODELS", "").split(os.pathsep)
    return [home() / "models", *(Path(one).expanduser().resolve() for one in named if one)]


def runs() -> Path:
    """Where run folders are made."""
    return home() / "runs"


def cache() -> Path:
    """Where encoded pictures and captions are kept, shared by all runs."""
    return home() / "cache"
