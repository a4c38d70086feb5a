"""Captions as they are used: each rule of sd-scripts by a case written out, and time that stays linear."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.config import Captions
from trainer.data.captions import vary
from trainer.draws import dice


def varied(caption: str, *, epoch: int = 0, step: int = 0, draw: int = 0, **options: Any) -> str:
    return vary(caption, Captions(**options), dice(7, "caption", draw), epoch, step)


def variants(caption: str, **options: Any) -> set[str]:
    return {varied(caption, draw=draw, **options) for draw in range(400)}


@pytest.mark.parametrize(
    ("caption", "options", "expected"),
    [
        ("a cat", {}, "a cat"),
        ("a,b ,  c", {}, "a,b ,  c"),  # untouched when nothing varies
        ("a cat", {"prefix": "zk9,"}, "zk9, a cat"),
        ("a cat", {"suffix": "photo"}, "a cat photo"),
        ("a cat", {"prefix": "zk9", "suffix": "photo"}, "zk9 a cat photo"),
        ("", {"prefix": "zk9"}, "zk9 "),
        ("one\ntwo", {}, "one"),
        ("one\ntwo", {"suffix": "end"}, "one"),  # the suffix stands after the last line
        ("a;b, c", {"secondary_separator": ";"}, "a,b, c"),
        ("a;b| c", {"secondary_separator": ";", "separator": "|"}, "a|b| c"),
        ("a ||| b", {"keep_tokens_separator": "|||"}, "a ||| b"),  # a mark means nothing when no tag moves
        ("{a|b}", {}, "{a|b}"),
        (" a ,b,, c ", {"tag_dropout": 1e-12}, "a, b, , c"),
        (" a |b| c ", {"tag_dropout": 1e-12, "separator": "|"}, "a, b, c"),  # always joined by a comma
        ("a,,b ||| c,,d", {"tag_dropout": 1e-12, "keep_tokens_separator": "|||"}, "a, b, c, d"),
        ("a, b, c, d", {"tag_dropout": 1.0, "keep_tokens": 2}, "a, b"),
        ("a, b ||| c, d", {"tag_dropout": 1.0, "keep_tokens_separator": "|||"}, "a, b"),
        ("a ||| b, c ||| d, e", {"tag_dropout": 1.0, "keep_tokens_separator": "|||"}, "a, d, e"),
        ("a ||| b ||| c ||| d", {"tag_dropout": 1.0, "keep_tokens_separator": "|||"}, "a, c ||| d"),
        ("a, b, c", {"tag_dropout": 1.0, "keep_tokens_separator": "|||", "keep_tokens": 1}, "a"),  # no mark: the number
        (
            "a ||| b",
            {"tag_dropout": 1.0, "keep_tokens_separator": "|||", "keep_tokens": 9},
            "a",
        ),  # the mark outranks it
        ("a;b, c", {"tag_dropout": 1.0, "keep_tokens": 1, "secondary_separator": ";"}, "a,b"),
        ("a cat", {"dropout": 1.0}, ""),
        ("a cat", {"dropout": 1.0, "prefix": "zk9"}, ""),
        ("{{a}}", {"wildcards": True}, "{a}"),
        ("{a}", {"wildcards": True}, "a"),
        ("x {} y", {"wildcards": True}, "x {} y"),
        ("{a|a} {b|b}", {"wildcards": True}, "a b"),
        ("{a|a", {"wildcards": True}, "{a|a"),
        ("a} {b}", {"wildcards": True}, "a} b"),
        ("{x{y}", {"wildcards": True}, "x{y"),
    ],
)
def test_rules(caption: str, options: dict[str, Any], expected: str) -> None:
    assert varied(caption, **options) == expected


def test_every_nth_epoch_is_empty() -> None:
    assert [varied("a", epoch=epoch, dropout_every_n_epochs=3) for epoch in range(7)] == [
        "a",
        "a",
        "",
        "a",
        "a",
        "",
        "a",
    ]
    assert varied("a", epoch=0, dropout_every_n_epochs=1) == ""


def test_token_warmup_grows_the_number_of_tags() -> None:
    options = {"token_warmup_min": 1, "token_warmup_steps": 4}
    counts = [len(varied("a, b, c, d, e", step=step, **options).split(", ")) for step in range(6)]
    assert counts == [1, 2, 3, 4, 5, 5]
    kept = [varied("k, a, b, c, d, e", step=step, keep_tokens=1, **options) for step in (0, 2)]
    assert kept == ["k, a", "k, a, b, c"]
    assert varied("a, b", step=0, token_warmup_min=5, token_warmup_steps=10) == "a, b"


def test_shuffle_moves_free_tags_only() -> None:
    assert variants("a, b, c", shuffle=True) == {"a, b, c", "a, c, b", "b, a, c", "b, c, a", "c, a, b", "c, b, a"}
    assert variants("k, a, b", shuffle=True, keep_tokens=1) == {"k, a, b", "k, b, a"}
    assert variants("k ||| a, b ||| z", shuffle=True, keep_tokens_separator="|||") == {"k, a, b, z", "k, b, a, z"}
    assert variants("a;b, c", shuffle=True, secondary_separator=";") == {"a,b, c", "c, a,b"}


def test_wildcards_pick_a_line_and_a_choice() -> None:
    assert variants("a {red|blue} cat", wildcards=True) == {"a red cat", "a blue cat"}
    assert variants("one\ntwo {x|}", wildcards=True) == {"one", "two x", "two "}
    assert variants("one\ntwo", wildcards=True, prefix="zk9,") == {"zk9, one", "two"}
    assert variants("{a|b}{{c|d}}", wildcards=True) == {"a{c|d}", "b{c|d}"}


def test_chances_are_what_they_say() -> None:
    empty = sum(varied("a", draw=draw, dropout=0.25) == "" for draw in range(4000))
    assert 880 < empty < 1120  # 1000 by 4.4 standard deviations
    tags = Counter(tag for draw in range(4000) for tag in varied("a, b, c", draw=draw, tag_dropout=0.25).split(", "))
    assert all(2880 < tags[tag] < 3120 for tag in "abc")


def test_the_same_dice_give_the_same_caption() -> None:
    options = {"shuffle": True, "tag_dropout": 0.3, "wildcards": True, "dropout": 0.1}
    assert varied("a, {b|c}, d, e", draw=3, **options) == varied("a, {b|c}, d, e", draw=3, **options)


@given(st.text("abc{}|,;\n ⦅⦆(", max_size=60), st.integers(0, 3), st.booleans(), st.booleans())
def test_no_tag_is_lost_or_made_up(caption: str, keep: int, shuffle: bool, wildcards: bool) -> None:
    result = varied(caption, keep_tokens=keep, shuffle=shuffle, wildcards=wildcards)
    assert "\udc7b" not in result and "\udc7d" not in result
    if not wildcards:
        line = caption.split("\n")[0]
        tags = [tag.strip() for tag in line.strip().split(",")]
        assert result == line or (
            Counter(result.split(", ")) == Counter(tags) and result.split(", ")[:keep] == tags[:keep]
        )


class Marks(random.Random):
    """Dice that mark where they chose among several."""

    def choice(self, seq: Any) -> Any:
        return seq[0] if len(seq) == 1 else "?"


@given(st.text("ab{}|", max_size=30))
def test_wildcards_agree_with_a_reader_that_goes_brace_by_brace(caption: str) -> None:
    text, start, expected = caption.replace("{{", "<").replace("}}", ">"), 0, ""
    while (opened := text.find("{", start)) >= 0 and (closed := text.find("}", opened)) >= 0:
        choice = text[opened + 1 : closed]
        end = closed + 1 if choice else closed  # `{}` holds no choice and stays
        expected += text[start:opened] + ("?" if "|" in choice else choice or "{")
        start = end
    expected += text[start:]
    assert vary(caption, Captions(wildcards=True), Marks(), 0, 0) == expected.replace("<", "{").replace(">", "}")


@pytest.mark.parametrize(
    "caption",
    [
        "{a" * 500_000,
        "{" * 1_000_000,
        "}" * 1_000_000,
        "{}" * 500_000,
        "{a|b}" * 200_000,
        "{{}}" * 250_000 + "{a|b",
        "⦅" * 1_000_000,
        "a," * 500_000,
        "," * 1_000_000,
        "|||" * 333_333,
        "\n" * 1_000_000,
        "(" * 1_000_000,
        ";" * 1_000_000,
        "x" * 1_000_000,
    ],
    ids=lambda caption: repr(caption[:6]),
)
def test_a_million_characters_take_linear_time(caption: str) -> None:
    everything = Captions(
        **{"shuffle": True, "tag_dropout": 0.1, "wildcards": True, "keep_tokens_separator": "|||"},
        **{"prefix": "zk9", "suffix": "end", "secondary_separator": ";", "token_warmup_steps": 10},
    )
    start = time.process_time()
    vary(caption, everything, dice(1, "caption"), 0, 5)
    assert time.process_time() - start < 3  # a tenth of that on this machine; a quadratic search takes minutes


@settings(max_examples=30, deadline=None)
@given(st.text("{}|,a\n", min_size=1, max_size=6))
def test_no_pattern_is_quadratic(pattern: str) -> None:
    options = Captions(shuffle=True, wildcards=True)
    start = time.process_time()
    vary(pattern * (300_000 // len(pattern)), options, dice(1, "caption"), 0, 0)
    assert time.process_time() - start < 3
