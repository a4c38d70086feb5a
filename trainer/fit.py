"""Fit to my card: tries the first step, and turns on one way to save memory after the other until it fits."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from trainer.devices import choose_device, most_used, room
from trainer.durable import write_json
from trainer.errors import InputError
from trainer.families.detect import detect_base
from trainer.ladder import step_down
from trainer.report import Report
from trainer.runfolder import RunFolder
from trainer.several import Group
from trainer.work import Work, prepare

FRAGMENTS = 1.05  # a card is never filled without gaps


class Reading(NamedTuple):
    """Bytes that a step takes at most, and bytes that it may take; None where nothing sets a limit."""

    peak: int
    room: int | None


Gauge = Callable[[Work], Reading]


def measured(work: Work) -> Reading:
    """What the device says after the rehearsal; the optimizer's state comes on top, with the first step."""
    peak = most_used(work.device) + work.plan.memory.get("optimizer", 0)
    return Reading(int(peak * FRAGMENTS), room(work.device))


def fit(
    folder: RunFolder,
    report: Report,
    flags: Sequence[str],
    group: Group,
    rehearse: Callable[[Work], None],
    gauge: Gauge = measured,
) -> Work:
    """`prepare`, with `memory.fit` again and again until `rehearse` and `gauge` say that it fits; InputError if never.

    What is turned on is said as a warning, and kept in the run folder, so that the training resumes with it.
    """
    if not folder.config(flags).memory.fit:
        return prepare(folder, report, flags, group)
    if group.size > 1:
        raise InputError("memory.fit measures one GPU: turn it off, or set train.processes to 1")
    while True:
        work, reading, why = attempt(folder, report, flags, group, rehearse, gauge)
        if work and (work.saved or reading.room is None or reading.peak <= reading.room):
            if reading.room is not None:
                report.say(f"it fits: {size(reading.peak)} of {size(reading.room)}")
            return work
        config = folder.config(flags)
        rung, _ = step_down(config, detect_base(config.model))
        write_json(folder.fitted, [*folder.fitting(), *rung])
        said = why or f"a step takes {size(reading.peak)}, and {size(reading.room or 0)} are free"
        report.warning(f"to fit this card: {' and '.join(rung).replace('=', ' is now ')} ({said})")
        work = None
        clear(choose_device(config.train))


def attempt(
    folder: RunFolder,
    report: Report,
    flags: Sequence[str],
    group: Group,
    rehearse: Callable[[Work], None],
    gauge: Gauge,
) -> tuple[Work | None, Reading, str]:
    """Loads and rehearses once: the training and what was read, or why there is none."""
    try:
        work = prepare(folder, report, flags, group)
        if work.saved is None:  # else it did fit
            rehearse(work)
        return work, gauge(work), ""
    except torch.OutOfMemoryError as error:
        return None, Reading(0, None), str(error).splitlines()[0]


def clear(device: torch.device) -> None:
    """Gives back what the last attempt took, and counts anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def size(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:.1f} GB"
