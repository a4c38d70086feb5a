"""The tag editor's routes: each word changes what it says on the disk and nothing else, and all can be undone."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.tagging import files
from trainer import snapshots
from trainer.tags.kinds import TRAITS
from trainer.tags.tokens import count
from webui import captions, captionset
from webui.settings import Settings

FIRST = "zk9, 1girl, long hair, smile, (hat:1.2)"
REST = "\r\nsecond line\r\n"


class Page:
    """A page that has one data set open."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root, self.options, self.home = root, options, root / "home" / "img"
        self.restart()

    def restart(self) -> None:
        """A new server over the same files."""
        settings = Settings("127.0.0.1", 0, self.root / "data", self.root / "runs", (), (self.root / "home",))
        self.client = TestClient(Starlette(routes=captions.routes(settings)))

    def open(self, folder: Path | None = None) -> dict[str, Any]:
        """The set, which the methods below are about."""
        body = {"folder": str(folder or self.home), **self.options}
        answer = self.client.post("/api/captions/open", json=body)
        assert answer.status_code == 200, answer.json()
        self.set = answer.json()
        return self.set

    def get(self, word: str, status: int = 200, **asked: str) -> Any:
        """What a question is answered."""
        answer = self.client.get(f"/api/captions/{self.set['id']}/{word}", params=asked)
        assert answer.status_code == status, answer.json()
        return answer.json()

    def post(self, word: str, status: int = 200, **body: Any) -> Any:
        """What a wish is answered, the words alone when it is refused."""
        sent = json.dumps(body)  # the client's own cannot send half a letter
        headers = {"content-type": "application/json"}
        answer = self.client.post(f"/api/captions/{self.set['id']}/{word}", content=sent, headers=headers)
        assert answer.status_code == status, answer.json()
        return answer.json() if status == 200 else answer.json()["error"]

    def edit(self, do: str, scope: str = "all", **body: Any) -> Any:
        """The change that an edit makes."""
        return self.post("edit", do=do, scope=scope, **body)

    def ids(self, query: str = "") -> list[int]:
        """Pictures by a filter."""
        return self.post("find", query=query)["ids"]


def lay(root: Path, captions: dict[str, str | bytes | None]) -> None:
    """Pictures, which nothing opens, and captions."""
    for name, words in captions.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.png").write_bytes(b"picture of " + os.fsencode(path.name))
        if words is not None:
            path.with_name(f"{path.name}.txt").write_bytes(words if isinstance(words, bytes) else words.encode())


def everything(home: Path) -> dict[str, bytes]:
    """All files of a data set, snapshots aside."""
    return {str(path.relative_to(home)): path.read_bytes() for path in home.glob("[!.]*/*") if path.is_file()}


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """Four pictures: two captions, one of two words in UTF-16, and one that is not there."""
    lay(
        tmp_path / "home" / "img",
        {
            **{"10_zk9 woman/a": FIRST + REST, "10_zk9 woman/b": "zk9,smile,smile,hat"},
            **{"2_body/c": "zk9, café".encode("utf-16"), "2_body/d": None},
        },
    )
    page = Page(tmp_path)
    page.open()
    return page


def test_a_set_is_told_as_it_lies_there(page: Page) -> None:
    assert page.set["folder"] == str(page.home.resolve())
    a, b, c, d = page.set["pictures"]
    assert (a["name"], a["place"], a["caption"]) == ("a.png", "10_zk9 woman/a.png", "a.txt")
    assert a["path"] == str(page.home.resolve() / "10_zk9 woman" / "a.png")
    assert (a["text"], a["tags"]) == (FIRST, ["zk9", "1girl", "long hair", "smile", "(hat:1.2)"])
    assert [a["tokens"]] == count([FIRST]) and not a["missing"] and a["locked"] == ""
    assert a["stamp"] == (page.home / "10_zk9 woman" / "a.png").stat().st_mtime_ns // 1_000_000
    assert c["tags"] == ["zk9", "café"] and [b["tokens"]] == count([b["text"]])
    assert (d["missing"], d["text"], d["tags"], d["tokens"]) == (True, "", [], 0)
    assert page.set["marks"] == [75, 150, 225] and page.set["order"][0] == "subject"
    assert page.set["trigger"] == "zk9"
    assert page.set["undo"] is None and page.set["redo"] is None and page.set["lists"] == []
    assert len({picture["id"] for picture in page.set["pictures"]}) == 4


