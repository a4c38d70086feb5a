"""Optimizer, schedule and rates: what the Kohya GUI spreads over ten keys and two lines of text."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from trainer.config import Averaging, Optimizer
from trainer.config.library import TESTED, nearest
from trainer.kohya import table
from trainer.kohya.reader import Reader
from trainer.kohya.words import WordError, coerce, pairs, spelled
from trainer.optimizer_kinds import KINDS

CLASSES = {kind.model_fields["type"].default: kind for kind in get_args(get_args(Optimizer)[0])}
NO_SCHEDULE = [word for word, kind in CLASSES.items() if issubclass(kind, Averaging)]
OF_LIBRARY = "pytorch_optimizer"


def names_of(kind: str) -> dict[str, str]:
    """The arguments of an optimizer by their names in optimizer_args, and our options."""
    options = [name for name in CLASSES[kind].model_fields if name not in ("type", "lr")]
    return {KINDS[kind].names.get(name, name): name for name in options} if kind != OF_LIBRARY else {}


def word_of(name: str) -> str:
    """Our word for the optimizer that a name of the Kohya GUI means, `Lion` or `schedulefree.X`; "" for none."""
    first, _, last = name.partition(".")[0], *name.rpartition(".")[1:]
    if ours := table.OPTIMIZERS.get(name.lower(), ""):
        return ours
    ours = table.OPTIMIZERS.get(last.lower(), "")
    if ours and KINDS[ours].path.startswith(f"{first}."):
        return ours
    return OF_LIBRARY if first == OF_LIBRARY and last in TESTED else ""


def unknown(name: str) -> str:
    """Why an optimizer is refused, and which one may be meant."""
    if name.startswith(f"{OF_LIBRARY}."):
        return f"is not among those of pytorch-optimizer that are tested here{nearest(name.rpartition('.')[2])}"
    shown = [kind.name for word, kind in KINDS.items() if word != OF_LIBRARY]
    near = difflib.get_close_matches(name.lower(), table.OPTIMIZERS, n=1, cutoff=0.6)
    meant = f"; did you mean {KINDS[table.OPTIMIZERS[near[0]]].name}?" if near else ":"
    return f"is not known{meant} choose one of {', '.join(shown)}, or one of pytorch_optimizer"


def read_optimizer(reader: Reader) -> None:
    """The optimizer and its arguments. Adafactor finds its own rate unless relative_step is False."""
    name = reader.take("optimizer", str)
    ours = word_of(name or "AdamW")
    if not ours:
        return reader.refuse("optimizer", unknown(name or ""))
    if name:
        reader.put("optimizer.type", ours, "optimizer")
    given = arguments_of(reader, "optimizer_args")
    if ours == OF_LIBRARY and name:
        reader.put("optimizer.name", name.rpartition(".")[2], "optimizer")
        words = " ".join(f"{argument}={spelled(value)}" for argument, value in given.items())
        return reader.put("optimizer.args", words, "optimizer_args")
    relative = ours == "adafactor" and given.pop("relative_step", True) is not False
    known = names_of(ours)
    for argument, value in given.items():
        if argument in known:
            reader.put("optimizer.type", ours, "optimizer")
            reader.put(f"optimizer.{known[argument]}", value, "optimizer_args")
        elif value not in table.INERT.get(argument, ()):
            listed = ", ".join(known)
            reader.refuse("optimizer_args", f"{argument} is no argument of {name or 'AdamW'} here: {listed} are")
    if relative:
        reader.put("optimizer.lr", None, "optimizer")
    return None


def arguments_of(reader: Reader, key: str) -> dict[str, Any]:
    """The `name=value` pairs of a key."""
    try:
        return pairs(reader.take(key, str) or "")
    except WordError as error:
        reader.refuse(key, str(error))
        return {}


def finds_rate(reader: Reader) -> bool:
    """Whether Adafactor was asked to find its own rate."""
    chosen = reader.tree.get("optimizer", {})
    return chosen.get("type") == "adafactor" and chosen.get("lr", 1) is None


def read_schedule(reader: Reader) -> None:
    """The schedule and its warm-up: in steps where these are given, else in percent of all steps."""
    name = reader.take("lr_scheduler", str)
    given = arguments_of(reader, "lr_scheduler_args")
    custom = reader.take("lr_scheduler_type", str)
    if reader.tree.get("optimizer", {}).get("type") in NO_SCHEDULE:
        reader.put("schedule", {"type": "constant"}, "lr_scheduler")
        if custom or name not in (None, "", "constant"):
            said = "the optimizer averages its weights in place of a schedule, in the Kohya GUI too"
            reader.say("lr_scheduler_type" if custom else "lr_scheduler", "converted", said, loud=True)
        return read_warmup(reader, "constant")
    if finds_rate(reader):
        reader.put("schedule", {"type": "adafactor"}, "lr_scheduler")
        if name and name != "adafactor":
            said = "Adafactor with relative steps has a schedule of its own, in the Kohya GUI too"
            reader.say("lr_scheduler", "converted", said, loud=True)
    elif custom:
        read_custom(reader, custom, given)
        if name and not reader.refused:
            reader.say("lr_scheduler", "unused", f"lr_scheduler_type {custom} is given and wins")
    elif name in table.SCHEDULES:
        reader.put("schedule.type", name.removesuffix("_with_warmup"), "lr_scheduler")
    elif name:
        reader.refuse("lr_scheduler", f"is not known: choose one of {', '.join(table.SCHEDULES)}")
    kind = reader.tree.get("schedule", {}).get("type", "cosine")
    read_schedule_arguments(reader, kind, given)
    if kind == "warmup_stable_decay":
        decay = span(reader, "lr_decay_steps")
        reader.put("schedule.decay", decay or 0, "lr_decay_steps")
        if decay is None:
            reader.say("lr_decay_steps", "same", "not given: the rate stays to the end, as in sd-scripts", loud=True)
    return read_warmup(reader, name if kind == "constant" and name else kind)


def read_custom(reader: Reader, custom: str, given: dict[str, Any]) -> None:
    """The classes that lr_scheduler_type names: PyTorch's CosineAnnealingLR, and REX."""
    match custom.rpartition(".")[2]:
        case "CosineAnnealingLR":
            period, lowest = given.pop("T_max", None), given.pop("eta_min", 0.0)
            rate = reader.peek("learning_rate", float)
            if not isinstance(period, int) or not isinstance(lowest, (int, float)) or (lowest and not rate):
                needs = "CosineAnnealingLR needs T_max, whole steps such as T_max=1000; eta_min is a rate such as 1e-6"
                return reader.refuse("lr_scheduler_args", needs)
            least = float(f"{lowest / rate:.6g}") if rate else 0.0
            tree = {"type": "cosine_annealing", "period": period, "lowest": least}
            reader.put("schedule", tree, "lr_scheduler_type")
        case "REXScheduler" if not given.pop("min_lr", 0):
            for name in ("total_steps", "max_lr"):  # those of this training
                given.pop(name, None)
            reader.put("schedule", {"type": "rex"}, "lr_scheduler_type")
        case _:
            said = "is not known: empty it and choose a schedule in lr_scheduler; CosineAnnealingLR and REXScheduler"
            reader.refuse("lr_scheduler_type", f"{said} down to 0 are read")
    return None


