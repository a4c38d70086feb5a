"""Hand work on pictures in the page: what a crop cuts, and the masks that tell a subject from its background.

What is shown is worked out by the tools themselves, so that a batch makes of it exactly what was seen.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trainer import own
from trainer.data.folders import SMALLEST_SIDE
from trainer.data.pictures import FORMATS, MOST_PIXELS, open_picture, plain, read_picture
from trainer.durable import make_folder, write_json
from trainer.errors import InputError
from trainer.folders.files import is_picture
from trainer.images.background import fitted, open_mask
from trainer.images.batch import MASKS, out_of
from trainer.images.focus import DRAWN, automatic, box_of, by_hand, finder_of, read_boxes
from trainer.images.geometry import Box
from trainer.images.options import Background, Crop
from trainer.images.saving import stored
from trainer.snapshots import begin
from trainer.tree import validate
from webui.browse import Outside, inside
from webui.files import SAFE
from webui.routing import Tree, route, text
from webui.runs import Missing
from webui.settings import Settings

LARGEST_SIDE = 4096
"""Pixels of what is sent to be painted on: browsers hold no much larger canvas."""

_writing = threading.Lock()
"""Boxes of a folder lie in one file, and several may be drawn at once."""


def routes(settings: Settings) -> list[Route]:
    """Crops (`/api/crop/...`), masks (`/api/mask...`), and the pictures to see both on, larger than `/api/picture`."""
    hand = _Handwork(settings)
    return [
        route("/api/crop/boxes", GET=hand.boxes, POST=hand.draw),
        route("/api/crop/proposal", GET=hand.proposal),
        route("/api/crop/cut", GET=hand.cut),
        route("/api/mask", GET=hand.mask, POST=hand.paint),
        route("/api/mask/list", GET=hand.masked),
        route("/api/picture/large", GET=hand.large),
    ]


class _Handwork:
    """The work of each route; `folder` and `name` say which picture, `name` from the folder on, with `/`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def boxes(self, request: Request, body: Tree) -> Tree:
        """?folder= -> {"boxes": {name: box}, "file": what keeps them, "pictures": all names}."""
        folder = self._folder(request.query_params)
        return {"boxes": _boxes(folder), "file": str(folder / DRAWN), "pictures": pictures_of(folder)}

    def draw(self, request: Request, body: Tree) -> Tree:
        """{"folder", "name", "box": in parts of 1 or null, "sizes"}: keeps it; -> what a batch would cut now."""
        folder, name, file = self._picture(body)
        box = None if body.get("box") is None else box_of(name, body["box"])
        options = self._options(folder, body)
        told = self._frame(file, options, box) if box else {}  # one that cannot be cut is not kept
        with _writing:
            boxes = {other: list(value) for other, value in _boxes(folder).items() if other != name}
            place = own.place(folder, DRAWN)
            make_folder(place.parent)
            write_json(place, boxes | ({name: list(box)} if box else {}))
        return told or self._frame(file, options, None)

    def proposal(self, request: Request, body: Tree) -> Tree:
        """?folder=&name=&sizes=&focus=&detector=&background= -> what a batch would cut if no box were drawn."""
        folder, _, file = self._picture(request.query_params)
        return self._frame(file, self._options(folder, request.query_params), None)

    def cut(self, request: Request, body: Tree) -> Tree:
        """The same, by the box that is drawn if there is one."""
        folder, name, file = self._picture(request.query_params)
        return self._frame(file, self._options(folder, request.query_params), _boxes(folder).get(name))

    def mask(self, request: Request, body: Tree) -> Response:
        """?folder=&name=&masks= -> the mask as PNG of the picture's shape, at most 4096 pixels a side; 404 without."""
        picture, file, _ = self._mask(request.query_params)
        if not file.is_file():
            raise Missing(f"{plain(picture.name)} has no mask yet")
        found = open_mask(file, _size(picture))
        found.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        return Response(
            stored(found, ".png", 100), media_type="image/png", headers=SAFE | {"Cache-Control": "no-store"}
        )

    def paint(self, request: Request, body: Tree) -> Tree:
        """{"folder", "name", "masks", "png": base64}: keeps it at the picture's size, the old one in a snapshot."""
        picture, file, masks = self._mask(body)
        content = stored(fitted(_grey(text(body, "png")), _size(picture), file.name), ".png", 100)
        made = begin(masks.parent, "masks by hand")
        made.write(file, content)
        return {"file": str(file), "snapshot": made.id}

    def masked(self, request: Request, body: Tree) -> Tree:
        """?folder=&masks= -> {"pictures": all names, "masked": those with a mask}."""
        folder = self._folder(request.query_params)
        places = self._mask_places(folder, request.query_params)
        pictures = pictures_of(folder)
        names = [name for name in pictures if any(_mask_at(place, name).is_file() for place in places)]
        return {"pictures": pictures, "masked": names}

    def large(self, request: Request, body: Tree) -> Response:
        """?folder=&name= -> the picture upright, as JPEG, at most 4096 pixels a side."""
        image = open_picture(self._picture(request.query_params)[2], "#ffffff").image
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        headers = SAFE | {"Cache-Control": "private, max-age=60"}
        return Response(stored(image, ".jpg", 92), media_type="image/jpeg", headers=headers)

    def _folder(self, tree: Mapping[str, Any]) -> Path:
        folder = inside(str(tree.get("folder") or ""), self.settings.roots, "folder")
        if not folder.is_dir():
            raise InputError(f"folder: {plain(str(folder), 1000)} is no folder: choose the one with the pictures")
        return folder

    def _picture(self, tree: Mapping[str, Any]) -> tuple[Path, str, Path]:
        """(folder, name, file) of a request; Outside when the name leaves the folder."""
        folder, name = self._folder(tree), str(tree.get("name") or "")
        file = inside(str(folder / name), self.settings.roots, "name")
        if PurePosixPath(name).as_posix() != name or ".." in name.split("/") or not file.is_relative_to(folder):
            raise Outside(f"name: {plain(name)} leaves the folder: choose a picture that lies in it")
        if not is_picture(name) or not file.is_file():
            raise Missing(f"{plain(name)}: no such picture; it may have been moved")
        return folder, name, file

    def _mask(self, tree: Mapping[str, Any]) -> tuple[Path, Path, Path]:
        """(picture, mask, masks): where the mask lies, or will lie, and the folder of all masks."""
        folder, name, picture = self._picture(tree)
        places = self._mask_places(folder, tree)
        masks = next((place for place in places if _mask_at(place, name).is_file()), places[0])
        mask = _mask_at(masks, name)
        if inside(str(mask), self.settings.roots, "masks") != mask:
            raise Outside(f"masks: {plain(str(mask), 1000)} is behind a link: put the masks themselves there")
        return picture, mask, masks

    def _mask_places(self, folder: Path, tree: Mapping[str, Any]) -> list[Path]:
        """Where masks may lie: in the folder given, else in `masks` inside, else in what the tool made of the folder.

        The order is the one in which `images background` takes them; a new mask goes to the first.
        """
        if not (given := str(tree.get("masks") or "")):
            return [folder / MASKS, out_of(Background(folder=str(folder)), "background") / MASKS]
        place = inside(given, self.settings.roots, "masks")
        if place.name != MASKS:  # masks in a folder of pictures would take their names
            raise InputError(f"masks: {plain(given, 1000)} is not called {MASKS}: choose a folder of that name")
        return [place]

    def _options(self, folder: Path, tree: Mapping[str, Any]) -> Crop:
        """The options of a crop; InputError says what is wrong."""
        told: Tree = {name: tree[name] for name in ("focus", "detector", "background") if tree.get(name)}
        if "detector" in told:
            told["detector"] = str(inside(str(told["detector"]), self.settings.roots, "detector"))
        if sizes := str(tree.get("sizes") or "").replace(",", " ").split():
            told["sizes"] = sizes
        return validate(Crop, told | {"folder": str(folder)})

    def _frame(self, file: Path, options: Crop, box: Box | None) -> Tree:
        """What is cut by a box in parts of 1, or without one, for the page. cut: in pixels of the upright picture."""
        image = open_picture(file, options.background).image
        width, height = image.size
        if box:
            in_pixels = Box(box.left * width, box.top * height, box.right * width, box.bottom * height)
            frame = by_hand(image.size, in_pixels, options)
        else:
            frame = automatic(image, finder_of(options), options)
        sides = frame.crop[2] - frame.crop[0], frame.crop[3] - frame.crop[1]
        if min(sides) < SMALLEST_SIDE:
            raise InputError(f"box: {sides[0]} x {sides[1]} pixels are too few: draw at least {SMALLEST_SIDE} a side")
        parts = [place / (width, height)[index % 2] for index, place in enumerate(frame.crop)]
        told = {"box": parts, "cut": frame.crop, "size": frame.size, "picture": image.size}
        return told | {"how": frame.how, "drawn": box is not None}


