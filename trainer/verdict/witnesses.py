"""The optional eyes as witnesses: DINOv2, CLIP, faces and tags, on the scales of the base model's own eyes.

Each gives as many numbers for a measure as the base model's eyes do, so that they can be averaged picture by picture.
An eye that cannot tell the data set from what the base model draws has no scale: it says nothing, and a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainer.compare.generate import say
from trainer.errors import InputError
from trainer.verdict import facial, measures, tagging
from trainer.verdict.facial import FaceEye, mean_face
from trainer.verdict.models import AUTO, CLIP, MEASURES, Eyes, Found, available
from trainer.verdict.scale import Exhibit, Witness
from trainer.verdict.tagging import TagEye
from trainer.verdict.vision import Vision

RIVALS = 3
"""Captions of the data set that a contradicting picture is held against."""
LEAST = 0.01
"""Cosine, or share of tags: what lies nearer together than this is no scale, for all on it would be chance."""
SAME = "it sees no difference between the data set and what the base model draws"
UNSEEN = "it does not see in the base model's pictures what they were asked for"

Values = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Scale:
    """Likeness between what the base model's pictures have and what the data set's have."""

    zero: np.ndarray
    """Of each of the base's pictures, [pictures]."""
    one: float

    @classmethod
    def between(cls, zero: np.ndarray, one: float) -> Scale | None:
        """None where the ends are not apart."""
        return cls(zero, one) if one - zero.mean() >= LEAST else None

    def of(self, seen: np.ndarray) -> tuple[float, ...]:
        """0: as the base's picture of the same question and seed; 1: as the data set's. seen: [pictures]"""
        return tuple(((seen - self.zero) / (self.one - self.zero.mean())).tolist())


class VisionWitness:
    """What DINOv2, CLIP or SigLIP say: likeness, and those that read text say obedience too."""

    def __init__(self, eye: Vision, exhibit: Exhibit, notes: list[str]) -> None:
        self.name, self.eye, self.exhibit = eye.name, eye, exhibit
        self.subject, self.contradicting = exhibit.of("subject", "contradicting"), exhibit.of("contradicting")
        self.likeness = measures.Likeness(self._parts(exhibit.data), self._parts(self._subject(exhibit.base)))
        self.is_clear = bool(self.likeness.one - self.likeness.zero.mean() >= LEAST)
        if not self.is_clear:
            notes.append(f"likeness was not measured by {self.name}: {SAME}")
        self.rivals = list(dict.fromkeys(exhibit.bare))[:RIVALS]
        self.margin = self._margin(exhibit.base) if eye.reads and self.contradicting else torch.zeros(0)
        if eye.kind in CLIP and self.contradicting and not _is_plain(self.margin):
            notes.append(f"obedience was not measured by {self.name}: {UNSEEN if eye.reads else 'it reads no text'}")

    def values(self, pictures: Sequence[Image.Image]) -> Values:
        """Likeness over subject and contradicting pictures, obedience over contradicting ones."""
        found: dict[str, Tensor] = {}
        if self.is_clear:
            found["likeness"] = self.likeness.of(self._parts(self._subject(pictures)))
        if _is_plain(self.margin):
            found["obedience"] = measures.obedience(self._margin(pictures), self.margin)
        return {name: tuple(value.tolist()) for name, value in found.items()}

    def _subject(self, pictures: Sequence[Image.Image]) -> list[Image.Image]:
        return [pictures[n] for n in self.subject]

    def _parts(self, pictures: Sequence[Image.Image]) -> Tensor:
        """A picture as one part, [pictures, 1, channels]."""
        return self.eye.look(pictures)[:, None]

    def _margin(self, pictures: Sequence[Image.Image]) -> Tensor:
        """By how much what was asked fits each contradicting picture better than captions of the data set do."""
        shown = [pictures[n] for n in self.contradicting]
        asked = [self.exhibit.asked[n][0].bare for n in self.contradicting]
        rivals = [self.eye.agree(shown, [text] * len(shown)) for text in self.rivals]
        return self.eye.agree(shown, asked) - torch.stack(rivals).amax(0)


class FaceWitness:
    """Likeness of faces to the mean face of the data set; a picture without a face is like nobody, and counts as 0."""

    def __init__(self, eye: FaceEye, exhibit: Exhibit, notes: list[str]) -> None:
        self.name, self.eye, self.notes = eye.name, eye, notes
        self.subject, self.seen = exhibit.of("subject", "contradicting"), facial.Likeness(())
        faces = eye.look(exhibit.data)
        lost, pictures = sum(face is None for face in faces), len(faces)
        self.mean = mean_face(faces) if lost <= pictures / 2 else None  # of a few it may be somebody else's
        self.scale: Scale | None = None
        if self.mean is not None:
            base = facial.likeness(eye.look([exhibit.base[n] for n in self.subject]), self.mean)
            usual = float(np.mean(base.faces or 0))
            zero = np.array([usual if value is None else value for value in base.values])
            self.scale = Scale.between(zero, _among([face for face in faces if face is not None]))
        if not self.scale:
            why = f"{lost} of the data set's {pictures} pictures have no face"
            notes.append(f"likeness was not measured by {self.name}: {why if self.mean is None else SAME}")

    def values(self, pictures: Sequence[Image.Image]) -> Values:
        """Likeness over subject and contradicting pictures."""
        if self.mean is None or self.scale is None:
            return {}
        told = facial.likeness(self.eye.look([pictures[n] for n in self.subject]), self.mean)
        self._count(told)
        pairs = zip(told.values, self.scale.zero, strict=True)
        return {"likeness": self.scale.of(np.array([zero if value is None else value for value, zero in pairs]))}

    def _count(self, told: facial.Likeness) -> None:
        """Keeps one note of all the pictures so far that have no face."""
        before, self.seen = _faceless(self.seen), facial.Likeness(self.seen.values + told.values)
        if before in self.notes:
            self.notes.remove(before)
        if self.seen.missing:
            self.notes.append(_faceless(self.seen))


