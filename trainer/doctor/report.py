"""One report on a data set: everything that is found, a score with its parts, and what was not checked.

Works on the pictures and captions alone; a face detector in the models folder, and tags in the captions, tell more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.config import Data
from trainer.data.buckets import BucketError, Placement, check_buckets, place
from trainer.data.folders import UNREAD, Folder, Listing, Problem, listings
from trainer.data.pictures import plain
from trainer.doctor import rules, words
from trainer.doctor.amount import LARGE, Amount, amount, too_few
from trainer.doctor.finding import Finding, Severity, several
from trainer.doctor.framing import ENOUGH, Framing, framing
from trainer.doctor.options import Doctor
from trainer.doctor.score import OF_PICTURES, Score, said, score
from trainer.doctor.seeing import Refused, Seen, see_all
from trainer.downloads import how_to_get
from trainer.images import faces
from trainer.images.measures import SIDE
from trainer.tags.captions import CaptionSet
from trainer.terminal import Stop, Tell, never, silent

ORDER: dict[Severity, int] = {"bad": 0, "care": 1, "hint": 2}
NOTHING_SEEN = "No picture can be read, so nothing else was looked at"
TAGGED = 2
"""Tags that a caption must have to be taken for one of tags."""


@dataclass(frozen=True)
class Bucket:
    """A size, how many pictures come to it, and the mean part of them that it cuts off."""

    size: tuple[int, int]
    pictures: int
    lost: float


@dataclass(frozen=True)
class Report:
    """What was found; pictures are named by their path in the folder, with `/`."""

    folder: Path
    pictures: int
    score: Score
    findings: list[Finding]
    framing: Framing
    buckets: list[Bucket]
    lost: float
    """The mean part of a picture that is cut off."""
    amount: Amount | None
    not_checked: list[str]
    measured: dict[str, dict[str, Any]] = field(repr=False)
    stopped: bool = False

    def summary(self) -> str:
        """The figures in a sentence."""
        worst = Counter(finding.severity for finding in self.findings)
        kinds = ", ".join(f"{worst[name]} {name}" for name in ORDER if worst[name])
        looked = several(self.pictures, "picture", "pictures")
        return f"{self.score.points} of {self.score.of} points, {kinds or 'nothing is wrong'} ({looked})"

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        return {
            **{"folder": str(self.folder), "pictures": self.pictures, "stopped": self.stopped},
            **{"score": self.score.to_json(), "findings": [finding.to_json() for finding in self.findings]},
            **{"framing": self.framing.to_json(), "lost": self.lost},
            "buckets": [{"size": list(b.size), "pictures": b.pictures, "lost": b.lost} for b in self.buckets],
            **{"advice": self.amount and self.amount.to_json(), "not_checked": self.not_checked},
            "measured": self.measured,
        }

    def text(self) -> str:
        """All of it for a person."""
        shapes = ", ".join(f"{b.size[0]}x{b.size[1]}: {b.pictures} ({b.lost:.0%} cut off)" for b in self.buckets)
        lines = [f"{plain(str(self.folder), 1000)}: {several(self.pictures, 'picture', 'pictures')}"]
        lines += [finding.text() for finding in self.findings] or ["Nothing is wrong."]
        lines += [f"Framing: {self.framing.advice}"] if self.framing.advice else []
        lines += [f"Buckets: {shapes}"] if shapes else []
        lines += [f"Advice: {self.amount.arithmetic}"] if self.amount else []
        lines += [f"Not checked: {what}" for what in self.not_checked]
        lines += ["Stopped before the end: this speaks of the pictures looked at so far."] if self.stopped else []
        return "\n".join([*lines, said(self.score.to_json())])


def report(options: Doctor, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Looks at a data set; nothing is written. tell: called with (pictures looked at, pictures in all).

    Raises InputError for a folder without pictures, options that contradict each other, or a detector that is none.
    """
    data = Data(resolution=options.resolution, buckets=options.buckets)
    check_buckets(data, "sdxl" if options.resolution[0] * options.resolution[1] >= LARGE else "sd15")
    texts = words.Texts(CaptionSet(options.folder, options.caption_extension), options)
    root = texts.data.folder
    found, problems = listings("folder", str(root), options.caption_extension)
    pictures = [(path.relative_to(root).as_posix(), path, listing) for listing in found for path in listing.pictures]
    detector = faces.open_detector(options.detector) if options.purpose != "style" else None
    seen: list[Seen] = []
    refused: list[Refused] = []
    stopped = False
    with closing(see_all(pictures, detector)) as looks:
        for look in looks:
            (seen if isinstance(look, Seen) else refused).append(look)  # type: ignore[arg-type]
            tell(len(seen) + len(refused), len(pictures))
            if should_stop() and len(seen) + len(refused) < len(pictures):
                stopped = True
                break
    placed = {picture.name: _placed(picture, options) for picture in seen}
    looked = rules.Looked(seen, placed, options, detector is not None)
    framed, of_framing = framing(seen, texts.tags, options.purpose)
    folders = _folders(found, {picture.name for picture in seen}, root)
    plan = amount(folders, options, framed)
    named = [picture.name for picture in seen]
    findings = [
        *rules.refused(refused, options),
        *_left_out(problems, root),
        *(finding for rule in (rules.size, rules.quality, rules.variety, rules.changed) for finding in rule(looked)),
        *rules.subject(looked, texts),
        *of_framing,
        *(words.tag_findings(texts) if seen else ()),
        *(words.caption_findings(texts) if seen else ()),
        *too_few(plan, named, options),
    ]
    findings.sort(key=lambda finding: ORDER[finding.severity])
    unchecked = _not_checked(looked, texts, framed) if seen else [(part, NOTHING_SEEN) for part in OF_PICTURES]
    cuts = [rules.lost(where) for where in placed.values() if where]
    return Report(
        folder=root,
        pictures=len(pictures),
        score=score(findings, len(pictures), [part for part, _ in unchecked]),
        findings=findings,
        framing=framed,
        buckets=_buckets(placed),
        lost=round(sum(cuts) / max(len(cuts), 1), 3),
        amount=plan,
        not_checked=list(dict.fromkeys(what for _, what in unchecked)),
        measured={picture.name: _numbers(picture, placed[picture.name]) for picture in seen},
        stopped=stopped,
    )


