"""`python -m trainer caption DIR`: the command line of the captioners, made from their options."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from trainer.captioners.options import Basic, Captioning, Endpoint, Sentences, Wd14
from trainer.config.parts import Part
from trainer.errors import InputError
from trainer.terminal import Wish

KINDS: dict[str, type[Wd14] | type[Basic] | type[Sentences] | type[Endpoint]] = {
    **{"wd14": Wd14, "basic": Basic, "sentences": Sentences, "endpoint": Endpoint}
}
P = TypeVar("P", bound=Part)
MOST_TAGS = 40


def add(words: Any) -> None:
    """Adds the word `caption` to the engine's command line."""
    about = "write captions beside pictures"
    caption = words.add_parser("caption", help=about, description=f"{about[0].upper()}{about[1:]}.")
    caption.add_argument("folder", metavar="DIR", help=Wd14.model_fields["folder"].description)
    caption.add_argument("--captioner", choices=KINDS, default="wd14", help="what writes the captions (default: wd14)")
    caption.add_argument("--json", action="store_true", help="print what became of the pictures as JSON")
    known: set[str] = {"folder"}
    for name, kind in KINDS.items():
        group = caption.add_argument_group(f"{name}: {(kind.__doc__ or '').split('.')[0]}")
        for field in (field for field in kind.model_fields if field not in known):
            add_flag(group, field)
        known |= kind.model_fields.keys()
    caption.set_defaults(do=run_caption)


def run_caption(given: argparse.Namespace) -> int:
    """Captions a folder; pictures that cannot be read are named, and left out."""
    from trainer.captioners.base import find_pictures
    from trainer.captioners.run import run

    options = read_flags(KINDS[given.captioner], given)
    folder = Path(options.folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"folder: {options.folder!r} is no folder here: give the folder that holds the pictures")
    find_pictures(folder, options.recursive, options.caption_extension)  # before a model is fetched for nothing

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    captioner = make(options, say)
    with Wish().heard() as wish:
        wish.patient = True
        report = run(captioner, options, should_stop=lambda: wish.stop)
    for problem in report.problems:
        say(str(problem))
    if given.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        if isinstance(options, Wd14) and options.frequency_tags:
            print("\n".join(f"{count:>6}  {tag}" for tag, count in report.tags.most_common(MOST_TAGS)))
        print(report.summary())
    return 0


def make(options: Captioning, say: Callable[[str], None]) -> Any:
    """The captioner that goes with these options."""
    if isinstance(options, Wd14):
        from trainer.captioners.wd14 import Wd14Captioner

        return Wd14Captioner(options, say)
    if isinstance(options, Sentences):
        from trainer.captioners.sentences import SentenceCaptioner

        return SentenceCaptioner(options, say)
    if isinstance(options, Endpoint):
        from trainer.captioners.endpoint import EndpointCaptioner

        return EndpointCaptioner(options, say)
    from trainer.captioners.basic import BasicCaptioner

    return BasicCaptioner(options)


def add_flag(parser: Any, name: str) -> None:
    """The flag of an option, for all captioners that have it: `--undesired-tags 1girl`, `--no-recursive`.

    One that is not given is not set, so that each captioner has its own default.
    """
    infos = {kind: part.model_fields[name] for kind, part in KINDS.items() if name in part.model_fields}
    texts = {kind: _help(info) for kind, info in infos.items()}
    same = len(set(texts.values())) == 1
    text = next(iter(texts.values())) if same else " ".join(f"{kind}: {text}" for kind, text in texts.items())
    flag, kind = f"--{name.replace('_', '-')}", next(iter(infos.values())).annotation
    more: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
    if kind is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **more)
    elif get_origin(kind) is Literal:
        parser.add_argument(flag, choices=get_args(kind), **more)
    else:
        several = {"nargs": "+"} if get_origin(kind) is tuple else {}
        parser.add_argument(flag, metavar=name.rsplit("_", 1)[-1].upper(), **several, **more)


def _help(info: FieldInfo) -> str:
    words = " ".join((info.description or "").split())
    if info.is_required():
        return words
    default = " ".join(info.default) if isinstance(info.default, tuple) else info.default
    return f"{words} (default: {default!r})" if default != "" else words


def read_flags(part: type[P], given: argparse.Namespace) -> P:
    """The options that were given; InputError names each flag that is wrong, its value, and the limit."""
    known = {name for kind in KINDS.values() for name in kind.model_fields}
    values = {name: value for name, value in vars(given).items() if name in known}
    for name, value in values.items():
        if isinstance(value, list) and name in part.model_fields and part.model_fields[name].annotation is str:
            values[name] = " ".join(value)  # several models for one captioner, one for another
    try:
        return part.model_validate(values)
    except ValidationError as error:
        raise InputError("\n".join(_said(mistake) for mistake in error.errors())) from None


def _said(mistake: Any) -> str:
    flag = f"--{str(mistake['loc'][0]).replace('_', '-')}: " if mistake["loc"] else ""
    if mistake["type"] == "extra_forbidden":
        return f"{flag}not an option of this captioner: leave it out, or choose another with --captioner"
    value = "" if isinstance(mistake["input"], dict) else f"{str(mistake['input'])[:60]!r}: "
    return f"{flag}{value}{mistake['msg'].removeprefix('Value error, ')}"
