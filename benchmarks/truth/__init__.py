"""A benchmark of the verdict itself: runs whose best file is known, because every character is drawn by a function."""

from __future__ import annotations
