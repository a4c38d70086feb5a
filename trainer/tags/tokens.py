"""How many tokens a caption takes, counted by the tokenizer that all CLIP text encoders of Stable Diffusion share.

Built from the shipped vocabulary by the `tokenizers` package alone, since transformers would bring torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.families.weights import parse_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MARKS = (75, 150, 225)
"""Where a chunk of the text encoder ends; what lies beyond the last is never read."""

_SHIPPED = Path(__file__).resolve().parents[1] / "families" / "shipped" / "clip"
_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
_MOST = 100_000  # texts whose counts are remembered: about 30 MB

_counts: dict[tuple[str, bool], int] = {}


def count(texts: Sequence[str], weighted: bool = False) -> list[int]:
    """Tokens of each text, without begin and end; with `weighted` the brackets of weights are none.

    The first call reads the vocabulary (0.1 s); 5000 captions take about 0.5 s, and nothing the second time.
    """
    unknown = list({text for text in texts if (text, weighted) not in _counts})
    if unknown:
        if len(_counts) > _MOST:
            _counts.clear()
            unknown = list(set(texts))
        pieces = [[piece for piece, _ in parse_weights(text)] if weighted else [text] for text in unknown]
        flat = [piece for of in pieces for piece in of]
        lengths = iter([len(coded) for coded in _tokenizer().encode_batch_fast(flat, add_special_tokens=False)])
        for text, of in zip(unknown, pieces, strict=True):
            _counts[text, weighted] = sum(next(lengths) for _ in of)
    return [_counts[text, weighted] for text in texts]


def mark(tokens: int) -> int | None:
    """The first of 75, 150 and 225 that holds so many tokens; None when none does."""
    return next((limit for limit in MARKS if tokens <= limit), None)


@cache
def _tokenizer() -> Tokenizer:
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import BPE

    begin, end = "<|startoftext|>", "<|endoftext|>"
    made = Tokenizer(
        BPE.from_file(
            str(_SHIPPED / "vocab.json"), str(_SHIPPED / "merges.txt"), unk_token=end, end_of_word_suffix="</w>"
        )
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.add_special_tokens([begin, end])
    return made
