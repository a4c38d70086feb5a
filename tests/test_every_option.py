"""Every option does what it says: each one, changed alone, changes what is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.conftest import Train, Tree
from tests.pictures import draw_folder
from tests.test_train import start, weights
from tests.tiny import tiny_file
from trainer.networks.lora import LoraNetwork
from trainer.tree import leaves, overlay

Weights = dict[str, torch.Tensor]
Learned = Callable[[Tree], Weights]
LOOSE = {"data": {"cache_latents": False}}
PERTURBED = {"objective": {"perturbation": 0.1}}
TAGS = {"captions": {"shuffle": True}}
CHANGES: dict[str, tuple[Tree, Tree]] = {
    # option: (what it needs, what changes)
    "seed": ({}, {"seed": 7}),
    "model.prediction": ({}, {"model": {"prediction": "v"}}),
    "model.zero_terminal_snr": ({}, {"model": {"zero_terminal_snr": True}}),
    "model.clip_skip": ({}, {"model": {"clip_skip": 2}}),
    "data.resolution": ({}, {"data": {"resolution": [64, 128]}}),
    "data.buckets": ({"data": {"resolution": 128}}, {"data": {"buckets": {"no_upscale": True}}}),
    "data.crop": (LOOSE, {"data": {"crop": "random"}}),
    "data.interpolation": ({}, {"data": {"interpolation": "bicubic"}}),
    "data.flip": ({}, {"data": {"flip": True}}),
    "data.color_aug": (LOOSE, {"data": {"color_aug": True}}),
    "captions.extension": ({}, {"captions": {"extension": ".caption"}}),
    "captions.prefix": ({}, {"captions": {"prefix": "photo"}}),
    "captions.suffix": ({}, {"captions": {"suffix": "photo"}}),
    "captions.separator": (TAGS, {"captions": {"separator": " "}}),
    "captions.secondary_separator": (TAGS, {"captions": {"secondary_separator": "ing"}}),
    "captions.shuffle": ({}, {"captions": {"shuffle": True}}),
    "captions.keep_tokens": (TAGS, {"captions": {"keep_tokens": 3}}),
    "captions.keep_tokens_separator": (TAGS, {"captions": {"keep_tokens_separator": "red"}}),
    "captions.dropout": ({}, {"captions": {"dropout": 0.9}}),
    "captions.dropout_every_n_epochs": ({}, {"captions": {"dropout_every_n_epochs": 1}}),
    "captions.tag_dropout": ({}, {"captions": {"tag_dropout": 0.7}}),
    "captions.wildcards": ({"captions": {"prefix": "{a|b}"}}, {"captions": {"wildcards": True}}),
    "captions.weighted": ({"captions": {"prefix": "(zk9:1.5)"}}, {"captions": {"weighted": True}}),
    "captions.max_tokens": ({"captions": {"prefix": "word " * 90}}, {"captions": {"max_tokens": 150}}),
    "captions.token_warmup_min": ({"captions": {"token_warmup_steps": 9}}, {"captions": {"token_warmup_min": 3}}),
    "captions.token_warmup_steps": ({}, {"captions": {"token_warmup_steps": 9}}),
    "network.rank": ({}, {"network": {"rank": 3}}),
    "network.alpha": ({}, {"network": {"alpha": 2}}),
    "network.conv_rank": ({}, {"network": {"conv_rank": 2}}),
    "network.conv_alpha": ({"network": {"conv_rank": 2}}, {"network": {"conv_alpha": 2}}),
    "network.dropout": ({}, {"network": {"dropout": 0.5}}),
    "network.rank_dropout": ({}, {"network": {"rank_dropout": 0.5}}),
    "network.module_dropout": ({}, {"network": {"module_dropout": 0.5}}),
    "network.max_norm": ({}, {"network": {"max_norm": 0.001}}),
    "network.loraplus": ({}, {"network": {"loraplus": 4}}),
    "network.loraplus_unet": ({}, {"network": {"loraplus_unet": 4}}),
    "network.loraplus_text": ({}, {"network": {"loraplus_text": 4}}),
    "network.type": ({}, {"network": {"type": "lora_fa"}}),
    **{
        f"network.{name}": ({"network": {"type": kind, **needs}}, {"network": {name: value}})
        for kind, name, value, needs in (
            ("lora", "down_weights", "zeros+.5", {}), ("lora", "mid_weights", "0.5", {}),
            ("lora", "up_weights", "sine", {}), ("lora", "zero_threshold", 0.6, {"mid_weights": "0.5"}),
            ("lora", "block_ranks", [1] * 25, {}), ("lora", "block_alphas", [2] * 25, {"block_ranks": [2] * 25}),
            ("lora", "conv_block_ranks", [1] * 25, {"block_ranks": [2] * 25}),
            ("lora", "conv_block_alphas", [2] * 25, {"block_ranks": [2] * 25, "conv_block_ranks": [1] * 25}),
            ("locon", "preset", "attn-mlp", {}), ("locon", "train_norm", True, {}), ("locon", "dora", True, {}),
            ("locon", "tucker", True, {}), ("locon", "scalar", True, {}), ("locon", "rs_lora", True, {}),
            ("locon", "bypass", True, {"dropout": 0, "rank": 4, "preset": "attn-mlp", "rank_dropout": 0.5}),
            ("locon", "rank_dropout_scale", True, {"rank_dropout": 0.5, "preset": "attn-mlp"}),
            ("lokr", "factor", 2, {"preset": "attn-mlp"}),
            ("lokr", "decompose_both", True, {"rank": 1, "factor": 8, "preset": "attn-mlp"}),
            ("dylora", "unit", 2, {"preset": "attn-mlp"}), ("ia3", "on_input", False, {"preset": "attn-mlp"}),
            ("diag_oft", "constraint", 1e-6, {"preset": "attn-mlp"}),
            ("diag_oft", "rescaled", True, {"preset": "attn-mlp"}),
        )
    },
    "rates.unet": ({}, {"rates": {"unet": 1e-4}}),
    "rates.text_encoder": ({}, {"rates": {"text_encoder": 1e-4}}),
    "rates.text_encoder_2": ({"model": {"base": "sdxl"}}, {"rates": {"text_encoder_2": 1e-4}}),
    "optimizer": ({}, {"optimizer": {"type": "lion"}}),
    "schedule": ({}, {"schedule": {"type": "linear", "warmup": 1}}),
    "objective.noise": ({}, {"objective": {"noise": {"type": "multires"}}}),
    "objective.perturbation": ({}, {"objective": {"perturbation": 0.1}}),
    "objective.perturbation_random": (PERTURBED, {"objective": {"perturbation_random": True}}),
    "objective.loss": ({}, {"objective": {"loss": {"type": "huber"}}}),
    "objective.min_timestep": ({}, {"objective": {"min_timestep": 900}}),
    "objective.max_timestep": ({}, {"objective": {"max_timestep": 100}}),
    "objective.min_snr_gamma": ({}, {"objective": {"min_snr_gamma": 0.1}}),
    "objective.debiased": ({}, {"objective": {"debiased": True}}),
    "objective.v_like": ({}, {"objective": {"v_like": 1.0}}),
    "objective.scale_v": ({"model": {"prediction": "v"}}, {"objective": {"scale_v": True}}),
    "train.epochs": ({"train": {"steps": None, "epochs": 2, "batch": 8}}, {"train": {"epochs": 1}}),
    "train.steps": ({}, {"train": {"steps": 3}}),
    "train.batch": ({}, {"train": {"batch": 2}}),
    "train.accumulate": ({}, {"train": {"accumulate": 2}}),
    "train.precision": ({}, {"train": {"precision": "bf16"}}),
    "train.full": ({"train": {"precision": "bf16"}}, {"train": {"full": True}}),
    "train.full fp16": ({"train": {"precision": "fp16"}}, {"train": {"full": True}}),
    "train.precision fp16": ({}, {"train": {"precision": "fp16"}}),
    "train.clip": ({}, {"train": {"clip": 1e-6}}),
    "memory.base_weights": ({}, {"memory": {"base_weights": "int8"}}),
    "save.precision": ({}, {"save": {"precision": "bf16"}}),
}  # fmt: skip
ELSEWHERE = {
    "shown not to change the result": {
        "memory.swap", "memory.offload_activations", "network.fused",
        "train.checkpointing", "train.threads", "data.workers", "data.cache_latents", "data.cache_text",
        "model.vae_batch", "train.attention", "train.device", "train.processes", "model.family", "model.vae_precision",
    },
    "shown in a test of its own": {
        "version", "about", "model.base", "model.vae", "model.vae_slicing", "model.vae_tiling", "data.images",
        "memory.fit", "network.filter", "network.text_stop", "network.block_rates", "network.average", "network.form",
        "data.reg", "data.repeats", "data.words", "data.background", "network.start_from", "network.rank_from_file",
        "network.token", "network.init_word", "network.vectors", "network.template",
        "data.subsets", "data.metadata", "data.masks", "data.alpha_mask", "objective.prior_words",
        "objective.prior_weight", "objective.prior", "save.every_epochs", "save.every_steps", "save.every_minutes",
        "save.keep_last", "save.state_minutes", "save.state_keep",
    },
    "parts with tests of their own": {
        "sample", "validation", "compare", "output", "data.buckets", "optimizer", "schedule", "objective.noise",
        "objective.loss", "pivotal",
    },
}  # fmt: skip


def settled(name: str) -> bool:
    """Whether an option stands in one of the tables, itself or by the part that it belongs to."""
    known = {*CHANGES, *(one for names in ELSEWHERE.values() for one in names)}
    return name.endswith(".type") or name in known or any(name.startswith(f"{part}.") for part in known)


def test_no_option_is_forgotten() -> None:
    assert not [name for name, _ in leaves() if not settled(name)]


def same(one: Weights, two: Weights) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def known() -> dict[str, Weights]:
    """What trainings have learned, by their changes to the small config."""
    return {}


@pytest.fixture
def learned(train: Train, known: dict[str, Weights]) -> Learned:
    """What a training with these changes learns; many options need the same, which is trained once."""

    def go(changes: Tree) -> Weights:
        if repr(changes) not in known:
            known[repr(changes)] = weights(train(changes))
        return known[repr(changes)]

    return go


@pytest.mark.parametrize("option", CHANGES)
def test_it_changes_the_result(option: str, bases: dict[str, Path], learned: Learned) -> None:
    needs, changes = CHANGES[option]
    if needs.get("model", {}).get("base") == "sdxl":
        needs = {"model": {"base": str(bases["sdxl"])}}
    assert not same(learned(needs), learned(overlay(needs, changes)))


@pytest.mark.parametrize(
    "change",
    [{"train": {"checkpointing": True}}, {"data": {"workers": 3}}, {"model": {"family": "sd15"}}],
    ids=str,
)
def test_it_changes_nothing(change: Tree, train: Train, learned: Learned) -> None:
    assert same(learned({}), weights(train(change)))


def test_cached_text_is_the_text(train: Train) -> None:
    alone = {"rates": {"text_encoder": None, "text_encoder_2": None}}
    assert same(weights(train(alone)), weights(train({**alone, "data": {"cache_text": True}})))


def test_uncached_latents_are_the_cached_ones(learned: Learned) -> None:
    assert same(learned({}), learned(LOOSE))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The families that trainings have loaded."""
    seen: list[Any] = []
    attach = LoraNetwork.attach

    def look(family: Any, *rest: Any) -> LoraNetwork:
        seen.append(family)
        return attach(family, *rest)

    monkeypatch.setattr(LoraNetwork, "attach", look)
    return seen


