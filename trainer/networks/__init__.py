"""What is trained: layers beside a frozen base model, and the names they have in files."""

from __future__ import annotations

import importlib

from trainer.config import Config
from trainer.networks.base import Model, Network

NETWORKS = {"lora": "trainer.networks.lora:LoraNetwork"}
"""The class of each `network.type`."""


def attach(family: Model, config: Config) -> Network:
    """A new network on a model, which is frozen; NetworkError when it does not fit the model."""
    module, _, kind = NETWORKS[config.network.type].partition(":")
    network = getattr(importlib.import_module(module), kind)
    return network.attach(family, config.network, config.rates, config.seed, config.train.full)
