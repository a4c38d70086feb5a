"""Ways to train in less video memory, in the order in which one would turn them on. Brings no torch.

First what leaves the result as it is or nearly so, the cheapest in time before the dearest; weights of 8 bits before
every block has to wait, and 4 bits last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any, Literal

from trainer.config import Config, Full
from trainer.configio import flag_tree
from trainer.early import check_early, check_packages
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.detect import Detected
from trainer.packed import blocks_of
from trainer.tree import check, overlay

Rung = tuple[str, ...]
"""Settings that belong together, as flags: `train.batch=2`."""
Bits = Literal["bf16", "fp16"]
ON_CARDS = ("memory.", "optimizer.")
"""Rungs that begin with one of these move numbers from a card to main memory, or need one."""
LAST = "lower data.resolution or network.rank, or choose a card with more memory"


def rungs(config: Config, family: str, bits: Bits = "fp16") -> Iterator[Rung]:
    """What could be turned on beside what is on; whether the rest of the config allows it is seen by `climb`.

    bits: those that take the place of full precision; every GPU has fp16.
    """
    train, memory, data = config.train, config.memory, config.data
    whole = config.network if isinstance(config.network, Full) else None
    if train.attention == "none":
        yield ("train.attention=sdpa",)
    if not train.checkpointing:
        yield ("train.checkpointing=true",)
    if not data.cache_latents:
        yield ("data.cache_latents=true",)
    if not data.cache_text:
        yield ("data.cache_text=true",)
    if whole and not whole.fused:
        yield ("network.fused=true", "train.clip=null")
    if train.batch > 1:
        parts = next(n for n in range(2, train.batch + 1) if train.batch % n == 0)
        added = () if whole and whole.fused else (f"train.accumulate={train.accumulate * parts}",)
        yield (f"train.batch={train.batch // parts}", *added)
    if train.precision == "no":
        yield (f"train.precision={bits}",)
    if config.optimizer.type == "adamw":
        own = config.optimizer.model_dump(mode="json", exclude_defaults=True, exclude={"type"})
        kept = (f"optimizer.{name}={json.dumps(value)}" for name, value in own.items())  # another type begins anew
        yield ("optimizer.type=adamw8bit", *kept)
    if not memory.offload_activations:
        yield ("memory.offload_activations=true",)
    half, every = blocks_of(family) // 2, blocks_of(family)
    if memory.swap < half:
        yield (f"memory.swap={half}",)
    if memory.base_weights == "same":
        yield ("memory.base_weights=fp8",)
    if memory.swap < every:
        yield (f"memory.swap={every}",)
    if memory.base_weights in ("same", "fp8", "int8"):
        yield ("memory.base_weights=nf4",)


def turned_on(config: Config, taken: Iterable[Rung]) -> Config:
    """The config with some rungs; InputError when they do not go together with the rest of it."""
    flags = [flag for rung in taken for flag in rung]
    return check(reduce(overlay, map(flag_tree, flags), config.model_dump(mode="json")), "")


def climb(
    config: Config, family: str, bits: Bits = "fp16", look: Callable[[Config], object] = check_packages
) -> Iterator[tuple[Rung, Config]]:
    """What can be turned on beside what is on, in the order of the ladder, each with the config that it makes.

    look: raises InputError for a config that cannot be trained here.
    """
    for rung in rungs(config, family, bits):
        try:
            lower = turned_on(config, [rung])
            look(lower)
        except InputError:
            continue  # such as cached texts while captions vary
        yield rung, lower


def settings_of(taken: Iterable[Rung]) -> dict[str, Any]:
    """What rungs set, by dotted name; a later one counts more."""
    found: dict[str, Any] = {}
    for flag in (flag for rung in taken for flag in rung):
        name = flag.partition("=")[0]
        part, option = name.split(".")
        found[name] = flag_tree(flag)[part][option]
    return found


def step_down(config: Config, found: Detected) -> tuple[Rung, Config]:
    """The next thing to turn on, and the config with it; InputError when there is none left."""
    for step in climb(config, found.family, look=lambda lower: check_early(lower, found)):
        return step
    title = FAMILIES[found.family].title
    raise InputError(f"memory.fit: {title} does not fit with everything that saves memory turned on: {LAST}")


def advice(config: Config, found: Detected) -> str:
    """What to set so that less memory is needed, in words."""
    try:
        return "set " + " and ".join(flag.replace("=", " to ") for flag in step_down(config, found)[0])
    except InputError:
        return LAST
