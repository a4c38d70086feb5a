"""A LoRA under the names of kohya, diffusers or peft; the numbers stay to the bit, unless their precision changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.durable import write_json
from trainer.errors import InputError
from trainer.networks.keys import PARTS
from trainer.tools import facts
from trainer.tools.checkpoints import Spot, spots
from trainer.tools.loras import ADAPTER, ADAPTER_CONFIG, DIFFUSERS_CONFIG, PEFT, Layer, LoraFile
from trainer.tools.options import Convert
from trainer.tools.report import Report, Steps, Stop, Tell, never, silent
from trainer.tools.tensors import Later, at_hand, cast, destination, whole_folder, write, write_network

Layers = Mapping[str, tuple[Spot, Layer]]
"""Layers that have a place in the model, by kohya name."""


def run(options: Convert, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes the LoRA in another form; InputError for what that form cannot hold."""
    lora = LoraFile("model", options.model, options.family)
    peft = options.form == "peft"
    path = destination(options.save_to, [lora.path], options.overwrite, "" if peft else ".safetensors")
    if peft and path.exists() and not _is_adapter(path):
        raise InputError(f"save_to: {path} holds other things than adapters of peft; choose another name")
    places, lines = spots(lora.family), list[str]()
    layers = {name: (places[name], layer) for name, layer in lora.layers.items() if name in places}
    if not layers:
        raise InputError(f"family: no layer of {lora.path} is a module of {lora.family}; choose the other family")
    if strange := lora.strange:
        lines.append(f"{len(strange)} layers are no module of the model and are left out: {', '.join(strange[:5])}.")
    if any(layer.mid for _, layer in layers.values()) and options.form != "kohya":
        lines.append(f"Tucker cores are multiplied out, for {options.form} has none: the way back gives a plain LoCon.")
    if options.form != "kohya":
        lines += lora.wordless()
    steps = Steps(3 * len(layers) + len(lora.words), tell, should_stop)
    metadata = {key: text for key, text in lora.metadata.items() if key != DIFFUSERS_CONFIG} | {"format": "pt"}
    match options.form:
        case "kohya":
            metadata = _named(lora, layers) | metadata
            write_network(path, cast({**_kohya(layers), **lora.words}, options.save_precision), metadata, steps)
        case "diffusers":
            configs = {f"{part}.{key}": value for part in PARTS for key, value in _config(layers, part).items()}
            metadata[DIFFUSERS_CONFIG] = json.dumps(configs, indent=2, sort_keys=True)
            write_network(path, cast(_dotted(layers), options.save_precision), metadata, steps)
        case _:
            with whole_folder(path) as folder:
                _write_adapters(folder, layers, metadata, options.save_precision, steps)
    said = f"{path}: {len(layers)} layers of {lora.title}, in the form of {options.form}."
    return Report(said, [str(path)], lines, {"layers": len(layers), "family": lora.family, "left_out": strange})


def _kohya(layers: Layers) -> dict[str, Later]:
    tensors: dict[str, Later] = {}
    for name, (_, layer) in layers.items():
        alpha = torch.tensor(layer.alpha, dtype=layer.up.dtype)
        tensors[f"{name}.alpha"] = at_hand(alpha, f"{name}.alpha")
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = layer.down, layer.up
        if layer.mid:
            tensors[f"{name}.lora_mid.weight"] = layer.mid
        if layer.dora:
            tensors[f"{name}.dora_scale"] = layer.dora
    return tensors


def _dotted(layers: Layers, part: str | None = None) -> dict[str, Later]:
    """Under the names of diffusers, or of one part alone under peft's, which has no part in its names."""
    tensors: dict[str, Later] = {}
    for name, (spot, layer) in layers.items():
        if part not in (None, spot.part):
            continue
        path = spot.path if part or spot.part == "unet" else "text_model." + spot.path.removeprefix("text_model.")
        stem = f"{PEFT}{path}" if part else f"{spot.part}.{path}"
        down = layer.down
        if layer.mid:
            down = Later(down.dtype, (layer.rank, *layer.shape[1:]), lambda layer=layer: _plain_down(layer), down.name)
        tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"] = down, layer.up
        if layer.dora:
            if not layer.by_row:
                raise InputError(
                    f"model: {name} is a DoRA with norms by column, as old LyCORIS wrote them; diffusers and peft have"
                    " those by row alone. Merge it into a checkpoint, and extract a LoRA from that"
                )
            shape = (-1,) if len(layer.shape) == 2 else (1, -1, 1, 1)
            whole = (layer.shape[0],) if len(layer.shape) == 2 else (1, layer.shape[0], 1, 1)
            tensors[f"{stem}.lora_magnitude_vector"] = layer.dora.then(
                lambda norms, shape=shape: norms.reshape(shape), whole
            )
    return tensors


def _plain_down(layer: Layer) -> Tensor:
    return layer.factors()[1].reshape(layer.rank, *layer.shape[1:])


def _config(layers: Layers, part: str) -> dict[str, Any]:
    """What peft must know of a part's layers, the commonest rank and alpha for all and the others by path; {} for none.

    Paths are without `text_model.`, so that they are found in every version of transformers.
    """
    here = {spot.path.removeprefix("text_model."): layer for spot, layer in layers.values() if spot.part == part}
    if not here:
        return {}
    rank = Counter(layer.rank for layer in here.values()).most_common(1)[0][0]
    alpha = Counter(layer.alpha for layer in here.values()).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {path: layer.rank for path, layer in here.items() if layer.rank != rank},
        "alpha_pattern": {path: layer.alpha for path, layer in here.items() if layer.alpha != alpha},
        "target_modules": sorted(here),
        "use_dora": any(layer.dora for layer in here.values()),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }


def _write_adapters(folder: Path, layers: Layers, metadata: dict[str, str], precision: str, steps: Steps) -> None:
    """A folder for each part, as `PeftModel.from_pretrained(unet, folder / "unet")` reads it."""
    for part in PARTS:
        if config := _config(layers, part):
            write(folder / part / ADAPTER, cast(_dotted(layers, part), precision), metadata, steps)
            write_json(folder / part / ADAPTER_CONFIG, config)


def _is_adapter(path: Path) -> bool:
    """Whether a folder holds adapters of peft and nothing else."""
    return path.is_dir() and {file.name for file in path.iterdir()} <= set(PARTS)


def _named(lora: LoraFile, layers: Layers) -> dict[str, str]:
    """The `ss_*` keys that tools need to sort a LoRA, for one that came without."""
    if "ss_network_module" in lora.metadata:
        return {}
    ranks = {
        conv: [(layer.rank, layer.alpha) for _, layer in layers.values() if layer.is_conv == conv]
        for conv in (False, True)
    }
    return facts.network(lora.family, facts.prediction_of(lora.metadata), ranks)