def test_attention_without_saving_computes_the_same(train: Train, loaded: list[Any]) -> None:
    saving, plain = weights(train()), weights(train({"train": {"attention": "none"}}))
    kinds = [{type(one).__name__ for one in family.unet.attn_processors.values()} for family in loaded]
    assert kinds == [{"AttnProcessor2_0"}, {"AttnProcessor"}]
    assert all(torch.allclose(saving[name], plain[name], rtol=1e-3, atol=1e-5) for name in saving)


def test_another_vae(train: Train, learned: Learned, tmp_path: Path) -> None:
    vae = tiny_file("sd15", tmp_path, seed=5)
    assert not same(learned({}), weights(train({"model": {"vae": str(vae)}})))


def test_regularisation_and_its_weight(train: Train, tmp_path: Path) -> None:
    others = draw_folder(tmp_path / "reg", {"1_thing": 3}, size=(80, 80))
    reg = {"data": {"reg": str(others)}, "train": {"steps": 4, "batch": 2}}
    plain, with_reg = weights(train({"train": reg["train"]})), weights(train(reg))
    assert not same(plain, with_reg)
    assert not same(with_reg, weights(train({**reg, "objective": {"prior_weight": 0.1}})))
    assert not same(with_reg, weights(train({**reg, "objective": {"prior": "model"}})))


