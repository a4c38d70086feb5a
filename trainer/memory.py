"""An estimate of the memory that training takes, part by part, from the config alone.

Kept activations grow with the area and the batch.
"""

from __future__ import annotations

from trainer.config import Adafactor, Config, Embedding, Full, Library, Rates
from trainer.config.library import TESTED
from trainer.families import FAMILIES, Counts
from trainer.optimizer_kinds import KINDS
from trainer.packed import saved
from trainer.shapes import size_of

WORKSPACE = 300_000_000  # the device's own context, and what kernels borrow
POCKET = Counts(4_224_036, 809_415, (2_714_640,), 855, 92, (2_600_000,), 21.33, 4.0)
"""Of the model that comes with Likeness, an SD1.5 of another size."""
WIDTHS = (768, 1280)  # of a vector for each text encoder


def estimate_memory(config: Config, family: str, area: int) -> dict[str, int]:
    """Bytes by part while training at `area` pixels, the largest bucket's; a part that is not in memory is left out."""
    train, data = config.train, config.data
    counts = POCKET if config.model.base == "pocket" else FAMILIES[family].counts
    bytes_each = 4 if train.precision == "no" else 2
    samples = bool(config.sample.prompts or config.sample.file)
    vae_bytes = 4 if config.model.vae_precision == "fp32" else bytes_each
    chunks = config.captions.max_tokens // 75
    texts = [True] * len(counts.text) if config.pivotal else text_trained(config.rates, counts)
    text_kept = zip(counts.text_kept, texts, strict=True)
    kept = area * (counts.kept_less if train.checkpointing else counts.kept) + chunks * sum(
        k for k, on in text_kept if on
    )
    if train.attention == "none":
        scores = counts.scores_less if train.checkpointing else counts.scores
        kept += int(2 * scores * (area / 64) ** 2)
    trained = count_trained(config, counts, family)
    kind = "new words" if isinstance(config.network, Embedding) else "LoRA"
    kind = "gradients and masters" if isinstance(config.network, Full) else kind
    unet_saved, text_saved = saved(config, family, bytes_each)
    kept = 0 if config.memory.offload_activations else kept
    parts = {
        "UNet": counts.unet * bytes_each - unet_saved,
        "text encoders": sum(counts.text) * bytes_each - sum(text_saved) if samples or not data.cache_text else 0,
        "VAE": counts.vae * vae_bytes if samples or not data.cache_latents else 0,
        kind: trained * weight_bytes(config),
        "optimizer": state_bytes(config, family, trained),
        "activations": kept * train.batch * bytes_each // 2 * (1 + (config.objective.prior == "trained")),
        "workspace": WORKSPACE,
    }
    return {part: size for part, size in parts.items() if size}


def text_trained(rates: Rates, counts: Counts) -> list[bool]:
    """Which text encoders of the model are trained."""
    return [bool(rate) for rate in (rates.text_encoder, rates.text_encoder_2)[: len(counts.text)]]


def count_trained(config: Config, counts: Counts, family: str) -> int:
    """Parameters that are trained."""
    network = config.network
    if isinstance(network, Full):
        texts = zip(counts.text, text_trained(config.rates, counts), strict=True)
        return (counts.unet if config.rates.unet else 0) + sum(size for size, on in texts if on)
    if isinstance(network, Embedding):
        widths = zip(WIDTHS, text_trained(config.rates, counts), strict=False)
        return sum(width for width, on in widths if on) * network.vectors * len(network.words())
    words = len(config.pivotal.words()) * config.pivotal.vectors if config.pivotal else 0
    return size_of(config, family)[0] + words * sum(WIDTHS[: len(counts.text)])


def weight_bytes(config: Config) -> int:
    """Bytes of a trained parameter, its gradient and its copy in the mixed precision."""
    network, exact = config.network, 0 if config.train.precision == "no" else 4
    if isinstance(network, Full):  # the model's copy is counted with the model; a fused step drops each gradient
        gradient = 0 if network.fused else 2 if config.train.full else 4
        return gradient + (0 if config.train.full else exact) + (4 if network.average else 0)
    if config.train.full:
        return 2 + 2
    return 4 + 4 + (0 if config.train.precision == "no" else 2)


def state_bytes(config: Config, family: str, trained: int) -> int:
    """Bytes that the optimizer keeps. Adafactor keeps a row and a column of each matrix in place of all of it."""
    optimizer = config.optimizer
    if isinstance(optimizer, Adafactor) and isinstance(config.network, Full):
        return trained // 75 + (4 * trained if optimizer.beta1 is not None else 0)  # about one number in 300
    if isinstance(optimizer, Adafactor):
        rows = 0 if isinstance(config.network, Embedding) else size_of(config, family)[1]  # of all matrices
        return 4 * rows + (4 * trained if optimizer.beta1 is not None else 0)
    size = TESTED[optimizer.name] if isinstance(optimizer, Library) else KINDS[optimizer.type].state
    halved = config.train.full and not optimizer.type.endswith("8bit")
    return int(trained * size / (2 if halved else 1))
