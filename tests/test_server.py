"""The server: its flags, its start and its end, the waiting page, path prefixes, and that it calls nobody."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser import chromium, needs_browser
from tests.proxy import proxy
from tests.tiny_page import HTML, ROOT, Page, running
from trainer import places
from trainer.compare.options import Look
from trainer.compare.shot import Stage
from trainer.errors import InputError
from trainer.images.models import find_model
from trainer.verdict.models import Eyes, available
from webui import __main__ as opened
from webui import process, server
from webui.prefix import Prefix, cleaned
from webui.server import Site, listen, welcome
from webui.settings import UNUSED, Settings, read

# Flags


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login, no ssh, and a data folder of the test's own."""
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_CONNECTION", raising=False)


def test_without_flags(tmp_path: Path) -> None:
    chosen = read([])
    assert (chosen.host, chosen.port, chosen.root_path, chosen.locked) == ("127.0.0.1", 7860, "", False)
    assert chosen.data_dir == tmp_path / "home" and chosen.runs == tmp_path / "home" / "runs"
    assert chosen.models == (tmp_path / "home" / "models",) and chosen.models[0].is_dir()
    assert not chosen.inbrowser and not chosen.headless


def test_both_spellings(tmp_path: Path) -> None:
    models = tmp_path / "sd"
    models.mkdir()
    kohya = ["--listen", "127.0.0.1", "--server_port", "9000", "--root_path", "/a/", "--inbrowser", "--noverify"]
    ours = ["--port", "9000", "--root-path", "a", "--inbrowser"]
    assert read(kohya) == read(ours)
    assert read(ours).root_path == "/a"
    named = read(["--models-dir", str(models), "--ckpt-dir", str(models), "--runs", str(tmp_path / "r")])
    assert named.models[1:] == (models, models) and named.runs.is_dir()
    both = read(["--allow-host", "A.example", "--allow_host", "*.proxy.net", "--headless", "--inbrowser"])
    assert both.allowed_hosts == ("a.example", "*.proxy.net") and both.headless and not both.inbrowser


