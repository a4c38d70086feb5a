"""The plan of a training as a line of the page, with what is wrong and what can be done about it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from trainer.plan import Plan
from webui.fields import FIELDS
from webui.form import Mistakes
from webui.planning import Memory, Outlook

TIMES = "\N{MULTIPLICATION SIGN}"
MOST = 12  # lines of a kind that are shown


def duration(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def gigabytes(size: float) -> str:
    """A size as people say it."""
    return f"{size / 1e9:.1f} GB" if size >= 5e8 else f"{size / 1e6:.0f} MB"


def plan_html(told: Outlook) -> str:
    """The line that is always there: counts, time, memory; below it what needs a look."""
    parts = [_sum(told)]
    if told.mistakes:
        parts.append(mistakes_html(told.mistakes))
    if told.memory:
        parts.append(_fix(told.memory))
    parts.append(_notes("warnings", told.warnings))
    parts.append(_details(told))
    return f'<section class="plan" aria-label="Plan">{"".join(filter(None, parts))}</section>'


def mistakes_html(mistakes: Mistakes) -> str:
    """What must be mended, each line a way to its field."""
    lines = [f"<li>{escape(line)}</li>" for line in mistakes.general]
    said: dict[str, list[str]] = {}
    for name, text in mistakes.at.items():
        said.setdefault(text, []).append(name)
    for text, names in said.items():
        ways = ", ".join(
            f'<button type="button" data-go="{name}">{escape(FIELDS[name].label)}</button>' for name in names
        )
        lines.append(f"<li>{ways}: {escape(text)}</li>")
    return f'<ul class="mistakes" role="alert">{"".join(lines)}</ul>'


def notes_html(notes: Iterable[str], kind: str = "notes") -> str:
    """Lines of plain text."""
    return _notes(kind, list(notes))


def _sum(told: Outlook) -> str:
    if told.looking:
        done, count = told.looking
        return f'<p class="sum">Looking at your pictures: {done} of {count or "…"}</p>'
    if told.plan is None:
        what = "Mend this, and the plan is shown." if told.mistakes else "The plan is shown once the family is known."
        return f'<p class="sum">{what}</p>'
    plan = told.plan
    time = f"about {duration(told.seconds)}" if told.seconds else "time known after the first steps"
    words = [f"<b>{_count(plan.pictures, 'picture')}</b>", _uses(plan), f"<b>{_count(plan.steps, 'step')}</b>"]
    tail = [f"<span>{time}</span>", _verdict(told.memory) if told.memory else ""]
    return f'<p class="sum">{" ".join(words)} {" ".join(tail)}</p>'


def _uses(plan: Plan) -> str:
    """Pictures x repeats x epochs / batch, in one line."""
    own = [folder for folder in plan.folders if not folder.reg]
    repeats = f"{TIMES} {_count(own[0].repeats, 'repeat')}" if len(own) == 1 else f"→ {plan.items} uses an epoch"
    reg = f"+ {plan.reg_items} of regularisation" if plan.reg_items else ""
    batch = plan.batch * plan.accumulate
    return f"<span>{repeats} {reg} {TIMES} {_count(plan.epochs, 'epoch')} ÷ batch {batch} =</span>"


def _verdict(memory: Memory) -> str:
    need, free = gigabytes(memory.need), gigabytes(memory.free or 0)
    said = {
        "fits": f"fits: {need} of {free}",
        "tight": f"tight: {need} of {free}",
        "too large": f"will not fit: {need}, and {free} free",
        "unknown": f"about {need} of memory",
    }
    place = escape(f"An estimate; what is free of {memory.place}", quote=True)
    return f'<span class="verdict {memory.verdict.replace(" ", "-")}" title="{place}">{said[memory.verdict]}</span>'


def _fix(memory: Memory) -> str:
    if memory.verdict not in ("tight", "too large"):
        return ""
    if not memory.fix:
        return '<p class="fix">Nothing here takes less: lower Max Resolution, or choose a smaller base model.</p>'
    changes = ", ".join(f"{FIELDS[name].label} {_word(value)}" for name, value in memory.fix.items())
    ask = escape(json.dumps({"do": "set", "changes": memory.fix}), quote=True)
    after = "" if memory.enough else " It will be tight still: lower Max Resolution too."
    return f'<p class="fix"><button type="button" data-ask="{ask}">Do this: {escape(changes)}</button>{after}</p>'


def _details(told: Outlook) -> str:
    plan = told.plan
    if plan is None:
        return ""
    rows = "".join(
        f"<tr><td>{escape(folder.name)}{' (regularisation)' if folder.reg else ''}<td>{folder.pictures}"
        f"<td>{folder.repeats}<td>{folder.uses}"
        for folder in plan.folders
    )
    folders = (
        f"<table><thead><tr><th>Folder<th>Pictures<th>Repeats<th>Uses an epoch</thead><tbody>{rows}</tbody></table>"
    )
    buckets = ", ".join(f"{bucket.width}{TIMES}{bucket.height}: {bucket.uses}" for bucket in plan.buckets)
    memory = ", ".join(f"{part} {gigabytes(size)}" for part, size in plan.memory.items())
    facts = [
        f"{_count(plan.steps_per_epoch, 'step')} an epoch, {_count(plan.epochs, 'epoch')}",
        f"warm-up {_count(plan.warmup, 'step')}",
        f"Buckets: {buckets}",
        f"Memory{f' of {told.memory.place}' if told.memory else ''}: {memory}",
    ]
    problems = _notes("problems", told.problems)
    return f"<details><summary>Folders, buckets, memory</summary>{folders}{_notes('facts', facts)}{problems}</details>"


def _notes(kind: str, lines: list[str]) -> str:
    if not lines:
        return ""
    shown = [f"<li>{escape(line)}</li>" for line in lines[:MOST]]
    shown += [f"<li>and {len(lines) - MOST} more</li>"] if len(lines) > MOST else []
    return f'<ul class="{kind}">{"".join(shown)}</ul>'


def _word(value: Any) -> str:
    return "on" if value is True else "off" if value in (False, None) else str(value)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def marks(mistakes: Mistakes | None, moved: Iterable[str], **more: Any) -> str:
    """What the page's script marks: mistakes by field, the fields that are not at their default."""
    return json.dumps({"mistakes": mistakes.at if mistakes else {}, "changed": list(moved), **more})
