"""The tag editor in a real browser, on the real routes; what counts is what lies in the caption files afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image, ImageDraw
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.browser import needs_browser
from tests.serving import Served, free_port
from tests.waiting import PATIENCE, until
from trainer.tags.query import parse
from trainer.tags.tag import bare
from trainer.tags.tokens import count
from webui import captions, pictures
from webui.settings import Settings

LOOKS = ("page", "panel", "tags")


def made(folder: Path, many: int = 30) -> Path:
    """Pictures with captions: `smile` on each second one, `hat` on the first ten, `night` on the last; 7 has none."""
    folder.mkdir()
    for number in range(many):
        picture = Image.new("RGB", (64, 48 + number), (8 * number % 256, 90, 200 - 6 * number % 200))
        ImageDraw.Draw(picture).ellipse((16, 10, 48, 42), (230, 190, 160))
        picture.save(folder / f"{number:03}.png")
        tags = ["zk9", "1girl", *(["smile"] if number % 2 == 0 else []), *(["hat"] if number < 10 else []), "blue eyes"]
        tags += ["night"] if number == many - 1 else []
        if number != 7:
            (folder / f"{number:03}.txt").write_text(", ".join(tags))
    return folder


def texts(folder: Path) -> dict[str, str]:
    """The captions as they lie on the disk."""
    return {file.stem: file.read_text() for file in sorted(folder.glob("*.txt"))}


async def page(request: Request) -> HTMLResponse:
    """A page with the editor alone."""
    look = "".join(f'<link rel="stylesheet" href="static/{name}.css">' for name in LOOKS)
    dark = "dark" if request.query_params.get("dark") else ""
    return HTMLResponse(
        f'<!doctype html><html><meta name="viewport" content="width=device-width">{look}<body class="{dark}">'
        f'{request.query_params["show"]}<script type="module" src="static/tags/editor.js"></script>'
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The routes of the editor, served; its address, and the folder that it may use."""
    root, port = tmp_path_factory.mktemp("sets"), free_port()
    settings = Settings("127.0.0.1", port, root / "data", root / "data" / "runs", (), (root,))
    settings.runs.mkdir(parents=True)
    served = Served([Route("/page", page), *captions.routes(settings), *pictures.routes(settings)], port)
    yield served.address, root
    served.stop()


Show = Callable[..., Any]


@pytest.fixture
def show(site: tuple[str, Path], browser: Any) -> Iterator[Show]:
    """Opens a folder in the editor; fails when a script fails, or when anything but our server is asked."""
    contexts, wrong = [], []

    def go(folder: Path, mode: str = "", width: int = 1280, dark: bool = False) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        view = context.new_page()
        view.set_default_timeout(1000 * PATIENCE)
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("request", lambda asked: asked.url.startswith((site[0], "data:")) or wrong.append(asked.url))
        element = f'<likeness-tags mode="{mode}" folder="{folder}"></likeness-tags>'
        view.goto(f"{site[0]}page?{urlencode({'show': element, **({'dark': 1} if dark else {})})}")
        view.locator(".lt-written" if mode else ".lt-cell").first.wait_for()
        return view

    yield go
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def folder(site: tuple[str, Path], request: pytest.FixtureRequest) -> Path:
    return made(site[1] / request.node.name)


def rows(view: Any, pane: str = "tags") -> list[str]:
    return view.locator(f"[data-pane={pane}] .lt-row").evaluate_all(
        "rows => rows.sort((a, b) => a.place - b.place).map(row => row.firstChild.textContent)"
    )


def pick(view: Any, name: str, **how: Any) -> None:
    view.locator(f'.lt-pane .lt-cell[aria-label^="{name}.png"]').click(**how)


def settled(view: Any) -> None:
    """Waits until all changes are saved."""
    view.evaluate("document.querySelector('likeness-tags').set.line")


def button(view: Any, name: str) -> Any:
    return view.get_by_role("button", name=name, exact=True)