def read_schedule_arguments(reader: Reader, kind: str, given: dict[str, Any]) -> None:
    """The pairs of lr_scheduler_args, for the schedules that read some."""
    if kind == "piecewise_constant" and "step_rules" in given:
        reader.put("schedule.rules", spelled(given.pop("step_rules")), "lr_scheduler_args")
    elif kind == "piecewise_constant":
        reader.refuse("lr_scheduler_args", "piecewise_constant needs its steps: write step_rules='1:500,0.1'")
    if kind == "cosine_with_min_lr" and "min_lr" in given:
        lowest, rate = given.pop("min_lr"), reader.peek("learning_rate", float)
        if isinstance(lowest, float) and rate:
            reader.add({"lr_scheduler_min_lr_ratio": float(f"{lowest / rate:.6g}")})
        else:
            reader.refuse("lr_scheduler_args", "min_lr is a number such as 1e-6, and needs a learning_rate above 0")
    known = table.SCHEDULE_ARGUMENTS.get(kind, {})
    for word, value in given.items():
        if word in known:
            reader.add({known[word]: value})
        else:
            listed = f"{' and '.join(known)} {'is' if len(known) == 1 else 'are'}" if known else "none are"
            reader.refuse("lr_scheduler_args", f"{word} is no argument of {kind} here: {listed}")


