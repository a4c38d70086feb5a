"""Tools as jobs: their forms, their start, what they tell while they run, and how they end."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.pictures import draw_folder
from tests.serving import Quiet, serving
from tests.waiting import PATIENCE, until
from trainer import jobs as engine
from trainer.config.parts import Part
from trainer.errors import InputError
from trainer.jobs import JOBS, Job, Progress
from trainer.runfolder import RunFolder
from webui import api, machine, process, runs, toolapi
from webui.fields import fields_of
from webui.jobs import Conflict, Jobs
from webui.settings import Settings
from webui.toolform import LAYOUT, WHEN, form_of, options_of

Tree = dict[str, Any]
BUTTONS = {"folders.dedupe": ("apply", "undo")}  # options that are buttons beside a report


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setattr(machine, "gpus", lambda: [])
    data = tmp_path / "data"
    made = Jobs(Settings("127.0.0.1", 0, data, data / "runs", (), (tmp_path / "pictures",)), watch=False)
    yield made
    made.close()
    for run in made.runs.ids():
        process.kill(RunFolder(made.runs.root / run))
    for _, child in made._children:
        child.wait()


@pytest.fixture
def client(jobs: Jobs) -> TestClient:
    return TestClient(Starlette(routes=[*api.routes(jobs.settings, jobs), *toolapi.routes(jobs.settings, jobs)]))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "pictures", {"10_zk9": 3}) / "10_zk9"


def ended(jobs: Jobs, run: str) -> Tree:
    """The line of a run that has ended."""
    return until(lambda: (line := jobs.line(run))["state"] not in ("running", "queued") and line)


# Forms


@pytest.mark.parametrize("name", LAYOUT)
def test_each_option_stands_in_the_form_once(name: str) -> None:
    placed = [option for group in LAYOUT[name].values() for option in group]
    assert sorted([*placed, *BUTTONS.get(name, ())]) == sorted(fields_of(JOBS[name].options))
    for option, (other, values) in WHEN.get(name, {}).items():
        known = fields_of(JOBS[name].options)
        assert option in known and (
            not known[other].choices or set(values) <= {word for word, _ in known[other].choices}
        )


@pytest.mark.parametrize("name", LAYOUT)
def test_a_form_read_back_is_the_defaults(name: str, jobs: Jobs) -> None:
    values = form_of(jobs.settings, name)["values"]
    part = JOBS[name].options
    required = {option: f"http://{option}/v1" for option, field in part.model_fields.items() if field.is_required()}
    required |= {"caption.basic": {"prefix": "zk9 "}, "reg.make": {"words": "woman"}}.get(name, {})
    options = options_of(name, values | required)
    several = {option: [path] for option, path in required.items() if isinstance(options[option], list)}
    assert part.model_validate(options) == part.model_validate(required | several)


def test_a_job_without_a_form_says_so(client: TestClient) -> None:
    answer = client.get("/api/tools/models.get")
    assert (answer.status_code, answer.json()["error"].split(";")[0]) == (400, "job: models.get has no form")


def test_sizes_and_parts_that_are_off_are_read(jobs: Jobs) -> None:
    options = options_of("images.resize", {"folder": "/x", "sizes": "512x768; 768, 640x512", "buckets": False})
    assert options == {"folder": "/x", "sizes": ["512x768", "768", "640x512"], "buckets": None}
    options = options_of("images.resize", {"buckets": True, "buckets.step": "32"})
    assert options == {"buckets": {"step": 32}}


# Jobs


def test_a_tool_works_in_a_process_of_its_own_and_can_be_taken_back(
    client: TestClient, jobs: Jobs, pictures: Path
) -> None:
    before = (pictures / "0.txt").read_text()
    values = {"folder": str(pictures), "prefix": "zk9,", "overwrite": True}
    run = client.post("/api/tools/caption.basic", json={"values": values}).json()["id"]
    line = ended(jobs, run)
    assert (line["state"], line["job"], line["about"]["folder"]) == ("done", "caption.basic", str(pictures))
    assert line["progress"]["done"] == line["progress"]["total"] == 3
    assert line["about"]["summary"].startswith("3 captioned")
    assert (pictures / "0.txt").read_text() == f"zk9, {before.strip()}\n"

    report = client.get(f"/api/runs/{run}/file/report.json").json()
    assert report["captioned"] == 3 and report["snapshot"] and not report["problems"]
    undo = f"/api/runs/{run}/undo"
    assert client.post(undo, json={}).json() == {"files": 3, "undone": True}
    assert (pictures / "0.txt").read_text() == before and jobs.line(run)["undone"]
    assert client.post(undo, json={}).json() == {"files": 3, "undone": False}  # made again
    assert (pictures / "0.txt").read_text() == f"zk9, {before.strip()}\n" and not jobs.line(run)["undone"]
    (pictures / "1.txt").write_text("by hand")
    os.utime(pictures / "1.txt", (time.time() + 60, time.time() + 60))
    answer = client.post(undo, json={})
    assert answer.status_code == 409 and "1 of these files were changed since (1.txt)" in answer.json()["error"]
    assert (pictures / "1.txt").read_text() == "by hand"
    assert client.post(undo, json={"anyway": True}).json()["undone"] and (pictures / "0.txt").read_text() == before

    assert [line["id"] for line in client.get("/api/tools").json()] == [run]
    assert client.get("/api/runs").json() == []  # the trainings
    assert client.get("/api/tools/caption.basic").json()["values"]["prefix"] == "zk9,"


class Slow(Quiet):
    """A captioner that has an answer for the first picture, and lets the second wait until `goes_on` is set."""

    asked: ClassVar[list[bytes]] = []
    goes_on = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append(body)
        if len(self.asked) == 2:
            self.goes_on.wait(PATIENCE)
        answer = json.dumps({"choices": [{"message": {"content": f"answer {len(self.asked)}"}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def test_a_captioner_is_stopped_and_goes_on(client: TestClient, jobs: Jobs, tmp_path: Path) -> None:
    pictures = draw_folder(tmp_path / "pictures", {"10_zk9": 8}) / "10_zk9"
    files = [pictures / f"{number}.txt" for number in range(8)]
    before = [file.read_text() for file in files]
    answers = [f"answer {number}\n" for number in range(1, 9)]
    with serving(Slow) as address:
        values = {"folder": str(pictures), "url": f"{address}/v1", "batch": "1"}
        run = client.post("/api/tools/caption.endpoint", json={"values": values}).json()["id"]
        until(lambda: len(Slow.asked) == 2)
        with pytest.raises(Conflict, match="is at work on"):
            jobs.do("caption.endpoint", {"folder": str(pictures), "url": address})
        jobs.command(run, "stop")
        Slow.goes_on.set()
        assert ended(jobs, run)["state"] == "stopped"
        done = len(Slow.asked)
        assert done in (2, 3)  # the third may have been on its way when the stop came
        assert [file.read_text() for file in files] == answers[:done] + before[done:]
        jobs.resume(run)
        assert ended(jobs, run)["state"] == "done"
    assert [file.read_text() for file in files] == answers
    assert len(Slow.asked) == len(set(Slow.asked)) == 8  # what was done before is not done again


def test_what_is_wrong_is_said_before_anything_starts(
    client: TestClient, jobs: Jobs, pictures: Path, tmp_path: Path
) -> None:
    def refused(job: str, **values: Any) -> str:
        answer = client.post(f"/api/tools/{job}", json={"values": values})
        assert answer.status_code >= 400
        return answer.json()["error"]

    assert refused("caption.wd14", folder="").startswith("folder: ")
    assert "is not in a folder that the page may use" in refused("caption.wd14", folder=str(tmp_path))
    assert refused("caption.wd14", folder=str(pictures), threshold="much").startswith('threshold: "much"')
    assert refused("images.resize", folder=str(pictures), out="/etc/x").startswith("out: /etc/x is not in a folder")
    assert "is none" in refused("images.melt", folder=str(pictures))
    assert refused("images.resize", folder=str(pictures), melt=1).startswith("melt: no such option")
    assert not jobs.runs.ids()


def test_a_tool_that_fails_says_why(client: TestClient, jobs: Jobs, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "empty").mkdir()
    run = jobs.do("images.resize", {"folder": str(tmp_path / "pictures" / "empty" / "gone")})
    assert ended(jobs, run)["state"] == "error"
    assert "gone" in client.get(f"/api/runs/{run}").json()["error"]["text"]


def test_models_are_listed_and_one_that_is_not_known_is_refused(client: TestClient, jobs: Jobs) -> None:
    told = client.get("/api/models").json()
    assert {"yunet", "u2net"} <= {model["name"] for model in told["models"]} and told["folder"].endswith("models")
    run = client.post("/api/tools/models.get", json={"options": {"names": ["yunett"]}}).json()["id"]
    assert ended(jobs, run)["state"] == "error"
    assert "yunet" in client.get(f"/api/runs/{run}").json()["error"]["text"]


# In the queue


def test_what_wants_the_gpu_waits_for_a_training_and_what_does_not_never_waits(jobs: Jobs, pictures: Path) -> None:
    jobs.pause(True)
    waits = jobs.do("caption.wd14", {"folder": str(pictures), "model": ["nowhere"]})
    assert jobs.line(waits)["state"] == "queued" and jobs.line(waits)["place"] == 0
    goes = jobs.do("images.resize", {"folder": str(pictures), "sizes": ["64"]})
    assert ended(jobs, goes)["state"] == "done"
    assert jobs.command(waits, "cancel") == "cancelled"
    assert jobs.waiting()["running"] == [] and not jobs.lines()
    with pytest.raises(Conflict, match="no training"):
        jobs.again(goes, {})


# The engine's side


class Nothing(Part):
    """Options of a job that the tests make."""

    folder: str = "x"


class Told:
    """The report of a job that the tests make."""

    stopped = False

    def to_json(self) -> Tree:
        return {"told": 1}

    def summary(self) -> str:
        return "1 told"


def work(options: Nothing, tell: Callable[[int, int], None], should_stop: Callable[[], bool]) -> Told:
    """What the job of the tests does: it fails as its folder says."""
    if options.folder == "wrong":
        raise InputError("folder: it is wrong; choose another")
    if options.folder == "broken":
        raise RuntimeError("a screw is loose")
    assert not should_stop()
    tell(1, 1)
    return Told()


@pytest.mark.parametrize(("folder", "code", "kind"), [("x", 0, "done"), ("wrong", 2, "error"), ("broken", 1, "error")])
def test_how_a_job_ends(folder: str, code: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "JOBS", {"test": Job("Test", Nothing, f"{__name__}:work")})
    run = RunFolder.make(tmp_path, "test", {"job": "test", "options": {"folder": folder}})
    assert engine.run(run) == code and run.state() == kind
    assert run.events()[0]["kind"] == "start" and not run.checkpoints.exists()
    if code == 0:
        assert json.loads((run.path / "report.json").read_text()) == {"told": 1}
        assert [event["kind"] for event in run.events()] == ["start", "progress", "done"]
    if code == 1:
        assert "a screw is loose" in run.events()[-1]["text"] and "Traceback" in run.log.read_text()


def paint(
    options: Nothing,
    tell: Callable[[int, int], None],
    should_stop: Callable[[], bool],
    event: Callable[..., None],
) -> Told:
    """A job of the tests that tells events of its own, and is stopped meanwhile."""
    event("picture", file="a.png")
    RunFolder(Path(options.folder)).send("stop")
    told = Told()
    told.stopped = should_stop() and should_stop()  # a wish to stop lasts
    return told


def test_a_job_tells_events_of_its_own_and_its_stop_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "JOBS", {"test": Job("Test", Nothing, f"{__name__}:paint", events=True)})
    run = RunFolder.make(tmp_path, "test", {"job": "test"})
    (run.path / "config.json").write_text(json.dumps({"job": "test", "options": {"folder": str(run.path)}}))
    assert engine.run(run) == 0 and run.state() == "stopped"
    assert [event["kind"] for event in run.events()] == ["start", "picture", "stopped"]
    assert run.events()[1]["file"] == "a.png"


def test_every_job_has_its_tool() -> None:
    """A table entry that leads nowhere would be found only when it is run."""
    for job in JOBS.values():
        module, function = job.work.split(":")
        assert callable(getattr(import_module(module), function)), job.title


def test_progress_is_told_now_and_then_with_its_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, now = RunFolder.make(tmp_path, "test", {"job": "test"}), [100.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    progress = Progress(run)
    for done in range(101):
        progress.tell(done, 100)
        now[0] += 0.125
    told = [event for event in run.events() if event["kind"] == "progress"]
    assert len(told) == 26 and told[-1]["done"] == 100 and told[-1]["left_s"] == 0
    assert told[10]["rate"] == pytest.approx(8) and told[10]["left_s"] == pytest.approx(60 / 8)
    for done in range(0, 101, 10):  # the next thing, at ten times the pace
        progress.tell(done, 100)
        now[0] += 0.125
    anew = [event for event in run.events() if event["kind"] == "progress"][len(told) :]
    assert [event["rate"] for event in anew if event["rate"]] == pytest.approx([80] * (len(anew) - 1))


def test_the_time_left_is_told_though_each_step_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, now = RunFolder.make(tmp_path, "test", {"job": "test"}), [100.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    progress = Progress(run)
    for done in (0, 1, 2, 2, 3):  # one picture a minute, told once more between two
        progress.tell(done, 4)
        now[0] += 30 if done == 2 else 60
    told = [event for event in run.events() if event["kind"] == "progress"]
    assert [event["left_s"] for event in told] == pytest.approx([None, 180, 120, 120, 60])


def test_a_job_that_ends_while_one_looks_has_its_last_words(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.make(jobs.runs.root, "test", {"job": "images.resize", "options": {"folder": "/x"}})
    monkeypatch.setattr(runs, "stamp_of", lambda path: None)  # as if all of it happened within one look
    run.write_pid()
    assert (jobs.line(run.path.name)["state"], jobs.line(run.path.name)["about"]["summary"]) == ("running", None)
    run.event("done", summary="3 made.")
    run.write_pid(ended=1.0)
    line = jobs.line(run.path.name)
    assert (line["state"], line["about"]["summary"]) == ("done", "3 made.")
