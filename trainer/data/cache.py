"""What the VAE and the text encoders made of pictures and captions, kept on disk and shared between trainings.

A file is found by a key made of everything that its content depends on, so nothing is ever out of date: a changed
picture or option has another key. Other trainers keep caches by file name and date, and train on stale ones.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from trainer.durable import DiskError, failed, read_json, sweep, tensor_chunks, write_json, write_tensors
from trainer.errors import InputError

VERSION = 1
"""Raise it when opening, resizing or encoding gives other numbers than before: every file is then made again."""

RACE = 2.0
"""Seconds in which a file can change twice and keep its time, on the coarsest file systems."""

LEFT = 3600.0
"""Seconds after which a part of a file belongs to a process that was killed."""

Name = TypeVar("Name")
WARN = logging.getLogger(__name__).warning


class CacheError(InputError):
    """Something that must not be kept."""


def latent_key(
    digest: str,
    vae: str,
    bucket: tuple[int, int],
    resized: tuple[int, int],
    crop: tuple[int, int],
    flip: bool,
    interpolation: str,
    background: str,
) -> str:
    """The key of a picture's latents.

    digest: sha256 of the picture's bytes; vae: fingerprint of its weights in memory, precision included, and how it is
    used; bucket and resized: (width, height); crop: (left, top) of the bucket in the resized picture.
    """
    return _key("latents", digest, vae, bucket, resized, crop, flip, interpolation, background.lower())


def text_key(caption: str, text_encoder: str, clip_skip: int | None, max_tokens: int, weighted: bool) -> str:
    """The key of a caption's conditioning; text_encoder: fingerprint of their weights in memory."""
    return _key("text", caption, text_encoder, clip_skip, max_tokens, weighted)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()


class Cache:
    """A folder of small safetensors files, one for each key; several processes may use it at once.

    say: told of files that are damaged.
    """

    def __init__(self, folder: Path, say: Callable[[str], object] = WARN) -> None:
        self.folder, self.say = folder, say

    def path(self, key: str) -> Path:
        """The file of a key, in one of 256 sub-folders, which keeps each of them short."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> dict[str, Tensor] | None:
        """The tensors under a key, on the CPU; None when there are none, or when their file is damaged."""
        path = self.path(key)
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if (file.metadata() or {}).get("sha256") == _digest(key, tensors):
                    return tensors
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):
            pass
        self.say(f"{path}: a damaged cache file: made again")
        return None

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keeps tensors under a key. Raises CacheError when a value is not finite, DiskError when the disk fails."""
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise CacheError(
                    f"{name} {tuple(tensor.shape)} came out of the model with values that are no numbers; "
                    "half precision does so with some models: set model.vae_precision to fp32, or train.precision to no"
                )
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise failed(path, error) from error
        write_tensors(path, tensors, {"sha256": _digest(key, tensors)})

    def sweep(self) -> None:
        """Removes what killed processes left, by its age; others may be writing now."""
        for folder in (self.folder, *self.folder.glob("[0-9a-f][0-9a-f]")):
            with suppress(OSError):  # another process was faster, or the folder cannot be written to
                sweep(folder, LEFT)

    def file_hash(self, path: Path) -> str:
        """The sha256 of a model's file, or one hash of a model folder's names and files.

        A file is read once (about 1 GB/s) and then known by path, size and time of change.
        """
        if path.is_dir():
            files = sorted(file for file in path.rglob("[!.]*") if file.is_file())
            return _key("folder", [(file.relative_to(path).as_posix(), self.file_hash(file)) for file in files])
        stat = path.stat()
        name, known = str(path.resolve()), self._hashes()
        if known.get(name, ())[:2] == [stat.st_size, stat.st_mtime_ns]:
            return known[name][2]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time() - stat.st_mtime > RACE:
            with suppress(OSError, DiskError):  # it only saves time: on a read-only or full disk each is hashed again
                self.folder.mkdir(parents=True, exist_ok=True)
                entry = [stat.st_size, stat.st_mtime_ns, digest]
                # read again, for another process may have added its own; if both write now, one is hashed once more
                write_json(self.folder / "hashes.json", {**self._hashes(), name: entry})
        return digest

    def _hashes(self) -> dict[str, list[Any]]:
        try:
            return read_json(self.folder / "hashes.json")
        except (OSError, ValueError):
            return {}


def fill(
    cache: Cache,
    keys: Mapping[Name, str],
    make: Callable[[list[Name]], Iterable[tuple[Name, Mapping[str, Tensor]]]],
    what: str = "caching",
) -> dict[Name, dict[str, Tensor]]:
    """The tensors of all keys: from the cache, or made under a progress bar and kept. Each file is read once.

    keys: by whatever name the caller has for them; make: gives name and tensors of those that the cache lacks, in any
    order, and may stop early.
    """
    found = {name: kept for name, key in keys.items() if (kept := cache.get(key)) is not None}
    if not (lacking := [name for name in keys if name not in found]):
        return found
    cache.sweep()
    for name, tensors in tqdm(make(lacking), what, len(lacking)):
        cache.put(keys[name], tensors)
        found[name] = dict(tensors)
    return found


def _digest(key: str, tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, kinds, shapes and values, and of the key that they belong to."""
    digest = hashlib.sha256(key.encode())
    for chunk in tensor_chunks(tensors, {}):
        digest.update(chunk)
    return digest.hexdigest()
