"""The guard: foreign names, foreign sites, foreign bodies and wrong logins get nowhere, on any route."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from webui import security
from webui.security import Guard
from webui.settings import Settings

TOKEN = "open sesame &+1"
PAGE = [("accept", "text/html")]
HERE = ("host", "127.0.0.1:7860")


def settings(folder: Path, **changes: Any) -> Settings:
    facts = {"host": "127.0.0.1", "port": 7860, "runs": folder, "models": (), "roots": (), **changes}
    return Settings(data_dir=folder, **facts)


class Answer:
    """Status, headers and body of one answer, and whether the app below was reached."""

    def __init__(self, messages: list[Any], reached: int) -> None:
        self.status: int = messages[0]["status"]
        self.headers = {key.decode(): value.decode() for key, value in messages[0]["headers"]}
        self.body = b"".join(message["body"] for message in messages[1:]).decode()
        self.reached = bool(reached)


class Asker:
    """Asks a guard in front of an app that answers 200 to all."""

    def __init__(self, chosen: Settings, app: Any = None) -> None:
        self.reached = 0
        self.guard = Guard(app or self.app, chosen)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"server", b"other")]})
        await send({"type": "http.response.body", "body": b"secret"})

    def ask(
        self,
        *fields: tuple[str, str],
        method: str = "GET",
        path: str = "/",
        query: str = "",
        body: bytes = b"",
        client: str = "127.0.0.1",
    ) -> Answer:
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "root_path": ""}
        scope |= {"query_string": query.encode(), "scheme": "http", "client": (client, 5), "http_version": "1.1"}
        scope |= {"headers": [(key.encode(), value.encode("latin-1")) for key, value in fields]}
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        before = self.reached
        asyncio.run(self.guard(scope, receive, send))
        return Answer(messages, self.reached - before)


# Who is asked for


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9000", "localhost.:7860", "127.0.0.1:1", "127.8.9.1", "[::1]:7860", "pod-7860.proxy.net"],
)
def test_names_of_this_machine(tmp_path: Path, host: str) -> None:
    asker = Asker(settings(tmp_path, allowed_hosts=("pod-7860.proxy.net",)))
    assert asker.ask(("host", host)).status == 200


HOSTILE = [
    [("host", "evil.example:7860")],
    [("host", "127.0.0.1.evil.example")],
    [("host", "localhost.evil.example")],
    [("host", "")],
    [("host", "[::1].evil")],
    [("host", "[::1")],
    [("host", "evil@127.0.0.1")],
    [("host", "127.0.0.1:7860, evil.example")],
    [("host", "0.0.0.0:7860")],
    [("host", "192.168.1.5:7860")],
    [("host", "a.proxy.net.evil.example")],
    [],
    [HERE, HERE],
    [HERE, ("host", "evil.example")],
    [HERE, ("x-forwarded-host", "evil.example")],
    [HERE, ("x-forwarded-host", "localhost, evil.example")],
    [HERE, ("origin", "http://evil.example")],
    [HERE, ("origin", "http://evil.example:7860")],
    [HERE, ("origin", "null")],
    [HERE, ("origin", "")],
    [HERE, ("origin", "http://127.0.0.1:7861")],
    [HERE, ("origin", "http://127.0.0.1")],
    [HERE, ("origin", "http://localhost:7860")],
    [HERE, ("origin", "file://127.0.0.1:7860")],
    [HERE, ("origin", "http://127.0.0.1:7860"), ("origin", "http://evil.example")],
    [HERE, ("origin", "https://b.proxy.net")],  # a wild card names hosts, not who may use us
    [HERE, ("sec-fetch-site", "cross-site")],
    [HERE, ("sec-fetch-site", "same-site")],
    [HERE, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
    [HERE, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("locked", [False, True])
def test_what_comes_from_elsewhere_is_refused(tmp_path: Path, method: str, locked: bool) -> None:
    asker = Asker(settings(tmp_path, allowed_hosts=("*.proxy.net",), token=TOKEN if locked else None))
    for fields in HOSTILE:
        answer = asker.ask(*fields, ("authorization", f"Bearer {TOKEN}"), method=method)
        assert (answer.status, answer.reached) == (403, False), fields
        assert "access-control-allow-origin" not in answer.headers


def test_every_route_is_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The routes of the page itself, as they are, not a list of them."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio

    from webui.api import routes
    from webui.jobs import Jobs
    from webui.wiring import compose

    chosen = settings(tmp_path)
    with gradio.Blocks(analytics_enabled=False) as blocks:
        gradio.Button()
    app = compose(chosen, blocks, routes(chosen, Jobs(chosen, watch=False)))
    asker = Asker(chosen, app)
    paths = [path for route in app.routes for path in paths_of(route)]
    assert len(paths) > 60 and {"/api/machine", "/tensorboard/{path:path}", "/gradio_api/upload"} <= {*paths}
    for path in paths:
        for fields in (
            [("host", "evil.example")],
            [HERE, ("origin", "null")],
            [HERE, ("sec-fetch-site", "cross-site")],
        ):
            assert asker.ask(*fields, path=path).status == 403, path
    for path in ("/docs", "/openapi.json", "/redoc", "/monitoring", "/gradio_api/docs", "/gradio_api/runs"):
        assert asker.ask(HERE, path=path).status in (403, 404), path


def paths_of(route: Any) -> list[str]:
    path, below = getattr(route, "path", ""), getattr(getattr(route, "original_router", route), "routes", [])
    return [path + deeper for part in below for deeper in paths_of(part)] or [path]


def test_our_own_pages_and_programs_pass(tmp_path: Path) -> None:
    asker = Asker(settings(tmp_path, allowed_hosts=("hub.example", "*.proxy.net", "localhost:9000")))
    for fields in (
        [HERE, ("origin", "http://127.0.0.1:7860"), ("sec-fetch-site", "same-origin")],
        [("host", "localhost:9000"), ("origin", "http://localhost:9000")],
        [("host", "[::1]:7860"), ("origin", "http://[::1]:7860")],
        [("host", "hub.example"), ("origin", "https://hub.example")],
        [("host", "a.proxy.net"), ("origin", "https://a.proxy.net")],
        [HERE, ("x-forwarded-host", "hub.example"), ("origin", "https://hub.example")],
        [HERE, ("origin", "https://hub.example")],  # a proxy that keeps its name to itself, named by --allow-host
        [HERE, ("origin", "http://localhost:9000")],
        [HERE, ("sec-fetch-site", "none")],
        [HERE, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
    ):
        assert asker.ask(*fields).status == 200, fields
    assert asker.ask(HERE, ("content-type", "application/json"), ("content-length", "2"), method="POST").reached


def test_a_link_from_elsewhere_opens_the_page_but_changes_nothing(tmp_path: Path) -> None:
    link = [HERE, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    assert Asker(settings(tmp_path)).ask(*link, ("content-type", "application/json"), method="POST").status == 403


def test_open_to_a_network_addresses_are_ours_and_names_are_not(tmp_path: Path) -> None:
    asker = Asker(settings(tmp_path, host="0.0.0.0", token=TOKEN))
    key = ("authorization", f"Bearer {TOKEN}")
    for host in ("192.168.1.5:7860", "[fe80::1]:7860", asker.guard.hosts.own):
        assert asker.ask(("host", host), key).status == 200
    assert asker.ask(("host", "evil.example"), key).status == 403


@pytest.mark.parametrize(
    ("kind", "size", "status"),
    [
        ("text/plain", "2", 415),
        ("", "2", 415),
        ("application/x-www-form-urlencoded", "2", 415),
        ("application/json", "", 411),
        ("application/json", "99999999", 413),
        ("application/json; charset=utf-8", "2", 200),
        ("multipart/form-data; boundary=x", "99999999", 200),
    ],
)
def test_bodies_that_a_foreign_form_could_send_are_refused(tmp_path: Path, kind: str, size: str, status: int) -> None:
    fields = [(key, value) for key, value in (("content-type", kind), ("content-length", size)) if value]
    for method in ("POST", "PUT", "PATCH"):
        assert Asker(settings(tmp_path)).ask(HERE, *fields, method=method).status == status


def test_each_answer_has_our_headers(tmp_path: Path) -> None:
    for answer in (Asker(settings(tmp_path)).ask(HERE), Asker(settings(tmp_path)).ask(("host", "evil.example"))):
        assert answer.headers["server"] == "likeness" and answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert "connect-src 'self' data: blob:;" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "same-origin"


def test_refusals_are_words_and_what_was_sent_is_not_markup(tmp_path: Path) -> None:
    asker = Asker(settings(tmp_path))
    assert "--allow-host" in asker.ask(("host", "hub.example")).body
    page = asker.ask(HERE, ("origin", "<script>alert(1)</script>"), *PAGE)
    assert page.headers["content-type"].startswith("text/html") and "<script>alert" not in page.body


# Who may


def test_without_a_login_nothing_is_shown(tmp_path: Path) -> None:
    asker = Asker(settings(tmp_path, token=TOKEN))
    for path in ("/", "/static/page.js", "/api/runs/x/stream", "/gradio_api/upload", "/tensorboard/", "/theme.css"):
        for fields in ([], [("cookie", "likeness-7860=no")], [("cookie", "likeness-7860=")]):
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
                answer = asker.ask(HERE, *fields, path=path, method=method)
                assert (answer.status, answer.reached) == (401, False)
    page = asker.ask(HERE, *PAGE)
    assert page.status == 401 and "<form" in page.body and "Token" in page.body and 'name="name"' not in page.body


def test_a_link_with_the_token_becomes_a_cookie(tmp_path: Path) -> None:
    asker = Asker(settings(tmp_path, token=TOKEN))
    answer = asker.ask(HERE, *PAGE, path="/a/runs", query=f"x=1&token={quote(TOKEN)}&y=2%263")
    assert answer.status == 303 and answer.headers["location"] == "./runs?x=1&y=2%263"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie and TOKEN not in cookie
    entered = ("cookie", f"other=1; {cookie.partition(';')[0]}")
    assert asker.ask(HERE, entered).reached
    assert (
        asker.ask(HERE, entered, *PAGE, query=f"token={quote(TOKEN)}").status == 303
    )  # it must not stay in the address
    form = asker.ask(HERE, entered, *PAGE, method="POST", query="login", body=f"word={quote(TOKEN)}".encode())
    assert form.status == 303  # a second tab
    https = asker.ask(HERE, ("x-forwarded-proto", "https"), query=f"token={quote(TOKEN)}")
    assert "Secure" in https.headers["set-cookie"] and https.headers["location"] == "./"
    again = Asker(settings(tmp_path, token=TOKEN))
    assert again.ask(HERE, ("cookie", cookie.partition(";")[0])).reached  # a new start of the server
    other = Asker(settings(tmp_path, token=TOKEN + "2"))
    assert not other.ask(HERE, ("cookie", cookie.partition(";")[0])).reached
    if os.name != "nt":
        assert (tmp_path / "page.key").stat().st_mode & 0o077 == 0


def test_the_form(tmp_path: Path) -> None:
    form = [HERE, *PAGE, ("content-type", "application/x-www-form-urlencoded"), ("origin", "http://127.0.0.1:7860")]
    asker = Asker(settings(tmp_path, username="ann", password="pass: word"))
    assert 'name="name"' in asker.ask(HERE, *PAGE).body
    right, wrong = b"name=ann&word=pass%3A+word", b"name=bob&word=pass%3A+word"
    assert asker.ask(*form, method="POST", query="login", body=wrong).status == 401
    assert asker.ask(*form, method="POST", query="login", body=right * 1000).status == 401
    assert asker.ask(*form, method="POST", query="login", body=right, path="/x").headers["location"] == "./x"
    assert asker.ask(*form[:-1], ("origin", "null"), method="POST", query="login", body=right).status == 403
    basic = base64.b64encode(b"ann:pass: word").decode()
    assert asker.ask(HERE, ("authorization", f"Basic {basic}")).reached
    assert not asker.ask(HERE, query="token=pass: word").reached


def test_guessing_is_slow_and_hurts_only_who_guesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(security.time, "monotonic", lambda: now[0])
    asker = Asker(settings(tmp_path, token=TOKEN))
    ways = [
        lambda guess: asker.ask(HERE, query=f"token={guess}"),
        lambda guess: asker.ask(HERE, ("authorization", f"Bearer {guess}")),
        lambda guess: asker.ask(HERE, method="POST", query="login", body=f"word={guess}".encode()),
    ]
    answers = [ways[guess % 3](guess).status for guess in range(1000)]
    assert answers.count(401) == security.TRIES - 1 and answers.count(429) == 1000 - security.TRIES + 1
    right = f"token={quote(TOKEN)}"
    assert asker.ask(HERE, query=right).status == 429
    assert asker.ask(HERE, query=right, client="10.0.0.9").status == 303
    now[0] += security.PATIENCE + 1
    assert asker.ask(HERE, query=right).status == 303


def test_a_cookie_works_while_others_guess(tmp_path: Path) -> None:
    asker = Asker(settings(tmp_path, token=TOKEN))
    cookie = asker.ask(HERE, query=f"token={quote(TOKEN)}").headers["set-cookie"].partition(";")[0]
    for guess in range(20):
        asker.ask(HERE, query=f"token={guess}")
    assert asker.ask(HERE, query=f"token={quote(TOKEN)}").status == 429
    assert asker.ask(HERE, ("cookie", cookie)).reached


def test_secrets_are_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []
    compare = security.hmac.compare_digest
    monkeypatch.setattr(security.hmac, "compare_digest", lambda a, b: compared.append(a) or compare(a, b))
    asker = Asker(settings(tmp_path, token=TOKEN))
    asker.ask(HERE, ("cookie", "likeness-7860=ÿ"), ("authorization", "Bearer 1"), query="token=2")
    assert compared == ["ÿ".encode(), b"Bearer 1", b"2"]


def test_a_torn_key_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "page.key").write_bytes(b"torn")
    assert len(security._key(tmp_path / "page.key")) == 32
    assert security._key(tmp_path / "page.key") == (tmp_path / "page.key").read_bytes()


def test_web_sockets_are_closed(tmp_path: Path) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(Asker(settings(tmp_path)).app, settings(tmp_path))({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
