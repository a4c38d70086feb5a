"""TensorBoard under the page's port: it shows runs, is reached by no other way, and never outlives the server."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tests.tiny_page import HTML, Page, running
from tests.waiting import PATIENCE, look, until
from trainer.errors import InputError
from webui import board
from webui.board import Board
from webui.settings import Settings


def write_curve(run: Path) -> None:
    """A loss curve of three points."""
    writer = EventFileWriter(str(run / "tb"))
    for step in range(3):
        value = Summary.Value(tag="loss/current", simple_value=1.0 / (step + 1))
        writer.add_event(Event(step=step, summary=Summary(value=[value]), wall_time=time.time()))
    writer.close()


def serving(folder: Path) -> Iterator[Page]:
    """A page with two runs."""
    for name in ("one", "two"):
        write_curve(folder / "data" / "runs" / name)
    with running(folder) as found:
        found.ready()
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of all tests that leave it as it was."""
    yield from serving(tmp_path_factory.mktemp("page"))


@pytest.fixture
def own_page(tmp_path: Path) -> Iterator[Page]:
    """A page to be ended."""
    yield from serving(tmp_path)


def opened(page: Page) -> str:
    """TensorBoard's first page, waited for as a browser does."""

    def first() -> str:
        answer = look(f"{page.address}tensorboard/", HTML)
        waits = "likeness-waiting" in answer.headers
        assert "TensorBoard is starting" in answer.text if waits else answer.status_code == 200, answer.text
        return "" if waits else answer.text

    return until(first)


def family(page: Page) -> list[psutil.Process]:
    """TensorBoard and its data server."""
    return psutil.Process(page.process.pid).children(recursive=True)


def test_it_starts_on_demand_and_shows_all_runs(page: Page) -> None:
    assert family(page) == []
    first = opened(page)
    assert "url(font-roboto/" in first and "url(/font-roboto/" not in first
    get = httpx.Client(base_url=f"{page.address}tensorboard/", trust_env=False).get
    until(lambda: get("data/runs").json() == ["one/tb", "two/tb"])
    font = re.search(r"url\((font-roboto/[^)]+)\)", first)
    assert font and get(font[1]).content[:4] == b"wOF2"
    script = get("index.js")
    assert script.status_code == 200 and len(script.content) > 1_000_000  # unpacked by httpx: the encoding came along
    asked = {"requests": '[{"plugin": "scalars", "tag": "loss/current"}]'}
    series = httpx.post(
        f"{page.address}tensorboard/data/plugin/timeseries/timeSeries",
        files={key: (None, value) for key, value in asked.items()},
        trust_env=False,
    ).json()
    assert len(series[0]["runToSeries"]["one/tb"]) == 3
    assert len([process for process in family(page) if "webui.board_child" in process.cmdline()]) == 1


def test_it_listens_to_this_machine_and_answers_only_through_the_page(page: Page) -> None:
    opened(page)
    listening = [one for process in [*family(page), psutil.Process(page.process.pid)] for one in sockets(process)]
    assert len(listening) >= 2 and {address.ip for address in listening} <= {"127.0.0.1", "::1"}
    child = next(process for process in family(page) if "webui.board_child" in process.cmdline())
    port = sockets(child)[0].port
    for path in ("", "tensorboard/", "data/runs", "data/environment"):
        assert httpx.get(f"http://127.0.0.1:{port}/{path}", trust_env=False).status_code == 404


def sockets(process: psutil.Process) -> list[psutil._common.addr]:
    return [one.laddr for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_server_however_that_ends(own_page: Page, number: int) -> None:
    opened(own_page)
    children = family(own_page)
    assert children
    own_page.process.send_signal(number)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert alive == []


def test_one_that_died_is_started_anew(page: Page) -> None:
    opened(page)
    child = next(process for process in family(page) if "webui.board_child" in process.cmdline())
    child.kill()
    child.wait(PATIENCE)
    opened(page)
    assert [process for process in family(page) if "webui.board_child" in process.cmdline()]


def test_without_it_the_reason_is_said_and_asked_for_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, python = tmp_path / "python", sys.executable
    broken.write_text(
        f"#!/bin/sh\necho starts >> {tmp_path}/starts\necho \"No module named 'tensorboard'\" >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setattr(board.sys, "executable", str(broken))
    chosen = Settings(host="127.0.0.1", port=0, data_dir=tmp_path, runs=tmp_path, models=(), roots=())

    async def ask() -> None:
        shown = Board(chosen)
        for _ in range(3):
            with pytest.raises(InputError, match=r"No module named 'tensorboard'.*Training goes on"):
                await shown._ready(10)
        assert (tmp_path / "starts").read_text().count("starts") == 1
        shown._retry = 0.0
        monkeypatch.setattr(board.sys, "executable", python)
        assert await shown._ready(60)
        await shown.close()

    asyncio.run(ask())
