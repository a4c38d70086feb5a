"""What is wrong with a candidate, and what to change in the next run. Works without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.config import Data, Lora, Save, Train, Validation
from trainer.config.optimizers import AdamW
from trainer.config.parts import Part, label
from trainer.verdict.scores import Row

Diagnosis = Literal[
    "good", "underfit", "overfit", "burnt", "leak", "copying", "no difference", "not measured"
]  # fmt: skip

LIKE = 0.3
"""Likeness: 0 is the base model, 1 the data set; the best files of the runs whose truth is known have 0.4 to 0.9, for
contradicting prompts hide a part of it."""
OBEYS = 0.6
"""Obedience: below, two of five things that the base model would draw are ignored."""
BURNT = 0.5
"""Burn: half way to ruined, which everyone sees."""
LEAK = 0.4
"""Spill: above, two of five things that the base model draws without the trigger are gone."""
COPIED = 0.7
"""Copying: most of the way from what training pictures have in common to one of them over again."""
ALIKE = 0.3
"""Variety: below, seeds hardly matter, as when one picture was learned by heart."""
NOTHING = 0.05
"""A measure this near to the base model's own cannot be told from it."""
RISING = 0.03
"""Likeness that the last file has more than the one before it, for a training that was not done."""
GENTLER = 3.0
"""By how much a learning rate is changed: one step of those that tutorials try (1e-4, 3e-4, 1e-3)."""
FEW = 20
"""Pictures: with fewer, more of them help most."""


@dataclass(frozen=True)
class Facts:
    """What is known of a training; None where it is not, or where the optimizer finds it by itself."""

    trigger: str = ""
    learning_rate: float | None = None
    rank: int | None = None
    alpha: float | None = None
    epochs: int | None = None
    steps: int | None = None
    pictures: int | None = None
    batch: int = 1
    regularised: bool = False
    """Whether it had regularisation pictures."""
    during: bool = False
    """Whether it still goes on."""


def fault(scores: Mapping[str, float | None]) -> Diagnosis:
    """What is wrong with a candidate, the worst thing first; `good` when nothing is.

    A measure that is missing is not held against it.
    """

    def of(name: str, otherwise: float) -> float:
        score = scores.get(name)
        return otherwise if score is None else score

    if of("burn", 0) >= BURNT:
        return "burnt"
    if of("obedience", 1) < OBEYS:
        return "overfit"
    if of("likeness", 1) < LIKE:
        return "underfit"
    if of("spill", 0) >= LEAK:
        return "leak"
    return "copying" if of("copying", 0) >= COPIED or of("variety", 1) < ALIKE else "good"


def dead(rows: Sequence[Row]) -> bool:
    """Whether no candidate draws anything else than the base model: nothing was learned."""
    still = {"likeness": 0.0, "obedience": 1.0, "spill": 0.0, "burn": 0.0}
    told = [(row.scores[name], base) for row in rows for name, base in still.items()]
    known = [abs(score - base) < NOTHING for score, base in told if score is not None]
    return bool(known) and all(known) and all(row.scores["likeness"] is not None for row in rows)


def rising(files: Sequence[Row]) -> bool:
    """Whether the likeness still grows at the last of several files, the oldest first."""
    likeness = [row.scores["likeness"] for row in files]
    if len(likeness) < 2 or likeness[-1] is None or likeness[-2] is None:
        return False
    return likeness[-1] - likeness[-2] >= RISING


def next_step(found: Diagnosis, row: Row, files: Sequence[Row], facts: Facts) -> str:
    """What to change in the next run, with the labels of the page.

    row: the candidate that the diagnosis is of; files: all files at its strength, the oldest first.
    """
    match found:
        case "good":
            return _good(row, files, facts)
        case "underfit":
            return _longer(row, files, facts)
        case "overfit" | "copying":
            return _shorter(found, row, files, facts)
        case "burnt":
            gentler = _rate(facts, 1 / GENTLER)
            if row.what != "lora":
                return f"Next run: {gentler}."
            return f"Next run: {_or([gentler, _alpha(facts)])}. Until then try a lower strength."
        case "leak":
            return _apart(facts)
        case "no difference":
            if row.what != "lora":
                return f"Next run: {_rate(facts, 10)}."
            return (
                "Look whether the base model is of the kind that the LoRA was made for, with `lora verify`; if it is, "
                f"next run: {_rate(facts, 10)}."
            )
        case "not measured":
            return "Run the comparison again with pictures; the losses alone do not say which file is best."


