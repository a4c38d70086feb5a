"""The cache gives back what was put in, makes again exactly what changed, and outlives kills and full disks."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from trainer.config import Captions, Data
from trainer.data import cache as cache_module
from trainer.data.cache import Cache, CacheError, fill, latent_key, text_key
from trainer.data.folders import collect
from trainer.durable import DiskError

ROOT = Path(__file__).parents[1]
HASHES_PART = "hashes.json.0a1b2c3d.part"
LATENTS = {
    **{"digest": "d1", "vae": "v1:fp32", "bucket": (512, 768), "resized": (520, 768), "crop": (4, 0)},
    **{"flip": False, "interpolation": "auto", "background": "#ffffff"},
}
TEXT = {"caption": "zk9, smiling", "text_encoder": "t1", "clip_skip": None, "max_tokens": 75, "weighted": False}


def tensors(seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "latents": torch.randn(4, 8, 6, generator=draw),
        "half": torch.randn(77, 16, generator=draw).to(torch.bfloat16),
        "ids": torch.arange(5),
    }


def same(first: Mapping[str, Tensor] | None, second: Mapping[str, Tensor]) -> bool:
    return first is not None and first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in second)


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.get("a" * 64) is None
    cache.put("a" * 64, tensors())
    found = cache.get("a" * 64)
    assert same(found, tensors()) and found is not None
    assert {name: tensor.dtype for name, tensor in found.items()} == {
        **{"latents": torch.float32, "half": torch.bfloat16, "ids": torch.int64}
    }
    cache.put("a" * 64, tensors(1))
    assert same(cache.get("a" * 64), tensors(1)) and same(found, tensors())


def test_a_view_is_kept_as_it_is_seen(tmp_path: Path) -> None:
    cache, whole = Cache(tmp_path), torch.arange(24.0).reshape(4, 6)
    cache.put("a" * 64, {"x": whole.T[1:3].requires_grad_()})
    assert same(cache.get("a" * 64), {"x": whole.T[1:3]})


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *(("digest", "d2"), ("vae", "v2:fp32"), ("vae", "v1:bf16"), ("bucket", (768, 512)), ("bucket", (576, 768))),
        *(("resized", (521, 768)), ("crop", (0, 4)), ("crop", (5, 0)), ("flip", True), ("interpolation", "lanczos")),
        *(("background", "#000000"),),
    ],
)  # fmt: skip
def test_latents_have_another_key_when_anything_changes(part: str, value: Any) -> None:
    key: Any = latent_key
    assert key(**LATENTS) == key(**LATENTS) != key(**{**LATENTS, part: value})


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *(("caption", "zk9, smilin"), ("caption", ""), ("text_encoder", "t2"), ("clip_skip", 1), ("clip_skip", 2)),
        *(("max_tokens", 150), ("weighted", True), ("caption", "zk9,\udcffsmiling")),
    ],
)  # fmt: skip
def test_text_has_another_key_when_anything_changes(part: str, value: Any) -> None:
    key: Any = text_key
    assert key(**TEXT) == key(**TEXT) != key(**{**TEXT, part: value})


def test_keys_are_as_they_were() -> None:
    """A changed key makes every user's cache useless: change these only with VERSION."""
    key: Any = latent_key
    assert key(**LATENTS).startswith("77780611c66ac72d")
    assert key(**{**LATENTS, "background": "#AABBCC"}) == key(**{**LATENTS, "background": "#aabbcc"})
    assert text_key("zk9", "t", 2, 75, False).startswith("d10145dfef6a912e")


def encoded(folder: Path, cache: Cache, vae: str = "v", flip: bool = False, side: int = 64, crop: int = 0) -> list[str]:
    """What a training would encode: the pictures whose latents the cache does not have."""
    made: list[str] = []

    def make(lacking: list[tuple[str, bool]]) -> Iterator[tuple[tuple[str, bool], dict[str, Tensor]]]:
        for name, turned in lacking:
            made.append(name)
            yield (name, turned), tensors(len(name))

    size = side, side
    keys = {
        (p.path.name, turned): latent_key(p.digest, vae, size, size, (crop, 0), turned, "auto", "#ffffff")
        for p in collect(Data(images=str(folder)), Captions()).pictures
        for turned in ((False, True) if flip else (False,))
    }
    assert fill(cache, keys, make).keys() == keys.keys()
    return made


