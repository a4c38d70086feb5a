"""What a training will do, counted before any model is loaded: the one place that counts, for page and loop alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from trainer.config import Config, Schedule, Validation, WarmupStableDecay
from trainer.data.buckets import Placement, check_buckets, floor_to, place_all
from trainer.data.captions import learned_words, without
from trainer.data.folders import Collection, Picture
from trainer.data.order import Group, count_uses, groups_of
from trainer.data.pictures import plain
from trainer.draws import seed_of
from trainer.errors import InputError
from trainer.memory import estimate_memory


class PlanError(InputError):
    """Nothing is left to train on."""


@dataclass(frozen=True)
class FolderCount:
    """A folder of pictures: `uses` in an epoch are pictures x repeats; those of regularisation are evened out."""

    name: str
    pictures: int
    repeats: int
    uses: int
    reg: bool


@dataclass(frozen=True)
class BucketCount:
    """A bucket in pixels, and how many uses of pictures fall into it in an epoch."""

    width: int
    height: int
    uses: int


@dataclass(frozen=True)
class Plan:
    """One training in numbers.

    pictures and reg_pictures: files; items and reg_items: uses in an epoch, repeats counted; batches: forward passes in
    an epoch; steps: optimizer steps; warmup: in steps; aspect_error: mean difference of width / height to the bucket's,
    over the pictures that are used; memory: bytes while training, by part, as an estimate.
    """

    pictures: int
    reg_pictures: int
    items: int
    reg_items: int
    folders: tuple[FolderCount, ...]
    buckets: tuple[BucketCount, ...]
    aspect_error: float
    batch: int
    accumulate: int
    batches: int
    steps_per_epoch: int
    epochs: int
    steps: int
    warmup: int
    memory: dict[str, int]
    warnings: tuple[str, ...]

    def batches_of(self, place: int) -> range:
        """The batches whose gradients the place-th step of an epoch adds up; the last step may have fewer."""
        start = place * self.accumulate
        return range(start, min(start + self.accumulate, self.batches))

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """The plan in words, a few lines."""
        kinds = {False: "", True: " (regularisation)"}
        folders = [f"  {plain(f.name)}: {f.pictures} pictures, {f.uses} uses{kinds[f.reg]}" for f in self.folders]
        buckets = ", ".join(f"{b.width}x{b.height}: {b.uses}" for b in self.buckets)
        added = f", gradients of {self.accumulate} added up" if self.accumulate > 1 else ""
        parts = ", ".join(f"{part} {size / 1e9:.2f}" for part, size in self.memory.items())
        return "\n".join(
            [
                f"pictures: {self.pictures + self.reg_pictures}, used {self.items + self.reg_items} times an epoch",
                *folders,
                f"buckets: {buckets}",
                f"batches: {self.batches} an epoch, of up to {self.batch}{added}",
                f"steps: {self.steps_per_epoch} an epoch, {self.steps} in {self.epochs} epochs, warm-up {self.warmup}",
                f"memory: about {sum(self.memory.values()) / 1e9:.1f} GB ({parts})",
                *(f"warning: {warning}" for warning in self.warnings),
            ]
        )


def split(collection: Collection, validation: Validation, seed: int = 0) -> tuple[Collection, Collection]:
    """(trained, held out): the share of pictures that validation keeps, each once, whatever its repeats.

    Which ones follows from the seed and each picture's own bytes, so neither names nor order matter, and two files with
    the same bytes stay together. The seed is not the training's: trainings with other seeds hold out the same pictures
    and can be compared. Nothing is held out of a collection when validation has a folder of its own.
    """
    digests = {picture.digest for picture in collection.pictures if not picture.folder.reg}
    wanted = validation.share if not validation.folder else 0.0
    count = max(1, int(wanted * len(digests) + 0.5)) if wanted else 0
    if digests and count >= len(digests):
        raise PlanError(
            f"validation.share: {validation.share:g} of {len(digests)} pictures leaves none to train: lower it"
        )
    held = set(sorted(digests, key=lambda digest: seed_of(seed, "held out", digest))[:count])
    pictures = [(picture, picture.digest in held and not picture.folder.reg) for picture in collection.pictures]
    trained = replace(collection, pictures=[picture for picture, out in pictures if not out])
    return trained, once(replace(collection, pictures=[picture for picture, out in pictures if out], problems=[]))


def once(collection: Collection) -> Collection:
    """The same pictures, each used once an epoch."""
    pictures = [replace(p, folder=replace(p.folder, repeats=1)) for p in collection.pictures]
    return replace(collection, pictures=pictures)


def make_plan(config: Config, collection: Collection, family: str) -> Plan:
    """Counts a training of `collection`; InputError when it cannot be done. The same counts as sd-scripts."""
    pictures, train = collection.pictures, config.train
    if not any(not picture.folder.reg for picture in pictures):
        raise PlanError(f"data.images: {config.data.images} holds no picture to train on")
    check_buckets(config.data, family)
    if config.objective.prior == "trained" and not any(leaves_out(config, picture) for picture in pictures):
        raise PlanError(
            "objective.prior: trained leaves the words out that stand for what is learned, and no caption has any:"
            " write them into objective.prior_words"
        )
    uses, placements = count_uses(pictures), place_all(pictures, config.data)
    sizes: Counter[tuple[int, int]] = Counter()
    shelves: Counter[tuple[tuple[int, int], Group]] = Counter()
    groups = groups_of(pictures, config.data.subsets, train.batch, train.processes)
    for used, placement, group in zip(uses, placements, groups, strict=True):
        sizes[placement.bucket] += used
        shelves[placement.bucket, group] += used
    batches = sum(math.ceil(used / group.batch) for (_, group), used in shelves.items())
    steps_per_epoch = math.ceil(batches / train.accumulate)
    steps = min(train.steps or math.inf, train.epochs * steps_per_epoch if train.epochs else math.inf)
    assert isinstance(steps, int)  # the config has one of the two
    reg = [used for used, picture in zip(uses, pictures, strict=True) if picture.folder.reg]
    loads = [width * height * group.batch for ((width, height), group), used in shelves.items() if used]
    plan = Plan(
        pictures=len(pictures) - len(reg),
        reg_pictures=len(reg),
        items=sum(uses) - sum(reg),
        reg_items=sum(reg),
        folders=tuple(count_folders(pictures, uses)),
        buckets=tuple(BucketCount(*size, used) for size, used in sorted(sizes.items()) if used),
        aspect_error=aspect_error(pictures, placements, uses),
        batch=train.batch * train.processes,
        accumulate=train.accumulate,
        batches=batches,
        steps_per_epoch=steps_per_epoch,
        epochs=math.ceil(steps / steps_per_epoch),
        steps=steps,
        warmup=warmup_steps(config.schedule, steps),
        memory=estimate_memory(config, family, -(-max(loads) // (train.batch * train.processes))),
        warnings=(),
    )
    warnings = [*warn_of_options(config, plan), *warn_of_pictures(plan, pictures, placements, uses)]
    if partial := sum(used % group.batch > 0 for (_, group), used in shelves.items()):
        most = max(group.batch for _, group in shelves)
        warnings.append(f"{partial} of {batches} batches hold fewer than {most} pictures: each has one bucket")
    return replace(plan, warnings=tuple(warnings))


def leaves_out(config: Config, picture: Picture) -> bool:
    """Whether a picture's caption loses words for `objective.prior` trained."""
    place = picture.folder.subset
    captions = config.captions.of(config.data.subset_at(place))
    words = learned_words(config.objective, captions, picture.folder.words)
    caption = f"{captions.prefix} {picture.caption}"
    return len(without(caption, words)) < len(without(caption, ""))


