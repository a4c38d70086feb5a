"""Which modules are trained and what they are called, against files that sd-scripts wrote for the full-size models."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import trainer.families
from trainer.networks.keys import family_of, kohya_name, other_names, targets

SHIPPED = Path(trainer.families.__path__[0]) / "shipped"
GOLDEN = json.loads(gzip.decompress((Path(__file__).parent / "golden" / "keys.json.gz").read_bytes()))
"""Module names in three files of sd-scripts at rank 8 (`conv`: and 4 for 3x3), with the shapes of down and up."""

PARTS = {
    "sd15": {"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel},
    "sdxl": {
        "text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection, "unet": UNet2DConditionModel,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def models() -> dict[str, dict[str, nn.Module]]:
    """Every part of every family at full size, without weights."""

    def build(family: str, part: str, kind: type) -> nn.Module:
        config = json.loads((SHIPPED / family / part / "config.json").read_text())
        return kind.from_config(config) if part == "unet" else kind(CLIPTextConfig(**config))

    with torch.device("meta"):
        return {
            family: {part: build(family, part, kind) for part, kind in parts.items()} for family, parts in PARTS.items()
        }


def names(models: dict[str, dict[str, nn.Module]], family: str, conv: bool) -> dict[str, nn.Module]:
    return {
        kohya_name(family, part, path): module
        for part, model in models[family].items()
        for path, module in targets(model, conv)
    }


@pytest.mark.parametrize(("file", "count"), [("sd15", 264), ("sd15_conv", 350), ("sdxl_conv", 72 + 192 + 788)])
def test_modules_and_shapes_are_those_of_sd_scripts(models, file: str, count: int) -> None:
    ours = names(models, file.split("_")[0], conv="conv" in file)
    shapes = {}
    for name, module in ours.items():
        out, *fan_in = module.weight.shape
        rank = 4 if fan_in[1:] == [3, 3] else 8
        shapes[name] = [[rank, *fan_in], [out, rank, *(1 for _ in fan_in[1:])]]
    assert len(shapes) == count
    assert shapes == GOLDEN[file]


def test_without_convolutions_sdxl_has_722_modules_in_its_unet(models) -> None:
    ours = names(models, "sdxl", conv=False)
    inside = {
        name
        for name in GOLDEN["sdxl_conv"]
        if not name.startswith("lora_unet")
        or "_transformer_blocks_" in name
        or name.endswith(("_proj_in", "_proj_out"))
    }
    assert ours.keys() == inside
    for prefix, count in (("lora_unet_", 722), ("lora_te1_", 72), ("lora_te2_", 192)):
        assert sum(name.startswith(prefix) for name in ours) == count


def test_order_is_text_encoder_first_and_then_as_the_model_lists_its_modules(models) -> None:
    ours = list(names(models, "sd15", conv=True))
    assert ours[0] == "lora_te_text_model_encoder_layers_0_self_attn_k_proj"
    assert ours[72] == "lora_unet_down_blocks_0_attentions_0_proj_in"
    assert ours[73] == "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def test_names_that_comfyui_and_a1111_look_up(models) -> None:
    """ComfyUI makes its table from diffusers' names for both families, A1111 reads Stability's; no two may collide."""
    for family in ("sd15", "sdxl"):
        seen: dict[str, str] = {}
        for part, model in models[family].items():
            for path, _ in targets(model, conv=True):
                name = kohya_name(family, part, path)
                for alias in {name, *other_names(family, part, path)}:
                    assert seen.setdefault(alias, name) == name
    assert "lora_unet_down_blocks_1_attentions_0_proj_in" in seen
    assert seen["lora_unet_down_blocks_1_attentions_0_proj_in"] == "lora_unet_input_blocks_4_1_proj_in"
    assert seen["unet.up_blocks.1.upsamplers.0.conv"] == "lora_unet_output_blocks_5_2_conv"


@pytest.mark.parametrize("file", ["sd15", "sd15_conv", "sdxl_conv"])
def test_a_file_tells_its_family(file: str) -> None:
    assert family_of(GOLDEN[file]) == file.split("_")[0]
    assert family_of(["lora_unet_down_blocks_1_attentions_0_proj_in"]) is None
