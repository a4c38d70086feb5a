"""What a training tells while it runs: events for the page, scalars for TensorBoard, a line in the terminal.

None of them can end a training: a full disk under any of the three is said once, and the steps go on.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from io import BufferedWriter
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyrefly: ignore[missing-module-attribute]
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # pyrefly: ignore[missing-module-attribute]
from tensorboard.compat.proto.tensor_pb2 import TensorProto  # pyrefly: ignore[missing-module-attribute]
from tensorboard.compat.proto.types_pb2 import DT_STRING  # pyrefly: ignore[missing-module-attribute]
from tensorboard.summary.writer.record_writer import RecordWriter
from tqdm import tqdm

from trainer.runfolder import RunFolder

Kept = dict[str, Any]
WINDOW = 50  # steps over which the rate is measured
FLUSH = 5.0  # seconds between flushes of the event files
_numbers = itertools.count()


class Report:
    """Tells one training. Before `start` only messages can be told."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.step_now = 0
        self.steps = self.epochs = 0
        self._losses: deque[float] = deque(maxlen=1)  # of the last epoch's worth of steps
        self._times: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._boards: list[Board] = []
        self._told_epochs: set[int] = set()
        self._noted: set[str] = set()
        self._bar: tqdm[Any] | None = None

    def start(
        self,
        steps: int,
        epochs: int,
        per_epoch: int,
        step: int = 0,
        kept: Kept | None = None,
        **facts: Any,
    ) -> None:
        """Begins, or goes on after `step` with what `kept` gave.

        `per_epoch` is steps an epoch; `facts` (family, device, images, batches) go into the event.
        """
        config = self.folder.config()
        self.steps, self.epochs, self.step_now = steps, epochs, step
        self._losses = deque((kept or {}).get("losses", ()), maxlen=per_epoch)
        events = self.folder.events() if step else []
        self._told_epochs = {event["epoch"] for event in events if event["kind"] == "epoch" and event["epoch"] <= step}
        self.folder.event("start", step=step, steps=steps, epochs=epochs, **facts)

        places = [self.folder.tb]
        output = config.output
        if output.logging:
            run = f"{output.log_prefix}{self.folder.path.name}"
            places.append(Path(output.logging) / run / (output.log_name or "network_train"))
        self._boards = [Board(place, step + 1) for place in places]
        self._write(0, [_text("config", config.model_dump(mode="json"))] if step == 0 else [])
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(
            total=steps,
            initial=step,
            desc="steps",
            smoothing=0,
            mininterval=5 if quiet else 0.1,
            dynamic_ncols=not quiet,
        )
        self._times.append((time.monotonic(), step))

    def kept(self) -> Kept:
        """What `start` needs to go on with the same averages: JSON for the state."""
        return {"losses": list(self._losses)}

    def cached(self, pictures: int, seconds: float) -> None:
        """Latents that are at hand, and how long it took to find or make them."""
        self.folder.event("cached", pictures=pictures, seconds=seconds)

    def step(
        self,
        step: int,
        loss: float,
        rates: Mapping[str, float],
        epoch: int,
        memory: int | None = None,
        scalars: Mapping[str, float] | None = None,
    ) -> None:
        """One finished step, counted from 1: `epoch` from 1, `rates` by part, `memory` in bytes, `scalars` by tag.

        Numbers must be Python's: a tensor would make the step wait for the device.
        """
        self.step_now = step
        self._losses.append(loss)
        average = sum(self._losses) / len(self._losses)
        rate, left = self._speed(step)
        lr = dict(rates)
        facts = {"loss": loss, "average": average, "lr": lr, "rate": rate, "left_s": left, "memory": memory}
        self.folder.event("step", step=step, epoch=epoch, **facts)
        values = {"loss/current": loss, "loss/average": average, **{f"lr/{part}": value for part, value in lr.items()}}
        self._scalars(step, {**values, **(scalars or {})})
        if self._bar is not None:
            with contextlib.suppress(OSError):  # stdout.log may lie on a full disk
                self._bar.set_postfix(avr_loss=average, refresh=False)
                self._bar.update(step - self._bar.n)

    def epoch(self, epoch: int) -> None:
        """The end of an epoch, counted from 1: the mean loss over its steps."""
        average = sum(self._losses) / max(1, len(self._losses))
        self.folder.event("epoch", step=self.step_now, epoch=epoch, loss=average)
        self.say(f"epoch {epoch}/{self.epochs}: average loss {average:.4f}")
        if epoch not in self._told_epochs:  # epochs count in other units than steps, so a resume does not purge them
            self._scalars(epoch, {"loss/epoch": average, "loss/epoch_average": average}, flush=True)

    def validation(self, step: int, loss: float, train_loss: float | None = None) -> None:
        """Loss on held-out pictures, and on some that are trained, at the same noise and timesteps."""
        self.folder.event("validation", step=step, loss=loss, train_loss=train_loss)
        gap = {} if train_loss is None else {"loss/validation_train": train_loss}
        self._scalars(step, {"loss/validation": loss, **gap})

    def sample(self, step: int, file: Path, prompt: str, seed: int, index: int = 0) -> None:
        """A sample picture; `index` is its prompt's place in the list."""
        self.folder.event("sample", step=step, file=self._short(file), prompt=prompt, seed=seed, index=index)
        try:
            with Image.open(file) as picture:
                size = picture.size
            self._write(step, [_picture(f"samples/{index:02d}", file.read_bytes(), size)])
        except OSError as error:
            self.warning(f"{file}: not shown in TensorBoard ({error})")

    def checkpoint(self, step: int, file: Path, epoch: int | None = None) -> None:
        """A saved network; `epoch` when it is that of an epoch."""
        self.folder.event("checkpoint", step=step, file=self._short(file), epoch=epoch)
        self.say(f"saved checkpoint: {file}")

    def warning(self, text: str) -> None:
        """Something that the person should know; the training goes on."""
        if self.note(text):
            self.say(f"warning: {text}")

    def note(self, text: str) -> bool:
        """A warning for the page alone; before the first step each is told once, for `memory.fit` begins repeatedly."""
        if self.step_now == 0 and text in self._noted:
            return False
        self._noted.add(text)
        self.folder.event("warning", step=self.step_now, text=text)
        return True

    def error(self, text: str, remedy: str) -> None:
        """The end, by a failure."""
        self.folder.event("error", step=self.step_now, text=text, remedy=remedy)
        self._close()
        with contextlib.suppress(OSError):
            print(f"{text}\n{remedy}".strip(), file=sys.stderr)

    def score(self, step: int, epoch: int, row: Mapping[str, Any]) -> None:
        """What a comparison after an epoch found: a row as `trainer compare` has it."""
        self.folder.event("score", step=step, epoch=epoch, row=row)
        scores = {name: value for name, value in row["scores"].items() if row["values"].get(name)}
        said = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        self.say(f"epoch {epoch}/{self.epochs}: score {row['total']:.2f} ({said})")
        self._scalars(step, {f"compare/{name}": value for name, value in {"total": row["total"], **scores}.items()})

    def stopped(self, reason: str, text: str = "") -> None:
        """The end before the last step: on request (stop, pause), or early (turned), which `text` explains."""
        self.folder.event("stopped", step=self.step_now, reason=reason, **({"text": text} if text else {}))
        if text:
            self.say(text)
        self._close()

    def done(self, files: Sequence[Path]) -> None:
        """The end, at the last step."""
        self.folder.event("done", step=self.step_now, files=[self._short(file) for file in files])
        self._close()

    def say(self, text: str) -> None:
        """A line in the terminal, above the bar."""
        with contextlib.suppress(OSError):
            tqdm.write(text)

    def _speed(self, step: int) -> tuple[float | None, float | None]:
        """Steps a second over the last ones, and seconds left."""
        now = time.monotonic()
        before, first = self._times[0] if self._times else (now, step)
        self._times.append((now, step))
        rate = (step - first) / (now - before) if now > before and step > first else None
        return rate, (self.steps - step) / rate if rate else None

    def _short(self, file: Path) -> str:
        """Path inside the run folder, or the whole path of a file elsewhere."""
        return file.relative_to(self.folder.path).as_posix() if file.is_relative_to(self.folder.path) else str(file)

    def _scalars(self, step: int, values: Mapping[str, float], flush: bool = False) -> None:
        self._write(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()], flush)

    def _write(self, step: int, values: list[Summary.Value], flush: bool = False) -> None:
        for board in list(self._boards):
            try:
                board.write(step, values, flush)
            except OSError as error:
                self._boards.remove(board)
                board.close()
                self.warning(f"{board.folder}: no more values for TensorBoard ({error.strerror}); training goes on")

    def _close(self) -> None:
        for board in self._boards:
            board.close()
        self._boards = []
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()


