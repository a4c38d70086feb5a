"""One module of lycoris-lora beside one frozen layer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from lycoris.modules.dylora import DyLoraModule
from lycoris.modules.full import FullModule
from lycoris.modules.norms import NormModule
from lycoris.wrapper import network_module_dict
from torch import Tensor, nn

from trainer.config import DyLora, Lycoris
from trainer.networks.chosen import Choice, Norm
from trainer.networks.lora_file import NetworkError

logging.getLogger("LyCORIS").setLevel(logging.ERROR)  # it tells every layer's factors on stdout

TYPES = {"diag_oft": "diag-oft", "native": "full"}
"""Our words for types that lycoris calls otherwise."""
SETTINGS = {
    "tucker": "use_tucker", "scalar": "use_scalar", "dora": "weight_decompose", "rs_lora": "rs_lora",
    "factor": "factor", "decompose_both": "decompose_both", "unit": "block_size", "constraint": "constraint",
    "rescaled": "rescaled", "on_input": "train_on_input", "bypass": "bypass_mode", "rank_dropout": "rank_dropout",
    "rank_dropout_scale": "rank_dropout_scale", "module_dropout": "module_dropout",
}  # fmt: skip
"""Our options, and lycoris's names for them."""
LOUD = ("lora_up.weight", "hada_w1_a", "lokr_w1", "lokr_w1_a", "a2.weight", "b2.weight")
"""Weights that a file with another alpha is scaled by: one factor of each product."""


class Frozen:
    """A frozen layer's weights in float32: in bf16 a weight and its small change would add up to the weight."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    @property
    def weight(self) -> Tensor:
        """Of the shape of the layer's."""
        return self._layer.weight.detach().float()

    @property
    def bias(self) -> Tensor | None:
        """None where the layer has none."""
        return None if self._layer.bias is None else self._layer.bias.detach().float()


class Live(Sequence[Tensor]):
    """A list of one tensor that is read anew each time, where lycoris would keep a copy of the whole base model."""

    def __init__(self, read: Callable[[], Tensor | None]) -> None:
        self._read = read

    def __getitem__(self, index: Any) -> Any:
        return self._read()

    def __len__(self) -> int:
        return 1


