"""What stands where in the forms of the tools, in the order and the words of the Kohya GUI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.captioners.options import TAGGERS

Groups = Mapping[str, tuple[str, ...]]
Conditions = Mapping[str, tuple[str, tuple[Any, ...]]]

LIGHT = ("sharpen", "brightness", "contrast", "saturation", "even_out")
FILES = ("in_place", "recursive", "quality", "rename", "captions", "group", "background")
BUCKETS = ("buckets", "buckets.smallest", "buckets.largest", "buckets.step", "buckets.no_upscale", "interpolation")
SENTENCES: Groups = {
    "": ("folder", "model", "caption_extension", "existing", "prefix", "postfix", "prompt", "batch"),
    "More": (
        *("beam_search", "num_beams", "length_penalty", "repetition_penalty", "top_p", "temperature"),
        *("max_length", "min_length", "recursive", "workers", "download"),
    ),
}
HIRES = ("hires", "hires.scale", "hires.upscaler", "hires.strength", "hires.steps")
FACE = ("face", "face.strength", "face.prompt", "face.most", "face.padding", "face.detector")
LAYOUT: dict[str, Groups] = {
    "caption.wd14": {
        "": (
            *("folder", "model", "caption_extension", "caption_separator", "tag_replacement", "undesired_tags"),
            *("prefix", "postfix", "existing", "general_threshold", "character_threshold"),
        ),
        "More": (
            *("character_tag_expand", "rating_tags", "quality_tags", "character_tags_first", "recursive"),
            *("remove_underscore", "frequency_tags", "threshold", "rating_threshold", "together"),
            *("batch", "workers", "fast_decoding", "download", "force_download"),
        ),
    },
    "caption.basic": {
        "": (
            *("folder", "caption_extension", "overwrite", "prefix", "caption_text", "postfix", "find", "replace"),
            *("recursive", "workers"),
        ),
    },
    **dict.fromkeys(("caption.sentences", "caption.blip2", "caption.git"), SENTENCES),
    "caption.endpoint": {
        "": ("folder", "url", "model", "prompt", "caption_extension", "existing", "prefix", "postfix"),
        "More": ("key_variable", "side", "batch", "max_length", "timeout", "recursive", "workers"),
    },
    "images.resize": {
        "": ("folder", "sizes", "how", "no_upscale", "out", "format"),
        "Sizes": BUCKETS,
        "Light and colour": LIGHT,
        "Files": FILES,
    },
    "images.crop": {
        "": ("folder", "sizes", "focus", "close_ups", "close_up_factor", "split", "out", "format"),
        "Faces and bodies": ("trigger", "face_repeats", "body_repeats", "body_size", "detector", "boxes"),
        "Sizes": ("no_upscale", *BUCKETS),
        "Light and colour": LIGHT,
        "Files": FILES,
    },
    "images.background": {
        "": ("folder", "fill", "colour", "blur", "picture", "seed", "save_masks", "out", "format"),
        "Model": ("model", "kind"),
        "Light and colour": LIGHT,
        "Files": FILES,
    },
    "images.report": {
        "": ("folder", "purpose", "resolution", "trigger", "caption_extension"),
        "More": ("steps", "max_tokens", "buckets", *BUCKETS[1:-1], "detector"),
    },
    "folders.dedupe": {"": ("folder", "others", "near")},
    "folders.import": {"": ("folder", "source")},
    "folders.group": {
        "": ("folder", "out", "group_size", "subfolders", "no_copy", "pad", "colour"),
        "More": ("caption", "caption_extension", "format", "quality"),
    },
    "lora.extract": {
        "": (
            *("model_tuned", "model_org", "save_to", "save_precision", "dim", "conv_dim", "clamp_quantile"),
            *("min_diff", "device", "overwrite"),
        ),
        "LyCORIS LoCon": (
            *("mode", "linear_threshold", "conv_threshold", "linear_ratio", "conv_ratio"),
            *("linear_quantile", "conv_quantile"),
        ),
    },
    "lora.merge": {
        "": ("sd_model", "models", "ratios", "save_to", "save_precision", "overwrite"),
        "Merge LoRA (SVD)": ("method", "new_rank", "new_conv_rank", "device"),
        "Block weights": ("lbws",),
    },
    "lora.resize": {
        "": (
            *("model", "save_to", "new_rank", "new_conv_rank", "dynamic_method", "dynamic_param", "verbose"),
            *("save_precision", "device", "overwrite"),
        ),
    },
    "lora.convert": {"": ("model", "form", "save_to", "family", "save_precision", "overwrite")},
    "lora.verify": {"": ("model", "base")},
    "lora.metadata": {
        "": ("model", "save_to", "title", "author", "description", "license", "tags", "comment", "overwrite"),
        "More": ("set", "remove"),
    },
    "lora.average": {"": ("models", "save_to", "last", "profile", "width", "save_precision", "overwrite")},
    "lora.dylora": {"": ("model", "save_to", "unit", "save_precision", "overwrite")},
    "model.convert": {"": ("model", "save_to", "form", "save_precision", "overwrite")},
    "compare.sample": {
        "Model": ("base", "vae", "clip_skip"),
        "Prompts": ("prompt", "negative"),
        "LoRA": ("loras", "negative_preset"),
        "Generation": ("sampler", "steps", "cfg", "seed", "size", "count", "batch"),
        "Hires fix": HIRES,
        "Face detail": FACE,
        "More": ("folders", "out", "device", "precision"),
    },
    "reg.make": {
        "": ("folder", "words", "prompt", "negative", "base", "count", "batch", "size"),
        "Generation": ("sampler", "steps", "cfg", "seed", "negative_preset"),
        "LoRA": ("loras", "folders"),
        "Hires fix": HIRES,
        "Face detail": FACE,
        "More": ("vae", "clip_skip", "device", "precision"),
    },
    "compare.grid": {
        "": ("prompt", "negative", "base", "sampler", "steps", "cfg", "seed", "size"),
        "Axes": ("x.kind", "x.values", "y.kind", "y.values", "z.kind", "z.values"),
        "LoRAs in every picture": ("loras", "folders"),
        "Hires fix": HIRES,
        "Face detail": FACE,
        "More": ("negative_preset", "vae", "clip_skip", "device", "precision", "out", "cells"),
    },
    "compare.verdict": {
        "": ("folder", "base", "strengths", "seeds"),
        "Own prompts": ("prompts", "contradicting", "plain"),
        "More": (
            *("questions", "finalists", "average", "trigger", "data", "negative", "sampler", "steps", "cfg", "seed"),
            *("size", "batch", "device", "precision"),
        ),
        "Eyes": ("eyes.dino", "eyes.clip", "eyes.face", "eyes.detector", "eyes.tagger"),
    },
    "lora.use": {
        "": ("file", "name", "strength", "trigger", "preview"),
        "Where it goes": ("a1111", "forge", "comfyui", "invokeai", "save_to"),
        "More": ("notes", "description", "negative", "overwrite"),
    },
}
"""Each tool's options: those that are always seen under "", the others under what they are about."""
LORAS = tuple(name for name in LAYOUT if name.startswith(("lora.", "model.")))

