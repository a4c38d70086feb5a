"""Trials that Optuna chooses by what the runs before them gave (Akiba et al. 2019, arXiv 1907.10902)."""

from __future__ import annotations

import math
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from trainer.config import Config
from trainer.draws import seed_of
from trainer.errors import InputError
from trainer.sweep.folder import Sweep, SweepFolder, Trial
from trainer.sweep.vary import Values, Vary, read_all
from trainer.tree import check

STORAGE = "optuna.log"


def check_optuna() -> None:
    """InputError when Optuna is not installed."""
    if find_spec("optuna") is None:
        raise InputError("optuna: it is not installed: `pip install optuna`, or use --random in its place")


def objective(config: Config, by: str) -> str:
    """What Optuna lowers: the held-out loss or the score; InputError when neither will be measured."""
    held_out = config.validation.share or config.validation.folder
    scored = config.compare.every_epochs or config.compare.afterwards
    found = by if by in ("held_out", "score") else "score" if scored else "held_out"
    if by == "loss" or not (scored if found == "score" else held_out):
        raise InputError(
            "optuna: the loss on trained pictures falls by learning them by heart, so it is nothing to search by: set"
            " validation.share, or compare.every_epochs, or compare.afterwards"
        )
    return found


class Study:
    """Optuna's memory of a sweep, in a file beside sweep.json."""

    def __init__(self, folder: SweepFolder, sweep: Sweep) -> None:
        check_optuna()
        optuna: Any = import_module("optuna")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna
        self.seed, self.fields = sweep.seed, read_all(sweep.vary)
        self.by = objective(check(sweep.config, folder.path.name), sweep.by)
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder.path / STORAGE)))
        self.study: Any = optuna.create_study(
            study_name=folder.path.name, storage=storage, direction="minimize", load_if_exists=True
        )

    def ask(self, place: int) -> Trial:
        """The next trial, the place-th from 0: it follows from the seed and from what the others gave."""
        self.study.sampler = self.optuna.samplers.TPESampler(seed=seed_of(self.seed, "optuna", place) % 2**32)
        ways = {one.name: self._distribution(one) for one in self.fields}
        trial = self.study.ask(fixed_distributions=ways)
        values: Values = {
            one.name: one.values[trial.params[one.name]] if one.values else trial.params[one.name]
            for one in self.fields
        }
        return Trial(values, number=trial.number)

    def tell(self, trial: Trial, measure: float) -> None:
        """What a trial gave, less is better; one that failed gave nothing."""
        states = self.optuna.trial.TrialState
        known = self.study.get_trials(deepcopy=False)[trial.number]
        if known.state != states.RUNNING:
            return
        if math.isfinite(measure):
            self.study.tell(trial.number, measure)
        else:
            self.study.tell(trial.number, state=states.FAIL)

    def _distribution(self, one: Vary) -> Any:
        kinds = self.optuna.distributions
        if one.values:
            return kinds.CategoricalDistribution(tuple(range(len(one.values))))
        kind = kinds.IntDistribution if one.whole else kinds.FloatDistribution
        return kind(one.low, one.high, log=one.log)
