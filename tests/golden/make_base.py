"""Writes a base model with random weights in the original single-file layout: `make_base.py sd15tiny OUT.safetensors`.

Kinds: sd15 (2.1 GB), sdxl (6.9 GB), and sd15tiny, sdxltiny with the same names and blocks at a tenth of the width. The
recordings of sd-scripts beside this file were made on sd15tiny; a test replays them.

Needs numpy alone and knows nothing of our engine, so names and shapes here are a second opinion on `layout.py`. Every
tensor is drawn from its own generator, seeded by its name: the file depends on neither order nor machine. Weights are
scaled by their fan-in. The VAE's variance is tiny, so its samples equal its mean, and latents come out near unit size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Shapes = Iterator[tuple[str, tuple[int, ...]]]

VOCABULARY, POSITIONS, LATENT = 49408, 77, 4
UNET, VAE = "model.diffusion_model", "first_stage_model"
CLIP = "cond_stage_model.transformer"
CLIP_1, CLIP_2 = "conditioner.embedders.0.transformer", "conditioner.embedders.1.model"
# Norms that are not called so. "out.0" takes in the attention's to_out.0 as well: the recordings were made with it.
NORMS = ("in_layers.0", "out_layers.0", "out.0", "ln_1", "ln_2", "ln_final")

_TEXT = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2}
_VAE = {"block_out_channels": [32, 64, 128, 128]}
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15tiny": {
        "family": "sd15",
        "unet": {"block_out_channels": [32, 64, 128, 128], "cross_attention_dim": 64, "attention_head_dim": 8},
        "text_encoder": _TEXT,
        "vae": _VAE,
    },
    "sdxltiny": {
        "family": "sdxl",
        "unet": {
            "block_out_channels": [32, 64, 128],
            "attention_head_dim": [1, 2, 4],
            "transformer_layers_per_block": [1, 1, 2],
            "cross_attention_dim": 128,
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 64 + 6 * 32,
        },
        "text_encoder": _TEXT,
        "text_encoder_2": {**_TEXT, "projection_dim": 64},
        "vae": _VAE,
    },
}
"""What a header's `likeness_model` says of the tiny kinds."""


# Names and shapes


def linear(key: str, out: int, into: int, bias: bool = True) -> Shapes:
    """A fully connected layer."""
    yield f"{key}.weight", (out, into)
    if bias:
        yield f"{key}.bias", (out,)


def conv(key: str, out: int, into: int, side: int = 3) -> Shapes:
    """A convolution."""
    yield f"{key}.weight", (out, into, side, side)
    yield f"{key}.bias", (out,)


def norm(key: str, width: int) -> Shapes:
    """A group or layer norm."""
    yield f"{key}.weight", (width,)
    yield f"{key}.bias", (width,)


def unet(width: int, levels: Sequence[int], depths: Sequence[int], text: int, added: int = 0) -> Shapes:
    """A U-Net of `width` times each of `levels`, with `depths` transformer blocks; `added` is SDXL's size vector."""
    time = 4 * width
    xl = bool(added)
    yield from linear(f"{UNET}.time_embed.0", time, width)
    yield from linear(f"{UNET}.time_embed.2", time, time)
    if xl:
        yield from linear(f"{UNET}.label_emb.0.0", time, added)
        yield from linear(f"{UNET}.label_emb.0.2", time, time)

    yield from conv(f"{UNET}.input_blocks.0.0", width, LATENT)
    now, block, skips = width, 1, [width]
    for level, depth in zip(levels, depths, strict=True):
        for _ in range(2):
            yield from resnet(f"{UNET}.input_blocks.{block}.0", now, level * width, time)
            now = level * width
            yield from transformer(f"{UNET}.input_blocks.{block}.1", now, depth, text, xl)
            skips.append(now)
            block += 1
        if len(skips) < 3 * len(levels):
            yield from conv(f"{UNET}.input_blocks.{block}.0.op", now, now)
            skips.append(now)
            block += 1

    yield from resnet(f"{UNET}.middle_block.0", now, now, time)
    yield from transformer(f"{UNET}.middle_block.1", now, depths[-1] or 1, text, xl)
    yield from resnet(f"{UNET}.middle_block.2", now, now, time)

    for block in range(3 * len(levels)):
        level = len(levels) - 1 - block // 3
        yield from resnet(f"{UNET}.output_blocks.{block}.0", now + skips.pop(), levels[level] * width, time)
        now = levels[level] * width
        yield from transformer(f"{UNET}.output_blocks.{block}.1", now, depths[level], text, xl)
        if level and block % 3 == 2:
            yield from conv(f"{UNET}.output_blocks.{block}.{2 if depths[level] else 1}.conv", now, now)
    yield from norm(f"{UNET}.out.0", now)
    yield from conv(f"{UNET}.out.2", LATENT, width)


