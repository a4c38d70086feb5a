"""What a file says of several data sets: `ss_datasets` and `ss_dataset_dirs`, as sd-scripts has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from trainer.config import Config
from trainer.data.buckets import place_all
from trainer.data.found import Picture
from trainer.data.order import count_uses
from trainer.metadata import count_tags
from trainer.plan import aspect_error

Tree = dict[str, Any]


def datasets_of(config: Config, pictures: Sequence[Picture]) -> list[Tree]:
    """Each data set with its subsets; buckets count uses, tags count files."""
    numbers = sorted({subset.dataset for subset in config.data.subsets})
    return [_dataset(config, number, [p for p in pictures if p.folder.dataset == number]) for number in numbers]


def _dataset(config: Config, number: int, pictures: list[Picture]) -> Tree:
    places = [place for place, subset in enumerate(config.data.subsets) if subset.dataset == number]
    first, batch = config.data.of(places[0]), config.data.subsets[places[0]].batch
    uses, placements = count_uses(pictures), place_all(pictures, config.data)
    sizes: Counter[tuple[int, int]] = Counter()
    for used, placement in zip(uses, placements, strict=True):
        sizes[placement.bucket] += used
    used_sizes = sorted((size, used) for size, used in sizes.items() if used)
    buckets = {str(i): {"resolution": [*size], "count": used} for i, (size, used) in enumerate(used_sizes)}
    names = dict.fromkeys(picture.folder.name for picture in pictures)
    return {
        "is_dreambooth": first.metadata is None,
        "batch_size_per_device": batch or config.train.batch,
        "num_train_images": sum(picture.folder.repeats for picture in pictures if not picture.folder.reg),
        "num_reg_images": sum(picture.folder.repeats for picture in pictures if picture.folder.reg),
        "resolution": [*first.resolution],
        "enable_bucket": first.buckets is not None,
        "min_bucket_reso": first.buckets and first.buckets.smallest,
        "max_bucket_reso": first.buckets and first.buckets.largest,
        "tag_frequency": {
            name: count_tags(p.caption for p in pictures if p.folder.name == name and p.caption_source == "file")
            for name in names
        },
        "bucket_info": {"buckets": buckets, "mean_img_ar_error": aspect_error(pictures, placements, uses)}
        if first.buckets and used_sizes
        else None,
        "resize_interpolation": None if first.interpolation == "auto" else first.interpolation,
        "subsets": [_subset(config, place, pictures) for place in places],
    }


def _subset(config: Config, place: int, pictures: list[Picture]) -> Tree:
    subset, data = config.data.subsets[place], config.data.of(place)
    captions = config.captions.of(subset)
    kind = (
        {"metadata_file": PurePath(data.metadata).name}
        if data.metadata
        else {"class_tokens": subset.words or None, "is_reg": subset.reg}
    )
    return {
        "img_count": sum(picture.folder.subset == place for picture in pictures),
        "num_repeats": subset.repeats,
        "color_aug": data.color_aug,
        "flip_aug": data.flip,
        "random_crop": data.crop == "random",
        "shuffle_caption": captions.shuffle,
        "keep_tokens": captions.keep_tokens,
        "keep_tokens_separator": captions.keep_tokens_separator,
        "secondary_separator": captions.secondary_separator,
        "enable_wildcard": captions.wildcards,
        "caption_prefix": captions.prefix or None,
        "caption_suffix": captions.suffix or None,
        "resize_interpolation": None if data.interpolation == "auto" else data.interpolation,
        "image_dir": PurePath(subset.folder).name,
        **kind,
    }


def folders_of(datasets: Sequence[Tree]) -> dict[str, tuple[int, int]]:
    """Repeats and pictures of each trained folder; one that is met again gets a number, as `img (2)`."""
    found: dict[str, tuple[int, int]] = {}
    for subset in (subset for dataset in datasets for subset in dataset["subsets"]):
        if not subset.get("is_reg"):
            name = subset.get("metadata_file") or subset["image_dir"]
            others = sum(known == name or known.startswith(f"{name} (") for known in found)
            found[f"{name} ({others + 1})" if others else name] = subset["num_repeats"], subset["img_count"]
    return found