@needs_browser
def test_each_change_is_in_the_file_at_once_and_can_be_undone(folder: Path, show: Show) -> None:
    view, before = show(folder), texts(folder)
    assert view.locator(".lt-count").text_content() == "30 of 30 shown, 1 selected"
    pick(view, "001")
    view.keyboard.press("Control+e")
    view.keyboard.type("sm")
    view.get_by_role("option", name="smile 15").wait_for()
    view.keyboard.press("ArrowDown")
    view.keyboard.press("Enter")
    until(lambda: texts(folder)["001"] == "zk9, 1girl, hat, blue eyes, smile")
    view.locator("[data-pane=tags] .lt-row", has_text="hat").click()
    view.keyboard.press("Delete")
    until(lambda: texts(folder)["001"] == "zk9, 1girl, blue eyes, smile")
    until(lambda: rows(view) == ["zk9", "1girl", "blue eyes", "smile"])

    view.keyboard.press("Control+g")
    view.get_by_label("This tag").fill("smile")
    view.get_by_label("By", exact=True).fill("grin")
    button(view, "Replace in 30 pictures").click()
    until(lambda: sum("grin" in text for text in texts(folder).values()) == 16)
    assert not any("smile" in text for text in texts(folder).values())
    button(view, "Undo: replace smile").click()
    until(lambda: sum("smile" in text for text in texts(folder).values()) == 16)
    view.keyboard.press("Control+z")
    view.keyboard.press("Control+z")
    until(lambda: texts(folder) == before)
    view.keyboard.press("Control+Shift+z")
    until(lambda: texts(folder)["001"] == "zk9, 1girl, hat, blue eyes, smile")


@needs_browser
def test_pictures_are_filtered_by_words_and_by_clicked_tags(folder: Path, show: Show) -> None:
    view = show(folder)
    shown = view.locator(".lt-count")
    view.locator(".lt-view").first.focus()
    view.keyboard.press("Control+Shift+f")
    view.keyboard.type("tag:smile AND NOT (name:00* OR tokens:>75)")
    until(lambda: shown.text_content() == "10 of 30 shown, 1 selected")
    view.get_by_label("Filter", exact=True).fill("tag:smile AND (")
    until(lambda: "the end stands where a word" in view.locator(".lt-fault").text_content())
    view.get_by_label("Filter", exact=True).fill("")
    until(lambda: shown.text_content().startswith("30 of 30"))
    tags = view.locator("[data-pane=all] .lt-row")
    for tag, many in (("smile", 15), ("hat", 5)):
        tags.filter(has_text=tag).click()
        until(lambda many=many: shown.text_content().startswith(f"{many} of 30"))
    for mode, many in (("OR", 19), ("NOT", 11), ("XOR", 14)):
        view.get_by_label("A click filters by").select_option(mode)
        until(lambda many=many: shown.text_content().startswith(f"{many} of 30"))
    assert view.get_by_label("Filter", exact=True).input_value() == "tag:smile XOR tag:hat"
    button(view, "Clear").click()
    view.get_by_label("Filter", exact=True).fill("tag:hat")
    until(lambda: shown.text_content().startswith("9 of 30"))
    view.get_by_role("radio", name="Shown 9").check()
    button(view, "Add …").click()
    view.get_by_label("Tags", exact=True).fill("day, sun")
    view.locator(".lt-panel").get_by_label("Where").select_option("after")
    button(view, "Add to 9 pictures").click()
    until(lambda: sum("zk9, day, sun, 1girl" in text for text in texts(folder).values()) == 9)


@needs_browser
def test_a_wrong_pattern_and_a_slow_one_are_told_and_change_nothing(folder: Path, show: Show) -> None:
    (folder / "029.txt").write_text(f"zk9, {'a' * 40}!")
    view, before = show(folder), texts(folder)
    view.get_by_role("radio", name="All 30").check()
    button(view, "Regex …").click()
    view.get_by_label("Pattern").fill("(smile")
    view.keyboard.press("Enter")
    view.locator(".lt-panel .lt-bad", has_text="unterminated").wait_for()
    view.get_by_label("Pattern").fill("(a+)+$")
    view.keyboard.press("Enter")
    view.locator(".lt-panel .lt-bad", has_text="took more than 2 s").wait_for()
    assert texts(folder) == before
    view.get_by_label("Pattern").fill(r"^(\w+) eyes$")
    view.get_by_label("Replacement").fill(r"eyes: \1")
    view.keyboard.press("Enter")
    until(lambda: sum("eyes: blue" in text for text in texts(folder).values()) == 28)
    button(view, "Snapshots").click()
    button(view, "Restore what was before: replace ^(\\w+) eyes$ by eyes: \\1").click()
    until(lambda: texts(folder) == before)


