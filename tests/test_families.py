"""The contract that every family keeps, on tiny models of the real classes; parity with diffusers and sd-scripts."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, EulerDiscreteScheduler
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.golden.make_base import CONFIGS, shapes, write_base
from tests.tiny import build, tiny_family, tiny_file
from trainer.config import Captions, Model
from trainer.families import FAMILIES, family_class, load_family
from trainer.families.base import Family, Sizes, Tokens
from trainer.families.files import SafetensorsFile, open_tensors
from trainer.families.header import ModelError, read_header
from trainer.families.latent import Settings, noise_table
from trainer.families.loading import SHIPPED, fill
from trainer.families.text import BEGIN, END
from trainer.layout import sgm_module_name, unet_keys, vae_to_original

NAMES = sorted(FAMILIES)
CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent / "golden"
LONG = ", ".join(f"tag number {n}" for n in range(60))  # over 225 tokens


def load(base: Path, dtype: torch.dtype = torch.float32, said: list[str] | None = None, **model: Any) -> Any:
    say = (lambda line: None) if said is None else said.append
    return load_family(Model(base=str(base), **model), CPU, dtype, Captions(), say)


@pytest.fixture(scope="module", params=NAMES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One tiny model of each family, which tests must leave as it is."""
    return tiny_family(request.param, tmp_path_factory.mktemp(request.param))


