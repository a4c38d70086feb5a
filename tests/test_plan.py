"""The plan: every count against a table made by hand, the held-out pictures, the estimate of memory, the warnings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import Config, Constant, Validation
from trainer.data.buckets import BucketError
from trainer.data.folders import Collection, Folder, Picture, Problem
from trainer.memory import estimate_memory
from trainer.plan import BucketCount, FolderCount, Plan, PlanError, make_plan, once, split, warmup_steps


def collection(
    *folders: tuple[int, int, tuple[int, int]], reg: Sequence[tuple[int, int, tuple[int, int]]] = ()
) -> Collection:
    """Folders given as (pictures, repeats, size)."""
    made = []
    for place, (count, repeats, size) in enumerate([*folders, *reg]):
        name = f"{repeats}_folder{place}"
        folder = Folder(name, Path(name), repeats, "", place >= len(folders))
        made += [Picture(Path(f"{place}-{i}.png"), folder, size, "", "none", f"{place}-{i}") for i in range(count)]
    return Collection(made, [Problem("a.txt", "odd", "left out")])


SEED_ARTICLE = collection((24, 24, (512, 512)), (16, 16, (384, 640)))  # 24 faces x 24 and 16 bodies x 16 = 832


def plan(pictures: Collection = SEED_ARTICLE, family: str = "sd15", **options: Any) -> Plan:
    return make_plan(Config.model_validate({"train": {}, **options}), pictures, family)


@pytest.mark.parametrize(
    ("train", "batches", "steps_per_epoch", "epochs", "steps"),
    [
        ({"epochs": 10}, 832, 832, 10, 8320),
        ({"epochs": 1, "batch": 4}, 208, 208, 1, 208),
        ({"epochs": 10, "batch": 5}, 116 + 52, 168, 10, 1680),  # each bucket rounds up by itself
        ({"epochs": 3, "batch": 7}, 83 + 37, 120, 3, 360),
        ({"epochs": 3, "batch": 256}, 3 + 1, 4, 3, 12),
        ({"epochs": 10, "batch": 2, "accumulate": 4}, 416, 104, 10, 1040),
        ({"epochs": 2, "batch": 4, "accumulate": 3}, 208, 70, 2, 140),
        ({"epochs": 2, "batch": 4, "accumulate": 300}, 208, 1, 2, 2),
        ({"epochs": None, "steps": 1000, "batch": 4}, 208, 208, 5, 1000),
        ({"epochs": None, "steps": 1040, "batch": 4}, 208, 208, 5, 1040),
        ({"epochs": None, "steps": 1041, "batch": 4}, 208, 208, 6, 1041),
        ({"epochs": None, "steps": 7}, 832, 832, 1, 7),
        ({"epochs": 10, "steps": 1000, "batch": 4}, 208, 208, 5, 1000),  # both: what comes first
        ({"epochs": 3, "steps": 1000, "batch": 4}, 208, 208, 3, 624),
    ],
)
def test_steps_by_hand(train: dict[str, Any], batches: int, steps_per_epoch: int, epochs: int, steps: int) -> None:
    made = plan(train=train)
    assert (made.items, made.batches, made.steps_per_epoch) == (832, batches, steps_per_epoch)
    assert (made.epochs, made.steps) == (epochs, steps)


def test_counts_by_hand() -> None:
    pictures = collection((24, 24, (512, 512)), (16, 16, (384, 640)), reg=[(100, 2, (512, 512)), (300, 3, (512, 512))])
    made = plan(pictures, train={"batch": 4})
    assert (made.pictures, made.reg_pictures, made.items, made.reg_items) == (40, 400, 832, 833)  # 100 x 2 + 211 x 3
    assert made.folders == (
        FolderCount("24_folder0", 24, 24, 576, False),
        FolderCount("16_folder1", 16, 16, 256, False),
        FolderCount("2_folder2", 100, 2, 200, True),
        FolderCount("3_folder3", 300, 3, 633, True),
    )
    assert made.buckets == (BucketCount(384, 640, 256), BucketCount(512, 512, 576 + 833))
    assert made.batches == 64 + 353
    assert made.aspect_error == 0


def test_the_bucket_run_of_sd_scripts() -> None:
    """8 pictures x 4 at 128: one tall, one wide, six square; its ss_bucket_info holds these buckets and counts."""
    pictures = collection((1, 4, (64, 200)), (6, 4, (128, 128)), (1, 4, (200, 64)))
    buckets = {"smallest": 64, "largest": 192, "no_upscale": False}
    made = plan(pictures, data={"resolution": 128, "buckets": buckets})
    assert made.buckets == (BucketCount(64, 192, 4), BucketCount(128, 128, 24), BucketCount(192, 64, 4))
    assert made.aspect_error == pytest.approx((abs(64 / 192 - 64 / 200) + abs(192 / 64 - 200 / 64)) / 8)


def test_gradients_are_added_up_from_each_batch_once() -> None:
    made = plan(train={"batch": 4, "accumulate": 3})
    steps = [made.batches_of(place) for place in range(made.steps_per_epoch)]
    assert [index for step in steps for index in step] == list(range(208))
    assert {len(step) for step in steps[:-1]} == {3} and steps[-1] == range(207, 208)


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"), [(0, 100, 0), (50, 100, 50), ("10%", 2080, 208), ("7%", 999, 69), ("0.5%", 999, 4)]
)
def test_warmup_by_hand(warmup: int | str, steps: int, expected: int) -> None:
    assert warmup_steps(Constant(warmup=warmup), steps) == expected


def test_warmup_in_a_plan() -> None:
    assert plan(schedule={"type": "linear", "warmup": "10%"}).warmup == 832
    adafactor = {"optimizer": {"type": "adafactor"}, "schedule": {"type": "adafactor"}}
    assert plan(**adafactor).warmup == 0
    assert plan(schedule={"type": "piecewise_constant"}).warmup == 0


def test_the_plan_as_json_and_as_text() -> None:
    made = plan(train={"batch": 5, "accumulate": 2})
    assert json.loads(json.dumps(made.to_json()))["buckets"][0] == {"width": 384, "height": 640, "uses": 256}
    text = made.text()
    assert "24_folder0: 24 pictures, 576 uses" in text
    assert "384x640: 256, 512x512: 576" in text
    assert "84 an epoch, 840 in 10 epochs" in text
    assert "warning: 2 of 168 batches hold fewer than 5 pictures" in text


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 0), (0.001, 1), (0.07, 3), (0.1, 4), (0.25, 10), (0.5, 20), (0.97, 39)]
)
def test_held_out_by_picture_not_by_repeat(share: float, expected: int) -> None:
    trained, held = split(SEED_ARTICLE, Validation(share=share))
    assert len(held.pictures) == expected
    assert {p.digest for p in trained.pictures} | {p.digest for p in held.pictures} == {
        p.digest for p in SEED_ARTICLE.pictures
    }
    assert not {p.digest for p in trained.pictures} & {p.digest for p in held.pictures}
    assert [p.folder.repeats for p in trained.pictures] == [
        24 if p.size == (512, 512) else 16 for p in trained.pictures
    ]
    assert {p.folder.repeats for p in held.pictures} <= {1}
    assert trained.problems == SEED_ARTICLE.problems and not held.problems


@given(st.permutations(range(40)), st.floats(0.01, 0.9), st.integers(0, 99))
def test_held_out_pictures_follow_from_seed_and_bytes(order: list[int], share: float, seed: int) -> None:
    held = split(SEED_ARTICLE, Validation(share=share), seed)[1]
    renamed = [replace(SEED_ARTICLE.pictures[i], path=Path(f"new{i}.jpg")) for i in order]
    again = split(Collection(renamed, []), Validation(share=share), seed)[1]
    assert {p.digest for p in held.pictures} == {p.digest for p in again.pictures}


def test_seeds_hold_out_different_pictures() -> None:
    choices = {
        frozenset(p.digest for p in split(SEED_ARTICLE, Validation(share=0.2), s)[1].pictures) for s in range(20)
    }
    assert len(choices) == 20


def test_a_new_picture_moves_at_most_one() -> None:
    more = Collection([*SEED_ARTICLE.pictures, replace(SEED_ARTICLE.pictures[0], digest="new")], [])
    before, after = (
        {p.digest for p in split(pictures, Validation(share=0.2))[1].pictures} for pictures in (SEED_ARTICLE, more)
    )
    assert len(before - after) <= 1


def test_the_same_bytes_stay_on_one_side_and_regularisation_stays_in() -> None:
    twins = [replace(picture, path=Path(f"twin-{picture.path}")) for picture in SEED_ARTICLE.pictures]
    reg = collection((1, 1, (64, 64)), (1, 1, (64, 64)), reg=[(50, 1, (512, 512))]).pictures[2:]
    trained, held = split(Collection([*SEED_ARTICLE.pictures, *twins, *reg], []), Validation(share=0.25))
    assert len(held.pictures) == 20
    assert not {p.digest for p in trained.pictures} & {p.digest for p in held.pictures}
    assert sum(p.folder.reg for p in trained.pictures) == 50


def test_a_folder_of_its_own_holds_nothing_out() -> None:
    assert split(SEED_ARTICLE, Validation(share=0.5, folder="x")) == (SEED_ARTICLE, Collection([], []))


def test_once_uses_each_picture_once() -> None:
    assert plan(once(SEED_ARTICLE)).items == 40


@pytest.mark.parametrize("share", [0.99, 1.0])
def test_holding_everything_out_is_refused(share: float) -> None:
    with pytest.raises(PlanError, match=f"validation.share: {share:g} of 40 pictures leaves none to train"):
        split(SEED_ARTICLE, Validation(share=share))


def test_bad_input_is_refused() -> None:
    with pytest.raises(PlanError, match=r"data\.images: zk9 holds no picture"):
        plan(Collection([], []))
    with pytest.raises(BucketError, match=r"0-0\.png: 5000x10 pixels"):
        plan(collection((1, 1, (5000, 10))))
    with pytest.raises(BucketError, match=r"data\.buckets\.step"):
        plan(data={"buckets": {"step": 32}})


GOOD = collection((10, 10, (512, 512)))


@pytest.mark.parametrize(
    ("pictures", "options", "warning"),
    [
        (GOOD, {}, None),
        (collection((1, 2, (512, 512)), reg=[(5, 1, (512, 512))]), {}, "3 of 5 regularisation pictures are not used"),
        (
            collection((10, 10, (512, 512)), (2, 1, (256, 256))),
            {"data": {"buckets": None}},
            "2 pictures are enlarged, 1-0.png 2.0 times",
        ),
        (
            collection((3, 1, (512, 1024))),
            {"data": {"buckets": None}},
            "3 pictures lose more than a quarter to the crop",
        ),
        (GOOD, {"train": {"batch": 3}}, "1 of 34 batches hold fewer than 3 pictures"),
        (GOOD, {"train": {"batch": 5}}, None),
        (GOOD, {"train": {"steps": 99}}, "train.steps: 99 steps end before every picture was used; an epoch has 100"),
        (
            GOOD,
            {"train": {"steps": 2000}},
            "train.steps: 2000, but train.epochs 10 ends at step 1000; set train.epochs to",
        ),
        (GOOD, {"train": {"steps": 2000, "epochs": None}}, None),
        (GOOD, {"train": {"epochs": 1}, "schedule": {"type": "cosine", "warmup": 100}}, "schedule.warmup: 100 of 100"),
        (
            GOOD,
            {"train": {"epochs": 1}, "schedule": {"type": "warmup_stable_decay", "warmup": 60, "decay": "50%"}},
            "schedule.decay: the warm-up leaves 40 of 100 steps for a decay of 50",
        ),
        (GOOD, {"schedule": {"type": "warmup_stable_decay", "warmup": "50%", "decay": "50%"}}, None),
        (
            GOOD,
            {"data": {"buckets": {"smallest": 300, "largest": 1000, "no_upscale": False}}},
            "data.buckets: sides from 256 to 1024",
        ),
        (
            GOOD,
            {"captions": {"keep_tokens_separator": "|||"}},
            "captions.keep_tokens_separator: no tag moves, so '|||'",
        ),
        (GOOD, {"captions": {"keep_tokens_separator": "|||", "shuffle": True}}, None),
        (
            GOOD,
            {"captions": {"wildcards": True, "prefix": "zk9"}},
            "captions.wildcards: of several lines only the first",
        ),
    ],
)
def test_warnings(pictures: Collection, options: dict[str, Any], warning: str | None) -> None:
    warnings = plan(pictures, **options).warnings
    assert [found[: len(warning or "")] for found in warnings] == ([warning] if warning else [])


def memory(family: str = "sd15", area: int = 512 * 512, **options: Any) -> dict[str, int]:
    return estimate_memory(Config.model_validate({"model": {"base": "x.safetensors"}, **options}), family, area)


MIXED = {"train": {"precision": "bf16"}}


def test_memory_against_published_floors() -> None:
    """UNet, text and VAE of SD1.5 and SDXL in bf16 and fp32, LoRA of rank 32 with AdamW, checkpointing: in GB."""
    small = memory(train={"precision": "bf16", "checkpointing": True}, network={"rank": 32})
    assert small["UNet"] / 1e9 == pytest.approx(1.72, abs=0.005)
    assert small["text encoders"] / 1e9 == pytest.approx(0.25, abs=0.005)
    assert small["LoRA"] // 10 == 18_874_368  # 264 modules of rank 32, 10 bytes each: weight, gradient, bf16 copy
    assert small["optimizer"] // 8 == 18_874_368
    assert small["activations"] / 1e9 == pytest.approx(0.16 + 0.026, abs=0.005)
    large = memory("sdxl", 1024 * 1024, train={"precision": "bf16", "checkpointing": True}, network={"rank": 8})
    assert large["UNet"] / 1e9 == pytest.approx(5.13, abs=0.01)
    assert large["text encoders"] / 1e9 == pytest.approx(1.64, abs=0.01)
    assert memory("sdxl")["UNet"] / 1e9 == pytest.approx(10.27, abs=0.01)
    unet_only = memory("sdxl", network={"rank": 8}, rates={"text_encoder": None, "text_encoder_2": None})
    assert unet_only["LoRA"] == 21_278_720 * 8
    full = memory("sdxl", 1024 * 1024, rates={"text_encoder": None, "text_encoder_2": None}, **MIXED)
    assert full["activations"] / 1e9 == pytest.approx(6.78, abs=0.01)


def test_conv_rank_counts_as_in_a_locon_file() -> None:
    trained = memory(network={"rank": 8, "conv_rank": 4})["LoRA"] // 8
    assert trained == 4_718_592 + 8 * 82_880 + 4 * 544_000


@pytest.mark.parametrize(
    ("optimizer", "each"),
    [({"type": "adamw"}, 8), ({"type": "adamw8bit"}, 2), ({"type": "lion"}, 4), ({"type": "prodigy"}, 16)],
)
def test_state_of_the_optimizer(optimizer: dict[str, Any], each: int) -> None:
    assert memory(network={"rank": 8}, optimizer=optimizer)["optimizer"] == each * 4_718_592


def test_adafactor_keeps_almost_nothing() -> None:
    fixed = {"type": "adafactor", "lr": 1e-3}
    assert memory(network={"rank": 8}, optimizer=fixed)["optimizer"] == 4 * 4_718_592 // 8
    assert memory(network={"rank": 8}, optimizer=fixed | {"beta1": 0.9})["optimizer"] > 4 * 4_718_592


def test_what_is_not_loaded_takes_nothing() -> None:
    assert "VAE" not in memory()
    assert "VAE" in memory(data={"cache_latents": False})
    assert "VAE" in memory(sample={"prompts": ["a cat"]})
    cached = {"data": {"cache_text": True}, "rates": {"text_encoder": None, "text_encoder_2": None}}
    assert "text encoders" not in memory(**cached)
    assert sum(memory(train={"precision": "bf16", "full": True}).values()) < sum(memory(**MIXED).values())


@pytest.mark.parametrize(
    ("family", "side", "blocks", "largest"),
    [
        # heads x latents squared: SD1.5 has five blocks at each of three sizes and one in the middle, of 8 heads each;
        ("sd15", 512, 8 * (5 * 4096**2 + 5 * 1024**2 + 5 * 256**2 + 64**2), 8 * 4096**2),
        # SDXL has ten blocks of 10 heads, and at half the size sixty of 20.
        ("sdxl", 1024, 10 * 10 * 4096**2 + 60 * 20 * 1024**2, 10 * 4096**2),
    ],
)
def test_memory_of_attention_without_saving(family: str, side: int, blocks: int, largest: int) -> None:
    def scores(**options: Any) -> int:
        train = {"precision": "bf16", "batch": 3} | options
        plain, saving = (memory(family, side * side, train=train | {"attention": kind}) for kind in ("none", "sdpa"))
        return plain["activations"] - saving["activations"]

    assert scores() == pytest.approx(3 * 2 * blocks, rel=1e-3)
    assert scores(checkpointing=True) == pytest.approx(3 * 2 * largest, rel=1e-3)


@given(st.integers(1, 8), st.sampled_from(["sd15", "sdxl"]), st.booleans())
def test_memory_grows_with_the_batch_and_shrinks_with_checkpointing(batch: int, family: str, less: bool) -> None:
    train = {"batch": batch, "checkpointing": less}
    now, more = (memory(family, train=train | {"batch": n})["activations"] for n in (batch, batch + 1))
    assert more / now == pytest.approx((batch + 1) / batch)
    assert not less or now < memory(family, train=train | {"checkpointing": False})["activations"]


def test_the_pocket_model_is_small() -> None:
    made = estimate_memory(Config(), "sd15", 64 * 64)
    assert sum(made.values()) - made["workspace"] < 60_000_000
