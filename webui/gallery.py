"""The pictures that were drawn: the newest first, what each says of itself, and the way to the form and to the side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, Response

from trainer import aside
from trainer.compare.info import Info, read_info
from trainer.compare.prompts import take_tags
from trainer.compare.samplers import NAMES, name_of
from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.folders.files import is_picture
from webui.browse import inside
from webui.files import SAFE
from webui.modelshelf import base_named, lora_named, loras, vae_named
from webui.runs import Missing, Runs
from webui.settings import Settings

Facts = dict[str, Any]
MOST = 1000  # pictures that are told at once
PLAIN = {
    "Steps": "steps", "CFG scale": "cfg", "Seed": "seed", "Size": "size", "Clip skip": "clip_skip",
    "Hires upscale": "hires.scale", "Hires steps": "hires.steps", "Hires upscaler": "hires.upscaler",
    "Face detail strength": "face.strength", "Face detail padding": "face.padding", "Face detail prompt": "face.prompt",
}  # fmt: skip
"""A1111's names for options whose values are written alike."""


def folder_of(settings: Settings, text: str) -> Path:
    """Where pictures go: the folder that the form names, else `pictures` in the data folder."""
    return inside(text, settings.roots, "out") if text.strip() else settings.data_dir / "pictures"


def pictures(folder: Path, count: int) -> Facts:
    """{"folder", "pictures": [{"file", "name", "stamp"}], "more": how many others}, the newest first."""
    found: list[tuple[int, str]] = []
    try:
        with os.scandir(folder) as entries:
            found = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if is_picture(entry.name)]
    except FileNotFoundError:
        pass  # none yet
    except OSError as error:
        raise InputError(f"out: {folder} cannot be looked at ({error.strerror}); choose another folder") from error
    found.sort(reverse=True)
    told = [{"file": str(folder / name), "name": name, "stamp": str(stamp)} for stamp, name in found[:count]]
    return {"folder": str(folder), "pictures": told, "more": max(0, len(found) - count)}


def picture_at(settings: Settings, path: str) -> Path:
    """A picture that the page may show; Missing for none."""
    file = inside(path, settings.roots)
    if not is_picture(file.name) or not file.is_file():
        raise Missing(f"{plain(file.name)}: no such picture; it may have been moved")
    return file


def original(file: Path) -> Response:
    """A picture as it lies there, to be saved."""
    return FileResponse(file, media_type="application/octet-stream", filename=file.name, headers=SAFE)


def told_of(settings: Settings, runs: Runs, file: Path) -> Facts:
    """{"text": its parameters, "values": what they are in the form's boxes, "missing": what of it is not here}."""
    info = read_info(file)
    if info is None:
        return {"text": "", "values": {}, "missing": []}
    values, missing = values_of(settings, runs, info)
    return {"text": info.text(), "values": values, "missing": missing}


def values_of(settings: Settings, runs: Runs, info: Info) -> tuple[Facts, list[str]]:
    """A picture's words and settings as the form's boxes hold them, and the models that are not here."""
    told, missing = info.settings, list[str]()
    values: Facts = {
        "negative": info.negative,
        "negative_preset": "none",
        "clip_skip": "",
        "hires.steps": "",
        "vae": "",
    }
    values |= {option: told[name] for name, option in PLAIN.items() if name in told}
    sampler = name_of(f"{told.get('Sampler', '')} {told.get('Schedule type', '')}".strip())
    values |= {"sampler": sampler} if sampler in NAMES else {}
    values |= {"hires": "Hires upscale" in told, "face": "Face detail strength" in told}
    if values["hires"] and "Denoising strength" in told:
        values["hires.strength"] = told["Denoising strength"]
    for name, option, find in (("Model", "base", base_named), ("VAE", "vae", vae_named)):
        if name in told:
            taken = find(settings, told[name])
            values |= {option: taken} if taken else {}
            missing += [] if taken else [f"{name} {told[name]}"]
    values["prompt"], values["loras"] = _loras(settings, runs, info)
    return values, missing


def _loras(settings: Settings, runs: Runs, info: Info) -> tuple[str, str]:
    """The prompt without the tags of LoRAs that are at hand, and these as the form has them, one a line.

    Others stay in the prompt, and so do all where a tag cannot be read.
    """
    try:
        _, tags = take_tags(info.prompt)
    except InputError:
        return info.prompt, ""
    digests = dict(pair.split(": ", 1) for pair in info.settings.get("Lora hashes", "").split(", ") if ": " in pair)
    there, prompt, lines = loras(settings, runs) if tags else [], info.prompt, list[str]()
    for tag in tags:
        if found := lora_named(there, tag.name, digests.get(tag.name, "")):
            strengths = f"{tag.unet:g}" if tag.unet == tag.text else f"{tag.unet:g}:{tag.text:g}"
            lines.append(f"{found['file']}:{strengths}")
            prompt = _without(prompt, tag.name)
    return prompt.strip(), "\n".join(lines)


def _without(prompt: str, name: str) -> str:
    """A prompt without the tag of this LoRA."""
    start = prompt.lower().find(f"<lora:{name.lower()}")
    return prompt if start < 0 else prompt[:start].rstrip() + prompt[prompt.index(">", start) + 1 :]


def set_aside(file: Path) -> Facts:
    """Moves a picture aside: {"folder", "name"}, as `put_back` takes them."""
    return {"folder": str(file.parent), "name": aside.set_aside(file.parent, [file])[0]}


def put_back(folder: Path, name: str) -> Facts:
    """Moves it back: {"file"}."""
    return {"file": str(aside.put_back(folder, [name])[0])}
