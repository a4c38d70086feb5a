"""Frozen weights in fewer bits or in main memory, whole only while an operation reads them; and activations that wait.

diffusers' hook for the same, layerwise casting, is made for inference: under a backward pass it keeps whole copies of
linear layers' weights, and with checkpointing it fails (docs/decisions/010-thrifty-weights.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from trainer.config import Memory
from trainer.families.base import Family

BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock")
"""What `memory.swap` counts: 38 of them in SD1.5's U-Net, 87 in SDXL's."""
BODY = ("down_blocks.", "mid_block.", "up_blocks.", "encoder.", "text_model.encoder.")
"""Where small weights are: first and last layers and embeddings are few, and what they lose is seen at once."""
NF4_BLOCK = 64  # weights that share a scale, as in QLoRA (Dettmers et al. 2023, arXiv 2305.14314)
FP8_LARGEST = 448.0  # of float8_e4m3fn
LARGEST_SHIFT = 14  # of an fp8 scale's power of two, so that fp16 can hold what undoes it
SMALLEST = 1 << 16  # bytes of an activation that is worth a move


class Ferry:
    """Brings weights from main memory to the device, and counts it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.moves = self.bytes = 0

    def keep(self, piece: Tensor) -> Tensor:
        """A piece in main memory, where a GPU can fetch it while the processor goes on."""
        waiting = piece.cpu()
        return waiting.pin_memory() if self.device.type == "cuda" else waiting

    def bring(self, piece: Tensor) -> Tensor:
        """A copy on the device, which ends with its last reader."""
        self.moves += 1
        self.bytes += piece.nbytes
        return piece.to(self.device, non_blocking=True)


# How a weight is packed: (weight on the device) -> pieces, and (pieces, shape, dtype) -> weight


def pack_same(weight: Tensor) -> tuple[Tensor, ...]:
    """As it is."""
    return (weight,)


