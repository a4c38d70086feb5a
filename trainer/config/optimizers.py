"""Optimizers and learning rate schedules."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainer.config.parts import Count, DropoutRate, Kohya, Part, Probability, Span


class AdamW(Part):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

    type: Literal["adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0, le=1), Kohya("learning_rate", "Learning rate")] = 1e-4
    """How far a step goes: too high and pictures burn, too low and nothing is learned."""
    betas: tuple[DropoutRate, DropoutRate] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Keeps the division by a small gradient finite."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Pull of the weights towards zero."""


class AdamW8bit(AdamW):
    """AdamW whose state is kept in 8 bits (bitsandbytes; Dettmers et al. 2022, arXiv 2110.02861)."""

    type: Literal["adamw8bit"] = "adamw8bit"  # pyrefly: ignore


class Lion(Part):
    """Sign of the momentum (Chen et al. 2023, arXiv 2302.06675); wants a rate 3 to 10 times below AdamW's."""

    type: Literal["lion"] = "lion"
    lr: Annotated[float, Field(gt=0, le=1), Kohya("learning_rate", "Learning rate")] = 2e-5
    """How far a step goes: too high and pictures burn, too low and nothing is learned."""
    betas: tuple[DropoutRate, DropoutRate] = (0.9, 0.99)
    """Share of the old momentum in the step taken, and in the momentum kept."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Pull of the weights towards zero."""


class Adafactor(Part):
    """Adam with a factored second moment: almost no state (Shazeer & Stern 2018, arXiv 1804.04235)."""

    type: Literal["adafactor"] = "adafactor"
    lr: Annotated[Annotated[float, Field(gt=0, le=1)] | None, Kohya("learning_rate", "Learning rate")] = None
    """How far a step goes; empty lets Adafactor find its own rate (relative step)."""
    eps: tuple[float, float] = (1e-30, 1e-3)
    """Floors of the squared gradient and of the parameter scale."""
    clip_threshold: Annotated[float, Field(gt=0)] = 1.0
    """Limit on the root mean square of an update."""
    decay_rate: Annotated[float, Field(ge=-1, le=0)] = -0.8
    """How fast the memory of old gradients grows."""
    beta1: DropoutRate | None = None
    """Momentum; empty keeps none and saves its memory."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Pull of the weights towards zero."""
    scale_parameter: bool = True
    """Scale the rate by the size of the weights."""
    warmup_init: bool = False
    """Start relative steps at a very small rate."""

    @model_validator(mode="after")
    def _relative_or_fixed(self) -> Self:
        if self.warmup_init and self.lr is not None:
            raise ValueError("warmup_init belongs to relative steps: leave lr empty, or set warmup_init to false")
        return self


class Prodigy(Part):
    """AdamW that finds its own rate (Mishchenko & Defazio 2023, arXiv 2306.06101)."""

    type: Literal["prodigy"] = "prodigy"
    lr: Annotated[float, Field(gt=0, le=10), Kohya("learning_rate", "Learning rate")] = 1.0
    """Factor on the rate that Prodigy finds; leave it at 1."""
    betas: tuple[DropoutRate, DropoutRate] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    beta3: DropoutRate | None = None
    """Decay of the distance estimate; empty takes the root of the second beta."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Keeps the division by a small gradient finite."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Pull of the weights towards zero."""
    d0: Annotated[float, Field(gt=0)] = 1e-6
    """First estimate of the distance to the solution."""
    d_coef: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the estimate: 0.5 trains more gently, 2 more boldly."""
    growth_rate: Annotated[float, Field(gt=1)] | None = None
    """Limit on the growth of the estimate in one step; empty sets none."""
    bias_correction: bool = False
    """Adam's bias correction."""
    safeguard_warmup: bool = False
    """Keep the estimate from jumping while the schedule warms up."""


Optimizer = Annotated[AdamW | AdamW8bit | Lion | Adafactor | Prodigy, Field(discriminator="type")]


