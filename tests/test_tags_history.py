"""Undo gives the exact files back, whatever was done; and what another program wrote is never lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tagging import files, tagged
from trainer import durable
from trainer.durable import DiskError
from trainer.errors import InputError
from trainer.snapshots import snapshots
from trainer.tags import edits
from trainer.tags import history as history_module
from trainer.tags.captions import CaptionSet
from trainer.tags.edits import Edit
from trainer.tags.history import ChangedOutside, History

NAMES = ("1_zk9/a", "1_zk9/b", "2_body/c", "2_body/d")
SAMPLES = (
    None,
    b"",
    b"zk9,  smile ,hat\r\nsecond\r\n",
    b"\xef\xbb\xbfzk9, (smile:1.2)",
    "café".encode("cp1252"),
    b"\xff\xfe\xfd\x80\x81",
)


def zk9(root: Path) -> tuple[CaptionSet, History]:
    """Three pictures: two captions, and one that is not there."""
    data = tagged(root, {"1_zk9/a": "zk9, smile\n", "1_zk9/b": "zk9,hat", "1_zk9/c": None})
    return data, History(data)


words = st.sampled_from(["zk9", "smile", "hat", "(hat:1.2)", "red hat"])
some = st.lists(words, min_size=1, max_size=2)
changes = st.one_of(
    st.builds(edits.add, some, st.sampled_from(["top", "center", "bottom", 1]), st.booleans()),
    st.builds(edits.remove, some),
    st.builds(edits.replace, st.dictionaries(words, words, max_size=2)),
    st.builds(edits.sort, st.sampled_from(["alphabet", "kind"])),
    st.builds(edits.keep_first, st.integers(0, 2)),
    st.builds(edits.weigh, some, st.sampled_from([0.1, -0.2])),
    st.builds(edits.dedupe),
    st.builds(edits.set_all, some, st.booleans()),
)
outside = st.tuples(st.sampled_from(NAMES), st.sampled_from(SAMPLES))
pictures = st.sets(st.integers(0, 3), min_size=1)
acts = st.lists(st.tuples(changes, pictures) | st.tuples(st.just("write"), words) | outside, max_size=7)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(SAMPLES), min_size=4, max_size=4), acts, st.data())
def test_any_edits_undone_give_the_exact_files_back(first: list[bytes | None], acts: list, draw: st.DataObject) -> None:
    root = Path(tempfile.mkdtemp())
    data = tagged(root, dict(zip(NAMES, first, strict=True)))
    history, stages = History(data), [files(root)]
    for act in acts:
        before = len(history.done)
        if isinstance(act[0], Edit):
            history.apply(act[0], [data.pictures[number] for number in act[1]])
        elif act[0] == "write":
            if not data.caption(data.pictures[0]).locked:
                history.write(data.pictures[0], act[1])
        else:
            path = root / f"{act[0]}.txt"
            path.unlink(missing_ok=True) if act[1] is None else path.write_bytes(act[1])
            history.refresh()
        stages += [files(root)] * (len(history.done) - before)
        assert stages[-1] == files(root)
        steps = draw.draw(st.integers(0, 1))  # now and then back and forth between edits
        if steps and history.done:
            history.undo()
            assert files(root) == stages[-2]
            history.redo()
            assert files(root) == stages[-1]
    for stage in reversed(stages[:-1]):
        history.undo()
        assert files(root) == stage
        assert all(data.read(file) == caption for file, caption in data.captions.items())
    for stage in stages[1:]:
        history.redo()
        assert files(root) == stage
    assert not list(root.glob("**/*.part"))
    shutil.rmtree(root)


def test_edits_are_saved_at_once_and_only_where_something_changes(tmp_path: Path) -> None:
    data, history = zk9(tmp_path)
    untouched = (tmp_path / "1_zk9/b.txt").stat()
    assert history.apply(edits.replace({"smile": "grin"}), data.pictures) == 1
    assert files(tmp_path) == {"1_zk9/a.txt": b"zk9, grin\n", "1_zk9/b.txt": b"zk9,hat"}
    assert (tmp_path / "1_zk9/b.txt").stat() == untouched
    assert history.apply(edits.remove(["nothing"]), data.pictures) == 0 and len(history.done) == 1
    assert history.apply(edits.add(["x"]), data.pictures) == 3
    assert (tmp_path / "1_zk9/c.txt").read_bytes() == b"x"
    assert data.counts()["x"] == 3
    assert history.undo().what == "add x" and not (tmp_path / "1_zk9/c.txt").exists()
    history.apply(edits.add(["y"]), data.pictures[:1])
    with pytest.raises(InputError, match="redo: there is nothing to redo"):
        history.redo()
    history.undo()
    history.undo()
    with pytest.raises(InputError, match="undo: there is nothing to undo"):
        history.undo()


def test_a_caption_of_two_pictures_is_edited_once(tmp_path: Path) -> None:
    tagged(tmp_path, {"1_zk9/a": "(zk9:1.1)"})
    (tmp_path / "1_zk9/a.jpg").touch()
    data = CaptionSet(str(tmp_path))
    assert len(data.pictures) == 2
    assert History(data).apply(edits.weigh(["zk9"], 0.1), data.pictures) == 1
    assert files(tmp_path) == {"1_zk9/a.txt": b"(zk9:1.2)"}


def test_a_caption_written_by_another_program_is_not_overwritten(tmp_path: Path) -> None:
    data, history = zk9(tmp_path)
    history.apply(edits.add(["x"]), data.pictures)
    mine = files(tmp_path)
    (tmp_path / "1_zk9/a.txt").write_text("theirs")
    theirs = files(tmp_path)
    for act in (lambda: history.apply(edits.add(["y"]), data.pictures), history.undo):
        with pytest.raises(ChangedOutside, match=r"1 captions were changed by another program \(a.txt\): take them in"):
            act()
        assert files(tmp_path) == theirs
    assert history.apply(edits.add(["y"]), data.pictures[1:2]) == 1  # other captions are free
    history.undo()
    step = history.refresh()
    assert step and step.what == "changed by another program" and list(step.after) == [data.pictures[0].file]
    assert data.caption(data.pictures[0]).tags == ("theirs",)
    assert history.refresh() is None
    history.undo()
    assert files(tmp_path) == mine
    history.redo()
    assert files(tmp_path) == theirs


def test_new_pictures_come_in_and_lost_ones_can_come_back(tmp_path: Path) -> None:
    data, history = zk9(tmp_path)
    history.apply(edits.add(["x"]), data.pictures)
    before = files(tmp_path)
    (tmp_path / "1_zk9/a.png").unlink()
    (tmp_path / "1_zk9/a.txt").unlink()
    (tmp_path / "1_zk9/d.png").touch()
    (tmp_path / "1_zk9/d.txt").write_text("d")
    history.refresh()
    assert [picture.path.stem for picture in data.pictures] == ["b", "c", "d"] and data.counts()["x"] == 2
    history.undo()
    assert files(tmp_path) == before | {"1_zk9/d.txt": b"d"}
    history.undo()
    assert files(tmp_path)["1_zk9/a.txt"] == b"zk9, smile\n"


def test_each_bulk_change_has_a_snapshot_and_single_ones_share_one(tmp_path: Path) -> None:
    data, history = zk9(tmp_path)
    first = files(tmp_path)
    for word in "xyz":
        history.write(data.pictures[0], word)
    middle = files(tmp_path)
    history.apply(edits.add(["bulk"]), data.pictures)
    last = files(tmp_path)
    bulk, single = snapshots(data.folder)
    assert (bulk.what, single.what) == ("add bulk", "single captions")
    [step] = history.restore(bulk.id)
    assert step.what == "restore: add bulk" and files(tmp_path) == middle
    history.restore(single.id)
    assert files(tmp_path) == first
    history.undo()
    history.undo()
    assert files(tmp_path) == last


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, history = zk9(tmp_path)
    first = files(tmp_path)

    def full(operation: str) -> None:
        if operation == "fsync":
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(durable, "_fault", full)
    with pytest.raises(DiskError, match="make room on this disk"):
        history.apply(edits.add(["x"]), data.pictures)
    assert files(tmp_path) == first and history.done == []
    assert data.caption(data.pictures[0]).tags == ("zk9", "smile")


def test_what_was_changed_before_a_failure_can_be_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, history = zk9(tmp_path)
    first, replace, done = files(tmp_path), os.replace, []

    def once(old: Path, new: Path) -> None:
        if done:
            raise OSError(5, os.strerror(5))
        done.append(new)
        replace(old, new)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(DiskError, match="the disk reports a fault"):
        history.apply(edits.add(["x"]), data.pictures)
    monkeypatch.undo()
    assert len(history.done) == 1 and history.done[0].what == "add x, which failed half way"
    assert data.counts()["x"] == 1 and files(tmp_path) != first
    history.undo()
    assert files(tmp_path) == first


def test_a_caption_that_became_too_long_stays_out_of_edits(tmp_path: Path) -> None:
    data, history = zk9(tmp_path)
    (tmp_path / "1_zk9/a.txt").write_text("x" * 70_000)
    history.refresh()
    assert history.apply(edits.add(["x"]), data.pictures) == 2
    history.undo()
    history.undo()
    assert files(tmp_path) == {"1_zk9/a.txt": b"zk9, smile\n", "1_zk9/b.txt": b"zk9,hat"}
    with pytest.raises(InputError, match=r"a.txt: longer than 64 KiB, so it cannot be put back; restore a snapshot"):
        history.redo()


def test_the_oldest_changes_are_forgotten_when_they_hold_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "MOST_CAPTIONS", 4)
    data, history = zk9(tmp_path)
    for word in "xyz":
        history.apply(edits.add([word]), data.pictures)
    assert [step.what for step in history.done] == ["add z"]  # one is kept, however large
    history.apply(edits.add(["w"]), data.pictures[:1])
    assert [step.what for step in history.done] == ["add z", "add w"]


def test_captions_are_cleared_whole(tmp_path: Path) -> None:
    data, history = zk9(tmp_path)
    (tmp_path / "1_zk9/b.txt").write_text("zk9\nsecond")
    history.refresh()
    assert history.clear(data.pictures) == 2
    assert files(tmp_path) == {"1_zk9/a.txt": b"", "1_zk9/b.txt": b""} and len(snapshots(data.folder)) == 1


def test_pictures_come_back_by_undo_with_all_edits(tmp_path: Path) -> None:
    data, history = zk9(tmp_path)
    first = files(tmp_path)
    history.apply(edits.add(["x"]), data.pictures)
    edited = files(tmp_path)
    history.set_aside(data.pictures[:1])
    assert (
        len(data.pictures) == 2 and data.counts()["x"] == 2 and list(files(tmp_path)) == ["1_zk9/b.txt", "1_zk9/c.txt"]
    )
    history.apply(edits.add(["y"]), data.pictures)
    history.undo()
    history.undo()
    assert files(tmp_path) == edited and len(data.pictures) == 3
    history.undo()
    assert files(tmp_path) == first
