"""Optimizers. Whose they are and what they cost stands in trainer/optimizer_kinds.py."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.config.library import Name, known
from trainer.config.parts import Count, DropoutRate, Kohya, Part

Lr = Annotated[float, Field(gt=0, le=1), Kohya("learning_rate", "Learning rate")]
Factor = Annotated[float, Field(gt=0, le=10), Kohya("learning_rate", "Learning rate")]
Decay = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Two = tuple[DropoutRate, DropoutRate]
Three = tuple[DropoutRate, DropoutRate, DropoutRate]


class AdamW(Part):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

    type: Literal["adamw"] = "adamw"
    lr: Lr = 1e-4
    """How far a step goes: too high and pictures burn, too low and nothing is learned."""
    betas: Two = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: Positive = 1e-8
    """Keeps the division by a small gradient finite."""
    weight_decay: Decay = 0.01
    """Pull of the weights towards zero."""


class AdamW8bit(AdamW):
    """AdamW whose state is kept in 8 bits (bitsandbytes; Dettmers et al. 2022, arXiv 2110.02861)."""

    type: Literal["adamw8bit"] = "adamw8bit"  # pyrefly: ignore


class PagedAdamW(AdamW):
    """AdamW whose state leaves a full CUDA card for the computer's memory (bitsandbytes)."""

    type: Literal["pagedadamw"] = "pagedadamw"  # pyrefly: ignore


class PagedAdamW8bit(AdamW):
    """AdamW8bit whose state leaves a full CUDA card for the computer's memory (bitsandbytes)."""

    type: Literal["pagedadamw8bit"] = "pagedadamw8bit"  # pyrefly: ignore


class Lion(Part):
    """Sign of the momentum (Chen et al. 2023, arXiv 2302.06675); wants a rate 3 to 10 times below AdamW's."""

    type: Literal["lion"] = "lion"
    lr: Lr = 2e-5
    """How far a step goes: too high and pictures burn, too low and nothing is learned."""
    betas: Two = (0.9, 0.99)
    """Share of the old momentum in the step taken, and in the momentum kept."""
    weight_decay: Decay = 0.0
    """Pull of the weights towards zero."""


class Lion8bit(Lion):
    """Lion whose momentum is kept in 8 bits (bitsandbytes)."""

    type: Literal["lion8bit"] = "lion8bit"  # pyrefly: ignore


class PagedLion8bit(Lion):
    """Lion8bit whose state leaves a full CUDA card for the computer's memory (bitsandbytes)."""

    type: Literal["pagedlion8bit"] = "pagedlion8bit"  # pyrefly: ignore


class AdEMAMix8bit(Part):
    """AdamW with a second, slow momentum (Pagliardini et al. 2024, arXiv 2409.03137), its state in 8 bits."""

    type: Literal["ademamix8bit"] = "ademamix8bit"
    lr: Lr = 1e-4
    """How far a step goes: too high and pictures burn, too low and nothing is learned."""
    betas: Three = (0.9, 0.999, 0.9999)
    """Decay of the running means of the gradient, of its square, and of the slow momentum."""
    alpha: Annotated[float, Field(ge=0, le=100, title="Share of the slow momentum")] = 5.0
    """How much the slow momentum counts beside the fast one."""
    t_alpha: Annotated[Count | None, Field(title="Steps until the slow momentum counts")] = None
    """Steps over which alpha rises from 0; empty lets it count from the start."""
    t_beta3: Annotated[Count | None, Field(title="Steps until the slow momentum is slow")] = None
    """Steps over which the third beta rises from the first; empty has it from the start."""
    eps: Positive = 1e-8
    """Keeps the division by a small gradient finite."""
    weight_decay: Decay = 0.01
    """Pull of the weights towards zero."""


class PagedAdEMAMix8bit(AdEMAMix8bit):
    """AdEMAMix8bit whose state leaves a full CUDA card for the computer's memory."""

    type: Literal["pagedademamix8bit"] = "pagedademamix8bit"  # pyrefly: ignore


