"""What is wrong with a training and can be known before its model is loaded. Brings no torch."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from trainer.blocks import sizes, weights
from trainer.config import Blocks, Config, Embedding, Full, Lycoris, NewWords, Objective, Optimizer, Prediction, Train
from trainer.config.embedding import split
from trainer.config.network import Boft, Plus
from trainer.data.folders import SHIPPED
from trainer.durable import read_text
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.detect import Detected
from trainer.families.header import bundled_words, kind_of, read_header
from trainer.filters import filter_of
from trainer.optimizer_kinds import KINDS
from trainer.shapes import butterfly, trained_layers

Rates = Mapping[str, float | None]
"""The rate of each group of parameters, by the group's name; None where the optimizer finds its own."""

SHIPPED_WORDS = Path(__file__).parent / "families" / "shipped" / "clip"
LONGEST_PROMPTS = 4 * 2**20  # bytes; what is larger is a model or a picture chosen by mistake
UNET_BLOCKS = {"sd15": 29, "sdxl": 23}  # as sd-scripts counts them; networks/full.py says which is which
POLYNOMIAL_END = 1e-7  # diffusers' own, and no option of its scheduler here


def check_early(config: Config, found: Detected) -> list[str]:
    """Raises InputError for what would fail once the model is loaded; gives what is probably not meant, in words."""
    check_files(config)
    for field, folder in (("output.folder", config.output.folder), ("output.logging", config.output.logging)):
        if folder:
            check_writable(field, Path(folder))
    check_goal(config)
    check_packages(config)
    check_prediction(config.objective, found.prediction)
    return [*check_bundle(config), *check_paging(config), *check_rates(config, found)]


# Files


def check_files(config: Config) -> None:
    """Whether what is read beside the base model and the pictures is there, and is of its kind."""
    if vae := config.model.vae:
        if not Path(vae).exists():
            raise InputError(f"model.vae: {vae} does not exist: give a VAE file or folder, or leave it empty")
        if Path(vae).is_file() and kind_of(Path(vae)) == "safetensors":
            read_header(Path(vae))
    if isinstance(config.network, Embedding):
        check_new_words(config.network)
    elif isinstance(config.network, Lycoris):
        filter_of(config.network)
    if config.pivotal:
        check_new_words(config.pivotal, "pivotal")
    if not isinstance(config.network, Embedding) and (start := config.network.start_from):
        check_lora(Path(start))
    if prompts := config.sample.file:
        check_text(Path(prompts))
    folder = config.validation.folder
    if folder and folder not in SHIPPED and not Path(folder).is_dir():
        raise InputError(f"validation.folder: {folder} is no folder: choose one with pictures, or leave it empty")


def check_new_words(words: NewWords, part: str = "network") -> None:
    """Whether new words are new to the vocabulary, and the file to go on from holds one; `part` has the options."""
    start, tokens = getattr(words, "start_from", None), split(words.token)
    if start and not Path(start).is_file():
        raise InputError(f"network.start_from: {start} is no file: choose an embedding, or leave it empty")
    names = [name for word in tokens for name in (word, *(f"{word}_{i}" for i in range(1, words.vectors)))]
    if known := [name for name in names if {name, name.lower()} & vocabulary() or names.count(name) > 1]:
        raise InputError(f"{part}.token: {known[0]!r} is a word of its own already: choose one that is none, as zk9")


def check_bundle(config: Config) -> list[str]:
    """Whether new words fit those that the LoRA to go on from brings along; says where only one of the two has them."""
    network, pivotal = config.network, config.pivotal
    if isinstance(network, Embedding) or not network.start_from:
        return []
    said: list[str] = []
    held = bundled_words(read_header(Path(network.start_from)))
    wanted = {word.token: word.vectors for word in pivotal.words()} if pivotal else {}
    for word, vectors in wanted.items():
        if held.get(word, vectors) != vectors:
            raise InputError(
                f"pivotal.vectors: {network.start_from} has {held[word]} vectors for {word}, and {vectors} are asked"
                f" for: set it to {held[word]}"
            )
        if word not in held:
            said.append(f"{network.start_from} brings no vectors for {word}, which starts from its init word")
    others = ", ".join(word for word in held if word not in wanted)
    unread = f"{network.start_from} brings vectors for {others}, which are not gone on with: name them in pivotal.token"
    return [*said, unread] if others else said


@cache
def vocabulary() -> frozenset[str]:
    """The tokens that all CLIP text encoders of Stable Diffusion know."""
    return frozenset(json.loads((SHIPPED_WORDS / "vocab.json").read_text("utf-8")))


