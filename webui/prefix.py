"""Path prefixes: the page may be shown under /some/path by a proxy that strips it, or does not, or says it aloud."""

from __future__ import annotations

import re

from webui.asgi import App, Receive, Scope, Send, answer, header

PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def cleaned(prefix: str) -> str:
    """`/one/two` without a slash at its end, "" for the root; ValueError for what is no plain path."""
    prefix = prefix.strip().rstrip("/")
    prefix = prefix if not prefix or prefix.startswith("/") else f"/{prefix}"
    if prefix and (not PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/"))):
        raise ValueError(prefix)
    return prefix


class Prefix:
    """Tells the routes below what stands before them, by --root-path, else by the proxy's X-Forwarded-Prefix.

    A path that does not begin with the prefix was stripped by the proxy: it is put back, as ASGI wants `path` to hold
    `root_path`. So a prefix must not be the first part of a path of ours (/api, /static).
    """

    def __init__(self, app: App, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on with its prefix."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            prefix = self.root_path or cleaned(header(scope, "x-forwarded-prefix"))
        except ValueError:
            return await answer(
                scope, send, 400, "Bad prefix", "X-Forwarded-Prefix must be one path, such as /likeness."
            )
        if not prefix:
            return await self.app(scope, receive, send)
        path: str = scope["path"]
        if path == prefix:  # without the slash at the end, relative addresses in the page would count from above it
            query = scope["query_string"].decode("latin-1")
            where = f"{prefix.rpartition('/')[2]}/" + (f"?{query}" if query else "")
            return await answer(scope, send, 307, "Moved", where, [("location", where)])
        if not path.startswith(f"{prefix}/"):
            raw = scope.get("raw_path")
            scope = {**scope, "path": prefix + path, "raw_path": raw and prefix.encode() + raw}
        return await self.app({**scope, "root_path": prefix}, receive, send)
