"""What the engine says when the input is wrong."""

from __future__ import annotations


class InputError(ValueError):
    """Something the person can mend: the message names the field or file, the value, the limit and the remedy. Exit code 2."""
