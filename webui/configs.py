"""Files of settings: the list of presets, opening ours and Kohya's, saving in either format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainer import configio, kohya, places
from trainer.config import Config
from trainer.durable import make_folder, write_aside, write_json
from trainer.errors import InputError
from trainer.families.detect import Detected
from webui.browse import inside
from webui.settings import Settings
from webui.uploads import folder_name

LIKENESS, KOHYA = "Likeness", "Kohya GUI"


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


def keep(settings: Settings, name: str, text: str) -> Path:
    """Keeps a settings file that came from the person's own computer, and gives its place."""
    folder = settings.data_dir / "configs"
    make_folder(folder)
    place = folder / folder_name("Configuration file", Path(name.replace("\\", "/")).name)
    if place.exists() and place.read_text("utf-8", "replace") != text:
        stem, count = place.stem, 2
        while (place := folder / f"{stem}-{count}{place.suffix}").exists():
            count += 1
    write_aside(place, text.encode("utf-8"))
    return place


def save(settings: Settings, path: str, config: Config, style: str, found: Detected | None) -> tuple[Path, list[str]]:
    """Writes a config in our format or Kohya's; gives the file, and what the format cannot hold."""
    file = inside(path.strip(), settings.roots, "Configuration file")
    file = file if file.suffix.lower() == ".json" else file.with_name(f"{file.name}.json")
    make_folder(file.parent)
    if style == KOHYA:
        write_json(file, kohya.write(config, found))
        return file, [f"the Kohya GUI's format cannot hold {option}" for option in kohya.lost(config, found)]
    write_json(file, config.model_dump(mode="json"))
    return file, []
