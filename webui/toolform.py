"""The forms of the tools: what stands where, in the order and the words of the Kohya GUI, and what was filled in last.

A form is told to the page as JSON, made from the tool's options; static/tool.js draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from trainer.captioners.options import TAGGERS
from trainer.durable import DiskError, make_folder, read_json, write_json
from trainer.jobs import job_of
from webui.fields import Field, fields_of
from webui.settings import Settings

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
    "models.get": {"": ("names",)},
}
"""Each tool's options: those that are always seen under "", the others under what they are about."""

BEAMS: Conditions = {
    **dict.fromkeys(("num_beams", "length_penalty"), ("beam_search", (True,))),
    **dict.fromkeys(("top_p", "temperature"), ("beam_search", (False,))),
}
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
    "models": "Download",
    "folders.group": "Group images",
}
OFFERS: dict[str, dict[str, tuple[str, ...]]] = {"caption.wd14": {"model": TAGGERS}}
"""What is offered where anything may be written."""
FOLDERS = ("folder", "out", "others")
ENDINGS = {"detector": (".onnx",), "model": (".onnx",), "boxes": (".json",)}
COLOURS = ("background", "colour")
LONG = ("prompt",)


def form_of(settings: Settings, name: str) -> dict[str, Any]:
    """A tool's form: {"title", "start", "groups": [{"title", "fields"}], "values": {name: what stood there last}}."""
    job = job_of(name)
    known = fields_of(job.options)
    values = {shown.name: _default(shown) for shown in known.values()} | _last(settings, name)
    groups = [
        {"title": title, "fields": [_field(name, known[option]) for option in options]}
        for title, options in LAYOUT[name].items()
    ]
    start = START.get(name) or START[name.partition(".")[0]]
    return {"title": job.title, "start": start, "groups": groups, "values": values}


def options_of(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What stands in a form's boxes as options, unchecked; those that are not shown are left out."""
    known = fields_of(job_of(name).options)
    tree = {option: value for option, value in values.items() if option not in known}  # to be refused by name
    full = {shown.name: _default(shown) for shown in known.values()} | dict(values)
    owners = {shown.owner for shown in known.values()}
    for shown in known.values():
        if shown.name not in values or shown.meaning(full) is None:
            continue
        *above, last = shown.name.split(".")
        part = tree
        for word in above:
            part = part.setdefault(word, {})
        value = shown.read(values[shown.name])
        part[last] = ({} if value else None) if shown.name in owners else value
    return tree


def keep(settings: Settings, name: str, values: Mapping[str, Any]) -> None:
    """Keeps what stands in a form for the next visit; it is worth no error when the disk is full."""
    file = _file(settings, name)
    try:
        make_folder(file.parent)
        write_json(file, dict(values))
    except DiskError:
        return


def _last(settings: Settings, name: str) -> dict[str, Any]:
    """What stood in a form when it was started last, as far as it still has such fields."""
    try:
        kept = read_json(_file(settings, name))
    except (OSError, ValueError):
        return {}
    known = fields_of(job_of(name).options)
    return {option: value for option, value in kept.items() if option in known} if isinstance(kept, dict) else {}


def _file(settings: Settings, name: str) -> Path:
    return settings.data_dir / "tools" / f"{name}.json"


def _default(shown: Field) -> Any:
    default = next(iter(shown.meanings.values())).default
    return "" if default is PydanticUndefined else shown.write(default)


def _field(name: str, shown: Field) -> dict[str, Any]:
    """One field for the page."""
    meaning = next(iter(shown.meanings.values()))
    when = WHEN.get(name, {}).get(shown.name) or ((shown.owner, (True,)) if shown.owner else None)
    return {
        "name": shown.name,
        "label": shown.label,
        "help": " ".join(meaning.help.split()),
        "key": shown.key,
        "today": shown.today,
        "kind": "colour" if shown.name in COLOURS else "long" if shown.name in LONG else shown.kind,
        "choices": [word for word, _ in shown.choices],
        "offers": OFFERS.get(name, {}).get(shown.name, ()),
        "path": ("folder" if shown.name in FOLDERS else "file") if shown.is_path else "",
        "ends": ENDINGS.get(shown.name, ()),
        "default": _default(shown),
        "when": {"name": when[0], "values": when[1]} if when else None,
    }
