"""Jobs and the queue: what starts, what is stopped, and what is known after the server was gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import until
from trainer.config import Config, Watch
from trainer.durable import read_json
from trainer.errors import InputError
from trainer.runfolder import RunFolder
from webui import jobs as jobs_module
from webui import machine, places, process
from webui.jobs import Conflict, Jobs
from webui.runs import MOST_STEPS, Missing, Runs, Story, thin
from webui.settings import Settings

FAKE = [sys.executable, str(Path(__file__).with_name("engine.py"))]
Make = Callable[..., Jobs]


def config(**wish: Any) -> Config:
    comment = " ".join(f"{name}={value}" for name, value in wish.items())
    return Config.model_validate({"output": {"name": "zk9", "comment": comment}})


def settings_in(folder: Path) -> Settings:
    return Settings("127.0.0.1", 0, folder, folder / "runs", (), (folder,))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes the jobs of a server; at the end no engine is left."""
    monkeypatch.setattr(process, "ENGINE", FAKE)
    monkeypatch.setattr(jobs_module, "TICK", 0.05)
    monkeypatch.setattr(machine, "gpus", lambda: [])
    made: list[Jobs] = []

    def go(watch: bool = True) -> Jobs:
        made.append(Jobs(settings_in(tmp_path), watch))
        return made[-1]

    yield go
    for jobs in made:
        jobs.close()
        for run in jobs.runs.ids():
            process.kill(RunFolder(jobs.runs.root / run))
    for jobs in made:
        for _, child in jobs._children:
            child.wait()


def state(jobs: Jobs, run: str) -> str:
    return jobs.line(run)["state"]


def has_stepped(jobs: Jobs, run: str) -> bool:
    return jobs.line(run)["progress"]["step"] > 0


def test_a_job_runs_to_its_end_and_is_reaped(make: Make) -> None:
    jobs = make()
    run = jobs.start(config(steps=4, holds=1))
    assert state(jobs, run) == "running"  # at once: before the engine has said anything
    pid = read_json(jobs.runs.root / run / "pid.json")["pid"]
    assert os.getpgid(pid) == pid != os.getpgid(0)
    jobs.command(run, "save")
    until(lambda: state(jobs, run) == "done")
    until(lambda: not psutil.pid_exists(pid))
    line = jobs.line(run)
    assert line["progress"] | {"step": 4, "steps": 4, "epoch": 1, "rate": None, "loss": 0.25} == line["progress"]
    assert (line["about"]["base"], line["about"]["epochs"], line["about"]["pictures"]) == ("pocket", 1, 2)
    assert [file["file"] for file in line["files"]] == ["checkpoints/zk9.safetensors"]
    assert f"home {jobs.settings.data_dir}" in (jobs.runs.root / run / "stdout.log").read_text()


def test_two_tabs_make_one_job(make: Make) -> None:
    jobs, other = make(), make()
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda server=server: found.append(server.start(config(steps=2, holds=1))))
        for server in [jobs, other] * 10
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and len(set(found)) == 1 and len(jobs.runs.ids()) == 1
    jobs.command(found[0], "save")
    until(lambda: state(jobs, found[0]) == "done")
    assert (jobs.runs.root / found[0] / "stdout.log").read_text().count("GPU") == 1


def test_the_same_press_is_the_same_job_for_good(make: Make) -> None:
    jobs = make(watch=False)
    jobs.pause(True)
    one = jobs.start(config(steps=1), press="a")
    assert jobs.start(config(steps=2), press="a") == one
    assert jobs.start(config(steps=1), press="b") == one  # it waits still
    jobs.command(one, "cancel")
    assert jobs.waiting()["order"] == []
    again = jobs.start(config(steps=1), press="a")  # cancelled, so it may be pressed once more
    assert jobs.waiting()["order"] == [again]
    jobs.start(config(steps=3))
    assert len(jobs.waiting()["order"]) == 2