def _placed(picture: Seen, options: Doctor) -> Placement | None:
    try:
        return place(picture.size, options.resolution, options.buckets)
    except BucketError:
        return None


def _folders(found: Sequence[Listing], named: set[str], root: Path) -> list[tuple[Folder, list[str]]]:
    """Each folder with the names of its pictures that open."""
    return [
        (listing.folder, [name for path in listing.pictures if (name := path.relative_to(root).as_posix()) in named])
        for listing in found
    ]


def _left_out(problems: Sequence[Problem], root: Path) -> list[Finding]:
    """What the listing passes over: other kinds of files, folders in folders, captions of no picture."""
    details: dict[str, str] = {}
    for problem in problems:
        name, what = _inside(problem.file, root), f"{problem.what}: {problem.done}"
        details[name] = f"{details[name]}; {what}" if name in details else what
    if not details:
        return []
    files = [name for name in details if Path(name).suffix.lower() in UNREAD and (root / name).is_file()]
    title = several(len(details), "thing is passed over or unusual", "things are passed over or unusual")
    return [Finding("left_out", "hint", title, "training does with them as told here", files, details)]


def _inside(shown: str, root: Path) -> str:
    """A file as a path in the data set: messages name it with the folder that it is in."""
    short = shown.removeprefix(f"{root.name}/")
    return short if (root / short).exists() and not (root / shown).exists() else shown


def _buckets(placed: Mapping[str, Placement | None]) -> list[Bucket]:
    """The sizes that pictures come to, the most frequent first."""
    counts = Counter(where.bucket for where in placed.values() if where)
    cut = dict.fromkeys(counts, 0.0)
    for where in filter(None, placed.values()):
        cut[where.bucket] += rules.lost(where)
    return [Bucket(size, count, round(cut[size] / count, 3)) for size, count in counts.most_common()]


def _numbers(picture: Seen, where: Placement | None) -> dict[str, Any]:
    """What was measured of a picture."""
    (width, height), light = picture.size, picture.light
    return {
        **{"width": width, "height": height, "sharpness": picture.sharpness, "noise": picture.noise},
        **{"clipped": light.white, "black": light.black, "bright": light.bright, "cast": picture.cast},
        **{"lost": round(rules.lost(where), 3) if where else None},
        **{"bucket": list(where.bucket) if where else None},
        **{"faces": None if picture.faces is None else len(picture.faces)},
    }


def _not_checked(looked: rules.Looked, texts: words.Texts, framed: Framing) -> list[tuple[str, str]]:
    """(part of the score, "" when it was checked in another way; what was not checked, and what would change that)."""
    told: list[tuple[str, str]] = []
    bare = sum(len(tags) < TAGGED for tags in texts.tags.values())
    untagged = bare == len(texts.tags)
    tagger = "caption them with WD14 (Utilities > Captioning > WD14)"
    if bare:
        what = f"watermarks and text, by tags: {bare} of {len(texts.tags)} pictures have none: {tagger}"
        told.append(("Watermarks" if untagged else "", what))
    if looked.is_of_people:
        if not looked.has_detector:
            where = how_to_get("yunet")
            how = "not at all" if untagged else "by tags only"
            what = f"other people, missing and cut faces, eyes: {how}, as there is no face detector: {where}"
            told.append(("Subject" if untagged else "", what))
        else:
            what = f"less than {rules.LEAST_APART:g} pixels apart in a copy of {SIDE}"
            told.append(("", f"whether eyes are open, where they are {what}: by tags only"))
        if framed.source == "none" or framed.share("unknown") > ENOUGH:
            what = f"close-ups against bodies: a face detector would tell, or tags of the shot: {tagger}"
            told.append(("Framing", what))
        if untold := sum(picture.taken is None for picture in looked.seen):
            told.append(("", f"sessions by camera and time: {untold} of {len(looked.seen)} files do not tell them"))
    if any(not texts.trigger(picture.folder) for picture in texts.data.pictures):
        told.append(("", "whether captions hold the trigger: none is given, and the folder's name has none"))
    return told
