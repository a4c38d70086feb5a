"""Options of the tools for LoRA and model files, each written once: flags and fields of the page are made of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.config.parts import Count, Folder, IsPath, Part, Text

Precision = Literal["keep", "fp16", "bf16", "fp32"]
Device = Literal["auto", "cpu", "cuda"]
Rank = Annotated[int, Field(ge=1, le=4096)]
Share = Annotated[float, Field(ge=0, le=1)]
Files = Annotated[tuple[Folder, ...], Field(min_length=1), IsPath()]


def _written(values: Any) -> Any:
    """An empty box is no number."""
    return [value for value in values if value != ""] if isinstance(values, list) else values


SOURCES = ("sd_model", "model_tuned", "model", "models")


class Placed(Part):
    """A file that is made of others."""

    @model_validator(mode="before")
    @classmethod
    def _beside_the_source(cls, tree: Any) -> Any:
        """A name alone as a whole path: of what is read, the first that is given says where."""
        name = tree.get("save_to") if isinstance(tree, dict) else None
        if not isinstance(name, str) or not name.strip() or re.search(r"[\\/]", name):
            return tree
        given = [tree[option] for option in SOURCES if tree.get(option)]
        source = given[0][0] if given and isinstance(given[0], (list, tuple)) else given[0] if given else None
        return {**tree, "save_to": str(cls.home(Path(source)) / name)} if isinstance(source, str) else tree

    @classmethod
    def home(cls, source: Path) -> Path:
        """The folder of what is read."""
        return source.parent


class Saved(Placed):
    """A file that is written."""

    save_to: Annotated[Folder, Field(title="Save to")]
    """Path of the file to write; a name alone lies beside the file that is read."""
    save_precision: Precision = "fp16"
    """Precision of the file; keep takes that of what is read."""
    overwrite: bool = False
    """Write over a file of that name; without it nothing that exists is touched."""


class Computed(Saved):
    """A file that is computed."""

    device: Device = "auto"
    """Where it is computed; auto takes a CUDA card when there is one."""


class Extract(Computed):
    """Extract a LoRA or LoCon: the difference of two checkpoints, as small matrices."""

    model_tuned: Annotated[Folder, Field(title="Finetuned model")]
    """The finetuned model: a checkpoint of SD1.5 or SDXL, or a diffusers folder."""
    model_org: Annotated[Folder, Field(title="Stable Diffusion base model")]
    """The model that it was made from."""
    mode: Literal["fixed", "threshold", "ratio", "quantile"] = "fixed"
    """fixed: ranks as given; threshold: singular values above it; ratio: those above this share of the largest;
    quantile: as many as make up this share of their sum."""
    dim: Annotated[Rank, Field(title="Network Dimension (Rank)")] = 128
    """Rank of linear layers and 1x1 convolutions, with mode fixed."""
    conv_dim: Annotated[int, Field(ge=0, le=4096, title="Conv Dimension (Rank)")] = 128
    """Rank of 3x3 convolutions, with mode fixed; 0 leaves out all that LoCon adds, in every mode."""
    linear_threshold: Annotated[float, Field(ge=0)] = 0.65
    """Smallest singular value that is kept in linear layers, with mode threshold."""
    conv_threshold: Annotated[float, Field(ge=0)] = 0.65
    """Smallest singular value that is kept in 3x3 convolutions, with mode threshold."""
    linear_ratio: Share = 0.75
    """Smallest share of the largest singular value that is kept in linear layers, with mode ratio."""
    conv_ratio: Share = 0.75
    """Smallest share of the largest singular value that is kept in 3x3 convolutions, with mode ratio."""
    linear_quantile: Share = 0.75
    """Share of the singular values' sum that is kept in linear layers, with mode quantile."""
    conv_quantile: Share = 0.75
    """Share of the singular values' sum that is kept in 3x3 convolutions, with mode quantile."""
    clamp_quantile: Annotated[float, Field(gt=0, le=1, title="Clamp Quantile")] = 0.99
    """Values beyond this quantile are cut off, as the Kohya GUI does; 1 cuts nothing, and is the exact difference."""
    min_diff: Annotated[float, Field(ge=0, title="Minimum difference")] = 0.01
    """A text encoder is left out when none of its weights differs by more than this."""


