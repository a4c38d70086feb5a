"""Takes docs/screens/, docs/page.png and docs/demo.png from the real page: `python docs/screens.py`, ten minutes.

The shipped demo is trained through the page; a second run, with other settings, gives Compare something to compare, and
a third waits for its turn. Needs the `test` extra and a Chromium on the PATH.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that the browser of the tests is found

from tests.browser import chromium  # noqa: E402
from tests.taggers import draw_tagger  # noqa: E402
from trainer.data.folders import SHIPPED  # noqa: E402

DOCS = ROOT / "docs"
PATIENCE = 900_000  # milliseconds that a training may take to get somewhere
EYES: dict[str, dict[str, Any]] = {
    "": {"viewport": {"width": 1280, "height": 860}},
    "-dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "-phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True},
}
"""Who looks: the end of a picture's name, and what Playwright is told."""
SAY_ELSE = """([places]) => {
  const words = text => Object.entries(places).reduce((text, [here, there]) => text.replaceAll(here, there), text)
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const node = walker.currentNode
    if (words(node.data) !== node.data) node.data = words(node.data)
  }
  for (const field of document.querySelectorAll('input, textarea')) field.value = words(field.value)
}"""
"""Where this machine keeps things is no part of a picture."""
STILL = "*, ::before, ::after { animation: none !important; transition: none !important; caret-color: transparent; }"
ASK = """async ([path, body]) => (await fetch(path, {
  method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
})).json()"""
OTHERS: dict[str, dict[str, Any]] = {
    "zk9-small": {"network.rank": 4, "network.alpha": 4, "network.conv_rank": None, "train.epochs": 8},
    "zk9-gentle": {"optimizer.lr": 2e-3, "train.epochs": 30},
}
"""The other runs, and what differs in them from the demo."""


class Album:
    """The page, those who look at it, and the pictures."""

    def __init__(self, address: str, browser: Any, hidden: dict[str, str]) -> None:
        self.address, self.hidden = address, hidden
        self.views = {}
        for name, eye in EYES.items():
            context = browser.new_context(**eye)
            context.set_default_timeout(PATIENCE)
            self.views[name] = context.new_page()
        self.view = self.views[""]

    def open(self, tab: str, eye: str = "") -> Any:
        """The page, opened anew at a tab."""
        view = self.views[eye]
        view.goto(self.address)
        view.get_by_role("button", name="Start the demo").wait_for()
        view.get_by_role("tab", name=tab, exact=True).click()
        if tab == "LoRA":
            view.locator("#plan b, #plan li").first.wait_for()
        view.wait_for_timeout(600)
        return view

    def take(self, name: str, view: Any, box: Any = None, folder: Path = DOCS / "screens") -> None:
        """Writes what `view` shows, or what is in `box`."""
        view.mouse.move(0, 0)
        view.wait_for_timeout(600)
        for frame in view.frames:
            frame.evaluate(SAY_ELSE, [self.hidden])
            assert not any(place in frame.inner_text("body") for place in self.hidden), name
        data = (box or view).screenshot(style=STILL)
        shown = Image.open(io.BytesIO(data)).convert("RGB")
        small = shown.quantize(256, kmeans=2, dither=Image.Dither.NONE)  # a third of the size, and looks the same
        folder.mkdir(exist_ok=True)
        small.save(folder / f"{name}.png", optimize=True)
        print(f"{name}: {(folder / f'{name}.png').stat().st_size / 1e3:.0f} kB", flush=True)

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Tells the server something, as the page's scripts do."""
        return dict(self.view.evaluate(ASK, [path, body]))

    def reach(self, name: str, step: int | None = None) -> str:
        """Waits until the run that is called so has made a step, or all of them; gives its id."""
        until = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < until:
            for run in self.view.evaluate("async () => (await fetch('api/runs')).json()"):
                if run["name"] == name and (
                    run["state"] == "done" or (run["progress"].get("step") or 0) >= (step or 1e9)
                ):
                    return str(run["id"])
            time.sleep(1)
        raise TimeoutError(f"{name}: step {step or 'last'} was not reached in {PATIENCE / 60_000:.0f} minutes")


