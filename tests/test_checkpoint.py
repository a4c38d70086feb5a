"""What is kept can be loaded: networks by other programs, states by ourselves, whatever happened meanwhile."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.crashes import Recorder
from trainer import durable
from trainer.checkpoint import (
    CheckpointError,
    base_hash,
    epoch_name,
    final_name,
    hashes,
    load_state,
    pack,
    prune,
    save_network,
    save_state,
    step_name,
    unpack,
)
from trainer.config import Config
from trainer.config.optimizers import Adafactor, AdamW, AdamW8bit, Lion, Prodigy
from trainer.durable import DiskError
from trainer.optimizers import build
from trainer.runfolder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "base"
NAME = "lora_unet_mid_block_attentions_0_proj_in"


def network(value: float = 1.0) -> dict[str, Tensor]:
    return {f"{NAME}.lora_down.weight": torch.full((4, 8), value), f"{NAME}.alpha": torch.tensor(4.0)}


def state(value: float) -> dict[str, Tensor]:
    return {"network/a": torch.full((300,), float(value)), "optimizer/state/0/step": torch.tensor(float(value))}


def step_in(kept: tuple[dict[str, Tensor], dict[str, Any]] | None) -> int:
    """The step of a whole state; fails for a mixed one."""
    assert kept
    tensors, facts = kept
    values = {float(value) for tensor in tensors.values() for value in tensor.reshape(-1)}
    assert values == {float(facts["step"])}
    return facts["step"]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", Config())


def silent(text: str) -> None:
    raise AssertionError(f"nothing should be said, but was: {text}")


# Networks


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "F32"), ("fp16", "F16"), ("bf16", "BF16")])
def test_a_network_is_saved_in_its_precision_with_hashes(tmp_path: Path, precision: str, dtype: str) -> None:
    path = tmp_path / final_name("zk9")
    save_network(path, network(0.1), {"ss_steps": "3"}, precision, {NAME})
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {dtype}  # noqa: SIM118
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    assert metadata["sshs_model_hash"] == hashlib.sha256(data[start:]).hexdigest()
    assert metadata.keys() == {"ss_steps", "sshs_model_hash", "sshs_legacy_hash"}


def test_the_hashes_are_those_of_sd_scripts() -> None:
    """Recomputed for a file that sd-scripts wrote, and equal to what it wrote into it."""
    metadata = json.loads((GOLDEN / "metadata.json").read_text())
    told = {key: metadata[key] for key in ("sshs_model_hash", "sshs_legacy_hash")}
    assert hashes(load_file(GOLDEN / "final.safetensors"), metadata) == told


def test_the_short_hash_of_a_base_is_64_kb_at_1_mb(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(bytes(1 << 20) + b"\1" * (1 << 16) + b"\2" * 99)
    assert base_hash(tmp_path / "base") == hashlib.sha256(b"\1" * (1 << 16)).hexdigest()[:8]


@pytest.mark.parametrize(
    ("tensors", "precision", "words"),
    [
        (network(math.nan), "fp32", "1 of 2 tensors are not finite in fp32"),
        (network(math.inf), "bf16", "not finite in bf16"),
        (network(70_000.0), "fp16", "not finite in fp16 .* save.precision to fp32"),
        ({"lora_unet_other.alpha": torch.ones(1)}, "fp16", "no module lora_unet_other"),
    ],
)
def test_a_network_that_nobody_could_use_does_not_replace_a_good_one(
    tmp_path: Path, tensors: dict[str, Tensor], precision: str, words: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_network(path, network(), {}, "fp32", {NAME})
    with pytest.raises(CheckpointError, match=words):
        save_network(path, tensors, {}, precision, {NAME})
    assert float(load_file(path)[f"{NAME}.lora_down.weight"].mean()) == 1
    assert os.listdir(tmp_path) == [path.name]


def test_a_disk_that_gives_back_other_bytes_is_found_before_the_file_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save_network(path, network(), {}, "fp32")
    sync = os.fsync

    def rot(handle: int) -> None:
        sync(handle)
        os.pwrite(handle, b"\7", os.fstat(handle).st_size - 1)

    monkeypatch.setattr(os, "fsync", rot)
    with pytest.raises(CheckpointError, match="the disk gave back other data"):
        save_network(path, network(2.0), {}, "fp32")
    assert float(load_file(path)[f"{NAME}.lora_down.weight"].mean()) == 1


def test_file_names_are_those_of_sd_scripts() -> None:
    assert epoch_name("zk9", 1) == "zk9-000001.safetensors"
    assert step_name("zk9", 420) == "zk9-step00000420.safetensors"
    assert final_name("zk9") == "zk9.safetensors"


def test_pruning_keeps_the_newest_the_final_and_what_is_not_ours(tmp_path: Path) -> None:
    saved = [epoch_name("a.b", 9), step_name("a.b", 5), epoch_name("a.b", 1), epoch_name("a.b", 2)]  # in this order
    others = [
        final_name("a.b"),
        "a-b-000001.safetensors",
        "a.b-000001.txt",
        "a.b-000001.safetensors.bak",
        "axb-000001.safetensors",
    ]
    for age, name in enumerate([*others, *saved]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 + age, 1e9 + age))
    assert [path.name for path in prune(tmp_path, "a.b", 2)] == saved[:2]
    assert sorted(os.listdir(tmp_path)) == sorted([*others, *saved[2:]])
    assert prune(tmp_path, "a.b", 2) == []


# States


def test_the_newest_state_comes_back_exactly_and_two_are_kept(folder: RunFolder) -> None:
    assert load_state(folder, silent) is None
    for step in (1, 2, 3):
        save_state(folder, step, state(step), {"losses": [0.1 + 0.2]})
    assert sorted(os.listdir(folder.states)) == ["00000002", "00000003"]
    kept = load_state(folder, silent)
    assert step_in(kept) == 3 and kept
    assert kept[1] == {"losses": [0.1 + 0.2], "step": 3}


def test_a_state_is_in_memory_once_when_it_is_read(folder: RunFolder) -> None:
    """What python holds beside the tensors, whose memory is torch's own, is far less than the file."""
    save_state(folder, 1, {"a": torch.ones(2**20), "b": torch.ones(2**20)}, {})
    tracemalloc.start()
    try:
        assert load_state(folder, silent)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()


