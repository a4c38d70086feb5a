"""Options of captioning, each written once: flags of the command line and fields of the page are made from these."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from trainer.config.parts import Folder, Kohya, Part, Probability
from trainer.data.folders import ENDINGS, UNREAD

TAGGERS = (
    "SmilingWolf/wd-v1-4-convnext-tagger",
    "SmilingWolf/wd-v1-4-convnext-tagger-v2",
    "SmilingWolf/wd-v1-4-convnextv2-tagger-v2",
    "SmilingWolf/wd-v1-4-vit-tagger",
    "SmilingWolf/wd-v1-4-vit-tagger-v2",
    "SmilingWolf/wd-v1-4-swinv2-tagger-v2",
    "SmilingWolf/wd-v1-4-moat-tagger-v2",
    "SmilingWolf/wd-swinv2-tagger-v3",
    "SmilingWolf/wd-vit-tagger-v3",
    "SmilingWolf/wd-convnext-tagger-v3",
    "SmilingWolf/wd-vit-large-tagger-v3",
    "SmilingWolf/wd-eva02-large-tagger-v3",
)
"""The published WD14 taggers, by their names on the Hugging Face hub."""
PAIR = re.compile(r"((?:\\.|[^,\\])+),((?:\\.|[^,\\])+)")


@dataclass(frozen=True)
class OrPath:
    """Marks a model's name on the hub, or a folder on this machine."""


def replacements(text: str) -> dict[str, str]:
    r"""`old,new;old,new` as a dict; `\,` and `\;` are a comma and a semicolon within a tag. ValueError if malformed."""
    found: dict[str, str] = {}
    for piece in re.findall(r"(?:\\.|[^;])+", text):
        if piece.strip():
            pair = PAIR.fullmatch(piece.strip())
            old, new = (re.sub(r"\\(.)", r"\1", side).strip() for side in pair.groups()) if pair else ("", "")
            if not (old and new):
                raise ValueError(rf"{piece.strip()!r} is not of the form old,new; a comma within a tag is written \,")
            found[old] = new
    return found


def _replaces(text: str) -> str:
    replacements(text)
    return text


def _of_captions(ending: str) -> str:
    if ending.lower() in (*ENDINGS, *UNREAD):
        raise ValueError(f"{ending} is the ending of pictures, which captions would overwrite: use .txt")
    return ending


Pictures = Annotated[
    Folder,
    Field(description="The folder with the pictures; each caption goes into a text file beside its own."),
    Kohya("train_data_dir", "Image folder to caption", "Image folder to caption (containing the images to caption)"),
]
Extension = Annotated[
    str,
    Field(pattern=r"^\.[A-Za-z0-9_.-]+$", description="A caption has its picture's name with this ending."),
    AfterValidator(_of_captions),
    Kohya("caption_extension", "Caption file extension"),
]
Recursive = Annotated[
    bool,
    Field(description="Caption the pictures in the folders inside the folder too."),
    Kohya("recursive", "Recursive"),
]
Workers = Annotated[
    int,
    Field(ge=1, le=64, description="Pictures that are opened at a time, beside the work of the model."),
    Kohya("max_data_loader_n_workers", "Max dataloader workers"),
]

Existing = Literal["overwrite", "append", "prepend", "skip"]
Stays = Annotated[
    Existing,
    Field(
        title="Existing captions",
        description="What becomes of a caption that is there: overwritten, kept with what is new behind it (append) or "
        "before it (prepend), or left alone. Tags and a sentence in one caption: write the one, then append or prepend "
        "the other.",
    ),
]
Hub = Annotated[
    str,
    Field(min_length=1, description="A folder with the model as transformers writes it, or its name on the hub."),
    OrPath(),
]
Beams = Annotated[
    int, Field(ge=1, le=32, description="Sentences that are followed side by side while searching for the likeliest.")
]
Longest = Annotated[int, Field(ge=1, le=2048, description="Tokens of a caption at most; models that chat want 300.")]
Shortest = Annotated[int, Field(ge=0, le=2048, description="Tokens of a caption at least.")]
Prompt = Annotated[
    str,
    Field(title="Prompt", description="What the model is asked; `{tags}` becomes the caption that is there."),
]