def check_lora(path: Path) -> None:
    """Whether a file can be a LoRA to go on from; which family it belongs to is seen when it is loaded."""
    if not path.is_file():
        raise InputError(f"network.start_from: {path} is no file: choose a LoRA in .safetensors form")
    if kind_of(path) != "safetensors":
        raise InputError(f"network.start_from: {path} is a pickle: choose a LoRA in .safetensors form")
    names = read_header(path).tensors
    if not any(kind in name for name in names for kind in ("lora", "hada", "lokr")):
        first = next(iter(names), "nothing")
        raise InputError(f"network.start_from: {path} is no LoRA, it holds {first[:80]!r}: choose another file")


def check_text(path: Path) -> None:
    """Whether a file of prompts is text; its prompts are read by what makes the samples."""
    remedy = "give a text file in UTF-8 with one prompt a line"
    read_text(f"sample.file: {path}", path, LONGEST_PROMPTS, remedy)


def check_writable(field: str, folder: Path) -> None:
    """Whether a folder can be made and written; makes nothing."""
    if not folder.is_absolute():  # configio makes all paths absolute but those of another system
        raise InputError(f"{field}: {folder} is no path of this machine: choose a folder here")
    try:
        near = next(place for place in (folder, *folder.parents) if place.exists())
    except OSError as error:
        raise InputError(f"{field}: {folder} cannot be looked at ({error.strerror}): choose another folder") from error
    if not near.is_dir():
        raise InputError(f"{field}: {near} is a file: choose a folder")
    if not os.access(near, os.W_OK | os.X_OK):
        raise InputError(f"{field}: {near} may not be written: choose another folder, or change its permissions")


def check_goal(config: Config) -> None:
    """Raises InputError when the finished model would take the place of the base model, or of a folder that is none."""
    if not isinstance(config.network, Full) or config.output.folder is None:
        return
    goal, base = Path(config.output.folder) / config.output.name, Path(config.model.base).expanduser()
    if config.network.form == "diffusers":
        refuse_others(goal)
    else:
        goal = goal.with_name(f"{goal.name}.safetensors")
    if base.exists() and goal.exists() and goal.samefile(base):
        raise InputError(f"output.name: {goal} is the base model, and would be lost: choose another name or folder")


def refuse_others(folder: Path) -> None:
    """Raises InputError when a folder is there that is no diffusers model."""
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise InputError(f"output.name: {folder} is there and is no diffusers folder: choose another name or folder")


# Packages and devices


def check_packages(config: Config) -> None:
    """Whether the packages that options ask for are installed, and work where the training is to run."""
    if config.train.attention == "xformers" and find_spec("xformers") is None:
        raise InputError("train.attention: xformers is not installed: `pip install xformers`, or set it to sdpa")
    kind, word = KINDS[config.optimizer.type], config.optimizer.type
    library = kind.path.partition(".")[0]
    if find_spec(library) is None:
        raise InputError(
            f"optimizer.type: {word} needs the package {kind.install}, which is not installed:"
            f" `pip install {kind.install}`, or choose adamw"
        )
    if library == "bitsandbytes" and on_mps(config.train):
        raise InputError(f"optimizer.type: {word} does not run on a Mac's GPU: choose adamw")
    if config.memory.base_weights in ("int8", "nf4") and find_spec("bitsandbytes") is None:
        raise InputError(
            f"memory.base_weights: {config.memory.base_weights} needs the package bitsandbytes, which is not installed:"
            " `pip install bitsandbytes`, or choose fp8"
        )
    if config.memory.base_weights != "same" and on_mps(config.train):
        raise InputError(
            f"memory.base_weights: {config.memory.base_weights} does not run on a Mac's GPU: set it to same"
        )


def check_paging(config: Config) -> list[str]:
    """Says it when an optimizer cannot do what it is chosen for: only a CUDA card has memory to page from."""
    if not KINDS[config.optimizer.type].paged or config.train.device != "cpu":
        return []
    return [f"optimizer.type: {config.optimizer.type} pages its state on CUDA alone: here all of it stays in memory"]


