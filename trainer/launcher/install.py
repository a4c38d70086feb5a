"""Making .venv and mending it, step by step and aloud."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from trainer.launcher import LaunchError, clean_env, say
from trainer.launcher.machine import OTHER_TORCH, TORCH, Pick, choose, numbers
from trainer.launcher.venv import Venv

TRY_OUT = """
import torch, trainer
gpu = torch.accelerator.current_accelerator(True)
print(f"PyTorch {torch.__version__} runs on", gpu.type if gpu else "cpu")
"""


def ensure(venv: Venv) -> None:
    """Returns when .venv can be used; makes or mends it first where needed."""
    if venv.look()[0] == "use":
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the running step is ended too
    with venv.alone() as lock:
        action, why = venv.look()  # again: the start that we may have waited for has changed it
        if action != "use":
            plan = {"make": "installing", "update": "bringing it up to date", "aside": "moving it away and installing"}
            say(f"{why}: {plan.get(action, 'installing anew')}. This takes a few minutes, once.")
            install(venv, action, Steps(venv, lock, total=4 if action == "update" else 5))
    signal.signal(signal.SIGTERM, before)


def install(venv: Venv, action: str, steps: Steps) -> None:
    """Does what look() asked for, so that it then says "use"."""
    pick = Pick(venv.backend(), "as before") if action == "update" else choose()
    torch = f"torch=={OTHER_TORCH.get(pick.backend, TORCH)}"
    say(f"{torch}, build {pick.backend}: {pick.why}.")
    if action != "update":
        check_room(venv.root, pick.backend)
        clear(venv.folder, action)
    venv.folder.mkdir(exist_ok=True)
    venv.mark("installing")
    python, pip = str(venv.python), [str(venv.python), "-m", "pip", "install"]
    if action != "update":
        # Not sys.executable: inside the .venv that was just removed, it is gone.
        steps.do("Making .venv", [getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(venv.folder)])
    steps.do("Fetching pip and uv", [*pip, "--upgrade", "pip", "uv"])
    pip += ["--progress-bar", "raw"]
    install_torch(torch, pick.backend, pip, steps)
    steps.do("Installing Likeness and its libraries", [*pip, "--editable", ".[test]"])
    found = steps.do("Trying it out", [python, "-c", TRY_OUT])
    say(f"{found}.")
    if found.endswith(" cpu") and pick.backend != "cpu":
        say("PyTorch does not see the GPU, so training will be slow: is its driver running?")
    venv.mark("ready", python=venv.version(), backend=pick.backend, torch=torch, **venv.needs())


def install_torch(torch: str, backend: str, pip: list[str], steps: Steps) -> None:
    """PyTorch from the index of its builds, which uv knows; out of its reach from the usual one, and says so."""
    uv = [pip[0], "-m", "uv", "pip", "install", "--python", pip[0], "--torch-backend", backend, torch]
    # A rehearsal reads a few kB, so it may give up fast; a download that breaks later is an error, not another build.
    code, answer = steps.ask([*uv, "--dry-run"], UV_HTTP_TIMEOUT="15", UV_HTTP_RETRIES="0")
    if code == 0:
        steps.do(f"Installing {torch} ({backend})", [*uv, "--compile-bytecode"], own_bars=True)
        return
    if "invalid value" in answer:
        raise LaunchError(f"LIKENESS_TORCH={backend} is no build of PyTorch.\n{answer.strip()}")
    reason = (answer.strip().splitlines() or ["no answer"])[-1].strip()
    say(f"The index of the {backend} builds cannot be used ({reason}).")
    say(
        "PyTorch comes from the usual package index instead"
        + ("." if backend == "cpu" else ": it may not fit the GPU.")
    )
    steps.do(f"Installing {torch}", [*pip, torch])


def check_room(root: Path, backend: str) -> None:
    """Refuses to begin on a disk that is too small: 2 GB without CUDA, 6 GB with it, 16 GB with ROCm, and some air."""
    needed, free = 20 if "rocm" in backend else 10 if "cu" in backend else 4, shutil.disk_usage(root).free / 1e9
    if free < needed:
        raise LaunchError(f"The install needs about {needed} GB, but {root} has {free:.1f} GB left: make room first.")


def clear(folder: Path, action: str) -> None:
    """Takes the old .venv away: ours is deleted, that of someone else is renamed."""
    if action == "aside":
        os.rename(folder, f"{folder}-old-{int(time.time())}")
    elif action == "rebuild":
        shutil.rmtree(folder)


class Steps:
    """Runs the commands of an install one by one, and shows which, what it is doing, and for how long."""

    def __init__(self, venv: Venv, lock: int, total: int) -> None:
        self.venv, self.lock, self.total, self.number, self.doing = venv, lock, total, 0, ""
        # PIP_USER in a person's settings would install outside .venv.
        self.env = {**clean_env(), "PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def ask(self, command: list[str], **env: str) -> tuple[int, str]:
        """Exit code and output of a short command."""
        env = {**self.env, **env}
        done = subprocess.run(command, env=env, cwd=self.venv.root, capture_output=True, text=True, errors="replace")
        return done.returncode, done.stdout + done.stderr

    def do(self, title: str, command: list[str], own_bars: bool = False) -> str:
        """Runs one step and gives its last line. On a terminal, a command with bars of its own draws them."""
        self.number, self.doing = self.number + 1, ""
        say(f"[{self.number}/{self.total}] {title}")
        pipe = None if own_bars and sys.stderr.isatty() else subprocess.PIPE
        started, ended, output = time.monotonic(), threading.Event(), [""]
        child = subprocess.Popen(
            command,
            env=self.env,
            cwd=self.venv.root,
            stdout=pipe,
            stderr=pipe and subprocess.STDOUT,
            text=True,
            errors="replace",
            # The child holds the lock too: if we are killed, the next start waits until pip has ended as well.
            pass_fds=() if os.name == "nt" else (self.lock,),
        )
        clock = threading.Thread(target=self._show, args=(started, ended), daemon=True)
        if pipe:
            clock.start()
        try:
            with open(self.venv.log, "a", encoding="utf-8") as log:
                for line in child.stdout or ():
                    self.doing = brief(line, self.doing)
                    if not line.startswith("Progress "):
                        log.write(line)
                        output.append(line.strip() or output[-1])
            code = child.wait()
        finally:
            ended.set()
            child.terminate()
            child.wait()
        if pipe:
            clock.join()
        if code:
            raise failure(title, code, output, self.venv)
        self._line(f"done in {time.monotonic() - started:.0f} s", "\n")
        return output[-1]

    def _show(self, started: float, ended: threading.Event) -> None:
        """What is being done: one moving line on a terminal, else a line every 15 seconds."""
        moving = sys.stderr.isatty()
        while not ended.wait(0.5 if moving else 15):
            minutes, seconds = divmod(int(time.monotonic() - started), 60)
            self._line(f"{minutes}:{seconds:02} {self.doing}", "" if moving else "\n")

    def _line(self, text: str, end: str) -> None:
        width = shutil.get_terminal_size().columns - 7
        text = f"\r      {text[:width]:{width}}" if sys.stderr.isatty() else f"      {text}"
        print(text, end=end, file=sys.stderr, flush=True)


def brief(line: str, before: str) -> str:
    """What to show of a line of pip's output; `before` when it tells nothing new."""
    line = line.strip()
    if re.fullmatch(r"Progress \d+ of \d+", line):
        done, size = numbers(line)
        return f"{before.split(':')[0]}: {100 * done // max(size, 1)} %"
    if line.startswith("Installing collected packages:"):
        return f"Writing {line.count(',') + 1} packages"
    shown = line.startswith(("Collecting ", "Downloading ", "Using cached ", "Building ", "Preparing "))
    return re.sub(r"\S*/| \(from .*", "", line) if shown else before


def failure(title: str, code: int, output: list[str], venv: Venv) -> LaunchError:
    """What a failed step means, from what its output says."""
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    reasons = {
        r"No space left|not enough space": "The disk is full: make room, then start again.",
        r"connection broken|[Nn]ame resolution|[Tt]imed? ?out|Network is unreachable|Failed to establish": (
            "The package index cannot be reached: check the network (or the proxy), then start again."
        ),
        r"ensurepip": "This Python lacks venv. On Debian and Ubuntu: sudo apt install python3-venv, then start again.",
        r"No matching distribution": f"Something has no build for {here}: use a 64-bit Python 3.11 to 3.14.",
        r"Permission denied|Access is denied": f"{venv.folder} cannot be written: see who owns it, then start again.",
    }
    where = f"\n(All that was said is in {venv.log}.)"
    for sign, remedy in reasons.items():
        if any(re.search(sign, line) for line in output):
            return LaunchError(f"{title}: failed. {remedy}{where}")
    return LaunchError("\n".join([f"{title}: failed with exit code {code}.", *output[1:][-15:]]) + where, code=1)
