"""What a training will do, told while its form is filled in: counts, problems, time, whether it fits into memory."""

from __future__ import annotations

import math
import os
import platform
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import try_to_load_from_cache

from trainer.config import Config, Model
from trainer.data.folders import SHIPPED, Collection, collect
from trainer.early import check_early
from trainer.errors import InputError
from trainer.families import FAMILIES
from trainer.families.detect import Detected, detect, settle
from trainer.families.find import MOVED, find_base
from trainer.ladder import ON_CARDS, Rung, climb, settings_of, turned_on
from trainer.memory import estimate_memory
from trainer.plan import Plan, make_plan, split
from webui import places
from webui.form import Mistakes, at_fields
from webui.jobs import Jobs
from webui.machine import Gpu, machine
from webui.runs import flat

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd15",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
}
"""Models of the hub whose family is known before they are fetched."""
TIGHT = 0.85  # share of the free memory above which an estimate may be too small
LIKE = (
    *("model.base", "model.vae_precision", "data.resolution", "data.cache_latents", "data.cache_text"),
    *("network.type", "network.conv_rank", "rates.unet", "rates.text_encoder", "rates.text_encoder_2"),
    *("optimizer.type", "train.batch", "train.accumulate", "train.precision", "train.checkpointing"),
    *("train.attention", "train.device", "train.threads", "train.processes"),
)
"""Options that decide how long a step takes."""
RUNS_ASKED = 30  # past runs in which the time of a step is looked for, the newest first
COLLECTIONS = 8  # image folders whose pictures are remembered

Verdict = Literal["fits", "tight", "too large", "unknown"]


@dataclass(frozen=True)
class Memory:
    """Bytes that a training needs, and that are free for it; `place` in words; `fix`: what makes it fit."""

    need: int
    free: int | None
    place: str
    fix: dict[str, Any] = field(default_factory=dict)
    enough: bool = True

    @property
    def verdict(self) -> Verdict:
        """Whether it fits."""
        return _verdict(self.need, self.free)


@dataclass
class Outlook:
    """All that can be said of a training before it starts. `looking`: (pictures opened, in all) while that goes on."""

    base: Detected | None = None
    base_said: list[str] = field(default_factory=list)
    plan: Plan | None = None
    memory: Memory | None = None
    seconds: float | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    mistakes: Mistakes | None = None
    looking: tuple[int, int] | None = None


class Planner:
    """Plans trainings. Pictures are opened in a thread, once for each state of their folder."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self._pool = ThreadPoolExecutor(1, "pictures")
        self._looks: OrderedDict[str, tuple[Future[Collection], list[int]]] = OrderedDict()
        self._lock = threading.Lock()

    def outlook(self, config: Config, patience: float | None = 0.2) -> Outlook:
        """What can be said within `patience` seconds for the pictures; None waits for all of them."""
        told = Outlook()
        at: dict[str, str] = {}
        general: list[str] = []

        def keep(error: InputError) -> None:
            mistakes = at_fields(error)
            at.update(mistakes.at)
            general.extend(mistakes.general)

        try:
            told.base, told.base_said = base_of(config)
        except InputError as error:
            keep(Mistakes({"model.base": str(error)}))
        try:
            places.check(config)
            if told.base:
                told.warnings += check_early(config, told.base)
        except InputError as error:
            keep(error)
        try:
            self._count(config, told, patience)
        except InputError as error:
            keep(error)
        if at or general:
            told.mistakes = Mistakes(at, general)
        return told

    def _count(self, config: Config, told: Outlook, patience: float | None) -> None:
        future, progress = self._look(config)
        try:
            collection = future.result(patience)
        except TimeoutError:
            told.looking = progress[0], progress[1]
            return
        told.problems = [*map(str, collection.problems), *collection.summary()]
        if told.base is None:
            return
        told.plan = make_plan(config, split(collection, config.validation)[0], told.base.family)
        told.warnings += [*_small(config, told.base.family), *told.plan.warnings]
        told.memory = self._memory(config, told.base.family, told.plan)
        rate = self._rate(config)
        told.seconds = told.plan.steps / rate if rate else None

    def _look(self, config: Config) -> tuple[Future[Collection], list[int]]:
        """The pictures of a config, being opened or known."""
        data, captions = config.data, config.captions
        folders = [_folder_of(data.images, "img"), _folder_of(data.reg, "reg")]
        folders += [_folder_of(subset.folder, "img") for subset in data.subsets]
        folders += [_folder_of(path, "img") for one in (data, *data.subsets) for path in (one.metadata, one.masks)]
        options = (data.images, data.reg, data.repeats, data.words, data.background, data.metadata, data.masks)
        stamps = [_stamp(folder) for folder in folders if folder]
        key = str([options, data.subsets, captions.extension, captions.wildcards, *stamps])
        with self._lock:
            if key not in self._looks:
                progress = [0, 0]

                def report(done: int, count: int) -> None:
                    progress[:] = done, count

                self._looks[key] = self._pool.submit(collect, data, captions, report), progress
                while len(self._looks) > COLLECTIONS:
                    self._looks.popitem(last=False)[1][0].cancel()
            self._looks.move_to_end(key)
            return self._looks[key]

    def _memory(self, config: Config, family: str, plan: Plan) -> Memory:
        free, place, card = self._free(config)
        area = max(bucket.width * bucket.height for bucket in plan.buckets)
        need = sum(plan.memory.values())
        if free is None or need <= TIGHT * free:
            return Memory(need, free, place)
        fix, fixed = smaller(config, family, area, free, card)
        return Memory(need, free, place, fix, sum(estimate_memory(fixed, family, area).values()) <= free)

    def _free(self, config: Config) -> tuple[int | None, str, Gpu | None]:
        """Bytes that a job could have, where, and of which GPU; what a running job will give back counts too."""
        here = machine(self.jobs.settings.runs)
        device = config.train.device
        if here["gpus"] and device in ("auto", "cuda"):
            card = max(here["gpus"], key=lambda gpu: gpu["memory_free"] or 0)
            running = bool(self.jobs.waiting()["running"])
            return card["memory_total" if running else "memory_free"], card["name"], card
        if device == "cuda":
            return None, "the GPU", None
        apple = sys.platform == "darwin" and platform.machine() == "arm64"
        return here["cpu"]["memory_free"], "unified memory" if apple and device != "cpu" else "main memory", None

    def _rate(self, config: Config) -> float | None:
        """Steps per second of the newest run with like settings, None when there is none."""
        wanted = _like(config.model_dump(mode="json"))
        for line in self.jobs.lines()[:RUNS_ASKED]:
            if _like(self.jobs.runs.config(line["id"])) == wanted:
                rate = self.jobs.runs.story(line["id"]).last("step").get("rate")
                if rate:
                    return float(rate)
        return None


def base_of(config: Config) -> tuple[Detected | None, list[str]]:
    """What the base model is, as far as this machine knows, and what there is to say; the network is not asked."""
    model, said = config.model, list[str]()
    if model.base == "pocket" or Path(model.base).expanduser().exists() or not HUB_ID.fullmatch(model.base):
        return _plainly(detect(find_base(model.base, said.append, weights=False)), model)
    name = MOVED.get(model.base, model.base)
    said = [] if name == model.base else [f"{model.base} has moved: {name} is taken"]
    cached = try_to_load_from_cache(name, "model_index.json")
    if isinstance(cached, str):
        settled, more = _plainly(detect(Path(cached).parent), model)
        return settled, [*said, *more]
    family: Any = HUB.get(name) or (model.family if model.family != "auto" else None)
    said.append("on the Hugging Face hub; it is fetched when training starts")
    if family is None:
        said.append("choose its Model family to plan with")
        return None, said
    return settle(Detected(family, "diffusers"), model), said


def _plainly(found: Detected, model: Model) -> tuple[Detected, list[str]]:
    """What a base model is, and what people are told of it; by which signs it was known stands in a run's log."""
    settled = settle(found, model)
    variant = settled.prediction == "v" or settled.zero_terminal_snr
    return settled, settled.reasons[len(found.reasons) :] or ["as the file itself says"] * variant


