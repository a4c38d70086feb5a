"""Edits: what each makes of tags, and that a regular expression without end is stopped."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.errors import InputError
from trainer.tags import edits
from trainer.tags.edits import Edit
from trainer.tags.kinds import KINDS, ORDER, TRAITS, has_trait, kind
from trainer.tags.tag import Tags, bare, split_weight

OLD = ("zk9", "(smile:1.2)", "red hat", r"x \(y\)")


@pytest.mark.parametrize(
    ("edit", "after"),
    [
        (edits.add(["a", "b"]), (*OLD, "a", "b")),
        (edits.add(["a"], "top"), ("a", *OLD)),
        (edits.add(["a"], "center"), (*OLD[:2], "a", *OLD[2:])),
        (edits.add(["a"], 1), ("zk9", "a", *OLD[1:])),
        (edits.add(["a"], 99), (*OLD, "a")),
        (edits.add(["smile", "a", "a"], "top"), ("a", *OLD)),
        (edits.add(["x (y)"], "top"), OLD),
        (edits.add(["red hat"], "top", move=True), ("red hat", "zk9", "(smile:1.2)", r"x \(y\)")),
        (edits.remove(["smile", "x (y)", "none"]), ("zk9", "red hat")),
        (edits.replace({"red hat": "hat"}), ("zk9", "(smile:1.2)", "hat", r"x \(y\)")),
        (edits.replace({"smile": "grin"}), ("zk9", "(grin:1.2)", "red hat", r"x \(y\)")),
        (edits.replace({"red hat": "smile", "zk9": ""}), ("(smile:1.2)", r"x \(y\)")),
        (edits.replace({"zk9": "red hat", "red hat": "zk9"}), ("red hat", "(smile:1.2)", "zk9", r"x \(y\)")),
        (edits.sort("alphabet"), ("red hat", "(smile:1.2)", r"x \(y\)", "zk9")),
        (edits.sort("alphabet", keep=1), ("zk9", "red hat", "(smile:1.2)", r"x \(y\)")),
        (edits.sort("frequency", 1, {"red hat": 9, "smile": 3}), ("zk9", "red hat", "(smile:1.2)", r"x \(y\)")),
        (edits.sort("frequency", 1, {"zk9": 9}, backwards=True), OLD),
        (edits.keep_first(2), OLD[:2]),
        (edits.truncate(3, [OLD], lambda many: [*map(len, many)]), OLD[:3]),
        (edits.truncate(0, [OLD], lambda many: [*map(len, many)]), ()),
        (edits.weigh(["smile"], 0.1), ("zk9", "(smile:1.3)", "red hat", r"x \(y\)")),
        (edits.weigh(["smile"], -0.2), ("zk9", "smile", "red hat", r"x \(y\)")),
        (edits.weigh(["zk9"], 5), ("(zk9:2)", *OLD[1:])),
        (edits.weigh(["x (y)"], -5), (*OLD[:3], r"(x \(y\):0.1)")),
        (edits.set_all(["a", "b"]), ("a", "b")),
        (edits.set_all(["a"], only_empty=True), OLD),
    ],
)
def test_what_an_edit_makes_of_tags(edit: Edit, after: Tags) -> None:
    assert edit(OLD) == after and edit.what.isprintable()


def test_doubles_go_and_the_first_stays() -> None:
    assert edits.dedupe()(("a", "b", "A", "(b:1.2)", "c")) == ("a", "b", "c")


def test_empty_captions_take_edits_too() -> None:
    assert edits.set_all(["a"], only_empty=True)(()) == ("a",) and edits.add(["a"], "center")(()) == ("a",)


def test_the_order_of_a_character_s_captions() -> None:
    """Subject, switchable tags, negative tags, pose, hands, camera shot."""
    mixed = ("zk9", "upper body", "hand on own hip", "standing", "simple background", "red dress", "1girl", "smile")
    order = ("1girl", "red dress", "smile", "simple background", "standing", "hand on own hip", "upper body")
    assert edits.sort("kind", keep=1)(mixed) == ("zk9", *order)
    assert list(KINDS) == [kind for kind in ORDER if kind != "switchable"]

    assert edits.order("zk9")(mixed[::-1]) == edits.order("zk9")(("zk9", *mixed[:0:-1]))
    assert edits.order("zk9")(("1girl", "standing", "(zk9:1.2)", "smile")) == (
        "(zk9:1.2)",
        "1girl",
        "smile",
        "standing",
    )
    assert edits.order()(mixed) == ("1girl", "zk9", *order[1:])


def test_underscores_and_brackets() -> None:
    old = ("long_hair", "^_^", "(red_hat:1.2)", "saber_(fate)", r"((zk9 \(style\)))", ":)", "(a")
    assert edits.spaces()(old) == ("long hair", "^_^", "(red hat:1.2)", "saber (fate)", *old[4:])
    escaped = ("long_hair", "^_^", "(red_hat:1.2)", r"saber_\(fate\)", r"((zk9 \(style\)))", r":\)", r"\(a")
    assert edits.spaces(False, "escape")(old) == escaped
    assert edits.spaces(False, "plain")(escaped) == (*old[:4], "((zk9 (style)))", *old[5:])
    assert edits.spaces(False, "plain")((r"\(smile\)",)) == (r"\(smile\)",)  # else it would weigh


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("2girls", "subject"),
        ("(solo:1.1)", "subject"),
        ("full_body", "shot"),
        ("looking at viewer", "pose"),
        ("holding sword", "hands"),
        ("v", "hands"),
        ("vest", "switchable"),
        ("green border", "negative"),
        ("arms behind back", "pose"),
        ("skyscraper", "switchable"),
    ],
)
def test_kinds_of_tags(tag: str, expected: str) -> None:
    assert kind(tag) == expected


def test_traits_are_baked_in() -> None:
    tags = ("zk9", "blue_eyes", "long hair", "hair ribbon", "(red hair:1.2)", "closed eyes", "red coat")
    edit = edits.bake_in(["eye colour", "hair colour", "hair length"], ["red coat"])
    assert edit(tags) == ("zk9", "hair ribbon", "closed eyes")
    assert has_trait("heterochromia", ["eye colour"]) and not has_trait("eyes", list(TRAITS))
    with pytest.raises(InputError, match="traits: shoes is none: choose from eye colour, hair colour"):
        edits.bake_in(["shoes"])


tag = st.text(alphabet="ab() :1.2", min_size=1, max_size=6).map(str.strip).filter(bool)
tags = st.lists(tag, max_size=6).map(tuple)


@settings(deadline=None)
@given(tags, tags)
def test_properties_of_edits(old: Tags, new: Tags) -> None:
    added = edits.add(new)(old)
    assert added[: len(old)] == old and {bare(tag) for tag in added} == {bare(tag) for tag in old + new}
    assert {bare(tag) for tag in edits.remove(new)(old)} == {bare(t) for t in old} - {bare(t) for t in new}
    once = edits.dedupe()(old)
    assert edits.dedupe()(once) == once and {bare(tag) for tag in once} == {bare(tag) for tag in old}
    for by in ("alphabet", "kind"):
        assert sorted(edits.sort(by)(old)) == sorted(old)
    heavier = edits.weigh(old, 0.1)(old)
    assert all(0.1 <= split_weight(tag)[1] <= 2 for tag in heavier if len(bare(tag)) > 1)


def test_find_and_replace_by_pattern() -> None:
    captions = [("red hat", "smile"), ("blue hat",)]
    edit = edits.regex(r"(red|blue) (\w+)", r"\2 in \1", captions)
    assert [edit(tags) for tags in captions] == [("hat in red", "smile"), ("hat in blue",)]
    assert edits.regex("^smile$", "", captions)(captions[0]) == ("red hat",)
    assert edits.regex(r"red hat, (.*)", r"a, \1, b", captions, whole=True)(captions[0]) == ("a", "smile", "b")
    assert edits.regex("hat", "cap, x", captions)(captions[1]) == ("blue cap", "x")


def test_a_pattern_without_end_is_stopped() -> None:
    with pytest.raises(InputError, match=r"pattern: \(a\+\)\+\$ took more than 0.5 s on these captions, so nothing"):
        edits.regex("(a+)+$", "x", [("a" * 5000 + "b",)], seconds=0.5)


@pytest.mark.parametrize(
    ("pattern", "replacement", "says"),
    [
        ("(", "x", "unterminated subpattern"),
        ("a", r"\2", "invalid group reference"),
        ("(" * 5000 + ")" * 5000, "", "mend it"),
        ("a", "x" * 1001, "replacement: 1001 letters, more than 1000"),
        ("", "x" * 1000, "the result is too long"),
    ],
)
def test_patterns_that_are_wrong_are_refused(pattern: str, replacement: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        edits.regex(pattern, replacement, [("a" * 60_000,)], seconds=60)
