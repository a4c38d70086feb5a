"""Schedules: how the learning rate changes while training goes on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.parts import Count, Kohya, Part, Probability, Span


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


class Rex(Warming):
    """Falls slowly first and fast in the end: (1 - z) / (1 - z / 2) of the rate after a share z of the steps.

    REX, "reflected exponential" (Chen et al. 2021, arXiv 2107.04197, equation 2): better than a straight line where a
    training is short.
    """

    type: Literal["rex"] = "rex"


class CosineAnnealing(Part):
    """Cosine waves of a given length, down and up again, however long the training is."""

    type: Literal["cosine_annealing"] = "cosine_annealing"
    period: Annotated[Count, Field(title="LR steps of half a wave")] = 1000
    """Steps from the full rate down to the lowest; as many lead up again (kohya_ss: T_max of CosineAnnealingLR)."""
    lowest: Annotated[Probability, Field(title="LR minimum ratio")] = 0.0
    """Share of the rate that it falls to."""


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
    | Rex
    | CosineAnnealing
    | AdafactorSchedule,
    Field(discriminator="type"),
]
