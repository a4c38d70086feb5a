"""LoRAs put on a model and taken off again while it stays where it is: nothing is merged, nothing is loaded anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainer.compare.shelf import digest_of
from trainer.compare.shot import Worn
from trainer.families.base import Family
from trainer.networks.base import Place
from trainer.networks.keys import PARTS, Target, kohya_name
from trainer.networks.layer import LoraLayer
from trainer.networks.lora import match
from trainer.networks.lora_file import Weights, read_lora

Outfit = tuple[tuple[str, float, float], ...]
"""What is worn: digest and strengths of each LoRA."""


class Beside(LoraLayer):
    """The change of several LoRAs beside a frozen layer: their matrices side by side, strengths multiplied in.

    down is [ranks, in] or [ranks, in, kh, kw], up [out, ranks] or [out, ranks, 1, 1], in the model's own precision.
    """

    def __init__(self, frozen: Target, weights: Sequence[tuple[Weights, float]]) -> None:
        nn.Module.__init__(self)  # a layer that learns would draw its first values here
        home = {"device": frozen.weight.device, "dtype": frozen.weight.dtype}
        downs = [weight.down.float() for weight, _ in weights]
        ups = [weight.up.float() * (weight.alpha / len(weight.down) * strength) for weight, strength in weights]
        self.frozen, self.scale = (frozen,), 1.0
        self.weights = torch.cat(downs).to(**home), torch.cat(ups, dim=1).to(**home)
        self.training = False


class Wardrobe:
    """What a model wears. Files stay in memory as they came while they are worn, so a new strength reads nothing."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.notes: list[str] = []
        self.layers: dict[str, Beside] = {}
        self.places = {
            kohya_name(family.name, part, path): Place(part, path, module)
            for part in PARTS
            if part in family.parts
            for path, module in family.parts[part].named_modules()
            if isinstance(module, Target) and "text_projection" not in path
        }
        self._worn: Outfit = ()
        self._files: dict[str, dict[str, Weights]] = {}

    @property
    def in_text(self) -> tuple[tuple[str, float], ...]:
        """What of it the text encoders feel."""
        return tuple((digest, text) for digest, _, text in self._worn if text)

    def wear(self, loras: Sequence[Worn]) -> None:
        """Puts these on and takes all others off. NetworkError for a file that does not fit: then nothing is worn."""
        wanted = tuple((digest_of(lora.file), lora.unet, lora.text) for lora in loras)
        if wanted == self._worn:
            return
        self.undress()
        self._files = {
            digest: self._files[digest] if digest in self._files else self._read(lora)
            for (digest, *_), lora in zip(wanted, loras, strict=True)
        }
        together: dict[str, list[tuple[Weights, float]]] = {}
        for digest, unet, text in wanted:
            for name, weights in self._files[digest].items():
                strength = unet if self.places[name].part == "unet" else text
                if strength:
                    together.setdefault(name, []).append((weights, strength))
        self.layers = {name: Beside(self.places[name].module, weights) for name, weights in together.items()}
        for layer in self.layers.values():
            layer.attach()
        self._worn = wanted

    def undress(self) -> None:
        """The model as it came."""
        for layer in self.layers.values():
            layer.detach()
        self.layers.clear()
        self._worn = ()

    def _read(self, lora: Worn) -> dict[str, Weights]:
        found, unused = match(read_lora(lora.file), self.places, self.family.name, str(lora.file))
        if unused:
            self.notes.append(f"{lora.file.name}: {len(unused)} layers have no place in the model, such as {unused[0]}")
        return found