class Merge(Computed):
    """Merge LoRAs into a checkpoint, or into one LoRA."""

    sd_model: Annotated[Text, Field(title="SD Model"), IsPath()] = None
    """The checkpoint that the LoRAs are merged into; empty merges them into one LoRA."""
    models: Annotated[Files, Field(title="LoRA models A, B, C, D")]
    """The LoRA files, one a line."""
    ratios: Annotated[tuple[float, ...], BeforeValidator(_written), Field(title="Merge ratios of A, B, C, D")] = ()
    """Strength of each, such as 0.5 for 50 %; one number counts for all, empty is 1."""
    lbws: Annotated[tuple[str, ...], Field(title="Block weights of A, B, C, D")] = ()
    """Weights by block, one line for each LoRA: `1,0,0,1,...` (17 or 26 numbers for SD1.5, 12 or 20 for SDXL), or
    `IN04:0.5, OUT03:0`, where the others are 1."""
    method: Literal["concat", "svd"] = "concat"
    """Into one LoRA: concat is the exact sum, whose ranks add up; svd brings the sum to the new rank."""
    new_rank: Annotated[Rank, Field(title="New Rank")] = 128
    """Rank of linear layers and 1x1 convolutions, with method svd."""
    new_conv_rank: Annotated[Rank, Field(title="New Conv Rank")] = 128
    """Rank of 3x3 convolutions, with method svd."""

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        count = len(self.models)
        if len(self.ratios) not in (0, 1, count):
            raise ValueError(f"ratios has {len(self.ratios)} numbers for {count} LoRAs: give one for each, or one")
        if len(self.lbws) not in (0, 1, count):
            raise ValueError(f"lbws has {len(self.lbws)} lines for {count} LoRAs: give one for each, or one")
        return self


class Resize(Computed):
    """Bring a LoRA to another rank."""

    model: Annotated[Folder, Field(title="Source LoRA")]
    """The LoRA to resize."""
    new_rank: Annotated[Rank, Field(title="Desired LoRA rank")] = 4
    """The new rank; with a dynamic method, the most that a layer gets."""
    new_conv_rank: Annotated[Rank | None, Field(title="Desired LoRA rank of convolutions")] = None
    """The same for 3x3 convolutions; empty takes the rank above."""
    dynamic_method: Literal["None", "sv_ratio", "sv_fro", "sv_cumulative"] = "sv_fro"
    """How each layer finds its rank; sv_ratio: singular values above the largest divided by the parameter; sv_fro: as
    many as hold this share of the norm; sv_cumulative: as many as hold this share of their sum."""
    dynamic_param: Annotated[float, Field(gt=0, title="Dynamic parameter")] = 0.9
    """The parameter of the dynamic method: above 1 for sv_ratio, up to 1 for the others."""
    verbose: Annotated[bool, Field(title="Verbose logging")] = False
    """Name every layer in the report."""

    @model_validator(mode="after")
    def _parameter_fits(self) -> Self:
        method, value = self.dynamic_method, self.dynamic_param
        if method == "sv_ratio" and value <= 1:
            raise ValueError(f"dynamic_param is {value:g}: with sv_ratio it must be above 1, such as 10")
        if method in ("sv_fro", "sv_cumulative") and value > 1:
            raise ValueError(f"dynamic_param is {value:g}: with {method} it must be 1 at most, such as 0.9")
        return self


class Convert(Saved):
    """Write a LoRA under the names of another program."""

    model: Annotated[Folder, Field(title="LoRA model")]
    """The LoRA: a file, or a folder of peft adapters."""
    form: Annotated[Literal["kohya", "diffusers", "peft"], Field(title="Convert to")] = "diffusers"
    """kohya: for A1111, Forge, ComfyUI, InvokeAI; diffusers: for its pipelines; peft: a folder of one adapter for each
    part of the model."""
    family: Literal["auto", "sd15", "sdxl"] = "auto"
    """The model that the LoRA is for; auto goes by its names."""
    save_precision: Precision = "keep"
    """Precision of the file; keep takes that of what is read."""


