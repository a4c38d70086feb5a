"""The real page, `python -m webui`, for the tests that use it as a person does: by what can be read on it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pictures import draw_folder
from tests.tiny import tiny_sd15, tiny_sdxl
from tests.waiting import PATIENCE, look
from trainer.runfolder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
Open = Callable[..., Any]
CURVE = re.compile("M.*L")  # a path of more than one point


class Site:
    """The real page, on the same port each time, and the files behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        (self.data / "models").mkdir(parents=True)
        self.base, self.sdxl = tiny_sd15(self.data / "models"), tiny_sdxl(self.data / "models")
        self.images = draw_folder(self.data / "3mm4w4ts0n" / "images", {"24_3mm4w4ts0n": 2, "16_3mm4w4ts0n": 1})
        self.address = ""
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        port = self.address.rstrip("/").rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "webui", "--port", port, "--data-dir", str(self.data), "--headless"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.address = self.process.stdout.readline().split()[-1]

    def kill(self) -> None:
        """Ends it as a crash does."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    def runs(self) -> list[dict[str, Any]]:
        """What it tells of the runs, the newest first."""
        return list(look(f"{self.address}api/runs").json())

    def run(self, run: str) -> RunFolder:
        """A run's folder."""
        return RunFolder(self.data / "runs" / run)

    def draft(self) -> dict[str, Any]:
        """The settings that stand on the page, as they are kept for the next visit."""
        try:
            return dict(json.loads((self.data / "form.json").read_text()))
        except FileNotFoundError:
            return {}


def expect(found: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE)
    return expect(found)


def tab(view: Any, words: str) -> None:
    view.get_by_role("tab", name=words, exact=True).click()


def box(view: Any, label: str) -> Any:
    """The field that is called so, of those that are seen."""
    return view.get_by_label(label, exact=True).filter(visible=True).first


def choose(view: Any, label: str, word: str) -> None:
    """Chooses in a list."""
    box(view, label).click()
    view.get_by_role("option", name=word).first.click()


def fill(view: Any, fields: dict[str, Any]) -> None:
    """Writes into fields, by their labels."""
    for label, value in fields.items():
        box(view, label).fill(str(value))


def press(view: Any, words: str) -> None:
    view.get_by_role("button", name=words, exact=True).filter(visible=True).first.click()


def job(view: Any) -> Any:
    """The job that is shown."""
    return view.locator("likeness-job").filter(visible=True)


def is_in(view: Any, state: str) -> None:
    """Waits until the job that is shown is in a state, by its word."""
    expect(job(view).locator(".lk-pill")).to_have_text(state)


def has_a_curve(view: Any) -> None:
    expect(job(view).locator("path.lk-smooth")).to_have_attribute("d", CURVE)


def board_shows(view: Any, run: RunFolder) -> None:
    """TensorBoard, inside the page, draws curves of a run."""
    board = view.frame_locator("iframe[title=TensorBoard]")
    expect(board.get_by_text(run.path.name).first).to_be_visible()
    expect(board.locator("line-chart").first).to_be_visible()
