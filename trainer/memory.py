"""An estimate of the memory that training takes, part by part, from the config alone.

Parameters are counted exactly. Kept activations were measured for SD1.5 at 512 and SDXL at 1024 pixels in bf16 with
memory-saving attention (saved tensors of one step), and grow with the area and the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config import Adafactor, Config, Rates

WORKSPACE = 300_000_000  # the device's own context, and what kernels borrow


@dataclass(frozen=True)
class Sizes:
    """Parameters of a model and of a LoRA of rank 1 on it, and the bytes in bf16 that a step keeps for its gradients.

    lora: attention blocks; around: the linear and 1x1 layers that `conv_rank` brings in; conv: the 3x3 ones.
    kept: a pixel of the picture; kept_less: the same with checkpointing; text_kept: a chunk of 75 tokens.
    """

    unet: int
    vae: int
    text: tuple[int, ...]
    lora: int
    around: int
    conv: int
    text_lora: tuple[int, ...]
    kept: int
    kept_less: int
    text_kept: tuple[int, ...]


SIZES = {
    "pocket": Sizes(4_224_036, 809_415, (2_714_640,), 35_840, 9_440, 35_888, (10_368,), 855, 92, (2_600_000,)),
    "sd15": Sizes(
        *(859_520_964, 83_653_863, (123_060_480,)),
        *(423_936, 82_880, 544_000, (165_888,)),
        *(3_586, 610, (26_000_000,)),
    ),
    "sdxl": Sizes(
        *(2_567_463_684, 83_653_863, (123_060_480, 694_659_840)),
        *(2_659_840, 58_560, 355_840, (165_888, 737_280)),
        *(6_466, 553, (26_000_000, 91_000_000)),
    ),
}

STATE = {"adamw": 8, "adamw8bit": 2, "lion": 4, "adafactor": 0, "prodigy": 16}  # bytes a trained fp32 parameter


def estimate_memory(config: Config, family: str, area: int) -> dict[str, int]:
    """Bytes by part while training at `area` pixels, the largest bucket's; a part that is not in memory is left out."""
    train, data = config.train, config.data
    sizes = SIZES["pocket" if config.model.base == "pocket" else family]
    bytes_each = 4 if train.precision == "no" else 2
    samples = bool(config.sample.prompts or config.sample.file)
    vae_bytes = 4 if config.model.vae_precision == "fp32" else bytes_each
    chunks = config.captions.max_tokens // 75
    text_kept = zip(sizes.text_kept, text_trained(config.rates, sizes), strict=True)
    kept = area * (sizes.kept_less if train.checkpointing else sizes.kept) + chunks * sum(
        k for k, on in text_kept if on
    )
    trained = count_trained(config, sizes)
    parts = {
        "UNet": sizes.unet * bytes_each,
        "text encoders": sum(sizes.text) * bytes_each if samples or not data.cache_text else 0,
        "VAE": sizes.vae * vae_bytes if samples or not data.cache_latents else 0,
        "LoRA": trained * weight_bytes(config),
        "optimizer": state_bytes(config, sizes, trained),
        "activations": kept * train.batch * bytes_each // 2,
        "workspace": WORKSPACE,
    }
    return {part: size for part, size in parts.items() if size}


def text_trained(rates: Rates, sizes: Sizes) -> list[bool]:
    """Which text encoders of the model are trained."""
    return [bool(rate) for rate in (rates.text_encoder, rates.text_encoder_2)[: len(sizes.text)]]


def count_trained(config: Config, sizes: Sizes) -> int:
    """Parameters of the LoRA."""
    network = config.network
    unet = network.rank * sizes.lora
    if network.conv_rank:
        unet += network.rank * sizes.around + network.conv_rank * sizes.conv
    trained = zip(sizes.text_lora, text_trained(config.rates, sizes), strict=True)
    return (unet if config.rates.unet else 0) + sum(network.rank * size for size, on in trained if on)


def weight_bytes(config: Config) -> int:
    """Bytes of a trained parameter, its gradient and its copy in the mixed precision."""
    if config.train.full:
        return 2 + 2
    return 4 + 4 + (0 if config.train.precision == "no" else 2)


def state_bytes(config: Config, sizes: Sizes, trained: int) -> int:
    """Bytes that the optimizer keeps. Adafactor keeps a row and a column of each matrix in place of all of it."""
    optimizer = config.optimizer
    if isinstance(optimizer, Adafactor):
        rows = trained // config.network.rank  # of all matrices; rank-long columns are too few to count
        return 4 * rows + (4 * trained if optimizer.beta1 is not None else 0)
    halved = config.train.full and optimizer.type != "adamw8bit"
    return trained * STATE[optimizer.type] // (2 if halved else 1)
