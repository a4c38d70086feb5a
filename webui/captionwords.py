"""What the tag editor can do to captions: each word with its fields, read out of a request and made an edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.tags import edits, tokens
from trainer.tags.captions import Picture, Scope
from trainer.tags.edits import Edit, Place
from trainer.tags.history import Step
from trainer.tags.query import Query, parse
from webui.captionset import Session
from webui.routing import Tree, text, texts

Make = Callable[[Session, Tree, Sequence[Picture]], Edit]

MOST = 10_000  # of tags, or of places among them
HEAVIER = 2.0


def run(session: Session, body: Tree) -> tuple[str, Step | None]:
    """Does what a request asks for; what it did in words, and the step if it changed anything.

    InputError names the field that is wrong. Raises ChangedOutside, or DiskError.
    """
    word = choice(body, "do", (*EDITS, "text", "clear"))
    pictures = chosen(session, body, "one" if word in ("text", "tags") else None)
    captions = [session.data.caption(picture) for picture in pictures]
    if captions and all(caption.locked for caption in captions):
        raise InputError(
            f"{plain(pictures[0].file.name)}: {captions[0].locked}; mend the file in another program first"
        )
    what = f"{word}: nothing to change"
    if word == "text":
        count = session.history.write(pictures[0], text(body, "text"))
    elif word == "clear":
        count = session.history.clear(pictures)
    else:
        edit = EDITS[word](session, body, pictures)
        count, what = session.history.apply(edit, pictures), edit.what
    step = session.history.done[-1] if count else None
    return step.what if step else what, step


def chosen(session: Session, body: Tree, scope: Scope | None = None) -> Sequence[Picture]:
    """The pictures that a request means by its scope, ids and query."""
    scope = scope or choice(body, "scope", get_args(Scope))
    if scope == "all":
        return session.data.pictures
    if scope == "filtered":
        return session.data.scoped("filtered", query=query(body))
    pictures = session.pictures(numbers(body, "ids"))
    if not pictures:
        raise InputError("ids: no picture is chosen: choose one, or another scope")
    return session.data.scoped(scope, pictures)


def query(body: Tree) -> Query | None:
    """The filter of a request, None for an empty one; InputError with the place where it is wrong."""
    words = text({"query": "", **body}, "query")
    return parse(words) if words.strip() else None


def numbers(body: Tree, name: str) -> list[int]:
    """A list of whole numbers."""
    value = body.get(name)
    if not isinstance(value, list) or any(isinstance(one, bool) or not isinstance(one, int) for one in value):
        raise InputError(f"{name}: give a list of whole numbers")
    return value


def choice(body: Tree, name: str, choices: Sequence[str]) -> Any:
    """One of several words."""
    value = body.get(name)
    if not isinstance(value, str) or value not in choices:
        shown = "is missing" if value is None else f"{plain(str(value), 40)!r} is unknown"
        raise InputError(f"{name}: {shown}; choose from {', '.join(choices)}")
    return value


def yes(body: Tree, name: str, default: bool = False) -> bool:
    """True or false."""
    if not isinstance(value := body.get(name, default), bool):
        raise InputError(f"{name}: {plain(str(value), 40)!r} is neither true nor false")
    return value


def _whole(body: Tree, name: str, default: int | None, least: int, most: int) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name}: {plain(str(value)[:99], 40)!r} is not a whole number from {least} to {most:,}")
    return value


def _tags(session: Session, body: Tree, empty: bool = False) -> list[str]:
    """`tags`: a list, or a line with separators; what holds a separator is several tags."""
    value = body.get("tags", body.get("text"))
    lines = [value] if isinstance(value, str) else texts({"tags": value}, "tags")
    tags = [tag for line in lines for tag in edits.split(line, session.data.separator)]
    if not tags and not empty:
        raise InputError("tags: there is none: write one, or several with the separator between them")
    if len(tags) > MOST:
        raise InputError(f"tags: {len(tags)}, more than {MOST:,}: give fewer")
    return tags


def _place(body: Tree) -> Place:
    at = body.get("at", "bottom")
    if isinstance(at, int):
        return _whole(body, "at", None, 0, MOST)
    return choice({"at": at}, "at", ("top", "center", "bottom"))


def _pairs(body: Tree) -> dict[str, str]:
    pairs = body.get("pairs")
    if not isinstance(pairs, dict) or not all(isinstance(new, str) for new in pairs.values()):
        raise InputError('pairs: give an object of texts, such as {"old tag": "new tag"}')
    if not all(old.strip() for old in pairs):
        raise InputError("pairs: a tag to be replaced is empty: write it, or take the pair away")
    return {old.strip(): new for old, new in pairs.items()}


def _regex(session: Session, body: Tree, pictures: Sequence[Picture]) -> Edit:
    pattern, replacement = text(body, "pattern"), text(body, "replacement")
    if not pattern:
        raise InputError("pattern: it is empty: write what is to be found")
    captions = [session.data.caption(picture).tags for picture in pictures]
    return edits.regex(pattern, replacement, captions, yes(body, "whole"), session.data.separator)


def _sort(session: Session, body: Tree, pictures: Sequence[Picture]) -> Edit:
    by = choice(body, "by", ("alphabet", "frequency", "kind"))
    return edits.sort(by, _whole(body, "keep", 0, 0, MOST), session.counts(), yes(body, "backwards"))


def _truncate(session: Session, body: Tree, pictures: Sequence[Picture]) -> Edit:
    separator, weighted = f"{session.data.separator} ", session.data.weighted
    limit = _whole(body, "tokens", tokens.MARKS[0], 1, MOST)
    captions = [session.data.caption(picture).tags for picture in pictures]
    return edits.truncate(limit, captions, lambda many: tokens.count([*map(separator.join, many)], weighted))


def _weigh(session: Session, body: Tree, pictures: Sequence[Picture]) -> Edit:
    by = body.get("by")
    if isinstance(by, bool) or not isinstance(by, int | float) or not -HEAVIER <= by <= HEAVIER:
        raise InputError(
            f"by: {plain(str(by)[:99], 40)!r} is not a number from {-HEAVIER:g} to {HEAVIER:g}, such as 0.1"
        )
    return edits.weigh(_tags(session, body), by)


def _bake_in(session: Session, body: Tree, pictures: Sequence[Picture]) -> Edit:
    traits = texts({"traits": [], **body}, "traits")
    others = _tags(session, {"tags": [], **body}, empty=True)
    if not traits and not others:
        raise InputError("traits: there is none: choose what should always appear")
    return edits.bake_in(traits, others)


def _spaces(session: Session, body: Tree, pictures: Sequence[Picture]) -> Edit:
    brackets = choice({"brackets": "", **body}, "brackets", ("", "escape", "plain"))
    return edits.spaces(yes(body, "underscores", True), brackets)


def _exactly(session: Session, body: Tree, pictures: Sequence[Picture]) -> Edit:
    tags = _tags(session, body, empty=True)
    return Edit(f"arrange {plain(pictures[0].file.name)}", lambda old: tags)


EDITS: dict[str, Make] = {
    "add": lambda session, body, _: edits.add(_tags(session, body), _place(body), yes(body, "move")),
    "remove": lambda session, body, _: edits.remove(_tags(session, body)),
    "replace": lambda session, body, _: edits.replace(_pairs(body)),
    "regex": _regex,
    "sort": _sort,
    "order": lambda session, body, _: edits.order(session.data.trigger()),
    "keep_first": lambda session, body, _: edits.keep_first(_whole(body, "number", None, 0, MOST)),
    "dedupe": lambda session, body, _: edits.dedupe(),
    "truncate": _truncate,
    "weigh": _weigh,
    "bake_in": _bake_in,
    "set_all": lambda session, body, _: edits.set_all(_tags(session, body), yes(body, "only_empty")),
    "tags": _exactly,
    "spaces": _spaces,
}
"""Words that change tags, and what each needs; `text` and `clear` change whole captions."""
