"""Small WD14 taggers for tests: real ONNX files with their lists of tags, which see nothing but colours."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RATINGS = [("general", 9), ("sensitive", 9), ("questionable", 9), ("explicit", 9)]
COLOURS = [("blue_theme", 0), ("green_theme", 0), ("red_theme", 0), ("^_^", 0), ("(o)_(o)", 0), ("never", 0)]
CHARACTERS = [("zk9_(hat)_(creature)", 4), ("red_one", 4)]
TAGS = [*RATINGS, *COLOURS, *CHARACTERS]
SIDE = 32
B, G, R = np.eye(3, dtype=np.float32) * 8
ALWAYS, NEVER = 4.0, -9.0
SEES: dict[str, tuple[np.ndarray, float]] = {
    **{"blue_theme": (B, -4.0), "green_theme": (G, -4.0), "red_theme": (R, -4.0), "red_one": (R, -4.0)},
    **{"general": (B + G, -4.0), "sensitive": (R, -4.0), "^_^": (0 * B, ALWAYS), "(o)_(o)": (0 * B, ALWAYS)},
    "zk9_(hat)_(creature)": (0 * B, ALWAYS),
}
"""Logit of a tag: its weights for the picture's mean blue, green and red (0 to 1), and a constant."""


def draw_tagger(
    folder: Path,
    tags: Sequence[tuple[str, int]] = TAGS,
    batch: int | str = "batch",
    side: int = SIDE,
    shift: float = 0.0,
) -> Path:
    """A folder with model.onnx and selected_tags.csv; shift moves every logit."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "selected_tags.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([i, name, category, 100 - i] for i, (name, category) in enumerate(tags))
    save(folder / "model.onnx", [name for name, _ in tags], [batch, side, side, 3], shift)
    return folder


def draw_json_tagger(folder: Path, tags: dict[int, tuple[str, str]]) -> Path:
    """A tagger of the other kind: channels first, numbers from -1 to 1, logits, and tag_mapping.json."""
    folder.mkdir(parents=True)
    mapping = {str(number): {"tag": name, "category": category} for number, (name, category) in tags.items()}
    (folder / "tag_mapping.json").write_text(json.dumps(mapping))
    names = [tags.get(number, ("", ""))[0] for number in range(max(tags) + 1)]
    save(folder / "model_optimized.onnx", names, ["N", 3, SIDE, SIDE], 0.0, logits=True)
    return folder


def save(file: Path, names: Sequence[str], shape: list[int | str], shift: float, logits: bool = False) -> None:
    """Mean colour -> a weight for each tag -> probability."""
    sees = [SEES.get(name, (np.zeros(3, np.float32), NEVER)) for name in names]
    weight = np.stack([weights for weights, _ in sees], 1).astype(np.float32)  # [3, tags]
    bias = np.array([constant + shift for _, constant in sees], np.float32)
    if logits:  # of numbers from -1 to 1
        weight, bias = weight / 2, bias + weight.sum(0) / 2
    else:
        weight = weight / 255
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    nodes = [
        helper.make_node("ReduceMean", ["in", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"]),
        helper.make_node("Identity" if logits else "Sigmoid", ["logits"], ["out"]),
    ]
    values = {"axes": np.array(axes, np.int64), "weight": weight, "bias": bias}
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [shape[0], len(names)])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), file)