def warmup_steps(schedule: Schedule, steps: int) -> int:
    """Steps over which the rate rises; some schedules have none."""
    return span(getattr(schedule, "warmup", 0), steps)


def decay_steps(schedule: WarmupStableDecay, steps: int) -> int:
    """Steps at the end over which the rate falls: no more than the warm-up leaves."""
    return min(span(schedule.decay, steps), max(0, steps - warmup_steps(schedule, steps)))


def span(written: int | str, steps: int) -> int:
    """Steps as they are written in a config; a share is rounded down."""
    return int(float(written[:-1]) * steps / 100) if isinstance(written, str) else written


def count_folders(pictures: Sequence[Picture], uses: Sequence[int]) -> Iterator[FolderCount]:
    """A count for each folder, in the order of the pictures."""
    for folder in dict.fromkeys(picture.folder for picture in pictures):
        mine = [used for used, picture in zip(uses, pictures, strict=True) if picture.folder == folder]
        yield FolderCount(folder.name, len(mine), folder.repeats, sum(mine), folder.reg)


def aspect_error(pictures: Sequence[Picture], placements: Sequence[Placement], uses: Sequence[int]) -> float:
    """Mean of |bucket's width / height - picture's|, each used picture counted once."""
    used = [(picture.size, place.bucket) for picture, place, n in zip(pictures, placements, uses, strict=True) if n]
    return sum(abs(bucket[0] / bucket[1] - size[0] / size[1]) for size, bucket in used) / len(used)


