"""Sweeps on the page: how many runs one would be, its runs put into the queue, and the table that compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from trainer.config import Config
from trainer.errors import InputError
from trainer.sweep.folder import FILE, SWEEPS, Sweep, SweepFolder, ended, sweeps
from trainer.sweep.planning import plan
from trainer.sweep.table import table_of
from trainer.sweep.vary import config_of, told
from webui.jobs import Jobs
from webui.planline import duration
from webui.planning import Planner
from webui.routing import Tree, route, text, whole
from webui.runs import Missing
from webui.settings import Settings

EVERY, SOME = "every combination", "some, by chance"
PLANNED = 64  # runs that are planned one by one; the rest is reckoned from them
SHOWN = 4
PATIENCE = 10.0  # seconds to wait for the pictures


def sweep_of(config: Config, wish: Mapping[str, Any]) -> tuple[Sweep, list[str]]:
    """The sweep that the fields of the page describe, and warnings.

    wish: `sweep_vary`, an option a line; `sweep_how`, EVERY or SOME; `sweep_count` and `sweep_seed` for SOME.
    InputError names what cannot be trained, before anything is made.
    """
    lines = str(wish.get("sweep_vary") or "").splitlines()
    if wish.get("sweep_how") != SOME:
        return plan(config, lines)
    count = whole("Runs", wish.get("sweep_count"), 1, 1000)
    return plan(config, lines, "random", count, whole("Seed of the sweep", wish.get("sweep_seed"), 0, 2**32 - 1))


def look(config: Config, wish: Mapping[str, Any], planner: Planner) -> list[str]:
    """How many runs and steps a sweep has, how long it takes, its first runs, and warnings; InputError as above."""
    sweep, warnings = sweep_of(config, wish)
    steps, seconds, planned = 0, 0.0, sweep.trials[:PLANNED]
    for place, trial in enumerate(planned):
        outlook = planner.outlook(config_of(sweep.config, trial.values, place), PATIENCE)
        if outlook.mistakes:
            raise InputError(f"{outlook.mistakes}\nrun {place + 1} is {told(trial.values)}")
        steps += outlook.plan.steps if outlook.plan else 0
        seconds = seconds + outlook.seconds if outlook.seconds else -1e18  # one unknown makes the sum unknown
    share = sweep.count / len(planned)
    about = "about " if share > 1 else ""
    time = f", about {duration(seconds * share)}" if seconds > 0 else "; time known after the first steps"
    first = [f"run {place + 1}: {told(trial.values)}" for place, trial in enumerate(sweep.trials[:SHOWN])]
    rest = [f"and {sweep.count - SHOWN} more"] if sweep.count > SHOWN else []
    return [f"{sweep.count} runs, {about}{round(steps * share):,} steps in all{time}.", *first, *rest, *warnings]


def begin(config: Config, wish: Mapping[str, Any], jobs: Jobs) -> str:
    """Makes a sweep and puts its runs into the queue; says so."""
    folder = SweepFolder.make(jobs.runs.root, sweep_of(config, wish)[0])
    count = queue(folder, jobs)
    return f"{count} runs are in the queue. Their table is in Runs, under Sweeps: {folder.path.name}."


def queue(folder: SweepFolder, jobs: Jobs) -> int:
    """Puts every run of a sweep into the queue that has not come to its end, and gives their number."""
    sweep, count = folder.read(), 0
    with jobs.queue.change() as waiting:
        for place in range(len(sweep.trials)):
            run = folder.begin(sweep, place)
            if not (ended(run) or run.alive()):
                waiting.add(run.path.name)
                count += 1
    jobs.advance()
    return count


def routes(settings: Settings, jobs: Jobs) -> list[Route]:
    """`api/sweeps`: every sweep in short; `api/sweeps/{name}`: its table, or, posted to, its runs queued once more."""

    def short(request: Request, body: Tree) -> list[Tree]:
        found: Sequence[SweepFolder] = sweeps(settings.runs)
        return [{"name": folder.path.name, **_short(folder.read())} for folder in found]

    def table(request: Request, body: Tree) -> Tree:
        return table_of(_folder(settings.runs, request)).to_json()

    def again(request: Request, body: Tree) -> Tree:
        if text(body, "do") != "resume":
            raise InputError("do: there is resume")
        return {"queued": queue(_folder(settings.runs, request), jobs)}

    return [route("/api/sweeps", GET=short), route("/api/sweeps/{name}", GET=table, POST=again)]


def _short(sweep: Sweep) -> Tree:
    return {"how": sweep.how, "vary": sweep.vary, "count": sweep.count, "made": sweep.made}


def _folder(runs: Path, request: Request) -> SweepFolder:
    name = request.path_params["name"]
    path = runs / SWEEPS / name
    if Path(name).name != name or not (path / FILE).is_file():
        raise Missing(f"{name[:100]}: there is no such sweep")
    return SweepFolder(path)
