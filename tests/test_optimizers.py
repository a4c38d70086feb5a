"""Optimizers and schedules: equal to their libraries and to formulas written the long way; states go on to the bit."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import Any, get_args

import diffusers.optimization
import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers.optimization import Adafactor as ReferenceAdafactor

from trainer import config
from trainer.checkpoint import pack, unpack
from trainer.config import AdamW, Constant, Cosine, CosineWithRestarts, Linear, Polynomial
from trainer.optimizers import OptimizerError, build, clip, load, make_schedule

OPTIMIZERS: tuple[type[Any], ...] = (AdamW, config.AdamW8bit, config.Lion, config.Adafactor, config.Prodigy)
SCHEDULES: tuple[type[Any], ...] = get_args(get_args(config.Schedule)[0])
STEPS = 50
SHAPES = ((16, 320), (320, 16), (8, 24, 1, 1))  # 5120 numbers are kept in 8 bits, 192 are not


class Problem:
    """Weights that are drawn to a target by noisy gradients; the same for everyone who asks."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.noise = torch.Generator().manual_seed(1)
        start = torch.Generator().manual_seed(2)
        self.weights = [nn.Parameter(torch.randn(shape, generator=start).mul_(0.1).to(dtype)) for shape in SHAPES]
        self.targets = [torch.randn(shape, generator=start).to(dtype) for shape in SHAPES]

    def groups(self, *rates: float | None) -> list[dict[str, Any]]:
        halves = (self.weights[:2], self.weights[2:])
        return [
            {"params": half, "lr": rate, "name": str(i)}
            for i, (half, rate) in enumerate(zip(halves, rates, strict=True))
        ]

    def gradients(self) -> None:
        for weight, target in zip(self.weights, self.targets, strict=True):
            noise = torch.randn(weight.shape, generator=self.noise)
            weight.grad = (0.01 * (weight.data - target + 0.5 * noise)).to(weight.dtype)

    def train(self, optimizer: torch.optim.Optimizer, schedule: Any = None, steps: int = STEPS) -> Problem:
        for _ in range(steps):
            self.gradients()
            optimizer.step()
            if schedule:
                schedule.step()
            optimizer.zero_grad()
        return self

    def values(self) -> Tensor:
        return torch.cat([weight.detach().flatten() for weight in self.weights])


def trained(options: config.Optimizer, schedule: config.Schedule | None = None, steps: int = STEPS) -> Tensor:
    problem = Problem()
    optimizer = build(options, problem.groups(options.lr, options.lr))
    return problem.train(optimizer, schedule and make_schedule(schedule, optimizer, steps), steps).values()


# Against the libraries, and by hand