@pytest.mark.parametrize(
    ("wish", "line"),
    [
        ({"do": "add", "tags": ["x", "smile"]}, f"{FIRST}, x"),
        ({"do": "add", "tags": "x, smile", "at": "top", "move": True}, "x, smile, zk9, 1girl, long hair, (hat:1.2)"),
        ({"do": "add", "text": "x", "at": 1}, "zk9, x, 1girl, long hair, smile, (hat:1.2)"),
        ({"do": "add", "tags": ["x"], "at": "center"}, "zk9, 1girl, x, long hair, smile, (hat:1.2)"),
        ({"do": "remove", "tags": ["hat", "1girl"]}, "zk9, long hair, smile"),
        ({"do": "replace", "pairs": {"hat": "cap", "smile": ""}}, "zk9, 1girl, long hair, (cap:1.2)"),
        ({"do": "regex", "pattern": r"(\w+) hair", "replacement": r"\1 fur"}, FIRST.replace("hair", "fur")),
        (
            {"do": "regex", "pattern": "hair, s", "replacement": "fur, S", "whole": True},
            FIRST.replace("hair, s", "fur, S"),
        ),
        ({"do": "sort", "by": "alphabet", "keep": 1}, "zk9, 1girl, (hat:1.2), long hair, smile"),
        ({"do": "sort", "by": "frequency"}, "zk9, smile, (hat:1.2), 1girl, long hair"),
        ({"do": "sort", "by": "alphabet", "backwards": True}, "zk9, smile, long hair, (hat:1.2), 1girl"),
        ({"do": "keep_first", "number": 2}, "zk9, 1girl"),
        ({"do": "truncate", "tokens": count(["zk9, 1girl,"])[0]}, "zk9, 1girl"),
        ({"do": "weigh", "tags": ["smile", "hat"], "by": -0.2}, "zk9, 1girl, long hair, (smile:0.8), hat"),
        ({"do": "bake_in", "traits": ["hair length"], "tags": ["hat"]}, "zk9, 1girl, smile"),
        ({"do": "set_all", "text": "x, y"}, "x, y"),
        ({"do": "text", "text": " any words,\nhere "}, "any words, here"),
        ({"do": "tags", "tags": ["smile", "zk9", "new"]}, "smile, zk9, new"),
    ],
    ids=lambda wish: str(wish.get("do")) if isinstance(wish, dict) else "",
)
def test_each_word_changes_what_it_says(page: Page, wish: dict[str, Any], line: str) -> None:
    before = files(page.home)
    [number] = page.ids("name:a.png")
    change = page.edit(scope="selected", ids=[number], **wish)
    name = "10_zk9 woman/a.txt"
    assert files(page.home) == before | {name: f"{line}{REST}".encode()}
    [shown] = change["changed"]
    assert (shown["id"], shown["text"], change["count"]) == (number, line, 1)
    assert [shown["tokens"]] == count([line]) and change["undo"] == change["what"] and change["redo"] is None
    undone = page.post("undo")
    assert files(page.home) == before and undone["redo"] == change["what"]
    assert undone["changed"] == [picture for picture in page.set["pictures"] if picture["id"] == number]
    assert page.post("redo")["changed"] == [shown]


def test_the_words_for_whole_captions(page: Page) -> None:
    before = files(page.home)
    lay(
        page.home,
        {"10_zk9 woman/a": "1girl, from side, zk9, hands up, long_hair, ^_^, fate (series), simple_background"},
    )
    page.post("refresh")
    assert page.edit("order")["count"] == 1
    assert (page.home / "10_zk9 woman/a.txt").read_text() == (
        "zk9, 1girl, long_hair, ^_^, fate (series), simple_background, hands up, from side"
    )
    page.edit("spaces", brackets="escape")
    assert (page.home / "10_zk9 woman/a.txt").read_text() == (
        r"zk9, 1girl, long hair, ^_^, fate \(series\), simple background, hands up, from side"
    )
    page.edit("spaces", underscores=False, brackets="plain")
    assert b"fate (series)" in files(page.home)["10_zk9 woman/a.txt"]
    assert page.edit("dedupe")["count"] == 1
    assert files(page.home)["10_zk9 woman/b.txt"] == b"zk9,smile,hat"
    assert page.edit("set_all", text="new", only_empty=True)["count"] == 1
    assert files(page.home)["2_body/d.txt"] == b"new"
    cleared = page.edit("clear")
    assert cleared["count"] == 4 and set(files(page.home).values()) == {b""} and len(cleared["snapshot"]) > 10
    while page.post("undo")["undo"]:
        pass
    assert files(page.home) == before


