"""What is wrong with a training and can be known before its model is loaded. Brings no torch."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from trainer.config import Config, Objective, Optimizer, Prediction, Train
from trainer.data.folders import SHIPPED
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.detect import Detected
from trainer.families.header import kind_of, read_header

Rates = Mapping[str, float | None]
"""The rate of each group of parameters, by the group's name; None where the optimizer finds its own."""

LONGEST_PROMPTS = 4 * 2**20  # bytes; what is larger is a model or a picture chosen by mistake
POLYNOMIAL_END = 1e-7  # diffusers' own, and no option of its scheduler here


def check_early(config: Config, found: Detected) -> list[str]:
    """Raises InputError for what would fail once the model is loaded; gives what is probably not meant, in words."""
    check_files(config)
    for field, folder in (("output.folder", config.output.folder), ("output.logging", config.output.logging)):
        if folder:
            check_writable(field, Path(folder))
    check_packages(config)
    check_prediction(config.objective, found.prediction)
    return check_rates(config, found)


# Files


def check_files(config: Config) -> None:
    """Whether what is read beside the base model and the pictures is there, and is of its kind."""
    if vae := config.model.vae:
        if not Path(vae).exists():
            raise InputError(f"model.vae: {vae} does not exist: give a VAE file or folder, or leave it empty")
        if Path(vae).is_file() and kind_of(Path(vae)) == "safetensors":
            read_header(Path(vae))
    if start := config.network.start_from:
        check_lora(Path(start))
    if prompts := config.sample.file:
        check_text(Path(prompts))
    folder = config.validation.folder
    if folder and folder not in SHIPPED and not Path(folder).is_dir():
        raise InputError(f"validation.folder: {folder} is no folder: choose one with pictures, or leave it empty")


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
    try:
        if path.stat().st_size > LONGEST_PROMPTS:
            raise InputError(f"sample.file: {path} has {path.stat().st_size:,} bytes, no list of prompts: {remedy}")
        path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"sample.file: {path} cannot be read ({error}): {remedy}") from error


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


# Packages and devices


def check_packages(config: Config) -> None:
    """Whether the packages that options ask for are installed, and work where the training is to run."""
    if config.train.attention == "xformers" and find_spec("xformers") is None:
        raise InputError("train.attention: xformers is not installed: `pip install xformers`, or set it to sdpa")
    if config.optimizer.type == "adamw8bit":
        if find_spec("bitsandbytes") is None:
            raise InputError(
                "optimizer.type: adamw8bit needs the package bitsandbytes, which is not installed:"
                " `pip install bitsandbytes`, or choose adamw"
            )
        if on_mps(config.train):
            raise InputError("optimizer.type: adamw8bit does not run on a Mac's GPU: choose adamw")


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
    texts = [f"rates.{part}" for part in trained if part != "unet"]
    if config.data.cache_text and texts:
        raise InputError(f"data.cache_text needs text encoders that are not trained: set {' and '.join(texts)} to null")
    check_optimizer(config.optimizer, rates_of(config, trained))
    rate = config.optimizer.lr
    if config.schedule.type == "polynomial" and rate is not None and rate <= POLYNOMIAL_END:
        raise InputError(
            f"schedule.type: polynomial falls to {POLYNOMIAL_END:g}, which is not below optimizer.lr {rate:g}:"
            " raise the rate, or choose another schedule"
        )
    unused = [(part, rate) for part, rate in config.rates if part not in parts and isinstance(rate, float)]
    return [f"rates.{part}: {rate:g} is not used: {family.title} has no such part" for part, rate in unused]


def rates_of(config: Config, trained: list[str]) -> dict[str, float | None]:
    """The rate of each group of parameters; with LoRA+ the up matrices of a part are a group of their own."""
    rates: dict[str, float | None] = {}
    network = config.network
    for part in trained:
        own = getattr(config.rates, part)
        rates[part] = rate = config.optimizer.lr if own == "same" else own
        if ratio := (network.loraplus_unet if part == "unet" else network.loraplus_text) or network.loraplus:
            if rate is None:
                raise InputError("network.loraplus: the optimizer has no rate to multiply: give optimizer.lr a value")
            rates[f"{part} plus"] = rate * ratio
    return rates


def check_optimizer(optimizer: Optimizer, rates: Rates) -> None:
    """Raises InputError when an optimizer that finds its own rate is given several."""
    shown = ", ".join(f"{name} {rate}" for name, rate in rates.items())
    if optimizer.type == "prodigy" and len(set(rates.values())) > 1:
        raise InputError(
            f"Prodigy finds one rate for everything, but the rates differ ({shown}):"
            " set rates to `same` or empty, and leave the LoRA+ ratios empty"
        )
    if optimizer.type == "adafactor" and optimizer.lr is None and set(rates.values()) != {None}:
        raise InputError(
            f"Adafactor with an empty lr finds its own rates, but some are given ({shown}):"
            " set rates to `same` or empty and leave the LoRA+ ratios empty, or give optimizer.lr"
        )