def reference(options: config.Optimizer, weights: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer as someone would write it who has the library's own page open."""
    import bitsandbytes
    import prodigyopt
    import pytorch_optimizer

    match options.type:
        case "adamw":
            return torch.optim.AdamW(weights, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
        case "adamw8bit":
            return bitsandbytes.optim.AdamW8bit(weights, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        case "lion":
            return pytorch_optimizer.Lion(weights, lr=2e-5, betas=(0.9, 0.99), weight_decay=0.0)
        case "adafactor":
            return ReferenceAdafactor(weights, lr=None, relative_step=True, scale_parameter=True, warmup_init=False)
        case "prodigy":
            return prodigyopt.Prodigy(weights, lr=1.0, betas=(0.9, 0.999), weight_decay=0.0)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_50_steps_are_those_of_the_library_exactly(kind: type[Any]) -> None:
    problem = Problem()
    problem.train(reference(kind(), problem.weights))
    assert torch.equal(trained(kind()), problem.values())
    assert not torch.equal(trained(kind()), Problem().values())


def long_adamw(w: Tensor, grad: Tensor, state: dict[str, Any], t: int) -> Tensor:
    w = w * (1 - 1e-2 * 0.1)
    state["m"] = 0.8 * state["m"] + 0.2 * grad
    state["v"] = 0.95 * state["v"] + 0.05 * grad**2
    return w - 1e-2 * (state["m"] / (1 - 0.8**t)) / ((state["v"] / (1 - 0.95**t)).sqrt() + 1e-6)


def long_lion(w: Tensor, grad: Tensor, state: dict[str, Any], t: int) -> Tensor:
    step = (0.8 * state["m"] + 0.2 * grad).sign()
    state["m"] = 0.95 * state["m"] + 0.05 * grad
    return w - 1e-2 * (step + 0.1 * w)


def long_adafactor(w: Tensor, grad: Tensor, state: dict[str, Any], t: int) -> Tensor:
    def rms(x: Tensor) -> Tensor:
        return (x**2).mean().sqrt()

    decay = 1 - t**-0.8
    rate = min(1e-2, 1 / math.sqrt(t)) * max(1e-3, float(rms(w)))
    state["r"] = decay * state["r"] + (1 - decay) * (grad**2 + 1e-30).mean(-1)
    state["c"] = decay * state["c"] + (1 - decay) * (grad**2 + 1e-30).mean(-2)
    second = (state["r"] / state["r"].mean(-1, keepdim=True)).unsqueeze(-1) * state["c"].unsqueeze(-2)
    update = grad / second.sqrt()
    return w - rate * update / max(1, float(rms(update)))


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        (AdamW(lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1), long_adamw),
        (config.Lion(lr=1e-2, betas=(0.8, 0.95), weight_decay=0.1), long_lion),
        (config.Adafactor(), long_adafactor),
    ],
)
def test_50_steps_are_those_of_the_paper(options: config.Optimizer, by_hand: Callable[..., Tensor]) -> None:
    problem = Problem()
    weights = [weight.detach().double() for weight in problem.weights]
    zeros: list[dict[str, Any]] = [{"m": 0.0, "v": 0.0, "r": 0.0, "c": 0.0} for _ in weights]
    for t in range(1, STEPS + 1):
        problem.gradients()
        grads = [weight.grad.double() for weight in problem.weights if weight.grad is not None]
        weights = [by_hand(w, g, s, t) for w, g, s in zip(weights, grads, zeros, strict=True)]
        for weight, value in zip(problem.weights, weights, strict=True):
            weight.data.copy_(value)
    ours = Problem()
    ours.train(build(options, ours.groups(options.lr, options.lr)))
    torch.testing.assert_close(ours.values(), problem.values(), atol=2e-4, rtol=1e-3)
    assert (ours.values() - problem.values()).abs().mean() < 1e-5


# Options


OTHER: dict[str, dict[str, Any]] = {
    "adamw": {"lr": 2e-4, "betas": (0.8, 0.99), "eps": 1e-2, "weight_decay": 0.5},
    "adamw8bit": {"lr": 2e-4, "betas": (0.8, 0.99), "eps": 1e-2, "weight_decay": 0.5},
    "lion": {"lr": 1e-4, "betas": (0.8, 0.9), "weight_decay": 0.5},
    "adafactor": {
        **{"lr": 1e-3, "eps": (1e-2, 1e-3), "clip_threshold": 0.5, "decay_rate": -0.4, "beta1": 0.9},
        **{"weight_decay": 0.5, "scale_parameter": False, "warmup_init": True},
    },
    "prodigy": {
        **{"lr": 0.5, "betas": (0.8, 0.99), "beta3": 0.9, "eps": 1e-2, "weight_decay": 0.5, "d0": 1e-5, "d_coef": 2.0},
        **{"growth_rate": 1.02, "bias_correction": True, "safeguard_warmup": True},
    },
}


@pytest.mark.parametrize(
    ("kind", "field"), [(kind, field) for kind in OPTIMIZERS for field in kind.model_fields if field != "type"]
)
def test_every_option_changes_the_result(kind: type[Any], field: str) -> None:
    base = {"lr": 0.5} if field == "safeguard_warmup" else {}  # it matters where the rate is not 1
    value = OTHER[kind().type][field]
    assert value != getattr(kind(), field)
    assert not torch.equal(trained(kind(**base)), trained(kind(**{**base, field: value})))


@pytest.mark.parametrize("second", [0, 1])
def test_every_number_of_a_pair_changes_the_result(second: int) -> None:
    for options in (AdamW(), config.Lion(), config.Prodigy()):
        betas = tuple(value * (0.9 if place == second else 1) for place, value in enumerate(options.betas))
        assert not torch.equal(trained(options), trained(options.model_copy(update={"betas": betas})))
    eps = ((1e-2, 1e-3), (1e-30, 0.5))[second]
    assert not torch.equal(trained(config.Adafactor()), trained(config.Adafactor(eps=eps)))


@pytest.mark.parametrize("kind", [kind for kind in OPTIMIZERS if kind is not config.Prodigy])
def test_groups_learn_at_their_own_rates(kind: type[Any]) -> None:
    options = kind(lr=1e-3)
    both, first = Problem(), Problem()
    both.train(build(options, both.groups(1e-3, 2e-3)))
    first.train(build(options, first.groups(1e-3, 1e-3)))
    assert torch.equal(both.weights[0], first.weights[0])
    assert not torch.equal(both.weights[2], first.weights[2])


def test_adamw8bit_says_so_when_bitsandbytes_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim.adamw", None)
    with pytest.raises(OptimizerError, match=r"pip install bitsandbytes.*choose adamw"):
        build(config.AdamW8bit(), Problem().groups(1e-4, 1e-4))


def test_optimizers_keep_stdout_clean(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in OPTIMIZERS:
        options = kind(weight_decay=0.1)
        build(options, Problem().groups(options.lr, options.lr))
    assert capsys.readouterr().out == ""


# States


def kept(state: Any) -> Any:
    """A state as it comes back from a run folder: tensors aside, the rest as strict JSON."""
    tensors, facts = pack(state, "state")
    return unpack(
        {name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(facts, allow_nan=False))
    )


CASES = [
    *((kind(), Cosine(warmup=3)) for kind in OPTIMIZERS if kind is not config.Adafactor),
    (config.Adafactor(), config.AdafactorSchedule()),
    (config.Adafactor(warmup_init=True, beta1=0.9), config.AdafactorSchedule()),
    (config.Adafactor(lr=1e-3, beta1=0.9), Polynomial(warmup="10%", power=2)),
    (config.Prodigy(weight_decay=0.1, growth_rate=1.02, safeguard_warmup=True), CosineWithRestarts(cycles=2)),
    (AdamW(), config.WarmupStableDecay(warmup=3, decay=25, lowest=0.2)),
    (AdamW(), config.PiecewiseConstant(rules="1:25,0.1")),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("options", "shape"), CASES, ids=lambda case: case.type)
def test_a_state_goes_on_bit_for_bit(options: config.Optimizer, shape: config.Schedule, dtype: torch.dtype) -> None:
    """State dicts hold tensors and strict JSON, and nothing of what follows depends on having stopped."""

    def fresh() -> tuple[Problem, torch.optim.Optimizer, Any]:
        problem = Problem(dtype)
        optimizer = build(options, problem.groups(options.lr, options.lr))
        return problem, optimizer, make_schedule(shape, optimizer, STEPS)

    through, optimizer, schedule = fresh()
    through.train(optimizer, schedule, 20)
    saved = kept({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()})
    weights, noise = [weight.detach().clone() for weight in through.weights], through.noise.get_state()
    through.train(optimizer, schedule, 30)

    again, optimizer_2, schedule_2 = fresh()
    for weight, value in zip(again.weights, weights, strict=True):
        weight.data.copy_(value)
    again.noise.set_state(noise)
    load(optimizer_2, saved["optimizer"])
    schedule_2.load_state_dict(saved["schedule"])
    again.train(optimizer_2, schedule_2, 30)
    assert torch.equal(through.values(), again.values())
    assert schedule.get_last_lr() == schedule_2.get_last_lr()
    assert [group["name"] for group in optimizer_2.param_groups] == ["0", "1"]


def test_adafactor_s_state_beside_bf16_weights_stays_fp32() -> None:
    """Torch's own load rounds it, which would move every later step a little."""
    problem = Problem(torch.bfloat16)
    optimizer = build(config.Adafactor(), problem.groups(None, None))
    problem.train(optimizer, steps=3)
    saved = optimizer.state_dict()
    again = build(config.Adafactor(), problem.groups(None, None))
    load(again, saved)
    for index, weight in enumerate(problem.weights):
        mine = again.state[weight]["exp_avg_sq_row"]
        assert mine.dtype == torch.float32 and torch.equal(mine, saved["state"][index]["exp_avg_sq_row"])


# Schedules


def rates(schedule: config.Schedule, steps: int) -> list[list[float]]:
    optimizer = build(AdamW(lr=1e-3), Problem().groups(1e-3, 5e-4))
    ours = make_schedule(schedule, optimizer, steps)
    seen = []
    for _ in range(steps):
        seen.append(ours.get_last_lr())
        optimizer.step()
        ours.step()
    return [*seen, ours.get_last_lr()]


def by_formula(schedule: Any, warmup: int, step: int, steps: int) -> float:
    if step < warmup:
        return step / warmup
    done = (step - warmup) / max(1, steps - warmup)
    match schedule.type:
        case "linear":
            return 1 - done
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "cosine_with_restarts":
            return 0.0 if done >= 1 else 0.5 * (1 + math.cos(math.pi * (schedule.cycles * done % 1)))
        case "polynomial":
            return 1e-4 + (1 - 1e-4) * (1 - done) ** schedule.power
        case "cosine_with_min_lr":
            return 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * done))
        case "rex":
            return (1 - done) / (0.5 + 0.5 * (1 - done))
        case "inverse_sqrt":
            return math.sqrt(50 / (step - warmup + 50))
        case "warmup_stable_decay":
            return 1.0 if step < 48 else 0.5 * (1 + math.cos(math.pi * (step - 48) / 12))
    return 1.0


