"""Folders on the page: their routes, and what a person sees and presses in a real browser."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.browser import needs_browser
from tests.serving import Served, free_port
from tests.test_folder_tools import everything, photo, save
from tests.waiting import PATIENCE, until
from trainer.folders import dedupe
from trainer.folders.options import Dedupe
from webui import api, folders, pictures, toolapi
from webui.jobs import Jobs
from webui.settings import Settings

SHEETS = ("panel.css", "tool.css", "folders.css")
GRADIO = {
    "": "--background-fill-primary:#fff;--body-background-fill:#fff;--block-background-fill:#fff;"
    "--background-fill-secondary:#f4f4f5;--body-text-color:#1f2937;--body-text-color-subdued:#5b6472;--border-color-primary:#d4d4d8;--color-accent:"
    "#6d5bd0;--input-border-color:#d4d4d8;--input-background-fill:#fff;--button-primary-background-fill:#6d5bd0;"
    "--button-primary-text-color:#fff;--button-secondary-border-color:#d4d4d8;--input-padding:8px",
    "dark": "--background-fill-primary:#18181b;--body-background-fill:#18181b;--block-background-fill:#1f1f23;"
    "--background-fill-secondary:#27272a;--body-text-color:#f4f4f5;--body-text-color-subdued:#a1a1aa;"
    "--border-color-primary:#3f3f46;--color-accent:#8b7cf6;--input-border-color:#52525b;--input-background-fill:#27272a;"
    "--button-primary-background-fill:#6d5bd0;--button-primary-text-color:#fff;--button-secondary-border-color:#52525b;"
    "--button-secondary-background-fill:#27272a;--input-padding:8px",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with three concepts, and one more folder with some of its pictures."""
    img = tmp_path / "home" / "img"
    for number in range(6):
        save(img / "10_zk9" / f"{number}.png", photo(number, (160, 160)))
    for number in range(3):
        save(img / "16_zk9" / f"body {number}.png", photo(20 + number, (120, 180)))
    (img / "10_zk9" / "0.txt").write_text("zk9, smiling")
    (img / "notes").mkdir()
    more = tmp_path / "home" / "more"
    save(more / "copy of zero.png", photo(0, (160, 160)))
    save(more / "small one.jpg", photo(1, (160, 160)).resize((90, 90)), quality=80)
    save(more / "soft body.png", photo(20, (120, 180)).filter(ImageFilter.GaussianBlur(1)))
    return tmp_path / "home"


@pytest.fixture
def place(tmp_path: Path, data: Path) -> Settings:
    (tmp_path / "data" / "runs").mkdir(parents=True)
    return Settings("127.0.0.1", free_port(), tmp_path / "data", tmp_path / "data" / "runs", (), (data,))


@pytest.fixture
def client(place: Settings) -> TestClient:
    return TestClient(Starlette(routes=folders.routes(place)))


def test_a_plan_is_seen_done_and_taken_back(client: TestClient, data: Path) -> None:
    before = everything(data)
    wish = {"folder": str(data / "img"), "steps": "60"}
    answer = client.post("/api/balance", json=wish).json()
    assert [(line["old"], line["new"], line["steps"]) for line in answer["plan"]] == [
        ("10_zk9", "10_zk9", 60), ("16_zk9", "20_zk9", 60)
    ]  # fmt: skip
    assert not answer["undo"] and "10_zk9 would have 75 % of the training" in answer["hint"]
    assert everything(data) == before
    assert client.post("/api/balance", json={**wish, "apply": True}).json()["summary"] == "1 of 2 folders renamed."
    assert (data / "img" / "20_zk9").is_dir()
    assert client.post("/api/balance", json={**wish, "undo": True}).json()["undo"] is False
    assert everything(data) == before