BEAMS: Conditions = {
    **dict.fromkeys(("num_beams", "length_penalty"), ("beam_search", (True,))),
    **dict.fromkeys(("top_p", "temperature"), ("beam_search", (False,))),
}
MODES = ("threshold", "ratio", "quantile")
WHEN: dict[str, Conditions] = {
    "caption.basic": {"replace": ("find", ())},
    "caption.sentences": BEAMS,
    "caption.blip2": BEAMS,
    "caption.git": BEAMS,
    "folders.group": {"colour": ("pad", (True,)), "caption_extension": ("caption", (True,))},
    "images.crop": {
        "close_up_factor": ("close_ups", (True,)),
        **dict.fromkeys(("trigger", "face_repeats", "body_repeats", "body_size"), ("split", (True,))),
        "detector": ("focus", ("auto", "face")),
    },
    "images.background": {
        "colour": ("fill", ("colour",)),
        "blur": ("fill", ("blur",)),
        "picture": ("fill", ("picture",)),
        "seed": ("fill", ("random",)),
    },
    "lora.extract": {
        "dim": ("mode", ("fixed",)),
        "conv_dim": ("mode", ("fixed",)),
        **{f"{part}_{mode}": ("mode", (mode,)) for mode in MODES for part in ("linear", "conv")},
    },
    "lora.merge": {"new_rank": ("method", ("svd",)), "new_conv_rank": ("method", ("svd",))},
    "lora.average": {"width": ("profile", ("ema",))},
}
"""Options that count beside some values of another alone, which are given; with none given, beside any that is not
empty."""
START = {
    "caption": "Caption images",
    "images.resize": "Resize images",
    "images.crop": "Crop images",
    "images.background": "Change backgrounds",
    "images.report": "Look at the pictures",
    "folders.dedupe": "Look for duplicates",
    "folders.import": "Import pictures",
    "folders.group": "Group images",
    "lora.extract": "Extract LoRA model",
    "lora.merge": "Merge model",
    "lora.resize": "Resize model",
    "lora.convert": "Convert LoRA",
    "lora.verify": "Verify",
    "lora.metadata": "Change metadata",
    "lora.average": "Average LoRAs",
    "lora.dylora": "Extract LoRA model",
    "model.convert": "Convert model",
    "compare.sample": "Generate",
    "compare.grid": "Draw",
    "reg.make": "Make class pictures",
    "compare.verdict": "Find the best file",
    "lora.use": "Use this one",
}
OFFERS: dict[str, dict[str, tuple[str, ...]]] = {"caption.wd14": {"model": TAGGERS}}
"""What is offered where anything may be written."""
FOLDERS = ("folder", "out", "cells", "others", "folders", "data", "a1111", "forge", "comfyui", "invokeai")
GOALS = ("out", "save_to")
"""Where files go."""
OF_WEIGHTS: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("model", "model_tuned", "model_org", "sd_model", "base", "save_to"), (".safetensors", ".ckpt", ".pt")
)
OF_DRAWING: Mapping[str, tuple[str, ...]] = {
    "base": (".safetensors", ".ckpt"),
    "vae": (".safetensors", ".ckpt", ".pt"),
    "loras": (".safetensors",),
    "face.detector": (".onnx",),
}
ENDINGS: dict[str, Mapping[str, tuple[str, ...]]] = {
    "images.crop": {"detector": (".onnx",), "boxes": (".json",)},
    "images.background": {"model": (".onnx",)},
    "images.report": {"detector": (".onnx",)},
    **dict.fromkeys(LORAS, OF_WEIGHTS),
    **dict.fromkeys(("compare.sample", "compare.grid", "reg.make"), OF_DRAWING),
    "compare.verdict": {"base": (".safetensors", ".ckpt"), "eyes.face": (".onnx",), "eyes.detector": (".onnx",)},
    "lora.use": {"file": (".safetensors",), "preview": (".png", ".jpg", ".jpeg", ".webp")},
}
"""Files that are offered for an option."""
COLOURS = ("background", "colour")
LONG = ("prompt", "negative", "face.prompt", "notes")
SIDES = ("size",)
"""Width and height."""
OF_PICTURES: Mapping[str, tuple[float, float, float]] = {
    "steps": (1, 100, 1),
    "cfg": (1, 20, 0.5),
    "hires.scale": (1.05, 4, 0.05),
    "hires.strength": (0.05, 1, 0.05),
    "face.strength": (0.05, 1, 0.05),
    "face.padding": (1, 5, 0.1),
    "face.most": (1, 20, 1),
}
RANGES: dict[str, Mapping[str, tuple[float, float, float]]] = {
    "compare.sample": {**OF_PICTURES, "count": (1, 50, 1), "batch": (1, 8, 1)},
    "compare.grid": OF_PICTURES,
    "reg.make": {**OF_PICTURES, "count": (1, 1000, 1), "batch": (1, 8, 1)},
    "compare.verdict": {
        "seeds": (1, 8, 1),
        "questions": (1, 12, 1),
        "finalists": (1, 12, 1),
        "steps": (1, 60, 1),
        "cfg": (1, 20, 0.5),
        "batch": (1, 16, 1),
    },
    "lora.use": {"strength": (0.05, 1.5, 0.05)},
}
"""From where to where a slider beside the box goes, and in which steps; more may be written into the box."""