class SGDNesterov(Part):
    """The plain gradient with Nesterov's momentum; wants a rate far above AdamW's."""

    type: Literal["sgdnesterov"] = "sgdnesterov"
    lr: Lr = 1e-2
    """How far a step goes: too high and pictures burn, too low and nothing is learned."""
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the last step that the next one keeps."""
    weight_decay: Decay = 0.0
    """Pull of the weights towards zero."""


class SGDNesterov8bit(SGDNesterov):
    """SGDNesterov whose momentum is kept in 8 bits (bitsandbytes)."""

    type: Literal["sgdnesterov8bit"] = "sgdnesterov8bit"  # pyrefly: ignore


class Adafactor(Part):
    """Adam with a factored second moment: almost no state (Shazeer & Stern 2018, arXiv 1804.04235)."""

    type: Literal["adafactor"] = "adafactor"
    lr: Annotated[Annotated[float, Field(gt=0, le=1)] | None, Kohya("learning_rate", "Learning rate")] = None
    """How far a step goes; empty lets Adafactor find its own rate (relative step)."""
    eps: tuple[float, float] = (1e-30, 1e-3)
    """Floors of the squared gradient and of the parameter scale."""
    clip_threshold: Positive = 1.0
    """Limit on the root mean square of an update."""
    decay_rate: Annotated[float, Field(ge=-1, le=0)] = -0.8
    """How fast the memory of old gradients grows."""
    beta1: DropoutRate | None = None
    """Momentum; empty keeps none and saves its memory."""
    weight_decay: Decay = 0.0
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


class Finding(Part):
    """What finds its own rate from a first guess."""

    lr: Factor = 1.0
    """Factor on the rate that the optimizer finds; leave it at 1."""
    weight_decay: Decay = 0.0
    """Pull of the weights towards zero."""
    d0: Positive = 1e-6
    """First estimate of the distance to the solution."""


class Bounded(Finding):
    """A limit on how fast the estimate grows."""

    growth_rate: Annotated[float, Field(gt=1)] | None = None
    """Limit on the growth of the estimate in one step; empty sets none."""


class Prodigy(Bounded):
    """AdamW that finds its own rate (Mishchenko & Defazio 2023, arXiv 2306.06101)."""

    type: Literal["prodigy"] = "prodigy"
    betas: Two = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    beta3: DropoutRate | None = None
    """Decay of the distance estimate; empty takes the root of the second beta."""
    eps: Positive = 1e-8
    """Keeps the division by a small gradient finite."""
    d_coef: Positive = 1.0
    """Factor on the estimate: 0.5 trains more gently, 2 more boldly."""
    bias_correction: bool = False
    """Adam's bias correction."""
    safeguard_warmup: bool = False
    """Keep the estimate from jumping while the schedule warms up."""


class DAdaptAdam(Bounded):
    """Adam that finds its own rate (D-Adaptation; Defazio & Mishchenko 2023, arXiv 2301.07733)."""

    type: Literal["dadaptadam"] = "dadaptadam"
    betas: Two = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: Positive = 1e-8
    """Keeps the division by a small gradient finite."""
    decouple: Annotated[bool, Field(title="Decouple weight decay")] = False
    """Weight decay as in AdamW, apart from the gradient."""
    bias_correction: bool = False
    """Adam's bias correction."""


class DAdaptAdamPreprint(Bounded):
    """DAdaptAdam as in the paper's first version; the Kohya GUI's DAdaptation."""

    type: Literal["dadaptadampreprint"] = "dadaptadampreprint"
    betas: Two = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    eps: Positive = 1e-8
    """Keeps the division by a small gradient finite."""
    decouple: Annotated[bool, Field(title="Decouple weight decay")] = False
    """Weight decay as in AdamW, apart from the gradient."""


