"""The routes of the X/Y/Z grid: its form, the count before the start, grids as they are drawn, votes, downloads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from trainer.compare.info import read_info
from trainer.errors import InputError
from webui import gridform, votes
from webui.browse import inside
from webui.files import SAFE, attachment, zipped
from webui.gridfolder import Grids, check_free, file_of, files_of, plan_of
from webui.jobs import Jobs
from webui.routing import Tree, route, text, texts
from webui.settings import Settings
from webui.toolform import keep


def routes(settings: Settings, jobs: Jobs) -> list[Route]:
    """`/api/grids` and what is below it; folders are those that the page may use."""
    api = _Api(settings, jobs)
    return [
        route("/api/grids", GET=api.list, POST=api.start),
        route("/api/grids/form", GET=lambda request, body: gridform.form(settings, jobs)),
        route("/api/grids/count", POST=api.count),
        route("/api/grids/fill", POST=api.fill),
        route("/api/grids/one", GET=api.one),
        route("/api/grids/info", GET=api.info),
        route("/api/grids/vote", POST=api.vote),
        route("/api/grids/trash", POST=api.trash),
        route("/api/grids/file", GET=api.file),
        route("/api/grids/zip", GET=api.zip),
    ]


class _Api:
    """The routes that need more than a line."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings, self.jobs, self.grids = settings, jobs, Grids(jobs)

    def list(self, request: Request, body: Tree) -> Any:
        """-> every grid in short, the newest first."""
        return self.grids.lines()

    def count(self, request: Request, body: Tree) -> Tree:
        """{"values": what stands in the form} -> webui.gridform.count."""
        return gridform.count(gridform.grid_of(_values(body), self.settings), self.jobs)

    def fill(self, request: Request, body: Tree) -> Tree:
        """{"kind", "values": lines that stand there} -> {"values": lines that may stand there}."""
        return {"values": gridform.fill(self.settings, self.jobs, text(body, "kind"), texts(body, "values"))}

    def start(self, request: Request, body: Tree) -> Tree:
        """{"values"} -> {"folder", "run"}: a new grid, or an earlier one drawn again in its folder (`out`)."""
        values = _values(body)
        options = gridform.grid_of(values, self.settings)
        gridform.count(options, self.jobs)  # what cannot be planned is said here, not by a run that fails
        folder = Path(options.out) if options.out else self._fresh()
        check_free(folder, self.grids)
        run = self.jobs.do(gridform.JOB, {**options.model_dump(mode="json"), "out": str(folder)})
        keep(self.settings, gridform.JOB, values)
        return {"folder": str(folder), "run": run}

    def one(self, request: Request, body: Tree) -> Tree:
        """?folder=&stamp=: a grid in full; its plan only when it is another than that of the stamp."""
        return self.grids.one(self._asked(request), request.query_params.get("stamp", ""))

    def info(self, request: Request, body: Tree) -> Tree:
        """?folder=&file= -> {"text": what the picture says of itself, or ""}."""
        told = read_info(file_of(self._asked(request), request.query_params.get("file", "")))
        return {"text": told.text() if told else ""}

    def vote(self, request: Request, body: Tree) -> Tree:
        """{"folder", "better": [x, y, z], "worse"} | {"folder", "star": place, "on"} | {"folder", "undo": true}
        -> the tally (webui.votes)."""
        folder = self._folder(text(body, "folder"))
        plan = plan_of(folder)
        if "star" in body:
            votes.star(folder, plan, _place(body, "star"), body.get("on") is True)
        elif body.get("undo") is True:
            votes.take_back(folder)
        else:
            votes.duel(folder, plan, _place(body, "better"), _place(body, "worse"))
        return votes.tally(folder, plan)

    def trash(self, request: Request, body: Tree) -> Tree:
        """{"folder"} -> {"trash": the folder it lies in now}."""
        return {"trash": str(self.grids.trash(self._folder(text(body, "folder"))))}

    def file(self, request: Request, body: Tree) -> Response:
        """?folder=&file=: a picture as it was drawn, or sheet.png, as a download; with `show` to be looked at."""
        path = file_of(self._asked(request), request.query_params.get("file", ""))
        if "show" in request.query_params:
            headers = {**SAFE, "Cache-Control": "private, max-age=3600" if "v" in request.query_params else "no-cache"}
            return FileResponse(path, media_type="image/png", headers=headers)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name, headers=SAFE)

    def zip(self, request: Request, body: Tree) -> Response:
        """?folder=: all of a grid as one zip, made while it is sent."""
        folder = self._asked(request)
        headers = {**SAFE, "Content-Disposition": attachment(f"{folder.name}.zip")}
        return StreamingResponse(zipped(folder.name, files_of(folder)), media_type="application/zip", headers=headers)

    def _asked(self, request: Request) -> Path:
        return self._folder(request.query_params.get("folder", ""))

    def _folder(self, path: str) -> Path:
        return inside(path, self.settings.roots, "folder")

    def _fresh(self) -> Path:
        """A new folder by the time."""
        name, count = time.strftime("%Y-%m-%d_%H%M%S"), 1
        taken = {line["folder"] for line in self.grids.lines()}
        while (folder := self.grids.root / (name if count == 1 else f"{name}-{count}")).exists() or str(
            folder
        ) in taken:
            count += 1
        return folder


def _values(body: Tree) -> Tree:
    if not isinstance(values := body.get("values"), dict):
        raise InputError("values: give what stands in the form, as an object")
    return values


def _place(body: Tree, name: str) -> list[int]:
    place = body.get(name)
    if not isinstance(place, list) or len(place) != 3 or not all(type(number) is int for number in place):
        raise InputError(f"{name}: give a place as [x, y, z]")
    return place
