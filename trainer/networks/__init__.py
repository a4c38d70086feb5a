"""What is trained: layers beside a frozen base model, and the names they have in files."""

from __future__ import annotations

import importlib
from typing import Any

from trainer.config import Config, Full
from trainer.networks.base import Model, Network

_LORA, _LYCORIS = "trainer.networks.lora:LoraNetwork", "trainer.networks.lycoris:LycorisNetwork"
NETWORKS = {
    **dict.fromkeys(("lora", "lora_fa"), _LORA),
    "full_model": "trainer.networks.full:FullNetwork",
    "embedding": "trainer.networks.embedding:EmbeddingNetwork",
    **dict.fromkeys(("ia3", "boft", "diag_oft", "dylora", "glora", "locon", "loha", "lokr", "native"), _LYCORIS),
}
"""The class of each `network.type`."""
PIVOTAL = "trainer.networks.pivotal:PivotalNetwork"


def attach(family: Model, config: Config) -> Network:
    """A new network on a model, which is frozen; NetworkError when it does not fit the model."""
    network = _class(NETWORKS[config.network.type])
    if config.pivotal:
        return _class(PIVOTAL).attach(family, config, network)
    if isinstance(config.network, Full):
        return network.attach(family, config)
    return network.attach(family, config.network, config.rates, config.seed, config.train.full)


def _class(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
