"""Options of Generate and of the X/Y/Z grid, each written once: flags and fields of the page are made of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.compare.prompts import PRESETS, Preset
from trainer.compare.samplers import SamplerName, name_of
from trainer.config.parts import Folder, IsPath, Part, Size, Text

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Steps = Annotated[int, Field(ge=1, le=500)]
Strength = Annotated[float, Field(ge=-10, le=10)]
Denoise = Annotated[float, Field(gt=0, le=1)]
Prompt = Annotated[str, Field(max_length=20_000)]
AxisKind = Literal["none", "checkpoint", "strength", "prompt", "seed", "cfg", "steps", "sampler", "base"]


class Hires(Part):
    """A second pass: the picture is enlarged and drawn over, so that large pictures keep their composition."""

    scale: Annotated[float, Field(gt=1, le=4, title="Upscale by")] = 2.0
    """How many times as wide and as high."""
    upscaler: Literal["Latent", "Latent (nearest-exact)", "Lanczos"] = "Latent"
    """What is enlarged: the latents, which wants a denoising strength above 0.5, or the picture (Lanczos)."""
    strength: Annotated[Denoise, Field(title="Denoising strength")] = 0.6
    """How much is drawn anew: 0 nothing, 1 all."""
    steps: Annotated[Steps | None, Field(title="Hires steps")] = None
    """Steps of the second pass before the strength takes its share; empty takes those of the first."""


class Face(Part):
    """Faces are found, drawn again at full size, and laid back."""

    strength: Annotated[Denoise, Field(title="Denoising strength")] = 0.4
    """How much of a face is drawn anew."""
    prompt: Prompt = ""
    """The prompt for faces; empty takes the picture's own."""
    most: Annotated[int, Field(ge=1, le=20, title="Most faces")] = 4
    """Faces that are drawn again, the largest first."""
    padding: Annotated[float, Field(ge=1, le=5)] = 2.0
    """Side of the square that is drawn again, in sides of the face."""
    detector: Annotated[Text, IsPath()] = None
    """YuNet's .onnx file; empty takes the one in the models folder."""


class Look(Part):
    """What is drawn, and how."""

    base: Annotated[str, Field(min_length=1, title="Base model"), IsPath()] = "pocket"
    """A .safetensors or .ckpt file, a diffusers folder, a hub id, or `pocket` for the one that is shipped."""
    vae: Annotated[Text, Field(title="VAE"), IsPath()] = None
    """A VAE file or folder in place of the one in the base model."""
    clip_skip: Annotated[int | None, Field(ge=1, le=12)] = None
    """Take the text encoder's n-th layer from the end (anime models: 2); SD1.5 only."""
    prompt: Prompt = ""
    """What to draw: weights (red:1.2), <lora:name:0.8>, BREAK, [cat:dog:0.5], [cat|dog], as in A1111."""
    negative: Annotated[Prompt, Field(title="Negative prompt")] = ""
    """What to keep away."""
    negative_preset: Preset = "none"
    """Words that are put behind the negative prompt."""
    loras: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """LoRAs, as files or names, with their strength: `zk9.safetensors:0.8`, or `zk9:0.8:0.5` for U-Net and text
    encoders, one a line."""
    folders: Annotated[tuple[Folder, ...], Field(title="Folders of LoRAs and embeddings"), IsPath()] = ()
    """Where names are looked for: folders or run folders, one a line; the models folder is always looked through."""
    sampler: Annotated[SamplerName, BeforeValidator(name_of)] = "DPM++ 2M Karras"
    """How noise becomes a picture."""
    steps: Steps = 20
    """How many steps it takes."""
    cfg: Annotated[float, Field(ge=0, le=100, title="CFG scale")] = 7.0
    """How closely the prompt is followed; 1 reads no negative prompt and takes half the time."""
    seed: Seed = 42
    """The same seed and settings give the same picture."""
    size: Annotated[Size | None, Field(title="Width and height")] = None
    """Pixels, multiples of 8, such as 512x768; empty takes what the base model was made for."""
    hires: Annotated[Hires | None, Field(title="Hires fix")] = None
    """Draw a second time, larger."""
    face: Annotated[Face | None, Field(title="Face detail")] = None
    """Draw faces again at full size."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it is drawn; auto takes the first GPU there is."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Precision of the model; auto is fp16 on CUDA, else fp32."""

    @property
    def negatives(self) -> str:
        """The whole negative prompt."""
        return ", ".join(text for text in (self.negative, PRESETS[self.negative_preset]) if text)

    @model_validator(mode="after")
    def _sides(self) -> Self:
        for side in self.size or ():
            if side % 8:
                raise ValueError(f"size has a side of {side}: sides are multiples of 8, such as {side - side % 8}")
        return self


