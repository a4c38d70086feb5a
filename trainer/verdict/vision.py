"""DINOv2, CLIP and SigLIP as eyes: models of transformers, with the picture processing that they were published with.

Only classes that transformers brings are used, and only safetensors are read: nothing of a model's folder is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoImageProcessor, AutoTokenizer
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from trainer.data.pictures import plain
from trainer.errors import InputError
from trainer.families.text import load_tokenizer
from trainer.verdict.models import DINO, PUBLISHED, READERS, Found, architecture

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
WORDS = ("tokenizer.json", "vocab.json", "spiece.model")
"""Files of which a folder has one if it brings a tokenizer of its own."""


class Vision:
    """A model that turns pictures into directions; those of CLIP and SigLIP read texts into the same space."""

    def __init__(self, found: Found, device: torch.device, dtype: torch.dtype = torch.float32, batch: int = 16) -> None:
        """Loads a model that `available` found.

        batch: how many pictures are looked at together; it changes no number. Raises InputError that names the option
        and the file when the model is broken, lacks weights, or is of another kind.
        """
        file = found.files[0]
        self.name, self.device, self.dtype, self.batch = found.name, device, dtype, batch
        self.kind = architecture(file) or ""
        try:
            model, lacks = _load(file, self.kind)
            self._images = _processor(file, self.kind, model.config)
            self._tokenizer = _tokenizer(file, model.config) if self.kind in READERS else None
        except Exception as error:  # transformers, safetensors and the processors have classes of their own
            raise InputError(
                f"{found.kind}: {plain(str(file), 1000)} cannot be loaded ({plain(' '.join(str(error).split()))}): "
                "get it again, or choose another"
            ) from error
        if lacks:  # transformers would fill them with chance, and only print so
            raise InputError(
                f"{found.kind}: {plain(str(file), 1000)} lacks {len(lacks)} weights of a {self.kind}, "
                f"{plain(min(lacks))} among them: get it again, or choose another"
            )
        self._model: Any = model.to(device, dtype).eval().requires_grad_(False)

    @property
    def reads(self) -> bool:
        """Whether it can hold a picture against a text."""
        return self._tokenizer is not None

    def look(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Where each picture points: float32 [N, D] on the CPU, each of length one; N at least 1.

        By DINOv2's class token behind its last norm, or the projection of CLIP (Oquab et al. 2023, section 7; Radford
        et al. 2021). Raises InputError when the precision does not do.
        """
        parts = [self._look(pictures[i : i + self.batch]) for i in range(0, len(pictures), self.batch)]
        return self._checked(torch.cat(parts))

    def agree(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Tensor:
        """How well each picture fits its own text, as the cosine between them: float32 [N] on the CPU.

        CLIP's are mostly between 0.15 and 0.35, so that they mean something only beside those of other pictures for
        the same text. A text is cut where the model's context ends (CLIP: 75 tokens). Raises InputError with a model
        that reads none.
        """
        if self._tokenizer is None:
            raise InputError(
                f"clip: {self.name} reads no text: choose a {' or '.join(READERS)}, with its tokenizer in its folder"
            )
        once = list(dict.fromkeys(texts))
        read = self._checked(torch.cat([self._read(once[i : i + self.batch]) for i in range(0, len(once), self.batch)]))
        asked = read[[once.index(text) for text in texts]]
        return (self.look(pictures) * asked).sum(-1)

    @torch.no_grad()
    def _look(self, pictures: Sequence[Image.Image]) -> Tensor:
        given = self._images(images=[picture.convert("RGB") for picture in pictures], return_tensors="pt")
        pixels = given["pixel_values"].to(self.device, self.dtype)  # [B, 3, H, W]
        if self.kind in DINO:
            return self._model(pixel_values=pixels).pooler_output.float().cpu()
        if self.kind in READERS:
            return self._model.get_image_features(pixel_values=pixels).pooler_output.float().cpu()
        return self._model(pixel_values=pixels).image_embeds.float().cpu()

    @torch.no_grad()
    def _read(self, texts: Sequence[str]) -> Tensor:
        assert self._tokenizer is not None, "asked of models that read"
        # All to one length: SigLIP was trained so, and to CLIP what stands behind the end makes no difference.
        length = self._model.config.text_config.max_position_embeddings
        ids = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        return self._model.get_text_features(input_ids=ids.to(self.device)).pooler_output.float().cpu()

    def _checked(self, found: Tensor) -> Tensor:
        if not found.isfinite().all():
            raise InputError(f"precision: {self.name} gives NaN in {str(self.dtype)[6:]}; set it to bf16 or fp32")
        return normalize(found, dim=-1)


def _load(file: Path, kind: str) -> tuple[Any, set[str]]:
    """A model in float32, and the names of the weights that it lacks."""
    model: Any = getattr(transformers, "Dinov2Model" if kind == "Dinov2ForImageClassification" else kind)
    if file.is_dir():
        loaded, told = model.from_pretrained(
            file, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    else:
        config = model.config_class(**PUBLISHED[file.stem][1])
        loaded, told = model.from_pretrained(
            None, config=config, dtype=torch.float32, state_dict=load_file(file), output_loading_info=True
        )
    return loaded, set(told["missing_keys"])


def _processor(file: Path, kind: str, config: Any) -> Any:
    """What makes pictures ready: as the folder says, else as published; by Pillow, for torchvision's differs a bit."""
    if (file / "preprocessor_config.json").is_file():
        return AutoImageProcessor.from_pretrained(file, backend="pil", local_files_only=True)
    if kind in DINO:
        return BitImageProcessorPil(size={"shortest_edge": 256}, **IMAGENET)
    side = getattr(config, "vision_config", config).image_size
    square = {"height": side, "width": side}
    if kind == "SiglipModel":
        return SiglipImageProcessorPil(size=square)
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=square)


def _tokenizer(file: Path, config: Any) -> Any:
    """The folder's own, else the one that all of OpenAI's CLIP models share; None when there is none for it."""
    if any((file / name).is_file() for name in WORDS):
        return AutoTokenizer.from_pretrained(file, local_files_only=True)
    shipped = load_tokenizer()
    return shipped if len(shipped) == config.text_config.vocab_size else None
