"""The text forms of the Kohya GUI: numbers in quotes, `name=value` lists, and arguments of a command line."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, get_args, get_origin

from trainer.kohya.table import ARGUMENTS, MIGRATED, SECRETS
from trainer.kohya.table import FRESH as KEYS

MODULES = {
    "networks.lora": "Standard",
    "networks.lora_fa": "LoRA-FA",
    "networks.dylora": "Kohya DyLoRA",
    "networks.loha": "Kohya LoHa",
    "networks.lokr": "Kohya LoKr",
    "lycoris.kohya": "LyCORIS/LoCon",
}
"""Modules of sd-scripts, and the types of LoRA that stand for them."""
ALGOS = {
    **dict.fromkeys(("lora", "locon"), "LyCORIS/LoCon"),
    "loha": "LyCORIS/LoHa",
    "lokr": "LyCORIS/LoKr",
    "dylora": "LyCORIS/DyLoRA",
    "glora": "LyCORIS/GLoRA",
    "ia3": "LyCORIS/iA3",
    "diag-oft": "LyCORIS/Diag-OFT",
    "boft": "LyCORIS/BOFT",
    "full": "LyCORIS/Native Fine-Tuning",
}
"""LyCORIS's words for what the GUI offers as types of LoRA."""
NETWORK_ARGUMENTS = {"preset": "LyCORIS_preset", "constraint": "constrain", "block_size": "unit"}
"""Words of network_args, and the keys of the GUI that they come from."""
SECRET = re.compile(r"(?i)token$|secret|password|api_?key")


class WordError(ValueError):
    """A value that cannot be read; the message says why and what to write."""


def kind_of(annotation: Any) -> type:
    """bool, int, float or str: how the Kohya GUI writes what a field holds; a size is text."""
    if annotation in (bool, int, float, str):
        return annotation
    if get_origin(annotation) is Literal:
        return type(get_args(annotation)[0])
    if get_origin(annotation) is tuple:
        return str
    inner = [kind_of(argument) for argument in get_args(annotation) if argument is not type(None)]
    return inner[0] if inner else str


def coerce(key: str, value: Any, kind: type) -> Any:
    """The value as its kind; None for one that is left out. Raises WordError, or gives what the GUI would make of it.

    Old files hold numbers as text. Where the GUI reads unreadable text as a number, so does this: see `migrated`.
    """
    if value is None:
        return None
    if kind is str:
        return value if isinstance(value, str) else _plain_text(value)
    if isinstance(value, str):
        value = value.strip()
    if kind is bool:
        return _truth(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise WordError(f"is no number: write one such as {KEYS.get(key, 1)}")
    if migrated(key, value):
        return MIGRATED[key]
    if value == "":
        return None
    try:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        if kind is int and isinstance(value, str):
            return int(value)
    except (ValueError, OverflowError):
        whole = "whole " if kind is int else ""
        raise WordError(f"is no {whole}number: write one such as {KEYS.get(key, 1)}") from None
    if kind is int and number != int(number):
        raise WordError("is no whole number: round it")
    return int(number) if kind is int else number


def migrated(key: str, value: Any) -> bool:
    """Whether the GUI puts a number of its own in place of this text, as it does for '' and '1.5' of whole numbers."""
    if key not in MIGRATED or not isinstance(value, str):
        return False
    try:
        type(MIGRATED[key])(value.strip())
    except ValueError:
        return True
    return False


def _plain_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, list)):
        raise WordError("is no text")
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _truth(value: Any) -> bool | None:
    words = {"true": True, "1": True, "false": False, "0": False, "none": False, "": None}
    word = str(int(value)) if isinstance(value, float) and value in (0.0, 1.0) else str(value).lower()
    if word not in words:
        raise WordError("is neither true nor false")
    return words[word]


def literal(text: str) -> Any:
    """`True`, `None`, `1e-5` or `0.9,0.99` as a value; other text stays text."""
    text = text.strip()
    if inner := re.fullmatch(r"[(\[](.*)[)\]]", text):
        return [literal(item) for item in inner[1].split(",") if item.strip()]
    if "," in text:
        return literal(f"({text})")
    words = {"true": True, "false": False, "none": None, "inf": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text.strip("'")


def pairs(text: str) -> dict[str, Any]:
    """`a=1 b=0.9,0.99` as values by name; double quotes are dropped, as the GUI drops them."""
    found: dict[str, Any] = {}
    for word in text.replace('"', "").split():
        name, equals, value = word.partition("=")
        if not equals or not name or not value:
            raise WordError(f"{word!r} is not name=value: write pairs with one space between and none inside")
        found[name] = literal(value)
    return found


def spelled(value: Any) -> str:
    """A value as `pairs` reads it."""
    return ",".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


def arguments(text: str, known: set[str]) -> dict[str, Any]:
    """The arguments of a command line, by the keys of the GUI; those it does not know keep their `--`."""
    given: list[tuple[str, list[str]]] = []
    for word in text.replace('"', "").split():
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            given.append((name, [value] if equals else []))
        elif given:
            given[-1][1].append(word)
        else:
            raise WordError(f"{word!r} belongs to no argument: begin with --name")
    found: dict[str, Any] = {}
    for name, values in given:
        value: Any = " ".join(values) if values else True
        match name:
            case "network_train_unet_only":
                found["text_encoder_lr"] = 0
            case "network_train_text_encoder_only":
                found["unet_lr"] = 0
            case "sdpa":
                found["xformers"] = "sdpa"
            case "network_args":
                found |= _network(pairs(str(value)), known)
            case "network_module" if value in MODULES:
                found.setdefault("LoRA_type", MODULES[value])
            case _:
                key = ARGUMENTS.get(name, name)
                found[key if key in known or key.startswith("--") else f"--{name}"] = value
    return found


def _network(given: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Arguments of the network by the keys of the GUI: `algo` tells its type, and with conv_dim alone it is a LoCon."""
    algo = str(given.pop("algo", ""))
    if algo and algo not in ALGOS:
        raise WordError(f"network_args algo={algo}: it is not known here: {', '.join(ALGOS)} are")
    given = {NETWORK_ARGUMENTS.get(name, name): value for name, value in given.items()}
    if strange := [name for name in given if name not in known]:
        raise WordError(f"network_args {strange[0]}: an option that is not here: leave it out")
    kind = ALGOS.get(algo) or ("Kohya LoCon" if given.get("conv_dim") else "")
    given = {name: spelled(value) for name, value in given.items()}
    return {**given, **({"LoRA_type": kind} if kind else {})}


def shown(key: str, value: Any) -> str:
    """A value for a message, cut to a line; of a secret nothing is shown."""
    if key in SECRETS or SECRET.search(key):
        return "(a secret)"
    text = repr(value)
    if "--" in text:
        text = re.sub(r"(--[\w-]*(?:token|key|secret|password)[=\s]+)[^\s'\"]+", r"\1(a secret)", text)
    return text if len(text) <= 80 else f"{text[:79]}…"
