"""Every option of a training, written once: name, type, bounds, default, help, and its name in kohya_ss.

Flags, presets, the page, the documentation and all checks are made from these classes. `None` means off and 0 means 0.
A field lives in the smallest part that can own it; variants are unions told apart by `type`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainer.config.data import Buckets, Captions, Data
from trainer.config.embedding import Embedding, NewWords, Pivotal, check_pivotal
from trainer.config.full import Full, check_full
from trainer.config.memory import Memory
from trainer.config.model import FamilyName, Model, Prediction
from trainer.config.network import PRESETS, Blocks, DyLora, LoCon, LoKr, Lora, LoraFa, Lycoris, Network, Rates
from trainer.config.objective import (
    L1,
    L2,
    Huber,
    Loss,
    MultiresNoise,
    Noise,
    Objective,
    OffsetNoise,
    PlainNoise,
    SmoothL1,
)
from trainer.config.optimizers import Adafactor, AdamW, AdamW8bit, Averaging, Library, Lion, Optimizer, Prodigy
from trainer.config.parts import Kohya, Part
from trainer.config.run import SAMPLERS, Output, Sample, Save, Train, Validation, Watch
from trainer.config.schedules import (
    AdafactorSchedule,
    Constant,
    Cosine,
    CosineAnnealing,
    CosineWithMinLr,
    CosineWithRestarts,
    InverseSqrt,
    Linear,
    PiecewiseConstant,
    Polynomial,
    Rex,
    Schedule,
    WarmupStableDecay,
)
from trainer.config.subset import Subset

VERSION = 1


class Config(Part):
    """One training, whole."""

    version: Literal[1] = VERSION
    """Version of this layout; older files are brought up to date when they are read."""
    about: str = ""
    """What a preset is for, in a sentence."""
    seed: Annotated[int, Field(ge=0, lt=2**32), Kohya("seed", "Seed")] = 42
    """The same seed and settings give the same weights; another seed is another try."""
    model: Model = Model()
    data: Data = Data()
    captions: Captions = Captions()
    network: Annotated[Network, Kohya("LoRA_type", "LoRA type")] = Lora()
    """What is trained beside the base model: Standard is the LoRA that every program reads."""
    rates: Rates = Rates()
    pivotal: Annotated[Pivotal | None, Field(title="Pivotal tuning")] = None
    """Learn new words together with the LoRA: the words hold what words can say, and the LoRA what they cannot."""
    optimizer: Annotated[Optimizer, Kohya("optimizer", "Optimizer")] = AdamW()
    """How the weights follow the errors: AdamW is the sound choice, Prodigy finds its own learning rate."""
    schedule: Annotated[Schedule, Kohya("lr_scheduler", "LR Scheduler")] = Cosine()
    """How the learning rate changes while training goes on."""
    objective: Objective = Objective()
    train: Train = Train()
    memory: Memory = Memory()
    save: Save = Save()
    sample: Sample = Sample()
    validation: Validation = Validation()
    compare: Watch = Watch()
    output: Output = Output()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if not (self.rates.unet or self.rates.text_encoder or self.rates.text_encoder_2):
            raise ValueError("rates.unet, rates.text_encoder, rates.text_encoder_2: all off, nothing would be trained")
        if self.data.cache_text and any(one.vary for one in (self.captions, *map(self.captions.of, self.data.subsets))):
            raise ValueError(
                "data.cache_text needs captions that do not vary: turn it off, or captions.shuffle, captions.dropout,"
                " captions.tag_dropout, captions.dropout_every_n_epochs, captions.wildcards and token warm-up"
            )
        if (self.schedule.type == "adafactor") != (self.optimizer.type == "adafactor" and self.optimizer.lr is None):
            raise ValueError(
                "schedule.type adafactor and optimizer.type adafactor with an empty optimizer.lr belong together:"
                " choose both, or neither"
            )
        free = self.schedule.type == "constant" and self.schedule.warmup == 0
        if isinstance(self.optimizer, Averaging) and not free:
            raise ValueError(
                f"schedule.type {self.schedule.type}: optimizer.type {self.optimizer.type} averages its weights in"
                " place of a schedule: choose constant, with schedule.warmup 0"
            )
        return self

    @model_validator(mode="after")
    def _prior_needs_no_pictures(self) -> Self:
        if self.objective.prior == "trained" and (self.data.reg or any(subset.reg for subset in self.data.subsets)):
            raise ValueError(
                "objective.prior trained takes the place of regularisation pictures: empty data.reg, or set it to model"
            )
        return self

    @model_validator(mode="after")
    def _small_weights_agree(self) -> Self:
        if (self.memory.base_weights != "same" or self.memory.swap) and self.network.type == "full_model":
            raise ValueError(
                "memory.base_weights and memory.swap are for weights that stay as they are, and network.type full_model"
                " trains them: set base_weights to same and swap to 0, and network.fused to true to save memory"
            )
        if self.memory.base_weights == "fp8" and self.train.precision == "no":
            raise ValueError(
                "memory.base_weights fp8 is for mixed precision, in sd-scripts too: set train.precision to bf16 or"
                " fp16, or memory.base_weights to int8"
            )
        return self

    @model_validator(mode="after")
    def _fit_measures_one_gpu(self) -> Self:
        if self.memory.fit and self.train.processes > 1:
            raise ValueError(
                f"memory.fit measures one GPU, and train.processes is {self.train.processes}: set it to false, or"
                " train.processes to 1"
            )
        return self

    @model_validator(mode="after")
    def _own_weights_agree(self) -> Self:
        check_full(self)
        check_pivotal(self)
        return self

    @model_validator(mode="after")
    def _comparisons_agree(self) -> Self:
        watch, save, held_out = self.compare, self.save, self.validation
        measured = (held_out.share or held_out.folder) and (held_out.every_epochs or held_out.every_steps)
        if watch.by == "held_out" and not measured:
            raise ValueError(
                "compare.by held_out needs pictures that are held out and measured: set validation.share or"
                " validation.folder, and validation.every_epochs, or set compare.by to score"
            )
        if watch.afterwards and isinstance(self.network, Embedding) and len(self.network.words()) > 1:
            raise ValueError(
                "compare.afterwards asks with and without one word, and network.token has several: set it to false"
            )
        if watch.patience and watch.by == "score" and not watch.every_epochs:
            raise ValueError("compare.patience counts comparisons, and there are none: set compare.every_epochs too")
        if watch.every_epochs and (not save.every_epochs or watch.every_epochs % save.every_epochs):
            raise ValueError(
                f"compare.every_epochs {watch.every_epochs} compares epochs whose files are not kept: set"
                " save.every_epochs to a number that divides it, such as 1"
            )
        if watch.patience and save.keep_last:
            raise ValueError(
                "save.keep_last would remove the best file while compare.patience waits for a better one: leave one"
                " of them empty"
            )
        return self


__all__ = [
    "L1",
    "L2",
    "PRESETS",
    "SAMPLERS",
    "VERSION",
    "Adafactor",
    "AdafactorSchedule",
    "AdamW",
    "AdamW8bit",
    "Averaging",
    "Blocks",
    "Buckets",
    "Captions",
    "Config",
    "Constant",
    "Cosine",
    "CosineAnnealing",
    "CosineWithMinLr",
    "CosineWithRestarts",
    "Data",
    "DyLora",
    "Embedding",
    "FamilyName",
    "Full",
    "Huber",
    "InverseSqrt",
    "Kohya",
    "Library",
    "Linear",
    "Lion",
    "LoCon",
    "LoKr",
    "Lora",
    "LoraFa",
    "Loss",
    "Lycoris",
    "Memory",
    "Model",
    "MultiresNoise",
    "NewWords",
    "Noise",
    "Objective",
    "OffsetNoise",
    "Optimizer",
    "Output",
    "Part",
    "PiecewiseConstant",
    "Pivotal",
    "PlainNoise",
    "Polynomial",
    "Prediction",
    "Prodigy",
    "Rates",
    "Rex",
    "Sample",
    "Save",
    "Schedule",
    "SmoothL1",
    "Subset",
    "Train",
    "Validation",
    "WarmupStableDecay",
    "Watch",
]
