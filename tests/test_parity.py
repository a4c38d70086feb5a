"""A LoRA's numbers against peft, diffusers, finite differences and itself under other settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.tiny import build
from trainer.config import Lora, Objective, Rates, SmoothL1
from trainer.networks.keys import targets
from trainer.networks.layer import LoraLayer
from trainer.networks.lora import LoraNetwork
from trainer.step import Draws, micro_loss

OPTIONS = Lora(rank=4, alpha=2, conv_rank=4, conv_alpha=2)
FAMILIES = ("sd15", "sdxl")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


def trained(family: Any, options: Lora = OPTIONS, full: bool = False) -> LoraNetwork:
    """A network that changes something: its up matrices are filled."""
    network = LoraNetwork.attach(family, options, Rates(), seed=3, full=full)
    with torch.no_grad():
        for place, layer in enumerate(network.layers.values()):
            layer.up.normal_(std=0.05, generator=torch.Generator().manual_seed(place))
    return network


def draws_for(family: Any, batch: int = 2, dtype: torch.dtype = torch.float32) -> Draws:
    generator = torch.Generator().manual_seed(11)
    latents, noise, more = torch.randn(3, batch, 4, 8, 8, generator=generator, dtype=dtype)
    timesteps = torch.tensor([17, 801, 402, 999][:batch])
    text = family.tokenize(["a cat", "zk9 woman, smile", "", "two dogs"][:batch])
    return Draws(latents, noise, timesteps, torch.ones(batch, dtype=dtype), text, perturbation=0.1 * more)


def gradients(network: LoraNetwork, family: Any, draws: Draws, objective: Objective | None = None) -> dict[str, Tensor]:
    network.zero_grad()
    loss, _ = micro_loss(family, network, draws, objective or Objective())
    loss.backward()
    weights = {f"{name}.{way}": getattr(layer, way) for name, layer in network.layers.items() for way in ("down", "up")}
    grads = {name: weight.grad.clone() for name, weight in weights.items() if weight.grad is not None}
    return {**grads, "loss": loss.detach()}


# Against other implementations


def test_loss_and_gradients_are_peft_s(family: Any) -> None:
    network, draws = trained(family), draws_for(family)
    ours = gradients(network, family, draws)
    network.detach()

    theirs: dict[str, tuple[nn.Parameter, nn.Parameter]] = {}
    for part, model in family.parts.items():
        paths = [path for path, _ in targets(model, conv=True)]
        peft.inject_adapter_in_model(peft.LoraConfig(r=4, lora_alpha=2, target_modules=paths), model)
        modules = dict(model.named_modules())
        for name, place in network.places.items():
            if place.part == part:
                layer = modules[place.path]
                theirs[name] = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                with torch.no_grad():
                    for weight, own in zip(
                        theirs[name], (network.layers[name].down, network.layers[name].up), strict=True
                    ):
                        weight.copy_(own)
    loss, _ = micro_loss(family, network, draws, Objective())  # our layers are detached, and peft's in their place
    loss.backward()

    assert float(loss.detach()) == pytest.approx(float(ours["loss"]), rel=1e-6)
    pairs = [
        (ours[f"{name}.{way}"], weight.grad)
        for name, both in theirs.items()
        for way, weight in zip(("down", "up"), both, strict=True)
        if weight.grad is not None
    ]
    assert len(pairs) == len(ours) - 1
    scale = torch.stack([grad.norm() for _, grad in pairs]).norm()
    assert torch.stack([(a - b).norm() for a, b in pairs]).norm() <= 2e-6 * scale


def test_what_is_kept_is_compared_with_the_model_alone(family: Any) -> None:
    """The long way: the model's own prediction from before there was a network, then the error against it."""
    draws = draws_for(family)
    noisy = family.noisy(draws.latents, draws.noise + draws.perturbation, draws.timesteps)
    with torch.no_grad():
        alone = family.predict(noisy, draws.timesteps, family.encode_tokens(draws.text), draws.sizes)
    network = trained(family)
    pred = family.predict(noisy, draws.timesteps, family.encode_tokens(draws.text), draws.sizes)
    _, plain = micro_loss(family, network, draws, Objective())
    loss, losses = micro_loss(family, network, replace(draws, kept=torch.tensor([True, False])), Objective())
    assert losses[1] == plain[1]
    assert losses[0].item() == pytest.approx((pred - alone)[0].square().mean().item(), rel=1e-6)
    loss.backward()
    assert all(layer.up.grad is not None for name, layer in network.layers.items() if "unet" in name)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_diffusers_loads_the_file_and_draws_the_same(
    name: str, dtype: torch.dtype, tmp_path: Path, caplog: Any
) -> None:
    """Through the pipeline, text encoders and convolutions included, with ranks and alphas that differ."""
    ours = build(name)
    options = Lora(rank=4, alpha=1, conv_rank=2, conv_alpha=3)
    network = trained(ours, options)
    saved = network.tensors(dtype)
    network.load(saved)  # as rounded by the file
    save_file(saved, tmp_path / "zk9.safetensors")
    theirs = build(name)
    pipeline = theirs.pipeline(DDIMScheduler(steps_offset=1, clip_sample=False))
    pipeline.load_lora_weights(tmp_path / "zk9.safetensors")
    assert not [record for record in caplog.records if "key" in record.message.lower()]
    for part, model in theirs.parts.items():
        here = sum(place.part == part for place in network.places.values())
        assert sum(hasattr(module, "lora_A") for module in model.modules()) == here

    draws = draws_for(ours)
    with torch.no_grad():
        mine = ours.encode_tokens(draws.text), theirs.encode_tokens(draws.text)
        for key in mine[0]:
            assert torch.allclose(mine[0][key], mine[1][key], rtol=0, atol=1e-6 * float(mine[0][key].abs().max()))
        a, b = (family.predict(draws.latents, draws.timesteps, mine[0]) for family in (ours, theirs))
        network.detach()
        base = ours.predict(draws.latents, draws.timesteps, mine[0])
    assert torch.allclose(a, b, rtol=0, atol=1e-6 * float(a.abs().max()))
    assert (a - base).norm() > 1e-3 * base.norm()  # and it is not nothing


