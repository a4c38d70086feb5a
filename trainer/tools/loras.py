"""LoRA files, whichever program wrote them: their layers under the names of kohya, their numbers when asked for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.config.embedding import BUNDLE
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.detect import detect
from trainer.families.header import ModelError
from trainer.networks.keys import PARTS, family_of
from trainer.tools.checkpoints import known_names, spots
from trainer.tools.tensors import Later, Tensors, existing, read_file

DOWN = {
    ".lora_down.weight": ".lora_up.weight", ".lora_A.weight": ".lora_B.weight",
    ".lora_A.default.weight": ".lora_B.default.weight",
    ".lora.down.weight": ".lora.up.weight", ".lora_linear_layer.down.weight": ".lora_linear_layer.up.weight",
    "_lora.down.weight": "_lora.up.weight",
}  # fmt: skip
"""How the narrow matrix that reads is called, and the one that writes: kohya, peft, diffusers now and before."""
DORA = (
    ".dora_scale",
    ".lora_magnitude_vector",
    ".lora_magnitude_vector.weight",
    ".lora_magnitude_vector.default.weight",
)
FOREIGN = {
    r"\.hada_": "LoHa", r"\.lokr_": "LoKr", r"\.oft_": "OFT", r"\.on_input$": "(IA)3", r"\.a1\.weight$": "GLoRA",
    r"\.(diff|diff_b|w_norm|b_norm)$": "set of whole differences",
}  # fmt: skip
"""Kinds of LyCORIS that are no product of two matrices, by their names."""
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
DIFFUSERS_CONFIG = "lora_adapter_metadata"
PEFT = "base_model.model."
# Old diffusers names end in `attn1.processor.to_q_lora`, `to_out_lora` for to_out.0.
_PROCESSOR = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)$")


@dataclass(frozen=True)
class Layer:
    """One layer of a file. alpha is the rank where the file has none."""

    name: str
    """As the file has it."""
    down: Later  # [rank, in] or [rank, in, kh, kw]; with mid [rank, in, 1, 1]
    up: Later  # [out, rank] or [out, rank, 1, 1]
    mid: Later | None  # Tucker's core [rank, rank, kh, kw]
    dora: Later | None  # the norms of W' by row [out, ...] or column [1, in, ...]
    alpha: float
    has_alpha: bool

    @property
    def rank(self) -> int:
        """Rows of down."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that it changes."""
        fan_in = self.down.shape[1:2] + (self.mid.shape[2:] if self.mid else self.down.shape[2:])
        return (self.up.shape[0], *fan_in)

    @property
    def is_conv(self) -> bool:
        """Whether it changes a convolution of more than one pixel."""
        return any(side > 1 for side in self.shape[2:])

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it can change a weight of a shape; a 1x1 convolution's is as good as a linear layer's."""
        one, other = (sides[:2] if all(side == 1 for side in sides[2:]) else sides for sides in (self.shape, shape))
        return one == other

    @property
    def by_row(self) -> bool:
        """Whether DoRA's norms are those of rows, as peft has them; LyCORIS once took those of columns."""
        return self.dora is not None and self.dora.shape[0] == self.shape[0]

    def wide(self) -> Tensor:
        """Up [out, rank], float32."""
        return self.up.detach().float().flatten(1)

    def narrow(self) -> Tensor:
        """Down [rank, fan in], float32; a Tucker core is multiplied in."""
        down = self.down.detach().float()
        if self.mid:
            down = torch.einsum("pqhw,qi->pihw", self.mid.detach().float(), down.flatten(1))
        return down.flatten(1)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Both: up [out, rank] and down [rank, fan in]."""
        return self.wide(), self.narrow()

    def sound(self, option: str, numbers: Tensor) -> Tensor:
        """The numbers; InputError that names the option they came from when some are NaN or infinite."""
        if not numbers.isfinite().all():
            raise InputError(f"{option}: {self.name} holds NaN or infinity; the file is broken, take another")
        return numbers

    def change(self) -> Tensor:
        """What it adds to the weight at strength 1, float32."""
        up, down = self.factors()
        return self.sound("models", (up @ down) * (self.alpha / self.rank)).view(self.shape)

    def applied(self, weight: Tensor, strength: float) -> Tensor:
        """The weight with the change at a strength, float32.

        DoRA (Liu et al. 2024, arXiv 2402.09353, eq. 5) sets the norms of the changed weight; at other strengths than 1
        that share of the way there is gone, as ComfyUI does.
        """
        weight = weight.float()
        changed = self.change().view(weight.shape)  # a 1x1 convolution in the one may be linear in the other
        if self.dora is None:
            return weight.add(changed, alpha=strength)
        changed += weight
        kept = 0 if self.by_row else 1
        others = [axis for axis in range(weight.ndim) if axis != kept]
        norms = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
        changed *= self.dora.detach().float().view(norms.shape) / norms
        return torch.lerp(weight, changed, strength)


class LoraFile:
    """A LoRA: layers by kohya name (or by their own, where that is no module of the family), and what is left over.

    `words` are the vectors of new words that it brings along, as they are.
    """

    def __init__(self, option: str, text: str, family: str = "auto") -> None:
        self.path = existing(option, text)
        self.tensors, self.metadata, self.alphas = _read(option, self.path)
        if kinds := foreign(self.tensors):
            raise InputError(f"{option}: {self.path} is a {kinds[0]}; only LoRA, LoCon and DoRA files can be used here")
        found, left = self._layers(option)
        self.words = {key: tensor for key, tensor in self.tensors.items() if key.startswith(f"{BUNDLE}.")}
        self.unknown = [key for key in left if key not in self.words]
        if not found:
            raise InputError(f"{option}: {self.path} is no LoRA: {what_is(self.path)}; choose a LoRA")
        self.family = self._family(found) if family == "auto" else family
        names = known_names(self.family)
        self.layers: dict[str, Layer] = {}
        for name, layer in found.items():
            known = names.get(name, name)
            if known in self.layers:
                raise InputError(f"{option}: {self.path} holds {known} twice; it is damaged, choose another")
            self.layers[known] = layer

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{self.path.name}, a LoRA for {FAMILIES[self.family].title}"

    @property
    def strange(self) -> list[str]:
        """Names of layers that are no module of the family."""
        return [name for name in self.layers if name not in spots(self.family)]

    @property
    def ranks(self) -> list[int]:
        """The ranks that occur, smallest first."""
        return sorted({layer.rank for layer in self.layers.values()})

    def wordless(self) -> list[str]:
        """A line about the new words that what is made of it cannot hold, if it brings any."""
        names = ", ".join(dict.fromkeys(key.split(".")[1] for key in self.words))
        return [f"The vectors of {names}, which {self.path.name} brings along, are left out."] if names else []

    def refuse_dora(self, option: str, what: str) -> None:
        """InputError when a layer is DoRA's, which no sum of matrices can hold."""
        if name := next((name for name, layer in self.layers.items() if layer.dora), None):
            raise InputError(
                f"{option}: {self.path} is a DoRA ({name}); it cannot be {what}, for its norms belong to one base"
                " model. Merge it into a checkpoint, and extract a LoRA from that"
            )

    def _layers(self, option: str) -> tuple[dict[str, Layer], list[str]]:
        """Layers by their dotted or flat names, and keys that belong to none."""
        layers: dict[str, Layer] = {}
        used: set[str] = set()
        for key, down in self.tensors.items():
            end = next((end for end in DOWN if key.endswith(end)), None)
            if end is None:
                continue
            stem = key.removesuffix(end)
            up_key, mid_key, alpha_key = stem + DOWN[end], f"{stem}.lora_mid.weight", f"{stem}.alpha"
            up, mid, alpha = (self.tensors.get(name) for name in (up_key, mid_key, alpha_key))
            dora_key = next((stem + mark for mark in DORA if stem + mark in self.tensors), None)
            name = _plain(stem)
            if up is None:
                raise InputError(f"{option}: {self.path}: {key} has no {DOWN[end]} beside it; the file is damaged")
            if (
                len(up.shape) != len(down.shape)
                or len(down.shape) not in (2, 4)
                or not (mid or up.shape[1] == down.shape[0])
            ):
                raise InputError(
                    f"{option}: {self.path}: {stem} holds {list(up.shape)} x {list(down.shape)}, which do not fit each"
                    " other; the file is damaged"
                )
            if 0 in (*up.shape, *down.shape):
                raise InputError(f"{option}: {self.path}: {stem} is empty; the file is damaged")
            if mid and (mid.shape[:2] != (up.shape[1], down.shape[0]) or len(mid.shape) != 4):
                raise InputError(f"{option}: {self.path}: {mid_key} is {list(mid.shape)}; the file is damaged")
            number = float(alpha.detach().flatten()[0]) if alpha and alpha.nbytes else self.alphas.get(name)
            if number is not None and not math.isfinite(number):
                raise InputError(f"{option}: {self.path}: {alpha_key} is {number}; the file is damaged")
            layers[name] = Layer(
                stem, down, up, mid, _norms(self.tensors[dora_key], up, down, dora_key) if dora_key else None,
                float(down.shape[0]) if number is None else number, number is not None,
            )  # fmt: skip
            used |= {key, up_key, mid_key, alpha_key, *([dora_key] if dora_key else [])}
        return layers, [key for key in self.tensors if key not in used]

    def _family(self, names: Iterable[str]) -> str:
        """By names that only one family has, then by the metadata, then by which knows more of them."""
        names = list(names)
        if told := family_of(names):
            return told
        version = self.metadata.get("ss_base_model_version", "")
        if version.startswith("sd"):
            return "sdxl" if version.startswith("sdxl") else "sd15"
        return max(FAMILIES, key=lambda family: sum(name in known_names(family) for name in names))


