"""One layer of a LoRA: a low-rank change computed beside a frozen linear layer or convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from trainer.networks.keys import Target

WORD = 0xFFFFFFFF  # hashes are 32-bit words, kept in int64 because torch has no shifts for unsigned numbers


class LoraLayer(nn.Module):
    """W x + alpha / rank * up(down(x)), where W stays as it is (Hu et al. 2021, arXiv 2106.09685, eq. 3).

    down is [rank, in] with values of sqrt(1 / in) at most, up is [out, rank] and zero, so that training starts from
    the base model exactly. For a convolution down is [rank, in, kh, kw], with its stride and padding, and up is
    [out, rank, 1, 1]. Both are float32 masters, or the frozen layer's own precision with `full`.

    The layer is no child of the frozen one, nor the other way round: `attach` puts this forward in place of the frozen
    layer's, and `detach` takes it away.
    """

    def __init__(self, frozen: Target, rank: int, alpha: float, generator: Generator, full: bool = False) -> None:
        super().__init__()
        out, *fan_in = frozen.weight.shape
        down = nn.init.kaiming_uniform_(torch.empty(rank, *fan_in), a=math.sqrt(5), generator=generator)
        home = {"device": frozen.weight.device, "dtype": frozen.weight.dtype if full else torch.float32}
        self.frozen = (frozen,)  # in a tuple, or its weights would count as ours
        self.down = nn.Parameter(down.to(**home))
        self.up = nn.Parameter(torch.zeros(out, rank, *(1 for _ in fan_in[1:]), **home))
        self.alpha, self.scale = alpha, alpha / rank
        self.neuron_dropout = self.rank_dropout = self.module_dropout = 0.0
        self.seeds = torch.zeros(3, dtype=torch.int64)  # of this step's dropouts: neurons, ranks, module
        self.aside: Tensor | None = None  # the frozen weight, while a sum is in its place
        self.weights: tuple[Tensor, Tensor] = (self.down, self.up)  # what forward reads: the masters, or a cast of them

    def attach(self) -> None:
        """Puts this forward before that of the frozen layer's class."""
        vars(self.frozen[0])["forward"] = self.forward

    def detach(self) -> None:
        """Takes it away again, without a trace."""
        del vars(self.frozen[0])["forward"]

    def forward(self, x: Tensor) -> Tensor:
        """x [B, ..., in] or [B, in, h, w] -> the frozen layer's result with the change added.

        The change is added in place: it saves a copy of every activation, and a frozen layer keeps no result for its
        backward pass.
        """
        (frozen,), (down, up) = self.frozen, self.weights
        if isinstance(frozen, nn.Conv2d):
            window = frozen.stride, frozen.padding, frozen.dilation
            hidden = self._drop(F.conv2d(x, down, None, *window), rank_at=1)  # [B, r, h, w]
            return F.conv2d(x, frozen.weight, frozen.bias, *window).add_(F.conv2d(hidden, up))
        flat = x.reshape(-1, x.shape[-1])  # [B * tokens, in]
        hidden = self._drop(F.linear(flat, down).view(*x.shape[:-1], -1), rank_at=-1).view(len(flat), -1)
        return F.linear(flat, frozen.weight, frozen.bias).addmm_(hidden, up.T).view(*x.shape[:-1], -1)

    def _drop(self, hidden: Tensor, rank_at: int) -> Tensor:
        """Hidden activations scaled and thinned by this step's dropouts, alike whenever they are computed again."""
        factor = self.scale
        if self.training and self.neuron_dropout:
            hidden = hidden * keep(self.seeds[0], hidden.shape, self.neuron_dropout)
            factor /= 1 - self.neuron_dropout
        if self.training and self.rank_dropout:  # the same ranks for all tokens of a picture
            shape = [1] * hidden.ndim
            shape[0], shape[rank_at] = hidden.shape[0], hidden.shape[rank_at]
            hidden = hidden * keep(self.seeds[1], shape, self.rank_dropout)
            factor /= 1 - self.rank_dropout
        if self.training and self.module_dropout:
            hidden = hidden * keep(self.seeds[2], (), self.module_dropout)
        return hidden if factor == 1 else hidden * factor

    def delta(self) -> Tensor:
        """The change as one matrix or kernel of the frozen weight's shape, float32."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (product * self.scale).view(self.frozen[0].weight.shape)

    def norm(self) -> Tensor:
        """Frobenius norm of the change, no dimensions.

        ||U D||^2 = sum(U'U * DD'): two products of rank x rank in place of the whole change.
        """
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)
        return ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt() * self.scale


def keep(seed: Tensor, shape: Sequence[int], rate: float) -> Tensor:
    """Booleans of a shape, False with probability `rate`, from a seed of 32 bits in an int64 tensor.

    A function of its arguments, where `torch.rand` would go on from a state: a checkpoint that computes a layer again
    gets the same numbers, and a captured step gets new ones by copying a new seed in.
    """
    counter = torch.arange(math.prod(shape), device=seed.device)
    return (_hash(_hash(counter) ^ seed) >= round(rate * (WORD + 1))).view(tuple(shape))


def _hash(x: Tensor) -> Tensor:
    """A well mixed 32-bit word for each 32-bit word (the constants are lowbias32's, found by C. Wellons)."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & WORD
    return x ^ (x >> 16)
