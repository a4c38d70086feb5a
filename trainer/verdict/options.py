"""Options of the comparison, each written once: flags and fields of the page are made of it. Works without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trainer.compare.options import Prompt, Seed, Steps, Strength
from trainer.compare.samplers import SamplerName, name_of
from trainer.config.parts import Folder, IsPath, Part, Size, Text
from trainer.verdict.models import Eyes


class Compare(Part):
    """Find the best file of a run: draw with each, measure, and say which one, at which strength, and why."""

    folder: Annotated[Folder, Field(title="Run")]
    """A run folder, or any folder of LoRAs, models or embeddings of one training."""
    data: Annotated[Text, Field(title="Image folder"), IsPath()] = None
    """The pictures that were trained on; empty takes those of the run."""
    base: Annotated[Text, Field(title="Base model"), IsPath()] = None
    """Compare on the model that you will draw with; empty takes the run's own."""
    trigger: Annotated[Text, Field(title="Trigger word")] = None
    """The word that stands for the subject; empty finds it in the captions."""
    strengths: Annotated[tuple[Strength, ...], Field(min_length=1)] = (1.0, 0.8, 0.6)
    """Every LoRA is tried at the first; the best ones at the others too. Models and embeddings have none."""
    finalists: Annotated[int, Field(ge=1, le=100, title="Files tried at every strength")] = 3
    """How many of the best files that is; each takes as many pictures again for each of those strengths."""
    average: Annotated[bool, Field(title="Average neighbours")] = True
    """Try the average of the best file and those before and after it too; it is often steadier than each."""
    questions: Annotated[int, Field(ge=1, le=50, title="Prompts of each kind")] = 4
    """Of captions, of what contradicts them, and of prompts without the trigger."""
    seeds: Annotated[int, Field(ge=1, le=50, title="Seeds of each prompt")] = 2
    """More pictures make the answer surer, and take longer."""
    prompts: Annotated[tuple[Prompt, ...], Field(title="Own prompts")] = ()
    """With the trigger, in place of captions of the data set; one a line."""
    contradicting: Annotated[tuple[Prompt, ...], Field(title="Own contradicting prompts")] = ()
    """With the trigger, and with what no picture shows: other hair, clothes, places; one a line."""
    plain: Annotated[tuple[Prompt, ...], Field(title="Own prompts without the trigger")] = ()
    """What should stay as the base model draws it; one a line."""
    eyes: Annotated[Eyes, Field(title="Eyes")] = Eyes()
    """What looks at the pictures beside the base model itself, where it is at hand."""
    negative: Annotated[Prompt, Field(title="Negative prompt")] = ""
    """What to keep away, in all pictures."""
    sampler: Annotated[SamplerName, BeforeValidator(name_of)] = "DPM++ 2M Karras"
    """How noise becomes a picture."""
    steps: Steps = 20
    """How many steps it takes."""
    cfg: Annotated[float, Field(ge=0, le=100, title="CFG scale")] = 7.0
    """How closely the prompt is followed."""
    seed: Seed = 42
    """The first seed; the same pictures are asked of every file."""
    size: Annotated[Size | None, Field(title="Width and height")] = None
    """Pixels, multiples of 8; empty takes what the base model was made for."""
    batch: Annotated[int, Field(ge=1, le=64, title="Batch size")] = 4
    """Pictures at once."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it is drawn; auto takes the first GPU there is."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Precision of the model; auto is fp16 on CUDA, else fp32."""