def _norms(scale: Later, up: Later, down: Later, key: str) -> Later:
    """DoRA's norms in a shape that multiplies the weight: [out, 1, ...] by row, [1, in, ...] by column."""
    ones = (1,) * (len(down.shape) - 1)
    by_row = "magnitude" in key or scale.shape[:1] == up.shape[:1]
    shape = (up.shape[0], *ones) if by_row else (1, down.shape[1], *ones[1:])
    return scale.then(lambda tensor: tensor.reshape(shape), shape)


def foreign(names: Iterable[str]) -> list[str]:
    """The kinds of LyCORIS that occur among names, which are not handled here."""
    text = "\n".join(names)
    return [kind for mark, kind in FOREIGN.items() if re.search(mark, text, re.MULTILINE)]


def what_is(path: Path) -> str:
    """What a file is that is no LoRA, in words."""
    try:
        return f"it is {detect(path).title}, a base model"
    except ModelError as error:
        return f"it {error.what}"


def _plain(stem: str) -> str:
    """A layer's name without the marks of the program that wrote it: flat as kohya has it, or a dotted path."""
    stem = _PROCESSOR.sub(lambda found: f".{found[1]}" + (".0" if found[1] == "to_out" else ""), stem)
    part, dot, path = stem.partition(".")
    if part in ("text_encoder", "text_encoder_2") and dot:
        path = "text_model." + path.removeprefix("text_model.")
        for old, new in {".to_q": ".q_proj", ".to_k": ".k_proj", ".to_v": ".v_proj", ".to_out": ".out_proj"}.items():
            path = path.removesuffix(old) + new if path.endswith(old) else path
        return f"{part}.{path}"
    return stem


