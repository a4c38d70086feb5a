"""An estimate of the memory that training takes, part by part, from the config alone.

Kept activations grow with the area and the batch.
"""

from __future__ import annotations

from trainer.config import Adafactor, Config, Rates
from trainer.families import FAMILIES, Counts

WORKSPACE = 300_000_000  # the device's own context, and what kernels borrow
POCKET = Counts(4_224_036, 809_415, (2_714_640,), 35_840, 9_440, 35_888, (10_368,), 855, 92, (2_600_000,), 21.33, 4.0)
"""Of the model that comes with Likeness, an SD1.5 of another size."""
STATE = {"adamw": 8, "adamw8bit": 2, "lion": 4, "adafactor": 0, "prodigy": 16}  # bytes a trained fp32 parameter


def estimate_memory(config: Config, family: str, area: int) -> dict[str, int]:
    """Bytes by part while training at `area` pixels, the largest bucket's; a part that is not in memory is left out."""
    train, data = config.train, config.data
    counts = POCKET if config.model.base == "pocket" else FAMILIES[family].counts
    bytes_each = 4 if train.precision == "no" else 2
    samples = bool(config.sample.prompts or config.sample.file)
    vae_bytes = 4 if config.model.vae_precision == "fp32" else bytes_each
    chunks = config.captions.max_tokens // 75
    text_kept = zip(counts.text_kept, text_trained(config.rates, counts), strict=True)
    kept = area * (counts.kept_less if train.checkpointing else counts.kept) + chunks * sum(
        k for k, on in text_kept if on
    )
    if train.attention == "none":
        scores = counts.scores_less if train.checkpointing else counts.scores
        kept += int(2 * scores * (area / 64) ** 2)
    trained = count_trained(config, counts)
    parts = {
        "UNet": counts.unet * bytes_each,
        "text encoders": sum(counts.text) * bytes_each if samples or not data.cache_text else 0,
        "VAE": counts.vae * vae_bytes if samples or not data.cache_latents else 0,
        "LoRA": trained * weight_bytes(config),
        "optimizer": state_bytes(config, counts, trained),
        "activations": kept * train.batch * bytes_each // 2,
        "workspace": WORKSPACE,
    }
    return {part: size for part, size in parts.items() if size}


def text_trained(rates: Rates, counts: Counts) -> list[bool]:
    """Which text encoders of the model are trained."""
    return [bool(rate) for rate in (rates.text_encoder, rates.text_encoder_2)[: len(counts.text)]]


def count_trained(config: Config, counts: Counts) -> int:
    """Parameters of the LoRA."""
    network = config.network
    unet = network.rank * counts.lora
    if network.conv_rank:
        unet += network.rank * counts.around + network.conv_rank * counts.conv
    trained = zip(counts.text_lora, text_trained(config.rates, counts), strict=True)
    return (unet if config.rates.unet else 0) + sum(network.rank * size for size, on in trained if on)


def weight_bytes(config: Config) -> int:
    """Bytes of a trained parameter, its gradient and its copy in the mixed precision."""
    if config.train.full:
        return 2 + 2
    return 4 + 4 + (0 if config.train.precision == "no" else 2)


def state_bytes(config: Config, counts: Counts, trained: int) -> int:
    """Bytes that the optimizer keeps. Adafactor keeps a row and a column of each matrix in place of all of it."""
    optimizer = config.optimizer
    if isinstance(optimizer, Adafactor):
        rows = trained // config.network.rank  # of all matrices; rank-long columns are too few to count
        return 4 * rows + (4 * trained if optimizer.beta1 is not None else 0)
    halved = config.train.full and optimizer.type != "adamw8bit"
    return trained * STATE[optimizer.type] // (2 if halved else 1)