def span(reader: Reader, key: str) -> int | str | None:
    """Steps, or a share of all of them, which sd-scripts takes as `10%` and as 0.1."""
    written = reader.left.get(key)
    if isinstance(written, str) and written.strip().endswith("%"):
        reader.say(key, "converted")
        return written.strip()
    number = reader.take(key, float)
    return number if number is None else share(number * 100) if 0 < number < 1 else int(number)


def read_warmup(reader: Reader, schedule: str) -> None:
    """The warm-up; some schedules have none."""
    steps = span(reader, "lr_warmup_steps")
    whole = reader.left.get("lr_warmup")
    percent = reader.take("lr_warmup", float if isinstance(whole, float) else int)
    key = "lr_warmup_steps" if steps else "lr_warmup"
    warmup = steps or (share(percent) if percent else 0)
    if steps and percent:
        reader.say("lr_warmup", "unused", "lr_warmup_steps is given and wins")
    if schedule in ("constant", "piecewise_constant", "adafactor", "cosine_annealing"):
        if warmup:
            hint = "; constant_with_warmup has one" if schedule == "constant" else ""
            reader.say(key, "unused", f"{schedule} has no warm-up, in the Kohya GUI neither{hint}", loud=True)
    elif steps is not None or percent is not None:
        reader.put("schedule.warmup", warmup, key)


def share(percent: float) -> str:
    """A percentage as our warm-up is written."""
    return f"{float(f'{percent:.6g}'):g}%"


def read_rates(reader: Reader) -> None:
    """learning_rate, unet_lr and text_encoder_lr: 0 leaves a part as it is; 0 for both trains both at learning_rate."""
    main, unet = reader.take("learning_rate", float), reader.take("unet_lr", float)
    text = read_text_rates(reader)
    if text == [] and unet == 0:
        if main == 0:
            return reader.refuse("learning_rate", "all three rates are 0, nothing would be trained: give one a number")
        said = f"with text_encoder_lr 0 too, everything is trained at learning_rate {main or ''}".rstrip()
        reader.say("unet_lr", "converted", said, loud=True)
        unet, text = None, None
    own = [rate for rate in (unet, *(text or [])) if rate]
    rest = None if main == 0 else "same"  # what a part without a rate of its own gets
    relative = finds_rate(reader)
    if relative and (own or main):
        reader.say("learning_rate", "converted", "not used: Adafactor finds its own rates", loud=False)
    elif main == 0 and not own:
        return reader.refuse("learning_rate", "nothing would be trained: give it a number above 0")
    elif main == 0:
        reader.put("optimizer.lr", own[0], "learning_rate")
        said = f"0 serves nothing, unet_lr and text_encoder_lr have their own: {own[0]:g} is kept as the common rate"
        reader.say("learning_rate", "converted", said, loud=True)
    elif main is not None:
        reader.put("optimizer.lr", main, "learning_rate")
    rest = "same" if relative else rest
    first, second = (text[0], text[-1]) if text else (None, None)
    if unet is not None or rest is None:
        reader.put("rates.unet", _rate(unet, relative, rest), "unet_lr")
    if text is not None or rest is None:
        for part, rate in (("text_encoder", first), ("text_encoder_2", second)):
            reader.put(f"rates.{part}", None if text == [] else _rate(rate, relative, rest), "text_encoder_lr")
    return None


def _rate(own: float | None, relative: bool, rest: str | None) -> float | str | None:
    """The rate of a part: its own, the common one, or None where it is 0."""
    if own is None:
        return rest
    return ("same" if relative else own) if own else None


def read_text_rates(reader: Reader) -> list[float] | None:
    """One or two rates of text encoders, given as a number, text, or a list; [] is 0, None is not given."""
    value = reader.left.get("text_encoder_lr")
    if isinstance(value, str) and len(value.replace(",", " ").split()) > 1:
        value = value.replace(",", " ").split()
    if not isinstance(value, list):
        rate = reader.take("text_encoder_lr", float)
        return None if rate is None else [rate] if rate else []
    reader.take("text_encoder_lr", str)
    try:
        rates = [coerce("text_encoder_lr", item, float) for item in value]
    except WordError as error:
        reader.refuse("text_encoder_lr", str(error))
        return None
    if not 1 <= len(rates) <= 2 or None in rates:
        reader.refuse("text_encoder_lr", "holds one rate, or two for SDXL's two text encoders")
        return None
    return rates if any(rates) else []
