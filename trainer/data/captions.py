"""Captions as they are used: prefix, dropout, wildcards, shuffled and dropped tags.

Order and rules are those of sd-scripts (`BaseDataset.process_caption`), so that old settings mean what they meant.
Everything runs in time linear in the caption and without recursion: captions come from files that anyone can write.
"""

from __future__ import annotations

import math
import random
import re

from trainer.config import Captions, Objective

OPEN, CLOSE = "\udc7b", "\udc7d"  # stand for {{ and }}: lone surrogates, which no decoded text can hold


def vary(caption: str, options: Captions, dice: random.Random, epoch: int, step: int) -> str:
    """The words that one use of a picture is trained with.

    caption: as read, several lines only with wildcards; dice: of this use alone; epoch and step: counted from 0.
    """
    caption = f"{options.prefix} {caption}" if options.prefix else caption
    caption = f"{caption} {options.suffix}" if options.suffix else caption
    if is_dropped(options, dice, epoch):
        return ""
    caption = pick_wildcards(caption, dice) if options.wildcards else caption.split("\n", 1)[0]
    if options.shuffle or options.tag_dropout or options.token_warmup_steps:
        caption = vary_tags(caption, options, dice, step)
    if options.secondary_separator:
        caption = caption.replace(options.secondary_separator, options.separator)
    return caption


def is_dropped(options: Captions, dice: random.Random, epoch: int) -> bool:
    """Whether this use has no caption at all: by chance, or because the n-th, 2n-th, ... epoch has none."""
    by_chance = options.dropout > 0 and dice.random() < options.dropout
    every = options.dropout_every_n_epochs
    return by_chance or (every is not None and (epoch + 1) % every == 0)


def pick_wildcards(caption: str, dice: random.Random) -> str:
    """One line of several, then one choice of each `{a|b}`; `{{` and `}}` are plain braces."""
    line = dice.choice(caption.split("\n")).replace("{{", OPEN).replace("}}", CLOSE)
    closed = line.rfind("}") + 1  # a brace that never closes would make the search below quadratic
    line = re.sub(r"\{([^}]+)\}", lambda found: dice.choice(found[1].split("|")), line[:closed]) + line[closed:]
    return line.replace(OPEN, "{").replace(CLOSE, "}")


def vary_tags(caption: str, options: Captions, dice: random.Random, step: int) -> str:
    """The tags joined by ", ": kept ones in their place, the others warmed up, shuffled and dropped."""
    head, tags, tail = split_tags(caption, options)
    if step < options.token_warmup_steps:
        growth = (len(tags) - options.token_warmup_min) / options.token_warmup_steps
        tags = tags[: math.floor(step * growth) + options.token_warmup_min]
    if options.shuffle:
        dice.shuffle(tags)
    if options.tag_dropout:
        tags = [tag for tag in tags if dice.random() >= options.tag_dropout]
    return ", ".join(head + tags + tail)


def learned_words(objective: Objective, captions: Captions, words: str) -> str:
    """The words that stand for what is learned; `words` are those of the picture's folder."""
    return objective.prior_words or f"{words} {captions.prefix}"


def without(caption: str, words: str) -> str:
    """A caption without some words, wherever they stand in it, and without the commas that they leave."""
    for word in sorted(set(words.replace(",", " ").split()), key=len, reverse=True):
        caption = re.sub(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", "", caption)
    caption = re.sub(r"\s+", " ", caption)
    return re.sub(r" ?(, ?)+", ", ", caption).strip(" ,")


def split_tags(caption: str, options: Captions) -> tuple[list[str], list[str], list[str]]:
    """Tags that stay in front, tags that move, tags that stay at the end.

    A mark (`a ||| b, c ||| d`) outranks `keep_tokens`; empty tags go only where there is a mark, as in sd-scripts.
    """
    mark = options.keep_tokens_separator
    if mark and mark in caption:
        pieces = [*caption.split(mark, 2), ""][:3]
        head, tags, tail = (
            [tag for part in piece.split(options.separator) if (tag := part.strip())] for piece in pieces
        )
        return head, tags, tail
    tags = [tag.strip() for tag in caption.strip().split(options.separator)]
    return tags[: options.keep_tokens], tags[options.keep_tokens :], []
