"""The few words of ASGI that are needed before any web framework is imported, and plain pages in our look."""

from __future__ import annotations

import html
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STATIC = Path(__file__).resolve().parent / "static"
WAITING = "likeness-waiting"
"""The header by which a waiting page's script knows that it is still waiting."""


def headers(scope: Scope, name: str) -> list[str]:
    """All values of a request's header."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name.encode()]


def header(scope: Scope, name: str) -> str:
    """The values of a request's header, joined; "" without."""
    return ", ".join(headers(scope, name))


def wants_page(scope: Scope) -> bool:
    """Whether a person's browser asks for a page to look at, and not a script for data."""
    return scope["method"] in ("GET", "HEAD", "POST") and "text/html" in header(scope, "accept")


def fill(file: str, **texts: str) -> str:
    """A shipped piece of HTML with its marks (`<!--name-->`) replaced by trusted HTML."""
    piece = (STATIC / file).read_text("utf-8")
    for mark, text in texts.items():
        piece = piece.replace(f"<!--{mark}-->", text)
    return piece


async def answer(
    scope: Scope,
    send: Send,
    status: int,
    title: str,
    words: str,
    extra: Sequence[tuple[str, str]] = (),
    body: str = "",
) -> None:
    """Answers with a plain page, in which `body` is trusted HTML, or with {"error": words} where data was asked for."""
    shown = wants_page(scope)
    if shown:
        content = fill("plain.html", title=html.escape(title), words=html.escape(words), body=body).encode()
    else:
        content = json.dumps({"error": words}).encode()
    kind = "text/html; charset=utf-8" if shown else "application/json"
    fields = [("content-type", kind), ("content-length", str(len(content))), ("cache-control", "no-store"), *extra]
    start = [(key.encode(), value.encode("latin-1", "replace")) for key, value in fields]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})


async def wait_page(scope: Scope, send: Send, title: str, words: str) -> None:
    """A page that moves while something starts, and loads again by itself; 503 for data.

    Its status is 200, as some proxies show a page of their own in place of a 503.
    """
    more = [(WAITING, "1"), ("retry-after", "1")]
    await answer(scope, send, 200 if wants_page(scope) else 503, title, words, more, fill("waiting.html"))
