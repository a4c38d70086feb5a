"""What a file is, and whether it is whole: shapes, norms, numbers that are none, layers that do nothing, names."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.find import POCKET
from trainer.tools import facts
from trainer.tools.checkpoints import Checkpoint, Spot, spots
from trainer.tools.loras import Layer, LoraFile, foreign, what_is
from trainer.tools.options import Verify
from trainer.tools.report import Report, Steps, Stop, Tell, never, silent
from trainer.tools.tensors import Tensors, existing, read_file

MOST = 40  # characters of a stranger's text that are shown
LONGEST, KEPT = 4000, 1000
"""Characters of a text, and tags, that a report holds."""
TOP = 30
"""Tags that are shown."""
SAID = {
    "ss_output_name": "name", "ss_sd_model_name": "base model", "ss_base_model_version": "base version",
    "ss_network_module": "network", "ss_network_dim": "rank", "ss_network_alpha": "alpha", "ss_steps": "steps",
    "ss_epoch": "epoch", "ss_num_epochs": "epochs", "ss_num_train_images": "pictures in an epoch",
    "ss_resolution": "resolution", "ss_learning_rate": "rate", "ss_unet_lr": "rate of the U-Net",
    "ss_text_encoder_lr": "rate of the text encoder", "ss_optimizer": "optimizer", "ss_seed": "seed",
    "ss_training_comment": "comment", "modelspec.title": "title", "modelspec.author": "author",
    "modelspec.date": "date", "modelspec.trigger_phrase": "trigger", "modelspec.license": "license",
}  # fmt: skip


@dataclass
class Findings:
    """What is wrong with a LoRA, by name."""

    not_finite: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    wrong_shape: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def said(self) -> list[str]:
        """A line for each kind."""
        words = {
            "not_finite": "hold NaN or infinity: the file is broken, take an earlier one",
            "dead": "change nothing, for one of their matrices is zero",
            "wrong_shape": "have another shape than the model: they were made for a model of another size",
            "unknown": "are no part of the model: programs that load the file pass over them, or refuse it",
            "missing": "that a training writes are not there",
        }
        told = {kind: getattr(self, kind) for kind in words}
        return [f"{len(names)} layers {words[kind]}: {_few(names)}." for kind, names in told.items() if names]


def run(options: Verify, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Reads the whole file, and says what it is; a file that is no LoRA is named, and its numbers are looked at."""
    path = existing("model", options.model)
    tensors, metadata = read_file(path) if path.is_file() else ({}, {})
    kinds = foreign(tensors)
    is_lora = path.is_dir() or any(".lora_" in key or ".lora." in key or "_lora." in key for key in tensors)
    if kinds or not is_lora:
        return _other(path, tensors, metadata, kinds, Steps(len(tensors), tell, should_stop))
    lora = LoraFile("model", options.model)
    base_path = options.base or _own_base(lora)
    base = Checkpoint("base", base_path) if base_path else None
    if base and base.family != lora.family:
        titles = FAMILIES[base.family].title, FAMILIES[lora.family].title
        raise InputError(
            f"base: {base.path} is {titles[0]}, and the LoRA is for {titles[1]}; choose its own base model"
        )
    expected = base.spots if base else spots(lora.family)
    steps, found, modules = Steps(len(lora.layers) + 1, tell, should_stop), Findings(), list[dict[str, Any]]()
    for name, layer in lora.layers.items():
        modules.append(_look(name, layer, expected.get(name), found))
        steps.step()
    found.unknown += lora.unknown
    found.missing = _missing(lora, expected)
    hashed = _hash(path, lora.metadata)
    steps.step()
    good = not (found.not_finite or found.wrong_shape or found.unknown or hashed == "wrong")
    facts_found = {
        "file": str(path), "kind": "lora", "family": lora.family, "good": good, "hash": hashed,
        "precision": _precisions(lora.tensors), "modules": modules, **vars(found),
        "metadata": _shown(lora.metadata), "tags": _most(facts.tags_of(lora.metadata)),
    }  # fmt: skip
    lines = [*_about(lora, modules, hashed), *found.said(), *_told(lora.metadata)]
    verdict = "It is whole." if good else "Something is wrong with it."
    return Report(f"{path}: {_what(lora)}. {verdict}", [], lines, facts_found)