@pytest.mark.parametrize("warmup", [0, 7, "10%"])
@pytest.mark.parametrize(
    "schedule",
    [
        *(Constant(), Linear(), Cosine(), CosineWithRestarts(cycles=3), Polynomial(power=2)),
        *(config.CosineWithMinLr(lowest=0.2), config.InverseSqrt(timescale=50), config.WarmupStableDecay(decay="20%")),
        config.Rex(),
    ],
    ids=lambda s: s.type,
)
def test_rates_are_those_of_the_formula_at_every_step(schedule: Any, warmup: int | str) -> None:
    schedule, steps = schedule.model_copy(update={"warmup": warmup}), 60
    for step, seen in enumerate(rates(schedule, steps)):
        factor = by_formula(schedule, 6 if warmup == "10%" else int(warmup), step, steps)
        assert seen == pytest.approx([1e-3 * factor, 5e-4 * factor], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("library", [diffusers.optimization.get_scheduler, transformers.get_scheduler])
@pytest.mark.parametrize(
    ("schedule", "name", "extra"),
    [
        (Constant(), "constant", {}),
        (Constant(warmup=7), "constant_with_warmup", {}),
        (Linear(warmup=7), "linear", {}),
        (Cosine(warmup=7), "cosine", {}),
        (CosineWithRestarts(warmup=7, cycles=3), "cosine_with_restarts", {"num_cycles": 3}),
        (Polynomial(warmup=7, power=2), "polynomial", {"power": 2}),
    ],
)
def test_rates_are_those_of_both_libraries_exactly(
    library: Any, schedule: Any, name: str, extra: dict[str, Any]
) -> None:
    optimizer = build(AdamW(lr=1e-3), Problem().groups(1e-3, 5e-4))
    special = extra if library is diffusers.optimization.get_scheduler else {"scheduler_specific_kwargs": extra}
    theirs = library(name, optimizer, num_warmup_steps=7, num_training_steps=60, **special)
    for seen in rates(schedule, 60):
        assert seen == theirs.get_last_lr()
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("schedule", "extra"),
    [
        (config.CosineWithMinLr(warmup=7, lowest=0.2, cycles=3), {"min_lr_rate": 0.2, "num_cycles": 1.5}),
        (config.InverseSqrt(warmup=7), {}),
        (config.InverseSqrt(warmup=7, timescale=20), {"timescale": 20}),
        (config.WarmupStableDecay(warmup=7, decay=12), {"num_decay_steps": 12}),
        (config.WarmupStableDecay(warmup=7, decay="50%", lowest=0.1, cycles=2),
         {"num_decay_steps": 30, "min_lr_ratio": 0.1, "num_cycles": 1}),
        (config.WarmupStableDecay(warmup=7, decay=100), {"num_decay_steps": 53}),
    ],
)  # fmt: skip
def test_rates_are_those_of_transformers_exactly(schedule: Any, extra: dict[str, Any]) -> None:
    optimizer = build(AdamW(lr=1e-3), Problem().groups(1e-3, 5e-4))
    theirs = transformers.get_scheduler(schedule.type, optimizer, 7, 60, scheduler_specific_kwargs=extra)
    for seen in rates(schedule, 60):
        assert seen == theirs.get_last_lr()
        optimizer.step()
        theirs.step()


