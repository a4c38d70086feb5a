"""A verdict in plain words, with its figures. Works without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainer.verdict.diagnosis import BURNT, COPIED, LEAK, LIKE, OBEYS, Diagnosis
from trainer.verdict.noise import ages, shared
from trainer.verdict.scores import LOSSES, MEASURES, Row

BEST_STRENGTHS = (0.8, 1.0)
"""Strengths that people use, so that of two as good the nearer one is taken."""
NAMED = 2  # ties that are named one by one
Worse = Callable[[Row], bool]

LACKS = {
    "likeness": ("miss the likeness", "misses the likeness", "faded"),
    "obedience": ("ignore more of the prompt", "ignores more of the prompt", "overfit"),
    "spill": ("change pictures without the trigger", "changes pictures without the trigger", "leak"),
    "copying": ("copy training pictures", "copies training pictures", "overfit"),
    "variety": ("draw seeds more alike", "draws seeds more alike", "overfit"),
    "burn": ("burn colours and edges", "burns colours and edges", "burnt"),
}
"""What several do that are worse by a measure, what one does, and what that is called."""
TITLES = {name: measure.title for name, measure in MEASURES.items()} | {
    "train_loss": "Training loss", "held_out_loss": "Held-out loss", "gap": "Gap of the losses",
}  # fmt: skip
FAULTS = {
    "underfit": ("likeness", "has too little of the likeness", f"{LIKE:g} is needed"),
    "overfit": ("obedience", "ignores the prompt", f"{OBEYS:g} is needed"),
    "burnt": ("burn", "is burnt", f"less than {BURNT:g} is wanted"),
    "leak": ("spill", "changes pictures without the trigger", f"less than {LEAK:g} is wanted"),
    "copying": ("copying", "copies training pictures", f"less than {COPIED:g} is wanted"),
}
"""For each fault the measure that tells it, what the candidate does, and what is wanted."""


def name(row: Row) -> str:
    """A candidate without its strength, within a sentence."""
    if row.kind != "file":
        return f"the {row.label}" if row.label.startswith("average") else f"{row.label} ({row.kind})"
    if row.epoch is not None:
        return f"epoch {row.epoch}"
    return f"step {row.step}" if row.step is not None else f"file {row.label}"


def candidate(row: Row) -> str:
    """A candidate with its strength, where it has one."""
    return f"{name(row)} at strength {row.strength:g}" if row.what == "lora" else name(row)


def capital(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def siblings(pick: Row, rows: Sequence[Row]) -> list[Row]:
    """The files at the strength of a candidate, the oldest first."""
    files = [row for row in rows if row.kind == "file" and row.strength == pick.strength]
    return [row for _, row in sorted(zip(ages(files), files, strict=True), key=lambda pair: pair[0])]


def around(pick: Row, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Those beside a candidate, the nearest last: earlier and later files at its strength, itself weaker and stronger.

    Of an average, all files at its strength.
    """
    files = siblings(pick, rows)
    same = sorted((row for row in rows if row.file == pick.file), key=lambda row: row.strength)
    place = files.index(pick) if pick.kind == "file" else 0
    sides = {"earlier": files[:place], "later": files[:place:-1]} if pick.kind == "file" else {"single files": files}
    return sides | {
        "weaker": [row for row in same if row.strength < pick.strength],
        "stronger": [row for row in reversed(same) if row.strength > pick.strength],
    }


def praise(pick: Row, ties: Sequence[Row], rows: Sequence[Row], worse: Worse) -> str:
    """One or two sentences for a candidate that is good: which it is, what it ties with, why not another."""
    first = capital(candidate(pick)) + (f", {_tie(pick, ties, rows)}" if ties else "") + "."
    if len(rows) == 1:
        return f"{first} It is the only one that was measured, so nothing is known of others."
    clauses = _beside(pick, rows, worse)
    return f"{first} {capital('; '.join(clauses))}." if clauses else first


