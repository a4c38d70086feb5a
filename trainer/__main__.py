"""The command line of the engine: `python -m trainer train CONFIG`, and its other words."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer import configio, downloads, places, undo
from trainer.captioners import command as captions
from trainer.compare import command as compare
from trainer.doctor import command as doctor
from trainer.errors import InputError
from trainer.folders import command as folders
from trainer.images import command as images
from trainer.imports import load
from trainer.sweep import command as sweep
from trainer.terminal import quiet
from trainer.tools import command as tools
from trainer.verdict import command as verdict


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command; 0 done or stopped on request, 2 bad input, 1 a failure of the engine, 130 Ctrl-C."""
    options = parser().parse_args(words)
    quiet()
    try:
        return options.do(options)
    except InputError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output went away: nothing is wrong
        return 0
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The words and flags that the engine understands."""
    top = argparse.ArgumentParser(prog="python -m trainer", description="Likeness: the training engine.")
    words = top.add_subparsers(required=True, metavar="COMMAND")

    train = words.add_parser("train", help="train a LoRA")
    kinds = "a config file, a JSON of the Kohya GUI, a dataset TOML of sd-scripts, or a preset's name"
    train.add_argument("config", nargs="?", help=kinds)
    train.add_argument("--run", type=Path, help="a run folder with config.json; goes on from its newest state")
    train.add_argument("--resume", type=Path, help="the same, for people")
    runs = str(places.runs()).replace("%", "%%")
    train.add_argument("--runs", type=Path, help=f"where the run folder is made (default: {runs})")
    change = "change an option; of a run that goes on, only where a file or folder is"
    train.add_argument("--set", action="append", default=[], metavar="PART.OPTION=VALUE", help=change)
    train.add_argument("--fit", action="store_true", help="save memory until the first step fits: memory.fit=true")
    train.set_defaults(do=run_train)

    config = words.add_parser("config", help="check a config and print what it would do")
    config.add_argument("config", help=kinds)
    config.add_argument("-o", "--out", type=Path, help="write the whole config here")
    config.add_argument("--set", action="append", default=[], metavar="PART.OPTION=VALUE", help="change an option")
    config.add_argument("--kohya", action="store_true", help="write it in the format of the Kohya GUI")
    config.add_argument("--json", action="store_true", help="print the plan as JSON")
    config.set_defaults(do=run_config)

    job = words.add_parser("job", help="do the work of a run folder that the page made for one of its tools")
    job.add_argument("--run", type=Path, required=True, help="the run folder")
    job.set_defaults(do=run_job)
    sweep.add(words)
    captions.add(words)
    doctor.add(images.add(words))
    folders.add(words)
    downloads.add(words)
    undo.add(words)
    compare.add(words)
    tools.add(words)
    verdict.add(words)
    return top


def run_train(options: argparse.Namespace) -> int:
    """Trains in this process, in a new run folder or in one that exists."""
    run = load("trainer.train").run
    from trainer import several
    from trainer.runfolder import RunFolder

    given = [word for word in (options.config, options.run, options.resume) if word]
    if len(given) != 1:
        raise InputError("train: give one of CONFIG, --run DIR and --resume DIR")
    if options.config:
        together = several.started()  # by accelerate launch or torchrun
        flags = [f"train.processes={together}"] if together > 1 else []
        flags += ["memory.fit=true"] if options.fit else []
        loaded = configio.open_config(options.config, [*flags, *options.set])
        config = loaded.config
        if not several.follows():
            report(loaded.changes)
        return run(several.one_folder(lambda: RunFolder.create(options.runs or places.runs(), config), config.train))
    if options.fit:
        raise InputError("--fit: a run that goes on keeps the settings it began with; give it with CONFIG")
    if fixed := [flag for flag in options.set if not configio.is_path(flag)]:
        raise InputError(
            f"--set {fixed[0]}: while a run goes on, only its files and folders can move, such as model.base;"
            " copy its config.json, change it, and train the copy"
        )
    return run(RunFolder(options.run or options.resume), options.set)


def run_job(options: argparse.Namespace) -> int:
    """Does a job of trainer.jobs in this process."""
    from trainer import jobs
    from trainer.runfolder import RunFolder

    return jobs.run(RunFolder(options.run))


def run_config(options: argparse.Namespace) -> int:
    """Checks a config, opens every picture, and prints the plan; loads no model."""
    from trainer import kohya
    from trainer.data.folders import collect
    from trainer.durable import write_json
    from trainer.early import check_early
    from trainer.families.detect import detect_base
    from trainer.plan import make_plan, split

    if options.kohya and not options.out:
        raise InputError("--kohya: give -o too, the file to write")
    loaded = configio.open_config(options.config, options.set)
    config = loaded.config
    report(loaded.changes)  # at once: what follows may end with an error that they explain
    found = detect_base(config.model)
    warnings = check_early(config, found)
    opened = [collect(config.data, config.captions)]
    plan = make_plan(config, split(opened[0], config.validation)[0], found.family)
    if config.validation.folder:
        apart = config.data.model_copy(update={"images": config.validation.folder, "reg": None})
        opened.append(collect(apart, config.captions, field="validation.folder"))
    lost: list[str] = []
    if options.out:
        write_json(options.out, kohya.write(config, found) if options.kohya else config.model_dump(mode="json"))
        lost = kohya.lost(config, found) if options.kohya else []
    problems = [str(problem) for collection in opened for problem in collection.problems]
    changes = [line for collection in opened for line in collection.summary()]
    if options.json:
        base = {"title": found.title, "reasons": found.reasons}
        facts = {"base": base, "plan": plan.to_json(), "warnings": warnings, "lost": lost}
        print(json.dumps({**facts, "problems": problems, "changes": changes, "keys": loaded.keys}, indent=2))
    else:
        said = [f"warning: {warning}" for warning in warnings]
        said += [f"the Kohya GUI's format cannot hold {option}" for option in lost]
        print("\n".join([found.title, *found.reasons, *problems, *changes, plan.text(), *said]))
    return 0


def report(changes: Sequence[str]) -> None:
    """Says on stderr what was changed on the way from a foreign file; stdout may be a --json report."""
    for change in changes:
        print(change, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