def test_only_what_changed_is_encoded_again(tmp_path: Path) -> None:
    faces, cache = tmp_path / "img" / "10_zk9", Cache(tmp_path / "cache")
    faces.mkdir(parents=True)
    for shade, name in enumerate("abc"):
        Image.new("RGB", (64, 64), (shade, 0, 0)).save(faces / f"{name}.png")
    root = tmp_path / "img"
    assert encoded(root, cache) == ["a.png", "b.png", "c.png"]
    assert encoded(root, cache) == []
    stat = (faces / "b.png").stat()
    Image.new("RGB", (64, 64), (77, 0, 0)).save(faces / "b.png")
    os.utime(faces / "b.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # an edit that hides: same name, time and size
    assert encoded(root, cache) == ["b.png"]
    (faces / "a.txt").write_text("words are no pixels")
    (faces / "c.png").rename(faces / "z.png")
    assert encoded(root, cache) == []
    assert encoded(root, cache, flip=True) == ["a.png", "b.png", "z.png"]
    assert encoded(root, cache, vae="other") == ["a.png", "b.png", "z.png"]
    assert encoded(root, cache, side=128) == ["a.png", "b.png", "z.png"]
    assert encoded(root, cache, crop=2) == ["a.png", "b.png", "z.png"]
    assert encoded(root, cache) == []


def test_filling_gives_what_was_kept_and_what_is_made_in_any_order(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def make(lacking: list[str]) -> Iterator[tuple[str, dict[str, Tensor]]]:
        asked.append(lacking)
        yield from ((name, tensors(ord(name))) for name in reversed(lacking))

    keys = {name: name * 64 for name in "abc"}
    Cache(tmp_path).put(keys["b"], tensors(ord("b")))
    for _ in range(2):
        found = fill(Cache(tmp_path), keys, make)
        assert found.keys() == keys.keys() and all(same(found[name], tensors(ord(name))) for name in keys)
    assert asked == [["a", "c"]] and fill(Cache(tmp_path), {}, make) == {}


def test_a_maker_may_stop_early(tmp_path: Path) -> None:
    found = fill(Cache(tmp_path), {"a": "a" * 64, "b": "b" * 64}, lambda lacking: [(lacking[0], tensors())])
    assert found.keys() == {"a"} and Cache(tmp_path).get("b" * 64) is None


def test_each_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    real = cache_module.safe_open
    Cache(tmp_path).put("a" * 64, tensors())
    monkeypatch.setattr(cache_module, "safe_open", lambda *args: read.append(args) or real(*args))
    fill(Cache(tmp_path), {"a": "a" * 64}, lambda lacking: [])
    assert len(read) == 1


def test_leftovers_of_killed_processes_go_and_those_of_others_stay(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    killed = [old(tmp_path / place, b"half", 7200) for place in ("ab/x.safetensors.0a1b2c3d.part", HASHES_PART)]
    stay = [
        old(tmp_path / "ab/y.safetensors.0a1b2c3d.part", b"half", 60),
        old(tmp_path / "ab/z.safetensors", b"", 7200),
    ]
    fill(cache, {"a": "a" * 64}, lambda lacking: [(lacking[0], tensors())])
    assert not any(path.exists() for path in killed) and all(path.exists() for path in stay)


def damaged(data: bytes) -> dict[str, bytes]:
    flipped = bytearray(data)
    flipped[-100] ^= 1
    renamed = data.replace(b'"latents"', b'"lotents"')
    turned = data.replace(b'"shape":[4,8,6]', b'"shape":[8,4,6]')
    assert renamed != data and turned != data
    return {
        **{"cut in half": data[: len(data) // 2], "one byte short": data[:-1], "one byte long": data + b"\0"},
        **{"empty": b"", "only zeros": bytes(len(data)), "one bit flipped": bytes(flipped), "a page": b"<html>" * 99},
        **{"header cut": data[:20], "huge header": b"\xff" * 8 + data[8:], "renamed": renamed, "turned": turned},
    }


def test_a_damaged_file_is_made_again_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    cache, key = Cache(tmp_path, said.append), "a" * 64
    cache.put(key, tensors())
    data = cache.path(key).read_bytes()
    for name, bad in damaged(data).items():
        cache.path(key).write_bytes(bad)
        assert cache.get(key) is None, name
        assert len(said) == 1 and str(cache.path(key)) in said.pop()
        assert same(fill(cache, {"a": key}, lambda lacking: [("a", tensors())])["a"], tensors())
        said.clear()
        assert cache.path(key).read_bytes() == data
    assert same(cache.get(key), tensors())


def test_a_file_under_another_s_name_is_not_taken(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("a" * 64, tensors())
    cache.path("b" * 64).parent.mkdir()
    cache.path("a" * 64).rename(cache.path("b" * 64))
    assert cache.get("b" * 64) is None and cache.get("a" * 64) is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_not_kept(tmp_path: Path, bad: float) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(CacheError, match=r"latents \(2,\) .* set model.vae_precision to fp32"):
        cache.put("a" * 64, {"latents": torch.tensor([1.0, bad])})
    assert cache.get("a" * 64) is None and not list(tmp_path.rglob("*.safetensors"))


def test_a_full_disk_is_an_error_that_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    monkeypatch.setenv("LIKENESS_FAULT", "write:1:ENOSPC")
    from trainer import durable

    monkeypatch.setattr(durable, "_calls", type(durable._calls)())
    with pytest.raises(DiskError, match="make room"):
        cache.put("a" * 64, tensors())
    monkeypatch.delenv("LIKENESS_FAULT")
    assert cache.get("a" * 64) is None and not [path for path in tmp_path.rglob("*") if path.is_file()]
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        Cache(tmp_path / "file").put("a" * 64, tensors())


FILLER = """
import os, sys, time, torch
from pathlib import Path
from trainer.data.cache import Cache, fill
torch.set_num_threads(1)
made = []
def make(lacking):
    for i in lacking:
        made.append(i)
        yield i, {"latents": torch.full((4, 32, 32), float(i))}
folder, count, together = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
(folder / f"ready-{os.getpid()}").touch()
while len(list(folder.glob("ready-*"))) < together:
    time.sleep(0.001)
cache = Cache(folder / "cache")
for path in sorted(folder.glob("*.bin")):
    cache.file_hash(path)
fill(cache, {i: f"{i:064x}" for i in range(count)}, make)
print(len(made))
"""


def filler(folder: Path, count: int, together: int = 1, **environment: str) -> subprocess.Popen[str]:
    """A process that fills a cache, once as many as `together` are ready."""
    command = [sys.executable, "-c", FILLER, str(folder), str(count), str(together)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, text=True, stdout=pipe, stderr=pipe)


def kept(folder: Path, count: int) -> list[bool]:
    said: list[str] = []
    cache = Cache(folder / "cache", said.append)
    found = [same(cache.get(f"{i:064x}"), {"latents": torch.full((4, 32, 32), float(i))}) for i in range(count)]
    assert not said
    return found


def test_two_processes_may_share_one_cache(tmp_path: Path) -> None:
    for i in range(20):
        old(tmp_path / f"{i}.bin", bytes([i]))
    both = [filler(tmp_path, 100, together=2) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and int(out) > 0, err
    assert all(kept(tmp_path, 100)) and not list(tmp_path.rglob("*.part"))
    known = json.loads((tmp_path / "cache" / "hashes.json").read_text())
    assert len(known) >= 10
    for path, (_, _, digest) in known.items():
        assert digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_killed_filling_goes_on_where_it_was(tmp_path: Path) -> None:
    process = filler(tmp_path, 8, LIKENESS_FAULT="any:12:KILL")
    process.communicate(timeout=120)
    assert process.returncode == -9
    before = kept(tmp_path, 8)
    assert 0 < sum(before) < 8
    out, _ = filler(tmp_path, 8).communicate(timeout=120)
    assert int(out) == 8 - sum(before)
    assert all(kept(tmp_path, 8))


def old(path: Path, data: bytes, seconds: float = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - seconds, time.time() - seconds))
    return path


def test_a_model_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(1) or real(file, kind))
    model, cache = old(tmp_path / "model.safetensors", b"weights"), Cache(tmp_path / "cache")
    assert cache.file_hash(model) == hashlib.sha256(b"weights").hexdigest()
    assert cache.file_hash(model) == Cache(tmp_path / "cache").file_hash(model) and len(read) == 1
    old(model, b"Weights of another size")
    assert cache.file_hash(model) == hashlib.sha256(b"Weights of another size").hexdigest() and len(read) == 2
    os.utime(model, (1000, 1000))
    assert cache.file_hash(model) and len(read) == 3
    (tmp_path / "cache" / "hashes.json").write_text('{"torn')
    assert cache.file_hash(model) and len(read) == 4
    assert json.loads((tmp_path / "cache" / "hashes.json").read_text())


def test_a_hash_is_given_where_nothing_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = old(tmp_path / "model.safetensors", b"weights")
    wanted = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "file").write_text("")
    assert Cache(tmp_path / "file").file_hash(model) == wanted
    monkeypatch.setenv("LIKENESS_FAULT", "write:1:EROFS")
    monkeypatch.setattr("trainer.durable._calls", Counter())
    assert Cache(tmp_path / "cache").file_hash(model) == wanted and not list((tmp_path / "cache").iterdir())


def test_a_file_that_may_still_be_written_is_not_trusted(tmp_path: Path) -> None:
    model, cache = tmp_path / "model.safetensors", Cache(tmp_path / "cache")
    model.write_bytes(b"one")
    stat = model.stat()
    first = cache.file_hash(model)
    model.write_bytes(b"two")
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as two writes within one tick of the clock look
    assert cache.file_hash(model) != first


def test_a_model_folder_has_one_hash(tmp_path: Path) -> None:
    cache, model = Cache(tmp_path / "cache"), tmp_path / "model"
    old(model / "unet" / "a.safetensors", b"a")
    old(model / "config.json", b"{}")
    first = cache.file_hash(model)
    old(model / ".DS_Store", b"mac")
    assert cache.file_hash(model) == first
    old(model / "unet" / "a.safetensors", b"b!")
    assert cache.file_hash(model) != first
    old(model / "unet" / "a.safetensors", b"a")
    assert cache.file_hash(model) == first
    (model / "unet" / "a.safetensors").rename(model / "unet" / "b.safetensors")
    assert cache.file_hash(model) != first
