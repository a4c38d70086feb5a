"""Opens a base model and puts it on the device, one tensor at a time: memory never holds much more than the model.

A tensor goes straight to its device in its precision, so there is no option for little memory (kohya's lowram).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.initialization import no_init_weights

from trainer.config import Captions, Model
from trainer.families import family_class
from trainer.families.base import Family
from trainer.families.detect import Detected, detect, settle
from trainer.families.files import Tensors, open_tensors
from trainer.families.find import find_base
from trainer.families.header import ModelError
from trainer.families.latent import Part, Say, Settings
from trainer.layout import VAE, from_original, vae_keys

SHIPPED = Path(__file__).parent / "shipped"
Place = tuple[torch.device, torch.dtype]
"""Where a part goes, and its precision."""

# What real files hold beside the model: noise tables, counters, EMA twins, training losses, markers.
_EXTRAS = re.compile(
    r"(betas|alphas_cumprod|sqrt_\w+|log_one_minus\w+|posterior_\w+|logvar|lvlb_weights|v_pred|ztsnr|model_ema\..*|"
    r"denoiser\.\w+|.*\.position_ids|.*\.logit_scale|first_stage_model\.(loss|model_ema)\..*|.*\.text_projection(\.weight)?)"
)
# Merges made from NovelAI's model lack this level of names.
_NO_TEXT_MODEL = re.compile(r"^(cond_stage_model\.transformer\.)(?=embeddings\.|encoder\.|final_layer_norm\.)")

# What diffusers called a VAE's attention until 2023; the VAEs that everyone shares are from before.
_OLD_VAE = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def load(model: Model, device: torch.device, dtype: torch.dtype, text: Captions, say: Say) -> Family:
    """A base model, frozen, on a device in a precision; ModelError when the file cannot be used."""
    path = find_base(model.base, say)
    found = settle(detect(path), model)
    say(f"{path.name} is {found.title}: {'; '.join(found.reasons)}.")
    if model.clip_skip and found.family == "sdxl":
        say("model.clip_skip is for SD1.5 and is not used: SDXL always reads the layer before the last.")
    kind = family_class(found.family)
    layout: dict[str, Part] = {name: part for name, part in kind.LAYOUT.items() if not (model.vae and name == "vae")}
    configs = {name: _config(path, found, name) for name in kind.LAYOUT}
    dtypes = dict.fromkeys(kind.LAYOUT, dtype)
    if model.vae_precision == "fp32":
        dtypes["vae"] = torch.float32
    if found.layout == "diffusers":
        modules = {name: _from_folder(path, name, part, dtypes[name]) for name, part in layout.items()}
    else:
        modules = _from_file(path, layout, configs, {name: (device, dtypes[name]) for name in layout}, say)
    if model.vae:
        modules["vae"] = _separate_vae(model.vae, kind.LAYOUT["vae"], configs["vae"], (device, dtypes["vae"]))
    for module in modules.values():
        module.to(device).eval().requires_grad_(False)
    vae: Any = modules["vae"]
    if model.vae_slicing:
        vae.enable_slicing()
    if model.vae_tiling:
        vae.enable_tiling()
    settings = Settings(found.prediction, found.zero_terminal_snr, model.clip_skip, text.max_tokens, text.weighted, say)
    return kind(modules, settings)


def _config(path: Path, found: Detected, part: str) -> dict[str, Any]:
    """The family's own configuration of a part, with what the file's header says otherwise."""
    shipped = json.loads((SHIPPED / found.family / part / "config.json").read_text("utf-8"))
    own = found.config.get(part, {})
    # A stranger's file may change sizes, and not what the libraries do: some options of theirs fetch code.
    if unknown := [name[:40] for name in own if name not in shipped]:
        raise ModelError(path, f"carries a configuration of {part} with unknown names {unknown[:5]}", "Do not use it.")
    return {**shipped, **own}


def _from_file(
    path: Path,
    layout: Mapping[str, Part],
    configs: Mapping[str, Mapping[str, Any]],
    places: Mapping[str, Place],
    say: Say,
) -> dict[str, nn.Module]:
    """The modules out of a single file in the original layout."""
    tensors = _Renamed(open_tensors(path), partial(_NO_TEXT_MODEL.sub, r"\1text_model."))
    used: set[str] = set()
    modules = {}
    for name, part in layout.items():
        module = _empty(path, part, configs[name])
        keys = part.keys(module.state_dict())
        modules[name] = fill(path, module, keys, tensors, places[name])
        used.update(keys.values())
    left = [name for name in tensors if name not in used and not _EXTRAS.fullmatch(name)]
    left = left if "vae" in layout else [name for name in left if not name.startswith(VAE)]
    if left:
        some = ", ".join(repr(name[:80]) for name in left[:5])
        say(f"{len(left)} tensors of {path.name} are no part of the model and are left out: {some}.")
    return modules


def fill(
    path: Path,
    module: nn.Module,
    keys: Mapping[str, str],
    tensors: Tensors,
    place: Place,
) -> nn.Module:
    """Gives every parameter of an empty module its tensor, cast as it is read; `keys` says where each one lies."""
    device, dtype = place
    missing = sorted({key for key in keys.values() if key not in tensors})
    if missing:
        vae = all(key.startswith(VAE) for key in missing)
        remedy = "Give a separate VAE (model.vae)." if vae else "Choose a file with the whole model."
        raise ModelError(path, f"lacks {len(missing)} tensors, such as {', '.join(missing[:3])}", remedy)
    state: dict[str, Tensor] = {}
    for name, empty in module.state_dict().items():
        tensor = from_original(name, keys[name], tensors[keys[name]])
        if tensor.shape != empty.shape:
            raise ModelError(
                path,
                f"holds {keys[name]} of shape {list(tensor.shape)} where {list(empty.shape)} belongs",
                "It is a model of another size or kind; choose an SD1.5 or SDXL base model.",
            )
        state[name] = tensor.to(device, dtype)
    module.load_state_dict(state, assign=True)
    return module


def _empty(path: Path, part: Part, config: Mapping[str, Any]) -> nn.Module:
    """A module without memory for its parameters; buffers are real, for no file holds them."""
    try:
        with init_empty_weights(include_buffers=False), no_init_weights():  # drawing values for nothing takes a while
            return part.build(config)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        reason = f"carries a configuration that makes no model ({str(error)[:200]})"
        raise ModelError(path, reason, "Download it again.") from None


def _from_folder(path: Path, name: str, part: Part, dtype: torch.dtype) -> nn.Module:
    """One module of a diffusers folder, from the half-precision files where there are no others."""
    try:
        files = [file.name for file in (path / name).iterdir() if file.suffix in (".safetensors", ".bin")]
        variant = "fp16" if files and all(".fp16." in file for file in files) else None
        module, report = part.kind.from_pretrained(
            path, subfolder=name, variant=variant, torch_dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(path / name, f"cannot be loaded ({reason})", "Download the folder again.") from None
    if missing := sorted(report["missing_keys"]):  # both libraries would go on with random numbers in these
        raise ModelError(
            path / name, f"lacks {len(missing)} tensors, such as {', '.join(missing[:3])}", "Download the folder again."
        )
    return module


def _separate_vae(name: str, part: Part, config: Mapping[str, Any], place: Place) -> nn.Module:
    """A VAE of its own: a diffusers folder, or a file in the original or the diffusers layout, prefixed or not."""
    path = Path(name).expanduser()
    if not path.exists():
        raise ModelError(name, "does not exist", "Give the path of a VAE file or folder, or leave model.vae empty.")
    if path.is_dir():
        inner = "vae" if (path / "vae").is_dir() else "."
        return _from_folder(path, inner, part, place[1])
    tensors = _Renamed(open_tensors(path), _vae_name)
    module = _empty(path, part, config)
    names = module.state_dict()
    as_diffusers = "encoder.down_blocks.0.resnets.0.conv1.weight" in tensors
    keys = {name: name for name in names} if as_diffusers else vae_keys(names, prefix="")
    return fill(path, module, keys, tensors, place)


def _vae_name(name: str) -> str:
    """A VAE tensor's name without prefix, and with the attention's present names."""
    name = name.removeprefix(VAE).removeprefix("vae.")
    return next((name.replace(old, new) for old, new in _OLD_VAE.items() if old in name), name)


class _Renamed(Tensors):
    """A file's tensors under mended names."""

    def __init__(self, tensors: Tensors, rename: Callable[[str], str]) -> None:
        self.tensors = tensors
        self.names = {rename(name): name for name in tensors}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.names[name]]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
