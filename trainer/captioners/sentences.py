"""Sentences by models of transformers that read a picture and write text: BLIP, BLIP-2, GIT, Florence-2, Qwen-VL,
LLaVA, JoyCaption.

Only classes that transformers brings are used, and only safetensors are read: nothing of a model's folder is run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.captioners.base import Say, asked, with_sentence
from trainer.captioners.options import Sentences
from trainer.data.pictures import open_picture, plain
from trainer.errors import InputError

WITHOUT_EFFECT = {"folder", "recursive", "workers", "batch", "download"}
PROMPTS = {"florence2": "<MORE_DETAILED_CAPTION>", "blip": "", "blip-2": "", "git": ""}
CHAT = "Describe this picture in one or two plain sentences."
"""What models are asked when no prompt is given: Florence-2 by its word for it, those that chat by a sentence."""


class SentenceCaptioner:
    """One model on the best device there is."""

    what = "Captions in sentences"
    separator = ","

    def __init__(self, options: Sentences, say: Say = print) -> None:
        import torch
        from transformers import AutoModelForImageTextToText

        self.options, self.batch, self.existing = options, options.batch, options.existing
        self.by = options.model_dump_json(exclude=WITHOUT_EFFECT)
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        self.dtype = torch.bfloat16 if device == "cuda" else torch.float32
        local = {"local_files_only": not options.download}
        try:
            self.processor: Any = open_processor(options.model, local)
            self.model: Any = AutoModelForImageTextToText.from_pretrained(
                options.model, dtype=self.dtype, use_safetensors=True, **local
            )
        except Exception as error:  # transformers, the hub and safetensors have classes of their own
            said = plain(" ".join(str(error).split()))
            if isinstance(error, ImportError):
                raise InputError(
                    f"model: {options.model} needs a library that is not here ({said}): "
                    f"install it with {sys.executable} -m pip install, or take another model"
                ) from error
            raise InputError(
                f"model: {options.model} cannot be loaded ({said}): give the folder of a model that writes text about "
                "pictures, with its processor and safetensors, or its name on the Hugging Face hub"
            ) from error
        self.model.to(device).eval()
        self.device, self.kind = device, self.model.config.model_type
        self.chats = bool(getattr(self.processor, "chat_template", None))
        self.processor.tokenizer.padding_side = "right" if self.model.config.is_encoder_decoder else "left"
        say(f"{options.model}: {type(self.model).__name__} on {'the CPU' if device == 'cpu' else device}.")

    def prepare(self, picture: Path) -> tuple[str, Image.Image]:
        """The text that goes with the picture, and the picture."""
        prompt = asked(self.options, picture) or PROMPTS.get(self.kind, CHAT)
        if self.chats:
            content = [{"type": "image"}, {"type": "text", "text": prompt}]
            talk = [{"role": "user", "content": content}]
            prompt = self.processor.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        elif prompt and self.kind == "git":  # goes on from the text, so that no sign of an end may stand behind it
            prompt = f"{self.processor.tokenizer.cls_token or ''} {prompt}"
        return prompt, open_picture(picture, "#ffffff").image.convert("RGB")

    def look(self, pictures: Sequence[tuple[str, Image.Image]]) -> list[str]:
        """What the model writes."""
        import torch

        options = self.options
        texts, images = [text for text, _ in pictures], [[image] if self.chats else image for _, image in pictures]
        bare = {"add_special_tokens": False, "return_token_type_ids": False} if self.kind == "git" else {}
        words = {"text": texts, "padding": True, **bare} if any(texts) else {}
        given = self.processor(images=images, return_tensors="pt", **words).to(self.device, self.dtype)
        how: dict[str, Any] = {"repetition_penalty": options.repetition_penalty, "do_sample": not options.beam_search}
        if options.beam_search:
            penalty = {"length_penalty": options.length_penalty} if options.num_beams > 1 else {}
            how |= {"num_beams": options.num_beams, **penalty}
        else:
            how |= {"num_beams": 1, "top_k": 0, "top_p": options.top_p, "temperature": options.temperature}
        with torch.inference_mode():
            told = self.model.generate(
                **given,
                max_new_tokens=options.max_length,
                min_new_tokens=options.min_length,
                **how,
            )
        if self.chats:  # these repeat the question
            told = told[:, given["input_ids"].shape[1] :]
        return self.processor.batch_decode(told, skip_special_tokens=True)

    def caption(self, seen: str, before: str | None) -> str:
        """The caption of a sentence."""
        return with_sentence(self.options, seen, before)


def open_processor(model: str, local: dict[str, Any]) -> Any:
    """What makes pictures and text ready for a model.

    Processors that take films too, as Qwen-VL's, want torchvision for them; without it they are made for pictures
    alone, which Pillow makes ready.
    """
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    try:
        return AutoProcessor.from_pretrained(model, **local)
    except ImportError:
        whole: Any = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(model, **local))]
        parts: list[str] = [part for part in whole.get_attributes() if part != "video_processor"]
        if len(parts) == len(whole.get_attributes()):
            raise

        def get_attributes(cls: type) -> list[str]:
            return parts

        stills: Any = type(whole.__name__, (whole,), {"get_attributes": classmethod(get_attributes)})
        return stills.from_pretrained(model, **local)
