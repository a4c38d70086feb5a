"""The run folder: what a reader sees at any moment, and that two engines cannot share one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from trainer.config import Config, Output
from trainer.durable import read_json, write_json
from trainer.runfolder import RunError, RunFolder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, Config(output=Output(name="zk9")))


def engine(folder: RunFolder, work: str) -> subprocess.Popen[bytes]:
    """Another process that owns the folder, says so, and does some work."""
    code = f"""
import sys, time
from pathlib import Path
from trainer.runfolder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
with folder.owned():
    folder.event("start", step=0)
    print("mine", flush=True)
    {work}
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(folder.path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"mine\n"
    process.stdout.close()
    return process


def test_a_new_folder_is_named_by_time_and_holds_the_config(tmp_path: Path) -> None:
    config = Config(output=Output(name="zk9"), seed=7)
    made = [RunFolder.create(tmp_path / "runs", config) for _ in range(3)]
    stems = {folder.path.name.removesuffix(f"-{count}") for count, folder in enumerate(made, 1)}
    assert len({folder.path for folder in made}) == 3
    for stem in stems:
        time.strptime(stem, "%Y-%m-%d_%H%M_zk9")
    assert made[2].config() == config
    assert made[0].state() == "queued"


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.json; choose a folder inside runs/"):
        RunFolder(tmp_path).config()
    with pytest.raises(RunError, match="not a run folder"), RunFolder(tmp_path / "typo").owned():
        pass
    assert list(tmp_path.iterdir()) == []


def test_events_come_back_in_order_and_numbers_stay_json(folder: RunFolder) -> None:
    folder.event("step", step=1, loss=0.1 + 0.2, lr={"unet": 1e-4})
    folder.event("step", step=2, loss=float("nan"), lr={"unet": float("inf")})
    first, second = folder.events()
    assert (first["kind"], first["step"], first["loss"], first["lr"]) == ("step", 1, 0.1 + 0.2, {"unet": 1e-4})
    assert abs(first["time"] - time.time()) < 60
    assert (second["loss"], second["lr"]) == (None, {"unet": None})


def test_a_torn_line_is_left_out_and_the_next_event_starts_its_own(folder: RunFolder) -> None:
    folder.event("step", step=1)
    lines = folder.path / "events.jsonl"
    lines.write_bytes(lines.read_bytes() + b'{"kind": "step", "st')
    assert [event["step"] for event in folder.events()] == [1]
    RunFolder(folder.path).event("step", step=3)
    assert [event["step"] for event in folder.events()] == [1, 3]


def test_every_prefix_of_the_events_can_be_read(folder: RunFolder) -> None:
    for step in range(3):
        folder.event("step", step=step, text="ü\n\u2028")
    lines = folder.path / "events.jsonl"
    data = lines.read_bytes()
    for end in range(len(data) + 1):
        lines.write_bytes(data[:end])
        assert [event["step"] for event in folder.events()] == list(range(data[:end].count(b"\n")))


def test_a_reader_goes_on_where_it_stopped(folder: RunFolder) -> None:
    assert folder.tail(0) == ([], 0)
    folder.event("step", step=1)
    events, place = folder.tail(0)
    with open(folder.path / "events.jsonl", "ab") as file:
        file.write(b'{"kind": "step", ')
        file.flush()
        assert folder.tail(place) == ([], place)
        file.write(b'"step": 2}\n')
    assert [event["step"] for event in events] == [1]
    assert [event["step"] for event in folder.tail(place)[0]] == [2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_said_once_and_training_goes_on(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.path / "events.jsonl").symlink_to("/dev/full")
    for step in range(3):
        folder.event("step", step=step)
    assert capsys.readouterr().err.count("No space left on device") == 1
    (folder.path / "events.jsonl").unlink()
    folder.event("step", step=3)  # there is room again
    assert [event["step"] for event in folder.events()] == [3]


def test_commands_are_taken_once_and_stop_outranks(folder: RunFolder) -> None:
    assert folder.take_command() is None
    for command in ("sample", "save"):
        folder.send(command)
    assert [folder.take_command() for _ in range(3)] == ["save", "sample", None]
    for command in ("sample", "pause", "stop", "stop"):
        folder.send(command)
    assert [folder.take_command() for _ in range(2)] == ["stop", None]


def test_looking_for_commands_costs_next_to_nothing(folder: RunFolder) -> None:
    start = time.thread_time()
    for _ in range(1000):
        folder.take_command()
    assert time.thread_time() - start < 0.5  # a millisecond would be felt at 20 steps a second; measured: 0.01


def test_wishes_meant_for_an_earlier_engine_are_forgotten(folder: RunFolder) -> None:
    folder.send("stop")
    os.utime(folder.path / "control" / "stop", (time.time() - 1e6,) * 2)
    folder.send("sample")
    with folder.owned():
        assert [folder.take_command() for _ in range(2)] == ["sample", None]


def test_two_engines_cannot_own_one_folder(folder: RunFolder) -> None:
    other = engine(folder, "time.sleep(60)")
    try:
        with pytest.raises(RunError, match="an engine works here already"), folder.owned():
            pass
        assert folder.state() == "running"
        assert read_json(folder.path / "pid.json")["pid"] == other.pid  # the loser has left no trace
    finally:
        other.kill()
    while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert folder.state() == "interrupted"  # dead, though nobody has waited for it
    other.wait()
    assert folder.state() == "interrupted"
    with folder.owned(), pytest.raises(RunError), RunFolder(folder.path).owned():
        pass


def test_the_state_follows_from_the_files(folder: RunFolder) -> None:
    assert folder.state() == "queued"
    with folder.owned():
        folder.event("start", step=0)
        assert folder.state() == "running"
    assert folder.state() == "interrupted"
    for kind in ("stopped", "done", "error"):
        folder.event("start", step=0)
        for step in range(500):
            folder.event("step", step=step, filler="x" * 200)
        folder.event(kind)
        folder.event("warning", text="after the end")
        assert folder.state() == kind
    folder.event("start", step=0)
    assert folder.state() == "interrupted"  # an older ending does not count
    for step in range(500):
        folder.event("step", step=step, filler="x" * 200)
    assert folder.state() == "interrupted"  # nor does it when it is too far back to be seen


def test_an_attempt_that_died_before_it_spoke_has_not_the_ending_of_the_one_before(folder: RunFolder) -> None:
    with folder.owned():
        folder.event("start", step=0)
        folder.event("stopped", step=3, reason="stop")
    assert folder.state() == "stopped"
    folder.write_pid(events=folder.size(), ended=1.0)  # went on with, and killed while the model was loaded
    assert folder.state() == "interrupted"
    with folder.owned():
        folder.event("done", step=9, files=[])
    assert folder.state() == "done"


@pytest.mark.parametrize(
    "change", [{"started": -3600.0}, {"boot": "another"}, {"host": "another"}, {"command": ["vim"]}, {"pid": 2**22 + 5}]
)
def test_a_pid_that_now_belongs_to_another_process_is_not_alive(folder: RunFolder, change: dict[str, object]) -> None:
    folder.write_pid()
    assert folder.alive()
    write_json(folder.path / "pid.json", {**read_json(folder.path / "pid.json"), **change})
    assert not folder.alive()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": -1}'])
def test_a_broken_pid_file_means_not_alive(folder: RunFolder, text: str) -> None:
    (folder.path / "pid.json").write_text(text)
    assert not folder.alive()
    assert folder.state() == "interrupted"


def test_leftovers_of_a_killed_engine_are_swept(folder: RunFolder) -> None:
    part = "(folder.checkpoints / 'a.safetensors.0a1b2c3d.part').touch()"
    other = engine(folder, f"{part}; (folder.states / '.tmp-1').mkdir(); time.sleep(60)")
    while not (folder.states / ".tmp-1").exists():
        time.sleep(0.01)
    other.send_signal(signal.SIGKILL)
    other.wait()
    with folder.owned():
        assert not list(folder.checkpoints.iterdir()) and not list(folder.states.iterdir())


def test_the_pid_file_names_this_process(folder: RunFolder) -> None:
    with folder.owned():
        told = json.loads((folder.path / "pid.json").read_text())
        assert told["pid"] == os.getpid()
        assert told["command"] == psutil.Process().cmdline()
        assert {"started", "boot", "host"} <= told.keys()
    assert not folder.alive()  # this process goes on, the engine in it has ended
