"""LoRAs merged into a checkpoint, or into one LoRA."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.tools import facts
from trainer.tools.blocks import block_of, read_weights
from trainer.tools.checkpoints import Change, Checkpoint, Place, spots
from trainer.tools.devices import device_of
from trainer.tools.factors import choose_rank, fixed, narrow, split_product
from trainer.tools.layers import Weighted, dtype_of, stacked, stacked_later, written
from trainer.tools.loras import Layer, LoraFile
from trainer.tools.options import Merge
from trainer.tools.report import Report, Steps, Stop, Tell, never, silent
from trainer.tools.tensors import Later, Shelf, destination, write, write_network


def run(options: Merge, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes the merged checkpoint or LoRA; InputError when the files do not belong together."""
    loras = [LoraFile("models", text) for text in options.models]
    base = Checkpoint("sd_model", options.sd_model) if options.sd_model else None
    family = base.family if base else loras[0].family
    for lora in loras:
        if lora.family != family:
            other = f"sd_model is {FAMILIES[family].title}" if base else f"the first is for {FAMILIES[family].title}"
            raise InputError(f"models: {lora.path} is a LoRA for {FAMILIES[lora.family].title}, and {other}")
    strengths = _strengths(options, loras, family)
    read = [lora.path for lora in loras] + ([base.path] if base else [])
    path = destination(options.save_to, read, options.overwrite)
    if base:
        return _into_checkpoint(options, base, loras, strengths, path, Steps(0, tell, should_stop))
    if len(loras) < 2 and options.method == "concat" and not (options.ratios or options.lbws):
        raise InputError("models: one LoRA alone; give two, or sd_model, or ratios or lbws that change it")
    for lora in loras:
        lora.refuse_dora("models", "merged into a LoRA")
    return _into_lora(options, loras, strengths, path, Steps(0, tell, should_stop))


def _strengths(options: Merge, loras: list[LoraFile], family: str) -> list[dict[str, float]]:
    """The strength of every layer of every LoRA: its ratio times the weight of its block."""
    count = len(loras)
    ratios = options.ratios * count if len(options.ratios) == 1 else options.ratios or (1.0,) * count
    texts = options.lbws * count if len(options.lbws) == 1 else options.lbws or ("",) * count
    told: list[dict[str, float]] = []
    for lora, ratio, text in zip(loras, ratios, texts, strict=True):
        weights = read_weights(text, family) if text.strip() else {}
        places = spots(family)
        blocks = {name: block_of(*places[name][:2]) if name in places else "" for name in lora.layers}
        told.append({name: ratio * weights.get(block, 1.0) for name, block in blocks.items()})
    return told


def _together(loras: list[LoraFile], strengths: list[dict[str, float]]) -> dict[str, Weighted]:
    """For each module the layers that change it; those of strength 0 do not."""
    found: dict[str, list[tuple[Layer, float]]] = {}
    for lora, strength in zip(loras, strengths, strict=True):
        for name, layer in lora.layers.items():
            if strength[name]:
                found.setdefault(name, []).append((layer, strength[name]))
    return {name: tuple(layers) for name, layers in found.items()}


def _into_checkpoint(
    options: Merge, base: Checkpoint, loras: list[LoraFile], strengths: list[dict[str, float]], path: Path, steps: Steps
) -> Report:
    together = _together(loras, strengths)
    changes: dict[Place, Change] = {}
    strange = sorted({name for lora in loras for name in lora.layers if name not in base.spots})
    for name, layers in together.items():
        if name not in base.spots:
            continue
        spot = base.spots[name]
        for layer, _ in layers:
            if not layer.fits(spot.shape):
                raise InputError(
                    f"models: {name} changes a weight of {list(layer.shape)}, and sd_model's is {list(spot.shape)};"
                    " the LoRA was made for another model"
                )
        changes[spot.part, f"{spot.path}.weight"] = partial(_applied, layers)
    if not changes:
        raise InputError(f"models: none of their layers has a place in {base.path}, or every strength is 0")
    tensors = base.originals(options.save_precision, changes)
    files = [lora.path for lora in loras]
    prediction = base.found.prediction
    metadata = {
        "format": "pt",
        **{key: text for key, text in base.metadata.items() if not key.startswith("modelspec.")},
    }
    metadata |= base.header() | facts.modelspec(base.family, prediction, path, False, time.time(), [base.path, *files])
    steps.total = len(tensors)
    write(path, tensors, metadata, steps)
    lines = [*_left_out(strange), *(line for lora in loras for line in lora.wordless())]
    said = f"{path}: {len(changes)} layers of {base.path.name} are changed by {', '.join(file.name for file in files)}."
    return Report(said, [str(path)], lines, {"changed": len(changes), "left_out": strange})


