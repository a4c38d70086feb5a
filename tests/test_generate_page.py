"""Generate in the page: what is asked for, the painter's life, what pictures say, and a person's walk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tests.browser import needs_browser
from tests.lora_files import make_lora
from tests.serving import Served, free_port
from tests.waiting import PATIENCE, until
from trainer.compare.info import info_of, png_of
from trainer.compare.options import Generate
from trainer.compare.shot import Shot, Stage
from trainer.config import Config
from trainer.runfolder import RunFolder
from webui import api, machine, pictures, process, studioapi, toolapi
from webui.jobs import Jobs
from webui.settings import Settings
from webui.studio import Studio
from webui.toolform import form_of, options_of

Tree = dict[str, Any]
JOB = "compare.sample"
WORD = {"emb_params": np.ones((2, 768), np.float32)}
WAITS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setattr(machine, "gpus", lambda: [])
    data = tmp_path / "data"
    monkeypatch.setenv("LIKENESS_HOME", str(data))
    (data / "models").mkdir(parents=True)
    settings = Settings("127.0.0.1", 0, data, data / "runs", (data / "models",), (data,))
    made = Jobs(settings, watch=False)
    yield made
    made.close()
    painter = RunFolder(data / "studio")
    process.kill(painter)
    until(lambda: not painter.alive())


@pytest.fixture
def client(jobs: Jobs) -> TestClient:
    return TestClient(Starlette(routes=studioapi.routes(jobs.settings, jobs)))


def studio(jobs: Jobs) -> Studio:
    return Studio(jobs.settings, jobs)


def values(jobs: Jobs, **changes: Any) -> Tree:
    """What stands in the form's boxes."""
    return {**form_of(jobs.settings, JOB)["values"], "prompt": "a cat", **changes}


def asked(jobs: Jobs) -> list[Tree]:
    """The requests, the oldest first."""
    found = sorted((jobs.settings.data_dir / "studio" / "requests").glob("*.json"))
    return [json.loads(file.read_text()) for file in found]


# What is asked for


