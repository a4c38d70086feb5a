"""One web server on one port: guard, prefix, our routes, TensorBoard, static files, and Gradio below them all.

The port answers with a waiting page before Gradio, which takes seconds to import, is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import gc
import http.client
import logging
import os
import socket
import sys
import threading
import traceback
import webbrowser
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FrameType, ModuleType
from typing import TYPE_CHECKING
from urllib.parse import quote

import uvicorn

from trainer.durable import make_folder
from trainer.errors import InputError
from webui.asgi import Receive, Scope, Send, answer, wait_page
from webui.prefix import Prefix
from webui.security import SERVER, Guard
from webui.settings import Settings, ssh_line

if TYPE_CHECKING:  # imported late: each costs the waiting page its second
    from fastapi import FastAPI

Build = Callable[[Settings], "FastAPI"]


def build_page(settings: Settings) -> FastAPI:
    """The page itself, whose import takes seconds."""
    gc.disable()  # what is imported stays: to look through it for rubbish, again and again, took a tenth of the time
    try:
        from webui.wiring import build

        return build(settings)
    finally:
        gc.enable()


def serve(settings: Settings, build: Build = build_page) -> int:
    """Serves until a signal ends it. The exit code: 1 when the page could not be built, 130 after Ctrl-C.

    `build` makes the page; it runs in a thread, and may raise InputError. Raises InputError when the port is taken.
    """
    bound = listen(settings)
    settings = dataclasses.replace(settings, port=bound.getsockname()[1])
    prepare(settings)
    site = Site(settings, build)
    config = uvicorn.Config(
        Guard(Prefix(site, settings.root_path), settings),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=0,  # streams never end by themselves
    )
    server = Server(config)
    site.end = server.end
    print(welcome(settings), flush=True)
    if settings.inbrowser:
        # A thread, for some browsers keep the call until they are closed.
        threading.Thread(target=webbrowser.open, args=(addresses(settings)[0],), daemon=True).start()
    try:
        server.run(sockets=[bound])
    except KeyboardInterrupt:
        return 130
    return site.code


def listen(settings: Settings) -> socket.socket:
    """The socket, listening; InputError with the next step when the port is taken or not ours to take."""
    bound = socket.socket(_family(settings.host), socket.SOCK_STREAM)
    if os.name == "nt":  # there, SO_REUSEADDR would let two servers share a port
        bound.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE"), 1)  # noqa: B009, as POSIX has none
    else:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise InputError(_why_not(settings, error)) from error
    return bound


def _why_not(settings: Settings, error: OSError) -> str:
    """Why the port cannot be had, and what to do."""
    port, host = settings.port, "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    if error.errno == errno.EADDRINUSE:
        if _is_ours(host, port):
            return (
                f"Likeness runs already at {_url(host, port)}: open that. To end it, press Ctrl-C where it was"
                f" started; for a second one, add --port {port + 1} and another --data-dir."
            )
        return f"Port {port} is taken by another program: add --port {_free(settings)}, or end that program."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"--port {port}: the system does not give it to you; take one from 1024 on, such as 7860"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--listen {settings.host}: no address of this machine; 127.0.0.1 is this machine alone, 0.0.0.0 all"
    return f"--listen {settings.host} --port {port}: {error.strerror}; try another"


def _is_ours(host: str, port: int) -> bool:
    """Whether a Likeness answers there; each answer of ours, a refusal too, bears our name."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("HEAD", "/")
        return connection.getresponse().getheader("server") == SERVER
    return False


def _free(settings: Settings) -> int:
    """The next port that no one listens on."""
    for port in range(settings.port + 1, min(settings.port + 100, 65536)):
        with contextlib.suppress(OSError), socket.create_server((settings.host, port), family=_family(settings.host)):
            return port
    return 0


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def prepare(settings: Settings) -> None:
    """What must stand in the environment before Gradio is imported."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]  # GRADIO_SHARE and its like would change what the flags say
    temporary = settings.data_dir / "temp"
    make_folder(temporary)
    # Only the exact words count. Without the first, a start calls three servers of others.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(temporary)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if not any(isinstance(finder, NoStubs) for finder in sys.meta_path):
        sys.meta_path.insert(0, NoStubs())


class NoStubs(MetaPathFinder):
    """Keeps Gradio from writing hints for editors beside its own files: they take it half of its import."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Gradio's own module, with an empty hand where it would write."""
        spec = PathFinder.find_spec(name, path, target) if name == "gradio.component_meta" else None
        if spec and spec.origin:
            spec.loader = _Stubless(name, spec.origin)
        return spec


