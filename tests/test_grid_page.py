"""The X/Y/Z grid of the page: counted before it is drawn, shown while it is, voted on, gone on with after a kill."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.browser import needs_browser
from tests.elements import Show, page_of, showing
from tests.lora_files import make_lora
from tests.serving import Served, free_port
from tests.waiting import until
from trainer.compare import shelf
from trainer.compare.info import info_of, png_of
from trainer.compare.options import Grid
from trainer.compare.plan import Plan, make_plan
from trainer.compare.shot import Stage
from trainer.durable import make_folder, write_json
from trainer.errors import InputError
from trainer.runfolder import RunFolder
from trainer.tree import validate
from webui import api, gridform, grids, machine, pictures, process, toolapi, votes
from webui.browse import Outside
from webui.jobs import Jobs
from webui.settings import Settings
from webui.toolform import options_of

Tree = dict[str, Any]
LOOKS = ("page", "panel", "tool", "generate", "grid")
TIMES = "\N{MULTIPLICATION SIGN}"
KILLED_AT = "rename:5:KILL"  # pid.json, grid.json, and two cells are written


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("loras")
    return [make_lora(folder / f"{name}.safetensors", "sd15", seed) for seed, name in enumerate(("one", "two"))]


@pytest.fixture
def jobs(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Jobs of a data folder of the test's own; nothing starts by itself."""
    data = tmp_path / "data"
    monkeypatch.setenv("LIKENESS_HOME", str(data))
    monkeypatch.setattr(machine, "gpus", lambda: [])
    (data / "models").mkdir(parents=True)
    roots = (tmp_path_factory.getbasetemp(),)
    made = Jobs(Settings("127.0.0.1", 0, data, data / "runs", (data / "models",), roots), watch=False)
    yield made
    made.close()
    for _, child in made._children:
        child.kill()
        child.wait()


@pytest.fixture
def client(jobs: Jobs) -> TestClient:
    return TestClient(Starlette(routes=[*api.routes(jobs.settings, jobs), *grids.routes(jobs.settings, jobs)]))


@pytest.fixture
def values(bases: dict[str, Path], loras: list[Path]) -> Tree:
    """A form that is filled in: two strengths, two checkpoints."""
    return {
        "prompt": "zk9, red hat", "base": str(bases["sd15"]), "sampler": "Euler", "steps": "2", "size": "64x64",
        "x.kind": "strength", "x.values": "0.5-1 (+0.5)", "y.kind": "checkpoint",
        "y.values": "\n".join(map(str, loras)),
    }  # fmt: skip


def planned(options: Grid) -> Plan:
    return make_plan(options, Stage(options), "fp32")


def record(jobs: Jobs, values: Tree, name: str = "a", pool: bool = True) -> Path:
    """A grid as the engine leaves it, drawn in plain colours, one picture a second; its folder."""
    folder = jobs.settings.data_dir / "grids" / name
    options = validate(Grid, {**options_of(gridform.JOB, values), "out": str(folder)})
    plan = planned(options)
    for place in (folder / "pictures", folder.parent / "cells"):
        make_folder(place)
    run = RunFolder.make(
        jobs.runs.root, gridform.JOB, {"job": gridform.JOB, "options": options.model_dump(mode="json")}
    )
    run.event("start", job=gridform.JOB)
    write_json(folder / "grid.json", plan.to_json())
    for number, cell in enumerate(plan.cells):
        picture = png_of(Image.new("RGB", (64, 64), (40 * number % 256, 90, 160)), info_of(cell.shot))
        for file in [folder / "pictures" / plan.name(cell), *([folder.parent / "cells" / f"{cell.key}.png"] * pool)]:
            file.write_bytes(picture)
        named = str(folder / "pictures" / plan.name(cell))
        run.event("cell", x=cell.x, y=cell.y, z=cell.z, file=named, seconds=1.0, kept=False)
    (folder / "sheet.png").write_bytes((folder / "pictures" / plan.name(plan.cells[0])).read_bytes())
    run.event("done", summary=f"{len(plan.cells)} cells drawn.")
    run.write_pid(ended=1.0)
    return folder


