"""What a LoRA file says about itself: the keys that sd-scripts writes, with its names, its forms and its meanings.

Readers of these keys are A1111, Forge, ComfyUI, Civitai and metadata editors, so values keep their quirks: everything
is text, off is "None" or "0" as sd-scripts has it. The writer is named truly: `modelspec.implementation_version` and
`ss_sd_scripts_commit_hash` hold "likeness/<version>".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PureWindowsPath
from typing import Any

from trainer import __version__
from trainer.config import Config, Embedding, Full, Kohya, Library, NewWords
from trainer.config.objective import Huber, MultiresNoise, OffsetNoise
from trainer.config.subset import FILES
from trainer.draws import seed_of
from trainer.families import FAMILIES
from trainer.kohya.networks import arguments_of, module_of
from trainer.optimizer_kinds import KINDS as OPTIMIZERS
from trainer.tree import HUB_ID, PATHS

WRITER = f"likeness/{__version__}"
TIMES = ("ss_training_started_at", "ss_training_finished_at", "modelspec.date")
"""The only keys that differ when the same training is run again."""
MINIMUM = (
    "ss_v2",
    "ss_base_model_version",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
)
"""What is left of `ss_*` when output.metadata is off: tools need it to sort files."""
KINDS = {"embedding": "/textual-inversion", "full_model": ""}
"""What a file is beside its family, in the words of ModelSpec; the others are LoRAs."""
SINGLE = (
    *("ss_batch_size_per_device", "ss_total_batch_size", "ss_resolution", "ss_color_aug", "ss_flip_aug"),
    *("ss_random_crop", "ss_shuffle_caption", "ss_enable_bucket", "ss_bucket_no_upscale", "ss_min_bucket_reso"),
    *("ss_max_bucket_reso", "ss_keep_tokens", "ss_reg_dataset_dirs", "ss_bucket_info"),
)
"""Keys that describe one data set, which are left out where there are subsets."""
SECRET = re.compile(r"\b(hf_|sk-|ghp_|github_pat_)[A-Za-z0-9_-]{16,}")


@dataclass(frozen=True)
class File:
    """A model file as metadata names it: base name (or hub id), short hash, sha256; a hub model has no hashes."""

    name: str
    short_hash: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Facts:
    """What the metadata tells beside the config."""

    run: str
    """Name of the run folder: the session's id follows from it."""
    family: str
    """sd15 or sdxl."""
    prediction: str
    """epsilon or v, as trained."""
    zero_terminal_snr: bool
    base: File
    images: int
    """Training pictures in an epoch, repeats counted."""
    batches: int
    """Batches in an epoch."""
    epochs: int
    steps: int
    """Steps of the whole training."""
    warmup: int
    """Warm-up in steps."""
    started: float
    """Start of the training in unix seconds; a resumed one keeps its first start."""
    vae: File | None = None
    reg_images: int = 0
    validation_images: int = 0
    folders: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Repeats and number of pictures, by folder name."""
    reg_folders: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tags: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Tags by folder name, as `count_tags` gives them."""
    buckets: Mapping[str, Any] | None = None
    """`ss_bucket_info` of sd-scripts, when buckets are on."""
    datasets: Sequence[Mapping[str, Any]] = ()
    """`ss_datasets` of sd-scripts, where there are subsets."""


def metadata(config: Config, facts: Facts, step: int, epoch: int, now: float) -> dict[str, str]:
    """All keys of a file saved after `step` steps in epoch `epoch` (from 1), at `now` in unix seconds.

    save_network adds the two hashes of the tensors.
    """
    pairs = _training(config, facts) | _objective(config) | _data(config, facts) | _models(facts) | _network(config)
    if facts.datasets:
        pairs = {key: value for key, value in pairs.items() if key not in SINGLE}
        pairs["ss_datasets"] = json.dumps(facts.datasets)
    pairs |= {"ss_steps": step, "ss_epoch": epoch, "ss_training_finished_at": f"{now:.6f}"}
    texts = {key: str(value) for key, value in pairs.items()}
    if not config.output.metadata:
        return {key: texts[key] for key in MINIMUM if key in texts} | _modelspec(config, facts, now)
    return texts | _modelspec(config, facts, now) | {"likeness_config": public_config(config)}


def of_word(pairs: Mapping[str, str]) -> dict[str, str]:
    """The same of a new word's own file beside a LoRA: it is an embedding, and tells nothing of the LoRA's size."""
    told = {key: text for key, text in pairs.items() if not key.startswith("ss_network_")}
    if family := told.get("modelspec.architecture", "").partition("/")[0]:
        told["modelspec.architecture"] = family + KINDS["embedding"]
    return told