def _good(row: Row, files: Sequence[Row], facts: Facts) -> str:
    word = f", with {facts.trigger} in the prompt" if facts.trigger else ""
    at = f" at strength {row.strength:g}" if row.what == "lora" else ""
    use = f"Use this one{at}{word}."
    last = bool(files) and row.file == files[-1].file and len(files) > 1
    if not (last and rising(files)):
        return use
    more = "let the training go on" if facts.during else f"next run: {_length(row, facts, 1.5)}"
    return f"{use} The likeness still rises at the last file; for more of it {more}."


def _longer(row: Row, files: Sequence[Row], facts: Facts) -> str:
    if facts.during:
        return "Let the training go on; if the likeness stops rising, start again with a higher Learning rate."
    likeness = row.scores["likeness"] or 0.0
    factor = min(3.0, max(1.5, LIKE / max(likeness, 0.01)))  # what is missing, as if likeness grew evenly
    longer, faster = _length(row, facts, factor), _rate(facts, GENTLER)
    return f"Next run: {_or([longer, faster] if rising(files) or len(files) < 2 else [faster, longer])}."


def _shorter(found: Diagnosis, row: Row, files: Sequence[Row], facts: Facts) -> str:
    first = bool(files) and row.file == files[0].file
    changes = [_rate(facts, 1 / GENTLER)]
    often = _called(Save, "every_epochs")
    if not first:
        changes.insert(0, _length(row, facts, 0.7))
    have = f" ({facts.pictures} now)" if facts.pictures else ""
    more = "add" if (facts.pictures or 0) < FEW or found == "copying" else "choose"
    data = f"{more} more varied pictures{have}: other places, clothes and light, each said in its caption"
    earlier = f" Set {often} to 1, so that there are earlier files to choose from." if first else ""
    stop = "Stop this training. " if facts.during else ""
    return f"{stop}Next run: {_or(changes)}; and {data}.{earlier}"


def _apart(facts: Facts) -> str:
    word = f"the trigger {facts.trigger}" if facts.trigger else "the trigger"
    captions = f"say the class, such as woman, beside {word} in the captions, and everything that is not the subject"
    reg = _called(Data, "reg")
    if facts.regularised:
        return f"Next run: {captions}; and put more, and more varied, pictures into the {reg}."
    return f"Next run: {captions}; or give a {reg} with pictures of others of that class, captioned without {word}."


def _length(row: Row, facts: Facts, factor: float) -> str:
    """More or fewer epochs or steps, in numbers where they are known; where it becomes shorter, at least one fewer."""
    at = row.epoch if facts.epochs else row.step
    now = facts.epochs or facts.steps
    name = _called(Train, "epochs") if facts.epochs or not facts.steps else _called(Train, "steps")
    if not now:
        return f"set {name} {'higher' if factor > 1 else 'lower'}"
    if factor > 1:
        return f"set {name} to {max(now + 1, math.ceil(now * factor))} ({now} now)"
    new = max(1, min(now - 1, round((at or now) * factor)))
    return f"set {name} to {new} ({now} now)"


def _rate(facts: Facts, factor: float) -> str:
    name, word = _called(AdamW, "lr"), "a higher" if factor > 1 else "a lower"
    if facts.learning_rate is None:
        return f"take {word} {name}, where the optimizer takes one"
    return f"set {name} to {_short(facts.learning_rate * factor)} ({_short(facts.learning_rate)} now)"


def _alpha(facts: Facts) -> str:
    """The rank or its alpha, whichever counts for the strength of the change."""
    name = _called(Lora, "alpha")
    if facts.alpha is None:
        return f"take a lower {_called(Lora, 'rank')} or {name}"
    return f"set {name} to {facts.alpha / 2:g} ({facts.alpha:g} now)"


def _short(number: float) -> str:
    digits, power = f"{number:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def _or(changes: Sequence[str]) -> str:
    return ", or ".join(changes)


def _called(part: type[Part], name: str) -> str:
    """What the page calls an option."""
    return label(name, part.model_fields[name])


HOW = {
    "likeness": "it needs pictures of the data set",
    "obedience": "it needs prompts that contradict the data set",
    "spill": "it needs prompts without the trigger, with two seeds or more for each",
    "copying": "it needs pictures of the data set",
    "variety": "it needs two seeds or more for each prompt",
    "burn": "it needs pictures of the base model and of the data set",
    "train_loss": "it is in the run folder of a training that measured it",
    "held_out_loss": f"set {_called(Validation, 'share')} in the next run",
    "gap": f"set {_called(Validation, 'share')} in the next run",
}
"""How to get what was not measured."""
