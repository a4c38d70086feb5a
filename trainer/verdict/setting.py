"""What is compared: the files of a run, what they were trained on, and what its folder tells of them. Without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainer.compare.shelf import checkpoints_of
from trainer.config import Captions, Config, Data
from trainer.data.folders import Picture, collect
from trainer.errors import InputError
from trainer.families.header import read_header
from trainer.runfolder import RunFolder
from trainer.verdict.diagnosis import Facts
from trainer.verdict.options import Compare
from trainer.verdict.questions import Topic, topic_of
from trainer.verdict.scores import Kind


@dataclass(frozen=True)
class Saved:
    """A file that may be the one."""

    path: Path
    label: str
    epoch: int | None = None
    step: int | None = None
    losses: Mapping[str, float | None] = field(default_factory=dict)
    kind: Kind = "file"


@dataclass(frozen=True)
class Setting:
    """A run, ready to be compared."""

    folder: Path
    files: list[Saved]
    base: str
    topic: Topic
    pictures: list[Picture]
    captions: list[str]
    """As they were trained, without what changes from use to use."""
    facts: Facts


def setting_of(options: Compare) -> Setting:
    """Finds files, pictures and captions; InputError when one of them is not there."""
    folder = Path(options.folder).expanduser()
    run = RunFolder(folder) if (folder / "config.json").is_file() else None
    if run and run.job:
        raise InputError(f"folder: {folder} is no training but a {run.job}; give the run folder of a training")
    config = run.config() if run else None
    base = options.base or (config and config.model.base)
    if not base:
        raise InputError(f"base: {folder} is no run folder, so nothing tells the base model; give it with --base")
    if not config and not options.data:
        raise InputError(f"data: {folder} is no run folder, so nothing tells its pictures; give them with --data")
    losses = losses_of(run) if run else {}
    files = [_saved(path, losses) for path in checkpoints_of(options.folder)]
    captions = config.captions if config else Captions()
    given = Data(images=options.data) if options.data else (config or Config.model_construct()).data
    found = collect(given, captions, field="data" if options.data else "data.images")
    pictures = [picture for picture in found.pictures if not picture.folder.reg]
    words = next((picture.folder.words for picture in pictures if picture.folder.words), "")
    texts = [text for picture in pictures if (text := _said(picture, captions))]
    topic = topic_of(texts, words, options.trigger)
    alive = run is not None and run.alive()
    return Setting(
        folder, files, base, topic, pictures, texts or [topic.trigger], facts_of(config, topic, len(pictures), alive)
    )


def _said(picture: Picture, captions: Captions) -> str:
    """A picture's caption as it was trained, without what changes from use to use."""
    first = picture.caption.split("\n", 1)[0]
    return " ".join(text for text in (captions.prefix, first, captions.suffix) if text)


def losses_of(run: RunFolder) -> dict[int, dict[str, float | None]]:
    """What the run measured, by step: the epoch's average loss, the held-out one, and its gap to the trained one."""
    found: dict[int, dict[str, float | None]] = {}
    for event in run.events():
        losses = found.setdefault(int(event.get("step") or 0), {})
        if event["kind"] == "epoch":
            losses["train_loss"] = float(event["loss"])
        elif event["kind"] == "validation":
            held_out, trained = float(event["loss"]), float(event["train_loss"])
            losses |= {"held_out_loss": held_out, "gap": (held_out - trained) / trained if trained else None}
    return found


def _saved(path: Path, losses: Mapping[int, Mapping[str, float | None]]) -> Saved:
    told = read_header(path).metadata
    step, epoch = (int(text) if (text := told.get(key, "")).isdigit() else None for key in ("ss_steps", "ss_epoch"))
    epoch = None if re.search(r"-step\d+$", path.stem) else epoch
    return Saved(path, path.stem, epoch, step, losses.get(step or -1, {}))


def facts_of(config: Config | None, topic: Topic, pictures: int, alive: bool) -> Facts:
    """What the verdict should know of the training."""
    if config is None:
        return Facts(trigger=topic.trigger, pictures=pictures)
    rate = config.rates.unet if isinstance(config.rates.unet, float) else getattr(config.optimizer, "lr", None)
    return Facts(
        trigger=topic.trigger, learning_rate=rate, rank=config.network.rank, alpha=config.network.alpha,
        epochs=config.train.epochs, steps=config.train.steps, pictures=pictures, batch=config.train.batch,
        regularised=config.data.reg is not None, during=alive,
    )  # fmt: skip
