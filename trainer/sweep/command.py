"""`python -m trainer sweep CONFIG --vary optimizer.lr=1e-4,3e-4 ...`"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from trainer import configio, places
from trainer.errors import InputError
from trainer.sweep.folder import Sweep, SweepFolder
from trainer.sweep.planning import plan
from trainer.sweep.table import WAYS, table_of
from trainer.sweep.vary import told
from trainer.terminal import Wish


def add(words: Any) -> None:
    """Adds `sweep` to the command line's words."""
    about = "train with several values of some options, and compare the runs"
    sweep = words.add_parser("sweep", help=about, description=f"{about[0].upper()}{about[1:]}.")
    kinds = "a config file, a JSON of the Kohya GUI, a dataset TOML of sd-scripts, or a preset's name"
    sweep.add_argument("config", nargs="?", help=kinds)
    values = "what an option may be: optimizer.lr=1e-4,3e-4, or, to draw from, `optimizer.lr=1e-5..1e-3 log`"
    sweep.add_argument("--vary", action="append", default=[], metavar="OPTION=VALUES", help=values)
    sweep.add_argument("--random", type=int, metavar="N", help="N combinations by chance, in place of all")
    sweep.add_argument("--optuna", type=int, metavar="N", help="N combinations that Optuna chooses by what came before")
    sweep.add_argument("--seed", type=int, default=0, help="another seed draws other combinations (default: 0)")
    order = "what is best: the comparison's score, the held-out loss, or the final loss (default: the first there is)"
    sweep.add_argument("--by", choices=("auto", *WAYS), default="auto", help=order)
    sweep.add_argument("--set", action="append", default=[], metavar="PART.OPTION=VALUE", help="change an option")
    sweep.add_argument("--runs", type=Path, help="where the run folders are made")
    sweep.add_argument("--resume", type=Path, metavar="DIR", help="go on with a sweep; what is trained stays")
    sweep.add_argument("--table", type=Path, metavar="DIR", help="only show how the runs of a sweep compare")
    sweep.add_argument("--plan", action="store_true", help="only show which runs there would be")
    far = "train on a Ray cluster, one GPU a run; auto inside `ray job submit`"
    sweep.add_argument("--ray", metavar="ADDRESS", help=far)
    sweep.add_argument("--json", action="store_true", help="print the table as JSON")
    sweep.set_defaults(do=run_sweep)


def run_sweep(options: argparse.Namespace) -> int:
    """Makes a sweep, or goes on with one, trains its runs, and prints the table."""
    given = [word for word in (options.config, options.resume, options.table) if word]
    if len(given) != 1:
        raise InputError("sweep: give one of CONFIG, --resume DIR and --table DIR")
    if options.table:
        folder = SweepFolder(options.table)
    elif options.resume:
        folder = SweepFolder(options.resume)
    else:
        sweep = make(options)
        if options.plan:
            for place, trial in enumerate(sweep.trials):
                print(f"run {place + 1}: {told(trial.values)}")
            print(f"{sweep.count} runs")
            return 0
        folder = SweepFolder.make(options.runs or places.runs(), sweep)
    code = 0 if options.table else _train(folder, options)
    table = table_of(folder, None if options.by == "auto" else options.by)
    print(json.dumps(table.to_json(), indent=2) if options.json else table.text())
    return code


def _train(folder: SweepFolder, options: argparse.Namespace) -> int:
    from trainer.sweep.far import train_far
    from trainer.sweep.running import train_all

    print(f"{folder.path}: --resume goes on with this sweep, --table shows it", file=sys.stderr)
    if options.ray and folder.read().how == "optuna":
        raise InputError("ray: Optuna waits for each run before it chooses the next: leave --ray or --optuna out")
    if options.ray:
        train_far(folder, options.ray, _say)
    else:
        with Wish().heard() as wish:
            wish.patient = True
            train_all(folder, wish, say=_say)
    states = [row.state for row in table_of(folder).rows]
    return 1 if states and all(state == "error" for state in states) else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # stdout is the table's


def make(options: argparse.Namespace) -> Sweep:
    """The sweep that the flags ask for; InputError before anything is made."""
    if None not in (options.random, options.optuna):
        raise InputError("random, optuna: give one of them")
    loaded = configio.open_config(options.config, options.set)
    for change in loaded.changes:
        _say(change)
    how = "optuna" if options.optuna is not None else "grid" if options.random is None else "random"
    count = options.optuna or options.random or 0
    sweep, warnings = plan(loaded.config, options.vary, how, count, options.seed, options.by)
    for warning in warnings:
        _say(f"warning: {warning}")
    return sweep