def inputs(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Latents, noise and timesteps."""
    draw = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, batch, 4, 8, 6, generator=draw)
    return latents, noise, torch.tensor([10, 900, 0, 500])[:batch]


# The contract


def test_a_family_is_what_the_engine_expects(family: Family) -> None:
    typed: Family = family
    assert typed.name in FAMILIES and typed.prediction == "epsilon" and typed.zero_terminal_snr is False
    assert list(typed.parts)[:2] == ["unet", "text_encoder"]
    assert list(typed.parts.values()) == [typed.unet, *typed.text_encoders]
    assert len(typed.tokenizers) == len(typed.text_encoders)
    for module in (*typed.parts.values(), typed.vae):
        assert not module.training and not any(p.requires_grad for p in module.parameters())
        assert not any(t.is_meta for t in (*module.parameters(), *module.buffers()))


def test_shapes(family: Family) -> None:
    latents, noise, timesteps = inputs()
    cond = family.encode_text(["a cat", ""])
    width = family.unet.config.cross_attention_dim
    assert cond["states"].shape == (2, 77, width)
    assert ("pooled" in cond) == (family.name == "sdxl")
    noisy = family.noisy(latents, noise, timesteps)
    assert noisy.shape == family.target(latents, noise, timesteps).shape == latents.shape
    assert family.predict(noisy, timesteps, cond).shape == latents.shape
    assert family.encode_images(torch.rand(2, 3, 64, 48) * 2 - 1).shape == (2, 4, 8, 6)


def test_nothing_is_drawn(family: Family) -> None:
    latents, _, timesteps = inputs()
    pixels = torch.rand(1, 3, 64, 64)
    state = torch.random.get_rng_state()
    assert torch.equal(family.encode_images(pixels), family.encode_images(pixels))
    first, second = (family.predict(latents, timesteps, family.encode_text(["a", "b"])) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_pictures_are_encoded_to_the_scaled_mean(family: Family) -> None:
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    mean = family.vae.encode(pixels).latent_dist.mean * family.vae.config.scaling_factor
    assert torch.equal(family.encode_images(pixels), mean)
    assert family.latent_scale == {"sd15": 0.18215, "sdxl": 0.13025}[family.name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_noise_and_targets_are_those_of_diffusers(name: str, zero_snr: bool, tmp_path: Path) -> None:
    family = tiny_family(name, tmp_path, {"prediction": "v", "zero_terminal_snr": zero_snr})
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=zero_snr
    )
    latents, noise, timesteps = inputs()
    assert torch.equal(family.noisy(latents, noise, timesteps), scheduler.add_noise(latents, noise, timesteps))
    assert torch.equal(family.target(latents, noise, timesteps), scheduler.get_velocity(latents, noise, timesteps))
    assert family.zero_terminal_snr is zero_snr and family.prediction == "v"


def test_the_table_of_zero_terminal_snr_begins_as_before_and_ends_at_nothing() -> None:
    plain, fixed = noise_table(False), noise_table(True)
    assert plain.dtype == fixed.dtype == torch.float32 and plain.shape == fixed.shape == (1000,)
    assert fixed[-1] == 0 < plain[-1]
    torch.testing.assert_close(fixed[0], plain[0])


@pytest.mark.parametrize("name", NAMES)
def test_checkpointing_changes_memory_and_no_gradient(name: str) -> None:
    latents, _, timesteps = inputs()
    gradients = []
    for checkpointing in (False, True):
        family = build(name)
        if checkpointing:
            family.enable_checkpointing()
        family.predict(latents, timesteps, family.encode_text(["a cat", "b"])).square().mean().backward()
        named = {f"{part}.{n}": p.grad for part, m in family.parts.items() for n, p in m.named_parameters()}
        gradients.append({n: grad for n, grad in named.items() if grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys() and any(name.startswith("text_encoder.") for name in plain)
    for key, gradient in plain.items():
        assert torch.equal(gradient, checkpointed[key]), key


def test_half_precision(tmp_path: Path) -> None:
    family = load(tiny_file("sdxl", tmp_path), torch.bfloat16)
    latents, _, timesteps = inputs()
    assert family.predict(latents, timesteps, family.encode_text(["a", "b"])).dtype == torch.bfloat16
    assert family.vae.dtype == torch.bfloat16 and family.alphas_cumprod.dtype == torch.float32
    assert load(tmp_path / "sdxl.safetensors", torch.bfloat16, vae_precision="fp32").vae.dtype == torch.float32


def test_a_vae_that_overflows_in_fp16_goes_on_in_fp32(tmp_path: Path) -> None:
    said: list[str] = []
    family = load(tiny_file("sdxl", tmp_path), torch.float16, said)
    family.vae.encoder.conv_in.weight.data.fill_(6e4)
    latents = family.encode_images(torch.ones(1, 3, 64, 64))
    assert torch.isfinite(latents).all() and family.vae.dtype == torch.float32
    assert "NaN in fp16" in said[-1]


def test_a_vae_that_overflows_while_decoding_goes_on_in_fp32(tmp_path: Path) -> None:
    said: list[str] = []
    family = load(tiny_file("sdxl", tmp_path), torch.float16, said)
    family.vae.decoder.conv_in.weight.data.fill_(6e4)
    pixels = family.decode(torch.ones(1, 4, 8, 8))
    assert pixels.shape == (1, 3, 64, 64) and pixels.isfinite().all() and family.vae.dtype == torch.float32
    assert len(said) == 2 and "NaN in fp16" in said[1]


def test_latents_that_are_no_numbers_are_not_the_vae_s_fault(tmp_path: Path) -> None:
    family = load(tiny_file("sd15", tmp_path), torch.float16)
    family.decode(torch.full((1, 4, 8, 8), torch.nan))
    assert family.vae.dtype == torch.float16


def test_pictures_are_decoded_from_scaled_latents(family: Family) -> None:
    latents = inputs(1)[0]
    assert torch.equal(family.decode(latents), family.vae.decode(latents / family.latent_scale).sample)


@pytest.mark.parametrize("source", ["file", "folder", "own file", "own folder"])
def test_a_vae_in_fp32_is_read_in_fp32(source: str, tmp_path: Path) -> None:
    exact, base, options = build("sd15"), tmp_path / "model", {"vae_precision": "fp32"}
    if source == "file":
        base = tiny_file("sd15", tmp_path)
        changed(base, dict(vae_to_original(exact.vae.state_dict())))
    elif source == "folder":
        exact.pipeline(EulerDiscreteScheduler(steps_offset=1)).save_pretrained(base)
    else:
        base = tiny_file("sd15", tmp_path)
        options["vae"] = str(tmp_path / "vae" / ("diffusion_pytorch_model.safetensors" if source == "own file" else ""))
        exact.vae.save_pretrained(tmp_path / "vae")
    family = load(base, torch.bfloat16, **options)
    found, wanted = family.vae.state_dict(), exact.vae.state_dict()
    assert family.unet.dtype == torch.bfloat16 and all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_options_of_the_vae(tmp_path: Path) -> None:
    family = load(tiny_file("sd15", tmp_path), vae_slicing=True, vae_tiling=True)
    assert family.vae.use_slicing and family.vae.use_tiling


# Parity with diffusers


def test_texts_are_encoded_as_diffusers_does(family: Any) -> None:
    captions = ["a photo of sks person", LONG, ""]
    pipeline = family.pipeline(EulerDiscreteScheduler(steps_offset=1))
    encoded = pipeline.encode_prompt(captions, device=CPU, num_images_per_prompt=1, do_classifier_free_guidance=False)
    cond = family.encode_text(captions)
    assert torch.equal(cond["states"], encoded[0])
    if family.name == "sdxl":
        assert torch.equal(cond["pooled"], encoded[2])


def test_clip_skip_leaves_out_the_last_layers(tmp_path: Path) -> None:
    """diffusers' own clip skip fails with transformers 5, so a text encoder that lacks a layer stands in for it."""
    skipped, plain, first = (tiny_family("sd15", tmp_path, {"clip_skip": skip}) for skip in (2, None, 1))
    assert torch.equal(plain.encode_text(["a cat"])["states"], first.encode_text(["a cat"])["states"])
    del plain.text_encoders[0].encoder.layers[-1]
    assert torch.equal(plain.encode_text(["a cat"])["states"], skipped.encode_text(["a cat"])["states"])


def test_a_prediction_is_that_of_a_pipeline(family: Any) -> None:
    seen: list[tuple[Any, Any]] = []
    hook = family.unet.register_forward_hook(lambda _, args, out: seen.append((args, out)))
    pipeline = family.pipeline(EulerDiscreteScheduler(steps_offset=1))
    pipeline.set_progress_bar_config(disable=True)
    pipeline("a cat", height=64, width=48, num_inference_steps=1, guidance_scale=1.0, output_type="latent")
    hook.remove()
    (noisy, timestep), out = seen[0]
    sizes = Sizes(torch.tensor([[64, 48]]), torch.zeros(1, 2), torch.tensor([[64, 48]]))
    for known in (sizes, None):
        ours = family.predict(noisy, timestep.expand(1), family.encode_text(["a cat"]), known)
        assert torch.equal(ours, out[0])


def test_sdxl_sees_sizes_and_sd15_does_not(family: Any) -> None:
    latents, _, timesteps = inputs()
    cond, whole = family.encode_text(["a", "b"]), Sizes.whole(latents)
    assert whole.original.tolist() == [[64, 48], [64, 48]]
    cut = whole._replace(crop=torch.tensor([[0, 64], [0, 0]]))
    first, second = (family.predict(latents, timesteps, cond, sizes) for sizes in (whole, cut))
    assert torch.equal(first[1], second[1])
    assert torch.equal(first[0], second[0]) == (family.name == "sd15")


def converted(name: str, state: dict[str, Tensor], family: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """What diffusers makes of a single file, by part."""
    yield "unet", convert_ldm_unet_checkpoint(dict(state), family.unet.config)
    yield "vae", convert_ldm_vae_checkpoint(dict(state), family.vae.config)
    prefix = {"sd15": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}[name]
    yield "text_encoder", convert_ldm_clip_checkpoint(dict(state), prefix)
    if name == "sdxl":
        encoder, prefix = family.text_encoders[1], "conditioner.embedders.1.model."
        yield "text_encoder_2", convert_open_clip_checkpoint(encoder, dict(state), prefix=prefix)


@pytest.mark.parametrize("name", NAMES)
def test_loading_agrees_with_diffusers_own_conversion(name: str, tmp_path: Path) -> None:
    path = tiny_file(name, tmp_path)
    family, state = load(path), load_file(path)
    for part, theirs in converted(name, state, family):
        ours = family.modules[part].state_dict()
        theirs = {key.removeprefix("text_model."): value.float() for key, value in theirs.items()}
        ours = {key.removeprefix("text_model."): value for key, value in ours.items()}
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# The original layout


@pytest.mark.parametrize("kind", ["sd15tiny", "sdxltiny"])
def test_a_file_comes_back_under_its_names(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    write_base(kind, path, config=True)
    said: list[str] = []
    state = load(path, torch.float16, said).original_state()
    file = load_file(path)
    assert state.keys() == shapes(kind).keys()
    assert all(torch.equal(state[key], file[key]) for key in state)
    assert len(said) == 1  # betas and the like are left out without a word


@pytest.mark.parametrize(("name", "millions"), [("sd15", 859.5), ("sdxl", 2567.5)])
def test_shipped_configurations_are_those_of_the_full_models(name: str, millions: float) -> None:
    kind = family_class(name)
    with torch.device("meta"):
        modules = {
            part: where.build(json.loads((SHIPPED / name / part / "config.json").read_text()))
            for part, where in kind.LAYOUT.items()
        }
    assert round(sum(p.numel() for p in modules["unet"].parameters()) / 1e6, 1) == millions
    state = kind(modules, build(name).settings).original_state()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == shapes(name)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("conv_in", "input_blocks_0_0"),
        ("down_blocks.1.attentions.0.transformer_blocks.1.attn1", "input_blocks_4_1_transformer_blocks_1_attn1"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks_3_0_op"),
        ("down_blocks.1.resnets.0.conv_shortcut", "input_blocks_4_0_skip_connection"),
        ("mid_block.attentions.0.proj_in", "middle_block_1_proj_in"),
        ("mid_block.resnets.1.time_emb_proj", "middle_block_2_emb_layers_1"),
        ("up_blocks.0.attentions.2.transformer_blocks.9.ff.net.0", "output_blocks_2_1_transformer_blocks_9_ff_net_0"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks_2_2_conv"),
        ("up_blocks.2.resnets.0.conv1", "output_blocks_6_0_in_layers_2"),
        ("up_blocks.2.resnets.0.conv2", "output_blocks_6_0_out_layers_3"),
        ("add_embedding.linear_2", "label_emb_0_2"),
        ("time_embedding.linear_1", "time_embed_0"),
        ("conv_out", "out_2"),
    ],
)
def test_modules_have_the_names_of_sdxl_s_lora_files(path: str, name: str) -> None:
    assert sgm_module_name(path) == name


def test_a_module_that_sdxl_has_not_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not a part"):
        sgm_module_name("down_blocks.0.motion_modules.0.proj_in")


# Parity with sd-scripts


def test_a_recorded_step_of_sd_scripts_is_met(tmp_path: Path) -> None:
    """Ids, text states, noisy latents and the prediction of a first step, on the very model of the recordings."""
    write_base("sd15tiny", tmp_path / "base.safetensors", config=True)
    family = load(tmp_path / "base.safetensors")
    recorded = load_file(GOLDEN / "base" / "replay.safetensors")
    step = {key[5:]: value for key, value in recorded.items() if key.startswith("s000.")}
    ids = step["ids0"].view(1, 1, 77)
    text = family.tokenizers[0].decode(ids.flatten(), skip_special_tokens=True)
    assert torch.equal(family.tokenize([text]).ids[0], ids)
    noisy = family.noisy(step["latents"], step["noise"], step["timesteps"])
    torch.testing.assert_close(noisy, step["noisy"], rtol=1e-6, atol=1e-6)  # processors round a sum in their own ways
    states = family.encode_tokens(Tokens((ids,), None))["states"]
    prediction = family.predict(step["noisy"], step["timesteps"], {"states": step["cond0"]})
    # The same bits with two threads; others add up in another order.
    torch.testing.assert_close(states, step["cond0"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(prediction, step["pred"], rtol=1e-5, atol=1e-5)


# Files


def test_peak_memory_of_loading_is_little_more_than_the_file(tmp_path: Path) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux's count of peak memory")
    path = tmp_path / "base.safetensors"
    unet = {**CONFIGS["sd15tiny"]["unet"], "block_out_channels": [96, 192, 384, 384]}
    sparse_base({**CONFIGS["sd15tiny"], "unet": unet}, path)
    size = path.stat().st_size
    assert size > 150e6

    def memory(field: str) -> int:
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith(field)).split()[1])

    load(path, torch.float16)  # what is imported and allocated once
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    family = load(path, torch.float16)
    assert memory("VmHWM") - before < 1.3 * size
    assert family.unet.config.block_out_channels[0] == 96


def test_each_tensor_of_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen, real = tiny_file("sd15", tmp_path), [], SafetensorsFile.__getitem__
    monkeypatch.setattr(SafetensorsFile, "__getitem__", lambda self, name: seen.append(name) or real(self, name))
    load(path, torch.float16)
    assert sorted(seen) == sorted(read_header(path).tensors)


def sparse_base(config: dict[str, Any], path: Path) -> None:
    """A file of zeros that takes no room on the disk, in the layout of a configuration."""
    kind = family_class(config["family"])
    with torch.device("meta"):
        modules = {part: where.build(merged(config, part)) for part, where in kind.LAYOUT.items()}
    header: dict[str, Any] = {"__metadata__": {"likeness_model": json.dumps(config)}}
    end = 0
    for key, tensor in kind(modules, build("sd15").settings).original_state().items():
        header[key] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [end, end + 2 * tensor.numel()]}
        end += 2 * tensor.numel()
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def merged(config: dict[str, Any], part: str) -> dict[str, Any]:
    return {**json.loads((SHIPPED / config["family"] / part / "config.json").read_text()), **config[part]}


def changed(path: Path, change: dict[str, Tensor | None]) -> Path:
    """The same file with tensors added, replaced, or (None) taken out."""
    metadata = read_header(path).metadata
    state = {**load_file(path), **change}
    save_file({key: tensor for key, tensor in state.items() if tensor is not None}, path, metadata)
    return path


def test_missing_wrong_and_unknown_tensors_are_named(tmp_path: Path) -> None:
    key = "model.diffusion_model.middle_block.1.proj_in.weight"
    with pytest.raises(ModelError, match=rf"lacks 1 tensors, such as {key}"):
        load(changed(tiny_file("sd15", tmp_path), {key: None}))
    with pytest.raises(ModelError, match=rf"holds {key} of shape \[3, 4\] where \[32, 32, 1, 1\] belongs"):
        load(changed(tiny_file("sd15", tmp_path), {key: torch.zeros(3, 4)}))
    said: list[str] = []
    extras = ("betas", "model_ema.decay", "model_ema.diffusion_modelconv", "first_stage_model.loss.logvar")
    unknown: dict[str, Tensor | None] = {name: torch.zeros(1) for name in (*extras, "denoiser.sigmas", "my.thing")}
    load(changed(tiny_file("sd15", tmp_path), unknown), said=said)
    assert said[1:] == ["1 tensors of sd15.safetensors are no part of the model and are left out: 'my.thing'."]


def test_novelai_s_names_of_the_text_encoder(tmp_path: Path) -> None:
    path = tiny_file("sd15", tmp_path)
    plain = load(path).encode_text(["a cat"])["states"]
    old = {key: tensor for key, tensor in load_file(path).items() if key.startswith("cond_stage_model.")}
    new = {key.replace("transformer.text_model.", "transformer."): tensor for key, tensor in old.items()}
    assert torch.equal(load(changed(path, {**dict.fromkeys(old), **new})).encode_text(["a cat"])["states"], plain)


def test_a_pickle_fills_a_model_as_a_safetensors_file_does(tmp_path: Path) -> None:
    path, pickled = tiny_file("sd15", tmp_path), tmp_path / "model.ckpt"
    torch.save({"state_dict": load_file(path), "epoch": 1}, pickled)
    with pytest.raises(ModelError, match="lacks"):  # it has no header that could say how small it is
        load(pickled)
    unet, other = load(path).unet, build("sd15", seed=1).unet
    fill(pickled, other, unet_keys(other.state_dict()), open_tensors(pickled), (CPU, torch.float32))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in unet.state_dict().items())


@pytest.mark.parametrize(("name", "variant"), [("sd15", None), ("sdxl", None), ("sd15", "fp16")])
def test_a_diffusers_folder_is_the_same_model(name: str, variant: str | None, tmp_path: Path) -> None:
    family = load(tiny_file(name, tmp_path))
    scheduler = EulerDiscreteScheduler(prediction_type="v_prediction", steps_offset=1)
    family.pipeline(scheduler).save_pretrained(tmp_path / "model", variant=variant)
    again = load(tmp_path / "model")
    assert again.prediction == "v" and again.name == name
    ours, theirs = family.original_state(), again.original_state()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_folder_with_gaps_or_damage_is_a_clean_error(tmp_path: Path) -> None:
    family = load(tiny_file("sdxl", tmp_path))
    for part, key in (("unet", "conv_out.bias"), ("text_encoder_2", "text_projection.weight")):
        folder = tmp_path / part
        family.pipeline(EulerDiscreteScheduler(steps_offset=1)).save_pretrained(folder)
        weights = next((folder / part).glob("*.safetensors"))
        save_file(
            {name: tensor for name, tensor in load_file(weights).items() if name != key}, weights, {"format": "pt"}
        )
        with pytest.raises(ModelError, match=rf"{part} lacks 1 tensors, such as {key}"):
            load(folder)
        weights.write_bytes(weights.read_bytes()[:-9])
        with pytest.raises(ModelError, match=rf"{part} cannot be loaded"):
            load(folder)
        shutil.rmtree(folder / part)
        with pytest.raises(ModelError, match=rf"{part}"):
            load(folder)


def rename(key: str, names: dict[str, str]) -> str:
    for ours, theirs in names.items():
        key = key.replace(ours, theirs)
    return key


def test_a_vae_of_its_own(tmp_path: Path) -> None:
    base = tiny_file("sd15", tmp_path)
    vae: AutoencoderKL = build("sd15", seed=1).vae
    state = vae.state_dict()
    original = {key: tensor.contiguous() for key, tensor in vae_to_original(state).items()}
    bare = {key.removeprefix("first_stage_model."): tensor for key, tensor in original.items()}
    save_file(original, tmp_path / "original.safetensors")
    save_file({**bare, "loss.logvar": torch.zeros(1)}, tmp_path / "bare.safetensors")
    save_file(state, tmp_path / "diffusers.safetensors")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    save_file({rename(key, old): tensor for key, tensor in state.items()}, tmp_path / "old.safetensors")
    torch.save({"state_dict": bare}, tmp_path / "bare.vae.pt")
    vae.save_pretrained(tmp_path / "folder")
    changed(base, {key: None for key in load_file(base) if key.startswith("first_stage_model.decoder.")})
    with pytest.raises(ModelError, match=r"lacks.* Give a separate VAE"):
        load(base)
    for name in (
        "original.safetensors",
        "bare.safetensors",
        "diffusers.safetensors",
        "old.safetensors",
        "bare.vae.pt",
        "folder",
    ):
        said: list[str] = []
        loaded = load(base, said=said, vae=str(tmp_path / name)).vae.state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state) and len(said) == 1
    with pytest.raises(ModelError, match="does not exist"):
        load(base, vae=str(tmp_path / "gone.safetensors"))


