"""One picture, wholly described: what it is drawn from, and the key that all of this makes. Works without torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trainer import places
from trainer.compare.options import Face, Hires, Look
from trainer.compare.prompts import Tag, by_step, take_tags
from trainer.compare.shelf import Embedding, Shelf, bundled_in, digest_of
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.detect import detect
from trainer.families.find import find_base
from trainer.images.faces import no_detector
from trainer.images.models import find_model

PIXELS = 1
"""To be raised whenever the same shot gives other pixels than before, so that no old cell passes for a new one."""
_STRENGTHS = re.compile(r"(?P<file>.+?)(?::(?P<unet>-?[\d.]+))?(?::(?P<text>-?[\d.]+))?", re.DOTALL)


class Base(NamedTuple):
    """A base model: where it is, and how it is read."""

    path: Path
    vae: Path | None
    clip_skip: int | None
    family: str
    side: int
    """Pixels a side that it was made for."""

    @property
    def name(self) -> str:
        """Its name for people."""
        return self.path.stem


class Worn(NamedTuple):
    """A LoRA and its strengths."""

    file: Path
    unet: float
    text: float


@dataclass(frozen=True)
class Shot:
    """All that decides the pixels of a picture. Sizes are those of the first pass."""

    base: Base
    prompt: str
    negative: str
    loras: tuple[Worn, ...]
    embeddings: tuple[Embedding, ...]
    sampler: str
    steps: int
    cfg: float
    seed: int
    width: int
    height: int
    hires: Hires | None
    face: Face | None
    detector: Path | None

    @property
    def words(self) -> tuple[Embedding, ...]:
        """What stands for vectors: the words that its LoRAs bring along, which go before files of the same name."""
        own = {one.word: one for lora in self.loras for one in bundled_in(lora.file)}
        return (*own.values(), *(one for one in self.embeddings if one.word not in own))

    def key(self, precision: str) -> str:
        """sha256 of all that decides the pixels: files by their content, whatever they are called."""
        base = (digest_of(self.base.path), self.base.vae and digest_of(self.base.vae), self.base.clip_skip)
        face = self.face and (self.face.model_dump(exclude={"detector"}), self.detector and digest_of(self.detector))
        told: dict[str, Any] = {
            "pixels": PIXELS, "precision": precision, "base": base,
            "loras": [(digest_of(lora.file), lora.unet, lora.text) for lora in self.loras],
            "embeddings": [(one.word, digest_of(one.file)) for one in self.words],
            "prompt": self.prompt, "negative": self.negative if self.cfg > 1 else "",
            "sampler": self.sampler, "steps": self.steps, "cfg": self.cfg, "seed": self.seed,
            "size": (self.width, self.height), "hires": self.hires and self.hires.model_dump(), "face": face,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


class Chosen(NamedTuple):
    """What a cell of a grid has in place of the options."""

    base: str
    prompt: str
    negative: str
    sampler: str
    steps: int
    cfg: float
    seed: int
    lora: Path | None = None
    """The checkpoint of this cell."""
    strength: float | None = None
    """Its strength; of all LoRAs where there is no checkpoint."""
    bare: bool = False
    """Without any LoRA."""


class Stage:
    """Makes shots out of options: finds files, once each; `notes` say what was not as asked."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.shelf = Shelf([Path(folder).expanduser() for folder in look.folders] + places.models())
        for folder in look.folders:
            if not Path(folder).expanduser().is_dir():
                raise InputError(f"folders: {folder} is no folder here; give one that holds LoRAs or embeddings")
        self.notes: list[str] = []
        self._bases: dict[str, Base] = {}
        self.detector = self._find_detector(look.face)

    def chosen(self) -> Chosen:
        """The options' own choice."""
        look = self.look
        return Chosen(look.base, look.prompt, look.negatives, look.sampler, look.steps, look.cfg, look.seed)

    def shot(self, chosen: Chosen) -> Shot:
        """The picture of a choice; InputError for a name or file that is not there."""
        look, base = self.look, self.base(chosen.base)
        prompt, tags = take_tags(chosen.prompt)
        texts = {"prompt": prompt, "negative": chosen.negative, "face.prompt": look.face.prompt if look.face else ""}
        for option, text in texts.items():  # what cannot be read is said before a model is loaded
            by_step(text, chosen.steps)
            if lost := take_tags(text)[1]:
                raise InputError(f"{option}: <lora:{lost[0].name}> does nothing there; move it to the prompt")
        width, height = look.size or (base.side, base.side)
        worn = () if chosen.bare else self._worn(chosen, tags)
        embeddings = self.shelf.embeddings("\n".join(texts.values()))
        return Shot(
            base, prompt, chosen.negative, tuple(worn), tuple(embeddings), chosen.sampler, chosen.steps, chosen.cfg,
            chosen.seed, width, height, look.hires, look.face if self.detector else None, self.detector,
        )  # fmt: skip

    def base(self, text: str) -> Base:
        """A base model by what it is called."""
        if text not in self._bases:
            path = find_base(text, self.notes.append)
            found = detect(path)
            side = int(found.config.get("unet", {}).get("sample_size", FAMILIES[found.family].side // 8)) * 8
            vae = Path(self.look.vae).expanduser() if self.look.vae else None
            if vae and not vae.exists():
                raise InputError(f"vae: {vae} does not exist; give a VAE file or folder, or leave it empty")
            self._bases[text] = Base(path, vae, self.look.clip_skip, found.family, side)
        return self._bases[text]

    def _worn(self, chosen: Chosen, tags: Sequence[Tag]) -> list[Worn]:
        """The LoRAs of a choice; those of strength 0 are left out, for they change nothing."""
        worn = [self._read(text) for text in self.look.loras]
        worn += [Worn(self.shelf.lora(tag.name), tag.unet, tag.text) for tag in tags]
        if chosen.lora:
            strength = 1.0 if chosen.strength is None else chosen.strength
            worn.append(Worn(chosen.lora, strength, strength))
        elif chosen.strength is not None:
            worn = [Worn(lora.file, chosen.strength, chosen.strength) for lora in worn]
        return [lora for lora in worn if lora.unet or lora.text]

    def _read(self, text: str) -> Worn:
        """A LoRA as `file:0.8` or `name:0.8:0.5`."""
        found = _STRENGTHS.fullmatch(text)
        assert found, "any text matches"
        try:
            unet = float(found["unet"] or 1.0)
            strengths = unet, float(found["text"]) if found["text"] else unet
        except ValueError:
            raise InputError(f"loras: {text[:200]!r} has no strength; write it as zk9.safetensors:0.8") from None
        file = Path(found["file"]).expanduser()
        return Worn(file if file.is_file() else self.shelf.lora(found["file"]), *strengths)

    def _find_detector(self, face: Face | None) -> Path | None:
        """YuNet's file where faces are wanted; without one they are left as they are, and it is said."""
        if face is None:
            return None
        found = Path(face.detector).expanduser() if face.detector else find_model(["yunet"])
        if found is None:
            self.notes.append(f"{no_detector('face')}; faces were not drawn again")
        elif not found.is_file():
            raise InputError(f"face.detector: {found} does not exist; put the file there, or choose another")
        return found


def precision_of(look: Look, device: str) -> str:
    """fp32, fp16 or bf16 on a kind of device."""
    return ("fp16" if device == "cuda" else "fp32") if look.precision == "auto" else look.precision