def _faceless(seen: facial.Likeness) -> str:
    return f"{MEASURES['face']}: {seen.missing}, which counts as 0"


def _among(faces: Sequence[np.ndarray]) -> float:
    """How like the mean of the others each face is, on average; a single one is as like as can be."""
    means = [mean_face([*faces[:n], *faces[n + 1 :]]) for n in range(len(faces))]
    return float(
        np.mean([1.0 if mean is None else float(face @ mean) for face, mean in zip(faces, means, strict=True)])
    )


class TagWitness:
    """Likeness as the data set's tags that come back, obedience as asked tags that are seen and their rivals gone."""

    def __init__(self, eye: TagEye, exhibit: Exhibit, notes: list[str]) -> None:
        self.name, self.eye = eye.name, eye
        self.subject, self.contradicting = exhibit.of("subject", "contradicting"), exhibit.of("contradicting")
        data, base = eye.look(exhibit.data), eye.look(exhibit.base)
        own = eye.own(data)
        asked = [eye.asked(question.asked) for question, _ in exhibit.asked]
        self.asked = [[tag for tag in tags if tag not in own] for tags in asked]
        self.gone = [tagging.rivals(tags, own) for tags in self.asked]
        # Where red hair is asked for, the data set's blonde hair is not to come back.
        self.wanted = [[tag for tag in own if tag not in gone] or own for gone in self.gone]
        self.scale: Scale | None = None
        if own:
            one = np.mean([eye.recall(data, self.wanted[n]) for n in self.subject])
            self.scale = Scale.between(self._recall(base), float(one))
        if not self.scale:
            why = SAME if own else "no tag is on half of the data set's pictures"
            notes.append(f"likeness was not measured by {self.name}: {why}")
        self.told = [n for n in self.contradicting if self.asked[n]]
        self.margin = self._margin(base)
        if self.contradicting and not _is_plain(self.margin):
            why = UNSEEN if self.told else "it has no tag for what contradicting prompts ask"
            notes.append(f"obedience was not measured by {self.name}: {why}")

    def values(self, pictures: Sequence[Image.Image]) -> Values:
        """Likeness over subject and contradicting pictures, obedience over contradicting ones."""
        seen, found = self.eye.look(pictures), Values()
        if self.scale:
            found["likeness"] = self.scale.of(self._recall(seen))
        if _is_plain(self.margin):
            obedience = measures.obedience(self._margin(seen), self.margin)
            known = dict(zip(self.told, obedience.tolist(), strict=True))
            # A picture whose prompt the tagger has no tag for gets the mean of the others, which changes no mean.
            found["obedience"] = tuple(known.get(n, float(obedience.mean())) for n in self.contradicting)
        return found

    def _recall(self, seen: np.ndarray) -> np.ndarray:
        """The share of wanted tags that each picture shows, [pictures]."""
        return np.array([self.eye.recall(seen[[n]], self.wanted[n])[0] for n in self.subject])

    def _margin(self, seen: np.ndarray) -> Tensor:
        """What is followed of each contradicting prompt that the tagger has tags for, less what is not; -1 to 1."""
        obeyed = [self.eye.obeyed(seen[[n]], self.asked[n], self.gone[n])[0] for n in self.told]
        return 2 * torch.tensor(obeyed) - 1


def _is_plain(margin: Tensor) -> bool:
    """Whether it is seen in the base's pictures that they obey; what does not show there can be no measure."""
    return len(margin) > 0 and bool(margin.clamp(min=0).mean() >= LEAST)


def call(
    eyes: Eyes, exhibit: Exhibit, device: torch.device, dtype: torch.dtype, batch: int, notes: list[str]
) -> list[Witness]:
    """Those that are on this machine; of each that is not, or has nothing to say, a sentence goes into notes.

    Raises InputError for one that a person named and that is not there, or is broken; a broken one that was only found
    is a note.
    """

    def opened(found: Found) -> Witness:
        if found.kind == "face":
            return FaceWitness(FaceEye(found), exhibit, notes)
        if found.kind == "tagger":
            return TagWitness(TagEye(found, say), exhibit, notes)
        return VisionWitness(Vision(found, device, dtype, batch), exhibit, notes)

    called: list[Witness] = []
    for found in available(eyes):
        if not found.is_here:
            notes.append(found.sentence)
            continue
        try:
            called.append(opened(found))
        except InputError as error:
            if _is_named(found, eyes):
                raise
            notes.append(f"{MEASURES[found.kind]} was not measured: {error}")
    return called


def _is_named(found: Found, eyes: Eyes) -> bool:
    """Whether a person chose it, rather than that it lay in the models folder."""
    options = ("face", "detector") if found.kind == "face" else (found.kind,)
    return any(getattr(eyes, option) != AUTO for option in options)
