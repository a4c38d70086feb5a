"""The network by itself: first values, dropouts, groups, norms, files, and what it leaves behind."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.tiny import build
from trainer.config import Lora, Rates
from trainer.draws import seed_of
from trainer.networks.layer import LoraLayer, keep
from trainer.networks.lora import LoraNetwork, NetworkError
from trainer.networks.lora_file import read_lora

UNET_ONLY = Rates(text_encoder=None, text_encoder_2=None)


@pytest.fixture(scope="module")
def sd15() -> Any:
    return build("sd15")


@pytest.fixture(scope="module")
def sdxl() -> Any:
    return build("sdxl")


def attached(
    family: Any, options: Lora | None = None, rates: Rates | None = None, trained: bool = False
) -> LoraNetwork:
    """A network that the caller detaches; `trained` fills the up matrices, so that it changes something."""
    network = LoraNetwork.attach(family, options or Lora(rank=4, alpha=2), rates or Rates(), seed=7)
    if trained:
        with torch.no_grad():
            for place, layer in enumerate(network.layers.values()):
                layer.up.normal_(std=0.05, generator=torch.Generator().manual_seed(place))
    return network


def layer_of(module: nn.Linear | nn.Conv2d, alpha: float = 3, **dropouts: float) -> LoraLayer:
    layer = LoraLayer(module, 4, alpha, torch.Generator().manual_seed(1))
    with torch.no_grad():
        layer.up.normal_(generator=torch.Generator().manual_seed(2))
    for name, rate in dropouts.items():
        setattr(layer, name, rate)
    return layer


# First values


def test_a_layer_starts_from_its_seed_and_name_alone(sd15: Any) -> None:
    both = attached(sd15)
    both.detach()
    unet = attached(sd15, rates=UNET_ONLY)
    unet.detach()
    for name, layer in unet.layers.items():
        assert torch.equal(layer.down, both.layers[name].down)
        again = torch.empty_like(layer.down)
        nn.init.kaiming_uniform_(
            again, a=math.sqrt(5), generator=torch.Generator().manual_seed(seed_of(7, "init", name))
        )
        assert torch.equal(layer.down, again)
        assert layer.down.abs().max() <= layer.down[0].numel() ** -0.5
        assert not layer.up.any()


def test_ranks_and_alphas_of_narrow_and_wide_layers(sd15: Any) -> None:
    network = attached(sd15, Lora(rank=6, alpha=3, conv_rank=2, conv_alpha=1))
    network.detach()
    for layer in network.layers.values():
        wide = layer.frozen[0].weight.shape[2:] == (3, 3)
        assert (len(layer.down), layer.alpha, layer.scale) == ((2, 1, 0.5) if wide else (6, 3, 0.5))


# What it does to the model


def test_detached_the_model_is_what_it_was(sd15: Any) -> None:
    before = {name: tensor.clone() for name, tensor in sd15.unet.state_dict().items()}
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([5]), sd15.encode_text(["a cat"])
    plain = sd15.predict(*inputs)
    network = attached(sd15)
    assert torch.equal(sd15.predict(*inputs), plain)  # up is zero
    network.detach()
    network = attached(sd15, trained=True)
    assert not torch.allclose(sd15.predict(*inputs), plain, rtol=1e-3)
    network.detach()
    assert torch.equal(sd15.predict(*inputs), plain)
    assert not any("forward" in vars(module) for module in sd15.unet.modules())
    after = sd15.unet.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_merged_equals_unmerged_and_comes_apart_to_the_bit(sdxl: Any) -> None:
    network = attached(sdxl, Lora(rank=4, alpha=2, conv_rank=2), trained=True)
    before = {name: tensor.clone() for name, tensor in sdxl.unet.state_dict().items()}
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([5])
    with torch.no_grad():
        plain = sdxl.predict(*inputs, sdxl.encode_text(["a cat"]))
        network.merge()
        merged = sdxl.predict(*inputs, sdxl.encode_text(["a cat"]))
        network.unmerge()
        again = sdxl.predict(*inputs, sdxl.encode_text(["a cat"]))
    network.detach()
    assert torch.allclose(merged, plain, rtol=0, atol=2e-6 * float(plain.abs().max()))
    assert torch.equal(again, plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in sdxl.unet.state_dict().items())


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 1.5e-2)])
def test_error_of_a_merge_by_precision(dtype: torch.dtype, limit: float) -> None:
    base = nn.Linear(64, 96)
    layer = layer_of(base)
    exact = base.weight.double() + layer.up.double() @ layer.down.double() * layer.scale
    merged = (base.weight + layer.delta()).to(dtype).double()
    assert (merged - exact).norm() / exact.norm() <= limit


# Dropouts


def test_keep_is_even_and_its_numbers_do_not_know_each_other() -> None:
    seeds = torch.randint(2**32, (64,), generator=torch.Generator().manual_seed(0))
    kept = torch.stack([keep(seed, (4096,), 0.3) for seed in seeds]).double()  # [64, 4096]
    sigma = math.sqrt(0.3 * 0.7)
    assert abs(kept.mean() - 0.7) < 5 * sigma / math.sqrt(kept.numel())
    assert (kept.mean(1) - 0.7).abs().max() < 5 * sigma / math.sqrt(4096)
    assert (kept.mean(0) - 0.7).abs().max() < 5 * sigma / math.sqrt(64)
    centred = (kept - 0.7) / sigma
    for shift in (1, 2, 4, 8, 64):
        neighbours = (centred[:, :-shift] * centred[:, shift:]).mean()
        assert abs(neighbours) < 5 / math.sqrt(kept.numel())
    between = (centred @ centred.T / 4096).fill_diagonal_(0)
    assert between.abs().max() < 5.5 / math.sqrt(4096)


@pytest.mark.parametrize(
    "module", [nn.Linear(12, 20), nn.Conv2d(12, 20, 3, padding=1, stride=2)], ids=["linear", "conv"]
)
@pytest.mark.parametrize("kind", ["neuron_dropout", "rank_dropout", "module_dropout"])
def test_dropout_against_the_rule_written_out(module: nn.Linear | nn.Conv2d, kind: str) -> None:
    layer = layer_of(module, **{kind: 0.4})
    x = torch.randn(3, 5, 12) if isinstance(module, nn.Linear) else torch.randn(3, 12, 8, 8)
    base = module(x)
    axis = -1 if isinstance(module, nn.Linear) else 1
    down = nn.functional.linear(x, layer.down) if axis == -1 else nn.functional.conv2d(x, layer.down, None, 2, 1)
    seen = set()
    for seed in range(12):
        layer.seeds = torch.tensor([seed, seed + 100, seed + 200])
        if kind == "neuron_dropout":
            hidden = down * keep(layer.seeds[0], down.shape, 0.4) / 0.6
        elif kind == "rank_dropout":
            ranks = keep(layer.seeds[1], (3, 4), 0.4)
            hidden = down * ranks.view(3, 1, 4) / 0.6 if axis == -1 else down * ranks.view(3, 4, 1, 1) / 0.6
        else:
            hidden = down * float(keep(layer.seeds[2], (), 0.4))
        up = nn.functional.linear(hidden, layer.up) if axis == -1 else nn.functional.conv2d(hidden, layer.up)
        out = layer(x)
        assert torch.allclose(out, base + up * layer.scale, atol=1e-5)
        seen.add(float(out.detach().sum()))
    assert len(seen) == (2 if kind == "module_dropout" else 12)
    layer.eval()
    assert torch.allclose(layer(x), layer_of(module)(x))


def test_draws_follow_from_the_step_alone(sd15: Any) -> None:
    network = attached(sd15, Lora(rank=4, dropout=0.2, rank_dropout=0.2, module_dropout=0.2), trained=True)
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([5, 6]), sd15.encode_text(["a cat", "a dog"])

    def answer(seed: int) -> Tensor:
        network.draw(seed)
        network.ready()
        with torch.no_grad():
            return sd15.predict(*inputs)

    one, two, one_again = answer(1), answer(2), answer(1)
    network.detach()
    assert torch.equal(one, one_again)
    assert not torch.equal(one, two)


# Rates and groups


def test_groups_cover_each_weight_once(sdxl: Any) -> None:
    rates = Rates(unet=3e-4, text_encoder="same", text_encoder_2=None)
    network = attached(sdxl, Lora(rank=2, loraplus=16, loraplus_text=4), rates)
    network.detach()
    groups = network.groups(rates, 1e-4)
    told = [(group["name"], group["lr"]) for group in groups]
    assert told == [
        ("text_encoder", 1e-4), ("text_encoder plus", pytest.approx(4e-4)),
        ("unet", 3e-4), ("unet plus", pytest.approx(48e-4)),
    ]  # fmt: skip
    inside = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(inside) == sorted(id(weight) for weight in network.parameters())
    assert not any(name.startswith("lora_te2") for name in network.tensors())


def test_groups_without_a_rate(sd15: Any) -> None:
    network = attached(sd15, Lora(rank=2))
    network.detach()
    assert [group["lr"] for group in network.groups(Rates(), None)] == [None, None]
    plus = attached(sd15, Lora(rank=2, loraplus=4))
    plus.detach()
    with pytest.raises(NetworkError, match=r"optimizer\.lr"):
        plus.groups(Rates(), None)


def test_a_model_without_the_trained_part_is_refused(sd15: Any) -> None:
    with pytest.raises(NetworkError, match="none of"):
        attached(sd15, rates=Rates(unet=None, text_encoder=None, text_encoder_2=1e-4))


# Norms


@pytest.mark.parametrize("module", [nn.Linear(12, 20), nn.Conv2d(12, 20, 3)], ids=["linear", "conv"])
def test_norm_is_that_of_the_whole_change(module: nn.Linear | nn.Conv2d) -> None:
    layer = layer_of(module)
    with torch.no_grad():
        assert float(layer.norm()) == pytest.approx(float(layer.delta().norm()), rel=1e-6)


def test_norms_are_limited_as_in_sd_scripts(sd15: Any) -> None:
    free = attached(sd15, Lora(rank=4), UNET_ONLY, trained=True)
    free.detach()
    assert free.limit_norms() is None
    before = [layer.delta().detach() for layer in free.layers.values()]
    middle = float(torch.stack([delta.norm() for delta in before]).median())
    network = attached(sd15, Lora(rank=4, max_norm=middle), UNET_ONLY, trained=True)
    network.detach()
    norms = network.limit_norms()
    assert 0 < int(norms.scaled) < len(before)
    for delta, layer in zip(before, network.layers.values(), strict=True):
        ratio = min(float(delta.norm()), middle) / float(delta.norm())
        assert torch.allclose(layer.delta(), delta * ratio, rtol=1e-4, atol=1e-7)
    assert float(norms.largest) == pytest.approx(middle, rel=1e-5)


# Precision


def test_masters_are_cast_once_and_get_gradients_of_their_own_precision() -> None:
    family = build("sd15")
    generator = torch.Generator().manual_seed(4)
    latents, timesteps = torch.randn(1, 4, 16, 16, generator=generator), torch.tensor([500])
    network = attached(family, trained=True)

    def gradient() -> Tensor:
        network.zero_grad()
        network.ready()
        family.predict(latents, timesteps, family.encode_text(["a cat"])).float().square().mean().backward()
        assert {weight.grad.dtype for weight in network.parameters()} == {torch.float32}
        return torch.cat([weight.grad.flatten() for weight in network.parameters()])

    exact = gradient()
    family.unet.to(torch.bfloat16)
    rounded = gradient()
    layers = list(network.layers.values())
    assert {layer.down.dtype for layer in layers} == {torch.float32}
    assert {layer.weights[0].dtype for layer in layers} == {torch.float32, torch.bfloat16}  # text encoder, U-Net
    assert torch.cosine_similarity(exact, rounded, dim=0) > 0.99
    with torch.no_grad():
        layers[-1].up.zero_()
    network.eval()
    assert not layers[-1].weights[1].any()  # what is sampled from is what was trained last


def test_full_precision_masters_follow_the_model() -> None:
    family = build("sd15")
    family.unet.to(torch.bfloat16)
    network = LoraNetwork.attach(family, Lora(rank=2), UNET_ONLY, seed=1, full=True)
    assert {weight.dtype for weight in network.parameters()} == {torch.bfloat16}
    assert all(layer.weights == (layer.down, layer.up) for layer in network.layers.values())


def test_a_layer_that_took_no_part_has_no_gradient() -> None:
    """Zeros in their place would let weight decay shrink the last text layer under clip_skip."""
    family = build("sd15")
    family.unet.to(torch.bfloat16)
    network = attached(family, trained=True)
    network.ready()
    name, layer = next((n, layer) for n, layer in network.layers.items() if n.startswith("lora_unet"))
    network.places[name].module(torch.randn(1, *layer.down.shape[1:2], 4, 4, dtype=torch.bfloat16)).sum().backward()
    assert layer.down.grad is not None
    assert sum(other.down.grad is not None for other in network.layers.values()) == 1


# Files


def written(path: Path, tensors: dict[str, Tensor]) -> str:
    save_file(tensors, path)
    return str(path)


def test_tensors_and_load_round_trip(sdxl: Any) -> None:
    network = attached(sdxl, Lora(rank=4, alpha=0.1, conv_rank=2), trained=True)
    network.detach()
    other = attached(sdxl, Lora(rank=4, alpha=0.1, conv_rank=2))
    other.detach()
    for dtype in (torch.float32, torch.bfloat16):
        saved = network.tensors(dtype)
        assert {tensor.dtype for tensor in saved.values()} == {dtype}
        other.load(saved)
        assert all(torch.equal(tensor, saved[name]) for name, tensor in other.tensors(dtype).items())
    other.load(network.tensors())
    for name, layer in other.layers.items():
        assert torch.equal(
            layer.up, network.layers[name].up
        )  # 0.1 is no float32: its rounding must not reach the weights


def test_going_on_from_a_file(sd15: Any, tmp_path: Path) -> None:
    network = attached(sd15, Lora(rank=4, alpha=2, conv_rank=2), trained=True)
    network.detach()
    path = written(tmp_path / "a.safetensors", network.tensors())

    same = attached(sd15, Lora(rank=4, alpha=2, start_from=path))
    same.detach()
    assert {*same.loaded.taken} == {*same.layers} and not same.loaded.missing
    assert same.loaded.unused and all("resnets" in name or "samplers" in name for name in same.loaded.unused)

    louder = attached(sd15, Lora(rank=4, alpha=4, conv_rank=2, start_from=path))
    louder.detach()
    for name, layer in louder.layers.items():
        assert torch.allclose(layer.delta(), network.layers[name].delta(), rtol=1e-5, atol=1e-8)

    shaped = attached(sd15, Lora(rank=32, alpha=1, start_from=path, rank_from_file=True))
    shaped.detach()
    saved = network.tensors()
    assert shaped.tensors().keys() == saved.keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in shaped.tensors().items())


def test_going_on_from_a_file_of_the_unet_alone(sd15: Any, tmp_path: Path) -> None:
    network = attached(sd15, rates=UNET_ONLY, trained=True)
    network.detach()
    path = written(tmp_path / "unet.safetensors", network.tensors())
    both = attached(sd15, Lora(rank=4, alpha=2, start_from=path))
    both.detach()
    assert {*both.loaded.taken} == {*network.layers}
    assert all(name.startswith("lora_te_") for name in both.loaded.missing)


def test_names_of_other_tools_are_understood(sdxl: Any, tmp_path: Path) -> None:
    network = attached(sdxl, Lora(rank=4, alpha=4, conv_rank=2, conv_alpha=2), trained=True)
    network.detach()
    kohya, flat, dotted = network.tensors(), {}, {}
    for name, (part, path, _) in network.places.items():
        path = path if part == "unet" else "text_model." + path.removeprefix("text_model.")
        prefix = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}[part]
        for leaf in ("alpha", "lora_down.weight", "lora_up.weight"):
            flat[f"{prefix}_{path.replace('.', '_')}.{leaf}"] = kohya[f"{name}.{leaf}"]
        dotted[f"{part}.{path}.lora_A.weight"] = kohya[f"{name}.lora_down.weight"]
        dotted[f"{part}.{path}.lora_B.weight"] = kohya[f"{name}.lora_up.weight"]  # peft keeps no alpha: it is the rank
    assert flat.keys() != kohya.keys()
    for file, tensors in (("flat", flat), ("dotted", dotted)):
        path = written(tmp_path / f"{file}.safetensors", tensors)
        other = attached(sdxl, Lora(rank=1, start_from=path, rank_from_file=True))
        other.detach()
        assert not other.loaded.unused
        assert all(torch.equal(tensor, kohya[name]) for name, tensor in other.tensors().items())


def test_files_that_do_not_fit_are_refused_with_a_reason(sd15: Any, sdxl: Any, tmp_path: Path) -> None:
    large, small = attached(sdxl, trained=True), attached(sd15, trained=True)
    large.detach()
    small.detach()
    weights = small.tensors()
    wider = {name: torch.cat([t, t], 1) if "lora_down" in name else t for name, t in weights.items()}
    one = next(name for name in weights if "lora_up" in name)
    cases = {
        "a LoRA for sdxl": large.tensors(),
        "was made for another model": wider,
        r"rank 4 .*rank_from_file": None,
        "none of its 1 layers": {"x.lora_down.weight": torch.zeros(4, 8), "x.lora_up.weight": torch.zeros(8, 4)},
        "none of its 0 layers": {"unrelated": torch.zeros(1)},
        "LoHa": {"lora_unet_mid_block_attentions_0_proj_in.hada_w1_a": torch.zeros(4, 4)},
        "no up matrix": {name: tensor for name, tensor in weights.items() if name != one},
    }
    for place, (reason, tensors) in enumerate(cases.items()):
        path = written(tmp_path / f"{place}.safetensors", weights if tensors is None else tensors)
        with pytest.raises(NetworkError, match=reason) as error:
            attached(sd15, Lora(rank=8 if tensors is None else 4, alpha=2, start_from=path))
        assert path in str(error.value)
    assert not any("forward" in vars(module) for module in sd15.unet.modules())
    with pytest.raises(NetworkError, match="1 layers are missing"):
        name = next(iter(small.layers))
        small.load({key: tensor for key, tensor in weights.items() if not key.startswith(f"{name}.")})


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="no such file"):
        read_lora(tmp_path / "missing.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(NetworkError, match="not a readable"):
        read_lora(tmp_path / "torn.safetensors")
