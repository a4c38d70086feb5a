"""A grid as one picture, with a label for each row and column. Works without torch."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trainer.compare.plan import Plan
from trainer.durable import write_aside

MOST_PIXELS = 32_000_000  # of the sheet; what would be larger is scaled down
PAPER, INK, EMPTY = "#ffffff", "#111111", "#dddddd"
GAP = 4
LABEL = 0.3
"""Width of the column of labels, in widths of a cell."""


def write_sheet(path: Path, plan: Plan, files: Mapping[str, Path]) -> list[str]:
    """Writes the sheet; files: the cells that are drawn, by key. Gives what there is to say about it.

    Cells of several sizes stand in boxes of the largest; a cell that is not there is grey.
    """
    sizes = []
    for key in {cell.key for cell in plan.cells if cell.key in files}:
        with Image.open(files[key]) as image:
            sizes.append(image.size)
    width, height = max(size[0] for size in sizes), max(size[1] for size in sizes)
    columns, rows, panels = (len(plan.labels[side]) for side in ("x", "y", "z"))
    scale = min(1.0, (MOST_PIXELS / ((columns + LABEL) * width * (rows + LABEL) * height * panels)) ** 0.5)
    box = max(1, int(width * scale)), max(1, int(height * scale))
    sheet = _paper(plan, box)
    for cell in plan.cells:
        at = _corner(plan, box, cell.x, cell.y, cell.z)
        if cell.key not in files:
            sheet.paste(EMPTY, (*at, at[0] + box[0], at[1] + box[1]))
            continue
        with Image.open(files[cell.key]) as image:
            size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
            shown = image.convert("RGB")
            shown = shown if size == image.size else shown.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(shown, (at[0] + (box[0] - size[0]) // 2, at[1] + (box[1] - size[1]) // 2))
    data = io.BytesIO()
    sheet.save(data, "PNG")
    write_aside(path, data.getvalue())
    return [] if scale == 1 else [f"sheet.png shows the cells at {scale:.0%} of their size."]


def _margins(plan: Plan, box: tuple[int, int]) -> tuple[int, int, int]:
    """Width of the labels of rows, height of those of columns, and of a panel's title; 0 where there are none."""
    size = _font_size(box)
    left = round(max(box[0] * LABEL, 6 * size)) if any(plan.labels["y"]) else 0
    return left, 4 * size if any(plan.labels["x"]) else 0, 2 * size if any(plan.labels["z"]) else 0


def _font_size(box: tuple[int, int]) -> int:
    return max(10, min(40, box[0] // 16))


def _panel(plan: Plan, box: tuple[int, int]) -> tuple[int, int]:
    """Width and height of one panel, its labels and title among them."""
    left, top, title = _margins(plan, box)
    columns, rows = len(plan.labels["x"]), len(plan.labels["y"])
    return left + columns * (box[0] + GAP) + GAP, title + top + rows * (box[1] + GAP) + GAP


def _corner(plan: Plan, box: tuple[int, int], x: int, y: int, z: int) -> tuple[int, int]:
    """Where a cell begins."""
    left, top, title = _margins(plan, box)
    return left + GAP + x * (box[0] + GAP), z * _panel(plan, box)[1] + title + top + GAP + y * (box[1] + GAP)


def _paper(plan: Plan, box: tuple[int, int]) -> Image.Image:
    """The sheet with its labels, without cells."""
    (wide, high), (left, top, title) = _panel(plan, box), _margins(plan, box)
    sheet = Image.new("RGB", (wide, high * len(plan.labels["z"])), PAPER)
    draw = ImageDraw.Draw(sheet)
    for z, panel in enumerate(plan.labels["z"]):
        _write(draw, (0, z * high, wide, z * high + title), panel, box)
        for x, label in enumerate(plan.labels["x"]):
            start = _corner(plan, box, x, 0, z)
            _write(draw, (start[0], start[1] - GAP - top, start[0] + box[0], start[1] - GAP), label, box)
        for y, label in enumerate(plan.labels["y"]):
            start = _corner(plan, box, 0, y, z)
            _write(draw, (0, start[1], left, start[1] + box[1]), label, box)
    return sheet


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int, int, int], text: str, box: tuple[int, int]) -> None:
    """A label in the middle of a place, broken into lines, and cut where it would not fit."""
    size = _font_size(box)
    font = ImageFont.load_default(size)
    letters = max(4, int((place[2] - place[0]) / (size * 0.55)))
    lines = max(1, int((place[3] - place[1]) / (size * 1.3)))
    shown = textwrap.wrap(text, letters, max_lines=lines, placeholder="…", break_long_words=True)
    middle = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
    draw.multiline_text(middle, "\n".join(shown), INK, font, anchor="mm", align="center")
