"""The model's own weights as what is trained: DreamBooth and fine-tuning.

A weight that is trained in full precision beside a model of 16 bits has a master in fp32: the model computes with its
rounded copy, whose gradient goes to the master as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

import torch
from torch import Tensor, nn

from trainer.config import Config, Rates
from trainer.config.full import Full
from trainer.devices import DTYPES
from trainer.errors import InputError
from trainer.layout import UNET, unet_keys
from trainer.networks.base import Loaded, Model, Norms, Place
from trainer.networks.lora_file import NetworkError

AVERAGE = "average/"
BLOCKS = ("time_embed", "label_emb")
"""What sd-scripts counts as a U-Net's first block, number 0, in the original layout's names."""


class WholeModel(Model, Protocol):
    """A model with what is never trained."""

    vae: Any


@dataclass
class Weight:
    """One trained parameter of the model."""

    part: str
    name: str
    block: int | None
    """The U-Net's block that it is in, where blocks have rates of their own."""
    own: nn.Parameter
    """What the model computes with."""
    master: nn.Parameter
    """What the optimizer moves: the same, or its fp32 original."""
    average: Tensor | None = None
    """The moving average, float32."""
    base: Tensor | None = None
    """What it was before training, on the CPU, where that is asked for."""
    put_by: Tensor | None = None
    """The trained numbers, while the average stands in their place."""

    @property
    def key(self) -> str:
        """Its name in a state."""
        return f"{self.part}/{self.name}"

    @property
    def best(self) -> Tensor:
        """What is to be saved."""
        return self.master.detach() if self.average is None else self.average


