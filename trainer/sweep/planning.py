"""A sweep before anything is made of it: its trials, each one's config checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.config import Config
from trainer.early import check_early
from trainer.errors import InputError
from trainer.families.detect import detect_base
from trainer.sweep.adaptive import check_optuna, objective
from trainer.sweep.folder import Sweep, Trial
from trainer.sweep.vary import MOST, Values, Vary, config_of, drawn, grid, read_all, told


def plan(
    config: Config, lines: Sequence[str], how: str = "grid", count: int = 0, seed: int = 0, by: str = "auto"
) -> tuple[Sweep, list[str]]:
    """A sweep over a config, and warnings; InputError names what cannot be trained, before anything is made.

    lines: the options and their values, as `trainer.sweep.vary` reads them. how: grid (every combination), random or
    optuna (`count` of them). Optuna's trials come later: of them the lowest and the highest values are checked.
    """
    fields, tree = read_all(lines), config.model_dump(mode="json")
    if how == "optuna":
        check_optuna()
        objective(config, by)
        if not 1 <= count <= MOST:
            raise InputError(f"optuna: {count} runs; give 1 to {MOST:,}")
        warnings = check(tree, ends(fields))
        trials: list[Values] = []
    else:
        trials = grid(fields) if how == "grid" else drawn(fields, count, seed)
        warnings, count = check(tree, trials), len(trials)
    listed = [Trial(values) for values in trials]
    return Sweep(config.output.name, how, [one.text() for one in fields], tree, count, listed, by, seed), warnings


def ends(fields: Sequence[Vary]) -> list[Values]:
    """Trials that between them hold each listed value, and both ends of each range."""
    most = max(len(one.values) or 2 for one in fields)
    return [{one.name: one.at(place / (most - 1)) for one in fields} for place in range(most)]


def check(tree: dict[str, Any], trials: Sequence[Values]) -> list[str]:
    """Raises InputError for the first trial that cannot be trained; gives what is probably not meant, in words."""
    said: dict[str, None] = {}
    for place, values in enumerate(trials):
        config = config_of(tree, values, place)
        try:
            said |= dict.fromkeys(check_early(config, detect_base(config.model)))
        except InputError as error:
            raise InputError(f"{error}\nrun {place + 1} is {told(values)}") from error
    return list(said)
