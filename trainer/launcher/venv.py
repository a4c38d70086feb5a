"""The folder .venv: whether it can be used, the stamp that says so, and the lock of those who change it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.launcher import LaunchError, say
from trainer.launcher.machine import OTHER_TORCH, TORCH

RECIPE = 1  # raise it when the way of installing changes: every .venv is then brought up to date


@dataclass(frozen=True)
class Venv:
    """The .venv of the project in `root`."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def stamp(self) -> Path:
        return self.folder / "likeness.json"

    @property
    def log(self) -> Path:
        return self.folder / "install.log"

    def needs(self) -> dict[str, Any]:
        """What an install depends on; a stamp that says otherwise is out of date."""
        import tomllib  # Python 3.11

        try:
            pyproject = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
            project = pyproject["project"]
            parts = [pyproject["build-system"], project["dependencies"], project["optional-dependencies"]]
        except (ValueError, KeyError) as error:
            raise LaunchError(f"pyproject.toml cannot be read: {error}") from None
        digest = hashlib.sha256(json.dumps([*parts, TORCH, OTHER_TORCH], sort_keys=True).encode()).hexdigest()
        return {"recipe": RECIPE, "root": str(self.root), "needs": digest}

    def version(self) -> str:
        """The version of its Python, "" when it does not run. Takes about 15 ms."""
        command = [str(self.python), "-I", "-S", "-c", "import sys; print(sys.version.split()[0])"]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            return ""

    def look(self) -> tuple[str, str]:
        """What to do about it ("use", "make", "update", "rebuild", or "aside": made by someone else), and why."""
        if not os.path.lexists(self.folder):
            return "make", "First start"
        try:
            stamp = json.loads(self.stamp.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return "aside", ".venv was not made by launch.py"
        except ValueError:
            stamp = None
        if not isinstance(stamp, dict) or stamp.get("state") != "ready":
            return "rebuild", "The last install did not finish"
        found = self.version()
        if found != stamp.get("python"):
            return "rebuild", f"The Python in .venv {'has become ' + found if found else 'no longer runs'}"
        if os.environ.get("LIKENESS_TORCH") not in (None, "", stamp.get("backend")):
            return "rebuild", "LIKENESS_TORCH asks for another PyTorch"
        if any(stamp.get(key) != value for key, value in self.needs().items()):
            return "update", "What Likeness needs has changed since .venv was made"
        return "use", ""

    def backend(self) -> str:
        """The build of PyTorch that a ready .venv holds."""
        return json.loads(self.stamp.read_text(encoding="utf-8"))["backend"]

    def mark(self, state: str, **facts: Any) -> None:
        """Writes the stamp, "installing" or "ready"; renamed into place, so that it is never half a stamp."""
        aside = self.stamp.with_suffix(".part")
        aside.write_text(json.dumps({"state": state, **facts}, indent=1), encoding="utf-8")
        os.replace(aside, self.stamp)

    @contextlib.contextmanager
    def alone(self) -> Iterator[int]:
        """Holds the lock of those who install (its file descriptor), waiting for another start that holds it.

        The system frees it when its last holder ends, however it ends: no stale lock can be left behind.
        """
        with open(self.root / ".venv.lock", "a+", encoding="utf-8") as file:
            waiting = False
            while not _lock(file.fileno()):
                if not waiting:
                    file.seek(0)
                    say(f"Another start (process {file.read().strip() or 'unknown'}) is installing; waiting for it.")
                waiting = True
                time.sleep(0.5)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield file.fileno()


def _lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, 1 << 20, os.SEEK_SET)  # locked bytes cannot be read on Windows: take one far from the text
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
