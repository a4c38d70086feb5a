"""Captions to token ids: weights in brackets, and chunks of 75 tokens."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.families.text import END, apart, load_tokenizer, parse_weights, teach, tokenize

LONG = ", ".join(f"tag number {n}" for n in range(60))  # over 225 tokens


@pytest.mark.parametrize(
    ("caption", "pieces"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("a (cat:1.3), b", [("a ", 1.0), ("cat", 1.3), (", b", 1.0)]),
        ("[a]", [("a", 1 / 1.1)]),
        ("((a))", [("a", 1.1 * 1.1)]),
        ("(a [b:2] c)", [("a ", 1.1), ("b:2", 1.1 * (1 / 1.1)), (" c", 1.1)]),
        (r"a \(b\) \[c\] \\", [(r"a (b) [c] " + "\\", 1.0)]),
        ("a) b] :) :1.2)", [("a) b] :) :1.2)", 1.0)]),
        ("(a", [("a", 1.1)]),
        ("(a:0)", [("a", 0.0)]),
        ("(a:-.5)", [("a", -0.5)]),
        ("(a:1..2)", [("a:1..2", 1.1)]),
        ("(a:999999)", [("a", 100.0)]),
        ("", []),
    ],
)
def test_weights_are_read_as_a1111_does(caption: str, pieces: list[tuple[str, float]]) -> None:
    assert parse_weights(caption) == [(text, pytest.approx(weight)) for text, weight in pieces]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab ()[]:1.2\\", max_size=30))
def test_weights_agree_with_a_reader_that_multiplies_ranges(caption: str) -> None:
    """The plain way, quadratic in depth: remember where each bracket opened, and multiply all since when it closes."""
    seen: list[list[Any]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    pattern = r"\\[()\[\]\\]|\\|[(\[]|:([+-]?(?:\d+(?:\.\d*)?|\.\d+))\)|[)\]]|[^\\()\[\]:]+|:"

    def close(kind: str, factor: float) -> None:
        for piece in seen[opened[kind].pop() :]:
            piece[1] *= factor

    for match in re.finditer(pattern, caption):
        text = match[0]
        if text in ("(", "["):
            opened[text].append(len(seen))
        elif match[1] and opened["("]:
            close("(", float(match[1]))
        elif text == ")" and opened["("]:
            close("(", 1.1)
        elif text == "]" and opened["["]:
            close("[", 1 / 1.1)
        else:
            seen.append([text[1:] if text[0] == "\\" else text, 1.0])
    while opened["("] or opened["["]:
        kind = "(" if opened["("] else "["
        close(kind, 1.1 if kind == "(" else 1 / 1.1)

    letters = [(letter, weight) for text, weight in parse_weights(caption) for letter in text]
    expected = [(letter, pytest.approx(max(-100, min(100, weight)))) for text, weight in seen for letter in text]
    assert letters == expected


@pytest.mark.parametrize(
    "caption",
    [60_000 * "(", 60_000 * "(" + "x" + 60_000 * ")", 60_000 * "[(:1" + 60_000 * "\\", ":" + 200_000 * "1"],
    ids=["open", "nested", "mixed", "digits"],
)
def test_hostile_captions_are_read_in_linear_time(caption: str) -> None:
    pieces = parse_weights(caption)  # a quadratic reader would be at it for minutes
    assert all(abs(weight) <= 100 for _, weight in pieces)


def test_one_chunk_is_what_the_tokenizer_makes() -> None:
    for pad in (END, 0):
        tokenizer = load_tokenizer(pad)
        captions = ["a photo of sks person", LONG, "", "wow! so cute!!"]
        options = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}
        expected = tokenizer(captions, **options).input_ids
        assert torch.equal(tokenize([tokenizer], captions, 75, False).ids[0][:, 0], expected)


@pytest.mark.parametrize("max_tokens", [150, 225])
@pytest.mark.parametrize("pad", [END, 0])
def test_long_captions_are_cut_into_chunks_as_sd_scripts_does(max_tokens: int, pad: int) -> None:
    tokenizer = load_tokenizer(pad)
    for caption in (LONG, "a cat", "", " ".join(75 * ["cat"]), " ".join(76 * ["cat"])):
        ids = tokenizer(
            caption, padding="max_length", max_length=max_tokens + 2, truncation=True, return_tensors="pt"
        ).input_ids[0]
        rows = []
        for start in range(1, max_tokens, 75):
            row = torch.cat([ids[:1], ids[start : start + 75], ids[-1:]])
            if pad != END and row[-2] not in (END, pad):
                row[-1] = END
            if row[1] == pad:
                row[1] = END
            rows.append(row)
        assert torch.equal(tokenize([tokenizer], [caption], max_tokens, False).ids[0][0], torch.stack(rows))


def test_a_word_that_one_model_learns_is_new_to_all_others() -> None:
    own = apart(load_tokenizer())
    assert teach(own, "zk9", 2) == [END + 1, END + 2] and apart(own) is own
    assert load_tokenizer() is load_tokenizer(END) is not own and len(load_tokenizer()) == END + 1
    assert load_tokenizer().pad_token_id == END and load_tokenizer(0).pad_token_id == 0