def smaller(config: Config, family: str, area: int, free: int, card: Gpu | None) -> tuple[dict[str, Any], Config]:
    """The fewest rungs of the ladder that bring a training below what is free; all that help if that is not enough.

    `card`: the GPU that has it, None for main memory, to which nothing can be moved.
    """

    def need(one: Config) -> int:
        return sum(estimate_memory(one, family, area).values())

    def next_step(now: Config) -> tuple[Rung, Config] | None:
        steps = climb(now, family, "fp16" if card and not card["bf16"] else "bf16")
        fitting = (step for step in steps if card or not step[0][0].startswith(ON_CARDS))
        return next((step for step in fitting if need(step[1]) < need(now)), None)

    lower, taken = config, list[Rung]()
    while need(lower) > TIGHT * free and (step := next_step(lower)):
        taken.append(step[0])
        lower = step[1]
    for rung in list(taken):  # an early one may not be needed any more
        rest = [other for other in taken if other is not rung]
        with suppress(InputError):  # others may go together only with it
            less = turned_on(config, rest)
            if need(less) <= TIGHT * free:
                taken, lower = rest, less
    return settings_of(taken), lower


def _small(config: Config, family: str) -> Iterator[str]:
    """A size that the family was not made for: what a preset for another model leaves behind."""
    side = FAMILIES[family].side
    if config.model.base != "pocket" and 4 * math.prod(config.data.resolution) <= side * side:
        size = ",".join(map(str, config.data.resolution))
        yield f"Max Resolution {size} is small: {FAMILIES[family].title} was made for {side},{side}"


def _verdict(need: int, free: int | None) -> Verdict:
    if free is None:
        return "unknown"
    return "fits" if need <= TIGHT * free else "tight" if need <= free else "too large"


def _like(tree: dict[str, Any]) -> list[Any]:
    values = dict(flat(tree))
    return [values.get(name) for name in LIKE]


def _folder_of(value: str | None, shipped: str) -> Path | None:
    if not value:
        return None
    return SHIPPED[value] / shipped if value in SHIPPED else Path(value).expanduser()


def _stamp(folder: Path) -> Any:
    """What changes when a folder of pictures, or one inside it, or a file, is changed."""

    def files(place: Path) -> list[tuple[str, int, int]]:
        with os.scandir(place) as found:
            return sorted((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in found)

    try:
        if folder.is_file():
            return [str(folder), folder.stat().st_mtime_ns, folder.stat().st_size]
        with os.scandir(folder) as found:
            inside = sorted(entry.path for entry in found if entry.is_dir())
        return [str(folder), files(folder), *(tuple(files(Path(place))) for place in inside)]
    except OSError as error:
        return [str(folder), error.errno]
