"""How fast the page is, in headless Chromium: `python -m benchmarks.page [--rounds 7]`, with .venv's Python.

It starts the page some times, as launch.py does (and by launch.py too, where its .venv stands), and uses the last one
as a person would, beside a training that a stand-in of the engine plays (tests/engine.py). It prints a table for
docs/speed.md. Other programs that run meanwhile count against the page.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psutil

import launch
from tests.browser import chromium
from trainer.config import Config
from trainer.runfolder import RunFolder
from webui import form
from webui.configs import open_preset
from webui.desk import DEFAULTS, Desk
from webui.jobs import Jobs
from webui.layout import BASIC, METADATA, SAMPLES
from webui.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGE = [sys.executable, "-m", "webui"]
BARS = {"waiting page": 1.0, "fields": 4.5, "tab": 0.2, "preset": 1.0, "job": 2.0}
TABS = {
    "#tabs": {
        "LoRA": "#config-path", "Runs": "likeness-runs input", "TensorBoard": "#board *", "Start": "#start-trigger",
    },
    "#parameters": {
        "Advanced": "#parameters .label-wrap", "Samples": f"#field-{SAMPLES[0]}", "Metadata": f"#field-{METADATA[0]}",
        "Basic": f"#field-{BASIC[0]}",
    },
}  # fmt: skip
"""The tabs, and what is seen in each."""
Figures = dict[tuple[str, str], list[float]]
"""Seconds of each round, by the bar that they are held to ("" for none) and by what was measured."""
Note = Callable[[str, str, float], None]
KEY = "A key pressed in a field"

# Both clocks stop once the browser has painted what was waited for.
CLOCK = """
window.painted = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)))
window.timed = async (begun, there) => {
  const start = performance.now()
  begun()
  do {
    await painted()
    if (performance.now() - start > 60000) throw Error(`not within a minute: ${there}`)
  } while (!there())
  return (performance.now() - start) / 1000
}
"""
SWITCH = """async ([tabs, words, inside]) => {
  const all = [...document.querySelectorAll(`${tabs} button[role="tab"]`)]
  const tab = all.find(node => node.textContent.trim() === words)
  return timed(() => tab.click(), () => [...document.querySelectorAll(inside)].some(node => node.offsetParent))
}"""
FILLED = """values => {
  const boxes = [...document.querySelectorAll('[id^="field-"] [data-testid="textbox"]')]
  const there = () => boxes.every(box => box.value === values[box.closest('[id^="field-"]').id.slice(6)])
  if (there()) throw Error('these values stand there already')
  window.filled = new Promise(done => {
    addEventListener('mousedown', () => timed(() => {}, there).then(done, done), { once: true, capture: true })
  })
}"""
PLANNED = """async () => {
  const box = document.querySelector('#field-train\\\\.epochs [data-testid="textbox"]')
  const plan = document.getElementById('plan')
  const write = () => {
    box.value = '77'
    box.dispatchEvent(new Event('input', { bubbles: true }))
  }
  return timed(write, () => plan.textContent.includes('77 epochs'))
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    figures: Figures = {}

    def note(bar: str, what: str, seconds: float) -> None:
        figures.setdefault((bar, what), []).append(seconds)

    ways = {"": PAGE} | ({", by launch.py": [sys.executable, "launch.py"]} if launch.VENV.look()[0] == "use" else {})
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        data = Path(name)
        for _ in range(rounds):
            for way, command in ways.items():
                with server(data, command) as (_, address, began), visit(browser) as view:
                    view.goto(address, wait_until="commit")
                    view.get_by_text("The page is starting").wait_for()
                    note("waiting page", f"Start to the waiting page{way}", time.perf_counter() - began)
                    usable(view)
                    note("fields", f"Start to fields that take words{way}", time.perf_counter() - began)
        with server(data, PAGE) as (process, address, _):
            for _ in range(rounds):
                (data / "form.json").unlink(missing_ok=True)  # each visit begins with the defaults
                with visit(browser) as view:
                    began = time.perf_counter()
                    view.goto(address)
                    usable(view)
                    note("", "Page opened while the server runs, to fields", time.perf_counter() - began)
                    switch_tabs(view, note)
                    load_presets(view, data, note)
                    note("", f"{KEY} to the new plan line", view.evaluate(PLANNED))
            mapped = {Path(part.path).name for part in process.memory_maps() if "torch" in part.path}
            megabytes = process.memory_info().rss / 2**20
            with job(data), visit(browser) as view:
                view.goto(address)
                for _ in range(rounds):
                    began = time.perf_counter()
                    view.reload(wait_until="commit")
                    view.locator("likeness-job .lk-pill").filter(has_text="Training", visible=True).wait_for()
                    note("job", "Page loaded again to the job's state", time.perf_counter() - began)
        look(data, rounds, note)
    print(report(figures, rounds, load))
    print(f"\nPyTorch in the page's process: {', '.join(sorted(mapped)) or 'none'}; its memory: {megabytes:.0f} MB.")


@contextlib.contextmanager
def server(data: Path, command: list[str]) -> Iterator[tuple[psutil.Process, str, float]]:
    """A page that listens: its process, its address, and when it was started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [*command, "--port", str(port), "--data-dir", str(data), "--headless"]
    began = time.perf_counter()
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while not listens(port):
            time.sleep(0.002)
        yield psutil.Process(process.pid), f"http://127.0.0.1:{port}/", began
    finally:
        process.terminate()
        process.wait()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@contextlib.contextmanager
def visit(browser: Any) -> Iterator[Any]:
    """A window of a visitor who was never here."""
    view = browser.new_page(viewport={"width": 1280, "height": 900})
    view.add_init_script(CLOCK)
    view.set_default_timeout(120_000)
    yield view
    view.close()


def usable(view: Any) -> None:
    """Waits until a field of the first tab is there, and writes into it."""
    view.locator("#start-trigger :is(input, textarea)").fill("zk9")


def switch_tabs(view: Any, note: Note) -> None:
    """Each tab twice, for the first time its fields are made; ends in the LoRA tab."""
    for tabs, seen in TABS.items():
        for turn in ("the first time", "again"):
            for name, inside in seen.items():
                inside = inside.replace(".", "\\.") if inside.startswith("#field") else inside
                note("tab", f"Tab {name}, {turn}", view.evaluate(SWITCH, [tabs, name, inside]))
        view.evaluate(SWITCH, ["#tabs", "LoRA", TABS["#tabs"]["LoRA"]])


def load_presets(view: Any, data: Path, note: Note) -> None:
    """The demo, the defaults, the demo: from the press in the list to the last field."""
    presets = {"demo": open_preset(settings_in(data), "demo").config, DEFAULTS: Config()}
    for name in ("demo", DEFAULTS, "demo"):
        view.get_by_label("Presets", exact=True).click()
        view.evaluate(FILLED, form.write(presets[name]))
        view.get_by_role("option", name=name).first.click()
        note("preset", f"Preset {name}", view.evaluate("window.filled"))


@contextlib.contextmanager
def job(data: Path) -> Iterator[None]:
    """A training that makes ten steps a second, for as long as it is wanted."""
    config = Config.model_validate({"output": {"name": "bench", "comment": "steps=100000 wait=0.1"}})
    folder = RunFolder.create(data / "runs", config)
    engine = [sys.executable, str(ROOT / "tests" / "engine.py"), "train", "--run", str(folder.path)]
    process = subprocess.Popen(engine, env={**os.environ, "LIKENESS_HOME": str(data)}, stdout=subprocess.DEVNULL)
    while not any(event["kind"] == "step" for event in folder.events()):
        time.sleep(0.05)
    yield
    process.terminate()
    process.wait()


def look(data: Path, rounds: int, note: Note) -> None:
    """The server's part of a key press: reading the form, planning, and what is told of it."""
    settings = settings_in(data)
    desk = Desk(settings, Jobs(settings, watch=False))
    values = form.write(open_preset(settings, "demo").config)
    for turn in range(rounds + 1):
        sheet = desk.sheet({**values, "train.epochs": str(30 + turn)}, wire={}, path="", style="", run=None, wish={})
        began = time.perf_counter()
        desk.look(sheet)
        sheet.shown()
        if turn:  # before, the pictures had to be opened
            note("", f"{KEY}, the server's part", time.perf_counter() - began)


def settings_in(data: Path) -> Settings:
    return Settings("127.0.0.1", 0, data, data / "runs", (), ())


def report(figures: Figures, rounds: int, load: float) -> str:
    """The table, and where and when it was made."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    gradio = importlib.metadata.version("gradio")
    lines = [
        f"{date.today()}, commit {commit.stdout.strip()}: {processor()}, {os.cpu_count()} cores,"
        f" load before {load:.1f}; Python {platform.python_version()}, Gradio {gradio}; {rounds} rounds.",
        "",
        "| seconds | median | least | most | bar |",
        "| --- | --- | --- | --- | --- |",
    ]
    for (bar, what), taken in figures.items():
        told = " | ".join(f"{value:.2f}" for value in (statistics.median(taken), min(taken), max(taken)))
        lines.append(f"| {what} | {told} | {BARS.get(bar, '')} |")
    return "\n".join(lines)


def processor() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
