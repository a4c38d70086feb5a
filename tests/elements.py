"""An element of the page alone, in the real look, and a browser that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.waiting import PATIENCE

OWN = "body { margin: 0; padding: 12px; background: var(--body-background-fill); font-family: var(--font); }"
Show = Callable[..., Any]


def page_of(element: str, script: str, looks: Sequence[str]) -> Route:
    """`/page`: one element with the colours of the theme; `?dark` as Gradio does it."""

    async def page(request: Request) -> HTMLResponse:
        from webui.theme import theme

        dark = "dark" if "dark" in request.query_params else ""
        links = "".join(f'<link rel="stylesheet" href="static/{look}.css">' for look in looks)
        return HTMLResponse(
            f'<!doctype html><html class="{dark}"><meta name="viewport" content="width=device-width">'
            f'<link rel="icon" href="data:,"><style>{theme()._get_theme_css()} {OWN}</style>{links}'
            f'<body class="{dark}"><{element}></{element}><script type="module" src="static/{script}"></script>'
        )

    return Route("/page", page)


@contextmanager
def showing(browser: Any, address: str) -> Iterator[Show]:
    """Opens `/page`, at a width and with a query; `begin` is a script that runs before all others.

    Fails at its end when a script failed, or when anything but our server was asked.
    """
    contexts: list[Any] = []
    wrong: list[str] = []

    def go(width: int = 1280, query: str = "", begin: str = "") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, reduced_motion="reduce", accept_downloads=True
        )
        contexts.append(context)
        if begin:
            context.add_init_script(begin)
        view = context.new_page()
        view.set_default_timeout(1000 * PATIENCE)
        view.on("pageerror", lambda error: wrong.append(f"{error} {error.stack}"))
        view.on("request", lambda asked: asked.url.startswith((address, "data:")) or wrong.append(asked.url))
        view.goto(f"{address}page?{query}")
        return view

    yield go
    for context in contexts:
        context.close()
    assert not wrong