class DAdaptAdaGrad(Bounded):
    """AdaGrad that finds its own rate (D-Adaptation); slower to find it than DAdaptAdam."""

    type: Literal["dadaptadagrad"] = "dadaptadagrad"
    momentum: DropoutRate = 0.0
    """Share of the last step that the next one keeps."""
    eps: Positive = 1e-6
    """Keeps the division by a small gradient finite."""


class DAdaptAdan(Bounded):
    """Adan (Xie et al. 2022, arXiv 2208.06677) that finds its own rate (D-Adaptation)."""

    type: Literal["dadaptadan"] = "dadaptadan"
    betas: Three = (0.98, 0.92, 0.99)
    """Decay of the running means of the gradient, of its change, and of the square."""
    eps: Positive = 1e-8
    """Keeps the division by a small gradient finite."""
    weight_decay: Decay = 0.02
    """Pull of the weights towards zero."""
    no_prox: Annotated[bool, Field(title="Weight decay before the step")] = False
    """Decay the weights as AdamW does, not as Adan does."""


class DAdaptAdanIP(DAdaptAdan):
    """DAdaptAdan with a tighter bound, which takes larger steps."""

    type: Literal["dadaptadanip"] = "dadaptadanip"  # pyrefly: ignore


class DAdaptLion(Finding):
    """Lion that finds its own rate (D-Adaptation)."""

    type: Literal["dadaptlion"] = "dadaptlion"
    betas: Two = (0.9, 0.99)
    """Share of the old momentum in the step taken, and in the momentum kept."""


class DAdaptSGD(Bounded):
    """The plain gradient with a rate of its own finding (D-Adaptation)."""

    type: Literal["dadaptsgd"] = "dadaptsgd"
    momentum: DropoutRate = 0.0
    """Share of the last step that the next one keeps."""


class Averaging(Part):
    """What averages the weights in place of a schedule (Defazio et al. 2024, arXiv 2405.15682).

    The average is what is saved, shown and measured.
    """


class ScheduleFree(Averaging):
    """What the optimizers of the schedulefree library share."""

    lr: Lr = 1e-3
    """How far a step goes; may be 1 to 10 times what a schedule wants."""
    weight_decay: Decay = 0.0
    """Pull of the weights towards zero."""
    later: Annotated[float, Field(ge=0, le=10, title="Weight of later steps")] = 0.0
    """Power by which later steps count more in the average; 0 counts all alike."""


class AdamWScheduleFree(ScheduleFree):
    """AdamW with an average in place of a schedule."""

    type: Literal["adamwschedulefree"] = "adamwschedulefree"
    betas: Two = (0.9, 0.999)
    """Share of the average in the weights that are trained, and decay of the mean of the squared gradient."""
    eps: Positive = 1e-8
    """Keeps the division by a small gradient finite."""
    warmup: Annotated[int, Field(ge=0, title="Warm-up of the optimizer")] = 0
    """Steps over which the rate rises from 0."""


class RAdamScheduleFree(ScheduleFree):
    """AdamWScheduleFree that warms up by itself (RAdam; Liu et al. 2019, arXiv 1908.03265)."""

    type: Literal["radamschedulefree"] = "radamschedulefree"
    betas: Two = (0.9, 0.999)
    """Share of the average in the weights that are trained, and decay of the mean of the squared gradient."""
    eps: Positive = 1e-8
    """Keeps the division by a small gradient finite."""


