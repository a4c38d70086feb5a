"""Names in the original single-file layout (LDM, and SGM for SDXL) for the modules of diffusers and transformers.

One table serves both ways: saving renames every tensor, loading asks where a parameter lies. Names follow the block
structure that SD1.5 and SDXL share: two resnets to a block going down, three going up, four levels in the VAE.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

UNET = "model.diffusion_model."
VAE = "first_stage_model."
SD15_TEXT = "cond_stage_model.transformer.text_model."
SDXL_TEXT = "conditioner.embedders.0.transformer.text_model."
SDXL_TEXT_2 = "conditioner.embedders.1.model."

State = Mapping[str, Tensor]

# Which of the two (or three) layers of an original nn.Sequential a diffusers name means.
_SEQUENTIAL = {"linear_1": "0", "linear_2": "2"}
_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_VAE_LEAF = {
    "conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut", "group_norm": "norm",
    "to_q": "q", "to_k": "k", "to_v": "v",
}  # fmt: skip
_OPEN_CLIP = {
    "embeddings.token_embedding.": "token_embedding.",
    "embeddings.position_embedding.weight": "positional_embedding",
    "encoder.layers.": "transformer.resblocks.", "final_layer_norm.": "ln_final.", ".self_attn.": ".attn.",
    ".layer_norm1.": ".ln_1.", ".layer_norm2.": ".ln_2.", ".mlp.fc1.": ".mlp.c_fc.", ".mlp.fc2.": ".mlp.c_proj.",
    "text_projection.weight": "text_projection",
}  # fmt: skip


def unet_key(name: str, upsampler: int = 2) -> str:
    """The original name of a U-Net module or parameter, without prefix.

    `upsampler` is the place of an upsampler in its block: 2 after attention, 1 in a block that has none.
    """
    match name.split("."):
        case ["time_embedding", layer, *leaf]:
            path = ["time_embed", _SEQUENTIAL[layer], *leaf]
        case ["add_embedding", layer, *leaf]:
            path = ["label_emb.0", _SEQUENTIAL[layer], *leaf]
        case ["conv_in", *leaf]:
            path = ["input_blocks.0.0", *leaf]
        case ["conv_norm_out", *leaf]:
            path = ["out.0", *leaf]
        case ["conv_out", *leaf]:
            path = ["out.2", *leaf]
        case ["down_blocks", block, "resnets", layer, part, *leaf]:
            path = [f"input_blocks.{1 + 3 * int(block) + int(layer)}.0", _RESNET[part], *leaf]
        case ["down_blocks", block, "attentions", layer, *leaf]:
            path = [f"input_blocks.{1 + 3 * int(block) + int(layer)}.1", *leaf]
        case ["down_blocks", block, "downsamplers", "0", "conv", *leaf]:
            path = [f"input_blocks.{3 + 3 * int(block)}.0.op", *leaf]
        case ["mid_block", "resnets", layer, part, *leaf]:
            path = [f"middle_block.{2 * int(layer)}", _RESNET[part], *leaf]
        case ["mid_block", "attentions", "0", *leaf]:
            path = ["middle_block.1", *leaf]
        case ["up_blocks", block, "resnets", layer, part, *leaf]:
            path = [f"output_blocks.{3 * int(block) + int(layer)}.0", _RESNET[part], *leaf]
        case ["up_blocks", block, "attentions", layer, *leaf]:
            path = [f"output_blocks.{3 * int(block) + int(layer)}.1", *leaf]
        case ["up_blocks", block, "upsamplers", "0", "conv", *leaf]:
            path = [f"output_blocks.{3 * int(block) + 2}.{upsampler}.conv", *leaf]
        case _:
            raise ValueError(f"{name} is not a part of a Stable Diffusion U-Net")
    return ".".join(path)


def vae_key(name: str) -> str:
    """The original name of a VAE parameter, without prefix."""
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    # The original counts the decoder's levels from the picture, diffusers from the latent.
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{3 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("to_out.0", "proj_out")
    return ".".join(_VAE_LEAF.get(part, part) for part in name.split("."))


def open_clip_key(name: str) -> str:
    """The OpenCLIP name of a parameter of SDXL's second text encoder; query, key and value share one tensor."""
    for ours, theirs in _OPEN_CLIP.items():
        name = name.replace(ours, theirs)
    return re.sub(r"[qkv]_proj\.(weight|bias)$", r"in_proj_\1", name)