def test_folders_of_models_are_the_engine_s_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in a folder of --models-dir is found by a job, by each that looks for models by name."""
    other, served = tmp_path / "other", list[dict[str, str]]()
    (other / "dino").mkdir(parents=True)
    (other / "face_yunet.onnx").write_bytes(b"x")
    (other / "dino" / "config.json").write_text('{"architectures": ["Dinov2Model"]}')
    (other / "dino" / "model.safetensors").write_bytes(b"x")
    for name in ("LIKENESS_HOME", "LIKENESS_MODELS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(opened, "serve", lambda chosen: served.append(process.environment(chosen.data_dir)) or 0)
    assert opened.main(["--data-dir", str(tmp_path / "data"), "--models-dir", str(other)]) == 0
    [environment] = served
    monkeypatch.setenv("LIKENESS_MODELS", environment["LIKENESS_MODELS"])
    assert find_model(["yunet"]) == other / "face_yunet.onnx"
    assert available(Eyes())[0].files == (other / "dino",)
    assert Stage(Look()).shelf.folders == [tmp_path / "data" / "models", other]


def test_flags_of_other_programs_are_answered_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for flag, (metavar, _) in UNUSED.items() for word in ([flag, "x"] if metavar else [flag])]
    assert read(words) == read([])
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(UNUSED) and all(" changes nothing: " in line for line in said)


def test_share_opens_nothing_and_says_how_to_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 5000 203.0.113.7 2222")
    chosen = read(["--share", "--port", "7861"])
    assert chosen.host == "127.0.0.1" and "--share opens nothing" in capsys.readouterr().err
    assert re.search(r"ssh -N -L 7861:127\.0\.0\.1:7861 -p 2222 \S+@203\.0\.113\.7\n", welcome(chosen))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--listen"], r"--listen 0\.0\.0\.0: .*login is needed(.|\n)*LIKENESS_TOKEN=\S{16} (.|\n)*ssh -N -L"),
        (["--listen", "192.168.1.5"], "login is needed"),
        (["--listen", "::"], "login is needed"),
        (["--listen", "0.0.0.0", "--token", "short"], "--token has 5 characters and needs 8"),
        (["--listen", "0.0.0.0", "--username", "ann", "--password", "short"], "--password has 5 characters"),
        (["--listen", "no such host"], "--listen no such host: no address"),
        (["--username", "ann"], "belong together"),
        (["--username", "ann", "--password", "word", "--token", "t"], "take the place of --token"),
        (["--token", ""], "not empty"),
        (["--root-path", "/a b"], "--root-path /a b: must look like /likeness"),
        (["--root-path", "/a/../b"], "must look like"),
        (["--models-dir", "/no/such"], "--models-dir /no/such: there is no such folder"),
        (["--browse-dir", "/no/such"], "--browse-dir /no/such: there is no such folder"),
        (["--browse-dir", "/"], "--browse-dir: the whole disk is not shown"),
        (["--data-dir", "/dev/null/x"], "/dev/null/x"),
    ],
)
def test_what_cannot_be_is_said(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(words)


def test_a_port_is_a_port(capsys: pytest.CaptureFixture[str]) -> None:
    for port in ("65536", "-1", "http"):
        with pytest.raises(SystemExit, match="2"):
            read(["--port", port])
        assert port in capsys.readouterr().err


def test_the_token_of_the_environment_gives_way_to_flags() -> None:
    assert read([], "from outside").token == "from outside"
    assert read(["--token", "mine"], "from outside").token == "mine"
    assert read(["--username", "ann", "--password", "word"], "from outside").token is None
    assert read(["--listen", "0.0.0.0"], "long enough").outside


def test_the_browser_of_files_sees_the_home_the_data_and_what_is_named(tmp_path: Path) -> None:
    roots = read(["--browse-dir", str(tmp_path)]).roots
    for folder in (Path.home(), tmp_path, tmp_path / "home"):
        assert any(folder == root or root in folder.parents for root in roots)
    assert all(not {*root.parents} & {*roots} for root in roots) and Path("/") not in roots
    assert places.ROOT.parent in roots or places.ROOT.parent == Path("/")


# Start and end


def test_a_taken_port(tmp_path: Path) -> None:
    facts: Any = {"host": "127.0.0.1", "data_dir": tmp_path, "runs": tmp_path, "models": (), "roots": ()}
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"Port {port} is taken by another program: add --port \d+,") as error:
            listen(Settings(port=port, **facts))
    free = re.search(r"--port (\d+)", str(error.value))
    assert free and int(free[1]) > port
    listen(Settings(port=port, **facts)).close()


def test_a_second_start_is_led_to_the_first(page: Page, tmp_path: Path) -> None:
    port = httpx.URL(page.address).port
    with running(tmp_path, "--port", str(port)) as second:
        assert f"Likeness runs already at {page.address}: open that." in second.said
        assert second.process.wait(20) == 2


def test_the_port_answers_before_gradio_is_imported(tmp_path: Path) -> None:
    code = """
import sys
from webui import __main__, server
late = {"gradio", "fastapi", "starlette", "httpx", "pydantic", "numpy"}
server.Server.run = lambda self, sockets: sys.exit(", ".join(late & sys.modules.keys()))
__main__.main(["--port", "0", "--data-dir", sys.argv[1]])"""
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.strip()) == (1, "")


def test_gradio_writes_no_hints_for_editors_beside_what_is_imported(tmp_path: Path) -> None:
    (tmp_path / "box.py").write_text("import gradio as gr\n\n\nclass Box(gr.Textbox):\n    EVENTS = ['blur']\n")
    code = "import sys; from webui import server, settings\n"
    code += "server.prepare(settings.read(['--data-dir', sys.argv[1]], None)); import box; box.Box().blur"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    subprocess.run([sys.executable, "-c", code, tmp_path / "data"], check=True, env=env)
    assert not list(tmp_path.glob("*.pyi"))


def ask(app: Any, path: str, *fields: tuple[bytes, bytes], method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Status, headers and body of an ASGI app's answer."""
    scope = {"type": "http", "method": method, "path": path, "headers": fields, "query_string": b"a=1"}
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(app(scope, None, send))
    found = {key.decode(): value.decode() for key, value in messages[0]["headers"]}
    return messages[0]["status"], found, messages[1]["body"].decode()


