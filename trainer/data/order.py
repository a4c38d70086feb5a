"""Which pictures an epoch uses, and in which order: pure functions, so no epoch is unfair and resume is exact."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from trainer.data.buckets import Size
from trainer.data.folders import Picture
from trainer.draws import dice


class Item(NamedTuple):
    """One use of a picture in an epoch: its place in the collection, and the name that its random draws go by."""

    picture: int
    draws: str


def count_uses(pictures: Sequence[Picture]) -> list[int]:
    """How often each picture is used in an epoch: its folder's repeats, for regularisation evened out as in sd-scripts.

    All regularisation pictures together are used as often as the trained ones: the first ones, each with its repeats,
    until that is reached (the others are not used), or if all of them are too few, some once more often than others.
    """
    trained = sum(picture.folder.repeats for picture in pictures if not picture.folder.reg)
    reg = [i for i, picture in enumerate(pictures) if picture.folder.reg]
    uses = [0 if picture.folder.reg else picture.folder.repeats for picture in pictures]
    missing = trained
    for i in reg:
        if missing > 0:
            uses[i] = pictures[i].folder.repeats
            missing -= uses[i]
    if reg and missing > 0:
        more, rest = divmod(missing, len(reg))
        for place, i in enumerate(reg):
            uses[i] += more + (place < rest)
    return uses


def expand(pictures: Sequence[Picture]) -> list[Item]:
    """Every use in an epoch, in the order of the pictures; the same bytes in two files draw differently."""
    seen: Counter[str] = Counter()
    items: list[Item] = []
    for i, uses in enumerate(count_uses(pictures)):
        digest = pictures[i].digest
        items += [Item(i, f"{digest}.{seen[digest] + use}") for use in range(uses)]
        seen[digest] += uses
    return items


def epoch_batches(buckets: Sequence[Size], batch: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """The batches of an epoch, as places in `buckets`, the bucket of each item: every item exactly once.

    A batch holds one size only, so the last of a bucket may be smaller; sd-scripts does the same, but takes the first
    batch of each epoch from the order of the one before, and so uses pictures unevenly.
    """
    members: defaultdict[Size, list[int]] = defaultdict(list)
    for item, bucket in enumerate(buckets):
        members[bucket].append(item)
    batches: list[tuple[int, ...]] = []
    for (width, height), items in sorted(members.items()):
        dice(seed, "order", epoch, width, height).shuffle(items)
        batches += [tuple(items[start : start + batch]) for start in range(0, len(items), batch)]
    dice(seed, "batches", epoch).shuffle(batches)
    return batches
