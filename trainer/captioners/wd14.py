"""WD14 taggers: ONNX models that give a probability for each of some ten thousand tags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.captioners import prepare
from trainer.captioners.base import Say
from trainer.captioners.models import Files, find_tagger
from trainer.captioners.options import Wd14
from trainer.captioners.tags import Wording, read_vocabulary
from trainer.data.pictures import open_picture, plain
from trainer.errors import InputError
from trainer.sessions import open_session
from trainer.terminal import Stop, Tell, never, silent

SIDE = 448  # of all published taggers; for a model that takes any size
WITHOUT_EFFECT = {"folder", "recursive", "workers", "batch", "download", "force_download", "frequency_tags"}
"""Options on which the words of a caption do not depend."""


class Tagger:
    """One model: what it wants to see, and what it says."""

    def __init__(self, files: Files, say: Say) -> None:
        self.files, self.vocabulary = files, read_vocabulary(files.labels)
        self.session, device = open_session(files.graph, "model")
        say(f"{files.name}: {device}.")
        given, gives = self.session.get_inputs()[0], self.session.get_outputs()[0]
        self.name, shape = given.name, given.shape
        if len(shape) != 4 or given.type != "tensor(float)":
            raise InputError(f"{files.graph}: takes {given.type} of shape {shape}: a WD14 tagger takes one picture")
        self.channels_first = shape[1] == 3
        sides = shape[2:] if self.channels_first else shape[1:3]
        self.side = next((side for side in sides if isinstance(side, int)), SIDE)
        self.fixed = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
        self.raw = self.vocabulary.by_confidence  # these say logits, and want numbers from -1 to 1
        told = gives.shape[-1]
        if isinstance(told, int) and told != len(self.vocabulary.tags):
            raise InputError(
                f"{files.graph} gives {told} numbers, but {files.labels.name} has {len(self.vocabulary.tags)} tags: "
                "the files are of two taggers; fetch both again"
            )

    def scores(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities [B, numbers] for pictures [side, side, 3], blue first, from 0 to 255."""
        size = self.fixed or len(pictures)
        parts = [self._scores(pictures[i : i + size], size) for i in range(0, len(pictures), size)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _scores(self, pictures: Sequence[np.ndarray], size: int) -> np.ndarray:
        given = np.zeros(
            (size, self.side, self.side, 3), np.float32
        )  # a model of fixed batch sees black beside the last
        np.stack(pictures, out=given[: len(pictures)])
        if self.raw:
            given = given / np.float32(127.5) - np.float32(1)
        if self.channels_first:
            given = np.ascontiguousarray(given.transpose(0, 3, 1, 2))
        try:
            told = np.asarray(self.session.run(None, {self.name: given})[0])[: len(pictures)]
        except Exception as error:  # onnxruntime has a class of its own for each kind of failure
            raise InputError(
                f"{self.files.name}: cannot look at {size} pictures at once ({plain(str(error))}): make batch smaller"
            ) from error
        return 1 / (1 + np.exp(-told)) if self.raw else told


class Wd14Captioner:
    """Tags by one or several taggers."""

    what = "WD14 captions"

    def __init__(self, options: Wd14, say: Say = print, should_stop: Stop = never, fetching: Tell = silent) -> None:
        self.options, self.batch, self.existing = options, options.batch, options.existing
        self.separator = options.caption_separator
        download, again = options.download, options.force_download
        found = [find_tagger(name, download, again, say, should_stop, fetching) for name in options.model]
        self.taggers = [Tagger(files, say) for files in found]
        self.wording = Wording(options, [tagger.vocabulary for tagger in self.taggers])
        self.by = "\n".join([options.model_dump_json(exclude=WITHOUT_EFFECT), *(files.identity() for files in found)])

    def prepare(self, picture: Path) -> dict[int, np.ndarray]:
        """The picture in each size that a tagger wants."""
        sides = {tagger.side for tagger in self.taggers}
        image = open_picture(picture, "#ffffff", max(sides) if self.options.fast_decoding else None).image
        return {side: prepare.numbers(prepare.square(image, side)) for side in sides}

    def look(self, pictures: Sequence[dict[int, np.ndarray]]) -> np.ndarray:
        """Probabilities of all tags, [B, tags]."""
        return self.wording.combine(
            [tagger.scores([sizes[tagger.side] for sizes in pictures]) for tagger in self.taggers]
        )

    def caption(self, seen: np.ndarray, before: str | None) -> str:
        """The caption of one picture from its probabilities."""
        return self.wording.caption(self.wording.tags(seen), before)
