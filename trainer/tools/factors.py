"""Matrices as products of two narrow ones: singular values, how many of them to keep, and what that loses."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SMALLEST = 1e-6  # a largest singular value below this is none: the layer changes nothing

Choose = Callable[[Tensor], int]
"""How many of the singular values [n], largest first, are kept."""


class Split(NamedTuple):
    """A matrix [out, in] by its singular values [n]: left [out, n] x values x right [n, in]."""

    left: Tensor
    values: Tensor
    right: Tensor


def split(matrix: Tensor) -> Split:
    """The singular value decomposition of a matrix [out, in], n = min(out, in)."""
    return Split(*torch.linalg.svd(matrix, full_matrices=False))


def split_product(up: Tensor, down: Tensor) -> Split:
    """That of up [out, r] x down [r, in], n = min(r, out, in), without ever making the product.

    Each factor is an orthogonal matrix times a small one; the product of the small ones has the same singular values.
    """
    if up.shape[1] >= min(up.shape[0], down.shape[1]):
        return split(up @ down)
    left, small_left = torch.linalg.qr(up)
    right, small_right = torch.linalg.qr(down.T)
    core = split(small_left @ small_right.T)
    return Split(left @ core.left, core.values, core.right @ right.T)


def narrow(found: Split, rank: int, clamp: float = 1.0) -> tuple[Tensor, Tensor]:
    """Up [out, rank] and down [rank, in], whose product is the best there is of that rank (Eckart & Young 1936).

    clamp: quantile beyond which values are cut off, in the form that sd-scripts cuts them: the singular values all on
    the left. They are then shared out between both sides, so that fp16 holds either well.
    """
    values = found.values[:rank]
    up, down = found.left[:, :rank] * values, found.right[:rank]
    if clamp < 1:
        limit = quantile(torch.cat([up.flatten(), down.flatten()]), clamp)
        up, down = up.clamp(-limit, limit), down.clamp(-limit, limit)
    root = values.clamp(min=SMALLEST**2).sqrt()
    return up / root, down * root[:, None]


def quantile(numbers: Tensor, share: float) -> Tensor:
    """The value [] that a share of the numbers [n] does not exceed; between two, in proportion.

    As torch.quantile, which refuses more than 16 million numbers.
    """
    place = share * (len(numbers) - 1)
    below = int(place)
    lower = numbers.kthvalue(below + 1).values
    upper = numbers.kthvalue(min(below + 2, len(numbers))).values
    return torch.lerp(lower, upper, place - below).abs()


def fixed(rank: int) -> Choose:
    """As many as the rank says."""
    return lambda values: min(rank, len(values))


def above(limit: float) -> Choose:
    """Those above a limit, one at least."""
    return lambda values: max(1, int((values > limit).sum()))


def above_share(share: float) -> Choose:
    """Those above a share of the largest, one at least."""
    return lambda values: max(1, int((values > values[0] * share).sum()))


def below_sum(share: float) -> Choose:
    """Those that together stay below a share of the sum, one at least: LyCORIS' quantile."""
    return lambda values: max(1, int((values.double().cumsum(0) < share * values.double().sum()).sum()))


def holding(share: float, power: int) -> Choose:
    """The fewest whose powers add up to that share of all: 1 for sd-scripts' sv_cumulative, 2 for sv_fro."""

    def choose(values: Tensor) -> int:
        sums = values.double().pow(power).cumsum(0)
        wanted = torch.tensor(share**power, dtype=sums.dtype, device=sums.device)
        return min(int(torch.searchsorted(sums / sums[-1], wanted)) + 1, len(values))

    return choose


def choose_rank(found: Split, choose: Choose, most: int | None = None) -> int:
    """The rank that a rule gives, at most `most`; 1 for a matrix of zeros."""
    if float(found.values[0]) <= SMALLEST:
        return 1
    return min(choose(found.values), most or len(found.values), len(found.values))
