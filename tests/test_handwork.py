"""Crops drawn and masks painted by hand: what the page shows and keeps is what the tools make, pixel by pixel."""

from __future__ import annotations

import io
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.browser import needs_browser
from tests.serving import Served, free_port
from tests.test_images_focus import make_yunet, person
from tests.waiting import PATIENCE, until
from trainer.data.pictures import PictureError, open_picture
from trainer.images.command import run_tool
from trainer.images.focus import DRAWN
from trainer.images.options import Background, Crop
from trainer.images.saving import stored
from trainer.snapshots import snapshots
from webui import handwork, pictures, routing
from webui.settings import Settings

SIZES = "64x64,64x96"
X = " \N{MULTIPLICATION SIGN} "


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture in which every crop is another."""
    cells = np.random.default_rng(seed).integers(0, 256, (size[1] // 10, size[0] // 10, 3), np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def settings_for(folder: Path) -> Settings:
    data = folder / "data"
    (data / "runs").mkdir(parents=True, exist_ok=True)
    return Settings("127.0.0.1", 0, data, data / "runs", (), (folder / "img",))


@pytest.fixture
def folder(tmp_path: Path, models: Path) -> Path:
    """Pictures as people have them: one in a folder inside, one turned by its EXIF data, and no detector."""
    place = tmp_path / "img" / "10_zk9"
    (place / "inside").mkdir(parents=True)
    noise((400, 300)).save(place / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise((300, 200), 1).save(place / "b.jpg", exif=exif, quality=95)
    noise((400, 300), 2).save(place / "inside" / "a.png")
    (place / "notes.txt").write_text("zk9")
    return place


@pytest.fixture
def client(tmp_path: Path, folder: Path) -> TestClient:
    return TestClient(Starlette(routes=handwork.routes(settings_for(tmp_path))))


def told(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return answer.json()


def crop(folder: Path, **options: Any) -> Any:
    return run_tool(Crop.model_validate({"folder": str(folder), "sizes": SIZES.split(","), **options}))


def long_way(file: Path, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    """A crop by Pillow alone."""
    return np.asarray(Image.open(file).crop(box).resize(size, Image.Resampling.LANCZOS))


def png(mask: Image.Image) -> str:
    file = io.BytesIO()
    mask.save(file, "PNG")
    return b64encode(file.getvalue()).decode()


# Crops


def test_what_is_proposed_is_what_the_batch_cuts(folder: Path, models: Path, client: TestClient) -> None:
    make_yunet(models / "face_detection_yunet_2023mar.onnx")
    person((640, 320), (520, 168), side=20).save(folder / "face.png")
    person((640, 400), (500, 100), side=80, colour="#20ff20").save(folder / "subject.png")
    person((320, 640)).save(folder / "plain.png")
    report = crop(folder)
    hows = {picture["file"]: picture["how"] for picture in report.pictures}
    names = told(client.get("/api/crop/boxes", params={"folder": str(folder)}))["pictures"]
    assert names == [*hows] == ["a.png", "b.jpg", "face.png", "plain.png", "subject.png", "inside/a.png"]
    seen = set()
    for name in names:
        frame = told(client.get("/api/crop/proposal", params={"folder": str(folder), "name": name, "sizes": SIZES}))
        assert frame["how"] == hows[name] and not frame["drawn"]
        seen.add(frame["how"].split(" (")[0])
        if name != "b.jpg":  # whose colours Pillow alone would not turn
            expected = long_way(folder / name, frame["cut"], frame["size"])
            assert np.array_equal(np.asarray(Image.open(report.out / name)), expected)
        else:
            assert frame["picture"] == [200, 300] and frame["size"] == [64, 96]
    assert seen == {"around the face", "around what stands out", "in the middle: nothing stands out"}
    centre = {"folder": str(folder), "name": "face.png", "sizes": "64", "focus": "centre"}
    assert told(client.get("/api/crop/proposal", params=centre))["cut"] == [160, 0, 480, 320]


def test_a_box_is_kept_in_the_folder_and_the_batch_cuts_it(folder: Path, client: TestClient) -> None:
    wish = {"folder": str(folder), "name": "inside/a.png", "box": [0.25, 0.1, 0.5, 0.6], "sizes": SIZES}
    frame = told(client.post("/api/crop/boxes", json=wish))
    assert frame["drawn"] and frame["size"] == [64, 96] and frame["cut"] == [100, 30, 200, 180]
    there = told(client.get("/api/crop/boxes", params={"folder": str(folder)}))
    assert there["boxes"] == {"inside/a.png": wish["box"]} and there["file"] == str(folder / DRAWN)
    assert told(client.get("/api/crop/cut", params={**wish, "box": ""})) == frame
    report = crop(folder)
    hows = {picture["file"]: picture["how"] for picture in report.pictures}
    assert hows["inside/a.png"] == "around the box drawn by hand" != hows["a.png"]  # although it bears the same name
    assert "1 x around the box drawn by hand" in report.text()
    made = np.asarray(Image.open(report.out / "inside" / "a.png"))
    assert np.array_equal(made, long_way(folder / "inside" / "a.png", (100, 30, 200, 180), (64, 96)))
    back = told(client.post("/api/crop/boxes", json={**wish, "box": None}))
    assert not back["drawn"] and json.loads((folder / DRAWN).read_text()) == {}
    again = crop(folder)
    assert (again.made, again.skipped) == (1, 2)
    told(client.post("/api/crop/boxes", json={**wish, "name": "a.png"}))
    last = {picture["file"]: picture["how"] for picture in crop(folder).pictures}
    assert last["a.png"] == "around the box drawn by hand" != last["inside/a.png"]


def test_a_file_of_boxes_that_is_given_goes_before_those_drawn(folder: Path, client: TestClient) -> None:
    told(client.post("/api/crop/boxes", json={"folder": str(folder), "name": "a.png", "box": [0, 0, 0.5, 0.5]}))
    given = folder.parent / "boxes.json"
    given.write_text('{"a.png": [0.5, 0.5, 0.75, 0.75]}')
    report = crop(folder, boxes=str(given), sizes=["64"])
    assert np.array_equal(
        np.asarray(Image.open(report.out / "a.png")), long_way(folder / "a.png", (200, 138, 300, 238), (64, 64))
    )
    assert report.pictures[2]["how"] == "around the box drawn by hand"  # in such a file a bare name is enough


def test_split_says_that_it_does_not_use_them(folder: Path, models: Path, client: TestClient) -> None:
    make_yunet(models / "yunet.onnx")
    told(client.post("/api/crop/boxes", json={"folder": str(folder), "name": "a.png", "box": [0, 0, 0.5, 0.5]}))
    report = crop(folder, split=True, trigger="zk9")
    assert any(note.startswith("boxes drawn in the page are not used") for note in report.notes)
    assert (report.out / "16_zk9" / "a.png").is_file()


@pytest.mark.parametrize(
    ("wish", "status", "words"),
    [
        ({"name": "../../secret.png"}, 403, "name: "),
        ({"name": "inside/../a.png"}, 403, "leaves the folder"),
        ({"name": "/etc/passwd"}, 403, "name: "),
        ({"name": "link.png"}, 403, "name: "),
        ({"name": ".hidden.png"}, 403, "name: "),
        ({"name": "a\0.png"}, 403, "name: "),
        ({"name": "gone.png"}, 404, "no such picture"),
        ({"name": "notes.txt"}, 404, "no such picture"),
        ({"folder": "/etc"}, 403, "folder: "),
        ({"folder": ""}, 403, "folder: "),
        ({"box": [0, 0, 2, 1]}, 400, "is no box"),
        ({"box": [0, 0, float("nan"), 1]}, 400, "is no box"),
        ({"box": [0.5, 0.5, 0.5, 0.6]}, 400, "is no box"),
        ({"box": [0, 0, 0.01, 0.01]}, 400, "pixels are too few: draw at least 32 a side"),
        ({"sizes": "64x-1"}, 400, "sizes"),
        ({"detector": "/etc/passwd"}, 403, "detector: "),
    ],
)
def test_requests_that_cannot_be_are_refused(
    tmp_path: Path, folder: Path, client: TestClient, wish: dict[str, Any], status: int, words: str
) -> None:
    noise((64, 64)).save(tmp_path / "secret.png")
    noise((64, 64)).save(folder / ".hidden.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    whole = {"folder": str(folder), "name": "a.png", "box": [0, 0, 0.5, 0.5], **wish}
    content, kind = json.dumps(whole), {"content-type": "application/json"}
    answer = client.post("/api/crop/boxes", content=content, headers=kind)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert not (folder / DRAWN).exists()
    if "box" not in wish and "sizes" not in wish and "detector" not in wish:
        mask = {**whole, "png": png(Image.new("L", (64, 64)))}
        assert client.post("/api/mask", json=mask).status_code == status
        assert client.get("/api/picture/large", params=mask).status_code == status
        assert not (folder / "masks").exists()


def test_a_link_in_a_data_set_leads_nothing_out(tmp_path: Path, folder: Path, client: TestClient) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / ".likeness").symlink_to(outside)
    (folder / "masks").symlink_to(outside)
    wish = {"folder": str(folder), "name": "a.png"}
    answer = client.post("/api/crop/boxes", json={**wish, "box": [0, 0, 1, 1]})
    assert answer.status_code == 400 and "a link leads out of the folder" in answer.json()["error"]
    assert client.post("/api/mask", json={**wish, "png": png(Image.new("L", (400, 300)))}).status_code == 403
    assert client.get("/api/mask/list", params={**wish, "masks": str(folder / "masks")}).status_code == 403
    assert list(outside.iterdir()) == []


def test_a_private_file_in_the_place_of_boxes_is_not_told(tmp_path: Path, folder: Path, client: TestClient) -> None:
    (tmp_path / "private.json").write_text('{"password": "hunter2"}')
    (folder / DRAWN).parent.mkdir()
    (folder / DRAWN).symlink_to(tmp_path / "private.json")
    for answer in (
        client.get("/api/crop/boxes", params={"folder": str(folder)}),
        client.get("/api/crop/cut", params={"folder": str(folder), "name": "a.png"}),
        client.get("/api/crop/proposal", params={"folder": str(folder), "name": "a.png"}),
    ):
        assert answer.status_code == 400 and "boxes.json: a link leads out" in answer.json()["error"]
        assert "hunter2" not in answer.text and "password" not in answer.text
    assert not (folder.with_name(f"{folder.name}_cropped")).exists()


# Masks


def test_a_folder_of_pictures_may_be_called_masks(folder: Path, client: TestClient) -> None:
    (folder / "inside").rename(folder / "inside2")
    (folder / "inside2" / "masks").mkdir()
    (folder / "inside2" / "a.png").rename(folder / "inside2" / "masks" / "a.png")
    wish = {"folder": str(folder), "name": "inside2/masks/a.png", "png": png(Image.new("L", (400, 300)))}
    saved = told(client.post("/api/mask", json=wish))
    assert Path(saved["file"]) == folder / "masks" / "inside2" / "masks" / "a.png"
    assert [snapshot.id for snapshot in snapshots(folder)] == [saved["snapshot"]]
    assert not [*(folder / "masks").rglob(".likeness")]


def test_a_picture_s_size_is_read_from_its_head(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, files = noise((300, 200)), []
    for suffix, turn in ((suffix, turn) for suffix in ("jpg", "png", "webp", "tiff") for turn in range(1, 9)):
        exif = Image.Exif()
        exif[0x0112] = turn
        files.append(folder / f"{turn}.{suffix}")
        picture.save(files[-1], exif=exif)
    picture.save(folder / "plain.png")
    files.append(folder / "plain.png")
    expected = [open_picture(file, "#000000").image.size for file in files]
    assert set(expected) == {(300, 200), (200, 300)}
    with monkeypatch.context() as blind:
        blind.setattr(handwork, "open_picture", lambda *arguments: pytest.fail("decoded"))
        assert [handwork._size(file) for file in files] == expected
    (folder / "x.png").write_bytes(b"<html>")
    (folder / "cut.jpg").write_bytes((folder / "1.jpg").read_bytes()[:30])
    for name, words in (("x.png", "a web page"), ("cut.jpg", "damaged or cut off"), ("gone.png", "cannot be opened")):
        with pytest.raises(PictureError, match=f"{name}: {words}"):
            handwork._size(folder / name)
    monkeypatch.setattr(handwork, "MOST_PIXELS", 59_999)
    monkeypatch.setattr("trainer.data.pictures.MOST_PIXELS", 59_999)
    with pytest.raises(PictureError, match="300 x 200 pixels, more than"):
        handwork._size(folder / "plain.png")


def test_a_mask_is_kept_whole_and_the_old_one_in_a_snapshot(folder: Path, client: TestClient) -> None:
    wish = {"folder": str(folder), "name": "b.jpg"}
    missing = client.get("/api/mask", params=wish)
    assert missing.status_code == 404 and missing.json() == {"error": "b.jpg has no mask yet"}
    first, second = (Image.fromarray(np.asarray(noise((200, 300), seed))[:, :, 0]) for seed in (5, 6))
    place = folder / "masks" / "b.png"
    assert told(client.post("/api/mask", json={**wish, "png": png(first.convert("RGBA"))}))["file"] == str(place)
    with Image.open(place) as kept:
        assert (kept.mode, kept.size) == ("L", (200, 300)) and np.array_equal(np.asarray(kept), np.asarray(first))
    before = place.read_bytes()
    saved = told(client.post("/api/mask", json={**wish, "png": png(second)}))
    assert np.array_equal(np.asarray(Image.open(place)), np.asarray(second))
    newest = snapshots(folder)[0]
    assert newest.id == saved["snapshot"] and newest.before("masks/b.png") == before
    shown = Image.open(io.BytesIO(client.get("/api/mask", params=wish).content))
    assert np.array_equal(np.asarray(shown), np.asarray(second))
    listed = told(client.get("/api/mask/list", params={"folder": str(folder)}))
    assert listed == {"pictures": ["a.png", "b.jpg", "inside/a.png"], "masked": ["b.jpg"]}
    assert [picture["file"] for picture in crop(folder).pictures] == listed["pictures"]  # masks are no pictures


def test_the_mask_of_the_background_tool_is_the_one_that_is_changed(folder: Path, client: TestClient) -> None:
    made = folder.parent.with_name("img_background") / folder.name / "masks" / "inside" / "a.png"
    site = Starlette(routes=handwork.routes(Settings("h", 0, folder, folder, (), (folder.parents[1],))))
    made.parent.mkdir(parents=True)
    Image.new("L", (400, 300), 9).save(made)
    wish = {"folder": str(folder), "name": "inside/a.png"}
    wide = TestClient(site)
    assert Image.open(io.BytesIO(wide.get("/api/mask", params=wish).content)).getextrema() == (9, 9)
    assert told(wide.post("/api/mask", json={**wish, "png": png(Image.new("L", (400, 300), 255))}))["file"] == str(made)
    assert told(wide.post("/api/mask", json={**wish, "name": "a.png", "png": png(Image.new("L", (400, 300)))}))[
        "file"
    ] == str(folder / "masks" / "a.png")


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"png": "no base64!"}, 400, "png: is no base64"),
        ({"png": b64encode(b"<html>").decode()}, 400, "not a picture"),
        ({"png": png(Image.new("L", (300, 300)))}, 400, "300 x 300: of another shape"),
        ({"png": png(Image.new("L", (400, 300))), "masks": "."}, 400, "is not called masks"),
        ({"png": "A" * routing.LARGEST}, 413, "more than"),
        ({"png": png(Image.new("L", (400, 300))), "masks": "/tmp/masks"}, 403, "masks: "),
    ],
)
def test_masks_that_cannot_be_are_refused(
    folder: Path, client: TestClient, more: dict[str, str], status: int, words: str
) -> None:
    if more.get("masks") == ".":
        more = {**more, "masks": str(folder)}
    old = (folder / "a.png").read_bytes()
    answer = client.post("/api/mask", json={"folder": str(folder), "name": "a.png", **more})
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
    assert (folder / "a.png").read_bytes() == old and not (folder / "masks").exists()


@pytest.mark.parametrize("quality", [50, 92, 100])
def test_noise_can_be_written_as_jpeg(quality: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    assert Image.open(io.BytesIO(stored(image, ".jpg", quality))).size == (300, 200)


def test_large_pictures_are_sent_upright_and_within_bounds(folder: Path, client: TestClient) -> None:
    Image.new("RGB", (5000, 100), "#ff0000").save(folder / "wide.png")
    for name, size in (("b.jpg", (200, 300)), ("wide.png", (4096, 82))):
        answer = client.get("/api/picture/large", params={"folder": str(folder), "name": name})
        assert Image.open(io.BytesIO(answer.content)).size == size and answer.headers["x-content-type-options"]
    wish = {"folder": str(folder), "name": "wide.png", "png": png(Image.new("L", (4096, 82), 255))}
    told(client.post("/api/mask", json=wish))
    assert Image.open(folder / "masks" / "wide.png").size == (5000, 100)
    assert Image.open(io.BytesIO(client.get("/api/mask", params=wish).content)).size == (4096, 82)


# In a browser


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="static/panel.css"><link rel="stylesheet" href="static/picture_tools.css">'
        f"<body>{request.query_params['show']}"
        '<script type="module" src="static/crop.js"></script><script type="module" src="static/mask.js"></script>'
    )


Show = Callable[..., Any]


@pytest.fixture
def show(tmp_path: Path, folder: Path, browser: Any) -> Iterator[Show]:
    """Opens a page with an element; fails when a script fails, or when anything but our server is asked."""
    settings = settings_for(tmp_path)
    server = Served([Route("/page", page), *handwork.routes(settings), *pictures.routes(settings)], free_port())
    contexts, wrong = [], []

    def go(element: str, width: int = 1280, **more: str) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, has_touch=width < 500)
        contexts.append(context)
        view = context.new_page()
        view.set_default_timeout(1000 * PATIENCE)
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("request", lambda asked: asked.url.startswith((server.address, "data:")) or wrong.append(asked.url))
        given = " ".join(f'{name}="{value}"' for name, value in {"folder": folder, **more}.items())
        view.goto(f"{server.address}page?{urlencode({'show': f'<{element} {given}></{element}>'})}")
        return view

    yield go
    for context in contexts:
        context.close()
    server.stop()
    assert not wrong


def boxes(folder: Path) -> dict[str, list[float]]:
    file = folder / DRAWN
    return json.loads(file.read_text()) if file.is_file() else {}


def frame_of(view: Any, size: tuple[int, int] = (400, 300)) -> list[float]:
    """The frame as it is seen, in pixels of the picture."""
    cut, sheet = (view.locator(name).bounding_box() for name in (".lk-cut", "likeness-crop .lk-sheet"))
    scale = size[0] / sheet["width"]
    left, top = (cut["x"] - sheet["x"]) * scale, (cut["y"] - sheet["y"]) * scale
    return [left, top, left + cut["width"] * scale, top + cut["height"] * scale]


def is_near(one: Any, other: Any, most: float = 1.0) -> bool:
    return bool(np.abs(np.array(one) - np.array(other)).max() <= most)


def drag(view: Any, *places: tuple[float, float]) -> None:
    """Presses at the first place, and lets go at the last."""
    view.mouse.move(*places[0])
    view.mouse.down()
    for place in places[1:]:
        view.mouse.move(*place, steps=4)
    view.mouse.up()


@needs_browser
def test_a_frame_is_dragged_and_the_batch_cuts_just_that(folder: Path, show: Show) -> None:
    view = show("likeness-crop", sizes=SIZES)
    cut = view.locator(".lk-cut")
    cut.wait_for()
    assert view.locator(".lk-film").get_by_role("option").count() == 3
    before = told_frame(view)
    assert (
        is_near(frame_of(view), before) and "Automatic: around what stands out" in view.locator(".lk-told").inner_text()
    )
    sheet = view.locator("likeness-crop .lk-sheet").bounding_box()
    scale = sheet["width"] / 400
    corner = view.locator(".lk-corner.lk-nw").bounding_box()
    middle = corner["x"] + corner["width"] / 2, corner["y"] + corner["height"] / 2
    drag(view, middle, (middle[0] + 100 * scale, middle[1] + 100 * scale))
    until(lambda: "a.png" in boxes(folder))
    assert is_near(frame_of(view)[2:], before[2:])  # the corner across stays
    seen = cut.bounding_box()
    start = seen["x"] + seen["width"] / 2, seen["y"] + seen["height"] / 2
    drag(view, start, (sheet["x"] + 120 * scale, sheet["y"] + 140 * scale))
    until(lambda: is_near([(frame_of(view)[i] + frame_of(view)[i + 2]) / 2 for i in (0, 1)], (120, 140)))
    left, top, right, bottom = told_frame(view)
    until(lambda: boxes(folder)["a.png"] == pytest.approx([left / 400, top / 300, right / 400, bottom / 300]))
    assert (right - left, bottom - top) == pytest.approx((before[2] - before[0] - 100,) * 2, abs=2)
    report = crop(folder)
    assert report.pictures[0]["how"] == "around the box drawn by hand"
    made = np.asarray(Image.open(report.out / "a.png"))
    assert np.array_equal(made, long_way(folder / "a.png", (left, top, right, bottom), (64, 64)))
    shown = view.locator(".lk-preview").evaluate(
        "canvas => [canvas.width, canvas.height, ...canvas.getContext('2d').getImageData(0, 0, 64, 64).data]"
    )
    preview = np.array(shown[2:]).reshape(64, 64, 4)[:, :, :3]
    assert shown[:2] == [64, 64] and np.abs(preview - made.astype(int)).mean() < 5


def told_frame(view: Any) -> tuple[int, int, int, int]:
    """The frame that the element has, in whole pixels, once the server has answered."""
    until(lambda: not view.locator("likeness-crop").evaluate("tool => tool.unsaved"))
    box = view.locator("likeness-crop").evaluate("tool => [tool.box.x, tool.box.y, tool.box.w, tool.box.h]")
    left, top, wide, high = map(round, box)
    return left, top, left + wide, top + high


@needs_browser
def test_a_frame_is_moved_by_keys(folder: Path, show: Show) -> None:
    view = show("likeness-crop", sizes="64x64")
    view.locator(".lk-cut").focus()
    start = told_frame(view)
    for _ in range(20):
        view.keyboard.press("-")  # the first ones make room to move
    until(lambda: "a.png" in boxes(folder))
    small = told_frame(view)
    assert small[2] - small[0] == pytest.approx((start[2] - start[0]) / 1.02**20, abs=2)
    view.keyboard.press("Shift+ArrowRight")
    view.keyboard.press("ArrowRight")
    view.keyboard.press("ArrowUp")
    until(
        lambda: (
            boxes(folder)["a.png"]
            == pytest.approx(
                [
                    told / side
                    for told, side in zip(
                        (small[0] + 24, small[1] - 3, small[2] + 24, small[3] - 3), (400, 300, 400, 300), strict=True
                    )
                ],
                abs=0.004,
            )
        )
    )
    view.keyboard.press("Enter")
    view.get_by_role("option", name="b.jpg", selected=True).wait_for()
    view.locator(".lk-cut").wait_for()
    view.keyboard.press("Shift+Enter")
    view.get_by_role("option", name="a.png, drawn by hand", selected=True).wait_for()
    view.get_by_text("Drawn by hand.").wait_for()
    view.keyboard.press("r")
    until(lambda: boxes(folder) == {})
    view.get_by_text("Automatic:").wait_for()
    assert told_frame(view) == start


@needs_browser
def test_too_small_a_frame_is_told_and_another_size_can_be_chosen(folder: Path, show: Show) -> None:
    view = show("likeness-crop", sizes="256x256,256x384,128x128")
    view.locator(".lk-cut").wait_for()
    assert view.get_by_label("Size").locator("option").all_inner_texts() == [f"256{X}256", f"256{X}384"]
    assert view.locator(".lk-warn").is_hidden() and not view.locator(".lk-cut.lk-care").count()
    view.get_by_label("Size").select_option("256x384")
    until(lambda: "a.png" in boxes(folder))
    left, top, right, bottom = told_frame(view)
    assert (right - left, bottom - top) == (200, 300)
    view.get_by_text(f"Smaller than 256{X}384: it would be enlarged 1.3 times").wait_for()
    assert view.locator(".lk-cut.lk-care").count() == 1
    report = crop(folder, sizes=["256x256", "256x384", "128x128"])
    made = np.asarray(Image.open(report.out / "a.png"))
    assert np.array_equal(made, long_way(folder / "a.png", (left, top, right, bottom), (256, 384)))


TOUCH = """([selector, moves]) => { const target = document.querySelector(selector)
    target.setPointerCapture = () => {} // these pointers are no real ones
    for (const [type, id, x, y] of moves) target.dispatchEvent(new PointerEvent(`pointer${type}`, {
      pointerId: id, pointerType: 'touch', clientX: x, clientY: y, bubbles: true, cancelable: true })) }"""


@needs_browser
def test_frames_work_by_touch_and_wheel_on_a_phone(folder: Path, show: Show) -> None:
    view = show("likeness-crop", width=390, sizes="64x64")
    view.locator(".lk-cut").wait_for()
    assert view.evaluate("document.documentElement.scrollWidth") <= 390
    start = told_frame(view)
    sheet = view.locator("likeness-crop .lk-sheet").bounding_box()
    x, y = sheet["x"] + sheet["width"] / 2, sheet["y"] + sheet["height"] / 2
    pinch = [["down", 1, x - 60, y], ["down", 2, x + 60, y], ["move", 2, x + 30, y], ["up", 2, x + 30, y]]
    view.evaluate(TOUCH, ["likeness-crop .lk-sheet", [*pinch, ["up", 1, x - 60, y]]])
    until(lambda: "a.png" in boxes(folder))
    pinched = told_frame(view)
    assert pinched[2] - pinched[0] == pytest.approx((start[2] - start[0]) * 0.75, abs=2)
    view.mouse.move(x, y)
    view.mouse.wheel(0, -100)
    until(lambda: told_frame(view)[2] - told_frame(view)[0] < pinched[2] - pinched[0] - 5)


# Masks in a browser


LIES = """tool => { const { stage, scale, x, y } = tool.easel, seen = stage.getBoundingClientRect()
    return [scale, seen.left + stage.clientLeft + x, seen.top + stage.clientTop + y] }"""
"""How large the picture is shown, and where on the screen it begins."""


def stroke(view: Any, *places: tuple[float, float]) -> None:
    """A stroke along places of the picture, in its pixels."""
    scale, x, y = view.locator("likeness-mask").evaluate(LIES)
    drag(view, *((x + a * scale, y + b * scale) for a, b in places))


def brush(view: Any, **values: float) -> None:
    for name, value in values.items():
        view.get_by_label(name.title()).fill(str(value))


def distance(size: tuple[int, int], *places: tuple[float, float]) -> np.ndarray:
    """How far the middle of each pixel is from a line through places, [h, w]."""
    x, y = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    found = np.full((size[1], size[0]), np.inf)
    for (a, b), (c, d) in pairwise(places):
        for part in np.linspace(0, 1, 400):
            found = np.minimum(found, np.hypot(x - a - part * (c - a), y - b - part * (d - b)))
    return found


def ready(view: Any) -> None:
    view.locator(".lk-foot", has_text="% subject").wait_for()


def values(view: Any) -> np.ndarray:
    """The mask that is being painted, [300, 400]."""
    told = view.locator("likeness-mask").evaluate(
        "tool => btoa(Array.from(tool.paint.values, value => String.fromCharCode(value)).join(''))"
    )
    return np.frombuffer(b64decode(told), np.uint8).reshape(300, 400)


def kept(folder: Path, name: str = "a.png") -> np.ndarray:
    file = (folder / "masks" / name).with_suffix(".png")
    until(file.is_file)
    with Image.open(file) as mask:
        assert mask.mode == "L"
        return np.asarray(mask)


@needs_browser
def test_a_stroke_is_on_the_disk_and_the_background_follows_it(folder: Path, show: Show) -> None:
    view = show("likeness-mask")
    ready(view)
    view.get_by_text("This picture has no mask yet").wait_for()
    brush(view, size=60)
    path = [(100.0, 100.0), (300.0, 100.0), (300.0, 200.0)]
    stroke(view, *path)
    view.get_by_role("button", name="Save mask").click()
    mask = kept(folder)
    away = distance((400, 300), *path)
    assert mask.shape == (300, 400)
    assert (mask[away < 28.5] == 255).all() and (mask[away > 31.5] == 0).all()  # places on screen are whole pixels
    assert 0 < ((mask > 0) & (mask < 255)).sum() < 4 * 400 + 4 * 60
    view.evaluate("addEventListener('likeness-redo', event => { document.title = event.target.localName })")
    view.get_by_role("button", name="Make the picture again with this mask").click()
    assert view.title() == "likeness-mask"
    for name, size in (("b.jpg", (200, 300)), ("inside/a.png", (400, 300))):
        (folder / "masks" / name).parent.mkdir(exist_ok=True)
        Image.new("L", size).save((folder / "masks" / name).with_suffix(".png"))
    report = run_tool(Background(folder=str(folder), fill="colour", colour="#102030"))
    assert report.problems == [] and report.pictures[0]["how"] == "by a mask made by hand"
    made, old = (np.asarray(Image.open(place / "a.png"), int) for place in (report.out, folder))
    alpha = mask[:, :, None] / 255
    assert np.abs(made - (old * alpha + np.array([16, 32, 48]) * (1 - alpha))).max() <= 1


@needs_browser
def test_a_mask_is_corrected_and_every_step_can_be_undone(folder: Path, show: Show) -> None:
    old = Image.new("L", (400, 300))
    ImageDraw.Draw(old).ellipse((100, 50, 300, 250), 255)
    old = Image.composite(old, Image.new("L", (400, 300), 37), old)
    (folder / "masks").mkdir()
    old.save(folder / "masks" / "a.png")
    view = show("likeness-mask")
    ready(view)
    states = [values(view)]
    assert np.array_equal(states[0], np.asarray(old))  # to the number
    brush(view, size=80, hardness=20, opacity=50)
    view.locator(".lk-easel").focus()
    view.keyboard.press("e")
    stroke(view, (200.0, 150.0), (210.0, 150.0), (200.0, 150.0))  # to and fro: over itself it takes nothing more
    states.append(values(view))
    after = states[1]
    assert after[150, 205] == 128 and 128 < after[150, 235] < 250 and (after[:100] == np.asarray(old)[:100]).all()
    view.keyboard.press("b")
    view.keyboard.press("]")
    assert view.get_by_label("Size").input_value() == "92" and view.get_by_role("radio", name="Brush").is_checked()
    brush(view, opacity=100, hardness=100)
    stroke(view, (20.0, 280.0), (390.0, 20.0))
    states.append(values(view))
    view.keyboard.press("i")
    states.append(values(view))
    assert np.array_equal(states[3], 255 - states[2])
    view.get_by_role("button", name="All background").click()
    assert not values(view).any()
    for wanted in reversed(states):
        view.keyboard.press("Control+z")
        assert np.array_equal(values(view), wanted)
    assert (
        view.get_by_role("button", name="Undo").is_disabled() and view.get_by_role("button", name="Save").is_disabled()
    )
    for wanted in states[1:3]:
        view.keyboard.press("Control+Shift+Z")
        assert np.array_equal(values(view), wanted)
    first = (folder / "masks" / "a.png").read_bytes()
    view.get_by_role("button", name="Next").click()  # keeps what was painted
    view.locator(".lk-foot", has_text="b.jpg").wait_for()
    assert np.array_equal(kept(folder), states[2])
    assert snapshots(folder)[0].before("masks/a.png") == first


@needs_browser
def test_a_mask_is_seen_four_ways_zoomed_and_painted_by_keys(folder: Path, show: Show) -> None:
    view = show("likeness-mask")
    ready(view)
    dot = "canvas => [...canvas.getContext('2d').getImageData(200, 150, 1, 1).data]"
    canvas, stage = view.locator("likeness-mask canvas"), view.locator(".lk-easel")
    assert canvas.evaluate(dot)[3] == 153  # the background is under a veil
    stage.focus()
    view.keyboard.press("ArrowRight")
    view.keyboard.press("ArrowLeft")
    view.keyboard.press("Enter")
    assert canvas.evaluate(dot)[3] == 0
    view.keyboard.press("v")
    assert view.get_by_label("View").input_value() == "cut" and canvas.evaluate(dot)[3] == 0
    view.keyboard.press("v")
    assert canvas.evaluate(dot) == [255, 255, 255, 255]
    view.get_by_role("button", name="Before").click()
    assert canvas.evaluate(dot) == [0, 0, 0, 255]
    tool = view.locator("likeness-mask")
    scale, x, y = tool.evaluate(LIES)
    view.mouse.move(500, 400)
    view.mouse.wheel(0, -100)
    until(lambda: tool.evaluate(LIES)[0] > scale)
    larger, x2, y2 = tool.evaluate(LIES)
    assert ((500 - x2) / larger, (400 - y2) / larger) == pytest.approx(((500 - x) / scale, (400 - y) / scale))
    stage.focus()
    view.keyboard.down("Space")
    drag(view, (500, 400), (540, 430))
    view.keyboard.up("Space")
    assert tool.evaluate(LIES)[1:] == pytest.approx([x2 + 40, y2 + 30])
    assert tool.evaluate("tool => tool.paint.at") == 1  # moving paints nothing
    view.keyboard.press("0")
    assert tool.evaluate(LIES) == pytest.approx([scale, x, y])


@needs_browser
def test_one_finger_paints_and_two_move_the_picture(folder: Path, show: Show) -> None:
    view = show("likeness-mask", width=390)
    ready(view)
    brush(view, size=40)
    scale, x, y = (tool := view.locator("likeness-mask")).evaluate(LIES)
    a, b, c = ([x + place * scale, y + 150 * scale] for place in (100, 200, 300))
    view.evaluate(TOUCH, [".lk-easel", [["down", 1, *a], ["move", 1, *c], ["up", 1, *c]]])
    painted = values(view)
    away = distance((400, 300), (100, 150), (300, 150))
    assert (painted[away < 19] == 255).all() and (painted[away > 21] == 0).all()
    pinch = [["down", 1, *a], ["move", 1, *b], ["down", 2, *c], ["move", 2, c[0] + (c[0] - b[0]), c[1] + 10]]
    view.evaluate(TOUCH, [".lk-easel", [*pinch, ["up", 1, *b], ["up", 2, *c]]])
    assert np.array_equal(values(view), painted) and tool.evaluate("tool => tool.paint.at") == 1
    assert tool.evaluate(LIES)[0] == pytest.approx(2 * scale, rel=0.03)


@needs_browser
def test_a_mask_that_cannot_be_saved_is_not_left(tmp_path: Path, folder: Path, show: Show) -> None:
    view = show("likeness-mask")
    ready(view)
    stroke(view, (100.0, 100.0), (200.0, 100.0))
    (folder / "masks").symlink_to(tmp_path)
    view.get_by_role("button", name="Next").click()
    view.get_by_role("alert").get_by_text("a.png: not saved. masks: ").wait_for()
    assert view.get_by_role("option", name="a.png", selected=True).count() == 1 and values(view).any()
    (folder / "masks").unlink()
    view.keyboard.press("PageDown")
    view.locator(".lk-foot", has_text="b.jpg").wait_for()
    assert kept(folder)[100, 150] == 255


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out_and_faults_are_told(folder: Path, show: Show, width: int) -> None:
    (folder / "b.jpg").write_bytes(b"no picture")
    (folder / "masks").mkdir()
    Image.new("L", (30, 300)).save(folder / "masks" / "a.png")
    for element in ("likeness-crop", "likeness-mask"):
        view = show(element, width)
        if element == "likeness-mask":
            view.get_by_role("alert").get_by_text("30 x 300: of another shape").wait_for()
        view.get_by_role("option", name="b.jpg").click()
        view.get_by_role("alert").get_by_text("b.jpg: not a picture that can be read").wait_for()
        view.get_by_role("option", name="inside/a.png").click()
        view.locator(".lk-cut" if element == "likeness-crop" else "likeness-mask canvas").wait_for()
        until(lambda view=view: view.get_by_role("alert").is_hidden())
        assert view.evaluate("document.documentElement.scrollWidth") <= width
    gone = show("likeness-mask", folder=str(folder / "gone"))
    gone.get_by_text("is no folder: choose the one with the pictures").wait_for()
