r"""The language of prompts in A1111 beyond weights: LoRAs by name, words that change from step to step, presets.

`<lora:name:0.8>` wears a LoRA, `[cat:dog:0.5]` draws a cat for half of the steps and then a dog, `[cat|dog]` takes
turns, `\[` is a bracket. Weights and BREAK are left to what counts tokens. Works without torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple

from trainer.errors import InputError

Preset = Literal["none", "general", "photo", "drawing", "person"]
PRESETS: dict[Preset, str] = {
    "none": "",
    "general": "blurry, out of focus, low resolution, compression artifacts, cropped, watermark, signature, text",
    "photo": "drawing, painting, render, plastic skin, oversaturated, overexposed, blurry, watermark, text",
    "drawing": "photo, sketch, unfinished, muddy colours, rough lines, blurry, watermark, signature, text",
    "person": "deformed face, crossed eyes, extra fingers, missing fingers, fused hands, extra limbs, blurry",
}
"""Words to keep away, by what is drawn."""

DEEPEST = 50  # prompts inside prompts
_PIECES = re.compile(r"\\.|[\[\]()|:]|[^\\\[\]()|:]+|\\", re.DOTALL)
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)\s*")
_TAG = re.compile(r"<(\w+):([^<>]*)>")
_AND = re.compile(r"\bAND\b")


class Tag(NamedTuple):
    """A LoRA asked for by name: its strength in the U-Net, and in the text encoders."""

    name: str
    unet: float
    text: float


class Edit(NamedTuple):
    """One text for some steps, then another. when: steps, or a share of them."""

    before: list[Node]
    after: list[Node]
    when: float
    is_share: bool


class Turns(NamedTuple):
    """Texts that take turns, a step each."""

    texts: list[list[Node]]


Node = str | Edit | Turns


def take_tags(prompt: str) -> tuple[str, list[Tag]]:
    """A prompt without its `<lora:...>` tags, and these; InputError for tags of other kinds.

    As in A1111, `<lora:name:0.8>` is the strength in all parts, `<lora:name:0.5:0.8>` that in the text encoders and
    then in the U-Net; `te=0.5` and `unet=0.8` name them.
    """
    tags: list[Tag] = []

    def take(found: re.Match[str]) -> str:
        if found[1].lower() not in ("lora", "lyco"):
            raise InputError(f"prompt: {found[0][:60]} is not known here; only <lora:name:strength> is")
        tags.append(_tag(found[0], found[2]))
        return ""

    left = _TAG.sub(take, prompt)
    return (re.sub(r"[ \t]{2,}", " ", left).strip() if tags else left), tags


def _tag(whole: str, inner: str) -> Tag:
    name, *rest = (word.strip() for word in inner.split(":"))
    given: dict[str, float] = {}
    places = iter(("te", "unet"))
    for word in rest:
        option, equals, value = word.partition("=")
        option, value = (option.strip(), value) if equals else (next(places, ""), word)
        if option not in ("te", "unet") or not _NUMBER.fullmatch(value):
            raise InputError(
                f"prompt: {word[:40]!r} in {whole[:80]} is no strength; write <lora:name:0.8>, or"
                " <lora:name:te=0.5:unet=0.8>"
            )
        given[option] = float(value)
    if not name:
        raise InputError(f"prompt: {whole[:80]} has no name; write <lora:name:0.8>")
    text = given.get("te", 1.0)
    return Tag(name, given.get("unet", text), text)


def by_step(prompt: str, steps: int) -> tuple[str, ...]:
    """The text of each of the steps; InputError for what A1111 knows and this does not.

    `[a:b:5]` is a for five steps, then b; `[a:b:0.5]` for half of them; `[b:5]` begins with nothing, `[a::5]` ends so;
    `[a|b]` takes turns, beginning with a.
    """
    if _AND.search(prompt):
        raise InputError(
            "prompt: AND, which mixes prompts in A1111, is not known here; write one prompt, or a small and"
        )
    nodes = _parse(prompt)
    if all(isinstance(node, str) for node in nodes):
        return (prompt,) * steps
    return tuple("".join(_at(nodes, step, steps)) for step in range(steps))


def _at(nodes: Sequence[Node], step: int, steps: int) -> Iterator[str]:
    """The pieces of a prompt at a step, which counts from 0."""
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Turns):
            yield from _at(node.texts[step % len(node.texts)], step, steps)
        else:
            when = int(node.when * steps) if node.is_share else int(node.when)
            yield from _at(node.before if step < when else node.after, step, steps)


@dataclass
class _Open:
    """A square bracket that is open: what stands between its bars and colons, which are `marks`."""

    parts: list[list[Node]] = field(default_factory=lambda: [list[Node]()])
    marks: list[str] = field(default_factory=list)
    round: int = 0  # brackets open inside; their colons are weights

    def plain(self, close: str) -> Iterator[Node]:
        """The same, as text in brackets."""
        yield "["
        for part, mark in zip(self.parts, [*self.marks, close], strict=True):
            yield from part
            yield mark


@lru_cache(64)
def _parse(prompt: str) -> list[Node]:
    stack = [_Open()]
    for piece in _PIECES.findall(prompt):
        top = stack[-1]
        if piece == "[":
            stack.append(_Open())
        elif piece == "]" and len(stack) > 1:
            stack.pop()
            stack[-1].parts[-1].extend(_closed(top))
        elif piece in (":", "|") and len(stack) > 1 and not top.round:
            top.marks.append(piece)
            top.parts.append([])
        else:
            top.round = max(0, top.round + (piece == "(") - (piece == ")"))
            top.parts[-1].append(piece)
    while len(stack) > 1:  # brackets that nobody closes are text
        top = stack.pop()
        stack[-1].parts[-1].extend(top.plain(""))
    if _depth(stack[0].parts[0]) > DEEPEST:
        raise InputError(f"prompt: more than {DEEPEST} changing texts inside each other; write it simpler")
    return stack[0].parts[0]


def _closed(frame: _Open) -> list[Node]:
    """What a pair of square brackets means."""
    if "|" in frame.marks:
        choices: list[list[Node]] = [[]]
        for part, mark in zip(frame.parts, ["|", *frame.marks], strict=True):
            if mark == "|" and part is not frame.parts[0]:
                choices.append([])
            choices[-1].extend([":"] * (mark == ":"))
            choices[-1].extend(part)
        return [Turns(choices)]
    last = "".join(piece for piece in frame.parts[-1] if isinstance(piece, str))
    if not frame.marks or not _NUMBER.fullmatch(last):
        return list(frame.plain("]"))
    if len(frame.marks) > 2:
        text = "".join(piece for piece in frame.plain("]") if isinstance(piece, str))
        raise InputError(rf"prompt: {text[:80]} has too many colons for [from:to:when]; write \: for one that is text")
    before = frame.parts[0] if len(frame.marks) == 2 else []
    return [Edit(before, frame.parts[-2], float(last), "." in last)]


def _depth(nodes: list[Node]) -> int:
    """How deep changing texts lie inside each other; counted without recursion, for strangers write prompts too."""
    depth, level = 0, [nodes]
    while level:
        changing = [node for inner in level for node in inner if not isinstance(node, str)]
        level = [text for node in changing for text in (node.texts if isinstance(node, Turns) else node[:2])]
        depth += bool(changing)
    return depth
