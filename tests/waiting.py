"""Waiting, in tests, for what comes by itself: no machine is too busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 240  # seconds that anything may take on a machine that does other things too


def until(found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `found` gives, once it gives something."""
    end = time.monotonic() + seconds
    while not (it := found()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return it
