"""What is refused before a model is loaded, and what is only said."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainer.config import Config, Objective
from trainer.early import check_early, check_prediction
from trainer.errors import InputError
from trainer.families.detect import Detected

SD15, SDXL = Detected("sd15", "original"), Detected("sdxl", "original")


def told(options: dict[str, Any], found: Detected = SD15) -> list[str]:
    return check_early(Config.model_validate(options), found)


def written(path: Path, content: bytes | dict[str, Any]) -> str:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save_file({name: np.zeros(2, np.float32) for name in content}, path)
    return str(path)


def test_nothing_is_said_of_a_plain_config(tmp_path: Path) -> None:
    lora = written(tmp_path / "lora.safetensors", {"lora_unet_x.lora_down.weight": 0})
    vae = written(tmp_path / "vae.safetensors", {"encoder.conv_in.weight": 0})
    prompts = written(tmp_path / "prompts.txt", "\ufeffa café\n".encode())
    new = {"folder": str(tmp_path / "new" / "out"), "logging": str(tmp_path)}
    for validation in (str(tmp_path), "zk9"):
        options = {
            "model": {"vae": vae},
            "network": {"start_from": lora},
            "sample": {"file": prompts},
            "validation": {"folder": validation},
            "output": new,
        }
        assert told(options) == told({}) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("field", "content", "says"),
    [
        ("model.vae", None, "model.vae: .* does not exist"),
        ("model.vae", b"<html>", "a web page"),
        ("model.vae", b"\x08\0\0\0\0\0\0\0{}      rest", "damaged"),
        ("network.start_from", None, "network.start_from: .* is no file"),
        ("network.start_from", b"PK\x03\x04", "network.start_from: .* pickle"),
        ("network.start_from", {"model.weight": 0}, "network.start_from: .* no LoRA, it holds 'model.weight'"),
        ("sample.file", None, "sample.file: .* cannot be read"),
        ("sample.file", b"\xff\xfe\x00", "sample.file: .* UTF-8"),
        ("sample.file", b"a" * (2**22 + 1), "sample.file: .* 4,194,305 bytes"),
        ("validation.folder", None, "validation.folder: .* no folder"),
        ("validation.folder", b"", "validation.folder: .* no folder"),
        ("output.folder", b"", "output.folder: .* is a file"),
        ("output.logging", b"", "output.logging: .* is a file"),
    ],
)
def test_files_and_folders(tmp_path: Path, field: str, content: Any, says: str) -> None:
    path = tmp_path / "file"
    if content is not None:
        written(path, content)
    part, option = field.split(".")
    with pytest.raises(InputError, match=says):
        told({part: {option: str(path)}})


def test_a_folder_below_a_file_or_on_another_system_cannot_be_made(tmp_path: Path) -> None:
    written(tmp_path / "file", b"")
    with pytest.raises(InputError, match=r"output.folder: .*file is a file"):
        told({"output": {"folder": str(tmp_path / "file" / "below")}})
    if os.name != "nt":
        with pytest.raises(InputError, match=r"output.folder: C:.* no path of this machine"):
            told({"output": {"folder": "C:\\loras"}})


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match=r"output.folder: .* may not be written"):
        told({"output": {"folder": str(tmp_path / "new")}})


@pytest.mark.parametrize(
    ("package", "options", "says"),
    [
        ("xformers", {"train": {"attention": "xformers"}}, "train.attention: xformers"),
        ("bitsandbytes", {"optimizer": {"type": "adamw8bit"}}, "optimizer.type: adamw8bit.*pip install bitsandbytes"),
    ],
)
def test_packages(package: str, options: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=says):
        told(options)
    assert told({}) == []


def test_eight_bits_on_a_mac() -> None:
    with pytest.raises(InputError, match=r"adamw8bit does not run on a Mac"):
        told({"optimizer": {"type": "adamw8bit"}, "train": {"device": "mps"}})
    assert told({"optimizer": {"type": "adamw8bit"}, "train": {"device": "cpu"}}) == []


def test_a_weight_for_the_other_prediction_is_refused() -> None:
    check_prediction(Objective(scale_v=True), "v")
    check_prediction(Objective(v_like=0.3), "epsilon")
    with pytest.raises(InputError, match=r"objective\.scale_v.*epsilon"):
        check_prediction(Objective(scale_v=True), "epsilon")
    with pytest.raises(InputError, match=r"objective\.v_like.*predicts v"):
        told({"objective": {"v_like": 0.3}}, Detected("sdxl", "original", "v"))


TEXT_OFF = {"text_encoder": None, "text_encoder_2": None}
PRODIGY = {"optimizer": {"type": "prodigy"}}
ADAFACTOR = {"optimizer": {"type": "adafactor"}, "schedule": {"type": "adafactor"}}


@pytest.mark.parametrize(
    ("options", "found", "says"),
    [
        ({"rates": {**TEXT_OFF, "unet": None, "text_encoder_2": 1e-4}}, SD15, "none of unet, text_encoder is trained"),
        ({"data": {"cache_text": True}}, SD15, "cache_text .*: set rates.text_encoder to null"),
        ({"data": {"cache_text": True}}, SDXL, "set rates.text_encoder and rates.text_encoder_2 to null"),
        ({**PRODIGY, "rates": {"unet": 0.5}}, SD15, r"rates differ \(unet 0\.5, text_encoder 1\.0\)"),
        ({**PRODIGY, "network": {"loraplus": 4}}, SD15, r"rates differ \(unet 1\.0, unet plus 4\.0"),
        ({**PRODIGY, "rates": {"text_encoder_2": 0.5}}, SDXL, r"text_encoder_2 0\.5"),
        ({**ADAFACTOR, "rates": {"unet": 1e-4}}, SD15, r"finds its own rates.*unet 0\.0001"),
        ({**ADAFACTOR, "network": {"loraplus": 4}}, SD15, r"network.loraplus: .* give optimizer.lr"),
        (
            {"optimizer": {"type": "adamw", "lr": 1e-7}, "schedule": {"type": "polynomial"}},
            SD15,
            "polynomial falls to 1e-07",
        ),
    ],
)
def test_rates_that_cannot_be(options: dict[str, Any], found: Detected, says: str) -> None:
    with pytest.raises(InputError, match=says):
        told(options, found)


def test_a_boft_whose_rank_fits_no_layer_names_the_least_that_does() -> None:
    """320 rows are 32 blocks of 10; a model of its own size is looked at when it is there."""
    small: dict[str, Any] = {"network": {"type": "boft", "rank": 8}}
    with pytest.raises(InputError, match=r"network\.rank: 8 cuts .* set it to 10 or more"):
        told(small, SDXL)
    told({"network": {"type": "boft", "rank": 10}}, SDXL)
    own = Detected("sd15", "original", config={"unet": {"block_out_channels": [32, 64]}})
    told({**small, "model": {"base": "a/b"}}, own)


def test_fit_to_my_card_is_for_one_process() -> None:
    with pytest.raises(ValueError, match=r"memory\.fit measures one GPU, and train\.processes is 2"):
        Config.model_validate({"memory": {"fit": True}, "train": {"processes": 2}})


@pytest.mark.parametrize(
    ("options", "found", "says"),
    [
        ({"rates": {"text_encoder_2": 1e-4}}, SD15, ["rates.text_encoder_2: 0.0001 is not used: Stable Diffusion 1.5"]),
        ({"rates": {"text_encoder_2": 1e-4}}, SDXL, []),
        ({"data": {"cache_text": True}, "rates": {"text_encoder": None}}, SD15, []),
        ({"data": {"cache_text": True}, "rates": TEXT_OFF}, SDXL, []),
        ({**PRODIGY, "rates": {"text_encoder_2": 0.5}}, SD15, ["rates.text_encoder_2: 0.5 is not used"]),
        ({**PRODIGY, "rates": {"unet": 0.5, "text_encoder": 0.5}}, SD15, []),
        (ADAFACTOR, SDXL, []),
        ({"optimizer": {"type": "adamw", "lr": 2e-7}, "schedule": {"type": "polynomial"}}, SD15, []),
    ],
)
def test_rates_that_can_be(options: dict[str, Any], found: Detected, says: list[str]) -> None:
    heard = told(options, found)
    assert [line[: len(start)] for line, start in zip(heard, says, strict=True)] == says


def test_the_options_are_json() -> None:
    """A config as the page sends it: all values are of JSON's kinds, and a rate may be a whole number."""
    assert told(json.loads('{"optimizer": {"type": "prodigy"}, "rates": {"unet": 1, "text_encoder": 1.0}}')) == []
