"""Whole trainings against recordings of sd-scripts (48d368fa): same base, same first weights, same draws.

Recorded on a model of SD1.5's structure at a tenth of its width, AdamW at 1e-3, gradients clipped at 1, float32, on two
CPU threads; other processors and thread counts add numbers up in another order, which is what the tolerances are for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.golden.make_base import write_base
from trainer.config import Captions, Lora, Model, Objective, Rates
from trainer.families import load_family
from trainer.networks.lora import LoraNetwork
from trainer.step import Draws, micro_loss

GOLDEN = Path(__file__).parent / "golden"
RUNS = {"base": Lora(rank=8, alpha=4), "locon": Lora(rank=8, alpha=4, conv_rank=4, conv_alpha=1)}
WEIGHTS = {"base": 2e-5, "locon": 5e-4}
"""Allowed distance of the final weights, as a share of how far training moved them."""

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    base = tmp_path_factory.mktemp("base") / "sd15tiny.safetensors"
    write_base("sd15tiny", base, config=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield load_family(Model(base=str(base)), torch.device("cpu"), torch.float32, Captions(), say=lambda line: None)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=RUNS)
def replay(request: pytest.FixtureRequest, family: Any) -> Iterator[tuple[str, list[float], list[float], State, State]]:
    """A run's name, and what our engine made of it: losses, gradient norms, gradients of the first step, weights."""
    name = request.param
    recorded = load_file(GOLDEN / name / "replay.safetensors")
    network = LoraNetwork.attach(family, RUNS[name], Rates(), seed=0)
    network.load(load_file(GOLDEN / name / "init.safetensors"))
    optimizer = torch.optim.AdamW(network.groups(Rates(), 1e-3))
    losses, norms, first = [], [], {}
    for step, told in enumerate(steps(name)):
        latents, noise, timesteps, weights, ids = (
            recorded[f"s{step:03d}.{key}"] for key in ("latents", "noise", "timesteps", "loss_weights", "ids0")
        )
        tokens = family.tokenize([told["caption"]])
        assert torch.equal(tokens.ids[0], ids)
        loss, _ = micro_loss(family, network, Draws(latents, noise, timesteps, weights, tokens), Objective())
        loss.backward()
        first = first or gradients(network)
        norms.append(float(torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    network.detach()
    yield name, losses, norms, first, network.tensors()


def steps(name: str) -> list[dict[str, Any]]:
    return json.loads((GOLDEN / name / "report.json").read_text())["steps"]


def gradients(network: LoraNetwork) -> State:
    weights = {
        f"{name}.lora_{way}.weight": getattr(layer, way)
        for name, layer in network.layers.items()
        for way in ("down", "up")
    }
    return {key: weight.grad.clone() for key, weight in weights.items() if weight.grad is not None}


def distance(ours: State, theirs: State) -> float:
    """Euclidean distance over all tensors of `theirs`."""
    return float(torch.stack([(ours[key] - theirs[key]).double().norm() for key in theirs]).norm())


def test_losses_and_gradient_norms(replay) -> None:
    name, losses, norms, *_ = replay
    assert losses == pytest.approx([step["loss"] for step in steps(name)], rel=1e-6)
    assert norms == pytest.approx([step["grad_norm"] for step in steps(name)], rel=1e-5)


def test_first_gradients(replay) -> None:
    name, _, _, first, _ = replay
    recorded = load_file(GOLDEN / name / "grads_step1.safetensors")
    assert first.keys() == recorded.keys()
    zero = {key: torch.zeros_like(grad) for key, grad in recorded.items()}
    assert distance(first, recorded) <= 5e-6 * distance(zero, recorded)
    for key in recorded:  # up starts at zero, so that down has no gradient yet
        assert bool(first[key].any()) == ("lora_up" in key)


def test_final_weights(replay) -> None:
    name, *_, final = replay
    start, recorded = (load_file(GOLDEN / name / f"{when}.safetensors") for when in ("init", "final"))
    assert final.keys() == recorded.keys()
    assert {key: tensor.shape for key, tensor in final.items()} == {
        key: tensor.shape for key, tensor in recorded.items()
    }
    assert distance(final, recorded) <= WEIGHTS[name] * distance(start, recorded)
