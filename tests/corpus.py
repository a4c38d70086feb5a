"""A made data set with planted faults: pictures drawn to resemble photos in what measures see, and captions.

Soft shading, shapes and texture at several scales, depth of field, highlights and sensor noise; among the clean ones
are such as mislead simple measures: white and black studio grounds, leaves, warm lamps, fog, a sharp face before blur.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = (1024, 1280)
Dice = np.random.Generator
SHOTS = {"close_up": 0.62, "half": 0.3, "full": 0.14}
"""Height of the head in parts of the picture's."""
GROUNDS = ("room", "street", "leaves", "white", "black", "fog")
OFTEN = (0.4, 0.3, 0.1, 0.08, 0.05, 0.07)


@cache
def grain() -> np.ndarray:
    """Noise of mean 0 and deviation 1 to cut pieces from, float32 [1600, 1600]."""
    return np.random.default_rng(5).standard_normal((1600, 1600), np.float32)


def rough(dice: Dice, size: tuple[int, int], cells: int) -> np.ndarray:
    """Smooth noise from -1 to 1 of about so many cells a side, float32 [h, w]."""
    small = dice.uniform(-1, 1, (cells * size[1] // size[0] + 2, cells + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def colour(dice: Dice, low: int = 40, high: int = 215) -> tuple[int, int, int]:
    """A colour that things have: seldom pure."""
    grey, tint = dice.uniform(low, high), dice.normal(0, 18, 3)
    red, green, blue = (grey + tint - tint.mean()).clip(0, 255).astype(int).tolist()
    return red, green, blue


def ground(dice: Dice, kind: str, size: tuple[int, int]) -> Image.Image:
    """What is behind a person."""
    width, height = size
    if kind in ("white", "black"):
        return Image.new("RGB", size, "#ffffff" if kind == "white" else "#010101")
    wall = dice.uniform(110, 200) + dice.normal(0, 8, 3)
    image = Image.new("RGB", size, tuple(wall.astype(int).tolist()))
    draw = ImageDraw.Draw(image)
    if kind == "leaves":
        for _ in range(700):
            x, y, r = dice.uniform(0, width), dice.uniform(0, height), dice.uniform(8, 46)
            shade = dice.uniform(0.25, 1)
            green = tuple(int(v * shade) for v in (90 + dice.uniform(-30, 40), 140, 60 + dice.uniform(-30, 20)))
            draw.ellipse((x, y, x + r, y + r * dice.uniform(0.4, 1.4)), green)
        draw.rectangle((0, 0, width, height * dice.uniform(0.05, 0.2)), (222, 228, 235))  # the sky
    else:
        for _ in range(26 if kind == "street" else 14):
            x, y = dice.uniform(-100, width), dice.uniform(-100, height)
            w, h = dice.uniform(30, 420, 2)
            draw.rectangle((x, y, x + w, y + h), colour(dice, 20, 235), colour(dice), int(dice.integers(0, 6)))
        for _ in range(18):
            x, y, r = dice.uniform(0, width), dice.uniform(0, height), dice.uniform(6, 90)
            draw.ellipse((x, y, x + r, y + r), colour(dice, 20, 240))
        for _ in range(4):  # paper, windows, metal
            x, y = dice.uniform(0, width, 2)
            grey = int(dice.uniform(190, 245))
            draw.rectangle((x, y, x + dice.uniform(40, 300), y + dice.uniform(40, 300)), (grey, grey, grey - 4))
        for _ in range(10):
            draw.line(dice.uniform(0, width, 4).tolist(), colour(dice, 10, 240), int(dice.integers(2, 12)))
    if dice.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(dice.uniform(1, 7)))  # out of focus
    shade = 1 + rough(dice, size, 5) * 0.14 + rough(dice, size, 40) * 0.06
    return Image.fromarray((np.asarray(image, np.float32) * shade[:, :, None]).clip(0, 255).astype(np.uint8))


def person(dice: Dice, image: Image.Image, shot: str, eyes: bool = True) -> None:
    """Someone in the picture, in focus."""
    width, height = image.size
    draw = ImageDraw.Draw(image)
    head = SHOTS[shot] * height * dice.uniform(0.9, 1.1)
    x, top = width * dice.uniform(0.38, 0.62), height * dice.uniform(0.05, 0.12)
    wide, y = head * 0.72, top + head / 2
    skin = np.array([224, 178, 148]) * dice.uniform(0.55, 1.05)
    tone = tuple(int(v) for v in skin.clip(0, 255))
    cloth, hair = colour(dice, 30, 220), colour(dice, 15, 110)
    draw.polygon(
        [
            *((x - head * 0.35, top + head), (x + head * 0.35, top + head), (x + head * 1.05, top + head * 2.4)),
            *((x + head * 0.9, height + 9), (x - head * 0.9, height + 9), (x - head * 1.05, top + head * 2.4)),
        ],
        cloth,
    )
    for _ in range(14):  # folds and a pattern
        a, b = x + head * dice.uniform(-0.9, 0.9), top + head * dice.uniform(1.1, 2.6)
        draw.line((a, b, a + head * dice.uniform(-0.3, 0.3), b + head * 0.6), colour(dice, 10, 230), 1 + int(head / 90))
    draw.rectangle((x - head * 0.17, y, x + head * 0.17, top + head * 1.12), tone)
    draw.ellipse((x - wide * 0.62, top - head * 0.07, x + wide * 0.62, y + head * 0.35), hair)
    draw.ellipse((x - wide / 2, top, x + wide / 2, top + head), tone)
    draw.pieslice((x - wide * 0.55, top - head * 0.06, x + wide * 0.55, top + head * 0.5), 180, 360, hair)
    thin = 1 + int(head / 220)
    for _ in range(40):  # strands
        a = x + wide * dice.uniform(-0.55, 0.55)
        draw.line((a, top, a + wide * dice.uniform(-0.1, 0.1), top + head * 0.22), colour(dice, 5, 150), thin)
    for side in (-1, 1):
        ex, ey, r = x + side * wide * 0.21, top + head * 0.47, head * 0.045
        draw.line((ex - 1.8 * r, ey - 2 * r, ex + 1.8 * r, ey - 2.2 * r), hair, 2 * thin)
        if eyes:
            draw.ellipse((ex - 1.6 * r, ey - 0.8 * r, ex + 1.6 * r, ey + 0.8 * r), (240, 238, 235))
            draw.ellipse((ex - 0.8 * r, ey - 0.8 * r, ex + 0.8 * r, ey + 0.8 * r), (40, 30, 25))
        draw.line((ex - 1.6 * r, ey, ex + 1.6 * r, ey - 0.3 * r), hair, thin)
    draw.line((x, top + head * 0.5, x - wide * 0.05, top + head * 0.66), tuple(int(v * 0.7) for v in tone), thin)
    draw.ellipse((x - wide * 0.15, top + head * 0.76, x + wide * 0.15, top + head * 0.82), (165, 70, 70))


def photo(dice: Dice, shot: str = "close_up", kind: str | None = None, back: Image.Image | None = None) -> Image.Image:
    """A clean photo. back: another photo's ground, for one of the same session in the same light."""
    kind = kind or str(dice.choice(GROUNDS, p=OFTEN))
    image = ground(dice, kind, SIZE) if back is None else back.copy()
    studio = kind in ("white", "black") and back is None
    person(dice, image, shot)
    values = np.asarray(image, np.float32)
    mask = np.float32(1)
    if studio:  # the ground stays plain
        mask = (np.abs(values - values[0, 0]).max(2, keepdims=True) > 6).astype(np.float32)
    texture = rough(dice, SIZE, 8) * 0.05 + rough(dice, SIZE, 60) * 0.04 + rough(dice, SIZE, 300) * 0.05
    values = values * (1 + texture[:, :, None] * mask)
    if kind == "fog":
        values = values * 0.45 + 95
    lamp = np.array([1, dice.uniform(0.9, 1), dice.uniform(0.78, 1)], np.float32)  # lamps left warm
    level = np.percentile(values[::8, ::8], 90) if not studio else 200
    exposure = dice.uniform(130, 215) / max(level, 60)
    if back is not None:
        lamp, exposure = np.ones(3, np.float32), dice.uniform(0.94, 1.06)
    values = values * (lamp * exposure * mask + (1 - mask)) if studio else values * lamp * exposure
    left, down = dice.integers(0, 300, 2)
    noise = grain()[down : down + SIZE[1], left : left + SIZE[0], None] * dice.uniform(1, 5)
    return Image.fromarray((values + noise * mask).clip(0, 255).astype(np.uint8))


def shrunk(dice: Dice, image: Image.Image) -> Image.Image:
    """Too small for 512x512."""
    width = int(dice.integers(220, 400))
    return image.resize((width, width * image.height // image.width), Image.Resampling.LANCZOS)


def smallish(dice: Dice, image: Image.Image) -> Image.Image:
    """Large enough, but no original."""
    width = int(dice.integers(560, 900))
    return image.resize((width, width * image.height // image.width), Image.Resampling.LANCZOS)


def blurred(dice: Dice, image: Image.Image) -> Image.Image:
    """Out of focus, or moved."""
    scale = max(image.size) / 768
    if dice.random() < 0.6:
        return image.filter(ImageFilter.GaussianBlur(dice.uniform(2.2, 6) * scale))
    length, angle = dice.uniform(14, 30) * scale, dice.uniform(0, math.pi)
    values, steps = np.asarray(image, np.float32), 24
    shifts = [
        (int(math.sin(angle) * length * s / steps), int(math.cos(angle) * length * s / steps)) for s in range(steps)
    ]
    return Image.fromarray(np.mean([np.roll(values, shift, (0, 1)) for shift in shifts], 0).astype(np.uint8))


def noisy(dice: Dice, image: Image.Image) -> Image.Image:
    """Grain of a high sensitivity, fine or coarse."""
    coarse = int(dice.integers(1, 4))
    width, height = image.size
    fine = dice.standard_normal((height // coarse + 1, width // coarse + 1, 3), np.float32) * dice.uniform(44, 64)
    fine = fine.repeat(coarse, 0).repeat(coarse, 1)[:height, :width]
    return Image.fromarray((np.asarray(image, np.float32) + fine).clip(0, 255).astype(np.uint8))


def blown_out(dice: Dice, image: Image.Image) -> Image.Image:
    """Exposed too long: a quarter of it and more is white."""
    values = np.asarray(image, np.float32)
    gain = 255 / np.percentile(values.mean(2)[::4, ::4], dice.uniform(30, 60))
    return Image.fromarray((values * gain).clip(0, 255).astype(np.uint8))


def dark(dice: Dice, image: Image.Image) -> Image.Image:
    """Exposed far too short."""
    values = np.asarray(image, np.float32)
    gain = dice.uniform(12, 42) / np.percentile(values.mean(2)[::4, ::4], 90)
    return Image.fromarray((values * gain).clip(0, 255).astype(np.uint8))


def coloured(dice: Dice, image: Image.Image) -> Image.Image:
    """In the light of a coloured lamp."""
    lamps = [(1, 0.62, 0.4), (0.5, 0.62, 1), (1, 0.45, 0.75), (0.45, 1, 0.55), (0.75, 0.4, 1), (1, 0.42, 0.4)]
    lamp = np.array(lamps[int(dice.integers(len(lamps)))], np.float32) * dice.uniform(0.92, 1.05, 3).astype(np.float32)
    return Image.fromarray((np.asarray(image, np.float32) * lamp).clip(0, 255).astype(np.uint8))


def copied(dice: Dice, image: Image.Image) -> Image.Image:
    """The same picture again: smaller, compressed, lighter, cut a little, or mirrored."""
    way = int(dice.integers(5))
    width, height = image.size
    if way == 0:
        return image.resize((1010, 1010 * height // width), Image.Resampling.LANCZOS)
    if way == 1:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=35)
        return Image.open(file).convert("RGB")
    if way == 2:
        return image.point([min(255, int(value * 1.08 + 4)) for value in range(256)] * 3)
    if way == 3:
        left, top = (int(dice.uniform(0, 0.03) * side) for side in (width, height))
        return image.crop((left, top, left + width - width // 60, top + height - height // 60))
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


FAULTS: dict[str, Callable[[Dice, Image.Image], Image.Image]] = {
    **{"too_small": shrunk, "small": smallish, "blurred": blurred, "noisy": noisy},
    **{"blown_out": blown_out, "dark": dark, "cast": coloured},
}
"""What is done to a clean picture."""
TAGS: dict[str, tuple[str, ...]] = {
    "watermark": ("watermark", "signature", "twitter username", "english text", "logo"),
    "other_people": ("2girls", "multiple girls", "couple", "crowd"),
    "face_missing": ("from behind", "head out of frame", "facing away"),
    "eyes": ("closed eyes", "one eye closed", "hair over eyes"),
}
"""What is put into a clean picture's caption."""


@dataclass
class Planted:
    """A data set, and which pictures have which fault."""

    folder: Path
    faults: dict[str, set[str]] = field(default_factory=dict)

    def add(self, kind: str, *names: str) -> None:
        """Notes faults."""
        self.faults.setdefault(kind, set()).update(names)


def caption(dice: Dice, shot: str) -> list[str]:
    """Tags of a clean picture."""
    words = {"close_up": "portrait", "half": "upper body", "full": "full body"}
    looks = ("smile", "closed mouth", "looking at viewer", "earrings", "necklace", "long sleeves", "wind", "sitting")
    places = ("indoors", "outdoors", "street", "garden", "kitchen", "window")
    return ["zk9", "1girl", "solo", words[shot], *dice.choice(looks, 3, replace=False), str(dice.choice(places))]


def draw_set(folder: Path, seed: int, clean: int = 40, each: int = 3) -> Planted:
    """A data set `24_zk9 woman` with clean pictures and `each` of every fault, captions beside them."""
    dice, planted, number = np.random.default_rng(seed), Planted(folder), 0
    place = folder / "24_zk9 woman"
    place.mkdir(parents=True)
    exif_days = iter(np.random.default_rng(seed + 1).permutation(300).tolist())

    def shot() -> str:
        """In the shares that the rules ask for."""
        return ("close_up", "half", "close_up", "full", "close_up")[number % 5]

    def put(image: Image.Image, framed: str, day: float | None = None, tags: Sequence[str] = ()) -> str:
        nonlocal number
        number += 1
        path = place / f"{number:04}.jpg"
        exif = Image.Exif()
        if day is not None:
            when = np.datetime64("2026-01-01T10:00:00") + np.timedelta64(int(day * 86400), "s")
            exif[0x010F], exif[0x0110] = "Likeness", "Made 1"
            exif[0x8769] = {0x9003: str(when).replace("-", ":").replace("T", " ")}
        image.save(path, quality=int(dice.integers(88, 97)), exif=exif)
        path.with_suffix(".txt").write_text(", ".join(tags or caption(dice, framed)))
        return path.relative_to(folder).as_posix()

    good: list[tuple[str, Image.Image, str]] = []
    for _ in range(clean):
        framed = shot()
        image = photo(dice, framed)
        name = put(image, framed, next(exif_days) if dice.random() < 0.4 else None)
        good.append((name, image if len(good) < each else Image.new("RGB", (1, 1)), framed))
    for kind, spoil in FAULTS.items():
        for _ in range(each):
            framed = shot()
            planted.add(kind, put(spoil(dice, photo(dice, framed, str(dice.choice(("room", "street"))))), framed))
    for name, image, framed in good[:each]:
        planted.add("duplicates", name, put(copied(dice, image), framed))
    day = next(exif_days)
    for hour in range(4):
        planted.add("session", put(photo(dice), "close_up", day + hour / 24 / 4))
    back = ground(dice, "room", SIZE)
    for _ in range(4):
        planted.add("session", put(photo(dice, "half", "room", back), "half"))
    plant_words(dice, planted, [name for name, _, _ in good[each:]])
    return planted


def plant_words(dice: Dice, planted: Planted, names: Sequence[str]) -> None:
    """Faults of captions, each in the caption of another clean picture; tags of two kinds go together by chance."""
    free = iter(dice.permutation(list(names)).tolist())

    def change(kind: str, edit: Callable[[list[str]], list[str] | None]) -> None:
        name = next(free)
        file = (planted.folder / name).with_suffix(".txt")
        tags = edit(file.read_text().split(", "))
        planted.add(kind, name)
        if tags is None:
            file.unlink()
        else:
            file.write_text(", ".join(tags))

    strange = ("solo", "1girl", "looking at viewer")  # they would contradict some of these
    for kind, tags in TAGS.items():
        for tag in dice.permutation(tags)[:2].tolist():
            change(kind, lambda had, tag=tag: [*(word for word in had if word not in strange), tag])
    for _ in range(2):
        change("no_caption", lambda had: None)
        change("empty_caption", lambda had: [])
        change("long_caption", lambda had: [*had, *(f"thing number {place} of a list" for place in range(20))])
        change("trigger", lambda had: had[1:])
    for pair in (("blue eyes", "brown eyes"), ("long hair", "short hair"), ("indoors", "outdoors"), ("day", "night")):
        change("contradiction", lambda had, pair=pair: [*(w for w in had if w not in ("indoors", "outdoors")), *pair])


def compared(planted: Planted, found: dict[str, set[str]]) -> dict[str, tuple[int, int, int]]:
    """Of each kind: faults planted, those of them that were found, and what was found that nobody planted."""
    table: dict[str, tuple[int, int, int]] = {}
    for kind in sorted(planted.faults.keys() | found.keys()):
        real, said = planted.faults.get(kind, set()), found.get(kind, set())
        table[kind] = (len(real), len(real & said), len(said - real))
    return table
