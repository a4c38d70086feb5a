"""What is wrong with pictures, by what was seen of them: each limit stands here, how it was found in docs/doctor.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trainer.data.buckets import Placement
from trainer.doctor.finding import Cure, Finding, Severity, aside, several
from trainer.doctor.options import Doctor
from trainer.doctor.seeing import Refused, Seen
from trainer.doctor.sessions import sessions
from trainer.doctor.words import EYES, NO_FACE, Texts, people, tagged
from trainer.images.similar import duplicates

LEAST_SHARP = 43.0
"""Least sharpness: photos measure 50 and more, the same ones blurred by two pixels at most 37."""
NOISIEST = 5.5
"""Most noise in grey levels: photos measure up to 4; more only where there is nothing but grass."""
WHITEST = 0.12
"""Most of a picture that is white without detail."""
DARKEST = 46.0
"""Least grey that a tenth of the pixels exceeds."""
COLOURED = 20.0
"""Most degrees between the light's colour and grey."""
SMALL_SIDE = 1000
"""Pixels a side that originals should have."""
MOST_LOST = 0.25
"""Of a picture may be cut off by its bucket."""
OTHER_FACE = 0.15
"""Part of the largest face's area from which another one is somebody."""
CLOSED = 0.3
"""An eye with less contrast, against that of its face, is closed or hidden."""
LEAST_APART = 24.0
"""Pixels between the eyes of a close face in the copy, below which nothing can be said of them."""
SESSION_SHARE, SESSION_LEAST = 0.2, 4
"""A session of at least four pictures is spoken of, and is care from a fifth of the set on."""
KEPT_OF_SESSION = 3


@dataclass(frozen=True)
class Looked:
    """All pictures that open, what each is placed in (None: no bucket fits), and what training is meant to be."""

    seen: Sequence[Seen]
    placed: Mapping[str, Placement | None]
    options: Doctor
    has_detector: bool

    @property
    def is_of_people(self) -> bool:
        """Whether faces and sessions matter."""
        return self.options.purpose != "style"

    def aside(self, pictures: Sequence[str], label: str = "Set these pictures aside") -> list[Cure]:
        """The cure that takes pictures out."""
        return [aside(pictures, label, self.options.caption_extension)]


def lost(placement: Placement) -> float:
    """The part of a picture that its bucket cuts off, 0 to 1."""
    return 1 - math.prod(placement.bucket) / math.prod(placement.resized)


def refused(pictures: Sequence[Refused], options: Doctor) -> Iterator[Finding]:
    """Files that training leaves out."""
    if pictures:
        details = {picture.name: picture.why for picture in pictures}
        title = several(len(details), "picture cannot be used", "pictures cannot be used")
        why = "training leaves them out: save them again, or set them aside"
        files = [picture.name for picture in pictures if picture.is_file]
        cures = [aside(files, extension=options.caption_extension)] if files else []
        yield Finding("broken", "bad", title, why, [*details], details, cures=cures)


def changed(looked: Looked) -> Iterator[Finding]:
    """Pictures that are trained otherwise than they lie there: turned, first frame taken, colours converted."""
    details = {picture.name: "; ".join(picture.notes) for picture in looked.seen if picture.notes}
    if details:
        title = several(len(details), "picture is changed as it is read", "pictures are changed as they are read")
        yield Finding("changed", "hint", title, "training sees them as told here", [*details], details)


