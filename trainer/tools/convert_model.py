"""A base model as a single file of the original layout, or as a diffusers folder: the same tensors, other names."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from trainer.durable import make_folder, write_aside, write_json
from trainer.errors import InputError
from trainer.families.loading import SHIPPED
from trainer.tools import facts
from trainer.tools.checkpoints import FILES, Checkpoint
from trainer.tools.options import ConvertModel
from trainer.tools.report import Report, Steps, Stop, Tell, never, silent
from trainer.tools.tensors import Later, at_hand, cast, destination, whole_folder, write

INDEX = "model_index.json"
PADS = {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"}
"""What each tokenizer fills up with; SDXL's second with token 0."""


def run(options: ConvertModel, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes the model in the other layout, or in the same one with another precision."""
    model = Checkpoint("model", options.model)
    to_file = options.form == "safetensors"
    path = destination(options.save_to, [model.path], options.overwrite, ".safetensors" if to_file else "")
    if not to_file and path.exists() and not (path / INDEX).is_file():
        raise InputError(f"save_to: {path} is no diffusers folder, and is not written over; choose another name")
    lines: list[str] = []
    if to_file:
        tensors = model.originals(options.save_precision) | marks(model)
        metadata = {"format": "pt", **model.metadata, **model.header()}
        if model.found.layout == "diffusers":
            metadata |= facts.modelspec(model.family, model.found.prediction, path, False, time.time())
        write(path, tensors, metadata, Steps(len(tensors), tell, should_stop))
        count = len(tensors)
    else:
        steps = Steps(len(model.parameters), tell, should_stop)
        with whole_folder(path) as folder:
            write_folder(folder, model, options.save_precision, steps)
        count = len(model.parameters)
        if model.found.layout == "original" and (rest := sorted(set(model.stored) - set(model.keys.values()))):
            lines.append(f"{len(rest)} tensors that are no part of the model are left out: {', '.join(rest[:5])}.")
    said = f"{path}: {model.found.title}, {count} tensors, as {options.form}."
    return Report(said, [str(path)], lines, {"tensors": count, "family": model.family})


def marks(model: Checkpoint) -> dict[str, Later]:
    """The empty tensors by which ComfyUI, Forge and this trainer know what a single file predicts."""
    wanted = {"v_pred": model.found.prediction == "v", "ztsnr": model.found.zero_terminal_snr}
    folder = model.found.layout == "diffusers"
    return {name: at_hand(torch.zeros(0), name) for name, there in wanted.items() if there and folder}


def write_folder(folder: Path, model: Checkpoint, precision: str, steps: Steps) -> None:
    """model_index.json, and for each part its configuration and its tensors."""
    shipped = SHIPPED / model.family
    departs = json.loads(model.config)
    for part in model.layout:
        tensors = {_in_file(part, name): tensor for (of, name), tensor in model.parameters.items() if of == part}
        file = folder / part / f"{FILES.get(part, 'model')}.safetensors"
        write(file, cast(tensors, precision), {"format": "pt"}, steps)
        write_json(folder / part / "config.json", {**_read(shipped / part / "config.json"), **departs.get(part, {})})
    index = _read(shipped / INDEX)
    schedule = next(iter((shipped / "scheduler").iterdir()))
    scheduler = _read(schedule)
    scheduler["prediction_type"] = "v_prediction" if model.found.prediction == "v" else "epsilon"
    if model.found.zero_terminal_snr:
        scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        scheduler["_class_name"] = "DDIMScheduler"  # the shipped ones cannot start from pure noise
        index["scheduler"] = ["diffusers", "DDIMScheduler"]
        for name in ("skip_prk_steps", "interpolation_type", "use_karras_sigmas"):
            scheduler.pop(name, None)
    make_folder(folder / "scheduler")
    write_json(folder / "scheduler" / schedule.name, scheduler)
    for name in (name for name in PADS if name in index):
        make_folder(folder / name)
        for file in (SHIPPED / "clip").iterdir():
            data = file.read_bytes()
            if file.name == "tokenizer_config.json":
                data = (json.dumps({**json.loads(data), "pad_token": PADS[name]}, indent=2) + "\n").encode()
            write_aside(folder / name / file.name, data)
    write_json(folder / INDEX, index)


def _in_file(part: str, name: str) -> str:
    """A parameter's name in a folder's file: text encoders have the prefix that transformers 5 dropped from one."""
    if not part.startswith("text_encoder") or name.startswith(("text_model.", "text_projection.")):
        return name
    return f"text_model.{name}"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))
