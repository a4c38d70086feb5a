"""Servers on this machine for the length of a test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from tests.waiting import until

STATIC = Path(__file__).resolve().parents[1] / "webui" / "static"


class Quiet(BaseHTTPRequestHandler):
    """A handler that keeps no log."""

    def log_message(self, *words: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(handler: type[Quiet]) -> Iterator[str]:
    """The address of a server that answers as `handler` does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class Served:
    """Routes, and the page's static files beside them, under a prefix of a port, until it is stopped."""

    def __init__(self, routes: Sequence[BaseRoute], port: int) -> None:
        self.address = f"http://127.0.0.1:{port}/under/a/prefix/"
        site = [*routes, Mount("/static", StaticFiles(directory=STATIC))]
        app = Starlette(routes=[Mount("/under/a/prefix", routes=site)])
        config = uvicorn.Config(app, port=port, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()), daemon=True)
        self.thread.start()
        until(lambda: self.server.started)

    def stop(self) -> None:
        """Ends it as a crash would."""
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(20)
