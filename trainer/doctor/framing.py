"""How near pictures are: close-up, half or full body, by the size of the face, or by the tags of the camera shot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trainer.doctor.finding import Finding
from trainer.doctor.seeing import Seen
from trainer.images.focus import CLOSE
from trainer.tags.kinds import among

Shot = Literal["close_up", "half", "full", "unknown"]
SHOTS: dict[Shot, str] = {
    "close_up": "close-up, extreme close-up, portrait, *portrait, face, headshot, head shot",
    "half": "upper body, cowboy shot, medium shot, half body, half-body shot, waist up",
    "full": "full body, full-body shot, wide shot, long shot",
}
FULL = 0.11
"""A face of less than this part of the picture's height is that of a whole person: seven to eight heads."""
WANTED: dict[str, tuple[float, float, str]] = {
    "person": (0.4, 0.75, "about 60 % close-ups, 25 % half and 15 % full body; 1.5 to 2 faces for each body"),
    "character": (0.25, 0.6, "a third to a half close-ups, the rest half to full body"),
}
"""Least and most share of close-ups, and the rule of the tutorials behind it."""
ENOUGH = 0.5
"""Part of the pictures whose shot must be known before shares mean anything."""


@dataclass(frozen=True)
class Framing:
    """The shot of every picture, by name, and where it is known from."""

    source: Literal["detector", "tags", "none"]
    shots: Mapping[str, Shot]
    advice: str = ""

    def share(self, shot: Shot) -> float:
        """Of the pictures whose shot is known, those of one kind, 0 to 1; for unknown, of all."""
        counts = Counter(self.shots.values())
        known = len(self.shots) - counts["unknown"]
        total = len(self.shots) if shot == "unknown" else known
        return round(counts[shot] / total, 3) if total else 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        shares = {shot: self.share(shot) for shot in (*SHOTS, "unknown")}
        return {"from": self.source, **shares, "advice": self.advice}


def framing(seen: Sequence[Seen], tags: Mapping[str, Sequence[str]], purpose: str) -> tuple[Framing, list[Finding]]:
    """The shots, and what is wrong with their shares; nothing is, for a style.

    tags: of each picture. A picture in which the detector finds no face goes by its tags.
    """
    by_face = any(picture.faces for picture in seen)
    shots = {picture.name: by_size(picture) or by_tags(tags.get(picture.name, ())) for picture in seen}
    source = "detector" if by_face else "tags" if any(shot != "unknown" for shot in shots.values()) else "none"
    found = Framing(source, shots)
    if source == "none" or purpose == "style" or found.share("unknown") > ENOUGH:
        why = "" if purpose == "style" else "the shot of too few pictures is known"
        return Framing(source, shots, why), []
    low, high, rule = WANTED[purpose]
    close = found.share("close_up")
    shares = ", ".join(f"{found.share(shot):.0%} {shot.replace('_', '-')}" for shot in SHOTS)
    how = "by the size of the faces" if by_face else "by the tags"
    if low <= close <= high and (found.share("full") or found.share("half")):
        return Framing(source, shots, f"{shares}: near to the rule, {rule}"), []
    wrong: Shot = "close_up" if close > high else "full" if found.share("full") >= found.share("half") else "half"
    what = "Too many close-ups" if close > high else "Too few close-ups"
    limit = f"{high:.0%} at most" if close > high else f"{low:.0%} at least"
    cure = (
        "add pictures that show the body"
        if close > high
        else "make close-ups out of full pictures (Utilities > Crop > Close ups), or add some"
    )
    advice = f"{shares} ({how}); the rule is {rule}: {cure}"
    pictures = [name for name, shot in shots.items() if shot == wrong]
    title = f"{what}: {close:.0%}, {limit}"
    return Framing(source, shots, advice), [Finding("framing", "care", title, advice, pictures)]


def by_size(picture: Seen) -> Shot | None:
    """The shot by the largest face; None without one."""
    if not picture.faces:
        return None
    height = max(picture.faces, key=lambda face: face.area).height
    return "close_up" if height >= CLOSE else "half" if height >= FULL else "full"


def by_tags(tags: Sequence[str]) -> Shot:
    """The shot that tags name, if they name one only."""
    named = [shot for shot, patterns in SHOTS.items() if any(among(tag, patterns) for tag in tags)]
    return named[0] if len(named) == 1 else "unknown"