class Board:
    """A TensorBoard event file, opened at the first value and written without a thread.

    tensorboard's EventFileWriter writes from a thread, and there a full disk ends in a traceback that none can catch.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self.folder = folder
        self._first = first
        self._file: BufferedWriter | None = None
        self._flushed = 0.0

    def write(self, step: int, values: list[Summary.Value], flush: bool = False) -> None:
        """Adds values at a step; OSError when the disk fails."""
        file = self._file or self._open()
        _record(file, Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        if flush or time.monotonic() - self._flushed > FLUSH:
            file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left; a disk that fails now loses the last seconds of a curve."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def _open(self) -> BufferedWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers):06d}"
        self._file = file = (self.folder / name).open("xb")
        _record(file, Event(wall_time=time.time(), file_version="brain.Event:2"))
        # Readers drop what an earlier, killed process wrote at this step and after it.
        _record(file, Event(wall_time=time.time(), step=self._first, session_log=SessionLog(status=SessionLog.START)))
        return file


def _record(file: BufferedWriter, event: Event) -> None:
    RecordWriter(file).write(event.SerializeToString())


def _text(tag: str, value: Any) -> Summary.Value:
    """JSON for TensorBoard's text page, as a block of code."""
    block = "\n".join("    " + line for line in json.dumps(value, indent=2, ensure_ascii=False).splitlines())
    return Summary.Value(
        tag=f"{tag}/text_summary",
        metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
        tensor=TensorProto(dtype=DT_STRING, string_val=[block.encode("utf-8", "replace")]),
    )


def _picture(tag: str, data: bytes, size: tuple[int, int]) -> Summary.Value:
    """An encoded picture; `size` is width and height."""
    return Summary.Value(
        tag=tag, image=Summary.Image(width=size[0], height=size[1], colorspace=3, encoded_image_string=data)
    )
