"""Batches: the same bits whatever the workers, the order of asking or the cache, and the right pictures in them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tests.tiny import build
from trainer.config import Config
from trainer.data.buckets import Placement
from trainer.data.cache import Cache, CacheError
from trainer.data.dataset import Batch, Dataset, encode, fingerprint, run_ahead
from trainer.data.folders import Collection, collect
from trainer.data.pictures import PictureError, pixels, resize
from trainer.families.base import Family
from trainer.plan import make_plan

SIZES = {"a": (200, 200), "b": (300, 100), "c": (128, 128), "d": (70, 190), "e": (150, 140)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def family() -> Family:
    return build("sd15")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures, twice each, and two for regularisation."""
    root = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for part, names in (("img/2_zk9 thing", "abcde"), ("reg/1_thing", "ab")):
        (root / part).mkdir(parents=True)
        for name in names:
            width, height = SIZES[name]
            coarse = noise.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(root / part / f"{name}.png")
            (root / part / f"{name}.txt").write_text(f"{name}, red, blue, green")
    return root


def make_config(folder: Path, **options: Any) -> Config:
    buckets = {"smallest": 64, "largest": 192, "no_upscale": False}
    data = {"images": str(folder / "img"), "resolution": 128, "buckets": buckets, "workers": 0} | options.pop(
        "data", {}
    )
    return Config.model_validate({"data": data, "train": {"batch": 2}, **options})


def dataset(folder: Path, family: Family, cache: Path | None = None, **options: Any) -> Dataset:
    """Uncached without a cache folder."""
    options["data"] = {"cache_latents": cache is not None} | options.get("data", {})
    config = make_config(folder, **options)
    return Dataset(config, collect(config.data, config.captions), family, Cache(cache or folder / "unused"))


def same(one: Batch, other: Batch) -> bool:
    tensors = ((b.latents, b.weights, *b.sizes, *(b.cond or {}).values()) for b in (one, other))
    words = ((b.captions, b.pictures, b.names) for b in (one, other))
    return all(map(torch.equal, *tensors)) and next(words) == next(words)


MOVING = {
    "data": {"crop": "random", "flip": True, "color_aug": True},
    "captions": {"shuffle": True, "tag_dropout": 0.3, "dropout": 0.1},
}


def test_workers_and_the_order_of_asking_do_not_matter(folder: Path, family: Family) -> None:
    plain = dataset(folder, family, **MOVING)
    places = [(epoch, index) for epoch in range(2) for index in range(len(plain))]
    expected = {place: plain.batch(*place) for place in places}
    for workers in (1, 3):
        ahead = dataset(folder, family, **{**MOVING, "data": {**MOVING["data"], "workers": workers}})
        for place in [*places, *places[::-1], places[5], places[5], places[1], places[7]]:
            assert same(ahead.batch(*place), expected[place]), (workers, place)
    assert not same(expected[0, 0], expected[1, 0])


