"""One tag: its words, and its weight in A1111's notation."""

from __future__ import annotations

import re
from functools import lru_cache

from trainer.families.weights import LARGEST_WEIGHT, STRONGER

Tags = tuple[str, ...]
"""Tags as they are written, without the separators between them."""

_LAYERS = 8  # of brackets that are read; caption files are written by anyone
_WEIGHT = re.compile(r":([+-]?(?:\d+(?:\.\d*)?|\.\d+))$")
_BRACKET = re.compile(r"\\.|[()\[\]]")
_ESCAPE = re.compile(r"\\([()\[\]\\])")


def split_weight(tag: str) -> tuple[str, float]:
    r"""Words and weight: `(smile:1.2)` is ("smile", 1.2), `[smile]` divides by 1.1; brackets of a part are words.

    Escapes stay: `zk9 \(style\)` is ("zk9 \(style\)", 1.0).
    """
    weight = 1.0
    for _ in range(_LAYERS):
        inner = tag[1:-1].strip()
        if not _enclosed(tag) or not _WEIGHT.sub("", inner):  # brackets around nothing are an emoticon's
            break
        if tag[0] == "[":
            tag, weight = inner, weight / STRONGER
        elif number := _WEIGHT.search(inner):
            tag, weight = inner[: number.start()].strip(), weight * float(number[1])
        else:
            tag, weight = inner, weight * STRONGER
    return tag, max(-LARGEST_WEIGHT, min(LARGEST_WEIGHT, weight))


@lru_cache(65_536)
def bare(tag: str) -> str:
    r"""What a tag says, without weight and escapes: tags with the same bare words are the same tag."""
    return _ESCAPE.sub(r"\1", split_weight(tag)[0])


def weighed(tag: str, weight: float) -> str:
    """The tag with another weight, rounded to hundredths; 1 takes the brackets away."""
    words, weight = split_weight(tag)[0], round(weight, 2)
    if weight == 1:
        return words
    return f"({escaped(words)}:{weight:g})"


def escaped(words: str) -> str:
    r"""Words whose brackets are no weight: `zk9 (style)` is `zk9 \(style\)`."""
    return _BRACKET.sub(lambda found: found[0] if found[0][0] == "\\" else f"\\{found[0]}", words)


def _enclosed(tag: str) -> bool:
    """Whether the bracket that a tag begins with is closed by its last letter."""
    if tag[:1] + tag[-1:] not in ("()", "[]"):
        return False
    depth = 0
    for bracket in _BRACKET.finditer(tag):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(bracket[0], 0)
        if depth == 0:
            return bracket.end() == len(tag)
    return False