class Wd14(Part):
    """Tags from one WD14 tagger, or from several."""

    folder: Pictures
    model: Annotated[tuple[str, ...], Field(min_length=1, max_length=8), OrPath(), Kohya("repo_id", "Repo ID")] = (
        "SmilingWolf/wd-v1-4-convnextv2-tagger-v2",
    )
    """A tagger's name on the Hugging Face hub, or a folder with model.onnx and selected_tags.csv; several are asked
    together."""
    together: Annotated[Literal["union", "intersection", "mean"], Field(title="Several models")] = "union"
    """Tags that any of several models gives, that all give, or whose mean probability is high enough. A model that
    does not know a tag has no say in it."""
    download: Annotated[bool, Field(title="Download missing models")] = True
    """Fetch models that are not on this machine from the Hugging Face hub."""
    force_download: Annotated[bool, Kohya("force_download", "Force model re-download")] = False
    """Fetch the model again, when its files are damaged or a newer one is out."""
    caption_extension: Extension = ".txt"
    caption_separator: Annotated[str, Field(min_length=1), Kohya("caption_separator", "Caption Separator")] = ", "
    """What stands between two tags, with its space."""
    tag_replacement: Annotated[str, AfterValidator(_replaces), Kohya("tag_replacement", "Tag replacement")] = ""
    r"""Tags to write in place of others: `old,new;old,new`, and `\,` for a comma within a tag."""
    character_tag_expand: Annotated[bool, Kohya("character_tag_expand", "Character tag expand")] = False
    """Make two tags of a character's: `name_(series)` becomes `name, series`."""
    undesired_tags: Annotated[str, Kohya("undesired_tags", "Undesired tags")] = ""
    """Tags that are never written: `1girl,solo`."""
    prefix: Annotated[str, Kohya("always_first_tags", "Prefix to add to WD14 caption")] = ""
    """Put before every caption, for instance the trigger word; a tag that stands here is not written a second time."""
    postfix: Annotated[str, Kohya("caption_postfix", "Postfix to add to WD14 caption")] = ""
    """Put after every caption."""
    existing: Annotated[Stays, Kohya("append_tags", "Existing captions", "Append TAGs")] = "overwrite"
    rating_tags: Annotated[
        Literal["none", "first", "last"], Kohya("use_rating_tags", "Use rating tags", "Use rating tags as last tag")
    ] = "none"
    """Write the likeliest rating, such as general or sensitive, as the first tag or as the last."""
    quality_tags: Annotated[
        Literal["none", "first", "last"], Kohya("use_quality_tags", "Use quality tags", "Use quality tags as last tag")
    ] = "none"
    """Write the likeliest quality as the first tag or as the last, with models that know quality."""
    character_tags_first: Annotated[bool, Kohya("character_tags_first", "Character tags first")] = False
    """Write tags of characters before all others."""
    recursive: Recursive = False
    remove_underscore: Annotated[bool, Kohya("remove_underscore", "Remove underscore")] = True
    """Write blanks for underscores; faces such as `^_^` stay."""
    frequency_tags: Annotated[bool, Kohya("frequency_tags", "Show tags frequency")] = True
    """Say at the end how often each tag was written."""
    threshold: Annotated[Probability, Kohya("thresh", "Threshold")] = 0.35
    """Probability from which tags of copyrights, artists, models and meta are written, by taggers that know them."""
    general_threshold: Annotated[Probability, Kohya("general_threshold", "General threshold")] = 0.35
    """Probability from which a tag is written; lower gives more tags, and more wrong ones."""
    character_threshold: Annotated[Probability, Kohya("character_threshold", "Character threshold")] = 0.35
    """Probability from which a character's tag is written."""
    rating_threshold: Probability = 0.35
    """Probability from which the likeliest rating is written."""
    fast_decoding: Annotated[bool, Field(title="Fast decoding of large JPEGs")] = False
    """Decode JPEGs at a half, a quarter or an eighth of their size, as far as the model's own size allows: several
    times as fast, and probabilities differ a little from those of the published recipe."""
    batch: Annotated[int, Field(ge=1, le=256), Kohya("batch_size", "Batch size")] = 8
    """Pictures that the model looks at together: the captions are the same, a GPU is faster with more."""
    workers: Workers = 2


