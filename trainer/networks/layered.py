"""What networks share that are layers of their own beside frozen ones: they are put on a model, and taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from trainer.networks.base import Loaded, Place


class Layer(Protocol):
    """A module that computes in a frozen layer's place."""

    def attach(self) -> None:
        """Takes the place."""
        ...

    def detach(self) -> None:
        """Gives it back."""
        ...


L = TypeVar("L", bound=Layer)
Options = TypeVar("Options")


class LayeredNetwork(nn.Module, Generic[L, Options]):
    """Layers by their names in a file, each computing beside a frozen layer of the model."""

    loaded: Loaded | None = None
    """What became of the file that training started from."""

    def __init__(self, places: Mapping[str, Place], layers: dict[str, L], family: str, options: Options) -> None:
        super().__init__()
        self.places, self.layers, self.family, self.options = places, layers, family, options
        modules: Any = layers.values()
        self.children_ = nn.ModuleList(modules)  # a plain dict keeps its type, but registers nothing

    def put_on(self) -> None:
        """The model with this network."""
        for layer in self.layers.values():
            layer.attach()

    def detach(self) -> None:
        """Leaves the model as it was before."""
        for layer in self.layers.values():
            layer.detach()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The model as it was before, while inside."""
        self.detach()
        try:
            yield
        finally:
            self.put_on()
