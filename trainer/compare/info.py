"""What a picture says of itself, as A1111 writes it and reads it: the PNG's `parameters`. Works without torch."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trainer import __version__
from trainer.compare.samplers import KARRAS
from trainer.compare.shelf import digest_of, network_hash
from trainer.compare.shot import Shot
from trainer.data.pictures import FORMATS
from trainer.errors import InputError

CHUNK = "parameters"
_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')  # as A1111 reads it
_NEGATIVE = "Negative prompt:"


@dataclass(frozen=True)
class Info:
    """A picture's words, and its settings under A1111's names in its order."""

    prompt: str
    negative: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """As the chunk holds it."""
        pairs = ", ".join(f"{name}: {_quoted(value)}" for name, value in self.settings.items())
        return "\n".join([self.prompt, *([f"{_NEGATIVE} {self.negative}"] if self.negative else []), pairs])


def info_of(shot: Shot) -> Info:
    """What a picture of this shot says of itself; its LoRAs are tags in the prompt, as A1111 expects them."""
    settings = {"Steps": f"{shot.steps}", "Sampler": shot.sampler.removesuffix(KARRAS)}
    if shot.sampler.endswith(KARRAS):
        settings["Schedule type"] = KARRAS.strip()
    settings |= {
        "CFG scale": f"{shot.cfg:g}", "Seed": f"{shot.seed}", "Size": f"{shot.width}x{shot.height}",
        "Model hash": digest_of(shot.base.path)[:10], "Model": shot.base.name,
    }  # fmt: skip
    if shot.base.vae:
        settings |= {"VAE hash": digest_of(shot.base.vae)[:10], "VAE": shot.base.vae.name}
    if shot.base.clip_skip:
        settings["Clip skip"] = f"{shot.base.clip_skip}"
    if shot.hires:
        settings |= {
            "Denoising strength": f"{shot.hires.strength:g}", "Hires upscale": f"{shot.hires.scale:g}",
            "Hires steps": f"{shot.hires.steps or shot.steps}", "Hires upscaler": shot.hires.upscaler,
        }  # fmt: skip
    if shot.face:
        settings |= {"Face detail strength": f"{shot.face.strength:g}", "Face detail padding": f"{shot.face.padding:g}"}
        if shot.face.prompt:
            settings["Face detail prompt"] = shot.face.prompt
    hashes = [f"{_alias(lora.file)}: {network_hash(lora.file)[:12]}" for lora in shot.loras]
    words = [f"{one.word}: {digest_of(one.file)[:12]}" for one in shot.words if not one.bundled]
    settings |= {"Lora hashes": ", ".join(hashes)} if hashes else {}
    settings |= {"TI hashes": ", ".join(words)} if words else {}
    tags = "".join(f"<lora:{_alias(file)}:{_strength(unet, text)}>" for file, unet, text in shot.loras)
    prompt = f"{shot.prompt} {tags}".strip() if tags else shot.prompt
    return Info(prompt, shot.negative, settings | {"Version": f"likeness/{__version__}"})


def png_of(picture: Image.Image, info: Info) -> bytes:
    """A PNG file that says how it was made."""
    told, file = PngInfo(), io.BytesIO()
    told.add_text(CHUNK, info.text())
    picture.save(file, "PNG", pnginfo=told)
    return file.getvalue()


def parse_info(text: str) -> Info:
    """A chunk read back, whichever program of A1111's kind wrote it."""
    *lines, last = text.strip().split("\n")
    pairs: list[tuple[str, str]] = _PAIR.findall(last)
    if len(pairs) < 3:  # A1111's own rule for what is no line of settings
        lines.append(last)
        pairs.clear()
    place = next((place for place, line in enumerate(lines) if line.strip().startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[place:]).strip().removeprefix(_NEGATIVE).strip()
    return Info("\n".join(lines[:place]).strip(), negative, {name.strip(): _plain(value) for name, value in pairs})


def read_info(path: Path) -> Info | None:
    """What a picture file says of itself; None when it says nothing. InputError for a file that is no picture."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            told = image.info.get(CHUNK)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as a picture ({error}); choose another file") from error
    return parse_info(told) if isinstance(told, str) else None


def _alias(file: Path) -> str:
    """A LoRA's name without what would end it in a tag or in a list."""
    return re.sub(r"[:,<>]", "", file.stem)


def _strength(unet: float, text: float) -> str:
    return f"{unet:g}" if unet == text else f"{text:g}:{unet:g}"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,\n:\"]", value) else value


def _plain(value: str) -> str:
    value = value.strip()
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value
