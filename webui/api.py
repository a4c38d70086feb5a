"""The routes of runs, of the queue, of the machine and its files."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from trainer import configio
from trainer.config import Config
from trainer.durable import need_space
from trainer.errors import InputError
from trainer.tree import absolute, check, overlay
from webui.browse import browse
from webui.fields import names
from webui.files import SIZES, download, download_all, thumb, thumbs_of
from webui.jobs import Jobs, flags_of
from webui.machine import machine
from webui.routing import Json, Tree, number, refusal, route, text, whole, whole_or_none
from webui.settings import Settings
from webui.stream import Cursor, stream
from webui.uploads import Upload, receive

MOST_COMPARED = 16


def routes(settings: Settings, jobs: Jobs) -> list[Route]:
    """All routes under `api/`; the guard and the prefix are the server's."""
    api = _Api(settings, jobs)
    run = "/api/runs/{run}"
    return [
        route("/api/runs", GET=lambda request, body: jobs.lines(), POST=api.start),
        route(run, GET=lambda request, body: jobs.detail(_run(request))),
        route(f"{run}/stream", GET=api.stream),
        route(f"{run}/command", POST=api.command),
        route(f"{run}/note", PUT=api.note),
        route(f"{run}/trash", POST=api.trash),
        route(f"{run}/again", POST=api.again),
        route(f"{run}/file/{{path:path}}", GET=api.file),
        route(f"{run}/zip", GET=lambda request, body: download_all(jobs.runs.folder(_run(request)))),
        route(f"{run}/thumb/{{path:path}}", GET=api.thumb),
        route("/api/compare", GET=api.compare),
        route("/api/queue", GET=lambda request, body: jobs.waiting(), POST=api.queue),
        route("/api/options", GET=lambda request, body: names()),
        route("/api/machine", GET=lambda request, body: machine(settings.runs)),
        route("/api/browse", GET=api.browse),
        Route("/api/upload", api.upload, methods=["POST"]),
    ]


class _Api:
    """The routes that need more than a line."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings, self.jobs = settings, jobs

    def start(self, request: Request, body: Tree) -> Tree:
        """{"preset": name | "config": tree, "set": {dotted: value}, "press", "gpu", "at"} -> {"id"}."""
        flags = flags_of(_changes(body))
        if "preset" in body:
            config = configio.load(text(body, "preset"), flags)
        else:
            tree = body.get("config")
            if not isinstance(tree, dict):
                raise InputError("config: give a config, or the name of a preset as preset")
            tree = absolute(configio.migrate(tree, "config"), self.settings.data_dir)
            for flag in flags:
                tree = overlay(tree, configio.flag_tree(flag))
            config = check(overlay(Config().model_dump(mode="json"), tree), "config")
        press = text(body, "press") if "press" in body else None
        return {"id": self.jobs.start(config, press, whole_or_none(body, "gpu"), number(body, "at"))}

    def stream(self, request: Request, body: Tree) -> Response:
        """Server-sent events of a run, from where the page was."""
        return stream(self.jobs, Cursor(self.jobs, _run(request), request.headers.get("last-event-id")))

    def command(self, request: Request, body: Tree) -> Tree:
        """{"command": word} -> {"did": what was done}."""
        return {"did": self.jobs.command(_run(request), text(body, "command"))}

    def note(self, request: Request, body: Tree) -> Tree:
        """{"note": text}."""
        self.jobs.note(_run(request), text(body, "note"))
        return {}

    def trash(self, request: Request, body: Tree) -> Tree:
        """-> {"trash": the folder it lies in now}."""
        return {"trash": str(self.jobs.trash(_run(request)))}

    def again(self, request: Request, body: Tree) -> Tree:
        """{"set": {dotted: value}, "gpu"} -> {"id"} of a new run with these changes."""
        return {"id": self.jobs.again(_run(request), _changes(body), whole_or_none(body, "gpu"))}

    def file(self, request: Request, body: Tree) -> Response:
        """A file of a run, as a download."""
        return download(self.jobs.runs.folder(_run(request)), request.path_params["path"])

    def thumb(self, request: Request, body: Tree) -> Response:
        """A sample picture made small: ?size= pixels."""
        size = whole("size", request.query_params.get("size", "256"), *SIZES)
        folder = self.jobs.runs.folder(_run(request))
        return thumb(folder, request.path_params["path"], size, thumbs_of(self.settings))

    def compare(self, request: Request, body: Tree) -> Tree:
        """?ids=A,B: what differs between runs."""
        runs = list(dict.fromkeys(filter(None, request.query_params.get("ids", "").split(","))))
        if not 1 < len(runs) <= MOST_COMPARED:
            raise InputError(f"ids: {len(runs)} runs; choose 2 to {MOST_COMPARED}")
        return self.jobs.runs.compare(runs)

    def queue(self, request: Request, body: Tree) -> Tree:
        """{"order": ids} | {"paused": bool} | {"id", "at": unix time | null, "gpu": number | null} -> the queue."""
        if isinstance(order := body.get("order"), list) and all(isinstance(run, str) for run in order):
            self.jobs.arrange(order)
        elif isinstance(paused := body.get("paused"), bool):
            self.jobs.pause(paused)
        elif "at" in body or "gpu" in body:
            wishes = {"at": number(body, "at"), "gpu": whole_or_none(body, "gpu")}
            self.jobs.wish(text(body, "id"), **{name: wish for name, wish in wishes.items() if name in body})
        else:
            raise InputError('queue: give {"order": ids}, {"paused": true or false}, or {"id", "at" or "gpu"}')
        return self.jobs.waiting()

    def browse(self, request: Request, body: Tree) -> Tree:
        """?path=&kind=folder|file&ext=.safetensors,.ckpt: what lies in a folder."""
        asked = request.query_params
        endings = [ending.strip() for ending in asked.get("ext", "").split(",") if ending.strip()]
        return browse(asked.get("path", ""), self.settings.roots, asked.get("kind", "folder"), endings)

    async def upload(self, request: Request) -> Response:
        """Files, folders or a zip; fields name, trigger, class, repeats -> {"images", "pictures", "problems"}."""
        upload = None
        try:
            folder = self.settings.data_dir / "uploads"
            need_space(folder, int(request.headers.get("content-length") or 0))
            upload = Upload(folder)
            await receive(upload, request.headers.get("content-type", ""), request.stream())
            return Json(await run_in_threadpool(upload.finish))
        except InputError as error:
            return refusal(error)
        except ClientDisconnect:  # nobody is there to be told
            return Response(status_code=400)
        finally:
            if upload:
                await run_in_threadpool(upload.discard)


def _changes(body: Tree) -> Tree:
    if not isinstance(changes := body.get("set", {}), dict):
        raise InputError('set: give an object such as {"optimizer.lr": 1e-4}')
    return changes


def _run(request: Request) -> str:
    return request.path_params["run"]
