"""Folders of pictures with settings of their own, as sd-scripts' dataset files have them."""

from __future__ import annotations

import json
import tomllib
from typing import Annotated, Any, Literal

from pydantic import Field

from trainer.config.parts import Count, IsPath, Kohya, Part, Probability, Size

Smallest = Annotated[int, Field(ge=64, le=4096)]
Largest = Annotated[int, Field(ge=64, le=8192)]
Step = Annotated[int, Field(ge=8, le=512, multiple_of=8)]
Repeats = Annotated[int, Field(ge=1, le=10000)]
Tags = Annotated[int, Field(ge=0, le=255)]
Ending = Annotated[str, Field(pattern=r"^\.[A-Za-z0-9_.-]+$")]
Separator = Annotated[str, Field(min_length=1)]
Crop = Literal["center", "random"]
Interpolation = Literal["auto", "lanczos", "area", "bicubic"]

BUCKETS = ("smallest", "largest", "step", "no_upscale")
TABLE = "subsets"


class Subset(Part):
    """One folder of pictures. What is left empty is as for all pictures; `""` and 0 turn off what can be off."""

    folder: Annotated[str, Field(min_length=1), Kohya("image_dir", "Folder"), IsPath()]
    """The pictures, directly in this folder, whatever its name."""
    repeats: Annotated[Repeats, Kohya("num_repeats", "Repeats")] = 1
    """Repeats of each picture in an epoch."""
    words: Annotated[str, Kohya("class_tokens", "Class tokens")] = ""
    """What stands for a missing caption: `zk9 woman`."""
    reg: Annotated[bool, Kohya("is_reg", "Regularisation")] = False
    """Pictures of the class in general; they are evened out with the others of their data set."""
    dataset: Annotated[int, Field(ge=1, le=1000)] = 1
    """Folders of one number share batches; those of different numbers never do."""
    batch: Annotated[Count | None, Kohya("batch_size", "Train batch size")] = None
    """Pictures at once."""
    metadata: Annotated[str | None, Kohya("metadata_file", "Metadata file"), IsPath()] = None
    """Captions from one file, as `data.metadata`."""
    masks: Annotated[str | None, Kohya("conditioning_data_dir", "Mask folder"), IsPath()] = None
    """Masks, as `data.masks`."""
    alpha_mask: Annotated[bool | None, Kohya("alpha_mask", "Alpha mask")] = None
    """Transparent parts count less, as `data.alpha_mask`."""
    resolution: Annotated[Size | None, Kohya("resolution", "Max Resolution")] = None
    """Width and height that these pictures are trained at."""
    bucketed: Annotated[bool | None, Kohya("enable_bucket", "Enable buckets")] = None
    """Whether they are sorted by shape."""
    smallest: Annotated[Smallest | None, Kohya("min_bucket_reso", "Minimum bucket resolution")] = None
    """Smallest side of a bucket in pixels."""
    largest: Annotated[Largest | None, Kohya("max_bucket_reso", "Maximum bucket resolution")] = None
    """Largest side of a bucket in pixels."""
    step: Annotated[Step | None, Kohya("bucket_reso_steps", "Bucket resolution steps")] = None
    """Bucket sides are multiples of this many pixels."""
    no_upscale: Annotated[bool | None, Kohya("bucket_no_upscale", "Don't upscale")] = None
    """Never enlarge a picture."""
    crop: Annotated[Crop | None, Kohya("random_crop", "Crop")] = None
    """Where a picture is cut."""
    interpolation: Annotated[Interpolation | None, Kohya("resize_interpolation", "Resize interpolation")] = None
    """How pictures are resized."""
    flip: Annotated[bool | None, Kohya("flip_aug", "Flip augmentation")] = None
    """Mirror half of the uses."""
    color_aug: Annotated[bool | None, Kohya("color_aug", "Color augmentation")] = None
    """Vary hue and gamma a little."""
    extension: Annotated[Ending | None, Kohya("caption_extension", "Caption Extension")] = None
    """Ending of caption files."""
    prefix: Annotated[str | None, Kohya("caption_prefix", "Caption prefix")] = None
    """Put before every caption."""
    suffix: Annotated[str | None, Kohya("caption_suffix", "Caption suffix")] = None
    """Put after every caption."""
    separator: Annotated[Separator | None, Kohya("caption_separator", "Caption separator")] = None
    """What stands between two tags."""
    secondary_separator: Annotated[str | None, Kohya("secondary_separator", "Secondary separator")] = None
    """Holds tags together."""
    shuffle: Annotated[bool | None, Kohya("shuffle_caption", "Shuffle caption")] = None
    """Put the tags into a new order at each use."""
    keep_tokens: Annotated[Tags | None, Kohya("keep_tokens", "Keep n tokens")] = None
    """The first n tags keep their place."""
    keep_tokens_separator: Annotated[str | None, Kohya("keep_tokens_separator", "Keep tokens separator")] = None
    """What stands before this mark keeps its place."""
    dropout: Annotated[Probability | None, Kohya("caption_dropout_rate", "Rate of caption dropout")] = None
    """Chance of an empty caption."""
    dropout_every_n_epochs: Annotated[
        int | None, Field(ge=0), Kohya("caption_dropout_every_n_epochs", "Dropout caption every n epochs")
    ] = None
    """Every n-th epoch is trained with empty captions."""
    tag_dropout: Annotated[Probability | None, Kohya("caption_tag_dropout_rate", "Rate of tag dropout")] = None
    """Chance that a tag is left out."""
    wildcards: Annotated[bool | None, Kohya("enable_wildcard", "Wildcards in captions")] = None
    """`{a|b}` picks one at each use."""
    token_warmup_min: Annotated[Count | None, Kohya("token_warmup_min", "Token warmup: first tags")] = None
    """Tags used at the first step of a token warm-up."""
    token_warmup_steps: Annotated[int | None, Field(ge=0), Kohya("token_warmup_step", "Token warmup: steps")] = None
    """Steps over which the number of tags grows."""

    def over(self, names: set[str]) -> dict[str, Any]:
        """Its own values of those options, by name."""
        return {name: value for name, value in self if name in names and value is not None}


KEYS = {
    mark.key: name for name, field in Subset.model_fields.items() for mark in field.metadata if isinstance(mark, Kohya)
}
"""sd-scripts' names of a subset's options, and ours."""
FILES = ("folder", "metadata", "masks")
"""A subset's paths."""


def written(subsets: tuple[Subset, ...]) -> str:
    """Subsets as TOML, only what differs from a subset's defaults."""
    lines: list[str] = []
    for subset in subsets:
        lines += ["", f"[[{TABLE}]]"] if lines else [f"[[{TABLE}]]"]
        given = {"folder": subset.folder, **subset.model_dump(mode="json", exclude_defaults=True)}
        lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in given.items()]
    return "\n".join(lines)


def read(text: Any) -> Any:
    """What TOML of `[[subsets]]` says, unchecked; anything but text as it is. ValueError where it is broken."""
    if not isinstance(text, str):
        return text
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"broken TOML: {error}; begin each folder with [[{TABLE}]]") from None
    if strange := [name for name in tree if name != TABLE]:
        raise ValueError(f"{strange[0]} stands outside a table; begin each folder with [[{TABLE}]]")
    return tree.get(TABLE, [])
