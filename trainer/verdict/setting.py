"""What is compared: the files of a run, what they were trained on, and what its folder tells of them. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config import Config, Embedding
from trainer.data.folders import FolderError, Picture, collect
from trainer.data.templates import lines_of
from trainer.errors import InputError
from trainer.runfolder import RunFolder
from trainer.verdict.candidates import Saved, find_saved, strengths_of
from trainer.verdict.diagnosis import Facts
from trainer.verdict.options import Compare
from trainer.verdict.questions import Topic, topic_of
from trainer.verdict.scores import What


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

    @property
    def what(self) -> What:
        """What its files are; all are of one kind."""
        return self.files[0].what

    def strengths(self, wanted: Sequence[float]) -> list[float]:
        """Those of `wanted` at which its files can be tried, the first one first."""
        return strengths_of(self.what, wanted)

    def averages(self, wanted: bool, files: int) -> bool:
        """Whether an average of so many of its files is a candidate too, where that is wanted."""
        return wanted and files > 2 and self.what == "lora"


def setting_of(options: Compare) -> Setting:
    """Finds files, pictures and captions; InputError when one of them is not there."""
    folder = Path(options.folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"folder: {folder} is no folder here; give a run folder, or a folder of its files")
    run = RunFolder(folder) if (folder / "config.json").is_file() else None
    if run and run.job:
        raise InputError(f"folder: {folder} is no training but a {run.job}; give the run folder of a training")
    config = run.config() if run else None
    base = options.base or (config.model.base if config else None)
    if not base:
        raise InputError(f"base: {folder} is no run folder, so nothing tells the base model; give it with --base")
    if not config and not options.data:
        raise InputError(f"data: {folder} is no run folder, so nothing tells its pictures; give them with --data")
    files = find_saved(folder, run, config, options.trigger)
    trained = config or Config()
    model, data = trained.model, trained.data
    pictures = _pictures(options.data, trained)
    topic, texts = read_captions(pictures, trained, options.trigger)
    facts = facts_of(config, topic, len(pictures), run is not None and run.alive())
    vae = None if options.base else model.vae  # another base brings its own
    return Setting(folder, files, base, vae, model.clip_skip, topic, pictures, texts, data.background, facts)


def _pictures(images: str | None, config: Config) -> list[Picture]:
    """Those that were trained on: given, or as the run knows them; regularisation pictures are none."""
    update = {"images": images, "subsets": (), "metadata": None} if images else {}
    data = config.data.model_copy(update={**update, "reg": None, "masks": None})
    try:
        return [picture for picture in collect(data, config.captions, field="data").pictures if not picture.folder.reg]
    except FolderError as error:
        if images:
            raise
        raise InputError(f"{error}; give the folder where they are now with --data") from error


def read_captions(pictures: Sequence[Picture], config: Config, trigger: str | None = None) -> tuple[Topic, list[str]]:
    """What a data set is about, and its captions as they are trained; at least one.

    config: the training's, whose new word is the trigger where none is given, and whose template stands for captions.
    """
    words = next((picture.folder.words for picture in pictures if picture.folder.words), "")
    texts = [text for picture in pictures if (text := _said(picture, config))]
    if isinstance(config.network, Embedding):
        texts = list(lines_of(config)) or texts
        trigger = trigger or config.network.words()[0].token
    topic = topic_of(texts, words, trigger)
    return topic, texts or [topic.trigger]


def _said(picture: Picture, config: Config) -> str:
    """A picture's caption as it was trained, without what changes from use to use."""
    first = picture.caption.split("\n", 1)[0]
    captions = config.captions.of(config.data.subset_at(picture.folder.subset))
    return " ".join(text for text in (captions.prefix, first, captions.suffix) if text)


def facts_of(config: Config | None, topic: Topic, pictures: int, alive: bool) -> Facts:
    """What the verdict should know of the training."""
    if config is None:
        return Facts(trigger=topic.trigger, pictures=pictures)
    own = config.rates.text_encoder if isinstance(config.network, Embedding) else config.rates.unet
    rate = own if isinstance(own, float) else getattr(config.optimizer, "lr", None)
    return Facts(
        trigger=topic.trigger, learning_rate=rate, rank=getattr(config.network, "rank", None),
        alpha=getattr(config.network, "alpha", None),
        epochs=config.train.epochs, steps=config.train.steps, pictures=pictures, batch=config.train.batch,
        regularised=config.data.reg is not None or any(one.reg for one in config.data.subsets), during=alive,
    )  # fmt: skip
