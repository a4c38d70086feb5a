"""The spill alarm on made series: it speaks when memory spills, soon, once, and never for anything else."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from trainer.spill import Alarm, Pace, spilled

GB = 10**9
TOTAL = 8 * GB
FULL = (int(7.5 * GB), int(0.05 * GB))  # held and free
EASY = (5 * GB, 2 * GB)
SQUARE, TALL, SMALL = ((1, 512, 512),), ((1, 448, 576),), ((1, 256, 256),)
Shape = tuple[tuple[int, int, int], ...]


def series(
    seconds: Sequence[float], memory: tuple[int, int] = FULL, shapes: Sequence[Shape] = (SQUARE,), rehearsal: float = 1
) -> list[Pace]:
    """A rehearsal, and steps with shapes in turn."""
    steps = [Pace(one, shapes[index % len(shapes)], *memory) for index, one in enumerate(seconds)]
    return [Pace(rehearsal, SQUARE, *memory), *steps]


def first_alarm(paces: Sequence[Pace]) -> int | None:
    """The step after which it speaks, from 1."""
    return next((step for step in range(1, len(paces)) if spilled(paces[: step + 1], TOTAL)), None)


def test_slow_from_the_start_beside_the_rehearsal() -> None:
    paces = series([4.0] * 20)
    step = first_alarm(paces)
    assert step and step <= 20
    assert spilled(paces, TOTAL) == (4.0, 1.0)


@pytest.mark.parametrize("after", [3, 30, 150])
def test_slow_after_a_while(after: int) -> None:
    step = first_alarm(series([1.0] * after + [2.5] * 20))
    assert step and after < step <= after + 20


def test_more_held_than_the_card_has_is_proof() -> None:
    step = first_alarm(series([1.0] * 20, (9 * GB, 0)))
    assert step and step <= 20


@pytest.mark.parametrize("most", [1.3, 1.7])
def test_noise_is_no_spill(most: float) -> None:
    draw = random.Random(1)
    assert first_alarm(series([draw.uniform(1.0, most) for _ in range(300)])) is None


def test_single_slow_steps_are_no_spill() -> None:
    assert first_alarm(series([6.0 if step % 4 == 0 else 1.0 for step in range(200)])) is None


def test_slow_with_memory_to_spare_is_no_spill() -> None:
    assert first_alarm(series([1.0] * 20 + [5.0] * 40, EASY)) is None
    assert first_alarm(series([5.0] * 40, (5 * GB, 0))) is None  # another program holds the card


def test_steps_after_saves_and_samples_do_not_count() -> None:
    paces = series([1.0] * 10)
    for _ in range(20):
        paces += [Pace(9.0, SQUARE, *FULL, paused=True), Pace(1.0, SQUARE, *FULL)]
    assert first_alarm(paces) is None


def test_the_first_step_of_a_new_bucket_does_not_count() -> None:
    new = [((1, 512, 512 + 64 * index),) for index in range(1, 30)]
    paces = [*series([1.0] * 5), *(Pace(8.0, shape, *FULL) for shape in new)]
    assert first_alarm(paces) is None


def test_each_bucket_is_held_against_itself() -> None:
    quick = [0.25 if step % 2 else 1.0 for step in range(60)]
    assert first_alarm(series(quick, shapes=(SQUARE, SMALL))) is None
    slowed = first_alarm(series([*quick, *(4 * one for one in quick)], shapes=(SQUARE, SMALL)))
    assert slowed and 60 < slowed <= 80


def test_a_bucket_that_the_rehearsal_did_not_see_is_scaled_by_its_pixels() -> None:
    assert first_alarm(series([1.0] * 30, shapes=(TALL,))) is None
    assert first_alarm(series([4.0] * 30, shapes=(TALL,)))


def test_the_alarm_speaks_once_and_only_where_memory_spills() -> None:
    def said(total: int) -> int:
        alarm, clock, told = Alarm(Pace(1.0, SQUARE, *FULL), total), 0.0, 0
        for step in range(60):
            seconds = 1.0 if step < 10 else 5.0
            shape: Callable[[float, bool], Pace] = lambda took, paused: Pace(took, SQUARE, *FULL, paused)  # noqa: E731
            told += alarm.hear(clock, clock + seconds, shape) is not None
            clock += seconds
        return told

    assert said(TOTAL) == 1 and said(0) == 0


def test_a_pause_is_seen_by_the_clock() -> None:
    heard: list[bool] = []

    def pace(seconds: float, paused: bool) -> Pace:
        heard.append(paused)
        return Pace(seconds, SQUARE, *EASY, paused)

    alarm = Alarm(None, TOTAL)
    for began in (100.0, 101.0, 105.0, 106.0):
        alarm.hear(began, began + 1.0, pace)
    assert heard == [True, False, True, False]