def _own_base(lora: LoraFile) -> str | None:
    """The shipped model, for a LoRA that was trained on it: its layers are smaller than SD1.5's."""
    try:
        told = json.loads(lora.metadata.get("likeness_config", "{}"))
        return str(POCKET) if told["model"]["base"] == "pocket" else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _look(name: str, layer: Layer, spot: Spot | None, found: Findings) -> dict[str, Any]:
    """Norms of a layer's matrices and of its change, and what is wrong with it."""
    up, down = (tensor.double() for tensor in layer.factors())
    finite = bool(up.isfinite().all() and down.isfinite().all())
    norm = float(((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt()) * abs(layer.alpha / layer.rank)
    if not finite:
        found.not_finite.append(name)
    elif norm == 0:
        found.dead.append(name)
    if spot is None:
        found.unknown.append(name)
    elif not layer.fits(spot.shape):
        found.wrong_shape.append(name)
    return {
        "name": name, "rank": layer.rank, "alpha": layer.alpha, "shape": list(layer.shape),
        "norm": norm if finite else None, "rms": norm / math.prod(layer.shape) ** 0.5 if finite else None,
        "up": float(up.norm()) if finite else None, "down": float(down.norm()) if finite else None,
        "dora": layer.dora is not None,
    }  # fmt: skip


def _missing(lora: LoraFile, expected: Mapping[str, Spot]) -> list[str]:
    """Modules that a training of the same parts and kind would have written; parts not there were not trained."""
    places = [expected[name] for name in lora.layers if name in expected]
    parts, conv = {spot.part for spot in places}, any(spot.kind == "locon" for spot in places)
    kinds = ("lora", "locon") if conv else ("lora",)
    return [
        name for name, spot in expected.items() if spot.part in parts and spot.kind in kinds and name not in lora.layers
    ]


def _hash(path: Path, metadata: Mapping[str, str]) -> str:
    """Whether the tensors are those that `sshs_model_hash` was written for: good, wrong, or none."""
    told = metadata.get("sshs_model_hash")
    if not told or path.is_dir():
        return "none"
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return "good" if hashlib.file_digest(file, "sha256").hexdigest() == told else "wrong"


def _what(lora: LoraFile) -> str:
    """A LoRA in a few words."""
    layers = lora.layers.values()
    kind = (
        "DoRA" if any(layer.dora for layer in layers) else "LoCon" if any(layer.is_conv for layer in layers) else "LoRA"
    )
    ranks = lora.ranks
    spread = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    return f"a {kind} for {FAMILIES[lora.family].title}, {spread}, {len(layers)} layers"


def _about(lora: LoraFile, modules: list[dict[str, Any]], hashed: str) -> list[str]:
    parts = Counter(spot.part for name in lora.layers if (spot := spots(lora.family).get(name)))
    names = {"unet": "U-Net", "text_encoder": "text encoder", "text_encoder_2": "second text encoder"}
    lines = ["It changes " + ", ".join(f"{count} layers of the {names[part]}" for part, count in parts.items()) + "."]
    alphas = sorted({layer.alpha for layer in lora.layers.values()})
    precisions = ", ".join(f"{count} in {name}" for name, count in _precisions(lora.tensors).items())
    lines.append(f"Alpha {', '.join(f'{alpha:g}' for alpha in alphas[:6])}; tensors: {precisions}.")
    norms = sorted((line["norm"], line["name"]) for line in modules if line["norm"])
    if norms:
        middle = norms[len(norms) // 2][0]
        lines.append(
            f"Norms of the changes: {norms[0][0]:.3g} to {norms[-1][0]:.3g} ({norms[-1][1]}), half above {middle:.3g}."
        )
    words = {
        "good": "Its hash fits its tensors.",
        "wrong": "Its hash does not fit: the tensors were changed after it was written.",
        "none": "It carries no hash.",
    }
    return [*lines, words[hashed]]


def _told(metadata: Mapping[str, str]) -> list[str]:
    """What the metadata says, and the tags of the training."""
    told = [f"{word}: {_short(metadata[key])}" for key, word in SAID.items() if metadata.get(key, "None") != "None"]
    tags = facts.tags_of(metadata)
    lines = ["It says of itself: " + "; ".join(told) + "."] if told else ["It carries no metadata of its training."]
    if tags:
        some = ", ".join(f"{_short(tag)} {count}" for tag, count in list(tags.items())[:TOP])
        lines.append(f"Tags of the training ({len(tags)}): {some}.")
    return lines


def _other(path: Path, tensors: Tensors, metadata: dict[str, str], kinds: list[str], steps: Steps) -> Report:
    """A file that is no LoRA of ours."""
    bad: list[str] = []
    for name, tensor in tensors.items():
        numbers = tensor.detach()
        if numbers.is_floating_point() and not numbers.isfinite().all():
            bad.append(name)
        steps.step()
    kind = " and ".join(kinds)
    what = f"it is a {kind} file of LyCORIS" if kinds else what_is(path)
    precisions = ", ".join(f"{count} in {name}" for name, count in _precisions(tensors).items())
    lines = [f"{len(tensors)} tensors: {precisions}.", *_told(metadata)]
    if bad:
        lines.append(f"{len(bad)} tensors hold NaN or infinity: {_few(bad)}.")
    found = {
        "file": str(path), "kind": "other", "good": not bad, "not_finite": bad, "metadata": _shown(metadata),
        "precision": _precisions(tensors), "tags": _most(facts.tags_of(metadata)),
    }  # fmt: skip
    return Report(f"{path} is no LoRA: {what}.", [], lines, found)


def _precisions(tensors: Tensors) -> dict[str, int]:
    words = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
    counts = Counter(words.get(tensor.dtype, str(tensor.dtype)) for tensor in tensors.values())
    return dict(counts.most_common())


def _short(text: str) -> str:
    """A stranger's text, printable and short."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return clean if len(clean) <= MOST else f"{clean[:MOST]}…"


def _shown(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata for a program: a stranger's may be of any length."""
    return {key[:200]: text if len(text) <= LONGEST else f"{text[:LONGEST]}…" for key, text in metadata.items()}


def _most(tags: Mapping[str, int]) -> dict[str, int]:
    return {tag[:200]: count for tag, count in list(tags.items())[:KEPT]}


def _few(names: list[str]) -> str:
    return ", ".join(_short(name) if len(name) > 100 else name for name in names[:3]) + (
        " ..." if len(names) > 3 else ""
    )
