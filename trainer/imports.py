"""Importing what brings large libraries."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from types import ModuleType


def load(module: str) -> ModuleType:
    """A module that brings torch, imported without looking for rubbish meanwhile.

    What is imported stays, half a million objects: to look through them again and again took a quarter of the time,
    and once takes half a second, which no step of a training should wait for.
    """
    if "torch" in sys.modules:
        return import_module(module)
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()
