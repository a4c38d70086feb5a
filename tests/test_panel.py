"""The page's live elements in a real browser, on recorded run folders and the real routes."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from PIL import Image, ImageDraw
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.browser import needs_browser
from tests.serving import Served, free_port
from tests.waiting import PATIENCE, until
from trainer.config import Config
from trainer.runfolder import RunFolder
from webui import api, machine, process
from webui.jobs import Jobs
from webui.settings import Settings

PER_EPOCH = 40
PROMPTS = ("zk9, a creature on grass", "a red star on snow")


# Recorded runs


def record(root: Path, name: str = "zk9", epochs: int = 3, **changes: Any) -> RunFolder:
    """A run folder as the engine leaves it after some epochs, without its last word."""
    tree = {"output": {"name": name}, "train": {"epochs": 10}, **changes}
    folder = RunFolder.create(root, Config.model_validate(tree))
    folder.event("start", step=0, steps=10 * PER_EPOCH, epochs=10, family="sd15", device="cpu", images=12, batches=40)
    folder.log.write_text("loading the model\nencoding:  10%\rencoding:  55%\rencoding: 100%\n<b>not bold</b>\n")
    folder.write_pid(ended=time.time())
    show_samples(folder, 0)
    for epoch in range(1, epochs + 1):
        add_epoch(folder, epoch)
    return folder


def add_epoch(folder: RunFolder, epoch: int) -> None:
    """Steps whose loss falls, a validation, a checkpoint and samples."""
    for step in range((epoch - 1) * PER_EPOCH + 1, epoch * PER_EPOCH + 1):
        value = loss_at(step)
        facts = {
            "loss": value * (1.3 if step % 3 else 0.6),
            "average": value,
            "lr": {"unet": 1e-4, "text_encoder": 5e-5},
        }
        left = (10 * PER_EPOCH - step) / 2
        folder.event("step", step=step, epoch=epoch, rate=2.0, left_s=left, memory=6_100_000_000, **facts)
    step = epoch * PER_EPOCH
    folder.event("epoch", step=step, epoch=epoch, loss=loss_at(step))
    folder.event("validation", step=step, loss=loss_at(step) * 1.1)
    file = folder.checkpoints / f"{folder.config().output.name}-{epoch:06}.safetensors"
    file.write_bytes(b"weights of epoch %d" % epoch)
    folder.event("checkpoint", step=step, file=f"checkpoints/{file.name}", epoch=epoch)
    show_samples(folder, step)


def loss_at(step: int) -> float:
    return 0.08 + 0.1 * math.exp(-step / 90)


def show_samples(folder: RunFolder, step: int) -> None:
    """A picture for each prompt whose colour follows the step."""
    for index, prompt in enumerate(PROMPTS):
        picture = Image.new("RGB", (64, 64), (120 + index * 80, 200 - step // 3, 90 + step // 3))
        ImageDraw.Draw(picture).ellipse((10, 10, 20 + step // 4, 50), (40, 30 + step // 2, 160))
        file = folder.samples / f"{step:06}_{index}.png"
        picture.save(file)
        folder.event("sample", step=step, file=f"samples/{file.name}", prompt=prompt, seed=42, index=index)


# A server of our own routes, and a browser


class Server:
    """The routes and the static files on a free port; `page` shows one element."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        data = folder / "data"
        (data / "runs").mkdir(parents=True, exist_ok=True)
        self.settings = Settings("127.0.0.1", self.port, data, data / "runs", (), (folder,))
        self.start()

    def start(self) -> None:
        """Serves, on the same port each time."""
        self.jobs = Jobs(self.settings, watch=False)
        self.served = Served([Route("/page", page), *api.routes(self.settings, self.jobs)], self.port)
        self.address = self.served.address

    def stop(self) -> None:
        """Ends it as a crash would."""
        self.jobs.close()
        self.served.stop()


