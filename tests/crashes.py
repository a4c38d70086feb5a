"""The states that a power cut can leave: what was not synced may be lost, or half there.

After ALICE (Pillai et al. 2014, "All File Systems Are Not Created Equal", OSDI).
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer import durable

Names = dict[str, int]  # path under the root -> inode


class Recorder:
    """Watches a folder while something is written in it, at every operation of trainer.durable."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, honest: bool = True) -> None:
        self.root = root
        self.honest = honest  # a disk that lies about fsync: nothing is safe on it
        self.data = self._data(self._names())  # the latest of each inode, also of one that has lost its name
        self.synced = dict(self.data)  # what is there at the start has long been on the disk
        self.moments: list[tuple[list[Names], dict[int, bytes], dict[int, bytes]]] = []
        self.history = [self._names()]
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)
        monkeypatch.setattr(durable, "_fault", lambda operation: self.look())

    def look(self) -> None:
        """Notes what is there now."""
        names = self._names()
        if names != self.history[-1]:
            self.history.append(names)
        self.data |= self._data(names)
        self.moments.append((list(self.history), dict(self.data), dict(self.synced)))

    def settled(self) -> bool:
        """Whether no power cut could take anything back any more."""
        self.look()
        synced = all(self.synced.get(inode) == data for inode, data in self.data.items())
        return self.history == [self._names()] and synced

    def states(self, place: Path) -> Iterator[Path]:
        """Every state that a power cut could have left, made anew in `place`, one after the other."""
        self.look()
        seen = set()
        for history, now, synced in self.moments:
            for names in history:
                for part in (0.0, 0.5, 1.0):  # of what was not synced
                    files = {
                        name: self._left(now[inode], synced.get(inode, b""), part) for name, inode in names.items()
                    }
                    if (key := tuple(sorted(files.items()))) in seen:
                        continue
                    seen.add(key)
                    shutil.rmtree(place, ignore_errors=True)
                    place.mkdir()
                    for name, data in files.items():
                        (place / name).parent.mkdir(parents=True, exist_ok=True)
                        (place / name).write_bytes(data)
                    yield place

    @staticmethod
    def _left(now: bytes, synced: bytes, part: float) -> bytes:
        return synced if part == 0 else now[: int(len(now) * part)] if now != synced else now

    def _sync(self, handle: int) -> None:
        self._fsync(handle)
        names = self._names()
        if not self.honest:
            return
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            self.history = [names]
        else:
            inode = os.fstat(handle).st_ino
            self.synced[inode] = self._data(names)[inode]

    def _names(self) -> Names:
        return {str(p.relative_to(self.root)): p.stat().st_ino for p in sorted(self.root.rglob("*")) if p.is_file()}

    def _data(self, names: Names) -> dict[int, bytes]:
        return {inode: (self.root / name).read_bytes() for name, inode in names.items()}
