"""A LoRA and new words that learn together, in one file (pivotal tuning, Roich et al. 2021, arXiv 2106.05744).

Each is the network that it is alone. Both text encoders learn the words, whatever the LoRA changes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from torch import Tensor, nn

from trainer.config import Config, Pivotal, Rates
from trainer.config.embedding import BUNDLE
from trainer.networks.base import Exact, Loaded, Network, Norms, Place
from trainer.networks.embedding import EmbeddingNetwork, Reader
from trainer.networks.embedding_file import bundled, words_of
from trainer.networks.lora_file import read_lora

WORDS = "new words"


class PivotalNetwork(nn.Module):
    """A LoRA of any type beside a model, and new words of its text encoders."""

    lora: Any  # a Network, which torch's own annotations hide

    def __init__(self, lora: Network, words: EmbeddingNetwork, options: Pivotal) -> None:
        super().__init__()
        self.lora, self.words, self.options = lora, words, options
        self.loaded = lora.loaded
        own = {name: place._replace(part=WORDS) for name, place in words.places.items()}
        self.places: Mapping[str, Place] = {**lora.places, **own, BUNDLE: next(iter(own.values()))}

    @classmethod
    def attach(cls, family: Reader, config: Config, lora: Any) -> Self:
        """Both beside a model, which is frozen; `lora` is the class of the LoRA.

        New words that `network.start_from` brings along start from there. NetworkError when something does not fit.
        """
        network, options, full = config.network, config.pivotal, config.train.full
        assert options, "without new words a LoRA is trained alone"
        words = EmbeddingNetwork.attach(family, options, Rates(), config.seed, full)
        made = cls(lora.attach(family, network, config.rates, config.seed, full), words, options)
        if file := network.start_from:
            held = words_of(read_lora(file))
            words.load({bundled(word, key): one for word, own in held.items() for key, one in own.items()}, file, False)
        return made

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The model as it was before, while inside: new words mean what they started from."""
        with self.lora.aside(), self.words.aside():
            yield

    def groups(self, rates: Rates, lr: float | None) -> list[dict[str, Any]]:
        """Those of the LoRA, and for each text encoder one such as `text_encoder words`."""
        own = lr if self.options.rate == "same" else self.options.rate
        words = self.words.groups(Rates(), own)
        return [*self.lora.groups(rates, lr), *({**one, "name": f"{one['name']} words"} for one in words)]

    def at(self, step: int, steps: int) -> None:
        """To be called before each step: from `stop` on, new words stay as they are."""
        self.lora.at(step, steps)
        stop = self.options.stop_step(steps)
        self.words.requires_grad_(stop is None or step < stop)

    def draw(self, step_seed: int) -> None:
        """Draws the LoRA's dropouts; new words have none."""
        self.lora.draw(step_seed)

    def ready(self) -> None:
        """To be called after weights have changed, and before the model is run."""
        self.lora.ready()

    def limit_norms(self) -> Norms | None:
        """What is done to the LoRA after a step."""
        return self.lora.limit_norms()

    def tensors(self) -> dict[str, Tensor]:
        """A copy of all weights on the CPU, new words under `bundle_emb.`, by their names in a file."""
        return {**self.lora.tensors(), **self.words.tensors()}

    def state(self) -> dict[str, Tensor]:
        """What training goes on from exactly."""
        lora = self.lora.state() if isinstance(self.lora, Exact) else self.lora.tensors()
        return {**lora, **self.words.tensors()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave; NetworkError when it belongs to another network."""
        lora, words = _apart(state)
        self.lora.restore(lora) if isinstance(self.lora, Exact) else self.lora.load(lora)
        self.words.load(words)

    def load(self, tensors: Mapping[str, Tensor], source: str = "the network", strict: bool = True) -> Loaded:
        """Takes over weights that `tensors` gave; NetworkError when they do not fit."""
        lora, words = _apart(tensors)
        pairs = zip(self.lora.load(lora, source, strict), self.words.load(words, source, strict), strict=True)
        return Loaded(*(mine + theirs for mine, theirs in pairs))


def _apart(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The LoRA's tensors, and those of new words."""
    words = {key: tensor for key, tensor in tensors.items() if key.startswith(f"{BUNDLE}.")}
    return {key: tensor for key, tensor in tensors.items() if key not in words}, words
