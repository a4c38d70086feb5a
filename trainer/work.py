"""Everything that a training works with, built in the order in which things can go wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor
from tqdm import tqdm

from trainer import checkpoint, places
from trainer.config import Config
from trainer.data.cache import Cache
from trainer.data.dataset import Dataset
from trainer.data.folders import Collection, collect
from trainer.devices import DTYPES, choose_device, use_threads
from trainer.early import check_early
from trainer.errors import InputError
from trainer.families import FAMILIES, load_family
from trainer.families.base import Family
from trainer.families.detect import detect_base
from trainer.families.find import find_base
from trainer.metadata import File
from trainer.networks import attach
from trainer.networks.base import Network
from trainer.optimizers import Scaler, build, make_schedule
from trainer.plan import Plan, make_plan, once, split
from trainer.report import Report
from trainer.runfolder import RunFolder
from trainer.sample import Prompt, read_prompts
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


def prepare(folder: RunFolder, report: Report, flags: Sequence[str] = ()) -> Work:
    """Opens the pictures, counts, loads the model, encodes what is cached; InputError when something is wrong."""
    config = folder.config(flags)
    saved = checkpoint.load_state(folder, report.warning)
    device = choose_device(config.train)
    use_threads(config.train.threads or (saved and saved[1]["threads"]))
    found = detect_base(config.model)
    for warning in check_early(config, found):
        report.warning(warning)
    side = min(FAMILIES[found.family].side, max(config.data.resolution))
    prompts, notes = read_prompts(config.sample, side)
    for note in notes:
        report.warning(note)
    trained, held_out = split(open_pictures(config, "data.images", report), config.validation)
    if config.validation.folder:
        held_out = once(open_pictures(config, "validation.folder", report))
    plan = make_plan(config, trained, found.family)
    report.say(plan.text())
    for warning in plan.warnings:  # the text says them already
        folder.event("warning", step=0, text=warning)

    family = load_family(config.model, device, DTYPES[config.train.precision], config.captions, report.say)
    warn_of_long_captions(family, trained, config.captions.max_tokens, report)
    set_up(family, config)
    network = attach(family, config)
    for part in {*family.parts} - {place.part for place in network.places.values()}:
        if getattr(config.rates, part):
            report.warning(f"{config.network.start_from} has no layers for the {part}: it is not trained")
    if loaded := network.loaded:
        report.say(f"{config.network.start_from}: {len(loaded.taken)} layers taken")
        if left := [*loaded.missing, *loaded.unused]:
            report.warning(
                f"{config.network.start_from}: {len(left)} layers do not match this training, {left[0]} the first"
            )
    optimizer = build(config.optimizer, network.groups(config.rates, config.optimizer.lr))
    schedule = make_schedule(config.schedule, optimizer, plan.steps)

    cache = Cache(places.cache(), report.warning)
    files = hash_files(config, cache)
    began = time.monotonic()
    data = Dataset(config, trained, family, cache)
    report.cached(len(data.latents), time.monotonic() - began)
    work = Work(
        folder, config, report, device, family, network, plan, trained, data,
        Checks(config, trained, held_out, family, cache), prompts,
        Lookout(folder, config, report, family, network, trained, plan.steps), optimizer, schedule,
        Scaler(device.type, enabled=config.train.precision == "fp16"), files,
        saved[1]["started"] if saved else time.time(), saved,
    )  # fmt: skip
    make_room(work)
    return work


def make_room(work: Work) -> None:
    """Takes off the GPU what the steps will not use; a sample or a comparison would need it all."""
    if not work.prompts and not work.config.compare.every_epochs:
        if work.config.data.cache_latents:
            work.family.vae.to("cpu")
        if work.config.data.cache_text:
            for encoder in work.family.text_encoders:
                encoder.to("cpu")


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
