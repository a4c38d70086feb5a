"""Engines as processes of their own, which no end of the page can harm: how they start, and how they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from trainer.durable import failed, read_json, write_json
from trainer.launcher import child_env
from trainer.runfolder import RunFolder, identity
from webui import machine

# -P: a torch.py or trainer/ that lies among someone's pictures is not imported.
ENGINE = [sys.executable, "-P", "-m", "trainer"]
AGAIN = 0.5  # seconds between two signals to an engine that is to end at once


def start(run: RunFolder, data_dir: Path, *gpus: int | None) -> subprocess.Popen[bytes]:
    """Starts the engine in a run folder, on these GPUs or on what the config says; DiskError when it cannot start.

    It is the head of its own session, and its output goes to a file that nobody must drain. pid.json is written here
    as well, because the engine is busy importing for seconds before it can: a server that is restarted meanwhile must
    find it.
    """
    try:
        with open(run.log, "ab") as log:
            engine = subprocess.Popen(
                [*ENGINE, "job" if run.job else "train", "--run", str(run.path)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=run.path, env=environment(data_dir, *gpus),
                start_new_session=True, creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )  # fmt: skip
    except OSError as error:
        raise failed(run.log, error) from error
    with contextlib.suppress(psutil.Error):  # it has ended already
        begun = psutil.Process(engine.pid)
        while not begun.cmdline():  # the new program is in place a moment before its command line is
            time.sleep(0.001)
        write_json(run.path / "pid.json", {**identity(begun), "events": run.size()})
    return engine


def environment(data_dir: Path, *gpus: int | None) -> dict[str, str]:
    """The environment of an engine: ours, one data folder, and only the GPUs it may use."""
    env = {**child_env(), "LIKENESS_HOME": str(data_dir)}
    # By place on the bus, as NVML counts; CUDA's own order puts the fastest first.
    allowed = ",".join(str(gpu) for gpu in gpus if gpu is not None)
    return {**env, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": allowed} if allowed else env


def terminate(run: RunFolder) -> None:
    """Ends a running engine at once, without saving; one that hangs must be killed."""
    if engine := engine_of(run):
        threading.Thread(target=_insist, args=[engine], name="terminate", daemon=True).start()


def _insist(engine: psutil.Process) -> None:
    """Signals until it has ended: it takes the first signal for a wish to stop, and hears none while it computes."""
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        while engine.is_running() and engine.status() != psutil.STATUS_ZOMBIE:
            if sys.platform == "win32":
                os.kill(engine.pid, signal.CTRL_BREAK_EVENT)
            else:
                engine.terminate()
            time.sleep(AGAIN)


def kill(run: RunFolder) -> None:
    """Ends a running engine and all that it started, at once."""
    if engine := engine_of(run):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            family = [*engine.children(recursive=True), engine]
            if sys.platform != "win32" and os.getpgid(engine.pid) == engine.pid:  # a terminal's group holds others too
                os.killpg(engine.pid, signal.SIGKILL)
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def gpu_of(run: RunFolder) -> int | None:
    """The GPU that a running engine has been given; the first, the engine's own choice, when it was given none."""
    return next(iter(gpus_of(run)), None)


def gpus_of(run: RunFolder) -> list[int]:
    """All GPUs that a running engine may use."""
    given: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, psutil.Error):  # ended, or someone else's
        given = psutil.Process(read_json(run.path / "pid.json")["pid"]).environ()
    return [gpu["index"] for gpu in machine.visible(machine.gpus(), given)]


def note_end(run: RunFolder, code: int) -> None:
    """Keeps how a child of ours ended, for one that could not say it itself."""
    write_json(run.path / "exit.json", {"code": code, "time": time.time()})


def engine_of(run: RunFolder) -> psutil.Process | None:
    """The engine of a run, if it is still the one in pid.json: another process may have its number by now."""
    if not run.alive():
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(read_json(run.path / "pid.json")["pid"])
    return None
