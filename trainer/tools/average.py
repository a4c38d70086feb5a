"""The average of a run's files: often smoother than each of them, and one candidate more to compare."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from trainer.compare.shelf import is_embedding
from trainer.errors import InputError
from trainer.tools import facts
from trainer.tools.loras import LoraFile
from trainer.tools.options import Average
from trainer.tools.report import Report, Steps, Stop, Tell, never, silent
from trainer.tools.tensors import Later, cast, destination, existing, write_network

NOTE = "average of "
STEP = re.compile(r"-(?:step)?(\d{6,8})$")


def run(options: Average, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes the weighted mean of each tensor; InputError when the files are not of one run."""
    files = [LoraFile("models", str(path)) for path in _files(options.models)]
    named = {Path(text).expanduser() for text in options.models}
    files = [file for file in files if file.path in named or not _is_average(file)]
    files = sorted(files, key=_age)[-(options.last or len(files)) :]
    if len(files) < 2:
        raise InputError(f"models: {len(files)} file to average; give two at least, or the folder of a run")
    path = destination(options.save_to, [file.path for file in files], options.overwrite)
    _check(files)
    weights = _weights(options, files)
    newest, tensors = files[-1], dict[str, Later]()
    for key, tensor in newest.tensors.items():
        parts = [file.tensors[key] for file in files]
        tensors[key] = Later(tensor.dtype, tensor.shape, partial(_mean, parts, weights), key)
    tensors = cast(tensors, options.save_precision)
    shares = ", ".join(f"{file.path.name} {weight:.0%}" for file, weight in zip(files, weights, strict=True))
    metadata = facts.commented(newest.metadata, f"{NOTE}{len(files)} files: {shares}")
    if any(key.startswith("modelspec.") for key in metadata):
        names = [file.path for file in files]
        told = facts.modelspec(newest.family, facts.prediction_of(metadata), path, True, time.time(), names)
        metadata |= {key: told[key] for key in ("modelspec.title", "modelspec.date", "modelspec.merged_from")}
    write_network(path, tensors, metadata, Steps(len(tensors), tell, should_stop))
    said = f"{path}: the average of {len(files)} files: {shares}."
    told_weights = {str(file.path): weight for file, weight in zip(files, weights, strict=True)}
    return Report(said, [str(path)], [], {"weights": told_weights})


def _files(texts: Sequence[str]) -> list[Path]:
    """The files themselves; of a folder those in it, of a run folder those in its `checkpoints`."""
    found: dict[Path, None] = {}
    for text in texts:
        path = existing("models", text)
        if path.is_dir():
            folder = Average.home(path)
            inside = [file for file in sorted(folder.glob("*.safetensors")) if not is_embedding(file)]
            if not inside:
                raise InputError(f"models: {folder} holds no LoRA; choose the folder of a run's LoRAs")
            found |= dict.fromkeys(inside)
        else:
            found[path] = None
    return list(found)


def _is_average(file: LoraFile) -> bool:
    """Whether a file of a folder was made by this tool."""
    return file.metadata.get("ss_training_comment", "").startswith(NOTE)


def _age(file: LoraFile) -> tuple[float, str]:
    """Steps trained, by the metadata, else by the name; a file without a number is the last one."""
    steps = file.metadata.get("ss_steps", "")
    named = STEP.search(file.path.stem)
    return float(steps) if steps.isdigit() else float(named[1]) if named else float("inf"), file.path.name


def _check(files: Sequence[LoraFile]) -> None:
    first = files[0]
    for file in files[1:]:
        one, other = (part.metadata.get("ss_session_id") for part in (first, file))
        if one and other and one != other:
            raise InputError(
                f"models: {file.path} and {first.path} are of different trainings (ss_session_id {other} and {one});"
                " averages are of one run, for two runs take `lora merge`"
            )
        if {key: tensor.shape for key, tensor in file.tensors.items()} != {
            key: tensor.shape for key, tensor in first.tensors.items()
        }:
            raise InputError(
                f"models: {file.path} has other layers or ranks than {first.path}; they are not of one run"
            )
        for name, layer in first.layers.items():
            if name not in file.layers or file.layers[name].alpha != layer.alpha:
                raise InputError(f"models: {file.path} has another alpha at {name} than {first.path}")


def _weights(options: Average, files: Sequence[LoraFile]) -> list[float]:
    """The weight of each file, oldest first; they add up to 1.

    ema: t ** g over the training so far (Karras et al. 2023, arXiv 2312.02696, eq. 3), where g follows from the width
    sqrt((g + 1) / ((g + 2)^2 (g + 3))); a file stands for the steps since the one before it.
    """
    if options.profile == "mean":
        return [1 / len(files)] * len(files)
    ages = [_age(file)[0] for file in files]
    if not all(0 < age < float("inf") for age in ages) or len(set(ages)) < len(ages):
        ages = [float(number + 1) for number in range(len(files))]
    power = _power(options.width) + 1
    marks = [0.0, *((age / ages[-1]) ** power for age in ages)]
    return [after - before for before, after in pairwise(marks)]


def _power(width: float) -> float:
    """The exponent whose profile has a width, by halving: the width falls as the exponent grows."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        wide = ((middle + 1) / ((middle + 2) ** 2 * (middle + 3))) ** 0.5
        low, high = (middle, high) if wide > width else (low, middle)
    return low


def _mean(parts: Sequence[Later], weights: Sequence[float]) -> Tensor:
    """The weighted mean of tensors, float64; one is in memory at a time."""
    total = torch.zeros(parts[0].shape, dtype=torch.float64)
    for part, weight in zip(parts, weights, strict=True):
        total.add_(part.detach().double(), alpha=weight)
    return total