def whole_same(pieces: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """As it is."""
    return pieces[0]


def pack_fp8(weight: Tensor) -> tuple[Tensor, ...]:
    """Eight bits (e4m3: Micikevicius et al. 2022, arXiv 2209.05433), times the power of two that uses their range.

    Without it most weights of a U-Net would lie where e4m3 has steps of 1/512 and no less.
    """
    largest = float(weight.abs().max()) or 1.0
    shift = min(math.floor(math.log2(FP8_LARGEST / largest)), LARGEST_SHIFT)
    return (weight.float() * 2.0**shift).to(torch.float8_e4m3fn), torch.tensor(2.0**-shift, device=weight.device)


def whole_fp8(pieces: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Exact: all that was lost was lost at packing."""
    return pieces[0].to(dtype).mul_(pieces[1])


def pack_int8(weight: Tensor) -> tuple[Tensor, ...]:
    """Whole numbers to 127 with a scale for each output (Dettmers et al. 2022, arXiv 2208.07339)."""
    from bitsandbytes.functional import int8_vectorwise_quant  # takes a second, and only this needs it

    whole, scales, _ = int8_vectorwise_quant(weight.contiguous().flatten(1).half())
    return whole, scales


def whole_int8(pieces: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Scaled in float32."""
    return torch.ops.bitsandbytes.int8_vectorwise_dequant(*pieces).to(dtype).view(shape)


def pack_nf4(weight: Tensor) -> tuple[Tensor, ...]:
    """Four bits, each one of 16 levels that suit a normal distribution (arXiv 2305.14314, section 3)."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), blocksize=NF4_BLOCK, compress_statistics=False, quant_type="nf4")
    return packed, state.absmax


def whole_nf4(pieces: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """In the precision that is asked for; as one row, for rows of an odd length have no kernel on the CPU."""
    packed, scales = pieces
    row = [1, shape.numel()]
    return torch.ops.bitsandbytes.dequantize_4bit(packed, scales, NF4_BLOCK, "nf4", row, dtype).view(shape)


Pack = Callable[[Tensor], tuple[Tensor, ...]]
Whole = Callable[[tuple[Tensor, ...], torch.Size, torch.dtype], Tensor]
KINDS: dict[str, tuple[Pack, Whole]] = {
    "same": (pack_same, whole_same),
    "fp8": (pack_fp8, whole_fp8),
    "int8": (pack_int8, whole_int8),
    "nf4": (pack_nf4, whole_nf4),
}
"""By `memory.base_weights`."""


@dataclass(frozen=True)
class How:
    """What a thrifty weight is when it is whole, and how to make it so."""

    kind: str
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    channels_last: bool
    ferry: Ferry | None
    turned: bool = False
    """Whether what is seen is the transposed weight."""


class ThriftyWeight(Tensor):
    """A frozen weight that says the shape, precision and device it has when whole, and holds something smaller.

    Every operation makes it whole first and lets go of that at once; what the backward pass keeps is the small one.
    So layers and networks read `weight` as they always do. It takes no gradient.
    """

    pieces: tuple[Tensor, ...]
    how: How

    @staticmethod
    def __new__(cls, pieces: tuple[Tensor, ...], how: How) -> ThriftyWeight:
        seen = torch.empty(how.shape, dtype=how.dtype, device="meta")
        if how.channels_last:
            seen = seen.to(memory_format=torch.channels_last)
        if how.turned:
            seen = seen.t()
        made = Tensor._make_wrapper_subclass(cls, seen.shape, strides=seen.stride(), dtype=how.dtype, device=how.device)
        made = cast(ThriftyWeight, made)
        made.pieces, made.how = pieces, how
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyrefly: ignore[bad-override]

    def whole(self) -> Tensor:
        """The weight itself, for as long as someone holds it."""
        how = self.how
        pieces = tuple(map(how.ferry.bring, self.pieces)) if how.ferry else self.pieces
        weight = KINDS[how.kind][1](pieces, how.shape, how.dtype)
        if how.channels_last:
            weight = weight.contiguous(memory_format=torch.channels_last)
        return weight.t() if how.turned else weight

    @classmethod
    # pyrefly: ignore[bad-override]
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten, kwargs = torch.ops.aten, kwargs or {}
        one = args[0] if args else None
        if isinstance(one, cls):
            if func in (aten.detach.default, aten.alias.default):
                return cls(one.pieces, one.how)
            if func is aten.t.default:
                return cls(one.pieces, replace(one.how, turned=not one.how.turned))
            if func is aten._to_copy.default and kwargs.get("dtype") in (None, one.dtype):
                return one.moved(kwargs.get("device") or one.device)
        args, kwargs = tree_map_only(cls, cls.whole, (args, kwargs))
        return func(*args, **kwargs)

    def moved(self, device: torch.device) -> ThriftyWeight:
        """The same on another device; what waits in main memory stays there."""
        how, device = self.how, exactly(device)
        if how.ferry:
            return ThriftyWeight(self.pieces, replace(how, device=device, ferry=Ferry(device)))
        return ThriftyWeight(tuple(piece.to(device) for piece in self.pieces), replace(how, device=device))

    def __tensor_flatten__(self) -> tuple[list[str], Any]:
        """With `__tensor_unflatten__` tells torch how `module.to` is to exchange it."""
        return [f"piece_{index}" for index in range(len(self.pieces))], self.how

    @staticmethod
    def __tensor_unflatten__(pieces: dict[str, Tensor], how: How, size: Any, stride: Any) -> ThriftyWeight:
        return ThriftyWeight(tuple(pieces.values()), how)

    def __getattr__(self, name: str) -> Any:
        head, _, index = name.partition("_")
        if head == "piece" and index.isdigit():
            return self.pieces[int(index)]
        raise AttributeError(name)

    def __repr__(self) -> str:  # pyrefly: ignore[bad-override]
        return f"ThriftyWeight({self.how})"


class Saved(NamedTuple):
    """What `save_memory` did: weights made smaller, weights that wait in main memory, and who brings these."""

    small: int
    waiting: int
    ferry: Ferry


def exactly(device: torch.device | str) -> torch.device:
    """A device with its number, as tensors on it have it: `cuda` is `cuda:0`."""
    return torch.empty(0, device=device).device


def wanted(memory: Memory) -> bool:
    """Whether weights are to be thrifty: the model is then loaded into main memory first."""
    return memory.base_weights != "same" or memory.swap > 0


@torch.no_grad()
def save_memory(family: Family, memory: Memory, device: torch.device) -> Saved:
    """Packs a frozen model's weights as `memory` says, one at a time, and puts the model on the device.

    To be called when precision and memory layout are settled, and before a network is attached.
    """
    device = exactly(device)
    ferry = Ferry(device)
    swapped = {id(layer) for block in largest_blocks(family.unet)[: memory.swap] for layer in block.modules()}
    small = waiting = 0
    for part in family.parts.values():
        for path, layer in part.named_modules():
            if not isinstance(layer, nn.Linear | nn.Conv2d):
                continue
            kind = memory.base_weights if path.startswith(BODY) else "same"
            waits = id(layer) in swapped
            if kind == "same" and not waits:
                continue
            layer.weight = nn.Parameter(pack(layer.weight, kind, device, ferry if waits else None), False)
            small, waiting = small + (kind != "same"), waiting + waits
    for part in (*family.parts.values(), family.vae):
        part.to(device)
    family.alphas_cumprod = family.alphas_cumprod.to(device)
    return Saved(small, waiting, ferry)


def pack(weight: Tensor, kind: str, device: torch.device, ferry: Ferry | None) -> ThriftyWeight:
    """One weight, packed on the device, where it is fast, and kept there or in main memory."""
    last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    pieces = KINDS[kind][0](weight.detach().to(device))
    if ferry:
        pieces = tuple(map(ferry.keep, pieces))
    return ThriftyWeight(pieces, How(kind, weight.shape, weight.dtype, device, last, ferry))


def largest_blocks(unet: nn.Module) -> list[nn.Module]:
    """The blocks of a U-Net, those with most weights first, so that few moves save much."""
    blocks = [module for module in unet.modules() if type(module).__name__ in BLOCKS]
    return sorted(blocks, key=lambda block: -sum(weight.numel() for weight in block.parameters()))


@contextmanager
def activations_wait(family: Family, device: torch.device, smallest: int | None = None) -> Iterator[list[int]]:
    """What a forward pass inside keeps for its backward pass waits in main memory; gives the bytes of each move.

    torch's `save_on_cpu` would move the model's weights too, each time.
    """
    weights = {
        weight.untyped_storage().data_ptr()
        for part in family.parts.values()
        for weight in part.parameters()
        if not isinstance(weight, ThriftyWeight)
    }
    moves: list[int] = []
    least = SMALLEST if smallest is None else smallest

    def leave(kept: Tensor) -> Tensor | tuple[torch.device, Tensor]:
        stays = isinstance(kept, ThriftyWeight) or kept.nbytes < least or 0 in kept.stride()
        if stays or kept.untyped_storage().data_ptr() in weights:
            return kept
        # the same strides: a kernel's backward pass trusts that what it kept lies as it lay
        like = {"dtype": kept.dtype, "pin_memory": device.type == "cuda"}
        waiting = torch.empty_strided(kept.shape, kept.stride(), **like)
        waiting.copy_(kept, non_blocking=True)  # on the stream of what made it, and of what will read it
        moves.append(kept.nbytes)
        return kept.device, waiting

    def fetch(left: Tensor | tuple[torch.device, Tensor]) -> Tensor:
        if isinstance(left, Tensor):
            return left
        where, waiting = left
        back = torch.empty_strided(waiting.shape, waiting.stride(), dtype=waiting.dtype, device=where)
        return back.copy_(waiting, non_blocking=True)

    with torch.autograd.graph.saved_tensors_hooks(leave, fetch):
        yield moves