class _Stubless(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        vars(module)["create_or_modify_pyi"] = _nothing


def _nothing(*_: object) -> None:
    """In place of what writes."""


def addresses(settings: Settings) -> list[str]:
    """Where to open the page, the best first; with the token, so that a click is enough."""
    everywhere = settings.host in ("0.0.0.0", "::")
    hosts = ["127.0.0.1", socket.gethostname()] if everywhere else [settings.host]
    link = f"?token={quote(settings.token, safe='')}" if settings.token else ""
    return [_url(host, settings.port) + link for host in hosts]


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def welcome(settings: Settings) -> str:
    """What the terminal shows at the start."""
    lines = [f"Likeness: {address}" for address in addresses(settings)]
    if settings.headless or "SSH_CONNECTION" in os.environ:
        near = settings.outside and settings.host not in ("0.0.0.0", "::")
        lines += [
            "On the computer that you sit at, type",
            f"    {ssh_line(settings.port, settings.host if near else '127.0.0.1')}",
            f"and open {addresses(dataclasses.replace(settings, host='127.0.0.1'))[0]} there.",
        ]
    lines.append("Ctrl-C ends the page; jobs go on without it.")
    return "\n".join(lines)


class Server(uvicorn.Server):
    """uvicorn, that says goodbye at once."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal, and those that follow."""
        if not self.should_exit:
            goodbye = b"\nThe page has ended. Jobs that run go on; the next start shows them again.\n"
            with contextlib.suppress(OSError):  # not print: the signal may have come in the middle of one
                os.write(1, goodbye)
        self.end()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """Ends the server; requests that are under way are cut off, and no one need read of it."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self.should_exit = True


class Site:
    """The page, once it is built; a waiting page until then."""

    def __init__(self, settings: Settings, build: Build) -> None:
        self.settings, self.build = settings, build
        self.code = 0  # the exit code
        self.end: Callable[[], None] = lambda: None
        self._app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lives for as long as the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is None:
            await wait_page(scope, send, "One moment", "The page is starting. It opens by itself.")
        elif "/gradio_api/file=http" in scope["path"].lower():
            # Gradio would fetch it for the browser; nothing here reaches out.
            await answer(scope, send, 404, "Not here", "Files from other places are not fetched.")
        else:
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Builds the page in a thread, and keeps what it started alive until the server ends."""
        await receive()
        built = _in_thread(lambda: self.build(self.settings))
        await send({"type": "lifespan.startup.complete"})
        ended = asyncio.ensure_future(receive())
        await asyncio.wait({built, ended}, return_when=asyncio.FIRST_COMPLETED)
        if built.done():
            try:
                app = built.result()
            except InputError as error:
                print(error, file=sys.stderr)
                self.code = 2
                self.end()
            except Exception:  # whatever it is: say so and end, for a page that never comes helps no one
                traceback.print_exc()
                print("The page could not be built; the lines above say why. Jobs go on.", file=sys.stderr)
                self.code = 1
                self.end()
            else:
                async with app.router.lifespan_context(app):
                    self._app = app
                    await ended
        await ended
        await send({"type": "lifespan.shutdown.complete"})


def _in_thread(work: Callable[[], FastAPI]) -> asyncio.Future[FastAPI]:
    """The result of work in a thread that does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[FastAPI] = loop.create_future()

    def run() -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended meanwhile, and its loop with it
            try:
                result = work()
            except Exception as error:
                loop.call_soon_threadsafe(future.set_exception, error)
            else:
                loop.call_soon_threadsafe(future.set_result, result)

    threading.Thread(target=run, daemon=True, name="build").start()
    return future
