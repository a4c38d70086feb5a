"""What tags speak of: for the order that a character's captions are trained in, and for traits to bake in.

Patterns are those of the filter language; a tag is compared without weight and escapes, `_` as a blank.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from trainer.tags.query import wildcards
from trainer.tags.tag import bare

ORDER = ("subject", "switchable", "negative", "pose", "hands", "shot")
"""What comes first; "switchable" is everything that is nothing else: clothes, hair, expression, place."""

KINDS = {
    "subject": "solo, ?girl, ??girls, ?girls, ?boy, ?boys, ??boys, ?other, ?others, multiple girls, multiple boys, "
    "woman, man, girl, boy, person, female, male, 1woman, 1man, a woman, a man, no humans, couple, crowd",
    "negative": "simple background, * border, border, white background, black background, grey background, "
    "gray background, gradient background, two-tone background, transparent background, watermark, signature, "
    "artist name, username, web address, logo, dated, text, *speech bubble, lowres, blurry, *blurry background, "
    "jpeg artifacts, scan artifacts, letterboxed, pillarboxed, cropped, monochrome, greyscale, chromatic aberration",
    "pose": "standing*, sitting*, kneeling, lying*, on back, on side, on stomach, on bed, walking, running, jumping, "
    "squatting, crouching, leaning*, dancing, floating, arm up, arms up, arms at sides, arms behind *, crossed arms, "
    "outstretched arm*, spread arms, contrapposto, head tilt, head rest, looking *, facing *, crossed legs, legs up, "
    "leg up, spread legs, all fours, bent over, *pose, wariza, seiza, indian style, stretching",
    "hands": "*hand, *hands, hand *, hands *, *own hands*, *finger, *fingers, fingers *, *fist, *fists, clenched *, v, "
    "double v, peace sign, thumbs up, thumb*, holding*, waving, pointing*, salute, pinky out, *palm, palms *",
    "shot": "close-up, *portrait, portrait, face, upper body, lower body, cowboy shot, full body, wide shot, "
    "medium shot, long shot, *shot, from above, from below, from behind, from side, from front, front view, "
    "side view, back view, profile, dutch angle, pov, * out of frame, foreshortening, fisheye, straight-on",
}

TRAITS = {
    "eye colour": "{colour} eyes, heterochromia, multicolored eyes, two-tone eyes, gradient eyes",
    "hair colour": "{colour} hair, multicolored hair, two-tone hair, gradient hair, streaked hair, colored inner hair",
    "hair length": "short hair, very short hair, medium hair, long hair, very long hair, absurdly long hair",
    "hair style": "bangs, * bangs, ponytail, *ponytail, twintails, *braid, braids, *braids, bob cut, hair bun, "
    "*hair bun, sidelocks, ahoge, curly hair, wavy hair, straight hair, hair between eyes, hime cut, pixie cut",
    "face": "freckles, mole, mole *, scar*, facial mark, thick eyebrows, beard, mustache, stubble, fang, fangs",
    "skin": "dark skin, dark-skinned *, pale skin, tan, tanned, {colour} skin",
    "body": "*breasts, flat chest, muscular*, abs, toned, tall, short, slim, curvy, plump, old, aged *, mature *",
    "ears and tail": "pointy ears, animal ears, * ears, tail, * tail, horns, * horns, horn, wings, * wings, halo",
    "glasses": "glasses, *-framed eyewear, *rimmed eyewear, sunglasses, eyepatch",
}
"""What a character always has, by the name that a person would choose it by."""

COLOURS = (
    *("aqua", "black", "blonde", "blue", "brown", "dark blue", "dark brown", "ginger", "golden", "gold", "green"),
    *("grey", "gray", "hazel", "amber", "light blue", "light brown", "orange", "pink", "purple", "red", "silver"),
    *("violet", "white", "yellow", "platinum blonde", "auburn"),
)


def kind(tag: str) -> str:
    """The part of ORDER that a tag belongs to."""
    words = _words(tag)
    return next((name for name, patterns in KINDS.items() if among(words, patterns)), "switchable")


def has_trait(tag: str, traits: Collection[str]) -> bool:
    """Whether a tag speaks of one of these traits."""
    words = _words(tag)
    return any(among(words, TRAITS[trait]) for trait in traits)


@lru_cache(65_536)
def among(tag: str, patterns: str) -> bool:
    """Whether a tag is one of patterns with commas between them; `{colour}` stands for any colour."""
    return _compiled(patterns).match(_words(tag)) is not None


@lru_cache(256)
def _compiled(patterns: str) -> re.Pattern[str]:
    spelled = (
        pattern.replace("{colour}", colour)
        for pattern in patterns.split(", ")
        for colour in (COLOURS if "{colour}" in pattern else ("",))
    )
    return re.compile("|".join(f"(?:{wildcards(pattern).pattern})" for pattern in spelled), re.I)


def _words(tag: str) -> str:
    return bare(tag).replace("_", " ")
