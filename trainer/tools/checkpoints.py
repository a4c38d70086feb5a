"""Base models on the disk, tensor by tensor: a single file or a diffusers folder, seen under the names of either."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.families import family_class
from trainer.families.detect import CONFIG_KEY, Detected, detect
from trainer.families.header import ModelError
from trainer.families.loading import SHIPPED
from trainer.layout import SD15_TEXT, SDXL_TEXT_2, from_original, text_keys, to_original
from trainer.networks.keys import PARTS, kohya_name, other_names, targets
from trainer.tools.tensors import Later, Tensors, cast, existing, read_file

Change = Callable[[Tensor], Tensor]
Place = tuple[str, str]
"""A parameter: the model's part, and its name there."""

FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}  # the text encoders' are called model
OLD_VAE = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
NO_TEXT_MODEL = SD15_TEXT.removesuffix("text_model.")
EMA = "model_ema."  # twins of the weights, as a training kept them
LOGIT_SCALE = f"{SDXL_TEXT_2}logit_scale"


class Spot(NamedTuple):
    """A module that a LoRA can change: where it is, the shape of its weight, and whether a plain LoRA changes it."""

    part: str
    path: str
    shape: tuple[int, ...]
    kind: str
    """lora: inside attention; locon: what LoCon adds; other: what neither changes."""


Config = Mapping[str, Mapping[str, Any]]


@cache
def skeletons(family: str, config: str) -> dict[str, nn.Module]:
    """The modules of a family without any numbers; config: JSON of what departs from its own configuration, by part."""
    told: Config = json.loads(config)
    made: dict[str, nn.Module] = {}
    for name, part in family_class(family).LAYOUT.items():
        own = json.loads((SHIPPED / family / name / "config.json").read_text("utf-8"))
        with torch.device("meta"):
            made[name] = part.build({**own, **told.get(name, {})})
    return made


@cache
def spots(family: str, config: str = "{}") -> dict[str, Spot]:
    """Every linear layer and convolution of the U-Net and text encoders, by kohya name, in a LoRA file's order."""
    found: dict[str, Spot] = {}
    modules = skeletons(family, config)
    for part in (part for part in PARTS if part in modules):
        kinds = {path: "locon" for path, _ in targets(modules[part], conv=True)}
        kinds |= {path: "lora" for path, _ in targets(modules[part], conv=False)}
        for path, module in modules[part].named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and "text_projection" not in path:
                name = kohya_name(family, part, path)
                found[name] = Spot(part, path, tuple(module.weight.shape), kinds.get(path, "other"))
    return found


@cache
def known_names(family: str, config: str = "{}") -> dict[str, str]:
    """The kohya name for every name that some tool gives a module of the family."""
    found = {name: name for name in spots(family, config)}
    for name, spot in spots(family, config).items():
        for other in other_names(family, spot.part, spot.path):
            found.setdefault(other, name)
    return found


