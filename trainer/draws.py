"""Randomness as a function: every draw depends on the seed, its purpose, and where it happens, and on nothing else.

So the order of work, the number of workers and the number of restarts cannot matter, and there is no state to save.
"""

from __future__ import annotations

import hashlib
import random


def seed_of(seed: int, purpose: str, *where: int | str) -> int:
    """A 63-bit seed for one draw, such as `seed_of(42, "noise", step, picture)`."""
    text = "\x1f".join((str(seed), purpose, *map(str, where)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def dice(seed: int, purpose: str, *where: int | str) -> random.Random:
    """A generator of Python's own for one draw."""
    return random.Random(seed_of(seed, purpose, *where))
