"""Networks of LyCORIS (Yeh et al. 2023, arXiv 2309.14859): lycoris-lora's own modules, beside frozen layers.

The library does the maths of a layer. Which layers there are, what they are called, how they start and what they leave
out is decided here: its own walk fails on Stable Diffusion 1.5, and draws from generators that no resume puts back.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

os.environ.setdefault("LYCORIS_KERNEL_BACKEND", "torch")  # the plain rules; its kernels add in another order

import torch
from torch import Tensor

from trainer.config import LoCon, Lycoris, Rates
from trainer.config.embedding import BUNDLE
from trainer.draws import seed_of
from trainer.filters import filter_of
from trainer.networks.base import Loaded, Model, Norms, Place
from trainer.networks.chosen import Choice, chosen
from trainer.networks.keys import PARTS, kohya_name, other_names
from trainer.networks.layered import LayeredNetwork
from trainer.networks.lora_file import NetworkError, check_family, read_lora
from trainer.networks.lycoris_layer import LycorisLayer, make_layer


class LycorisNetwork(LayeredNetwork[LycorisLayer, Lycoris]):
    """Modules of LyCORIS by their names in a file, each computing beside a frozen layer of the model."""

    @classmethod
    def attach(cls, family: Model, options: Lycoris, rates: Rates, seed: int, full: bool = False) -> Self:
        """A new network beside the trained parts of a model, or the one in `options.start_from`; the model is frozen.

        A part whose rate is off gets no layers. Each layer's first values are drawn from the seed and its name alone.
        With `full`, masters have the model's own precision. NetworkError when something does not fit the model.
        """
        for model in family.parts.values():
            model.requires_grad_(False)
        trained = [part for part in PARTS if part in family.parts and getattr(rates, part)]
        if not trained:
            raise NetworkError(f"rates: none of {', '.join(family.parts)} is trained; give one of them a rate")
        choices = dict(_choices(family, options, trained))
        if not choices:
            raise NetworkError(
                f"network.{'filter' if options.filter else 'preset'}: it chooses no layer of {', '.join(trained)};"
                " choose another, or train another part"
            )
        layers = {
            name: make_layer(name, choice, options, seed_of(seed, "init", name), full)
            for name, (_, choice) in choices.items()
        }
        places = {name: Place(part, choice.path, choice.module) for name, (part, choice) in choices.items()}
        network = cls(places, layers, family.name, options)
        if options.start_from:
            file = read_lora(options.start_from)
            network.loaded = network.load(file, str(options.start_from), strict=False)
        network.put_on()
        return network.train()

    def groups(self, rates: Rates, lr: float | None) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer, named after their part; `lr` is the rate that `same` stands for.

        A LoCon can have LoRA+: its up matrices are a group of their own, such as `unet plus`.
        """
        groups: list[dict[str, Any]] = []
        for part in dict.fromkeys(place.part for place in self.places.values()):
            layers = [layer for name, layer in self.layers.items() if self.places[name].part == part]
            named = [pair for layer in layers for pair in layer.named_parameters()]
            own = getattr(rates, part)
            rate, ratio = lr if own == "same" else own, self._ratio(part)
            up = [weight for name, weight in named if ratio and "lora_up" in name]
            rest = [weight for name, weight in named if not (ratio and "lora_up" in name)]
            groups.append({"params": rest, "lr": rate, "name": part})
            if ratio:
                if rate is None:
                    raise NetworkError(
                        "network.loraplus: the optimizer has no rate to multiply; give optimizer.lr a value"
                    )
                groups.append({"params": up, "lr": rate * ratio, "name": f"{part} plus"})
        return groups

    def _ratio(self, part: str) -> float | None:
        if not isinstance(self.options, LoCon):
            return None
        own = self.options.loraplus_unet if part == "unet" else self.options.loraplus_text
        return own or self.options.loraplus

    def at(self, step: int, steps: int) -> None:
        """Nothing: all of it is trained in every step."""

    def draw(self, step_seed: int) -> None:
        """Draws the dropouts of the next micro step, and a DyLoRA's ranks; they stay until the next draw."""
        for name, layer in self.layers.items():
            if layer.draws:
                layer.seed = seed_of(step_seed, "layer", name)

    def ready(self) -> None:
        """Nothing: modules compute from their masters."""

    @torch.no_grad()
    def limit_norms(self) -> Norms | None:
        """Scales down every module whose change has grown beyond `options.max_norm`, as lycoris does."""
        limit = getattr(self.options, "max_norm", None)
        if limit is None:
            return None
        training = self.training
        self.eval()  # or rows that are left out would be missing from the norm
        pairs = [layer.limit_norm(limit) for layer in self.layers.values()]
        self.train(training)
        norms = torch.stack([norm for scaled, norm in pairs if scaled is not None])
        count = sum(bool(scaled) for scaled, _ in pairs)
        return Norms(torch.tensor(count), norms.mean(), norms.max())

    def tensors(self) -> dict[str, Tensor]:
        """A copy of all weights on the CPU under LyCORIS's names, such as `<name>.hada_w1_a`."""
        return {
            f"{name}.{key}": tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else None, copy=True)
            for name, layer in self.layers.items()
            for key, tensor in layer.file().items()
        }

    def state(self) -> dict[str, Tensor]:
        """What training goes on from exactly: in a file scalars are multiplied into other weights."""
        return {
            f"{name}.{key}": tensor.detach().to("cpu", copy=True)
            for name, layer in self.layers.items()
            for key, tensor in layer.live().items()
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave; NetworkError when it belongs to another network."""
        live = {f"{name}.{key}": own for name, layer in self.layers.items() for key, own in layer.live().items()}
        if live.keys() != state.keys() or any(own.shape != state[key].shape for key, own in live.items()):
            raise NetworkError("the state belongs to another network; the network settings must be those of before")
        for key, own in live.items():
            own.copy_(state[key])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], source: str = "the network", strict: bool = True) -> Loaded:
        """Takes over a file's weights; NetworkError when they do not fit, or, if `strict`, when they are not all."""
        file: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, rest = key.partition(".")
            if name != BUNDLE:  # new words, which are no layers
                file.setdefault(name, {})[rest] = tensor
        check_family(file, self.family, source)
        known = {
            alias: name
            for name, (part, path, _) in self.places.items()
            for alias in (other_names(self.family, part, path)[0], name)
        }
        found = {known[name]: weights for name, weights in file.items() if name in known}
        missing = tuple(name for name in self.layers if name not in found)
        unused = tuple(name for name in file if name not in known)
        if not found:
            raise NetworkError(
                f"{source}: none of its {len(file)} layers is trained here; choose a file for this model and its parts"
            )
        if strict and (missing or unused):
            raise NetworkError(
                f"{source}: {len(missing)} layers are missing and {len(unused)} have no place here,"
                f" for instance {(missing + unused)[0]}; the network settings must be those it was made with"
            )
        for name, weights in found.items():
            with _said(source, name):
                self.layers[name].take(weights)
        return Loaded(tuple(found), missing, unused)


@contextmanager
def _said(source: str, name: str) -> Iterator[None]:
    """Puts the file and the layer before what is wrong with it."""
    try:
        yield
    except NetworkError as error:
        raise NetworkError(f"{source}: {name} {error}") from None


def _choices(family: Model, options: Lycoris, trained: list[str]) -> Iterator[tuple[str, tuple[str, Choice]]]:
    """The layers by their names in a file, each with its part."""
    layers, norms = filter_of(options), getattr(options, "train_norm", False)
    for part in trained:
        for choice in chosen(family.parts[part], family.name, part, layers, norms):
            yield kohya_name(family.name, part, choice.path), (part, choice)
