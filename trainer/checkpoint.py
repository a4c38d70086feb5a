"""What a training leaves on the disk: networks that other programs load, and states that it goes on from itself."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from trainer.devices import DTYPES
from trainer.durable import (
    TEMPORARY,
    failed,
    need_space,
    read_json,
    replace_folder,
    sweep,
    tensor_chunks,
    write_json,
    write_tensors,
)
from trainer.errors import InputError
from trainer.runfolder import RunFolder

Packed = Any
Kept = tuple[dict[str, Tensor], dict[str, Any]]
PRECISIONS = {"fp32": torch.float32, **DTYPES}
FILES = ("tensors.safetensors", "facts.json")
"""A state's files, beside their manifest."""
STEP = re.compile(r"\d{8}")
DAMAGED = "damaged-"
SLACK = 1 << 20  # bytes beside the tensors


class CheckpointError(InputError):
    """A network or a state that is not fit to be kept or gone on from."""


def epoch_name(name: str, epoch: int) -> str:
    """`zk9-000001.safetensors`."""
    return f"{name}-{epoch:06d}.safetensors"


def step_name(name: str, step: int) -> str:
    """`zk9-step00000420.safetensors`."""
    return f"{name}-step{step:08d}.safetensors"


def final_name(name: str) -> str:
    """`zk9.safetensors`."""
    return f"{name}.safetensors"


# Networks


