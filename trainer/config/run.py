"""How long, how fast, and what is kept: training, saving, samples, validation, output."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from trainer.config.parts import Count, IsPath, Kohya, Line, Part, Probability, Text

Sampler = Literal[
    "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver", "dpmsolver++", "dpmsingle",
    "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
]  # fmt: skip
"""The names of the Kohya GUI; `k_` names are the same samplers under their older name."""
SAMPLERS: tuple[str, ...] = get_args(Sampler)

RESERVED = re.compile(r"(?i)^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")  # names that Windows keeps for devices


def _file_name(name: str | None) -> str | None:
    if name and (name != name.strip(" .") or re.search(r'[<>:"/\\|?*\x00-\x1f]', name) or RESERVED.match(name)):
        raise ValueError(
            f'{name!r} cannot be a file name: no < > : " / \\ | ? *, no device name, no space or dot at an end'
        )
    return name


class Train(Part):
    """Length, batch, and how memory is used."""

    epochs: Annotated[Count | None, Kohya("max_train_epochs", "Epoch", "Max train epoch")] = 10
    """Times that all pictures with their repeats are seen; empty counts by steps alone."""
    steps: Annotated[Count | None, Kohya("max_train_steps", "Max train steps")] = None
    """Stop after this many optimizer steps, even in the middle of an epoch."""
    batch: Annotated[int, Field(ge=1, le=256), Kohya("train_batch_size", "Train batch size")] = 1
    """Pictures that each step learns from: more make it steadier, and take more memory."""
    accumulate: Annotated[
        int, Field(ge=1, le=1024), Kohya("gradient_accumulation_steps", "Gradient accumulate steps")
    ] = 1
    """Batches whose gradients are added up before a step: a larger batch in the same memory."""
    precision: Annotated[Literal["no", "fp16", "bf16"], Kohya("mixed_precision", "Mixed precision")] = "no"
    """Mixed precision: the base model's numbers; bf16 for RTX 30 and newer, fp16 for older cards, no for the CPU."""
    full: Annotated[bool, Kohya("full_bf16", "Full bf16 training", "Full bf16 training (experimental)")] = False
    """Keep the trained weights in the mixed precision as well: less memory, less exact."""
    checkpointing: Annotated[bool, Kohya("gradient_checkpointing", "Gradient checkpointing")] = False
    """Compute activations twice in place of keeping them: far less memory, about a third slower."""
    attention: Annotated[Literal["sdpa", "xformers", "none"], Kohya("xformers", "CrossAttention")] = "sdpa"
    """Memory efficient attention by PyTorch (sdpa) or by xformers, which must be installed; none takes far more."""
    clip: Annotated[float | None, Field(gt=0), Kohya("max_grad_norm", "Max grad norm")] = 1.0
    """Limit on the norm of the gradient; empty sets none."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes the first GPU there is."""
    threads: Annotated[
        Count | None, Kohya("num_cpu_threads_per_process", "CPU threads", "Number of CPU threads per core")
    ] = None
    """CPU threads; empty takes all cores. Kept through a resume, because it can change the last bit."""
    processes: Annotated[int, Field(ge=1, le=256), Kohya("num_processes", "Number of processes")] = 1
    """Processes that train together, each on a GPU of its own with its own batch; 1 for one GPU."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.epochs is None and self.steps is None:
            raise ValueError("one of epochs and steps must be given, or training would never end")
        if self.full and self.precision == "no":
            raise ValueError("full needs numbers of 16 bits: set precision to bf16 or fp16, or full to false")
        return self


class Save(Part):
    """What is written during training."""

    every_epochs: Annotated[Count | None, Kohya("save_every_n_epochs", "Save every N epochs")] = 1
    """Keep a file of every n-th epoch to choose from; empty keeps the last one alone."""
    every_steps: Annotated[Count | None, Kohya("save_every_n_steps", "Save every N steps")] = None
    """Keep a file after every n steps too; empty for none."""
    every_minutes: Annotated[float | None, Field(gt=0, title="Save every N minutes")] = None
    """Keep a file after so many minutes too; empty for none."""
    keep_last: Annotated[Count | None, Kohya("save_last_n_epochs", "Save last N epochs")] = None
    """Keep only the newest n of these files; the final one always stays."""
    precision: Annotated[Literal["fp32", "fp16", "bf16"], Kohya("save_precision", "Save precision")] = "fp16"
    """Precision of the saved file; fp16 is what every tool reads."""
    state_minutes: Annotated[float, Field(ge=0, title="Minutes between training states")] = 10.0
    """Minutes between states that a training can be resumed from; 0 writes one each step."""
    state_keep: Annotated[
        int,
        Field(ge=1, le=100),
        Kohya("save_last_n_epochs_state", "Training states kept", "Save last N epochs state"),
    ] = 2
    """How many of these states stay in the run folder; older ones are removed."""


class Sample(Part):
    """Pictures made while training goes on."""

    prompts: Annotated[tuple[Line, ...], Field(title="Sample prompts")] = ()
    """Prompts, with the switches of sd-scripts: `--w 512 --h 768 --d 1 --s 30 --l 7.5 --n blurry --ss euler_a`."""
    file: Annotated[Text, Kohya("sample_prompts", "Sample prompts file", "Sample prompts"), IsPath()] = None
    """A text file with one prompt a line; `#` starts a comment."""
    every_epochs: Annotated[Count | None, Kohya("sample_every_n_epochs", "Sample every n epochs")] = None
    """Make the pictures after every n-th epoch; empty for none."""
    every_steps: Annotated[Count | None, Kohya("sample_every_n_steps", "Sample every n steps")] = None
    """Make the pictures after every n steps too; empty for none."""
    first: Annotated[bool, Kohya("sample_at_first", "Sample before training")] = False
    """Make the pictures once before the first step, to see what the base model paints."""
    sampler: Annotated[Sampler, Kohya("sample_sampler", "Sample sampler")] = "ddim"
    """Paints prompts that name no sampler of their own."""
    seed: Annotated[int, Field(ge=0, lt=2**32, title="Sample seed")] = 42
    """Seed of prompts that name none; the same for every prompt and time, so that pictures can be compared."""


class Validation(Part):
    """Loss at fixed noise and fixed timesteps on pictures that are not trained, and on some that are."""

    share: Annotated[Probability, Kohya("validation_split", "Validation share")] = 0.0
    """Share of the pictures held out; 0 holds none out."""
    folder: Annotated[Text, Field(title="Validation folder"), IsPath()] = None
    """A folder of pictures to validate on, in place of a share."""
    every_epochs: Annotated[Count | None, Kohya("validate_every_n_epochs", "Validate every n epochs")] = 1
    """Measure after every n-th epoch; empty for none."""
    every_steps: Annotated[Count | None, Kohya("validate_every_n_steps", "Validate every n steps")] = None
    """Measure after every n steps too; empty for none."""
    timesteps: Annotated[
        tuple[Annotated[int, Field(ge=0, le=999)], ...], Field(min_length=1, title="Validation timesteps")
    ] = (200, 400, 600, 800)
    """Timesteps at which the loss is taken."""
    pictures: Annotated[int, Field(ge=1, le=1000, title="Trained pictures measured")] = 16
    """Trained pictures that are measured beside them, so that the gap shows."""


class Watch(Part):
    """Draws while it trains, scores the pictures, and can stop when they get no better."""

    every_epochs: Annotated[Count | None, Field(title="Compare every N epochs")] = None
    """Draw and score pictures after every n-th epoch, as it is done afterwards; empty for none."""
    patience: Annotated[Count | None, Field(title="Stop after N comparisons without a better one")] = None
    """Stop early when so many have come after the best one, and all are surely worse; empty trains to the end."""
    by: Annotated[Literal["score", "held_out"], Field(title="Stop by")] = "score"
    """What gets no better: the score of the pictures, or the loss on held-out pictures whenever that is measured."""
    questions: Annotated[int, Field(ge=1, le=50, title="Compared prompts of each kind")] = 3
    """Of captions, of what contradicts them, and of prompts without the trigger."""
    seeds: Annotated[int, Field(ge=1, le=50, title="Seeds of each compared prompt")] = 2
    """More pictures make the score surer, and take longer."""
    steps: Annotated[int, Field(ge=1, le=500, title="Sampling steps of a compared picture")] = 20
    """How many steps each picture takes."""
    cfg: Annotated[float, Field(ge=0, le=100, title="CFG scale of a compared picture")] = 7.0
    """How closely the prompt is followed; 1 takes half the time."""
    afterwards: Annotated[bool, Field(title="Find the best file afterwards")] = False
    """When the training is done, the page's queue compares its files at several strengths, and says which is best."""

    @model_validator(mode="after")
    def _noise(self) -> Self:
        if self.patience and self.by == "score" and self.seeds < 2:
            raise ValueError("patience tells worse from noise by other seeds: set seeds to 2 or more")
        return self