@needs_browser
def test_one_tag_is_checked_over_all_pictures(folder: Path, show: Show) -> None:
    view = show(folder)
    view.locator("[data-pane=all] .lt-row", has_text="smile").click(modifiers=["Control"])
    view.keyboard.press("Shift+T")
    grid = view.get_by_role("dialog")
    facts = grid.get_by_role("status")
    assert facts.text_content() == "15 pictures yes, 15 no"
    for key in ("n", "y", " "):  # 000 is a yes, 001 a no, 002 a yes
        view.keyboard.press(key)
    until(lambda: [("smile" in texts(folder)[name]) for name in ("000", "001", "002")] == [False, True, False])
    grid.locator('.lt-cell[aria-label^="004.png"]').click()
    until(lambda: "smile" not in texts(folder)["004"])
    until(lambda: grid.locator('.lt-no[aria-label="004.png, no"]').count() == 1)
    view.keyboard.press("Control+z")
    until(lambda: "smile" in texts(folder)["004"])
    until(lambda: facts.text_content() == "14 pictures yes, 16 no")


@needs_browser
def test_traits_are_baked_in_after_it_is_said_what_goes(folder: Path, show: Show) -> None:
    view = show(folder)
    button(view, "Bake in …").click()
    dialog = view.get_by_role("dialog")
    dialog.get_by_role("checkbox", name=re.compile("^eye colour")).check()
    dialog.get_by_label("Other tags that go").fill("hat")
    words = dialog.get_by_role("status").text_content()
    assert "from 29 pictures of 30" in words and "blue eyes (29)" in words
    assert "hat (9)" in words and texts(folder)["000"].endswith("hat, blue eyes")
    button(dialog, "Bake in").click()
    until(lambda: set(texts(folder).values()) == {"zk9, 1girl", "zk9, 1girl, smile", "zk9, 1girl, night"})
    assert button(view, "Undo: bake in eye colour, hat").is_enabled()


@needs_browser
def test_a_caption_is_written_as_text_and_its_tokens_are_counted(folder: Path, show: Show) -> None:
    view = show(folder)
    pick(view, "005")
    view.keyboard.press("Control+u")
    box = view.get_by_label("Caption", exact=True)
    assert box.input_value() == "zk9, 1girl, hat, blue eyes"
    box.fill("zk9, a woman with a hat\nin the rain")
    until(lambda: texts(folder)["005"] == "zk9, a woman with a hat in the rain")
    view.get_by_text(f"2 tags, {count([texts(folder)['005']])[0]} tokens").wait_for()
    box.fill("rain, " * 50)
    view.locator(".lt-pane .lt-cell .lt-level-1").wait_for()
    pick(view, "006")  # what was not saved yet is saved for the picture that it was written for
    box.fill("zk9, sun")
    pick(view, "007")
    until(lambda: texts(folder)["006"] == "zk9, sun")
    box.fill("zk9, first words")
    until(lambda: texts(folder).get("007") == "zk9, first words")


@needs_browser
def test_keys_do_what_they_do_in_a_tag_manager(folder: Path, show: Show) -> None:
    view = show(folder)
    pick(view, "000")
    view.locator("[data-pane=tags] .lt-row", has_text="smile").click()
    for keys in ("Alt+ArrowUp", "Alt++", "Alt+ArrowUp", "Alt++"):
        view.keyboard.press(keys)
        settled(view)
    until(lambda: texts(folder)["000"] == "(smile:1.2), zk9, 1girl, hat, blue eyes")
    view.locator("[data-pane=tags] .lt-row", has_text="hat").dblclick()
    view.get_by_label("Tag", exact=True).fill("straw hat")
    view.keyboard.press("Enter")
    until(lambda: "straw hat" in texts(folder)["000"])
    view.keyboard.press("Control+1")
    view.keyboard.press("Control+j")
    assert view.locator(".lt-cell.lt-at").get_attribute("aria-label") == "007.png, no caption"
    view.keyboard.press("Shift+ArrowRight")
    view.keyboard.press("Shift+ArrowRight")
    assert view.locator(".lt-count").text_content() == "30 of 30 shown, 3 selected"
    assert rows(view)[0] == "1girl" and view.locator("[data-pane=tags] small", has_text="2 of 3").count()
    view.keyboard.press("Control+i")
    assert view.locator(".lt-count").text_content() == "30 of 30 shown, 27 selected"
    view.keyboard.press("Shift+W")
    view.keyboard.type("sky")
    button(view, "Add to 27 pictures").wait_for()
    view.keyboard.press("Control+z")  # in a text box it is the box's
    view.keyboard.press("Escape")
    view.keyboard.press("Control+p")
    view.keyboard.press("ArrowRight")
    view.get_by_role("dialog").get_by_text("11 of 30").wait_for()
    view.keyboard.press("Escape")
    view.keyboard.press("Alt+k")
    view.get_by_role("dialog").get_by_text("Previous picture").wait_for()
    view.keyboard.press("Escape")
    for keys, pane in (("Control+l", "pictures"), ("Control+k", "tags")):
        view.keyboard.press(keys)
        assert view.locator(f"[data-pane={pane}]").is_hidden()


