"""Metadata of files that the tools write: what sd-scripts' tools write, with its keys and its forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from trainer.families import FAMILIES
from trainer.metadata import WRITER

Pairs = dict[str, str]


def network(family: str, prediction: str, ranks: Mapping[bool, Iterable[tuple[int, float]]]) -> Pairs:
    """The `ss_*` keys by which tools sort LoRA files.

    ranks: rank and alpha of every layer, False for linear layers and 1x1 convolutions, True for 3x3 convolutions.
    """
    dims, alphas = _same(rank for rank, _ in ranks[False]), _same(alpha for _, alpha in ranks[False])
    pairs = {
        "ss_v2": "False",
        "ss_base_model_version": FAMILIES[family].versions[prediction],
        "ss_network_module": "networks.lora",
        "ss_network_dim": dims,
        "ss_network_alpha": alphas,
    }
    if conv := list(ranks[True]):
        told = {"conv_dim": _same(rank for rank, _ in conv), "conv_alpha": _same(alpha for _, alpha in conv)}
        pairs["ss_network_args"] = json.dumps(told)
    return pairs


def modelspec(family: str, prediction: str, path: Path, lora: bool, now: float, merged: Sequence[Path] = ()) -> Pairs:
    """https://github.com/Stability-AI/ModelSpec; `merged` are the files that went into this one."""
    kind = FAMILIES[family]
    pairs = {
        "sai_model_spec": "1.0.1",
        "architecture": kind.architecture + ("/lora" if lora else ""),
        "implementation": kind.code,
        "implementation_version": WRITER,
        "title": path.stem,
        "date": datetime.fromtimestamp(now).isoformat(timespec="seconds"),
        "resolution": f"{kind.side}x{kind.side}",
        "prediction_type": prediction,
    }
    if merged:
        pairs["merged_from"] = ", ".join(file.stem for file in merged)
    return {f"modelspec.{key}": value for key, value in pairs.items()}


def commented(metadata: Mapping[str, str], what: str) -> Pairs:
    """The metadata with a note of what was done before the training's own comment."""
    old = metadata.get("ss_training_comment", "")
    return {**metadata, "ss_training_comment": f"{what}; {old}" if old not in ("", "None") else what}


def prediction_of(metadata: Mapping[str, str]) -> str:
    """What a file's base model predicts, by its metadata: v or epsilon."""
    told = metadata.get("modelspec.prediction_type", "")
    version = metadata.get("ss_base_model_version", "")
    return "v" if told.startswith("v") or version.endswith("_v") else "epsilon"


def tags_of(metadata: Mapping[str, str]) -> dict[str, int]:
    """How many captions held each tag in the training, most frequent first; of all folders together."""
    found: dict[str, int] = {}
    for text in (metadata.get("ss_tag_frequency"), metadata.get("ss_datasets")):
        try:
            told = json.loads(text or "{}")
        except (ValueError, RecursionError):
            continue
        sets = [told] if isinstance(told, dict) else [one.get("tag_frequency") for one in told if isinstance(one, dict)]
        for folders in sets:
            for tags in folders.values() if isinstance(folders, dict) else ():
                for tag, count in tags.items() if isinstance(tags, dict) else ():
                    if type(count) is int:
                        found[tag.strip()] = found.get(tag.strip(), 0) + count
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _same(numbers: Iterable[float]) -> str:
    """The number that all are, else `Dynamic`; None when there are none."""
    found = sorted(set(numbers))
    return "Dynamic" if len(found) > 1 else str(found[0]) if found else "None"
