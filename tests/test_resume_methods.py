"""Every way to train goes on to the bit: the state after one step gives the files of a training that nobody stopped.

What goes on computes activations anew (checkpointing), which on a CPU changes no bit either, but for a 4-bit base:
there torch multiplies in another order, and weights differ by 6e-8.
LoRA is killed at any moment in test_resume.py; LoRA-FA goes on in test_lycoris.py, several new words in
test_embedding.py, SDXL's text encoders in test_full.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import Train, Tree
from tests.pictures import draw_folder
from trainer.config import Config
from trainer.runfolder import RunFolder
from trainer.train import run
from trainer.tree import overlay

FULL: dict[str, Any] = {"type": "full_model"}
METHODS: dict[str, Tree] = {
    "DreamBooth": {"network": {**FULL, "average": 0.9}, "objective": {"prior_weight": 0.5}, "train": {"batch": 2}},
    "fused, full bf16": {
        "network": {**FULL, "fused": True, "text_stop": 1},
        "optimizer": {"type": "adafactor", "lr": 1e-3, "scale_parameter": False, "warmup_init": False},
        "train": {"precision": "bf16", "full": True, "clip": None},
    },
    "new word of SDXL": {"network": {"type": "embedding", "init_word": "woman", "vectors": 2}},
    "4-bit base": {"memory": {"base_weights": "nf4"}, "network": {"dropout": 0.2}},
    "LyCORIS": {"network": {"type": "locon", "rank_dropout": 0.1, "module_dropout": 0.1}},
}
ALGOS = {
    "attn1.to_q": 'algo = "dylora"\ndim = 4\nblock_size = 2',
    "attn1.to_k": 'algo = "diag-oft"\ndim = 4\nconstraint = 0.01\nrescaled = true',
    "attn1.to_v": 'algo = "boft"\ndim = 4\nrescaled = true',
    "attn2.to_q": 'algo = "lokr"\nfactor = 4\ndecompose_both = true\nweight_decompose = true',
    "attn2.to_k": 'algo = "loha"\nuse_scalar = true',
    "attn2.to_v": 'algo = "glora"',
    "proj_in": 'algo = "ia3"',
    "conv1": 'algo = "full"',
    "conv2": "use_tucker = true\nuse_scalar = true",
}
"""Every kind of LyCORIS's networks in one training: what the layers of each name get."""
KEYS = {
    "attn1_to_q": "lora_up", "attn1_to_k": "oft_blocks", "attn1_to_v": "oft_blocks", "attn2_to_q": "lokr_w2",
    "attn2_to_k": "hada_w1_a", "attn2_to_v": "a1", "proj_in": "weight", "conv1": "diff", "conv2": "lora_mid",
}  # fmt: skip
"""What a file then holds of them."""


def every_kind(folder: Path) -> Path:
    """A filter file with all of ALGOS."""
    tables = [f'[name_algo_map.".*{name}"]\n{options}\n' for name, options in ALGOS.items()]
    names = ", ".join(f'".*{name}"' for name in ALGOS)
    head = f"unet_target_module = []\ntext_encoder_target_module = []\nunet_target_name = [{names}]\n"
    (folder / "kinds.toml").write_text(head + "".join(tables))
    return folder / "kinds.toml"


def files(folder: RunFolder) -> dict[str, dict[str, Tensor]]:
    return {path.name: load_file(path) for path in folder.checkpoints.iterdir()}


@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on_to_the_bit(method: str, train: Train, bases: dict[str, Path], tmp_path: Path) -> None:
    changes = overlay(METHODS[method], {"save": {"state_minutes": 0, "state_keep": 9}})
    if method == "LyCORIS":
        changes["network"]["filter"] = str(every_kind(tmp_path))
    if method == "DreamBooth":
        changes["data"] = {"reg": str(draw_folder(tmp_path / "reg", {"1_thing": 2}, size=(64, 64)))}
    if "SDXL" in method:
        changes["model"] = {"base": str(bases["sdxl"])}
    whole = train(changes)
    told = overlay(whole.config().model_dump(mode="json"), {"train": {"checkpointing": method != "4-bit base"}})
    again = RunFolder.create(tmp_path / "again", Config.model_validate(told))
    shutil.copytree(whole.states / "00000001", again.states / "00000001")
    assert run(again) == 0
    assert [event["step"] for event in again.events() if event["kind"] == "step"] == [2]
    calm, gone_on = files(whole), files(again)
    assert "zk9.safetensors" in calm and calm.keys() == gone_on.keys()
    for name, tensors in calm.items():
        assert tensors.keys() == gone_on[name].keys()
        assert all(torch.equal(tensor, gone_on[name][key]) for key, tensor in tensors.items()), name
    if method == "LyCORIS":
        keys = {*calm["zk9.safetensors"]}
        assert all(any(name in key and f".{end}" in key for key in keys) for name, end in KEYS.items()), keys