def one(client: TestClient, folder: Path | str) -> Tree:
    answer = client.get("/api/grids/one", params={"folder": str(folder)})
    assert answer.status_code == 200, answer.text
    return answer.json()


# The form


def test_each_option_stands_in_the_form_once(jobs: Jobs) -> None:
    form = gridform.form(jobs.settings, jobs)
    placed = [field["name"] for group in form["groups"] for field in group["fields"]]
    assert sorted(placed) == sorted(gridform.FIELDS)
    assert set(gridform.KINDS) == {word for word, _ in gridform.FIELDS["x.kind"].choices}
    assert validate(Grid, options_of(gridform.JOB, form["values"])) == Grid()


def test_an_earlier_grid_stands_in_the_form_again(values: Tree, jobs: Jobs, loras: list[Path]) -> None:
    more = {"hires": True, "hires.scale": "1.5", "size": "64x128", "loras": f"{loras[0]}:0.5\n{loras[1]}", "cfg": "4.5"}
    more |= {"z.kind": "prompt", "z.values": "red\nblue", "negative": "blurry, text", "clip_skip": "2"}
    options = gridform.grid_of({**values, **more}, jobs.settings)
    again = gridform.grid_of(gridform.values_of(options.model_dump(mode="json"), jobs.settings), jobs.settings)
    assert again == options and options.hires and options.size == (64, 128) and not options.face


def test_pictures_are_counted_before_they_are_drawn(client: TestClient, jobs: Jobs, values: Tree) -> None:
    def count(**changes: str) -> Tree:
        answer = client.post("/api/grids/count", json={"values": {**values, **changes}})
        assert answer.status_code == 200, answer.text
        return answer.json()

    found = count()
    assert (found["sides"], found["reference"], found["pictures"]) == ([2, 2, 1], 2, 6)
    assert (found["new"], found["same"], found["seconds"]) == (5, 1, None)  # at no strength there is but one base
    assert found["labels"] == {"x": ["strength 0.5", "strength 1"], "y": ["no LoRA", "one", "two"]}
    record(jobs, values)
    assert (count()["new"], count()["seconds"]) == (0, 0)
    wider = count(**{"x.values": "0.5-1 (+0.25)"})
    assert (wider["pictures"], wider["new"]) == (9, 2)
    assert wider["seconds"] == pytest.approx(9 * 2 / 9)  # a second each, as before
    assert count(**{"x.values": "0.7", "steps": "4"})["seconds"] == pytest.approx(3 * 2)
    fetched = count(base="owner/name")
    assert (fetched["pictures"], fetched["new"]) == (6, None) and "hub" in fetched["notes"][0]


MISTAKES = {
    "a range that is none": ({"x.values": "a"}, "x.values: 'a' is no number"),
    "no values": ({"x.values": ""}, "x.values: kind strength has no values"),
    "a run that is not there": ({"y.values": "{root}/none"}, "y.values: {root}/none does not exist"),
    "words that are not in the prompt": ({"z.kind": "prompt", "z.values": "cat"}, "z.values: 'cat' is not in"),
    "no such base": ({"base": "{root}/none.safetensors"}, "base: {root}/none.safetensors does not exist"),
    "no such base on an axis": ({"z.kind": "base", "z.values": "{root}/no.ckpt"}, "z.values: {root}/no.ckpt does not"),
    "no such sampler": ({"z.kind": "sampler", "z.values": "Eule"}, "z.values: 'Eule' is no sampler; did you mean"),
    "an option": ({"steps": "0"}, "steps: 0: it must be 1 or more"),
    "no such LoRA": ({"loras": "nobody:0.5"}, "loras: 'nobody' is in none"),
}


