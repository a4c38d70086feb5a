"""What is compared: the files of a run, what they were trained on, and what its folder tells of them. Without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.compare.shelf import checkpoints_of
from trainer.config import Captions, Config, Data, Model
from trainer.data.folders import FolderError, Picture, collect
from trainer.errors import InputError
from trainer.families.header import read_header
from trainer.runfolder import RunFolder
from trainer.verdict.diagnosis import Facts
from trainer.verdict.options import Compare
from trainer.verdict.questions import Topic, topic_of
from trainer.verdict.scores import Kind

AVERAGES = "averages"
"""The folder, in the one that is compared, of the averages that the comparison makes."""


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
    vae: str | None
    clip_skip: int | None
    topic: Topic
    pictures: list[Picture]
    captions: list[str]
    """As they were trained, without what changes from use to use."""
    background: str
    """What was put behind transparent pictures."""
    facts: Facts


def setting_of(options: Compare) -> Setting:
    """Finds files, pictures and captions; InputError when one of them is not there."""
    folder = Path(options.folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"folder: {folder} is no folder here; give a run folder, or a folder of LoRAs")
    run = RunFolder(folder) if (folder / "config.json").is_file() else None
    if run and run.job:
        raise InputError(f"folder: {folder} is no training but a {run.job}; give the run folder of a training")
    config = run.config() if run else None
    base = options.base or (config.model.base if config else None)
    if not base:
        raise InputError(f"base: {folder} is no run folder, so nothing tells the base model; give it with --base")
    if not config and not options.data:
        raise InputError(f"data: {folder} is no run folder, so nothing tells its pictures; give them with --data")
    files = _files(folder, run)
    captions = config.captions if config else Captions()
    pictures = _pictures(options.data, config, captions)
    topic, texts = read_captions(pictures, captions, options.trigger)
    facts = facts_of(config, topic, len(pictures), run is not None and run.alive())
    model, data = (config.model, config.data) if config else (Model(), Data())
    vae = None if options.base else model.vae  # another base brings its own
    return Setting(folder, files, base, vae, model.clip_skip, topic, pictures, texts, data.background, facts)


def _files(folder: Path, run: RunFolder | None) -> list[Saved]:
    """The LoRAs of a run or of another folder; the averages that an earlier comparison made of them are none."""
    home = run.checkpoints if run else folder
    losses = losses_of(run) if run else {}
    own = {path for path in home.rglob("*.safetensors") if AVERAGES not in path.relative_to(home).parts}
    if not own:
        raise InputError(f"folder: {folder} holds no LoRA yet; train it, or give another folder")
    return [_saved(path, losses) for path in checkpoints_of(str(home)) if path in own]


def _pictures(images: str | None, config: Config | None, captions: Captions) -> list[Picture]:
    """Those that were trained on: given, or as the run knows them; regularisation pictures are none."""
    trained = config.data if config else Data()
    update = {"images": images, "subsets": (), "metadata": None} if images else {}
    data = trained.model_copy(update={**update, "reg": None, "masks": None})
    try:
        return [picture for picture in collect(data, captions, field="data").pictures if not picture.folder.reg]
    except FolderError as error:
        if images:
            raise
        raise InputError(f"{error}; give the folder where they are now with --data") from error


def read_captions(
    pictures: Sequence[Picture], captions: Captions, trigger: str | None = None
) -> tuple[Topic, list[str]]:
    """What a data set is about, and its captions as they are trained; at least one."""
    words = next((picture.folder.words for picture in pictures if picture.folder.words), "")
    texts = [text for picture in pictures if (text := _said(picture, captions))]
    topic = topic_of(texts, words, trigger)
    return topic, texts or [topic.trigger]


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
            losses["train_loss"] = event["loss"]
        elif event["kind"] == "validation":
            held_out, trained = event["loss"], event["train_loss"]  # null where it was NaN
            gap = (held_out - trained) / trained if trained and held_out is not None else None
            losses |= {"held_out_loss": held_out, "gap": gap}
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
        trigger=topic.trigger, learning_rate=rate, rank=getattr(config.network, "rank", None),
        alpha=getattr(config.network, "alpha", None),
        epochs=config.train.epochs, steps=config.train.steps, pictures=pictures, batch=config.train.batch,
        regularised=config.data.reg is not None or any(one.reg for one in config.data.subsets), during=alive,
    )  # fmt: skip
