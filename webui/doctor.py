"""The cures of the data set doctor: one press each, and one to take it back. Its report is a job (webui.tasks)."""

from __future__ import annotations

import os
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from trainer.doctor.cures import cure
from trainer.errors import InputError
from webui.browse import inside
from webui.routing import Tree, route, text
from webui.settings import Settings


def routes(settings: Settings) -> list[Route]:
    """`/api/doctor/cure` and `/api/doctor/undo`; folders are those that the page may use."""

    def do(folder: str, wish: Tree) -> Tree:
        """Does what a cure says: {"did": in words, "undo": what takes it back, or None, "gone": pictures not there}."""
        place = str(inside(folder, settings.roots, "folder"))
        pictures = _names(wish)
        told = cure(place, text(wish, "do"), pictures, wish)
        gone = [name for name in pictures if not os.path.lexists(os.path.join(place, name))]
        return {"did": _sentence(told["what"]), "undo": told["undo"], "gone": gone}

    def cured(request: Request, body: Tree) -> Tree:
        """{"folder", "do", "pictures", and the cure's arguments} -> what was done (`do` above)."""
        return do(text(body, "folder"), {name: value for name, value in body.items() if name != "folder"})

    def undone(request: Request, body: Tree) -> Tree:
        """{"folder", "undo": as it was given} -> what was done, with the undo of that."""
        if not isinstance(wish := body.get("undo"), dict):
            raise InputError("undo: give what came with the cure")
        return do(text(body, "folder"), wish)

    return [route("/api/doctor/cure", POST=cured), route("/api/doctor/undo", POST=undone)]


def _names(wish: Tree) -> list[str]:
    """The pictures of a cure, by their paths in the folder."""
    found: Any = wish.get("pictures")
    if not isinstance(found, list) or not all(isinstance(name, str) and "\0" not in name for name in found):
        raise InputError("pictures: give their paths in the folder, as a list")
    return found


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
