"""How many of a model's weights can be small or wait in main memory: for the estimate, and for what is left to turn on.

Counted as `trainer.thrift` packs them: linear layers and convolutions of the U-Net's blocks and of the text encoders'
layers. Brings no torch.
"""

from __future__ import annotations

from typing import NamedTuple

from trainer.config import Config


class Packed(NamedTuple):
    """Weights of a model: of the U-Net, of each text encoder, and (weights, how many such) of the U-Net's blocks."""

    unet: int
    text: tuple[int, ...]
    blocks: tuple[tuple[int, int], ...]


PACKED = {
    "sd15": Packed(
        857_006_080,
        (84_934_656,),
        (
            *((49_152_000, 5), (40_960_000, 1), (31_457_280, 6), (31_129_600, 5), (24_576_000, 1), (16_793_600, 1)),
            *((12_697_600, 1), (10_649_600, 1), (8_355_840, 5), (8_192_000, 1), (6_553_600, 1), (4_403_200, 1)),
            *((3_379_200, 2), (2_334_720, 5), (2_252_800, 2)),
        ),
    ),
    "sdxl": Packed(
        2_558_566_400,
        (84_934_656, 629_145_600),
        (
            *((49_152_000, 2), (40_960_000, 1), (34_734_080, 60), (31_129_600, 3), (24_576_000, 1), (16_793_600, 1)),
            *((12_697_600, 1), (10_649_600, 1), (9_994_240, 10), (8_192_000, 1), (6_553_600, 1), (4_403_200, 1)),
            *((3_379_200, 2), (2_252_800, 2)),
        ),
    ),
}
"""By family."""
POCKET = Packed(
    4_102_656,
    (331_776,),
    (
        *((206_080, 1), (193_280, 2), (145_408, 2), (135_680, 1), (135_168, 3), (129_280, 1), (122_880, 5)),
        *((114_688, 1), (104_448, 1), (90_112, 3), (79_872, 10), (48_128, 1), (37_888, 3), (26_624, 3), (21_504, 1)),
    ),
)
"""Of the model that comes with Likeness."""
BYTES = {"fp8": 1.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}
"""A small weight, with its share of the scales; those of int8 are one to an output, too few to count."""


def blocks_of(family: str) -> int:
    """Blocks of a family's U-Net that `memory.swap` can take."""
    return sum(count for _, count in PACKED[family].blocks)


def saved(config: Config, family: str, bytes_each: int) -> tuple[int, list[int]]:
    """Bytes that `memory` keeps off the device: of the U-Net, and of each text encoder."""
    memory = config.memory
    packed = POCKET if config.model.base == "pocket" else PACKED[family]
    small = BYTES.get(memory.base_weights, float(bytes_each))
    sizes = [size for size, count in packed.blocks for _ in range(count)]
    waiting = small * sum(sizes[: memory.swap])
    less = bytes_each - small
    return int(less * packed.unet + waiting), [int(less * text) for text in packed.text]