class Basic(Part):
    """The same words for every picture, and changes to the captions there are."""

    folder: Pictures
    caption_extension: Extension = ".txt"
    recursive: Recursive = False
    workers: Workers = 2
    overwrite: Annotated[bool, Kohya("overwrite", "Overwrite existing captions in folder")] = False
    """Change captions that are there too, not only write missing ones."""
    prefix: Annotated[str, Kohya("prefix", "Prefix to add to caption")] = ""
    """Put before every caption."""
    caption_text: Annotated[str, Kohya("caption_text", "Caption text")] = ""
    """The caption; empty keeps the words of a caption that is there."""
    postfix: Annotated[str, Kohya("postfix", "Postfix to add to caption")] = ""
    """Put after every caption."""
    find: Annotated[str, Kohya("find_text", "Find text")] = ""
    """Words that are replaced wherever they stand in a caption."""
    replace: Annotated[str, Kohya("replace_text", "Replacement text")] = ""
    """What stands in their place; empty takes them out."""

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        if self.replace and not self.find:
            raise ValueError("replace has nothing to replace: set find")
        if not (self.caption_text or self.prefix or self.postfix or self.find):
            raise ValueError("nothing to do: set caption_text, prefix, postfix or find")
        return self


class Sentences(Part):
    """Sentences by a model on this machine: BLIP, Florence-2, Qwen-VL, LLaVA, JoyCaption and their like."""

    folder: Pictures
    model: Hub = "Salesforce/blip-image-captioning-large"
    download: Annotated[bool, Field(title="Download missing models")] = True
    """Fetch a model that is not on this machine from the Hugging Face hub."""
    prompt: Prompt = ""
    caption_extension: Extension = ".txt"
    recursive: Recursive = False
    existing: Stays = "overwrite"
    prefix: Annotated[str, Kohya("prefix", "Prefix to add to caption", "Prefix to add to BLIP caption")] = ""
    """Put before every caption, for instance the trigger word."""
    postfix: Annotated[str, Kohya("postfix", "Postfix to add to caption", "Postfix to add to BLIP caption")] = ""
    """Put after every caption."""
    batch: Annotated[int, Field(ge=1, le=256), Kohya("batch_size", "Batch size")] = 1
    """Pictures that the model looks at together."""
    beam_search: Annotated[bool, Kohya("beam_search", "Use beam search")] = True
    """Take the likeliest sentence; off draws one by chance, within top_p (nucleus sampling)."""
    num_beams: Annotated[Beams, Kohya("num_beams", "Number of beams")] = 1
    length_penalty: Annotated[float, Field(ge=-5, le=5), Kohya("length_penalty", "Length Penalty")] = 1.0
    """With several beams: above 0 favours long sentences, below 0 short ones."""
    repetition_penalty: Annotated[float, Field(ge=1, le=5), Kohya("repetition_penalty", "Repeat Penalty")] = 1.0
    """Above 1, words that were written are less likely to come again."""
    temperature: Annotated[float, Field(gt=0, le=2), Kohya("temperature", "Temperature")] = 1.0
    """Without beam search: below 1 keeps to likely words, above 1 is bolder."""
    top_p: Annotated[float, Field(gt=0, le=1), Kohya("top_p", "Top p")] = 0.9
    """How much of the likely words may be drawn from, without beam search."""
    max_length: Annotated[Longest, Kohya("max_length", "Max length")] = 75
    min_length: Annotated[Shortest, Kohya("min_length", "Min length")] = 5
    workers: Workers = 2

    @model_validator(mode="after")
    def _counts(self) -> Self:
        """An option that would change nothing is told, not passed over."""
        idle = ("temperature", "top_p") if self.beam_search else ("num_beams", "length_penalty")
        changed = [name for name in idle if getattr(self, name) != type(self).model_fields[name].default]
        if changed:
            remedy = "turn it off" if self.beam_search else "turn it on"
            state = "with" if self.beam_search else "without"
            raise ValueError(
                f"{changed[0]} counts for nothing {state} beam_search: {remedy}, or leave {changed[0]} out"
            )
        if self.length_penalty != 1 and self.num_beams == 1:
            raise ValueError("length_penalty weighs several beams: set num_beams to 2 or more, or leave it out")
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is more than max_length {self.max_length}: lower it")
        return self


