"""What a run tells, sent as it happens (server-sent events), so that a page can be closed and opened at any time."""

from __future__ import annotations

import codecs
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
from starlette.responses import StreamingResponse

from trainer.runfolder import Event
from webui.jobs import Jobs
from webui.runs import Missing, Story, thin

EVERY = 0.5  # seconds between two looks at the files
PING = 5.0  # seconds after which a silent stream says that it lives: a proxy, or live.js, would think it dead
LOG = 1 << 16  # bytes of the log that are sent at once; of more, only the end
ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?")
CONTROLS = re.compile("[\x00-\x07\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u2028\u2029]")
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Cursor:
    """How far one page has been told of one run: the events and the log, by offsets in their files."""

    def __init__(self, jobs: Jobs, run: str, last: str | None) -> None:
        self.jobs, self.run = jobs, run
        story = jobs.runs.story(run)
        match = re.fullmatch(r"(\d{1,15}):(\d{1,15})", last or "")
        if match and int(match[1]) <= story.offset:
            self.new: list[Event] = []
            self.story = Story(story.folder, int(match[1]), story.epoch)
            self.log = int(match[2])
        else:
            self.new, self.story, self.log = thin(story.events), story, 0
        self._state = ""

    def look(self) -> list[str]:
        """The messages for what is new since the last look."""
        messages = []
        line = self.jobs.line(self.run)
        state = json.dumps(line)
        if state != self._state:
            self._state = state
            messages.append(self._message("state", line))
        new = self.new + thin(self.story.read_on())
        self.new.clear()
        self.story.events.clear()
        if new:
            messages.append(self._message("events", new))
        if text := self._read_log():
            messages.append(self._message("log", {"text": text}))
        return messages

    def _read_log(self) -> str:
        """The log's new text, without what would move a terminal's cursor but for tabs, line ends and returns."""
        try:
            with open(self.story.folder.log, "rb") as file:
                size = file.seek(0, 2)
                self.log = self.log if self.log <= size else 0
                skipped = size - self.log > LOG
                self.log = size - LOG if skipped else self.log
                file.seek(self.log)
                data = file.read(LOG)
        except FileNotFoundError:
            return ""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data)
        self.log += len(data) - len(decoder.getstate()[0])  # a letter that is cut in two comes with the rest of it
        if skipped:
            text = text.partition("\n")[2] or text
        return CONTROLS.sub("", ANSI.sub("", text))

    def _message(self, event: str, data: Any) -> str:
        return f"id: {self.story.offset}:{self.log}\nevent: {event}\ndata: {json.dumps(data)}\n\n"


def stream(jobs: Jobs, cursor: Cursor) -> StreamingResponse:
    """The stream of a run from a cursor on; it ends when the page goes, or the run does."""

    async def messages() -> AsyncIterator[str]:
        spoke = time.monotonic()
        while not jobs.closed:
            try:
                told = await anyio.to_thread.run_sync(cursor.look)
            except Missing:  # it is in the trash
                return
            if not told and time.monotonic() - spoke >= PING:
                told = ["event: ping\ndata:\n\n"]  # a comment would not reach the page's script
            for message in told:
                yield message
                spoke = time.monotonic()
            await anyio.sleep(EVERY)

    return StreamingResponse(messages(), media_type="text/event-stream", headers=HEADERS)
