"""Edits: functions from tags to tags that change nothing else, with words for the list of what was done.

Tags are told apart by their bare words, so that `remove(["smile"])` takes `(smile:1.2)` too.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trainer.captioners.tags import spaced
from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.tags import substitute
from trainer.tags.kinds import ORDER, TRAITS, has_trait, kind
from trainer.tags.tag import Tags, bare, escaped, split_weight, weighed

Place = Literal["top", "center", "bottom"] | int
LIGHTEST, HEAVIEST = 0.1, 2.0
LONGEST_REPLACEMENT = 1000


@dataclass(frozen=True)
class Edit:
    """What is done, in words, and the function that does it."""

    what: str
    change: Callable[[Tags], Iterable[str]]

    def __call__(self, tags: Sequence[str]) -> Tags:
        """The tags after it."""
        return tuple(self.change(tuple(tags)))


def add(tags: Sequence[str], at: Place = "bottom", move: bool = False) -> Edit:
    """Adds tags at the top, the center, the bottom, or after the first N; `move` brings those there to that place."""

    def change(old: Tags) -> Iterable[str]:
        had = {bare(tag) for tag in old}
        new = {bare(tag): tag for tag in tags if move or bare(tag) not in had}
        kept = [tag for tag in old if bare(tag) not in new]
        places = {"top": 0, "center": len(kept) // 2, "bottom": len(kept)}
        place = max(0, at) if isinstance(at, int) else places[at]
        return [*kept[:place], *new.values(), *kept[place:]]

    return Edit(f"add {_names(tags)}", change)


def remove(tags: Collection[str]) -> Edit:
    """Takes tags away."""
    gone = {bare(tag) for tag in tags}
    return Edit(f"remove {_names(tags)}", lambda old: (tag for tag in old if bare(tag) not in gone))


def replace(pairs: Mapping[str, str]) -> Edit:
    """Puts a new tag in the place of an old one, with its weight; an empty one takes it away; none is there twice."""
    new = {bare(old): tag for old, tag in pairs.items()}

    def change(old: Tags) -> Iterable[str]:
        taken = {bare(tag) for tag in old if bare(tag) not in new}
        for tag in old:
            if bare(tag) not in new:
                yield tag
            elif (put := new[bare(tag)].strip()) and bare(put) not in taken:
                taken.add(bare(put))
                weight = split_weight(tag)[1]
                yield put if weight == 1 else weighed(put, weight)

    return Edit(f"replace {_names(pairs)}", change)


def regex(
    pattern: str,
    replacement: str,
    captions: Iterable[Tags],
    whole: bool = False,
    separator: str = ",",
    seconds: float = 2.0,
) -> Edit:
    r"""Finds and replaces by a regular expression of Python, `\1` for a group: in each tag, or in `whole` captions.

    captions: all that it will be used on. The work is done here, in a process that is ended after `seconds`, since
    the `re` module cannot be stopped. InputError for a wrong pattern, or a slow one.
    """
    joint = f"{separator} "
    texts = sorted({joint.join(tags) for tags in captions} if whole else {tag for tags in captions for tag in tags})
    if len(replacement) > LONGEST_REPLACEMENT:
        raise InputError(f"replacement: {len(replacement)} letters, more than {LONGEST_REPLACEMENT}: shorten it")
    work = json.dumps({"pattern": pattern, "replacement": replacement, "texts": texts})
    command = [sys.executable, "-I", "-S", str(Path(substitute.__file__))]
    try:
        done = subprocess.run(command, input=work, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"pattern: {plain(pattern)} took more than {seconds:g} s on these captions, so nothing was changed: "
            "repeat less inside what is repeated, as in a+ for (a+)+"
        ) from error
    told = json.loads(done.stdout) if done.returncode == 0 else {"error": "it ended the process that runs it"}
    if "error" in told:
        raise InputError(f"pattern: {plain(pattern)!r} by {plain(replacement)!r}: {told['error']}; mend it")
    new = dict(zip(texts, told["texts"], strict=True))

    def change(old: Tags) -> Iterable[str]:
        text = joint.join(old)
        return split(new.get(text, text) if whole else separator.join(new.get(tag, tag) for tag in old), separator)

    return Edit(f"replace {plain(pattern)} by {plain(replacement)}", change)


def split(text: str, separator: str = ",") -> Tags:
    """Tags out of a line that a person wrote."""
    return tuple(tag for piece in text.split(separator) if (tag := piece.strip()))


def sort(
    by: Literal["alphabet", "frequency", "kind"],
    keep: int = 0,
    counts: Mapping[str, int] | None = None,
    backwards: bool = False,
) -> Edit:
    """Sorts all tags but the first `keep`: by alphabet, by frequency in the data set (its `counts`), or by kind.

    By kind: subject, switchable tags, negative tags, pose, hands, camera shot; within a kind the order stays.
    """
    keys: dict[str, Callable[[str], Any]] = {
        "alphabet": lambda tag: bare(tag).casefold(),
        "frequency": lambda tag: -(counts or {}).get(bare(tag), 0),
        "kind": lambda tag: ORDER.index(kind(tag)),
    }
    key: Callable[[str], Any] = keys[by]
    return Edit(f"sort by {by}", lambda old: (*old[:keep], *sorted(old[keep:], key=key, reverse=backwards)))


def order(trigger: str = "") -> Edit:
    """The order that a character's captions are trained in: the trigger word, then kind by kind as `sort` does."""

    def rank(tag: str) -> int:
        return -1 if bare(tag) == trigger else ORDER.index(kind(tag))

    return Edit("put in order", lambda old: sorted(old, key=rank))


