"""Everything that a training works with, built in the order in which things can go wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from tqdm import tqdm

from trainer import checkpoint, places, thrift
from trainer.config import Config
from trainer.data.cache import Cache
from trainer.data.dataset import Dataset
from trainer.data.folders import Collection, collect
from trainer.data.templates import check_words
from trainer.devices import choose_device, use_threads
from trainer.early import check_early
from trainer.errors import InputError
from trainer.families import FAMILIES, load_family
from trainer.families.base import Family
from trainer.families.detect import detect_base
from trainer.families.find import find_base
from trainer.metadata import File
from trainer.networks import attach
from trainer.networks.base import Network
from trainer.networks.full import FullNetwork, precision_of
from trainer.optimizers import Scaler, build, make_schedule, try_out
from trainer.plan import Plan, make_plan, once, split
from trainer.report import Report
from trainer.runfolder import RunFolder
from trainer.sample import Prompt, read_prompts
from trainer.several import Group
from trainer.spill import Pace
from trainer.tree import HUB_ID
from trainer.validation import Checks
from trainer.verdict.live import Lookout

Saved = tuple[dict[str, torch.Tensor], dict[str, Any]]


@dataclass
class Work:
    """One training under way; which step it stands at is the loop's to know."""

    folder: RunFolder
    config: Config
    report: Report
    device: torch.device
    family: Family
    network: Network
    plan: Plan
    pictures: Collection
    data: Dataset
    checks: Checks
    prompts: list[Prompt]
    lookout: Lookout
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    files: Future[tuple[File, File | None]]
    """Names and hashes of the base model and its VAE, counted beside the first steps: 7 GB take a while."""
    started: float
    """When the training began, in unix seconds; a resumed one keeps its first start."""
    saved: Saved | None
    """The state to go on from."""
    group: Group
    """The processes that train together; often this one alone."""
    rehearsal: Pace | None = None
    """How the rehearsal went; None before it, and in a training that goes on."""


def prepare(folder: RunFolder, report: Report, flags: Sequence[str] = (), group: Group | None = None) -> Work:
    """Opens the pictures, counts, loads the model, encodes what is cached; InputError when something is wrong.

    `group`: the processes that train together, where there are several.
    """
    group = group or Group()
    config = group.config_of(folder.config(flags))
    with group.in_turn():  # a damaged state is set aside but once
        saved = checkpoint.load_state(folder, report.warning)
    device = choose_device(config.train)
    use_threads(config.train.threads or (saved and saved[1]["threads"]), config.train.processes)
    found = detect_base(config.model)
    for warning in check_early(config, found):
        report.warning(warning)
    try_out(config.optimizer, device)
    side = min(FAMILIES[found.family].side, max(config.data.resolution))
    prompts, notes = read_prompts(config.sample, side)
    for note in notes:
        report.warning(note)
    trained, held_out = split(open_pictures(config, "data.images", report), config.validation)
    if config.validation.folder:
        held_out = once(open_pictures(config, "validation.folder", report))
    check_words(config, trained.pictures)
    plan = make_plan(config, trained, found.family)
    report.say(plan.text())
    for warning in plan.warnings:  # the text says them already
        report.note(warning)

    home = torch.device("cpu") if thrift.wanted(config.memory) else device
    family = load_family(config.model, home, precision_of(config), config.captions, report.say)
    set_up(family, config)
    if thrift.wanted(config.memory):
        thrift.save_memory(family, config.memory, device)
    network = attach(family, config)
    warn_of_long_captions(family, trained, config.captions.max_tokens, report)  # a new word may be many tokens
    if loaded := network.loaded:
        for part in {*family.parts} - {place.part for place in network.places.values()}:
            if getattr(config.rates, part):
                report.warning(f"{config.network.start_from} has no layers for the {part}: it is not trained")
        report.say(f"{config.network.start_from}: {len(loaded.taken)} layers taken")
        if left := [*loaded.missing, *loaded.unused]:
            report.warning(
                f"{config.network.start_from}: {len(left)} layers do not match this training, {left[0]} the first"
            )
    optimizer = build(config.optimizer, network.groups(config.rates, config.optimizer.lr))
    if isinstance(network, FullNetwork) and network.options.fused:
        network.fuse(optimizer)
    schedule = make_schedule(config.schedule, optimizer, plan.steps)

    cache = Cache(places.cache(), report.warning)
    files = hash_files(config, cache)
    began = time.monotonic()
    with group.in_turn():
        data = Dataset(config, trained, family, cache, group.rank)
    report.cached(len(data.latents), time.monotonic() - began)
    checks = Checks(config, trained, held_out if group.leads else replace(held_out, pictures=[]), family, cache)
    work = Work(
        folder, config, report, device, family, network, plan, trained, data,
        checks, prompts,
        Lookout(folder, config, report, family, network, trained, plan.steps), optimizer, schedule,
        Scaler(device.type, enabled=config.train.precision == "fp16"), files,
        saved[1]["started"] if saved else time.time(), saved, group,
    )  # fmt: skip
    make_room(work)
    return work


