"""Textual inversion by template: sentences around new words in place of captions.

Those of the method's authors (Gal et al. 2022, arXiv 2208.01618), which diffusers and sd-scripts use too. As in
sd-scripts each use of a picture draws one; here prefix, suffix and dropout act on it, and regularisation pictures keep
their captions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from trainer.config import Config, Embedding
from trainer.config.embedding import split
from trainer.data.folders import Picture
from trainer.errors import InputError

_OF_A = "photo|rendering|cropped photo|close-up photo|good photo|rendition"
_OF_A_SOMETHING = "photo of a clean|photo of a dirty|photo of a nice|photo of a cool|photo of a small"
_OF_THE = "cropped photo|dark photo|bright photo|close-up photo|good photo"
_OF_THE_SOMETHING = "cool|clean|nice|small|weird|large"
_STYLES = (
    "painting|rendering|cropped painting|dirty painting|dark painting|picture|cool painting|close-up painting|"
    "bright painting|good painting|rendition|nice painting|small painting|weird painting|large painting"
)
OBJECT = (
    *(f"a {what} of a {{}}" for what in _OF_A.split("|")),
    *(f"a {what} {{}}" for what in _OF_A_SOMETHING.split("|")),
    *(f"a {what} of the {{}}" for what in _OF_THE.split("|")),
    *(f"a photo of the {what} {{}}" for what in _OF_THE_SOMETHING.split("|")),
    *("the photo of a {}", "a photo of my {}", "a photo of the {}", "a photo of one {}", "a rendition of the {}"),
)
STYLE = (
    *(f"a {what} in the style of {{}}" for what in _STYLES.split("|")),
    *("the painting in the style of {}", "a clean painting in the style of {}"),
    *("a cropped painting in the style of {}", "a close-up painting in the style of {}"),
)
TEMPLATES: dict[str, Sequence[str]] = {"object": OBJECT, "style": STYLE}


def text_of(picture: Picture, config: Config, dice: random.Random) -> str:
    """What one use of a picture is described with before it varies: its caption, or a template with the new words."""
    lines = lines_of(config)
    return picture.caption if picture.folder.reg or not lines else dice.choice(lines)


def lines_of(config: Config) -> list[str]:
    """The sentences of a template around the new words; none where captions are read."""
    network = config.network
    if not isinstance(network, Embedding) or network.template == "caption":
        return []
    return [line.format(" ".join(split(network.token))) for line in TEMPLATES[network.template]]


def check_words(config: Config, pictures: Sequence[Picture]) -> None:
    """InputError for a new word that no caption holds: it would never be read, and learn nothing."""
    network = config.network
    alone = network if isinstance(network, Embedding) and network.template == "caption" else None
    words = config.pivotal or alone
    if words is None:
        return
    options = [config.captions, *map(config.captions.of, config.data.subsets)]
    around = [text for one in options for text in (one.prefix, one.suffix)]
    texts = [*around, *(picture.caption for picture in pictures if not picture.folder.reg)]
    for word in split(words.token):
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
        if not any(pattern.search(text) for text in texts):
            part, other = ("network", ", or set network.template to object or style") if alone else ("pivotal", "")
            raise InputError(
                f"{part}.token: no caption holds {word}, so it would learn nothing: write it into the captions,"
                f" or set captions.prefix to it{other}"
            )