class FullNetwork:
    """The trained weights of a model; everything else of it is frozen."""

    def __init__(self, options: Full, weights: list[Weight], modules: Mapping[str, nn.Module]) -> None:
        self.options, self.weights = options, weights
        self.loaded: Loaded | None = None
        self.training = True
        self.places = {
            path: Place(path.partition("/")[0], path.partition("/")[2], cast(Any, modules[path]))
            for path in dict.fromkeys(weight.key.rpartition(".")[0] for weight in weights)
        }
        self._optimizer: torch.optim.Optimizer | None = None
        self._group_of: dict[nn.Parameter, int] = {}
        self._stepping = self._aside = False

    @classmethod
    def attach(cls, family: WholeModel, config: Config) -> Self:
        """Takes over the weights of a model that was loaded in the precision of its masters.

        What is not trained is rounded to the precision that the model computes in.
        """
        options, rates = cast(Full, config.network), config.rates
        own_rates, dtype = options.block_rates or (), DTYPES[config.train.precision]
        keep = config.objective.prior != "pictures" or config.compare.every_epochs is not None
        weights: list[Weight] = []
        modules: dict[str, nn.Module] = {}
        for part, module in family.parts.items():
            modules |= {f"{part}/{path}": inner for path, inner in module.named_modules()}
            blocks = block_of(module) if part == "unet" and own_rates else {}
            for name, own in module.named_parameters():
                block = blocks.get(name)
                if getattr(rates, part) is None or (block is not None and not own_rates[block]):
                    own.data = own.data.to(dtype)
                    continue
                master = own
                if own.dtype != dtype:
                    master = nn.Parameter(own.data)
                    own.data = own.data.to(dtype)
                own.requires_grad_(True)
                average = None if options.average is None else master.detach().float().clone()
                base = own.detach().to("cpu", copy=True) if keep else None
                weights.append(Weight(part, name, block, own, master, average, base))
        network = cls(options, weights, modules)
        if config.model.vae_precision != "fp32":
            family.vae.to(dtype)
        for weight in weights:
            if weight.master is not weight.own or options.fused:
                weight.own.register_post_accumulate_grad_hook(network._arrives(weight))
        network.ready()
        return network

    # A step

    def at(self, step: int, steps: int) -> None:
        """To be called before each step: from `text_stop` on, text encoders are frozen."""
        stop = self.options.stop_step(steps)
        for weight in self.weights:
            if weight.part != "unet":
                weight.own.requires_grad_(stop is None or step < stop)
        self._stepping = True

    def draw(self, step_seed: int) -> None:
        """There are no dropouts."""

    @torch.no_grad()
    def ready(self) -> None:
        """The model's copies of masters; in eval mode of the average, where one is kept."""
        if self._aside:
            return
        for weight in self.weights:
            source = weight.master if self.training or weight.average is None else weight.average
            if weight.own is not weight.master:
                weight.own.data.copy_(source)

    def train(self, mode: bool = True) -> Self:
        """With the trained weights, or with their average, where one is kept."""
        if mode != self.training:
            self.training = mode
            for weight in self.weights:
                if weight.average is not None and weight.own is weight.master:
                    _exchange(weight, mode)
        self.ready()
        return self

    def eval(self) -> Self:
        """With the average of the weights, where one is kept: what will be saved."""
        return self.train(False)

    @torch.no_grad()
    def limit_norms(self) -> Norms | None:
        """Takes the step into the average: average * decay + weight * (1 - decay). There are no norms to limit."""
        if decay := self.options.average:
            for weight in self.weights:
                assert weight.average is not None, "attach makes averages of all"
                weight.average.mul_(decay).add_(weight.master, alpha=1 - decay)
        return None

    def fuse(self, optimizer: torch.optim.Optimizer) -> None:
        """From now on each weight is stepped in the backward pass, when its gradient is there, which is then dropped.

        The optimizer must treat each weight by itself. In `at`'s absence, as in a rehearsal, gradients are dropped.
        """
        self._optimizer = optimizer
        groups = optimizer.param_groups
        self._group_of = {weight: place for place, group in enumerate(groups) for weight in group["params"]}

    def _arrives(self, weight: Weight) -> Any:
        """What happens when a gradient is there."""

        def hook(own: Tensor) -> None:
            grad, master = own.grad, weight.master
            if master is not own and grad is not None:
                own.grad = None
                master.grad = grad.to(master.dtype) if master.grad is None else master.grad.add_(grad)
            if self._optimizer is not None:
                if self._stepping:
                    _refuse_nan(weight)
                    self._step(self._optimizer, weight)
                master.grad = None

        return hook

    @torch.no_grad()
    def _step(self, optimizer: torch.optim.Optimizer, weight: Weight) -> None:
        """A step of one weight: the optimizer is shown no other, and finds its state by the weight itself."""
        groups = optimizer.param_groups
        optimizer.param_groups = [{**groups[self._group_of[weight.master]], "params": [weight.master]}]
        try:
            optimizer.step()
        finally:
            optimizer.param_groups = groups
        if weight.own is not weight.master:
            weight.own.data.copy_(weight.master)

    # What it was, is, and is called

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The model as it was before, while inside: its weights wait on the CPU meanwhile, so the GPU needs no more."""
        if any(weight.base is None for weight in self.weights):
            raise NetworkError(
                "the model as it was before training is not kept: set objective.prior or compare.every_epochs in the"
                " config that the training starts with"
            )
        waiting = [weight.own.data.to("cpu", copy=True) for weight in self.weights]
        self._aside = True
        for weight in self.weights:
            weight.own.data.copy_(cast(Tensor, weight.base))  # by `data`: a backward pass may wait for what stood here
        try:
            yield
        finally:
            for weight, trained in zip(self.weights, waiting, strict=True):
                weight.own.data.copy_(trained)
            self._aside = False

    def groups(self, rates: Rates, lr: float | None) -> list[dict[str, Any]]:
        """One group for each part, or for each block of the U-Net where they have rates of their own."""
        groups: dict[str, dict[str, Any]] = {}
        blocks = self.options.block_rates or ()
        for weight in self.weights:
            rate = getattr(rates, weight.part)
            name, own = weight.part, lr if rate == "same" else rate
            if weight.block is not None:
                name, own = f"unet block {weight.block:02}", blocks[weight.block]
            groups.setdefault(name, {"params": [], "lr": own, "name": name})["params"].append(weight.master)
        return list(groups.values())

    def parameters(self) -> Iterator[nn.Parameter]:
        """All masters."""
        return (weight.master for weight in self.weights)

    def tensors(self) -> dict[str, Tensor]:
        """All masters and averages, by part and name. No copies, for they are gigabytes: write them at once."""
        averages = {f"{AVERAGE}{weight.key}": weight.average for weight in self.weights if weight.average is not None}
        return {weight.key: weight.master.detach() for weight in self.weights} | averages

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], source: str = "the state", strict: bool = True) -> Loaded:
        """Takes over what `tensors` gave; NetworkError when it is not of these weights, or, if `strict`, not of all."""
        mine = self.tensors()
        missing = tuple(name for name in mine if name not in tensors)
        unused = tuple(name for name in tensors if name not in mine)
        wrong = [name for name in mine if name in tensors and tensors[name].shape != mine[name].shape]
        if wrong or (strict and (missing or unused)):
            raise NetworkError(
                f"{source}: it is not of the weights that are trained here, such as {[*wrong, *missing, *unused][0]};"
                " the settings and the base model must be those it was made with"
            )
        taken = tuple(name for name in mine if name in tensors)
        for name in taken:
            mine[name].copy_(tensors[name])
        self.ready()
        return Loaded(taken, missing, unused)


def precision_of(config: Config) -> torch.dtype:
    """What a base model is loaded in: the precision of a training, or of the masters that its weights become."""
    if isinstance(config.network, Full) and not config.train.full:
        return torch.float32
    return DTYPES[config.train.precision]


def block_of(unet: nn.Module) -> dict[str, int]:
    """Which block of sd-scripts' count each parameter of a U-Net is in, by its name.

    0: the embeddings of time and size; then the input blocks, the three middle ones, the output blocks; the last layer.
    """
    keys = {name: key.removeprefix(UNET) for name, key in unet_keys(dict(unet.named_parameters())).items()}
    inputs, outputs = (_most(keys.values(), word) for word in ("input_blocks", "output_blocks"))
    starts = {"input_blocks": 1, "middle_block": 1 + inputs, "output_blocks": 4 + inputs, "out": 4 + inputs + outputs}

    def number(key: str) -> int:
        head, place = key.split(".")[:2]
        if head in BLOCKS:
            return 0
        return starts[head] + (0 if head == "out" else int(place))

    return {name: number(key) for name, key in keys.items()}


def _refuse_nan(weight: Weight) -> None:
    """A fused step cannot be taken back, so each gradient is looked at before it; this waits for the GPU."""
    if weight.master.grad is not None and not weight.master.grad.isfinite().all():
        raise InputError(
            f"the gradient of {weight.part} {weight.name} is not finite; its weights before this step are kept. Lower"
            " optimizer.lr, or set train.precision to no"
        )


def _most(keys: Iterable[str], word: str) -> int:
    return 1 + max(int(key.split(".")[1]) for key in keys if key.startswith(f"{word}."))


def _exchange(weight: Weight, training: bool) -> None:
    """Puts the average in the place of the trained weight, or the weight back."""
    if training:
        weight.own.data, weight.put_by = cast(Tensor, weight.put_by), None
    else:
        weight.put_by = weight.own.data
        weight.own.data = cast(Tensor, weight.average).to(weight.own.dtype, copy=True)
