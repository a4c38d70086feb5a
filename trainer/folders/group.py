"""Kohya's "Group images": pictures of like shape in groups of one size each, so that a batch wastes no pixels.

`images resize --group` sorts pictures of sizes that are given; here the sizes come from the pictures themselves: sorted
by aspect ratio, each few of them get their mean shape, at the size of the largest, so that none loses pixels to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from trainer.data.folders import Problem
from trainer.data.pictures import PictureError, open_picture, plain, resize
from trainer.durable import failed, write_aside
from trainer.errors import InputError
from trainer.folders.files import beside, copy, is_picture, not_ours, shown, walk
from trainer.folders.options import Group
from trainer.folders.report import Report
from trainer.images.geometry import GeometryError, fit
from trainer.images.saving import stored, suffix_for
from trainer.named import folder_of
from trainer.terminal import Stop, Tell, never, silent


@dataclass(frozen=True)
class _Shape:
    file: Path
    size: tuple[int, int]

    @property
    def aspect(self) -> float:
        return self.size[0] / self.size[1]


def run(options: Group, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Writes the pictures of `folder` in groups to `out`, as `group-1-image-1.png`, with captions and other files.

    All of them get their names at the end, so what was stopped leaves nothing. The report's `found` has `out` and
    `groups`: the size of each, and its pictures, (new, old). Raises InputError for names that are there already.
    """
    folder, out = folder_of("folder", options.folder), Path(options.out).expanduser().resolve()
    not_ours("out", out)
    if out == folder or (out.is_relative_to(folder) and options.subfolders):
        raise InputError(f"out: {plain(str(out), 1000)} is the input folder, or in it: choose another")
    problems: list[Problem] = []
    files = [file for file in walk(folder, problems, options.subfolders) if is_picture(file.name)]
    steps, done = 2 * len(files), 0
    shapes: list[_Shape] = []
    for file in files:
        if should_stop():
            return _stopped(problems, out)
        if image := _opened(file, folder, options.colour, problems):
            shapes.append(_Shape(file, image.size))
        tell(done := done + 1, steps)
    if not shapes:
        raise InputError(f"folder: no picture can be read in {plain(str(folder), 1000)}; choose another folder")
    shapes.sort(key=lambda shape: (shape.aspect, shape.file))
    groups = [shapes[start : start + options.group_size] for start in range(0, len(shapes), options.group_size)]
    told: list[dict[str, object]] = []
    with beside(out) as aside:
        for number, group in enumerate(groups, 1):
            size, made = size_of([shape.size for shape in group], options.pad), list[tuple[str, str]]()
            for place, shape in enumerate(group, 1):
                if should_stop():
                    return _stopped(problems, out)
                name = f"group-{number}-image-{place}"
                if new := _write(shape.file, aside / name, size, options, folder, problems):
                    made.append((new.name, shown(shape.file, folder)))
                tell(done := done + 1, steps)
            told.append({"size": size, "pictures": made})
        _settle(aside, out)
    count = sum(len(group["pictures"]) for group in told if isinstance(group["pictures"], list))
    lines = [f"group {number}: {group['size']}" for number, group in enumerate(told, 1)]
    said = f"{count} pictures in {len(told)} groups of at most {options.group_size}: {plain(str(out), 1000)}"
    return Report(said, problems, {"out": str(out), "groups": told}, lines)


def size_of(sizes: Sequence[tuple[int, int]], pad: bool = False) -> tuple[int, int]:
    """Width and height that a group gets: its mean aspect ratio, and as large as its largest, cut or padded to that."""
    aspect = sum(width / height for width, height in sizes) / len(sizes)
    heights = [(max if pad else min)(height, width / aspect) for width, height in sizes]
    return max(1, round(max(heights) * aspect)), max(1, round(max(heights)))


def _opened(file: Path, folder: Path, colour: str, problems: list[Problem]) -> Image.Image | None:
    try:
        return open_picture(file, colour).image
    except PictureError as error:
        problems.append(Problem(shown(file, folder), str(error).removeprefix(f"{plain(file.name)}: "), "left out"))
        return None


def _write(
    file: Path, target: Path, size: tuple[int, int], options: Group, folder: Path, problems: list[Problem]
) -> Path | None:
    """Writes one picture, with the files of its name; None when it cannot have this size."""
    image = _opened(file, folder, options.colour, problems)
    if image is None:
        return None
    try:
        placed = fit(image.size, size, "contain" if options.pad else "cover")
    except GeometryError as error:
        problems.append(Problem(shown(file, folder), str(error), "left out"))
        return None
    drawn = resize(image.crop(placed.crop).convert("RGB"), placed.size, "lanczos")
    if placed.canvas != placed.size:
        canvas = Image.new("RGB", placed.canvas, options.colour)
        canvas.paste(drawn, placed.at)
        drawn = canvas
    new = target.with_name(target.name + suffix_for(file.suffix, options.format))
    write_aside(new, stored(drawn, new.suffix, options.quality))
    others = [] if options.no_copy else [path for path in file.parent.iterdir() if _belongs(path, file)]
    for other in others:
        copy(other, target.with_name(target.name + other.suffix))
    caption = target.with_name(target.name + options.caption_extension)
    words = file.parent.name.partition("_")[2] if file.parent.name.split("_")[0].isdecimal() else file.parent.name
    if options.caption and not caption.exists():
        write_aside(caption, words.strip().encode("utf-8", "replace"))
    return new


def _belongs(path: Path, picture: Path) -> bool:
    """Whether a file goes along with a picture; cached latents do not fit its new size."""
    kinds = path.suffix.lower()
    return path.is_file() and not path.is_symlink() and path.stem == picture.stem and not (
        path == picture or is_picture(path.name) or kinds in (".npz", ".safetensors")
    )  # fmt: skip


def _settle(aside: Path, out: Path) -> None:
    names = sorted(os.listdir(aside))
    if there := [name for name in names if os.path.lexists(out / name)]:
        raise InputError(f"out: {plain(str(out), 1000)} holds {there[0]} already; choose an empty folder")
    for name in names:
        try:
            os.rename(aside / name, out / name)
        except OSError as error:
            raise failed(out / name, error) from error


def _stopped(problems: list[Problem], out: Path) -> Report:
    return Report("Stopped: nothing was written.", problems, {"out": str(out), "groups": []}, stopped=True)
