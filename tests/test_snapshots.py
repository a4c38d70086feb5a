"""Snapshots give the exact files back, whatever was done to them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import aside
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
    (made.place.parent / "empty").mkdir()  # a crash before the list was written
    assert [each.id for each in snapshots(folder)] == [made.id]
    with pytest.raises(InputError, match="snapshot: "):
        load(folder, "a\0")
    found.restore()
    assert (folder / "a.txt").read_text() == "one" and sorted(os.listdir(tmp_path)) == ["secret", "set"]


def test_a_full_disk_costs_no_file_that_is_kept_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    made, write = begin(tmp_path, "x"), os.write
    made.keep(tmp_path / "a")
    with monkeypatch.context() as full, pytest.raises(DiskError):
        full.setattr(os, "write", lambda file, data: write(file, data[:9]) if len(data) > 9 else write(-1, data))
        made.keep(tmp_path / "b")
    made.keep(tmp_path / "b")
    assert load(tmp_path, made.id).files == {"a": b"a", "b": b"b"}


@pytest.mark.parametrize("link", [".likeness", ".likeness/snapshots", ".likeness/aside"])
def test_nothing_goes_through_a_link_out_of_the_data_set(tmp_path: Path, link: str) -> None:
    folder, outside = tmp_path / "set", tmp_path / "outside"
    (folder / link).parent.mkdir(parents=True)
    (outside / "snapshots" / "x").mkdir(parents=True)
    (folder / link).symlink_to(outside)
    (folder / "a.png").write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    for write in (
        lambda: begin(folder, "x").keep(folder / "a.png"),
        lambda: snapshots(folder),
        lambda: load(folder, "x"),
    ) if link != ".likeness/aside" else (
        lambda: aside.set_aside(folder, [folder / "a.png"]),
        lambda: aside.names(folder),
        lambda: aside.put_back(folder, ["x/a.png"]),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"{link}.*a link leads out of the folder of pictures: remove it"):
            write()
    assert sorted(tmp_path.rglob("*")) == before and (folder / "a.png").read_bytes() == b"mine"


def test_a_link_within_the_data_set_may_stay(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / ".likeness").symlink_to(tmp_path / "hidden")
    (tmp_path / "a.txt").write_text("one")
    made = begin(tmp_path, "x")
    made.write(tmp_path / "a.txt", b"two")
    load(tmp_path, made.id).restore()
    assert (tmp_path / "a.txt").read_text() == "one"
    (tmp_path / ".likeness").unlink()
    (tmp_path / ".likeness").symlink_to(tmp_path / ".likeness")
    with pytest.raises(InputError, match="a link leads out"):
        begin(tmp_path, "x").keep(tmp_path / "a.txt")


def test_pictures_set_aside_come_back_into_the_data_set_alone(tmp_path: Path) -> None:
    folder, outside = tmp_path / "set", tmp_path / "outside"
    outside.mkdir()
    (folder / "10_zk9").mkdir(parents=True)
    (folder / "10_zk9" / "a.png").write_bytes(b"mine")
    names = aside.set_aside(folder, [folder / "10_zk9" / "a.png"])
    (folder / "10_zk9").rmdir()
    (folder / "10_zk9").symlink_to(outside)
    with pytest.raises(InputError, match="10_zk9: a link leads out"):
        aside.put_back(folder, names)
    assert not any(outside.iterdir()) and aside.names(folder) == names


def test_a_folder_that_cannot_be_flushed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")

    def fail(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(aside, "sync_folder", fail)
    with pytest.raises(DiskError, match="the disk reports a fault"):
        aside.set_aside(tmp_path, [tmp_path / "a.png"])
