"""Files of the Kohya GUI's Dreambooth and Finetuning tabs, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer import kohya
from trainer.config import Config
from trainer.errors import InputError
from trainer.kohya.whole import FRESH
from trainer.tree import check, overlay

GOLDEN = Path(__file__).parent / "golden" / "kohya"
FOLDERS = {"train_data_dir": "./img", "pretrained_model_name_or_path": "a.safetensors"}
XL = {
    "sdxl": True,
    "mixed_precision": "bf16",
    "optimizer": "Adafactor",
    "optimizer_args": "scale_parameter=False relative_step=False",
}


def read(tree: dict[str, Any]) -> tuple[Any, dict[str, kohya.Note]]:
    reading = kohya.read(tree, "a.json")
    config = check(overlay(Config().model_dump(mode="json"), reading.config_tree), "a.json")
    return config, {note.key: note for note in reading.notes}


def test_a_fresh_page_of_dreambooth() -> None:
    """Every key is known; the rates are the page's."""
    config, notes = read({**FRESH, **FOLDERS})
    assert config.network.type == "full_model" and config.optimizer.lr == 1e-5
    assert config.rates.unet == "same" and config.rates.text_encoder == 1e-5
    assert config.network.text_stop is None and not config.network.fused and config.network.form == "safetensors"
    assert not [note for note in notes.values() if note.outcome == "unknown"]
    assert set(FRESH) <= set(notes)


def test_sdxl_fused_with_a_stop_and_as_a_folder() -> None:
    more = {"fused_backward_pass": True, "stop_text_encoder_training": 30, "save_model_as": "diffusers_safetensors"}
    config, notes = read({**FRESH, **FOLDERS, **XL, **more, "learning_rate_te1": 3e-6, "learning_rate_te2": 0})
    assert config.network.fused and config.train.clip is None and notes["max_grad_norm"].loud
    assert config.network.text_stop == "30%" and config.network.form == "diffusers"
    assert config.rates.text_encoder == 3e-6 and config.rates.text_encoder_2 is None
    assert notes["learning_rate_te"].outcome == "unused"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"stop_text_encoder_training": -1}, {"text_encoder": None}),
        ({"learning_rate_te": 0}, {"text_encoder": None}),
        ({"learning_rate_te": 2e-6}, {"text_encoder": 2e-6}),
    ],
)
def test_text_encoders(more: dict[str, Any], said: dict[str, Any]) -> None:
    config, _ = read({**FRESH, **FOLDERS, **more})
    assert config.rates.text_encoder == said["text_encoder"]


def test_the_finetuning_tab() -> None:
    """The golden file, and what its own keys mean: the folder, repeats, blocks, and captions kept from before."""
    config, _ = read(json.loads((GOLDEN / "finetune.json").read_text()))
    assert config.network.type == "full_model" and config.data.images.endswith("img")
    blocks = ",".join(["1e-6"] * 23)
    tree = {
        "sdxl_checkbox": True, "image_folder": "./pictures", "train_dir": "./made", "dataset_repeats": "3",
        "generate_caption_database": False, "use_latent_files": "Yes", "latent_metadata_filename": "meta_lat.json",
        "caption_metadata_filename": "meta_cap.json", "block_lr": blocks, "train_text_encoder": False,
        "learning_rate": 1e-5, "learning_rate_te1": 1e-5, "learning_rate_te2": 1e-5, "save_model_as": "ckpt",
    }  # fmt: skip
    assert kohya.tab_of(tree) == "Finetuning"
    config, notes = read(tree)
    assert config.model.family == "sdxl" and config.data.images == "./pictures" and config.data.repeats == 3
    assert Path(config.data.metadata) == Path("made/meta_lat.json")
    assert config.network.block_rates == (1e-6,) * 23 and config.rates.text_encoder is None
    assert config.network.form == "safetensors" and notes["save_model_as"].loud


@pytest.mark.parametrize("name", ["dreambooth", "dreambooth_2023"])
def test_golden_files_of_dreambooth(name: str) -> None:
    config, _ = read(json.loads((GOLDEN / f"{name}.json").read_text()))
    assert config.network.type == "full_model"


def test_no_token_padding_is_refused() -> None:
    with pytest.raises(InputError, match="no_token_padding"):
        read({**FRESH, **FOLDERS, "no_token_padding": True})


def test_there_and_back() -> None:
    """What is written is a file of the Dreambooth tab, and what it cannot hold is told."""
    config, _ = read({**FRESH, **FOLDERS, **XL, "fused_backward_pass": True, "stop_text_encoder_training": 25})
    back = kohya.write(config)
    assert set(back) == set(FRESH) and kohya.tab_of(back) == "Dreambooth"
    assert kohya.lost(config) == []
    averaged = check(overlay(config.model_dump(mode="json"), {"network": {"average": 0.99}}), "")
    assert [line.split()[0] for line in kohya.lost(averaged)] == ["network.average"]
