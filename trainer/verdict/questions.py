"""Which pictures are asked for, so that files can be told apart: made from the captions of the data set. Without torch.

Three kinds: `subject` prompts are captions of the data set; `contradicting` ones ask for the trigger in what the data
set never shows; `plain` ones ask without the trigger. Each has a `bare` twin without the trigger, which the base model
draws from the same seed: what it gives is the zero of the scales.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from trainer.errors import InputError

Kind = Literal["subject", "contradicting", "plain"]
KINDS: tuple[Kind, ...] = ("subject", "contradicting", "plain")


class Context(NamedTuple):
    """Something that most data sets do not show: as it reads in a sentence, and as a tag."""

    phrase: str
    tag: str


GREY = Context("on a grey background", "grey background")
PLACES = (
    Context("at night", "night"), Context("in the sea", "sea"), Context("on snow", "snow"),
    Context("in the desert", "desert"), Context("on grass", "grass"), GREY, Context("in a forest", "forest"),
    Context("on a city street", "city street"),
)  # fmt: skip
LOOKS = (
    Context("with long red hair", "red hair"), Context("wearing a blue dress", "blue dress"),
    Context("with short white hair", "white hair"), Context("wearing a spacesuit", "spacesuit"),
    Context("with long green hair", "green hair"), Context("wearing a black coat", "black coat"),
)  # fmt: skip
"""For people, whose hair and clothes should follow the prompt."""
PEOPLE = frozenset({
    "man", "woman", "boy", "girl", "person", "lady", "guy", "male", "female", "child", "1girl", "1boy", "actor",
    "actress", "model", "face", "people",
})  # fmt: skip
OTHERS = (
    "a red star", "a blue heart", "a yellow circle", "a green cross", "a purple star", "an orange heart", "a house",
    "a tree",
)  # fmt: skip
"""What has nothing to do with the data set."""
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "purple", "brown")
"""For what is not a person; each stands after `a`."""
MOST = 0.8
"""Share of the captions that a trigger stands in."""


@dataclass(frozen=True)
class Question:
    """A picture that is asked for of every candidate."""

    kind: Kind
    prompt: str
    bare: str
    """The prompt without the trigger."""
    asked: str = ""
    """What a contradicting prompt asks for; empty for the others."""


@dataclass(frozen=True)
class Topic:
    """What the data set is about, read out of its captions."""

    trigger: str
    """The word that stands for it; empty for a style that has none."""
    kind: str
    """What sort of thing it is, such as `woman`; empty when the captions do not say."""
    opening: str
    """How its captions begin, up to the sort of thing: `zk9, a creature`."""
    is_tags: bool
    """Whether captions are lists of tags."""

    def bare(self, prompt: str) -> str:
        """A prompt without the trigger."""
        if not self.trigger:
            return prompt
        text = re.sub(rf"(?i)(?<!\w){re.escape(self.trigger)}(?!\w)\s*,?\s*", "", prompt)
        return text.strip(" ,")

    def within(self, context: Context) -> str:
        """A prompt for it, in this context."""
        if not self.opening:
            return context.tag if self.is_tags else context.phrase
        return f"{self.opening}, {context.tag}" if self.is_tags else f"{self.opening} {context.phrase}"


def topic_of(captions: Sequence[str], words: str, trigger: str | None = None) -> Topic:
    """What captions are about. words: those of the folder, `zk9 creature`; trigger: as a person gave it.

    InputError for a trigger that no caption has.
    """
    total = max(1, len(captions))

    def share(word: str) -> float:
        return sum(_has(caption, word) for caption in captions) / total

    named = words.split()
    if trigger and not share(trigger):
        raise InputError(f"trigger: {trigger[:60]!r} is in no caption of the data set; give the word that is, or none")
    if not trigger:
        first = Counter(caption.split(",")[0].strip() for caption in captions if "," in caption).most_common(1)
        candidates = [*named[:1], *(text for text, _ in first if len(text.split()) < 3)]
        trigger = next((word for word in candidates if share(word) >= MOST and word.lower() not in PEOPLE), "")
    rest = [word for word in named if word.lower() != trigger.lower() and share(word) >= 0.5]
    rest += [word for word in sorted(PEOPLE) if share(word) >= 0.5]
    kind = rest[0] if rest else ""
    is_tags = sum(caption.count(",") >= 3 for caption in captions) > total / 2
    return Topic(trigger, kind, _opening(captions, kind or trigger), is_tags)


def _opening(captions: Sequence[str], kind: str) -> str:
    """What most captions begin with, up to the word for what they show."""
    found = [re.match(rf"(?is)(.{{0,60}}?(?<!\w){re.escape(kind)}(?!\w))", caption) for caption in captions if kind]
    openings = Counter(match[1] for match in found if match)
    return openings.most_common(1)[0][0] if openings else ""


def _has(caption: str, words: str) -> bool:
    return re.search(rf"(?i)(?<!\w){re.escape(words)}(?!\w)", caption) is not None


def questions_of(topic: Topic, captions: Sequence[str], count: int) -> list[Question]:
    """`count` questions of each kind, some more than once where there are few captions, to be asked with further seeds.

    Without a trigger nothing can be asked without it, and none is plain.
    """
    asked = [Question("subject", text, topic.bare(text)) for text in spread(sorted({*captions}), count)]
    looks = LOOKS if topic.kind.lower() in PEOPLE else ()
    strange = [one for one in _mixed(looks, PLACES) if not any(_has(caption, one.tag) for caption in captions)]
    for context in strange[:count]:
        prompt = topic.within(context)
        asked.append(Question("contradicting", prompt, topic.bare(prompt), context.phrase))
    if topic.trigger:
        kin = _kin(topic, captions)[: count // 2]
        left = count - len(kin)
        known = spread(sorted({topic.bare(text) for text in captions}), left - left // 2)
        others = [f"{other} {place.phrase}" for other, place in islice(zip(OTHERS, PLACES, strict=False), left // 2)]
        asked += [Question("plain", text, text) for text in [*kin, *known, *others] if text]
    return asked


def _kin(topic: Topic, captions: Sequence[str]) -> list[str]:
    """Others of its kind, which must not turn into it: a woman with long red hair, a red creature.

    All before the same grey, so that nothing differs but their looks.
    """
    if not topic.kind:
        return []

    def strange(tag: str) -> bool:
        return not any(_has(caption, tag) for caption in captions)

    if topic.kind.lower() in PEOPLE:
        kin = [topic.bare(topic.within(look)) for look in LOOKS if strange(look.tag)]
    else:
        before = re.sub(r"(?i)\ban $", "a ", topic.bare(topic.opening)[: -len(topic.kind)])
        kin = [f"{before}{colour} {topic.kind}" for colour in COLOURS if strange(colour)]
    ground = f", {GREY.tag}" if topic.is_tags else f" {GREY.phrase}"
    return [other + ground for other in kin]


def own(topic: Topic, kind: Kind, prompts: Sequence[str]) -> list[Question]:
    """Questions that a person wrote."""
    return [Question(kind, text, topic.bare(text), text if kind == "contradicting" else "") for text in prompts]


def spread(items: Sequence[str], count: int) -> list[str]:
    """`count` of them, from all over the list; each as often as it takes."""
    return [items[place * max(len(items), count) // count % len(items)] for place in range(count)]


def _mixed(*lists: Sequence[Context]) -> list[Context]:
    """The first of each list, the second of each, and so on."""
    longest = max(map(len, lists), default=0)
    return [one[place] for place in range(longest) for one in lists if place < len(one)]