class SGDScheduleFree(ScheduleFree):
    """The plain gradient with an average in place of a schedule; wants a rate far above AdamW's."""

    type: Literal["sgdschedulefree"] = "sgdschedulefree"
    lr: Factor = 1.0
    """How far a step goes; may be far above what AdamW wants."""
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Share of the average in the weights that are trained."""
    warmup: Annotated[int, Field(ge=0, title="Warm-up of the optimizer")] = 0
    """Steps over which the rate rises from 0."""


class ProdigyPlus(Averaging):
    """Prodigy with an average in place of a schedule and a factored state (ProdigyPlusScheduleFree)."""

    type: Literal["prodigyplus"] = "prodigyplus"
    lr: Factor = 1.0
    """Factor on the rate that the optimizer finds; leave it at 1."""
    betas: Two = (0.9, 0.99)
    """Share of the average in the weights that are trained, and decay of the mean of the squared gradient."""
    beta3: DropoutRate | None = None
    """Decay of the distance estimate; empty takes the root of the second beta."""
    eps: Positive | None = 1e-8
    """Keeps the division by a small gradient finite; empty takes Adam-atan2, which needs none."""
    weight_decay: Decay = 0.0
    """Pull of the weights towards zero."""
    d0: Positive = 1e-6
    """First estimate of the distance to the solution."""
    d_coef: Positive = 1.0
    """Factor on the estimate: 0.5 trains more gently, 2 more boldly."""
    d_limiter: Annotated[bool, Field(title="Limit the estimate's growth")] = True
    """Keep the estimate from jumping in the first steps."""
    averaging: Annotated[float, Field(ge=0, le=1000, title="Strength of averaging")] = 0.0
    """6 to 12 follow a short, noisy training faster; 0 averages all steps."""
    split_groups: Annotated[bool, Field(title="A rate for each part")] = True
    """Find a rate for each part by itself."""
    factored: Annotated[bool, Field(title="Factored state")] = True
    """Keep rows and columns of the squared gradient in place of all of it."""
    bias_correction: bool = False
    """RAdam's bias correction, which warms up by itself."""
    stable: Annotated[bool, Field(title="Limit each update")] = True
    """Scale updates by their root mean square (StableAdamW); leave train.clip empty then."""
    speed: Annotated[bool, Field(title="SPEED estimate")] = False
    """Estimate the rate from the direction of progress, with less memory; an experiment."""


class CAME(Part):
    """Adafactor that trusts steady updates more (Luo et al. 2023, arXiv 2307.02047)."""

    type: Literal["came"] = "came"
    lr: Lr = 2e-4
    """How far a step goes: too high and pictures burn, too low and nothing is learned."""
    betas: Three = (0.9, 0.999, 0.9999)
    """Decay of the running means of the update, of the squared gradient, and of the update's unsteadiness."""
    clip_threshold: Positive = 1.0
    """Limit on the root mean square of an update."""
    weight_decay: Decay = 0.0
    """Pull of the weights towards zero."""


class Library(Part):
    """Any other of the pytorch-optimizer library that was trained and resumed exactly in our tests."""

    type: Literal["pytorch_optimizer"] = "pytorch_optimizer"
    name: Annotated[Name, BeforeValidator(known), Field(title="Optimizer of pytorch-optimizer")] = "StableAdamW"
    """Its name in that library."""
    lr: Factor = 1e-4
    """How far a step goes: too high and pictures burn, too low and nothing is learned."""
    args: Annotated[str, Field(pattern=r"^([A-Za-z_]\w*=\S+( +[A-Za-z_]\w*=\S+)*)?$", title="Optimizer arguments")] = ""
    """Its other arguments, as `weight_decay=0.1 betas=0.9,0.99`; empty takes its own."""


Optimizer = Annotated[
    AdamW
    | AdamW8bit
    | PagedAdamW
    | PagedAdamW8bit
    | Lion
    | Lion8bit
    | PagedLion8bit
    | Adafactor
    | Prodigy
    | ProdigyPlus
    | DAdaptAdam
    | DAdaptAdamPreprint
    | DAdaptAdaGrad
    | DAdaptAdan
    | DAdaptAdanIP
    | DAdaptLion
    | DAdaptSGD
    | AdamWScheduleFree
    | RAdamScheduleFree
    | SGDScheduleFree
    | CAME
    | AdEMAMix8bit
    | PagedAdEMAMix8bit
    | SGDNesterov
    | SGDNesterov8bit
    | Library,
    Field(discriminator="type"),
]
