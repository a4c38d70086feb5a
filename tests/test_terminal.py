"""The bar of progress of commands: what is drawn on a terminal, and that nothing is elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from trainer.terminal import bar


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def drawn(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *told: tuple[int, int], unit: str = "pictures") -> str:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", stream)
    with bar(unit, "work") as tell:
        for done, total in told:
            tell(done, total)
    return stream.getvalue()


def test_a_bar_says_how_much_is_done_of_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(Terminal(), monkeypatch, (3, 8), (5, 8), (8, 8), (8, 8))
    assert "work:  38%" in text and " 3/8 [" in text and " 8/8 [" in text and text.count("\n") == 1
    assert "4.00M/8.00M" in drawn(Terminal(), monkeypatch, (4 * 10**6, 8 * 10**6), unit="B")


def test_a_second_file_has_a_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(Terminal(), monkeypatch, (50, 90), (1, 7))
    first, second, _ = text.split("\n")
    assert " 50/90 [" in first and "/7" not in first and " 1/7 [" in second and "/90" not in second


def test_nothing_is_drawn_before_there_is_something_to_tell_or_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert drawn(Terminal(), monkeypatch) == "" == drawn(io.StringIO(), monkeypatch, (1, 2), (2, 2), (1, 2))
