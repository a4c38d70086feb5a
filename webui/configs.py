"""Files of settings: the list of presets, opening ours and Kohya's, saving in either format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer import configio, kohya, places
from trainer.config import Config
from trainer.durable import make_folder, write_aside, write_json
from trainer.errors import InputError
from trainer.families.detect import Detected
from trainer.kohya.words import SECRET
from trainer.tree import Tree
from webui.browse import inside
from webui.settings import Settings
from webui.uploads import folder_name

LIKENESS, KOHYA = "Likeness", "Kohya GUI"
SECRET_ARGUMENT = re.compile(r"""["']*(--[\w-]*(?:token|key|secret|password))(?![\w-])""", re.IGNORECASE)


def presets(settings: Settings) -> Iterator[tuple[str, str]]:
    """Name and purpose of every preset: those of the person first, then the shipped ones."""
    told: set[str] = set()
    for folder in (settings.data_dir / "presets", places.PRESETS):
        for file in sorted(folder.glob("*.json")):
            if file.stem not in told:
                told.add(file.stem)
                try:
                    yield file.stem, configio.open_config(str(file)).config.about
                except InputError as error:
                    yield file.stem, f"cannot be used: {error}"


def open_preset(settings: Settings, name: str) -> configio.Loaded:
    """A preset by its name."""
    files = [folder / f"{name}.json" for folder in (settings.data_dir / "presets", places.PRESETS)]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise InputError(f"Presets: {name} is no longer there; reload the page for today's list")
    return configio.open_config(str(file))


def open_file(settings: Settings, path: str) -> tuple[Path, configio.Loaded]:
    """A settings file within the folders that the page may use, by its path."""
    if not path.strip():
        raise InputError("Configuration file: no path is given; write one, or press Open")
    file = inside(path.strip(), settings.roots, "Configuration file")
    return file, configio.open_config(str(file))


def style_of(file: Path) -> str:
    """The format of a settings file: the Kohya GUI's, or else ours; InputError when it cannot be read."""
    return KOHYA if file.suffix.lower() != ".toml" and kohya.is_kohya(configio.read_tree(file)) else LIKENESS


def keep(settings: Settings, name: str, text: str) -> tuple[Path, list[str]]:
    """Keeps a settings file that came from the person's own computer; gives its place, and the secrets left out."""
    text, secrets = _without_secrets(text)
    folder = settings.data_dir / "configs"
    make_folder(folder)
    place = folder / folder_name("Configuration file", Path(name.replace("\\", "/")).name)
    if place.exists() and place.read_text("utf-8", "replace") != text:
        stem, count = place.stem, 2
        while (place := folder / f"{stem}-{count}{place.suffix}").exists():
            count += 1
    write_aside(place, text.encode("utf-8"))
    return place, secrets


def _without_secrets(text: str) -> tuple[str, list[str]]:
    """A settings file without its tokens and keys, and their names; one that cannot be read is as it was."""
    left: list[str] = []

    def kept(pairs: list[tuple[str, Any]]) -> Tree:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            raise ValueError  # a name given twice: opening the file says which
        for name in [name for name, value in pairs if SECRET.search(name) and value and isinstance(value, str)]:
            left.append(name)
            del tree[name]
        if isinstance(extra := tree.get("additional_parameters"), str):
            given = re.split(r"""\s+(?=["']*--)""", extra.strip())
            if found := [match[1] for words in given if (match := SECRET_ARGUMENT.match(words))]:
                left.extend(f"additional_parameters {name}" for name in found)
                tree["additional_parameters"] = " ".join(words for words in given if not SECRET_ARGUMENT.match(words))
        return tree

    try:
        tree = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=kept)
    except (ValueError, RecursionError):
        return text, []
    return (json.dumps(tree, indent=2, ensure_ascii=False), left) if left else (text, [])


def save(settings: Settings, path: str, config: Config, style: str, found: Detected | None) -> tuple[Path, list[str]]:
    """Writes a config in our format or Kohya's; gives the file, and what the format cannot hold."""
    file = inside(path.strip(), settings.roots, "Configuration file")
    file = file if file.suffix.lower() == ".json" else file.with_name(f"{file.name}.json")
    _check_style(file, style)
    make_folder(file.parent)
    if style == KOHYA:
        write_json(file, kohya.write(config, found))
        return file, [f"the Kohya GUI's format cannot hold {option}" for option in kohya.lost(config, found)]
    write_json(file, config.model_dump(mode="json"))
    return file, []


def _check_style(file: Path, style: str) -> None:
    """Refuses to put one format in the place of the other: the Kohya GUI could not open its own file any more."""
    try:
        there = style_of(file) if file.exists() else style
    except InputError:  # no settings at all
        return
    if there != style:
        raise InputError(
            f"Configuration file: {file.name} is in the format of {there}, not of {style}; choose {there} at"
            " Save in the format of, or give another name with Save as"
        )
