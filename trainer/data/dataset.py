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
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from trainer.config import Captions, Config, Data
from trainer.config.subset import Interpolation
from trainer.data.buckets import Placement, Size, crop_box, place_all, sdxl_crop
from trainer.data.cache import Cache, fill, latent_key, text_key
from trainer.data.captions import learned_words, vary, without
from trainer.data.folders import Collection, Picture
from trainer.data.order import Item, epoch_batches, expand, groups_of
from trainer.data.pictures import PictureError, color_augment, open_picture, pixels, plain, read_picture, resize
from trainer.data.templates import text_of
from trainer.draws import dice
from trainer.families.base import Conditioning, Family, Sizes

In = TypeVar("In")
Out = TypeVar("Out")
LATENT = 8
"""Pixels a side of a latent's place."""


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
    mask: Tensor | None
    """[B, 1, h, w] how much each place counts, 0 to 1; None when no picture of the training has a mask."""
    pictures: list[str]
    """Names that random draws go by: the digest of the picture's bytes, and which use of the epoch it is."""
    names: list[str]
    """File names, for messages."""
    share: float
    """How much of what all processes learn from at once: 1 for a process that is alone."""
    cond: Conditioning | None
    """What the captions were encoded to, with `data.cache_text`."""
    prior: list[str] | None = None
    """With `objective.prior` trained: the captions without the words that stand for what is learned."""
    prior_cond: Conditioning | None = None
    """What these were encoded to, with `data.cache_text`."""

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        latents, weights, *sizes = (t.to(device, non_blocking=True) for t in (self.latents, self.weights, *self.sizes))
        cond, prior = (
            told and {name: tensor.to(device, non_blocking=True) for name, tensor in told.items()}
            for told in (self.cond, self.prior_cond)
        )
        mask = None if self.mask is None else self.mask.to(device, non_blocking=True)
        return self._replace(
            latents=latents, weights=weights, sizes=Sizes(*sizes), mask=mask, cond=cond, prior_cond=prior
        )


class Shot(NamedTuple):
    """A picture as it is encoded: resized, cut at (left, top), its colours varied by `colors`, mirrored."""

    picture: Picture
    placement: Placement
    crop: Size
    flipped: bool
    colors: random.Random | None = None


class Loaded(NamedTuple):
    """Pictures of one bucket as numbers."""

    images: Tensor
    """[B, 3, H, W] in -1..1."""
    mask: Tensor | None
    """[B, 1, h, w] at the size of latents; None when it was not asked for."""


class Options(NamedTuple):
    """What holds for a picture."""

    data: Data
    captions: Captions


