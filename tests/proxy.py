"""A reverse proxy, as people put one in front of a page."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route


@contextlib.contextmanager
def proxy(target: str, prefix: str = "", strips: bool = False, **sends: str) -> Iterator[str]:
    """One on another port, in front of `target`, while inside; gives its address. `sends`: header fields it adds."""

    async def forward(request: Request) -> StreamingResponse:
        path = request.url.path
        if strips:
            path = path.removeprefix(prefix)
        kept = {key: value for key, value in request.headers.items() if key != "host" or sends.get("host") == "kept"}
        kept |= {key.replace("_", "-"): value for key, value in sends.items() if key != "host"}
        url = httpx.URL(target).copy_with(path=path or "/", query=request.url.query.encode() or None)
        asked = client.build_request(request.method, url, headers=kept, content=await request.body() or None)
        found = await client.send(asked, stream=True)
        end = BackgroundTask(found.aclose)
        return StreamingResponse(found.aiter_raw(), found.status_code, dict(found.headers), background=end)

    client = httpx.AsyncClient(trust_env=False, timeout=60)
    app = Starlette(routes=[Route(f"{prefix}/{{path:path}}", forward, methods=["GET", "POST", "HEAD"])])
    with socket.create_server(("127.0.0.1", 0)) as bound:
        front = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0))
        thread = threading.Thread(target=front.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}{prefix}/"
        finally:
            front.should_exit = True
            thread.join()
