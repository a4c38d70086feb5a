"""Waiting, in tests, for what comes by itself: no machine is too busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

PATIENCE = 240  # seconds that anything may take on a machine that does other things too


def until(found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """What `found` gives, once it gives something; looks less often the longer it takes, for looking costs time too."""
    begun = time.monotonic()
    while not (it := found()):
        waited = time.monotonic() - begun
        assert waited < seconds, "it did not come"
        time.sleep(min(0.02 + waited / 50, 0.2))
    return it


def look(address: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """What a server of this machine answers, asked without TLS: to read all certificates takes longer than to ask."""
    return httpx.get(address, headers=headers, trust_env=False, verify=False)