class Dataset:
    """All batches of a training. `len` is the number of batches in an epoch."""

    def __init__(self, config: Config, collection: Collection, family: Family, cache: Cache, rank: int = 0) -> None:
        """Encodes what is to be cached and not yet in `cache`, which takes the VAE and the text encoders.

        `rank`: which of `train.processes` this is; a batch is its share of what they all learn from at once.

        Cached latents stay in memory: 64 KB a picture of 512 x 512, and twice that when it is mirrored too. Raises
        BucketError, PictureError, and what the cache raises.
        """
        self.config, self.family, self.pictures = config, family, collection.pictures
        self.options = options_of(config, self.pictures)
        self.placements = place_all(self.pictures, config.data)
        self.items = expand(self.pictures)
        self.buckets = [self.placements[item.picture].bucket for item in self.items]
        self.rank, processes = rank, config.train.processes
        groups = groups_of(self.pictures, config.data.subsets, config.train.batch, processes)
        self.groups = [groups[item.picture] for item in self.items]
        self.batches = epoch_batches(self.buckets, self.groups, config.seed, 0)
        self.epoch = 0
        self.masked = config.data.masked
        self.ahead: dict[tuple[int, int], Future[Loaded]] = {}
        workers = 0 if config.data.cache_latents else config.data.workers
        self.pool = ThreadPoolExecutor(workers) if workers else None
        self.latents: dict[Shot, Tensor] = {}
        self.masks: dict[Shot, Tensor] = {}
        self.cond: dict[str, Conditioning] = {}
        if config.data.cache_latents:
            self.latents = self.encode_all(cache)
        if config.data.cache_latents and self.masked:
            self.masks = self.read_masks()
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
            mask = torch.stack([self.masks[shot] for shot in shots]) if self.masked else None
        else:
            images, mask = self.prepared(epoch, index)
            latents = torch.cat([encode(self.family, one[None]) for one in images])
        captions = [self.caption(item, epoch, index) for item in items]
        pictures = [shot.picture for shot in shots]
        reg = [picture.folder.reg for picture in pictures]
        prior = [self.prior(item, epoch, index) for item in items] if config.objective.prior == "trained" else None
        return Batch(
            latents=latents,
            captions=captions,
            sizes=sizes_of(shots),
            weights=torch.tensor([config.objective.prior_weight if one else 1.0 for one in reg]),
            reg=reg,
            mask=mask,
            pictures=[item.draws for item in items],
            names=[picture.path.name for picture in pictures],
            share=self.share(index),
            cond=self.kept(captions),
            prior=prior,
            prior_cond=self.kept(prior) if prior else None,
        )

    def kept(self, captions: Sequence[str]) -> Conditioning | None:
        """What captions were encoded to, with `data.cache_text`."""
        told = [self.cond[caption] for caption in captions] if self.config.data.cache_text else []
        return {name: torch.cat([one[name] for one in told]) for name in told[0]} if told else None

    def items_of(self, epoch: int, index: int) -> list[Item]:
        """The items of a batch."""
        if epoch != self.epoch:
            self.batches = epoch_batches(self.buckets, self.groups, self.config.seed, epoch)
            self.epoch = epoch
        whole = self.batches[index]
        mine = whole[self.rank :: self.config.train.processes] or whole[:1]  # who has none computes one for nothing
        return [self.items[place] for place in mine]

    def share(self, index: int) -> float:
        """How much of a batch of this epoch is this process's: what its mean loss counts for."""
        whole = self.batches[index]
        return len(whole[self.rank :: self.config.train.processes]) / len(whole)

    def shots_of(self, epoch: int, index: int) -> list[Shot]:
        """The pictures of a batch, with this use's cut, side and colours."""
        seed, shots = self.config.seed, list[Shot]()
        for i, draws in self.items_of(epoch, index):
            data = self.options[i].data
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
        text = text_of(self.pictures[item.picture], self.config, dice(self.config.seed, "template", epoch, item.draws))
        return vary(text, self.options[item.picture].captions, draw, epoch, step)

    def prior(self, item: Item, epoch: int, index: int) -> str:
        """The words of one use without those that stand for what is learned."""
        folder, captions = self.pictures[item.picture].folder, self.options[item.picture].captions
        return without(self.caption(item, epoch, index), learned_words(self.config.objective, captions, folder.words))

    def prepared(self, epoch: int, index: int) -> Loaded:
        """Pixels and masks of a batch; those of the next batches are begun."""
        if not self.pool:
            return load(self.shots_of(epoch, index), self.config.data, self.masked)
        upcoming = range(index, min(index + 1 + self.config.data.workers, len(self)))
        begun = self.ahead
        self.ahead = {
            (epoch, i): begun.get((epoch, i))
            or self.pool.submit(load, self.shots_of(epoch, i), self.config.data, self.masked)
            for i in upcoming
        }
        return self.ahead.pop((epoch, index)).result()

    def encode_all(self, cache: Cache) -> dict[Shot, Tensor]:
        """Latents [4, h, w] of every picture and, if asked for, of its mirror: from the cache, or made and kept."""
        model, precision = self.config.model, self.family.vae.dtype
        vae = f"{fingerprint(self.family.vae)}:{self.family.latent_scale}{':tiled' * model.vae_tiling}"
        data, keys = self.config.data, dict[Shot, str]()
        for shot in self.still():
            ways = data.of(shot.picture.folder.subset).interpolation, data.background
            keys[shot] = latent_key(shot.picture.digest, vae, *shot.placement, shot.crop, shot.flipped, *ways)

        def make(lacking: Sequence[Shot]) -> Iterator[tuple[Shot, Mapping[str, Tensor]]]:
            groups = grouped(lacking, model.vae_batch)
            loaded = run_ahead(lambda group: load(group, data), groups, data.workers)
            for group, (images, _) in zip(groups, loaded, strict=True):
                latents = encode(self.family, images)
                if self.family.vae.dtype != precision:  # it overflowed in fp16: the keys are not those of its weights
                    return
                yield from ((shot, {"latents": one}) for shot, one in zip(group, latents, strict=True))

        kept = fill(cache, keys, make, "caching latents")
        if self.family.vae.dtype != precision:
            return self.encode_all(cache)
        return {shot: tensors["latents"] for shot, tensors in kept.items()}

    def still(self) -> Iterator[Shot]:
        """Every picture that is used, as it is encoded once, and its mirror if asked for."""
        for i in sorted({item.picture for item in self.items}):
            crop = crop_box(self.placements[i], "center", random.Random())
            for flipped in (False, True)[: 1 + self.options[i].data.flip]:
                yield Shot(self.pictures[i], self.placements[i], crop, flipped)

    def read_masks(self) -> dict[Shot, Tensor]:
        """Masks [1, h, w] of all pictures that are encoded once."""
        shots, data = [*self.still()], self.config.data
        loaded = run_ahead(lambda shot: load([shot], data, masked=True)[1], shots, data.workers)
        return {shot: mask[0] for shot, mask in zip(shots, loaded, strict=True) if mask is not None}

    @torch.no_grad()
    def read_all(self, cache: Cache) -> dict[str, Conditioning]:
        """What every caption is encoded to, [1, ...] each: from the cache, or made and kept."""
        options, family = self.config.captions, self.family
        encoders = ":".join(fingerprint(encoder) for encoder in family.text_encoders)
        how = (encoders, self.config.model.clip_skip, options.max_tokens, options.weighted)
        captions = sorted({self.caption(item, 0, 0) for item in self.items})
        if self.config.objective.prior == "trained":
            captions = sorted({*captions, *(self.prior(item, 0, 0) for item in self.items)})

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


