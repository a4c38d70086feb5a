"""A page of one button, served as the real one is: `python -m tests.tiny_page [flags]`; and what starts it for a test.

Each try to reach another machine is written to the file that CALLS names.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import look, until
from trainer.errors import InputError
from webui import settings
from webui.server import serve
from webui.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
HTML = {"accept": "text/html"}


def build(chosen: Settings) -> Any:
    """The page: a name, a button, a greeting."""
    if broken := os.environ.get("BROKEN"):
        raise InputError(broken) if broken.startswith("--") else RuntimeError(broken)
    import gradio as gr

    from webui.wiring import compose

    with gr.Blocks(title="Tiny") as blocks:
        name, greeting = gr.Textbox(label="Name"), gr.Textbox(label="Greeting")
        gr.Button("Greet").click(lambda name: f"Hello {name}", name, greeting, api_name="greet")
    return compose(chosen, blocks)


def note_calls(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: notes names that are looked up, and connections that leave this machine."""
    if event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        return
    where = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
    host = where[0] if isinstance(where, tuple) else where
    with contextlib.suppress(ValueError, TypeError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if isinstance(where, tuple) or (event == "socket.getaddrinfo" and host not in (None, "localhost")):
        with open(os.environ["CALLS"], "a") as file:
            file.write(f"{event} {where}\n")


class Page:
    """A running page."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, said: str) -> None:
        self.process, self.folder, self.said = process, folder, said
        self.address = next((word for word in said.split() if word.startswith("http://")), "")

    def ready(self, **fields: str) -> httpx.Response:
        """The page itself, waited for."""

        def first() -> list[httpx.Response]:
            answer = look(self.address, {**HTML, **fields})
            return [] if "likeness-waiting" in answer.headers else [answer]  # one of an error is false by itself

        return until(first)[0]


@contextlib.contextmanager
def running(folder: Path, *flags: str, **env: str) -> Iterator[Page]:
    """Starts the page on a free port, with its data in `folder`; ends it afterwards."""
    command = [sys.executable, "-m", "tests.tiny_page", "--port", "0", "--data-dir", str(folder / "data"), *flags]
    env = {**os.environ, "CALLS": str(folder / "calls"), **env}
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout
    said = ""
    try:
        while "Ctrl-C" not in said and (line := process.stdout.readline()):
            said += line
        yield Page(process, folder, said)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


if __name__ == "__main__":
    sys.addaudithook(note_calls)
    token = os.environ.pop("LIKENESS_TOKEN", None)
    try:
        sys.exit(serve(settings.read(None, token), build))
    except InputError as error:
        print(error)
        sys.exit(2)
