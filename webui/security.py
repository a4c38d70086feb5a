"""The guard in front of every route: who is asked for (Host), who asks (Origin, Sec-Fetch-*), and who may (the login).

A page on 127.0.0.1 is reachable by every website that its user has open: by DNS rebinding under a foreign Host, by
forms and images from a foreign Origin. Gradio checks neither, hence this one, as Jupyter has it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import socket
import time
from collections import deque
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode

from trainer.durable import failed
from webui.asgi import App, Message, Receive, Scope, Send, answer, fill, header, headers, wants_page
from webui.settings import Settings, is_loopback

SERVER = "likeness"
"""What we call ourselves in the Server header; a second start knows the first by it."""
POLICY = (
    # Gradio has inline scripts and builds functions from text; connections, though, go nowhere but here.
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = (
    (b"server", SERVER.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),  # no-referrer would turn the Origin of our own forms into "null"
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
ADDRESS = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>\d{1,5}))?")
NAME = '<label>Name<input name="name" autocomplete="username" autocapitalize="none" required autofocus></label>'
FORM = b"login"  # the query by which the form of login.html is known
JSON_LIMIT = 16 << 20  # bytes
FORM_LIMIT = 4096
TRIES, PATIENCE = 10, 60.0  # wrong logins of one client within so many seconds; then it waits


class Guard:
    """ASGI middleware; must be the outermost."""

    def __init__(self, app: App, settings: Settings) -> None:
        self.app = app
        self.hosts = Hosts(settings)
        self.door = Door(settings) if settings.locked else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with 303, 400, 401, 403, 411, 413, 415 or 429."""
        if scope["type"] == "websocket":  # nothing here uses them
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        guarded = _with_headers(send)
        if why := self.hosts.refuse(scope) or refuse_site(scope):
            return await answer(scope, guarded, 403, "Not from here", why)
        if self.door and (not self.door.open(scope) or self.door.asked(scope)):
            return await self.door.ask(scope, receive, guarded)
        if refusal := refuse_body(scope):
            return await answer(scope, guarded, refusal[0], "Not like this", refusal[1])
        return await self.app(scope, receive, guarded)


class Hosts:
    """The names that we answer to, and whether a request's Host, X-Forwarded-Host and Origin are among them."""

    def __init__(self, settings: Settings) -> None:
        self.named = set(settings.allowed_hosts)
        self.wide = settings.outside
        self.own = socket.gethostname().lower()

    def refuse(self, scope: Scope) -> str:
        """Why the request is for or from someone else; "" when all is well."""
        hosts = headers(scope, "host")
        if len(hosts) != 1:
            return f"A request needs one Host header, and this has {len(hosts)}."
        forwarded = [part.strip() for part in header(scope, "x-forwarded-host").split(",") if part.strip()]
        for host in (*hosts, *forwarded):
            if not self._ours(host):
                return (
                    f"This page does not answer to {host[:100]!r}. If that is a name of yours, a proxy's say, "
                    "start with --allow-host and the name."
                )
        origins = headers(scope, "origin")
        if len(origins) > 1 or (origins and not self._same(origins[0], [*hosts, *forwarded])):
            return (
                f"The page {origins[0][:100]!r} may not use this one. If it is this one, behind a proxy that hides "
                "its name, start with --allow-host and that name and port."
            )
        return ""

    def _ours(self, host: str) -> bool:
        found = _split(host)
        if not found:
            return False
        name, port = found
        if self._named(name, port) or is_loopback(name):
            return True
        # An address cannot be rebound: only a name can lead to two machines.
        return self.wide and (_is_address(name) or name == self.own)

    def _named(self, name: str, port: str) -> bool:
        wild = any(known.startswith("*.") and name.endswith(known[1:]) for known in self.named)
        return wild or name in self.named or f"{name}:{port}" in self.named

    def _same(self, origin: str, hosts: list[str]) -> bool:
        """Whether an Origin is the place that was asked for. A wild card is not enough: its names belong to many."""
        scheme, _, rest = origin.partition("://")
        found = _split(rest)
        if scheme not in ("http", "https") or not found:
            return False
        usual = "443" if scheme == "https" else "80"
        name, port = found[0], found[1] or usual
        asked = [split for host in hosts if (split := _split(host))]
        return (
            any((name, port) == (host[0], host[1] or usual) for host in asked)
            or name in self.named
            or f"{name}:{port}" in self.named
        )