def size(looked: Looked) -> Iterator[Finding]:
    """Too small, too thin, or cut a lot."""
    width, height = looked.options.resolution
    area, wanted = width * height, f"{width}x{height}"
    sizes = {picture.name: f"{picture.size[0]} x {picture.size[1]} pixels" for picture in looked.seen}
    tiny = {p.name: f"{sizes[p.name]}, {wanted} wanted" for p in looked.seen if math.prod(p.size) < area}
    if tiny:
        title = several(len(tiny), "picture is too small", "pictures are too small")
        why = f"fewer pixels than {wanted}: enlarged, or trained smaller, they teach blur; get larger originals"
        yield Finding("too_small", "bad", title, why, [*tiny], tiny, cures=looked.aside([*tiny]))
    side = max(SMALL_SIDE, math.isqrt(area))
    large = [picture for picture in looked.seen if picture.name not in tiny]
    originals = [picture for picture in large if not _is_prepared(picture, looked)]
    small = {p.name: f"{sizes[p.name]}, {side} a side wanted" for p in originals if min(p.size) < side}
    if small:
        title = several(len(small), "original is small", "originals are small")
        why = f"below {side} pixels a side little is left for a close-up, and compression shows"
        yield Finding("small", "hint", title, why, [*small], small)
    cut = {picture.name: lost(place) for picture in large if (place := looked.placed[picture.name])}
    much = {name: f"{part:.0%} cut off, limit {MOST_LOST:.0%}" for name, part in cut.items() if part > MOST_LOST}
    much |= {name: "no bucket fits it: too thin" for name, place in looked.placed.items() if place is None}
    if much:
        title = several(len(much), "picture loses much to the crop", "pictures lose much to the crop")
        mean = sum(cut.values()) / max(len(cut), 1)
        why = f"the mean is {mean:.0%}: crop them around what matters (Utilities > Resize), or train with buckets"
        yield Finding("shape", "care", title, why, [*much], much)


def _is_prepared(picture: Seen, looked: Looked) -> bool:
    """Whether a picture was brought to the size that is trained."""
    place = looked.placed[picture.name]
    return picture.size == looked.options.resolution or (place is not None and picture.size == place.bucket)


def quality(looked: Looked) -> Iterator[Finding]:
    """Blurred, noisy, blown out, too dark, in coloured light."""
    seen = looked.seen
    lit = [picture for picture in seen if picture.light.bright >= DARKEST]  # in the dark nothing else can be told
    blurred = {p.name: f"sharpness {p.sharpness:g}, limit {LEAST_SHARP:g}" for p in lit if p.sharpness < LEAST_SHARP}
    noisy = {p.name: f"noise {p.noise:.1f}, limit {NOISIEST:g}" for p in lit if p.noise > NOISIEST}
    white = {p.name: f"{p.light.white:.0%} white, limit {WHITEST:.0%}" for p in seen if p.light.white > WHITEST}
    dark = {
        p.name: f"a tenth is brighter than {p.light.bright:g} of 255, limit {DARKEST:g}"
        for p in seen
        if p.light.bright < DARKEST
    }
    coloured = {p.name: f"{p.cast:g} degrees from grey, limit {COLOURED:g}" for p in lit if p.cast > COLOURED}
    kinds: list[tuple[str, str, dict[str, str], str]] = [
        ("blurred", "blurred", blurred, "what is trained soft comes out soft: take sharper ones"),
        ("noisy", "noisy", noisy, "noise is learned as skin and cloth: take cleaner ones"),
        ("blown_out", "blown out", white, "white parts have no detail to learn"),
        ("dark", "too dark", dark, "there is little to see, and the darkness is learned"),
        ("cast", "in coloured light", coloured, "its colour is learned as that of skin and hair: even it out (Resize), "
         "or leave them out"),
    ]  # fmt: skip
    for kind, word, details, why in kinds:
        if details:
            severity: Severity = "hint" if not looked.is_of_people else "bad" if kind == "blurred" else "care"
            title = several(len(details), f"picture is {word}", f"pictures are {word}")
            yield Finding(kind, severity, title, why, [*details], details, cures=looked.aside([*details]))