def test_until_the_page_is_built_people_see_so_and_programs_wait(tmp_path: Path) -> None:
    site = Site(read([]), lambda chosen: pytest.fail("not asked for"))
    status, headers, body = ask(site, "/any/where", (b"accept", b"text/html"))
    assert status == 200 and headers["likeness-waiting"] == "1" and "The page is starting" in body
    assert "http" not in body.replace("http-equiv", "")  # it needs nothing from anywhere
    status, headers, body = ask(site, "/api/runs")
    assert (status, headers["retry-after"]) == (503, "1") and "starting" in json.loads(body)["error"]


@pytest.mark.parametrize(("broken", "code"), [("--data-dir: mend it", 2), ("surprise", 1)])
def test_a_page_that_cannot_be_built_ends_the_server(tmp_path: Path, broken: str, code: int) -> None:
    with running(tmp_path, BROKEN=broken) as page:
        said, _ = page.process.communicate(timeout=30)
        assert page.process.returncode == code
    assert broken in said and ("Traceback" in said) == (code == 1)


def test_ctrl_c_ends_it_at_once_though_a_stream_is_open(tmp_path: Path) -> None:
    with running(tmp_path) as page:
        page.ready()
        stream = f"{page.address}gradio_api/heartbeat/x"
        with httpx.stream("GET", stream, timeout=30, trust_env=False) as open_stream:
            assert open_stream.status_code == 200
            page.process.send_signal(signal.SIGINT)
            said, _ = page.process.communicate(timeout=30)  # half a second, but for what else the machine does
        assert page.process.returncode == 130
    assert said == "\nThe page has ended. Jobs that run go on; the next start shows them again.\n"


# Prefixes


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page without flags."""
    with running(tmp_path_factory.mktemp("page")) as found:
        found.ready()
        yield found


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with --root-path."""
    with running(tmp_path_factory.mktemp("rooted"), "--root-path", "/team/likeness") as found:
        found.ready()
        yield found


def greet(address: str) -> str:
    """Opens the page and its parts as a browser does, relative to its address, and presses the button."""
    with httpx.Client(base_url=address, headers={"origin": f"http://{httpx.URL(address).netloc.decode()}"}) as client:
        first = client.get("", headers=HTML)
        assert first.status_code == 200
        config = re.search(r"window\.gradio_config = (\{.*?\});</script>", first.text)
        assert config and json.loads(config[1])["root"].rstrip("/") == address.rstrip("/")
        for part in ("theme.css", "config", "gradio_api/info"):
            assert client.get(part).status_code == 200, part
        until = time.monotonic() + 60
        while (board := client.get("tensorboard/")).status_code == 503 and time.monotonic() < until:
            time.sleep(0.2)
        assert "TensorBoard" in board.text
        assert client.get("tensorboard").headers["location"] == "tensorboard/"
        event = client.post("gradio_api/call/greet", json={"data": ["Ann"]}).json()["event_id"]
        return client.get(f"gradio_api/call/greet/{event}").text


def test_another_port(page: Page) -> None:
    with proxy(page.address, host="kept") as address:
        assert "Hello Ann" in greet(address)


def test_a_prefix_that_the_proxy_strips_and_names(page: Page) -> None:
    with proxy(page.address, "/deep/er", strips=True, host="kept", x_forwarded_prefix="/deep/er") as address:
        assert "Hello Ann" in greet(address)


