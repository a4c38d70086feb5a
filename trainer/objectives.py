"""What is added to a picture, what the model should say about it, and how its error counts.

Draws are made on the CPU, one picture at a time from that picture's own generator, so that neither the device nor the
other pictures of a batch can change them. The rest are functions of tensors without `.item()` or a branch on a tensor,
so that a whole training step can be captured.

`alphas_cumprod` is the family's table [1000] of the share of signal left at each timestep, already rescaled where
zero-terminal SNR is on. sd-scripts weighs by the table before the rescaling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from trainer.config import L1, L2, Loss, MultiresNoise, Noise, Objective, OffsetNoise, Prediction, SmoothL1

SNR_LIMITS = (1e-3, 1e3)  # SD's own table spans 0.0047 to 1175; the floor is met with zero-terminal SNR only


# Draws, one picture at a time


def draw_noise(generator: Generator, latents: Tensor, noise: Noise) -> Tensor:
    """Noise for one picture's latents [C, H, W], float32 on the CPU.

    sd-scripts draws the random strength of offset noise, and normalises multi-resolution noise, once per batch; here
    both belong to the picture.
    """
    plain = torch.randn(latents.shape, generator=generator)  # [C, H, W]
    if isinstance(noise, OffsetNoise):
        return plain + _offset(generator, latents, noise)
    if isinstance(noise, MultiresNoise):
        return _pyramid(generator, plain, noise)
    return plain


def draw_timestep(generator: Generator, low: int, high: int) -> Tensor:
    """A timestep, low <= t < high, each as likely as any other; int64, no dimensions."""
    return torch.randint(low, high, (), generator=generator)


def draw_perturbation(generator: Generator, shape: Sequence[int], gamma: float, random: bool) -> Tensor:
    """Noise that the input gets and the target does not (Ning et al. 2023, arXiv 2301.11706, algorithm 1).

    With `random`, its strength is drawn between 0 and gamma, once a picture (sd-scripts: once a batch).
    """
    strength = torch.rand((), generator=generator) * gamma if random else gamma
    return torch.randn(tuple(shape), generator=generator) * strength


def _offset(generator: Generator, latents: Tensor, noise: OffsetNoise) -> Tensor:
    """A shift for each channel [C, 1, 1] (Guttenberg 2023, "Diffusion with offset noise")."""
    strength = torch.tensor(noise.strength)
    if noise.random:
        strength = strength * torch.rand((), generator=generator)
    if noise.adaptive:
        brightness = latents.float().mean(dim=(1, 2), keepdim=True).abs().cpu()  # [C, 1, 1]
        strength = (strength + noise.adaptive * brightness).clamp(min=0)
    return strength * torch.randn(latents.shape[0], 1, 1, generator=generator)


def _pyramid(generator: Generator, plain: Tensor, noise: MultiresNoise) -> Tensor:
    """Plain noise and ever coarser layers of it, at unit deviation (Whitaker 2023, "Multi-resolution noise").

    Each layer is smaller by a power of its own random factor between 2 and 4. The sizes are numbers of Python's, which
    costs no wait for a GPU because draws live on the CPU.
    """
    channels, height, width = plain.shape
    total = plain
    for layer in range(noise.iterations):
        shrink = (2 + 2 * float(torch.rand((), generator=generator))) ** layer
        size = max(1, int(height / shrink)), max(1, int(width / shrink))
        coarse = torch.randn(1, channels, *size, generator=generator)
        total = total + F.interpolate(coarse, plain.shape[1:], mode="bilinear")[0] * noise.discount**layer
        if 1 in size:
            break
    return total / total.std()


# The path from picture to noise


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Latents at a timestep [B, C, H, W]: sqrt(a) x + sqrt(1 - a) noise (Ho et al. 2020, arXiv 2006.11239, eq. 4)."""
    signal, sigma = _shares(timesteps, alphas_cumprod)
    return signal * latents + sigma * noise