def variety(looked: Looked) -> Iterator[Finding]:
    """Near duplicates, and many pictures of one session."""
    seen = looked.seen
    places = duplicates([picture.thumb for picture in seen])
    if places:
        groups = [[seen[place].name for place in _best_first(looked, group)] for group in places]
        keep = [group[0] for group in groups]
        out = [name for group in groups for name in group[1:]]
        title = several(len(out), "near duplicate", "near duplicates")
        why = "the same picture again counts twice and brings nothing new: keep the largest sharp one of each group"
        names = [name for group in groups for name in group]
        cures = looked.aside(out, "Keep the best of each group")
        yield Finding("duplicates", "care", title, why, names, groups=groups, keep=keep, cures=cures)
    if not looked.is_of_people:
        return
    copies = [set(group) for group in places]
    found = [(group, how) for group, how in sessions(seen) if not any(set(group) <= copy for copy in copies)]
    found = [(group, how) for group, how in found if len(group) >= SESSION_LEAST]
    if found:
        groups = [[seen[place].name for place in _best_first(looked, group)] for group, _ in found]
        names = [name for group in groups for name in group]
        details = {seen[place].name: f"{how}, as {len(group) - 1} others" for group, how in found for place in group}
        largest = len(found[0][0])
        severity: Severity = "care" if largest > SESSION_SHARE * len(seen) else "hint"
        title = f"{largest} of {len(seen)} pictures are of one session"
        why = "same clothes, light and place are learned as part of the person: use few of each session"
        out = [name for group in groups for name in group[KEPT_OF_SESSION:]]
        cures = looked.aside(out, f"Keep the best {KEPT_OF_SESSION} of each session")
        yield Finding("session", severity, title, why, names, details, groups, [g[0] for g in groups], cures)


def _best_first(looked: Looked, places: Sequence[int]) -> list[int]:
    """Sharp ones before blurred ones, then the largest, then the sharpest."""

    def rank(place: int) -> tuple[bool, int, float, int]:
        picture = looked.seen[place]
        return picture.sharpness < LEAST_SHARP, -math.prod(picture.size), -picture.sharpness, place

    return sorted(places, key=rank)


def subject(looked: Looked, texts: Texts) -> Iterator[Finding]:
    """Other people, no face, a face that is cut, closed eyes: by the detector, and by tags."""
    if not looked.is_of_people:
        return
    faces = {picture.name: picture.faces for picture in looked.seen if picture.faces is not None}
    others, missing, eyes = people(texts), tagged(texts, NO_FACE), tagged(texts, EYES)
    cut: dict[str, str] = {}
    for name, found in faces.items():
        if not found:
            missing.setdefault(name, "no face found (YuNet)")
            continue
        largest = max(found, key=lambda face: face.area)
        count = sum(face.area >= OTHER_FACE * largest.area for face in found)
        if count > 1:
            others.setdefault(name, f"{count} faces (YuNet)")
        if largest.cut:
            cut[name] = "the picture's edge goes through the face (YuNet)"
        elif largest.apart >= LEAST_APART and largest.eyes < CLOSED:
            eyes.setdefault(name, f"an eye has {largest.eyes:.2f} of its face's contrast, limit {CLOSED:g} (YuNet)")
    drawn = looked.options.purpose == "character"
    kinds: list[tuple[str, Severity, str, dict[str, str], str]] = [
        ("other_people", "bad", "with other people", others, "whom of them to learn is not said: crop to the one"),
        ("face_missing", "hint" if drawn else "care", "without a face", missing, "they teach no likeness"
         + ("; YuNet knows faces of photos, drawn ones only in part" if drawn and faces else "")),
        ("face_cut", "care", "with a face that is cut", cut, "half a face teaches half a likeness"),
        ("eyes", "care", "with eyes that are closed, hidden or bad", eyes, "one or two such pictures spoil the eyes"),
    ]  # fmt: skip
    known = {picture.name for picture in looked.seen}
    for kind, severity, words, details, why in kinds:
        named = {name: what for name, what in details.items() if name in known}
        if named:
            title = several(len(named), f"picture {words}", f"pictures {words}")
            yield Finding(kind, severity, title, why, [*named], named, cures=looked.aside([*named]))