@pytest.mark.parametrize("strips", [True, False])
def test_a_prefix_that_we_are_told(rooted: Page, strips: bool) -> None:
    with proxy(rooted.address, "/team/likeness", strips=strips, host="kept") as address:
        assert "Hello Ann" in greet(address)


def test_a_prefix_that_the_proxy_names_and_leaves(page: Page) -> None:
    with proxy(page.address, "/deep", host="kept", x_forwarded_prefix="/deep") as address:
        assert "Hello Ann" in greet(address)


def test_a_proxy_that_hides_its_name_is_told_what_to_do(page: Page) -> None:
    with proxy(page.address) as address:
        assert httpx.get(address, headers=HTML).status_code == 200
        refused = httpx.post(f"{address}gradio_api/call/greet", json={}, headers={"origin": address.rstrip("/")})
        assert refused.status_code == 403 and "--allow-host" in refused.json()["error"]


def test_prefixes_are_plain_paths() -> None:
    assert [cleaned(path) for path in ("", "/", "a", "/a/", " /a/b.c~_- ")] == ["", "", "/a", "/a", "/a/b.c~_-"]
    for path in ("//evil.example", "/a//b", "/..", "/a?b", "/a, /b", "http://a", "/ä"):
        with pytest.raises(ValueError, match=r"."):
            cleaned(path)


def test_the_prefix_without_its_slash_leads_to_the_page() -> None:
    status, headers, _ = ask(Prefix(Site(read([]), lambda chosen: pytest.fail("")), "/a/b"), "/a/b")
    assert (status, headers["location"]) == (307, "b/?a=1")
    assert (
        ask(Prefix(Site(read([]), lambda chosen: pytest.fail("")), ""), "/x", (b"x-forwarded-prefix", b"//x"))[0] == 400
    )


# Nothing leaves this machine


def test_no_connection_leaves_this_machine(page: Page, tmp_path: Path) -> None:
    greet(page.address)
    refused = httpx.get(f"{page.address}gradio_api/file=http://192.0.2.1/x.png", trust_env=False)
    assert refused.status_code == 404
    calls = page.folder / "calls"
    assert not calls.exists(), calls.read_text()
    # And the hook does notice.
    code = "import sys, socket; from tests.tiny_page import note_calls; sys.addaudithook(note_calls)\n"
    code += "try: socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "CALLS": str(tmp_path / "c")})
    assert "192.0.2.1" in (tmp_path / "c").read_text()


def test_what_others_set_for_gradio_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.os, "environ", {"GRADIO_SHARE": "True", "GRADIO_ROOT_PATH": "/x", "HOME": "/h"})
    server.prepare(Settings(host="127.0.0.1", port=0, data_dir=tmp_path, runs=tmp_path, models=(), roots=()))
    assert server.os.environ == {
        "HOME": "/h",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
        "GRADIO_TEMP_DIR": str(tmp_path / "temp"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


# In a browser


@needs_browser
def test_the_policy_lets_the_page_work_behind_a_proxy_and_login(tmp_path: Path) -> None:
    from playwright.sync_api import expect

    with (
        running(tmp_path, LIKENESS_TOKEN="open sesame") as found,
        proxy(found.address.partition("?")[0], "/p", strips=True, host="kept", x_forwarded_prefix="/p") as address,
        chromium() as browser,
    ):
        shown = browser.new_page()
        errors: list[str] = []
        asked: list[str] = []
        shown.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(address)
        shown.get_by_label("Token").fill("open sesame")
        shown.get_by_role("button", name="Log in").click()
        shown.get_by_label("Name").fill("Ann", timeout=60_000)  # the waiting page has given way
        shown.get_by_role("button", name="Greet").click()
        expect(shown.get_by_label("Greeting")).to_have_value("Hello Ann", timeout=30_000)
        shown.goto(f"{address}?token=open+sesame&x=1")
        assert shown.url == f"{address}?x=1"
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert [error for error in errors if "Content Security Policy" in error] == []
