"""The tools of the page: each is a job of its own (trainer.jobs), started here with options that were checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Route

from trainer import downloads
from trainer.captioners.options import OrPath
from trainer.config.parts import IsPath
from trainer.errors import InputError
from trainer.jobs import job_of
from trainer.snapshots import load
from trainer.tree import fields, validate
from webui.browse import inside
from webui.routing import Tree, route, text
from webui.settings import Settings
from webui.toolform import form_of, keep, options_of

if TYPE_CHECKING:  # which itself needs the checks here
    from webui.jobs import Jobs

UNSAFE = re.compile(r"[^\w.-]+")


def config_of(name: str, options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """config.json of a job, with whole paths; InputError has a line for each option that is wrong.

    Raises Outside for a file or folder that the page may not use.
    """
    part = job_of(name).options
    tree = validate(part, options).model_dump(mode="json")
    for option, field in fields(part):
        marks, given = [type(mark) for mark in field.metadata], tree.get(option)
        if given and (IsPath in marks or OrPath in marks):
            whole = [
                str(inside(name, settings.roots, option)) if IsPath in marks or _leads(name) else name
                for name in ([given] if isinstance(given, str) else given)
            ]
            tree[option] = whole[0] if isinstance(given, str) else whole
    return {"job": name, "options": tree}


def _leads(name: str) -> bool:
    """Whether a name leads to a file or folder here, and is none of the hub."""
    return name[:1] in ("~", ".") or os.path.isabs(name) or os.path.exists(name)


def title_of(config: Mapping[str, Any]) -> str:
    """What the run folder of a job is called: `caption.wd14-10_zk9 woman`, safe on any disk."""
    words = [config["job"], Path(config["options"].get("folder", "")).name]
    return "-".join(UNSAFE.sub("_", word)[:60] for word in words if word)


def routes(settings: Settings, jobs: Jobs) -> list[Route]:
    """`/api/tools`: the jobs, newest first; a tool's form; a new job; and `/api/snapshot`: one put back."""

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

    def restore(request: Request, body: Tree) -> Tree:
        """{"folder", "snapshot"} -> {"files": how many are as before, "snapshot": the one that takes this back}."""
        folder = inside(text(body, "folder"), settings.roots, "folder")
        undo = load(folder, text(body, "snapshot")).restore()
        return {"files": len(undo.files), "snapshot": undo.id}

    def models(request: Request, body: Tree) -> Tree:
        """-> {"models": those that can be fetched, "folder": where they lie}."""
        return {"models": downloads.listing(), "folder": str(downloads.models_folder())}

    return [
        route("/api/models", GET=models),
        route("/api/tools", GET=lambda request, body: jobs.tasks()),
        route("/api/tools/{job}", GET=form, POST=start),
        route("/api/snapshot", POST=restore),
    ]
