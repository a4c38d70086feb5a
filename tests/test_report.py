"""What a training tells: read back by TensorBoard's own reader, by the page's, and from the terminal."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, TENSORS, EventAccumulator

from trainer.config import Config, Output
from trainer.report import Report
from trainer.runfolder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", Config(output=Output(name="zk9", logging=str(tmp_path / "logs"))))


def curves(place: Path) -> EventAccumulator:
    reader = EventAccumulator(str(place), {SCALARS: 0, IMAGES: 0, TENSORS: 0})
    reader.Reload()
    return reader


def curve(place: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, round(point.value, 6)) for point in curves(place).Scalars(tag)]


def kinds(folder: RunFolder) -> list[str]:
    return [event["kind"] for event in folder.events()]


def train(report: Report, first: int, last: int, per_epoch: int = 4) -> None:
    """Steps first..last, with a loss that follows from the step."""
    for step in range(first, last + 1):
        epoch = (step - 1) // per_epoch + 1
        report.step(step, loss=step / 8, rates={"unet": 1e-4, "text_encoder": 5e-5}, epoch=epoch, memory=1000)
        if step % per_epoch == 0:
            report.epoch(epoch)


def test_a_whole_training_is_told_in_events_and_curves(folder: RunFolder, tmp_path: Path) -> None:
    report = Report(folder)
    report.start(8, 2, 4, family="sd15", device="cpu", images=4, batches=4)
    train(report, 1, 8)
    report.validation(8, 0.5, 0.25)
    Image.new("RGB", (6, 3), "red").save(folder.samples / "a.png")
    report.sample(8, folder.samples / "a.png", "zk9 thing", seed=7)
    report.checkpoint(8, tmp_path / "out" / "zk9.safetensors")
    report.done([folder.checkpoints / "zk9.safetensors"])

    assert kinds(folder) == [
        "start",
        *["step"] * 4,
        "epoch",
        *["step"] * 4,
        "epoch",
        "validation",
        "sample",
        "checkpoint",
        "done",
    ]
    start, first, *_ = events = folder.events()
    assert (start["family"], start["device"], start["steps"], start["epochs"]) == ("sd15", "cpu", 8, 2)
    assert first["epoch"] == 1 and first["lr"] == {"unet": 1e-4, "text_encoder": 5e-5} and first["memory"] == 1000
    assert events[-3]["file"] == "samples/a.png" and events[-1]["files"] == ["checkpoints/zk9.safetensors"]
    assert events[-2]["file"] == str(tmp_path / "out" / "zk9.safetensors")
    assert all({"kind", "time", "step"} <= event.keys() for event in events)

    for place in (folder.tb, tmp_path / "logs" / folder.path.name / "network_train"):
        assert curve(place, "loss/current") == [(step, step / 8) for step in range(1, 9)]
        assert curve(place, "lr/unet") == [(step, 1e-4) for step in range(1, 9)]
        assert curve(place, "loss/epoch") == curve(place, "loss/epoch_average") == [(1, 0.3125), (2, 0.8125)]
        assert curve(place, "loss/validation") == [(8, 0.5)] and curve(place, "loss/validation_train") == [(8, 0.25)]
        tags = curves(place).Tags()
        assert set(tags["scalars"]) == {
            *(
                "loss/current",
                "loss/average",
                "loss/epoch",
                "loss/epoch_average",
                "loss/validation",
                "loss/validation_train",
            ),
            *("lr/unet", "lr/text_encoder"),
        }
        (picture,) = curves(place).Images("samples/00")
        assert (picture.width, picture.height, picture.step) == (6, 3, 8)
        assert picture.encoded_image_string == (folder.samples / "a.png").read_bytes()
        (text,) = curves(place).Tensors("config/text_summary")
        shown = text.tensor_proto.string_val[0].decode()
        assert json.loads(shown) == folder.config().model_dump(mode="json")


def test_the_logging_folder_is_named_as_sd_scripts_names_it(tmp_path: Path) -> None:
    output = Output(logging=str(tmp_path / "logs"), log_prefix="anna_", log_name="faces")
    folder = RunFolder.create(tmp_path / "runs", Config(output=output))
    report = Report(folder)
    report.start(4, 1, 4)
    train(report, 1, 4)
    report.done([])
    assert curve(tmp_path / "logs" / f"anna_{folder.path.name}" / "faces", "loss/current")[-1] == (4, 0.5)


def test_the_average_is_that_of_the_last_epoch_s_worth_of_steps(folder: RunFolder) -> None:
    report = Report(folder)
    report.start(8, 2, 4)
    train(report, 1, 8)
    averages = [event["average"] for event in folder.events() if event["kind"] == "step"]
    assert averages == [sum(range(max(1, n - 3), n + 1)) / 8 / min(n, 4) for n in range(1, 9)]


def test_after_a_crash_and_a_resume_no_point_is_there_twice(folder: RunFolder, tmp_path: Path) -> None:
    straight = RunFolder.create(tmp_path / "straight", Config())
    whole = Report(straight)
    whole.start(24, 6, 4)
    train(whole, 1, 24)
    whole.done([])

    report = Report(folder)
    report.start(24, 6, 4)
    train(report, 1, 6)
    kept = json.loads(json.dumps(report.kept()))  # the state of step 6
    train(report, 7, 19)
    report._boards[0].close()  # what a kill leaves behind, at best
    report = Report(folder)
    report.start(24, 6, 4, step=6, kept=kept)
    train(report, 7, 24)
    report.done([])

    for tag in ("loss/current", "loss/average", "lr/unet", "loss/epoch", "loss/epoch_average"):
        assert curve(folder.tb, tag) == curve(straight.tb, tag)
    assert [event["step"] for event in folder.events() if event["kind"] == "start"] == [0, 6]
    last = [event for event in folder.events() if event["kind"] == "step"][-1]
    assert (last["step"], last["average"]) == (24, sum(range(21, 25)) / 8 / 4)


def test_a_training_that_began_again_before_its_first_state_is_told_once(folder: RunFolder) -> None:
    for _ in range(2):
        report = Report(folder)
        report.start(24, 6, 4)
        train(report, 1, 9)
        report.stopped("stop")
    assert curve(folder.tb, "loss/current") == [(step, step / 8) for step in range(1, 10)]
    assert [step for step, _ in curve(folder.tb, "loss/epoch")] == [1, 2]


def test_a_loss_that_is_no_number_breaks_nothing(folder: RunFolder) -> None:
    report = Report(folder)
    report.start(2, 1, 2)
    report.step(1, math.nan, {"unet": 1e-4}, epoch=1)
    report.step(2, 0.5, {"unet": 1e-4}, epoch=1, scalars={"max_norm/keys_scaled": 3})
    report.error("loss is not a number at step 2", "lower the learning rate")
    assert [event.get("loss") for event in folder.events() if event["kind"] == "step"] == [None, 0.5]
    assert folder.events()[-1] == {**folder.events()[-1], "kind": "error", "remedy": "lower the learning rate"}
    assert curve(folder.tb, "max_norm/keys_scaled") == [(2, 3)]
    assert math.isnan(curves(folder.tb).Scalars("loss/current")[0].value)


def test_a_failing_tensorboard_disk_is_said_once_and_the_training_goes_on(
    folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    report = Report(folder)
    report.start(8, 2, 4)
    train(report, 1, 4)
    full = Path("/dev/full")
    if full.exists():  # and now the run folder's disk is full, too
        report._boards[0]._file = full.open("wb")
        report._boards[0]._flushed = -math.inf
    train(report, 5, 8)
    report.done([])
    warnings = [event["text"] for event in folder.events() if event["kind"] == "warning"]
    assert len(warnings) == 1 + full.exists()
    assert "logs" in warnings[0] and "Not a directory" in warnings[0] and "training goes on" in warnings[0]
    assert kinds(folder).count("step") == 8 and kinds(folder)[-1] == "done"
    assert "warning: " in capsys.readouterr().out


def test_messages_can_be_told_before_the_start(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(folder)
    report.warning("2 captions are empty")
    report.error("data.images: no such folder", "choose another")
    assert kinds(folder) == ["warning", "error"]
    assert "data.images: no such folder\nchoose another\n" in capsys.readouterr().err
    assert list(folder.tb.iterdir()) == []


def test_the_terminal_shows_the_line_that_users_of_sd_scripts_know(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(folder)
    report.start(8, 2, 4, step=2, kept={"losses": [0.125, 0.25]})
    train(report, 3, 8)
    report.done([])
    told = capsys.readouterr()
    last = told.err.rsplit("\r", 1)[-1]
    assert last.startswith("steps: 100%") and "8/8" in last and "avr_loss=0.812" in last
    assert "epoch 2/2: average loss 0.8125" in told.out


def test_the_time_left_follows_from_the_last_steps(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(folder)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    report.start(1000, 1, 1000)
    for step in range(1, 101):
        clock[0] += 10.0 if step < 40 else 0.5  # slow while caches fill, then two a second
        report.step(step, 1.0, {}, epoch=1)
    last = folder.events()[-1]
    assert last["rate"] == pytest.approx(2.0) and last["left_s"] == pytest.approx(450.0)


def test_a_step_costs_far_less_than_a_millisecond(folder: RunFolder) -> None:
    """A captured step takes 30 ms and more, a tiny one on the CPU 20: what is told must not show in it."""
    report = Report(folder)
    report.start(10_000, 1, 400)
    costs: list[float] = []
    for step in range(1, 601):
        start = time.thread_time()
        report.step(step, 0.5, {"unet": 1e-4, "text_encoder": 5e-5}, epoch=1, memory=1)
        costs.append(time.thread_time() - start)
    assert sorted(costs)[len(costs) // 2] < 1e-3  # measured: 0.2 ms


def test_facts_may_hold_what_json_can_hold(folder: RunFolder) -> None:
    facts: dict[str, Any] = {"buckets": [[[512, 768], 3]], "notes": None}
    Report(folder).start(1, 1, 1, **facts)
    assert folder.events()[0] == {**folder.events()[0], **facts}