def _read(option: str, path: Path) -> tuple[dict[str, Later], dict[str, str], dict[str, float]]:
    """A LoRA's tensors, metadata, and the alphas that lie beside them; peft's folders as one file of diffusers'."""
    if path.is_file():
        tensors, metadata = read_file(path)
        if any(key.startswith(PEFT) for key in tensors):
            path = path.parent
        else:
            return tensors, metadata, _alphas(_json(metadata.get(DIFFUSERS_CONFIG)), tensors)
    parts = {
        name: path / name for name in ("unet", "text_encoder", "text_encoder_2") if (path / name / ADAPTER).is_file()
    }
    if not parts and (path / ADAPTER).is_file():
        names = "".join(read_file(path / ADAPTER)[0])
        parts = {"text_encoder" if ".encoder.layers." in names else "unet": path}
        if path.name in PARTS:
            parts = {path.name: path}
    if not parts:
        raise InputError(f"{option}: {path} is a folder without {ADAPTER}; choose a LoRA file, or a folder of peft")
    tensors, metadata, config = dict[str, Later](), dict[str, str](), dict[str, Any]()
    for part, folder in parts.items():
        held, told = read_file(folder / ADAPTER)
        metadata |= told
        tensors |= {f"{part}.{key.removeprefix(PEFT)}": tensor for key, tensor in held.items()}
        file = folder / ADAPTER_CONFIG
        config |= {
            f"{part}.{key}": value for key, value in _json(file.read_text("utf-8") if file.is_file() else None).items()
        }
    return tensors, metadata, _alphas(config, tensors)


def _json(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _alphas(config: dict[str, Any], tensors: Tensors) -> dict[str, float]:
    """The alpha of each layer by its plain name, out of peft's configuration: one for all, and exceptions."""
    found: dict[str, float] = {}
    for key in tensors:
        end = next((end for end in DOWN if key.endswith(end)), None)
        if end is None:
            continue
        name = _plain(key.removesuffix(end))
        part, _, path = name.partition(".")
        pattern = config.get(f"{part}.alpha_pattern") or {}
        path = path.removeprefix("text_model.") if path not in pattern else path
        alpha = pattern.get(path, config.get(f"{part}.lora_alpha")) if isinstance(pattern, dict) else None
        if isinstance(alpha, int | float):
            found[name] = float(alpha) * (tensors[key].shape[0] ** 0.5 if config.get(f"{part}.use_rslora") else 1.0)
    return found