def test_what_is_done_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    load(tiny_file("sdxl", tmp_path, v_pred=""), said=said, clip_skip=2, prediction="v")
    assert said[0].startswith("sdxl.safetensors is SDXL, v-prediction: it holds")
    assert "clip_skip is for SD1.5" in said[1]


def test_a_header_s_configuration_that_makes_no_model_is_a_clean_error(tmp_path: Path) -> None:
    for unet in ({"block_out_channels": [7]}, {"down_block_types": ["Evil"] * 4}, {"norm_num_groups": 7}):
        path = tmp_path / "bad.safetensors"
        metadata = {"likeness_model": json.dumps({"family": "sd15", "unet": unet})}
        save_file(load_file(tiny_file("sd15", tmp_path)), path, metadata)
        with pytest.raises(ModelError, match="configuration that makes no model"):
            load(path)


def test_a_header_s_configuration_may_change_sizes_only(tmp_path: Path) -> None:
    config = {"family": "sd15", "text_encoder": {"_attn_implementation": "somebody/code"}}
    state = load_file(tiny_file("sd15", tmp_path))
    save_file(state, tmp_path / "bad.safetensors", {"likeness_model": json.dumps(config)})
    with pytest.raises(ModelError, match=r"unknown names .*_attn_implementation"):
        load(tmp_path / "bad.safetensors")


