"""Tags that contradict each other, or say the same twice: each finding with its reason, and the edit that cures it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.tags import edits
from trainer.tags.captions import CaptionSet, Picture
from trainer.tags.edits import Edit
from trainer.tags.kinds import among
from trainer.tags.tag import Tags, bare

ONE_OF = {
    "eye colour": ("{colour} eyes", "heterochromia, multicolored eyes, two-tone eyes, gradient eyes"),
    "hair colour": ("{colour} hair", "*colored hair, *-tone hair, gradient hair, streaked hair, colored inner hair"),
    "hair length": ("very short hair, short hair, medium hair, long hair", ""),
    "mouth": ("open mouth, closed mouth", ""),
    "eyes": ("closed eyes, looking at viewer", "one eye closed"),
    "camera shot": ("portrait, upper body, cowboy shot, full body", "multiple views, inset"),
    "view": ("from above, from below", "multiple views"),
    "place": ("indoors, outdoors", ""),
    "time": ("day, night", ""),
    "number of women": ("1girl, ?girls, multiple girls", ""),
    "number of men": ("1boy, ?boys, multiple boys", ""),
    "number of people": ("solo, ?girls, ?boys, multiple girls, multiple boys, couple", ""),
}
"""Groups of which a picture has one tag only, unless one of the second patterns is there."""

OF_A_PERSON = ("eye colour", "hair colour", "hair length", "mouth", "eyes")  # two people may well differ
SEVERAL = "?girls, ?boys, multiple girls, multiple boys, couple, crowd"
WOMAN = "1girl, woman, girl, female, 1woman, a woman, lady"
MAN = "1boy, man, boy, male, 1man, a man, guy"
MAJORITY = 3
"""A set is a woman's when so many times more pictures say so than say a man."""

Kind = Literal["subject", "one of", "parent"]


@dataclass(frozen=True)
class Finding:
    """What is wrong with the tags of one picture."""

    picture: Picture
    kind: Kind
    tags: Tags
    """Those that do not go together."""
    reason: str
    cure: Edit


def findings(data: CaptionSet) -> list[Finding]:
    """All contradictions and doubles of a data set, picture by picture. Pictures that share a caption come once."""
    counts = data.counts()
    other, why = _other_subject(data)
    found: list[Finding] = []
    for picture in {picture.file: picture for picture in data.pictures}.values():
        tags = tuple(dict.fromkeys(bare(tag) for tag in data.caption(picture).tags))
        if strange := tuple(tag for tag in tags if other and among(tag, other)):
            found.append(Finding(picture, "subject", strange, f"{strange[0]} {why}", edits.remove(strange)))
        found += _one_of(picture, tags, counts)
        found += _parents(picture, tags)
    return found


def cures(found: Sequence[Finding]) -> list[tuple[Picture, Edit]]:
    """What `History.run` takes to cure findings."""
    return [(finding.picture, finding.cure) for finding in found]


def _other_subject(data: CaptionSet) -> tuple[str, str]:
    """Patterns of the sex that the set is not of, and why; empty when the set is of neither or of both."""
    said = Counter[str]()
    for picture in data.pictures:
        tags = data.caption(picture).tags
        said.update(
            name for name, patterns in (("woman", WOMAN), ("man", MAN)) if any(among(tag, patterns) for tag in tags)
        )
    for name, rival, patterns in (("woman", "man", MAN), ("man", "woman", WOMAN)):
        if said[rival] and said[name] >= MAJORITY * said[rival]:
            return patterns, f"on a {name}'s set: {said[name]} pictures say a {name}, {said[rival]} a {rival}"
    return "", ""


def _one_of(picture: Picture, tags: Tags, counts: Mapping[str, int]) -> Iterator[Finding]:
    """Groups with two tags on one picture; the cure keeps the one that is on the most pictures."""
    several = any(among(tag, SEVERAL) for tag in tags) or (
        any(among(tag, WOMAN) for tag in tags) and any(among(tag, MAN) for tag in tags)
    )
    for name, (group, unless) in ONE_OF.items():
        had = tuple(tag for tag in tags if among(tag, group))
        if len(had) < 2 or (several and name in OF_A_PERSON) or (unless and any(among(tag, unless) for tag in tags)):
            continue
        kept = max(had, key=lambda tag: counts.get(tag, 0))  # the first of equals
        reason = f"{' and '.join(had)}: a picture has one {name}; {kept} is on {counts.get(kept, 0)} pictures"
        yield Finding(picture, "one of", had, reason, edits.remove([tag for tag in had if tag != kept]))


def _parents(picture: Picture, tags: Tags) -> Iterator[Finding]:
    """Tags that another one ends with, such as `hair` beside `long hair`: they say nothing more."""
    words = {tag: tuple(tag.replace("_", " ").split()) for tag in tags}
    there = set(words.values())
    ends = {ends: tag for tag, of in words.items() for start in range(1, len(of)) if (ends := of[start:]) in there}
    for parent in tags:
        if child := ends.get(words[parent]):
            reason = f"{parent} is said by {child} already"
            yield Finding(picture, "parent", (parent, child), reason, edits.remove([parent]))