def test_what_lies_behind_a_transparent_picture(train: Train, tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (255, 0, 0, 40)).save(tmp_path / "ghost.png")
    data = {"images": str(tmp_path)}
    assert not same(weights(train({"data": data})), weights(train({"data": {**data, "background": "#0000ff"}})))


def test_going_on_from_a_file(train: Train) -> None:
    first = train()
    file = str(first.checkpoints / "zk9.safetensors")
    gone_on = weights(train({"network": {"start_from": file}}))
    assert not same(weights(first), gone_on)
    by_file = {"network": {"start_from": file, "rank_from_file": True, "rank": 5, "alpha": 5}}
    assert same(gone_on, weights(train(by_file)))


def test_keeping_the_last_files(train: Train) -> None:
    folder = train({"train": {"steps": 5}, "save": {"every_steps": 1, "keep_last": 2}})
    names = {path.name for path in folder.checkpoints.iterdir()}
    assert names == {"zk9-step00000003.safetensors", "zk9-step00000004.safetensors", "zk9.safetensors"}


def test_saving_by_the_clock_and_keeping_states(train: Train) -> None:
    folder = train({"train": {"steps": 5}, "save": {"every_minutes": 1e-6, "state_minutes": 0, "state_keep": 3}})
    assert len(list(folder.checkpoints.iterdir())) == 5
    assert sorted(path.name for path in folder.states.iterdir()) == ["00000002", "00000003", "00000004"]


def test_repeats_of_a_plain_folder(train: Train, images: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(images / "1_zk9 body", plain)
    data = {"images": str(plain)}
    steps = {"train": {"steps": None, "epochs": 1}}
    runs = [train({**steps, "data": {**data, "repeats": repeats}}) for repeats in (1, 3)]
    assert [start(folder)["steps"] for folder in runs] == [2, 6]


def test_words_of_a_plain_folder(train: Train, images: Path, tmp_path: Path) -> None:
    for picture in (images / "1_zk9 body").glob("*.png"):
        shutil.copy(picture, tmp_path)
    silent, spoken = (train({"data": {"images": str(tmp_path), "words": words}}) for words in ("", "zk9 body"))
    assert not same(weights(silent), weights(spoken))


def test_slicing_and_tiling_reach_the_vae(train: Train, loaded: list[Any]) -> None:
    train({"model": {"vae_slicing": True, "vae_tiling": True}})
    assert loaded[0].vae.use_slicing and loaded[0].vae.use_tiling
