"""What launch.py does before anything is installed. Standard library only."""

# Every file here can be read by Python 3.8, so that an old Python can still be told that it is too old.
from __future__ import annotations

import os
import sys


class LaunchError(Exception):
    """What went wrong and what to do about it. Exit code 2: the person can mend it; 1: a failure."""

    def __init__(self, text: str, code: int = 2) -> None:
        super().__init__(text)
        self.code = code


def say(text: str) -> None:
    """Speaks on stderr, so that the output of tools (`config --json`) stays clean."""
    print(text, file=sys.stderr, flush=True)


def clean_env() -> dict[str, str]:
    """Our environment, without what would let Python import from outside .venv: another path, or the current folder."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "PYTHONSAFEPATH": "1"}


def child_env() -> dict[str, str]:
    """The environment of what we start. A person's own settings win over all but the safe path."""
    gentle = {"PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "passive"}
    return {**gentle, "HF_HUB_DISABLE_TELEMETRY": "1", **clean_env()}
