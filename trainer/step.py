"""One training step as a function of tensors: from a picture's latents and its draws to the loss.

Nothing in it waits for the GPU, prints, or branches on a tensor, so that it can be compiled, or captured once and
replayed. Whatever is drawn or read comes in as a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import Objective
from trainer.families.base import Conditioning, Family, Sizes, Tokens
from trainer.networks.base import Network
from trainer.objectives import per_sample_loss, weigh


@dataclass(frozen=True)
class Draws:
    """Everything that a micro step works on, on the training device."""

    latents: Tensor
    """[B, 4, h, w] scaled latents."""
    noise: Tensor
    """[B, 4, h, w], what is added and, for epsilon prediction, what is asked for."""
    timesteps: Tensor
    """[B] int64."""
    weights: Tensor
    """[B] weight of each picture: 1, or the prior weight of a regularisation picture."""
    text: Tokens | Conditioning
    """Captions as tokens where a text encoder is trained, or already encoded."""
    sizes: Sizes | None = None
    """What SDXL is told of where pictures were cut from."""
    perturbation: Tensor | None = None
    """[B, 4, h, w] noise that the input gets and the target does not."""
    kept: Tensor | None = None
    """[B] booleans: which pictures the model is to see as it did without the network."""
    mask: Tensor | None = None
    """[B, 1, h, w] how much each place counts, 0 to 1."""
    prior: Tokens | Conditioning | None = None
    """Captions without what is learned: with them every picture is to be seen as without the network."""


def micro_loss(family: Family, network: Network, draws: Draws, objective: Objective) -> tuple[Tensor, Tensor]:
    """The loss to go backward from, no dimensions, and the loss of each picture [B]; float32.

    Draw the network's dropouts first (`network.draw`): they are part of the step's input too.
    """
    network.ready()
    seen = draws.noise if draws.perturbation is None else draws.noise + draws.perturbation
    noisy = family.noisy(draws.latents, seen, draws.timesteps)
    pred = predict(family, draws, noisy, draws.text)
    target = family.target(draws.latents, draws.noise, draws.timesteps)
    if draws.kept is not None:
        with torch.no_grad(), network.aside():
            own = predict(family, draws, noisy, draws.text)
        target = torch.where(draws.kept.view(-1, 1, 1, 1), own.to(target.dtype), target)
    measure = objective.loss, draws.timesteps, family.alphas_cumprod
    losses = per_sample_loss(pred, target, *measure, draws.mask) * draws.weights
    if draws.prior is not None:
        with torch.no_grad(), network.aside():
            own = predict(family, draws, noisy, draws.prior)
        pred = predict(family, draws, noisy, draws.prior)
        losses = losses + per_sample_loss(pred, own, *measure) * objective.prior_weight
    losses = weigh(losses, draws.timesteps, objective, family.alphas_cumprod, family.prediction)
    return losses.mean(), losses


def predict(family: Family, draws: Draws, noisy: Tensor, text: Tokens | Conditioning) -> Tensor:
    """What the model says of noisy latents, with these words [B, 4, h, w]."""
    cond = family.encode_tokens(text) if isinstance(text, Tokens) else text
    return family.predict(noisy, draws.timesteps, cond, draws.sizes)
