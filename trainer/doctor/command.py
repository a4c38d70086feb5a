"""`python -m trainer images report DIR`: the doctor's report."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from trainer.doctor.options import Doctor
from trainer.flags import add_flags, read_flags
from trainer.terminal import Wish, bar


def add(tools: Any) -> None:
    """Adds the word `report` to the tools for pictures."""
    about = "look at a data set: what is wrong with its pictures and captions, and why"
    tool = tools.add_parser("report", help=about, description=f"{about[0].upper()}{about[1:]}.")
    add_flags(tool, {"report": Doctor})
    tool.add_argument("--json", action="store_true", help="print the report as JSON")
    tool.set_defaults(do=run_report)


def run_report(given: argparse.Namespace) -> int:
    """Prints the report; nothing is changed. Ctrl-C ends it with what was seen so far."""
    from trainer.doctor.report import report

    options = read_flags(given, Doctor)
    with Wish().heard() as wish, bar("pictures") as tell:
        found = report(options, tell, wish.asked)
    print(json.dumps(found.to_json(), indent=2) if given.json else found.text(), file=sys.stdout)
    return 0
