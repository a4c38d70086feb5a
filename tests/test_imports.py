"""Importing what brings large libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import gc, sys
from trainer.imports import load
swept = []
gc.callbacks.append(lambda *_: swept.append(1))
assert load("asyncio").run and not swept, swept
assert gc.isenabled() and gc.get_freeze_count() > 1000
try:
    load("nowhere")
except ImportError:
    assert gc.isenabled()
"""


def test_nothing_is_swept_meanwhile_and_all_goes_on_afterwards() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, cwd=Path(__file__).resolve().parents[1])
