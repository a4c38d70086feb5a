"""How the trained weights move: an optimizer, a schedule of its rate, and a limit on the gradient.

Optimizers are their libraries' own. Adafactor and those that find a rate themselves wait for the GPU at each weight,
AdamW and Lion never do.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from diffusers.optimization import get_piecewise_constant_schedule, get_scheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import optimization as transformers_optimization

from trainer import config
from trainer.errors import InputError
from trainer.kohya.words import pairs
from trainer.networks.base import Network
from trainer.optimizer_kinds import KINDS
from trainer.plan import decay_steps, warmup_steps
from trainer.tree import did_you_mean

Group = dict[str, Any]
"""Parameters that learn at one rate: {"params": list, "lr": float or None for Adafactor's own, "name": str}."""


class OptimizerError(InputError):
    """An optimizer that cannot be had, or that cannot do what the rates ask."""


# The optimizer


def build(optimizer: config.Optimizer, groups: list[Group]) -> torch.optim.Optimizer:
    """The optimizer over groups of parameters, each at its own rate; raises OptimizerError before anything is trained.

    AdamW is the fused kernel of torch, on the CPU too, where it is four times as fast as the plain one and may differ
    from it in the last bit.
    """
    kind, options = KINDS[optimizer.type], arguments(optimizer)
    path = f"pytorch_optimizer.{optimizer.name}" if isinstance(optimizer, config.Library) else kind.path
    if any(weight.dtype == torch.float16 for group in groups for weight in group["params"]):
        if kind.one_rate or optimizer.type == "prodigyplus":
            raise OptimizerError(
                f"{kind.name}'s distances vanish in fp16: set train.full to false, or train.precision to bf16"
            )
        if optimizer.type == "adamw":  # a second moment kept in fp16 would vanish
            path, _ = "bitsandbytes.optim.adamw.AdamW", options.pop("fused")
    make = found(optimizer, path)
    with contextlib.redirect_stdout(sys.stderr):  # some print how weights decay, and stdout may be a --json report
        made = make(groups, **options)
    if hasattr(made, "train"):
        made.train()
    return made


def arguments(optimizer: config.Optimizer) -> dict[str, Any]:
    """The options of an optimizer by its library's names for them, and what is no option here."""
    kind = KINDS[optimizer.type]
    if isinstance(optimizer, config.Library):
        return {"lr": optimizer.lr, **given(optimizer)}
    options = {kind.names.get(name, name): value for name, value in optimizer if name != "type"}
    if "growth_rate" in options:
        options["growth_rate"] = options["growth_rate"] or math.inf
    if isinstance(optimizer, config.Adafactor):
        options["relative_step"] = optimizer.lr is None
    return {**options, **kind.fixed}


def given(optimizer: config.Library) -> dict[str, Any]:
    """`optimizer.args` as values by name; OptimizerError for one that the optimizer does not take."""
    options = pairs(optimizer.args)
    own = inspect.signature(found(optimizer, f"pytorch_optimizer.{optimizer.name}")).parameters
    names = [name for name in own if name not in ("self", "params", "lr", "kwargs")]
    for name in options:
        if name not in names:
            raise OptimizerError(
                f"optimizer.args: {name} is no argument of {optimizer.name}{did_you_mean(name, names)}; there are"
                f" {', '.join(names)}"
            )
    return options


def found(optimizer: config.Optimizer, path: str) -> Any:
    """The class at a path, imported only now: libraries of optimizers take a second."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, OSError, RuntimeError) as error:  # a missing package, or one whose library does not load here
        package = KINDS[optimizer.type].install
        raise OptimizerError(
            f"optimizer {optimizer.type} needs the package {package}, which does not load ({error}):"
            f" `pip install {package}`, or choose adamw"
        ) from error


def try_out(optimizer: config.Optimizer, device: torch.device) -> None:
    """Makes the optimizer for a single number: what it refuses is refused before a model is loaded."""
    number = nn.Parameter(torch.zeros(1, device=device))
    try:
        build(optimizer, [{"params": [number], "lr": optimizer.lr, "name": "number"}])
    except (TypeError, ValueError, AssertionError, LookupError) as error:
        raise OptimizerError(f"optimizer {optimizer.type} does not take its options ({error}): change them") from error


@contextlib.contextmanager
def averaged(optimizer: Any, network: Network) -> Iterator[None]:
    """What a Schedule-Free optimizer has averaged, while inside: that is saved, shown and measured. Others stay.

    Afterwards the trained weights are put back to the bit; the library's own way back would round them, so that a
    training would depend on how often it was looked at.
    """
    if not hasattr(optimizer, "eval"):
        yield
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    trained = [weight.detach().clone() for weight in weights]
    optimizer.eval()
    network.ready()
    try:
        yield
    finally:
        optimizer.train()
        with torch.no_grad():
            for weight, value in zip(weights, trained, strict=True):
                weight.copy_(value)
        network.ready()


class Scaler(torch.amp.GradScaler):
    """Scales fp16 losses so that small gradients survive; with `train.full` the gradients are fp16 themselves."""

    def _unscale_grads_(
        self, optimizer: torch.optim.Optimizer, inv_scale: Tensor, found_inf: Tensor, allow_fp16: bool
    ) -> dict[torch.device, Tensor]:
        return super()._unscale_grads_(optimizer, inv_scale, found_inf, True)


def load(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Goes on from a `state_dict()`, exactly.

    Torch casts a state to its weight's precision while loading, which would cost an Adafactor that trains bf16 weights
    its fp32 state; the numbers are put back as they were. They lie in memory as their weight does, whose order the
    fused kernels take for theirs.
    """
    optimizer.load_state_dict(dict(state))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, saved in state["state"].items():
        weight = weights[int(index)]
        for name, value in saved.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                optimizer.state[weight][name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
            elif isinstance(value, Tensor) and value.dtype != optimizer.state[weight][name].dtype:
                optimizer.state[weight][name] = value.to(weight.device, copy=True)


def clip(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scales all gradients together to a norm of at most `limit`, and gives the norm they had; None only measures."""
    parameters = list(parameters)
    if limit is None:
        return nn.utils.get_total_norm([weight.grad for weight in parameters if weight.grad is not None])
    return nn.utils.clip_grad_norm_(parameters, limit)


# The schedule of its rate


def make_schedule(schedule: config.Schedule, optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """The schedule over `steps` optimizer steps, as in diffusers and transformers.

    With a warm-up the first step has a rate of 0. Call `.step()` after each one, while the gradients are still there:
    Adafactor's looks at them.
    """
    warmup = warmup_steps(schedule, steps)
    match schedule:
        case config.AdafactorSchedule():
            return RelativeSteps(optimizer)
        case config.PiecewiseConstant():
            return get_piecewise_constant_schedule(optimizer, schedule.rules)
        case config.Rex():
            return LambdaLR(optimizer, lambda step: _rex(step, warmup, steps))
        case config.CosineAnnealing():
            wave, low = math.pi / schedule.period, schedule.lowest
            return LambdaLR(optimizer, lambda step: low + (1 - low) * (1 + math.cos(wave * step)) / 2)
        case config.InverseSqrt():
            return transformers_optimization.get_inverse_sqrt_schedule(optimizer, warmup, schedule.timescale)
        case config.CosineWithMinLr():
            return transformers_optimization.get_cosine_with_min_lr_schedule_with_warmup(
                optimizer, warmup, steps, schedule.cycles / 2, min_lr_rate=schedule.lowest
            )
        case config.WarmupStableDecay():
            decay = decay_steps(schedule, steps)
            return transformers_optimization.get_wsd_schedule(
                optimizer, warmup, decay, num_stable_steps=steps - warmup - decay,
                min_lr_ratio=schedule.lowest, num_cycles=schedule.cycles / 2,
            )  # fmt: skip
    options = schedule.model_dump(exclude={"type", "warmup"})
    name = schedule.type
    if name == "constant" and warmup:
        name = "constant_with_warmup"
    if isinstance(schedule, config.CosineWithRestarts):
        options["num_cycles"] = options.pop("cycles")
    try:
        return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps, **options)
    except ValueError as error:  # polynomial: its end, 1e-7, must lie below the rate
        raise OptimizerError(
            f"schedule {name} does not fit optimizer.lr {optimizer.defaults['lr']}: {error}"
        ) from error


def _rex(step: int, warmup: int, steps: int) -> float:
    """Share of the rate after `step` steps (Chen et al. 2021, arXiv 2107.04197: (1 - z) / (1/2 + (1 - z) / 2))."""
    if step < warmup:
        return step / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return (1 - done) / (1 - done / 2)


class RelativeSteps(transformers_optimization.AdafactorSchedule):
    """Shows the rates that Adafactor finds, as plain numbers, so that they can be reported and kept in a state."""

    def get_lr(self) -> list[float]:
        """The rate of each group's first weight; 0 before the first step. A fused step leaves no gradients to ask."""
        optimizer: Any = self.optimizer
        firsts = [(group, optimizer.state.get(group["params"][0], {})) for group in optimizer.param_groups]
        return [float(optimizer._get_lr(group, state)) if "step" in state else 0.0 for group, state in firsts]