def test_a_rate_that_changes_at_given_steps() -> None:
    seen = [rate for rate, _ in rates(config.PiecewiseConstant(rules="1:2,0.5:4,1e-1"), 6)]
    assert seen == [1e-3, 1e-3, 5e-4, 5e-4, 1e-4, 1e-4, 1e-4]


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if kind is not config.AdafactorSchedule])
def test_every_option_of_a_schedule_changes_the_result(kind: type[Any]) -> None:
    other = {"warmup": "20%", "cycles": 3, "power": 2.0, "lowest": 0.5, "timescale": 5, "decay": 30, "rules": "1:3,0.5",
             "period": 30}  # fmt: skip
    for field in kind.model_fields.keys() - {"type"}:
        assert not torch.equal(trained(AdamW(), kind()), trained(AdamW(), kind(**{field: other[field]})))


def test_adafactor_shows_the_rates_it_found() -> None:
    problem = Problem()
    optimizer = build(config.Adafactor(), problem.groups(None, None))
    schedule = make_schedule(config.AdafactorSchedule(), optimizer, STEPS)
    assert schedule.get_last_lr() == [0.0, 0.0]
    problem.train(optimizer, schedule, 3)
    sizes = [float(optimizer.state[problem.weights[i]]["RMS"]) for i in (0, 2)]
    assert schedule.get_last_lr() == pytest.approx([0.01 * size for size in sizes])
    assert json.dumps(schedule.state_dict())  # plain numbers, where transformers gives tensors


def test_a_polynomial_that_ends_above_the_rate_says_so() -> None:
    optimizer = build(AdamW(lr=1e-8), Problem().groups(1e-8, 1e-8))
    with pytest.raises(OptimizerError, match=r"polynomial does not fit optimizer\.lr 1e-08"):
        make_schedule(Polynomial(), optimizer, STEPS)


# The limit on the gradient


@pytest.mark.parametrize("limit", [None, 0.01, 1e6])
def test_clipping_scales_all_gradients_together(limit: float | None) -> None:
    problem = Problem()
    problem.gradients()
    problem.weights[1].grad = None
    before = torch.cat([weight.grad.flatten() for weight in problem.weights if weight.grad is not None])
    norm = clip(problem.weights, limit)
    after = torch.cat([weight.grad.flatten() for weight in problem.weights if weight.grad is not None])
    by_hand = float(before.double().norm())
    assert float(norm) == pytest.approx(by_hand, rel=1e-5)
    assert float(after.norm()) == pytest.approx(min(by_hand, limit or math.inf), rel=1e-4)
    torch.testing.assert_close(after / after.norm(), before / before.norm())
