"""The base model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.parts import IsPath, Kohya, Part, Text

FamilyName = Literal["sd15", "sdxl"]
Prediction = Literal["epsilon", "v"]


class Model(Part):
    """The base model that is fine-tuned."""

    base: Annotated[
        str, Field(min_length=1), Kohya("pretrained_model_name_or_path", "Pretrained model name or path"), IsPath()
    ] = "pocket"
    """A .safetensors or .ckpt file, a diffusers folder, a hub id, or `pocket` for the one that is shipped."""
    family: Annotated[Literal["auto", FamilyName], Field(title="Model family")] = "auto"
    """Auto reads it from the file's header, another word only checks it."""
    prediction: Annotated[Literal["auto", Prediction], Kohya("v_parameterization", "Prediction", "v_param")] = "auto"
    """What the model predicts: the noise (epsilon) or the velocity (v); auto reads it from the file."""
    zero_terminal_snr: Annotated[bool | None, Kohya("zero_terminal_snr", "Zero terminal SNR")] = None
    """Make the last timestep pure noise, as NoobAI v-prediction does; empty reads it from the file."""
    vae: Annotated[Text, Kohya("vae", "VAE"), IsPath()] = None
    """A separate VAE file or folder in place of the one in the base model."""
    vae_precision: Annotated[Literal["auto", "fp32"], Kohya("no_half_vae", "VAE precision", "No half VAE")] = "auto"
    """Precision of the VAE: auto follows mixed precision and turns to fp32 when a picture comes out as NaN."""
    vae_batch: Annotated[int, Field(ge=1, le=64), Kohya("vae_batch_size", "VAE batch size")] = 1
    """Pictures encoded by the VAE at once while caching."""
    vae_slicing: Annotated[bool, Field(title="VAE slicing")] = False
    """Encode one picture at a time even when VAE batch size is larger."""
    vae_tiling: Annotated[bool, Field(title="VAE tiling")] = False
    """Run the VAE in overlapping tiles: far less memory at large sizes, slightly different pixels."""
    clip_skip: Annotated[int | None, Field(ge=1, le=12), Kohya("clip_skip", "Clip skip")] = None
    """Take the text encoder's n-th layer from the end (anime models: 2); SD1.5 only."""
