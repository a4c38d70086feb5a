"""Captioning a folder: open ahead, look, write. Every caption that changes is kept first, in one snapshot for the run.

Three things go on at once: threads open the next pictures, one thread lets the model look at a batch, and this one
writes the captions of the batch before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainer.ahead import ahead
from trainer.captioners.base import Captioner, Report, caption_of, find_pictures
from trainer.captioners.options import Captioning
from trainer.captioners.record import Record
from trainer.captioners.tags import split_tags
from trainer.data.folders import Problem, read_caption
from trainer.data.pictures import PictureError, plain
from trainer.durable import write_many
from trainer.snapshots import begin
from trainer.terminal import Stop, Tell, never, silent

Batch = list[tuple[Path, Any]]


def run(
    captioner: Captioner,
    options: Captioning,
    tell: Tell = silent,
    should_stop: Stop = never,
    listed: tuple[list[Path], list[Problem]] | None = None,
) -> Report:
    """Captions every picture of a folder that is not done yet, and says what became of each.

    tell: called with (pictures done, pictures in all); should_stop: asked between batches; listed: what `find_pictures`
    gave, if it was asked already. A picture that cannot be used becomes a problem of the report, and the rest goes on.
    Raises InputError when there is no picture at all.
    """
    folder = Path(options.folder).expanduser()
    pictures, problems = listed or find_pictures(folder, options.recursive, options.caption_extension)
    work = _Work(captioner, folder, options.caption_extension, Report(len(pictures) + len(problems), problems=problems))
    began = time.monotonic()
    with (
        ThreadPoolExecutor(1, "model") as model,
        contextlib.closing(work.batches(pictures, options.workers)) as batches,
    ):

        def show() -> None:
            done = work.report.captioned + work.report.done_before + len(work.report.problems)
            tell(done, work.report.pictures)

        looking: tuple[Batch, Future[Any]] | None = None
        for batch in batches:
            if should_stop():
                work.report.stopped = True
                break
            next_one = batch, model.submit(captioner.look, [prepared for _, prepared in batch])
            if looking:
                work.finish(*looking)
            looking = next_one
            show()
        if looking:
            work.finish(*looking)
        show()
    work.report.seconds = time.monotonic() - began
    return work.report


class _Work:
    """The captions of one folder on their way."""

    def __init__(self, captioner: Captioner, folder: Path, ending: str, report: Report) -> None:
        self.captioner, self.folder, self.ending, self.report = captioner, folder, ending, report
        self.record = Record(folder, captioner.by)
        self.snapshot = begin(folder, captioner.what)

    def batches(self, pictures: list[Path], workers: int) -> Generator[Batch, None, None]:
        """Pictures made ready that still need a caption; one that cannot be opened is left out."""
        batch: Batch = []
        todo = (picture for picture in pictures if not self.is_done(picture))
        size = self.captioner.batch
        with contextlib.closing(ahead(todo, self.captioner.prepare, workers, 2 * size + workers)) as ready:
            for picture, future in ready:
                try:
                    batch.append((picture, future.result()))
                except PictureError as error:
                    self.leave(picture, str(error).removeprefix(f"{plain(picture.name)}: "))
                    continue
                if len(batch) == size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def is_done(self, picture: Path) -> bool:
        """Whether a picture's caption stays as it is; then its tags are counted here."""
        caption = caption_of(picture, self.ending)
        try:
            content = caption.read_bytes()
        except OSError:  # none, or one that will be refused when it is read
            return False
        is_there = self.captioner.existing == "skip" and content.strip()  # a file without words is no caption
        if is_there or self.record.holds(picture, caption, content):
            self.report.done_before += 1
            self.count(content.decode("utf-8", "replace"))
            return True
        return False

    def finish(self, batch: Batch, looking: Future[Any]) -> None:
        """Waits until the model has seen a batch, and writes its captions."""
        made: dict[Path, tuple[Path, bytes]] = {}
        for (picture, _), seen in zip(batch, looking.result(), strict=True):
            path = caption_of(picture, self.ending)
            try:
                reads = self.captioner.existing in ("append", "prepend") and path.exists()
                before = read_caption(path, wildcards=True)[0] if reads else None
                text = self.captioner.caption(seen, before)
            except PictureError as error:
                self.leave(picture, str(error))
                continue
            self.count(text)
            made[path] = picture, f"{text}\n".encode()
        changed = [path for path, (_, content) in made.items() if not _holds(path, content)]
        self.snapshot.keep(*changed)
        write_many({path: made[path][1] for path in changed})
        if changed:
            self.report.snapshot = self.snapshot.id
        self.record.add(made)
        self.report.captioned += len(made)

    def leave(self, picture: Path, why: str) -> None:
        """Leaves a picture out."""
        self.report.problems.append(Problem(plain(picture.relative_to(self.folder).as_posix()), why, "left out"))

    def count(self, caption: str) -> None:
        """Counts the tags of a caption."""
        self.report.tags.update(split_tags(caption, self.captioner.separator))


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False
