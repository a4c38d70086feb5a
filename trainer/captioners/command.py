"""`python -m trainer caption DIR`: the command line of the captioners, made from their options."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.captioners.options import Basic, Blip2, Captioning, Endpoint, Git, Sentences, Wd14
from trainer.flags import add_flags, read_flags
from trainer.terminal import Stop, Stopped, Tell, Wish, bar, never, silent

if TYPE_CHECKING:
    from trainer.captioners.base import Report, Say

KINDS: dict[str, type[Wd14] | type[Basic] | type[Sentences] | type[Endpoint]] = {
    **{"wd14": Wd14, "basic": Basic, "sentences": Sentences, "blip2": Blip2, "git": Git, "endpoint": Endpoint}
}
MOST_TAGS = 40


def add(words: Any) -> None:
    """Adds the word `caption` to the engine's command line."""
    about = "write captions beside pictures"
    caption = words.add_parser("caption", help=about, description=f"{about[0].upper()}{about[1:]}.")
    caption.add_argument("--captioner", choices=KINDS, default="wd14", help="what writes the captions (default: wd14)")
    caption.add_argument("--json", action="store_true", help="print what became of the pictures as JSON")
    add_flags(caption, KINDS)
    caption.set_defaults(do=run_caption)


def run_caption(given: argparse.Namespace) -> int:
    """Captions a folder; pictures that cannot be read are named, and left out."""
    options = read_flags(given, KINDS[given.captioner])
    with Wish().heard() as wish, bar("B", "model") as fetching, bar("pictures") as tell:
        report = run_captions(options, tell, wish.asked, fetching=fetching)
    for problem in report.problems:
        say(str(problem))
    if given.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        if isinstance(options, Wd14) and options.frequency_tags:
            print("\n".join(f"{count:>6}  {tag}" for tag, count in report.tags.most_common(MOST_TAGS)))
        print(report.summary())
    return 0


def say(text: str) -> None:
    """Says something on stderr; stdout may be a --json report."""
    print(text, file=sys.stderr)


def run_captions(
    options: Captioning,
    tell: Tell = silent,
    should_stop: Stop = never,
    say: Say = say,
    fetching: Tell = silent,
) -> Report:
    """Captions a folder as the options say, and says what became of it.

    tell: called with (pictures done, pictures in all); should_stop: asked between batches; say: told what is loaded,
    where it runs, and what is fetched; fetching: called with (bytes here, bytes in all) of it. InputError for a folder
    without pictures, and a model that is missing.
    """
    from trainer.captioners.base import Report, find_pictures
    from trainer.captioners.run import run
    from trainer.named import folder_of

    folder_of("folder", options.folder)
    folder = Path(options.folder).expanduser()
    listed = find_pictures(folder, options.recursive, options.caption_extension)
    try:  # only now, so that no model is fetched for nothing
        captioner = make(options, say, should_stop, fetching)
    except Stopped:
        return Report(stopped=True)
    return run(captioner, options, tell, should_stop, listed)


def make(options: Captioning, say: Say, should_stop: Stop = never, fetching: Tell = silent) -> Any:
    """The captioner that goes with these options; Stopped when it was asked to stop while its model was fetched."""
    if isinstance(options, Wd14):
        from trainer.captioners.wd14 import Wd14Captioner

        return Wd14Captioner(options, say, should_stop, fetching)
    if isinstance(options, Sentences):
        from trainer.captioners.sentences import SentenceCaptioner

        return SentenceCaptioner(options, say)
    if isinstance(options, Endpoint):
        from trainer.captioners.endpoint import EndpointCaptioner

        return EndpointCaptioner(options, say)
    from trainer.captioners.basic import BasicCaptioner

    return BasicCaptioner(options)