class Blip2(Sentences):
    """Sentences by BLIP-2, with what its tab of the Kohya GUI begins with."""

    model: Hub = "Salesforce/blip2-opt-2.7b"
    num_beams: Annotated[Beams, Kohya("num_beams", "Number of beams")] = 16
    repetition_penalty: Annotated[float, Field(ge=1, le=5), Kohya("rep_penalty", "Repeat Penalty")] = 1.5
    """Above 1, words that were written are less likely to come again."""
    max_length: Annotated[Longest, Kohya("max_new_tokens", "Max new tokens")] = 40
    min_length: Annotated[Shortest, Kohya("min_new_tokens", "Min new tokens")] = 20


class Git(Sentences):
    """Sentences by GIT, with what its tab of the Kohya GUI begins with."""

    model: Annotated[Hub, Kohya("model_id", "Model")] = "microsoft/git-large-textcaps"
    prefix: Annotated[str, Kohya("prefix", "Prefix to add to GIT caption")] = ""
    """Put before every caption, for instance the trigger word."""
    postfix: Annotated[str, Kohya("postfix", "Postfix to add to GIT caption")] = ""
    """Put after every caption."""
    min_length: Annotated[Shortest, Kohya("min_length", "Min length")] = 0


class Endpoint(Part):
    """Sentences by a server that speaks OpenAI's language. The pictures are sent to it, and nowhere else."""

    folder: Pictures
    url: Annotated[str, Field(title="Address", pattern=r"^https?://[^\s/]+\S*$")]
    """The server's address up to `/v1`, such as http://127.0.0.1:1234/v1."""
    model: str = ""
    """The model's name there; empty leaves the choice to the server."""
    key_variable: Annotated[str, Field(title="Key", pattern=r"^([A-Za-z0-9_]+_API_KEY)?$")] = ""
    """The environment variable that holds the key, for a server that wants one. Its name must end in `_API_KEY`, as
    MY_API_KEY does, so that nothing else is ever sent: put the key into such a one."""
    prompt: Prompt = "Describe this picture in one or two plain sentences for training an image model."
    side: Annotated[int, Field(ge=64, le=4096, title="Size of the pictures sent")] = 1024
    """Pictures are sent with at most this many pixels on their longer side."""
    caption_extension: Extension = ".txt"
    recursive: Recursive = False
    existing: Stays = "overwrite"
    prefix: str = ""
    """Put before every caption, for instance the trigger word."""
    postfix: str = ""
    """Put after every caption."""
    batch: Annotated[int, Field(ge=1, le=64, title="Pictures at once")] = 1
    """Pictures that are sent at the same time."""
    max_length: Annotated[int, Field(ge=1, le=8192, title="Max length")] = 300
    """Tokens of a caption at most."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds to wait for a caption."""
    workers: Workers = 2


Captioning = Wd14 | Basic | Sentences | Endpoint
"""The options of any captioner; all have folder, caption_extension, recursive and workers."""
