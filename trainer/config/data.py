"""Pictures and captions."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.config.parts import IsPath, Kohya, Part, Probability, Size, Text
from trainer.config.subset import (
    BUCKETS,
    Crop,
    Ending,
    Interpolation,
    Largest,
    Repeats,
    Separator,
    Smallest,
    Step,
    Subset,
    Tags,
    read,
)

Subsets = Annotated[tuple[Subset, ...], BeforeValidator(read)]


class Buckets(Part):
    """Sizes by aspect ratio, so that pictures need not be square."""

    smallest: Annotated[Smallest, Kohya("min_bucket_reso", "Minimum bucket resolution")] = 256
    """Smallest side of a bucket in pixels; not used with no_upscale."""
    largest: Annotated[Largest, Kohya("max_bucket_reso", "Maximum bucket resolution")] = 2048
    """Largest side of a bucket in pixels; not used with no_upscale."""
    step: Annotated[Step, Kohya("bucket_reso_steps", "Bucket resolution steps")] = 64
    """Bucket sides are multiples of this many pixels."""
    no_upscale: Annotated[bool, Kohya("bucket_no_upscale", "Don't upscale bucket resolution")] = True
    """Never enlarge a picture; small ones get a bucket of their own size."""


class Data(Part):
    """The pictures."""

    images: Annotated[
        str, Kohya("train_data_dir", "Image folder", "Image folder (containing training images subfolders)"), IsPath()
    ] = "zk9"
    """Image folder: holds folders named `<repeats>_<words>`, or pictures directly; `zk9` is the shipped demo."""
    reg: Annotated[Text, Kohya("reg_data_dir", "Regularisation folder", "Regularisation directory"), IsPath()] = None
    """Regularisation folder: pictures of the class in general, so that it is not forgotten."""
    subsets: Annotated[Subsets, Field(title="Folders with their own settings")] = ()
    """Folders with repeats, resolution, captions and more of their own, as TOML; Image folder is not used then."""
    metadata: Annotated[Text, Kohya("in_json", "Metadata file"), IsPath()] = None
    """A JSON file with captions, tags and sizes of pictures by path or name; pictures that it lacks are left out."""
    repeats: Repeats = 1
    """Repeats of each picture in an epoch when the image folder holds pictures directly."""
    words: Annotated[str, Kohya("class_tokens", "Caption of pictures without one")] = ""
    """What stands for a missing caption when the image folder holds pictures directly: `zk9 woman`."""
    resolution: Annotated[Size, Kohya("max_resolution", "Max Resolution")] = (512, 512)
    """Width and height that pictures are trained at; with buckets, their area."""
    buckets: Annotated[Buckets | None, Kohya("enable_bucket", "Enable buckets")] = Buckets()
    """Sort pictures by shape, so that they need not be square; off crops each one to Max Resolution."""
    crop: Annotated[Crop, Kohya("random_crop", "Crop", "Random crop instead of center crop")] = "center"
    """Where a picture that does not fit its bucket is cut; random needs uncached latents."""
    interpolation: Annotated[Interpolation, Kohya("resize_interpolation", "Resize interpolation")] = "auto"
    """How pictures are resized; auto shrinks by area and enlarges by Lanczos, as sd-scripts does."""
    flip: Annotated[bool, Kohya("flip_aug", "Flip augmentation")] = False
    """Mirror half of the pictures left to right; not for faces with a clear parting or one-sided marks."""
    color_aug: Annotated[bool, Kohya("color_aug", "Color augmentation")] = False
    """Vary hue and gamma a little at each use; needs uncached latents."""
    background: Annotated[str, Field(title="Background colour", pattern=r"^#[0-9a-fA-F]{6}$")] = "#ffffff"
    """Colour put behind transparent pictures."""
    alpha_mask: Annotated[bool, Kohya("alpha_mask", "Masked loss: alpha channel")] = False
    """What is transparent is not learned: the error counts by the alpha channel; the background colour stands there."""
    masks: Annotated[Text, Field(title="Masked loss: mask folder"), IsPath()] = None
    """Masks with the names and sizes of the pictures, or folders of them named as theirs; white counts, black not."""
    cache_latents: Annotated[bool, Kohya("cache_latents", "Cache latents")] = True
    """Encode each picture once and keep the result on disk, shared between trainings."""
    cache_text: Annotated[bool, Kohya("cache_text_encoder_outputs", "Cache text encoder outputs")] = False
    """Encode each caption once; only when captions do not vary and no text encoder is trained."""
    workers: Annotated[
        int, Field(ge=0, le=64), Kohya("max_data_loader_n_workers", "Workers", "Max num workers for DataLoader")
    ] = 2
    """Pictures prepared ahead in parallel; the result does not depend on it."""

    @model_validator(mode="after")
    def _cached_latents_stand_still(self) -> Self:
        every = (self, *(self.of(place) for place in range(len(self.subsets))))
        held = {"crop=random": any(one.crop == "random" for one in every), "color_aug": any(o.color_aug for o in every)}
        moving = [name for name, on in held.items() if on]
        if self.cache_latents and moving:
            raise ValueError(f"{' and '.join(moving)} changes a picture at each use: set cache_latents to false")
        return self

    def subset_at(self, place: int | None) -> Subset | None:
        """A subset by its place; None is none."""
        return None if place is None else self.subsets[place]

    def of(self, place: int | None) -> Data:
        """The options as they hold for a subset, by its place; None is none."""
        subset = self.subset_at(place)
        if subset is None:
            return self
        on = self.buckets is not None if subset.bucketed is None else subset.bucketed
        buckets = (self.buckets or Buckets()).model_copy(update=subset.over({*BUCKETS})) if on else None
        return self.model_copy(update={**subset.over({*Data.model_fields}), "buckets": buckets})

    @property
    def masked(self) -> bool:
        """Whether any picture may have a mask."""
        return any(one.alpha_mask or one.masks for one in (self, *map(self.of, range(len(self.subsets)))))


class Captions(Part):
    """The words beside each picture."""

    extension: Annotated[Ending, Kohya("caption_extension", "Caption Extension", "Caption file extension")] = ".txt"
    """Caption files have the picture's name with this ending; a picture without one takes its folder's words."""
    prefix: Annotated[str, Kohya("caption_prefix", "Caption prefix")] = ""
    """Put before every caption, for instance the trigger word."""
    suffix: Annotated[str, Kohya("caption_suffix", "Caption suffix")] = ""
    """Put after every caption, for instance a style that all pictures share."""
    separator: Annotated[Separator, Kohya("caption_separator", "Caption separator")] = ","
    """What stands between two tags."""
    secondary_separator: Annotated[Text, Kohya("secondary_separator", "Secondary separator")] = None
    """Holds tags together that are shuffled and dropped as one; replaced by the separator at the end."""
    shuffle: Annotated[bool, Kohya("shuffle_caption", "Shuffle caption")] = False
    """Put the tags into a new order at each use, so that the first ones do not count for more."""
    keep_tokens: Annotated[Tags, Kohya("keep_tokens", "Keep n tokens")] = 0
    """The first n tags keep their place and are never dropped."""
    keep_tokens_separator: Annotated[Text, Kohya("keep_tokens_separator", "Keep tokens separator")] = None
    """A mark such as `|||`: what stands before it keeps its place."""
    dropout: Annotated[Probability, Kohya("caption_dropout_rate", "Rate of caption dropout")] = 0.0
    """Chance that a picture is trained with an empty caption."""
    dropout_every_n_epochs: Annotated[
        int | None, Field(ge=1), Kohya("caption_dropout_every_n_epochs", "Dropout caption every n epochs")
    ] = None
    """Every n-th epoch is trained with empty captions."""
    tag_dropout: Annotated[Probability, Kohya("caption_tag_dropout_rate", "Rate of tag dropout")] = 0.0
    """Chance that a tag is left out."""
    wildcards: Annotated[bool, Kohya("enable_wildcard", "Wildcards in captions")] = False
    """`{a|b}` picks one at each use, and a caption of several lines picks a line."""
    weighted: Annotated[bool, Kohya("weighted_captions", "Weighted captions")] = False
    """`(word:1.2)` and `[word]` weigh words, in A1111's notation; the mean is not restored, as in sd-scripts."""
    max_tokens: Annotated[Literal[75, 150, 225], Kohya("max_token_length", "Max Token Length")] = 75
    """How much of a caption is read: 75 tokens are about 50 words."""
    token_warmup_min: Annotated[int, Field(ge=1), Kohya("token_warmup_min", "Token warmup: first tags")] = 1
    """Tags used at the first step when token warm-up is on."""
    token_warmup_steps: Annotated[int, Field(ge=0), Kohya("token_warmup_step", "Token warmup: steps")] = 0
    """Steps over which the number of tags grows to all; 0 uses all from the start."""

    @property
    def vary(self) -> bool:
        """Whether a caption can differ from one use to the next."""
        return bool(
            (self.shuffle or self.dropout or self.tag_dropout or self.wildcards)
            or (self.dropout_every_n_epochs or self.token_warmup_steps)
        )

    def of(self, subset: Subset | None) -> Captions:
        """The options as they hold for a subset."""
        own = subset.over({*Captions.model_fields}) if subset else {}
        return self.model_copy(update={name: value or None if name in OFF else value for name, value in own.items()})


OFF = ("secondary_separator", "keep_tokens_separator", "dropout_every_n_epochs")
"""Caption options that are off as None, and in a subset, where None is as for all, as nothing or 0."""
