"""A LoRA on a whole model: made, trained, saved, loaded, merged (Hu et al. 2021, arXiv 2106.09685).

Own layers in place of peft's: without autocast, and with one cast of all weights a step, they launch far fewer kernels,
and nothing in them waits for the GPU or branches on a tensor, so that a step can be captured. A test holds them to
peft's numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from trainer.blocks import block_of, sizes, weights
from trainer.config import Blocks, Rates
from trainer.draws import seed_of
from trainer.networks.base import Loaded, Model, Norms, Place
from trainer.networks.keys import PARTS, kohya_name, other_names, targets
from trainer.networks.layer import LoraLayer
from trainer.networks.layered import LayeredNetwork
from trainer.networks.lora_file import NetworkError, Weights, check_family, layers_of, read_lora

SAME_ALPHA = 1 / 256  # an alpha is rounded by its file's precision too; bf16 keeps 8 bits


class LoraNetwork(LayeredNetwork[LoraLayer, Blocks]):
    """LoRA layers by their names in a file, each computing beside a frozen layer of the model.

    `attach` makes one, `draw` gives it a step's dropouts, `micro_loss` readies and runs it, `tensors` is what is saved.
    """

    seeds: Tensor

    def __init__(self, places: Mapping[str, Place], layers: dict[str, LoraLayer], family: str, options: Blocks) -> None:
        super().__init__(places, layers, family, options)
        device = next(iter(layers.values())).down.device
        self.register_buffer("seeds", torch.zeros(len(layers), 3, dtype=torch.int64, device=device), persistent=False)
        for layer in layers.values():
            layer.neuron_dropout = options.dropout
            layer.rank_dropout, layer.module_dropout = options.rank_dropout, options.module_dropout
            layer.down.requires_grad_(options.type != "lora_fa")

    @classmethod
    def attach(cls, family: Model, options: Blocks, rates: Rates, seed: int, full: bool = False) -> Self:
        """A new network beside the trained parts of a model, or the one in `options.start_from`; the model is frozen.

        A part whose rate is off gets no layers. Each layer's first values are drawn from the seed and its name alone.
        With `full`, masters have the model's own precision. NetworkError when the file does not fit the model.
        """
        for model in family.parts.values():
            model.requires_grad_(False)
        trained = [part for part in PARTS if part in family.parts and getattr(rates, part)]
        if not trained:
            raise NetworkError(f"rates: none of {', '.join(family.parts)} is trained; give one of them a rate")
        file = read_lora(options.start_from) if options.start_from else {}
        conv = options.rank_from_file or options.conv_rank is not None or options.conv_block_ranks is not None
        places = {
            kohya_name(family.name, part, path): Place(part, path, module)
            for part in trained
            for path, module in targets(family.parts[part], conv)
        }
        if options.rank_from_file:
            found, _ = match(file, places, family.name, str(options.start_from))
            shapes = {name: (len(found[name].down), found[name].alpha) for name in places if name in found}
        else:
            shapes = _shapes(places, options, family.name)
        layers = {
            name: LoraLayer(places[name].module, rank, alpha, _generator(seed, name), full)
            for name, (rank, alpha) in shapes.items()
            if rank
        }
        if not layers:
            raise NetworkError(
                "network: every block is left out; raise a block's rank or weight, or train another part"
            )
        network = cls({name: places[name] for name in layers}, layers, family.name, options)
        if file:
            network.loaded = network.load(file, str(options.start_from), strict=False)
        network.put_on()
        return network.train()

    def groups(self, rates: Rates, lr: float | None) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer, named after their part; `lr` is the rate that `same` stands for.

        With LoRA+ the up matrices are a group of their own, such as `unet plus`, whose rate is so many times higher
        (Hayou et al. 2024, arXiv 2402.12354, section 4). Blocks of the UNet with rates of their own are groups, such as
        `unet_block4`. `lr` is None where the optimizer finds its own rate.
        """
        groups: list[dict[str, Any]] = []
        for part in dict.fromkeys(place.part for place in self.places.values()):
            own = getattr(rates, part)
            rate = lr if own == "same" else own
            ratio = self.options.loraplus_unet if part == "unet" else self.options.loraplus_text
            ratio = ratio or self.options.loraplus
            shared = weights(self.options, self.family) if part == "unet" else None
            if rate is None and (ratio or shared):
                field = "loraplus" if ratio else "down_weights"
                raise NetworkError(f"network.{field}: the optimizer has no rate to multiply; give optimizer.lr a value")
            for name, share, layers in self._bundles(part, shared):
                pace = rate * share if rate is not None else None
                down = [layer.down for layer in layers if layer.down.requires_grad]
                if pace is None or not ratio:
                    both = [weight for layer in layers for weight in (layer.down, layer.up) if weight.requires_grad]
                    groups += [{"params": both, "lr": pace, "name": name}]
                    continue
                groups += [{"params": down, "lr": pace, "name": name}] if down else []
                groups += [{"params": [layer.up for layer in layers], "lr": pace * ratio, "name": f"{name} plus"}]
        return groups

    def _bundles(self, part: str, shares: list[float] | None) -> Iterator[tuple[str, float, list[LoraLayer]]]:
        """The layers of a part that learn alike: the name of their group, their share of the rate, and they."""
        names = [name for name in self.layers if self.places[name].part == part]
        if shares is None:
            yield part, 1.0, [self.layers[name] for name in names]
            return
        for block, share in enumerate(shares):
            if mine := [self.layers[name] for name in names if block_of(self.family, name) == block]:
                yield f"{part}_block{block}", share, mine

    def at(self, step: int, steps: int) -> None:
        """Nothing: all of it is trained in every step."""

    def draw(self, step_seed: int) -> None:
        """Draws the dropouts of the next micro step; they stay until the next draw."""
        if self.options.dropout or self.options.rank_dropout or self.options.module_dropout:
            generator = Generator().manual_seed(step_seed)
            self.seeds.copy_(torch.randint(2**32, self.seeds.shape, generator=generator))

    def ready(self) -> None:
        """Casts all weights to the precision of the layers they stand beside, in one go and with one backward pass.

        To be called after weights have changed; `micro_loss`, `train()` and `eval()` do.
        """
        for layer, seeds in zip(self.layers.values(), self.seeds, strict=True):
            layer.weights, layer.seeds = (layer.down, layer.up), seeds
        mixed = [layer for layer in self.layers.values() if layer.down.dtype != layer.frozen[0].weight.dtype]
        if mixed:
            masters = [weight for layer in mixed for weight in layer.weights if weight.requires_grad]
            dtypes = [
                layer.frozen[0].weight.dtype for layer in mixed for weight in layer.weights if weight.requires_grad
            ]
            cast = iter(_Cast.apply(dtypes, *masters))
            for layer in mixed:  # what stays as it is must not ask for a gradient, or its input would be kept
                fixed = None if layer.down.requires_grad else layer.down.to(layer.frozen[0].weight.dtype)
                layer.weights = next(cast) if fixed is None else fixed, next(cast)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.ready()
        return self

    @torch.no_grad()
    def limit_norms(self) -> Norms | None:
        """Scales down every layer whose change has grown beyond `options.max_norm`; half of the factor to each matrix.

        The rule is that of sd-scripts' scale_weight_norms: a norm below half the limit counts as half of it.
        """
        limit = self.options.max_norm
        if limit is None:
            return None
        layers = list(self.layers.values())
        norms = torch.stack([layer.norm() for layer in layers]).clamp(min=limit / 2)  # [layers]
        ratios = norms.clamp(max=limit) / norms  # [layers]
        for layer, root in zip(layers, ratios.sqrt(), strict=True):
            layer.down.mul_(root)
            layer.up.mul_(root)
        scaled = norms * ratios
        return Norms((ratios < 1).sum(), scaled.mean(), scaled.max())

    def tensors(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """A copy of all weights on the CPU: `<name>.lora_down.weight`, `.lora_up.weight` and `.alpha`."""
        out: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            out[f"{name}.alpha"] = torch.tensor(layer.alpha, dtype=dtype)
            out[f"{name}.lora_down.weight"] = layer.down.detach().to("cpu", dtype, copy=True)
            out[f"{name}.lora_up.weight"] = layer.up.detach().to("cpu", dtype, copy=True)
        return out

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], source: str = "the LoRA", strict: bool = True) -> Loaded:
        """Takes over a file's weights; NetworkError when they do not fit, or, if `strict`, when they are not all.

        Where the file's alpha is another, its up matrix is scaled so that the change stays what it was.
        """
        found, unused = match(tensors, self.places, self.family, source)
        missing = tuple(name for name in self.layers if name not in found)
        if strict and (missing or unused):
            raise NetworkError(
                f"{source}: {len(missing)} layers are missing and {len(unused)} have no place here,"
                f" for instance {(missing + unused)[0]}; the network settings must be those it was made with"
            )
        for name, (down, up, alpha) in found.items():
            layer = self.layers[name]
            if len(down) != len(layer.down):
                raise NetworkError(
                    f"{source}: rank {len(down)} at {name}, and the config says {len(layer.down)};"
                    f" set network.rank_from_file to true, or the rank to {len(down)}"
                )
            same = math.isclose(alpha, layer.alpha, rel_tol=SAME_ALPHA)
            layer.down.copy_(down)
            layer.up.copy_(up if same else up * (alpha / len(down) / layer.scale))
        self.ready()
        return Loaded(tuple(found), missing, unused)

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the change to the model's own weights, which are kept aside for `unmerge`: twice their memory."""
        self.detach()
        for layer in self.layers.values():
            weight = layer.frozen[0].weight
            layer.aside = weight.data
            weight.data = (weight.float() + layer.delta()).to(weight.dtype)

    def unmerge(self) -> None:
        """Puts the model's own weights back, to the bit, and the layers beside them."""
        for layer in self.layers.values():
            assert layer.aside is not None, "unmerge comes after merge"
            layer.frozen[0].weight.data, layer.aside = layer.aside, None
            layer.attach()


