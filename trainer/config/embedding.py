"""New words for a model, learned by themselves (textual inversion) or together with a LoRA."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from trainer.config.parts import IsPath, Kohya, Line, Part, Span, Text, step_of

if TYPE_CHECKING:
    from trainer.config import Config

BUNDLE = "bundle_emb"
"""How the names of all vectors begin that a LoRA's file holds for new words."""
FORBIDDEN = set(".:;\"'/\\|?*()[]{}")
"""What has a meaning of its own in prompts, in the names of files, or in those of a file's tensors."""


def called(name: str, word: str) -> str:
    """The name of a word's own file beside others: the word behind the output's name, before the epoch or step."""
    stem, count, ending = _parts(name)
    return f"{stem}_{word.replace('<', '').replace('>', '')}{count}{ending}"


def word_of(name: str, beside: str) -> str:
    """The word whose own file has the name `beside` next to the output's: `called` the other way round, else empty."""
    stem, *rest = _parts(name)
    whole, *others = _parts(beside)
    head, _, word = whole.partition(f"{stem}_")
    return word if rest == others and not head else ""


def _parts(name: str) -> tuple[str, str, str]:
    """The name of a saved file: what the output is called, the epoch or step, the ending."""
    whole = re.fullmatch(r"(.*?)(-\d{6}|-step\d{8})?(\.safetensors)", name)
    return (whole[1], whole[2] or "", whole[3]) if whole else (name, "", "")


class NewWord(NamedTuple):
    """One new word: how it is written, the known words that it starts from, and how many vectors it stands for."""

    token: str
    init: str
    vectors: int


def _tokens(text: str) -> str:
    names = split(text)
    for name in names:
        if name.split() != [name] or FORBIDDEN & set(name):
            raise ValueError(f"{name[:40]!r} is no new word: write it without spaces, dots, brackets or quotes, as zk9")
    if twice := [name for name in names if [other.lower() for other in names].count(name.lower()) > 1]:
        raise ValueError(f"{twice[0]!r} is there twice: give each word once")
    return ", ".join(names)


def split(text: str) -> list[str]:
    """The parts of a text with commas between."""
    return [part.strip() for part in text.split(",")]


class NewWords(Part):
    """What is learned of the text encoders: vectors for words that they do not know yet."""

    token: Annotated[str, AfterValidator(_tokens), Kohya("token_string", "Token string")] = "zk9"
    """The new word, written so in captions and prompts; several with commas between."""
    init_word: Annotated[Line, Kohya("init_word", "Init word")] = "*"
    """Known words that it starts from, such as woman; for several new words one each, with commas between."""
    vectors: Annotated[int, Field(ge=1, le=75), Kohya("num_vectors_per_token", "Vectors")] = 1
    """How many tokens of a prompt the word takes; more can hold more, and leave less room for others."""

    @model_validator(mode="after")
    def _each_starts_from_something(self) -> Self:
        tokens, inits = split(self.token), split(self.init_word)
        if len(tokens) > 1 and len(inits) not in (1, len(tokens)):
            raise ValueError(f"init_word has {len(inits)} for the {len(tokens)} words of token: give one, or one each")
        return self

    def words(self) -> tuple[NewWord, ...]:
        """The new words one by one."""
        tokens = split(self.token)
        inits = split(self.init_word) if len(tokens) > 1 else [self.init_word.strip()]
        return tuple(NewWord(token, inits[i % len(inits)], self.vectors) for i, token in enumerate(tokens))


class Embedding(NewWords):
    """Textual inversion: nothing but the vectors of new words (Gal et al. 2022, arXiv 2208.01618)."""

    type: Annotated[Literal["embedding"], Field(title="LoRA type")] = "embedding"
    start_from: Annotated[Text, Kohya("weights", "Resume TI training"), IsPath()] = None
    """Go on from this embedding."""
    template: Annotated[Literal["caption", "object", "style"], Kohya("template", "Template")] = "caption"
    """`caption` trains with captions, which must hold the word; the others say `a photo of a zk9` and such of a thing,
    `a painting in the style of zk9` and such of a style, and no caption is read."""

    @model_validator(mode="after")
    def _a_file_holds_one_word(self) -> Self:
        if self.start_from and len(self.words()) > 1:
            raise ValueError("start_from is the file of one word, and token has several: give one, or leave it empty")
        return self


class Pivotal(NewWords):
    """New words that learn together with a LoRA (pivotal tuning, Roich et al. 2021, arXiv 2106.05744)."""

    token: Annotated[str, AfterValidator(_tokens), Field(title="New words")] = "zk9"
    """The new word, written so in captions and prompts; several with commas between."""
    init_word: Annotated[Line, Field(title="Init words")] = "*"
    """Known words that it starts from, such as woman; for several new words one each, with commas between."""
    vectors: Annotated[int, Field(ge=1, le=75, title="Vectors of a new word")] = 1
    """How many tokens of a prompt each new word takes; 2 or 4 hold more."""
    rate: Annotated[Annotated[float, Field(gt=0)] | Literal["same"], Field(title="Learning rate of new words")] = "same"
    """How fast the vectors learn: `same` as Learning rate, or their own, such as 1e-3 beside AdamW's 1e-4."""
    stop: Annotated[Span | None, Field(title="Stop new words")] = None
    """Learn the vectors up to this step alone, or to a share of all steps such as `50%`, and the LoRA around them to
    the end; empty learns both to the end."""
    files: Annotated[Literal["both", "bundled", "apart"], Field(title="Files of new words")] = "both"
    """Where the vectors are kept: in the LoRA's file, which A1111 reads (`bundled`), in files beside it, as ComfyUI and
    diffusers want them (`apart`), or `both`."""

    def stop_step(self, steps: int) -> int | None:
        """The step of `steps` from which on the vectors stay as they are; None for none."""
        return step_of(self.stop, steps)


def check_pivotal(config: Config) -> None:
    """Raises ValueError when new words beside a LoRA do not go together with other options."""
    if config.pivotal is None:
        return
    if config.network.type in ("embedding", "full_model"):
        raise ValueError(
            f"pivotal learns new words together with a LoRA, and network.type {config.network.type} trains none: choose"
            " a LoRA's type, or set pivotal to null"
        )
    if config.data.cache_text:
        raise ValueError("data.cache_text: what captions are read as is what new words change: set it to false")
    if config.compare.afterwards and config.pivotal.files == "apart":
        raise ValueError(
            "compare.afterwards draws with the LoRA's file alone, and pivotal.files apart has new words elsewhere: set"
            " pivotal.files to both"
        )