def test_a_state_of_the_same_step_is_left_as_it_is_and_a_damaged_one_replaced(folder: RunFolder) -> None:
    first = save_state(folder, 3, state(3), {}).stat().st_ino
    assert save_state(folder, 3, state(3), {}).stat().st_ino == first
    (folder.states / "00000003" / "facts.json").write_text("{}")
    save_state(folder, 3, state(3), {})
    assert step_in(load_state(folder, silent)) == 3


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 4
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("name", ["tensors.safetensors", "facts.json", "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_said_and_set_aside_and_the_older_one_taken(
    folder: RunFolder, name: str, damage: str
) -> None:
    for step in (1, 2):
        save_state(folder, step, state(step), {"why": "x" * 200})
    DAMAGE[damage](folder.states / "00000002" / name)
    said: list[str] = []
    assert step_in(load_state(folder, said.append)) == 1
    assert len(said) == 1 and "00000002: damaged (" in said[0]
    (aside,) = folder.states.glob("damaged-00000002-*")
    assert len(list(aside.iterdir())) == (2 if damage == "missing" else 3)
    assert step_in(load_state(folder, silent)) == 1  # said once
    save_state(folder, 2, state(2), {})
    assert step_in(load_state(folder, silent)) == 2


def test_when_no_state_is_good_training_does_not_silently_begin_again(folder: RunFolder) -> None:
    for step in (1, 2):
        flip(save_state(folder, step, state(step), {}) / "tensors.safetensors")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no state can be read.*network\.start_from"):
            load_state(folder, lambda text: None)


@pytest.mark.parametrize("what", ["ENOSPC", "EIO"])
def test_every_failure_while_a_state_is_written_leaves_the_older_ones(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    failures = 0
    for number in range(1, 40):
        shutil.rmtree(folder.states)
        for step in (1, 2):
            save_state(folder, step, state(step), {})
        durable._calls.clear()
        monkeypatch.setenv("LIKENESS_FAULT", f"any:{number}:{what}")
        try:
            save_state(folder, 3, state(3), {})
            break
        except DiskError as error:
            assert "cannot be written" in str(error)
            failures += 1
        finally:
            monkeypatch.delenv("LIKENESS_FAULT")
        last = {"00000003"} & set(os.listdir(folder.states))  # renamed, and then the folder's fsync failed
        assert set(os.listdir(folder.states)) == {"00000001", "00000002", *last}
        assert step_in(load_state(folder, silent)) == (3 if last else 2)
    assert failures == 15  # three files of a write, two fsyncs and a rename; then the folder: fsync, rename, fsync


@pytest.mark.parametrize("honest", [True, False])
def test_no_power_cut_leaves_less_than_the_older_state(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    for step in (1, 2):
        save_state(folder, step, state(step), {})
    recorder = Recorder(folder.states, monkeypatch, honest)
    save_state(folder, 3, state(3), {})
    after = RunFolder(tmp_path / "after")
    found, said = [], []
    for left in recorder.states(tmp_path / "left"):
        shutil.rmtree(after.path, ignore_errors=True)
        after.path.mkdir()
        shutil.copytree(left, after.states)
        found.append(step_in(load_state(after, said.append)))
    assert set(found) == {2, 3}
    assert bool(said) is not honest, "on an honest disk no state is ever damaged"


KILL_LOOP = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from trainer.checkpoint import load_state, save_network, save_state
from trainer.runfolder import RunFolder
from safetensors.torch import load_file

torch.set_num_threads(1)
folder, dice = RunFolder(Path(sys.argv[1])), random.Random(5)
lora = folder.checkpoints / "a.safetensors"
last = kills = torn = 0
while kills < 12 or (torn == 0 and kills < 100):
    child = os.fork()
    if child == 0:
        for step in range(last + 1, 10**6):
            tensors = {str(n): torch.full((60_000,), float(step)) for n in range(3)}
            save_state(folder, step, tensors, {})
            save_network(lora, tensors, {}, "fp32")
    while not any(path.name > f"{last:08d}" for path in folder.states.glob("[0-9]*")):
        time.sleep(0.001)
    time.sleep(0.1 * dice.random())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said = []
    kept = load_state(folder, said.append)
    assert not said, said
    tensors, facts = kept
    assert all((tensor == facts["step"]).all() for tensor in tensors.values())
    assert facts["step"] > last, (facts["step"], last)
    last = facts["step"]
    if lora.exists():
        assert len({float(tensor.mean()) for tensor in load_file(lora).values()}) == 1
    kills += 1
    torn += any(path.name.startswith(".tmp-") for path in folder.states.iterdir())
print(torn)
"""


def test_kills_at_random_moments_never_lose_a_state(folder: RunFolder) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", KILL_LOOP, str(folder.path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 0, "no kill fell into a write: the test shows nothing"


# Packing

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(nested)
def test_what_is_packed_comes_back_exactly_through_json(value: object) -> None:
    tensors, packed = pack(value, "x")
    back = unpack(tensors, json.loads(json.dumps(packed, allow_nan=False)))
    assert repr(back) == repr(value)  # tells 1 from 1.0 and from True, and -0.0 from 0.0


def test_what_cannot_be_kept_is_named() -> None:
    with pytest.raises(CheckpointError, match="optimizer/state/0: a set cannot be kept"):
        pack({"state": [{1}]}, "optimizer")


@pytest.mark.parametrize("options", [AdamW(), AdamW8bit(), Lion(), Adafactor(), Adafactor(lr=1e-3), Prodigy()], ids=str)
def test_an_optimizer_goes_on_from_its_state_as_if_nothing_had_happened(folder: RunFolder, options: Any) -> None:
    def new() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 64 * 128).reshape(64, 128).clone())
        return weight, build(options, [{"params": [weight], "lr": options.lr, "name": "unet"}])

    def steps(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
        for step in range(first, last):
            weight.grad = torch.sin(torch.arange(weight.numel()) * (step + 1.0)).reshape(weight.shape)
            optimizer.step()

    straight, optimizer = new()
    steps(straight, optimizer, 0, 6)

    weight, optimizer = new()
    steps(weight, optimizer, 0, 3)
    tensors, packed = pack(optimizer.state_dict(), "optimizer")
    save_state(folder, 3, {**tensors, "weight": weight.detach()}, {"optimizer": packed})
    kept = load_state(folder, silent)
    assert kept
    tensors, facts = kept
    resumed, optimizer = new()
    with torch.no_grad():
        resumed.copy_(tensors["weight"])
    optimizer.load_state_dict(unpack(tensors, facts["optimizer"]))
    steps(resumed, optimizer, 3, 6)
    assert torch.equal(resumed, straight)
