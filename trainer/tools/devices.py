"""Where matrices are decomposed."""

from __future__ import annotations

import torch

from trainer.errors import InputError


def device_of(word: str) -> torch.device:
    """The device that an option asks for; InputError when this machine has none. Apple's has no such decomposition."""
    there = torch.cuda.is_available()
    if word == "cuda" and not there:
        raise InputError("device: cuda is not available here; set it to auto or cpu")
    return torch.device("cuda" if there and word != "cpu" else "cpu")
