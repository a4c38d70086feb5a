"""Which pictures an epoch uses, and in which order: fair, and a function of (seed, epoch) alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.folders import Folder, Picture
from trainer.data.order import Item, count_uses, epoch_batches, expand

SQUARE, TALL, WIDE = (512, 512), (384, 640), (640, 384)


def pictures(folders: list[tuple[int, int]], reg: Sequence[tuple[int, int]] = ()) -> list[Picture]:
    """Folders given as (pictures, repeats)."""
    made = []
    for place, (count, repeats) in enumerate([*folders, *reg]):
        name = f"{repeats}_folder{place}"
        folder = Folder(name, Path(name), repeats, "", place >= len(folders))
        made += [Picture(Path(f"{i}.png"), folder, SQUARE, "", "none", f"{place}-{i}") for i in range(count)]
    return made


@pytest.mark.parametrize(
    ("folders", "reg", "expected"),
    [
        ([(2, 3)], [], [3, 3]),
        ([(1, 24), (2, 16)], [], [24, 16, 16]),
        ([(2, 3)], [(2, 3)], [3, 3, 3, 3]),
        ([(2, 3)], [(4, 2)], [3, 3, 2, 2, 2, 0]),  # enough after three: the last is not used
        ([(1, 3)], [(2, 2)], [3, 2, 2]),  # the one that reaches the number keeps all its repeats
        ([(2, 5)], [(2, 1)], [5, 5, 5, 5]),  # too few: evened out, one round after another
        ([(2, 5)], [(3, 1)], [5, 5, 4, 3, 3]),
        ([(1, 7)], [(1, 2), (2, 1)], [7, 3, 2, 2]),
        ([(3, 1)], [(1, 1)], [1, 1, 1, 3]),
    ],
)
def test_uses_by_hand(folders: list[tuple[int, int]], reg: list[tuple[int, int]], expected: list[int]) -> None:
    assert count_uses(pictures(folders, reg)) == expected


counts = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=3)


@given(counts, st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=3))
def test_regularisation_is_evened_out_one_by_one(folders: list[tuple[int, int]], reg: list[tuple[int, int]]) -> None:
    """As sd-scripts does it: once round with their own repeats, then one more each, until there are enough."""
    found = pictures(folders, reg)
    trained = sum(count * repeats for count, repeats in folders)
    own = [picture.folder.repeats for picture in found if picture.folder.reg]
    uses, done, first = [0] * len(own), 0, True
    while own and done < trained:
        for i, repeats in enumerate(own):
            if done < trained:
                uses[i] += repeats if first else 1
                done += repeats if first else 1
        first = False
    assert count_uses(found)[len(found) - len(own) :] == uses
    assert count_uses(found)[: len(found) - len(own)] == [p.folder.repeats for p in found if not p.folder.reg]


def test_every_use_draws_for_itself() -> None:
    found = pictures([(2, 2), (1, 3)])
    assert expand(found) == [
        *(Item(0, "0-0.0"), Item(0, "0-0.1"), Item(1, "0-1.0"), Item(1, "0-1.1")),
        *(Item(2, "1-0.0"), Item(2, "1-0.1"), Item(2, "1-0.2")),
    ]
    twins = [*found[:1], *found[:1]]  # the same bytes in two files
    assert [item.draws for item in expand(twins)] == ["0-0.0", "0-0.1", "0-0.2", "0-0.3"]


@given(
    st.lists(st.sampled_from([SQUARE, TALL, WIDE]), min_size=1, max_size=60),
    st.integers(1, 7),
    st.integers(0, 2**32 - 1),
    st.integers(0, 50),
)
def test_an_epoch_is_fair(buckets: list[tuple[int, int]], batch: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(buckets, batch, seed, epoch)
    assert sorted(item for one in batches for item in one) == list(range(len(buckets)))
    for one in batches:
        assert len({buckets[item] for item in one}) == 1
    sizes = Counter(buckets)
    expected = Counter[tuple[tuple[int, int], int]]()
    for bucket, count in sizes.items():
        expected[bucket, batch] += count // batch
        expected[bucket, count % batch] += bool(count % batch)
    assert +Counter((buckets[one[0]], len(one)) for one in batches) == +expected
    assert batches == epoch_batches(buckets, batch, seed, epoch)


def test_each_epoch_and_each_seed_has_its_own_order() -> None:
    buckets = [SQUARE] * 8 + [TALL] * 4
    orders = {tuple(epoch_batches(buckets, 4, seed, epoch)) for seed in range(5) for epoch in range(20)}
    assert len(orders) == 100
    assert {frozenset(one[0]) for one in orders} > {
        frozenset({8, 9, 10, 11})
    }  # buckets are mixed, not one after another


def test_each_epoch_of_sd_scripts_unfair_run_is_fair_here() -> None:
    """8 pictures x 4 repeats, batch 4: sd-scripts uses a picture 1 to 6 times an epoch, 18 to 28 times in 6."""
    items = expand(pictures([(8, 4)]))
    for epoch in range(6):
        used = Counter(items[i].picture for one in epoch_batches([SQUARE] * 32, 4, 42, epoch) for i in one)
        assert used == dict.fromkeys(range(8), 4)


def test_every_item_is_first_equally_often() -> None:
    first = Counter(epoch_batches([SQUARE] * 6 + [TALL] * 2, 2, 1, epoch)[0][0] for epoch in range(4000))
    assert all(400 < first[item] < 600 for item in range(8))  # 500 by 4.8 standard deviations


def test_a_recorded_order_stays() -> None:
    """A change here breaks the resume of every training under way."""
    assert epoch_batches([SQUARE] * 4 + [TALL] * 3, 2, 42, 1) == [(2, 0), (4, 6), (1, 3), (5,)]
