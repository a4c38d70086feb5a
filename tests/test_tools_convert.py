"""Conversions there and back, and what diffusers, peft and our own loader make of the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.lora_files import META, changes, distance, make_lora, metadata_of, same_tensors, trained
from tests.tiny import CONFIGS, build, tiny_file
from trainer.config import Captions, Model
from trainer.errors import InputError
from trainer.families import load_family
from trainer.families.loading import SHIPPED
from trainer.networks.keys import kohya_name
from trainer.tools.checkpoints import spots
from trainer.tools.command import run_tool
from trainer.tools.options import Convert, ConvertModel, Merge

FAMILIES = ("sd15", "sdxl")


def convert(model: Path, form: str, save_to: Path, **options: Any) -> Any:
    return run_tool(Convert.model_validate({"model": str(model), "form": form, "save_to": str(save_to), **options}))


def predicted(family: Any) -> Tensor:
    latents, times = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([500])
    with torch.no_grad():
        return family.predict(latents, times, family.encode_text(["zk9 woman"]))


# LoRA files


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("form", ["diffusers", "peft"])
def test_there_and_back_is_the_same_file(name: str, form: str, tmp_path: Path) -> None:
    """Ranks and alphas that differ, text encoders and convolutions, fp16; tensors and metadata to the bit."""
    lora = make_lora(
        tmp_path / "a.safetensors", name, dtype=torch.float16, rank=4, alpha=3, conv_rank=2, conv_alpha=0.5
    )
    other = tmp_path / ("b" if form == "peft" else "b.safetensors")
    convert(lora, form, other)
    convert(other, "kohya", tmp_path / "c.safetensors")
    assert same_tensors(load_file(tmp_path / "c.safetensors"), load_file(lora))
    told = metadata_of(tmp_path / "c.safetensors")
    assert {key: told[key] for key in META} == META


@pytest.mark.parametrize("name", FAMILIES)
def test_pipelines_load_the_form_of_diffusers(name: str, tmp_path: Path, caplog: Any) -> None:
    """Against the LoRA at work beside its model; ranks and alphas differ, convolutions and text encoders included."""
    ours, theirs = build(name), build(name)
    alone = predicted(ours)
    network = trained(ours, rank=4, alpha=1, conv_rank=2, conv_alpha=3).eval()
    save_file(network.tensors(), tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", "diffusers", tmp_path / "b.safetensors")
    pipeline = theirs.pipeline(DDIMScheduler(steps_offset=1, clip_sample=False))
    pipeline.load_lora_weights(tmp_path / "b.safetensors")
    assert not [record for record in caplog.records if "key" in record.message.lower()]
    beside = predicted(ours)
    assert (predicted(theirs) - beside).norm() <= 1e-6 * beside.norm()
    assert (beside - alone).norm() > 1e-3 * alone.norm()


def test_peft_loads_its_folders(tmp_path: Path) -> None:
    """Through PeftModel.from_pretrained, part by part, against the LoRA merged by our own tool."""
    base = tiny_file("sdxl", tmp_path)
    lora = make_lora(tmp_path / "a.safetensors", "sdxl", rank=4, alpha=1, conv_rank=2, conv_alpha=3)
    convert(lora, "peft", tmp_path / "adapters")
    run_tool(Merge(sd_model=str(base), models=(str(lora),), save_to="m.safetensors", save_precision="fp32"))
    merged, theirs = (
        load_family(
            Model(base=str(tmp_path / f"{file}.safetensors")), torch.device("cpu"), torch.float32, Captions(), str
        )
        for file in ("m", "sdxl")
    )
    for part in ("unet", "text_encoder", "text_encoder_2"):
        PeftModel.from_pretrained(theirs.parts[part], str(tmp_path / "adapters" / part))
    assert (predicted(merged) - predicted(theirs)).norm() <= 2e-6 * predicted(merged).norm()


@pytest.mark.parametrize("old", [False, True])
def test_files_of_diffusers_own_trainers_are_read(old: bool, tmp_path: Path) -> None:
    """peft's layers in the U-Net and text encoder, saved by diffusers in its present form and in that of 2023."""
    family = build("sd15")
    config = LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian",
                        target_modules=["to_k", "to_q", "to_v", "to_out.0"])  # fmt: skip
    text = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "out_proj"])
    for model, how in ((family.unet, config), (family.text_encoders[0], text)):
        inject_adapter_in_model(how, model)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05, generator=torch.Generator().manual_seed(len(name)))
    states = [get_peft_model_state_dict(model) for model in (family.unet, family.text_encoders[0])]
    StableDiffusionPipeline.save_lora_weights(tmp_path, states[0], states[1], weight_name="a.safetensors")
    if old:
        renamed = {_as_of_2023(key): tensor for key, tensor in load_file(tmp_path / "a.safetensors").items()}
        save_file(renamed, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", "kohya", tmp_path / "b.safetensors")
    found = changes(tmp_path / "b.safetensors")
    assert len(found) == 32 * 4 + 2 * 2
    for part, model in (("unet", family.unet), ("text_encoder", family.text_encoders[0])):
        for path, module in model.named_modules():
            if hasattr(module, "lora_A"):
                wanted = module.get_delta_weight("default").detach().double().numpy()
                assert np.abs(found[kohya_name("sd15", part, path)] - wanted).max() <= 1e-6


def _as_of_2023(key: str) -> str:
    for new, old in (
        ("to_q", "q_proj"),
        ("to_out", "out_proj"),
        ("to_out", "to_out.0"),
        ("to_k", "to_k"),
        ("to_v", "to_v"),
    ):
        middle = ".processor" if key.startswith("unet") else ""
        for letter, way in (("A", "down"), ("B", "up")):
            if key.endswith(f".{old}.lora_{letter}.weight"):
                return key.removesuffix(f".{old}.lora_{letter}.weight") + f"{middle}.{new}_lora.{way}.weight"
    head, _, tail = key.rpartition(".to_q.lora_")
    return f"{head}.processor.to_q_lora.{'down' if tail.startswith('A') else 'up'}.weight" if head else key


def test_a_tucker_core_is_multiplied_out(tmp_path: Path) -> None:
    """Against the two convolutions one after the other, on a picture."""
    generator = torch.Generator().manual_seed(0)
    name, other = "lora_unet_down_blocks_0_resnets_0_conv1", "lora_te_text_model_encoder_layers_0_mlp_fc1"
    up, mid, down = (torch.randn(shape, generator=generator) for shape in ((16, 3, 1, 1), (3, 3, 3, 3), (3, 16, 1, 1)))
    save_file(
        {f"{name}.lora_up.weight": up, f"{name}.lora_mid.weight": mid, f"{name}.lora_down.weight": down,
         f"{name}.alpha": torch.tensor(1.5), f"{other}.lora_up.weight": torch.ones(64, 1),
         f"{other}.lora_down.weight": torch.ones(1, 32)},
        tmp_path / "a.safetensors",
    )  # fmt: skip
    report = convert(tmp_path / "a.safetensors", "diffusers", tmp_path / "b.safetensors")
    assert [line for line in report.lines if "Tucker" in line]
    convert(tmp_path / "b.safetensors", "kohya", tmp_path / "c.safetensors")
    picture = torch.randn(1, 16, 9, 9, generator=generator)
    slow = torch.conv2d(torch.conv2d(torch.conv2d(picture, down), mid, padding=1), up) * (1.5 / 3)
    quick = torch.conv2d(picture, torch.tensor(changes(tmp_path / "c.safetensors")[name]).float(), padding=1)
    assert torch.allclose(slow, quick, rtol=1e-5, atol=1e-4)
    convert(tmp_path / "a.safetensors", "kohya", tmp_path / "d.safetensors")
    assert torch.equal(load_file(tmp_path / "d.safetensors")[f"{name}.lora_mid.weight"], mid)


def test_dora_is_merged_and_converted_as_peft_has_it(tmp_path: Path) -> None:
    base = tiny_file("sd15", tmp_path)
    family = load_family(Model(base=str(base)), torch.device("cpu"), torch.float32, Captions(), str)
    config = LoraConfig(r=4, lora_alpha=2, use_dora=True, target_modules=["to_q", "conv1"])
    inject_adapter_in_model(config, family.unet)
    for name, weight in family.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
        elif "magnitude" in name:
            weight.data.mul_(1.3)
    (tmp_path / "adapter").mkdir()
    state = {f"base_model.model.{key}": tensor for key, tensor in get_peft_model_state_dict(family.unet).items()}
    save_file(state, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 2}))
    convert(tmp_path / "adapter", "kohya", tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", "diffusers", tmp_path / "b.safetensors")
    convert(tmp_path / "b.safetensors", "kohya", tmp_path / "c.safetensors")
    assert same_tensors(load_file(tmp_path / "a.safetensors"), load_file(tmp_path / "c.safetensors"))
    run_tool(Merge(sd_model=str(base), models=(str(tmp_path / "b.safetensors"),), save_to="m", save_precision="fp32"))
    merged = load_family(
        Model(base=str(tmp_path / "m.safetensors")), torch.device("cpu"), torch.float32, Captions(), str
    )
    assert (predicted(merged) - predicted(family)).norm() <= 2e-6 * predicted(family).norm()
    with pytest.raises(InputError, match="is a DoRA"):
        run_tool(Merge(models=(str(tmp_path / "a.safetensors"),) * 2, save_to=str(tmp_path / "x")))


# Models


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_goes_to_a_folder_and_back(name: str, tmp_path: Path) -> None:
    """Tensors to the bit, in mixed precisions; and both loaders make the same model of either."""
    base = tiny_file(name, tmp_path)
    tensors = load_file(base)
    tensors = {key: tensor.float() if key.startswith("first_stage") else tensor for key, tensor in tensors.items()}
    save_file({**tensors, "alphas_cumprod": torch.ones(1000)}, base, metadata_of(base))
    report = run_tool(ConvertModel(model=str(base), save_to="folder"))
    assert "alphas_cumprod" in report.lines[0]
    options = {"model": str(tmp_path / "folder"), "form": "safetensors", "save_to": str(tmp_path / "back")}
    run_tool(ConvertModel.model_validate(options))
    assert same_tensors(load_file(tmp_path / "back.safetensors"), tensors)

    kind = {"sd15": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}[name]
    pipeline = kind.from_pretrained(tmp_path / "folder", torch_dtype=torch.float32, local_files_only=True)
    assert pipeline.tokenizer("a photo of sks person").input_ids == [49406, 320, 1125, 539, 48136, 2533, 49407]
    ours = load_family(Model(base=str(base)), torch.device("cpu"), torch.float32, Captions(), str)
    folder = load_family(Model(base=str(tmp_path / "folder")), torch.device("cpu"), torch.float32, Captions(), str)
    for part, module in ours.modules.items():
        for loaded in (getattr(pipeline, part), folder.modules[part]):
            assert same_tensors(dict(loaded.state_dict()), dict(module.state_dict())), part
    if name == "sdxl":
        assert pipeline.tokenizer_2.pad_token_id == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_diffusers_reads_the_single_file(name: str, tmp_path: Path) -> None:
    """A diffusers folder of random weights, saved by diffusers, as one file, through from_single_file."""
    family = build(name, seed=4)
    family.pipeline(DDIMScheduler()).save_pretrained(tmp_path / "folder")
    options = {"model": str(tmp_path / "folder"), "form": "safetensors", "save_to": str(tmp_path / "one")}
    run_tool(ConvertModel.model_validate(options))
    configs = tmp_path / "configs"
    for part, config in CONFIGS[name].items():
        (configs / part).mkdir(parents=True)
        shipped = json.loads((SHIPPED / name / part / "config.json").read_text())
        (configs / part / "config.json").write_text(json.dumps({**shipped, **config}))
    for part in ("unet", "vae"):
        kind = type(family.modules[part])
        read = kind.from_single_file(tmp_path / "one.safetensors", config=str(configs), subfolder=part)
        assert same_tensors(dict(read.state_dict()), dict(family.modules[part].state_dict()))
    again = load_family(
        Model(base=str(tmp_path / "one.safetensors")), torch.device("cpu"), torch.float32, Captions(), str
    )
    assert torch.equal(predicted(again), predicted(family))


def test_what_a_model_predicts_goes_along(tmp_path: Path) -> None:
    base = tiny_file("sdxl", tmp_path)
    save_file({**load_file(base), "v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}, base, metadata_of(base))
    run_tool(ConvertModel(model=str(base), save_to="folder", save_precision="bf16"))
    scheduler = json.loads((tmp_path / "folder" / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["prediction_type"], scheduler["rescale_betas_zero_snr"]) == ("v_prediction", True)
    run_tool(ConvertModel(model=str(tmp_path / "folder"), form="safetensors", save_to=str(tmp_path / "back")))
    back = load_file(tmp_path / "back.safetensors")
    assert {"v_pred", "ztsnr"} <= back.keys()
    assert back["model.diffusion_model.out.2.weight"].dtype == torch.bfloat16


def test_a_lora_of_the_unet_alone_is_known_by_its_names(tmp_path: Path) -> None:
    for name in FAMILIES:
        tensors = load_file(make_lora(tmp_path / "a.safetensors", name))
        unet = {key: tensor for key, tensor in tensors.items() if "unet" in key}
        save_file(unet, tmp_path / "unet.safetensors")
        convert(tmp_path / "unet.safetensors", "diffusers", tmp_path / "b.safetensors", overwrite=True)
        report = convert(tmp_path / "b.safetensors", "kohya", tmp_path / "c.safetensors", overwrite=True)
        assert report.found["family"] == name
        assert same_tensors(load_file(tmp_path / "c.safetensors"), unet)


def test_names_of_a_lora_are_those_of_the_full_size_models() -> None:
    counts = {name: len([1 for spot in spots(name).values() if spot.kind == "lora"]) for name in FAMILIES}
    assert counts == {"sd15": 264, "sdxl": 722 + 72 + 192}
    assert distance({"a": np.ones(2)}, {"a": np.ones(2)}) == 0
