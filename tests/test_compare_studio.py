"""The resident painter: one load for many requests, answers by files, and training comes first."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.lora_files import make_lora
from trainer import jobs
from trainer.compare import studio
from trainer.compare.options import Studio
from trainer.compare.painter import Painter
from trainer.durable import write_json
from trainer.families import load_family
from trainer.runfolder import RunFolder
from trainer.tools.report import Report

Ask = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(studio, "LOOK", 0.01)
    monkeypatch.setattr(studio, "LOOK_AT_RUNS", 0.0)


@pytest.fixture
def ask(bases: dict[str, Path], tmp_path: Path) -> Ask:
    base = {"base": str(bases["sd15"]), "prompt": "a cat", "size": 64, "steps": 1, "sampler": "Euler", "device": "cpu"}

    def write(name: str, tool: str = "sample", **options: Any) -> Path:
        (tmp_path / "desk" / "requests").mkdir(parents=True, exist_ok=True)
        file = tmp_path / "desk" / "requests" / f"{name}.json"
        write_json(file, {"tool": tool, "options": {**base, "out": str(tmp_path / name), **options}})
        time.sleep(0.01)  # the oldest comes first
        return file

    return write


def serve(tmp_path: Path, answers: int, busy: Any = lambda: None) -> tuple[Report, list[dict[str, Any]]]:
    """Until so many answers are there."""
    events: list[dict[str, Any]] = []

    def should_stop() -> bool:
        return len(list((tmp_path / "desk" / "answers").glob("*.json"))) >= answers

    report = studio.run(
        Studio(folder=str(tmp_path / "desk"), idle_minutes=1), should_stop=should_stop,
        event=lambda kind, **facts: events.append({"kind": kind, **facts}), busy=busy,
    )  # fmt: skip
    return report, events


def answer(tmp_path: Path, name: str) -> Any:
    return json.loads((tmp_path / "desk" / "answers" / f"{name}.json").read_text())


def test_one_load_for_many_requests(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = make_lora(tmp_path / "zk9.safetensors", "sd15")
    ask("first", seed=1)
    ask("worn", loras=[f"{lora}:0.5"])
    ask("wrong", steps=0)
    ask("axes", "grid", x={"kind": "seed", "values": ["1-2"]})
    (tmp_path / "desk" / "requests" / "broken.json").write_text("{")
    ask("tool", "paint")
    loads: list[str] = []

    def load(model: Any, *given: Any) -> Any:
        loads.append(model.base)
        return load_family(model, *given)

    monkeypatch.setattr("trainer.compare.painter.load_family", load)
    report, events = serve(tmp_path, 6)
    assert report.found["answered"] == 6 and len(loads) == 1
    assert [event["request"] for event in events if event["kind"] == "answer"][:3] == ["first", "worn", "wrong"]
    assert "steps" in answer(tmp_path, "wrong")["error"] and "no JSON" in answer(tmp_path, "broken")["error"]
    assert "there are sample, grid" in answer(tmp_path, "tool")["error"]
    assert answer(tmp_path, "axes")["report"]["cells"] == 2
    assert {event["request"] for event in events if event["kind"] in ("picture", "cell")} == {"first", "worn", "axes"}
    assert Path(answer(tmp_path, "worn")["report"]["files"][0]).is_file()
    assert not list((tmp_path / "desk" / "requests").iterdir())


def test_training_comes_first(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ask("three", count=3, seed=7)
    freed: list[Painter] = []
    real = Painter.free
    monkeypatch.setattr(Painter, "free", lambda self: freed.append(self) or real(self))
    looks = iter([None, None, "zk9", "zk9", "zk9"])  # asked once between requests, and at each step
    report, events = serve(tmp_path, 1, lambda: next(looks, None))
    assert [event["run"] for event in events if event["kind"] == "waiting"] == ["zk9"] and freed
    assert not file.exists() and report.found["answered"] == 1
    names = sorted(path.name for path in (tmp_path / "three").glob("*.png"))
    assert names == ["00001-7.png", "00002-8.png", "00003-9.png"]


def test_a_request_is_called_off_by_taking_it_away(ask: Ask, tmp_path: Path) -> None:
    file = ask("long", count=500)
    pictures: list[str] = []

    def event(kind: str, /, **facts: Any) -> None:
        pictures.append(kind)
        file.unlink(missing_ok=True)

    desk = studio.Desk(tmp_path / "desk", lambda *done: None, lambda: False, event, lambda: None)
    desk.answer(file)
    assert pictures == ["picture", "answer"] and answer(tmp_path, "long")["report"]["stopped"]
    assert desk.oldest() is None


def test_it_ends_when_nothing_is_asked_for(tmp_path: Path) -> None:
    report = studio.run(Studio(folder=str(tmp_path / "desk"), idle_minutes=0.001), busy=lambda: None)
    assert report.found["answered"] == 0 and not report.stopped


@pytest.mark.parametrize("job", [None, "compare.grid", "caption.wd14"])
def test_a_training_and_a_job_that_wants_the_gpu_come_first(job: str | None, tmp_path: Path) -> None:
    runs = tmp_path / "home" / "runs"
    assert studio.comes_first(runs) is None
    run = RunFolder.make(runs, "zk9", {"job": job, "options": {}} if job else {"model": {}})
    assert studio.comes_first(runs) is None  # it waits in the queue
    with run.owned():
        assert studio.comes_first(runs) == run.path.name
    assert studio.comes_first(runs) is None


@pytest.mark.parametrize("job", ["caption.basic", "compare.studio", "a tool of another version"])
def test_the_studio_and_jobs_without_a_gpu_come_after(job: str, tmp_path: Path) -> None:
    runs = tmp_path / "home" / "runs"
    with RunFolder.make(runs, "tool", {"job": job, "options": {}}).owned():
        assert studio.comes_first(runs) is None


def test_a_grid_that_begins_meanwhile_comes_first(ask: Ask, tmp_path: Path) -> None:
    """The pictures that are left are drawn when the grid has ended. The page has its runs elsewhere."""
    ask("two", count=2)
    runs, events = tmp_path / "elsewhere", list[tuple[str, Any]]()
    with contextlib.ExitStack() as grid:

        def event(kind: str, /, **facts: Any) -> None:
            if kind == "step":
                return
            events.append((kind, facts.get("run")))
            if len(events) == 1:
                run = RunFolder.make(runs, "grid", {"job": "compare.grid", "options": {}})
                grid.enter_context(run.owned())
            if kind == "waiting":
                grid.close()

        options = Studio(folder=str(tmp_path / "desk"), runs=str(runs), idle_minutes=1)
        studio.run(options, should_stop=lambda: (tmp_path / "desk" / "answers" / "two.json").exists(), event=event)
    assert [kind for kind, _ in events] == ["picture", "waiting", "picture", "answer"]
    assert events[1][1] == next(runs.iterdir()).name


def test_a_request_that_ends_the_painter_does_not_end_the_next(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> None:
        raise RuntimeError("no memory is left")

    file = ask("large")
    monkeypatch.setattr(Painter, "paint_batch", broken)
    with pytest.raises(RuntimeError, match="no memory"):
        serve(tmp_path, 1)
    assert answer(tmp_path, "large") == {"error": "RuntimeError: no memory is left"} and not file.exists()


def test_as_a_job_it_tells_its_pictures_and_is_stopped(ask: Ask, tmp_path: Path) -> None:
    ask("long", count=500)
    run = RunFolder.make(
        tmp_path / "home" / "runs", "studio", {"job": "compare.studio", "options": {"folder": str(tmp_path / "desk")}}
    )
    event = run.event

    def told(kind: str, /, **facts: Any) -> None:
        event(kind, **facts)
        if kind == "picture":
            run.send("stop")

    run.event = told
    assert jobs.run(run) == 0 and run.state() == "stopped"
    kinds = [event["kind"] for event in run.events()]
    assert kinds[0] == "start" and kinds[-1] == "stopped" and kinds.count("picture") == kinds.count("answer") == 1