class Output(Part):
    """Where the trained file goes, and what it says about itself."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=128),
        AfterValidator(_file_name),
        Kohya("output_name", "Model output name", "Trained Model output name"),
    ] = "last"
    """The file is `<name>.safetensors`."""
    folder: Annotated[Text, Kohya("output_dir", "Output folder", "Output directory for trained model"), IsPath()] = None
    """Gets the trained files and their samples, as the run folder does; empty keeps them in the run folder alone."""
    logging: Annotated[Text, Kohya("logging_dir", "Logging folder", "Logging directory"), IsPath()] = None
    """Gets the TensorBoard files, as the run folder does."""
    log_prefix: Annotated[str, AfterValidator(_file_name), Kohya("log_prefix", "Log prefix")] = ""
    """Put before the run's name in the logging folder."""
    log_name: Annotated[Text, AfterValidator(_file_name), Kohya("log_tracker_name", "Log tracker name")] = None
    """Folder of the TensorBoard files within the run's; empty is `network_train`, as in sd-scripts."""
    metadata: Annotated[bool, Kohya("no_metadata", "Write metadata")] = True
    """Write the settings into the trained file, so that one can see how it was made."""
    comment: Annotated[str, Kohya("training_comment", "Training comment")] = ""
    """A note in the trained file; a good place for the trigger word."""
    title: Annotated[str, Kohya("metadata_title", "Metadata title")] = ""
    """What programs list the file as; empty takes Model output name."""
    author: Annotated[str, Kohya("metadata_author", "Metadata author")] = ""
    """Who made it."""
    description: Annotated[str, Kohya("metadata_description", "Metadata description")] = ""
    """What it shows, and how it is prompted."""
    license: Annotated[str, Kohya("metadata_license", "Metadata license")] = ""
    """On what terms others may use it."""
    tags: Annotated[str, Kohya("metadata_tags", "Metadata tags")] = ""
    """Words to find it by, with commas between."""