class _Cast(torch.autograd.Function):
    """Many tensors to other precisions and their gradients back; one node of the graph in place of one for each."""

    @staticmethod
    # pyrefly: ignore[bad-override]
    def forward(ctx: Any, dtypes: list[torch.dtype], *masters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # a layer that took no part has no gradient, and the optimizer leaves it alone
        ctx.dtypes = [master.dtype for master in masters]
        return tuple(_cast(masters, dtypes))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        live = [(grad, dtype) for grad, dtype in zip(grads, ctx.dtypes, strict=True) if grad is not None]
        cast = iter(_cast([grad for grad, _ in live], [dtype for _, dtype in live]))
        return None, *(None if grad is None else next(cast) for grad in grads)


def _cast(tensors: Any, dtypes: list[torch.dtype]) -> list[Tensor]:
    out = [torch.empty_like(tensor, dtype=dtype) for tensor, dtype in zip(tensors, dtypes, strict=True)]
    torch._foreach_copy_(out, list(tensors))
    return out


def match(
    tensors: Mapping[str, Tensor], places: Mapping[str, Place], family: str, source: str
) -> tuple[dict[str, Weights], tuple[str, ...]]:
    """A file's layers under our names, and the names of those without a place; NetworkError when none fits."""
    layers = layers_of(tensors, source)
    check_family(layers, family, source)
    known = {
        alias: name for name, (part, path, _) in places.items() for alias in (*other_names(family, part, path), name)
    }
    found = {known[name]: weights for name, weights in layers.items() if name in known}
    if not found:
        raise NetworkError(
            f"{source}: none of its {len(layers)} layers is trained here; choose a LoRA for this model and its parts"
        )
    for name, (down, up, _) in found.items():
        out, *fan_in = places[name].module.weight.shape
        if [*down.shape[1:]] != fan_in or [*up.shape] != [out, len(down), *(1 for _ in fan_in[1:])]:
            raise NetworkError(
                f"{source}: {name} holds {[*up.shape]} x {[*down.shape]}, and the model's layer is {[out, *fan_in]};"
                " the LoRA was made for another model, choose one for this"
            )
    return found, tuple(name for name in layers if name not in known)


def _shapes(places: Mapping[str, Place], options: Blocks, family: str) -> dict[str, tuple[int, float]]:
    """Rank and alpha of each layer: convolutions wider than one pixel have their own, and blocks of the UNet may."""
    blocks = sizes(options, family)
    found: dict[str, tuple[int, float]] = {}
    for name, (part, _, module) in places.items():
        wide = isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
        if blocks and part == "unet":
            size = blocks[block_of(family, name)]
            found[name] = (size.conv_rank, size.conv_alpha) if wide else (size.rank, size.alpha)
        else:
            found[name] = (options.conv_rank or 0, options.conv_alpha) if wide else (options.rank, options.alpha)
    return found


def _generator(seed: int, name: str) -> Generator:
    return Generator().manual_seed(seed_of(seed, "init", name))
