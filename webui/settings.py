"""What the page is started with: the flags of the Kohya GUI and of A1111, and where things lie."""

from __future__ import annotations

import argparse
import getpass
import ipaddress
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer import places
from trainer.durable import make_folder
from trainer.errors import InputError
from webui.prefix import cleaned

SHORTEST = 8  # characters of a token or password that may stand outside this machine
UNUSED = {
    "--language": ("LANGUAGE", "the page speaks English"),
    "--config": ("FILE", "open the file on the page, under Configuration file"),
    "--theme": ("THEME", "the page follows your browser's dark or light"),
    "--requirements": ("FILE", "launch.py installs what is needed by itself"),
    "--noverify": ("", "launch.py checks what is installed at every start, in some milliseconds"),
    "--use-ipex": ("", "the PyTorch of .venv decides; LIKENESS_TORCH=xpu chooses the one for Intel GPUs"),
    "--use-rocm": ("", "the PyTorch of .venv decides; LIKENESS_TORCH=rocm7.2 chooses the one for AMD GPUs"),
    "--do_not_use_shell": ("", "no shell is ever used"),
    "--do_not_share": ("", "nothing is ever shared"),
    "--api": ("", "the page's own address answers under api/"),
    "--debug": ("", "each run's stdout.log holds all there is"),
}
"""Flags of the other programs that change nothing here: what follows them, and the line that says why."""


@dataclass(frozen=True)
class Settings:
    """How the page was started. Paths are absolute; `port` 0 means any free one, until the port is bound."""

    host: str
    port: int
    data_dir: Path
    runs: Path
    models: tuple[Path, ...]
    roots: tuple[Path, ...]  # folders that the page may look into, with all in them that is not hidden
    root_path: str = ""  # what stands before our paths: "" or "/one/two"
    allowed_hosts: tuple[str, ...] = ()  # names besides this machine's own: "name", "name:port" or "*.name"
    token: str | None = None
    username: str | None = None
    password: str | None = None
    inbrowser: bool = False
    headless: bool = False

    @property
    def locked(self) -> bool:
        """Whether one must log in."""
        return bool(self.token or self.username)

    @property
    def outside(self) -> bool:
        """Whether other machines reach the page."""
        return not ipaddress.ip_address(self.host).is_loopback


def read(words: Sequence[str] | None, token: str | None = None) -> Settings:
    """Settings from flags and LIKENESS_TOKEN; makes the data folder. InputError, or exit 2, when they cannot hold."""
    flags = parser().parse_args(words)
    for flag, (_, why) in UNUSED.items():
        if getattr(flags, flag.strip("-").replace("-", "_")):
            print(f"{flag} changes nothing: {why}.", file=sys.stderr)
    if flags.share:
        print("--share opens nothing to the internet; the lines below say how to come over ssh.", file=sys.stderr)
    username, password = flags.username, flags.password
    token = flags.token if flags.token is not None else None if username else token
    if token is not None and (not token.strip() or not token.isascii()):
        raise InputError("--token: must be of letters, digits and signs (ASCII), and not empty")
    if bool(username) != bool(password) or (username and token):
        raise InputError("--username and --password belong together, and take the place of --token: give both, or that")
    data_dir = (flags.data_dir or places.home()).expanduser().resolve()
    runs = (flags.runs or data_dir / "runs").expanduser().resolve()
    models = [path.expanduser().resolve() for path in flags.models_dir] or places.models()[1:]
    browsed = [path.expanduser().resolve() for path in flags.browse_dir]
    for flag, path in [*(("--models-dir", path) for path in models), *(("--browse-dir", path) for path in browsed)]:
        if not path.is_dir():
            raise InputError(f"{flag} {path}: there is no such folder")
    if any(path == Path(path.anchor) for path in browsed):
        raise InputError("--browse-dir: the whole disk is not shown; name the folders that your pictures are in")
    for folder in (data_dir, runs, data_dir / "models"):
        make_folder(folder)
    roots = [Path.home(), places.ROOT.parent, data_dir, runs, *models, *browsed]
    chosen = Settings(
        host=_address(flags.listen),
        port=flags.port,
        data_dir=data_dir,
        runs=runs,
        models=(data_dir / "models", *models),
        roots=_outermost(roots),
        root_path=_root_path(flags.root_path),
        allowed_hosts=tuple(name.strip().lower() for name in flags.allow_host),
        token=token,
        username=username,
        password=password,
        inbrowser=flags.inbrowser and not flags.headless,
        headless=flags.headless or flags.share,
    )
    _check_outside(chosen)
    return chosen


