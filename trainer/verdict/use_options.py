"""Options of "Use this one", each written once: flags and fields of the page are made of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from trainer.config.parts import Folder, IsPath, Part, Text
from trainer.folders.files import bad_name


def fits(name: str) -> bool:
    """Whether a name can be a file's everywhere, and stand in a prompt, where commas part them."""
    return not bad_name(name) and "," not in name


def _named(name: str | None) -> str | None:
    if name and not fits(name):
        raise ValueError(
            f'{name!r} cannot name a file here: no < > : " / \\ | ? * or comma, no device name, no space or dot '
            "at an end"
        )
    return name


class Use(Part):
    """Use this one: copy a LoRA, an embedding or a model under its final name, with a preview and a side file, to where
    pictures are made."""

    file: Annotated[Folder, Field(title="File to use")]
    """The file to use: one of a run's LoRAs, embeddings or models, or an average; a LoRA takes its new words along."""
    strength: Annotated[float, Field(gt=0, le=2, title="Recommended strength")] = 1.0
    """The strength at which a LoRA is best; A1111 puts it into the prompt."""
    name: Annotated[Text, AfterValidator(_named), Field(title="Final name")] = None
    """What it is called there, of an embedding the word for prompts; empty takes the run's Model output name, or the
    embedding file's own without its number."""
    trigger: Annotated[Text, Field(title="Trigger")] = None
    """The words that call it up; A1111 puts them into the prompt with a LoRA."""
    preview: Annotated[Text, Field(title="Preview picture"), IsPath()] = None
    """A picture that shows what it does; what a PNG says of itself is kept."""
    negative: Annotated[Text, Field(title="Negative text")] = None
    """Words that A1111 puts into the negative prompt with a LoRA."""
    description: Annotated[Text, Field(title="Description")] = None
    """What A1111 shows on its card; empty takes what the file says."""
    notes: Annotated[Text, Field(title="Notes")] = None
    """A note for its owner, such as the verdict's sentence."""
    a1111: Annotated[Text, Field(title="Folder of A1111"), IsPath()] = None
    """Where A1111 is installed, or its models folder, or its Lora folder; the other folders are found from there."""
    forge: Annotated[Text, Field(title="Folder of Forge"), IsPath()] = None
    """Where Forge is installed, or its models folder, or its Lora folder; the other folders are found from there."""
    comfyui: Annotated[Text, Field(title="Folder of ComfyUI"), IsPath()] = None
    """Where ComfyUI is installed, or its models folder, or its loras folder; the other folders are found from there."""
    invokeai: Annotated[Text, Field(title="Folder of InvokeAI"), IsPath()] = None
    """Where InvokeAI is installed; its import folder is used when it has one."""
    save_to: Annotated[Text, Field(title="Another folder"), IsPath()] = None
    """Gets it too; when no program takes it and this is empty, it goes to `chosen` in the run folder."""
    overwrite: bool = False
    """Write over other files of that name, of which copies are kept; without it, it gets a number."""
