"""The comparison: draws with every file, measures, and says which one is best."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer import places
from trainer.checkpoint import PRECISIONS
from trainer.compare.denoise import Tick
from trainer.compare.generate import Event, quiet, say, ticking
from trainer.compare.options import Look
from trainer.compare.painter import Painter
from trainer.compare.plan import BARE
from trainer.durable import DiskError, make_folder, write_json
from trainer.errors import InputError
from trainer.families.base import Family
from trainer.terminal import Stop, Stopped, Tell, never, silent
from trainer.tools.average import run as write_average
from trainer.tools.options import Average
from trainer.tools.report import Report
from trainer.verdict.candidates import AVERAGES, Saved
from trainer.verdict.eyes import BaseEye
from trainer.verdict.gallery import Gallery, open_all
from trainer.verdict.measures import LARGEST
from trainer.verdict.models import available
from trainer.verdict.options import Compare
from trainer.verdict.questions import KINDS, Question, own, questions_of
from trainer.verdict.scale import BaseWitness, Exhibit, Witness
from trainer.verdict.scores import Row
from trainer.verdict.setting import Setting, setting_of
from trainer.verdict.verdict import Verdict, judge
from trainer.verdict.witnesses import call

VERDICT = "verdict.json"
"""In the folder that was compared."""


def run(
    options: Compare,
    tell: Tell = silent,
    should_stop: Stop = never,
    event: Event = quiet,
    painter: Painter | None = None,
) -> Report:
    """Compares the files of a run; what is drawn stays, so that a comparison that was stopped goes on.

    tell: called with (pictures there, pictures in all); event: told `asked`, `reference`, and `score` for each row;
    painter: one that has a model loaded already. What comes of it is written as verdict.json into the folder.
    InputError for what does not fit, before a model is loaded wherever that can be known.
    """
    setting = setting_of(options)
    available(options.eyes)  # one that was named and is not there is told before a model is loaded
    pool = places.home() / "grids" / "cells"
    make_folder(pool)
    painter = painter or Painter(Look(device=options.device, precision=options.precision), say)
    gallery = Gallery(options, setting, questions(options, setting), painter, pool)
    work = Comparison(options, setting, gallery, tell, ticking(should_stop), event)
    try:
        work.all()
    except Stopped:
        said = f"Stopped after {len(work.rows)} candidates; start it again, and what is drawn is taken from before."
        return Report(said, [], work.notes, work.told(None), stopped=True)
    if not work.rows:
        raise InputError(f"folder: none of the files in {setting.folder} can be compared: {'; '.join(work.notes)}")
    verdict = judge(work.rows, setting.facts)
    told = work.told(verdict)
    file = setting.folder / VERDICT
    lines = [*verdict.evidence, f"Looked at by {', '.join(work.eyes)}.", *verdict.not_measured, *work.notes]
    lines.append(verdict.next_step)
    report = Report(verdict.sentence, [str(file)], lines, told)
    write_json(file, report.to_json())
    return report


def questions(options: Compare, setting: Setting) -> list[Question]:
    """What is asked: a person's own prompts, and for each kind without any those made of the captions."""
    made = questions_of(setting.topic, setting.captions, options.questions)
    asked: list[Question] = []
    given = {"subject": options.prompts, "contradicting": options.contradicting, "plain": options.plain}
    for kind in KINDS:
        mine = own(setting.topic, kind, given[kind])
        asked += mine or [question for question in made if question.kind == kind]
    return asked


