"""TensorBoard inside the page: a child process on this machine's own address, shown under our port at tensorboard/.

The child reads the whole folder of runs; which of them are shown is a filter in the address (`?runFilter=`), so one
child is enough for one run or many. It starts when it is first asked for and ends with the server, however that ends,
for its standard input is then closed. TensorBoard checks no Host header and has no login, so it answers only under a
path that nobody else knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import time
from pathlib import Path

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from trainer.errors import InputError
from webui.asgi import Receive, Scope, Send, answer, wait_page
from webui.settings import Settings

START = 60.0  # seconds that TensorBoard may take to start
END = 3.0  # seconds that it may take to end
PATIENCE = 0.3  # seconds that a page waits for it before it shows that it is starting
RETRY = 10.0  # seconds before a start that failed is tried again; the page of before asks at once
HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "date", "server"}
SECRET = {"cookie", "authorization", "referer"}
"""Headers of one hop, and those that are no business of TensorBoard's."""


class Board:
    """The child and the way to it."""

    def __init__(self, settings: Settings) -> None:
        self.runs = settings.runs
        self.log = settings.data_dir / "tensorboard.log"
        self._secret = secrets.token_urlsafe(16)
        self._child: asyncio.subprocess.Process | None = None
        self._client: httpx.AsyncClient | None = None
        self._retry = 0.0  # not before then
        self._starting: asyncio.Task[httpx.AsyncClient] | None = None

    def routes(self) -> list[Route]:
        """The routes under tensorboard/."""
        methods = ["GET", "POST"]  # and HEAD
        # The slash is needed: addresses in the page count from it.
        return [
            Route("/tensorboard", _with_slash),
            Route("/tensorboard/{path:path}", self._show, methods=methods),
        ]

    async def start(self) -> httpx.AsyncClient:
        """The way to the running child, started where needed; InputError with its last words when it does not start."""
        if self._client and self._child and self._child.returncode is None:
            return self._client
        await self.close()
        with open(self.log, "wb") as log:
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "webui.board_child", str(self.runs), f"/{self._secret}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours to act upon
                env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            )
        assert self._child.stdout
        port = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START):
                port = await self._child.stdout.readline()
        if not port.strip().isdigit():
            await self.close()
            self._retry = time.monotonic() + RETRY
            said = self.log.read_text("utf-8", "replace").strip().splitlines() or [f"no answer within {START:.0f} s"]
            raise InputError(
                f"TensorBoard does not start: {said[-1]}. Training goes on without it; its log is {self.log},"
                " and deleting .venv installs it anew at the next start."
            )
        # trust_env: an HTTP_PROXY is for the world outside.
        base = f"http://127.0.0.1:{int(port)}/{self._secret}/"
        self._client = httpx.AsyncClient(base_url=base, timeout=START, trust_env=False)
        return self._client

    async def close(self) -> None:
        """Ends the child."""
        if self._client:
            await self._client.aclose()
        if self._child and self._child.stdin:
            self._child.stdin.close()
            try:
                async with asyncio.timeout(END):
                    await self._child.wait()
            except TimeoutError:
                self._child.kill()
                await self._child.wait()
        self._client = self._child = None

    async def _ready(self, patience: float) -> httpx.AsyncClient | None:
        """The way to the child, or None when it needs longer than `patience` seconds to start."""
        if self._starting is None or (self._starting.done() and time.monotonic() >= self._retry):
            self._starting = asyncio.create_task(self.start())
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())  # asked for or not
        starting = self._starting
        await asyncio.wait({starting}, timeout=patience)
        return starting.result() if starting.done() else None

    async def _show(self, request: Request) -> Response:
        """What TensorBoard answers."""
        path = request.path_params["path"]
        try:
            client = await self._ready(START if path else PATIENCE)
            if client is None:
                return _Plain(0, "TensorBoard is starting", "It opens by itself.")
            return await self._pass_on(request, client, path)
        except (InputError, OSError) as error:  # OSError: a full disk, no more processes
            return _Plain(503, "TensorBoard is not here", str(error))
        except httpx.HTTPError as error:
            return _Plain(502, "TensorBoard does not answer", f"It said nothing ({type(error).__name__}); try again.")

    async def _pass_on(self, request: Request, client: httpx.AsyncClient, path: str) -> Response:
        """The child's answer, streamed; its first page with the addresses of its fonts put right."""
        fields = {key: value for key, value in request.headers.items() if key not in HOP | SECRET}
        if not path:
            fields["accept-encoding"] = "identity"
        url = client.base_url.copy_with(path=client.base_url.path + path, query=request.url.query.encode() or None)
        asked = client.build_request(request.method, url, headers=fields, content=await request.body() or None)
        found = await client.send(asked, stream=True)
        kept = {key: value for key, value in found.headers.items() if key not in HOP}
        if not path and request.method == "GET":
            content = (await found.aread()).replace(b"url(/font-roboto/", b"url(font-roboto/")  # tensorboard#1885
            await found.aclose()
            kept.pop("content-length", None)
            return Response(content, found.status_code, kept)
        return StreamingResponse(found.aiter_raw(), found.status_code, kept, background=BackgroundTask(found.aclose))


async def _with_slash(request: Request) -> Response:
    return RedirectResponse("tensorboard/")


class _Plain(Response):
    """A plain page; status 0 is one that waits."""

    def __init__(self, status: int, title: str, words: str) -> None:
        super().__init__()
        self.status, self.title, self.words = status, title, words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.status:
            await answer(scope, send, self.status, self.title, self.words)
        else:
            await wait_page(scope, send, self.title, self.words)
