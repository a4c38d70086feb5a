"""`undo DIR` on the command line: every change of a data set, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tagging import files, tagged
from trainer import aside
from trainer.__main__ import main
from trainer.tags import edits
from trainer.tags.history import History

SET = {"10_zk9/a": "zk9, smile", "10_zk9/b": "zk9, hat", "10_zk9/c": None}


def test_a_change_is_listed_taken_back_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tagged(tmp_path, SET)
    before = files(tmp_path)
    History(data).apply(edits.add(["night"]), data.pictures)
    after = files(tmp_path)

    assert main(["undo", str(tmp_path)]) == 0
    name, *words = capsys.readouterr().out.split()
    assert words[-2:] == ["add", "night"] and "3" in words
    assert main(["undo", str(tmp_path), "--snapshot", name]) == 0
    assert files(tmp_path) == before
    assert main(["undo", str(tmp_path), "--snapshot", "last"]) == 0  # the undo itself
    assert files(tmp_path) == after


def test_what_is_set_aside_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tagged(tmp_path, SET)
    before = files(tmp_path)
    aside.set_aside(tmp_path, [data.pictures[0].path])
    assert files(tmp_path) != before
    main(["undo", str(tmp_path)])
    assert "1 pictures are set aside" in capsys.readouterr().out
    assert main(["undo", str(tmp_path), "--aside"]) == 0
    assert files(tmp_path) == before and data.pictures[0].path.is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "is no folder here"),
        ([".", "--snapshot", "last"], "nothing was changed"),
        ([".", "--snapshot", "../x"], "is none of"),
    ],
)
def test_what_cannot_be_undone(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, *others = words
    assert main(["undo", str(tmp_path / folder), *others]) == 2
    assert said in capsys.readouterr().err
    assert main(["undo", str(tmp_path)]) == 0
    assert "Nothing was changed" in capsys.readouterr().out