def test_a_new_server_finds_the_job_and_can_stop_it(make: Make, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.test_jobs import *; machine.gpus = lambda: []\n"
        "process.ENGINE = FAKE; jobs = Jobs(settings_in(Path(sys.argv[1])))\n"
        "print(jobs.start(config(steps=1000, wait=0.05, imports=1)), flush=True); time.sleep(60)"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as server:
        assert server.stdout
        run = server.stdout.readline().strip()
        os.kill(server.pid, signal.SIGKILL)  # while the engine is still importing
    jobs = make()
    assert state(jobs, run) == "running"
    until(lambda: has_stepped(jobs, run))
    assert jobs.command(run, "stop") == "asked to stop"
    until(lambda: state(jobs, run) == "stopped")


def test_stop_asks_then_terminates_then_kills(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = make()
    run = jobs.start(config(steps=1000, wait=0.1, end="deaf"))
    until(lambda: has_stepped(jobs, run))
    monkeypatch.setattr(jobs_module, "ONE_PRESS", 3600)
    assert [jobs.command(run, "stop") for _ in range(2)] == ["asked to stop"] * 2  # a double click
    monkeypatch.setattr(jobs_module, "ONE_PRESS", 0)
    assert jobs.command(run, "stop") == "terminated" and jobs.line(run)["stops"] == 2
    time.sleep(0.25)
    assert state(jobs, run) == "running"
    assert jobs.command(run, "stop") == "killed"
    until(lambda: state(jobs, run) == "interrupted")
    until(lambda: (jobs.runs.root / run / "exit.json").exists())
    assert jobs.detail(run)["error"]["text"] == "The engine was killed (signal 9)"
    with pytest.raises(Conflict, match="interrupted, not running"):
        jobs.command(run, "stop")


def test_who_goes_on_in_a_terminal_is_asked_again_before_it_is_terminated(make: Make) -> None:
    jobs = make()
    run = jobs.start(config(steps=1000, wait=0.01))
    folder = RunFolder(jobs.runs.root / run)
    for is_first in (True, False):
        until(lambda: has_stepped(jobs, run))
        assert jobs.line(run)["stops"] == 0
        assert jobs.command(run, "stop") == "asked to stop" and jobs.line(run)["stops"] in (0, 1)
        until(lambda: state(jobs, run) == "stopped")
        if is_first:
            terminal = process.start(folder, folder.path)
    assert terminal.wait() == 0


def test_an_engine_is_known_although_its_command_line_comes_late(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real, early = psutil.Process.cmdline, iter([[], []])
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: next(early, None) or real(self))
    jobs = make(watch=False)
    run = jobs.start(config(steps=1000, wait=0.5))
    assert not list(early) and state(jobs, run) == "running"


def test_a_second_stop_ends_a_step_that_goes_on_and_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "ONE_PRESS", 0)
    monkeypatch.setattr(process, "AGAIN", 0.05)
    jobs = make()
    run = jobs.start(config(steps=1000, wait=3600))
    until(lambda: has_stepped(jobs, run))
    assert [jobs.command(run, "stop"), jobs.command(run, "stop")] == ["asked to stop", "terminated"]
    until(lambda: (jobs.runs.root / run / "exit.json").exists())
    assert state(jobs, run) == "interrupted"
    assert jobs.detail(run)["error"]["text"] == "The engine was ended without saving (signal 15)"


def test_how_an_engine_was_killed_is_known_at_once(make: Make) -> None:
    jobs = make(watch=False)
    run = jobs.start(config(steps=1000, wait=3600))
    engine = psutil.Process(read_json(jobs.runs.root / run / "pid.json")["pid"])
    engine.kill()
    until(lambda: engine.status() == psutil.STATUS_ZOMBIE)
    assert jobs.detail(run)["error"]["text"] == "The engine was killed (signal 9)"


def test_pause_and_resume_go_on_in_the_same_folder(make: Make) -> None:
    jobs = make()
    run = jobs.start(config(steps=12, holds=4))
    until(lambda: has_stepped(jobs, run))
    with pytest.raises(Conflict, match="is running and cannot be resumed"):
        jobs.command(run, "resume")
    jobs.command(run, "pause")
    until(lambda: state(jobs, run) == "stopped")
    assert jobs.command(run, "resume") == "resumed"
    assert state(jobs, run) == "running"
    until(lambda: state(jobs, run) == "done")
    steps = [event["step"] for event in RunFolder(jobs.runs.root / run).events() if event["kind"] == "step"]
    assert steps == list(range(1, 13))
    with pytest.raises(Conflict, match="done and cannot be resumed"):
        jobs.command(run, "resume")


def test_the_queue_goes_on_after_failures_one_at_a_time(make: Make) -> None:
    jobs = make()
    ends = ["done", "crash", "error", "done"]
    runs = [jobs.start(config(steps=2 + place, wait=0.05, end=end)) for place, end in enumerate(ends)]
    seen: list[int] = []

    def all_ended() -> bool:
        found = jobs.waiting()
        seen.append(len(found["running"]))
        return not found["order"] and not found["running"]

    until(all_ended)
    assert max(seen) == 1
    assert [state(jobs, run) for run in runs] == ["done", "interrupted", "error", "done"]
    until(lambda: jobs.detail(runs[1])["error"]["text"] == "The engine ended with exit code 7")
    assert jobs.detail(runs[2])["error"] == {"text": "“Image folder”: gone", "remedy": "Choose another"}
    started = [RunFolder(jobs.runs.root / run).events()[0]["time"] for run in runs]
    assert started == sorted(started)


def test_the_queue_is_kept_ordered_paused_and_timed_in_its_file(make: Make) -> None:
    jobs = make(watch=False)
    jobs.pause(True)
    one, two, three = (jobs.start(config(steps=steps, holds=holds)) for steps, holds in ((1, 0), (2, 1), (3, 1)))
    jobs.arrange([three, "gone", one])
    jobs.wish(two, at=time.time() + 3600)
    other = make(watch=False)
    found = other.waiting()
    assert found["order"] == [three, one, two] and found["paused"] and list(found["at"]) == [two]
    assert [other.line(run)["place"] for run in (one, two, three)] == [1, 2, 0]
    assert {line["state"] for line in other.lines()} == {"queued"}
    other.pause(False)
    assert state(other, three) == "running" and state(other, one) == state(other, two) == "queued"
    other.command(three, "save")
    # An engine that is done lives for a moment longer, and keeps its place meanwhile.
    until(lambda: state(other, three) == "done")
    until(lambda: other.advance() is None and state(other, one) == "done")
    until(lambda: other.advance() is None and other.waiting()["order"] == [two])
    other.wish(two, at=None)
    assert state(other, two) == "running"


def test_a_broken_queue_is_kept_beside_and_nothing_starts_by_itself(make: Make) -> None:
    jobs = make(watch=False)
    run = jobs.start(config(steps=1))
    until(lambda: state(jobs, run) == "done")
    (jobs.runs.root / "queue.json").write_text('{"order": 3')
    found = jobs.waiting()
    assert found["paused"] and "was broken and is kept as queue.broken-" in found["problem"]
    assert jobs.waiting()["problem"] == found["problem"]
    assert len(list(jobs.runs.root.glob("queue.broken-*.json"))) == 1
    jobs.pause(False)
    assert jobs.waiting()["problem"] is None


def test_interrupted_runs_wait_for_a_person(make: Make) -> None:
    jobs = make()
    run = jobs.start(config(steps=1000, wait=0.05))
    until(lambda: has_stepped(jobs, run))
    process.kill(RunFolder(jobs.runs.root / run))
    until(lambda: state(jobs, run) == "interrupted")
    time.sleep(0.3)
    assert state(make(), run) == "interrupted" and not jobs.waiting()["running"]


def gpu(index: int, free: int = 0) -> machine.Gpu:
    return {"index": index, "uuid": f"GPU-{index}", "name": "A", "memory_free": free}


def test_several_processes_get_a_gpu_each(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [gpu(0, free=1), gpu(1, free=9)])
    assert places.choose(None, {None, 0, 1}, 2) == [1, 0] and places.choose(0, {None, 0, 1}, 1) == [0]
    assert places.choose(None, {None, 0}, 2) == [] and places.choose(1, {None, 0}, 2) == []
    jobs, wish = make(), config(steps=2, holds=1)
    two = wish.model_copy(update={"train": wish.train.model_copy(update={"processes": 2})})
    both, alone = jobs.start(two), jobs.start(config(steps=2, holds=1, n=2))
    assert jobs.waiting()["running"] == [both] and jobs.waiting()["order"] == [alone]
    seen = psutil.Process(read_json(jobs.runs.root / both / "pid.json")["pid"]).environ()["CUDA_VISIBLE_DEVICES"]
    assert seen == "1,0" and places.several(jobs.runs, both) == [1, 0]
    jobs.command(both, "stop")
    until(lambda: state(jobs, alone) == "running")
    with pytest.raises(InputError, match=r"train\.processes: 3, .* 2 can be used: set it to 2"):
        places.check(Config.model_validate({"train": {"processes": 3}}))
    places.check(Config.model_validate({"train": {"processes": 3, "device": "cpu"}}))


def test_each_gpu_has_one_job(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [gpu(0, free=1), gpu(1, free=9)])
    jobs = make()
    wish = {"steps": 2, "holds": 1}
    any_one = jobs.start(config(**wish))
    second = jobs.start(config(**wish, n=2))
    on_one = jobs.start(config(**wish, n=3), gpu=1)
    on_cpu = jobs.start(
        config(**wish).model_copy(update={"train": Config().train.model_copy(update={"device": "cpu"})})
    )
    assert sorted(jobs.waiting()["running"]) == sorted([any_one, second, on_cpu])
    assert jobs.waiting()["order"] == [on_one]
    places = {run: process.gpu_of(RunFolder(jobs.runs.root / run)) for run in (any_one, second)}
    assert places == {any_one: 1, second: 0}  # the roomier first
    told = {run: jobs.line(run)["gpu"] for run in (any_one, second, on_one, on_cpu)}
    assert told == {**places, on_one: 1, on_cpu: None}
    assert (
        "CUDA_VISIBLE_DEVICES" not in psutil.Process(read_json(jobs.runs.root / on_cpu / "pid.json")["pid"]).environ()
        or "CUDA_VISIBLE_DEVICES" in os.environ
    )
    jobs.command(second, "stop")
    until(lambda: state(jobs, second) == "stopped")
    time.sleep(0.2)
    assert jobs.waiting()["order"] == [on_one]  # GPU 0 is free, and it waits for GPU 1
    jobs.command(any_one, "stop")
    until(lambda: state(jobs, on_one) == "running")
    with pytest.raises(InputError, match="gpu: 7 is not here; there are 0, 1"):
        jobs.start(config(), gpu=7)


def test_a_job_whose_gpu_is_gone_waits_and_says_so(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: [gpu(0)])
    jobs = make(watch=False)
    jobs.pause(True)
    run = jobs.start(config(steps=1), gpu=0)
    monkeypatch.setattr(machine, "gpus", lambda: [])
    jobs.pause(False)
    assert jobs.waiting()["problem"] == f"{run} waits for GPU 0, which is not here; choose another"
    jobs.wish(run, gpu=None)
    assert state(jobs, run) == "running"


def test_an_engine_that_cannot_start_pauses_the_queue(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ENGINE", ["/nowhere/python"])
    jobs = make()
    run = jobs.start(config(steps=1))
    found = jobs.waiting()
    assert found["paused"] and found["order"] == [run] and f"{run} could not be started" in found["problem"]
    monkeypatch.setattr(process, "ENGINE", FAKE)
    jobs.pause(False)
    until(lambda: state(jobs, run) == "done")


def test_again_changes_only_what_is_asked(make: Make) -> None:
    jobs = make(watch=False)
    jobs.pause(True)
    first = jobs.start(config(steps=1))
    second = jobs.again(first, {"optimizer.lr": 0.5, "optimizer.type": "prodigy", "output.name": "2024"})
    assert second.endswith("_2024")
    different = jobs.runs.compare([first, second])["different"]
    assert different["optimizer.lr"] == [1e-4, 0.5] and different["optimizer.type"][1] == "prodigy"
    assert different["output.name"] == ["zk9", "2024"]
    assert not [name for name in different if not name.startswith(("optimizer.", "output.name"))]
    with pytest.raises(InputError, match=r"network\.rnak: no such option; did you mean network\.rank"):
        jobs.again(first, {"network.rnak": 3})
    assert len(jobs.runs.ids()) == 2


def test_trash_keeps_everything_and_refuses_what_runs(make: Make) -> None:
    jobs = make()
    run = jobs.start(config(steps=2, holds=1))
    with pytest.raises(Conflict, match="running; stop it first"):
        jobs.trash(run)
    jobs.command(run, "stop")
    until(lambda: state(jobs, run) == "stopped")
    place = jobs.trash(run)
    assert place == jobs.settings.data_dir / "trash" / run and (place / "events.jsonl").is_file()
    assert jobs.lines() == []
    with pytest.raises(Missing, match="no such run"):
        jobs.line(run)


def test_cancel_takes_a_run_out_and_loses_no_result(make: Make) -> None:
    jobs = make()
    run = jobs.start(config(steps=40, holds=1))
    until(lambda: has_stepped(jobs, run))
    jobs.command(run, "pause")
    until(lambda: state(jobs, run) == "stopped")
    jobs.pause(True)
    jobs.command(run, "resume")
    fresh = jobs.start(config(steps=2))
    assert [state(jobs, run), state(jobs, fresh)] == ["queued"] * 2
    assert jobs.command(run, "cancel") == jobs.command(fresh, "cancel") == "cancelled"
    assert [line["id"] for line in jobs.lines()] == [run] and state(jobs, run) == "stopped"
    assert (jobs.settings.data_dir / "trash" / fresh / "config.json").is_file()
    with pytest.raises(Conflict, match="does not wait"):
        jobs.command(run, "cancel")


def test_a_stranger_with_the_same_number_is_never_ended(make: Make) -> None:
    jobs = make(watch=False)
    jobs.pause(True)
    run = jobs.start(config(steps=1))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        folder = RunFolder(jobs.runs.root / run)
        folder.write_pid()
        written = read_json(folder.path / "pid.json")
        (folder.path / "pid.json").write_text(json.dumps({**written, "pid": stranger.pid}))
        process.terminate(folder)
        process.kill(folder)
        assert stranger.poll() is None
        stranger.communicate(b"\n")
    assert stranger.returncode == 0
    assert state(jobs, run) == "queued" and jobs.runs.line(run)["state"] == "interrupted"


def test_a_real_training_by_the_real_engine(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ENGINE", [sys.executable, "-P", "-m", "trainer"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tree = {
        "data": {"resolution": 64, "buckets": None},
        "train": {"steps": 3, "epochs": None, "threads": 1},
        "output": {"name": "zk9"},
    }
    jobs = make()
    run = jobs.start(Config.model_validate(tree))
    until(lambda: state(jobs, run) != "running")
    found = jobs.detail(run)
    assert found["state"] == "done", (jobs.runs.root / run / "stdout.log").read_text()
    assert found["plan"]["steps"] == 3 and found["plan"]["family"] == "sd15" and found["about"]["pictures"] == 12
    assert [(file["file"], file["step"]) for file in found["checkpoints"]] == [("checkpoints/zk9.safetensors", 3)]
    assert found["checkpoints"][0]["size"] == (jobs.runs.root / run / "checkpoints/zk9.safetensors").stat().st_size
    assert found["progress"]["step"] == 3 and found["error"] is None
    assert "ended" in read_json(jobs.runs.root / run / "pid.json")


# Reading


def record(root: Path, name: str, steps: int, more: str = "") -> RunFolder:
    """A run that was: its events written at once."""
    folder = RunFolder.create(root, config())
    folder.path.rename(root / name)
    folder = RunFolder(root / name)
    start = {"kind": "start", "time": 1.0, "step": 0, "steps": steps, "epochs": 2, "family": "sd15", "images": 3}
    lines = [json.dumps(start)]
    for step in range(1, steps + 1):
        lines.append(json.dumps({"kind": "step", "time": 2.0, "step": step, "epoch": 1, "loss": step % 7 / 10 + 0.1}))
    (folder.path / "events.jsonl").write_text("\n".join(lines) + "\n" + more)
    folder.write_pid(ended=3.0)
    return folder


def test_hundreds_of_runs_are_listed_fast_and_truly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [record(tmp_path, f"run{number:03d}", 100) for number in range(100)]
    runs = Runs(tmp_path)
    lines = runs.lines()
    assert len(lines) == 100 and {line["progress"]["step"] for line in lines} == {100}
    read: list[Path] = []
    monkeypatch.setattr(RunFolder, "tail", lambda self, start: (read.append(self.path), ([], start))[1])
    assert runs.lines() == lines and read == []  # nothing has changed, so nothing is read
    monkeypatch.undo()
    folders[7].event("done", step=100, files=[])
    assert [line["id"] for line in runs.lines() if line["state"] == "done"] == ["run007"]


def test_the_start_is_found_behind_many_warnings(tmp_path: Path) -> None:
    folder = record(tmp_path, "a", 2)
    warnings = [
        json.dumps({"kind": "warning", "time": 0, "text": f"picture {number} " + "x" * 90}) for number in range(400)
    ]
    events = folder.path / "events.jsonl"
    events.write_text("\n".join(warnings) + "\n" + events.read_text() + "\n".join(warnings) + "\n")
    line = Runs(tmp_path).line("a")
    assert line["progress"]["steps"] == 2 and line["progress"]["step"] == 2 and line["about"]["pictures"] == 3


def test_a_long_curve_keeps_its_ends_its_spikes_and_all_else(tmp_path: Path) -> None:
    folder = record(tmp_path, "a", 30_000)
    story = Runs(tmp_path).story("a")
    steps = [event["step"] for event in thin(story.events) if event["kind"] == "step"]
    assert len(steps) <= MOST_STEPS and steps == sorted(steps) and (steps[0], steps[-1]) == (1, 30_000)
    events: list[dict[str, Any]] = [{"kind": "step", "step": step, "loss": 0.5} for step in range(10_000)]
    events[4321]["loss"], events[77]["loss"] = 9.0, None
    events.insert(5000, {"kind": "warning", "text": "hot"})
    kept = thin(events)
    assert {4321, 77} <= {event.get("step") for event in kept} and {"kind": "warning", "text": "hot"} in kept
    assert thin(events[:1000]) == events[:1000]
    assert folder.state() == "interrupted"


def test_a_curve_that_is_thinned_while_it_grows_stays_even(tmp_path: Path) -> None:
    folder = record(tmp_path, "a", 0)
    story = Story(folder)
    for begun in range(0, 20_000, 500):
        with open(folder.path / "events.jsonl", "a") as file:
            for step in range(begun + 1, begun + 501):
                file.write(json.dumps({"kind": "step", "time": 2.0, "step": step, "loss": step * 7919 % 1000}) + "\n")
        story.read_on()
    steps = [event["step"] for event in thin(story.events) if event["kind"] == "step"]
    counts = [sum(begun < step <= begun + 2000 for step in steps) for begun in range(0, 20_000, 2000)]
    assert len(steps) <= MOST_STEPS and min(counts) > 0.8 * max(counts), counts


def test_steps_that_are_done_again_after_a_resume_replace_the_first(tmp_path: Path) -> None:
    folder = record(tmp_path, "a", 10)
    story = Story(folder)
    story.read_on()
    folder.event("start", step=6, steps=10)
    folder.event("step", step=7, epoch=2, loss=0.01)
    folder.event("sample", step=7, file="samples/a.png", prompt="p", seed=1, index=0)
    new = story.read_on()
    assert [event["kind"] for event in new] == ["start", "step", "sample"] and new[-1]["epoch"] == 2
    assert [event["step"] for event in story.events if event["kind"] == "step"] == [1, 2, 3, 4, 5, 6, 7]


def test_a_run_is_only_a_folder_of_our_own(tmp_path: Path) -> None:
    record(tmp_path / "runs", "a", 1)
    record(tmp_path / "other", "b", 1)
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "other" / "b")
    runs = Runs(tmp_path / "runs")
    assert runs.ids() == ["a"]
    for name in ("link", "../other/b", "..", ".", "", "a/checkpoints", "gone", "a\0b"):
        with pytest.raises(Missing):
            runs.folder(name)


def test_visible_devices_limit_what_jobs_may_use() -> None:
    cards = [gpu(0), gpu(1), gpu(2)]
    seen: Callable[[str], list[int]] = lambda wish: [  # noqa: E731
        card["index"] for card in machine.visible(cards, {"CUDA_VISIBLE_DEVICES": wish})
    ]
    assert machine.visible(cards, {}) == cards
    assert seen("2,0") == [2, 0] and seen("GPU-1") == [1] and seen("0,7,1") == [0]
    assert seen("") == seen("-1") == []


class Driver(types.ModuleType):
    """Stands in for pynvml: a card for each compute capability; one that is None the driver cannot tell."""

    NVMLError, NVML_TEMPERATURE_GPU = RuntimeError, 0

    def __init__(self, *capabilities: tuple[int, int] | None) -> None:
        super().__init__("pynvml")
        self.capabilities = capabilities

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlDeviceGetCount(self) -> int:
        return len(self.capabilities)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA RTX A2000"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(total=8, used=3, free=5)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        if (found := self.capabilities[handle]) is None:
            raise self.NVMLError("not supported")
        return found

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        raise self.NVMLError("not supported")

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> types.SimpleNamespace:
        return types.SimpleNamespace(gpu=50)


def test_what_the_driver_tells_of_its_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Driver((7, 5), (8, 6), (12, 0), None))
    cards = machine._ask_driver()
    assert [card["bf16"] for card in cards] == [False, True, True, None]
    assert [card["index"] for card in cards] == [0, 1, 2, 3] and cards[0]["temperature"] is None
    assert (cards[3]["name"], cards[3]["memory_free"]) == ("NVIDIA RTX A2000", 5)


