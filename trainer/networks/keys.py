"""Which modules of a model a LoRA changes, and the names that they have in a LoRA file.

Rules and names are those of sd-scripts (networks/lora.py), which A1111, Forge, ComfyUI, InvokeAI and diffusers read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from trainer.layout import sgm_module_name

Target = nn.Linear | nn.Conv2d

PARTS = ("text_encoder", "text_encoder_2", "unet")
"""The parts of a model in the order of a LoRA file's modules."""

ATTENTION = {"Transformer2DModel", "CLIPAttention", "CLIPMLP"}
CONVOLUTION = {"ResnetBlock2D", "Downsample2D", "Upsample2D"}
_PREFIXES = {
    ("sd15", "unet"): "lora_unet", ("sd15", "text_encoder"): "lora_te",
    ("sdxl", "unet"): "lora_unet", ("sdxl", "text_encoder"): "lora_te1", ("sdxl", "text_encoder_2"): "lora_te2",
}  # fmt: skip


def targets(model: nn.Module, conv: bool) -> Iterator[tuple[str, Target]]:
    """The modules that a LoRA changes, with their paths, in the order of the model.

    Every linear layer and convolution inside attention blocks; with `conv` (LoCon) those inside resnets, downsamplers
    and upsamplers too. The model's first and last layers and its time embedding are left alone.
    """
    kinds = ATTENTION | CONVOLUTION if conv else ATTENTION
    for path, block in model.named_modules():
        if type(block).__name__ in kinds:
            for name, module in block.named_modules(prefix=path):
                if isinstance(module, Target):
                    yield name, module


def kohya_name(family: str, part: str, path: str) -> str:
    """The name of a module in a LoRA file, such as `lora_unet_down_blocks_0_attentions_0_proj_in`.

    SDXL's U-Net goes by the names of Stability's code: `lora_unet_input_blocks_4_1_proj_in`.
    """
    if part == "unet":
        name = sgm_module_name(path) if family == "sdxl" else path
    else:
        name = "text_model." + path.removeprefix("text_model.")  # transformers 5 dropped the prefix from CLIPTextModel
    return f"{_PREFIXES[family, part]}_{name.replace('.', '_')}"


def other_names(family: str, part: str, path: str) -> tuple[str, ...]:
    """Names that other tools give the same module: diffusers' flattened into kohya's form, and peft's dotted path."""
    dotted = path if part == "unet" else "text_model." + path.removeprefix("text_model.")
    return f"{_PREFIXES[family, part]}_{path.replace('.', '_')}", f"{part}.{dotted}"


def family_of(names: Iterable[str]) -> str | None:
    """The family that a LoRA file's module names tell of; None when they could be of either."""
    for name in names:
        if name.startswith(
            ("lora_te1_", "lora_te2_", "lora_unet_input_blocks", "lora_unet_output_blocks", "text_encoder_2.")
        ):
            return "sdxl"
        if name.startswith("lora_te_"):
            return "sd15"
    return None
