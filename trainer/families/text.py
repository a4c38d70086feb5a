"""Captions to token ids, and token ids to what a text encoder makes of them.

A CLIP text encoder reads 75 tokens. Longer captions are cut into chunks of 75, each between a begin and an end token,
encoded one by one and joined without the ends between them, as A1111 and sd-scripts do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AddedToken, CLIPTokenizer

from trainer.errors import InputError
from trainer.families.base import Tokens
from trainer.families.weights import parse_weights

CHUNK = 75
BEGIN, END = 49406, 49407

_SHIPPED = Path(__file__).parent / "shipped" / "clip"
_KNOWN = ("a photo of sks person", [BEGIN, 320, 1125, 539, 48136, 2533, END])


def load_tokenizer(pad: int = END) -> CLIPTokenizer:
    """The tokenizer that all CLIP text encoders of Stable Diffusion share; `pad` is END, and 0 for SDXL's second.

    It is read once for all models: one that is to learn words must be set `apart` first.
    """
    return _shared(pad)


def apart(tokenizer: CLIPTokenizer) -> CLIPTokenizer:
    """A fresh tokenizer in place of the one that all models share; any other as it is."""
    pad = int(tokenizer.pad_token_id)
    return _read(pad) if tokenizer is _shared(pad) else tokenizer


@cache
def _shared(pad: int) -> CLIPTokenizer:
    return _read(pad)


def _read(pad: int) -> CLIPTokenizer:
    tokenizer = CLIPTokenizer.from_pretrained(_SHIPPED, local_files_only=True)
    text, ids = _KNOWN
    # transformers makes an empty vocabulary out of missing files, and says nothing.
    if tokenizer(text).input_ids != ids or len(tokenizer) != END + 1:
        raise RuntimeError(f"the tokenizer in {_SHIPPED} is damaged: {text!r} must give {ids}; install Likeness again")
    # Set by number: `pad_token="!"` would also turn every exclamation mark of a caption into padding.
    tokenizer.pad_token_id = pad
    return tokenizer


def teach(tokenizer: CLIPTokenizer, word: str, count: int) -> list[int]:
    """The numbers of a new word's tokens: the word itself and `zk9_1`, `zk9_2`, ..., as diffusers names them.

    It is read as a word of its own, in capitals or not. InputError when the vocabulary has it already.
    """
    names = [word, *(f"{word}_{place}" for place in range(1, count))]
    if known := [name for name in names if {name, name.lower()} & tokenizer.get_vocab().keys()]:
        raise InputError(f"token: {known[0]!r} is in the vocabulary already; choose a word that no one writes, as zk9")
    tokenizer.add_tokens([AddedToken(name, single_word=True, normalized=True) for name in names])
    numbers: Any = tokenizer.convert_tokens_to_ids(names)
    return numbers


def numbers_of(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    """Token ids of a text without begin and end; a new word gives all of its tokens."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return ids if max(ids, default=0) <= END else [more for number in ids for more in _spoken(tokenizer, number)]


def _spoken(tokenizer: CLIPTokenizer, number: int) -> Iterator[int]:
    """A token, and those that stand behind it when it is a new word's first."""
    yield number
    word, place = tokenizer.convert_ids_to_tokens(number), 1
    while number > END and tokenizer.convert_ids_to_tokens(number + place) == f"{word}_{place}":
        yield number + place
        place += 1


def number_caption(tokenizer: CLIPTokenizer, caption: str, weighted: bool) -> tuple[list[int], list[float]]:
    """Token ids of a caption without begin and end, and the weight of each."""
    ids: list[int] = []
    weights: list[float] = []
    for text, weight in parse_weights(caption) if weighted else [(caption, 1.0)]:
        numbers = numbers_of(tokenizer, text)
        ids += numbers
        weights += [weight] * len(numbers)
    return ids, weights


def tokenize(tokenizers: Sequence[CLIPTokenizer], captions: Sequence[str], max_tokens: int, weighted: bool) -> Tokens:
    """Captions for each tokenizer, all padded to the chunks that `max_tokens` (75, 150 or 225) fills; the rest is cut.

    The tokenizers differ in their padding alone.
    """
    chunks = max_tokens // CHUNK
    numbered = [number_caption(tokenizers[0], caption, weighted) for caption in captions]
    pads = [int(tokenizer.pad_token_id) for tokenizer in tokenizers]
    ids = tuple(torch.tensor([list(_chunks(numbers, chunks, pad)) for numbers, _ in numbered]) for pad in pads)
    if not weighted:
        return Tokens(ids, None)
    length = CHUNK * chunks
    return Tokens(ids, torch.tensor([[1.0, *(of + [1.0] * length)[:length], 1.0] for _, of in numbered]))


def _chunks(ids: Sequence[int], chunks: int, pad: int) -> Iterator[list[int]]:
    """Rows of 77: begin, 75 tokens, end; padding comes after the first end, so that each row has one."""
    for start in range(0, CHUNK * chunks, CHUNK):
        row = [BEGIN, *ids[start : min(start + CHUNK, CHUNK * chunks)], END]
        yield row + [pad] * (CHUNK + 2 - len(row))


def join_chunks(states: Tensor, chunks: int) -> Tensor:
    """One sequence out of chunks: [B * chunks, 77, W] -> [B, 75 * chunks + 2, W], ends only at the two ends."""
    if chunks == 1:
        return states
    rows = states.unflatten(0, (-1, chunks))  # [B, chunks, 77, W]
    return torch.cat([rows[:, 0, :1], rows[:, :, 1:-1].flatten(1, 2), rows[:, -1, -1:]], dim=1)


def weigh(states: Tensor, weights: Tensor | None) -> Tensor:
    """States [B, T, W] times the weights [B, T] of their tokens; as in sd-scripts now, the mean is not restored."""
    return states if weights is None else states * weights.unsqueeze(-1).to(states.dtype)


def pool(encoder: Any, last: Tensor, ids: Tensor) -> Tensor:
    """The vector of a caption [B, W]: the projection of the last states [B, 77, W] at the first end in ids [B, 77].

    Done here since transformers looks for `eos_token_id`, which the configuration files of old models give as 2.
    """
    place = (ids == END).int().argmax(dim=-1)  # [B]
    return encoder.text_projection(last[torch.arange(len(ids), device=ids.device), place])
