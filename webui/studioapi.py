"""The routes of Generate: its form, its requests, its pictures."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainer.errors import InputError
from webui import gallery, modelshelf
from webui.browse import inside
from webui.jobs import Jobs
from webui.routing import Tree, route, text, whole
from webui.settings import Settings
from webui.studio import RANDOM, Studio
from webui.toolform import form_of, keep, kept, options_of

JOB = "compare.sample"
WORN = (
    "Worn by each picture at the strength of its slider; `<lora:name:0.8>` in the prompt does the same. An embedding is"
    " a word of the prompt."
)


def routes(settings: Settings, jobs: Jobs) -> list[Route]:
    """All routes under `/api/studio`."""
    page = _Page(settings, jobs)
    return [
        route("/api/studio", GET=lambda request, body: page.studio.look(), POST=page.ask),
        route("/api/studio/stop", POST=page.stop),
        route("/api/studio/free", POST=page.free),
        route("/api/studio/form", GET=page.form, PUT=page.keep),
        route("/api/studio/base", GET=lambda request, body: modelshelf.about(request.query_params.get("base", ""))),
        route("/api/studio/loras", GET=lambda request, body: modelshelf.loras(settings, jobs.runs)),
        route("/api/studio/embeddings", GET=lambda request, body: modelshelf.embeddings(settings, jobs.runs)),
        route("/api/studio/pictures", GET=page.pictures),
        route("/api/studio/info", GET=page.info),
        route("/api/studio/file", GET=page.file),
        route("/api/studio/aside", POST=page.aside),
        route("/api/studio/back", POST=page.back),
    ]


class _Page:
    """The routes that need more than a line."""

    def __init__(self, settings: Settings, jobs: Jobs) -> None:
        self.settings, self.jobs = settings, jobs
        self.studio = Studio(settings, jobs)

    def ask(self, request: Request, body: Tree) -> Tree:
        """{"values": what stands in the form's boxes} -> {"id", "seed"}."""
        values = _values(body)
        told = self.studio.ask(options_of(JOB, values))
        keep(self.settings, JOB, values)
        return told

    def stop(self, request: Request, body: Tree) -> Tree:
        """{"request": id, or null for all} -> {"stopped": how many}."""
        return {"stopped": self.studio.stop(None if body.get("request") is None else text(body, "request"))}

    def free(self, request: Request, body: Tree) -> Tree:
        """Gives the memory back."""
        self.studio.free()
        return {}

    def form(self, request: Request, body: Tree) -> Tree:
        """-> the form (webui.toolform); its seed is random until one is written, as in A1111."""
        told = form_of(self.settings, JOB)
        fields = {field["name"]: field for group in told["groups"] for field in group["fields"]}
        fields["base"]["offers"] = modelshelf.bases(self.settings)
        fields["seed"] |= {
            "default": RANDOM[-1],
            "help": f"{fields['seed']['help']} {RANDOM[-1]} takes another each time.",
        }
        fields["loras"] |= {"label": "LoRAs", "help": WORN}
        if "seed" not in kept(self.settings, JOB):
            told["values"]["seed"] = RANDOM[-1]
        return told

    def keep(self, request: Request, body: Tree) -> Tree:
        """{"values"}: what stands in the form, for the next visit."""
        keep(self.settings, JOB, _values(body))
        return {}

    def pictures(self, request: Request, body: Tree) -> Tree:
        """?folder=&count= -> the newest pictures (webui.gallery)."""
        asked = request.query_params
        folder = gallery.folder_of(self.settings, asked.get("folder", ""))
        return gallery.pictures(folder, whole("count", asked.get("count", "60"), 1, gallery.MOST))

    def info(self, request: Request, body: Tree) -> Tree:
        """?path= -> what a picture says of itself."""
        return gallery.told_of(self.settings, self.jobs.runs, self._picture(request.query_params.get("path", "")))

    def file(self, request: Request, body: Tree) -> Response:
        """?path= -> the picture itself, as a download."""
        return gallery.original(self._picture(request.query_params.get("path", "")))

    def aside(self, request: Request, body: Tree) -> Tree:
        """{"path"} -> {"folder", "name"}, which the way back takes."""
        return gallery.set_aside(self._picture(text(body, "path")))

    def back(self, request: Request, body: Tree) -> Tree:
        """{"folder", "name"} -> {"file"}."""
        return gallery.put_back(inside(text(body, "folder"), self.settings.roots, "folder"), text(body, "name"))

    def _picture(self, path: str) -> Path:
        return gallery.picture_at(self.settings, path)


def _values(body: Tree) -> Tree:
    if not isinstance(values := body.get("values"), dict):
        raise InputError('values: give an object such as {"prompt": "a cat"}')
    return values
