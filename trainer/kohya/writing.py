"""From our options to a file of the Kohya GUI, and what such a file cannot hold."""

from __future__ import annotations

from typing import Any

from trainer.config import Config, Full, Library
from trainer.families.detect import Detected
from trainer.kohya import inversion, table
from trainer.kohya.learning import names_of
from trainer.kohya.networks import write_network
from trainer.kohya.reader import Reader, places
from trainer.kohya.reading import MAPPED, MARKED, read_all
from trainer.kohya.whole import FRESH as DREAMBOOTH
from trainer.kohya.whole import write_whole
from trainer.kohya.words import kind_of, shown, spelled
from trainer.optimizer_kinds import KINDS
from trainer.tree import Tree, check, overlay

FRESH = {"embedding": inversion.FRESH, "full_model": DREAMBOOTH}
ARGUMENTS = {key: name for name, key in table.ARGUMENTS.items()}
DEFAULTS = Config().model_dump(mode="json")


def write(config: Config, found: Detected | None = None) -> Tree:
    """All 287 keys of the LoRA tab, sorted; what only sd-scripts knows goes into additional_parameters.

    `found` is what the base model was seen to be: the boxes for SDXL and v-prediction follow it where options are auto.
    What the file cannot hold is told by `lost`.
    """
    whole = config.model_dump(mode="json")
    fresh = FRESH.get(config.network.type, table.FRESH)
    tree = dict(fresh)
    extra: dict[str, Any] = {}
    for key, dotted, field in places(whole):
        if key in MARKED and key not in MAPPED:
            value = at(whole, dotted)
            if value is None:
                value = 0 if kind_of(field.annotation) in (int, float) else ""
            (tree if key in tree else extra)[key] = spelled(value) if isinstance(value, list) else value
            if value == at(DEFAULTS, dotted) or value in ("", 0, False):
                extra.pop(key, None)
    for key, (dotted, values) in MAPPED.items():
        back = {ours: theirs for theirs, ours in reversed(values.items())}
        value = back.get(at(whole, dotted), False) if back else at(whole, dotted)
        if key in tree or (value and value != back.get(at(DEFAULTS, dotted))):
            (tree if key in tree else extra)[key] = value
    extra = {key: value for key, value in extra.items() if key not in ("num_repeats", "class_tokens")}
    if found:
        tree["sdxl"] |= config.model.family == "auto" and found.family == "sdxl"
        tree["v_parameterization"] |= config.model.prediction == "auto" and found.prediction == "v"
    write_learning(config, tree)
    write_rest(config, tree, extra)
    words = (argument(key, value) for key, value in sorted(extra.items()))
    tree["additional_parameters"] = " ".join(word for word in words if word)
    return {key: tree[key] for key in sorted(fresh)}


def write_learning(config: Config, tree: Tree) -> None:
    """Optimizer, schedule, and rates."""
    optimizer, schedule = config.optimizer, config.schedule
    kind = type(optimizer)()
    values = {theirs: getattr(optimizer, ours) for theirs, ours in names_of(optimizer.type).items()}
    plain = {theirs: getattr(kind, ours) for theirs, ours in names_of(optimizer.type).items()}
    if optimizer.type == "adafactor":
        values["relative_step"] = optimizer.lr is None
    changed = {name: value for name, value in values.items() if name not in plain or value != plain[name]}
    tree["optimizer"] = KINDS[optimizer.type].name
    tree["optimizer_args"] = " ".join(f"{name}={spelled(value)}" for name, value in changed.items())
    if isinstance(optimizer, Library):
        tree |= {"optimizer": f"pytorch_optimizer.{optimizer.name}", "optimizer_args": optimizer.args}

    rate = optimizer.lr or table.FRESH["learning_rate"]
    rates = {part: rate if own == "same" else own or 0 for part, own in config.rates}
    text = rates["text_encoder"] or (rates["text_encoder_2"] if not rates["unet"] else 0)
    tree |= {"learning_rate": rate, "unet_lr": rates["unet"], "text_encoder_lr": text}

    warmup = getattr(schedule, "warmup", 0)
    steps, share = (0, float(warmup[:-1])) if isinstance(warmup, str) else (warmup, 0)
    tree |= {"lr_warmup_steps": steps, "lr_warmup": int(share) if share == int(share) else share}
    tree["lr_scheduler"] = "constant_with_warmup" if schedule.type == "constant" and warmup else schedule.type
    if schedule.type == "piecewise_constant":
        tree["lr_scheduler_args"] = f"step_rules='{schedule.rules}'"
    if schedule.type == "cosine_annealing":
        lowest = float(f"{schedule.lowest * rate:.6g}")
        tree |= {"lr_scheduler": "cosine", "lr_scheduler_type": "CosineAnnealingLR"}
        tree["lr_scheduler_args"] = f"T_max={schedule.period} eta_min={lowest:g}"
    if schedule.type == "rex":  # which no name of the Kohya GUI stands for
        tree["lr_scheduler"] = "linear"


def write_rest(config: Config, tree: Tree, extra: Tree) -> None:
    """What is not one option for one key."""
    train, save = config.train, config.save
    if isinstance(config.network, Full):
        write_whole(config, config.network, tree, extra)
    else:
        write_network(config, tree)
    tree |= {"enable_bucket": config.data.buckets is not None, "masked_loss": config.data.masked}
    tree["noise_offset_type"] = "Multires" if config.objective.noise.type == "multires" else "Original"
    tree |= {f"full_{kind}": train.full and train.precision == kind for kind in ("bf16", "fp16")}
    tree |= {"epoch": train.epochs or table.FRESH["epoch"], "max_train_steps": train.steps or 0}
    tree["max_train_epochs"] = 0 if train.steps else train.epochs
    if save.keep_last and save.every_steps and not save.every_epochs:
        tree |= {"save_last_n_epochs": 0, "save_last_n_steps": save.keep_last * save.every_steps - 1}
    tree["sample_prompts"] = "\n".join(config.sample.prompts)
    if config.sample.prompts:
        extra.pop("--sample_prompts", None)


def argument(key: str, value: Any) -> str:
    """An argument of sd-scripts, or nothing for one with spaces or quotes, which the GUI would break."""
    name = key.removeprefix("--")
    if value is True:
        return f"--{name}"
    return "" if any(sign in str(value) for sign in (*" \t\n\r\"'",)) else f"--{name}={value}"


def lost(config: Config, found: Detected | None = None) -> list[str]:
    """The options that a file of the Kohya GUI cannot hold, each as `train.steps 500`: what reading it back changes."""
    reader = Reader(write(config, found), "")
    read_all(reader)
    back = check(overlay(DEFAULTS, reader.tree), "")
    before, after = leaves(config), leaves(back)
    return [f"{name} {shown(name, value)}" for name, value in before.items() if after.get(name) != value]


def leaves(config: Config) -> dict[str, Any]:
    """Every option by its dotted name; rates as numbers, and auto left out."""
    whole = config.model_dump(mode="json")
    flat = {dotted: at(whole, dotted) for _, dotted, _ in places(whole)}
    flat |= {name: config.optimizer.lr for name in flat if name.startswith("rates.") and flat[name] == "same"}
    return {name: value for name, value in flat.items() if value != "auto"}


def at(whole: Any, dotted: str) -> Any:
    """The value at a dotted name, or None where there is none."""
    for word in dotted.split("."):
        whole = whole.get(word) if isinstance(whole, dict) else None
    return whole
