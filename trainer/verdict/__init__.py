"""Which checkpoint is best, at which strength, and why."""

from __future__ import annotations
