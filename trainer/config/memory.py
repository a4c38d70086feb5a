"""What of the model waits elsewhere, or in fewer bits, so that a training fits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainer.config.parts import Kohya, Part


class Memory(Part):
    """Ways to train in less video memory, beside smaller batches and gradient checkpointing."""

    base_weights: Annotated[Literal["same", "fp8", "int8", "nf4"], Kohya("fp8_base", "Base weights", "fp8 base")] = (
        "same"
    )
    """Bits of the frozen base model: same as the mixed precision, 8 (int8 is the nearer), or 4; the last is coarse."""
    swap: Annotated[int, Field(ge=0, le=100, title="Blocks to swap")] = 0
    """Largest U-Net blocks, of SD1.5's 38 or SDXL's 87, that wait in main memory: the same result, slower."""
    offload_activations: Annotated[bool, Field(title="CPU offload of activations")] = False
    """What a step keeps for its backward pass waits in main memory: the same result, slower."""
    fit: Annotated[bool, Field(title="Fit to my card")] = False
    """Try the first step, and turn on one way to save memory after the other until it fits; each is said."""