def public_config(config: Config) -> str:
    """The config as JSON for other eyes: of a local path the last name alone, no access tokens."""
    tree = config.model_dump(mode="json")
    for subset in tree["data"]["subsets"]:
        subset |= {name: PureWindowsPath(subset[name]).name for name in FILES if subset[name]}
    for part, option in PATHS:
        text = tree[part].get(option)
        if text and not (option == "base" and HUB_ID.match(text)):
            tree[part][option] = PureWindowsPath(text).name  # knows both slashes
    return SECRET.sub("***", json.dumps(tree, ensure_ascii=False))


def count_tags(captions: Iterable[str]) -> dict[str, int]:
    """How many captions hold each tag, in order of appearance: split at commas, stripped, lower case."""
    tags = (tag.strip().lower() for caption in captions for tag in caption.split(","))
    return dict(Counter(tag for tag in tags if tag))


def _training(config: Config, facts: Facts) -> dict[str, Any]:
    train, checks, rates = config.train, config.validation, config.rates
    validates = bool(checks.share or checks.folder)
    scheduler = config.schedule.type
    text_rates = (rates.text_encoder, rates.text_encoder_2)[: len(FAMILIES[facts.family].counts.text)]
    text_lr = [_rate(rate, config) for rate in text_rates]
    return {
        "ss_session_id": seed_of(config.seed, "session", facts.run) % 2**32,
        "ss_training_started_at": f"{facts.started:.6f}",  # as many digits each time: the legacy hash counts them
        "ss_output_name": config.output.name,
        "ss_training_comment": config.output.comment or None,
        "ss_sd_scripts_commit_hash": WRITER,
        "ss_seed": config.seed,
        "ss_learning_rate": config.optimizer.lr,
        "ss_unet_lr": None if rates.unet == "same" else _rate(rates.unet, config),
        "ss_text_encoder_lr": None if all(rate == "same" for rate in text_rates) else text_lr,
        "ss_optimizer": _optimizer(config),
        "ss_lr_scheduler": "constant_with_warmup" if scheduler == "constant" and facts.warmup else scheduler,
        "ss_lr_warmup_steps": facts.warmup,
        "ss_max_grad_norm": train.clip or 0.0,
        "ss_scale_weight_norms": getattr(config.network, "max_norm", None),
        "ss_num_epochs": facts.epochs,
        "ss_max_train_steps": facts.steps,
        "ss_num_batches_per_epoch": facts.batches,
        "ss_batch_size_per_device": train.batch,
        "ss_total_batch_size": train.batch * train.processes * train.accumulate,
        "ss_gradient_accumulation_steps": train.accumulate,
        "ss_gradient_checkpointing": train.checkpointing,
        "ss_mixed_precision": train.precision,
        "ss_full_fp16": train.full and train.precision == "fp16",
        "ss_fp8_base": config.memory.base_weights == "fp8",
        "ss_fp8_base_unet": False,
        "ss_lowram": False,
        "ss_validation_seed": None,
        "ss_validation_split": checks.share,
        "ss_max_validation_steps": None,
        "ss_validate_every_n_epochs": checks.every_epochs if validates else None,
        "ss_validate_every_n_steps": checks.every_steps if validates else None,
    }


def _objective(config: Config) -> dict[str, Any]:
    objective = config.objective
    offset = objective.noise if isinstance(objective.noise, OffsetNoise) else None
    multires = objective.noise if isinstance(objective.noise, MultiresNoise) else None
    huber = objective.loss if isinstance(objective.loss, Huber) else Huber()
    return {
        "ss_noise_offset": offset.strength if offset else None,
        "ss_noise_offset_random_strength": bool(offset and offset.random),
        "ss_adaptive_noise_scale": (offset and offset.adaptive) or None,
        "ss_multires_noise_iterations": multires.iterations if multires else None,
        "ss_multires_noise_discount": (multires or MultiresNoise()).discount,
        "ss_ip_noise_gamma": objective.perturbation or None,
        "ss_ip_noise_gamma_random_strength": objective.perturbation_random,
        "ss_loss_type": objective.loss.type,
        "ss_huber_schedule": huber.schedule,
        "ss_huber_scale": huber.scale,
        "ss_huber_c": huber.c,
        "ss_min_snr_gamma": objective.min_snr_gamma,
        "ss_debiased_estimation": objective.debiased,
        "ss_prior_loss_weight": objective.prior_weight,
    }