@pytest.mark.parametrize("wish", MISTAKES.values(), ids=MISTAKES)
def test_what_is_wrong_begins_with_its_field(client: TestClient, jobs: Jobs, values: Tree, wish: Any) -> None:
    root = str(jobs.settings.roots[0])
    changes = {name: value.replace("{root}", root) for name, value in wish[0].items()}
    for path in ("/api/grids/count", "/api/grids"):
        answer = client.post(path, json={"values": {**values, **changes}})
        assert answer.status_code == 400 and answer.json()["error"].startswith(wish[1].replace("{root}", root))
    assert jobs.tasks() == []


OUTSIDE = {
    "y.values": "/etc", "loras": "/etc/zk9.safetensors:0.5", "out": "/etc", "vae": "/etc/vae.pt", "cells": "/etc",
    "folders": "/etc", "base": "/etc/base.ckpt", "face.detector": "/etc/x.onnx",
}  # fmt: skip


@pytest.mark.parametrize("field", OUTSIDE)
def test_files_elsewhere_are_not_looked_at(client: TestClient, jobs: Jobs, values: Tree, field: str) -> None:
    asked = {**values, "face": True, field: OUTSIDE[field]}
    for path in ("/api/grids/count", "/api/grids"):
        answer = client.post(path, json={"values": asked})
        assert answer.status_code == 403 and answer.json()["error"].startswith(f"{field}: /etc"), answer.text
    with pytest.raises(Outside, match=field):  # nor by any other way into the queue
        jobs.do(gridform.JOB, options_of(gridform.JOB, asked))
    assert jobs.tasks() == []


@pytest.mark.parametrize("path", ["../zk9.safetensors", "control/../../zk9.safetensors", "~root/zk9.safetensors"])
def test_a_way_around_is_no_way(jobs: Jobs, path: str) -> None:
    for options in ({"loras": [path]}, {"base": path}, {"x": {"kind": "base", "values": [path]}},
                    {"x": {"kind": "checkpoint", "values": [path]}}):  # fmt: skip
        with pytest.raises(Outside):
            jobs.do(gridform.JOB, options)


