"""The folders of the Kohya GUI, img, reg, log and model, by copying: what a person has is not moved."""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from pathlib import Path

from trainer.durable import make_folder, need_space, replace_folder
from trainer.errors import InputError
from trainer.folders.files import beside, copy, folder_name, is_caption, is_picture, not_ours
from trainer.folders.options import Prepare
from trainer.folders.report import Report
from trainer.named import folder_of
from trainer.terminal import Stop, Tell, never, silent


def run(options: Prepare, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Builds `img/<repeats>_<trigger> <class>`, `reg/<repeats>_<class>` (when there is `reg`), `log` and `model`.

    Each folder of pictures is copied aside, every copy is compared, and then it gets its name: a copy that was cut off
    is no half folder, and the same can be asked again. The report's `found` has `images`, `reg`, `output` and `logging`
    for the config, and how many pictures were `copied`. Raises InputError, DiskError.
    """
    for name in ("trigger", "images", "destination"):
        if not str(getattr(options, name) or "").strip():
            raise InputError(f"{name}: it is empty; fill it in")
    trigger, word = options.trigger.strip(), options.class_word.strip()
    if options.reg and not word:
        raise InputError("class: it is empty; regularisation pictures need the word for what they show")
    words = folder_name("trigger", " ".join(filter(None, (trigger, word))))
    goal = not_ours("destination", Path(str(options.destination).strip()).expanduser().resolve())

    copies = [(listed("images", str(options.images)), goal / "img" / f"{options.repeats}_{words}")]
    if options.reg:
        name = folder_name("class", word)
        copies.append((listed("reg", options.reg), goal / "reg" / f"{options.reg_repeats}_{name}"))
    copies = [(files, place) for files, place in copies if not _is_there(files, place)]
    need_space(goal, sum(file.stat().st_size for files, _ in copies for file in files))
    for name in ("log", "model"):
        make_folder(goal / name)
    copied = done = 0
    total = sum(len(files) for files, _ in copies)
    for files, place in copies:
        make_folder(place.parent)
        with beside(place.parent) as aside:
            for file in files:
                if should_stop():
                    said = f"Stopped: {place.name} is not made yet; the same command goes on."
                    return Report(said, found=_found(options, goal, copied), stopped=True)
                copy(file, aside / file.name)
                tell(done := done + 1, total)
            aside.chmod(place.parent.stat().st_mode & 0o777)  # a temporary folder is for its owner alone
            replace_folder(aside, place)
        copied += sum(is_picture(file.name) for file in files)
    return Report(
        f"{copied} pictures copied into {goal}, and compared." if copies else f"All of it is in {goal} already.",
        found=_found(options, goal, copied),
    )


def listed(field: str, path: str) -> list[Path]:
    """The pictures and captions that lie in a folder, sorted; InputError when there is no picture."""
    folder = folder_of(field, path.strip())
    files = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and file.is_file()]
    files = [file for file in files if is_picture(file.name) or is_caption(file.name)]
    if not any(is_picture(file.name) for file in files):
        raise InputError(f"{field}: no picture lies in {folder} itself; choose the folder that holds the pictures")
    return files


def _found(options: Prepare, goal: Path, copied: int) -> dict[str, str | int | None]:
    folders = {"images": "img", "reg": "reg", "output": "model", "logging": "log"}
    found: dict[str, str | int | None] = {name: str(goal / folder) for name, folder in folders.items()}
    return found | {"copied": copied} | ({} if options.reg else {"reg": None})


def _is_there(files: Sequence[Path], place: Path) -> bool:
    """Whether the copy was made before; InputError when something else has its name, for nothing is overwritten."""
    if not place.exists():
        return False
    there = {file.name for file in place.iterdir()} if place.is_dir() else set[str]()
    same = there == {file.name for file in files}
    if not same or not all(filecmp.cmp(file, place / file.name, shallow=False) for file in files):
        raise InputError(f"destination: {place} is there already, with other files; choose another destination")
    return True
