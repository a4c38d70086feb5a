"""Captions in memory: tags as they are written, counts, tokens, and files that nobody has touched."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tagging import tagged
from trainer.data.folders import FolderError
from trainer.errors import InputError
from trainer.families.text import load_tokenizer, number_caption
from trainer.tags import tokens
from trainer.tags.captions import CaptionSet, read
from trainer.tags.query import parse
from trainer.tags.tag import bare, split_weight, weighed

ZK9 = "1_zk9"


@pytest.mark.parametrize(
    ("tag", "words", "weight"),
    [
        ("smile", "smile", 1.0),
        ("(smile)", "smile", 1.1),
        ("( smile : 1.2 )", "smile : 1.2", 1.1),
        ("(smile:1.2)", "smile", 1.2),
        ("((smile))", "smile", 1.1**2),
        ("((smile:1.5))", "smile", 1.1 * 1.5),
        ("[smile]", "smile", 1 / 1.1),
        (r"zk9 \(style\)", r"zk9 \(style\)", 1.0),
        (r"(zk9 \(style\):0.8)", r"zk9 \(style\)", 0.8),
        ("zk9 (style)", "zk9 (style)", 1.0),
        ("(o)_(o)", "(o)_(o)", 1.0),
        ("()", "()", 1.0),
        ("(:3)", "(:3)", 1.0),
        ("(a", "(a", 1.0),
        ("", "", 1.0),
        ("(" * 20 + "a" + ")" * 20, "(" * 12 + "a" + ")" * 12, 1.1**8),
    ],
)
def test_the_weight_of_a_tag(tag: str, words: str, weight: float) -> None:
    assert split_weight(tag) == (words, pytest.approx(weight))


@settings(deadline=None)
@given(st.text(alphabet="ab ()[]\\:1.", max_size=12).map(str.strip), st.sampled_from([0.5, 0.9, 1.2, 2.0]))
def test_a_weighed_tag_has_that_weight_and_says_the_same(tag: str, weight: float) -> None:
    plain = bare(tag)
    made = weighed(tag, weight)
    if plain and not plain.endswith("\\"):  # a backslash would take the meaning from the bracket
        assert split_weight(made)[1] == weight and bare(made) == plain


def test_bare_words() -> None:
    assert bare(r"(zk9 \(style\):1.2)") == "zk9 (style)" and bare("[[x]]") == "x"


@pytest.mark.parametrize(
    ("raw", "tags", "changed"),
    [
        (b"zk9, smile\n", ("zk9", "smile"), b"zk9, new\n"),
        (b"zk9,smile", ("zk9", "smile"), b"zk9,new"),
        (b"zk9 ,   smile , \r\nsecond, line\r\n", ("zk9", "smile"), b"zk9,   new \r\nsecond, line\r\n"),
        (b"\n \n  zk9, (smile:1.2)\n\n", ("zk9", "(smile:1.2)"), b"\n \n  zk9, new\n\n"),
        (b"", (), b"zk9, new"),
        (b" \n", (), b"zk9, new \n"),
        (codecs.BOM_UTF8 + "zk9, ä".encode(), ("zk9", "ä"), b"zk9, new"),
        ("zk9, ä".encode("utf-16"), ("zk9", "ä"), b"zk9, new"),
        ("zk9, café".encode("cp1252"), ("zk9", "café"), b"zk9, new"),
        (b"zk9, a\tb\x00c", ("zk9", "a b c"), b"zk9, new"),
    ],
)
def test_only_the_tags_of_a_line_change(raw: bytes, tags: tuple[str, ...], changed: bytes) -> None:
    caption = read(raw)
    assert caption.tags == tags and caption.raw == raw
    assert caption.with_tags(tags) is caption
    made = caption.with_tags(("zk9", "new"))
    assert made.raw == changed and made.tags == ("zk9", "new")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40) | st.text(alphabet="ab,() :\\\n\r\t\x00é", max_size=40).map(str.encode))
def test_any_bytes_are_a_caption_or_locked(raw: bytes) -> None:
    caption = read(raw)
    assert caption.raw == raw and caption.with_tags(caption.tags) is caption
    if caption.locked:
        with pytest.raises(InputError, match="mend the file"):
            caption.with_tags(("a",))
    else:
        made = caption.with_tags(("x", *caption.tags, "y"))
        assert made.tags == ("x", *caption.tags, "y")
        if caption.tags:  # a line without tags is none, so that the next would be read
            assert made.with_tags(caption.tags).tags == caption.tags


def test_a_separator_and_line_ends_in_a_new_tag() -> None:
    assert read(b"a").with_tags(["a", "b, c", "d\ne"]).tags == ("a", "b", "c", "d e")
    assert read(b"a. b", ". ").with_tags(["a", "b", "c"]).raw == b"a. b. c"


def test_what_cannot_be_saved_is_said() -> None:
    with pytest.raises(InputError, match="more than 64 KiB: shorten it"):
        read(b"a").with_text("x" * 70_000)
    with pytest.raises(InputError, match="half a letter"):
        read(b"a").with_tags(["\ud83d"])


def test_a_data_set_is_listed_by_the_rules_of_training(tmp_path: Path) -> None:
    data = tagged(
        tmp_path,
        {
            "10_zk9/a": "zk9, smile, smile",
            "10_zk9/b": None,
            "3_body/c": r"zk9, (smile:1.2), x \(y\)",
            "3_body/.hidden": "no",
            "plain/d": "no",
            "3_body/e": b"\xff\xfe\xfd\xff\x80",
            "3_body/f": "x" * 70_000,
        },
    )
    assert [str(picture.path.relative_to(data.folder)) for picture in data.pictures] == [
        *("10_zk9/a.png", "10_zk9/b.png", "3_body/c.png", "3_body/e.png", "3_body/f.png")
    ]
    assert data.counts() == {"zk9": 2, "smile": 2, "x (y)": 1}
    said = [str(problem) for problem in data.problems]
    assert any("plain: its name does not begin with a number" in line for line in said)
    assert "3_body/e.txt: in no encoding that can be told: not edited" in said
    assert "3_body/f.txt: longer than 64 KiB: not edited" in said
    assert len(CaptionSet(str(tmp_path / "10_zk9")).pictures) == 2  # one picture folder alone
    with pytest.raises(FolderError, match="is empty: choose"):
        CaptionSet(" ")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("private")
    tagged(tmp_path / "set", {f"{ZK9}/a": None, f"{ZK9}/b": "shared, words", f"{ZK9}/c": None})
    folder = tmp_path / "set" / ZK9
    (folder / "a.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "c.txt").symlink_to("b.txt")
    (folder / "d.png").symlink_to(tmp_path / "secret.txt")
    data = CaptionSet(str(tmp_path / "set"))
    a, b, c = data.pictures
    assert data.caption(a).locked == "a link that leaves the folder" and data.caption(a).text == ""
    assert b.file == c.file and data.counts() == {"shared": 2, "words": 2}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    data = tagged(tmp_path, {f"{ZK9}/a": None})
    os.mkfifo(tmp_path / ZK9 / "a.txt")
    assert data.read(tmp_path / ZK9 / "a.txt").locked == "not a file"


def test_scopes(tmp_path: Path) -> None:
    data = tagged(tmp_path, {f"{ZK9}/{name}": words for name, words in (("a", "x"), ("b", "y"), ("c", "x, z"))})
    a, b, c = data.pictures
    assert list(data.scoped("one", [b, c])) == [b] and list(data.scoped("selected", [b, c])) == [b, c]
    assert list(data.scoped("filtered", [b], parse("tag:x"))) == [a, c]
    assert list(data.scoped("filtered", [b])) == list(data.scoped("all", [b])) == [a, b, c]
    assert data.find(parse(f"path:{ZK9}/ AND tokens:=1")) == [a, b]


@pytest.fixture(scope="module")
def official() -> object:
    return load_tokenizer()


@settings(max_examples=150, deadline=None)
@given(caption=st.text(max_size=40) | st.text(alphabet="ab (:1.2)[],'s!<|endoftext|>é", max_size=60))
def test_tokens_are_counted_as_the_families_do(official: object, caption: str) -> None:
    for weighted in (False, True):
        expected = len(number_caption(official, caption, weighted)[0])  # pyrefly: ignore
        assert tokens.count([caption, caption], weighted) == [expected] * 2


def test_marks() -> None:
    assert [tokens.mark(count) for count in (0, 75, 76, 150, 151, 225, 226)] == [75, 75, 150, 150, 225, 225, None]
    before = len(tokens._counts)
    assert tokens.count(["a phrase that is counted once"] * 9) == [6] * 9
    assert len(tokens._counts) == before + 1


@pytest.mark.parametrize(
    ("captions", "trigger"),
    [
        ({"1_x/a": "zk9, hat", "1_x/b": "(zk9:1.1), smile", "1_x/c": "1girl", "1_x/d": None}, "zk9"),
        ({"1_zk9 woman/a": "1girl, hat", "1_zk9 woman/b": "1girl"}, "zk9"),
        ({"1_zk9 woman/a": "hat", "1_zk9 woman/b": "smile"}, "zk9"),
        ({"1_woman/a": "1girl"}, ""),
        ({"a": None}, ""),
    ],
)
def test_the_trigger_word_of_a_set(tmp_path: Path, captions: dict[str, str | None], trigger: str) -> None:
    assert tagged(tmp_path, {**captions}).trigger() == trigger


def test_a_written_line_leaves_the_others() -> None:
    caption = read("first\nzk9".encode("utf-16"))
    assert caption.with_line("zk9,\n a\tb ").raw == b"zk9,  a b\nzk9"
    assert caption.with_line("first") is caption
