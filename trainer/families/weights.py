"""Weights in captions, in A1111's notation: `(word:1.2)` and `[word]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

STRONGER = 1.1  # what a plain pair of round brackets multiplies by; square brackets divide
LARGEST_WEIGHT = 100.0

# An escape, an opening bracket, `:1.2)`, a closing bracket, and text without any of these.
_PIECES = re.compile(r"\\([()\[\]\\]?)|([(\[])|:([+-]?(?:\d+(?:\.\d*)?|\.\d+))\)|([)\]])|[^\\()\[\]:]+|:")


def parse_weights(caption: str) -> list[tuple[str, float]]:
    r"""Pieces of a caption with their weights: `(x)` 1.1, `(x:1.3)`, `[x]` 1/1.1, nested ones multiply, `\(` is text.

    Round and square brackets pair up among themselves; one that is never closed reaches to the end. Linear in the
    caption's length, however deeply nested. A weight beyond 100 counts as 100.
    """
    pieces = list(_PIECES.finditer(caption))
    gains = _gains(pieces)
    nested = {"(": [1.0], "[": [1.0]}  # products of the brackets that are open, by kind
    weighted = []
    for place, piece in enumerate(pieces):
        if place in gains:
            kind, gain = gains[place]
            if gain is None:
                nested[kind].pop()
            else:
                nested[kind].append(nested[kind][-1] * gain)
        else:
            weight = max(-LARGEST_WEIGHT, min(LARGEST_WEIGHT, nested["("][-1] * nested["["][-1]))  # never inf or NaN
            weighted.append((piece[1] if piece[0][0] == "\\" else piece[0], weight))
    runs = groupby(weighted, key=lambda pair: pair[1])
    return [("".join(text for text, _ in run), weight) for weight, run in runs]


def _gains(pieces: Sequence[re.Match[str]]) -> dict[int, tuple[str, float | None]]:
    """Kind and factor of each bracket by its place; None closes one. A closing bracket without a partner is text."""
    found: dict[int, tuple[str, float | None]] = {}
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for place, piece in enumerate(pieces):
        _, opener, number, closer = piece.groups()
        kind = opener or ("[" if closer == "]" else "(")
        if opener:
            opened[kind].append(place)
            found[place] = (kind, STRONGER if kind == "(" else 1 / STRONGER)
        elif (number or closer) and opened[kind]:
            found[place] = (kind, None)
            start = opened[kind].pop()
            if number:
                found[start] = (kind, float(number))
    return found