def warn_of_pictures(
    plan: Plan, pictures: Sequence[Picture], placements: Sequence[Placement], uses: Sequence[int]
) -> Iterator[str]:
    """What happens to pictures that a person may not expect."""
    unused = sum(not used for used in uses)
    if unused:
        yield f"{unused} of {plan.reg_pictures} regularisation pictures are not used: {plan.items} uses are enough"
    names = [plain(picture.path.name) for picture in pictures]
    grown = [place.resized[0] / picture.size[0] for picture, place in zip(pictures, placements, strict=True)]
    if max(grown) > 1.1:
        name, count = names[grown.index(max(grown))], sum(times > 1.1 for times in grown)
        yield f"{count} pictures are enlarged, {name} {max(grown):.1f} times, and blur is learned too"
    cut = [1 - math.prod(place.bucket) / math.prod(place.resized) for place in placements]
    if max(cut) > 0.25:
        name, count = names[cut.index(max(cut))], sum(part > 0.25 for part in cut)
        yield f"{count} pictures lose more than a quarter to the crop, {name} {max(cut):.0%}"


def warn_of_options(config: Config, plan: Plan) -> Iterator[str]:
    """Options that are probably not what was meant."""
    captions, buckets = config.captions, config.data.buckets
    if buckets and not buckets.no_upscale and (buckets.smallest % buckets.step or buckets.largest % buckets.step):
        smallest, largest = floor_to(buckets.smallest, buckets.step), -floor_to(-buckets.largest, buckets.step)
        yield f"data.buckets: sides from {smallest} to {largest}, the nearest multiples of the step {buckets.step}"
    wanted = config.train.steps
    if wanted and wanted > plan.steps:
        ends = f"train.epochs {config.train.epochs} ends at step {plan.steps}"
        yield f"train.steps: {wanted}, but {ends}; set train.epochs to null to train all {wanted}"
    if plan.steps < plan.steps_per_epoch:
        yield f"train.steps: {plan.steps} steps end before every picture was used; an epoch has {plan.steps_per_epoch}"
    if plan.warmup and plan.warmup >= plan.steps:
        yield f"schedule.warmup: {plan.warmup} of {plan.steps} steps, so the learning rate is never reached"
    if isinstance(config.schedule, WarmupStableDecay):
        wanted, given = span(config.schedule.decay, plan.steps), decay_steps(config.schedule, plan.steps)
        if given < wanted:
            yield f"schedule.decay: the warm-up leaves {given} of {plan.steps} steps for a decay of {wanted}"
    mark = captions.keep_tokens_separator
    if mark and not (captions.shuffle or captions.tag_dropout or captions.token_warmup_steps):
        yield f"captions.keep_tokens_separator: no tag moves, so {mark!r} is learned as a word"
    if captions.wildcards and (captions.prefix or captions.suffix):
        yield "captions.wildcards: of several lines only the first gets captions.prefix, the last captions.suffix"
