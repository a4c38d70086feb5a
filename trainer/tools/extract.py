"""A LoRA or LoCon out of two checkpoints: the singular value decomposition of the difference, layer by layer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from trainer.checkpoint import PRECISIONS
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.tools import facts
from trainer.tools.checkpoints import Checkpoint, Spot
from trainer.tools.devices import device_of
from trainer.tools.factors import Choose, above, above_share, below_sum, choose_rank, fixed, narrow, split
from trainer.tools.options import Extract
from trainer.tools.report import Report, Steps, Stop, Tell, never, silent
from trainer.tools.tensors import Later, Shelf, destination, write_network


class Taken(NamedTuple):
    """One layer that was extracted: its rank, the norm of the difference, and of what the rank cannot hold."""

    name: str
    rank: int
    conv: bool
    norm: float
    lost: float


def run(options: Extract, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes the LoRA that turns one model into the other; InputError when they do not belong together."""
    tuned, base = Checkpoint("model_tuned", options.model_tuned), Checkpoint("model_org", options.model_org)
    _check(tuned, base)
    path = destination(options.save_to, [tuned.path, base.path], options.overwrite)
    device = device_of(options.device)
    kinds = ("lora", "locon") if options.conv_dim else ("lora",)
    spots = {name: spot for name, spot in base.spots.items() if spot.kind in kinds}
    same, lines = _text_encoders_alike(tuned, base, spots, options.min_diff)
    spots = {name: spot for name, spot in spots.items() if spot.part not in same}
    steps, taken = Steps(len(spots), tell, should_stop), list[Taken]()
    tensors: dict[str, Later] = {}
    with Shelf(path) as shelf:
        for name, spot in spots.items():
            difference = _difference(tuned, base, spot).to(device)
            if not difference.isfinite().all():
                raise InputError(f"model_tuned: {name} holds NaN or infinity, or model_org's does; choose whole models")
            if difference.any():
                made, layer = _extract(name, difference, options)
                tensors |= shelf.keep(made)
                taken.append(layer)
            steps.step()
        if not taken:
            raise InputError("model_tuned: no layer that a LoRA holds differs from model_org; choose another model")
        write_network(path, tensors, _metadata(base, tuned, path, taken))
    if unchanged := len(spots) - len(taken):
        lines.append(f"{unchanged} of {len(spots)} layers are the same in both models and are left out.")
    return _report(options, str(path), taken, lines)


def _check(tuned: Checkpoint, base: Checkpoint) -> None:
    if tuned.family != base.family:
        raise InputError(
            f"model_tuned: {tuned.path} is {FAMILIES[tuned.family].title}, and model_org is"
            f" {FAMILIES[base.family].title}; choose two models of one family"
        )
    if tuned.path.samefile(base.path):
        raise InputError(f"model_tuned: {tuned.path} is model_org itself; choose the model that was made from it")
    if place := next((place for place, shape in base.shapes.items() if tuned.shapes.get(place) != shape), None):
        raise InputError(
            f"model_tuned: {tuned.path} has {base.keys[place]} of shape {list(tuned.shapes.get(place, ()))}, and"
            f" model_org of {list(base.shapes[place])}; choose two models of one size"
        )


def _difference(tuned: Checkpoint, base: Checkpoint, spot: Spot) -> Tensor:
    return tuned.weight(spot).detach().float() - base.weight(spot).detach().float()


def _text_encoders_alike(
    tuned: Checkpoint, base: Checkpoint, spots: dict[str, Spot], limit: float
) -> tuple[set[str], list[str]]:
    """Text encoders none of whose weights differs by more than the limit, and a line on each."""
    same, lines = set[str](), list[str]()
    for part in sorted({spot.part for spot in spots.values()} - {"unet"}):
        largest = 0.0
        for spot in (spot for spot in spots.values() if spot.part == part):
            largest = max(largest, float(_difference(tuned, base, spot).abs().max()))
            if largest > limit:
                break
        else:
            same.add(part)
            hint = "" if largest == 0 else "; a smaller min_diff takes it in"
            lines.append(f"{part} is left out: it differs by {largest:.3g} at most, and min_diff is {limit:g}{hint}.")
    return same, lines


def _rule(options: Extract, conv: bool) -> Choose:
    """How many singular values a layer keeps; 1x1 convolutions count as linear, as in LyCORIS."""
    match options.mode:
        case "threshold":
            return above(options.conv_threshold if conv else options.linear_threshold)
        case "ratio":
            return above_share(options.conv_ratio if conv else options.linear_ratio)
        case "quantile":
            return below_sum(options.conv_quantile if conv else options.linear_quantile)
    return fixed(options.conv_dim if conv else options.dim)


def _extract(name: str, difference: Tensor, options: Extract) -> tuple[dict[str, Tensor], Taken]:
    """The three tensors of a layer; alpha is the rank, so that strength 1 is the difference itself."""
    conv = any(side > 1 for side in difference.shape[2:])
    matrix = difference.flatten(1)
    found = split(matrix)
    rank = choose_rank(found, _rule(options, conv))
    up, down = narrow(found, rank, options.clamp_quantile)
    dtype = PRECISIONS["fp32" if options.save_precision == "keep" else options.save_precision]
    up, down = up.to(dtype), down.to(dtype)
    norm, lost = float(matrix.norm()), float((matrix - up.float() @ down.float()).norm())
    ones = (1,) * (difference.ndim - 2)
    tensors = {
        f"{name}.alpha": torch.tensor(float(rank), dtype=dtype),
        f"{name}.lora_down.weight": down.reshape(rank, *difference.shape[1:]).cpu().contiguous(),
        f"{name}.lora_up.weight": up.reshape(len(up), rank, *ones).cpu().contiguous(),
    }
    if bad := next((key for key, tensor in tensors.items() if not tensor.isfinite().all()), None):
        raise InputError(f"{bad} does not fit in {options.save_precision}; set save_precision to fp32 or bf16")
    return tensors, Taken(name, rank, conv, norm, lost)


def _metadata(base: Checkpoint, tuned: Checkpoint, path: Path, taken: list[Taken]) -> dict[str, str]:
    """What sd-scripts writes for an extracted LoRA, and the two models' names."""
    ranks = {conv: [(layer.rank, float(layer.rank)) for layer in taken if layer.conv == conv] for conv in (False, True)}
    metadata = facts.network(base.family, tuned.found.prediction, ranks)
    metadata |= {"ss_sd_model_name": base.path.name, "ss_training_comment": f"extracted from {tuned.path.name}"}
    return metadata | facts.modelspec(base.family, tuned.found.prediction, path, True, time.time())


def _report(options: Extract, path: str, taken: list[Taken], lines: list[str]) -> Report:
    whole = sum(layer.norm**2 for layer in taken) ** 0.5
    lost = sum(layer.lost**2 for layer in taken) ** 0.5
    ranks = [layer.rank for layer in taken]
    spread = f"rank {ranks[0]}" if min(ranks) == max(ranks) else f"ranks {min(ranks)} to {max(ranks)}"
    said = f"{path}: {len(taken)} layers of {spread} hold {1 - (lost / whole) ** 2:.2%} of the difference."
    modules: list[dict[str, Any]] = [layer._asdict() for layer in taken]
    error = f"What is missing has {lost / whole:.2%} of the difference's norm."
    if options.clamp_quantile < 1 and lost > 0.05 * whole:
        error += " A higher rank, or clamp_quantile 1, keeps more."
    return Report(said, [path], [*lines, error], {"modules": modules, "error": lost / whole})