@contextlib.contextmanager
def page(folder: Path) -> Iterator[str]:
    """Serves the real page on a free port, with its data in `folder`; gives its address."""
    command = [sys.executable, "-m", "webui", "--port", "0", "--data-dir", str(folder), "--headless"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def show(view: Any, place: str) -> None:
    """Scrolls until something stands at the top."""
    view.locator(place).evaluate("node => scrollTo(0, node.getBoundingClientRect().top + scrollY - 12)")


def parameters(view: Any, tab: str) -> None:
    """Opens a tab of Parameters and brings it into sight."""
    view.locator("#parameters").get_by_role("tab", name=tab, exact=True).click()
    show(view, ".part:has(> * #parameters), .part:has(> #parameters)")


def before(album: Album) -> None:
    """The page as it is found the first time; the form with the demo's settings; a mistake in it."""
    for eye in EYES:
        album.take(f"start{eye}", album.open("Start", eye))
    album.take("runs-empty", album.open("Runs"))
    album.take("tensorboard-empty", album.open("TensorBoard"))
    view = album.open("LoRA")
    view.get_by_label("Presets", exact=True).click()
    view.get_by_role("option", name="demo").click()
    view.locator("#said").get_by_text("demo is loaded").wait_for()
    for eye in EYES:
        view = album.open("LoRA", eye)  # anew, so that what is said of the preset is gone
        album.take(f"lora{eye}", view)
        for tab in ("Basic", "Advanced", "Samples", "Metadata")[: 1 if eye else 4]:
            parameters(view, tab)
            if tab == "Advanced":
                view.get_by_role("button", name="Learning rates and optimizer").click()
            album.take(f"lora-{tab.lower()}{eye}", view)
    view = album.open("LoRA")
    view.set_viewport_size({"width": 1200, "height": view.evaluate("document.body.scrollHeight")})
    album.take("page", view, folder=DOCS)
    view.set_viewport_size(EYES[""]["viewport"])
    parameters(view, "Basic")
    rate = view.get_by_role("textbox", name="Learning rate", exact=True)
    rate.fill("fast")
    view.locator(".field.wrong").wait_for()
    album.take("lora-error", view)
    rate.fill("0.004")
    view.locator(".field.wrong").wait_for(state="detached")


def data_set(album: Album, folder: Path) -> None:
    """The tools on the demo's pictures: captioned by a tagger that is made here, their tags, what the doctor says."""
    images = folder / "10_zk9 creature"
    shutil.copytree(SHIPPED["zk9"] / "img" / "10_zk9 creature", images, dirs_exist_ok=True)
    tagger = draw_tagger(folder / "models" / "colours")
    view = album.open("Utilities")
    view.get_by_role("tab", name="WD14 Captioning").click()
    view.get_by_label("Image folder to caption", exact=True).filter(visible=True).fill(str(images))
    album.take("utilities-wd14", view)
    album.ask("api/tools/caption.wd14", {"options": {
        "folder": str(images), "model": [str(tagger)], "prefix": "zk9", "existing": "append", "caption_separator": ", ",
    }})  # fmt: skip
    view.locator("likeness-task .lk-done").filter(visible=True).wait_for()
    show(view, "likeness-task:visible")
    album.take("utilities-captioned", view)
    for eye in EYES:
        view = album.open("Dataset", eye)
        view.locator("likeness-tags").evaluate("(editor, folder) => editor.setAttribute('folder', folder)", str(images))
        view.locator("likeness-tags img").last.wait_for()
        view.get_by_role("option").nth(1).click()
        album.take(f"dataset-tags{eye}", view)
    album.ask("api/tools/images.report", {"options": {"folder": str(images), "resolution": [128, 128]}})
    for eye in EYES:
        view = album.open("Dataset", eye)
        view.get_by_role("tab", name="Doctor", exact=True).click()
        view.locator("likeness-tool [data-name=folder]").filter(visible=True).fill(str(images))
        view.locator("likeness-doctor h3").first.wait_for()
        show(view, "likeness-task:visible")
        album.take(f"dataset-doctor{eye}", view)
    for tab, hand in (("Crop", "likeness-crop"), ("Background", "likeness-mask")):
        for eye in ("", "-phone"):
            view = album.open("Utilities", eye)
            view.get_by_role("tab", name=tab, exact=True).click()
            box = view.locator("likeness-tool [data-name=folder]").filter(visible=True)
            box.fill(str(images))
            box.blur()
            view.locator("summary", has_text=" by hand" if tab == "Crop" else "with a brush").click()
            view.locator(f"{hand} canvas").last.wait_for()
            show(view, hand)
            album.take(f"utilities-{tab.lower()}{eye}", view)


def during(album: Album) -> None:
    """The demo, live."""
    album.open("Start").get_by_role("button", name="Start the demo").click()
    album.reach("zk9", 330)
    for eye in EYES:
        view = album.open("Start", eye)
        show(view, "#start-job")
        album.take(f"start-job{eye}", view)
    view = album.open("LoRA")
    show(view, "#job")
    album.take("lora-live", view)


def after(album: Album) -> None:
    """Its end, a second run beside it, and a third that waits."""
    demo = album.reach("zk9")
    for name, changes in OTHERS.items():
        album.ask(f"api/runs/{demo}/again", {"set": {"output.name": name, **changes}})
    album.reach("zk9-small", 60)
    for eye in ("", "-phone"):
        album.take(f"runs{eye}", album.open("Runs", eye))
    album.ask("api/queue", {"paused": True})  # so that the third goes on waiting
    album.reach("zk9-small")
    view = album.open("Runs")
    for name in ("zk9", "zk9-small"):
        view.get_by_label(f"Compare {name}", exact=True).check()
    view.get_by_role("button", name="Compare 2 runs").click()
    view.locator("likeness-compare img").first.wait_for()
    album.take("runs-compare", view)
    view = album.open("Runs")
    view.get_by_role("button", name="zk9", exact=True).first.click()
    samples = view.locator("likeness-samples").filter(visible=True)
    samples.locator("img").last.wait_for()
    album.take("run", view)
    album.take("demo", view, box=samples.locator("table"), folder=DOCS)
    view = album.open("TensorBoard")
    view.frame_locator(".board").locator("line-chart").first.wait_for()
    view.wait_for_timeout(3000)  # until the curves are drawn
    album.take("tensorboard", view)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data, page(Path(data)) as address, chromium() as browser:
        album = Album(address, browser, {data: "likeness", str(ROOT): "likeness", str(Path.home()): "~"})
        before(album)
        data_set(album, Path(data))
        during(album)
        after(album)