def test_scopes(page: Page) -> None:
    a, b, c, d = page.ids()
    assert page.ids("tag:smile AND NOT tag:1girl") == [b]
    assert page.ids("tokens:>10") == [a] and page.ids(" ") == [a, b, c, d]

    def changed(**body: Any) -> list[int]:
        change = page.post("edit", do="add", tags=["x"], **body)
        if change["count"]:
            page.post("undo")
        return [shown["id"] for shown in change["changed"]]

    assert changed(scope="one", ids=[c, a]) == [c]
    assert changed(scope="selected", ids=[c, a, c]) == [a, c]
    assert changed(scope="filtered", query="tag:smile") == [a, b]
    assert changed(scope="filtered", query="") == changed(scope="all") == [a, b, c, d]
    assert changed(scope="filtered", query="tag:nothing") == []


def test_an_edit_that_changes_nothing_is_no_step(page: Page) -> None:
    change = page.edit("remove", tags=["nothing"])
    assert (change["count"], change["changed"], change["undo"], change["snapshot"]) == (0, [], None, None)
    assert "undo: there is nothing to undo" in page.post("undo", 400)
    assert "redo: there is nothing to redo" in page.post("redo", 400)
    assert not (page.home / ".likeness").exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "do: is missing; choose from add, remove"),
        ({"do": "explode"}, "do: 'explode' is unknown; choose from add"),
        ({"do": ["add"]}, "do: \"['add']\" is unknown"),
        ({"do": "dedupe"}, "scope: is missing; choose from one, selected, filtered, all"),
        ({"do": "dedupe", "scope": "some"}, "scope: 'some' is unknown"),
        ({"do": "dedupe", "scope": "one"}, "ids: give a list of whole numbers"),
        ({"do": "dedupe", "scope": "one", "ids": []}, "ids: no picture is chosen"),
        ({"do": "dedupe", "scope": "one", "ids": [True]}, "ids: give a list of whole numbers"),
        ({"do": "dedupe", "scope": "selected", "ids": [0, 99]}, "ids: 99 is no picture of this set any more: refresh"),
        ({"do": "dedupe", "scope": "filtered", "query": "(a"}, "filter, letter 3: the end stands where a closing"),
        ({"do": "dedupe", "scope": "filtered", "query": 3}, "query: give a text"),
        ({"do": "add", "scope": "all"}, "tags: give a list of texts"),
        ({"do": "add", "scope": "all", "tags": [3]}, "tags: give a list of texts"),
        ({"do": "add", "scope": "all", "tags": " , "}, "tags: there is none: write one"),
        ({"do": "add", "scope": "all", "tags": ["x"] * 10_001}, "tags: 10001, more than 10,000: give fewer"),
        ({"do": "add", "scope": "all", "tags": "x", "at": "middle"}, "at: 'middle' is unknown; choose from top"),
        ({"do": "add", "scope": "all", "tags": "x", "at": -1}, "at: '-1' is not a whole number from 0"),
        ({"do": "add", "scope": "all", "tags": "x", "at": True}, "at: 'True' is not a whole number"),
        ({"do": "add", "scope": "all", "tags": "x", "move": 1}, "move: '1' is neither true nor false"),
        ({"do": "add", "scope": "all", "tags": ["x" * 70_000]}, "caption: 68 KiB, more than 64 KiB: shorten it"),
        ({"do": "add", "scope": "all", "tags": ["\ud800"]}, "holds half a letter: type that word again"),
        ({"do": "replace", "scope": "all", "pairs": ["a"]}, "pairs: give an object of texts"),
        ({"do": "replace", "scope": "all", "pairs": {"a": 1}}, "pairs: give an object of texts"),
        ({"do": "replace", "scope": "all", "pairs": {" ": "a"}}, "pairs: a tag to be replaced is empty"),
        ({"do": "regex", "scope": "all", "pattern": "a"}, "replacement: give a text"),
        ({"do": "regex", "scope": "all", "pattern": "", "replacement": "x"}, "pattern: it is empty"),
        ({"do": "regex", "scope": "all", "pattern": "(", "replacement": ""}, "unterminated subpattern"),
        ({"do": "regex", "scope": "all", "pattern": "a", "replacement": r"\3"}, "invalid group reference"),
        ({"do": "sort", "scope": "all", "by": "size"}, "by: 'size' is unknown; choose from alphabet, frequency, kind"),
        (
            {"do": "sort", "scope": "all", "by": "kind", "keep": 1.5},
            "keep: '1.5' is not a whole number from 0 to 10,000",
        ),
        ({"do": "keep_first", "scope": "all"}, "number: 'None' is not a whole number"),
        ({"do": "truncate", "scope": "all", "tokens": 0}, "tokens: '0' is not a whole number from 1"),
        ({"do": "weigh", "scope": "all", "tags": "a", "by": "much"}, "by: 'much' is not a number from -2 to 2"),
        ({"do": "weigh", "scope": "all", "tags": "a", "by": 10**400}, "is not a number from -2 to 2"),
        ({"do": "bake_in", "scope": "all"}, "traits: there is none: choose what should always appear"),
        ({"do": "bake_in", "scope": "all", "traits": ["shoes"]}, "traits: shoes is none: choose from eye colour"),
        ({"do": "spaces", "scope": "all", "brackets": "both"}, "brackets: 'both' is unknown"),
        ({"do": "text", "text": "x"}, "ids: give a list of whole numbers"),
        ({"do": "text", "ids": [0], "text": None}, "text: give a text"),
        ({"do": "tags", "ids": [0]}, "tags: give a list of texts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_wish_is_refused_with_its_field(page: Page, body: dict[str, Any], words: str) -> None:
    before = files(page.home)
    assert words in page.post("edit", 400, **body)
    assert files(page.home) == before and page.post("refresh")["undo"] is None


def test_a_slow_pattern_is_ended(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    (page.home / "2_body" / "d.txt").write_text("a" * 60)
    page.post("refresh")
    refusal = page.post("edit", 400, do="regex", scope="all", pattern="(a+)+b", replacement="")
    assert "took more than 2 s on these captions, so nothing was changed" in refusal


def test_a_wrong_filter_says_where(page: Page) -> None:
    assert page.post("find", 400, query="smile hat").startswith("filter, letter 7: hat follows without AND, OR or XOR")


def test_opening_refuses_what_cannot_be(page: Page, tmp_path: Path) -> None:
    def refused(status: int, **body: Any) -> str:
        answer = page.client.post("/api/captions/open", json={"folder": str(page.home), **body})
        assert answer.status_code == status
        return answer.json()["error"]

    (tmp_path / "home" / "out").symlink_to(tmp_path)
    lay(tmp_path / "secret", {"1_x/a": "secret"})
    for folder in (tmp_path / "secret", "/etc", tmp_path / "home" / "out" / "secret", page.home / ".likeness"):
        assert refused(403, folder=str(folder)).startswith("folder: ")
    assert "is not a whole path" in refused(403, folder="img")
    assert refused(400, folder=None) == "folder: give a text"
    assert "does not exist" in refused(400, folder=str(page.home / "gone"))
    (tmp_path / "home" / "empty").mkdir()
    assert "holds no pictures" in refused(400, folder=str(tmp_path / "home" / "empty"))
    assert refused(400, extension="txt").startswith("extension: ")
    assert refused(400, separator="").startswith("separator: ")
    assert refused(400, separator="\n").startswith("separator: holds the end of a line")
    assert refused(400, weighted="perhaps").startswith("weighted: ")


def test_a_folder_has_one_session_and_each_way_to_read_it_its_own(page: Page, tmp_path: Path) -> None:
    first = page.set
    page.edit("add", tags=["x"])
    (page.home / "2_body" / "d.txt").write_text("theirs")
    again = page.open()
    assert again["id"] == first["id"] and again["undo"] == "changed by another program"
    assert [shown["id"] for shown in again["pictures"]] == [shown["id"] for shown in first["pictures"]]
    assert again["pictures"][3]["text"] == "theirs"
    inner = page.open(page.home / "2_body")
    assert inner["id"] != first["id"] and [shown["name"] for shown in inner["pictures"]] == ["c.png", "d.png"]
    page.options = {"separator": ";"}
    whole = page.open()
    assert whole["id"] != first["id"] and whole["pictures"][1]["tags"] == ["zk9,smile,smile,hat,x"]


def test_two_sessions_on_one_folder_do_not_overwrite_each_other(page: Page) -> None:
    outer, inner = page.set, page.open(page.home / "2_body")
    page.edit("add", tags=["inner"])
    page.set = outer
    mine = files(page.home)
    words = page.post("edit", 409, do="add", scope="all", tags=["outer"])
    assert words.startswith("2 captions were changed by another program (c.txt, d.txt): take them in first")
    assert files(page.home) == mine
    page.post("refresh")
    assert page.edit("add", tags=["outer"])["count"] == 4
    page.set = inner
    assert "changed by another program" in page.post("undo", 409)


def test_a_restart_loses_only_the_undo(page: Page) -> None:
    page.edit("add", tags=["x"])
    kept = files(page.home)
    page.restart()
    assert "open it again" in page.post("undo", 404)
    assert "open it again" in page.get("complete", 404, text="x")["error"]
    page.open()
    assert files(page.home) == kept and page.set["undo"] is None
    [bulk] = page.get("snapshots")["snapshots"]
    page.post("restore", snapshot=bulk["id"])
    assert files(page.home)["10_zk9 woman/b.txt"] == b"zk9,smile,smile,hat"


def test_the_set_used_longest_ago_is_closed(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captionset, "MOST_OPEN", 2)
    first, second = page.set, page.open(page.home / "2_body")
    page.set = first
    page.ids()
    page.open(page.home / "10_zk9 woman")
    page.set = second
    page.post("find", 404, query="")
    page.set = first
    page.ids()


def test_snapshots_bring_everything_back(page: Page) -> None:
    before = files(page.home)
    edited = page.edit("add", tags=["x"])
    page.edit("clear")
    page.edit("text", text="one", ids=[page.ids()[0]])
    listed = page.get("snapshots")["snapshots"]
    told = sorted((snapshot["what"], snapshot["files"]) for snapshot in listed)
    assert told == [("add x", 4), ("clear 4 captions", 4), ("single captions", 1)]
    assert [snapshot["time"] for snapshot in listed] == sorted((s["time"] for s in listed), reverse=True)
    change = page.post("restore", snapshot=edited["snapshot"])
    assert files(page.home) == before and change["count"] == 4 and change["undo"] == "restore: add x"
    assert page.post("undo")["count"] == 4 and files(page.home)["10_zk9 woman/a.txt"] == b"one"
    for name in ("gone", "../../x", ""):
        assert "choose one of its list" in page.post("restore", 400, snapshot=name)


def test_a_restored_picture_is_shown_anew(page: Page) -> None:
    picture = page.home / "2_body" / "c.png"
    old = picture.read_bytes()
    snapshot = snapshots.begin(page.home.resolve(), "crop")
    snapshot.write(picture.resolve(), b"cropped")
    os.utime(picture, (1000, 1000))
    assert page.post("refresh")["pictures"][2]["stamp"] == 1_000_000
    change = page.post("restore", snapshot=snapshot.id)
    assert picture.read_bytes() == old and [shown["name"] for shown in change["changed"]] == ["c.png"]
    assert change["changed"][0]["stamp"] > 1_000_000 and change["what"] == "restore: crop"


def test_pictures_are_set_aside_with_their_captions_and_come_back(page: Page) -> None:
    page.edit("add", tags=["x"])
    (page.home / "2_body" / "c.json").write_text("{}")
    before, (a, b, c, d) = everything(page.home), page.ids()
    change = page.post("aside", ids=[c, a])
    assert set(before) - set(everything(page.home)) == {
        *("2_body/c.png", "2_body/c.txt", "2_body/c.json", "10_zk9 woman/a.png", "10_zk9 woman/a.txt")
    }
    assert change["gone"] == [a, c] and change["count"] == 2 and change["changed"] == []
    assert [shown["id"] for shown in change["pictures"]] == [b, d]
    assert sorted(change["names"]) == sorted(page.get("aside")["names"])
    undone = page.post("undo")
    assert everything(page.home) == before and page.ids() == [a, b, c, d]
    assert [shown["id"] for shown in undone["changed"]] == [a, c] and len(undone["pictures"]) == 4
    assert page.post("redo")["gone"] == [a, c]
    page.restart()
    page.open()
    back = page.post("put_back", names=change["names"])
    assert everything(page.home) == before and back["count"] == 2
    assert [shown["name"] for shown in back["pictures"]] == ["a.png", "b.png", "c.png", "d.png"]
    page.post("undo")
    page.post("redo")
    assert everything(page.home) == before and page.get("aside")["names"] == []


def test_a_shared_caption_stays_with_the_picture_that_needs_it(page: Page) -> None:
    (page.home / "2_body" / "c.jpg").write_bytes(b"the same name")
    page.open()
    [jpg] = page.ids("name:c.jpg")
    names = page.post("aside", ids=[jpg])["names"]
    assert (page.home / "2_body" / "c.txt").exists() and not (page.home / "2_body" / "c.jpg").exists()
    page.post("put_back", names=names)
    assert (page.home / "2_body" / "c.jpg").read_bytes() == b"the same name"


def test_setting_aside_overwrites_nothing(page: Page) -> None:
    a, b, c, d = page.ids()
    assert "choose some, and leave one" in page.post("aside", 400, ids=[a, b, c, d])
    assert "choose some, and leave one" in page.post("aside", 400, ids=[])
    for name in ("../../img/2_body/c.png", "/etc/passwd", "c.png", "x/gone.png", ".", "\0"):
        assert "is not set aside in" in page.post("put_back", 400, names=[name])
    names = page.post("aside", ids=[c])["names"]
    (page.home / "2_body" / "c.png").write_bytes(b"another")
    assert "is in " in page.post("put_back", 400, names=names)
    assert (page.home / "2_body" / "c.png").read_bytes() == b"another"
    (page.home / "2_body" / "d.txt").write_text("theirs")
    assert "changed by another program" in page.post("aside", 409, ids=[d])
    (page.home / "2_body" / "d.png").unlink()
    assert "d.png: is no longer in" in page.post("aside", 400, ids=[d])


def test_advice_and_its_cures(page: Page) -> None:
    lay(page.home, {"2_body/c": "1girl, 1boy, hair, long hair", "2_body/d": "1girl, long hair", "2_body/e": "1girl"})
    page.post("refresh")
    advice = page.get("advice")
    assert advice["count"] == len(advice["findings"]) == 2
    by_kind = {finding["kind"]: finding for finding in advice["findings"]}
    [c] = page.ids("name:c.png")
    assert by_kind["subject"]["id"] == by_kind["parent"]["id"] == c
    assert (by_kind["subject"]["remove"], by_kind["subject"]["add"]) == (["1boy"], [])
    assert "on a woman's set: 4 pictures say a woman, 1 a man" in by_kind["subject"]["why"]
    parent = advice["findings"].index(by_kind["parent"])
    change = page.post("cure", findings=[parent])
    assert change["count"] == 1 and change["changed"][0]["tags"] == ["1girl", "1boy", "long hair"]
    assert page.post("cure", findings=[parent])["count"] == 0  # it holds no more
    assert page.post("cure", findings="all")["count"] == 1 and page.get("advice")["count"] == 0
    assert "findings: 0 is none of 0: list them again" in page.post("cure", 400, findings=[0])
    assert "findings: give a list" in page.post("cure", 400, findings=3)


def test_groups_and_their_counts(page: Page) -> None:
    groups = {group["name"]: group["tags"] for group in page.get("groups")["groups"]}
    assert list(groups) == page.set["order"] and groups["subject"] == [{"tag": "1girl", "count": 1}]
    assert groups["switchable"][:2] == [{"tag": "zk9", "count": 3}, {"tag": "hat", "count": 2}]
    traits = {trait["name"]: trait["tags"] for trait in page.get("groups")["traits"]}
    assert set(traits) == set(TRAITS) and "hat" not in str(traits)
    page.edit("remove", tags=["hat"])
    assert "hat" not in str(page.get("groups"))


def test_completion_from_the_set_and_from_lists(page: Page, tmp_path: Path) -> None:
    lists = tmp_path / "data" / "tags"
    lists.mkdir(parents=True)
    (lists / "danbooru.csv").write_text('hat_ribbon,0,500,"ribbon_hat"\nhatsune_miku,4,900,\nsmile,0,10,\n')
    (lists / "own.txt").write_text("hatless\nhat ribbon\n")
    (lists / "broken.csv").write_text("a,b,many,\n")
    (lists / "notes.md").write_text("hatter")
    assert page.open()["lists"] == ["broken.csv", "danbooru.csv", "own.txt"]
    told = page.get("complete", text="hat")
    assert told["offers"] == [
        {"tag": "hat", "count": 2, "own": True, "alias": ""},
        {"tag": "hatsune miku", "count": 900, "own": False, "alias": ""},
        {"tag": "hat ribbon", "count": 500, "own": False, "alias": ""},
        {"tag": "hatless", "count": 0, "own": False, "alias": ""},
    ]
    assert len(told["problems"]) == 1 and "broken.csv, line 1: 'many' is no count" in told["problems"][0]
    assert page.get("complete", text="RIBBON_h")["offers"][0]["alias"] == "ribbon hat"
    assert [offer["tag"] for offer in page.get("complete", text="mik", mode="contain")["offers"]] == ["hatsune miku"]
    assert page.get("complete", text="mik")["offers"] == page.get("complete", text=" ")["offers"] == []
    (lists / "own.txt").write_text("hat stand")
    assert "hat stand" in [offer["tag"] for offer in page.get("complete", text="hat")["offers"]]
    page.edit("add", tags=["hatpin"])
    assert page.get("complete", text="hatp")["offers"][0]["count"] == 4
    assert "mode: 'any' is unknown" in page.get("complete", 400, text="x", mode="any")["error"]
    assert "more than 200: write less" in page.get("complete", 400, text="x" * 201)["error"]


def test_a_broken_corpus_is_listed_and_crashes_nothing(page: Page, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    lay(
        page.home,
        {
            **{"3_bad/long": "x" * 70_000, "3_bad/cut": b"\xff\xfe\xfd\x80\x81", "3_bad/zero": b"\0\0\0"},
            **{"3_bad/controls": b"a\x1b[31m,\x00b", "3_bad/blank": b"\r\n \t\n", "3_bad/commas": ",, ,a,,"},
            **{"3_bad/weights": "((((a, (b:x), [c", "3_bad/marked": b"\xef\xbb\xbfzk9", "3_bad/heart": "♥, \u202ezk9"},
            **{"3_bad/link": None, "3_bad/folder": None, "3_bad/loop": None, "3_bad/long tag": "y " * 20_000},
        },
    )
    (page.home / "3_bad" / "link.txt").symlink_to(secret)
    (page.home / "3_bad" / "loop.txt").symlink_to("loop.txt")
    (page.home / "3_bad" / "folder.txt").mkdir()
    (page.home / "3_bad" / "away.png").symlink_to(secret)
    (page.home / "3_bad" / os.fsdecode(b"caf\xe9.png")).touch()
    (page.home / "3_bad" / "orphan.txt").touch()
    told = page.open()
    locked = {shown["name"]: shown["locked"] for shown in told["pictures"] if shown["locked"]}
    assert set(locked) == {f"{name}.png" for name in ("long", "cut", "zero", "link", "folder", "loop")}
    assert {f"3_bad/{name[:-4]}.txt" for name in locked} <= {problem["file"] for problem in told["problems"]}
    assert all(set(problem) == {"file", "what", "done"} for problem in told["problems"])
    assert [shown["path"] for shown in told["pictures"] if "caf" in shown["name"]] == [""]
    assert "secret" not in str(told["pictures"])
    before = everything(page.home)
    for do in ("order", "dedupe", "spaces", "clear"):
        page.edit(do)
    page.edit("add", tags=["x"])
    page.get("advice")
    [long] = page.ids("name:long.png")
    assert "longer than 64 KiB; mend the file" in page.post("edit", 400, do="tags", ids=[long], tags=["x"])
    assert "longer than 64 KiB" in page.post("edit", 400, do="text", ids=[long], text="x")
    while page.post("undo")["undo"]:
        pass
    assert everything(page.home) == before and secret.read_text() == "secret"


def test_weighted_captions_count_without_brackets(page: Page) -> None:
    page.options = {"weighted": True}
    told = page.open()
    [a] = page.ids("name:a.png")
    assert [told["pictures"][0]["tokens"]] == count([FIRST], weighted=True) < count([FIRST])
    page.edit("truncate", tokens=count(["zk9, 1girl, long hair, smile, hat"])[0])
    assert page.post("refresh")["pictures"][0]["text"] == FIRST
    change = page.edit("weigh", scope="one", ids=[a], tags=["zk9"], by=0.3)
    assert change["changed"][0]["tags"][0] == "(zk9:1.3)"
    assert page.edit("remove", tags=["zk9"])["count"] == 3


def test_many_tags_are_shortened_to_the_very_limit(page: Page) -> None:
    lines = [", ".join(["x" * (i % 7 + 1), *(f"tag{n} " * (n % 5 + 1) for n in range(i))]) for i in range(1, 60, 4)]
    lay(page.home, {f"5_many/{i}": line for i, line in enumerate(lines)})
    page.open()
    page.edit("truncate", tokens=30)
    for i, line in enumerate(lines):
        tags = [tag.strip() for tag in line.split(",")]
        most = max(n for n in range(len(tags) + 1) if count([", ".join(tags[:n])])[0] <= 30)
        kept = (page.home / "5_many" / f"{i}.txt").read_text()
        assert [tag.strip() for tag in kept.split(",")] == tags[:most]


def test_two_tabs_at_once(page: Page) -> None:
    with ThreadPoolExecutor(6) as pool:
        work: list[Callable[[], Any]] = [lambda n=n: page.edit("add", tags=[f"t{n}"]) for n in range(12)]
        work += [lambda: page.get("complete", text="t"), lambda: page.ids("tag:t*"), lambda: page.post("refresh")] * 3
        for done in [pool.submit(act) for act in work]:
            done.result()
    for picture in page.post("refresh")["pictures"]:
        assert {f"t{n}" for n in range(12)} <= set(picture["tags"])
        assert len(picture["tags"]) == len(set(picture["tags"])) or picture["name"] == "b.png"


words = st.lists(
    st.sampled_from(["zk9", "smile", "hat", "(hat:1.2)", "long hair", "1girl", "_a_"]), min_size=1, max_size=3
)
wishes = st.one_of(
    st.fixed_dictionaries(
        {
            "do": st.just("add"),
            "tags": words,
            "at": st.sampled_from(["top", "center", "bottom", 1]),
            "move": st.booleans(),
        }
    ),
    st.fixed_dictionaries({"do": st.sampled_from(["remove", "set_all"]), "tags": words}),
    st.fixed_dictionaries(
        {"do": st.just("replace"), "pairs": st.dictionaries(st.sampled_from(["zk9", "hat"]), st.just("x"))}
    ),
    st.fixed_dictionaries({"do": st.just("sort"), "by": st.sampled_from(["alphabet", "frequency", "kind"])}),
    st.fixed_dictionaries({"do": st.sampled_from(["order", "dedupe", "clear", "spaces"])}),
    st.fixed_dictionaries({"do": st.just("keep_first"), "number": st.integers(0, 3)}),
    st.fixed_dictionaries({"do": st.just("truncate"), "tokens": st.integers(1, 8)}),
    st.fixed_dictionaries({"do": st.just("weigh"), "tags": words, "by": st.sampled_from([0.1, -0.3])}),
    st.fixed_dictionaries({"do": st.just("bake_in"), "traits": st.just(["hair length"])}),
    st.fixed_dictionaries({"do": st.just("text"), "text": st.sampled_from(["", "a\nb", "zk9, (smile"])}),
    st.fixed_dictionaries({"do": st.just("tags"), "tags": words}),
)
scopes = st.one_of(
    st.fixed_dictionaries(
        {"scope": st.sampled_from(["one", "selected"]), "ids": st.sets(st.integers(0, 2), min_size=1)}
    ),
    st.fixed_dictionaries({"scope": st.just("filtered"), "query": st.sampled_from(["", "tag:zk9", "tokens:>4"])}),
    st.fixed_dictionaries({"scope": st.just("all")}),
)
acts = st.lists(
    st.tuples(wishes, scopes)
    | st.tuples(st.sampled_from(["undo", "redo", "aside", "put_back", "restore"]), st.integers(0, 2)),
    max_size=7,
)


@hypothesis(max_examples=25)
@given(acts)
def test_any_edits_undone_give_the_exact_files_back(acts: list[tuple[Any, Any]]) -> None:
    root = Path(tempfile.mkdtemp())
    home = root / "home" / "img"
    lay(
        home,
        {"1_a/a": FIRST + REST, "1_a/b": "zk9, café".encode("cp1252"), "2_b/c": None, "2_b/d": b"\xef\xbb\xbfzk9,hat"},
    )

    page = Page(root)
    told, first = page.open(), everything(home)
    shown = {picture["id"]: picture for picture in told["pictures"]}
    ids = [*shown]
    for what, where in acts:
        if isinstance(what, dict):
            asked = [ids[place] for place in sorted(where.get("ids", {0}))]
            word, body = "edit", {"scope": "all", **where, **what, "ids": asked}
        else:
            listed = [snapshot["id"] for snapshot in page.get("snapshots")["snapshots"]]
            word, body = (
                what,
                {"ids": [ids[where]], "names": page.get("aside")["names"][:1], "snapshot": (listed or [""])[0]},
            )
        answer = page.client.post(f"/api/captions/{told['id']}/{word}", json=body)
        change = answer.json()
        assert answer.status_code in (200, 400), change
        if answer.status_code == 200:
            shown = {number: picture for number, picture in shown.items() if number not in change["gone"]}
            shown |= {picture["id"]: picture for picture in change["changed"]}
            assert "pictures" not in change or {picture["id"]: picture for picture in change["pictures"]} == shown
    now = page.open()
    assert {picture["id"]: picture for picture in now["pictures"]} == shown  # what was told of changes is all there is
    last = everything(home)
    undone = 0
    while now["undo"]:
        now = page.post("undo")
        undone += 1
    assert everything(home) == first
    for _ in range(undone):
        now = page.post("redo")
    assert everything(home) == last
    shutil.rmtree(root)
