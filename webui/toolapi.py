"""The routes of the page's tools: their forms, their jobs, and the models that they can use."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from trainer import downloads
from trainer.errors import InputError
from webui.jobs import Jobs
from webui.routing import Tree, route
from webui.settings import Settings
from webui.tasks import take_back
from webui.toolform import form_of, keep, options_of


def routes(settings: Settings, jobs: Jobs) -> list[Route]:
    """`/api/tools`: the jobs, newest first; a tool's form; a new job; one taken back; and `/api/models`."""

    def form(request: Request, body: Tree) -> Tree:
        """-> what a tool's form shows (webui.toolform)."""
        return form_of(settings, request.path_params["job"])

    def start(request: Request, body: Tree) -> Tree:
        """{"options": {name: value}} or {"values": what stands in the form's boxes} -> {"id"}."""
        name, values, options = request.path_params["job"], body.get("values"), body.get("options")
        if isinstance(values, dict):
            options = options_of(name, values)
        if not isinstance(options, dict):
            raise InputError('options: give an object such as {"folder": "..."}')
        run = jobs.do(name, options)
        if isinstance(values, dict):
            keep(settings, name, values)
        return {"id": run}

    def undo(request: Request, body: Tree) -> Tree:
        """{"anyway": bool} -> {"files", "undone"} (webui.tasks.take_back)."""
        return take_back(jobs.runs.folder(request.path_params["run"]), body.get("anyway") is True)

    def models(request: Request, body: Tree) -> Tree:
        """-> {"models": those that can be fetched, "folder": where they lie}."""
        return {"models": downloads.listing(), "folder": str(downloads.models_folder())}

    return [
        route("/api/models", GET=models),
        route("/api/tools", GET=lambda request, body: jobs.tasks()),
        route("/api/tools/{job}", GET=form, POST=start),
        route("/api/runs/{run}/undo", POST=undo),
    ]
