"""Likeness and obedience by tags: which of the data set's come back, and which of those that were asked for are seen.

A WD14 tagger looks at the data set and at the drawn pictures alike, so that its habits are on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from trainer.captioners import prepare
from trainer.captioners.base import Say
from trainer.captioners.models import find_tagger
from trainer.captioners.tags import spaced
from trainer.captioners.wd14 import Tagger
from trainer.tags.groups import ONE_OF
from trainer.tags.kinds import among
from trainer.verdict.models import Found

LIMIT = 0.35
"""Probability from which a tag is seen, as for captions."""
FREQUENT = 0.5
"""Share of the data set's pictures that a tag must be seen on to be one of its own."""
BATCH = 8
COLOURED = "{colour} *"
LOOKED_FOR = ("general", "character")
"""Categories of tags that say what is in a picture."""


class TagEye:
    """A tagger, and the tags that it knows with blanks for underscores."""

    def __init__(self, found: Found, say: Say) -> None:
        """Opens the tagger that `available` found; InputError when its files are broken or of two taggers."""
        self.name = found.name
        self._tagger = Tagger(find_tagger(str(found.files[0]), False, False, say), say)
        names = [(i, tag) for i, tag in enumerate(self._tagger.vocabulary.tags) if tag and tag[1] in LOOKED_FOR]
        self._places = [i for i, _ in names]
        self.tags = tuple(spaced(tag) for _, (tag, _) in names)

    def look(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Which tags each picture shows: bool [N, tags]."""
        parts = [self._look(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)]
        return np.concatenate([np.zeros((0, len(self.tags)), bool), *parts])

    def _look(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        side = self._tagger.side
        ready = [prepare.numbers(prepare.square(picture.convert("RGB"), side)) for picture in pictures]
        return self._tagger.scores(ready)[:, self._places] >= LIMIT

    def own(self, seen: np.ndarray) -> list[str]:
        """The tags that the data set's pictures share, the most frequent first. seen: bool [N, tags] of them."""
        shares = seen.mean(0) if len(seen) else np.zeros(len(self.tags))
        return [self.tags[i] for i in np.argsort(-shares, kind="stable") if shares[i] >= FREQUENT]

    def recall(self, seen: np.ndarray, own: Sequence[str]) -> tuple[float, ...]:
        """For each picture the share of the data set's own tags that it shows, 0 to 1; none without such tags."""
        return tuple(seen[:, self._numbers(own)].mean(1).tolist()) if own else ()

    def asked(self, prompt: str) -> list[str]:
        """The tags that a prompt asks for by their words, in its order; of `red hair` not `hair` too."""
        words = _words(prompt)
        spans = {
            (start, start + len(said)): tag
            for tag in self.tags
            if len("".join(said := _words(tag))) > 2
            for start in range(len(words) - len(said) + 1)
            if words[start : start + len(said)] == said
        }
        whole = [span for span in sorted(spans) if not any(_within(span, other) for other in spans)]
        return list(dict.fromkeys(spans[span] for span in whole))

    def obeyed(self, seen: np.ndarray, asked: Sequence[str], gone: Sequence[str]) -> tuple[float, ...]:
        """For each picture the share of a contradicting prompt that is followed, 0 to 1.

        It is the mean over asked tags that are seen and the data set's tags (`rivals`) that are gone; none when the
        prompt asks for nothing that the tagger knows.
        """
        if not asked:
            return ()
        followed = np.concatenate([seen[:, self._numbers(asked)], ~seen[:, self._numbers(gone)]], 1)
        return tuple(followed.mean(1).tolist())

    def _numbers(self, tags: Sequence[str]) -> list[int]:
        return [self.tags.index(tag) for tag in tags]


def rivals(asked: Sequence[str], own: Sequence[str]) -> list[str]:
    """The data set's own tags that cannot stand beside what is asked: another hair colour, another dress, indoors.

    Two tags are rivals when a picture has one of their group (`trainer.tags.groups`), or when they are the same thing
    in two colours.
    """
    return [tag for tag in own if tag not in asked and any(_rivals(tag, other) for other in asked)]


def _rivals(one: str, other: str) -> bool:
    if any(among(one, group) and among(other, group) for group, _ in ONE_OF.values()):
        return True
    return among(one, COLOURED) and among(other, COLOURED) and _words(one)[-1] == _words(other)[-1]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _within(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span != other and other[0] <= span[0] and span[1] <= other[1]
