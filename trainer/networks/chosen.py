"""The layers that a network of LyCORIS changes: what a filter says, found in a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from trainer.filters import Filter, Options
from trainer.layout import unet_key
from trainer.networks.keys import Target

Norm = nn.LayerNorm | nn.GroupNorm


class Choice(NamedTuple):
    """A layer that is changed, and the options that it has for itself."""

    path: str
    module: Any
    """A `Target`, or a `Norm`."""
    own: Options


def chosen(model: nn.Module, family: str, part: str, layers: Filter, norms: bool) -> Iterator[Choice]:
    """Each layer once, in the order of the model; with `norms` those of the chosen blocks too."""
    found: dict[str, Choice] = {}
    unet = part == "unet"
    classes, names = (layers.unet, layers.names) if unet else (layers.text, layers.text_names)
    for path, block in model.named_modules():
        name = _name(family, part, path)
        if not path or layers.fits(layers.exclude, name):
            continue
        kind = type(block).__name__
        by_name = layers.fits(names, name)
        if kind in classes and not by_name:
            for choice in _inside(block, path, layers, layers.by_class.get(kind, {}), (family, part)):
                found.setdefault(choice.path, choice)
        elif by_name:
            own = layers.named(name) or layers.by_class.get(kind, {})
            found.setdefault(path, Choice(path, block, own))
    return (choice for choice in found.values() if _trained(choice, layers, norms))


def _inside(root: nn.Module, path: str, layers: Filter, own: Options, where: tuple[str, str]) -> Iterator[Choice]:
    """Everything in a block; blocks in it whose class has options of its own come with those."""
    for name, module in root.named_modules(prefix=path):
        if layers.fits(layers.exclude, _name(*where, name)):
            continue
        kind = type(module).__name__
        if kind in layers.by_class and module is not root:
            yield from _inside(module, name, layers, layers.by_class[kind], where)
        else:
            yield Choice(name, module, own)


def _trained(choice: Choice, layers: Filter, norms: bool) -> bool:
    module = choice.module
    if isinstance(module, Norm):
        return norms
    if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
        return layers.conv or "dim" in choice.own
    return isinstance(module, Target)


def _name(family: str, part: str, path: str) -> str:
    """What sd-scripts calls a module, with dots."""
    if part != "unet":
        return "text_model." + path.removeprefix("text_model.")
    try:
        return unet_key(path) if family == "sdxl" else path
    except (ValueError, KeyError):  # a block that is none in SGM's code, such as `down_blocks`
        return path