def _applied(layers: Weighted, weight: Tensor) -> Tensor:
    """A weight with the changes of some layers, float32."""
    for layer, strength in layers:
        weight = layer.applied(weight, strength)
    return weight


def _into_lora(
    options: Merge, loras: list[LoraFile], strengths: list[dict[str, float]], path: Path, steps: Steps
) -> Report:
    together = _together(loras, strengths)
    if not together:
        raise InputError("ratios: every strength is 0, nothing would be left; give one that is not")
    for name, layers in together.items():
        if not all(layer.fits(layers[0][0].shape) for layer, _ in layers):
            shapes = " and ".join(str(list(layer.shape)) for layer, _ in layers)
            raise InputError(f"models: {name} changes weights of {shapes}; they were made for different models")
    dtype, device = dtype_of(options.save_precision, loras), device_of(options.device)
    tensors: dict[str, Later] = {}
    words = {key: tensor for lora in reversed(loras) for key, tensor in lora.words.items()}  # the first one's win
    lost = whole = 0.0
    steps.total = 3 * len(together) + len(words) if options.method == "concat" else len(together)
    with Shelf(path) as shelf:
        for name, layers in together.items():
            if options.method == "concat":
                tensors |= stacked_later(name, layers, dtype)
                continue
            up, down, alpha = stacked(layers)
            found = split_product(up.to(device).double() * (alpha / len(down)), down.to(device).double())
            rank = choose_rank(found, fixed(options.new_conv_rank if layers[0][0].is_conv else options.new_rank))
            tensors |= shelf.keep(written(name, *narrow(found, rank), layers[0][0].shape, rank, dtype))
            lost += float(found.values[rank:].square().sum())
            whole += float(found.values.square().sum())
            steps.step()
        metadata = _metadata(loras, tensors, path)
        write_network(path, {**tensors, **words}, metadata, steps if options.method == "concat" else None)
    said = f"{path}: {len(together)} layers, the sum of {', '.join(lora.path.name for lora in loras)}."
    lines = [f"{1 - lost / whole:.2%} of the sum are kept." if whole else "All of the sum is kept."]
    if len(words) < sum(len(lora.words) for lora in loras):
        lines.append("Of a new word that several bring along, the first one's vectors are taken.")
    return Report(said, [str(path)], lines, {"layers": len(together), "error": (lost / whole) ** 0.5 if whole else 0.0})


def _metadata(loras: list[LoraFile], tensors: Mapping[str, Later], path: Path) -> dict[str, str]:
    """The fewest `ss_*` keys, as sd-scripts writes for a merged LoRA, and where it comes from."""
    prediction = facts.prediction_of(loras[0].metadata)
    ranks: dict[bool, list[tuple[int, float]]] = {False: [], True: []}
    for key, tensor in tensors.items():
        if key.endswith(".lora_down.weight"):
            alpha = float(tensors[f"{key.removesuffix('.lora_down.weight')}.alpha"].detach())
            ranks[any(side > 1 for side in tensor.shape[2:])].append((tensor.shape[0], alpha))
    metadata = facts.network(loras[0].family, prediction, ranks)
    return metadata | facts.modelspec(
        loras[0].family, prediction, path, True, time.time(), [lora.path for lora in loras]
    )


def _left_out(strange: list[str]) -> list[str]:
    if not strange:
        return []
    return [f"{len(strange)} layers have no place in the model and are left out: {', '.join(strange[:5])}."]