class LycorisLayer(nn.Module):
    """A module of lycoris, whose draws follow from a seed, and the frozen layer that it stands beside.

    No child of the frozen layer, nor the other way round: `attach` puts this forward in place of the frozen layer's,
    and `detach` takes it away.
    """

    module: Any

    def __init__(self, layer: Any, module: Any, draws: bool) -> None:
        super().__init__()
        self.frozen: tuple[Any] = (layer,)  # in a tuple, or its weights would count as ours
        self.module = module
        self.draws, self.seed = draws, 0
        op, module.org_module = module.op, [Frozen(layer)]

        def cast(x: Tensor, weight: Tensor, bias: Tensor | None = None, **how: Any) -> Tensor:
            return op(x, weight=weight.to(x.dtype), bias=None if bias is None else bias.to(x.dtype), **how)

        module.op = cast
        if isinstance(module, FullModule):
            base = module.org_module[0]
            module._org_weight = Live(lambda: base.weight)
            module.org_bias = None if module.bias is None else Live(lambda: base.bias)
        if isinstance(module, DyLoraModule):
            self.module.get_random_rank_weight = lambda: module.get_weight(self.block * module.block_size)

    @property
    def block(self) -> int:
        """Which block of a DyLoRA's ranks is the last one that computes: the drawn one, and out of training all."""
        count = self.module.block_count
        return self.seed % count if self.training else count - 1

    def attach(self) -> None:
        """Puts this forward before that of the frozen layer's class."""
        vars(self.frozen[0])["forward"] = self.forward

    def detach(self) -> None:
        """Takes it away again, without a trace."""
        del vars(self.frozen[0])["forward"]

    def forward(self, x: Tensor, *rest: Any, **more: Any) -> Tensor:
        """What the frozen layer gives, changed; alike whenever it is computed again in a step."""
        if not (self.training and self.draws):
            return self.module(x, *rest, **more)
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng([x.device] if x.is_cuda else []))
            stack.enter_context(x.device)  # lycoris draws LoKr's rows on the CPU, and multiplies on the GPU
            # On the CPU as in `make_layer`: noting stacks takes longer than a small layer does.
            (torch.default_generator if x.is_cpu else torch).manual_seed(self.seed)
            return self.module(x, *rest, **more)

    def limit_norm(self, limit: float) -> tuple[Tensor | None, Tensor]:
        """Whether the change had outgrown its limit, and its norm now; None for modules without a norm."""
        device = self.frozen[0].weight.device
        scaled, norm = self.module.apply_max_norm(limit, device)
        return scaled, norm if scaled is None else norm.to(device)

    def live(self) -> dict[str, Tensor]:
        """What changes while training, by its own name."""
        module = self.module
        own: dict[str, Tensor] = dict(module.named_parameters())
        if isinstance(scalar := getattr(module, "scalar", None), Tensor):
            own["scalar"] = scalar  # a buffer, which a limit on norms scales
        return own

    def file(self) -> dict[str, Tensor]:
        """The module as a file has it."""
        module = self.module
        if isinstance(module, FullModule):  # its own counts on weights that took the place of the layer's
            return {"diff": module.weight} if module.bias is None else {"diff": module.weight, "diff_b": module.bias}
        kept = dict(module.state_dict())
        if isinstance(module, DyLoraModule):
            kept["alpha"] = module.alpha * module.block_size
            up = kept["lora_up.weight"]  # of convolutions lycoris leaves out the window of 1, and cannot read it back
            kept["lora_up.weight"] = up.view(*up.shape, *(1 for _ in module.shape[2:]))
        return kept

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over a module out of a file; where its alpha is another, so that the change stays what it was."""
        kept, own = self.file(), self._homes()
        if strange := sorted(kept.keys() ^ weights.keys()):
            key, side = strange[0], "lacks" if strange[0] in kept else "has"
            raise NetworkError(f"{side} {key}; the type and options of the network must be those it was made with")
        factor = 1.0
        if any(key in LOUD for key in kept):
            factor = float(weights["alpha"]) / float(kept["alpha"])
            factor = 1.0 if abs(factor - 1) <= 1 / 256 else factor  # rounded by the file's precision
        for key, homes in own.items():
            value = weights[key] * factor if key in LOUD else weights[key]
            if value.shape != kept[key].shape:
                raise NetworkError(
                    f"has {key} of {[*value.shape]}, and here it is {[*kept[key].shape]};"
                    " rank, factor and unit must be those it was made with"
                )
            if isinstance(self.module, DyLoraModule):
                axis = 1 if key == "lora_up.weight" else 0
                value = value.flatten(1).chunk(len(homes), axis)
            for home, piece in zip(homes, value if len(homes) > 1 else [value], strict=True):
                home.copy_(torch.as_tensor(piece).view(home.shape))
        if isinstance(scalar := getattr(self.module, "scalar", None), Tensor):
            scalar.fill_(1.0)

    def _homes(self) -> dict[str, list[Tensor]]:
        """Where each tensor of a file belongs."""
        module = self.module
        if isinstance(module, DyLoraModule):
            return {"lora_up.weight": [*module.up_list], "lora_down.weight": [*module.down_list]}
        renamed = {"weight": "diff", "bias": "diff_b"} if isinstance(module, FullModule) else {}
        return {renamed.get(name, name): [own] for name, own in module.named_parameters() if name != "scalar"}


def make_layer(name: str, choice: Choice, options: Lycoris, seed: int, full: bool) -> LycorisLayer:
    """A module for a layer, drawn from a seed; float32 masters, or the layer's own precision with `full`."""
    layer, own = choice.module, dict(choice.own)
    given = {theirs: getattr(options, ours) for ours, theirs in SETTINGS.items() if hasattr(options, ours)}
    kind = own.pop("algo", None) or TYPES.get(options.type, options.type)
    rank, alpha = _size(layer, options)
    rank, alpha = own.pop("dim", None) or rank, own.pop("alpha", None) or alpha
    given = {"bypass_mode": False, **given, **own}
    if kind == "dylora":
        alpha /= given.get("block_size", DyLora().unit)  # lycoris divides by blocks, and who reads the file by ranks
    make: Any = NormModule if isinstance(layer, Norm) else network_module_dict[kind]
    if make is NormModule:
        given = {"module_dropout": given.get("module_dropout", 0.0)}  # its dropout of rows keeps what it should drop
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would note a stack for each kind of GPU
        try:
            module = make(name, layer, lora_dim=rank, alpha=alpha, **given)
        except (ValueError, AssertionError) as error:
            raise NetworkError(
                f"network: {options.type} of rank {rank} does not fit {name}, {[*layer.weight.shape]} ({error});"
                " give another rank or factor, or leave the layer out by a filter"
            ) from error
    if getattr(options, "dropout", 0) and make is not NormModule:
        setattr(module, "dropout" if kind in ("lora", "locon") else "drop", nn.Dropout(options.dropout))
    module.to(layer.weight.device, layer.weight.dtype if full else torch.float32)
    dropouts = ("module_dropout", "rank_dropout")
    draws = kind == "dylora" or bool(getattr(options, "dropout", 0)) or any(given.get(word) for word in dropouts)
    return LycorisLayer(layer, module, draws)


def _size(layer: Any, options: Any) -> tuple[int, float]:
    """Rank and alpha of a layer: convolutions wider than one pixel may have their own."""
    rank, alpha = getattr(options, "rank", 4), getattr(options, "alpha", 1.0)
    if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1) and getattr(options, "conv_rank", None):
        return options.conv_rank, getattr(options, "conv_alpha", 1.0)
    return rank, alpha
