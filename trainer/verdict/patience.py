"""When a training may end early: nothing better has come for so many measurements. Works without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from trainer.config import Watch
from trainer.runfolder import Event
from trainer.verdict.noise import totals, turned
from trainer.verdict.scores import Row

END = "Stopped early: nothing after it is needed."


def why_end(events: Sequence[Event], watch: Watch, step: int) -> str:
    """Why a training that stands at `step` should end, with the best file so far; nothing when it should go on.

    events: all that its run folder holds. Who resumes a training that ended so wants more of it: as many measurements
    again are waited for.
    """
    if not watch.patience:
        return ""
    found, fresh = measured(events, "score" if watch.by == "score" else "validation", step)
    if fresh < watch.patience:
        return ""
    if watch.by == "score":
        return _by_score([_row(event["row"]) for event in found], watch.patience)
    return _by_loss(found, [event for event in events if event["kind"] == "checkpoint"], watch.patience)


def measured(events: Sequence[Event], kind: str, step: int) -> tuple[list[Event], int]:
    """The measurements up to a step, in its order, and how many of them came since an early end.

    Of an attempt that was cut off, what came after the state that the next went on from does not count, nor do scores
    of other pictures than those that are asked for now.
    """
    found: dict[int, Event] = {}
    fresh: set[int] = set()
    asked: Any = None
    for event in events:
        if event["kind"] == "stopped" and event.get("reason") == "turned":
            fresh.clear()
        elif event["kind"] == "asked" and kind == "score":
            if asked not in (None, event["asked"]):
                found.clear()
                fresh.clear()
            asked = event["asked"]
        elif event["kind"] == kind and event["step"] <= step:
            found[event["step"]] = event
            fresh.add(event["step"])
    return [found[at] for at in sorted(found)], len(fresh)


def _by_score(rows: Sequence[Row], patience: int) -> str:
    if not turned(rows, patience):
        return ""
    goods = totals(rows)
    best = int(goods.argmax())
    since = len(rows) - 1 - best
    worse = "the comparison since was" if since == 1 else f"{since} comparisons since were"
    return f"Epoch {rows[best].epoch} scored best ({goods[best]:.2f}); {worse} surely below. {END}"


def _by_loss(found: Sequence[Event], saved: Sequence[Event], patience: int) -> str:
    losses = {int(event["step"]): event["loss"] for event in found if event["loss"] is not None}
    best = min(losses, key=lambda step: losses[step], default=0)  # the first of equals
    since = sum(step > best for step in losses)
    if since < patience:
        return ""
    near = min(saved, key=lambda event: abs(event["step"] - best), default=None)
    is_its = near is not None and near["step"] == best and near["epoch"]
    where = f"Epoch {near['epoch']}" if near and is_its else f"Step {best:,}"
    hint = f"The nearest file is {PurePath(near['file']).stem}. " if near and not is_its else ""
    worse = "the measurement since was" if since == 1 else f"the {since} measurements since were"
    return f"{where} had the lowest held-out loss ({losses[best]:.4g}); {worse} no lower. {hint}{END}"


def _row(told: Mapping[str, Any]) -> Row:
    """A row out of its JSON."""
    values = {name: tuple(numbers) for name, numbers in told["values"].items()}
    facts = {name: told[name] for name in ("file", "label", "strength", "epoch", "step", "kind")}
    return Row(**facts, values=values)
