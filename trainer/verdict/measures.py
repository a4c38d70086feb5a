"""Scores out of what was seen: each by the base model's pictures as its zero and the data set's as its one.

Shapes: `parts` are [pictures, places, channels] of an eye; pictures of a candidate and of the base model are of the
same questions and seeds, in the same order. All numbers are for one picture each, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

LARGEST = 32
"""Pictures of the data set that are looked at: more make no difference, and take time."""
SMALL = 0.1
"""Share of the mean variance that is added to each direction's, so that those in which nothing varies stay small."""


class Evened:
    """Parts turned so that they vary alike in all directions (whitening).

    Else the few that vary most in all pictures, such as how bright it is, would hide the small ones that tell a
    character's parts from others.
    """

    def __init__(self, parts: Tensor) -> None:
        flat = parts.flatten(0, 1)
        centred = flat - flat.mean(0)
        values, directions = torch.linalg.eigh(centred.T @ centred / len(flat))
        self.turn = directions / (values + SMALL * values.mean()).clamp(min=1e-9).sqrt()  # [channels, channels]

    def __call__(self, parts: Tensor) -> Tensor:
        """[pictures, places, channels], as given."""
        return parts @ self.turn


class Likeness:
    """How much of a data set is in a picture: its parts, wherever they are, that the base model does not draw.

    A part of the data set is found in a picture by its nearest one there (cosine, after the mean of the base's is taken
    off). It counts as much as other pictures of the data set have it and the base's lack it, so that what is common to
    all, the sky or a wall, counts for nothing.
    """

    def __init__(self, data: Tensor, base: Tensor) -> None:
        self.centre = base.mean((0, 1))
        self.parts = self._turned(data).flatten(0, 1)  # [parts, channels]
        inside = self._found(data)  # [pictures, parts]
        own = torch.eye(len(data), dtype=torch.bool).repeat_interleave(data.shape[1], dim=1)
        others = inside.masked_fill(own, 0).sum(0) / max(1, len(data) - 1) if len(data) > 1 else inside[0]
        without = self._found(base)
        lack = (others - without.mean(0)).clamp(min=0)
        self.weights = lack / lack.sum().clamp(min=1e-9)
        self.zero = without @ self.weights  # [pictures]
        self.one = others @ self.weights

    def of(self, parts: Tensor) -> Tensor:
        """0: as the base's picture of the same question and seed; 1: as pictures of the data set have of each other."""
        return self._scaled(parts, self.zero)

    def share(self, parts: Tensor) -> Tensor:
        """The same, with 0: as the base's pictures on average."""
        return self._scaled(parts, self.zero.mean())

    def _scaled(self, parts: Tensor, zero: Tensor) -> Tensor:
        return (self._found(parts) @ self.weights - zero) / (self.one - self.zero.mean()).clamp(min=1e-6)

    def _found(self, parts: Tensor) -> Tensor:
        """For each picture and each part of the data set, the likeness of the nearest part: [pictures, parts]."""
        return torch.stack([(picture @ self.parts.T).amax(0) for picture in self._turned(parts)])

    def _turned(self, parts: Tensor) -> Tensor:
        return F.normalize(parts - self.centre, dim=-1)


class Whole:
    """Pictures as wholes, part for part at its place: how near two are, -1 to 1."""

    def __init__(self, base: Tensor) -> None:
        self.centre = base.mean((0, 1))

    def near(self, parts: Tensor, others: Tensor) -> Tensor:
        """[pictures, others]"""
        one, two = (F.normalize((given - self.centre).flatten(1), dim=1) for given in (parts, others))
        return one @ two.T


def copying(whole: Whole, parts: Tensor, data: Tensor) -> Tensor:
    """1: a picture of the data set over again; 0: no nearer to one than they are to each other."""
    among = whole.near(data, data).fill_diagonal_(-1).amax(1)
    usual = among.mean() if len(data) > 1 else torch.tensor(0.0)
    return ((whole.near(parts, data).amax(1) - usual) / (1 - usual).clamp(min=1e-6)).clamp(0, 1)


