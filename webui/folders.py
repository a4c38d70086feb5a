"""The routes of folders: prepared by copying, balanced, rid of duplicates, filled. The work is trainer.folders'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from trainer import aside
from trainer.data.folders import MOST_REPEATS
from trainer.errors import InputError
from trainer.folders import balance, dedupe
from trainer.folders import prepare as preparing
from trainer.folders.options import Balance, Prepare
from trainer.tree import validate
from webui.browse import inside
from webui.routing import Tree, route, text, texts, whole
from webui.settings import Settings

REPEATS = {"repeats": 10, "reg_repeats": 1}


def routes(settings: Settings) -> list[Route]:
    """`/api/folders` and what its tools do at once; what takes long is a job (trainer.jobs)."""
    roots = settings.roots

    def plan(request: Request, body: Tree) -> Tree:
        """{"folder", "how", "steps", "faces", "insecure", "apply", "undo"} -> the report of trainer.folders.balance."""
        folder = inside(text(body, "folder"), roots, "folder")
        return balance.run(validate(Balance, body | {"folder": str(folder)})).to_json()

    def away(request: Request, body: Tree) -> Tree:
        """{"folders", "pictures"} -> {"aside": [{"folder", "names"}]}."""
        folders = [inside(path, roots, "folders") for path in texts(body, "folders")]
        pictures = [_within(path, roots) for path in texts(body, "pictures")]
        return {"aside": dedupe.set_aside(folders, pictures)}

    def back(request: Request, body: Tree) -> Tree:
        """{"aside": [{"folder", "names"}]} -> {"pictures": the paths that are back}."""
        done: list[Path] = []
        if not isinstance(groups := body.get("aside"), list):
            raise InputError("aside: give a list")
        for group in groups:
            one = group if isinstance(group, dict) else {}
            done += aside.put_back(inside(text(one, "folder"), roots, "folder"), texts(one, "names"))
        return {"pictures": [str(path) for path in done]}

    return [
        route("/api/folders", POST=lambda request, body: prepare(body, settings)),
        route("/api/balance", POST=plan),
        route("/api/dedupe/aside", POST=away),
        route("/api/dedupe/back", POST=back),
    ]


def prepare(wish: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Builds `img/<repeats>_<trigger> <class>`, `reg/<reg_repeats>_<class>` (with `reg`), `log` and `model`.

    `wish`: trigger, class, repeats, images, reg, reg_repeats, destination. Gives `images`, `reg`, `output` and
    `logging` for the config, and how many pictures were `copied`.
    """
    given = {name: str(wish.get(name) or "").strip() for name in ("trigger", "images", "reg", "destination")}
    given["class_word"] = str(wish.get("class") or "").strip()
    often = {name: whole(name, wish.get(name, usual), 1, MOST_REPEATS) for name, usual in REPEATS.items()}
    for name in ("images", "reg", "destination"):
        if given[name]:
            given[name] = str(inside(given[name], settings.roots, name))
    for name in ("images", "reg"):
        for file in preparing.listed(name, given[name]) if given[name] else ():
            inside(str(file), settings.roots, name)  # a link must not bring in a file from elsewhere
    return preparing.run(validate(Prepare, {**given, **often})).found


def _within(path: str, roots: Sequence[Path]) -> Path:
    """A picture's place, where a link stays a link: what is set aside is not what it leads to."""
    inside(path, roots, "pictures")
    return inside(str(Path(path).parent), roots, "pictures") / Path(path).name
