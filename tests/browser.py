"""The browser of the tests that look at the page as a person does: a Chromium of this machine, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync"),
    "--disable-component-update",
]
"""It draws without a GPU, runs in a container, and calls nobody."""
HOW = "no browser: `apt install chromium` (any Chromium or Chrome on the PATH does), `pip install playwright`"

# Where a browser is required, as .ci/run has it, a test that finds none must fail.
needs_browser = pytest.mark.skipif(
    os.environ.get("LIKENESS_BROWSER") != "required" and not (CHROMIUM and find_spec("playwright")), reason=HOW
)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser, closed afterwards."""
    assert CHROMIUM, HOW
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()
