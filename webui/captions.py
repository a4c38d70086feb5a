"""The routes of the tag editor. Whatever it does is saved at once, and can be undone."""

from __future__ import annotations

import threading
from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import Route

from trainer import aside, snapshots
from trainer.config import Captions
from trainer.data.folders import CONTROLS
from trainer.errors import InputError
from trainer.tags.complete import Lists, complete
from trainer.tags.groups import cures
from trainer.tags.history import ChangedOutside
from trainer.tree import validate
from webui import captionset, captionwords
from webui.browse import inside
from webui.captionset import Session, Sessions
from webui.captionwords import choice, numbers, query
from webui.routing import Tree, route, text, texts
from webui.runs import Conflict
from webui.settings import Settings

LISTS = "tags"  # the folder of tag lists in the data folder
LONGEST = 200  # letters of a tag that is begun


def routes(settings: Settings) -> list[Route]:
    """All routes under `api/captions/`; folders are those that the page may use."""
    editor = _Editor(settings)
    one = "/api/captions/{id}"
    return [
        route("/api/captions/open", POST=editor.open),
        route(f"{one}/find", POST=editor.on(_find)),
        route(f"{one}/edit", POST=editor.on(_edit)),
        route(f"{one}/undo", POST=editor.on(_undo)),
        route(f"{one}/redo", POST=editor.on(_redo)),
        route(f"{one}/refresh", POST=editor.on(_refresh)),
        route(f"{one}/complete", GET=editor.complete),
        route(f"{one}/advice", GET=editor.on(_advice)),
        route(f"{one}/cure", POST=editor.on(_cure)),
        route(f"{one}/snapshots", GET=editor.on(_snapshots)),
        route(f"{one}/restore", POST=editor.on(_restore)),
        route(f"{one}/groups", GET=editor.on(lambda session, body: captionset.groups(session))),
        route(f"{one}/aside", GET=editor.on(_set_aside_before), POST=editor.on(_set_aside)),
        route(f"{one}/put_back", POST=editor.on(_put_back)),
    ]


class _Editor:
    """What all routes share: the open sets, and the tag lists."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.lists = settings, Lists(settings.data_dir / LISTS)
        self.sessions = Sessions(self.lists)

    def on(self, work: Callable[[Session, Tree], Tree]) -> Callable[[Request, Tree], Tree]:
        """Work on an open set, which nobody else does meanwhile; Conflict when another program wrote captions."""

        def act(request: Request, body: Tree) -> Tree:
            session = self.sessions.get(request.path_params["id"])
            with session.lock:
                try:
                    return work(session, body)
                except ChangedOutside as error:
                    raise Conflict(str(error)) from error
                finally:
                    if request.method == "POST":
                        session.forget_counts()

        return act

    def open(self, request: Request, body: Tree) -> Tree:
        """{"folder", "extension", "separator", "weighted"} -> the set."""
        folder = inside(text(body, "folder"), self.settings.roots, "folder")
        wish = {name: body[name] for name in ("extension", "separator", "weighted") if name in body}
        options = validate(Captions, wish).model_dump(include={"extension", "separator", "weighted"})
        if CONTROLS.search(options["separator"]) or "\n" in options["separator"]:
            raise InputError("separator: holds the end of a line, or a sign that is not seen: choose another")
        session = self.sessions.open(folder, **options)
        with session.lock:
            told = session.told()
        threading.Thread(target=self.lists.known, daemon=True).start()  # long ones are read before the first letter
        return told

    def complete(self, request: Request, body: Tree) -> Tree:
        """?text=&mode=start|contain -> tags that a person may be about to write, and which lists are left out."""
        session, asked = self.sessions.get(request.path_params["id"]), request.query_params
        begun = asked.get("text", "")
        mode = choice({"mode": "start", **asked}, "mode", ("start", "contain"))
        if len(begun) > LONGEST:
            raise InputError(f"text: {len(begun)} letters, more than {LONGEST}: write less")
        with session.lock:
            own = session.counts()
        offers = complete(begun, own, self.lists.known(), mode)
        return {"offers": [offer._asdict() for offer in offers], "problems": self.lists.problems}


def _find(session: Session, body: Tree) -> Tree:
    """{"query"} -> the numbers of the pictures that it lets through."""
    wanted = query(body)
    found = session.data.find(wanted) if wanted else session.data.pictures
    return {"ids": [session.number(picture) for picture in found]}


def _edit(session: Session, body: Tree) -> Tree:
    """{"do", ..., "scope", "ids", "query"} -> the change (webui.captionwords)."""
    return session.change(*captionwords.run(session, body))


def _undo(session: Session, body: Tree) -> Tree:
    step = session.history.undo()
    return session.change(step.what, step)


def _redo(session: Session, body: Tree) -> Tree:
    step = session.history.redo()
    return session.change(step.what, step)


def _refresh(session: Session, body: Tree) -> Tree:
    """-> the set, with what other programs changed."""
    session.refresh()
    return session.told()


def _advice(session: Session, body: Tree) -> Tree:
    """-> contradictions and doubles, with what their cures would change."""
    found = captionset.advice(session)
    return {"findings": found, "count": len(found)}


def _cure(session: Session, body: Tree) -> Tree:
    """{"findings": places in the list that was given last, or "all"} -> the change."""
    if body.get("findings") == "all":
        captionset.advice(session)
        wanted = session.findings
    else:
        places = numbers(body, "findings")
        if strange := [place for place in places if not 0 <= place < len(session.findings)]:
            raise InputError(f"findings: {strange[0]} is none of {len(session.findings)}: list them again")
        wanted = [session.findings[place] for place in dict.fromkeys(places)]
    holding = [finding for finding in wanted if captionset.holds(session, finding)]
    what = f"cure: {holding[0].reason}" if len(holding) == 1 else f"cure {len(holding)} findings"
    count = session.history.run(what, cures(holding))
    return session.change(what, session.history.done[-1] if count else None)


def _snapshots(session: Session, body: Tree) -> Tree:
    found = snapshots.snapshots(session.data.folder)
    return {
        "snapshots": [
            {"id": snapshot.id, "what": snapshot.what, "time": snapshot.time, "files": len(snapshot.files)}
            for snapshot in found
        ]
    }


def _restore(session: Session, body: Tree) -> Tree:
    """{"snapshot": id} -> the change."""
    folder = session.data.folder
    snapshot = snapshots.load(folder, text(body, "snapshot"))
    steps = session.history.restore(snapshot.id)
    return session.change(f"restore: {snapshot.what}", *steps, also={folder / file for file in snapshot.files})


def _set_aside_before(session: Session, body: Tree) -> Tree:
    """-> the pictures that are set aside."""
    return {"names": aside.names(session.data.folder)}


def _set_aside(session: Session, body: Tree) -> Tree:
    """{"ids"} -> the change, with the names that put_back takes."""
    pictures = session.pictures(numbers(body, "ids"))
    if not pictures or len(pictures) == len(session.data.pictures):
        raise InputError(f"ids: {len(pictures)} of {len(session.data.pictures)} pictures; choose some, and leave one")
    step = session.history.set_aside(pictures)
    place = session.data.folder / aside.PLACE
    names = [step.moves[picture.path].relative_to(place).as_posix() for picture in pictures]
    return {**session.change(step.what, step), "names": names}


def _put_back(session: Session, body: Tree) -> Tree:
    """{"names"} -> the change."""
    step = session.history.put_back(texts(body, "names"))
    return session.change(step.what, step)
