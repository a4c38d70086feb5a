"""Textual inversion: new words for a model that stays as it is (Gal et al. 2022, arXiv 2208.01618).

A new word is a few vectors beside the text encoder's table of tokens. They alone are parameters, so no gradient, weight
decay or rounding can reach a row of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import NewWords, Rates
from trainer.networks.base import Loaded, Model, Norms, Place
from trainer.networks.embedding_file import KEYS, bundled, read_embedding
from trainer.networks.lora_file import NetworkError

TABLE = "embeddings.token_embedding"


class Reader(Model, Protocol):
    """A model that can be taught new words."""

    def numbers(self, text: str) -> list[int]:
        """The tokens of a text, without begin and end."""
        ...

    def teach(self, word: str, count: int) -> list[int]:
        """The numbers of a new word's tokens, which captions and prompts read from now on."""
        ...


class Rows(nn.Module):
    """Vectors [new, width] beside a frozen table of tokens: numbers from `first` on are theirs, float32 masters.

    Like a LoRA's layer it is no child of what it stands beside: its forward takes the place of the table's.
    """

    start: Tensor

    def __init__(self, table: nn.Embedding, first: int, start: Tensor, trained: bool) -> None:
        super().__init__()
        self.table = (table,)  # in a tuple, or its weights would count as ours
        self.first, self.away = first, False
        self.vectors = nn.Parameter(start.clone(), requires_grad=trained)
        self.register_buffer("start", start, persistent=False)
        vars(table)["forward"] = self.forward

    def forward(self, ids: Tensor) -> Tensor:
        """Token numbers [B, T] -> vectors [B, T, width] in the table's precision."""
        table, mine = self.table[0].weight, self.start if self.away else self.vectors
        new = ids >= self.first
        known = F.embedding(ids.masked_fill(new, 0), table)
        own = F.embedding((ids - self.first).clamp(min=0), mine.to(table.dtype))
        return torch.where(new.unsqueeze(-1), own, known)


class EmbeddingNetwork(nn.Module):
    """New words of a model, by part the rows that they add to its table; nothing else is trained."""

    loaded: Loaded | None = None
    """Always None: a file fits whole, or is refused."""

    def __init__(self, words: Mapping[str, slice], rows: Mapping[str, Rows], family: str) -> None:
        super().__init__()
        self.words, self.rows, self.keys = words, rows, KEYS[family]
        self.children_ = nn.ModuleList(rows.values())  # a plain dict keeps its type, but registers nothing
        self.places = {self.keys[part]: Place(part, TABLE, table_of(one)) for part, one in rows.items()}

    @classmethod
    def attach(cls, family: Reader, options: NewWords, rates: Rates, seed: int, full: bool = False) -> Self:
        """New words beside a model, which is frozen; each starts from known words, or from `options.start_from`.

        Known words that are fewer than the vectors are repeated, as in sd-scripts. A part whose rate is off keeps the
        vectors that it starts with. With `full`, they have the model's own precision. Nothing is drawn from the seed.
        NetworkError for a word that the model knows already, and for a file that does not fit.
        """
        for model in family.parts.values():
            model.requires_grad_(False)
        ids: list[int] = []
        sources: list[int] = []
        words: dict[str, slice] = {}
        for token, init, vectors in options.words():
            known = family.numbers(init)
            sources += [known[i % len(known)] for i in range(vectors)]
            words[token] = slice(len(ids), len(ids) + vectors)
            ids += family.teach(token, vectors)
        rows: dict[str, Rows] = {}
        for part in KEYS[family.name]:
            encoder: Any = family.parts[part]
            table = encoder.get_input_embeddings()
            start = table.weight.data[sources].to(table.weight.dtype if full else torch.float32)
            rows[part] = Rows(table, ids[0], start, getattr(rates, part) is not None)
        if not any(one.vectors.requires_grad for one in rows.values()):
            raise NetworkError(f"rates: none of {', '.join(rows)} is trained; give one of them a rate")
        network = cls(words, rows, family.name)
        if file := getattr(options, "start_from", None):
            network.take(Path(file))
        return network

    @torch.no_grad()
    def take(self, file: Path) -> None:
        """Starts from the one word of an embedding's file; NetworkError when it does not fit."""
        held = read_embedding(file)
        for part, one in self.rows.items():
            key = self.keys[part]
            plain = None if len(self.rows) > 1 else held.get("string_to_param", next(iter(held.values()), None))
            vectors = held.get(key, plain)
            if vectors is None or vectors.shape != one.vectors.shape:
                found = "nothing" if vectors is None else "{} vectors of {}".format(*vectors.shape)
                wanted = "{} of {}".format(*one.vectors.shape)
                raise NetworkError(
                    f"network.start_from: {file} holds {found} for the {part}, and {wanted} are trained: set"
                    " network.vectors to the file's number, or choose an embedding for this model"
                )
            one.vectors.copy_(vectors)
            one.start.copy_(vectors)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The model as it was before, while inside: new words mean what they started from."""
        for one in self.rows.values():
            one.away = True
        try:
            yield
        finally:
            for one in self.rows.values():
                one.away = False

    def groups(self, rates: Rates, lr: float | None) -> list[dict[str, Any]]:
        """A parameter group for each trained text encoder; `lr` is the rate that `same` stands for."""
        trained = {part: one for part, one in self.rows.items() if one.vectors.requires_grad}
        own = {part: getattr(rates, part) for part in trained}
        return [
            {"params": [one.vectors], "lr": lr if own[part] == "same" else own[part], "name": part}
            for part, one in trained.items()
        ]

    def at(self, step: int, steps: int) -> None:
        """Nothing: all of it is trained in every step."""

    def draw(self, step_seed: int) -> None:
        """Nothing: new words have no dropouts."""

    def ready(self) -> None:
        """Nothing: the few vectors are cast where they are read."""

    def limit_norms(self) -> Norms | None:
        """None: there is no limit."""
        return None

    def tensors(self) -> dict[str, Tensor]:
        """A copy of all vectors on the CPU, [n, width] float32, by the names that they have inside a LoRA."""
        return {
            bundled(word, self.keys[part]): one.vectors.detach()[where].to("cpu", torch.float32, copy=True)
            for word, where in self.words.items()
            for part, one in self.rows.items()
        }

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], source: str = "the embedding", strict: bool = True) -> Loaded:
        """Takes over vectors that `tensors` gave; NetworkError when they do not fit, or, if `strict`, are not all."""
        mine = self.tensors()
        missing, unused = (
            tuple(one for one in left if one not in right) for left, right in ((mine, tensors), (tensors, mine))
        )
        if strict and (missing or unused):
            raise NetworkError(
                f"{source}: {len(missing)} words are missing and {len(unused)} have no place here, for instance"
                f" {(missing + unused)[0]}; the network settings must be those it was made with"
            )
        taken = [name for name in mine if name in tensors]
        if wrong := [name for name in taken if mine[name].shape != tensors[name].shape]:
            raise NetworkError(f"{source}: {wrong[0]} has {len(tensors[wrong[0]])} vectors, set network.vectors to it")
        for word, where in self.words.items():
            for part, one in self.rows.items():
                if (name := bundled(word, self.keys[part])) in tensors:
                    one.vectors[where] = tensors[name].to(one.vectors)
        return Loaded(tuple(taken), missing, unused)


def table_of(rows: Rows) -> Any:
    """The frozen table that rows stand beside."""
    return rows.table[0]
