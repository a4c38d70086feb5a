"""What the loop needs of whatever is trained: the seam that each kind of network stands behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from trainer.config import Rates
from trainer.networks.keys import Target


class Model(Protocol):
    """What a network needs to know of a model family."""

    @property
    def name(self) -> str:
        """The family's word in the schema."""
        ...

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        """What can be trained, by part."""
        ...


class Place(NamedTuple):
    """Where a layer goes."""

    part: str
    path: str
    module: Target


class Loaded(NamedTuple):
    """What became of a file: layers taken, layers that the file lacks, layers of the file that have no place."""

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


class Norms(NamedTuple):
    """What `limit_norms` did, as tensors without dimensions."""

    scaled: Tensor
    mean: Tensor
    largest: Tensor


class Network(Protocol):
    """Something that is trained on a model: made by `attach`; each micro step is `draw`, `ready`, and the model run."""

    places: Mapping[str, Place]
    """Its layers by their names in a file."""
    loaded: Loaded | None
    """What became of the file that training started from."""
    training: bool
    """Whether dropouts are at work."""

    def aside(self) -> AbstractContextManager[None]:
        """The model as it was before, while inside."""
        ...

    def groups(self, rates: Rates, lr: float | None) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer, each with a `name`; `lr` is the rate that `same` stands for."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """All that is trained."""
        ...

    def at(self, step: int, steps: int) -> None:
        """To be called before each step, of so many: what is trained may depend on it."""
        ...

    def draw(self, step_seed: int) -> None:
        """Draws the dropouts of the next micro step."""
        ...

    def ready(self) -> None:
        """To be called after weights have changed, and before the model is run."""
        ...

    def train(self, mode: bool = True) -> Self:
        """With dropouts, or without."""
        ...

    def eval(self) -> Self:
        """Without dropouts."""
        ...

    def limit_norms(self) -> Norms | None:
        """What is done after a step: scales down what has grown beyond the options' limit; None where there is none."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """A copy of all weights on the CPU, by their names in a file."""
        ...

    def load(self, tensors: Mapping[str, Tensor], source: str = ..., strict: bool = True) -> Loaded:
        """Takes over weights that `tensors` gave; NetworkError when they do not fit."""
        ...


@runtime_checkable
class Exact(Protocol):
    """A network whose files do not hold all that training goes on from."""

    def state(self) -> dict[str, Tensor]:
        """A copy of all that changes while training, on the CPU."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave; NetworkError when it belongs to another network."""
        ...