class Checkpoint:
    """A base model, whichever way it lies on the disk; nothing is read before it is asked for."""

    def __init__(self, option: str, text: str) -> None:
        self.path = existing(option, text)
        self.found: Detected = detect(self.path)
        self.family = self.found.family
        self.metadata: dict[str, str] = {}
        self.layout = family_class(self.family).LAYOUT
        if self.found.layout == "original":
            self.stored, self.metadata = read_file(self.path)
            told = {part: dict(values) for part, values in self.found.config.items() if part in self.layout}
            self.config = json.dumps(told, sort_keys=True)
        else:
            self.config = json.dumps({name: self._config(name) for name in self.layout}, sort_keys=True)
        self._refuse_strange_options()
        try:
            modules = skeletons(self.family, self.config)
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            reason = f"carries a configuration that makes no model ({str(error)[:200]})"
            raise ModelError(self.path, reason, "Download it again.") from None
        states = {name: module.state_dict() for name, module in modules.items()}
        self.shapes = {
            (part, name): tuple(tensor.shape) for part, state in states.items() for name, tensor in state.items()
        }
        self.keys = {(part, name): key for part in self.layout for name, key in self._keys(part, states[part]).items()}
        self.places: dict[str, list[Place]] = {}
        for place, key in self.keys.items():
            self.places.setdefault(key, []).append(place)
        self.parameters = self._from_folder() if self.found.layout == "diffusers" else self._from_file()
        self._check()

    def header(self) -> dict[str, str]:
        """What a single file must carry when its model has another size than its family's: its configuration."""
        usual = {
            (part, name): tuple(tensor.shape)
            for part, module in skeletons(self.family, "{}").items()
            for name, tensor in module.state_dict().items()
        }
        if self.shapes == usual:
            return {}
        return {CONFIG_KEY: json.dumps({"family": self.family, **json.loads(self.config)})}

    @property
    def spots(self) -> dict[str, Spot]:
        """The modules that a LoRA can change, by kohya name."""
        return spots(self.family, self.config)

    def weight(self, spot: Spot) -> Later:
        """The weight of a module, in the layout of diffusers and transformers."""
        return self.parameters[spot.part, f"{spot.path}.weight"]

    def originals(self, precision: str, changes: Mapping[Place, Change] | None = None) -> dict[str, Later]:
        """Everything under the names of the original layout in a precision, some parameters changed on the way.

        A file's other tensors stay as they are, noise tables among them; a folder has none, and gets the `logit_scale`
        that readers of SDXL expect.
        """
        changes = changes or {}
        out = dict(self.stored) if self.found.layout == "original" else {}
        for key, places in self.places.items():
            if key not in out or any(place in changes for place in places):
                make = partial(self._original, key, places, changes)
                out[key] = Later(self.parameters[places[0]].dtype, self._shape(key, places), make, key)
        if self.family == "sdxl" and self.found.layout == "diffusers":
            dtype = self.parameters[self.places[f"{SDXL_TEXT_2}text_projection"][0]].dtype
            out[LOGIT_SCALE] = Later(dtype, (), lambda: torch.tensor(math.log(100)), LOGIT_SCALE)
        weights = {key for key in out if key in self.places or key == LOGIT_SCALE or key.startswith(EMA)}
        return out | cast({key: out[key] for key in weights}, precision)

    def _original(self, key: str, places: list[Place], changes: Mapping[Place, Change]) -> Tensor:
        """One tensor of the original layout; query, key and value of OpenCLIP are one there."""
        state = {}
        for place in places:
            tensor = self.parameters[place].detach()
            state[place[1]] = changes[place](tensor) if place in changes else tensor
        wide = max((tensor.dtype for tensor in state.values()), key=lambda dtype: dtype.itemsize)
        return to_original({name: tensor.to(wide) for name, tensor in state.items()}, {name: key for name in state})[
            key
        ]

    def _shape(self, key: str, places: list[Place]) -> tuple[int, ...]:
        empty = {place[1]: torch.empty(self.shapes[place], device="meta") for place in places}
        return tuple(to_original(empty, {name: key for name in empty})[key].shape)

    def _keys(self, part: str, state: Mapping[str, object]) -> dict[str, str]:
        bare = f"{NO_TEXT_MODEL}embeddings.token_embedding.weight"  # merges made from NovelAI's model
        if part == "text_encoder" and self.found.layout == "original" and bare in self.stored:
            return text_keys(state, NO_TEXT_MODEL)
        return self.layout[part].keys(state)

    def _from_file(self) -> dict[Place, Later]:
        found: dict[Place, Later] = {}
        for place, key in self.keys.items():
            if key in self.stored:
                take = partial(from_original, place[1], key)
                found[place] = self.stored[key].then(take, self._taken(place, key))
        return found

    def _taken(self, place: Place, key: str) -> tuple[int, ...]:
        """The shape that a parameter has in the file."""
        return tuple(from_original(place[1], key, torch.empty(self.stored[key].shape, device="meta")).shape)

    def _from_folder(self) -> dict[Place, Later]:
        found: dict[Place, Later] = {}
        for part in self.layout:
            names = {name.removeprefix("text_model."): name for of, name in self.shapes if of == part}
            for name, tensor in self._stored_in(part).items():
                name = name.removeprefix("text_model.")
                name = next((name.replace(old, new) for old, new in OLD_VAE.items() if old in name), name)
                if name in names:
                    found[part, names[name]] = tensor
        return found

    def _stored_in(self, part: str) -> Tensors:
        """The tensors in a part's folder: safetensors before pickles, full precision before half, parts of one put
        together."""
        folder, stem = self.path / part, FILES.get(part, "model")
        for name in (stem, f"{stem}.fp16", f"{stem}-*-of-*", f"{stem}.fp16-*-of-*", f"{stem}-*-of-*.fp16"):
            if files := sorted(folder.glob(f"{name}.safetensors")):
                return {name: tensor for file in files for name, tensor in read_file(file)[0].items()}
        old = folder / ("diffusion_pytorch_model.bin" if part in FILES else "pytorch_model.bin")
        if old.exists():
            return read_file(old)[0]
        raise ModelError(folder, f"holds no {stem}.safetensors", "Download the folder again.")

    def _config(self, part: str) -> dict[str, Any]:
        """Where a folder departs from the family's configuration of a part, in what that speaks of too."""
        shipped = json.loads((SHIPPED / self.family / part / "config.json").read_text("utf-8"))
        try:
            own = json.loads((self.path / part / "config.json").read_text("utf-8"))
            kept = {name: value for name, value in own.items() if name in shipped and not name.startswith("_")}
            return {name: value for name, value in kept.items() if value != shipped[name]}
        except (OSError, ValueError, AttributeError) as error:
            raise ModelError(self.path / part, f"has no readable config.json ({error})", "Download it again.") from None

    def _refuse_strange_options(self) -> None:
        """A stranger's file may change sizes, and not what the libraries do: some options of theirs fetch code."""
        for part, told in json.loads(self.config).items():
            shipped = json.loads((SHIPPED / self.family / part / "config.json").read_text("utf-8"))
            if unknown := [name[:40] for name in told if name not in shipped]:
                reason = f"carries a configuration of {part} with unknown names {unknown[:5]}"
                raise ModelError(self.path, reason, "Do not use it.")

    def _check(self) -> None:
        missing = sorted(self.keys[place] for place in self.shapes if place not in self.parameters)
        if missing:
            raise ModelError(
                self.path,
                f"lacks {len(missing)} tensors, such as {', '.join(missing[:3])}",
                "Choose a file with the whole model.",
            )
        for place, shape in self.shapes.items():
            if (found := self.parameters[place].shape) != shape:
                raise ModelError(
                    self.path,
                    f"holds {self.keys[place]} of shape {list(found)} where {list(shape)} belongs",
                    "It is a model of another size or kind; choose an SD1.5 or SDXL base model.",
                )
