"""Sensible settings for a training, from what is known before it: how many pictures, which base model, which card.

The numbers are field practice: about 1,500 steps for SD1.5 and 2,000 for SDXL, about 150 looks at each picture, a rank
of 32, files of ten moments to choose from. What a small card cannot hold is given up step by step, the cheapest first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from trainer.config import Config
from trainer.configio import flag_tree
from trainer.families import FAMILIES
from trainer.ladder import Rung, climb
from trainer.memory import estimate_memory
from trainer.tree import Tree, overlay

SPARE = 0.15  # share of a card's memory that the screen, other programs and a wrong estimate may need
MOMENTS = 10  # files and samples that are made along the way
MOST_REPEATS = 40
MOST_EPOCHS = 200


@dataclass(frozen=True)
class Card:
    """A GPU by NVIDIA."""

    memory: int  # bytes
    bf16: bool  # whether it computes in bf16: RTX 30 and newer


@dataclass(frozen=True)
class Advice:
    """What to train with, and why."""

    settings: Tree  # a partial config
    reasons: tuple[str, ...]  # sentences for people
    fits: bool  # whether the card's memory is enough


@dataclass(frozen=True)
class _Practice:
    """How a family is trained. steps: when all goes well; views: looks at each picture that are enough."""

    steps: int
    views: int
    side: int
    batch: int
    settings: Tree
    prompts: tuple[str, ...]
    switches: str


_PROMPTS = ("{who}, portrait, looking at the viewer", "{who}, standing outside, full body", "{kind}, portrait")
_PRACTICE = {
    "sd15": _Practice(
        1500, 150, 512, 4,
        {
            "network": {"rank": 32, "alpha": 32},
            "optimizer": {"type": "adamw", "lr": 1e-4},
            "rates": {"unet": "same", "text_encoder": 5e-5, "text_encoder_2": None},
        },
        _PROMPTS, "--w 512 --h 512 --s 25 --l 7",
    ),
    "sdxl": _Practice(
        2000, 200, 1024, 2,
        {
            "network": {"rank": 32, "alpha": 16},
            "optimizer": {"type": "adamw", "lr": 1e-4},
            "rates": {"unet": "same", "text_encoder": None, "text_encoder_2": None},
            "data": {"cache_text": True},
        },
        _PROMPTS, "--w 1024 --h 1024 --s 25 --l 6",
    ),
    "pocket": _Practice(
        360, 120, 64, 4,
        {
            "network": {"rank": 16, "alpha": 16},
            "optimizer": {"type": "adamw", "lr": 2e-3},
            "data": {"buckets": None},
        },
        ("{who} on grass", "{who} on snow", "a red star on snow"), "--s 20 --l 5",
    ),
}  # fmt: skip


_RUNGS = {
    "memory.offload_activations": "activations wait in main memory, which takes time",
    "memory.swap": "blocks of the model wait in main memory, which takes time",
    "memory.base_weights=fp8": "the base model in 8 bits",
    "memory.base_weights=nf4": "the base model in 4 bits",
}
"""What the ladder turns on when nothing else is left, in words."""


def advise(
    pictures: int,
    family: str,
    base: str,
    card: Card | None = None,
    uses: int | None = None,
    trigger: str = "",
    kind: str = "",
) -> Advice:
    """Settings for a training on `base`, of a family of FAMILIES, with `pictures` pictures, at least 1.

    `card` None: no GPU. `uses`: uses in an epoch when folders say how often each picture is repeated; None leaves the
    repeats to the advice. `trigger` and `kind`, such as "zk9" and "woman", go into the sample prompts.
    """
    practice = _PRACTICE["pocket" if base == "pocket" else family]
    batch = min(practice.batch, 1 if pictures < 20 else 2 if pictures < 40 else 4)
    reasons: list[str] = []
    settings = overlay(practice.settings, {"model": {"base": base}, "data": {"resolution": [practice.side] * 2}})
    settings = overlay(
        settings, {"train": _computing(card, base, reasons), "schedule": {"type": "cosine", "warmup": "5%"}}
    )
    settings = overlay(settings, {"train": {"batch": batch}, "sample": _samples(practice, trigger, kind)})
    if card:
        settings["optimizer"] = {**settings["optimizer"], "type": "adamw8bit"}
        reasons.append("AdamW8bit, which keeps its state in a quarter of the memory")
    settings, fits = _fit(settings, family, practice.side**2, card, reasons)
    length, said = _length(practice, pictures, uses, settings["train"]["batch"])
    return Advice(overlay(settings, length), (said, *reasons), fits)


def _computing(card: Card | None, base: str, reasons: list[str]) -> Tree:
    """Precision, and memory-saving that costs time."""
    if card is None:
        slow = "" if base == "pocket" else "; without an NVIDIA GPU a model of this size can take days"
        reasons.append(f"full precision, as a processor computes{slow}")
    elif card.bf16:
        reasons.append("bf16, which this card computes in")
    else:
        reasons.append("fp16, as this card has no bf16")
    return {"precision": "no" if card is None else "bf16" if card.bf16 else "fp16", "checkpointing": False}


def _samples(practice: _Practice, trigger: str, kind: str) -> Tree:
    who = " ".join(filter(None, (trigger, kind))) or "a person"
    prompts = [f"{prompt.format(who=who, kind=kind or 'a person')} {practice.switches}" for prompt in practice.prompts]
    return {"prompts": prompts, "sampler": "dpmsolver++", "first": True}


def _length(practice: _Practice, pictures: int, uses: int | None, batch: int) -> tuple[Tree, str]:
    """Repeats, epochs and when something is saved, so that the steps come near to what practice says."""
    steps = min(practice.steps, practice.views * pictures // batch)
    repeats = min(MOST_REPEATS, max(1, round(steps * batch / (pictures * MOMENTS))))
    each = uses or pictures * repeats
    epochs = min(MOST_EPOCHS, max(1, round(steps * batch / each)))
    every = math.ceil(epochs / MOMENTS)
    tree: dict[str, Any] = {
        "train": {"epochs": epochs},
        "save": {"every_epochs": every},
        "sample": {"every_epochs": every},
    }
    if uses is None:
        tree["data"] = {"repeats": repeats}
    views = round(each * epochs / pictures)
    return tree, f"each picture is seen {views} times, as practice has it for {practice.steps:,} steps or fewer"


def _fit(settings: Tree, family: str, area: int, card: Card | None, reasons: list[str]) -> tuple[Tree, bool]:
    """The settings with as little given up as the card's memory asks for."""
    if card is None:
        return settings, True
    limit = card.memory * (1 - SPARE)
    for change, reason in _savings(settings):
        if _need(settings, family, area) <= limit:
            break
        changed = overlay(settings, change)
        if _need(changed, family, area) < _need(settings, family, area):
            settings = changed
            reasons.append(f"{reason}, for {card.memory / 2**30:.0f} GB of memory")
    said: dict[str, str] = {}
    while _need(settings, family, area) > limit and (step := _next_rung(settings, family, area, card)):
        settings = reduce(overlay, map(flag_tree, step), settings)
        said[step[0].partition("=")[0]] = next(words for flag, words in _RUNGS.items() if step[0].startswith(flag))
    reasons += [f"{words}, for {card.memory / 2**30:.0f} GB of memory" for words in said.values()]
    fits = _need(settings, family, area) <= limit
    if not fits:
        reasons.append(f"{FAMILIES[family].title} needs more memory than this card has: choose a smaller base model")
    return settings, fits