@needs_browser
def test_tags_are_dragged_copied_and_pasted(folder: Path, show: Show) -> None:
    view = show(folder)
    pick(view, "000")
    tags = view.locator("[data-pane=tags] .lt-row")
    tags.nth(4).drag_to(tags.nth(0), target_position={"x": 20, "y": 3})
    until(lambda: texts(folder)["000"] == "blue eyes, zk9, 1girl, smile, hat")
    tags.filter(has_text="smile").click()
    view.keyboard.press("Control+c")
    view.keyboard.press("Control+1")
    pick(view, "007")
    button(view, "Paste").click()
    until(lambda: texts(folder).get("007") == "smile")


@needs_browser
def test_what_another_program_wrote_is_taken_in_and_a_new_server_is_no_loss(
    folder: Path, show: Show, site: tuple[str, Path]
) -> None:
    view = show(folder)
    (folder / "000.txt").write_text("zk9, by another hand")
    pick(view, "000")
    view.locator("[data-pane=tags] .lt-row", has_text="smile").click()
    view.keyboard.press("Control+d")
    view.locator(".lt-line .lt-bad", has_text="another program").wait_for()
    assert texts(folder)["000"] == "zk9, by another hand"
    button(view, "Take them in").click()
    until(lambda: rows(view) == ["zk9", "by another hand"])
    view.evaluate("document.querySelector('likeness-tags').hidden = true")  # as another tab hides it
    (folder / "000.txt").write_text("zk9, by a tool")
    view.evaluate("setTimeout(() => { document.querySelector('likeness-tags').hidden = false }, 200)")
    until(lambda: rows(view) == ["zk9", "by a tool"])
    view.evaluate("document.querySelector('likeness-tags').set.info.id = '0123456789abcdef'")  # as after a restart
    view.get_by_label("Add tags").fill("again")
    view.keyboard.press("Enter")
    until(lambda: texts(folder)["000"] == "zk9, by a tool, again")
    until(lambda: rows(view)[-1] == "again")


@needs_browser
def test_pictures_are_set_aside_and_put_back(folder: Path, show: Show) -> None:
    view = show(folder)
    pick(view, "003")
    button(view, "Set aside").click()
    view.get_by_text("29 of 29 shown").wait_for()
    assert not (folder / "003.png").exists() and not (folder / "003.txt").exists()
    button(view, "Put back …").click()
    button(view, "Put back 003.png").click()
    view.get_by_text("30 of 30 shown").wait_for()
    until(lambda: (folder / "003.png").exists() and (folder / "003.txt").exists())


@needs_browser
def test_contradictions_are_told_with_reasons_and_cured(folder: Path, show: Show) -> None:
    (folder / "002.txt").write_text("zk9, 1girl, 1boy, blue eyes")
    view = show(folder)
    button(view, "Advice").click()
    view.get_by_role("dialog").get_by_text("on a woman's set").wait_for()
    button(view, "Cure: Remove 1boy").click()
    until(lambda: texts(folder)["002"] == "zk9, 1girl, blue eyes")
    view.get_by_text("Nothing contradicts.").wait_for()


@needs_browser
def test_only_what_is_seen_is_drawn_and_scrolling_finds_the_rest(site: tuple[str, Path], show: Show) -> None:
    view = show(made(site[1] / "many", 240))
    assert view.locator(".lt-pane .lt-cell").count() < 60
    view.locator(".lt-view").first.focus()
    view.keyboard.press("End")
    last = view.locator('.lt-pane .lt-cell[aria-posinset="240"]')
    last.wait_for()
    until(lambda: last.locator("img").evaluate("image => image.naturalWidth") > 0)
    assert rows(view)[-1] == "night" and view.locator(".lt-pane .lt-cell").count() < 60


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_narrow_screen_the_panes_are_tabs(site: tuple[str, Path], show: Show, dark: bool) -> None:
    folder = made(site[1] / f"narrow{dark}", 12)
    view = show(folder, width=390, dark=dark)
    for name, pane in (("Image tags", "tags"), ("All tags", "all"), ("Dataset", "pictures")):
        view.get_by_role("radio", name=name).check()
        assert [node for node in ("pictures", "tags", "all") if view.locator(f"[data-pane={node}]").is_visible()] == [
            pane
        ]
        assert view.evaluate("document.documentElement.scrollWidth") <= 390
    for opens in ("Bake in …", "Advice", "How to filter"):
        button(view, opens).click()
        box = view.get_by_role("dialog").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390
        button(view, "Close").click()