def test_this_machine_tells_itself(tmp_path: Path) -> None:
    found = machine.machine(tmp_path / "not" / "yet")
    assert found["disk_free"] > 0 and 0 < found["cpu"]["memory_free"] <= found["cpu"]["memory_total"]
    with contextlib.suppress(IndexError):
        assert found["gpus"][0]["memory_total"] > 2**30


# Afterwards


def afterwards(**wish: Any) -> Config:
    return config(**wish).model_copy(update={"compare": Watch(afterwards=True)})


def comparisons(jobs: Jobs) -> list[str]:
    """The runs that comparisons are of, the newest first."""
    return [Path(line["about"]["folder"]).name for line in jobs.tasks() if line["job"] == "compare.verdict"]


def test_the_best_file_is_looked_for_once_and_first(make: Make) -> None:
    jobs = make(watch=False)
    run = jobs.start(afterwards(steps=2, holds=1))
    jobs.pause(True)  # what comes of it shall wait
    later = jobs.start(config(steps=1))
    jobs.close()
    jobs = make(watch=False)  # the server was restarted meanwhile
    jobs.advance()
    assert comparisons(jobs) == []
    jobs.command(run, "save")
    until(lambda: state(jobs, run) == "done")
    other = make(watch=False)
    for server in (jobs, other, jobs):
        server.advance()
    assert comparisons(jobs) == [run]
    first, second = jobs.waiting()["order"]
    assert jobs.line(first)["job"] == "compare.verdict" and second == later


