"""`python -m trainer images report DIR`: the doctor's report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.doctor.options import Doctor
from trainer.terminal import Stop, Tell
from trainer.toolwords import add_tool

if TYPE_CHECKING:
    from trainer.doctor.report import Report

ABOUT = "look at a data set: what is wrong with its pictures and captions, and why"


def add(tools: Any) -> None:
    """Adds the word `report` to the tools for pictures."""
    add_tool(tools, "report", ABOUT, Doctor, run_report, "pictures")


def run_report(options: Doctor, tell: Tell, should_stop: Stop) -> Report:
    """The report; nothing is changed. When it is stopped it tells what was seen so far."""
    from trainer.doctor.report import report

    return report(options, tell, should_stop)
