"""Advice: settings that the schema takes, steps as practice has them, and an estimate that the card can hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.pictures import draw_folder
from trainer.advice import SPARE, Advice, Card, advise
from trainer.config import Captions, Config, Data
from trainer.data.folders import Collection, collect
from trainer.plan import Plan, make_plan
from trainer.tree import overlay

GB = 2**30
CARDS = {
    "none": None, "GTX 1060": Card(6 * GB, False), "RTX 2070": Card(8 * GB, False), "RTX 3060": Card(12 * GB, True),
    "4060 Ti": Card(16 * GB, True), "RTX 4090": Card(24 * GB, True), "H100": Card(80 * GB, True),
}  # fmt: skip
STEPS = {"sd15": (1500, 150), "sdxl": (2000, 200)}


def config_of(advice: Advice, **changes: object) -> Config:
    return Config.model_validate(overlay(overlay(Config().model_dump(mode="json"), advice.settings), changes))


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Collection]:
    """So many pictures, in a folder that does not say how often they are repeated."""
    root = tmp_path_factory.mktemp("pictures")
    folders = {count: draw_folder(root / str(count), {"mine": count}) / "mine" for count in (1, 12, 30, 250)}
    return {count: collect(Data(images=str(folder)), Captions()) for count, folder in folders.items()}


def plan_of(config: Config, collection: Collection, family: str) -> Plan:
    """The plan with the repeats that the config asks for."""
    repeats = config.data.repeats
    pictures = [replace(one, folder=replace(one.folder, repeats=repeats)) for one in collection.pictures]
    return make_plan(config, replace(collection, pictures=pictures), family)


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("pictures", [1, 12, 30, 250])
def test_every_advice_is_a_plan_that_fits(
    pictures: int, family: str, name: str, collections: dict[int, Collection]
) -> None:
    card = CARDS[name]
    advice = advise(pictures, family, "a.safetensors", card)
    plan = plan_of(config_of(advice), collections[pictures], family)
    most, views = STEPS[family]
    wanted = min(most, views * pictures / plan.batch)
    assert 0.7 * wanted <= plan.steps <= 1.3 * wanted
    if card:
        assert advice.fits == (sum(plan.memory.values()) <= (1 - SPARE) * card.memory)
        assert advice.fits or (family, name) == ("sdxl", "GTX 1060")


def test_what_a_card_can_do_is_used() -> None:
    def of(name: str, family: str = "sdxl") -> Config:
        return config_of(advise(60, family, "a.safetensors", CARDS[name]))

    assert [of(name).train.precision for name in ("none", "RTX 2070", "RTX 3060")] == ["no", "fp16", "bf16"]
    assert [of(name).optimizer.type for name in ("none", "RTX 2070")] == ["adamw", "adamw8bit"]
    assert [of(name).train.checkpointing for name in ("RTX 2070", "RTX 3060", "H100")] == [True, True, False]
    assert [of(name).train.batch for name in ("RTX 2070", "H100")] == [1, 2]
    assert of("H100", "sd15").train.batch == 4
    assert of("RTX 2070").sample.prompts == () and len(of("H100").sample.prompts) == 3


def test_the_smallest_card_gets_what_the_ladder_has_left() -> None:
    advice = advise(60, "sdxl", "a.safetensors", Card(4 * GB, False))
    told = [reason for reason in advice.reasons if "wait" in reason or "bits" in reason]
    assert config_of(advice).memory.offload_activations and advice.settings["memory"]["swap"]
    assert told and all(reason.endswith("for 4 GB of memory") for reason in told)
    assert "memory" not in advise(60, "sdxl", "a.safetensors", CARDS["RTX 2070"]).settings


def test_repeats_that_stand_in_the_folders_are_kept() -> None:
    advice = advise(30, "sd15", "a.safetensors", uses=600)
    config = config_of(advice)
    assert "repeats" not in advice.settings["data"]
    assert abs(600 * (config.train.epochs or 0) / config.train.batch - 1500) <= 300


def test_few_uses_make_many_epochs_and_still_ten_files() -> None:
    config = config_of(advise(30, "sd15", "a.safetensors", uses=30))
    assert config.train.epochs == 100
    assert config.save.every_epochs == config.sample.every_epochs == 10


def test_the_trigger_is_in_the_prompts_and_one_is_without() -> None:
    prompts = config_of(advise(30, "sd15", "a.safetensors", trigger="zk9", kind="woman")).sample.prompts
    assert [prompt.startswith("zk9 woman") for prompt in prompts] == [True, True, False]


def test_the_pocket_model_gets_its_own_size() -> None:
    config = config_of(advise(12, "sd15", "pocket", trigger="zk9", kind="creature"))
    assert (config.data.resolution, config.data.buckets, config.optimizer.lr) == ((64, 64), None, 2e-3)


def test_a_reason_for_each_thing_given_up() -> None:
    small, large = (advise(60, "sdxl", "a.safetensors", CARDS[name]).reasons for name in ("RTX 2070", "H100"))
    assert any("checkpointing" in reason and "8 GB" in reason for reason in small)
    assert not any("checkpointing" in reason for reason in large)
