"""Model families: loaded, encoded and predicted with behind one seam. Importing this brings no torch; loading does."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from trainer.config import Captions, Model
    from trainer.families.base import Family
    from trainer.families.latent import Say

FAMILIES = {"sd15": "trainer.families.sd15:SD15", "sdxl": "trainer.families.sdxl:SDXL"}
"""Where each family's class is; the names are those of the schema."""


def family_class(name: str) -> Any:
    """The class of a family, imported when it is needed."""
    module, _, kind = FAMILIES[name].partition(":")
    return getattr(importlib.import_module(module), kind)


def load_family(model: Model, device: torch.device, dtype: torch.dtype, text: Captions, say: Say = print) -> Family:
    """A base model, frozen, on a device in a precision; ModelError when the file cannot be used."""
    from trainer.families.loading import load

    return load(model, device, dtype, text, say)
