"""A LoRA brought to another rank, by the singular values of each layer's change."""

from __future__ import annotations

from typing import Any

from trainer.tools import facts
from trainer.tools.devices import device_of
from trainer.tools.factors import Choose, above_share, choose_rank, fixed, holding, narrow, split_product
from trainer.tools.layers import dtype_of, written
from trainer.tools.loras import Layer, LoraFile
from trainer.tools.options import Resize
from trainer.tools.report import Report, Steps, Stop, Tell, never, silent
from trainer.tools.tensors import Later, Shelf, destination, write_network


def run(options: Resize, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes the resized LoRA, under the names of kohya."""
    lora = LoraFile("model", options.model)
    lora.refuse_dora("model", "resized")
    path = destination(options.save_to, [lora.path], options.overwrite)
    dtype, device = dtype_of(options.save_precision, [lora]), device_of(options.device)
    steps, tensors, told = Steps(len(lora.layers), tell, should_stop), dict[str, Later](), list[dict[str, Any]]()
    with Shelf(path) as shelf:
        for name, layer in lora.layers.items():
            up, down = (layer.sound("model", factor) for factor in layer.factors())
            found = split_product(up.to(device).double(), down.to(device).double())
            rank = choose_rank(found, _rule(options), _most(options, layer))
            scale = layer.alpha / layer.rank
            tensors |= shelf.keep(written(name, *narrow(found, rank), layer.shape, scale * rank, dtype))
            squares = found.values.square()
            kept = float((squares[:rank].sum() / squares.sum()).sqrt()) if squares.sum() else 1.0
            told.append({"name": name, "was": layer.rank, "rank": rank, "alpha": scale * rank, "kept": kept})
            steps.step()
        write_network(path, {**tensors, **lora.words}, _metadata(options, lora, told))
    ranks = sorted(line["rank"] for line in told)
    kept = sum(line["kept"] for line in told) / len(told)
    said = (
        f"{path}: {len(told)} layers, rank {_span(lora.ranks)} before and {_span(ranks)} now;"
        f" {kept:.2%} of their norms are kept on average."
    )
    lines = [f"{line['name']}: rank {line['rank']}, {line['kept']:.1%} of the norm" for line in told]
    return Report(said, [str(path)], lines if options.verbose else [], {"modules": told, "kept": kept})


def _rule(options: Resize) -> Choose:
    match options.dynamic_method:
        case "sv_ratio":
            return above_share(1 / options.dynamic_param)
        case "sv_fro":
            return holding(options.dynamic_param, 2)
        case "sv_cumulative":
            return holding(options.dynamic_param, 1)
    return fixed(4096)


def _most(options: Resize, layer: Layer) -> int:
    return options.new_conv_rank or options.new_rank if layer.is_conv else options.new_rank


def _metadata(options: Resize, lora: LoraFile, told: list[dict[str, Any]]) -> dict[str, str]:
    """All that the LoRA said of itself, with its new rank and a note, in the words of sd-scripts."""
    was = max(line["was"] for line in told)
    if options.dynamic_method != "None":
        note = f"Dynamic resize with {options.dynamic_method}: {options.dynamic_param} from {was}"
        return facts.commented(lora.metadata, note) | {"ss_network_dim": "Dynamic", "ss_network_alpha": "Dynamic"}
    conv = options.new_conv_rank
    note = f"dimension is resized from {was} to {options.new_rank}" + (f" (conv: {conv})" if conv else "")
    alphas = {line["alpha"] for line in told if line["rank"] == options.new_rank} or {told[-1]["alpha"]}
    dims = {"ss_network_dim": str(options.new_rank), "ss_network_alpha": str(max(alphas))}
    return facts.commented(lora.metadata, note) | dims


def _span(numbers: list[int]) -> str:
    return f"{numbers[0]}" if numbers[0] == numbers[-1] else f"{numbers[0]} to {numbers[-1]}"
