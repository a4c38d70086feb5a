"""The pocket model: a small base model and a demo data set of our own, and the scripts that made both."""

from __future__ import annotations