class Door:
    """The login: a token or a name with a password, shown once, then a cookie.

    The cookie is made from the secret and a key that lies in the data folder. So it survives a new start, ends with
    the secret, does not tell it to other servers of this machine (cookies know no ports), and cannot be guessed by
    guessing secrets.
    """

    def __init__(self, settings: Settings) -> None:
        token, name, word = settings.token, settings.username or "", settings.password or ""
        self.named = token is None
        self.secret = token if token is not None else f"{name}\n{word}"
        basic = base64.b64encode(f"{name}:{word}".encode()).decode()
        self.bearer = f"Bearer {token}" if token is not None else f"Basic {basic}"
        self.cookie = f"likeness-{settings.port}"
        self.pass_ = hmac.new(_key(settings.data_dir / "page.key"), self.secret.encode(), hashlib.sha256).hexdigest()
        self._wrong: deque[tuple[float, str]] = deque(maxlen=1000)

    def open(self, scope: Scope) -> bool:
        """Whether the request brings the cookie, or a right Authorization header."""
        for pair in header(scope, "cookie").replace(",", ";").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self.cookie and _equal(value, self.pass_):
                return True
        shown = header(scope, "authorization")
        return bool(shown) and self._try(scope, shown, self.bearer)

    def asked(self, scope: Scope) -> bool:
        """Whether a login is tried, needed or not: a token must not stay in an address."""
        if scope["method"] == "POST":
            return scope["query_string"] == FORM
        return scope["method"] == "GET" and wants_page(scope) and b"token=" in scope["query_string"]

    async def ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Takes a login from ?token= or from the form, else shows the form."""
        query = scope["query_string"].decode("latin-1")
        form = scope["method"] == "POST" and scope["query_string"] == FORM
        shown = await self._form(scope, receive) if form else parse_qs(query).get("token", [""])[0]
        if shown and self._try(scope, shown, self.secret):
            return await self._enter(scope, send, "" if form else query)
        if self._limited(scope):
            wait = ("retry-after", str(int(PATIENCE)))
            words = f"Too many wrong logins: wait {PATIENCE:.0f} seconds, then try again."
            return await answer(scope, send, 429, "Wait a little", words, [wait])
        if shown or header(scope, "authorization"):
            words = "That was not right. Try again."
        elif self.named:
            words = "Likeness was started with a name and a password."
        else:
            words = "Likeness was started with a token: the terminal that started it shows it, with a link."
        body = fill("login.html", name=NAME if self.named else "", secret="Password" if self.named else "Token")
        return await answer(scope, send, 401, "Log in", words, [("www-authenticate", "Bearer")], body)

    async def _form(self, scope: Scope, receive: Receive) -> str:
        """What the form says, "" when it is no form; reads a few kB at most."""
        body, more = b"", True
        while more and len(body) <= FORM_LIMIT:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > FORM_LIMIT:
            return ""
        fields = parse_qs(body.decode("utf-8", "replace"))
        name, word = fields.get("name", [""])[0].strip(), fields.get("word", [""])[0]
        return f"{name}\n{word}" if self.named else word.strip()

    async def _enter(self, scope: Scope, send: Send, query: str) -> None:
        """Sets the cookie and leads to the same address without the token; relative, as a proxy may have renamed it."""
        kept = urlencode([pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != "token"])
        where = f"./{scope['path'].rpartition('/')[2]}" + (f"?{kept}" if kept else "")
        secure = "https" in (scope["scheme"], header(scope, "x-forwarded-proto").split(",")[0].strip())
        cookie = f"{self.cookie}={self.pass_}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax"
        fields = [("location", where), ("set-cookie", cookie + ("; Secure" if secure else ""))]
        await answer(scope, send, 303, "Welcome", "Logged in.", fields)

    def _try(self, scope: Scope, shown: str, right: str) -> bool:
        """Compares what a client shows, and notes it when it is wrong; after too many, even the right one waits."""
        if self._limited(scope):
            return False
        if _equal(shown, right):
            return True
        self._wrong.append((time.monotonic(), _client(scope)))
        return False

    def _limited(self, scope: Scope) -> bool:
        while self._wrong and self._wrong[0][0] < time.monotonic() - PATIENCE:
            self._wrong.popleft()
        tries = sum(client == _client(scope) for _, client in self._wrong)
        return tries >= TRIES or len(self._wrong) == self._wrong.maxlen


def refuse_site(scope: Scope) -> str:
    """Why a browser sends this for another site; "" when all is well. Following a link to us is no harm."""
    site = header(scope, "sec-fetch-site")
    if site in ("", "same-origin", "none"):
        return ""
    place = header(scope, "sec-fetch-mode"), header(scope, "sec-fetch-dest")
    if scope["method"] in ("GET", "HEAD") and place == ("navigate", "document"):
        return ""
    return "Another website asked for this in your browser, and may not."


def refuse_body(scope: Scope) -> tuple[int, str] | None:
    """Status and reason, when a request could have been made by a foreign form, or is larger than JSON ever is here."""
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return None
    kind = header(scope, "content-type").partition(";")[0].strip().lower()
    if kind not in ("application/json", "multipart/form-data"):
        return 415, f"Content-Type {kind[:100]!r}: must be application/json, or multipart/form-data for files."
    if kind == "application/json":
        size = header(scope, "content-length")
        if not size.isdecimal():
            return 411, "JSON needs a Content-Length."
        if int(size) > JSON_LIMIT:
            return 413, f"JSON of {int(size):,} bytes: at most {JSON_LIMIT:,} are read."
    return None


def _with_headers(send: Send) -> Send:
    """Adds our headers to each answer; a policy of the answer's own stays, and both hold."""

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {key for key, _ in HEADERS}
            kept = [(key, value) for key, value in message.get("headers", ()) if key.lower() not in names]
            message = {**message, "headers": [*kept, *HEADERS, (b"content-security-policy", POLICY.encode())]}
        await send(message)

    return guarded


def _split(host: str) -> tuple[str, str] | None:
    """Name and port ("" without) of a Host header; None for what is none."""
    found = ADDRESS.fullmatch(host.strip().lower())
    return (found["name"].strip("[]").rstrip("."), found["port"] or "") if found else None


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _equal(shown: str, right: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "replace"), right.encode())


def _client(scope: Scope) -> str:
    return (scope.get("client") or ("",))[0]


def _key(path: Path) -> bytes:
    """32 random bytes that no one else may read; made at the first start with a login. DiskError if they cannot."""
    try:
        if path.exists() and path.stat().st_size != 32:
            path.unlink()  # torn by a power cut
        with contextlib.suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
        return path.read_bytes()
    except OSError as error:
        raise failed(path, error) from error
