"""Which layers a network of LyCORIS changes: its presets, and TOML filter files in its form. No torch."""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import Lycoris
from trainer.errors import InputError

Options = Mapping[str, Any]
ALGOS = ("lora", "locon", "loha", "lokr", "dylora", "glora", "full", "diag-oft", "boft", "ia3")
"""Words for `algo` in a filter file."""
SETTINGS = {
    **dict.fromkeys(("dim", "factor", "block_size"), int),
    **dict.fromkeys(("alpha", "constraint"), float),
    **dict.fromkeys(("use_tucker", "use_scalar", "weight_decompose", "rs_lora", "decompose_both"), bool),
    **dict.fromkeys(("full_matrix", "rescaled", "train_on_input", "bypass_mode"), bool),
}
"""What a filter file can set apart for some layers, and of which kind it is."""
OTHER_NAMES = {"CrossAttention": "Attention", "SelfAttention": "Attention", "CLIPSdpaAttention": "CLIPAttention"}
"""Classes that have another name in diffusers and transformers than where LyCORIS was written for."""


@dataclass(frozen=True)
class Filter:
    """Blocks by class and layers by name; names are those of sd-scripts, which are SGM's for SDXL's UNet."""

    conv: bool = True
    """Whether convolutions wider than one pixel are among them."""
    unet: tuple[str, ...] = ("Transformer2DModel", "ResnetBlock2D", "Downsample2D", "Upsample2D")
    names: tuple[str, ...] = ("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2")
    text: tuple[str, ...] = ("CLIPAttention", "CLIPMLP")
    text_names: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    globs: bool = False
    """Whether names are patterns of a shell; else they are regular expressions from the beginning of a name."""
    by_class: Mapping[str, Options] = field(default_factory=dict)
    """Options of their own for the layers of a class of blocks."""
    by_name: Mapping[str, Options] = field(default_factory=dict)
    """Options of their own for layers by name."""

    def fits(self, patterns: tuple[str, ...], name: str) -> bool:
        """Whether a name is meant."""
        return any(
            name == pattern or (fnmatch.fnmatchcase(name, pattern) if self.globs else bool(re.match(pattern, name)))
            for pattern in patterns
        )

    def named(self, name: str) -> Options:
        """Options of a layer by its name."""
        if name in self.by_name:
            return self.by_name[name]
        return next((own for pattern, own in self.by_name.items() if self.fits((pattern,), name)), {})


_TIME = ("time_embedding.linear_1", "time_embedding.linear_2")
FILTERS = {
    "full": Filter(),
    "full-lin": Filter(conv=False, unet=("Transformer2DModel", "ResnetBlock2D"), names=_TIME),
    "attn-mlp": Filter(conv=False, unet=("Transformer2DModel",), names=()),
    "attn-only": Filter(conv=False, unet=("Attention",), names=(), text=("CLIPAttention",)),
    "unet-transformer-only": Filter(conv=False, unet=("Transformer2DModel",), names=(), text=()),
    "unet-convblock-only": Filter(
        unet=("ResnetBlock2D", "Downsample2D", "Upsample2D"), names=("conv_in", "conv_out"), text=()
    ),
    "kohya": Filter(names=()),
}
"""LyCORIS's presets for Stable Diffusion (lycoris/config.py), and the layers of sd-scripts' own LoRA."""
KEYS = {
    "enable_conv": "conv", "unet_target_module": "unet", "unet_target_name": "names", "text_encoder_target_name":
    "text_names", "text_encoder_target_module": "text", "exclude_name": "exclude", "use_fnmatch": "globs",
    "module_algo_map": "by_class", "name_algo_map": "by_name",
}  # fmt: skip


def filter_of(options: Lycoris) -> Filter:
    """The layers that options ask for; InputError when their filter file cannot be used."""
    if options.filter:
        return read_filter(Path(options.filter))
    if options.preset == "kohya" and getattr(options, "conv_rank", None) is None:
        return FILTERS["attn-mlp"]
    return FILTERS[options.preset]


def read_filter(path: Path) -> Filter:
    """A filter file; what it leaves out is as in the preset `full`."""
    try:
        tree = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise InputError(f"network.filter: {path} cannot be read ({error}): give a TOML file of LyCORIS") from error
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            raise _wrong(path, key, f"is no key of a filter file{f'; did you mean {near[0]}?' if near else ''}")
        if key.endswith("_map"):
            rows = _table(path, key, value)
            values[KEYS[key]] = {OTHER_NAMES.get(name, name): _own(path, key, own) for name, own in rows}
        elif key in ("enable_conv", "use_fnmatch"):
            if not isinstance(value, bool):
                raise _wrong(path, key, f"is {value!r}: write true or false")
            values[KEYS[key]] = value
        else:
            if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
                raise _wrong(path, key, f"is {value!r}: write a list of texts")
            values[KEYS[key]] = tuple(OTHER_NAMES.get(word, word) for word in value)
    found = Filter(**values)
    _check_patterns(path, found)
    return found


def _table(path: Path, key: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise _wrong(path, key, f"is {value!r}: write a table such as [{key}.Attention]")
    return [*value.items()]


def _own(path: Path, key: str, own: Any) -> Options:
    """Options of some layers, checked."""
    for name, value in _table(path, key, own):
        if name == "algo":
            if value not in ALGOS:
                raise _wrong(path, f"{key}: algo", f"is {value!r}: write one of {', '.join(ALGOS)}")
        elif name not in SETTINGS:
            raise _wrong(path, f"{key}: {name}", f"is not known here: leave it out; {', '.join(SETTINGS)} are")
        elif type(value) is not SETTINGS[name] and not (SETTINGS[name] is float and type(value) is int):
            raise _wrong(path, f"{key}: {name}", f"is {value!r}: write a value such as {SETTINGS[name](1)!r}")
    return own


def _check_patterns(path: Path, found: Filter) -> None:
    for pattern in () if found.globs else (*found.names, *found.text_names, *found.exclude, *found.by_name):
        try:
            re.compile(pattern)
        except re.error as error:
            raise _wrong(path, pattern, f"is no regular expression ({error}): mend it, or set use_fnmatch") from error


def _wrong(path: Path, key: str, why: str) -> InputError:
    return InputError(f"network.filter: {path}: {key} {why}")