@pytest.mark.parametrize(("reason", "found"), [("turned", 1), ("stop", 0)])
def test_the_best_file_is_looked_for_after_an_early_end_alone(make: Make, reason: str, found: int) -> None:
    jobs = make(watch=False)
    run = jobs.start(afterwards(steps=9, holds=1))
    jobs.pause(True)
    until(lambda: has_stepped(jobs, run))
    if reason == "turned":
        jobs.runs.folder(run).event("stopped", step=1, reason="turned")
        process.kill(jobs.runs.folder(run))
    else:
        jobs.command(run, "stop")
    until(lambda: state(jobs, run) == "stopped")
    jobs.advance()
    assert len(comparisons(jobs)) == found and jobs.queue.read().then == []


def test_a_comparison_that_a_server_made_and_did_not_live_to_queue_is_taken(make: Make) -> None:
    jobs = make(watch=False)
    run = jobs.start(afterwards(steps=1))
    jobs.pause(True)
    until(lambda: state(jobs, run) == "done")
    options = {"folder": str(jobs.runs.folder(run).path)}
    RunFolder.make(jobs.runs.root, "verdict", {"job": "compare.verdict", "options": options})
    jobs.advance()
    assert comparisons(jobs) == [run] and len(jobs.waiting()["order"]) == 1