# Long and weighted captions


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_counted_before_they_are_cut(name: str) -> None:
    family = build(name)
    assert [family.count_tokens(caption) for caption in ("", "a cat", "cat " * 92)] == [0, 2, 92]
    weighted = type(family)(family.modules, Settings(weighted=True))
    assert family.count_tokens("(cat:1.2)") > 1 == weighted.count_tokens("(cat:1.2)")


@pytest.mark.parametrize("name", NAMES)
def test_chunks_are_encoded_alone_and_joined(name: str, tmp_path: Path) -> None:
    family = tiny_family(name, tmp_path, max_tokens=150)
    ids = family.tokenizers[0](LONG, add_special_tokens=False, verbose=False).input_ids
    first, second = (torch.tensor([[[BEGIN, *ids[at : at + 75], END]]]) for at in (0, 75))
    one = family.encode_tokens(Tokens((first,) * len(family.tokenizers), None))
    two = family.encode_tokens(Tokens((second,) * len(family.tokenizers), None))
    cond = family.encode_text([LONG, LONG])
    joined = torch.cat([one["states"][:, :76], two["states"][:, 1:]], dim=1)
    torch.testing.assert_close(cond["states"], joined.expand(2, -1, -1))
    assert cond["states"].shape[1] == 152
    if name == "sdxl":
        torch.testing.assert_close(cond["pooled"], one["pooled"].expand(2, -1))


@pytest.mark.parametrize("name", NAMES)
def test_weights_multiply_the_states_of_their_words(name: str, tmp_path: Path) -> None:
    plain = tiny_family(name, tmp_path).encode_text(["a cat on a mat"])
    weighted = tiny_family(name, tmp_path, weighted=True).encode_text(["a (cat:1.5) on a mat"])
    factor = torch.ones(77)
    factor[2] = 1.5
    torch.testing.assert_close(weighted["states"], plain["states"] * factor[:, None])
    if name == "sdxl":
        assert torch.equal(weighted["pooled"], plain["pooled"])


@pytest.mark.parametrize("eos", [2, END])
def test_the_pooled_vector_is_right_whatever_the_configuration_calls_the_end(eos: int, tmp_path: Path) -> None:
    family = load(tiny_file("sdxl", tmp_path))
    encoder, ids = family.text_encoders[1], family.tokenize(["a cat", ""]).ids[1][:, 0]
    encoder.text_model.eos_token_id = eos
    assert torch.equal(family.encode_text(["a cat", ""])["pooled"], encoder(ids).text_embeds)
