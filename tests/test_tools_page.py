"""The tools of the page as the tutorials use them: pictures cropped, captioned, their tags mended, in one program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.browser import needs_browser
from tests.taggers import draw_tagger
from tests.waiting import until
from tests.walk import Open, Site, box, expect, fill, press, tab
from trainer.runfolder import RunFolder

pytestmark = needs_browser
TRIGGER = "3mm4w4ts0n"
ELEMENTS = ", ".join(
    f"likeness-{name}" for name in ("tool", "tags", "folders", "models", "verdict", "generate", "grid")
)
"""What the tabs within tabs hold."""


def task(view: Any) -> Any:
    """The tool's run that is shown."""
    return view.locator("likeness-task").filter(visible=True)


def is_done(view: Any, words: str) -> None:
    """Waits until the run that is shown is done, and says so."""
    expect(task(view).locator(".lk-pill")).to_have_text("Done")
    expect(task(view).locator(".lk-sentence")).to_contain_text(words)


def tools(site: Site, job: str) -> list[RunFolder]:
    """All runs of a tool, the newest last."""
    found = [RunFolder(path.parent) for path in sorted((site.data / "runs").glob("*/config.json"))]
    return [run for run in found if run.job == job]


@pytest.fixture
def photos(site: Site) -> Path:
    """Faces and bodies as they are found: large, and of any shape."""
    place = site.data / "found"
    for number, (name, size) in enumerate({"face 1": (700, 600), "face 2": (620, 900), "body 1": (640, 1100)}.items()):
        folder = place / name.split()[0]
        folder.mkdir(parents=True, exist_ok=True)
        colour = [(200, 60, 40), (40, 60, 220), (40, 200, 60)][number]
        picture = Image.linear_gradient("L").resize(size).convert("RGB")
        picture.paste(colour, (size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2))
        picture.save(folder / f"{name}.jpg")
    return place


def test_recipe_a_from_found_pictures_to_tags_that_are_mended(site: Site, page: Open, photos: Path) -> None:
    """Crop to 512 x 512 and 512 x 768, caption with the trigger before all, take a wrong tag away."""
    view = page()
    images = site.data / "mine" / "images"
    tab(view, "Utilities")
    for name, size, repeats in (("face", (512, 512), 24), ("body", (512, 768), 16)):
        tab(view, "Crop")
        out = images / f"{repeats}_{TRIGGER}"
        wish = {"Folder of pictures": photos / name, "Sizes": "{}x{}".format(*size), "Output folder": out}
        fill(view, wish)
        press(view, "Crop images")
        is_done(view, "made")
        until(lambda out=out: any(out.glob("*.png")))
        assert {Image.open(file).size for file in out.glob("*.png")} == {size}

    tagger = draw_tagger(site.data / "models" / "tagger")
    tab(view, "Captioning")
    tab(view, "WD14 Captioning")
    box(view, "Repo ID").select_option("Several, or one of your own:")
    view.locator("textarea[data-name=model]").filter(visible=True).fill(str(tagger))
    for repeats, many in ((24, 2), (16, 1)):
        folder = images / f"{repeats}_{TRIGGER}"
        fill(view, {"Image folder to caption": folder, "Prefix to add to WD14 caption": TRIGGER})
        press(view, "Caption images")
        is_done(view, f"{many} captioned")
        texts = [file.read_text() for file in folder.glob("*.txt")]
        assert len(texts) == many and all(text.startswith(f"{TRIGGER}, ") and "^_^" in text for text in texts)
    expect(task(view).get_by_text("How often each tag was written")).to_be_visible()

    press(view, "Open in the tag editor")
    editor = view.locator("likeness-tags").filter(visible=True)
    expect(editor.get_by_role("listbox", name="Pictures").get_by_role("option")).to_have_count(1)


