"""Snapshots give the exact files back, whatever was done to them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.durable import DiskError
from trainer.errors import InputError
from trainer.snapshots import begin, load, snapshots

NAMES = ("a.txt", "b.txt", "10_zk9/a.txt")
Change = tuple[str, bytes | None]


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES if (folder / name).exists()}


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=20)),
    st.lists(st.lists(st.tuples(st.sampled_from(NAMES), st.none() | st.binary(max_size=20)), max_size=6), max_size=5),
)
def test_any_changes_undone_give_the_exact_files_back(first: dict[str, bytes], changes: list[list[Change]]) -> None:
    folder = Path(tempfile.mkdtemp())
    for name, data in first.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    stages = []
    for number, change in enumerate(changes):
        stages.append(content(folder))
        snapshot = begin(folder, f"change {number}")
        for name, data in change:
            if data is None:
                snapshot.keep(folder / name)
                (folder / name).unlink(missing_ok=True)
            else:
                snapshot.write(folder / name, data)
    last, undone = content(folder), []
    made = [snapshot for snapshot in reversed(snapshots(folder)) if snapshot.what.startswith("change")]
    for snapshot in reversed(made):
        undone.append(snapshot.restore())
        assert content(folder) == stages[int(snapshot.what.split()[1])]
    if stages:
        assert content(folder) == first
    for redo in reversed(undone):
        redo.restore()
    assert content(folder) == last
    shutil.rmtree(folder)


def test_a_snapshot_is_listed_with_what_was_done(tmp_path: Path) -> None:
    assert snapshots(tmp_path) == []
    begin(tmp_path, "nothing")
    assert not (tmp_path / ".likeness").exists()
    (tmp_path / "a.txt").write_text("one")
    made = begin(tmp_path, "WD14 captions")
    made.write(tmp_path / "a.txt", b"two")
    made.write(tmp_path / "a.txt", b"three")  # its first state is the one that counts
    made.write(tmp_path / "new.txt", b"four")
    found = snapshots(tmp_path)[0]
    assert (found.what, found.files) == ("WD14 captions", {"a.txt": b"one", "new.txt": None})
    with open(found.place / "list.jsonl", "a") as file:
        file.write('{"file": "cut')  # by a crash
    load(tmp_path, found.id).restore()
    assert (tmp_path / "a.txt").read_text() == "one" and not (tmp_path / "new.txt").exists()
    for wrong in ("gone", "../../x", "a\\b"):
        with pytest.raises(InputError, match="is none of"):
            load(tmp_path, wrong)


def test_pictures_are_copied_beside_the_list(tmp_path: Path) -> None:
    picture, large = tmp_path / "a.png", bytes(range(256)) * 300
    picture.write_bytes(large)
    made = begin(tmp_path, "crop")
    made.write(picture, b"small")
    assert (made.place / "000000.png").read_bytes() == large and len(list(made.place.iterdir())) == 2
    load(tmp_path, made.id).restore()
    assert picture.read_bytes() == large


def test_nothing_is_written_when_the_copy_fails(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / ".likeness").write_text("in the way")
    with pytest.raises(DiskError, match="cannot be written"):
        begin(tmp_path, "x").write(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_text() == "one"


def test_a_list_from_elsewhere_reaches_no_file_outside(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    made = begin(folder, "x")
    made.keep(folder / "a.txt")
    (folder / "link").symlink_to(tmp_path)
    (tmp_path / "secret").write_text("private")
    (folder / "private.txt").symlink_to(tmp_path / "secret")
    with open(made.place / "list.jsonl", "a") as file:
        for name in ("../out.txt", str(tmp_path / "out.txt"), "/out.txt", "link/out.txt", "..", "link", "private.txt"):
            file.write(json.dumps({"file": name, "content": "b25l"}) + "\n")
        file.write(json.dumps({"file": "b.txt", "copy": "../../../../secret"}) + "\n")
        for line in ([1], None, {}, {"what": "no time"}, {"file": 3}, {"file": "b.txt", "content": 4}):
            file.write(json.dumps(line) + "\n")
    (folder / "a.txt").write_text("two")
    found = load(folder, made.id)
    assert found.files == {"a.txt": b"one"}
    found.restore()
    assert (folder / "a.txt").read_text() == "one" and sorted(os.listdir(tmp_path)) == ["secret", "set"]