def test_pictures_go_aside_and_come_back(client: TestClient, data: Path) -> None:
    before = everything(data)
    wish = {"folders": [str(data / "img"), str(data / "more")]}
    wish["pictures"] = [str(data / "img" / "10_zk9" / "0.png"), str(data / "more" / "copy of zero.png")]
    answer = client.post("/api/dedupe/aside", json=wish).json()
    assert [part["folder"] for part in answer["aside"]] == wish["folders"]
    assert not any(Path(path).exists() for path in wish["pictures"])
    back = client.post("/api/dedupe/back", json=answer).json()
    assert sorted(back["pictures"]) == sorted(wish["pictures"])
    assert everything(data) == before
    link = data / "img" / "link.png"
    link.symlink_to(data / "img" / "10_zk9" / "0.png")
    refused = client.post("/api/dedupe/aside", json={**wish, "pictures": [str(link)]})
    assert refused.status_code == 400 and link.exists()  # neither the link nor what it leads to has moved


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("balance", {"folder": "/etc"}, 403),
        ("balance", {}, 400),
        ("balance", {"folder": "HOME/img", "steps": 0}, 400),
        ("balance", {"folder": "HOME/img", "nonsense": 1}, 400),
        ("balance", {"folder": "HOME/more"}, 400),
        ("dedupe/aside", {"folders": ["HOME"], "pictures": ["/etc/hosts.png"]}, 403),
        ("dedupe/aside", {"folders": ["/etc"], "pictures": []}, 403),
        ("dedupe/aside", {"folders": ["HOME/img"], "pictures": ["HOME/more/soft body.png"]}, 400),
        ("dedupe/aside", {"folders": ["HOME/more"], "pictures": ["HOME/more/../img/10_zk9/0.png"]}, 400),
        ("dedupe/aside", {"folders": ["HOME/img"], "pictures": ["HOME/img/10_zk9/0.txt"]}, 400),
        ("dedupe/aside", {"folders": "HOME", "pictures": []}, 400),
        ("dedupe/aside", {"folders": [3], "pictures": []}, 400),
        ("dedupe/back", {"aside": [{"folder": "HOME/img", "names": ["../../x.png"]}]}, 400),
        ("dedupe/back", {"aside": [{"folder": "/etc", "names": []}]}, 403),
        ("dedupe/back", {"aside": [3]}, 400),
    ],
)
def test_what_cannot_be_done_is_refused(
    client: TestClient, data: Path, path: str, body: dict[str, Any], status: int
) -> None:
    before = everything(data)

    def here(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("HOME", str(data))
        if isinstance(value, dict):
            return {name: here(each) for name, each in value.items()}
        return [here(each) for each in value] if isinstance(value, list) else value

    answer = client.post(f"/api/{path}", json=here(body))
    assert answer.status_code == status and answer.json()["error"]
    assert everything(data) == before


def test_a_picture_that_was_edited_in_place_is_sent_anew(place: Settings, data: Path) -> None:
    client, file = TestClient(Starlette(routes=pictures.routes(place))), data / "img" / "10_zk9" / "0.png"
    wish = {"path": str(file), "size": "64"}
    first = client.get("/api/picture", params=wish)
    assert first.headers["cache-control"] == "private, no-cache"  # so the browser asks each time
    known = {"If-None-Match": f'"another", {first.headers["etag"]}'}
    same = client.get("/api/picture", params=wish, headers=known)
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", first.headers["etag"])
    save(file, photo(9, (160, 160)))
    after = client.get("/api/picture", params=wish, headers=known)
    assert after.status_code == 200 and after.content != first.content
    assert "max-age" in client.get("/api/picture", params={**wish, "v": "1"}).headers["cache-control"]


# In a browser

Show = Callable[..., Any]


@pytest.fixture
def show(place: Settings, browser: Any) -> Iterator[Show]:
    """Opens a page with one element; fails when a script fails, or when anything but our server is asked."""

    async def page(request: Request) -> HTMLResponse:
        look = request.query_params["look"]
        sheets = "".join(f'<link rel="stylesheet" href="static/{sheet}">' for sheet in SHEETS)
        return HTMLResponse(
            f'<!doctype html><html class="{look}" style="{GRADIO[look]};font-family:sans-serif"><meta name="viewport"'
            f' content="width=device-width">{sheets}<body style="background:var(--body-background-fill)">'
            f'<likeness-folders tool="{request.query_params["tool"]}"></likeness-folders>'
            '<script type="module" src="static/page.js"></script>'
        )

    work = Jobs(place)
    routes = [
        *folders.routes(place),
        *pictures.routes(place),
        *toolapi.routes(place, work),
        *api.routes(place, work),
        Route("/page", page),
    ]
    served = Served(routes, place.port)
    contexts, wrong = list[Any](), list[str]()

    def go(tool: str, width: int = 1280, look: str = "") -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}))
        view = contexts[-1].new_page()
        view.set_default_timeout(1000 * PATIENCE)
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("request", lambda asked: asked.url.startswith((served.address, "data:")) or wrong.append(asked.url))
        view.goto(f"{served.address}page?tool={tool}&look={look}")
        return view

    yield go
    for context in contexts:
        context.close()
    work.close()
    served.stop()
    assert not wrong