def options_of(config: Config, pictures: Sequence[Picture]) -> list[Options]:
    """The options that hold for each picture."""
    data, captions = config.data, config.captions
    known = {
        place: Options(data.of(place), captions.of(data.subset_at(place)))
        for place in {picture.folder.subset for picture in pictures}
    }
    return [known[picture.folder.subset] for picture in pictures]


def load(shots: Sequence[Shot], data: Data, masked: bool = False) -> Loaded:
    """Pictures of one bucket, from their files, and their masks if asked for."""
    ones = [load_one(shot, data.of(shot.picture.folder.subset), masked) for shot in shots]
    images = torch.from_numpy(np.stack([image for image, _ in ones]))
    return Loaded(images, torch.stack([mask for _, mask in ones if mask is not None]) if masked else None)


def load_one(shot: Shot, data: Data, masked: bool) -> tuple[np.ndarray, Tensor | None]:
    """Pixels [3, H, W] in -1..1 of a picture, and its mask [1, h, w] at the size of latents if asked for.

    PictureError when its file is no longer the one that was planned with.
    """
    picture = shot.picture
    try:
        raw = picture.path.read_bytes()
    except OSError as error:
        raise PictureError(f"{plain(str(picture.path))}: cannot be opened any more ({error.strerror})") from error
    if hashlib.sha256(raw).hexdigest() != picture.digest:  # else it would enter the cache under another picture's name
        raise PictureError(f"{plain(str(picture.path))}: was changed while it was used: start again")
    opened = read_picture(io.BytesIO(raw), data.background)
    image = cut(opened.image, shot, data.interpolation)
    made = pixels(color_augment(image, shot.colors) if shot.colors else image)
    return made, shrunk(mask_of(shot, opened.alpha if data.alpha_mask else None, data)) if masked else None


def cut(image: Image.Image, shot: Shot, interpolation: Interpolation) -> Image.Image:
    """A picture, or its mask, resized, cut and mirrored."""
    (width, height), (left, top) = shot.placement.bucket, shot.crop
    image = resize(image, shot.placement.resized, interpolation).crop((left, top, left + width, top + height))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if shot.flipped else image


def mask_of(shot: Shot, alpha: Image.Image | None, data: Data) -> Tensor:
    """How much each pixel counts [H, W], 0 to 1: by the mask's first channel, else by alpha, as in sd-scripts."""
    if shot.picture.mask:
        image = open_picture(shot.picture.mask, data.background).image
        if image.size != shot.picture.size:
            raise PictureError(f"{plain(str(shot.picture.mask))}: was changed while it was used: start again")
        seen = cut(image, shot, "area").getchannel(0)
    elif alpha:
        seen = cut(alpha, shot, data.interpolation)
    else:
        width, height = shot.placement.bucket
        return torch.ones(height, width)
    return torch.from_numpy(np.asarray(seen, np.float32) / np.float32(255))


def shrunk(mask: Tensor) -> Tensor:
    """A mask [H, W] at the size of latents [1, H / 8, W / 8]: the mean of each place (sd-scripts: mode `area`)."""
    return F.avg_pool2d(mask[None], LATENT)


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
