"""Start Likeness.

    python launch.py [--port N] [...]   open the page on http://127.0.0.1:7860; page --help lists its flags, which are
                                        those of the Kohya GUI (--listen IP, --server_port N, --headless, ...) and more
    python launch.py train CONFIG ...   train, or go on with --resume; --help after it shows its options
    python launch.py config CONFIG ...  check a config, open its pictures, and print what it would do
    python launch.py sweep CONFIG ...   train with several values of some options, and compare the runs
    python launch.py caption DIR ...    write captions beside pictures
    python launch.py images ...         resize, crop, background, report: the pictures of a data set
    python launch.py folders ...        prepare, balance, dedupe, import, group: its folders
    python launch.py models ...         what the tools can use, and a way to fetch it
    python launch.py undo DIR ...       what was changed in a data set, and the way back
    python launch.py lora|model ...     extract, merge, resize, convert, verify, average: files of LoRAs and models
    python launch.py sample|grid ...    pictures by a base model with LoRAs, one by one or side by side
    python launch.py test [...]         ruff, pyrefly, then pytest; what follows goes to pytest
    python launch.py --check            what this machine has and which PyTorch fits; changes nothing
    python launch.py --help             this text

The first start makes the folder .venv and installs everything into it, with the PyTorch that fits this machine. Later
starts need no network. To install anew, for a new GPU say, delete .venv. LIKENESS_TORCH=cu126 (or cpu, xpu, ...) names
another build of PyTorch. Exit codes: 0 done, 2 something you can mend (it says what), 1 a failure, 130 Ctrl-C.
"""

# Like trainer/launcher/, standard library only and readable by Python 3.8, so that it can say when Python is too old.
from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

from trainer.launcher import LaunchError, child_env, say
from trainer.launcher.install import ensure
from trainer.launcher.machine import OTHER_TORCH, TORCH, choose
from trainer.launcher.venv import Venv

ROOT = Path(__file__).resolve().parent
VENV = Venv(ROOT)
OLDEST_PYTHON = (3, 11)
WORDS = (
    "train",
    "config",
    "sweep",
    "caption",
    "images",
    "folders",
    "models",
    "undo",
    "sample",
    "grid",
    "compare",
    "use",
    "lora",
    "model",
    "job",
)
CHECKS = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["pyrefly", "check"])
# -P: a torch.py or trainer/ that lies in the current folder (among downloaded pictures, say) is not imported.
MODULE = [str(VENV.python), "-P", "-m"]


def main(words: list[str]) -> int:
    """The exit code, unless this process has become another."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        say(f"Likeness needs Python 3.11 or newer, and this is {platform.python_version()} ({sys.executable}).")
        return 2
    try:
        if words[:1] in (["-h"], ["--help"]):
            print(__doc__)
            return 0
        if words[:1] == ["--check"]:
            return report()
        command = None if words[:1] == ["test"] else command_for(words)
        ensure(VENV)
        return become(command) if command else run_tests(words[1:])
    except LaunchError as error:
        say(str(error))
        return error.code
    except OSError as error:
        say(f"Likeness cannot start: {error}.")
        return 2
    except KeyboardInterrupt:
        say("\nStopped. An install that was under way is mended by the next start.")
        return 130


def command_for(words: list[str]) -> list[str]:
    """The command line of the engine, or of the page, for what follows launch.py."""
    if words and words[0] in WORDS:
        return [*MODULE, "trainer", *words]
    if words[:1] == ["page"]:
        words = words[1:]
    elif words and not words[0].startswith("-"):
        there = ", ".join(("page", "test", *WORDS))
        raise LaunchError(f"There is no {words[0]!r}; there are {there}. See python launch.py --help.")
    return [*MODULE, "webui", *words]


def run_tests(words: list[str]) -> int:
    """ruff, pyrefly, then pytest, whose closing line comes last; ends at the first that fails."""
    os.chdir(ROOT)
    for check in CHECKS:
        name = " ".join(check)
        say(f"== {name}")
        code = subprocess.run([*MODULE, *check], env=child_env()).returncode
        if code:
            say(f"{name} failed (exit code {code}); what comes after it was not run.")
            return code
    say("== pytest")
    return become([*MODULE, "pytest", *words])


def report() -> int:
    """What --check says."""
    pick, (action, why) = choose(), VENV.look()
    say(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {ROOT}")
    say(f"PyTorch {OTHER_TORCH.get(pick.backend, TORCH)}, build {pick.backend}: {pick.why}.")
    say(".venv is ready." if action == "use" else f".venv is not ready: {why}. The next start installs.")
    return 0


def become(command: list[str]) -> int:
    """Turns this process into the command, so that signals and the exit code pass; Windows can only run it."""
    if os.name != "nt":
        os.execve(command[0], command, child_env())
    child = subprocess.Popen(command, env=child_env())
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # the child gets Ctrl-C as well, and decides
            return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