def wide(view: Any) -> bool:
    """Whether something sticks out of the window."""
    return view.evaluate("document.documentElement.scrollWidth > innerWidth")


def picture_of(view: Any, folder: Path, name: str) -> None:
    """A screenshot to be looked at; all of it is drawn, not one colour."""
    view.screenshot(path=folder / f"{name}.png", full_page=True)
    with Image.open(folder / f"{name}.png") as image:
        assert len(image.convert("RGB").getcolors(2**24) or []) > 20


@needs_browser
def test_balancing_in_the_browser(show: Show, data: Path, tmp_path: Path) -> None:
    before = everything(data)
    view = show("balance")
    view.get_by_label("Dataset folder", exact=True).fill(str(data / "img"))
    view.get_by_label("Training steps per concept per epoch").fill("90")
    row = view.get_by_role("row").filter(has_text="16_zk9")
    row.get_by_text("30_zk9").wait_for()
    assert row.inner_text().split() == ["16_zk9", "30_zk9", "3", "30", "90"]
    view.get_by_text("Tutorials for characters give faces 24 repeats").wait_for()
    picture_of(view, tmp_path, "balance")
    assert everything(data) == before and view.get_by_role("button", name="Give the old names back").is_hidden()
    view.get_by_role("button", name="Balance dataset").press("Enter")
    view.get_by_text("2 of 2 folders renamed.").wait_for()
    assert {path.name for path in (data / "img").iterdir()} == {"15_zk9", "30_zk9", "notes", ".likeness"}
    view.get_by_role("button", name="Give the old names back").click()
    view.get_by_text("2 folders have their old names again.").wait_for()
    assert everything(data) == before
    view.get_by_label("Repeats by").select_option("faces")
    view.get_by_role("cell", name="24_zk9").wait_for()
    view.get_by_label("Folder of faces").select_option("16_zk9")
    view.get_by_role("row").filter(has_text="10_zk9").get_by_role("cell", name="16_zk9").wait_for()
    assert "24_zk9" in view.get_by_role("row").filter(has_text="72").inner_text()  # 3 pictures, 24 times
    view.get_by_label("Repeats by").select_option("steps")
    view.get_by_label("Training steps per concept per epoch").fill("0")
    view.get_by_text('steps: "0": it must be 1 or more').wait_for()
    assert view.get_by_role("button", name="Balance dataset").is_disabled()
    view.get_by_label("Dataset folder", exact=True).fill("/etc")
    view.get_by_text("is not in a folder that the page may use").wait_for()


