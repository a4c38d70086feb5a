"""The filter language: what it means, what it prints, and what it says of mistakes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.errors import InputError
from trainer.tags.query import COMPARE, Entry, Joined, Not, Number, Query, Words, asks, parse, wildcards

CAT = Entry(
    "10_zk9/cat_1.png", "cat_1.png", ("cat", "(long hair:1.2)", r"zk9 \(style\)"), "cat, (long hair:1.2)", lambda: 80
)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("tag:cat", True),
        ("tag:ca", False),
        ("tag:ca*", True),
        ("tag:c?t", True),
        ("TAG:CAT", True),
        ('tag:"long hair"', True),
        ("tag:'long hair'", True),
        ('tag:"zk9 (style)"', True),
        ('tag:"zk9*"', True),
        ("tag:*", True),
        (r"tag:c\*t", False),
        ("caption:ong", True),
        ("caption:hair*1.2", True),
        ("name:cat_", True),
        ("name:10_zk9", False),
        ("path:10_zk9/cat", True),
        ("hair", True),
        ("zk9/", True),
        ("dog", False),
        ("tags:3", True),
        ("tags:!=3", False),
        ("tags:<4 AND tags:>=3 AND tags:<=3 AND tags:>2", True),
        ("chars:=20", True),
        ("tokens:>75", True),
        ("NOT tag:cat", False),
        ("NOT NOT tag:cat", True),
        ("tag:cat AND NOT (tokens:>75 OR name:*close*)", False),
        ("tag:cat XOR tag:dog", True),
        ("tag:cat XOR hair XOR zk9", True),
        ("tag:cat OR tag:dog AND tag:dog", True),
        ("(tag:cat OR tag:dog) AND tag:dog", False),
        ("tag:cat XOR tag:cat AND tag:dog", True),
        ("tag:cat OR tag:cat XOR tag:cat", True),
        ("NOT tag:dog AND tag:cat", True),
        ('"and"', False),
        ("and", False),
        ('""', True),
    ],
)
def test_what_a_filter_lets_through(text: str, passes: bool) -> None:
    assert parse(text).matches(CAT) is passes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "letter 1: the end stands where a word"),
        ("a b", "letter 3: b follows without AND, OR or XOR; blanks and brackets go between quotes"),
        ("tag:zk9_(style)", r"letter 9: \( follows without"),
        ("caption:woman's", "letter 1: caption:woman's has a quote that is not closed"),
        ('a AND tag:"x', 'letter 7: tag:"x has a quote'),
        ("(a", "letter 3: the end stands where a closing bracket is missing"),
        ("a)", r"letter 2: \) follows"),
        ("a AND", "letter 6: the end stands where"),
        ("a AND OR b", "letter 7: OR stands where a word"),
        ("tagg:x", "tagg:x asks for tagg: there are tag, caption, name, path, tags, chars, tokens"),
        ("tags:many", "letter 1: tags:many needs a whole number, such as tags:>20"),
        ("tags:>-1", "needs a whole number"),
        ("tag:", "has nothing after its colon"),
        ("(" * 21 + "a" + ")" * 21, "goes more than 20 deep"),
        ("NOT " * 21 + "a", "goes more than 20 deep"),
        ("a" * 2001, "2001 letters, more than 2000"),
    ],
)
def test_mistakes_are_named_with_their_place(text: str, says: str) -> None:
    with pytest.raises(InputError, match=f"^filter.*{says}"):
        parse(text)


words = st.text(alphabet="ab *?()'\"\n", max_size=5) | st.sampled_from([r"\*", r"\?a", "\\\\", 'a"b', "AND", "a:b"])
leaves = st.one_of(
    st.builds(Words, st.sampled_from(["", "tag", "caption", "name", "path"]), words),
    st.builds(Number, st.sampled_from(["tags", "chars", "tokens"]), st.sampled_from(list(COMPARE)), st.integers(0, 6)),
)
joins = st.sampled_from(["AND", "OR", "XOR"])
queries = st.recursive(
    leaves,
    lambda part: st.builds(Not, part) | st.builds(Joined, joins, st.lists(part, min_size=2, max_size=3).map(tuple)),
    max_leaves=6,
)
entries = st.builds(
    lambda path, name, tags, tokens: Entry(path, name, tuple(tags), ", ".join(tags), lambda: tokens),
    *(st.text(alphabet="abAB *", max_size=5), st.text(alphabet="ab?", max_size=5)),
    *(st.lists(st.text(alphabet="ab* ", min_size=1, max_size=4), max_size=4), st.integers(0, 6)),
)


@settings(deadline=None, max_examples=200)
@given(queries)
def test_a_printed_filter_reads_back_the_same(query: Query) -> None:
    assert parse(str(query)) == query


def naive_match(pattern: str, text: str) -> bool:
    """Wildcards letter by letter, by recursion."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive_match(pattern[1:], text[start:]) for start in range(len(text) + 1))
    if pattern[0] == "\\" and len(pattern) > 1:
        return text[:1].lower() == pattern[1].lower() and naive_match(pattern[2:], text[1:])
    if not text:
        return False
    return (pattern[0] == "?" or pattern[0].lower() == text[0].lower()) and naive_match(pattern[1:], text[1:])


def naive(query: Query, entry: Entry) -> bool:
    if isinstance(query, Not):
        return not naive(query.part, entry)
    if isinstance(query, Joined):
        result = naive(query.parts[0], entry)
        for part in query.parts[1:]:
            other = naive(part, entry)
            result = {"AND": result and other, "OR": result or other, "XOR": result != other}[query.word]
        return result
    if isinstance(query, Number):
        value: Any = {"tags": len(entry.tags), "chars": len(entry.caption), "tokens": entry.tokens()}[query.field]
        signs = {"!=": (1, -1), "<=": (0, -1), ">=": (0, 1), "=": (0,), "<": (-1,), ">": (1,)}[query.compare]
        return (value > query.value) - (value < query.value) in signs
    inside = f"*{query.pattern}*"
    if query.field == "tag":
        return any(naive_match(query.pattern, tag) for tag in entry.tags)
    texts = {"caption": [entry.caption], "name": [entry.name], "path": [entry.path], "": [entry.caption, entry.path]}
    return any(naive_match(inside, text) for text in texts[query.field])


@settings(deadline=None, max_examples=300)
@given(queries, entries)
def test_filters_agree_with_a_naive_evaluator(query: Query, entry: Entry) -> None:
    assert query.matches(entry) == naive(query, entry)


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="ab*?\\", max_size=8), st.text(alphabet="ab*?\\", max_size=10))
def test_wildcards_agree_with_a_naive_matcher(pattern: str, text: str) -> None:
    assert (wildcards(pattern).match(text) is not None) == naive_match(pattern, text)


def test_no_filter_is_slow() -> None:
    """Work grows with letters times stars; a matcher that tries again would not end in this century."""
    assert wildcards("*a" * 500 + "*b").match("a" * 60_000) is None


def test_what_a_filter_asks_for() -> None:
    assert asks(parse("a OR NOT (tag:b AND tokens:>5)"), "tokens") and not asks(parse("tags:5 OR NOT b"), "tokens")
