"""The tabs of the Kohya GUI that train. They share one form: each shows it with its own kinds of network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from webui.fields import FIELDS

LORA = "lora"
OWN_WEIGHTS = {"optimizer.lr": 1e-5}
"""A model's own weights move as far at a tenth of a LoRA's rate; it is what the Kohya GUI begins with."""

BESIDE_A_LORA = tuple(name for name in FIELDS if name.partition(".")[0] == "pivotal")
NOT_OF_MODELS = ("memory.base_weights", "memory.swap", *BESIDE_A_LORA)
"""Options for weights that stay as they are."""


@dataclass(frozen=True)
class Method:
    """A way of training as a tab.

    tab: what it is called; types: the `network.type`s it trains, empty for all that no other tab names; start: options
    that it begins with in place of their defaults; hidden: options that have no place in it.
    """

    tab: str
    types: tuple[str, ...] = ()
    start: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()


METHODS = {
    "dreambooth": Method("Dreambooth", ("full_model",), OWN_WEIGHTS, NOT_OF_MODELS),
    LORA: Method("LoRA"),
    "embedding": Method(
        "Textual Inversion",
        ("embedding",),
        {"optimizer.lr": 1e-3},
        ("rates.unet", "data.cache_text", *BESIDE_A_LORA),
    ),
    "finetune": Method("Finetuning", ("full_model",), OWN_WEIGHTS, NOT_OF_MODELS),
}
"""In the order of the Kohya GUI."""


def types_of(method: str) -> list[str]:
    """The kinds of network that a tab trains, by `network.type`."""
    claimed = {word for other in METHODS.values() for word in other.types}
    return list(METHODS[method].types) or [word for word in all_types() if word not in claimed]


def all_types() -> list[str]:
    """Every `network.type`."""
    return [word for word, _ in FIELDS["network.type"].choices]


def method_of(kind: str, now: str) -> str:
    """The tab that trains a `network.type`: the one that is open if it does, else the first that does."""
    return next(method for method in (now, *METHODS) if kind in types_of(method))