def resnet(key: str, into: int, out: int, time: int) -> Shapes:
    """A residual block of the U-Net."""
    yield from norm(f"{key}.in_layers.0", into)
    yield from conv(f"{key}.in_layers.2", out, into)
    yield from linear(f"{key}.emb_layers.1", out, time)
    yield from norm(f"{key}.out_layers.0", out)
    yield from conv(f"{key}.out_layers.3", out, out)
    if into != out:
        yield from conv(f"{key}.skip_connection", out, into, 1)


def transformer(key: str, width: int, depth: int, text: int, xl: bool) -> Shapes:
    """Attention over pixels and text, `depth` times; SDXL projects by linear layers, SD1.5 by 1x1 convolutions."""
    if not depth:
        return
    yield from norm(f"{key}.norm", width)
    yield from linear(f"{key}.proj_in", width, width) if xl else conv(f"{key}.proj_in", width, width, 1)
    for index in range(depth):
        block = f"{key}.transformer_blocks.{index}"
        for name, read in (("attn1", width), ("attn2", text)):
            yield from linear(f"{block}.{name}.to_q", width, width, bias=False)
            yield from linear(f"{block}.{name}.to_k", width, read, bias=False)
            yield from linear(f"{block}.{name}.to_v", width, read, bias=False)
            yield from linear(f"{block}.{name}.to_out.0", width, width)
        yield from linear(f"{block}.ff.net.0.proj", 8 * width, width)
        yield from linear(f"{block}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            yield from norm(f"{block}.norm{number}", width)
    yield from linear(f"{key}.proj_out", width, width) if xl else conv(f"{key}.proj_out", width, width, 1)


def vae(width: int, levels: Sequence[int] = (1, 2, 4, 4)) -> Shapes:
    """An autoencoder of `width` times each of `levels`."""
    encoder, decoder = f"{VAE}.encoder", f"{VAE}.decoder"
    now = width
    yield from conv(f"{encoder}.conv_in", now, 3)
    for place, level in enumerate(levels):
        for block in range(2):
            yield from vae_resnet(f"{encoder}.down.{place}.block.{block}", now, level * width)
            now = level * width
        if place < len(levels) - 1:
            yield from conv(f"{encoder}.down.{place}.downsample.conv", now, now)
    yield from vae_middle(f"{encoder}.mid", now)
    yield from norm(f"{encoder}.norm_out", now)
    yield from conv(f"{encoder}.conv_out", 2 * LATENT, now)

    yield from conv(f"{decoder}.conv_in", now, LATENT)
    yield from vae_middle(f"{decoder}.mid", now)
    for place in reversed(range(len(levels))):
        for block in range(3):
            yield from vae_resnet(f"{decoder}.up.{place}.block.{block}", now, levels[place] * width)
            now = levels[place] * width
        if place:
            yield from conv(f"{decoder}.up.{place}.upsample.conv", now, now)
    yield from norm(f"{decoder}.norm_out", now)
    yield from conv(f"{decoder}.conv_out", 3, now)
    yield from conv(f"{VAE}.quant_conv", 2 * LATENT, 2 * LATENT, 1)
    yield from conv(f"{VAE}.post_quant_conv", LATENT, LATENT, 1)


def vae_resnet(key: str, into: int, out: int) -> Shapes:
    """A residual block of the autoencoder."""
    yield from norm(f"{key}.norm1", into)
    yield from conv(f"{key}.conv1", out, into)
    yield from norm(f"{key}.norm2", out)
    yield from conv(f"{key}.conv2", out, out)
    if into != out:
        yield from conv(f"{key}.nin_shortcut", out, into, 1)


def vae_middle(key: str, width: int) -> Shapes:
    """The autoencoder's innermost level, with attention as 1x1 convolutions."""
    yield from vae_resnet(f"{key}.block_1", width, width)
    yield from norm(f"{key}.attn_1.norm", width)
    for name in ("q", "k", "v", "proj_out"):
        yield from conv(f"{key}.attn_1.{name}", width, width, 1)
    yield from vae_resnet(f"{key}.block_2", width, width)


def clip(key: str, width: int, layers: int) -> Shapes:
    """A text encoder under its Hugging Face names."""
    model = f"{key}.text_model"
    yield f"{model}.embeddings.token_embedding.weight", (VOCABULARY, width)
    yield f"{model}.embeddings.position_embedding.weight", (POSITIONS, width)
    for layer in range(layers):
        block = f"{model}.encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{block}.self_attn.{name}", width, width)
        yield from norm(f"{block}.layer_norm1", width)
        yield from norm(f"{block}.layer_norm2", width)
        yield from linear(f"{block}.mlp.fc1", 4 * width, width)
        yield from linear(f"{block}.mlp.fc2", width, 4 * width)
    yield from norm(f"{model}.final_layer_norm", width)


