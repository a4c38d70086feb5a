"""Data sets that are open in the tag editor. Files are the truth: one that is closed has lost nothing but its undo."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.tags import tokens
from trainer.tags.captions import CaptionSet, Picture
from trainer.tags.complete import Lists
from trainer.tags.groups import Finding, findings
from trainer.tags.history import History, Step
from trainer.tags.kinds import ORDER, TRAITS, has_trait, kind
from trainer.tags.tag import bare
from webui.routing import Tree
from webui.runs import Missing

MOST_OPEN = 6  # each takes up to some 100 MB when very much was done in it

Key = tuple[Path, str, str, bool]


class Session:
    """An open data set: captions, history, and a number for each picture. Whoever uses it holds its `lock`."""

    findings: list[Finding]
    """What was found last: the page tells by their places which are to be cured."""

    def __init__(self, data: CaptionSet, lists: Lists) -> None:
        self.id, self.data, self.history, self.lists = secrets.token_hex(8), data, History(data), lists
        self.lock, self.used = threading.RLock(), time.monotonic()
        self.findings = []
        self._numbers: dict[Path, int] = {}
        self._listed: set[Path] = set()  # what the page was told of last
        self._counts: Counter[str] | None = None

    def counts(self) -> Counter[str]:
        """How often each tag is there; kept, since every letter that is typed asks."""
        if self._counts is None:
            self._counts = self.data.counts()
        return self._counts

    def forget_counts(self) -> None:
        """To be called when captions may have changed."""
        self._counts = None

    def refresh(self) -> None:
        """Takes in what other programs changed."""
        self.history.refresh()
        self.forget_counts()

    def number(self, picture: Picture) -> int:
        """The number of a picture, the same as long as the set is open."""
        return self._numbers.setdefault(picture.path, len(self._numbers))

    def pictures(self, numbers: Iterable[int]) -> list[Picture]:
        """Pictures by their numbers, each once; InputError for one that is not there."""
        there = {self.number(picture): picture for picture in self.data.pictures}
        wanted = list(dict.fromkeys(numbers))
        if strange := [number for number in wanted if number not in there]:
            raise InputError(f"ids: {strange[0]} is no picture of this set any more: refresh the page's list")
        return [there[number] for number in wanted]

    def shown(self, pictures: Collection[Picture]) -> list[Tree]:
        """What the page shows of pictures."""
        return [
            self._shown(picture, count) for picture, count in zip(pictures, self.data.tokens(pictures), strict=True)
        ]

    def told(self) -> Tree:
        """What the page shows of the set."""
        self._listed = {picture.path for picture in self.data.pictures}
        return {
            "id": self.id,
            "folder": str(self.data.folder),
            "pictures": self.shown(self.data.pictures),
            "problems": [vars(problem) for problem in self.data.problems],
            **self._steps(),
            "order": list(ORDER),
            "marks": list(tokens.MARKS),
            "trigger": self.data.trigger(),
            "lists": [file.name for file in self.lists.files()],
        }

    def change(self, what: str, *steps: Step | None, also: Iterable[Path] = ()) -> Tree:
        """What the page is told of a change: the pictures that are different, and no others.

        When pictures came or went, the whole set too. also: pictures that were written.
        """
        touched = set(also)
        for step in filter(None, steps):
            touched |= {*step.after, *step.moves, *step.moves.values()}
        there = {picture.path: picture for picture in self.data.pictures}
        new, gone = there.keys() - self._listed, self._listed - there.keys()
        touched |= new
        changed = [picture for path, picture in there.items() if path in touched or picture.file in touched]
        return {
            **(self.told() if new or gone else {}),
            "what": what,
            "count": len(changed) + len(gone),
            "changed": self.shown(changed),
            "gone": sorted(self._numbers[path] for path in gone),
            **self._steps(),
            "snapshot": next((step.snapshot for step in steps if step and step.snapshot), None),
        }

    def _shown(self, picture: Picture, count: int) -> Tree:
        caption = self.data.caption(picture)
        return {
            "id": self.number(picture),
            "name": plain(picture.path.name),
            "path": _sendable(picture.path),
            "place": plain(picture.path.relative_to(self.data.folder).as_posix(), 1000),
            "caption": plain(picture.file.name),
            "missing": caption.raw is None and not caption.locked,
            "text": caption.line,
            "tags": caption.tags,
            "tokens": count,
            "locked": caption.locked,
            "stamp": _stamp(picture.path),
        }

    def _steps(self) -> Tree:
        done, undone = self.history.done, self.history.undone
        return {"undo": done[-1].what if done else None, "redo": undone[-1].what if undone else None}


class Sessions:
    """The data sets that are open, a handful."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self._open: dict[Key, Session] = {}
        self._opening = threading.Lock()

    def open(self, folder: Path, extension: str, separator: str, weighted: bool) -> Session:
        """The session of a folder, with its undo when it is open already. FolderError for one without pictures."""
        key = (folder, extension, separator, weighted)
        with self._opening:
            if session := self._open.get(key):
                with session.lock:
                    session.refresh()
            else:
                session = Session(CaptionSet(str(folder), extension, separator, weighted), self._lists)
                kept = sorted(self._open.items(), key=lambda item: item[1].used)[-(MOST_OPEN - 1) :]
                self._open = {**dict(kept), key: session}
            session.used = time.monotonic()
            return session

    def get(self, name: str) -> Session:
        """A session by its id; Missing when it is not open, as after a restart of the server."""
        for session in self._open.values():
            if session.id == name:
                session.used = time.monotonic()
                return session
        raise Missing("captions: this data set is no longer open, though all is saved: open it again")


def groups(session: Session) -> Tree:
    """The tags of a set, the most frequent first: `groups` by kind, `traits` by what a character always has."""
    tags = sorted(session.counts().items(), key=lambda pair: (-pair[1], pair[0]))

    def told(name: str, belongs: Callable[[str], bool]) -> Tree:
        return {"name": name, "tags": [{"tag": tag, "count": count} for tag, count in tags if belongs(tag)]}

    return {
        "groups": [told(name, lambda tag, name=name: kind(tag) == name) for name in ORDER],
        "traits": [told(name, lambda tag, name=name: has_trait(tag, (name,))) for name in TRAITS],
    }


def advice(session: Session) -> list[Tree]:
    """What is wrong with the tags of a set, and what the cure of each takes away and adds."""
    session.findings = findings(session.data)
    told = []
    for finding in session.findings:
        old = session.data.caption(finding.picture).tags
        new = finding.cure(old)
        told.append(
            {
                "kind": finding.kind,
                "what": ", ".join(finding.tags),
                "why": finding.reason,
                "id": session.number(finding.picture),
                "remove": [tag for tag in old if tag not in new],
                "add": [tag for tag in new if tag not in old],
            }
        )
    return told


def holds(session: Session, finding: Finding) -> bool:
    """Whether a finding is still true: its picture may have been edited since."""
    there = {bare(tag) for tag in session.data.caption(finding.picture).tags}
    return finding.picture in session.data.pictures and there.issuperset(finding.tags)


def _sendable(path: Path) -> str:
    """The path, "" for one with bytes that are no text, which no page could ask for."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return ""
    return str(path)


def _stamp(path: Path) -> int:
    """When a picture was written, in milliseconds, so that a browser fetches one anew that was edited."""
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0
