"""The README tells the truth: its files exist, its example is a valid config, its words are understood."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from pathlib import Path

import pytest

import launch
from trainer.__main__ import parser
from trainer.config import Config

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_the_tree_is_the_tree() -> None:
    tree = TEXT[TEXT.index("## What is where") :]
    folder = ROOT
    for line in tree.splitlines():
        if match := re.match(r"( *)((?:[\w.]+/?  ?)+)", line):
            folder = ROOT if not match[1] else ROOT / "trainer"
            for name in match[2].split():
                if name.endswith(("/", ".py")):
                    assert (folder / name).exists(), name


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def test_the_example_is_a_config() -> None:
    for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL):
        Config.model_validate(json.loads(block))


@pytest.mark.parametrize(
    "file", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda file: file.name
)
def test_the_words_are_understood(file: Path) -> None:
    for line in re.findall(
        rf"python launch\.py ((?:{'|'.join(launch.WORDS)}) [^`\n]+)", file.read_text().replace("\\\n", " ")
    ):
        words = shlex.split(line.replace("workspace/runs/<run>", "x"), comments=True)
        with contextlib.suppress(SystemExit) if "--help" in words else contextlib.nullcontext():
            parser().parse_args(words)
