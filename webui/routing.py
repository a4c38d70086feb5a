"""What all routes of ours are made of: JSON in and out; an error is `{"error": words}` with a status that fits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainer.data.pictures import plain
from trainer.durable import DiskError
from trainer.errors import InputError
from trainer.folders.intake import TooLarge
from webui.browse import Outside
from webui.runs import Conflict, Missing

LARGEST = 4 * 2**20  # bytes of a JSON body
MOST_SECONDS = 1e11  # a time in milliseconds would be later

Tree = dict[str, Any]
Work = Callable[[Request, Tree], Any]


class WrongKind(InputError):
    """A body that is not declared as JSON: such a request any web page could send."""


STATUS = {Missing: 404, Outside: 403, Conflict: 409, TooLarge: 413, WrongKind: 415, DiskError: 507, InputError: 400}


class Json(Response):
    """JSON in ASCII, so that a name with broken letters cannot break the answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of a value; ValueError for NaN, which JSON has not."""
        return json.dumps(content, allow_nan=False).encode()


def refusal(error: InputError) -> Response:
    """What is answered when something cannot be done."""
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    return Json({"error": str(error)}, status)


def route(path: str, **work: Work) -> Route:
    """A route whose work is done in a thread, because it reads and writes files."""

    async def endpoint(request: Request) -> Response:
        try:
            body = await _body(request) if request.method in ("POST", "PUT") else {}
            work_for = work["GET" if request.method == "HEAD" else request.method]
            result = await run_in_threadpool(work_for, request, body)
        except InputError as error:
            return refusal(error)
        return result if isinstance(result, Response) else Json(result)

    return Route(path, endpoint, methods=[*work])


async def _body(request: Request) -> Tree:
    """The JSON object that came, {} for none."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST:
            raise TooLarge(f"body: more than {LARGEST:,} bytes of JSON")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise WrongKind("body: send it as application/json")
    try:
        tree = json.loads(data.decode()) if data.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"body: broken JSON ({error})") from None
    if not isinstance(tree, dict):
        raise InputError("body: send a JSON object")
    return tree


def text(body: Tree, name: str) -> str:
    """A text out of a body; InputError when it is missing or something else."""
    if not isinstance(value := body.get(name), str):
        raise InputError(f"{name}: give a text")
    return value


def texts(body: Tree, name: str) -> list[str]:
    """A list of texts out of a body."""
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InputError(f"{name}: give a list of texts")
    return value


def whole(field: str, value: Any, least: int, most: int) -> int:
    """A whole number within limits, from JSON or from a form."""
    try:
        number = int(value)
        same = number == float(value)
    except (TypeError, ValueError, OverflowError):
        number, same = least, False
    if not same or isinstance(value, bool) or not least <= number <= most:
        raise InputError(f"{field}: {plain(str(value), 40)!r} is not a whole number from {least} to {most:,}")
    return number


def number(body: Tree, name: str) -> float | None:
    """A time out of a body, in unix seconds; None when there is none."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MOST_SECONDS:
        raise InputError(f"{name}: {str(value)[:40]} is no time; give unix seconds, or null")
    return float(value)


def whole_or_none(body: Tree, name: str) -> int | None:
    """A small whole number out of a body; None when there is none."""
    return None if body.get(name) is None else whole(name, body[name], 0, 1023)
