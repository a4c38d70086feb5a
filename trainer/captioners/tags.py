"""Tags: what a tagger knows, and how probabilities become the words of a caption. Pure functions, as in sd-scripts.

A tagger's folder says in `selected_tags.csv` (or in `tag_mapping.json`) which number of its output is which tag.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from trainer.captioners.options import Wd14, replacements
from trainer.errors import InputError

T = TypeVar("T")
LABELS = ("selected_tags.csv", "tag_mapping.json")
CATEGORIES = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta", "9": "rating"}
"""Numbers of Danbooru's categories, and SmilingWolf's 9."""
KNOWN = {*CATEGORIES.values(), "model", "quality"}
FACES = {"(o)_(o)", "<o>_<o>", "<|>_<|>", "||_||"}
"""Faces made of signs; the others are of three signs, as `^_^`, and told by that."""

EXPANDS = re.compile(r"(.+?)_?\(([^()]*)\)")


@dataclass(frozen=True)
class Vocabulary:
    """What the numbers of a tagger's output mean, in their order. None: a number that means nothing."""

    tags: tuple[tuple[str, str] | None, ...]
    """(tag as the tagger writes it, category)."""
    by_confidence: bool = False
    """Whether captions begin with the surest tag; those of SmilingWolf's taggers keep the order of the list."""


def read_vocabulary(file: Path) -> Vocabulary:
    """A tagger's tags from its file of labels; InputError when it is of another kind."""
    try:
        text = file.read_text("utf-8-sig")
        if file.suffix == ".json":
            said = {int(number): tag for number, tag in json.loads(text).items()}
            by_number = {number: (str(tag["tag"]), tag["category"].lower()) for number, tag in said.items()}
            tags = tuple(by_number.get(i) for i in range(max(by_number, default=-1) + 1))
        else:
            rows = list(csv.DictReader(text.splitlines()))
            tags = tuple((row["name"], CATEGORIES[row["category"]]) for row in rows)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}): fetch it again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{file}: is no list of tags with name and category ({error!r}): fetch it again from the tagger's page"
        ) from error
    strange = {tag[1] for tag in tags if tag} - KNOWN
    if strange or not tags:
        what = f"has tags of an unknown category, {min(strange)!r}" if strange else "is empty"
        raise InputError(f"{file}: {what}: fetch it again from the tagger's page")
    return Vocabulary(tags, file.suffix == ".json")


def split_tags(text: str, separator: str) -> list[str]:
    """The tags of a text, without blanks around them; a separator of blanks alone parts at blanks."""
    return [tag.strip() for tag in text.split(separator.strip() or None) if tag.strip()]


def once(things: Iterable[T]) -> list[T]:
    """Each thing where it stands first."""
    return list(dict.fromkeys(things))


def spaced(tag: str) -> str:
    """A tag with blanks for underscores, unless it is a face."""
    return tag if len(tag) <= 3 or tag in FACES else tag.replace("_", " ")


class Wording:
    """From the probabilities of one or several taggers to the words of a caption."""

    def __init__(self, options: Wd14, vocabularies: Sequence[Vocabulary]) -> None:
        known = [tag for vocabulary in vocabularies for tag in vocabulary.tags if tag]
        self.options = options
        self.names = once(known)
        place = {tag: i for i, tag in enumerate(self.names)}
        self.places = [
            (
                np.array([i for i, tag in enumerate(vocabulary.tags) if tag]),
                [place[tag] for tag in vocabulary.tags if tag],
            )
            for vocabulary in vocabularies
        ]  # of each tagger: numbers of its output, and where they go among all tags
        self.by_confidence = any(vocabulary.by_confidence for vocabulary in vocabularies)
        self.words = self._words()
        self.categories = {
            name: np.array([i for i, tag in enumerate(self.names) if tag[1] == name], np.intp) for name in KNOWN
        }

    def _words(self) -> list[list[str]]:
        """What is written for each tag: nothing for an undesired one, two words for an expanded character."""
        options, changed = self.options, replacements(self.options.tag_replacement)
        unwanted = set(split_tags(options.undesired_tags, options.caption_separator))
        found: list[list[str]] = []
        for name, category in self.names:
            parts = EXPANDS.fullmatch(name) if options.character_tag_expand and category == "character" else None
            words = list(parts.groups()) if parts else [name]
            shown = [spaced(word) if options.remove_underscore else word for word in words]
            forms = {name, spaced(name), *words, *shown}
            whole = changed.get(name) or changed.get(spaced(name))
            shown = [whole] if whole else [changed.get(word, word) for word in shown]
            found.append([] if forms & unwanted else [word for word in shown if word not in unwanted])
        return found

    def combine(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """One probability for each tag, [B, tags], from each tagger's [B, numbers]; who knows no such tag is silent."""
        start, join = {
            "union": (-np.inf, np.maximum),
            "intersection": (np.inf, np.minimum),
            "mean": (0.0, np.add),
        }[self.options.together]
        total = np.full((len(scores[0]), len(self.names)), start, np.float32)
        known = np.zeros(len(self.names), np.float32)
        for score, (numbers, places) in zip(scores, self.places, strict=True):
            total[:, places] = join(total[:, places], score[:, numbers])
            known[places] += 1
        return total / known if self.options.together == "mean" else total

    def tags(self, chances: np.ndarray) -> list[str]:
        """The tags of a picture in the order of its caption, from the probability of each."""
        options = self.options
        limits = {"general": options.general_threshold, "character": options.character_threshold}

        def above(category: str) -> list[int]:
            places = self.categories[category]
            return places[chances[places] >= limits.get(category, options.threshold)].tolist()

        def likeliest(category: str, limit: float) -> list[str]:
            best = max(self.categories[category].tolist(), key=lambda i: chances[i], default=None)
            return self.words[best] if best is not None and chances[best] >= limit else []

        characters = above("character")
        others = [i for name in ("general", "copyright", "artist", "meta", "model") for i in above(name)]
        groups = [characters, others] if options.character_tags_first else [others + characters]
        if self.by_confidence:
            groups = [sorted(group, key=lambda i: -chances[i]) for group in groups]
        found = [word for group in groups for i in group for word in self.words[i]]
        quality = likeliest("quality", 0.0) if options.quality_tags != "none" else []
        rating = likeliest("rating", options.rating_threshold) if options.rating_tags != "none" else []
        found = quality + found if options.quality_tags == "first" else found + quality
        found = rating + found if options.rating_tags == "first" else found + rating
        return once(found)

    def caption(self, tags: Sequence[str], before: str | None) -> str:
        """The whole caption: prefix, new tags behind or before the old ones if those stay, postfix; each once."""
        options, separator = self.options, self.options.caption_separator
        first, last = (split_tags(text, separator) for text in (options.prefix, options.postfix))
        old = split_tags(before or "", separator) if options.existing in ("append", "prepend") else []
        both = [*tags, *old] if options.existing == "prepend" else [*old, *tags]
        middle = [tag for tag in once(both) if tag not in {*first, *last}]
        return separator.join([*first, *middle, *last])
