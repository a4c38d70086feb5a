"""How many pictures, repeats, epochs and steps: the advice for this data set, with the arithmetic shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.advice import advise
from trainer.data.folders import Folder
from trainer.doctor.finding import Finding, several
from trainer.doctor.framing import Framing
from trainer.doctor.options import Doctor
from trainer.doctor.words import is_numbered

LARGE = 768 * 768  # pixels: from here on SDXL is meant
FEWEST = {"person": 15, "character": 20, "style": 20}
"""Pictures that tutorials begin with."""
TOO_OFTEN = 1.5
"""Times as many looks at each picture as practice has, from which they are learned by heart."""
REPEATS = {"faces": 24, "bodies": 16}


@dataclass(frozen=True)
class FolderAdvice:
    """A folder's pictures, its repeats now (None: its name has none), and those advised."""

    folder: str
    pictures: int
    now: int | None
    repeats: int


@dataclass(frozen=True)
class Amount:
    """A training in numbers. steps = pictures x repeats, summed over the folders, x epochs / batch."""

    repeats: int
    epochs: int
    batch: int
    steps: int
    looks: int
    """How often each picture is seen, in the mean."""
    arithmetic: str
    folders: tuple[FolderAdvice, ...]
    usual_steps: int
    """Steps that practice has for so many pictures."""

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        return {**asdict(self), "folders": [asdict(folder) for folder in self.folders]}


def amount(folders: Sequence[tuple[Folder, Sequence[str]]], options: Doctor, framing: Framing) -> Amount | None:
    """What practice advises for folders with the names of their pictures; None without a picture."""
    folders = [(folder, names) for folder, names in folders if names]
    total = sum(len(names) for _, names in folders)
    if not total:
        return None
    family = "sdxl" if math.prod(options.resolution) >= LARGE else "sd15"
    usual = advise(total, family, base="").settings
    batch, repeats, epochs = usual["train"]["batch"], usual["data"]["repeats"], usual["train"]["epochs"]
    usual_steps = math.ceil(total * repeats * epochs / batch)
    advised = [
        FolderAdvice(folder.name, len(names), _written(folder), times)
        for (folder, names), times in zip(folders, _repeats(folders, repeats, framing), strict=True)
    ]
    uses = sum(part.pictures * part.repeats for part in advised)
    wanted = options.steps or usual_steps
    epochs = max(1, round(wanted * batch / uses))
    steps = math.ceil(uses * epochs / batch)
    parts = " + ".join(f"{several(part.pictures, 'picture', 'pictures')} x {part.repeats} repeats" for part in advised)
    summed = f"({parts})" if len(advised) > 1 else parts
    arithmetic = f"{summed} x {epochs} epochs / batch {batch} = {steps} steps"
    looks = round(uses * epochs / total)
    return Amount(advised[0].repeats, epochs, batch, steps, looks, arithmetic, tuple(advised), usual_steps)


def _written(folder: Folder) -> int | None:
    """The repeats in a folder's name; None when it has none."""
    return folder.repeats if is_numbered(folder) else None


def _repeats(folders: Sequence[tuple[Folder, Sequence[str]]], usual: int, framing: Framing) -> list[int]:
    """Repeats of each folder, `usual` in the mean: faces 24 to bodies 16, else as their names are to each other."""
    near = [_faces(names, framing) for _, names in folders]
    weights = [folder.repeats for folder, _ in folders]
    if set(near) == {True, False}:
        weights = [REPEATS["faces" if is_near else "bodies"] for is_near in near]
    counts = [len(names) for _, names in folders]
    scale = usual * sum(counts) / sum(map(math.prod, zip(weights, counts, strict=True)))
    return [max(1, round(weight * scale)) for weight in weights]


def _faces(names: Sequence[str], framing: Framing) -> bool | None:
    """Whether most pictures of a folder are close-ups; None when it is not known of most."""
    shots = [shot for name in names if (shot := framing.shots.get(name, "unknown")) != "unknown"]
    if 2 * len(shots) < len(names) or not shots:
        return None
    return 2 * sum(shot == "close_up" for shot in shots) > len(shots)


def too_few(found: Amount | None, names: Sequence[str], options: Doctor) -> list[Finding]:
    """Too few pictures for what is learned, or for the steps that are planned."""
    least = FEWEST[options.purpose]
    if found is None:
        return [Finding("too_few", "bad", "No picture can be used", "there is nothing to train on: add pictures", [])]
    if options.steps and options.steps > TOO_OFTEN * found.usual_steps:
        looks = round(options.steps * found.batch / len(names))
        title = f"Too few pictures for {options.steps} steps"
        usual = round(found.usual_steps * found.batch / len(names))
        why = f"each of {len(names)} would be seen {looks} times, practice has {usual}: it is learned by heart; "
        why += f"plan {found.usual_steps} steps, or add pictures"
        return [Finding("too_few", "care", title, why, [])]
    if len(names) < least:
        title = f"{several(len(names), 'picture', 'pictures')}, {least} or more are usual"
        why = f"a {options.purpose} from so few keeps their light, clothes and backgrounds: add others"
        return [Finding("too_few", "care", title, why, [])]
    return []