@needs_browser
def test_duplicates_in_the_browser(show: Show, data: Path, tmp_path: Path) -> None:
    before = everything(data)
    view = show("dedupe")
    view.get_by_label("Data set folder", exact=True).fill(str(data / "img"))
    view.get_by_label("Other folders", exact=True).fill(str(data / "more"))
    view.locator("likeness-tool .lk-primary").press("Enter")
    view.get_by_role("heading", name="3 of 12 pictures are duplicates, in 3 groups.").wait_for()
    first = view.get_by_role("group", name="Group 1")
    assert first.get_by_role("radio", name="Keep img/10_zk9/0.png").is_checked()
    assert "Best: it has a caption" in first.inner_text() and "the same file" in first.inner_text()
    view.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
    picture_of(view, tmp_path, "dedupe")
    first.get_by_role("radio", name="Keep more/copy of zero.png").check()
    view.get_by_role("group", name="Group 2").get_by_text("These differ: keep all").click()
    view.get_by_text("2 pictures would be moved").wait_for()
    view.get_by_role("button", name="Set the others aside").click()
    view.get_by_text("2 pictures set aside.").wait_for()
    gone = everything(data)
    assert "img/10_zk9/0.png" not in gone and "img/10_zk9/0.txt" not in gone and "more/copy of zero.png" in gone
    assert hashlib.sha256(b"zk9, smiling").hexdigest() in gone.values()
    view.get_by_role("button", name="Put back").press("Enter")
    view.get_by_text("2 pictures put back.").wait_for()
    assert everything(data) == before


@needs_browser
def test_only_the_tool_whose_masks_were_painted_starts_anew(show: Show) -> None:
    view, started = show("balance"), list[str]()

    def start(asked: Any) -> None:
        started.append(asked.request.url.split("/")[-1])
        asked.fulfill(json={"id": "none"})

    view.route("**/api/tools/*", lambda asked: start(asked) if asked.request.method == "POST" else asked.continue_())
    jobs = {"images.crop": "likeness-crop", "images.background": "likeness-mask"}
    tools = [f'<likeness-tool job="{job}" hand="{hand}" hand-title=""></likeness-tool>' for job, hand in jobs.items()]
    view.evaluate("tools => document.body.insertAdjacentHTML('beforeend', tools)", "".join(tools))
    view.locator("likeness-crop").wait_for(state="attached")
    mask = view.locator("likeness-mask")
    mask.wait_for(state="attached")
    for _ in range(2):
        with view.expect_response("**/api/tools/*"):
            mask.dispatch_event("likeness-redo")
    assert started == ["images.background"] * 2


@needs_browser
def test_it_begins_with_the_folder_that_is_worked_on(show: Show, data: Path) -> None:
    view = show("balance")
    view.get_by_label("Dataset folder", exact=True).fill(str(data / "img"))
    view.get_by_role("cell", name="16_zk9", exact=True).wait_for()
    view.reload()  # as another tab begins
    view.get_by_role("cell", name="16_zk9", exact=True).wait_for()
    view.evaluate("document.querySelector('likeness-folders').hidden = true")
    view.evaluate("async folder => (await import('./static/folder.js')).workOn(folder)", str(data))
    view.evaluate("setTimeout(() => { document.querySelector('likeness-folders').hidden = false }, 200)")
    until(lambda: view.get_by_label("Dataset folder", exact=True).input_value() == str(data))


@needs_browser
@pytest.mark.parametrize(("width", "look"), [(390, ""), (1280, "dark"), (390, "dark")])
def test_it_fits_a_phone_and_the_dark(show: Show, data: Path, tmp_path: Path, width: int, look: str) -> None:
    view = show("balance", width, look)
    view.get_by_label("Dataset folder", exact=True).fill(str(data / "img"))
    view.get_by_role("cell", name="30_zk9").or_(view.get_by_role("cell", name="333_zk9")).first.wait_for()
    assert not wide(view)
    picture_of(view, tmp_path, f"balance-{width}{look}")
    view = show("dedupe", width, look)
    report = dedupe.run(Dedupe(folder=str(data / "img"), others=(str(data / "more"),))).to_json()
    view.locator("likeness-tool").evaluate(
        "(tool, detail) => tool.dispatchEvent(new CustomEvent('likeness-report', { bubbles: true, detail }))", report
    )
    view.get_by_role("group", name="Group 3").wait_for()
    view.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
    assert not wide(view)
    picture_of(view, tmp_path, f"dedupe-{width}{look}")