def save_network(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    precision: str,
    modules: Collection[str] | None = None,
) -> None:
    """Saves a network, and reads it back before it takes its name: the same tensors, finite, each for a known module.

    `precision` is fp32, fp16 or bf16, `modules` the names that the base model has a place for (`lora_unet_...`).
    Adds `sshs_model_hash` and `sshs_legacy_hash` to the metadata. Raises CheckpointError or DiskError, and then leaves
    an older file as it was.
    """
    tensors = {key: tensor.detach().cpu().to(PRECISIONS[precision]) for key, tensor in tensors.items()}
    used = {key.split(".")[0] for key in tensors}
    if modules is not None and (strangers := sorted(used.difference(modules))):
        raise CheckpointError(
            f"{path}: not written, the base model has no module {strangers[0]} ({len(strangers)} such); report this"
        )
    if bad := [key for key, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise CheckpointError(
            f"{path}: not written, {len(bad)} of {len(tensors)} tensors are not finite in {precision} ({bad[0]} first);"
            " lower the learning rate, or set save.precision to fp32"
        )

    def same(part: Path) -> None:
        try:
            back = load(part.read_bytes())
        except SafetensorError as error:
            raise CheckpointError(f"{path}: cannot be read back ({error}); save to another disk") from error
        if back.keys() != tensors.keys() or not all(torch.equal(back[key], tensors[key]) for key in tensors):
            raise CheckpointError(f"{path}: the disk gave back other data than was written; save to another disk")

    need_space(path.parent, _bytes(tensors))
    write_tensors(path, tensors, {**metadata, **hashes(tensors, metadata)}, same)


def hashes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, str]:
    """The two hashes by which web UIs know a LoRA, as sd-scripts defines them.

    `sshs_model_hash`: sha256 of the tensors' bytes. `sshs_legacy_hash`: 8 digits of the sha256 of 64 KiB at 1 MiB of
    the file as it would be with its `ss_*` metadata alone.
    """
    start, end = 1 << 20, (1 << 20) + (1 << 16)
    whole, window, place = hashlib.sha256(), hashlib.sha256(), 0
    chunks = tensor_chunks(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    for number, chunk in enumerate(chunks):
        if number:  # the first is the header
            whole.update(chunk)
        window.update(chunk[max(0, start - place) : max(0, end - place)])
        place += len(chunk)
    return {"sshs_model_hash": whole.hexdigest(), "sshs_legacy_hash": window.hexdigest()[:8]}


def base_hash(path: Path) -> str:
    """The short hash of a base model's file (`ss_sd_model_hash`): 8 digits of the sha256 of 64 KiB at 1 MiB."""
    with open(path, "rb") as file:
        file.seek(1 << 20)
        return hashlib.sha256(file.read(1 << 16)).hexdigest()[:8]


def prune(folder: Path, name: str, keep: int) -> list[Path]:
    """Removes all but the newest `keep` epoch and step files; the final file stays. Gives what was removed.

    Call it after save_network, which has verified the newest. In an output folder that several runs share, remove the
    same names as here: older runs may have left others.
    """
    mine = re.compile(re.escape(name) + r"-(\d{6}|step\d{8})\.safetensors")
    files = [path for path in folder.iterdir() if mine.fullmatch(path.name)]
    files.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    old = files[: max(0, len(files) - keep)]
    for path in old:
        path.unlink(missing_ok=True)
    return old


# States


def save_state(
    folder: RunFolder, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], keep: int = 2
) -> Path:
    """Writes `state/<step>/` whole and keeps the newest `keep`; older ones go only when this one was read back.

    `facts` is JSON; `pack` makes tensors and JSON of an optimizer's state. Raises DiskError, and then leaves older
    states alone.
    """
    final = folder.states / f"{step:08d}"
    sweep(folder.states)
    if _why_damaged(final) is None:  # stopped right after a resume: what a step leaves follows from its number
        return final
    need_space(folder.states, _bytes(tensors))
    temporary = folder.states / f"{TEMPORARY}{final.name}"
    try:
        if final.exists():
            _set_aside(final)
        temporary.mkdir(parents=True)
        _write_state(temporary, tensors, {**facts, "step": step})
        replace_folder(temporary, final)
        for old in _states(folder)[keep:]:
            os.rename(old, temporary)  # under its own name, half a removal would look like damage
            shutil.rmtree(temporary)
    except OSError as error:
        raise failed(final, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _write_state(state: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    write_tensors(state / "tensors.safetensors", tensors, {})
    write_json(state / "facts.json", facts, indent=None)
    digest = hashlib.sha256()
    for chunk in tensor_chunks(tensors, {}):  # from memory, so that what the disk got wrong shows when it is read
        digest.update(chunk)
    digests = dict(zip(FILES, (digest.hexdigest(), _digest(state / "facts.json")), strict=True))
    write_json(state / "manifest.json", {"version": 1, "sha256": digests})
    if why := _why_damaged(state):
        raise CheckpointError(f"{state}: the disk gave back other data than was written ({why}); use another disk")


def load_state(folder: RunFolder, say: Callable[[str], None] = print) -> Kept | None:
    """Tensors (on the CPU) and facts of the newest good state, or None when there was none yet.

    A damaged one is said and set aside, and the one before it is taken; when none is good, raises CheckpointError.
    """
    for state in _states(folder):
        if why := _why_damaged(state):
            aside = _set_aside(state)
            say(f"{state}: damaged ({why}); kept as {aside.name}, an older state is taken")
            continue
        with safe_open(state / "tensors.safetensors", "pt") as file:  # one by one: all of it is in memory once
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return tensors, read_json(state / "facts.json")
    if damaged := sorted(folder.states.glob(f"{DAMAGED}*")):
        raise CheckpointError(
            f"{folder.states}: no state can be read ({', '.join(path.name for path in damaged)}). Start a new run with"
            f" network.start_from set to the newest file in {folder.checkpoints}, or remove them to begin again"
        )
    return None


def _states(folder: RunFolder) -> list[Path]:
    """State folders, newest first."""
    return sorted((path for path in folder.states.glob("*") if STEP.fullmatch(path.name)), reverse=True)


def _why_damaged(state: Path) -> str | None:
    try:
        digests = read_json(state / "manifest.json")["sha256"]
        wrong = [name for name in FILES if _digest(state / name) != digests[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{', '.join(wrong)}: other content than was written" if wrong else None


def _set_aside(state: Path) -> Path:
    aside = state.with_name(f"{DAMAGED}{state.name}-{secrets.token_hex(2)}")
    os.rename(state, aside)
    return aside


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values()) + SLACK


# Nested python and tensors as tensors and JSON: no pickle


def pack(value: Any, name: str) -> tuple[dict[str, Tensor], Packed]:
    """Splits nested dicts, lists and tuples (an optimizer's state_dict) into named tensors and JSON, for `unpack`.

    Keys, tuples and floats come back exactly. Raises CheckpointError for what neither can hold.
    """
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, place: str) -> Packed:
        if isinstance(value, Tensor):
            tensors[place] = value
            return {"tensor": place}
        if isinstance(value, dict):
            return {"dict": [[key, walk(inner, f"{place}/{key}")] for key, inner in value.items()]}
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [walk(inner, f"{place}/{number}") for number, inner in enumerate(value)]}
        if isinstance(value, float):
            return {"float": value.hex()}
        if value is None or isinstance(value, bool | int | str):
            return value
        raise CheckpointError(f"{place}: a {type(value).__name__} cannot be kept in a state")

    return tensors, walk(value, name)


def unpack(tensors: Mapping[str, Tensor], packed: Packed) -> Any:
    """What `pack` was given."""
    if not isinstance(packed, dict):
        return packed
    ((kind, value),) = packed.items()
    match kind:
        case "tensor":
            return tensors[value]
        case "float":
            return float.fromhex(value)
        case "dict":
            return {key: unpack(tensors, inner) for key, inner in value}
        case "list":
            return [unpack(tensors, inner) for inner in value]
        case "tuple":
            return tuple(unpack(tensors, inner) for inner in value)
        case _:
            raise CheckpointError(f"{kind}: a kind of value that this version does not know")
