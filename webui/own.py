"""Settings for a person's own pictures, from what the Start tab asks: a folder, two words, a base model."""

from __future__ import annotations

from pathlib import Path

from trainer import advice
from trainer.config import Config
from trainer.errors import InputError
from trainer.tree import absolute, check, overlay
from webui import machine
from webui.browse import REPEATS, count_pictures
from webui.folders import prepare
from webui.planning import base_of
from webui.settings import Settings

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CAPTIONS_READ = 2**16  # characters of a caption in which the trigger word is looked for


def advised(settings: Settings, images: str, trigger: str, kind: str, base: str) -> tuple[Config, tuple[str, ...]]:
    """The config that is advised, and why; InputError when nothing can be."""
    base = base or SD15
    if not images.strip():
        raise InputError("Pictures: there are none yet; drop them above, or choose a folder")
    folder, trigger, kind = Path(images.strip()).expanduser(), trigger.strip(), kind.strip()
    pictures = count_pictures(folder)
    if not pictures:
        raise InputError(f"Pictures: there are none in {folder}; choose the folder that holds them")
    found, said = base_of(Config.model_validate({"model": {"base": base}}))
    if found is None:
        raise InputError(f"Base model: {'; '.join(said)}; or choose another")
    told = advice.advise(pictures, found.family, base, _card(), uses_of(folder), trigger, kind)
    tree = {
        "data": {"images": str(folder)},
        "captions": {"prefix": prefix_for(folder, trigger, kind)},
        "output": {"name": trigger or "my_lora", "comment": trigger},
    }
    whole = overlay(Config().model_dump(mode="json"), overlay(told.settings, tree))
    return check(absolute(whole, settings.data_dir), "advice"), (*told.reasons, *said)


def named(settings: Settings, images: str, trigger: str, kind: str) -> str:
    """The image folder; of uploaded pictures that were given other words before, a copy with these.

    They are copied, not renamed, because a run of before may go on with them as they are.
    """
    folder = Path(images.strip()).expanduser()
    words = " ".join(filter(None, (trigger.strip(), kind.strip())))
    inside = [place for place in folder.iterdir() if place.is_dir()] if folder.is_dir() else []
    ours = folder.resolve().is_relative_to((settings.data_dir / "uploads").resolve())
    if not ours or len(inside) != 1 or inside[0].name == f"1_{words}":
        return images
    goal = folder.parent.with_name(f"{folder.parent.name} as {words}")
    wish = {"trigger": trigger, "class": kind, "repeats": 1, "images": str(inside[0]), "destination": str(goal)}
    return str(prepare(wish, settings)["images"])


def uses_of(folder: Path) -> int | None:
    """Uses of pictures in an epoch where folders say how often; None where pictures lie in the folder itself."""
    inside = [place for place in folder.iterdir() if place.is_dir() and REPEATS.match(place.name)]
    return sum(int(place.name.split("_")[0]) * count_pictures(place, deep=False) for place in inside) or None


def prefix_for(folder: Path, trigger: str, kind: str) -> str:
    """What must stand before captions so that each has the trigger word, for pictures in the folder itself.

    Folders named `<repeats>_<words>` bring the words themselves.
    """
    if uses_of(folder):
        return ""
    captions = [path.read_text("utf-8", "replace")[:CAPTIONS_READ] for path in sorted(folder.glob("*.txt"))]
    if not captions:
        return " ".join(filter(None, (trigger, kind)))
    return "" if not trigger or all(trigger in caption for caption in captions) else f"{trigger},"


def _card() -> advice.Card | None:
    """The GPU with most memory."""
    largest = max(machine.gpus(), key=lambda gpu: gpu["memory_total"] or 0, default=None)
    if largest is None or not largest["memory_total"]:
        return None
    return advice.Card(largest["memory_total"], bool(largest["bf16"]))
