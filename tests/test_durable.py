"""Files are whole or absent: under failing disks, power cuts, kills and rivals."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from safetensors.torch import load, save

from tests.crashes import Recorder
from trainer import durable
from trainer.durable import (
    DiskError,
    need_space,
    replace_folder,
    sweep,
    tensor_chunks,
    write_json,
    write_many,
    write_tensors,
)

ROOT = Path(__file__).resolve().parents[1]


def tensors(value: float) -> dict[str, np.ndarray]:
    return {f"layer{number}": np.full((5, 700), value, np.float32) for number in range(4)}


def value_in(path: Path) -> float:
    """The value that a whole file holds; raises for anything else."""
    (value,) = {float(number) for tensor in load_file(path).values() for number in np.unique(tensor)}
    return value


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def wish(text: str) -> None:
        durable._calls.clear()
        monkeypatch.setenv("LIKENESS_FAULT", text)

    yield wish
    durable._calls.clear()


@pytest.mark.parametrize("what", ["ENOSPC", "EIO"])
@pytest.mark.parametrize(("operation", "count"), [("write", 5), ("fsync", 2), ("rename", 1)])
def test_every_failure_leaves_a_whole_file_and_no_part(
    tmp_path: Path, fault: Callable[[str], None], operation: str, count: int, what: str
) -> None:
    """Writes: a header and four tensors. Fsyncs: the file, and after the rename its folder."""
    path = tmp_path / "a.safetensors"
    for number in range(1, count + 1):
        fault("none:1:EIO")
        write_tensors(path, tensors(1), {})
        fault(f"{operation}:{number}:{what}")
        with pytest.raises(DiskError, match=r"a\.safetensors: cannot be written") as caught:
            write_tensors(path, tensors(2), {})
        cause = caught.value.__cause__
        assert isinstance(cause, OSError) and cause.strerror in str(caught.value)
        assert value_in(path) == (2 if (operation, number) == ("fsync", 2) else 1)
        assert os.listdir(tmp_path) == [path.name]
    fault(f"{operation}:{count + 1}:{what}")
    write_tensors(path, tensors(3), {})  # so there was no other place to fail at
    assert value_in(path) == 3


def test_a_real_limit_of_the_system_is_met_in_the_middle_of_a_write(tmp_path: Path) -> None:
    code = f"""
import resource, numpy
from pathlib import Path
from trainer.durable import DiskError, write_tensors
path = Path({str(tmp_path / "a.safetensors")!r})
write_tensors(path, {{"a": numpy.ones(100)}}, {{}})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_tensors(path, {{"a": numpy.ones(100_000)}}, {{}})
except DiskError as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "a.safetensors: cannot be written (File too large)" in told
    assert load_file(tmp_path / "a.safetensors")["a"].shape == (100,)
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("honest", [True, False])
def test_no_power_cut_leaves_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: bool) -> None:
    """And on a disk that lies about fsync some do, so that the test is known to see them."""
    root = tmp_path / "disk"
    root.mkdir()
    path = root / "a.safetensors"
    write_tensors(path, tensors(1), {"made": "first"})
    recorder = Recorder(root, monkeypatch, honest)
    write_tensors(path, tensors(2), {"made": "second"})
    assert recorder.settled() is honest
    found: list[float | None] = []
    for state in recorder.states(tmp_path / "after"):
        try:
            found.append(value_in(state / path.name))
        except (SafetensorError, OSError, ValueError):
            found.append(None)
    assert len(found) >= 6
    assert {1, 2} <= set(found)
    assert (None in found) is not honest


