"""What the engine says when the input is wrong."""

from __future__ import annotations


class InputError(ValueError):
    """Something the person can mend: the message names field or file, value, limit and remedy. Exit code 2."""