def test_a_request_holds_what_stands_in_the_form(
    client: TestClient, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ENGINE", WAITS)
    (jobs.settings.data_dir / "models" / "faces").mkdir()
    lora = make_lora(jobs.settings.data_dir / "models" / "faces" / "zk9.safetensors", "sd15")
    given = values(jobs, seed="-1", count="3", batch="2", size="64x96", prompt="<lora:ZK9:0.8> a cat", hires=True)
    answer = client.post("/api/studio", json={"values": given}).json()
    [request] = asked(jobs)
    options = Generate.model_validate(request["options"])
    assert (request["tool"], request["total"], options.seed) == ("sample", 6, answer["seed"])
    assert (options.base, options.size, options.hires and options.hires.scale) == ("pocket", (64, 96), 2.0)
    assert options.folders[0] == str(lora.parent)  # a LoRA that the page offers is found by its name
    painter = json.loads((jobs.settings.data_dir / "studio" / "config.json").read_text())
    assert painter["options"]["runs"] == str(jobs.settings.runs)
    Stage(options).shot(Stage(options).chosen())
    seeds = {client.post("/api/studio", json={"values": given}).json()["seed"] for _ in range(3)}
    assert len(seeds | {answer["seed"]}) == 4 and client.get("/api/studio").json()["state"] == "starting"
    assert client.post("/api/studio/stop", json={"request": answer["id"]}).json() == {"stopped": 1}
    assert client.post("/api/studio/stop", json={}).json() == {"stopped": 3} and not asked(jobs)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("steps", "0", "steps: 0"),
        ("size", "65x64", "generate: size has a side of 65"),
        ("seed", "many", "seed: "),
        ("prompt", "<hypernet:x:1>", "prompt: <hypernet:x:1> is not known here"),
        ("base", "/etc/passwd", "base: /etc/passwd is not in a folder"),
        ("vae", "../vae.pt", "vae: "),
        ("loras", "/etc/zk9.safetensors:0.8", "loras: /etc/zk9.safetensors is not in a folder"),
        ("loras", "../zk9.safetensors", "loras: "),
        ("out", "/etc", "out: /etc is not in a folder"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(client: TestClient, jobs: Jobs, field: str, value: str, words: str) -> None:
    answer = client.post("/api/studio", json={"values": values(jobs, **{field: value})})
    assert answer.status_code in (400, 403) and answer.json()["error"].startswith(words)
    detector = client.post("/api/studio", json={"values": values(jobs, face=True) | {"face.detector": "/etc/x.onnx"}})
    assert detector.status_code == 403 and detector.json()["error"].startswith("face.detector: ")
    assert not asked(jobs)


def test_the_form_is_remembered(client: TestClient) -> None:
    first = client.get("/api/studio/form").json()
    assert first["values"]["seed"] == "-1"
    client.put("/api/studio/form", json={"values": {**first["values"], "prompt": "a dog", "seed": "7"}})
    again = client.get("/api/studio/form").json()
    assert (again["values"]["prompt"], again["values"]["seed"]) == ("a dog", "7")


def test_a_base_model_says_what_it_is(client: TestClient, bases: dict[str, Path], jobs: Jobs) -> None:
    assert client.get("/api/studio/base?base=pocket").json()["side"] == 64
    assert client.get(f"/api/studio/base?base={bases['sdxl']}").json()["family"] == "sdxl"
    assert client.get("/api/studio/base?base=gone.safetensors").status_code == 400
    models = jobs.settings.data_dir / "models"
    (models / "base.safetensors").write_bytes(bases["sd15"].read_bytes())
    make_lora(models / "zk9.safetensors", "sd15")
    fields = [one for group in client.get("/api/studio/form").json()["groups"] for one in group["fields"]]
    offers = dict(next(one for one in fields if one["name"] == "base")["offers"])
    assert offers["base.safetensors"] == str(models / "base.safetensors") and "zk9.safetensors" not in offers


def test_embeddings_are_offered_with_the_folder_of_their_name(client: TestClient, jobs: Jobs) -> None:
    """Those that learned together with a LoRA are not: they come with it."""
    run, models = RunFolder.create(jobs.runs.root, Config()), jobs.settings.data_dir / "models"
    for file in (run.checkpoints / "zk9-word.safetensors", models / "bad.safetensors", models / "mk2_new.safetensors"):
        save_file(WORD, file)
    make_lora(models / "mk2.safetensors", "sd15", metadata={})
    told = client.get("/api/studio/embeddings").json()
    assert [(one["name"], one["folder"]) for one in told] == [("zk9-word", str(run.checkpoints)), ("bad", "")]
    assert [one["name"] for one in client.get("/api/studio/loras").json()] == ["mk2"]
    found = Stage(Generate(prompt="a zk9-word", folders=(told[0]["folder"],)))
    assert [one.word for one in found.shot(found.chosen()).words] == ["zk9-word"]


# The painter's life


def begin(run: RunFolder, request: str, drawn: int) -> None:
    """A painter tells that it began, and what it drew."""
    run.event("start", job="compare.studio")
    for seed in range(drawn):
        run.event("picture", request=request, file=f"{seed}.png", seed=seed, seconds=2.0)


def test_how_far_it_is_and_how_long_it_takes(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ENGINE", WAITS)
    one = studio(jobs)
    request = one.ask(options_of(JOB, values(jobs, count="4", steps="20", hires=True)))["id"]
    assert one.look()["requests"][0]["left_s"] is None
    begin(one.run, request, 1)
    before = one.look()
    far = before["requests"][0]
    assert (before["state"], far["done"], far["total"], far["left_s"]) == ("drawing", 1, 4, 6.0)
    one.run.event("step", request=request, done=16, seconds=1.0)  # of 20, and 12 of the second pass
    far = studio(jobs).look()["requests"][0]  # of another server, from the same files
    assert (far["step"], far["steps"], far["share"], far["left_s"]) == (16, 32, 1.5 / 4, 2.0 * 2.5)
    begin(one.run, request, 1)
    assert one.look()["drawn"] != before["drawn"]


def test_a_painter_that_died_is_started_again_and_draws_what_is_left(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ENGINE", WAITS)
    one = studio(jobs)
    request = one.ask(options_of(JOB, values(jobs, count="4", batch="2", seed="10")))["id"]
    first = one.run.path / "pid.json"
    pid = json.loads(first.read_text())["pid"]
    begin(one.run, request, 3)
    process.kill(one.run)
    until(lambda: not one.run.alive())
    far = one.look()["requests"][0]
    [left] = asked(jobs)
    assert one.run.alive() and json.loads(first.read_text())["pid"] != pid
    assert (left["options"]["seed"], left["options"]["count"]) == (12, 3)  # a batch that was cut is drawn again
    assert (far["done"], far["total"]) == (2, 8)
    one.run.event("start", job="compare.studio")
    process.kill(one.run)
    until(lambda: not one.run.alive())
    told = one.look()
    assert (told["state"], told["requests"], told["answer"]["id"]) == ("off", [], request)
    assert "ended 2 times at this" in told["answer"]["error"]


def test_a_training_comes_first_and_is_named(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ENGINE", WAITS)
    one = studio(jobs)
    one.ask(options_of(JOB, values(jobs)))
    begin(one.run, "", 0)
    assert one.look()["state"] == "drawing"
    for job, state in (("images.crop", "drawing"), ("compare.grid", "waiting"), (None, "waiting")):
        run = RunFolder.make(
            jobs.runs.root, "other", {"job": job, "options": {}} if job else {"output": {"name": "zk9"}}
        )
        run.write_pid()
        told = one.look()
        assert (told["state"], bool(told["holder"])) == (state, state == "waiting")
        run.write_pid(ended=1.0)
    assert told["holder"]["name"] == "zk9" and jobs.tasks() != jobs.lines()
    assert one.run.path.name not in [line["id"] for line in [*jobs.tasks(), *jobs.lines()]]  # it is no run among others


def test_the_memory_is_freed(jobs: Jobs, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ENGINE", WAITS)
    client.post("/api/studio", json={"values": values(jobs)})
    run = RunFolder(jobs.settings.data_dir / "studio")
    assert run.alive()
    client.post("/api/studio/free", json={})
    until(lambda: not run.alive())
    assert client.get("/api/studio").json()["state"] == "off" and not asked(jobs)


# What pictures say


def drawn(shot: Shot, folder: Path, number: int = 1) -> Path:
    """A picture that says that it is of this shot."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{number:05d}-{shot.seed}.png"
    file.write_bytes(png_of(Image.new("RGB", (64, 64), (number, 90, 200)), info_of(shot)))
    return file


def test_a_picture_sent_to_the_form_is_drawn_again_the_same(client: TestClient, jobs: Jobs) -> None:
    models = jobs.settings.data_dir / "models"
    for seed, place in enumerate(("first", "second")):  # of one name: the hash tells which it was
        (models / place).mkdir()
        make_lora(models / place / "zk9.safetensors", "sd15", seed=seed)
    options = Generate.model_validate({
        "prompt": "a (blue:1.2) cat, \\(sitting\\)", "negative": "dog, red: 1", "negative_preset": "photo",
        "loras": [f"{models / 'second' / 'zk9.safetensors'}:0.8:0.5"], "sampler": "DPM2 a Karras", "steps": 7,
        "cfg": 4.5, "seed": 123, "size": "64x96", "clip_skip": 2, "hires": {"scale": 1.5, "strength": 0.7, "steps": 3},
    })  # fmt: skip
    shot = Stage(options).shot(Stage(options).chosen())
    file = drawn(shot, jobs.settings.data_dir / "pictures")
    told = client.get("/api/studio/info", params={"path": str(file)}).json()
    assert "Steps: 7, Sampler: DPM2 a, Schedule type: Karras" in told["text"] and not told["missing"]
    back = Generate.model_validate(options_of(JOB, {**values(jobs), **told["values"]}))
    again = Stage(back).shot(Stage(back).chosen())
    assert again.key("fp32") == shot.key("fp32") and again.loras == shot.loras
    (models / "second" / "zk9.safetensors").unlink()
    make_lora(models / "first" / "other.safetensors", "sd15", seed=2)
    (models / "first" / "zk9.safetensors").unlink()
    told = client.get("/api/studio/info", params={"path": str(file)}).json()
    assert told["values"]["loras"] == "" and "<lora:zk9:0.5:0.8>" in told["values"]["prompt"]  # it stays to be seen


def test_pictures_are_listed_newest_first_set_aside_and_put_back(client: TestClient, jobs: Jobs) -> None:
    folder = jobs.settings.data_dir / "pictures"
    assert client.get("/api/studio/pictures").json()["pictures"] == []
    options = Generate(prompt="a cat")
    shot = Stage(options).shot(Stage(options).chosen())
    files = [drawn(shot, folder, number) for number in (1, 2, 3)]
    listed = client.get("/api/studio/pictures?count=2").json()
    assert ([one["name"] for one in listed["pictures"]], listed["more"]) == (["00003-42.png", "00002-42.png"], 1)
    content = files[2].read_bytes()
    gone = client.post("/api/studio/aside", json={"path": str(files[2])}).json()
    assert not files[2].exists() and len(client.get("/api/studio/pictures").json()["pictures"]) == 2
    assert client.post("/api/studio/back", json=gone).json() == {"file": str(files[2])}
    assert files[2].read_bytes() == content == client.get("/api/studio/file", params={"path": str(files[2])}).content
    for path in ("/etc/passwd", "/etc/x.png"):
        assert client.get("/api/studio/file", params={"path": path}).status_code == 403
        assert client.post("/api/studio/aside", json={"path": path}).status_code == 403
    assert client.get("/api/studio/pictures?folder=/etc").status_code == 403


# In a browser


PAGE = """<!doctype html><html lang="en"><head><meta name="viewport" content="width=device-width">
{}<script type="module" src="static/page.js"></script></head>
<body><likeness-generate></likeness-generate></body></html>"""
LOOKS = ("page", "panel", "tool", "generate")


@pytest.fixture
def page(jobs: Jobs, browser: Any) -> Iterator[Any]:
    looks = "".join(f'<link rel="stylesheet" href="static/{name}.css">' for name in LOOKS)

    async def home(request: Request) -> HTMLResponse:
        return HTMLResponse(PAGE.format(looks))

    settings = jobs.settings
    of_jobs = [route for room in (api, toolapi, studioapi) for route in room.routes(settings, jobs)]
    served = Served([Route("/", home), *of_jobs, *pictures.routes(settings)], free_port())
    wrong: list[str] = []
    contexts: list[Any] = []

    def open_page(width: int = 1280) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(1000 * PATIENCE)
        view = context.new_page()
        view.on("pageerror", lambda error: wrong.append(f"{error} {error.stack}"))
        view.goto(served.address)
        return view

    yield open_page
    for context in contexts:
        context.close()
    served.stop()
    assert not wrong


@needs_browser
def test_a_prompt_becomes_a_picture_and_the_picture_a_prompt(page: Any, jobs: Jobs) -> None:
    from tests.walk import box, expect, fill, press

    data = jobs.settings.data_dir
    make_lora(data / "models" / "tiny.safetensors", "sd15")
    run = RunFolder.create(jobs.runs.root, Config())
    save_file(WORD, run.checkpoints / "zk9-word.safetensors")
    view = page()
    expect(view.get_by_text("Stable Diffusion 1.5, made for 64 px")).to_be_visible()
    expect(view.get_by_label("Upscale by", exact=True)).to_be_hidden()
    box(view, "Hires fix").check()
    expect(view.get_by_label("Upscale by", exact=True)).to_be_visible()
    box(view, "Hires fix").uncheck()
    more = box(view, "Add a LoRA or an embedding")
    more.select_option("zk9-word")
    expect(box(view, "Prompt")).to_have_value("zk9-word")
    expect(view.get_by_label("Folders of LoRAs and embeddings", exact=True)).to_have_value(str(run.checkpoints))
    more.select_option("tiny")
    fill(view, {"Strength of tiny": "0.5"})
    press(view, "Take tiny away")  # made for another width than the pocket model's
    fill(view, {"Prompt": "a blue creature", "Steps": 0, "Batch count": 2, "Seed": 7, "Width": 64})
    press(view, "Generate")
    expect(view.locator("[data-name=steps]")).to_have_attribute("aria-invalid", "true")
    fill(view, {"Steps": 3})
    box(view, "Prompt").press("Control+Enter")
    expect(view.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    thumbs = view.locator("likeness-gallery .lk-thumb")
    expect(thumbs).to_have_count(2)
    expect(view.get_by_role("button", name="Stop", exact=True)).to_be_hidden()
    assert [Image.open(file).size for file in sorted((data / "pictures").glob("*.png"))] == [(64, 64)] * 2

    fill(view, {"Prompt": "something else", "Steps": 9})
    thumbs.first.click()
    large = view.get_by_role("dialog")
    expect(large.locator("pre")).to_contain_text(
        "Steps: 3, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 8"
    )
    view.keyboard.press("ArrowRight")
    expect(large.locator("pre")).to_contain_text("Seed: 7,")
    view.keyboard.press("Escape")
    expect(large).to_have_count(0)
    thumbs.first.click()
    large.get_by_role("button", name="Delete").click()
    expect(thumbs).to_have_count(1)
    large.get_by_role("button", name="Put it back").click()
    expect(thumbs).to_have_count(2)
    large.get_by_role("button", name="Send to prompt").click()
    expect(box(view, "Prompt")).to_have_value("a blue creature")
    expect(box(view, "Steps")).to_have_value("3")
    expect(box(view, "Seed")).to_have_value("7")

    press(view, "Free the memory")
    until(lambda: not RunFolder(data / "studio").alive())
    until(lambda: json.loads((data / "tools" / f"{JOB}.json").read_text())["steps"] == "3")
    view.close()
    later = page(390)  # another visit, on a telephone
    expect(later.locator("likeness-gallery .lk-thumb")).to_have_count(2)
    expect(box(later, "Prompt")).to_have_value("a blue creature")
    assert later.evaluate("document.documentElement.scrollWidth") <= 390