def blame(found: Diagnosis, row: Row, rows: Sequence[Row], rises: bool) -> str:
    """One or two sentences for a run that has no good candidate; row: the one that the diagnosis is of."""
    files = {other.file for other in rows}
    none = "No file is good enough" if len(files) > 1 else "The file is not good enough"
    if found == "not measured":
        return "The likeness was not measured on pictures, so no file can be named."
    if found == "no difference":
        subject = "No file changes" if len(files) > 1 else "The file does not change"
        said = " at any strength" if len({other.strength for other in rows}) > 1 else ""
        return (
            f"{subject} what the base model draws{said} (likeness {_of(row, 'likeness')}, where the base model has 0)."
        )
    measure, does, wanted = FAULTS[found]
    if found == "copying" and (row.scores["copying"] or 0.0) < COPIED:
        measure, does, wanted = "variety", "draws every seed alike", "1 is the base model's"
    figure = f"{TITLES[measure].lower()} {_of(row, measure)}, where {wanted}"
    return f"{none}: {candidate(row)} {does} ({figure}). {_because(found, row, rows, rises)}"


def evidence(pick: Row, rows: Sequence[Row]) -> list[str]:
    """A line for each measure: what the candidate has, and what those around it have."""
    lines = [f"In all: {_spread(pick, rows, lambda row: row.total)}"]
    for measure in (*MEASURES, *LOSSES):
        if pick.scores[measure] is not None:
            places = 4 if measure in LOSSES else 2  # losses are small, and differ by little
            told = _spread(pick, rows, lambda row, measure=measure: row.scores[measure], places)
            lines.append(f"{TITLES[measure]}: {told}")
    return lines


def _because(found: Diagnosis, row: Row, rows: Sequence[Row], rises: bool) -> str:
    several = len(siblings(row, rows)) > 1
    scores = [other.scores for other in rows]
    match found:
        case "underfit" if rises:
            return "It still rises at the last file: the training ended too early (underfit)."
        case "underfit":
            return f"The training learned too little{', and longer did not help' if several else ''} (underfit)."
        case "overfit":
            if any((one["obedience"] or 0) >= OBEYS and (one["likeness"] or 0) < LIKE for one in scores):
                return "Those that obey miss the likeness (overfit)."
            every = all((one["obedience"] or 0) < OBEYS for one in scores)
            return "Already the first file does: all are too late (overfit)." if every and several else "It is overfit."
        case "burnt":
            every = all((one["burn"] or 0) >= BURNT for one in scores)
            return "All are, from the first file on (burnt)." if every and several else "Its rate was too high (burnt)."
        case "leak":
            return "What belongs to the trigger went into other words (leak)."
        case _:
            return "It learned the pictures by heart (copying)."


def _beside(pick: Row, rows: Sequence[Row], worse: Worse) -> list[str]:
    """Why not an earlier or a later file, or another strength: two reasons at most, files first."""
    beside = around(pick, rows)
    if pick.kind != "file":
        single = max((row for row in rows if row.kind == "file"), key=lambda row: row.total, default=None)
        return [] if single is None else [f"the best single file is {candidate(single)} ({_in_all(single, pick)})"]
    clauses = []
    for side, word in (("earlier", "up to"), ("later", "from")):
        run = _run(beside[side], worse)
        if run:
            on = " on" if side == "later" else ""
            many = "earlier files" if run == beside["earlier"] else f"{word} {name(run[-1])}{on} the files"
            clauses.append(_clause(many if len(run) > 1 else name(run[0]), run, pick, side, rows))
    for side in ("weaker", "stronger"):
        found = [row for row in beside[side] if worse(row)]
        if found:
            clauses.append(_clause(f"at strength {found[-1].strength:g} it", found[-1:], pick, side, rows))
    return clauses[:2]


def _run(side: Sequence[Row], worse: Worse) -> list[Row]:
    """Those at the far end that are worse without a break."""
    length = next((place for place, row in enumerate(side) if not worse(row)), len(side))
    return list(side[:length])