def _data(config: Config, facts: Facts) -> dict[str, Any]:
    data, captions, buckets = config.data, config.captions, config.data.buckets

    def listed(folders: Mapping[str, tuple[int, int]]) -> str:
        return json.dumps(
            {name: {"n_repeats": repeats, "img_count": count} for name, (repeats, count) in folders.items()}
        )

    return {
        "ss_num_train_images": facts.images,
        "ss_num_reg_images": facts.reg_images,
        "ss_num_validation_images": facts.validation_images,
        "ss_dataset_dirs": listed(facts.folders),
        "ss_reg_dataset_dirs": listed(facts.reg_folders),
        "ss_tag_frequency": json.dumps(facts.tags),
        "ss_bucket_info": json.dumps(facts.buckets),
        "ss_resolution": str(data.resolution),
        "ss_enable_bucket": buckets is not None,
        "ss_bucket_no_upscale": buckets is not None and buckets.no_upscale,
        "ss_min_bucket_reso": buckets and buckets.smallest,
        "ss_max_bucket_reso": buckets and buckets.largest,
        "ss_resize_interpolation": None if data.interpolation == "auto" else data.interpolation,
        "ss_random_crop": data.crop == "random",
        "ss_face_crop_aug_range": None,
        "ss_color_aug": data.color_aug,
        "ss_flip_aug": data.flip,
        "ss_cache_latents": data.cache_latents,
        "ss_shuffle_caption": captions.shuffle,
        "ss_keep_tokens": captions.keep_tokens,
        "ss_caption_dropout_rate": captions.dropout,
        "ss_caption_dropout_every_n_epochs": captions.dropout_every_n_epochs or 0,
        "ss_caption_tag_dropout_rate": captions.tag_dropout,
        "ss_max_token_length": None if captions.max_tokens == 75 else captions.max_tokens,
        "ss_clip_skip": config.model.clip_skip,
    }


def _models(facts: Facts) -> dict[str, Any]:
    pairs: dict[str, Any] = {
        "ss_v2": False,
        "ss_base_model_version": FAMILIES[facts.family].versions[facts.prediction],
        "ss_zero_terminal_snr": facts.zero_terminal_snr,
    }
    for word, file in (("sd_model", facts.base), ("vae", facts.vae)):
        if file:
            named = {
                f"ss_{word}_name": file.name,
                f"ss_{word}_hash": file.short_hash,
                f"ss_new_{word}_hash": file.sha256,
            }
            pairs |= {key: value for key, value in named.items() if value}
    return pairs


def _network(config: Config) -> dict[str, Any]:
    network = config.network
    if isinstance(network, Full):
        return {}
    if isinstance(network, Embedding):
        marks = (
            (mark.key, getattr(network, name))
            for name, field in NewWords.model_fields.items()
            for mark in field.metadata
            if isinstance(mark, Kohya)
        )
        return {f"ss_{key}": value for key, value in marks}
    arguments, dropout = arguments_of(network), getattr(network, "dropout", None) or None
    pairs = {
        "ss_network_module": module_of(network),
        "ss_network_dim": getattr(network, "rank", None),
        "ss_network_alpha": getattr(network, "alpha", None),
        "ss_network_dropout": dropout,
    }
    return pairs | ({"ss_network_args": json.dumps({**arguments, "dropout": dropout})} if arguments else {})


def _modelspec(config: Config, facts: Facts, now: float) -> dict[str, str]:
    """https://github.com/Stability-AI/ModelSpec"""
    output, objective, kind = config.output, config.objective, FAMILIES[facts.family]
    bounds = (objective.min_timestep, objective.max_timestep)
    pairs = {
        "sai_model_spec": "1.0.1",
        "architecture": kind.architecture + KINDS.get(config.network.type, "/lora"),
        "implementation": kind.code,
        "implementation_version": WRITER,
        "title": output.title or output.name,
        "author": output.author,
        "description": output.description,
        "license": output.license,
        "tags": output.tags,
        "date": datetime.fromtimestamp(now).isoformat(timespec="seconds"),
        "resolution": "{}x{}".format(*config.data.resolution),
        "prediction_type": facts.prediction,
        "timestep_range": "{},{}".format(*bounds) if bounds != (0, 1000) else "",
        "encoder_layer": str(config.model.clip_skip or ""),
        "trigger_phrase": getattr(config.pivotal or config.network, "token", ""),
    }
    return {f"modelspec.{key}": value for key, value in pairs.items() if value}


def _rate(rate: Any, config: Config) -> Any:
    """A part's rate as a number: 0.0 for a part that is off, the optimizer's for `same`."""
    return config.optimizer.lr if rate == "same" else float(rate or 0)


def _optimizer(config: Config) -> str:
    """Class, and the arguments that differ from their defaults."""
    optimizer = config.optimizer
    changed = optimizer.model_dump(exclude_defaults=True, exclude={"type", "lr"})
    arguments = ",".join(f"{key}={value}" for key, value in changed.items())
    kind = OPTIMIZERS[optimizer.type]
    name = f"{kind.path}.{optimizer.name}" if isinstance(optimizer, Library) else kind.recorded or kind.path
    return name + (f"({arguments})" if arguments else "")