# Against the definition of a gradient


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(5, 7), (2, 3, 5)),
        (nn.Conv2d(5, 7, 3, padding=1, stride=2), (2, 5, 6, 6)),
        (nn.Conv2d(5, 7, 1), (2, 5, 3, 3)),
    ],
    ids=["linear", "conv3", "conv1"],
)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradcheck(module: nn.Linear | nn.Conv2d, shape: tuple[int, ...], dropout: float) -> None:
    layer = LoraLayer(module.double().requires_grad_(False), 2, 3.0, torch.Generator().manual_seed(0), full=True)
    layer.neuron_dropout = layer.rank_dropout = dropout
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    up = torch.randn_like(layer.up, requires_grad=True)

    def run(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        layer.weights = down, up
        return layer(x)

    inputs = x, layer.down.detach().requires_grad_(), up
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_gradients_against_finite_differences() -> None:
    """Twenty weights of the whole model, loss and all, in float64."""
    family = build("sd15")
    for part in family.parts.values():
        part.double()
    family.alphas_cumprod = family.alphas_cumprod.double()
    network, draws = trained(family, full=True), draws_for(family, dtype=torch.float64)

    def loss() -> Tensor:
        cond = family.encode_tokens(draws.text)
        noisy = family.noisy(draws.latents, draws.noise + draws.perturbation, draws.timesteps)
        return (family.predict(noisy, draws.timesteps, cond) - draws.noise).square().mean()

    loss().backward()
    weights = list(network.parameters())
    steps = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _ in range(20):
            weight = weights[int(torch.randint(len(weights), (), generator=steps))]
            place = int(torch.randint(weight.numel(), (), generator=steps))
            flat, exact = weight.view(-1), float(weight.grad.view(-1)[place])
            start, around = float(flat[place]), []
            for move in (1e-4, -1e-4):
                flat[place] = start + move
                around.append(float(loss()))
            flat[place] = start
            assert (around[0] - around[1]) / 2e-4 == pytest.approx(exact, rel=1e-6, abs=1e-11)


# Against itself


def test_checkpointing_changes_nothing_dropouts_included(family: Any) -> None:
    options = Lora(rank=4, conv_rank=2, dropout=0.2, rank_dropout=0.2, module_dropout=0.2)
    network, draws = trained(family, options), draws_for(family)
    network.draw(1)
    plain = gradients(network, family, draws)
    again = build(family.name)
    network.detach()
    network = trained(again, options)
    again.enable_checkpointing()
    network.draw(1)
    kept = gradients(network, again, draws)
    assert plain.keys() == kept.keys()
    assert all(torch.equal(plain[name], kept[name]) for name in plain)


def test_small_batches_add_up_to_a_large_one() -> None:
    family = build("sd15")
    for part in family.parts.values():
        part.double()
    family.alphas_cumprod = family.alphas_cumprod.double()
    network, draws = trained(family, full=True), draws_for(family, batch=4, dtype=torch.float64)

    def sums(size: int) -> list[Tensor]:
        network.zero_grad()
        for start in range(0, 4, size):
            part = slice(start, start + size)
            cond = family.encode_tokens(draws.text._replace(ids=(draws.text.ids[0][part],)))
            noisy = family.noisy(draws.latents[part], draws.noise[part], draws.timesteps[part])
            error = family.predict(noisy, draws.timesteps[part], cond) - draws.noise[part]
            (error.square().mean(dim=(1, 2, 3)).mean() * size / 4).backward()
        return [weight.grad.clone() for weight in network.parameters()]

    whole, halves, ones = sums(4), sums(2), sums(1)
    scale = torch.stack([grad.norm() for grad in whole]).norm()
    for other in (halves, ones):
        assert torch.stack([(a - b).norm() for a, b in zip(whole, other, strict=True)]).norm() <= 1e-12 * scale


def test_only_the_network_learns(family: Any) -> None:
    before = {part: {name: t.clone() for name, t in model.state_dict().items()} for part, model in family.parts.items()}
    network = trained(family)
    optimizer = torch.optim.AdamW(network.groups(Rates(), 1e-2))
    for _ in range(2):
        gradients(network, family, draws_for(family))
        optimizer.step()
    network.detach()
    for part, model in family.parts.items():
        assert all(weight.grad is None and not weight.requires_grad for weight in model.parameters())
        assert all(torch.equal(tensor, before[part][name]) for name, tensor in model.state_dict().items())
    idle = {name for name, layer in network.layers.items() if layer.down.grad is None}
    # SDXL reads its text encoders before their last layer; of the second it reads the pooled vector too.
    assert idle == {name for name in network.layers if name.startswith("lora_te1_text_model_encoder_layers_1")}


# The step can be captured


@pytest.mark.parametrize(("name", "dtype"), [("sd15", torch.float32), ("sdxl", torch.bfloat16)])
def test_a_step_waits_for_no_number(name: str, dtype: torch.dtype) -> None:
    """Tensors on the meta device hold no numbers: whatever asks for one, `.item()` or a branch, raises."""
    family = build(name)
    family.unet.to(dtype)
    for part in family.parts.values():
        part.to("meta")
    family.alphas_cumprod = family.alphas_cumprod.to("meta")
    options = Lora(rank=4, conv_rank=2, dropout=0.1, rank_dropout=0.1, module_dropout=0.1, max_norm=1)
    network = LoraNetwork.attach(family, options, Rates(), seed=3)
    real = draws_for(family)
    draws = Draws(**{name: value.to("meta") for name, value in vars(real).items() if value is not None})
    objective = Objective(min_snr_gamma=5, debiased=True, v_like=0.5, loss=SmoothL1())
    network.draw(1)
    loss, each = micro_loss(family, network, draws, objective)
    loss.backward()
    norms = network.limit_norms()
    assert each.shape == (2,) and norms is not None
    with pytest.raises(RuntimeError, match="meta"):
        loss.item()