def _savings(settings: Tree) -> Iterator[tuple[Tree, str]]:
    """What can be given up for memory, the cheapest first."""
    for batch in (2, 1):
        if settings["train"]["batch"] > batch:
            yield {"train": {"batch": batch}}, f"a batch of {batch}"
    yield {"train": {"checkpointing": True}}, "gradient checkpointing, a third slower"
    silent: Tree = {"text_encoder": None, "text_encoder_2": None}
    yield {"rates": silent, "data": {"cache_text": True}}, "the text encoder is left as it is"
    yield {"network": {"rank": 16, "alpha": 16}}, "rank 16"
    yield {"sample": {"prompts": [], "first": False}}, "no samples while it trains"


def _next_rung(settings: Tree, family: str, area: int, card: Card) -> Rung | None:
    """What the ladder turns on next; None when nothing is left that helps."""
    config, need = _whole(settings), _need(settings, family, area)
    steps = climb(config, family, "bf16" if card.bf16 else "fp16")
    helping = (rung for rung, lower in steps if sum(estimate_memory(lower, family, area).values()) < need)
    return next((rung for rung in helping if rung[0].startswith(tuple(_RUNGS))), None)


def _whole(settings: Tree) -> Config:
    return Config.model_validate(overlay(Config().model_dump(mode="json"), settings))


def _need(settings: Tree, family: str, area: int) -> int:
    return sum(estimate_memory(_whole(settings), family, area).values())