def test_the_cache_changes_no_bit(folder: Path, family: Family, tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": {"flip": True}, "captions": {"shuffle": True}}
    fresh, made = dataset(folder, family, **options), dataset(folder, family, tmp_path, **options)
    again = dataset(folder, Blind(family), tmp_path, **options)  # reads only
    for epoch in range(3):
        for index in range(len(fresh)):
            expected = fresh.batch(epoch, index)
            assert same(made.batch(epoch, index), expected)
            assert same(again.batch(epoch, index), expected)


class Blind:
    """A family that must not encode pictures any more."""

    def __init__(self, family: Family) -> None:
        self.vae, self.latent_scale = family.vae, family.latent_scale

    def encode_images(self, pixels: Tensor) -> Tensor:
        raise AssertionError("encoded again")


@pytest.mark.parametrize(
    "change",
    [{"background": "#000000"}, {"interpolation": "lanczos"}, {"flip": True}, {"buckets": None}, {"resolution": 192}],
)
def test_another_way_to_encode_is_encoded_anew(
    folder: Path, family: Family, tmp_path: Path, change: dict[str, Any]
) -> None:
    dataset(folder, family, tmp_path)
    with pytest.raises(AssertionError, match="encoded again"):
        dataset(folder, Blind(family), tmp_path, data=change)


def test_latents_are_those_of_the_picture(folder: Path, family: Family, tmp_path: Path) -> None:
    data = dataset(folder, family, tmp_path, train={"batch": 1}, data={"flip": True})
    seen = set()
    for epoch in range(8):
        for index in range(len(data)):
            batch, (shot,) = data.batch(epoch, index), data.shots_of(epoch, index)
            image = Image.open(folder / "img" / "2_zk9 thing" / batch.names[0]).convert("RGB")
            (width, height), resized = shot.placement
            left, top = (resized[0] - width) // 2, (resized[1] - height) // 2
            image = resize(image, resized, "auto").crop((left, top, left + width, top + height))
            image = ImageOps.mirror(image) if shot.flipped else image
            expected = family.encode_images(torch.from_numpy(pixels(image))[None])
            assert torch.equal(batch.latents, expected)
            assert batch.latents.dtype == torch.float32 and not batch.latents.requires_grad
            seen.add((batch.names[0], shot.flipped))
    assert len(seen) == 10  # each picture both ways


def test_pictures_encoded_together_are_nearly_the_same(folder: Path, family: Family, tmp_path: Path) -> None:
    alone, together = (
        dataset(folder, family),
        dataset(folder, family, tmp_path, model={"vae_batch": 4}, data={"workers": 2}),
    )
    for index in range(len(alone)):
        assert torch.allclose(alone.batch(0, index).latents, together.batch(0, index).latents, atol=1e-5)


def test_an_epoch_is_what_the_plan_says(folder: Path, family: Family) -> None:
    config = make_config(
        folder, data={"reg": str(folder / "reg"), "cache_latents": False}, objective={"prior_weight": 0.5}
    )
    collection = collect(config.data, config.captions)
    data, plan = Dataset(config, collection, family, Cache(folder / "unused")), make_plan(config, collection, "sd15")
    assert len(data) == plan.batches
    batches = [data.batch(3, index) for index in range(len(data))]
    ids = [name for batch in batches for name in batch.pictures]
    assert len(set(ids)) == len(ids) == plan.items + plan.reg_items == 20
    weights = Counter((name, float(w)) for batch in batches for name, w in zip(batch.names, batch.weights, strict=True))
    assert weights == {("a.png", 0.5): 5, ("b.png", 0.5): 5} | {(f"{name}.png", 1.0): 2 for name in "abcde"}
    shapes = Counter(tuple(batch.latents.shape[2:]) for batch in batches for _ in batch.names)
    assert {(b.height // 8, b.width // 8): b.uses for b in plan.buckets} == shapes


def test_what_sdxl_is_told(folder: Path, family: Family) -> None:
    data = dataset(folder, family, data={"flip": True})
    wanted = {"b.png": (100, 300), "c.png": (128, 128), "d.png": (190, 70)}
    margins: dict[str, set[tuple[int, ...]]] = {}
    for epoch in range(6):
        for index in range(len(data)):
            batch = data.batch(epoch, index)
            for name, original, crop, target in zip(batch.names, *(s.tolist() for s in batch.sizes), strict=True):
                assert tuple(original) == wanted.get(name, SIZES[name[0]][::-1])
                assert target == [8 * side for side in batch.latents.shape[2:]]
                margins.setdefault(name, set()).add(tuple(crop))
    # b: 3.0 wide in a bucket of 3.0; d: 0.368 in 0.333, 173.7 high, 18.29 to spare; e: 1.07 in 1, 119.5 high, 8.53
    assert margins == {"a.png": {(0, 0)}, "b.png": {(0, 0)}, "c.png": {(0, 0)}, "d.png": {(9, 0)}, "e.png": {(4, 0)}}


def test_captions_of_each_use(folder: Path, family: Family) -> None:
    captions = {"shuffle": True, "keep_tokens": 2, "prefix": "zk9,", "dropout_every_n_epochs": 2}
    data = dataset(folder, family, captions=captions)
    words = [[caption for i in range(len(data)) for caption in data.batch(epoch, i).captions] for epoch in range(4)]
    assert words[1] == words[3] == [""] * 10
    assert all(caption.startswith("zk9, ") for caption in words[0])
    assert len({caption for caption in words[0] if caption.startswith("zk9, a")}) == 2  # two uses, two draws
    assert sorted(words[0]) != sorted(words[2])


def test_token_warmup_counts_steps(folder: Path, family: Family) -> None:
    """5 batches, 2 to a step: 3 steps an epoch, and one more tag each step."""
    captions = {"token_warmup_min": 1, "token_warmup_steps": 3}
    data = dataset(folder, family, captions=captions, train={"batch": 2, "accumulate": 2})
    assert len(data) == 5
    tags = [{caption.count(",") + 1 for caption in data.batch(0, index).captions} for index in range(5)]
    assert tags == [{1}, {1}, {2}, {2}, {3}]
    assert {caption.count(",") + 1 for caption in data.batch(1, 0).captions} == {4}


def test_cached_captions_are_those_encoded(folder: Path, family: Family, tmp_path: Path) -> None:
    rates = {"text_encoder": None, "text_encoder_2": None}
    data = dataset(folder, family, tmp_path, data={"cache_text": True}, rates=rates, captions={"prefix": "zk9"})
    for index in range(len(data)):
        batch = data.batch(0, index)
        assert batch.cond is not None and batch.cond.keys() == {"states"}
        for row, caption in zip(batch.cond["states"], batch.captions, strict=True):
            assert caption.startswith("zk9 ")
            assert torch.equal(row, family.encode_text([caption])["states"][0])
    assert dataset(folder, family).batch(0, 0).cond is None


def test_seeds_differ(folder: Path, family: Family, tmp_path: Path) -> None:
    one, other = (dataset(folder, family, tmp_path, seed=seed) for seed in (1, 2))
    assert [one.batch(0, i).pictures for i in range(5)] != [other.batch(0, i).pictures for i in range(5)]


def test_a_picture_that_changes_is_refused(family: Family, tmp_path: Path) -> None:
    path = tmp_path / "img" / "1_a" / "a.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (128, 128), "red").save(path)
    config = make_config(tmp_path)
    collection = collect(config.data, config.captions)
    Image.new("RGB", (128, 128), "blue").save(path)
    with pytest.raises(PictureError, match=r"a\.png: was changed"):
        Dataset(config, collection, family, Cache(tmp_path / "cache"))
    path.unlink()
    with pytest.raises(PictureError, match=r"a\.png: cannot be opened any more"):
        Dataset(config, collection, family, Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_latents_that_are_no_numbers_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = build("sd15")
    with torch.no_grad():
        next(broken.vae.parameters()).fill_(float("nan"))
    with pytest.raises(CacheError):
        dataset(folder, broken, tmp_path)


@pytest.mark.parametrize(("bad", "files"), [("a", 3), ("c", 5)])
def test_latents_of_a_vae_that_overflows_are_all_those_of_fp32(bad: str, files: int, tmp_path: Path) -> None:
    """Whichever picture overflows; those that were kept in fp16 before it stay under their own keys."""
    (tmp_path / "img" / "1_zk9").mkdir(parents=True)
    for shade, name in enumerate("abc", 127):
        color = "white" if name == bad else (shade, shade, shade)
        Image.new("RGB", (128, 128), color).save(tmp_path / "img" / "1_zk9" / f"{name}.png")
    family, again, exact = (overflowing() for _ in range(3))
    exact.vae.float()
    wanted = dataset(tmp_path, exact, tmp_path / "exact").latents
    found = dataset(tmp_path, family, tmp_path / "cache").latents
    assert family.vae.dtype == torch.float32 and len(list((tmp_path / "cache").rglob("*.safetensors"))) == files
    for latents in (found, dataset(tmp_path, again, tmp_path / "cache").latents):
        assert latents.keys() == wanted.keys() and all(torch.equal(latents[shot], wanted[shot]) for shot in wanted)
    dataset(tmp_path, Blind(exact), tmp_path / "cache")  # reads only


def overflowing() -> Any:
    """A family whose VAE overflows in fp16 at pictures that are not grey."""
    family = build("sd15")
    family.vae.half().encoder.conv_in.weight.data.fill_(6e4)
    return family


def test_unused_regularisation_is_not_encoded(folder: Path, family: Family, tmp_path: Path) -> None:
    config = make_config(folder, data={"reg": str(folder / "reg")})
    pictures = collect(config.data, config.captions).pictures
    few = Collection([pictures[2], *[p for p in pictures if p.folder.reg]], [])
    data = Dataset(config, few, family, Cache(tmp_path))
    assert len(data.latents) == 3 and sum(len(data.batch(0, i).names) for i in range(len(data))) == 4


def test_fingerprint_is_of_the_weights() -> None:
    vae, other = build("sd15").vae, build("sd15", seed=1).vae
    again = build("sd15").vae
    assert fingerprint(vae) == fingerprint(again) != fingerprint(other)
    assert fingerprint(again.half()) != fingerprint(vae)
    with torch.no_grad():
        list(vae.parameters())[-1].view(-1)[0] += 1e-3
    assert fingerprint(vae) != fingerprint(build("sd15").vae)


def test_a_batch_moves(folder: Path, family: Family) -> None:
    batch = dataset(folder, family).batch(0, 0)
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in (moved.latents, moved.weights, *moved.sizes)} == {"meta"}
    assert moved.captions == batch.captions and moved.pictures == batch.pictures


def test_work_ahead_keeps_order_and_bounds() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (number % 3))
        with lock:
            running -= 1
        return number * number

    for workers in (0, 1, 4):
        assert list(run_ahead(work, range(20), workers)) == [number * number for number in range(20)]
    assert 1 < most <= 4
    with pytest.raises(ZeroDivisionError):
        list(run_ahead(lambda number: 1 // number, [1, 0, 1], 2))


def test_encoding_gives_float32_on_the_cpu() -> None:
    half = build("sd15")
    half.vae.to(torch.bfloat16)
    latents = encode(half, torch.zeros(1, 3, 64, 64))
    assert latents.dtype == torch.float32 and latents.shape == (1, 4, 8, 8)


def test_placements_in_use(folder: Path, family: Family) -> None:
    data = dataset(folder, family)
    found = {picture.path.stem: place for picture, place in zip(data.pictures, data.placements, strict=True)}
    assert found["a"] == Placement((128, 128), (128, 128))
    assert found["b"] == Placement((192, 64), (192, 64))
    assert found["d"] == Placement((64, 192), (71, 192))


def test_cuts_sides_and_colours_vary_from_use_to_use(folder: Path, family: Family) -> None:
    data = dataset(folder, family, **MOVING)
    shots = [shot for epoch in range(10) for index in range(len(data)) for shot in data.shots_of(epoch, index)]
    tall = [shot for shot in shots if shot.picture.path.stem == "d"]  # 71 x 192 in 64 x 192: 7 to spare
    assert len(tall) == 20
    assert len({shot.crop for shot in tall}) >= 5 and {shot.crop[1] for shot in tall} == {0}
    assert {shot.flipped for shot in tall} == {True, False}
    assert len({shot.colors.random() for shot in shots if shot.colors}) == len(shots) == 100