class Content:
    """What the base model draws for each of several prompts, and how much of it is in a candidate's pictures of them.

    It is the likeness with its roles turned: a prompt's own are those parts of the base's pictures of it that neither
    the data set nor its pictures of the other prompts have.
    """

    def __init__(self, base: Tensor, data: Tensor, prompts: Sequence[str]) -> None:
        self.prompts: list[tuple[list[int], Likeness]] = []
        for prompt in dict.fromkeys(prompts):
            mine = [place for place, other in enumerate(prompts) if other == prompt]
            rest = [place for place, other in enumerate(prompts) if other != prompt]
            self.prompts.append((mine, Likeness(base[mine], torch.cat([data, base[rest]]))))

    def of(self, parts: Tensor) -> Tensor:
        """1: as much of it as the base's pictures of the prompt have of each other; 0: no more than others have.

        A picture may have more, which makes up for one that has less.
        """
        shown = torch.zeros(len(parts))
        for mine, content in self.prompts:
            shown[mine] = content.share(parts[mine])
        return shown


def variety(whole: Whole, parts: Tensor, base: Tensor, prompts: Sequence[str]) -> Tensor:
    """For each prompt with several seeds, how far its pictures are apart: 1 is as far as the base's."""
    usual = _seeds_apart(whole, base, prompts).mean().clamp(min=1e-6)
    return (_seeds_apart(whole, parts, prompts) / usual).clamp(max=1)


def _seeds_apart(whole: Whole, parts: Tensor, prompts: Sequence[str]) -> Tensor:
    """The mean distance between pictures of one prompt, for each prompt with two or more."""
    found = []
    for prompt in dict.fromkeys(prompts):
        places = [place for place, other in enumerate(prompts) if other == prompt]
        if len(places) > 1:
            near = whole.near(parts[places], parts[places])
            found.append(1 - (near.sum() - near.diagonal().sum()) / (near.numel() - len(places)))
    return torch.stack(found) if found else torch.zeros(0)


def obedience(margin: Tensor, usual: Tensor) -> Tensor:
    """Whether what a contradicting prompt asks is seen, and not what the data set always shows.

    margin: by how much the asked prompt explains each picture better than captions of the data set do; usual: the same
    of the base model's pictures. 1: as surely as there; 0.5: it cannot be told; 0: as surely not.
    """
    scale = usual.clamp(min=0).mean().clamp(min=1e-6)
    return (0.5 + margin / (2 * scale)).clamp(0, 1)


# Burn


def pixels(picture: Image.Image) -> tuple[float, float, float]:
    """Mean saturation, contrast (deviation of the brightness) and edges (mean step between neighbours), each 0 to 1."""
    rgb = np.asarray(picture.convert("RGB"), np.float32) / 255
    light = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    most, least = rgb.max(-1), rgb.min(-1)
    saturation = float(((most - least) / np.maximum(most, 1e-3)).mean())
    edges = float(np.abs(np.diff(light, axis=0)).mean() + np.abs(np.diff(light, axis=1)).mean())
    return saturation, float(light.std()), edges


def burn(pictures: Sequence[tuple[float, ...]], usual: Sequence[tuple[float, ...]]) -> list[float]:
    """How far pixels are beyond what the base and the data set have: 1 where one figure is three deviations out."""
    known = np.array(usual)
    low, high, spread = known.min(0), known.max(0), known.std(0) + 1e-3
    out = np.maximum(low - np.array(pictures), np.array(pictures) - high) / spread
    return [float(each) for each in np.clip(out.max(1) / 3, 0, 1)]


def strangeness(errors: Tensor, known: float) -> Tensor:
    """How strange pictures are to the base model: 0 to the strangest of its own and the data set's, 1 at thrice that.

    errors: what it mispredicts of each without a prompt; ruined pictures are noise to it.
    """
    return ((errors / known - 1) / 2).clamp(0, 1)
