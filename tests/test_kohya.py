"""Files of the Kohya GUI: every key, every old name, every form of a value, and back again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer import configio, kohya
from trainer.__main__ import main
from trainer.config import (
    AdafactorSchedule,
    Buckets,
    Config,
    CosineWithMinLr,
    InverseSqrt,
    PiecewiseConstant,
    Prodigy,
    WarmupStableDecay,
)
from trainer.families.detect import Detected
from trainer.kohya import table
from trainer.kohya.networks import CHOOSING, TYPES
from trainer.kohya.writing import leaves
from trainer.tree import ConfigError, check, overlay

Tree = dict[str, Any]
GOLDEN = Path(__file__).parent / "golden" / "kohya"
FRESH = {**table.FRESH, "pretrained_model_name_or_path": "/m.safetensors", "train_data_dir": "/img", "xformers": "sdpa"}
SDXL = {"sdxl": True}
LOCON = {"LoRA_type": "Kohya LoCon"}
LOHA, LOKR, OFT = ({"LoRA_type": f"LyCORIS/{kind}"} for kind in ("LoHa", "LoKr", "Diag-OFT"))
BLOCKS = {"block_dims": "4,4"}
LOOSE = {"cache_latents": False}
OFFSET = {"noise_offset": 0.05}
MULTIRES = {"noise_offset_type": "Multires", "multires_noise_iterations": 6}
HUBER = {"loss_type": "huber"}


def config_of(tree: Tree) -> Config:
    reading = kohya.read(tree, "/folder/file.json")
    whole = overlay(Config().model_dump(mode="json"), reading.config_tree)
    return check(whole, "file.json", reading.sources)


def outcome(tree: Tree, key: str) -> str:
    return {note.key: note for note in kohya.read(tree, "x").notes}[key].outcome


def difference(before: Tree, after: Tree) -> Tree:
    one, other = leaves(config_of(before)), leaves(config_of(after))
    return {name: other.get(name) for name in {**one, **other} if one.get(name) != other.get(name)}


CHANGES: dict[str, tuple[Any, Tree, Tree]] = {
    # key: (value, what the file holds besides a fresh page, what changes in our config)
    "pretrained_model_name_or_path": ("org/name", {}, {"model.base": "org/name"}),
    "v_parameterization": (True, {}, {"model.prediction": "v"}),
    "sdxl": (True, {}, {"model.family": "sdxl"}),
    "save_precision": ("float", {}, {"save.precision": "fp32"}),
    "train_data_dir": ("/other", {}, {"data.images": "/other"}),
    "output_name": ("me", {}, {"output.name": "me"}),
    "training_comment": ("zk9", {}, {"output.comment": "zk9"}),
    "logging_dir": ("/log", {}, {"output.logging": "/log"}),
    "reg_data_dir": ("/reg", {}, {"data.reg": "/reg"}),
    "output_dir": ("/out", {}, {"output.folder": "/out"}),
    "max_resolution": ("512,768", {}, {"data.resolution": [512, 768]}),
    "learning_rate": (2e-4, {}, {"optimizer.lr": 2e-4}),
    "lr_scheduler": ("linear", {}, {"schedule.type": "linear"}),
    "lr_warmup": (5, {}, {"schedule.warmup": "5%"}),
    "lr_warmup_steps": (20, {}, {"schedule.warmup": 20}),
    "train_batch_size": (4, {}, {"train.batch": 4}),
    "epoch": (7, {"max_train_steps": 0}, {"train.epochs": 7}),
    "save_every_n_epochs": (0, {}, {"save.every_epochs": None}),
    "seed": (7, {}, {"seed": 7}),
    "cache_latents": (False, {}, {"data.cache_latents": False}),
    "cache_latents_to_disk": (True, LOOSE, {"data.cache_latents": True}),
    "caption_extension": (".cap", {}, {"captions.extension": ".cap"}),
    "enable_bucket": (False, {}, dict.fromkeys(f"data.buckets.{name}" for name in Buckets.model_fields)),
    "min_bucket_reso": (64, {}, {"data.buckets.smallest": 64}),
    "max_bucket_reso": (1024, {}, {"data.buckets.largest": 1024}),
    "max_train_epochs": (3, {}, {"train.epochs": 3, "train.steps": None}),
    "max_train_steps": (100, {}, {"train.steps": 100}),
    "lr_scheduler_num_cycles": (3, {"lr_scheduler": "cosine_with_restarts"}, {"schedule.cycles": 3}),
    "lr_scheduler_power": (2, {"lr_scheduler": "polynomial"}, {"schedule.power": 2.0}),
    "optimizer": ("Lion", {}, {"optimizer.type": "lion", "optimizer.weight_decay": 0.0, "optimizer.betas": [0.9, 0.99],
                               "optimizer.eps": None}),
    "optimizer_args": ("weight_decay=0.1", {}, {"optimizer.weight_decay": 0.1}),
    "lr_scheduler_args": ("power=3", {"lr_scheduler": "polynomial"}, {"schedule.power": 3.0}),
    "max_grad_norm": (0, {}, {"train.clip": None}),
    "mixed_precision": ("no", {}, {"train.precision": "no"}),
    "num_cpu_threads_per_process": (4, {}, {"train.threads": 4}),
    "num_processes": (2, {}, {"train.processes": 2}),
    "gradient_checkpointing": (True, {}, {"train.checkpointing": True}),
    "full_fp16": (True, {}, {"train.full": True}),
    "full_bf16": (True, {"mixed_precision": "bf16"}, {"train.full": True}),
    "xformers": ("xformers", {}, {"train.attention": "xformers"}),
    "fp8_base": (True, {}, {"memory.base_weights": "fp8"}),
    "shuffle_caption": (True, {}, {"captions.shuffle": True}),
    "prior_loss_weight": (0, {}, {"objective.prior_weight": 0.0}),
    "color_aug": (True, LOOSE, {"data.color_aug": True}),
    "flip_aug": (True, {}, {"data.flip": True}),
    "clip_skip": (0, {}, {"model.clip_skip": None}),
    "gradient_accumulation_steps": (3, {}, {"train.accumulate": 3}),
    "max_token_length": (225, {}, {"captions.max_tokens": 225}),
    "max_data_loader_n_workers": (3, {}, {"data.workers": 3}),
    "keep_tokens": (2, {}, {"captions.keep_tokens": 2}),
    "bucket_no_upscale": (False, {}, {"data.buckets.no_upscale": False}),
    "random_crop": (True, LOOSE, {"data.crop": "random"}),
    "bucket_reso_steps": (32, {}, {"data.buckets.step": 32}),
    "v_pred_like_loss": (0.5, {}, {"objective.v_like": 0.5}),
    "caption_dropout_every_n_epochs": (2, {}, {"captions.dropout_every_n_epochs": 2}),
    "caption_dropout_rate": (0.1, {}, {"captions.dropout": 0.1}),
    "noise_offset_type": ("Multires", {"multires_noise_iterations": 6}, {
        "objective.noise.type": "multires", "objective.noise.iterations": 6, "objective.noise.discount": 0.3}),
    "noise_offset": (0.1, OFFSET, {"objective.noise.strength": 0.1}),
    "noise_offset_random_strength": (True, OFFSET, {"objective.noise.random": True}),
    "adaptive_noise_scale": (0.01, OFFSET, {"objective.noise.adaptive": 0.01}),
    "multires_noise_iterations": (8, MULTIRES, {"objective.noise.iterations": 8}),
    "multires_noise_discount": (0.2, MULTIRES, {"objective.noise.discount": 0.2}),
    "ip_noise_gamma": (0.1, {}, {"objective.perturbation": 0.1}),
    "ip_noise_gamma_random_strength": (True, {}, {"objective.perturbation_random": True}),
    "additional_parameters": ("--caption_prefix=zk9", {}, {"captions.prefix": "zk9"}),
    "loss_type": ("l1", {}, {"objective.loss.type": "l1"}),
    "huber_schedule": ("constant", HUBER, {"objective.loss.schedule": "constant"}),
    "huber_c": (0.2, HUBER, {"objective.loss.c": 0.2}),
    "huber_scale": (2, HUBER, {"objective.loss.scale": 2.0}),
    "vae_batch_size": (4, {}, {"model.vae_batch": 4}),
    "min_snr_gamma": (5, {}, {"objective.min_snr_gamma": 5.0}),
    "save_every_n_steps": (50, {}, {"save.every_steps": 50}),
    "save_last_n_steps": (100, {"save_every_n_steps": 50}, {"save.keep_last": 3}),
    "save_last_n_epochs": (2, {}, {"save.keep_last": 2}),
    "save_last_n_steps_state": (100, {"save_every_n_steps": 50}, {"save.state_keep": 3}),
    "save_last_n_epochs_state": (4, {}, {"save.state_keep": 4}),
    "log_tracker_name": ("anna", {}, {"output.log_name": "anna"}),
    "mem_eff_attn": (True, {"xformers": "none"}, {"train.attention": "sdpa"}),
    "scale_v_pred_loss_like_noise_pred": (True, {}, {"objective.scale_v": True}),
    "min_timestep": (100, {}, {"objective.min_timestep": 100}),
    "max_timestep": (900, {}, {"objective.max_timestep": 900}),
    "vae": ("/vae", {}, {"model.vae": "/vae"}),
    "weighted_captions": (True, {}, {"captions.weighted": True}),
    "debiased_estimation_loss": (True, {}, {"objective.debiased": True}),
    "sdxl_cache_text_encoder_outputs": (True, SDXL, {"data.cache_text": True}),
    "sdxl_no_half_vae": (True, SDXL, {"model.vae_precision": "fp32"}),
    "text_encoder_lr": (5e-5, {}, {"rates.text_encoder": 5e-5, "rates.text_encoder_2": 5e-5}),
    "unet_lr": (3e-4, {}, {"rates.unet": 3e-4}),
    "network_dim": (32, {}, {"network.rank": 32}),
    "network_weights": ("/l.safetensors", {}, {"network.start_from": "/l.safetensors"}),
    "dim_from_weights": (True, {"network_weights": "/l"}, {"network.rank_from_file": True}),
    "network_alpha": (4, {}, {"network.alpha": 4.0}),
    "LoRA_type": ("Kohya LoCon", {}, {"network.conv_rank": 1}),
    "conv_dim": (8, LOCON, {"network.conv_rank": 8}),
    "conv_alpha": (4, LOCON, {"network.conv_alpha": 4.0}),
    "sample_every_n_steps": (25, {}, {"sample.every_steps": 25}),
    "sample_every_n_epochs": (1, {}, {"sample.every_epochs": 1}),
    "sample_sampler": ("ddim", {}, {"sample.sampler": "ddim"}),
    "sample_prompts": ("a cat --d 1\n# no\n\na dog", {}, {"sample.prompts": ["a cat --d 1", "a dog"]}),
    "scale_weight_norms": (1, {}, {"network.max_norm": 1.0}),
    "network_dropout": (0.3, {}, {"network.dropout": 0.3}),
    "rank_dropout": (0.1, {}, {"network.rank_dropout": 0.1}),
    "module_dropout": (0.1, {}, {"network.module_dropout": 0.1}),
    "loraplus_lr_ratio": (16, {}, {"network.loraplus": 16.0}),
    "loraplus_text_encoder_lr_ratio": (4, {}, {"network.loraplus_text": 4.0}),
    "loraplus_unet_lr_ratio": (8, {}, {"network.loraplus_unet": 8.0}),
    "LyCORIS_preset": ("attn-mlp", LOHA, {"network.preset": "attn-mlp"}),
    "bypass_mode": (True, LOHA, {"network.bypass": True}),
    "dora_wd": (True, LOHA, {"network.dora": True}),
    "use_tucker": (True, LOHA, {"network.tucker": True}),
    "use_scalar": (True, LOHA, {"network.scalar": True}),
    "rank_dropout_scale": (True, LOHA, {"network.rank_dropout_scale": True}),
    "train_norm": (True, LOHA, {"network.train_norm": True}),
    "factor": (6, LOKR, {"network.factor": 6}),
    "use_cp": (True, LOKR, {"network.tucker": True}),
    "decompose_both": (True, LOKR, {"network.decompose_both": True}),
    "constrain": (0.5, OFT, {"network.constraint": 0.5}),
    "rescaled": (True, OFT, {"network.rescaled": True}),
    "train_on_input": (False, {"LoRA_type": "LyCORIS/iA3"}, {"network.on_input": False}),
    "unit": (2, {"LoRA_type": "LyCORIS/DyLoRA", "conv_dim": 2}, {"network.unit": 2}),
    "down_lr_weight": ("sine+.5", {}, {"network.down_weights": "sine+.5"}),
    "mid_lr_weight": ("0.5", {}, {"network.mid_weights": "0.5"}),
    "up_lr_weight": ("zeros", {}, {"network.up_weights": "zeros"}),
    "block_lr_zero_threshold": ("0.2", {"mid_lr_weight": "1"}, {"network.zero_threshold": 0.2}),
    "block_dims": ("4,4", {}, {"network.block_ranks": [4, 4]}),
    "block_alphas": ("2,2", BLOCKS, {"network.block_alphas": [2.0, 2.0]}),
    "conv_block_dims": ("2,2", BLOCKS, {"network.conv_block_ranks": [2, 2]}),
    "conv_block_alphas": ("2,2", {**BLOCKS, "conv_block_dims": "2,2"}, {"network.conv_block_alphas": [2.0, 2.0]}),
    "metadata_author": ("me", {}, {"output.author": "me"}),
    "metadata_description": ("a", {}, {"output.description": "a"}),
    "metadata_license": ("MIT", {}, {"output.license": "MIT"}),
    "metadata_tags": ("a,b", {}, {"output.tags": "a,b"}),
    "metadata_title": ("t", {}, {"output.title": "t"}),
}  # fmt: skip
REFUSED = {
    **{key: True for key in table.FAMILIES},
    **{"train_inpainting": True, "resume": "/state", "resume_from_huggingface": "me/state"},
}
"""Keys that no training can follow here yet: the file is refused, and the message names them."""
BY_CODE = {
    "lr_scheduler_type": "needs its arguments too, see tests/test_optimizer_kinds.py",
    "dataset_config": "needs a file of its own, see tests/test_dataset_toml.py",
    "masked_loss": "says itself that masks are needed too, see tests/test_masked.py",
}
OTHER = {
    **dict.fromkeys(table.SAME, "same"),
    **dict.fromkeys(table.UNSUPPORTED, "unsupported"),
    "save_model_as": "unsupported",
    **dict.fromkeys(table.SECRETS, "secret"),
    **dict.fromkeys([key for key in table.DEAD if key in table.FRESH], "unused"),
    **dict.fromkeys([key for key in table.FAMILY_KEYS if key not in table.FAMILIES], "family"),
}
"""Keys that change no option: what is said of each once it is set."""


def test_every_key_of_the_page_has_its_place() -> None:
    places = [CHANGES, REFUSED, OTHER, BY_CODE]
    assert len(table.FRESH) == 287
    assert {key for place in places for key in place} == set(table.FRESH)
    assert not [key for key in OTHER if key in REFUSED or (key in CHANGES and key not in table.SAME)]


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_a_key_alone_changes_what_it_should(key: str) -> None:
    value, base, expected = CHANGES[key]
    before = {**FRESH, **base}
    after = {**before, key: value}
    assert difference(before, after) == expected
    assert outcome(after, key) == ("same" if key in table.SAME else "converted")
    back = kohya.write(config_of(after))
    assert kohya.lost(config_of(after)) == []
    assert difference(after, back) == {}


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_is_still_to_come_is_refused_by_name(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        kohya.read({**FRESH, key: REFUSED[key]}, "x")


@pytest.mark.parametrize("key", sorted(OTHER))
def test_a_key_without_an_option_is_spoken_of(key: str) -> None:
    fresh = table.FRESH[key]
    value = not fresh if isinstance(fresh, bool) else fresh + 2 if isinstance(fresh, (int, float)) else "ckpt"
    assert difference(FRESH, {**FRESH, key: value}) == {}
    notes = {note.key: note for note in kohya.read({**FRESH, key: value}, "x").notes}
    assert notes[key].outcome == OTHER[key]
    assert notes[key].loud is (OTHER[key] in ("unsupported", "secret"))


@pytest.mark.parametrize("kind", [*sorted(table.FAMILY_TYPES), "nonsense"])
def test_other_types_of_lora_are_never_trained_as_one(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"still to come|not supported|not known") as caught:
        kohya.read({**FRESH, "LoRA_type": kind}, "x")
    assert kind in str(caught.value)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_of_lora_is_read_and_written(kind: str) -> None:
    config = config_of({**FRESH, "LoRA_type": kind, "conv_dim": 4})
    assert config.network.type == TYPES[kind].type
    assert kohya.write(config)["LoRA_type"] == kind
    assert kohya.lost(config) == []


def test_what_a_type_does_not_pass_on_changes_nothing() -> None:
    """Keys of other types stay in files, and LyCORIS drops neurons in bypass mode alone."""
    every = {key: CHANGES[key][0] for key in CHOOSING if key not in ("rank_dropout", "module_dropout")}
    every = {key: value for key, value in every.items() if not key.startswith(("loraplus", "LyCORIS"))}
    idle = {key: value for key, value in every.items() if key not in TYPES["LyCORIS/BOFT"].keys.split()}
    boft = {**FRESH, "LoRA_type": "LyCORIS/BOFT"}
    assert difference(boft, {**boft, **idle, "network_dropout": 0.3}) == {}
    assert outcome({**FRESH, **LOHA, "network_dropout": 0.3}, "network_dropout") == "unused"
    assert config_of({**FRESH, **LOHA, "network_dropout": 0.3, "bypass_mode": True}).network.dropout == 0.3
    kron = config_of({**FRESH, "additional_parameters": "--network_args algo=lokr preset=attn-mlp factor=8"}).network
    assert (kron.type, kron.preset, kron.factor) == ("lokr", "attn-mlp", 8)
    assert config_of({**FRESH, **LOHA, "LyCORIS_preset": "/f.toml"}).network.filter == "/f.toml"
    assert config_of({**FRESH, "LoRA_type": "LoCon"}).network.type == "locon"
    with pytest.raises(ConfigError, match="dim_from_weights"):
        kohya.read({**FRESH, **LOHA, "network_weights": "/l", "dim_from_weights": True}, "x")


# Old files

OLD: dict[str, tuple[Any, Tree, Tree | str]] = {
    # legacy key: (value, what else the file holds, what changes, or what becomes of it)
    "lora_network_weights": ("/l.safetensors", {}, {"network.start_from": "/l.safetensors"}),
    "use_8bit_adam": (True, {}, {"optimizer.type": "adamw8bit"}),
    "use_wandb": ("True", {}, "converted"),
    "no_token_padding": (True, {}, "unused"),
    "conv_dims": ("4,4", BLOCKS, {"network.conv_block_ranks": [4, 4]}),
    "conv_alphas": ("4,4", {**BLOCKS, "conv_block_dims": "4,4"}, {"network.conv_block_alphas": [4.0, 4.0]}),
    "stop_text_encoder_training_pct": (50, {}, "converted"),
    "save_as_bool": (False, {}, "unused"),
    "save_as": (False, {}, "unused"),
    "caption_extention": (".cap", {}, {"captions.extension": ".cap"}),
    "cache_latent": (False, {}, {"data.cache_latents": False}),
    "network_train": ("Unet only", {}, {"rates.text_encoder": None, "rates.text_encoder_2": None}),
    "locon": (True, {"LoRA_type": "LyCORIS/LoCon"}, "unused"),
    "block_lr": ("1,1", {}, "unused"),
    "cache_text_encoder_outputs": (True, SDXL, {"data.cache_text": True}),
    "no_half_vae": (True, SDXL, {"model.vae_precision": "fp32"}),
    "sdxl_min_timestep": (100, SDXL, {"objective.min_timestep": 100}),
    "sdxl_max_timestep": (900, SDXL, {"objective.max_timestep": 900}),
    "use_wandb_checkbox": (True, {}, "converted"),
    "wandb_api_key_textbox": ("0123", {}, "converted"),
    "headless": (True, {}, "unused"),
    "print_only": (True, {}, "unused"),
}
SMALL = {"network_dim": 8, "train_data_dir": "/img", "pretrained_model_name_or_path": "/m"}


@pytest.mark.parametrize("key", OLD)
def test_old_names_are_read(key: str) -> None:
    value, base, expected = OLD[key]
    before, after = {**SMALL, **base}, {**SMALL, **base, key: value}
    if isinstance(expected, str):
        assert difference(before, after) == {}
        assert outcome(after, key) == expected
    else:
        assert difference(before, after) == expected


def test_old_names_are_all_of_them_and_new_names_outrank_them() -> None:
    assert len(OLD) == 22
    config = config_of(
        {**SMALL, "cache_latent": False, "cache_latents": True, "use_8bit_adam": True, "optimizer": "Lion"}
    )
    assert config.data.cache_latents and config.optimizer.type == "lion"
    assert config_of({**SMALL, "network_train": "Text encoder only"}).rates.unet is None
    assert config_of({**SMALL, "network_train": "Text encoder and unet"}).rates == Config().rates
    notes = {note.key: note for note in kohya.read({**SMALL, "use_wandb": True}, "x").notes}
    assert notes["log_with"].outcome == "unsupported"


FORMS: list[tuple[str, Any, Tree, str, Any]] = [
    # key, value as old files hold it, what else the file holds, option, what it is
    ("xformers", True, {}, "train.attention", "xformers"),
    ("xformers", False, {}, "train.attention", "none"),
    ("xformers", "none", {}, "train.attention", "none"),
    ("save_model_as", "diffusers", {}, "save.precision", "fp16"),
    ("model_list", "", {}, "model.base", "/m"),
    ("clip_skip", "2", {}, "model.clip_skip", 2),
    ("clip_skip", "", {}, "model.clip_skip", None),
    ("epoch", "30", {}, "train.epochs", 30),
    ("gradient_accumulation_steps", "4", {}, "train.accumulate", 4),
    ("gradient_accumulation_steps", 4.0, {}, "train.accumulate", 4),
    ("keep_tokens", "1", {}, "captions.keep_tokens", 1),
    ("keep_tokens", "", {}, "captions.keep_tokens", 0),
    ("lr_warmup", "8", {}, "schedule.warmup", "8%"),
    ("lr_warmup", "1.5", {}, "schedule.warmup", 0),
    ("max_data_loader_n_workers", "", {}, "data.workers", 0),
    ("max_train_epochs", "16", {}, "train.epochs", 16),
    ("save_every_n_epochs", "", {}, "save.every_epochs", None),
    ("seed", "31337", {}, "seed", 31337),
    ("seed", "", {}, "seed", 0),
    ("max_train_steps", "150", {}, "train.steps", 150),
    ("caption_dropout_every_n_epochs", 0.0, {}, "captions.dropout_every_n_epochs", None),
    ("caption_dropout_every_n_epochs", "3", {}, "captions.dropout_every_n_epochs", 3),
    ("lr_scheduler_num_cycles", "", {"lr_scheduler": "cosine_with_restarts"}, "schedule.cycles", 1),
    ("max_token_length", "225", {}, "captions.max_tokens", 225),
    ("max_token_length", "", {}, "captions.max_tokens", 75),
    ("noise_offset", "0.05", {}, "objective.noise.strength", 0.05),
    ("noise_offset", "", {}, "objective.noise.type", "plain"),
    ("adaptive_noise_scale", "0.005", OFFSET, "objective.noise.adaptive", 0.005),
    ("learning_rate", "5e-05", {}, "optimizer.lr", 5e-5),
    ("text_encoder_lr", "", {"unet_lr": 1e-4}, "rates.text_encoder", None),
    ("text_encoder_lr", "1e-4 2e-5", {}, "rates.text_encoder_2", 2e-5),
    ("text_encoder_lr", [1e-4, 2e-5], {}, "rates.text_encoder", 1e-4),
    ("unet_lr", "1e-3", {}, "rates.unet", 1e-3),
    ("lr_scheduler_min_lr_ratio", 0.2, {"lr_scheduler": "cosine_with_min_lr"}, "schedule.lowest", 0.2),
    (
        "lr_scheduler_args",
        "min_lr=1e-6",
        {"lr_scheduler": "cosine_with_min_lr", "learning_rate": 4e-6},
        "schedule.lowest",
        0.25,
    ),
    ("lr_scheduler_args", "min_lr_ratio=0.1", {"lr_scheduler": "warmup_stable_decay"}, "schedule.lowest", 0.1),
    ("lr_scheduler_num_cycles", "2", {"lr_scheduler": "warmup_stable_decay"}, "schedule.cycles", 2),
    ("lr_decay_steps", "10%", {"lr_scheduler": "warmup_stable_decay"}, "schedule.decay", "10%"),
    ("lr_decay_steps", 0.1, {"lr_scheduler": "warmup_stable_decay"}, "schedule.decay", "10%"),
    ("lr_scheduler", "warmup_stable_decay", {}, "schedule.decay", 0),
    ("lr_scheduler_timescale", 30, {"lr_scheduler": "inverse_sqrt"}, "schedule.timescale", 30),
    (
        "lr_scheduler_args",
        "step_rules='1:10,0.1:20,0.005'",
        {"lr_scheduler": "piecewise_constant"},
        "schedule.rules",
        "1:10,0.1:20,0.005",
    ),
    (
        "lr_scheduler_args",
        "step_rules=1:10,1e-5",
        {"lr_scheduler": "piecewise_constant"},
        "schedule.rules",
        "1:10,1e-05",
    ),
    ("lr_scheduler_power", "", {"lr_scheduler": "polynomial"}, "schedule.power", 1.0),
    ("max_resolution", 768, {}, "data.resolution", [768, 768]),
    ("output_name", 2024, {}, "output.name", "2024"),
    ("output_name", "", {}, "output.name", "last"),
    ("flip_aug", "true", {}, "data.flip", True),
    ("flip_aug", 1, {}, "data.flip", True),
    ("network_dim", None, {}, "network.rank", Config().network.rank),
    ("network_dim", "", {}, "network.rank", Config().network.rank),
    ("caption_extension", "", {}, "captions.extension", ".txt"),
]


@pytest.mark.parametrize(("key", "value", "base", "option", "expected"), FORMS)
def test_forms_of_values(key: str, value: Any, base: Tree, option: str, expected: Any) -> None:
    assert leaves(config_of({**SMALL, **base, key: value}))[option] == expected


WRONG: dict[str, tuple[Tree, str]] = {
    "word for a number": ({"network_dim": "abc"}, "network_dim 'abc': is no whole number"),
    "fraction": ({"train_batch_size": 1.5}, "train_batch_size 1.5: is no whole number"),
    "endless": ({"prior_loss_weight": "inf"}, "prior_loss_weight 'inf': is no number"),
    "truth": ({"flip_aug": "perhaps"}, "flip_aug 'perhaps': is neither true nor false"),
    "limit": ({"network_dim": 100000}, "network_dim -> network.rank: 100000: it must be 1024 or less"),
    "name": ({"output_name": "../../x"}, "output_name -> output.name"),
    "alpha": ({"network_alpha": 0}, "network_alpha -> network.alpha: 0"),
    "optimizer": ({"optimizer": "DAdaptAdm"}, "optimizer 'DAdaptAdm': is not known; did you mean DAdaptAdam?"),
    "argument": (
        {"optimizer": "Lion", "optimizer_args": "d_coef=2"},
        "optimizer_args 'd_coef=2': d_coef is no argument",
    ),
    "pairs": ({"optimizer_args": "weight_decay = 1"}, "'weight_decay' is not name=value"),
    "schedule": ({"lr_scheduler": "rex"}, "lr_scheduler 'rex': is not known: choose one of constant,"),
    "no step rules": ({"lr_scheduler": "piecewise_constant"}, "piecewise_constant needs its steps"),
    "step rules": (
        {"lr_scheduler": "piecewise_constant", "lr_scheduler_args": "step_rules='1:x,0.1'"},
        "lr_scheduler_args -> schedule.rules",
    ),
    "lowest rate": (
        {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_args": "min_lr=1e-6", "learning_rate": 0, "unet_lr": 1e-4},
        "min_lr is a number such as 1e-6, and needs a learning_rate above 0",
    ),
    "schedule argument": ({"lr_scheduler_args": "T_max=30"}, "T_max is no argument of cosine"),
    "rates": ({"learning_rate": 0, "unet_lr": 0, "text_encoder_lr": 0}, "all three rates are 0"),
    "rate": ({"learning_rate": 0}, "nothing would be trained"),
    "precision": ({"full_bf16": True, "mixed_precision": "fp16"}, "full_bf16 True: needs mixed_precision bf16"),
    "fp8": ({"mixed_precision": "fp8"}, "fp8 is not supported"),
    "noise": ({"noise_offset_type": "Pink"}, "noise_offset_type 'Pink'"),
    "module": ({"additional_parameters": "--network_args algo=magic"}, "network_args algo=magic"),
    "three rates": ({"text_encoder_lr": [1, 2, 3]}, "one rate, or two"),
    "save precision": ({"save_precision": "fp64"}, "is not one of float, fp16, bf16"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_names_the_key(name: str, tmp_path: Path) -> None:
    tree, message = WRONG[name]
    file = tmp_path / "k.json"
    file.write_text(json.dumps({**SMALL, **tree}))
    with pytest.raises(ConfigError) as caught:
        configio.load(str(file))
    assert message in str(caught.value) and str(file) in str(caught.value)


# How long, how fast


def test_the_1600_steps_of_a_fresh_page_are_told() -> None:
    reading = kohya.read({**SMALL, "max_train_steps": 1600, "epoch": 10}, "x")
    assert reading.config_tree["train"] == {"steps": 1600, "epochs": None}
    told = next(line for line in reading.lines() if line.startswith("epoch 10"))
    assert "1600" in told and "train.epochs=10" in told
    config = config_of({**SMALL, "epoch": 160})
    assert (config.train.epochs, config.train.steps) == (160, None)
    config = config_of({**SMALL, "epoch": 1, "max_train_steps": 1600, "max_train_epochs": 20})
    assert (config.train.epochs, config.train.steps) == (20, None)
    config = config_of({**SMALL, "epoch": 10, "max_train_steps": 0, "max_train_epochs": 0})
    assert (config.train.epochs, config.train.steps) == (10, None)
    assert config_of(SMALL).train == Config().train


@pytest.mark.parametrize(
    ("learning_rate", "unet", "text", "expected"),
    [
        (1e-4, 2e-4, 3e-5, (1e-4, 2e-4, 3e-5)),
        (1e-4, 2e-4, 0, (1e-4, 2e-4, None)),
        (1e-4, 0, 3e-5, (1e-4, None, 3e-5)),
        (1e-4, 0, 0, (1e-4, 1e-4, 1e-4)),
        (0, 2e-4, 3e-5, (2e-4, 2e-4, 3e-5)),
        (0, 0, 3e-5, (3e-5, None, 3e-5)),
        (0, 2e-4, None, (2e-4, 2e-4, None)),
        (1e-4, None, None, (1e-4, 1e-4, 1e-4)),
        (None, None, 0, (1e-4, 1e-4, None)),
    ],
)
def test_rates(learning_rate: float | None, unet: float | None, text: float | None, expected: tuple[Any, ...]) -> None:
    config = config_of({**SMALL, "learning_rate": learning_rate, "unet_lr": unet, "text_encoder_lr": text})
    flat = leaves(config)
    assert (flat["optimizer.lr"], flat["rates.unet"], flat["rates.text_encoder"]) == expected
    assert flat["rates.text_encoder_2"] == flat["rates.text_encoder"]


@pytest.mark.parametrize(
    ("schedule", "percent", "steps", "expected"),
    [
        ("cosine", 10, 0, "10%"),
        ("cosine", 10, 50, 50),
        ("cosine", 0, 0, 0),
        ("cosine", 0, 0.25, "25%"),
        ("cosine", 0, "12.5%", "12.5%"),
        ("constant", 10, 0, 0),
        ("constant_with_warmup", 10, 0, "10%"),
        ("constant_with_warmup", 0, 30, 30),
    ],
)
def test_warm_up(schedule: str, percent: int, steps: Any, expected: Any) -> None:
    config = config_of({**SMALL, "lr_scheduler": schedule, "lr_warmup": percent, "lr_warmup_steps": steps})
    assert config.schedule.type == schedule.removesuffix("_with_warmup")
    assert leaves(config)["schedule.warmup"] == expected
    assert kohya.lost(config) == []


def test_arguments_of_optimizers_are_typed() -> None:
    words = (
        '"decouple=True" "betas=0.9,0.91" "d0=1e-5" "growth_rate=1.02" "use_bias_correction=True" "weight_decay=0.4"'
    )
    config = config_of({**SMALL, "optimizer": "Prodigy", "learning_rate": 1, "optimizer_args": words})
    assert config.optimizer == Prodigy(
        lr=1.0, betas=(0.9, 0.91), d0=1e-5, growth_rate=1.02, bias_correction=True, weight_decay=0.4
    )
    written = kohya.write(config)
    assert "betas=0.9,0.91" in written["optimizer_args"].split()
    assert config_of(written).optimizer == config.optimizer


@pytest.mark.parametrize(
    "schedule",
    [
        CosineWithMinLr(lowest=0.25, cycles=2, warmup="5%"),
        *(InverseSqrt(timescale=70), InverseSqrt(warmup=9)),
        *(WarmupStableDecay(decay=0), WarmupStableDecay(decay="15%", lowest=0.1, warmup=3), WarmupStableDecay(decay=9)),
        PiecewiseConstant(rules="1:10,0.1:20,0.005"),
    ],
    ids=repr,
)
def test_schedules_of_transformers_go_there_and_back(schedule: Any) -> None:
    config = Config(schedule=schedule)
    assert config_of(kohya.write(config)).schedule == schedule
    assert kohya.lost(config) == []


def test_a_decay_that_is_not_given_is_told() -> None:
    told = kohya.read({**SMALL, "lr_scheduler": "warmup_stable_decay"}, "x").lines()
    assert "lr_decay_steps (missing): not given: the rate stays to the end, as in sd-scripts" in told


def test_adafactor_finds_its_own_rate_unless_told_otherwise() -> None:
    relative = config_of(
        {**SMALL, "optimizer": "Adafactor", "lr_scheduler": "cosine", "learning_rate": 1e-3, "unet_lr": 1e-3}
    )
    assert (relative.optimizer.lr, relative.schedule.type, relative.rates.unet) == (None, "adafactor", "same")
    words = "scale_parameter=False relative_step=False warmup_init=False"
    fixed = config_of({**SMALL, "optimizer": "Adafactor", "optimizer_args": words, "learning_rate": 1e-3})
    assert (fixed.optimizer.lr, fixed.schedule.type) == (1e-3, "cosine")
    assert kohya.lost(relative) == kohya.lost(fixed) == []


def test_extra_arguments_outrank_the_keys() -> None:
    extra = "--max_grad_norm=0 --network_train_unet_only --optimizer_type Lion --no_such=x --no_metadata"
    extra = f"{extra} --resolution=768"
    reading = kohya.read(
        {**SMALL, "max_grad_norm": 1, "max_resolution": "512,512", "additional_parameters": extra}, "x"
    )
    tree = reading.config_tree
    assert tree["train"]["clip"] is None and tree["rates"]["text_encoder"] is None
    assert tree["optimizer"]["type"] == "lion" and tree["output"]["metadata"] is False
    assert tree["data"]["resolution"] == "768"
    assert any(line.startswith("--no_such 'x': an argument that is not used") for line in reading.lines())
    prompts = config_of({**SMALL, "additional_parameters": "--sample_prompts=/p.txt"})
    assert prompts.sample.file == "/p.txt" and kohya.lost(prompts) == []
    locon = config_of({**SMALL, "additional_parameters": "--network_args conv_dim=4 conv_alpha=2"})
    assert (locon.network.conv_rank, locon.network.conv_alpha) == (4, 2.0)


# Files


@pytest.mark.parametrize(
    ("file", "tab"),
    [
        ("leco", "LECO"),
        ("lllite", "Anima LLLite"),
    ],
)
def test_files_of_other_tabs_are_sent_there(file: str, tab: str, capsys: pytest.CaptureFixture[str]) -> None:
    tree = json.loads((GOLDEN / f"{file}.json").read_text())
    assert kohya.is_kohya(tree) and kohya.tab_of(tree) == tab
    assert main(["config", str(GOLDEN / f"{file}.json")]) == 2
    said = capsys.readouterr().err
    assert f"the Kohya GUI's {tab} tab" in said and "still to come" in said and "Traceback" not in said


@pytest.mark.parametrize(("file", "word"), [("flux", "Flux.1 is not supported")])
def test_families_and_methods_that_are_not_here_end_with_2(
    file: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(GOLDEN / f"{file}.json")]) == 2
    assert word in capsys.readouterr().err


def test_an_old_character() -> None:
    loaded = configio.open_config(str(GOLDEN / "old_character.json"), ["train.attention=sdpa"])
    config = loaded.config
    assert config.data.images == str(GOLDEN / "img") and config.output.folder == str(GOLDEN / "model")
    assert config.optimizer.type == "adamw8bit" and config.schedule.type == "constant"
    assert (config.train.epochs, config.train.steps, config.train.batch) == (15, None, 2)
    assert (config.rates.unet, config.rates.text_encoder) == (1e-4, 5e-5)
    assert config.objective.noise.model_dump() == {"type": "offset", "strength": 0.05, "random": False, "adaptive": 0.0}
    assert (config.model.clip_skip, config.captions.keep_tokens, config.captions.dropout) == (2, 1, 0.1)
    assert config.data.resolution == (512, 650) and config.data.cache_latents
    everything = json.dumps([config.model_dump(mode="json"), *loaded.changes, *loaded.keys])
    assert "0123456789abcdef" not in everything
    assert any(change.startswith("wandb_api_key (a secret)") for change in loaded.changes)
    assert kohya.lost(config) == []


def test_a_preset_for_sdxl() -> None:
    config = config_of(json.loads((GOLDEN / "sdxl_prodigy.json").read_text()))
    assert (config.model.family, config.model.vae_precision, config.model.base) == ("sdxl", "fp32", "pocket")
    assert config.optimizer.type == "prodigy" and config.optimizer.safeguard_warmup
    assert config.objective.noise.type == "multires" and config.train.clip is None
    assert config.network.conv_rank is None, "Standard trains no convolutions, whatever conv_dim says"
    assert (config.captions.max_tokens, config.data.buckets and config.data.buckets.step) == (225, 32)
    assert kohya.lost(config) == []


def test_a_loha() -> None:
    config = config_of(json.loads((GOLDEN / "loha.json").read_text()))
    assert (config.network.type, config.network.rank, config.network.conv_rank) == ("loha", 32, 8)


def test_a_locon_with_adafactor() -> None:
    config = config_of(json.loads((GOLDEN / "locon_adafactor.json").read_text()))
    assert (config.network.conv_rank, config.network.conv_alpha) == (8, 4.0)
    assert (config.rates.unet, config.rates.text_encoder, config.schedule.type) == ("same", None, "adafactor")
    assert config.sample.prompts == ("a wizard in a storm --w 512 --h 768 --d 42", "a wizard, smiling")
    assert config.save.keep_last == 3 and config.objective.loss.type == "huber"
    assert kohya.lost(config) == []


def test_what_is_a_file_of_the_kohya_gui() -> None:
    assert (
        kohya.is_kohya(table.FRESH)
        and kohya.is_kohya({"network_dim": 8})
        and kohya.is_kohya({"optimizer": "Lion", "unet_lr": 1})
    )
    for ours in ({}, {"seed": 3}, {"about": "x", "seed": 1}, {"version": 1, "network_dim": 8}, {"preset": "demo"},
                 {"model": {"base": "x"}, "network_dim": 8}, Config().model_dump(mode="json")):  # fmt: skip
        assert not kohya.is_kohya(ours), ours


def test_xformers_gives_way_where_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "k.json"
    file.write_text(json.dumps({**SMALL, "xformers": "xformers"}))
    monkeypatch.setattr(configio, "find_spec", lambda name: None)
    loaded = configio.open_config(str(file))
    assert loaded.config.train.attention == "sdpa" and any(
        "xformers is not installed" in said for said in loaded.changes
    )
    monkeypatch.setattr(configio, "find_spec", lambda name: object())
    assert configio.load(str(file)).train.attention == "xformers"


def test_plain_attention_and_what_saves_its_memory() -> None:
    """A recipe for a Mac has CrossAttention none, one for NVIDIA the check box Memory efficient attention."""
    mac = kohya.read({**SMALL, "xformers": "none"}, "x")
    assert mac.config_tree["train"]["attention"] == "none"
    assert any(line.startswith("xformers 'none'") and "train.attention=sdpa" in line for line in mac.lines())
    ticked = kohya.read({**SMALL, "xformers": "none", "mem_eff_attn": True}, "x")
    assert ticked.config_tree["train"]["attention"] == "sdpa"
    assert any(line.startswith("mem_eff_attn True: sdpa is taken") for line in ticked.lines())
    assert config_of({**SMALL, "xformers": "xformers", "mem_eff_attn": True}).train.attention == "xformers"


def test_the_command_line_reads_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "k.json", tmp_path / "out.json"
    file.write_text(
        json.dumps({"network_dim": 4, "max_resolution": "64", "huggingface_token": "hf_x", "trian": 1, "seed": 5})
    )
    assert main(["config", str(file), "--kohya", "-o", str(out), "--set", "train.epochs=2", "--json"]) == 0
    said = capsys.readouterr()
    written = json.loads(out.read_text())
    assert len(written) == 287 and list(written) == sorted(written)
    assert (written["network_dim"], written["max_train_epochs"], written["max_train_steps"]) == (4, 2, 0)
    assert "hf_x" not in out.read_text() + said.out + said.err
    assert "trian 1: is not a key of the Kohya GUI" in said.err
    assert {fact["key"]: fact["outcome"] for fact in json.loads(said.out)["keys"]}["network_dim"] == "converted"
    assert main(["config", str(file), "--kohya"]) == 2


def test_a_training_from_a_kohya_file(bases: dict[str, Path], images: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    tree = {
        **{"pretrained_model_name_or_path": str(bases["sd15"]), "train_data_dir": str(images), "max_resolution": "64"},
        **{"network_dim": 2, "network_alpha": 1, "optimizer": "Lion", "lr_warmup": "0", "max_train_steps": "2"},
        **{"output_name": "me", "output_dir": "model", "mixed_precision": "no", "enable_bucket": False},
        **{"xformers": "xformers", "save_precision": "float", "max_data_loader_n_workers": "0"},
    }
    file = tmp_path / "k.json"
    file.write_text(json.dumps(tree))
    monkeypatch.setattr(configio, "find_spec", lambda name: None)
    assert main(["train", str(file), "--runs", str(tmp_path / "runs"), "--set", "train.device=cpu"]) == 0
    assert (tmp_path / "model" / "me.safetensors").exists()


# And back


def test_what_a_kohya_file_cannot_hold_is_told() -> None:
    tree = {"model": {"vae_tiling": True}, "train": {"epochs": 3, "steps": 50}, "captions": {"prefix": "a b"}}
    config = check(overlay(Config().model_dump(mode="json"), tree), "")
    assert kohya.lost(config) == ["model.vae_tiling True", "captions.prefix 'a b'", "train.epochs 3"]
    assert kohya.lost(Config()) == []


def test_boxes_follow_the_model_where_options_are_auto() -> None:
    assert kohya.write(Config())["sdxl"] is False
    written = kohya.write(Config(), Detected("sdxl", "original", "v"))
    assert written["sdxl"] is True and written["v_parameterization"] is True


def values(key: str) -> st.SearchStrategy[Any]:
    """Values that a key can have: the fresh one, the one of CHANGES, off, and old forms."""
    fresh, changed = table.FRESH[key], CHANGES[key][0]
    known = [fresh, changed, None]
    if isinstance(fresh, (int, float)) and not isinstance(fresh, bool):
        known += [str(fresh), str(changed)]
    if key in ("learning_rate", "unet_lr", "text_encoder_lr", "noise_offset", "max_grad_norm", "lr_warmup", "epoch"):
        known += [0, ""]
    return st.sampled_from(known)


TREES = st.fixed_dictionaries(
    {"network_dim": st.integers(1, 1024)},
    optional={
        **{
            key: values(key)
            for key in CHANGES
            if key not in ("network_dim", "additional_parameters", "dim_from_weights")
        },
        "optimizer": st.sampled_from(["AdamW", "AdamW8bit", "Lion", "Adafactor", "Prodigy", "PagedAdamW8bit"]),
        "optimizer_args": st.sampled_from(["", "weight_decay=0.2", '"weight_decay=0.1"']),
        "lr_scheduler": st.sampled_from(
            [
                *("constant", "constant_with_warmup", "linear", "cosine_with_restarts", "polynomial"),
                *("cosine_with_min_lr", "inverse_sqrt", "warmup_stable_decay"),
            ]
        ),
        "lr_scheduler_args": st.just(""),
        "loss_type": st.sampled_from(["l1", "l2", "huber", "smooth_l1"]),
        "mixed_precision": st.sampled_from(["no", "fp16", "bf16"]),
        "seed": st.integers(0, 2**32 - 1) | st.sampled_from(["1234", ""]),
        "network_alpha": st.floats(1e-5, 1024),
        "unknown": st.just(1),
        "additional_parameters": st.sampled_from(
            [
                "",
                "--keep_tokens_separator=|||",
                "--caption_tag_dropout_rate=0.2 --enable_wildcard",
                "--no_metadata",
                "--validation_split=0.1 --validate_every_n_steps=20",
                "--zero_terminal_snr --resize_interpolation=lanczos",
                "--lr_scheduler_min_lr_ratio=0.2 --lr_decay_steps=0.25",
                "--lr_scheduler_timescale=50 --lr_decay_steps=30 --log_prefix=x_",
            ]
        ),
    },
)


def agreeing(tree: Tree) -> Tree:
    """The tree without the few combinations that no trainer takes."""
    tree = dict(tree)
    if tree.get("random_crop") or tree.get("color_aug"):
        tree |= {"cache_latents": False, "cache_latents_to_disk": False}
    if tree.get("sdxl_cache_text_encoder_outputs"):
        for key in (
            "shuffle_caption",
            "caption_dropout_rate",
            "caption_dropout_every_n_epochs",
            "additional_parameters",
        ):
            tree.pop(key, None)
    if tree.get("mixed_precision", "no") == "no":
        tree.pop("fp8_base", None)
    for kind in ("fp16", "bf16"):
        if tree.get("mixed_precision") != kind:
            tree.pop(f"full_{kind}", None)
    if not tree.get("learning_rate"):
        tree["learning_rate"] = 3e-4
    return tree


def test_adafactor_s_own_schedule_has_no_warm_up() -> None:
    tree = {**FRESH, "optimizer": "Adafactor", "lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 0}
    assert config_of(tree).schedule == AdafactorSchedule()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES.map(agreeing))
def test_there_and_back_loses_nothing(tree: Tree) -> None:
    config = config_of(tree)
    written = kohya.write(config)
    assert written.keys() == table.FRESH.keys() and json.loads(json.dumps(written)) == written
    assert kohya.lost(config) == []
    again = config_of(written)
    assert leaves(again) == leaves(config)
    assert kohya.write(again) == written