@pytest.mark.parametrize(("operation", "count"), [("write", 3), ("fsync", 3), ("rename", 1)])
def test_many_files_stay_as_they_were_when_the_disk_fails(
    tmp_path: Path, fault: Callable[[str], None], operation: str, count: int
) -> None:
    """Up to the first rename; after it each is whole, the old one or the new."""
    old = {tmp_path / name: b"old" for name in "abc"}
    for number in range(1, count + 1):
        fault("none:1:EIO")
        write_many(old)
        fault(f"{operation}:{number}:ENOSPC")
        with pytest.raises(DiskError, match=r"[abc]: cannot be written \(No space left"):
            write_many({path: b"new" for path in old})
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old
    fault("rename:2:EIO")
    with pytest.raises(DiskError, match="b: cannot be written"):
        write_many({path: b"new" for path in old})
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"new", b"old", b"old"]
    fault("none:1:EIO")
    write_many({path: b"new" for path in old} | {tmp_path / "d": b"more"})
    assert sorted(os.listdir(tmp_path)) == list("abcd") and {path.read_bytes() for path in old} == {b"new"}
    write_many({})


@pytest.mark.parametrize("honest", [True, False])
def test_no_power_cut_leaves_half_of_one_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: bool) -> None:
    monkeypatch.setattr(durable, "TOGETHER", 1)  # the recorder looks at one thing at a time
    root = tmp_path / "disk"
    root.mkdir()
    names = ("a", "b", "c")
    write_many({root / name: b"old" for name in names})
    recorder = Recorder(root, monkeypatch, honest)
    write_many({root / name: b"new, longer" for name in names})
    assert recorder.settled() is honest
    found = {tuple((state / name).read_bytes() for name in names) for state in recorder.states(tmp_path / "after")}
    whole = {state for state in found if set(state) <= {b"old", b"new, longer"}}
    assert {(b"old",) * 3, (b"new, longer",) * 3} <= whole
    assert (found == whole) is honest


SAVE_LOOP = """
import sys, itertools, numpy
from pathlib import Path
from trainer.durable import write_tensors
for value in itertools.count():
    tensors = {str(n): numpy.full(50_000, value, numpy.float32) for n in range(4)}
    write_tensors(Path(sys.argv[1]), tensors, {"value": str(value)})
    if value == 0:
        print("begun", flush=True)
"""


def test_kills_at_random_moments_leave_only_readable_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    seen: list[float] = []
    orphans, dice = 0, random.Random(7)
    while len(seen) < 12 or (orphans == 0 and len(seen) < 100):
        writer = subprocess.Popen([sys.executable, "-c", SAVE_LOOP, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert writer.stdout and writer.stdout.readline() == b"begun\n"
        time.sleep(0.06 * dice.random())
        writer.kill()
        writer.wait()
        writer.stdout.close()
        seen.append(value_in(path))
        with safe_open(path, "numpy") as file:
            assert file.metadata() == {"value": str(int(seen[-1]))}
        orphans += len(sweep(tmp_path))
        assert os.listdir(tmp_path) == [path.name]
    assert orphans > 0, "no kill fell into a write: the test shows nothing"


def test_a_kill_before_each_operation_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    path, values = tmp_path / "a.safetensors", []
    code = """
import sys, numpy
from pathlib import Path
from trainer.durable import write_tensors
write_tensors(Path(sys.argv[1]), {"a": numpy.full(9, 2.0)}, {})
"""
    for number in range(1, 8):
        write_tensors(path, {"a": np.full(9, 1.0)}, {})
        wish = os.environ | {"LIKENESS_FAULT": f"any:{number}:KILL"}
        ended = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, env=wish)
        values.append(value_in(path))
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    assert values == [1, 1, 1, 2, 2]  # before write, fsync, rename, fsync of the folder; and not at all


names = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__" and name.isprintable())
kinds = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
shapes = st.lists(st.integers(0, 3), max_size=3)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(names, st.tuples(kinds, shapes), max_size=6),
    st.dictionaries(names, st.text(max_size=9), max_size=4),
)
def test_the_official_loader_reads_back_what_was_written(
    kinds: dict[str, tuple[torch.dtype, list[int]]], metadata: dict[str, str]
) -> None:
    written = {
        name: torch.arange(27)[: int(np.prod(shape))].reshape(shape).to(kind) for name, (kind, shape) in kinds.items()
    }
    data = b"".join(tensor_chunks(written, metadata))
    back = load(data)
    assert back.keys() == written.keys()
    for name, tensor in written.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor)
    start = int.from_bytes(data[:8], "little") + 8
    assert start % 8 == 0
    assert json.loads(data[8:start]).get("__metadata__", {}) == {
        k: v.encode("utf-8", "replace").decode() for k, v in metadata.items()
    }


