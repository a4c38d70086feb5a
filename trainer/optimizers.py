"""How the trained weights move: an optimizer, a schedule of its rate, and a limit on the gradient.

Optimizers are their libraries' own. Adafactor and Prodigy wait for the GPU at each weight, AdamW and Lion never do.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from diffusers.optimization import get_piecewise_constant_schedule, get_scheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import optimization as transformers_optimization

from trainer import config
from trainer.errors import InputError
from trainer.plan import decay_steps, warmup_steps

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
    options = optimizer.model_dump(exclude={"type"})
    match optimizer:
        case config.AdamW8bit():
            return _bitsandbytes().optim.AdamW8bit(groups, **options)  # tensors below 4096 numbers stay in 32 bits
        case config.AdamW() if any(weight.dtype == torch.float16 for group in groups for weight in group["params"]):
            return _bitsandbytes().optim.AdamW(groups, **options)  # a second moment kept in fp16 would vanish
        case config.AdamW():
            return torch.optim.AdamW(groups, **options, fused=True)
        case config.Lion():
            from pytorch_optimizer import Lion  # here, because it takes a second: 128 optimizers come with it

            return Lion(groups, **options)
        case config.Adafactor():
            return transformers_optimization.Adafactor(groups, **options, relative_step=optimizer.lr is None)
        case config.Prodigy() if any(weight.dtype == torch.float16 for group in groups for weight in group["params"]):
            raise OptimizerError(
                "Prodigy's distances vanish in fp16: set train.full to false, or train.precision to bf16"
            )
        case config.Prodigy():
            return _prodigy(groups, options)


class Scaler(torch.amp.GradScaler):
    """Scales fp16 losses so that small gradients survive; with `train.full` the gradients are fp16 themselves."""

    def _unscale_grads_(
        self, optimizer: torch.optim.Optimizer, inv_scale: Tensor, found_inf: Tensor, allow_fp16: bool
    ) -> dict[torch.device, Tensor]:
        return super()._unscale_grads_(optimizer, inv_scale, found_inf, True)


def _prodigy(groups: list[Group], options: dict[str, Any]) -> torch.optim.Optimizer:
    from prodigyopt import Prodigy

    options["use_bias_correction"] = options.pop("bias_correction")
    options["growth_rate"] = options["growth_rate"] or math.inf
    with contextlib.redirect_stdout(sys.stderr):  # it prints when weights decay, and stdout may be a --json report
        return Prodigy(groups, **options)


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except (ImportError, OSError, RuntimeError) as error:  # a missing package, or one whose library does not load here
        raise OptimizerError(
            f"optimizer adamw8bit needs the package bitsandbytes, which does not load ({error}):"
            " `pip install bitsandbytes`, or choose adamw"
        ) from error
    return bitsandbytes


def load(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Goes on from a `state_dict()`, exactly.

    Torch casts a state to its weight's precision while loading, which would cost an Adafactor that trains bf16 weights
    its fp32 state; the numbers are put back as they were.
    """
    optimizer.load_state_dict(dict(state))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, saved in state["state"].items():
        weight = weights[int(index)]
        for name, value in saved.items():
            if isinstance(value, Tensor) and value.dtype != optimizer.state[weight][name].dtype:
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


class RelativeSteps(transformers_optimization.AdafactorSchedule):
    """Shows the rates that Adafactor finds, as plain numbers, so that they can be reported and kept in a state."""

    def get_lr(self) -> list[float]:
        """The rate of each group's first weight; 0 before the first step."""
        return [float(rate) for rate in super().get_lr()]
