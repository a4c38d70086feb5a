"""Whose the optimizers are, what the Kohya GUI calls them, and what they keep in memory. Brings no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """One optimizer.

    name: the Kohya GUI's; path: module and class; state: bytes that it keeps for a trained fp32 parameter; install:
    what pip calls its package; recorded: module and class in `ss_optimizer`, where sd-scripts has it from elsewhere;
    one_rate: it finds a rate itself, one for all parts; paged: its state may leave a CUDA card; fixed: arguments that
    are no options here; names: the library's names of options that are called otherwise here.
    """

    name: str
    path: str
    state: float
    install: str = ""
    recorded: str = ""
    one_rate: bool = False
    paged: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


_BIAS = {"bias_correction": "use_bias_correction"}
_FREE = {"warmup": "warmup_steps", "later": "r"}
_PLUS = {**_BIAS, "stable": "use_stableadamw", "speed": "use_speed", "averaging": "schedulefree_c"}
_NESTEROV = {"nesterov": True}


def _eight_bits(name: str, module: str, state: float, paged: bool = False, kind: str = "", **more: Any) -> Kind:
    return Kind(name, f"bitsandbytes.optim.{module}.{kind or name}", state, "bitsandbytes", paged=paged, **more)


def _adaptation(name: str, module: str, state: float, **more: Any) -> Kind:
    return Kind(name, f"dadaptation.{module}.{name}", state, "dadaptation", one_rate=True, **more)


KINDS = {
    "adamw": Kind("AdamW", "torch.optim.adamw.AdamW", 8, fixed={"fused": True}),
    "adamw8bit": _eight_bits("AdamW8bit", "adamw", 2),
    "pagedadamw": _eight_bits("PagedAdamW32bit", "adamw", 8, paged=True),
    "pagedadamw8bit": _eight_bits("PagedAdamW8bit", "adamw", 2, paged=True),
    "lion": Kind(
        *("Lion", "pytorch_optimizer.optimizer.lion.Lion", 4, "pytorch-optimizer"),
        recorded="lion_pytorch.lion_pytorch.Lion",
    ),
    "lion8bit": _eight_bits("Lion8bit", "lion", 1),
    "pagedlion8bit": _eight_bits("PagedLion8bit", "lion", 1, paged=True),
    "adafactor": Kind("Adafactor", "transformers.optimization.Adafactor", 0),
    "prodigy": Kind("Prodigy", "prodigyopt.prodigy.Prodigy", 16, "prodigyopt", one_rate=True, names=_BIAS),
    "prodigyplus": Kind(
        *("prodigyplus.ProdigyPlusScheduleFree", "prodigyplus.prodigy_plus_schedulefree.ProdigyPlusScheduleFree", 4.4),
        install="prodigy-plus-schedule-free", fixed={"stochastic_rounding": False}, names=_PLUS,
    ),
    "dadaptadam": _adaptation("DAdaptAdam", "dadapt_adam", 12, names=_BIAS),
    "dadaptadampreprint": _adaptation("DAdaptAdamPreprint", "experimental.dadapt_adam_preprint", 12),
    "dadaptadagrad": _adaptation("DAdaptAdaGrad", "dadapt_adagrad", 12),
    "dadaptadan": _adaptation("DAdaptAdan", "dadapt_adan", 20),
    "dadaptadanip": _adaptation("DAdaptAdanIP", "experimental.dadapt_adan_ip", 20),
    "dadaptlion": _adaptation("DAdaptLion", "dadapt_lion", 8),
    "dadaptsgd": _adaptation("DAdaptSGD", "dadapt_sgd", 12),
    "adamwschedulefree": Kind(
        "AdamWScheduleFree", "schedulefree.adamw_schedulefree.AdamWScheduleFree", 8, "schedulefree", names=_FREE
    ),
    "radamschedulefree": Kind(
        "RAdamScheduleFree", "schedulefree.radam_schedulefree.RAdamScheduleFree", 8, "schedulefree", names=_FREE
    ),
    "sgdschedulefree": Kind(
        "SGDScheduleFree", "schedulefree.sgd_schedulefree.SGDScheduleFree", 4, "schedulefree", names=_FREE
    ),
    "came": Kind("pytorch_optimizer.CAME", "pytorch_optimizer.optimizer.came.CAME", 4.1, "pytorch-optimizer"),
    "ademamix8bit": _eight_bits("bitsandbytes.optim.AdEMAMix8bit", "ademamix", 3, kind="AdEMAMix8bit"),
    "pagedademamix8bit": _eight_bits(
        "bitsandbytes.optim.PagedAdEMAMix8bit", "ademamix", 3, True, kind="PagedAdEMAMix8bit"
    ),
    "sgdnesterov": Kind("SGDNesterov", "torch.optim.sgd.SGD", 4, fixed=_NESTEROV),
    "sgdnesterov8bit": _eight_bits("SGDNesterov8bit", "sgd", 1, kind="SGD8bit", fixed=_NESTEROV),
    "pytorch_optimizer": Kind("pytorch_optimizer", "pytorch_optimizer", 8, "pytorch-optimizer"),
}  # fmt: skip
"""By the word of `optimizer.type`."""