@needs_browser
def test_it_begins_with_the_folder_that_is_worked_on(folder: Path, site: tuple[str, Path], show: Show) -> None:
    view, other = show(folder), made(site[1] / "other", 3)
    view.goto(f"{site[0]}page?{urlencode({'show': '<likeness-tags></likeness-tags>'})}")
    view.get_by_text("30 of 30 shown").wait_for()
    view.evaluate("document.querySelector('likeness-tags').hidden = true")  # as another tab hides it
    view.evaluate("async folder => (await import(new URL('static/folder.js', location))).workOn(folder)", str(other))
    view.evaluate("setTimeout(() => { document.querySelector('likeness-tags').hidden = false }, 200)")
    view.get_by_text("3 of 3 shown").wait_for()
    view.get_by_role("textbox", name="Folder of pictures").fill(str(folder))
    view.keyboard.press("Enter")
    view.get_by_text("30 of 30 shown").wait_for()
    until(lambda: view.evaluate("sessionStorage.getItem('likeness-data')") == str(folder))  # others are told


@needs_browser
def test_captions_are_written_by_hand_five_pictures_a_page(folder: Path, show: Show) -> None:
    (folder / "029.txt").write_text("a very long sentence that has many more than ten words in it, night")
    view = show(folder, mode="manual")
    assert view.locator(".lt-written").count() == 5
    box = view.get_by_label("001.png", exact=True)
    box.fill("zk9, 1girl, rain")
    until(lambda: texts(folder)["001"] == "zk9, 1girl, rain")
    button(view, "Import tags from captions").click()
    names = view.get_by_role("textbox", name="Quick tags").input_value().split(", ")
    assert {"smile", "hat", "rain", "night"} < set(names) and not any("sentence" in name for name in names)
    quick = view.get_by_role("group", name="Quick tags of 001.png")
    button(quick, "smile").click()
    until(lambda: texts(folder)["001"] == "zk9, 1girl, rain, smile")
    button(quick, "1girl").click()
    until(lambda: texts(folder)["001"] == "zk9, rain, smile")
    view.get_by_label("Autosave").uncheck()
    box.fill("not yet")
    view.get_by_text("Not saved yet").wait_for()
    assert texts(folder)["001"] == "zk9, rain, smile"
    button(view, "Save").click()
    until(lambda: texts(folder)["001"] == "not yet")
    button(view, "Next").first.click()
    view.get_by_label("005.png", exact=True).wait_for()


TAGS = (
    *("smile", "(smile:1.2)", "((smile))", "[smile]", r"zk9 \(style\)", r"(zk9 \(style\):0.8)", ":)", "(:1.2)", "()"),
    *("(a) b (c)", "[(x:1.5)]", "(x:.5)", "a(b)", "( spaced : 1.1 )", r"\\(odd\\)", "(x:-1)", "(smile:1,2)"),
)


@needs_browser
def test_the_page_reads_tags_and_writes_filters_as_the_engine_does(folder: Path, show: Show) -> None:
    view = show(folder)
    told = view.evaluate(
        """async tags => {
            const { bare, compose, term } = await import(new URL('static/tags/words.js', location))
            const odd = ['long hair', '1girl', 'a "b"', 'a*b?', 'c\\\\d', 'x:y', '(z)']
            const typed = ['', 'smile OR hat', 'NOT tag:smile']
            const queries = ['AND', 'OR', 'NOT', 'XOR'].flatMap(mode => typed.map(text => compose(text, odd, mode)))
            return [tags.map(bare), queries, odd, odd.map(term)]
        }""",
        list(TAGS),
    )
    assert told[0] == [bare(tag) for tag in TAGS]
    assert all(parse(query) for query in told[1])
    for tag, term in zip(told[2], told[3], strict=True):
        wanted = parse(term)
        assert wanted.found(tag) and not wanted.found(f"{tag}!")  # pyrefly: ignore