async def page(request: Request) -> HTMLResponse:
    """A page with the elements that the query names."""
    shown = request.query_params["show"]
    return HTMLResponse(
        '<!doctype html><html><meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="static/panel.css"><body><input id="into">'
        f'<input id="trigger" value="zk9">{shown}<script type="module" src="static/page.js"></script>'
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.stop()


Show = Callable[..., Any]
JOB = "<likeness-job></likeness-job>"
RUNS = "<likeness-runs></likeness-runs>"


@pytest.fixture
def show(server: Server, browser: Any) -> Iterator[Show]:
    """Opens a page with some elements; fails when a script fails, or when anything but our server is asked."""
    contexts, wrong = [], []

    def go(elements: str, width: int = 1280) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        contexts.append(context)
        view = context.new_page()
        view.set_default_timeout(1000 * PATIENCE)
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("request", lambda asked: asked.url.startswith((server.address, "data:")) or wrong.append(asked.url))
        view.goto(f"{server.address}page?{urlencode({'show': elements})}")
        return view

    yield go
    for context in contexts:
        context.close()
    assert not wrong


def texts(view: Any, selector: str) -> list[str]:
    return [text.strip() for text in view.locator(selector).all_text_contents()]


# One job


@needs_browser
def test_a_job_is_shown_while_it_trains(server: Server, show: Show) -> None:
    run = record(server.settings.runs, epochs=3)
    with run.owned():
        view = show(JOB)
        view.get_by_text("<b>not bold</b>").wait_for()  # the log is told last
        facts = dict(zip(texts(view, ".lk-facts dt"), texts(view, ".lk-facts dd"), strict=True))
        assert texts(view, ".lk-pill")[0] == "Training"
        assert (facts["Epoch"], facts["Speed"]) == ("3 of 10", "2 steps a second")
        assert facts["Time left"].startswith("2 min 20 s, until ")
        assert facts["Learning rate"] == "UNet 1e-4\ntext encoder 5e-5"
        assert facts["Loss, average"] == f"{loss_at(120):.4f}"
        assert abs(view.locator(".lk-job .lk-bar").evaluate("bar => bar.value") - 0.3) < 1e-6
        assert texts(view, ".lk-lines div")[:3] == ["loading the model", "encoding: 100%", "<b>not bold</b>"]
        assert texts(view, ".lk-samples thead th") == ["Prompt", "Base model", "Epoch 1", "Epoch 2", "Epoch 3"]
        assert texts(view, ".lk-samples tbody th") == list(PROMPTS)
        assert view.locator(".lk-dot[role=button]").count() == 3

        add_epoch(run, 4)  # all of it comes without a reload
        view.get_by_text("160 of 400").wait_for()
        view.locator(".lk-dot[role=button]").nth(3).wait_for()
        view.locator(".lk-samples thead th", has_text="Epoch 4").wait_for()
        view.locator(".lk-files a", has_text="zk9-000004.safetensors").wait_for()


@needs_browser
def test_the_curve_of_the_rates_is_chosen_by_keys(server: Server, show: Show) -> None:
    record(server.settings.runs, epochs=2)
    view = show(JOB)
    view.locator(".lk-dot[role=button]").nth(1).wait_for()
    assert view.locator("path.lk-smooth").count() == 1
    view.get_by_role("radio", name="Loss").focus()
    view.keyboard.press("ArrowRight")
    until(lambda: texts(view, ".lk-legend .lk-key") == ["UNet", "text encoder"])
    assert view.locator("path.lk-smooth").count() == 2 and view.locator(".lk-dot[role=button]").count() == 0
    curves = view.locator(".lk-plot svg").get_attribute("aria-label")
    assert curves == "UNet: learning rate from 1e-4 to 1e-4 over 80 steps; " + (
        "text encoder: learning rate from 5e-5 to 5e-5 over 80 steps"
    )
    assert view.get_by_label("Smoothing").is_hidden()
    view.get_by_role("radio", name="Loss").check()
    view.locator(".lk-dot[role=button]").nth(1).wait_for()


@needs_browser
def test_one_loss_alone_is_drawn_although_its_mean_is_rounded(server: Server, show: Show) -> None:
    run = record(server.settings.runs, epochs=0)
    run.event("step", step=1, epoch=1, loss=0.021, average=0.021, lr={"unet": 1e-4}, rate=2.0, left_s=9.0, memory=1)
    view = show("<likeness-job></likeness-job>")
    view.locator("circle.lk-smooth").wait_for()
    assert 3 <= len(texts(view, ".lk-plot text")) < 20


@needs_browser
def test_with_several_gpus_one_sees_which(server: Server, show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"memory_total": 24e9, "memory_free": 2e9, "memory_used": 22e9, "temperature": 70, "load": 99, "bf16": True}
    cards = [{"index": place, "uuid": f"GPU-{place}", "name": "NVIDIA A100", **facts} for place in (0, 1)]
    monkeypatch.setattr(machine, "gpus", lambda: cards)
    monkeypatch.setattr(process, "gpu_of", lambda run: 1)
    run = record(server.settings.runs, epochs=1)
    with run.owned():
        view = show(JOB + RUNS)
        view.get_by_text("GPU 1 memory (A100)").wait_for()
        view.get_by_text("22 GB of 24 GB · 70 °C · 99 % busy").wait_for()
        view.locator(".lk-queue", has_text="GPU 1, ").wait_for()


@needs_browser
def test_the_buttons_reach_the_engine(server: Server, show: Show) -> None:
    run = record(server.settings.runs, epochs=1)
    with run.owned():
        view = show(JOB)
        for word, label in (("save", "Save now"), ("sample", "Sample now"), ("pause", "Pause"), ("stop", "Stop")):
            view.get_by_role("button", name=label, exact=True).click()
            until(lambda word=word: run.take_command() == word)
        view.get_by_role("button", name="Stop at once").wait_for()
        view.get_by_text("Press again to end it at once").wait_for()
        run.event("stopped", step=40, reason="stop")
    view.get_by_role("button", name="Resume").wait_for()
    assert texts(view, ".lk-sentence") == ["Stopped at step 40; what was learned is saved."]


@needs_browser
def test_a_checkpoint_on_the_curve_can_be_downloaded(server: Server, show: Show) -> None:
    run = record(server.settings.runs, epochs=2)
    view = show(JOB)
    view.locator(".lk-dot[role=button]").nth(1).focus()
    view.keyboard.press("Enter")
    with view.expect_download() as download:
        view.locator(".lk-menu a").click()
    assert download.value.path().read_bytes() == b"weights of epoch 2"
    view.keyboard.press("Escape")
    assert view.locator(".lk-menu").is_hidden()
    (run.checkpoints / "zk9-000001.safetensors").unlink()  # as "keep the last" does
    until(lambda: view.locator(".lk-dot[role=button]").count() == 1)
    assert view.locator(".lk-dot[role=button]").get_attribute("aria-label") == "Checkpoint of step 80: download"


@needs_browser
def test_samples_are_enlarged_and_walked_by_arrow_keys(server: Server, show: Show) -> None:
    record(server.settings.runs, epochs=2)
    view = show(JOB)
    view.locator(".lk-thumb").first.click()
    caption = view.locator("dialog p")
    assert caption.text_content() == f"Base model · {PROMPTS[0]} · seed 42"
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown"):  # the third has nowhere to go
        view.keyboard.press(key)
    assert caption.text_content() == f"Epoch 2 · {PROMPTS[1]} · seed 42"
    until(lambda: view.locator("dialog img").evaluate("picture => picture.naturalWidth") == 64)
    view.keyboard.press("Escape")
    until(lambda: view.locator("dialog").count() == 0)


@needs_browser
def test_a_failure_tells_its_remedy_and_is_no_html(server: Server, show: Show) -> None:
    server.jobs.pause(True)  # what is resumed waits: no engine is to run here
    run = record(server.settings.runs, epochs=1)
    run.event("warning", step=40, text="<img src=x onerror=alert(1)>")
    run.event("error", step=40, text="<b>out of memory</b>", remedy="lower train.batch")
    view = show(JOB)
    view.locator(".lk-warn li", has_text="<img src=x onerror=alert(1)>").wait_for(state="attached")
    view.locator(".lk-bad b", has_text="<b>out of memory</b>").wait_for()
    assert texts(view, ".lk-bad p") == ["Lower “Train batch size”"]
    assert view.locator("img[src=x]").count() == 0
    view.locator("summary", has_text="Settings").click()
    view.get_by_role("row", name="Network Rank (Dimension) 16").wait_for()
    view.get_by_role("button", name="Resume").click()
    until(lambda: server.jobs.waiting()["order"] == [run.path.name])


@needs_browser
def test_a_lost_server_is_told_and_found_again(server: Server, show: Show) -> None:
    run = record(server.settings.runs, epochs=1)
    with run.owned():
        view = show(JOB)
        view.get_by_text("40 of 400").wait_for()
        server.stop()
        view.get_by_text("Connection lost.").wait_for()
        assert view.get_by_text("40 of 400").is_visible()  # what is known stays
        add_epoch(run, 2)
        server.start()
        view.get_by_text("80 of 400").wait_for()
        view.get_by_text("Connection lost.").wait_for(state="hidden")
        with run.log.open("a") as log:
            log.write("after all\n")
        view.locator(".lk-lines div", has_text="after all").wait_for()
        until(lambda: view.locator(".lk-dot[role=button]").count() == 2)
        assert texts(view, ".lk-lines div").count("loading the model") == 1


@needs_browser
def test_a_stream_that_fell_silent_is_lost_and_opened_anew(server: Server, show: Show) -> None:
    record(server.settings.runs, epochs=1)
    view = show("")
    view.clock.install()
    view.evaluate("""() => {
        window.opened = 0
        window.EventSource = class {
            constructor() { if (!window.opened++) setTimeout(() => this.onopen()) }
            addEventListener() {}
            close() {}
        }
        document.body.append(document.createElement('likeness-job'))
    }""")
    lost = view.get_by_text("Connection lost.")
    lost.wait_for(state="hidden")
    view.wait_for_function("window.opened === 1")
    view.clock.run_for(1000)
    assert lost.is_hidden()
    view.clock.run_for(12000)
    lost.wait_for()
    assert view.evaluate("window.opened") == 2


@needs_browser
def test_a_run_in_the_trash_is_told_of_until_another_is_shown(server: Server, show: Show) -> None:
    gone, other = (record(server.settings.runs, name=name, epochs=1) for name in ("gone", "other"))
    view = show(f'<likeness-job run="{gone.path.name}"></likeness-job>')
    view.get_by_text("40 of 400").wait_for()
    server.jobs.trash(gone.path.name)
    told = view.get_by_text("This run is no longer here")
    told.wait_for()
    assert view.get_by_text("Connection lost.").is_hidden()
    view.locator("likeness-job").evaluate("(job, run) => job.setAttribute('run', run)", other.path.name)
    view.get_by_role("heading", name="other").wait_for()
    assert told.is_hidden()


@needs_browser
def test_of_a_long_run_few_steps_are_kept_evenly(server: Server, show: Show) -> None:
    kept = show("").evaluate(
        """async script => {
            const { Story } = await import(script)
            const story = new Story()
            for (let step = 1; step <= 30000; step++) story.add({ kind: 'step', step, loss: 0.1 })
            return story.steps.map(one => one.step)
        }""",
        f"{server.address}static/story.js",
    )
    assert 2000 <= len(kept) <= 4000 and (kept[0], kept[-1]) == (1, 30000)
    assert max(after - before for before, after in pairwise(kept)) <= 16


@needs_browser
def test_an_element_that_goes_lets_its_stream_go(server: Server, show: Show) -> None:
    run = record(server.settings.runs, epochs=1)
    with run.owned():
        view = show(JOB)
        view.get_by_text("40 of 400").wait_for()
        view.evaluate("""() => {
            window.streamsClosed = 0
            const close = EventSource.prototype.close
            EventSource.prototype.close = function () { window.streamsClosed++; return close.call(this) }
        }""")
        view.locator("likeness-job").evaluate("job => { job.hidden = true }")  # a tab that is not chosen
        view.wait_for_function("window.streamsClosed === 1")
        view.locator("likeness-job").evaluate("job => { job.hidden = false }")
        add_epoch(run, 2)
        view.get_by_text("80 of 400").wait_for()
        view.locator("likeness-job").evaluate("job => job.remove()")
        view.wait_for_function("window.streamsClosed === 2")


@needs_browser
def test_the_log_follows_unless_one_has_scrolled_up(server: Server, show: Show) -> None:
    run = record(server.settings.runs, epochs=1)
    with run.log.open("a") as log:
        log.writelines(f"line {number}\n" for number in range(3000))
    view = show(JOB)
    view.get_by_text("line 2999").wait_for()
    box = view.locator(".lk-lines")
    assert box.evaluate("box => box.childElementCount") <= 1000
    until(lambda: box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 20)
    box.evaluate("box => box.scrollTop = 0")
    view.get_by_role("button", name="Follow the end").wait_for()
    with run.log.open("a") as log:
        log.write("one more\n")
    view.get_by_text("one more").wait_for(state="attached")
    assert box.evaluate("box => box.scrollTop") < 100
    view.get_by_role("button", name="Follow the end").click()
    until(lambda: box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight") < 20)


# Queue, runs, comparison


@needs_browser
def test_the_queue_is_reordered_paused_and_emptied(server: Server, show: Show) -> None:
    for name in ("first", "second", "third"):
        folder = RunFolder.create(server.settings.runs, Config.model_validate({"output": {"name": name}}))
        with server.jobs.queue.change() as waiting:
            waiting.add(folder.path.name)
    view = show(RUNS)

    def names() -> list[str]:
        return texts(view, ".lk-queue .lk-link")

    view.get_by_role("button", name="Later: first").click()
    until(lambda: names() == ["second", "first", "third"])
    view.locator(".lk-item", has_text="third").drag_to(view.locator(".lk-item", has_text="second"))
    until(lambda: names() == ["third", "second", "first"])
    view.get_by_role("button", name="Pause the queue").click()
    view.get_by_text("The queue is paused").wait_for()
    assert server.jobs.waiting()["paused"]
    view.locator(".lk-item", has_text="third").get_by_role("button", name="Start at").click()
    view.get_by_label("Start third at").fill("2099-01-31T03:00")
    view.get_by_text("31, 2099").wait_for()
    assert list(server.jobs.waiting()["at"].values()) == [datetime(2099, 1, 31, 3).timestamp()]
    view.get_by_role("button", name="Cancel first").click()
    until(lambda: names() == ["third", "second"])


@needs_browser
def test_runs_are_searched_noted_duplicated_and_thrown_away(server: Server, show: Show) -> None:
    server.jobs.pause(True)
    for name in ("anna", "berta"):
        record(server.settings.runs, name=name, epochs=1).event("done", step=40, files=[])
    view = show(RUNS, width=390)
    until(lambda: sorted(texts(view, ".lk-runs .lk-link")) == ["anna", "berta"])
    view.get_by_label("Search runs").fill("bert")
    until(lambda: texts(view, ".lk-runs .lk-link") == ["berta"])
    view.locator(".lk-runs .lk-link").click()
    view.get_by_label("Notes").fill("too <b>strong</b>")
    view.get_by_role("button", name="All runs").click()
    view.get_by_text("too <b>strong</b>").wait_for()

    view.locator(".lk-runs").get_by_role("button", name="Duplicate").click()
    view.get_by_label("Epoch", exact=True).fill("none")
    view.get_by_role("button", name="Train", exact=True).click()
    view.locator("dialog [role=alert]", has_text='Epoch: "none" is not possible here').wait_for()
    view.get_by_label("Epoch", exact=True).fill("4")
    view.get_by_role("button", name="Change another setting").click()
    view.get_by_label("Another setting").fill("Shuffle caption")
    view.get_by_label("Its value").fill("on")
    view.get_by_role("button", name="Train", exact=True).click()
    until(lambda: len(server.jobs.waiting()["order"]) == 1)
    config = server.jobs.runs.folder(server.jobs.waiting()["order"][0]).config()
    assert (config.output.name, config.train.epochs, config.captions.shuffle) == ("berta", 4, True)

    view.get_by_role("button", name="Move berta to the trash").click()
    view.get_by_text("To have it back").wait_for()
    assert [path.name[-5:] for path in (server.settings.data_dir / "trash").iterdir()] == ["berta"]
    assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")


@needs_browser
def test_a_note_is_there_although_the_list_was_not_read_yet(server: Server, show: Show) -> None:
    run = record(server.settings.runs, epochs=1)
    server.jobs.note(run.path.name, "too strong")
    view = show(RUNS)
    view.locator(".lk-runs .lk-link").wait_for()
    view.locator("likeness-runs").evaluate("(runs, id) => { runs.lines = []; runs.open(id) }", run.path.name)
    until(lambda: view.get_by_label("Notes").input_value() == "too strong")
    view.get_by_label("Notes").fill("too strong, less")
    view.get_by_role("button", name="All runs").click()
    until(lambda: server.jobs.detail(run.path.name)["note"] == "too strong, less")


@needs_browser
def test_two_runs_side_by_side(server: Server, show: Show) -> None:
    record(server.settings.runs, name="anna", epochs=2)
    changes = {"data": {"buckets": None}, "optimizer": {"type": "adamw8bit"}}
    record(server.settings.runs, name="berta", epochs=3, network={"rank": 64}, **changes)
    view = show(RUNS)
    for name in ("anna", "berta"):
        view.get_by_label(f"Compare {name}").check()
    view.get_by_role("button", name="Compare 2 runs").click()
    view.locator("likeness-compare .lk-table").wait_for()
    rows = {row[0]: row[1:] for row in view.locator("likeness-compare .lk-table tr").evaluate_all(
        "rows => rows.map(row => [...row.children].map(cell => cell.textContent))")}  # fmt: skip
    names = rows["What differs"]
    assert sorted(zip(names, rows["Network Rank (Dimension)"], strict=True)) == [("anna", "16"), ("berta", "64")]
    assert sorted(rows["Enable buckets"]) == ["off", "on"] and sorted(rows["Optimizer"]) == ["AdamW", "AdamW8bit"]
    assert rows.keys() == {
        *("What differs", "State", "Model output name", "Network Rank (Dimension)", "Optimizer", "Notes"),
        *("Enable buckets", "Minimum bucket resolution", "Maximum bucket resolution", "Bucket resolution steps"),
        "Don't upscale bucket resolution",
    }
    assert view.get_by_role("rowheader", name="Optimizer").get_attribute("title") == "optimizer.type"
    ids = sorted(line["id"] for line in server.jobs.lines())
    board = parse_qs(urlparse(view.get_by_role("link", name="TensorBoard").get_attribute("href")).query)
    assert all(re.search(board["runFilter"][0], f"{run}/tb") for run in ids)
    assert not re.search(board["runFilter"][0], "another/tb")
    lines = view.locator("likeness-compare path.lk-smooth")
    assert lines.count() == 2
    assert len(set(lines.evaluate_all("lines => lines.map(line => getComputedStyle(line).stroke)"))) == 2
    assert texts(view, ".lk-samples thead th") == ["Prompt", *names]
    view.get_by_label("Which samples").select_option("3")
    until(lambda: view.locator(".lk-thumb").count() == 2)  # only berta has come so far


@needs_browser
def test_a_file_is_replaced_only_when_that_one_was_asked_about(server: Server, show: Show, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "set.json").write_text("{}")
    view = show("")
    view.evaluate(
        """async ([script, start]) => {
            const { choose } = await import(script)
            const wish = { title: 'Save as', kind: 'save', ends: ['.json'], start, name: 'set.json' }
            choose(wish).then(path => { window.saved = path })
        }""",
        [f"{server.address}static/browse.js", str(tmp_path / "one")],
    )
    save, told = view.get_by_role("button", name="Save", exact=True), view.locator("dialog .refused")
    view.locator(".entry", has_text="set.json").wait_for()
    save.click()
    told.wait_for()
    view.get_by_label("Path").fill(str(tmp_path / "two"))
    view.keyboard.press("Enter")
    told.wait_for(state="hidden")
    save.click()
    told.wait_for()
    assert told.text_content() == "set.json is there already: press Save again to replace it."
    save.click()
    view.wait_for_function("window.saved")
    assert view.evaluate("window.saved") == str(tmp_path / "two" / "set.json")


# Pictures from the browser


@needs_browser
def test_dropped_pictures_become_a_folder(server: Server, show: Show, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b.png", "notes.doc")]
    for place, file in enumerate(files[:2]):
        Image.new("RGB", (64, 64), (90 * place, 20, 200)).save(file)
    files[2].write_text("nothing")
    view = show('<likeness-drop into="#into" trigger="#trigger"></likeness-drop>')
    view.locator("input[type=file]").first.set_input_files(files)
    view.get_by_text("2 pictures uploaded.").wait_for()
    view.get_by_text("1 file left out").wait_for()
    images = Path(view.locator("#into").input_value())
    assert sorted(path.name for path in (images / "1_zk9").iterdir()) == ["a.png", "b.png"]


@needs_browser
def test_an_upload_that_a_proxy_refuses_is_told(server: Server, show: Show, tmp_path: Path) -> None:
    (tmp_path / "many.zip").write_bytes(b"PK")
    view = show('<likeness-drop into="#into"></likeness-drop>')
    view.route("**/api/upload", lambda route: route.fulfill(status=413, content_type="text/html", body="<h1>413</h1>"))
    view.locator("input[type=file]").first.set_input_files(tmp_path / "many.zip")
    view.get_by_text("The server answered 413. A proxy on the way limits uploads").wait_for()
    assert view.get_by_role("button", name="Cancel").is_hidden()