def _clause(subject: str, run: Sequence[Row], pick: Row, side: str, rows: Sequence[Row]) -> str:
    """What is worse about all of a run than about the pick, by the measure that costs them most; the figure of the
    nearest."""

    def cost(row: Row, measure: str) -> float:
        gap = _clipped(pick, measure) - _clipped(row, measure)
        return MEASURES[measure].weight * (gap if MEASURES[measure].good else -gap)

    costs = {measure: min(cost(row, measure) for row in run) for measure in shared(rows)}
    measure = max(costs, key=lambda measure: costs[measure])
    if costs[measure] <= 0:
        return f"{subject} {'are' if len(run) > 1 else 'is'} worse ({_in_all(run[-1], pick)})"
    many, one, called = LACKS[measure]
    told = f": {called}" if side in ("later", "stronger") else ""
    return f"{subject} {many if len(run) > 1 else one} ({_of(run[-1], measure)} against {_of(pick, measure)}{told})"


def _tie(pick: Row, ties: Sequence[Row], rows: Sequence[Row]) -> str:
    """`a tie with epoch 8: the earlier is taken`."""

    def called(row: Row) -> str:
        if row.file == pick.file:
            return f"strength {row.strength:g}"
        return name(row) if row.strength == pick.strength else candidate(row)

    named = [called(row) for row in ties[:NAMED]]
    if len(ties) > NAMED:
        named.append(f"{len(ties) - NAMED} more")
    listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
    return f"a tie with {listed}: {_why(pick, ties, rows)} is taken"


def _why(pick: Row, ties: Sequence[Row], rows: Sequence[Row]) -> str:
    """Which of those that tie was taken, by the first of the reasons that holds."""
    when = dict(zip(map(id, rows), ages(rows), strict=True))
    own, others, several = when[id(pick)], [when[id(row)] for row in ties], len(ties) > 1
    low, high = BEST_STRENGTHS
    if pick.kind == "file" and all(row.kind != "file" for row in ties):
        return "the single file"
    if own < min(others):
        return f"the {'earliest' if several else 'earlier'}"
    if own == min(others) == max(others) and _off(pick) < min(map(_off, ties)):
        return f"the strength nearest to {low:g} to {high:g}"
    if pick.total > max(row.total for row in ties):
        return f"the {'best' if several else 'better'} on average"
    usual = " at the most usual strength" if pick.what == "lora" else ""
    return f"of the best on average, the earliest{usual}"


def preference(row: Row, age: float) -> tuple[float, float]:
    """The order of those that tie: the earlier first, then the strength nearest to those that people use."""
    return age, _off(row)


def _off(row: Row) -> float:
    low, high = BEST_STRENGTHS
    return max(low - row.strength, row.strength - high, 0.0)


def _spread(pick: Row, rows: Sequence[Row], of: Callable[[Row], float | None], places: int = 2) -> str:
    """`0.63; earlier 0.10 to 0.41; later 0.65; weaker 0.50`."""
    told = [_figure(of(pick), places)]
    for side, beside in around(pick, rows).items():
        numbers = [number for row in beside if (number := of(row)) is not None]
        if numbers:
            low, high = _figure(min(numbers), places), _figure(max(numbers), places)
            told.append(f"{side} {low}" if low == high else f"{side} {low} to {high}")
    return "; ".join(told)


def _in_all(row: Row, pick: Row) -> str:
    return f"{_figure(row.total)} in all against {_figure(pick.total)}"


def _of(row: Row, measure: str) -> str:
    return _figure(row.scores[measure])


def _clipped(row: Row, measure: str) -> float:
    return min(1.0, max(0.0, row.scores[measure] or 0.0))


def _figure(number: float | None, places: int = 2) -> str:
    return "not measured" if number is None else f"{round(number, places) + 0.0:.{places}f}"