def velocity(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """What a v-prediction model says: sqrt(a) noise - sqrt(1 - a) x (Salimans & Ho 2022, arXiv 2202.00512, app. D)."""
    signal, sigma = _shares(timesteps, alphas_cumprod)
    return signal * noise - sigma * latents


def _shares(timesteps: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    share = alphas_cumprod[timesteps].view(-1, 1, 1, 1)  # [B, 1, 1, 1]
    return share**0.5, (1 - share) ** 0.5


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """Betas [T] changed so that the last timestep holds no signal, and the first as much as before.

    Lin et al. 2023, arXiv 2305.08891, algorithm 1.
    """
    root = (1 - betas).cumprod(0).sqrt()  # [T]
    first, last = root[0], root[-1]
    shares = ((root - last) * (first / (first - last))) ** 2  # [T], 0 at the end
    return 1 - torch.cat([shares[:1], shares[1:] / shares[:-1]])


# The error of each picture


def elementwise(pred: Tensor, target: Tensor, loss: Loss, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The error of each number [B, C, H, W], float32 whatever the precision of the model."""
    error = pred.float() - target.float()
    if isinstance(loss, L2):
        return error**2
    if isinstance(loss, L1):
        return error.abs()
    c = huber_c(timesteps, loss, alphas_cumprod).view(-1, 1, 1, 1)  # [B, 1, 1, 1]
    slope = 2.0 if isinstance(loss, SmoothL1) else 2 * c
    return slope * ((error**2 + c**2).sqrt() - c)


def huber_c(timesteps: Tensor, loss: Loss, alphas_cumprod: Tensor) -> Tensor:
    """Where squared turns into absolute at each timestep [B] (Khrapov et al. 2024, arXiv 2403.16728, section 3).

    The constant schedule is `c` at every timestep, the others start near 1 and end at `c`; all but the SNR schedule are
    multiplied by `scale`, as in sd-scripts.
    """
    if isinstance(loss, L1 | L2):
        raise TypeError(f"{loss.type} loss has no c")
    if loss.schedule == "constant":
        return torch.full_like(timesteps, loss.c * loss.scale, dtype=torch.float32)
    if loss.schedule == "exponential":
        return (timesteps.float() * (math.log(loss.c) / len(alphas_cumprod))).exp() * loss.scale
    sigma = snr(timesteps, alphas_cumprod) ** -0.5  # infinite at zero SNR, where c is then c itself
    return (1 - loss.c) / (1 + sigma) ** 2 + loss.c


def per_sample_loss(
    pred: Tensor, target: Tensor, loss: Loss, timesteps: Tensor, alphas_cumprod: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean error of each picture [B], float32; a mask [B, 1, H, W] weighs places, and its area is not made up for."""
    error = elementwise(pred, target, loss, timesteps, alphas_cumprod)
    return (error if mask is None else error * mask).mean(dim=(1, 2, 3))


# The weight of each timestep


def weigh(
    losses: Tensor, timesteps: Tensor, objective: Objective, alphas_cumprod: Tensor, prediction: Prediction
) -> Tensor:
    """Losses [B] times the weights that are on, in the order of sd-scripts."""
    if objective.min_snr_gamma is not None:
        losses = losses * min_snr_weight(timesteps, objective.min_snr_gamma, alphas_cumprod, prediction)
    if objective.scale_v:
        losses = losses * scale_v_weight(timesteps, alphas_cumprod)
    if objective.v_like is not None:
        losses = losses * (1 + objective.v_like * v_like_weight(timesteps, alphas_cumprod))
    if objective.debiased:
        losses = losses * debiased_weight(timesteps, alphas_cumprod, prediction)
    return losses


def snr(timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Signal-to-noise ratio a / (1 - a) [B]; 0 at the last timestep of a zero-terminal schedule."""
    share = alphas_cumprod[timesteps]
    return share / (1 - share)


def min_snr_weight(timesteps: Tensor, gamma: float, alphas_cumprod: Tensor, prediction: Prediction) -> Tensor:
    """min(SNR, gamma) / SNR [B], or / (SNR + 1) for v-prediction (Hang et al. 2023, arXiv 2303.09556, section 3.4).

    The first is written min(1, gamma / SNR): the same number, and 1 in place of 0/0 where SNR is 0.
    """
    ratio = snr(timesteps, alphas_cumprod)
    return (gamma / ratio).clamp(max=1) if prediction == "epsilon" else ratio.clamp(max=gamma) / (ratio + 1)


def scale_v_weight(timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """SNR / (SNR + 1) [B]: counts a velocity's error as the error of the noise in it (sd-scripts)."""
    ratio = snr(timesteps, alphas_cumprod).clamp(max=SNR_LIMITS[1])
    return ratio / (ratio + 1)


def v_like_weight(timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """(SNR + 1) / SNR [B], the inverse of the weight above (sd-scripts); a floor keeps SNR 0 from infinite weight."""
    ratio = snr(timesteps, alphas_cumprod).clamp(*SNR_LIMITS)
    return 1 / (ratio / (ratio + 1))


def debiased_weight(timesteps: Tensor, alphas_cumprod: Tensor, prediction: Prediction) -> Tensor:
    """1 / sqrt(SNR) [B] (Yu et al. 2023, arXiv 2310.08442, eq. 11), or 1 / (SNR + 1) for v-prediction as in sd-scripts.

    A floor keeps SNR 0 from infinite weight.
    """
    ratio = snr(timesteps, alphas_cumprod).clamp(*SNR_LIMITS)
    return ratio**-0.5 if prediction == "epsilon" else 1 / (ratio + 1)
