"""What the queue does when a training has ended by itself: it finds the best of its files, where that is asked for."""

from __future__ import annotations

import sys
from pathlib import Path

from trainer.durable import DiskError
from trainer.errors import InputError
from trainer.runfolder import RunFolder
from webui.queue import Waiting
from webui.runs import Runs, flat
from webui.settings import Settings
from webui.tasks import config_of, title_of

TOOL = "compare.verdict"


def is_asked(runs: Runs, run: str) -> bool:
    """Whether a run is a training whose best file is to be found afterwards."""
    return dict(flat(runs.config(run))).get("compare.afterwards") is True


def find_the_best(waiting: Waiting, runs: Runs, settings: Settings) -> None:
    """Puts a comparison first in line for each training of `waiting.then` that has ended by itself.

    The queue's file knows them, so any server sees to it, and none does it twice. A training that was stopped, or
    failed, is let go; when it goes on it is noted again.
    """
    for run in list(waiting.then):
        try:
            folder = runs.folder(run)
            state = folder.state()
            if state == "running":
                continue
            turned = state == "stopped" and runs.story(run).last("stopped").get("reason") == "turned"
            if state == "done" or turned:
                task = _begun(runs, folder.path) or _make(folder.path, runs, settings)
                waiting.order = [task, *(other for other in waiting.order if other != task)]
        except DiskError:
            raise  # it may have room later
        except InputError as error:  # it was taken away by hand, or lies where the page may not look
            print(f"{run}: its best file is not looked for: {error}", file=sys.stderr)
        waiting.then.remove(run)


def _begun(runs: Runs, folder: Path) -> str | None:
    """A comparison of a folder that waits already, or that a server made and did not live to queue."""
    mine = [line for line in runs.lines() if line["job"] == TOOL and line["about"]["folder"] == str(folder)]
    return next((line["id"] for line in mine if line["state"] == "queued"), None)


def _make(folder: Path, runs: Runs, settings: Settings) -> str:
    config = config_of(TOOL, {"folder": str(folder)}, settings)
    return RunFolder.make(runs.root, title_of(config), config).path.name
