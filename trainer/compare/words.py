"""Prompts as numbers: weights, chunks of 75 tokens, BREAK, and words that stand for the vectors of an embedding."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.compare.shelf import Embedding, digest_of, word_pattern
from trainer.errors import InputError
from trainer.families.base import Conditioning, Family, Tokens
from trainer.families.text import BEGIN, CHUNK, END, numbers_of
from trainer.families.weights import parse_weights
from trainer.networks.embedding_file import read_bundled, read_embedding

_BREAK = re.compile(r"\s*\bBREAK\b\s*")
KEYS = {0: ("clip_l", "emb_params", "string_to_param"), 1: ("clip_g",)}
"""Where a file keeps the vectors for each text encoder, in the forms of A1111, ComfyUI and diffusers."""


class Chunk(NamedTuple):
    """At most 75 tokens and their weights."""

    ids: list[int]
    weights: list[float]


class Words:
    """Reads prompts for a model; what was read is kept as long as the model reads alike.

    Embeddings become further rows of the token tables, so that everything behind knows nothing of them.
    """

    def __init__(self, family: Family) -> None:
        self.family = family
        self.tables: list[nn.Embedding] = [encoder.get_input_embeddings() for encoder in family.text_encoders]
        self.plain = [table.weight.data for table in self.tables]
        self.rows: dict[str, list[int]] = {}
        self._embeddings: tuple[tuple[str, str], ...] = ()
        self._outfit: tuple[tuple[str, float], ...] = ()
        self._read: dict[tuple[str, int], Conditioning] = {}

    def wearing(self, outfit: tuple[tuple[str, float], ...]) -> None:
        """To be told what the text encoders wear, before anything is read."""
        if outfit != self._outfit:
            self._outfit = outfit
            self._read.clear()

    def learn(self, embeddings: Sequence[Embedding]) -> None:
        """Knows these embeddings from now on, and no others; InputError for one that does not fit the model."""
        wanted = tuple((one.word, digest_of(one.file)) for one in embeddings)
        if wanted == self._embeddings:
            return
        vectors = {one.word: read_vectors(one, self.plain) for one in embeddings}
        start = len(self.plain[0])
        self.rows.clear()
        for word, (first, *_) in vectors.items():
            self.rows[word] = list(range(start, start + len(first)))
            start += len(first)
        for place, (table, plain) in enumerate(zip(self.tables, self.plain, strict=True)):
            more = [each[place].to(plain) for each in vectors.values()]
            table.weight.data = torch.cat([plain, *more]) if more else plain
        self._embeddings = wanted
        self._read.clear()

    def chunks(self, text: str) -> list[Chunk]:
        """A prompt in chunks; a new one begins after 75 tokens, at BREAK, and where an embedding would be cut."""
        done = [Chunk([], [])]
        for words, weight in parse_weights(text):
            for number, piece in enumerate(_BREAK.split(words)):
                if number:
                    done.append(Chunk([], []))
                for ids in self._numbers(piece):
                    if len(done[-1].ids) + len(ids) > CHUNK:
                        done.append(Chunk([], []))
                    done[-1].ids.extend(ids)
                    done[-1].weights.extend([weight] * len(ids))
        return done

    def _numbers(self, text: str) -> Iterator[list[int]]:
        """Tokens one by one, and those of an embedding together."""
        patterns = "|".join(word_pattern(word) for word in self.rows)
        for place, piece in enumerate(re.split(f"({patterns})", text, flags=re.IGNORECASE) if patterns else [text]):
            if place % 2:
                yield self.rows[piece.lower()]
            elif piece:
                yield from ([number] for number in numbers_of(self.family.tokenizers[0], piece))

    def read(self, texts: Sequence[str]) -> Conditioning:
        """What the U-Net reads, [texts, ...]; shorter ones are filled up with empty chunks.

        Each text is encoded alone, so that its numbers do not depend on the others.
        """
        count = max(len(self.chunks(text)) for text in texts)
        each = [self._encode(text, count) for text in texts]
        return {name: torch.cat([one[name] for one in each]) for name in each[0]}

    def _encode(self, text: str, count: int) -> Conditioning:
        if (text, count) not in self._read:
            chunks = self.chunks(text)
            chunks += [Chunk([], [])] * (count - len(chunks))
            ids = [torch.tensor([[_row(chunk, int(one.pad_token_id)) for chunk in chunks]]) for one in self._tokenizers]
            weights = [weight for chunk in chunks for weight in [*chunk.weights, *[1.0] * CHUNK][:CHUNK]]
            tokens = Tokens(tuple(ids), torch.tensor([[1.0, *weights, 1.0]]))
            self._read[text, count] = self.family.encode_tokens(tokens.to(self.family.unet.device))
        return self._read[text, count]

    @property
    def _tokenizers(self) -> Sequence[Any]:
        return self.family.tokenizers


def _row(chunk: Chunk, pad: int) -> list[int]:
    row = [BEGIN, *chunk.ids, END]
    return row + [pad] * (CHUNK + 2 - len(row))


def read_vectors(one: Embedding, tables: Sequence[Tensor]) -> list[Tensor]:
    """The vectors [n, width] of an embedding for each text encoder; InputError when they are for another model."""
    try:
        held = read_bundled(one.file, one.word) if one.bundled else read_embedding(one.file)
    except InputError as error:
        raise InputError(f"prompt: {error}") from error
    found: list[Tensor] = []
    for place, table in enumerate(tables):
        key = next((key for key in KEYS[place] if key in held), next(iter(held), ""))
        vectors = held.get(key, torch.zeros(0, 0))
        if vectors.shape[1] != table.shape[1] or not 1 <= len(vectors) <= CHUNK:
            raise InputError(
                f"prompt: {one.word} is {one.file}, whose {key or 'nothing'} holds {list(vectors.shape)}, and the model"
                f" reads [1 to {CHUNK}, {table.shape[1]}]; it was made for another model, move it away or write"
                " another word"
            )
        found.append(vectors)
    if len({len(vectors) for vectors in found}) > 1:
        raise InputError(f"prompt: {one.file} has more vectors for one text encoder than for the other; it is damaged")
    return found
