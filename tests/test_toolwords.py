"""A tool as a word of the command line: its flags, what may be given without one, its report, and Ctrl-C."""

from __future__ import annotations

import argparse
import json
import signal
from typing import Any

import pytest

from trainer.config.parts import Part
from trainer.errors import InputError
from trainer.terminal import Stop, Tell
from trainer.toolwords import add_tool


class Cut(Part):
    """Cut files."""

    files: tuple[str, ...]
    """Which 100 % of them."""
    size: int = 3
    """How long."""


class Told:
    """What was asked for."""

    def __init__(self, options: Cut, stopped: bool) -> None:
        self.told = {"files": list(options.files), "size": options.size, "stopped": stopped}

    def to_json(self) -> dict[str, Any]:
        return self.told

    def text(self) -> str:
        return f"{len(self.told['files'])} cut"


def cut(options: Cut, tell: Tell, should_stop: Stop) -> Told:
    tell(1, 1)
    assert not should_stop()
    if options.size == 99:
        signal.raise_signal(signal.SIGINT)
    return Told(options, should_stop())


def run(*words: str) -> int:
    top = argparse.ArgumentParser()
    add_tool(top.add_subparsers(), "cut", "cuts", Cut, cut, "files", {"model": "MODEL", "files": "FILE"})
    given = top.parse_args(["cut", *words])
    return given.do(given)


def test_its_report_is_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a", "b") == 0 and capsys.readouterr().out == "2 cut\n"
    told = {"files": ["a", "b"], "size": 4, "stopped": False}
    for words in (["a", "b", "--size", "4"], ["--files", "a", "b", "--size", "4"]):
        assert run(*words, "--json") == 0 and json.loads(capsys.readouterr().out) == told


def test_what_is_given_twice_or_not_at_all_is_said() -> None:
    with pytest.raises(InputError, match="files: it is given twice, as FILE and as --files; give it once"):
        run("a", "--files", "b")
    with pytest.raises(InputError, match=r"^files: "):
        run("--size", "4")


def test_ctrl_c_asks_it_to_stop_and_the_report_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a", "--size", "99", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stopped"]


def test_its_help_says_what_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "Cut files." in told and "Which 100 % of them. The same as --files." in told
