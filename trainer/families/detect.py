"""Which family a base model belongs to and how it was trained, from names and shapes alone.

Works without torch, so the page can say what a file is while it is being chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from trainer.config import FamilyName, Model, Prediction
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.find import find_base
from trainer.families.header import ModelError, kind_of, pickle_names, read_header

CONFIG_KEY = "likeness_model"
SUPPORTED = "Choose an SD1.5 or SDXL base model"

_UNET = "model.diffusion_model."
_CONV_IN = f"{_UNET}input_blocks.0.0.weight"
# A tensor that reads the text states, and their width: [channels, width].
_READS_TEXT = {
    "sd15": (f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 768),
    "sdxl": (f"{_UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", 2048),
}
# Names (one to a line) by which files that are no base model of ours are known, the surest first.
_FOREIGN = (
    (r"\.lora_(up|down|A|B)\.|\.(hada_w1|lokr_w[12]|oft_blocks|lora_mid)", "is a LoRA, not a base model",
     "Choose the base model that it was made for; a LoRA to continue goes into the network's weights"),
    (r"^(emb_params|string_to_param|clip_l|clip_g)$", "is a textual inversion embedding", SUPPORTED),
    (r"^(control_model|controlnet_\w+|input_hint_block)\.", "is a ControlNet", SUPPORTED),
    (r"(^|\.)double_blocks\.\d+\.", "is Flux, or a model built like it", SUPPORTED),
    (r"(^|\.)joint_blocks\.\d+\.", "is Stable Diffusion 3", SUPPORTED),
    (r"^cond_stage_model\.model\.", "is Stable Diffusion 2", SUPPORTED),
    (r"^conditioner\.embedders\.0\.model\.", "is the SDXL refiner", "Choose the SDXL base model"),
    (r"^(edm_mean|edm_vpred\.\w+)$", "uses the EDM noise schedule (Playground v2.5, CosXL)", SUPPORTED),
)  # fmt: skip
_PARTS_ALONE = (
    (r"^down_blocks\.0\.", "is the U-Net of a diffusers folder", "Choose the folder that holds model_index.json"),
    (r"^(model\.diffusion_model\.)?(input_blocks|middle_block)\.", "is a U-Net without a text encoder",
     "Choose a file with the whole model"),
    (r"^(first_stage_model\.|vae\.)?(encoder|decoder)\.(conv_in|mid|down|up)", "is a VAE, not a base model",
     "Give it as the separate VAE, and choose a base model"),
    (r"(^|\.)(text_model|transformer\.resblocks)\.|^encoder\.layers\.", "is a text encoder",
     "Choose a file with the whole model"),
)  # fmt: skip
_PIPELINES = {
    "StableDiffusionPipeline": "sd15", "StableDiffusionImg2ImgPipeline": "sd15",
    "StableDiffusionXLPipeline": "sdxl", "StableDiffusionXLImg2ImgPipeline": "sdxl",
}  # fmt: skip
_FOREIGN_WIDTHS = {("sd15", "1024"): "is Stable Diffusion 2", ("sdxl", "1280"): "is the SDXL refiner"}


@dataclass(frozen=True)
class Detected:
    """What a base model is, and the signs by which it was told."""

    family: FamilyName
    layout: Literal["original", "diffusers"]
    prediction: Prediction = "epsilon"
    zero_terminal_snr: bool = False
    reasons: list[str] = field(default_factory=list)
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Where the file departs from its family's configuration, by part: from the header key `likeness_model`."""

    @property
    def title(self) -> str:
        """A line for people: "SDXL, v-prediction, zero terminal SNR"."""
        signs = ["v-prediction"] * (self.prediction == "v") + ["zero terminal SNR"] * self.zero_terminal_snr
        return ", ".join([FAMILIES[self.family].title, *signs])


def detect_base(model: Model) -> Detected:
    """What a config's base model is; of a hub's model the configuration is fetched, and no weights."""
    told: list[str] = []
    found = settle(detect(find_base(model.base, told.append, weights=False)), model)
    return replace(found, reasons=[*told, *found.reasons])


def settle(found: Detected, model: Model) -> Detected:
    """What was detected, where the config does not say otherwise; raises InputError when the family is another."""
    if model.family not in ("auto", found.family):
        raise InputError(
            f"model.family: {model.family}, but {model.base} is {FAMILIES[found.family].title}; set it to auto"
        )
    prediction = found.prediction if model.prediction == "auto" else model.prediction
    zero_snr = found.zero_terminal_snr if model.zero_terminal_snr is None else model.zero_terminal_snr
    signs = []
    if (prediction, zero_snr) != (found.prediction, found.zero_terminal_snr):
        signs.append(f"the config says prediction {prediction}, zero terminal SNR {'on' if zero_snr else 'off'}")
    if zero_snr and prediction == "epsilon":
        signs.append("zero terminal SNR is meant for v-prediction: predicting noise from pure noise teaches nothing")
    return replace(found, prediction=prediction, zero_terminal_snr=zero_snr, reasons=[*found.reasons, *signs])


def detect(path: str | Path) -> Detected:
    """The family of a single file or a diffusers folder; raises ModelError for anything that cannot be trained here."""
    path = Path(path)
    if path.is_dir():
        return _detect_folder(path)
    if kind_of(path) == "pickle":
        return classify(path, dict.fromkeys(pickle_names(path), ()), {})
    header = read_header(path)
    return classify(path, {name: entry.shape for name, entry in header.tensors.items()}, header.metadata)