def keep_first(number: int) -> Edit:
    """Takes all tags away but the first N."""
    return Edit(f"keep the first {number}", lambda old: old[:number])


def dedupe() -> Edit:
    """Takes away what is there already, whatever its capitals, which CLIP does not see; the first one stays."""

    def change(old: Tags) -> Iterable[str]:
        first: dict[str, str] = {}
        for tag in old:
            first.setdefault(bare(tag).casefold(), tag)
        return first.values()

    return Edit("take doubles away", change)


def truncate(limit: int, captions: Iterable[Tags], count: Callable[[list[Tags]], list[int]]) -> Edit:
    """Takes tags from the end until at most `limit` tokens are left.

    captions: all that it will be used on; they are counted here, many at once, which is several times as fast.
    count: never gives less for more tags.
    """
    texts = list(dict.fromkeys(captions))
    fits = {tags: (0, 0, len(tags), total) for tags, total in zip(texts, count(texts), strict=True) if total > limit}
    turn = 0
    while between := [tags for tags, (low, _, high, _) in fits.items() if high - low > 1]:
        probes = [tags[: _middle(limit, *fits[tags], turn)] for tags in between]
        for tags, probe, tokens in zip(between, probes, count(probes), strict=True):
            low, fewer, high, more = fits[tags]
            fits[tags] = (len(probe), tokens, high, more) if tokens <= limit else (low, fewer, len(probe), tokens)
        turn += 1
    return Edit(f"shorten to {limit} tokens", lambda old: old[: fits[old][0]] if old in fits else old)


def weigh(tags: Collection[str], by: float) -> Edit:
    """Makes tags heavier or lighter, such as by 0.1, between 0.1 and 2."""
    chosen = {bare(tag) for tag in tags}

    def heavier(tag: str) -> str:
        return weighed(tag, min(HEAVIEST, max(LIGHTEST, split_weight(tag)[1] + by)))

    what = f"weigh {_names(tags)} {by:+g}"
    return Edit(what, lambda old: (heavier(tag) if bare(tag) in chosen else tag for tag in old))


def bake_in(traits: Collection[str], tags: Collection[str] = ()) -> Edit:
    """Takes away the tags of what should always appear: what no tag names is learned as part of the trigger word.

    traits: names in TRAITS; tags: others, such as those of a costume.
    """
    if strange := set(traits) - TRAITS.keys():
        raise InputError(f"traits: {plain(', '.join(sorted(strange)))} is none: choose from {', '.join(TRAITS)}")
    gone = {bare(tag) for tag in tags}
    what = f"bake in {_names([*traits, *tags])}"
    return Edit(what, lambda old: (tag for tag in old if bare(tag) not in gone and not has_trait(tag, traits)))


def spaces(underscores: bool = True, brackets: Literal["", "escape", "plain"] = "") -> Edit:
    r"""Writes `_` as a blank but in faces, and brackets that are no weight as `\(` and `\)`, or those plain."""

    def change(tag: str) -> str:
        words = split_weight(tag)[0]
        new = spaced(words) if underscores else words
        new = escaped(new) if brackets == "escape" else new
        told = tag.replace(words, new, 1)  # what stands before the words is brackets alone
        if brackets == "plain":
            plainly = told.replace(new, bare(new), 1)
            return plainly if bare(plainly) == bare(told) else told  # else they would be read as a weight
        return told

    return Edit("write underscores and brackets anew", lambda old: map(change, old))


def set_all(tags: Sequence[str], only_empty: bool = False) -> Edit:
    """Gives every picture these tags, or only those that have none."""
    return Edit(f"set {_names(tags)}", lambda old: old if only_empty and old else tags)


def _middle(limit: int, low: int, fewer: int, high: int, more: int, turn: int) -> int:
    """How many tags to try between two numbers: by their tokens, which is near, later halfway, which always ends."""
    near = (limit - fewer) * (high - low) // (more - fewer) if turn < 4 else (high - low) // 2
    return low + min(max(near, 1), high - low - 1)


def _names(tags: Collection[str]) -> str:
    first = ", ".join(plain(tag, 40) for tag in list(tags)[:3])
    return first + (f" and {len(tags) - 3} more" if len(tags) > 3 else "")
