"""Where a base model is: the shipped one, a file, a diffusers folder, or a repository of the Hugging Face hub.

Works without torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from trainer.families.header import ModelError

POCKET = Path(__file__).parents[1] / "pocket" / "pocket.safetensors"
MOVED = {"runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
CONFIGS = ("model_index.json", "*/config.json", "scheduler/scheduler_config.json")
_UNET = "unet/diffusion_pytorch_model{}.safetensors"
_VAE = "vae/diffusion_pytorch_model{}.safetensors"
_WEIGHTS = (_UNET, _VAE, "text_encoder/model{}.safetensors", "text_encoder_2/model{}.safetensors")
_FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_base(base: str, say: Callable[[str], None], weights: bool = True) -> Path:
    """The file or folder of a base model; a hub's is downloaded, its configuration alone unless `weights`."""
    path = POCKET if base == "pocket" else Path(base).expanduser()
    if path.exists():
        return path
    if base == "pocket" or base.endswith(_FILES) or not _REPOSITORY.fullmatch(base):
        raise ModelError(base, "does not exist", "Give the path of a file or folder, or a hub id such as owner/name.")
    name = MOVED.get(base, base)
    if name != base:
        say(f"{base} has moved: taking {name}.")
    return _download(name, weights)


def _download(name: str, weights: bool) -> Path:
    """A repository's configuration, and its weights unless there are fp16 ones alone: then those. Never a pickle."""
    from huggingface_hub import snapshot_download

    folder = Path()
    try:
        for variant in ("", ".fp16") if weights else ("",):
            patterns = [*CONFIGS, *(file.format(variant) for file in _WEIGHTS if weights)]
            folder = Path(snapshot_download(name, allow_patterns=patterns))
            if (folder / _UNET.format(variant)).exists():
                break
    except Exception as error:  # httpx, OSError, and a dozen classes of the hub's own
        raise ModelError(
            name,
            f"is no file here, and cannot be fetched from the hub ({type(error).__name__})",
            "Check the name and the network, or download the model and give its path.",
        ) from None
    return folder