def parser() -> argparse.ArgumentParser:
    """The flags of the page, in both spellings."""
    top = argparse.ArgumentParser(prog="launch.py page", description="Likeness: opens the page.", allow_abbrev=False)
    add = top.add_argument
    everywhere = "listen on this address, without one on all (default: 127.0.0.1, this machine alone); needs a login"
    add("--listen", nargs="?", const="0.0.0.0", default="127.0.0.1", metavar="IP", help=everywhere)
    add("--port", "--server_port", "--server-port", type=_port, default=7860, help="default: 7860; 0: any free one")
    add("--token", help="who opens the page must know it; better set LIKENESS_TOKEN, which a list of processes hides")
    add("--username", help="a login in place of a token, with --password")
    add("--password", help="the password that belongs to --username")
    name = "also answer to this name, as a proxy calls us (mypod-7860.proxy.runpod.net, *.googleusercontent.com)"
    add("--allow-host", "--allow_host", action="append", default=[], metavar="NAME", help=name)
    prefix = "the path under which a proxy shows the page (/likeness); not needed where it sends X-Forwarded-Prefix"
    add("--root-path", "--root_path", "--subpath", default="", metavar="PATH", help=prefix)
    add("--share", action="store_true", help="opens nothing: prints how to reach the page over ssh")
    add("--inbrowser", "--autolaunch", action="store_true", help="open the browser on this machine")
    add("--headless", action="store_true", help="a machine without a screen: never open a browser, print the ssh line")
    add("--data-dir", "--data_dir", type=Path, metavar="DIR", help=f"runs, cache, models (default: {places.home()})")
    add("--runs", type=Path, metavar="DIR", help="where run folders are (default: runs/ in the data folder)")
    models = "a folder of base models to choose from; may be given several times"
    add(
        "--models-dir", "--models_dir", "--ckpt-dir", type=Path, action="append", default=[], metavar="DIR", help=models
    )
    browse = "one more folder that the page's file browser may show; may be given several times"
    add("--browse-dir", "--browse_dir", type=Path, action="append", default=[], metavar="DIR", help=browse)
    for flag, (metavar, why) in UNUSED.items():
        if metavar:
            add(flag, metavar=metavar, help=f"accepted: {why}")
        else:
            add(flag, action="store_true", help=f"accepted: {why}")
    return top


def is_loopback(name: str) -> bool:
    """Whether a host's name or address, without brackets, is this machine seen from itself."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _port(text: str) -> int:
    port = int(text)  # argparse says "invalid value" for what is no number
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port: 0 to 65535")
    return port


def _address(name: str) -> str:
    """The IP address to listen on."""
    try:
        found = socket.getaddrinfo(name.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise InputError(f"--listen {name}: no address of this machine; give an IP address such as 0.0.0.0") from None
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def _root_path(path: str) -> str:
    """`/one/two`, or "" for the root."""
    try:
        return cleaned(path)
    except ValueError:
        raise InputError(f"--root-path {path}: must look like /likeness, of letters, digits and . _ ~ -") from None


def shows(root: Path, path: Path) -> bool:
    """Whether a place lies in a folder, or is it, and nothing on the way there is hidden."""
    return path.is_relative_to(root) and not any(part.startswith(".") for part in path.relative_to(root).parts)


def _outermost(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The folders, less those that another one shows; the whole disk is not a folder to offer."""
    real = dict.fromkeys(path.resolve() for path in folders if path.resolve() != Path(path.resolve().anchor))
    return tuple(path for path in real if not any(shows(other, path) for other in real if other != path))


def _check_outside(chosen: Settings) -> None:
    """Refuses to stand open to other machines without a login worth its name."""
    if not chosen.outside:
        return
    secret = chosen.token or chosen.password
    listen = f"--listen {chosen.host}"
    if secret is None:
        raise InputError(
            f"{listen}: other machines could train, read and delete here, so a login is needed. Start with\n"
            f"    LIKENESS_TOKEN={secrets.token_urlsafe(12)} python launch.py {listen}\n"
            "or with --username NAME --password WORD. Or leave --listen out, and come over ssh:\n"
            f"    {ssh_line(chosen.port)}"
        )
    if len(secret) < SHORTEST:
        what = "--token" if chosen.token else "--password"
        raise InputError(
            f"{listen}: {what} has {len(secret)} characters and needs {SHORTEST} or more to face a network"
        )


def ssh_line(port: int, host: str = "127.0.0.1") -> str:
    """The command that brings our port to another machine; typed there. `host` is where we listen."""
    # SSH_CONNECTION: client's address and port, our address and port as the client sees them.
    there = os.environ.get("SSH_CONNECTION", "").split()
    where, door = (there[2], there[3]) if len(there) == 4 else (socket.gethostname(), "22")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "USER"
    return f"ssh -N -L {port}:{host}:{port} {'' if door == '22' else f'-p {door} '}{user}@{where}"