class Warming(Part):
    """What all schedules of our own begin with."""

    warmup: Annotated[Span, Kohya("lr_warmup_steps", "LR warmup", "LR warmup steps (override)")] = 0
    """Steps, or share of all steps such as `10%`, over which the rate rises from 0."""


class Constant(Warming):
    """The same rate throughout."""

    type: Literal["constant"] = "constant"


class Linear(Warming):
    """A straight line down to 0."""

    type: Literal["linear"] = "linear"


class Cosine(Warming):
    """Half a cosine down to 0 (Loshchilov & Hutter 2017, arXiv 1608.03983)."""

    type: Literal["cosine"] = "cosine"


class CosineWithRestarts(Warming):
    """Several cosines, each starting again at the full rate."""

    type: Literal["cosine_with_restarts"] = "cosine_with_restarts"
    cycles: Annotated[Count, Kohya("lr_scheduler_num_cycles", "LR number of cycles", "LR # cycles")] = 1
    """How often the rate starts again from the top, the first time counted."""


class Polynomial(Warming):
    """A power of the straight line down to 1e-7."""

    type: Literal["polynomial"] = "polynomial"
    power: Annotated[float, Field(gt=0, le=10), Kohya("lr_scheduler_power", "LR power")] = 1.0
    """1 is a straight line, more stays low for longer."""


class Waves(Warming):
    """What falls in half waves of a cosine."""

    cycles: Annotated[Count, Kohya("lr_scheduler_num_cycles", "LR number of cycles", "LR # cycles")] = 1
    """Number of half waves: 1 goes down, 2 goes down and up again."""


class CosineWithMinLr(Waves):
    """Half a cosine down to a share of the rate."""

    type: Literal["cosine_with_min_lr"] = "cosine_with_min_lr"
    lowest: Annotated[float, Field(gt=0, le=1), Kohya("lr_scheduler_min_lr_ratio", "LR minimum ratio")] = 0.1
    """Share of the rate that it falls to."""


class InverseSqrt(Warming):
    """One over the square root of the steps: steep at first, and never 0."""

    type: Literal["inverse_sqrt"] = "inverse_sqrt"
    timescale: Annotated[Count | None, Kohya("lr_scheduler_timescale", "LR timescale")] = None
    """Three times this many steps halve the rate; empty takes the warm-up, or 10,000 where there is none."""


class WarmupStableDecay(Waves):
    """The full rate for most of the training, then half a cosine down (Hu et al. 2024, arXiv 2404.06395)."""

    type: Literal["warmup_stable_decay"] = "warmup_stable_decay"
    decay: Annotated[Span, Kohya("lr_decay_steps", "LR decay steps")] = "20%"
    """Steps at the end, or share of all steps such as `20%`, over which the rate falls."""
    lowest: Annotated[Probability, Kohya("lr_scheduler_min_lr_ratio", "LR minimum ratio")] = 0.0
    """Share of the rate that the warm-up begins at, and that the rate falls to."""


_FACTOR = r"\d+(\.\d+)?(e-?\d+)?"


class PiecewiseConstant(Part):
    """A rate that changes at given steps."""

    type: Literal["piecewise_constant"] = "piecewise_constant"
    rules: Annotated[str, Field(pattern=rf"^({_FACTOR}:\d+,)+{_FACTOR}$", title="LR step rules")] = "1:500,0.1"
    """`1:500,0.3:800,0.1`: the full rate to step 500, 0.3 of it to step 800, then 0.1 (kohya_ss: step_rules)."""


class AdafactorSchedule(Part):
    """Adafactor's own relative steps; only with the Adafactor optimizer and an empty rate."""

    type: Literal["adafactor"] = "adafactor"


Schedule = Annotated[
    Constant
    | Linear
    | Cosine
    | CosineWithRestarts
    | Polynomial
    | CosineWithMinLr
    | InverseSqrt
    | WarmupStableDecay
    | PiecewiseConstant
    | AdafactorSchedule,
    Field(discriminator="type"),
]