def unet_keys(names: Iterable[str]) -> dict[str, str]:
    """Where each parameter of a U-Net lies in a single file."""
    names = list(names)
    attended = {name.split(".")[1] for name in names if name.startswith("up_blocks.") and ".attentions." in name}
    return {name: UNET + unet_key(name, 2 if name.split(".")[1] in attended else 1) for name in names}


def vae_keys(names: Iterable[str], prefix: str = VAE) -> dict[str, str]:
    """Where each parameter of a VAE lies in a single file; a VAE's own file has no prefix."""
    return {name: prefix + vae_key(name) for name in names}


def text_keys(names: Iterable[str], prefix: str = SD15_TEXT) -> dict[str, str]:
    """Where each parameter of a CLIP text encoder lies: below SD15_TEXT, or SDXL_TEXT."""
    # CLIPTextModel of transformers 5 has dropped the prefix that CLIPTextModelWithProjection still has.
    return {name: prefix + name.removeprefix("text_model.") for name in names}


def text_2_keys(names: Iterable[str], prefix: str = SDXL_TEXT_2) -> dict[str, str]:
    """Where each parameter of SDXL's second text encoder lies; query, key and value lie in one tensor."""
    return {name: prefix + open_clip_key(name.removeprefix("text_model.")) for name in names}


def from_original(name: str, key: str, tensor: Tensor) -> Tensor:
    """The parameter `name` out of the original tensor `key`, in which it may be one of three, transposed or a 1x1."""
    if ".in_proj_" in key:  # [3 * width, ...]: query, key, value
        third = ("q_proj", "k_proj", "v_proj").index(name.split(".")[-2])
        return tensor.chunk(3)[third].clone()  # a view would keep all three alive
    if key.endswith("text_projection"):
        return tensor.T.contiguous()
    if ".attn_1." in key and tensor.ndim == 4:  # the VAE's attention: [C, C, 1, 1]
        return tensor[:, :, 0, 0]
    return tensor


def to_original(state: State, keys: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of a module under their original names: the inverse of `from_original`, sharing memory if it can."""
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        key = keys[name]
        if key in out:  # query, key and value went in together
            continue
        if ".in_proj_" in key:
            tensor = torch.cat([state[re.sub(r"[qkv]_proj", f"{letter}_proj", name)] for letter in "qkv"])
        elif key.endswith("text_projection"):
            tensor = tensor.T.contiguous()
        elif ".attn_1." in key and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        out[key] = tensor
    return out


def unet_to_original(state: State) -> dict[str, Tensor]:
    """A diffusers U-Net's tensors under their original names."""
    return to_original(state, unet_keys(state))


def vae_to_original(state: State) -> dict[str, Tensor]:
    """A diffusers VAE's tensors under their original names; attention becomes 1x1 convolutions."""
    return to_original(state, vae_keys(state))


def text_to_original(state: State, prefix: str = SD15_TEXT) -> dict[str, Tensor]:
    """A CLIP text encoder's tensors under their original names."""
    return to_original(state, text_keys(state, prefix))


def text_2_to_original(state: State, prefix: str = SDXL_TEXT_2) -> dict[str, Tensor]:
    """SDXL's second text encoder in the OpenCLIP layout.

    `logit_scale` takes no part in conditioning and transformers drops it, but readers of the layout expect it: CLIP
    trains it to its upper limit, ln 100.
    """
    logit_scale = torch.tensor(math.log(100), dtype=next(iter(state.values())).dtype)
    return {**to_original(state, text_2_keys(state, prefix)), f"{prefix}logit_scale": logit_scale}


def sgm_module_name(path: str) -> str:
    """The name that LoRA files for SDXL use for a U-Net module: "down_blocks.1.attentions.0" is "input_blocks_4_1"."""
    return unet_key(path).replace(".", "_")