def on_mps(train: Train) -> bool:
    """Whether a training will run on a Mac's GPU, as far as can be told without torch."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return train.device == "mps" or (train.device == "auto" and apple)


# Options that depend on the model, or on each other


def check_prediction(objective: Objective, prediction: Prediction) -> None:
    """Raises InputError when a weight is meant for the other kind of model; sd-scripts refuses the same two."""
    if objective.scale_v and prediction == "epsilon":
        raise InputError("objective.scale_v is for v-prediction and this model predicts epsilon: set it to false")
    if objective.v_like is not None and prediction == "v":
        raise InputError("objective.v_like is for epsilon and this model predicts v: leave it empty")


def check_rates(config: Config, found: Detected) -> list[str]:
    """Whether the parts that the model has can learn at their rates; names rates of parts that it has not."""
    family = FAMILIES[found.family]
    parts = ("unet", "text_encoder", "text_encoder_2")[: 1 + len(family.counts.text)]
    trained = [part for part in parts if getattr(config.rates, part) is not None]
    if not trained:
        raise InputError(f"rates: none of {', '.join(parts)} is trained: give one of them a rate, or `same`")
    if isinstance(config.network, Full):
        check_blocks(config.network, found)
    if isinstance(config.network, Blocks):
        sizes(config.network, found.family)  # refuses lists that are not as long as the model has blocks
    check_boft(config, found)
    if isinstance(config.network, Embedding):
        trained = [part for part in trained if part != "unet"]
        if not trained:
            raise InputError(f"rates: new words learn in {' and '.join(parts[1:])}: give one of them a rate, or `same`")
        if config.data.cache_text:
            raise InputError("data.cache_text: what captions are read as is what new words change: set it to false")
    texts = [f"rates.{part}" for part in trained if part != "unet"]
    if config.data.cache_text and texts:
        raise InputError(f"data.cache_text needs text encoders that are not trained: set {' and '.join(texts)} to null")
    rates = rates_of(config, trained, found.family)
    if pivotal := config.pivotal:
        own = config.optimizer.lr if pivotal.rate == "same" else pivotal.rate
        rates |= {f"{part} words": own for part in parts[1:]}
    check_optimizer(config.optimizer, rates)
    rate = config.optimizer.lr
    if config.schedule.type == "polynomial" and rate is not None and rate <= POLYNOMIAL_END:
        raise InputError(
            f"schedule.type: polynomial falls to {POLYNOMIAL_END:g}, which is not below optimizer.lr {rate:g}:"
            " raise the rate, or choose another schedule"
        )
    unused = [(part, rate) for part, rate in config.rates if part not in parts and isinstance(rate, float)]
    return [f"rates.{part}: {rate:g} is not used: {family.title} has no such part" for part, rate in unused]


def check_boft(config: Config, found: Detected) -> None:
    """Whether BOFT's rank fits every layer; with a filter, or a model of its own size, that is seen at the layers."""
    network, pocket = config.network, config.model.base == "pocket"
    if not isinstance(network, Boft) or network.filter or (found.config and not pocket):
        return
    layers = trained_layers(network, "pocket" if pocket else found.family, found.family)
    rows = {row.shape[0]: rank for row, rank in layers if len(row.shape) > 1 and getattr(config.rates, row.part)}
    if wrong := [count for count, rank in rows.items() if butterfly(count, rank)[0] > rank]:
        least = max(butterfly(count, network.rank)[0] for count in wrong)
        raise InputError(
            f"network.rank: {network.rank} cuts {wrong[0]} rows into no blocks that BOFT can turn, whose number must be"
            f" a power of two and whose size even: set it to {least} or more"
        )


def check_blocks(network: Full, found: Detected) -> None:
    """Whether there is a rate for each block of the U-Net."""
    if network.block_rates and len(network.block_rates) != (count := UNET_BLOCKS[found.family]):
        raise InputError(
            f"network.block_rates: {len(network.block_rates)} rates, and the UNet of {FAMILIES[found.family].title} has"
            f" {count} blocks: give {count}, or leave it empty for one rate"
        )


def rates_of(config: Config, trained: list[str], family: str) -> dict[str, float | None]:
    """The rate of each group of parameters; with LoRA+ the up matrices of a part are a group of their own."""
    rates: dict[str, float | None] = {}
    network = config.network
    for part in trained:
        if part == "unet" and isinstance(network, Full) and network.block_rates:
            rates |= {f"unet block {block:02}": rate for block, rate in enumerate(network.block_rates) if rate}
            continue
        own = getattr(config.rates, part)
        rates[part] = rate = config.optimizer.lr if own == "same" else own
        if part == "unet" and isinstance(network, Blocks) and (shares := weights(network, family)):
            if rate is None:
                raise InputError("network.down_weights: the optimizer has no rate to share: give optimizer.lr a value")
            rates |= {f"unet_block{block}": rate * share for block, share in enumerate(shares) if share}
        if not isinstance(network, Plus):
            continue
        if ratio := (network.loraplus_unet if part == "unet" else network.loraplus_text) or network.loraplus:
            if rate is None:
                raise InputError("network.loraplus: the optimizer has no rate to multiply: give optimizer.lr a value")
            rates[f"{part} plus"] = rate * ratio
    return rates


def check_optimizer(optimizer: Optimizer, rates: Rates) -> None:
    """Raises InputError when an optimizer that finds its own rate is given several."""
    shown = ", ".join(f"{name} {rate}" for name, rate in rates.items())
    if KINDS[optimizer.type].one_rate and len(set(rates.values())) > 1:
        raise InputError(
            f"{KINDS[optimizer.type].name} finds one rate for everything, but the rates differ ({shown}):"
            " set rates to `same` or empty, and leave the LoRA+ ratios empty"
        )
    if optimizer.type == "adafactor" and optimizer.lr is None and set(rates.values()) != {None}:
        raise InputError(
            f"Adafactor with an empty lr finds its own rates, but some are given ({shown}):"
            " set rates to `same` or empty and leave the LoRA+ ratios empty, or give optimizer.lr"
        )