def open_clip(key: str, width: int, layers: int) -> Shapes:
    """A text encoder under its OpenCLIP names."""
    yield f"{key}.token_embedding.weight", (VOCABULARY, width)
    yield f"{key}.positional_embedding", (POSITIONS, width)
    for layer in range(layers):
        block = f"{key}.transformer.resblocks.{layer}"
        yield f"{block}.attn.in_proj_weight", (3 * width, width)
        yield f"{block}.attn.in_proj_bias", (3 * width,)
        yield from linear(f"{block}.attn.out_proj", width, width)
        yield from norm(f"{block}.ln_1", width)
        yield from norm(f"{block}.ln_2", width)
        yield from linear(f"{block}.mlp.c_fc", 4 * width, width)
        yield from linear(f"{block}.mlp.c_proj", width, 4 * width)
    yield from norm(f"{key}.ln_final", width)
    yield f"{key}.text_projection", (width, width)
    yield f"{key}.logit_scale", ()


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
    """Every tensor of a kind of model, in the order of the file."""
    sd15, sdxl = (1, 2, 4, 4), (1, 2, 4)
    parts: dict[str, tuple[Shapes, ...]] = {
        "sd15": (unet(320, sd15, (1, 1, 1, 0), 768), vae(128), clip(CLIP, 768, 12)),
        "sd15tiny": (unet(32, sd15, (1, 1, 1, 0), 64), vae(32), clip(CLIP, 64, 2)),
        "sdxl": (unet(320, sdxl, (0, 2, 10), 2048, 2816), vae(128), clip(CLIP_1, 768, 12), open_clip(CLIP_2, 1280, 32)),
        "sdxltiny": (unet(32, sdxl, (0, 1, 2), 128, 256), vae(32), clip(CLIP_1, 64, 2), open_clip(CLIP_2, 64, 2)),
    }
    return dict(pair for part in parts[kind] for pair in part)


# Values


def value(key: str, shape: tuple[int, ...], seed: str) -> Array:
    """One tensor, float32."""
    layer, _, leaf = key.rpartition(".")
    if leaf == "logit_scale":
        return np.array(4.6052, np.float32)
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    x = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little"))).standard_normal(shape, np.float32)
    if layer == f"{VAE}.quant_conv":
        if leaf == "bias":
            x *= 0.1
            x[LATENT:] = -14.0
        else:
            x[:LATENT] *= 6.0 / np.sqrt(shape[1])
            x[LATENT:] *= 0.01
        return x
    if len(shape) == 1 and ("norm" in layer.rpartition(".")[2] or layer.endswith(NORMS)):
        return 1 + 0.1 * x if leaf == "weight" else 0.05 * x
    if "embedding" in key:
        return x * (0.02 if "token" in key else 0.01)
    if len(shape) == 1:
        return x * 0.02
    return x * np.float32(0.8 / np.sqrt(np.prod(shape[1:])))


def extras(kind: str) -> dict[str, Array]:
    """What SD1.5's files hold beside the model, which a loader has to leave out."""
    if not kind.startswith("sd15"):
        return {}
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return {
        "betas": betas.astype(np.float32),
        "alphas_cumprod": np.cumprod(1 - betas).astype(np.float32),
        f"{CLIP}.text_model.embeddings.position_ids": np.arange(POSITIONS, dtype=np.int64)[None],
    }


def write_base(kind: str, path: Path, dtype: str = "fp16", seed: str = "0", config: bool = False) -> None:
    """Writes the file, a tensor at a time; `config` adds what our loader must know of the tiny kinds."""
    tag, kept = {"fp16": ("F16", np.float16), "fp32": ("F32", np.float32)}[dtype]
    model, more = shapes(kind), extras(kind)
    entries = [(key, tag, shape, int(np.prod(shape)) * np.dtype(kept).itemsize) for key, shape in model.items()]
    entries += [(key, "I64" if x.dtype == np.int64 else "F32", x.shape, x.nbytes) for key, x in more.items()]
    metadata = {"format": "pt", "made_by": "make_checkpoint.py", "kind": kind, "seed": seed}
    if config:
        metadata["likeness_model"] = json.dumps(CONFIGS[kind])
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for key, name, shape, size in entries:
        header[key] = {"dtype": name, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key, shape in model.items():
            file.write(value(key, shape, seed).astype(kept).tobytes())
        for x in more.values():
            file.write(x.tobytes())


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("kind", choices=("sd15", "sd15tiny", "sdxl", "sdxltiny"))
    flags.add_argument("out", type=Path)
    flags.add_argument("--dtype", default="fp16", choices=("fp16", "fp32"))
    flags.add_argument("--seed", default="0")
    flags.add_argument("--config", action="store_true", help="carry the tiny kinds' configuration in the header")
    given = flags.parse_args()
    write_base(given.kind, given.out, given.dtype, given.seed, given.config)
