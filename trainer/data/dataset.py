"""Batches: what the training loop asks for by (epoch, index), and gets whatever was asked before.

Which pictures, how they are cut, mirrored and described follows from (seed, epoch, item) alone, so workers, prefetching
and restarts cannot matter. A picture is encoded alone, cached or not, so both give the same bits; only with
`model.vae_batch` above 1, which encodes several at once while caching, may the last ones differ (by about 1e-6).
"""

from __future__ import annotations

import hashlib
import io
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from trainer.config import Config, Data
from trainer.data.buckets import Placement, Size, crop_box, place_all, sdxl_crop
from trainer.data.cache import Cache, fill, latent_key, text_key
from trainer.data.captions import vary
from trainer.data.folders import Collection, Picture
from trainer.data.order import Item, epoch_batches, expand
from trainer.data.pictures import PictureError, color_augment, pixels, plain, read_picture, resize
from trainer.draws import dice
from trainer.families.base import Conditioning, Family, Sizes

In = TypeVar("In")
Out = TypeVar("Out")


class Batch(NamedTuple):
    """Pictures of one bucket, ready to train on; on the CPU until `to` moves them."""

    latents: Tensor
    """[B, 4, h, w] float32, scaled as the U-Net wants them."""
    captions: list[str]
    """The words of this use."""
    sizes: Sizes
    """What SDXL is told, [B, 2] int64 each: height and width, top and left."""
    weights: Tensor
    """[B] float32: 1, or `objective.prior_weight` for regularisation."""
    reg: list[bool]
    """Which are regularisation pictures."""
    pictures: list[str]
    """Names that random draws go by: the digest of the picture's bytes, and which use of the epoch it is."""
    names: list[str]
    """File names, for messages."""
    cond: Conditioning | None
    """What the captions were encoded to, with `data.cache_text`."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        latents, weights, *sizes = (t.to(device, non_blocking=True) for t in (self.latents, self.weights, *self.sizes))
        cond = self.cond and {name: tensor.to(device, non_blocking=True) for name, tensor in self.cond.items()}
        return self._replace(latents=latents, weights=weights, sizes=Sizes(*sizes), cond=cond)


class Shot(NamedTuple):
    """A picture as it is encoded: resized, cut at (left, top), its colours varied by `colors`, mirrored."""

    picture: Picture
    placement: Placement
    crop: Size
    flipped: bool
    colors: random.Random | None = None


class Dataset:
    """All batches of a training. `len` is the number of batches in an epoch."""

    def __init__(self, config: Config, collection: Collection, family: Family, cache: Cache) -> None:
        """Encodes what is to be cached and not yet in `cache`, which takes the VAE and the text encoders.

        Cached latents stay in memory: 64 KB a picture of 512 x 512, and twice that when it is mirrored too. Raises
        BucketError, PictureError, and what the cache raises.
        """
        self.config, self.family, self.pictures = config, family, collection.pictures
        self.placements = place_all(self.pictures, config.data)
        self.items = expand(self.pictures)
        self.buckets = [self.placements[item.picture].bucket for item in self.items]
        self.batches = epoch_batches(self.buckets, config.train.batch, config.seed, 0)
        self.epoch = 0
        self.ahead: dict[tuple[int, int], Future[Tensor]] = {}
        workers = 0 if config.data.cache_latents else config.data.workers
        self.pool = ThreadPoolExecutor(workers) if workers else None
        self.latents: dict[Shot, Tensor] = {}
        self.cond: dict[str, Conditioning] = {}
        if config.data.cache_latents:
            self.latents = self.encode_all(cache)
        if config.data.cache_text:
            self.cond = self.read_all(cache)

    def __len__(self) -> int:
        return len(self.batches)

    def batch(self, epoch: int, index: int) -> Batch:
        """The index-th batch of an epoch, both from 0; `data.workers` threads begin the next ones meanwhile."""
        config = self.config
        items, shots = self.items_of(epoch, index), self.shots_of(epoch, index)
        if config.data.cache_latents:
            latents = torch.stack([self.latents[shot] for shot in shots])
        else:
            latents = torch.cat([encode(self.family, one[None]) for one in self.prepared(epoch, index)])
        captions = [self.caption(item, epoch, index) for item in items]
        pictures = [shot.picture for shot in shots]
        reg = [picture.folder.reg for picture in pictures]
        cond = [self.cond[caption] for caption in captions] if config.data.cache_text else []
        return Batch(
            latents=latents,
            captions=captions,
            sizes=sizes_of(shots),
            weights=torch.tensor([config.objective.prior_weight if one else 1.0 for one in reg]),
            reg=reg,
            pictures=[item.draws for item in items],
            names=[picture.path.name for picture in pictures],
            cond={name: torch.cat([one[name] for one in cond]) for name in cond[0]} if cond else None,
        )

    def items_of(self, epoch: int, index: int) -> list[Item]:
        """The items of a batch."""
        if epoch != self.epoch:
            self.batches = epoch_batches(self.buckets, self.config.train.batch, self.config.seed, epoch)
            self.epoch = epoch
        return [self.items[place] for place in self.batches[index]]

    def shots_of(self, epoch: int, index: int) -> list[Shot]:
        """The pictures of a batch, with this use's cut, side and colours."""
        data, seed = self.config.data, self.config.seed
        shots = []
        for i, draws in self.items_of(epoch, index):
            crop = crop_box(self.placements[i], data.crop, dice(seed, "crop", epoch, draws))
            flipped = data.flip and dice(seed, "flip", epoch, draws).random() < 0.5
            colors = dice(seed, "colors", epoch, draws) if data.color_aug else None
            shots.append(Shot(self.pictures[i], self.placements[i], crop, flipped, colors))
        return shots

    def caption(self, item: Item, epoch: int, index: int) -> str:
        """The words of one use; token warm-up counts optimizer steps."""
        accumulate = self.config.train.accumulate
        step = epoch * -(-len(self) // accumulate) + index // accumulate
        draw = dice(self.config.seed, "caption", epoch, item.draws)
        return vary(self.pictures[item.picture].caption, self.config.captions, draw, epoch, step)

    def prepared(self, epoch: int, index: int) -> Tensor:
        """Pixels [B, 3, H, W] of a batch; those of the next batches are begun."""
        if not self.pool:
            return load(self.shots_of(epoch, index), self.config.data)
        upcoming = range(index, min(index + 1 + self.config.data.workers, len(self)))
        begun = self.ahead
        self.ahead = {
            (epoch, i): begun.get((epoch, i)) or self.pool.submit(load, self.shots_of(epoch, i), self.config.data)
            for i in upcoming
        }
        return self.ahead.pop((epoch, index)).result()

    def encode_all(self, cache: Cache) -> dict[Shot, Tensor]:
        """Latents [4, h, w] of every picture and, if asked for, of its mirror: from the cache, or made and kept."""
        data, model, precision = self.config.data, self.config.model, self.family.vae.dtype
        vae = f"{fingerprint(self.family.vae)}:{self.family.latent_scale}{':tiled' * model.vae_tiling}"
        keys: dict[Shot, str] = {}
        for i in sorted({item.picture for item in self.items}):
            picture, place = self.pictures[i], self.placements[i]
            crop = crop_box(place, "center", random.Random())
            for flipped in (False, True)[: 1 + data.flip]:
                key = latent_key(picture.digest, vae, *place, crop, flipped, data.interpolation, data.background)
                keys[Shot(picture, place, crop, flipped)] = key

        def make(lacking: Sequence[Shot]) -> Iterator[tuple[Shot, Mapping[str, Tensor]]]:
            groups = grouped(lacking, model.vae_batch)
            for group, images in zip(groups, run_ahead(lambda g: load(g, data), groups, data.workers), strict=True):
                latents = encode(self.family, images)
                if self.family.vae.dtype != precision:  # it overflowed in fp16: the keys are not those of its weights
                    return
                yield from ((shot, {"latents": one}) for shot, one in zip(group, latents, strict=True))

        kept = fill(cache, keys, make, "caching latents")
        if self.family.vae.dtype != precision:
            return self.encode_all(cache)
        return {shot: tensors["latents"] for shot, tensors in kept.items()}

    @torch.no_grad()
    def read_all(self, cache: Cache) -> dict[str, Conditioning]:
        """What every caption is encoded to, [1, ...] each: from the cache, or made and kept."""
        options, family = self.config.captions, self.family
        encoders = ":".join(fingerprint(encoder) for encoder in family.text_encoders)
        how = (encoders, self.config.model.clip_skip, options.max_tokens, options.weighted)
        captions = sorted({self.caption(item, 0, 0) for item in self.items})

        def make(lacking: Sequence[str]) -> Iterator[tuple[str, Conditioning]]:
            for caption in lacking:
                yield caption, {name: tensor.cpu() for name, tensor in family.encode_text([caption]).items()}

        return fill(cache, {caption: text_key(caption, *how) for caption in captions}, make, "caching captions")


def grouped(shots: Iterable[Shot], size: int) -> list[list[Shot]]:
    """Shots of one bucket together, at most `size` of them."""
    buckets: defaultdict[Size, list[Shot]] = defaultdict(list)
    for shot in shots:
        buckets[shot.placement.bucket].append(shot)
    return [alike[i : i + size] for alike in buckets.values() for i in range(0, len(alike), size)]


def load(shots: Sequence[Shot], data: Data) -> Tensor:
    """Pixels [B, 3, H, W] in -1..1 of pictures of one bucket, from their files."""
    return torch.from_numpy(np.stack([load_one(shot, data) for shot in shots]))


def load_one(shot: Shot, data: Data) -> np.ndarray:
    """Pixels [3, H, W] in -1..1 of a picture; PictureError when its file is no longer the one that was planned with."""
    picture, (width, height), (left, top) = shot.picture, shot.placement.bucket, shot.crop
    try:
        raw = picture.path.read_bytes()
    except OSError as error:
        raise PictureError(f"{plain(str(picture.path))}: cannot be opened any more ({error.strerror})") from error
    if hashlib.sha256(raw).hexdigest() != picture.digest:  # else it would enter the cache under another picture's name
        raise PictureError(f"{plain(str(picture.path))}: was changed while it was used: start again")
    image = read_picture(io.BytesIO(raw), data.background).image
    image = resize(image, shot.placement.resized, data.interpolation).crop((left, top, left + width, top + height))
    image = color_augment(image, shot.colors) if shot.colors else image
    return pixels(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if shot.flipped else image)


@torch.no_grad()
def encode(family: Family, images: Tensor) -> Tensor:
    """Scaled latents [B, 4, h, w], float32 on the CPU, of pixels [B, 3, H, W]."""
    return family.encode_images(images).float().cpu()


def sizes_of(shots: Sequence[Shot]) -> Sizes:
    """What SDXL is told of pictures: their size as files, the margin of `sdxl_crop`, and the trained size."""
    original = [shot.picture.size[::-1] for shot in shots]
    crop = [sdxl_crop(shot.picture.size, shot.placement.bucket, shot.flipped) for shot in shots]
    target = [shot.placement.bucket[::-1] for shot in shots]
    return Sizes(torch.tensor(original), torch.tensor(crop), torch.tensor(target))


def fingerprint(module: nn.Module) -> str:
    """A hash of a model's weights as they are in memory, their precision included: about 0.2 s for a VAE.

    It is the same for every base model that has this VAE, so they share cached latents.
    """
    digest = hashlib.sha256(type(module).__name__.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def run_ahead(work: Callable[[In], Out], inputs: Iterable[In], workers: int) -> Iterator[Out]:
    """Results in the order of the inputs, the next few made meanwhile by threads."""
    if not workers:
        yield from map(work, inputs)
        return
    begun: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for one in inputs:
            begun.append(pool.submit(work, one))
            if len(begun) > workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
