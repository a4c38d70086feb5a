"""Files of embeddings: read whoever wrote them, and named as A1111, ComfyUI and diffusers read them.

A file of its own holds one word, `emb_params` for SD1.5, `clip_l` and `clip_g` for SDXL, and prompts call it by the
file's name. Inside a LoRA it is `bundle_emb.<word>.string_to_param.*`, or `bundle_emb.<word>.clip_l` and `.clip_g`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from trainer.config.embedding import BUNDLE, called
from trainer.errors import InputError

KEYS = {
    "sd15": {"text_encoder": "emb_params"},
    "sdxl": {"text_encoder": "clip_l", "text_encoder_2": "clip_g"},
}
"""Where a file of one word keeps the vectors for each text encoder."""
OLD = "string_to_param"
"""What A1111 calls the vectors for SD1.5, in its own files and inside a LoRA; before a `*` there."""


def bundled(word: str, key: str) -> str:
    """The name inside a LoRA of what a word's own file calls `key`."""
    return f"{BUNDLE}.{word}.{f'{OLD}.*' if key == 'emb_params' else key}"


def words_of(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The new words that a LoRA brings along: by word what its own file would hold."""
    words: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(f"{BUNDLE}."):
            _, word, own = key.split(".", 2)
            words.setdefault(word, {})["emb_params" if own.startswith(OLD) else own] = tensor
    return words


def files_of(name: str, tensors: Mapping[str, Tensor], where: str = "both") -> dict[str, dict[str, Tensor]]:
    """The files that a network is saved as, by name: `zk9.safetensors`, and one for each new word.

    A LoRA takes its words along, so that one file is enough where this is known, and they lie beside it too; `where`
    can be `bundled` for the former alone, and `apart` for the latter. One word by itself has the name, as in the Kohya
    GUI; else its own stands behind: `zk9_hat.safetensors`, `zk9_hat-000001.safetensors`.
    """
    words = words_of(tensors)
    layers = {key: tensor for key, tensor in tensors.items() if not key.startswith(f"{BUNDLE}.")}
    if not layers and len(words) == 1:
        return {name: next(iter(words.values()))}
    beside = {called(name, word): own for word, own in words.items()}
    if not layers:
        return beside
    return {name: layers if where == "apart" else dict(tensors), **({} if where == "bundled" else beside)}


def read_bundled(path: Path, word: str) -> dict[str, Tensor]:
    """The vectors [n, width] of a word that a LoRA's file brings along, by their names; InputError without them."""
    try:
        with safe_open(path, "pt") as file:
            own = [key for key in file.keys() if key.startswith(f"{BUNDLE}.")]  # noqa: SIM118 (no dict)
            words = words_of({key: file.get_tensor(key) for key in own})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}); choose another LoRA") from error
    found = next((held for name, held in words.items() if name.lower() == word.lower()), None)
    if found is None:
        raise InputError(f"{path} brings no vectors for {word}; choose the LoRA that was trained with it")
    return {key: tensor.reshape(-1, tensor.shape[-1]) for key, tensor in found.items()}


def read_embedding(path: Path) -> dict[str, Tensor]:
    """The vectors [n, width] in a file by their names, in whichever form; InputError when it cannot be read."""
    try:
        try:
            held: Mapping[str, Any] = load_file(path)
        except SafetensorError:  # torch's list of harmless types alone is let through
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or broken pickle can fail in any way
        raise InputError(f"{path} is a damaged or unsafe embedding ({type(error).__name__}); move it away") from error
    found: dict[str, Tensor] = {}
    for key, value in held.items() if isinstance(held, Mapping) else ():
        if isinstance(value, Mapping):  # A1111's string_to_param: {"*": vectors}
            value = next(iter(value.values()), None)
        if isinstance(value, Tensor) and value.ndim in (1, 2):
            found[str(key)] = value.detach().reshape(-1, value.shape[-1])
    return found