def test_the_bytes_are_the_official_writer_s_and_follow_from_the_content() -> None:
    mixed = {"b": torch.ones(3), "a": torch.ones(2, 2).half(), "c": torch.tensor(4), "d": torch.ones(5).bfloat16()}
    assert b"".join(tensor_chunks(mixed, {"one": "key"})) == save(mixed, {"one": "key"})
    backwards = dict(reversed(mixed.items()))
    metadata = {str(number): "x" for number in range(9)}
    there, back = tensor_chunks(mixed, metadata), tensor_chunks(backwards, dict(reversed(metadata.items())))
    assert b"".join(there) == b"".join(back)


def test_views_and_transposes_are_written_in_their_own_order() -> None:
    odd = {"t": torch.arange(6).reshape(2, 3).T, "s": torch.arange(10)[::3], "g": torch.ones(2, requires_grad=True)}
    back = load(b"".join(tensor_chunks(odd, {})))
    assert all(torch.equal(back[name], tensor) for name, tensor in odd.items())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(tmp_path: Path, mask: int, mode: int) -> None:
    old = os.umask(mask)
    try:
        write_tensors(tmp_path / "a", tensors(1), {})
        write_json(tmp_path / "b", {})
    finally:
        os.umask(old)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"} == {mode}


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path) -> None:
    big = {str(number): np.zeros((250, 1000), np.float32).T for number in range(16)}  # 1 MB each; .T has to be copied
    write_tensors(tmp_path / "warm", tensors(1), {})
    tracemalloc.start()
    write_tensors(tmp_path / "a", big, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_two_writers_of_one_name_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def write(value: float) -> None:
        for _ in range(30):
            write_tensors(path, tensors(value), {})

    threads = [threading.Thread(target=write, args=(value,)) for value in (1, 2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert value_in(path) in (1, 2)
    assert os.listdir(tmp_path) == ["a"]


def test_sweep_takes_leftovers_of_ours_and_nothing_else(tmp_path: Path) -> None:
    kept = ["film.mkv.part", "a.safetensors", "notes.tmp", "x.1234567.part"]
    for name in (*kept, "a.safetensors.0a1b2c3d.part"):
        (tmp_path / name).touch()
    (tmp_path / ".tmp-00000420").mkdir()
    (tmp_path / ".tmp-00000420" / "half").touch()
    assert sweep(tmp_path, older=60) == []  # perhaps somebody is writing these
    assert {path.name for path in sweep(tmp_path)} == {"a.safetensors.0a1b2c3d.part", ".tmp-00000420"}
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_a_folder_takes_its_name_whole(tmp_path: Path, fault: Callable[[str], None]) -> None:
    half = tmp_path / ".tmp-1"
    half.mkdir()
    (half / "a").write_text("whole")
    fault("rename:1:EIO")
    with pytest.raises(DiskError, match="the disk reports a fault"):
        replace_folder(half, tmp_path / "1")
    assert half.exists() and not (tmp_path / "1").exists()
    replace_folder(half, tmp_path / "1")
    assert (tmp_path / "1" / "a").read_text() == "whole"


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    need_space(tmp_path / "not" / "yet" / "there", 1)
    with pytest.raises(DiskError, match=r"there: [\d.,]+ MB free, 1,000,000,000,000.0 MB needed; make room"):
        need_space(tmp_path / "there", 10**18)


def test_json_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"ü": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", float("nan"))
    assert durable.read_json(tmp_path / "a") == {"ü": 1}