@dataclass
class Comparison:
    """A comparison under way."""

    options: Compare
    setting: Setting
    gallery: Gallery
    tell: Tell
    tick: Tick
    event: Event
    rows: list[Row] = field(default_factory=list)
    pictures: dict[tuple[str, float], list[Path]] = field(default_factory=dict)
    reference: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    eyes: list[str] = field(default_factory=list)
    _witnesses: list[Witness] = field(default_factory=list)
    _done: int = 0
    _skipped: int = 0

    def __post_init__(self) -> None:
        self.files = list(self.setting.files)  # those that fit

    def all(self) -> None:
        """Every file at the first strength, the best at the others, and their average."""
        self.event("asked", asked=self.asked())
        self.reference = self._draw(None)
        self.event("reference", pictures=[str(file) for file in self.reference])
        self._witnesses = self._call(open_all(self.reference))
        first, *others = self.setting.strengths(self.options.strengths)
        for saved in self.setting.files:
            self.measure(saved, first)
        best = sorted(self.rows, key=lambda row: -row.total)
        for row in best[: self.options.finalists]:
            for strength in others:
                self.measure(self.files[self._place(row)], strength)
        if self._averages and (average := self._average(best[0])):
            for strength in (first, *others):
                self.measure(average, strength)

    def measure(self, saved: Saved, strength: float) -> None:
        """Draws with a file at a strength, and adds its row; one that does not fit or gives NaN is left out."""
        before = self._done
        try:
            files = self._draw(saved, strength)
        except DiskError:
            raise
        except InputError as error:
            self._done = before
            if any(row.file == str(saved.path) for row in self.rows) or saved not in self.files:
                self._skipped += 1  # it is there at another strength
            else:
                self.files.remove(saved)
            at = f" at strength {strength:g}" if saved.what == "lora" else ""
            self._note(f"{saved.label}{at} was left out: {error}")
            self.tell(self._done, self._total)
            return
        self._undress()
        pictures = open_all(files)
        values = together([witness.values(pictures) for witness in self._witnesses])
        facts = saved.label, strength, saved.epoch, saved.step, saved.kind
        row = Row(str(saved.path), *facts, values, saved.losses, saved.what)
        self.rows.append(row)
        self.pictures[row.file, strength] = files
        self.event("score", row=self._shown(row))

    def _note(self, text: str) -> None:
        """Something that is not as asked."""
        self.notes.append(text)
        self.event("warning", text=text)

    @property
    def _averages(self) -> bool:
        return self.setting.averages(self.options.average, len(self.files))

    @property
    def _total(self) -> int:
        """Pictures in all."""
        files, strengths = len(self.files), len(self.setting.strengths(self.options.strengths))
        finals = min(files, self.options.finalists) * (strengths - 1)
        return len(self.gallery.asked) * (1 + files + finals + self._averages * strengths - self._skipped)

    def _draw(self, saved: Saved | None, strength: float = 1.0) -> list[Path]:
        before = self._done

        def count(drawn: int) -> None:
            self._done = before + drawn
            self.tell(self._done, self._total)

        return self.gallery.draw(saved, strength, self.tick, count)

    def _undress(self) -> Family:
        """The base model as it came."""
        family, wardrobe, _ = self.gallery.painter.load(self.gallery.base)
        wardrobe.wear([])
        return family

    def _call(self, base: Sequence[Image.Image]) -> list[Witness]:
        """Who looks at the pictures. base: what the base model drew."""
        eye = BaseEye(self._undress, base[0].size, self.options.batch, self.tick)
        by_chance = sorted({picture.digest: picture.path for picture in self.setting.pictures}.items())
        data = open_all([path for _, path in by_chance[:LARGEST]], self.setting.background)
        bare = [self.setting.topic.bare(text) for text in self.setting.captions]
        exhibit, painter = Exhibit(self.gallery.asked, base, data, bare), self.gallery.painter
        dtype = PRECISIONS[painter.precision]
        others = call(self.options.eyes, exhibit, painter.device, dtype, self.options.batch, self.notes)
        witnesses: list[Witness] = [BaseWitness(eye, exhibit), *others]
        self.eyes = [witness.name for witness in witnesses]
        return witnesses

    def _place(self, row: Row) -> int:
        return next(place for place, saved in enumerate(self.files) if str(saved.path) == row.file)

    def _average(self, best: Row) -> Saved | None:
        """The average of the best file and its neighbours, as one candidate more; None when they are not of one run."""
        files = self.files
        first = min(max(0, self._place(best) - 1), len(files) - 3)
        chosen = files[first : first + 3]
        unit = "epochs" if all(saved.epoch for saved in chosen) else "steps"
        start, end = (f"{(saved.epoch if unit == 'epochs' else saved.step) or saved.label}" for saved in chosen[::2])
        file = self.setting.folder / AVERAGES / f"{unit}-{start}-to-{end}.safetensors"
        make_folder(file.parent)
        # One written anew has another date in it, and so other pictures' keys.
        if not file.exists() or file.stat().st_mtime < max(saved.path.stat().st_mtime for saved in chosen):
            try:
                models = tuple(str(saved.path) for saved in chosen)
                write_average(Average(models=models, save_to=str(file), overwrite=True))
            except InputError as error:
                self._note(f"No average was tried: {error}")
                return None
        return Saved(file, f"average of {unit} {start} to {end}", kind="average")

    # Told

    def asked(self) -> list[dict[str, Any]]:
        """The questions, each with its seed."""
        return [{**asdict(question), "seed": seed} for question, seed in self.gallery.asked]

    def _shown(self, row: Row) -> dict[str, Any]:
        """A row with its pictures."""
        return {**row.to_json(), "pictures": [str(file) for file in self.pictures[row.file, row.strength]]}

    def told(self, verdict: Verdict | None) -> dict[str, Any]:
        """All of it for the page."""
        bare = BARE if self.setting.what == "lora" else "base model"
        return {
            "folder": str(self.setting.folder), "base": self.setting.base, "trigger": self.setting.topic.trigger,
            "when": time.time(), "verdict": verdict.to_json() if verdict else None,
            "rows": [self._shown(row) for row in self.rows],
            "reference": {"label": bare, "pictures": [str(file) for file in self.reference]},
            "asked": self.asked(), "notes": self.notes, "eyes": self.eyes,
        }  # fmt: skip


def together(said: Sequence[Mapping[str, tuple[float, ...]]]) -> dict[str, tuple[float, ...]]:
    """What several witnesses say of one candidate: for each measure the mean over those that speak of it."""
    names = dict.fromkeys(name for values in said for name in values)
    lists = {name: [values[name] for values in said if name in values] for name in names}
    return {name: tuple(float(each) for each in np.mean(numbers, axis=0)) for name, numbers in lists.items()}
