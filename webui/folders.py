"""Prepares the folders of the Kohya GUI, img, reg, log and model, by copying: what a person has is not moved."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer import places
from trainer.data.folders import MOST_REPEATS
from trainer.durable import TEMPORARY, failed, make_folder, need_space, replace_folder, sweep
from trainer.errors import InputError
from webui.browse import Outside, inside
from webui.settings import Settings
from webui.uploads import CAPTIONS, STALE, folder_name, is_picture, whole

CODE = [places.ROOT / name for name in ("trainer", "webui", "presets", "docs", "tests", ".venv", ".git")]


def prepare(wish: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Builds `img/<repeats>_<trigger> <class>`, `reg/1_<class>` (when there is `reg`), `log` and `model`.

    `wish`: trigger, class, repeats, images, reg, destination. Each folder of pictures is copied aside and then renamed,
    so a copy that was cut off is no half folder, and the same wish can be told again. Gives `images`, `reg`, `output`
    and `logging` for the config, and how many pictures were copied.
    """
    texts = {name: str(wish.get(name) or "").strip() for name in ("trigger", "class", "images", "reg", "destination")}
    for name in ("trigger", "images", "destination"):
        if not texts[name]:
            raise InputError(f"{name}: it is empty; fill it in")
    if texts["reg"] and not texts["class"]:
        raise InputError("class: it is empty; regularisation pictures need the word for what they show")
    repeats = whole("repeats", wish.get("repeats", 10), 1, MOST_REPEATS)
    words = folder_name("trigger", " ".join(filter(None, (texts["trigger"], texts["class"]))))
    goal = inside(texts["destination"], settings.roots, "destination")
    if any(goal.is_relative_to(code) for code in CODE):
        raise Outside(f"destination: {goal} is where Likeness itself lies; choose another folder")

    copies = [(_listed("images", texts["images"], settings), goal / "img" / f"{repeats}_{words}")]
    if texts["reg"]:
        name = folder_name("class", texts["class"])
        copies.append((_listed("reg", texts["reg"], settings), goal / "reg" / f"1_{name}"))
    copies = [(files, place) for files, place in copies if not _is_there(files, place)]
    need_space(goal, sum(file.stat().st_size for files, _ in copies for file in files))
    for name in ("log", "model"):
        make_folder(goal / name)
    for files, place in copies:
        _copy(files, place)
    return {
        "images": str(goal / "img"),
        "reg": str(goal / "reg") if texts["reg"] else None,
        "output": str(goal / "model"),
        "logging": str(goal / "log"),
        "copied": sum(is_picture(file.name) for files, _ in copies for file in files),
    }


def _listed(field: str, path: str, settings: Settings) -> list[Path]:
    """The pictures and captions that lie in a folder."""
    folder = inside(path, settings.roots, field)
    if not folder.is_dir():
        raise InputError(f"{field}: {folder} is no folder; choose the one with the pictures")
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and file.is_file()]
    files = [file for file in files if is_picture(file.name) or file.name.lower().endswith(CAPTIONS)]
    if not any(is_picture(file.name) for file in files):
        raise InputError(f"{field}: no picture lies in {folder} itself; choose the folder that holds the pictures")
    for file in files:
        inside(str(file), settings.roots, field)  # a link must not bring in a file from elsewhere
    return files


def _is_there(files: Sequence[Path], place: Path) -> bool:
    """Whether the copy was made before; InputError when something else has its name, for nothing is overwritten."""
    if not place.exists():
        return False
    there = {file.name: file.stat().st_size for file in place.iterdir()} if place.is_dir() else {}
    if there != {file.name: file.stat().st_size for file in files}:
        raise InputError(f"destination: {place} is there already, with other files; choose another destination")
    return True


def _copy(files: Sequence[Path], place: Path) -> None:
    make_folder(place.parent)
    sweep(place.parent, STALE)
    aside = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=place.parent))
    try:
        for file in files:
            shutil.copy2(file, aside / file.name)
        aside.chmod(place.parent.stat().st_mode & 0o777)  # a temporary folder is for its owner alone
        replace_folder(aside, place)
    except OSError as error:
        raise failed(place, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
