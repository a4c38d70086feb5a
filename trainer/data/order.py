"""Which pictures an epoch uses, and in which order: pure functions, so no epoch is unfair and resume is exact."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from trainer.config import Subset
from trainer.data.buckets import Size
from trainer.data.folders import Picture
from trainer.draws import dice


class Group(NamedTuple):
    """Pictures that may share a batch: those of one data set, `batch` at once."""

    dataset: int
    batch: int


class Item(NamedTuple):
    """One use of a picture in an epoch: its place in the collection, and the name that its random draws go by."""

    picture: int
    draws: str


def count_uses(pictures: Sequence[Picture]) -> list[int]:
    """How often each picture is used in an epoch: its folder's repeats, for regularisation evened out as in sd-scripts.

    All regularisation pictures of a data set are used as often as its trained ones: the first, each with its repeats,
    until that is reached (the others are not used), or if all of them are too few, some once more often than others.
    """
    uses = [0 if picture.folder.reg else picture.folder.repeats for picture in pictures]
    for dataset in {picture.folder.dataset for picture in pictures}:
        mine = [i for i, picture in enumerate(pictures) if picture.folder.dataset == dataset]
        missing = sum(uses[i] for i in mine)
        reg = [i for i in mine if pictures[i].folder.reg]
        for i in reg:
            if missing > 0:
                uses[i] = pictures[i].folder.repeats
                missing -= uses[i]
        if reg and missing > 0:
            more, rest = divmod(missing, len(reg))
            for place, i in enumerate(reg):
                uses[i] += more + (place < rest)
    return uses


def groups_of(pictures: Sequence[Picture], subsets: Sequence[Subset], batch: int, processes: int = 1) -> list[Group]:
    """What each picture may share a batch with; `batch` counts where its subset says none.

    Several processes share a batch, which is then so many times larger.
    """
    own = [None if picture.folder.subset is None else subsets[picture.folder.subset].batch for picture in pictures]
    sizes = [(size or batch) * processes for size in own]
    return [Group(picture.folder.dataset, size) for picture, size in zip(pictures, sizes, strict=True)]


def expand(pictures: Sequence[Picture]) -> list[Item]:
    """Every use in an epoch, in the order of the pictures; the same bytes in two files draw differently."""
    seen: Counter[str] = Counter()
    items: list[Item] = []
    for i, uses in enumerate(count_uses(pictures)):
        digest = pictures[i].digest
        items += [Item(i, f"{digest}.{seen[digest] + use}") for use in range(uses)]
        seen[digest] += uses
    return items


def epoch_batches(
    buckets: Sequence[Size], groups: int | Sequence[Group], seed: int, epoch: int
) -> list[tuple[int, ...]]:
    """The batches of an epoch, as places in `buckets`, the bucket of each item: every item exactly once.

    groups: of each item, or the size of batches where all are of one. A batch holds one size of one group only, so the
    last of a bucket may be smaller; sd-scripts does the same, but takes the first batch of each epoch from the order of
    the one before, and so uses pictures unevenly.
    """
    members: defaultdict[tuple[Size, Group], list[int]] = defaultdict(list)
    for item, bucket in enumerate(buckets):
        members[bucket, Group(1, groups) if isinstance(groups, int) else groups[item]].append(item)
    batches: list[tuple[int, ...]] = []
    for ((width, height), (dataset, batch)), items in sorted(members.items()):
        more = () if dataset == 1 else (dataset,)
        dice(seed, "order", epoch, width, height, *more).shuffle(items)
        batches += [tuple(items[start : start + batch]) for start in range(0, len(items), batch)]
    dice(seed, "batches", epoch).shuffle(batches)
    return batches