def make_room(work: Work) -> None:
    """Takes off the GPU what the steps will not use; comparisons while training would need it all."""
    if work.config.compare.every_epochs:
        return
    if work.config.data.cache_latents:
        work.family.vae.to("cpu")
    if work.config.data.cache_text:
        for encoder in work.family.text_encoders:
            encoder.to("cpu")


@contextmanager
def at_hand(work: Work) -> Iterator[None]:
    """The whole model on the GPU while inside, as samples need it."""
    for part in (work.family.vae, *work.family.text_encoders):
        part.to(work.device)
    try:
        yield
    finally:
        make_room(work)


def open_pictures(config: Config, field: str, report: Report) -> Collection:
    """Every picture of an option's folder; what is wrong with one is said, with what was done about it."""
    data = config.data
    if field == "validation.folder":
        data = data.model_copy(update={"images": config.validation.folder, "reg": None})
    with tqdm(desc="opening pictures", unit=" pictures") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        pictures = collect(data, config.captions, show, field)
    for text in (*map(str, pictures.problems), *pictures.summary()):
        report.warning(text)
    return pictures


def warn_of_long_captions(family: Family, pictures: Collection, most: int, report: Report) -> None:
    """Says which captions are cut because they are too long."""
    tokens = {picture.path.name: family.count_tokens(picture.caption) for picture in pictures.pictures}
    if cut := {name: count for name, count in tokens.items() if count > most}:
        longest = max(cut, key=cut.__getitem__)
        report.warning(
            f"{len(cut)} captions have more than {most} tokens and are cut, {longest} with {cut[longest]};"
            " captions.max_tokens allows up to 225"
        )


def set_up(family: Family, config: Config) -> None:
    """Gradient checkpointing, the attention kernel, and the memory layout that convolutions like best."""
    if config.train.checkpointing:
        family.enable_checkpointing()
    if config.train.attention == "none":
        family.unet.set_attn_processor(AttnProcessor())
    elif config.train.attention == "xformers":
        try:
            family.unet.enable_xformers_memory_efficient_attention()
        except (ImportError, ValueError, RuntimeError) as error:
            raise InputError(f"train.attention: xformers cannot be used here ({error}); set it to sdpa") from error
    family.unet.to(memory_format=torch.channels_last)


def hash_files(config: Config, cache: Cache) -> Future[tuple[File, File | None]]:
    """Names and hashes of the model files, beside the training: reading 7 GB must not delay the first step."""

    def describe(name: str) -> File:
        if HUB_ID.match(name) and not Path(name).exists():
            return File(name)
        path = find_base(name, lambda text: None)
        return File(path.name, checkpoint.base_hash(path) if path.is_file() else None, cache.file_hash(path))

    def work() -> None:
        try:
            vae = config.model.vae
            files.set_result((describe(config.model.base), describe(vae) if vae else None))
        except BaseException as error:
            files.set_exception(error)

    files: Future[tuple[File, File | None]] = Future()
    threading.Thread(target=work, daemon=True).start()  # a daemon, so that a training that ends early need not wait
    return files
