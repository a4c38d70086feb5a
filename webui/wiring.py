"""Which parts the page is made of. Imports Gradio, which takes seconds: to be imported in the thread that builds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import chain
from typing import Any

import gradio
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles

from webui.asgi import STATIC
from webui.board import Board
from webui.settings import Settings

OWN_UPLOADS = "200mb"  # what Gradio takes itself: a settings file, a picture; data sets come by api/upload
PLAIN_SITE: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
"""No pages that list all routes."""


def build(settings: Settings) -> FastAPI:
    """The page itself."""
    from webui import (
        api,
        app,
        captions,
        doctor,
        files,
        folders,
        grids,
        handwork,
        pictures,
        studioapi,
        sweeps,
        toolapi,
        verdicts,
    )
    from webui.jobs import Jobs

    jobs = Jobs(settings)
    threading.Thread(target=files.prune, args=(files.thumbs_of(settings),), daemon=True).start()
    of_data = [room.routes(settings) for room in (pictures, captions, doctor, folders, handwork)]
    of_jobs = [room.routes(settings, jobs) for room in (api, toolapi, studioapi, grids, verdicts, sweeps)]
    routes = [*chain(*of_jobs, *of_data)]
    return compose(settings, app.build(settings, jobs), routes, app.look(), jobs.close)


def compose(
    settings: Settings,
    blocks: gradio.Blocks,
    routes: Sequence[BaseRoute] = (),
    look: dict[str, Any] | None = None,
    close: Callable[[], None] = lambda: None,
) -> FastAPI:
    """One application of our routes and of Gradio, which answers where none of ours does.

    `look` holds arguments of gradio.mount_gradio_app: theme, head, css_paths, favicon_path, allowed_paths. `close` is
    called when the server ends.
    """
    board = Board(settings)

    @contextlib.asynccontextmanager
    async def live(_: FastAPI) -> AsyncGenerator[None, None]:
        yield
        close()
        await board.close()

    site = FastAPI(routes=[*routes, *board.routes(), *static()], lifespan=live, **PLAIN_SITE)
    gradio.mount_gradio_app(
        site,
        blocks,
        path="/",
        app_kwargs=dict(PLAIN_SITE),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        max_file_size=OWN_UPLOADS,
        **(look or {}),
    )
    return site


def static() -> list[Route]:
    """A route for each file of ours under static/; one for all would hide Gradio's own static files."""
    names = [path.relative_to(STATIC).as_posix() for path in sorted(STATIC.rglob("*")) if path.is_file()]
    return [Route(f"/static/{name}", _file) for name in names if not name.endswith(".html")]


_FILES = StaticFiles(directory=STATIC)


async def _file(request: Request) -> Response:
    """The file. A browser asks each time whether it has changed, so that a new version is seen at once."""
    found = await _FILES.get_response(request.scope["path"].partition("/static/")[2], request.scope)
    found.headers["cache-control"] = "no-cache"
    return found