def test_names_are_found_in_every_models_folder(jobs: Jobs, client: TestClient, values: Tree, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    make_lora(elsewhere / "far.safetensors", "sd15")
    settings = replace(jobs.settings, models=(*jobs.settings.models, elsewhere, tmp_path / "unplugged"))
    options = gridform.grid_of({**values, "loras": "far:0.5"}, settings)
    assert planned(options).cells[-1].shot.loras[0].file == elsewhere / "far.safetensors"
    assert gridform.values_of(options.model_dump(mode="json"), settings)["folders"] == ""


def test_fill_names_what_there_is(client: TestClient, jobs: Jobs, loras: list[Path]) -> None:
    def fill(kind: str, *values: str) -> list[str]:
        return client.post("/api/grids/fill", json={"kind": kind, "values": values}).json()["values"]

    assert fill("checkpoint") == [] and fill("checkpoint", str(loras[0].parent)) == list(map(str, loras))
    assert "Euler a" in fill("sampler") and fill("strength") and fill("base") == ["pocket"]
    assert client.post("/api/grids/fill", json={"kind": "checkpoint", "values": ["/etc"]}).status_code == 403


# Grids as folders


def test_a_grid_is_told_with_its_cells(client: TestClient, jobs: Jobs, values: Tree) -> None:
    folder = record(jobs, values)
    told = one(client, folder)
    assert told["state"] == "done" and told["plan"]["reference"] == "y" and told["side"] == [64, 64]
    assert set(told["drawn"]) == {cell["file"] for cell in told["plan"]["cells"]} and not told["wrong"]
    assert gridform.grid_of(told["values"], jobs.settings).steps == 2
    assert "plan" not in client.get("/api/grids/one", params={"folder": str(folder), "stamp": told["stamp"]}).json()
    (line,) = client.get("/api/grids").json()
    assert (line["sides"], line["cells"], line["pictures"]) == ([[2, "strength"], [2, "checkpoint"]], 6, 6)
    asked = {"folder": str(folder), "file": told["plan"]["cells"][-1]["file"]}
    assert "Steps: 2, Sampler: Euler" in client.get("/api/grids/info", params=asked).json()["text"]
    assert client.get("/api/grids/file", params=asked).headers["content-disposition"].startswith("attachment")
    archive = zipfile.ZipFile(io.BytesIO(client.get("/api/grids/zip", params={"folder": str(folder)}).content))
    assert len(archive.namelist()) == 8 and {"a/grid.json", "a/sheet.png"} < set(archive.namelist())


@pytest.mark.parametrize("file", ["../../runs", "grid.json", "pictures/none.png", "/etc/passwd", ""])
def test_only_pictures_of_the_grid_are_given(client: TestClient, jobs: Jobs, values: Tree, file: str) -> None:
    folder = record(jobs, values)
    assert client.get("/api/grids/file", params={"folder": str(folder), "file": file}).status_code == 404
    assert client.get("/api/grids/one", params={"folder": "/etc"}).status_code == 403
    assert client.get("/api/grids/one", params={"folder": str(folder.parent / "none")}).status_code == 404


def test_a_failed_cell_says_why_and_an_old_picture_is_not_a_new_one(
    client: TestClient, jobs: Jobs, values: Tree
) -> None:
    folder = record(jobs, values)
    lost = one(client, folder)["plan"]["cells"][-1]["file"]
    options = {**json.loads((jobs.runs.root / jobs.tasks()[0]["id"] / "config.json").read_text())["options"], "seed": 7}
    again = RunFolder.make(jobs.runs.root, "again", {"job": gridform.JOB, "options": options})
    told = one(client, folder)
    assert told["state"] == "queued" and told["stamp"] == "" and "plan" not in told
    write_json(folder / "grid.json", planned(validate(Grid, options)).to_json())
    again.event("start", job=gridform.JOB)
    again.event("warning", text=f"{Path(lost).stem}: the picture came out black")
    again.write_pid()
    told = one(client, folder)
    assert told["state"] == "running" and told["drawn"] == {}  # those that lie there are of the earlier seed
    assert told["wrong"] == {lost: "the picture came out black"}


def test_a_grid_goes_to_the_trash_and_takes_nothing_else(client: TestClient, jobs: Jobs, values: Tree) -> None:
    folder = record(jobs, values)
    (folder / "notes.txt").write_text("mine")
    place = Path(client.post("/api/grids/trash", json={"folder": str(folder)}).json()["trash"])
    assert [path.name for path in folder.iterdir()] == ["notes.txt"] and (place / "grid.json").is_file()
    assert client.get("/api/grids").json() == [] and jobs.tasks() == []
    running = record(jobs, values, "b")
    RunFolder(jobs.runs.root / jobs.tasks()[0]["id"]).write_pid()
    assert client.post("/api/grids/trash", json={"folder": str(running)}).status_code == 409
    assert (running / "grid.json").is_file()


def test_a_start_says_where_it_goes_and_is_remembered(client: TestClient, jobs: Jobs, values: Tree) -> None:
    jobs.pause(True)
    made = client.post("/api/grids", json={"values": values}).json()
    assert Path(made["folder"]).parent == jobs.settings.data_dir / "grids"
    assert one(client, made["folder"])["state"] == "queued"
    assert gridform.form(jobs.settings, jobs)["values"]["y.values"] == values["y.values"]
    again = client.post("/api/grids", json={"values": {**values, "out": made["folder"]}})
    assert again.status_code == 409 and made["run"] in again.json()["error"]
    other = client.post("/api/grids", json={"values": values}).json()  # each in its own folder, one after the other
    assert [line["folder"] for line in client.get("/api/grids").json()] == [other["folder"], made["folder"]]
    assert jobs.waiting()["order"] == [made["run"], other["run"]]


# Votes


def test_few_votes_prove_little() -> None:
    assert votes.wilson(0, 0) == votes.wilson(0, 5) == 0
    assert votes.wilson(1, 1) == pytest.approx(0.2065, abs=1e-4)  # Wilson 1927, z = 1.96
    assert votes.wilson(9, 10) == pytest.approx(0.5958, abs=1e-4)
    assert votes.wilson(90, 100) == pytest.approx(0.8256, abs=1e-4)


def test_votes_are_kept_and_counted_by_label(client: TestClient, jobs: Jobs, values: Tree, loras: list[Path]) -> None:
    first = record(jobs, {**values, "y.values": str(loras[0])})

    def vote(**body: Any) -> Tree:
        answer = client.post("/api/grids/vote", json={"folder": str(first), **body})
        assert answer.status_code == 200, answer.text
        return answer.json()

    vote(better=[1, 1, 0], worse=[0, 1, 0])
    told = vote(better=[1, 1, 0], worse=[0, 0, 0])
    assert [one["wins"] for one in told["sides"]["x"]] == [0, 1]  # the base model has no strength
    assert [(one["wins"], one["duels"]) for one in told["sides"]["y"]] == [(0, 1), (1, 1)]
    assert told["ranking"][0]["words"] == ["strength 1", "one"] and told["ranking"][0]["wins"] == 2
    told = vote(star=[0, 0, 0], on=True)
    assert len(told["stars"]) == 1 and [one["stars"] for one in told["sides"]["y"]] == [1, 0]
    assert [one["stars"] for one in told["sides"]["x"]] == [0, 0]
    plan = planned(validate(Grid, options_of(gridform.JOB, {**values, "x.values": "0.25-1 (+0.25)"})))
    write_json(first / "grid.json", plan.to_json())  # two more columns, and one more row
    again = votes.tally(first, json.loads((first / "grid.json").read_text()))
    assert [one["wins"] for one in again["sides"]["x"]] == [0, 0, 0, 1] and again["duels"] == 2
    assert [one["duels"] for one in again["sides"]["y"]] == [1, 1, 0]
    assert vote(undo=True)["duels"] == 1 and vote(star=[0, 0, 0], on=False)["stars"] == []
    for wrong in ({"better": [9, 9, 9], "worse": [0, 0, 0]}, {"better": [0, 0, 0], "worse": [1, 0, 0]}, {"star": "a"}):
        assert client.post("/api/grids/vote", json={"folder": str(first), **wrong}).status_code == 400
    (first / "votes.json").write_text("{")
    with pytest.raises(InputError, match=r"votes\.json"):
        votes.read(first)


# The page


class Server:
    """The real routes on a free port, with jobs that run, and a page with the element in the real look."""

    def __init__(self, jobs: Jobs) -> None:
        site = [
            *api.routes(jobs.settings, jobs), *toolapi.routes(jobs.settings, jobs), *grids.routes(jobs.settings, jobs),
            *pictures.routes(jobs.settings), page_of("likeness-grid", "grid.js", LOOKS),
            Route("/api/studio/loras", lambda request: HTMLResponse("[]", media_type="application/json")),
        ]  # fmt: skip
        self.served = Served(site, free_port())


@pytest.fixture
def show(jobs: Jobs, browser: Any) -> Iterator[Show]:
    """Opens the page with its form."""
    served = Server(jobs).served
    with showing(browser, served.address) as go:

        def ready(width: int = 1280, query: str = "") -> Any:
            view = go(width, query)
            view.get_by_label("X type").wait_for()
            return view

        yield ready
    served.stop()


WRITE = """(box, value) => {
  box.value = value
  box.meet?.()
  box.dispatchEvent(new Event('input', { bubbles: true }))
}"""


def cell(view: Any, x: int, y: int, z: int = 0) -> Any:
    return view.locator(f'[data-place="{x},{y},{z}"] .lg-cell')


def fill(view: Any, values: Tree) -> None:
    for name, value in values.items():
        box = view.locator(f"[data-name='{name}']")
        if name.endswith(".kind") or name == "sampler":
            box.select_option(value)
        elif box.is_visible():
            box.fill(value)
        else:  # a list, or sides, stand before it
            box.evaluate(WRITE, value)


@needs_browser
def test_a_grid_is_drawn_killed_gone_on_with_and_grows(
    jobs: Jobs, show: Show, values: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf._digest.cache_clear()  # what is counted here is then known to the engine, which writes a file less for it
    real = process.environment
    monkeypatch.setattr(process, "environment", lambda data, gpu: {**real(data, gpu), "LIKENESS_FAULT": KILLED_AT})
    view = show()
    fill(view, values)
    view.get_by_text(f"2 {TIMES} 2 + 2 reference = 6 pictures, 5 different.").wait_for()
    view.locator("[data-name='x.values']").fill("nothing")
    view.locator(".lk-wrong", has_text="'nothing' is no number").wait_for()
    view.locator("[data-name='x.values']").fill(values["x.values"])
    view.get_by_text(f"2 {TIMES} 2 + 2 reference = 6 pictures, 5 different.").wait_for()
    view.get_by_role("button", name="Draw", exact=True).click()
    view.get_by_role("button", name="Go on").wait_for()
    assert view.locator(".lg-cell").count() == 3 and view.locator(".lg-none").count() == 3
    assert view.locator("th.lg-base", has_text="no LoRA").get_by_text("base model").is_visible()
    (run,) = [line for line in jobs.tasks() if line["job"] == gridform.JOB]
    assert run["state"] == "interrupted"

    monkeypatch.setattr(process, "environment", real)
    view.reload()  # a closed tab finds it again
    view.get_by_role("button", name="Go on").click()
    view.get_by_role("link", name="sheet.png").wait_for()
    assert view.locator(".lg-cell").count() == 6
    view.get_by_text("3 cells drawn, 3 taken from before, of 6.").wait_for()
    with view.expect_download() as download:
        view.get_by_role("link", name="All as a zip").click()
    assert len(zipfile.ZipFile(download.value.path()).namelist()) == 8

    view.get_by_role("button", name="Change, and draw again").click()
    view.locator("[data-name='x.values']").fill("0.5-1 (+0.25)")
    view.get_by_text("9 pictures, 7 different, 5 there already, 2 to draw").wait_for()
    view.get_by_role("button", name="Draw", exact=True).click()
    until(lambda: view.locator(".lg-cell").count() == 9)
    view.get_by_role("link", name="sheet.png").wait_for()
    view.get_by_text("2 cells drawn, 7 taken from before, of 9.").wait_for()
    assert view.locator(".lk-recent li").count() == 1  # in its own folder


@needs_browser
def test_pictures_are_looked_at_blinked_and_voted_on(jobs: Jobs, show: Show, values: Tree) -> None:
    folder = record(jobs, {**values, "z.kind": "seed", "z.values": "1, 2"})
    view = show()
    cell(view, 0, 1).click()
    assert view.locator(".lg-table caption").all_inner_texts() == ["seed 1", "seed 2"]
    large = view.get_by_role("dialog", name="Picture of the grid")
    large.get_by_text("strength 0.5, one, seed 1", exact=True).wait_for()
    for key, words in (("ArrowRight", "strength 1, one, seed 1"), ("ArrowDown", "strength 1, two, seed 1"),
                       ("PageDown", "strength 1, two, seed 2"), ("ArrowRight", "strength 1, two, seed 2")):  # fmt: skip
        view.keyboard.press(key)
        large.get_by_text(words, exact=True).wait_for()
    large.locator("summary").click()
    large.get_by_text("Seed: 2, Size: 64x64").wait_for()
    view.keyboard.press("s")
    large.get_by_role("button", name="★ Starred").wait_for()
    large.get_by_role("button", name="Blink with the base model").click()
    two = view.get_by_role("dialog", name="Two pictures")
    shown = two.locator(".lg-stage img:not(.lg-off)")
    assert shown.get_attribute("alt") == "strength 1, no LoRA, seed 2"
    view.keyboard.press("Space")
    assert shown.get_attribute("alt") == "strength 1, two, seed 2"
    two.get_by_role("button", name="Start").click()
    until(lambda: shown.get_attribute("alt") == "strength 1, no LoRA, seed 2")
    until(lambda: shown.get_attribute("alt") == "strength 1, two, seed 2")
    view.keyboard.press("Space")
    two.get_by_role("button", name="Start").wait_for()
    two.get_by_text("Slider", exact=True).click()
    before = two.locator(".lg-stage").evaluate("stage => stage.style.getPropertyValue('--part')")
    two.get_by_label("Where the line is").fill("80")
    assert (before, two.locator(".lg-stage").evaluate("stage => stage.style.getPropertyValue('--part')")) == (
        "50%",
        "80%",
    )
    two.get_by_role("button", name="The second is better").click()
    two.get_by_text("Counted: strength 1, two, seed 2.").wait_for()
    for _ in range(2):
        view.get_by_role("dialog").last.get_by_role("button", name="Close").click()
    view.locator(".lg-table").first.locator("tbody th", has_text="two").get_by_text("1 of 1 · ≥ 21 %").wait_for()
    assert cell(view, 1, 2, 1).get_attribute("aria-label") == "strength 1, two, seed 2, starred"

    view.get_by_role("button", name="Vote", exact=True).click()
    duel = view.get_by_role("dialog", name="Which is better?")
    assert duel.locator(".lg-said").all_inner_texts() == ["A", "B"]
    for number, key in enumerate(("ArrowLeft", "ArrowRight")):
        view.keyboard.press(key)
        duel.get_by_text(f"{number + 1} vote").wait_for()
    duel.get_by_label("Blind: hide the names").uncheck()
    names = duel.locator(".lg-said").all_inner_texts()
    assert all("no LoRA" not in name for name in names) and names[0].rpartition(",")[2] == names[1].rpartition(",")[2]
    view.keyboard.press("u")
    duel.get_by_text("Taken back. 1 vote by now.").wait_for()
    view.keyboard.press("Escape")
    kept = json.loads((folder / "votes.json").read_text())
    assert len(kept["duels"]) == 2 and len(kept["stars"]) == 1
    view.get_by_text("Votes", exact=True).click()
    view.locator(".lg-ranking caption", has_text="2 votes.").wait_for()


@needs_browser
def test_it_is_zoomed_walked_by_keys_and_removed(jobs: Jobs, show: Show, values: Tree) -> None:
    record(jobs, values)
    view = show()
    cell(view, 0, 0).wait_for()

    def wide() -> float:
        return cell(view, 0, 0).bounding_box()["width"]

    fit = wide()
    view.get_by_text("100 %", exact=True).click()
    assert (wide(), fit > 64) == (64, True)
    view.get_by_text("200 %", exact=True).click()
    assert wide() == 128
    cell(view, 0, 0).hover()
    view.keyboard.down("Control")
    view.mouse.wheel(0, -100)
    view.keyboard.up("Control")
    until(lambda: wide() > 140)
    cell(view, 0, 0).focus()
    view.keyboard.press("0")
    assert wide() == fit
    view.keyboard.press("ArrowDown")
    view.keyboard.press("ArrowRight")
    assert view.evaluate("document.activeElement.closest('td').dataset.place") == "1,1,0"
    view.get_by_role("button", name="Remove").click()
    view.get_by_role("button", name="To the trash: press again").click()
    view.get_by_text("Nothing yet.").wait_for()
    assert view.locator(".lg-view").is_hidden() and list((jobs.settings.data_dir / "trash").iterdir())


@needs_browser
@pytest.mark.parametrize("query", ["", "dark"], ids=["light", "dark"])
def test_it_fits_a_phone(jobs: Jobs, show: Show, values: Tree, query: str) -> None:
    record(jobs, {**values, "x.values": "0.1-1 (+0.1)"})
    view = show(390, query)
    cell(view, 0, 1).wait_for()
    assert view.evaluate("document.documentElement.scrollWidth") == 390
    box = view.get_by_role("region", name="The grid")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    box.evaluate("box => { box.scrollLeft = box.scrollWidth }")
    head, edge = view.locator("tbody th").first.bounding_box(), box.bounding_box()
    assert abs(head["x"] - edge["x"]) < 3  # labels stay in sight
    cell(view, 9, 1).click()
    large = view.get_by_role("dialog", name="Picture of the grid").bounding_box()
    assert large["x"] >= 0 and large["x"] + large["width"] <= 390