def test_a_tool_that_runs_is_found_again_and_taken_back(site: Site, page: Open, photos: Path) -> None:
    view = page()
    tab(view, "Utilities")
    tab(view, "Basic Captioning")
    folder = photos / "body"
    (folder / "body 1.txt").write_text("a woman")
    fill(view, {"Image folder to caption": folder, "Prefix to add to caption": f"{TRIGGER},"})
    box(view, "Overwrite existing captions in folder").check()
    press(view, "Caption images")
    is_done(view, "1 captioned")
    assert (folder / "body 1.txt").read_text() == f"{TRIGGER}, a woman\n"

    view.reload()
    tab(view, "Utilities")
    tab(view, "Basic Captioning")
    expect(box(view, "Image folder to caption")).to_have_value(str(folder))
    is_done(view, "1 captioned")
    press(view, "Undo all of it")
    expect(task(view).get_by_text("1 file as before")).to_be_visible()
    assert (folder / "body 1.txt").read_text() == "a woman"
    press(view, "Make it again")
    until(lambda: (folder / "body 1.txt").read_text() == f"{TRIGGER}, a woman\n")

    tab(view, "Runs")
    runs = view.locator("likeness-runs")
    runs.get_by_text("Tools", exact=True).click()
    runs.get_by_role("button", name="Basic captioning").first.click()
    is_done(view, "1 captioned")


def test_what_is_wrong_is_said_at_its_field(site: Site, page: Open, photos: Path) -> None:
    view = page()
    before = len(list((site.data / "runs").glob("*")))
    tab(view, "Utilities")
    tab(view, "WD14 Captioning")
    fill(view, {"Image folder to caption": photos, "General threshold": "much"})
    press(view, "Caption images")
    field = view.locator(".lk-field", has=view.locator("[data-name=general_threshold]"))
    expect(field.locator(".lk-wrong")).to_contain_text('"much"')
    expect(box(view, "General threshold")).to_be_focused()
    fill(view, {"General threshold": "0.5", "Image folder to caption": "/etc"})
    press(view, "Caption images")
    expect(view.locator(".lk-wrong").filter(visible=True)).to_contain_text("not in a folder that the page may use")
    assert len(list((site.data / "runs").glob("*"))) == before

    press(view, "Back to the defaults")
    expect(box(view, "General threshold")).to_have_value("0.35")


def test_options_that_count_for_nothing_are_not_seen(site: Site, page: Open, photos: Path) -> None:
    view = page()
    tab(view, "Utilities")
    tab(view, "Background")
    expect(box(view, "Seed")).to_be_visible()
    box(view, "Fill").select_option("colour")
    expect(box(view, "Background colour")).to_be_visible()
    expect(view.get_by_label("Seed", exact=True).filter(visible=True)).to_have_count(0)
    fill(view, {"Folder of pictures": photos / "face"})
    press(view, "Change backgrounds")
    expect(task(view).locator(".lk-pill")).to_have_text("Failed")  # no model is here
    expect(task(view).get_by_role("alert")).to_contain_text("models get")
    run = tools(site, "images.background")[-1]
    assert json.loads((run.path / "config.json").read_text())["options"]["fill"] == "colour"


def test_a_folder_goes_from_tool_to_tool_and_a_lora_is_verified(site: Site, page: Open, photos: Path) -> None:
    view = page()
    tab(view, "Utilities")
    tab(view, "Crop")
    fill(view, {"Folder of pictures": photos / "face"})
    box(view, "Split into faces and bodies").check()
    press(view, "Crop images")
    expect(view.locator(".lk-wrong").filter(visible=True)).to_contain_text("set trigger")  # its fold was opened
    box(view, "Split into faces and bodies").uncheck()
    press(view, "Crop images")
    expect(task(view).locator(".lk-head")).to_contain_text(str(photos / "face"))  # and no run from before
    is_done(view, "made")
    press(view, "Caption these")
    expect(box(view, "Image folder to caption")).to_have_value(re.compile("face_cropped$"))

    tab(view, "LoRA tools")
    tab(view, "Verify LoRA")
    fill(view, {"LoRA model": site.sdxl})
    press(view, "Verify")
    expect(task(view).locator(".lk-pill")).to_have_text("Done")
    expect(task(view).locator(".lk-says")).not_to_be_empty()  # that it is none, and what it is


@pytest.mark.parametrize("width", [1280, 390])
def test_no_tool_scrolls_sideways(page: Open, width: int) -> None:
    view = page()
    view.set_viewport_size({"width": width, "height": 900})
    for top, within in {"Dataset": "#dataset", "Compare": "#compare", "Utilities": "#utilities"}.items():
        tab(view, top)
        inner = view.locator(f"{within} > .tab-wrapper").get_by_role("tab")
        for name in inner.all_inner_texts():
            inner.get_by_text(name, exact=True).click()
            view.locator(ELEMENTS).filter(visible=True).first.wait_for()
            assert view.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
