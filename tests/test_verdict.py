"""The verdict on made tables: what is picked, how sure it is, what it says, and what it says to change."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.errors import InputError
from trainer.verdict.diagnosis import Facts
from trainer.verdict.noise import redrawn, turned
from trainer.verdict.scores import Row
from trainer.verdict.verdict import Verdict, judge

COUNTS = {"likeness": 12, "obedience": 8, "spill": 4, "copying": 12, "variety": 6, "burn": 12}
SOUND = {"likeness": 0.6, "obedience": 0.9, "spill": 0.05, "copying": 0.1, "variety": 0.9, "burn": 0.02}
FACTS = Facts("zk9", 1e-4, 16, 16.0, 10, 1200, 12)


def row(epoch: int | None, strength: float = 0.8, noise: float = 0.02, **scores: float) -> Row:
    """A candidate with these means to the last place, and noise between its pictures."""
    values = {}
    for place, (name, mean) in enumerate({**SOUND, **scores}.items()):
        spread = np.random.default_rng([place, epoch or 0, int(100 * strength)]).normal(size=COUNTS[name])
        values[name] = tuple(mean + noise * (spread - spread.mean()))
    label = f"zk9-{epoch:06}" if epoch is not None else "zk9"
    return Row(f"/runs/{label}.safetensors", label, strength, epoch, values=values)


def run(likeness: Sequence[float], obedience: Sequence[float] = (), **scores: float) -> list[Row]:
    """The files of a run, epoch by epoch."""
    obeys = obedience or [0.9] * len(likeness)
    pairs = zip(likeness, obeys, strict=True)
    return [row(epoch, likeness=a, obedience=b, **scores) for epoch, (a, b) in enumerate(pairs, 1)]


def said(verdict: Verdict) -> str:
    return verdict.sentence


RISES_AND_FALLS = run([0.05, 0.15, 0.25, 0.41, 0.63, 0.66, 0.68], [1.0, 1.0, 0.95, 0.92, 0.9, 0.7, 0.4])


def test_a_run_that_rises_and_falls() -> None:
    verdict = judge(RISES_AND_FALLS, FACTS)
    assert verdict.pick is RISES_AND_FALLS[4]
    assert verdict.sentence == (
        "Epoch 5 at strength 0.8. Earlier files miss the likeness (0.41 against 0.63); from epoch 6 on the files "
        "ignore more of the prompt (0.70 against 0.90: overfit)."
    )
    assert (verdict.sureness, verdict.diagnosis, verdict.ties) == ("clear", "good", ())
    assert verdict.confidence > 0.99
    assert "Likeness: 0.63; earlier 0.05 to 0.41; later 0.66 to 0.68" in verdict.evidence
    assert verdict.next_step == "Use this one at strength 0.8, with zk9 in the prompt."
    assert any(line.startswith("Held-out loss: not measured; set Validation share") for line in verdict.not_measured)


def test_all_of_it_is_json_without_the_numbers_of_pictures() -> None:
    told = json.loads(json.dumps(judge(RISES_AND_FALLS, FACTS).to_json(), allow_nan=False))
    assert told["pick"]["epoch"] == 5
    assert "values" not in told["pick"]
    assert set(told) >= {"pick", "best", "sentence", "evidence", "confidence", "sureness", "ties", "next_step"}


def test_rows_may_come_in_any_order() -> None:
    verdict = judge(RISES_AND_FALLS[::-1], FACTS)
    assert (verdict.pick, verdict.sentence) == (RISES_AND_FALLS[4], judge(RISES_AND_FALLS, FACTS).sentence)


def test_a_strength_is_told_by_what_is_worse_beside_it() -> None:
    rows = [
        row(7, 0.4, likeness=0.2, obedience=1.0),
        row(7, 0.8, likeness=0.7),
        row(7, 1.2, likeness=0.75, obedience=0.4, burn=0.3),
    ]
    assert said(judge(rows, FACTS)) == (
        "Epoch 7 at strength 0.8. At strength 0.4 it misses the likeness (0.20 against 0.70); at strength 1.2 it "
        "ignores more of the prompt (0.40 against 0.90: overfit)."
    )


# Ties


def test_a_tie_is_called_one_and_the_earlier_is_taken() -> None:
    rows = run([0.2, 0.6, 0.6])
    verdict = judge(rows, FACTS)
    assert verdict.pick is rows[1]
    assert verdict.ties == (rows[2],)
    assert said(verdict).startswith("Epoch 2 at strength 0.8, a tie with epoch 3: the earlier is taken. Epoch 1 misses")
    assert verdict.sureness == "likely"


def test_of_strengths_that_tie_the_usual_one_is_taken() -> None:
    rows = [row(3, strength) for strength in (0.4, 0.6, 0.8, 1.4)]
    verdict = judge(rows, FACTS)
    assert verdict.pick is rows[2]
    assert said(verdict) == (
        f"Epoch 3 at strength 0.8, a tie with {_listed(verdict)}: the strength nearest to 0.8 to 1 is taken."
    )


def _listed(verdict: Verdict) -> str:
    first, second = (f"strength {one.strength:g}" for one in verdict.ties[:2])
    return f"{first}, {second} and 1 more"


def test_noise_makes_a_tie_that_the_mean_decides() -> None:
    rows = [row(1, noise=0.4, likeness=0.55), row(2, noise=0.4, likeness=0.65)]
    verdict = judge(rows, FACTS)
    assert verdict.pick is rows[1]
    assert said(verdict) == "Epoch 2 at strength 0.8, a tie with epoch 1: the better on average is taken."
    assert verdict.sureness != "clear"


def test_of_many_that_tie_the_reason_is_told_as_it_is() -> None:
    """The pick is neither the earliest of all nor the best by a hair."""
    rows = [row(1, 1.4, noise=0.3, likeness=0.64), row(2, 0.8, noise=0.3, likeness=0.7), row(3, 0.8, likeness=0.7)]
    verdict = judge(rows, FACTS)
    assert verdict.pick is rows[1]
    assert said(verdict) == (
        "Epoch 2 at strength 0.8, a tie with epoch 3 and epoch 1 at strength 1.4: of the best on average, the earliest "
        "at the most usual strength is taken."
    )


def test_an_average_that_is_best_and_one_that_ties() -> None:
    files = run([0.5, 0.55])
    average = replace(row(None, likeness=0.8), label="average of epochs 5 to 8", kind="average")
    assert said(judge([*files, average], FACTS)) == (
        "The average of epochs 5 to 8 at strength 0.8. The best single file is epoch 2 at strength 0.8 "
        f"({files[1].total:.2f} in all against {average.total:.2f})."
    )
    same = replace(
        files[1], file="/runs/mean.safetensors", label="average of epochs 5 to 8", kind="average", epoch=None
    )
    verdict = judge([same, files[1]], FACTS)
    assert verdict.pick is files[1]
    assert said(verdict).endswith("a tie with the average of epochs 5 to 8: the single file is taken.")


def test_two_files_files_by_step_and_files_by_name() -> None:
    two = [replace(one, epoch=None, step=60 * one.epoch) for one in run([0.2, 0.6]) if one.epoch]
    assert said(judge(two, FACTS)) == "Step 120 at strength 0.8. Step 60 misses the likeness (0.20 against 0.60)."
    two = [replace(one, step=None) for one in two]
    assert said(judge(two, FACTS)).startswith("File zk9-000002 at strength 0.8. ")


def test_one_file_alone() -> None:
    verdict = judge([row(7)], FACTS)
    assert said(verdict) == (
        "Epoch 7 at strength 0.8. It is the only one that was measured, so nothing is known of others."
    )
    assert verdict.sureness == "the only one"


# None is good


def test_underfit_and_still_rising() -> None:
    rows = run([0.02, 0.1, 0.2])
    verdict = judge(rows, FACTS)
    assert (verdict.pick, verdict.best, verdict.diagnosis) == (None, rows[2], "underfit")
    assert said(verdict) == (
        "No file is good enough: epoch 3 at strength 0.8 has too little of the likeness (likeness 0.20, where 0.3 is "
        "needed). It still rises at the last file: the training ended too early (underfit)."
    )
    assert verdict.next_step == "Next run: set Epoch to 15 (10 now), or set Learning rate to 3e-4 (1e-4 now)."
    assert judge(rows, replace(FACTS, during=True)).next_step.startswith("Let the training go on")
    prodigy = judge(rows, Facts(steps=600))
    assert prodigy.next_step.startswith("Next run: set Max train steps to 900 (600 now), or take a higher Learning")


def test_underfit_that_longer_does_not_help() -> None:
    verdict = judge(run([0.19, 0.2, 0.2]), FACTS)
    assert verdict.diagnosis == "underfit"
    assert "longer did not help" in said(verdict)
    assert verdict.next_step.startswith("Next run: set Learning rate to 3e-4 (1e-4 now), or set Epoch")


def test_overfit_from_the_first_file_on() -> None:
    verdict = judge(run([0.7, 0.75, 0.8], [0.5, 0.3, 0.1]), FACTS)
    assert (verdict.pick, verdict.diagnosis) == (None, "overfit")
    assert said(verdict).endswith("Already the first file does: all are too late (overfit).")
    assert "set Learning rate to 3.3e-5 (1e-4 now)" in verdict.next_step
    assert "add more varied pictures (12 now)" in verdict.next_step
    assert "Save every N epochs to 1" in verdict.next_step


def test_overfit_where_those_that_obey_miss_the_likeness() -> None:
    rows = run([0.1, 0.2, 0.7], [1.0, 1.0, 0.3])
    verdict = judge(rows, FACTS)
    assert verdict.diagnosis == "overfit"
    assert "epoch 3 at strength 0.8 ignores the prompt" in said(verdict)
    assert said(verdict).endswith("Those that obey miss the likeness (overfit).")
    assert verdict.next_step.startswith("Next run: set Epoch to 2 (10 now), or set Learning rate to 3.3e-5")


def test_burnt_from_the_start() -> None:
    verdict = judge(run([0.5, 0.4, 0.2], burn=0.8), FACTS)
    assert (verdict.pick, verdict.diagnosis) == (None, "burnt")
    assert said(verdict).endswith(
        "is burnt (burn 0.80, where less than 0.5 is wanted). All are, from the first file on (burnt)."
    )
    assert "set Network Alpha to 8 (16 now)" in verdict.next_step


def test_a_weak_strength_does_not_hide_that_a_lora_is_burnt() -> None:
    rows = [row(2, 0.2, likeness=0.05, obedience=1.0, burn=0.1), row(2, 1.0, likeness=0.3, obedience=0.3, burn=0.9)]
    assert judge(rows, FACTS).diagnosis == "burnt"


@pytest.mark.parametrize(("regularised", "words"), [(False, "or give a Regularisation folder"), (True, "into the Reg")])
def test_a_leak(regularised: bool, words: str) -> None:
    verdict = judge(run([0.6, 0.8], spill=0.7), replace(FACTS, regularised=regularised))
    assert (verdict.pick, verdict.diagnosis) == (None, "leak")
    assert "changes pictures without the trigger (spill 0.70" in said(verdict)
    assert words in verdict.next_step


def test_copying_and_seeds_all_alike() -> None:
    copies = judge(run([0.6, 0.9], copying=0.9), FACTS)
    assert (copies.diagnosis, copies.pick) == ("copying", None)
    assert "copies training pictures (copying 0.90" in said(copies)
    alike = judge(run([0.6, 0.9], variety=0.1), FACTS)
    assert alike.diagnosis == "copying"
    assert "draws every seed alike (variety 0.10" in said(alike)


def test_a_lora_that_does_nothing() -> None:
    rows = run([0.01, 0.0, 0.02], [1.0, 0.99, 1.01], spill=0.0, burn=0.0)
    verdict = judge(rows, FACTS)
    assert (verdict.pick, verdict.diagnosis) == (None, "no difference")
    assert said(verdict).startswith("No file changes what the base model draws (likeness 0.0")
    assert "lora verify" in verdict.next_step
    assert "1e-3 (1e-4 now)" in verdict.next_step


def test_one_file_that_is_not_good() -> None:
    assert said(judge([row(1, likeness=0.1)], FACTS)).startswith("The file is not good enough: epoch 1")


def test_one_without_fault_is_preferred_unless_it_is_far_behind() -> None:
    near = [row(1, likeness=0.66), row(2, likeness=0.75, spill=0.45)]
    assert near[0].total > 0.9 * near[1].total
    assert judge(near, FACTS).pick is near[0]
    far = [row(1, likeness=0.42, obedience=0.61), row(2, likeness=0.95, obedience=0.95, spill=0.41)]
    verdict = judge(far, FACTS)
    assert (verdict.pick, verdict.best, verdict.diagnosis) == (None, far[1], "leak")


def test_a_pick_that_still_rises_says_so() -> None:
    rows = run([0.3, 0.5, 0.65])
    verdict = judge(rows, FACTS)
    assert verdict.pick is rows[2]
    assert "still rises at the last file; for more of it next run: set Epoch to 15 (10 now)" in verdict.next_step


# What is missing, and what is refused


def test_measures_that_are_missing_are_left_out_for_all() -> None:
    whole = run([0.3, 0.6])
    values = {name: numbers for name, numbers in whole[0].values.items() if name not in ("copying", "spill")}
    partial = [replace(whole[0], values=values, losses={"held_out_loss": 0.1}), whole[1]]
    verdict = judge(partial, FACTS)
    assert verdict.pick is partial[1]
    assert (
        "Copying: measured for 1 of 2 only, and so left out; it needs pictures of the data set" in verdict.not_measured
    )
    assert any(line.startswith("Held-out loss: measured for 1 of 2 only; set") for line in verdict.not_measured)


def test_losses_alone_name_no_file() -> None:
    rows = [replace(one, values={}, losses={"held_out_loss": 0.1}) for one in run([0.3, 0.6])]
    verdict = judge(rows, FACTS)
    assert (verdict.pick, verdict.best, verdict.diagnosis) == (None, None, "not measured")


def test_one_picture_says_nothing_of_noise() -> None:
    rows = [replace(one, values={name: numbers[:1] for name, numbers in one.values.items()}) for one in run([0.2, 0.6])]
    verdict = judge(rows, FACTS)
    assert verdict.pick is rows[1]
    assert (verdict.sureness, verdict.confidence) == ("a toss-up", 0.5)
    assert verdict.not_measured[-1].startswith("Noise: ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"likeness": (0.1, math.nan)}, "lora verify"),
        ({"burn": (math.inf,) * 12}, "burn holds a number that is none"),
        ({"likeness": (0.1, 0.2)}, "measured on 2 pictures"),
        ({"beauty": (1.0,)}, "'beauty' is no measure"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict[str, Any], words: str) -> None:
    first, second = run([0.3, 0.6])
    with pytest.raises(InputError, match=words):
        judge([first, replace(second, values={**second.values, **change})], FACTS)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="at least one LoRA"):
        judge([], FACTS)


# Noise


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), little=st.floats(0.01, 0.1), more=st.floats(1.1, 5.0), gap=st.floats(0.05, 0.2))
def test_more_noise_gives_less_confidence(seed: int, little: float, more: float, gap: float) -> None:
    """With the means as they are, no noise moves anything beyond 0 and 1 here, where totals would be cut off."""
    spread = np.random.default_rng(seed).uniform(-1, 1, (2, 12))
    spread -= spread.mean(axis=1, keepdims=True)

    def confidence(noise: float) -> float:
        likeness = [0.5 + place * gap + noise * spread[place] for place in range(2)]
        rows = [Row(f"/{n}", f"{n}", 0.8, n, values={"likeness": tuple(one)}) for n, one in enumerate(likeness)]
        return judge(rows, FACTS).confidence

    assert confidence(little * more) <= confidence(little)


def test_the_spread_of_redraws_is_that_of_the_mean() -> None:
    numbers = np.random.default_rng(1).normal(0.5, 0.05, 10)
    drawn = redrawn([Row("/a", "a", 0.8, 1, values={"likeness": tuple(numbers)})])
    assert drawn.std() == pytest.approx(numbers.std(ddof=1) / math.sqrt(10), rel=0.08)
    assert drawn.mean() == pytest.approx(numbers.mean(), abs=0.002)


def test_rows_are_redrawn_by_the_same_pictures() -> None:
    """What all pictures of two files have in common, such as a hard prompt, is no doubt about which is better."""
    hard = np.linspace(0.1, 0.9, 12)
    rows = [Row(f"/{n}", f"{n}", 0.8, n, values={"likeness": tuple(hard - 0.05 * n)}) for n in (1, 0)]
    verdict = judge(rows, FACTS)
    assert verdict.confidence == 1.0
    assert not verdict.ties


# Early stopping


@pytest.mark.parametrize(
    ("likeness", "patience", "stops"),
    [
        ([0.2, 0.6, 0.5, 0.4], 2, True),
        ([0.2, 0.6, 0.5, 0.4], 3, False),
        ([0.2, 0.4, 0.6], 1, False),
        ([0.2, 0.6, 0.598, 0.4], 2, False),
        ([0.6], 1, False),
    ],
)
def test_a_training_stops_when_its_score_has_turned(likeness: list[float], patience: int, stops: bool) -> None:
    assert turned(run(likeness), patience) is stops


def test_a_training_with_no_files_yet_goes_on() -> None:
    assert turned([], 1) is False


def test_a_file_counts_with_its_best_strength_and_averages_do_not() -> None:
    strong = [replace(one, strength=1.2) for one in run([0.9, 0.3, 0.2])]
    assert turned([*strong, *run([0.5, 0.6, 0.7])], 1) is True
    average = replace(row(None, likeness=0.95), kind="average")
    assert turned([*run([0.2, 0.5, 0.6]), average], 1) is False