def classify(path: Path, shapes: Mapping[str, Sequence[int]], metadata: Mapping[str, str]) -> Detected:
    """The family of a file from its tensors' shapes; an empty shape is one that is not known."""
    names = "\n".join(shapes)
    _refuse(path, names, _FOREIGN)
    sdxl, sd15 = "\nconditioner.embedders.1.model." in f"\n{names}", "cond_stage_model.transformer." in names
    if _CONV_IN not in shapes or not (sdxl or sd15):
        _refuse(path, names, _PARTS_ALONE)
        raise ModelError(path, f"holds no model that is known here ({_few(shapes)})", f"{SUPPORTED}.")
    family: FamilyName = "sdxl" if sdxl else "sd15"
    channels = [*shapes[_CONV_IN], 0, 4][1]
    if channels != 4:
        kind = {9: "an inpainting", 8: "an InstructPix2Pix", 5: "a depth"}.get(channels, "an unknown kind of")
        raise ModelError(path, f"is {kind} model: its U-Net takes {channels} channels, not 4", f"{SUPPORTED}.")
    config = _own_config(path, metadata, family)
    reader, width = _READS_TEXT[family]
    found = [*shapes.get(reader, ()), 0, width][1]
    if found != width and not config:
        raise ModelError(
            path,
            f"has the parts of {FAMILIES[family].title} but reads texts of width {found}, not {width}",
            f"{SUPPORTED}; a model of another size must carry its configuration in the header key {CONFIG_KEY}.",
        )
    text_encoder = "conditioner.embedders.1" if sdxl else "cond_stage_model.transformer"
    prediction, zero_snr, signs = _training(shapes, metadata)
    return Detected(family, "original", prediction, zero_snr, [f"it holds {text_encoder}", *signs], config)


def _refuse(path: Path, names: str, table: Sequence[tuple[str, str, str]]) -> None:
    for pattern, what, remedy in table:
        if re.search(pattern, names, re.MULTILINE):
            raise ModelError(path, what, f"{remedy}.")


def _few(names: Mapping[str, object]) -> str:
    """The first tensors of a file for a message, printable and short."""
    return "it begins with " + ", ".join(repr(name[:60]) for name in list(names)[:3]) if names else "it is empty"


def _own_config(path: Path, metadata: Mapping[str, str], family: FamilyName) -> Mapping[str, Mapping[str, Any]]:
    """The configuration that a file of ours carries: {"family": ..., "unet": {...}, "vae": {...}, ...}."""
    try:
        config = json.loads(metadata.get(CONFIG_KEY, "{}"))
    except (ValueError, RecursionError):
        config = None
    if type(config) is not dict or config.pop("family", family) != family:
        raise ModelError(path, f"has a damaged {CONFIG_KEY} in its header", "Download it again.")
    return {part: values for part, values in config.items() if type(values) is dict}


def _training(names: Mapping[str, object], metadata: Mapping[str, str]) -> tuple[Prediction, bool, list[str]]:
    """What the model predicts and whether its last timestep is pure noise, by marker tensors and then by metadata."""
    signs = [f"tensor {mark}" for mark in ("v_pred", "ztsnr") if mark in names]
    zero_snr = "ztsnr" in names or metadata.get("ss_zero_terminal_snr") == "True"
    if metadata.get("ss_zero_terminal_snr") == "True":
        signs.append("ss_zero_terminal_snr True")
    told = metadata.get("modelspec.prediction_type", "").lower()
    base = metadata.get("ss_base_model_version", "")
    if told in ("v", "v_prediction", "v-prediction"):
        signs.append(f"modelspec.prediction_type {told}")
    elif base.endswith("_v") or metadata.get("ss_v_parameterization") == "True":
        signs.append(f"sd-scripts' metadata ({base or 'ss_v_parameterization'})")
    elif "v_pred" not in names:
        return "epsilon", zero_snr, signs
    return "v", zero_snr, signs


def _detect_folder(path: Path) -> Detected:
    index = _read_json(path, "model_index.json")
    pipeline = str(index.get("_class_name"))
    unet = _read_json(path, "unet/config.json") if pipeline.startswith("StableDiffusion") and "unet" in index else {}
    family: Any = _PIPELINES.get(pipeline)
    if family is None:
        raise ModelError(path, f"is a model for {pipeline[:80]}", f"{SUPPORTED}.")
    width, channels = (unet.get(key) for key in ("cross_attention_dim", "in_channels"))
    if foreign := _FOREIGN_WIDTHS.get((family, str(width))):
        raise ModelError(path, foreign, f"{SUPPORTED}.")
    if channels not in (4, None):
        raise ModelError(path, f"has a U-Net of {channels} input channels, as inpainting models do", f"{SUPPORTED}.")
    scheduler = _read_json(path, "scheduler/scheduler_config.json")
    signs = [f"it is a {pipeline}", *_scheduler_signs(scheduler)]
    prediction = "v" if scheduler.get("prediction_type") == "v_prediction" else "epsilon"
    return Detected(family, "diffusers", prediction, scheduler.get("rescale_betas_zero_snr") is True, signs)


def _scheduler_signs(scheduler: Mapping[str, Any]) -> Iterator[str]:
    for key in ("prediction_type", "rescale_betas_zero_snr"):
        if scheduler.get(key):
            yield f"scheduler {key} {scheduler[key]}"


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / name).read_text("utf-8"))
    except FileNotFoundError:
        remedy = "Choose a .safetensors file or a diffusers folder."
        raise ModelError(folder, f"is a folder without {name}", remedy) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise ModelError(folder, f"holds a {name} that cannot be read ({reason})", "Download it again.") from None
    if type(value) is not dict:
        raise ModelError(folder, f"holds a {name} that is not an object", "Download it again.")
    return value