class Verify(Part):
    """Look at a file: is it a LoRA, is it whole, what does it say about itself?"""

    model: Annotated[Folder, Field(title="LoRA model")]
    """The file to verify."""
    base: Annotated[Text, Field(title="Base model"), IsPath()] = None
    """The base model that its shapes must fit; empty takes those of SD1.5 or SDXL."""


class Metadata(Placed):
    """Change what a LoRA or model file says about itself; its tensors stay to the bit."""

    model: Annotated[Folder, Field(title="LoRA model")]
    """The file."""
    save_to: Annotated[Text, Field(title="Save to"), IsPath()] = None
    """Path of the file to write; empty changes the file itself, which takes overwrite."""
    title: Annotated[Text, Field(title="Metadata title")] = None
    """Its name for people."""
    author: Annotated[Text, Field(title="Metadata author")] = None
    """Who made it."""
    description: Annotated[Text, Field(title="Metadata description")] = None
    """What it is."""
    license: Annotated[Text, Field(title="Metadata license")] = None
    """Under which terms it may be used."""
    tags: Annotated[Text, Field(title="Metadata tags")] = None
    """Words to find it by, with commas between them."""
    comment: Annotated[Text, Field(title="Training comment")] = None
    """A note, such as the trigger word."""
    set: Annotated[tuple[str, ...], Field(title="Set keys")] = ()
    """Other keys to write, such as `ss_output_name=zk9`, one a line."""
    remove: Annotated[tuple[str, ...], Field(title="Remove keys")] = ()
    """Keys to take away, one a line; `ss_*` takes away all that begin so."""
    overwrite: bool = False
    """Write over a file of that name; without it nothing that exists is touched."""


class Average(Saved):
    """Average the files of one run: a candidate more, often smoother than each of them."""

    models: Annotated[Files, Field(title="LoRA models")]
    """The files of one run, or its folder, one a line."""
    last: Annotated[Count | None, Field(title="Newest files")] = None
    """Take this many of the newest; empty takes all."""
    profile: Literal["mean", "ema"] = "mean"
    """mean: each file counts the same; ema: newer ones count more, as if an average had been kept in training."""
    width: Annotated[float, Field(gt=0, lt=0.28, title="Width of the average")] = 0.1
    """Width of the average as a share of the training, with profile ema: 0.05 is the end, 0.25 reaches far back."""
    save_precision: Precision = "keep"
    """Precision of the file; keep takes that of what is read."""

    @classmethod
    def home(cls, source: Path) -> Path:
        """Among the files: a folder is the run's, or that of its checkpoints."""
        if not source.is_dir():
            return source.parent
        return source / "checkpoints" if (source / "checkpoints").is_dir() else source


class DyLora(Saved):
    """Split a DyLoRA into LoRAs of smaller ranks, a file for each."""

    model: Annotated[Folder, Field(title="DyLoRA model")]
    """The DyLoRA model to extract from."""
    unit: Annotated[Rank, Field(title="Network Dimension (Rank)")] = 1
    """Ranks that are multiples of this are written, each as `name-0004.safetensors`; the unit that it was trained
    with."""
    save_precision: Precision = "keep"
    """Precision of the files; keep takes that of what is read."""


class ConvertModel(Saved):
    """Write a base model as a single file or as a diffusers folder."""

    model: Annotated[Folder, Field(title="Source model")]
    """The source model: a checkpoint of SD1.5 or SDXL, or a diffusers folder."""
    form: Annotated[Literal["safetensors", "diffuser_safetensors"], Field(title="Target model type")] = (
        "diffuser_safetensors"
    )
    """safetensors: one file in the original layout; diffuser_safetensors: a diffusers folder."""
    save_to: Annotated[Folder, Field(title="Target model folder")]
    """Path of the file or folder to write; a name alone lies beside the model that is read."""
    save_precision: Annotated[Precision, Field(title="Target model precision")] = "keep"
    """Precision of the model; keep leaves every tensor as it is."""
