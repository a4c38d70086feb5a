"""Ways to train in less video memory, in the order in which one would turn them on. Brings no torch.

First what leaves the result as it is, the cheapest in time before the dearest; weights of 8 bits before every block has
to wait, and 4 bits last.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from trainer.config import Config
from trainer.configio import flag_tree
from trainer.early import check_early
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.detect import Detected
from trainer.packed import blocks_of
from trainer.tree import check, overlay

Rung = tuple[str, ...]
"""Settings that belong together, as flags: `train.batch=2`."""
LAST = "lower data.resolution or network.rank, or choose a card with more memory"


def rungs(config: Config, family: str) -> Iterator[Rung]:
    """What could be turned on beside what is on; whether the rest of the config allows it is seen by `step_down`."""
    train, memory, data = config.train, config.memory, config.data
    if train.attention == "none":
        yield ("train.attention=sdpa",)
    if not train.checkpointing:
        yield ("train.checkpointing=true",)
    if not data.cache_latents:
        yield ("data.cache_latents=true",)
    if not data.cache_text:
        yield ("data.cache_text=true",)
    if train.batch > 1:
        parts = next(n for n in range(2, train.batch + 1) if train.batch % n == 0)
        yield (f"train.batch={train.batch // parts}", f"train.accumulate={train.accumulate * parts}")
    if train.precision == "no":
        yield ("train.precision=fp16",)  # which every GPU has
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


def step_down(config: Config, found: Detected) -> tuple[Rung, Config]:
    """The next thing to turn on, and the config with it; InputError when there is none left."""
    whole = config.model_dump(mode="json")
    for rung in rungs(config, found.family):
        try:
            lower = check(reduce(overlay, map(flag_tree, rung), whole), "")
            check_early(lower, found)
        except InputError:
            continue  # such as cached texts while captions vary
        return rung, lower
    title = FAMILIES[found.family].title
    raise InputError(f"memory.fit: {title} does not fit with everything that saves memory turned on: {LAST}")


def advice(config: Config, found: Detected) -> str:
    """What to set so that less memory is needed, in words."""
    try:
        return "set " + " and ".join(flag.replace("=", " to ") for flag in step_down(config, found)[0])
    except InputError:
        return LAST
