"""The suite. Libraries are hushed before any test imports them, so that pytest's closing line comes last."""

from trainer.terminal import quiet

quiet()
