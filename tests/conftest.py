"""What several tests share: a tiny base model, pictures, and a way to train on them in this process.

Nothing large is imported up here: the process that only hands out the tests would wait for it too.
"""

from __future__ import annotations

import os
import signal

# Before torch comes: tiny models lose more to waking threads than they win by them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else each of the hundred processes that tests start would compile all of our modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.browser import chromium
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from tests.walk import Open, Site
    from trainer.runfolder import RunFolder

# A shell that starts us in the background has Ctrl-C ignored, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same verdict each time, on busy machines too; `pytest --hypothesis-profile=default` searches for new cases.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

LONGEST = (
    "test_demo",
    "test_page",
    "test_resume",
    "test_every_option",
    "test_truth_set",
    "test_pocket",
    "test_tools_page",
    "test_watch",
    "test_grid_page",
    "test_families",
    "test_presets",
    "test_parity",
    "test_train",
    "test_several",
    "test_server",
    "test_panel",
    "test_compare_run",
    "test_jobs",
    "test_doctor_page",
    "test_folder_page",
    "test_tags_page",
    "test_tools_lora",
    "test_handwork",
    "test_lycoris",
    "test_tools_files",
    "test_doctor",
    "test_compare_painter",
    "test_full",
    "test_verdict_page",
    "test_tools_convert",
)
"""Files that take longest, the longest first: else one core would wait for the other at the end."""
Tree = dict[str, Any]
Train = Callable[..., "RunFolder"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported now stays: no sweep need look through it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; each stays whole and in its order."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny base model of each family."""
    from tests.tiny import tiny_sd15, tiny_sdxl

    folder = tmp_path_factory.mktemp("bases")
    return {"sd15": tiny_sd15(folder), "sdxl": tiny_sdxl(folder)}


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures in the Kohya layout, not all of one shape."""
    from tests.pictures import draw_folder

    folder = tmp_path_factory.mktemp("pictures")
    return draw_folder(folder / "img", {"2_zk9 thing": 4, "1_zk9 body": 2}, size=(96, 128))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder of the test's own."""
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    return tmp_path / "home" / "models"


@pytest.fixture
def small(bases: dict[str, Path], images: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any) -> Tree:
    """A config that trains in a second: 64 pixels, two steps. Encoded pictures are shared by all tests."""
    import torch

    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    return {
        "model": {"base": str(bases["sd15"])},
        "data": {"images": str(images), "resolution": 64, "buckets": None, "workers": 0},
        "network": {"rank": 2, "alpha": 1},
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "train": {"epochs": None, "steps": 2, "threads": torch.get_num_threads(), "device": "cpu"},
        "save": {"precision": "fp32"},
        "output": {"name": "zk9"},
    }


@pytest.fixture
def train(small: Tree, tmp_path: Path) -> Train:
    """Trains with changes to the small config, in this process; checks the exit code and gives the run folder."""
    from trainer.config import Config
    from trainer.runfolder import RunFolder
    from trainer.train import run
    from trainer.tree import overlay

    def go(changes: Tree | None = None, expect: int = 0) -> RunFolder:
        folder = RunFolder.create(tmp_path / "runs", Config.model_validate(overlay(small, changes or {})))
        assert run(folder) == expect
        return folder

    return go


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    import httpx
    import psutil

    from tests.walk import Site

    made = Site(tmp_path_factory.mktemp("page"))
    yield made
    with contextlib.suppress(httpx.HTTPError):
        for run in [line["id"] for line in made.runs() if line["state"] == "running"]:
            psutil.Process(json.loads((made.run(run).path / "pid.json").read_text())["pid"]).kill()
    made.process.send_signal(signal.SIGINT)
    made.process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(site: Site, browser: Any) -> Iterator[Open]:
    """Opens the page as a new visitor; fails when one of its scripts does, or when it asks another server."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def go(address: str = site.address) -> Any:
        def heard(asked: Any) -> None:
            if not asked.url.startswith((address, "data:", "blob:")):
                wrong.append(asked.url)

        still = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}  # what moves costs time
        context = browser.new_context(accept_downloads=True, **still)
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE)
        view = context.new_page()
        view.on("pageerror", lambda error: wrong.append(f"{error} {error.stack}"))
        view.on("request", heard)
        view.goto(address)
        view.get_by_role("button", name="Start the demo").wait_for()
        return view

    yield go
    for context in contexts:
        context.close()
    assert not wrong
