"""The metadata of our files is that of sd-scripts, proven against files that it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import __version__
from trainer.config import Config
from trainer.metadata import MINIMUM, TIMES, Facts, File, count_tags, metadata, public_config

GOLDEN = Path(__file__).resolve().parent / "golden"
OURS = {
    "ss_session_id",  # follows from seed and run folder; random there
    "ss_training_started_at",
    "ss_training_finished_at",
    "modelspec.date",
    "ss_sd_scripts_commit_hash",  # names the writer
    "modelspec.implementation_version",
}
HASHES = {"sshs_model_hash", "sshs_legacy_hash"}  # added when the tensors are known: test_checkpoint


def options(**changes: dict[str, Any]) -> Config:
    """The options of the golden runs."""
    tree: dict[str, Any] = {
        "data": {"resolution": 128, "buckets": None},
        "network": {"rank": 8, "alpha": 4},
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "schedule": {"type": "constant"},
        "output": {"name": "base"},
    }
    for part, values in changes.items():
        tree[part] = {**tree.get(part, {}), **values}
    return Config.model_validate(tree)


def facts(golden: dict[str, str], **changes: Any) -> Facts:
    """What the golden runs had, the model's name and hashes and the captions' tags as the file tells them."""
    base = File(golden["ss_sd_model_name"], golden["ss_sd_model_hash"], golden["ss_new_sd_model_hash"])
    plain: dict[str, Any] = {
        **{"run": "2026-11-21_0046_base", "family": "sd15", "prediction": "epsilon", "zero_terminal_snr": False},
        **{"base": base, "images": 32, "batches": 32, "epochs": 1, "steps": 20, "warmup": 0, "started": 1.5e9},
        **{"folders": {"4_zk9 thing": (4, 8)}, "tags": json.loads(golden["ss_tag_frequency"])},
    }
    return Facts(**{**plain, **changes})


@pytest.mark.parametrize(
    ("name", "network", "steps"), [("base", {}, 20), ("locon", {"conv_rank": 4, "conv_alpha": 1}, 8)]
)
def test_every_key_of_sd_scripts_is_there_with_its_value(name: str, network: dict[str, Any], steps: int) -> None:
    golden = json.loads((GOLDEN / name / "metadata.json").read_text())
    config = options(network=network, output={"name": name})
    ours = metadata(config, facts(golden, steps=steps), step=steps, epoch=1, now=1.6e9)
    same = golden.keys() - HASHES - OURS
    assert golden.keys() - ours.keys() == HASHES
    assert ours.keys() - golden.keys() == {"likeness_config"}
    assert {key: ours[key] for key in same} == {key: golden[key] for key in same}
    assert all(type(value) is str for value in ours.values())


def test_an_sdxl_file_is_told_apart_as_sd_scripts_does() -> None:
    golden = json.loads((GOLDEN / "base" / "metadata.json").read_text())
    ours = metadata(options(), facts(golden, family="sdxl"), step=1, epoch=1, now=1.6e9)
    changed = {key for key in golden.keys() - HASHES - OURS if golden[key] != ours[key]}
    assert changed == {"ss_base_model_version", "modelspec.architecture", "modelspec.implementation", "ss_steps"}
    assert ours["ss_base_model_version"] == "sdxl_base_v1-0"
    assert ours["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert ours["modelspec.implementation"] == "https://github.com/Stability-AI/generative-models"


def changed_by(*, known: dict[str, Any] | None = None, **changes: dict[str, Any]) -> dict[str, str]:
    """The keys that some options change, with their new values."""
    golden = json.loads((GOLDEN / "base" / "metadata.json").read_text())
    plain = metadata(options(), facts(golden), step=20, epoch=1, now=1.6e9)
    other = metadata(options(**changes), facts(golden, **(known or {})), step=20, epoch=1, now=1.6e9)
    return {key: other[key] for key in other if other[key] != plain.get(key) and key != "likeness_config"}


CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ({}, {"prediction": "v"}, {"ss_base_model_version": "sd_v1_v", "modelspec.prediction_type": "v"}),
    ({"model": {"clip_skip": 2}}, {}, {"ss_clip_skip": "2", "modelspec.encoder_layer": "2"}),
    ({"network": {"loraplus": 4}}, {}, {"ss_network_args": '{"loraplus_lr_ratio": "4", "dropout": null}'}),
    ({"data": {"buckets": {"smallest": 64}}}, {"buckets": {"buckets": {}}}, {
        "ss_enable_bucket": "True", "ss_bucket_no_upscale": "True", "ss_min_bucket_reso": "64",
        "ss_max_bucket_reso": "2048", "ss_bucket_info": '{"buckets": {}}'}),
    ({"objective": {"noise": {"type": "offset", "strength": 0.1, "adaptive": 0.01, "random": True}}}, {}, {
        "ss_noise_offset": "0.1", "ss_adaptive_noise_scale": "0.01", "ss_noise_offset_random_strength": "True"}),
    ({"objective": {"noise": {"type": "multires", "iterations": 8, "discount": 0.2}}}, {}, {
        "ss_multires_noise_iterations": "8", "ss_multires_noise_discount": "0.2"}),
    ({"objective": {"loss": {"type": "smooth_l1", "c": 0.2, "schedule": "constant"}, "min_snr_gamma": 5,
        "min_timestep": 100}}, {}, {
        "ss_loss_type": "smooth_l1", "ss_huber_c": "0.2", "ss_huber_schedule": "constant", "ss_min_snr_gamma": "5.0",
        "modelspec.timestep_range": "100,1000"}),
    ({"rates": {"unet": 1e-4, "text_encoder": 5e-5}}, {}, {"ss_unet_lr": "0.0001", "ss_text_encoder_lr": "[5e-05]"}),
    ({"rates": {"text_encoder": None}}, {}, {"ss_text_encoder_lr": "[0.0]"}),
    ({"rates": {"text_encoder": 5e-5}}, {"family": "sdxl"}, {
        "ss_text_encoder_lr": "[5e-05, 0.001]", "ss_base_model_version": "sdxl_base_v1-0",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models"}),
    ({"optimizer": {"type": "adamw8bit", "weight_decay": 0.1, "betas": [0.9, 0.99]}}, {}, {
        "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(betas=(0.9, 0.99),weight_decay=0.1)"}),
    ({"schedule": {"type": "constant", "warmup": "10%"}}, {"warmup": 2}, {
        "ss_lr_scheduler": "constant_with_warmup", "ss_lr_warmup_steps": "2"}),
    ({"train": {"clip": None, "batch": 2, "accumulate": 3, "precision": "fp16", "full": True}}, {}, {
        "ss_max_grad_norm": "0.0", "ss_batch_size_per_device": "2", "ss_total_batch_size": "6",
        "ss_gradient_accumulation_steps": "3", "ss_mixed_precision": "fp16", "ss_full_fp16": "True"}),
    ({"captions": {"max_tokens": 225, "dropout_every_n_epochs": 4, "shuffle": True, "keep_tokens": 1}}, {}, {
        "ss_max_token_length": "225", "ss_caption_dropout_every_n_epochs": "4", "ss_shuffle_caption": "True",
        "ss_keep_tokens": "1"}),
    ({"validation": {"share": 0.25}}, {"validation_images": 2}, {
        "ss_validation_split": "0.25", "ss_validate_every_n_epochs": "1", "ss_num_validation_images": "2"}),
    ({"network": {"dropout": 0.1, "rank_dropout": 0.2}}, {}, {
        "ss_network_dropout": "0.1", "ss_network_args": '{"rank_dropout": "0.2", "dropout": 0.1}'}),
    ({}, {"vae": File("vae.pt", "12345678", "ab" * 32), "reg_images": 9, "reg_folders": {"1_thing": (1, 9)}}, {
        "ss_vae_name": "vae.pt", "ss_vae_hash": "12345678", "ss_new_vae_hash": "ab" * 32, "ss_num_reg_images": "9",
        "ss_reg_dataset_dirs": '{"1_thing": {"n_repeats": 1, "img_count": 9}}'}),
    ({"output": {"title": "Zk", "author": "me", "comment": "trigger: zk9", "tags": "a, b"}}, {}, {
        "modelspec.title": "Zk", "modelspec.author": "me", "modelspec.tags": "a, b",
        "ss_training_comment": "trigger: zk9"}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "known", "expected"), CASES, ids=lambda value: ",".join(value) if value else "-")
def test_an_option_changes_its_keys_and_no_other(
    changes: dict[str, Any], known: dict[str, Any], expected: dict[str, str]
) -> None:
    assert changed_by(known=known, **changes) == expected


def test_the_writer_is_named_truly() -> None:
    golden = json.loads((GOLDEN / "base" / "metadata.json").read_text())
    ours = metadata(options(), facts(golden), 1, 1, 1.6e9)
    assert ours["modelspec.implementation_version"] == ours["ss_sd_scripts_commit_hash"] == f"likeness/{__version__}"


def test_a_second_run_of_the_same_training_differs_in_three_times_alone() -> None:
    golden = json.loads((GOLDEN / "base" / "metadata.json").read_text())
    one = metadata(options(), facts(golden, started=1.5e9), 20, 1, now=1600000000.1)
    two = metadata(options(), facts(golden, started=1.5e9 + 0.123), 20, 1, now=1700000000.654321)
    assert {key for key in one if one[key] != two[key]} == set(TIMES)
    sizes = [sum(len(value) for key, value in pairs.items() if key.startswith("ss_")) for pairs in (one, two)]
    assert sizes[0] == sizes[1]  # or the legacy hash would differ
    other = metadata(options(), facts(golden, run="2026-11-21_0047_base"), 20, 1, now=1.6e9)
    assert other["ss_session_id"] != one["ss_session_id"]
    assert 0 <= int(one["ss_session_id"]) < 2**32


def test_without_metadata_only_what_tools_need_is_left() -> None:
    golden = json.loads((GOLDEN / "base" / "metadata.json").read_text())
    ours = metadata(options(output={"metadata": False}, network={"conv_rank": 4}), facts(golden), 1, 1, 1.6e9)
    assert {key for key in ours if not key.startswith("modelspec.")} == set(MINIMUM)


def test_the_config_in_the_file_is_whole_but_for_places_and_secrets() -> None:
    token = "hf_" + "aB3" * 11
    config = options(
        model={"base": "/home/alice/models/sd.safetensors", "vae": r"C:\Users\alice\vae.pt"},
        data={"images": "/home/alice/pictures/zk9/", "reg": "../alice/reg"},
        output={"folder": "/home/alice/out", "logging": "~/alice/logs", "comment": f"uploaded with {token}, ü"},
        sample={"file": "/home/alice/prompts.txt"},
        network={"start_from": "/mnt/alice/old.safetensors"},
        validation={"folder": "/home/alice/held out"},
    )
    text = public_config(config)
    assert "alice" not in text and token not in text and "ü" in text
    tree = json.loads(text)
    assert tree["model"] == {**config.model_dump(mode="json")["model"], "base": "sd.safetensors", "vae": "vae.pt"}
    assert (tree["data"]["images"], tree["data"]["reg"]) == ("zk9", "reg")
    assert Config.model_validate(tree).network.rank == 8  # a config again
    hub = public_config(options(model={"base": "stabilityai/stable-diffusion-xl-base-1.0"}))
    assert json.loads(hub)["model"]["base"] == "stabilityai/stable-diffusion-xl-base-1.0"


def test_tags_are_counted_as_sd_scripts_does() -> None:
    counted = count_tags(["Zk9 thing, red  circle , ,RED  circle", "zk9 THING", "", "a.b"])
    assert counted == {"zk9 thing": 2, "red  circle": 2, "a.b": 1}
    assert list(counted) == ["zk9 thing", "red  circle", "a.b"]


@given(st.lists(st.text(alphabet="aB, \n", max_size=12), max_size=5))
def test_no_tag_is_counted_with_edges_or_capitals(captions: list[str]) -> None:
    counted = count_tags(captions)
    assert all(tag == tag.strip().lower() and tag and "," not in tag for tag in counted)
    assert sum(counted.values()) == sum(bool(tag.strip()) for caption in captions for tag in caption.split(","))
