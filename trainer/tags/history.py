"""Changes to captions: written to their files at once, and taken back one by one, byte for byte.

Before a file is written its old content goes into a snapshot (trainer.snapshots): each change of several captions has
one of its own, and all changes of single captions since the data set was opened share one. A file that another program
has written meanwhile is never overwritten: `refresh` takes it in as a change like any other, which can be undone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer import aside, snapshots
from trainer.data.pictures import plain
from trainer.durable import DiskError, failed, sync_folder, write_many
from trainer.errors import InputError
from trainer.tags.captions import Caption, CaptionSet, Picture
from trainer.tags.edits import Edit

MOST, MOST_CAPTIONS = 200, 100_000
"""Changes that can be undone, and the captions in all of them: each takes up to 1 kB. Older ones are in snapshots."""


class ChangedOutside(InputError):
    """Another program wrote captions that were to be changed; nothing was."""

    def __init__(self, files: list[Path]) -> None:
        names = ", ".join(plain(file.name) for file in files[:3]) + (" and more" if len(files) > 3 else "")
        super().__init__(f"{len(files)} captions were changed by another program ({names}): take them in first")
        self.files = files


@dataclass(frozen=True)
class Step:
    """One change: its words, and each file before and after it."""

    what: str
    before: Mapping[Path, Caption]
    after: Mapping[Path, Caption]
    snapshot: str = ""
    """The id of the snapshot from before it, when it has one of its own."""
    moves: Mapping[Path, Path] = field(default_factory=dict)
    """Files that were moved: pictures set aside or put back, with their captions."""


class History:
    """All changes to a data set since it was opened. Safe to call from several threads."""

    def __init__(self, data: CaptionSet) -> None:
        self.data = data
        self.done: list[Step] = []
        self.undone: list[Step] = []
        self._single = snapshots.begin(data.folder, "single captions")
        self._lock = threading.RLock()

    def apply(self, edit: Edit, pictures: Iterable[Picture]) -> int:
        """Makes an edit on pictures, and saves. Gives the number of captions that are different now."""
        return self.run(edit.what, [(picture, edit) for picture in pictures])

    def run(self, what: str, edits: Iterable[tuple[Picture, Edit]]) -> int:
        """Makes edits, each on its picture, as one change. A caption that two pictures share is edited once by each.

        The same edit on both counts once. Captions that cannot be edited are passed over: they are among the set's
        problems. Raises ChangedOutside, or DiskError.
        """
        with self._lock:
            new: dict[Path, Caption] = {}
            for file, edit in dict.fromkeys((picture.file, edit) for picture, edit in edits):
                caption = new.get(file, self.data.captions[file])
                if not caption.locked:
                    new[file] = caption.with_tags(edit(caption.tags))
            return self._change(what, new)

    def write(self, picture: Picture, line: str) -> int:
        """Gives a picture's caption another line, as a person wrote it."""
        with self._lock:
            caption = self.data.caption(picture).with_line(line)
            return self._change(f"write {plain(picture.file.name)}", {picture.file: caption})

    def clear(self, pictures: Iterable[Picture]) -> int:
        """Empties captions whole: were other lines left, the next one would be trained."""
        with self._lock:
            old = {picture.file: self.data.caption(picture) for picture in pictures}
            empty = {file: caption.with_text("") for file, caption in old.items() if not caption.locked}
            return self._change(f"clear {len(empty)} captions", empty)

    def set_aside(self, pictures: Iterable[Picture]) -> Step:
        """Moves pictures and their captions out of the data set (trainer.aside); this can be undone."""
        with self._lock:
            gone = dict.fromkeys(picture.path for picture in pictures)
            needed = {picture.file for picture in self.data.pictures if picture.path not in gone}
            moves = aside.away(self.data.folder, gone, needed)
            return self._moved("set pictures aside", moves)

    def put_back(self, names: Iterable[str]) -> Step:
        """Moves pictures back that were set aside, now or in another session; InputError for a wrong name."""
        with self._lock:
            return self._moved("put pictures back", aside.back(self.data.folder, names))

    def undo(self) -> Step:
        """Takes the last change back; InputError when there is none."""
        with self._lock:
            step = _last(self.done, "undo")
            if step.moves:
                self._move({goal: file for file, goal in step.moves.items()}, step.before)
            else:
                self._save(f"undo: {step.what}", step.before)
            self.undone.append(self.done.pop())
            return step

    def redo(self) -> Step:
        """Makes the change again that was taken back last; InputError when there is none."""
        with self._lock:
            step = _last(self.undone, "redo")
            if step.moves:
                self._move(step.moves, step.after)
            else:
                self._save(f"redo: {step.what}", step.after)
            self.done.append(self.undone.pop())
            return step

    def refresh(self, what: str = "changed by another program") -> Step | None:
        """Takes in what lies on the disk now, new pictures too; gives the change that it makes, if any."""
        with self._lock:
            self.data.list_pictures()
            return self._take_in(what, self.data.captions)

    def restore(self, name: str) -> list[Step]:
        """Puts all files of a snapshot back as they were before that change; this can be undone too.

        Gives the changes that it makes: what other programs had written, which is taken in first, and its own.
        """
        with self._lock:
            snapshot = snapshots.load(self.data.folder, name)
            theirs = self.refresh()
            snapshot.restore()
            return [step for step in (theirs, self.refresh(f"restore: {snapshot.what}")) if step]

    def _change(self, what: str, new: Mapping[Path, Caption]) -> int:
        """Saves captions that are different, as a step."""
        after = {file: caption for file, caption in new.items() if caption is not self.data.captions[file]}
        if after:
            before = {file: self.data.captions[file] for file in after}
            self._remember(Step(what, before, after, self._save(what, after)))
        return len(after)

    def _moved(self, what: str, moves: Mapping[Path, Path]) -> Step:
        """Moves files, as a step."""
        nothing, known = Caption(separator=self.data.separator), dict(self.data.captions)
        self._move(moves, {file: nothing for file in moves if file in known})
        after = {file: self.data.captions[file] for file in (*moves, *moves.values()) if file in self.data.captions}
        step = Step(what, {file: known.get(file, nothing) for file in after}, after, moves=moves)
        self._remember(step)
        return step

    def _move(self, moves: Mapping[Path, Path], captions: Mapping[Path, Caption]) -> None:
        """Moves files, after which captions are known to be so."""
        if strange := [file for file in moves if file in captions and not self.data.is_on_disk(file)]:
            raise ChangedOutside(strange)
        aside.move(moves)
        self.data.captions.update(captions)
        for file in moves.values() - captions.keys():
            self.data.captions.pop(file, None)
        self.data.list_pictures()

    def _save(self, what: str, captions: Mapping[Path, Caption]) -> str:
        """Writes captions to their files, their old content into a snapshot before; its id, if it is theirs alone."""
        if strange := [file for file in captions if not self.data.is_on_disk(file)]:
            raise ChangedOutside(strange)
        if shut := [file for file, caption in captions.items() if caption.locked and caption.raw is None]:
            raise InputError(
                f"{plain(shut[0].name)}: {captions[shut[0]].locked}, so it cannot be put back; restore a snapshot"
            )
        snapshot = self._single if len(captions) == 1 else snapshots.begin(self.data.folder, what)
        try:
            snapshot.keep(*captions)
            write_many({file: caption.raw for file, caption in captions.items() if caption.raw is not None})
            _unlink([file for file, caption in captions.items() if caption.raw is None])
        except DiskError:
            self._take_in(f"{what}, which failed half way", captions)
            raise
        self.data.captions.update(captions)
        return "" if snapshot is self._single else snapshot.id

    def _take_in(self, what: str, files: Iterable[Path]) -> Step | None:
        """Reads captions again; what differs from memory becomes a step."""
        now = {file: self.data.read(file) for file in files}
        after = {file: caption for file, caption in now.items() if caption != self.data.captions[file]}
        if not after:
            return None
        step = Step(what, {file: self.data.captions[file] for file in after}, after)
        self.data.captions.update(after)
        self._remember(step)
        return step

    def _remember(self, step: Step) -> None:
        self.done = [*self.done, step][-MOST:]
        while len(self.done) > 1 and sum(len(step.after) for step in self.done) > MOST_CAPTIONS:
            del self.done[0]
        self.undone.clear()


def _last(steps: list[Step], word: str) -> Step:
    if not steps:
        raise InputError(f"{word}: there is nothing to {word}")
    return steps[-1]


def _unlink(files: list[Path]) -> None:
    """Removes captions that were not there before a change."""
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise failed(file, error) from error
    for folder in {file.parent for file in files}:
        sync_folder(folder)
