"""A DyLoRA split into LoRAs of smaller ranks: its ranks are trained to be cut off anywhere."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from trainer.errors import InputError
from trainer.tools import facts
from trainer.tools.loras import LoraFile
from trainer.tools.options import DyLora
from trainer.tools.report import Report, Stop, Tell, never, silent
from trainer.tools.tensors import Later, at_hand, cast, destination, write_network


def run(options: DyLora, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes a file for every multiple of the unit below the full rank; alpha stays, as in sd-scripts."""
    lora = LoraFile("model", options.model)
    lora.refuse_dora("model", "split by rank")
    most = lora.ranks[-1]
    ranks = range(options.unit, most, options.unit)
    if not ranks:
        raise InputError(f"unit: {options.unit}, and the file's rank is {most}; give the unit that it was trained with")
    whole = destination(options.save_to, [], overwrite=True)
    paths = [whole.with_name(f"{whole.stem}-{rank:04}{whole.suffix}") for rank in ranks]
    for path in paths:
        destination(str(path), [lora.path], options.overwrite)
    done: list[str] = []
    for rank, path in zip(ranks, paths, strict=True):
        if should_stop():
            break
        note = f"split from DyLoRA, rank {most} to {rank}"
        metadata = facts.commented(lora.metadata, note) | {"ss_network_dim": str(rank)}
        write_network(path, cast({**_cut(lora, rank), **lora.words}, options.save_precision), metadata)
        done.append(str(path))
        tell(len(done), len(paths))
    said = f"{len(done)} of {len(paths)} LoRAs, of rank {ranks[0]} to {ranks[-1]}, beside {paths[0]}."
    return Report(said, done, stopped=len(done) < len(paths))


def _cut(lora: LoraFile, rank: int) -> dict[str, Later]:
    tensors: dict[str, Later] = {}
    for name, layer in lora.layers.items():
        if layer.mid:
            raise InputError(f"model: {lora.path}: {name} has a Tucker core, which a DyLoRA has not; choose a DyLoRA")
        least = min(rank, layer.rank)
        tensors[f"{name}.alpha"] = at_hand(torch.tensor(layer.alpha, dtype=layer.up.dtype), f"{name}.alpha")
        for side, part in (("down", layer.down), ("up", layer.up)):
            shape = (least, *part.shape[1:]) if side == "down" else (part.shape[0], least, *part.shape[2:])
            tensors[f"{name}.lora_{side}.weight"] = part.then(partial(_first, least, side), shape)
    return tensors


def _first(rank: int, side: str, tensor: Tensor) -> Tensor:
    return (tensor[:rank] if side == "down" else tensor[:, :rank]).contiguous()