class Generate(Look):
    """Draw pictures from a base model and LoRAs."""

    count: Annotated[int, Field(ge=1, le=1000, title="Batch count")] = 1
    """Batches, one after the other; each picture's seed is one more than the last's."""
    batch: Annotated[int, Field(ge=1, le=64, title="Batch size")] = 1
    """Pictures at once: faster on a GPU, and the last bit of a picture may differ from one drawn alone."""
    out: Annotated[Text, Field(title="Output folder"), IsPath()] = None
    """Where pictures go; empty takes `pictures` in the data folder."""


class ClassPictures(Look):
    """Make regularisation pictures: what the base model draws of a class, so that training does not change it."""

    folder: Annotated[str, Field(min_length=1, title="Regularisation folder"), IsPath()]
    """Pictures go into `1_<class>` in this folder; give it to the training as its Regularisation folder."""
    words: Annotated[str, Field(pattern=r"^[^\s/\\:*?\"<>|.][^\r\n/\\:*?\"<>|]*$", max_length=200, title="Class")]
    """What the pictures show, in the words that captions have for it: `woman`; it is the prompt where none is given."""
    count: Annotated[int, Field(ge=1, le=10_000, title="Number of pictures")] = 200
    """How many there are to be, those included that are there: a run that was stopped goes on."""
    batch: Annotated[int, Field(ge=1, le=64, title="Batch size")] = 1
    """Pictures at once: faster on a GPU."""


class Studio(Part):
    """Keep a base model loaded, and draw what is asked for."""

    folder: Folder
    """Requests are written into `requests` here; answers come into `answers`."""
    runs: Annotated[Text, Field(title="Folder of runs"), IsPath()] = None
    """Runs that want the GPU are looked for here; empty takes `runs` in the data folder."""
    idle_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 30.0
    """It ends, and gives the memory back, when nothing was asked for so long."""


class Axis(Part):
    """What changes along one side of a grid."""

    kind: AxisKind = "none"
    """checkpoint: LoRA files or run folders; strength: of that LoRA, or of all where no axis has checkpoints; prompt:
    the first value is looked for and replaced by each; seed, cfg, steps, sampler; base: base models."""
    values: tuple[str, ...] = ()
    """One a line; numbers may be ranges: 1-5, 1-9 (+2), 0.6-1 (+0.2), 0-1 [5]."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.kind == "none" and self.values:
            raise ValueError(f"values {self.values[0]!r} have no kind: set kind, such as strength")
        if self.kind != "none" and not self.values:
            raise ValueError(f"kind {self.kind} has no values: give at least one")
        return self


class Grid(Look):
    """Draw a grid of pictures that differ in one thing along each side."""

    x: Axis = Axis()
    """What changes from left to right."""
    y: Axis = Axis()
    """What changes from top to bottom."""
    z: Axis = Axis()
    """What changes from one grid to the next below it."""
    out: Annotated[Text, Field(title="Output folder"), IsPath()] = None
    """Where the grid goes; empty makes a folder in `grids` in the data folder."""
    cells: Annotated[Text, Field(title="Folder of drawn cells"), IsPath()] = None
    """Cells are kept here, and grids that share it draw none twice; empty takes `grids/cells` in the data folder."""

    @model_validator(mode="after")
    def _differ(self) -> Self:
        kinds = [axis.kind for axis in (self.x, self.y, self.z) if axis.kind not in ("none", "prompt")]
        if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
            raise ValueError(f"{twice} is on two axes: give one of them another kind")
        return self