def pictures_of(folder: Path) -> list[str]:
    """The pictures that the tools would read, by their paths from the folder on, with `/`, sorted as they are read."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if name[0] != "." and (here, name) != (folder, MASKS))
        for file in (here / name for name in sorted(files) if name[0] != "." and is_picture(name)):
            if file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(folder)):
                found.append(file.relative_to(folder).as_posix())
    return found


def _boxes(folder: Path) -> dict[str, Box]:
    place = own.place(folder, DRAWN)
    return read_boxes(str(place)) if place.is_file() else {}


def _mask_at(masks: Path, name: str) -> Path:
    return (masks / name).with_suffix(".png")


def _size(picture: Path) -> tuple[int, int]:
    """Width and height of a picture as it is seen, by its head where that can be read: decoding takes long."""
    with contextlib.suppress(Exception), Image.open(picture, formats=FORMATS) as image:  # decoding finds the words
        # Pillow has turned a TIFF already, and its own getexif of a PNG would decode it.
        turned = image.format != "TIFF" and Image.Image.getexif(image).get(0x0112) in (5, 6, 7, 8)
        if image.width * image.height <= MOST_PIXELS:
            return image.size[::-1] if turned else image.size
    return open_picture(picture, "#000000").image.size


def _grey(told: str) -> Image.Image:
    """The picture in a PNG file in base64; InputError when there is none."""
    try:
        data = b64decode(told, validate=True)
    except ValueError:
        raise InputError("png: is no base64: send the mask as a PNG file in base64") from None
    return read_picture(io.BytesIO(data), "#000000").image.convert("L")
