""" "Use this one": a LoRA under its final name, with preview, trigger and strength, where programs look for it."""

from __future__ import annotations

import filecmp
import io
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trainer.data.pictures import FORMATS, plain
from trainer.durable import DiskError, failed, make_folder, megabytes, need_space, stamp, write_aside
from trainer.errors import InputError
from trainer.families.header import Header, ModelError, kind_of, read_header
from trainer.terminal import Stop, Stopped, Tell, never, silent
from trainer.tools.report import Report, Steps
from trainer.verdict.programs import PROGRAMS, holds_lora, import_folder, lora_folder
from trainer.verdict.use_options import Use, fits

WIDTHS = {768: "SD1", 1024: "SD2", 2048: "SDXL"}
"""How A1111 calls a model, by the width of what its U-Net is told by the text."""
VERSIONS = {"sdxl": "SDXL", "sd_v2": "SD2", "sd_v1": "SD1"}
"""The same by the beginning of `ss_base_model_version`."""
SAVED = re.compile(r"-(step)?\d{6,}$")  # of a file that was saved before the end
HOME = "chosen"
CHUNK = "parameters"


class Place(NamedTuple):
    """A folder that gets the LoRA. sides: whether the program there reads a preview and a side file."""

    title: str
    folder: Path
    sides: bool = True


class Written(NamedTuple):
    """What became of a file: written, already there, or kept as it was."""

    title: str
    path: Path
    state: str


def run(options: Use, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Copies the LoRA, its preview and its side file to every folder; a second time finds them there.

    InputError for a file that is no LoRA, and for folders where no program keeps LoRAs, before anything is written;
    DiskError when there is no room, or the disk fails.
    """
    source, header = _lora(options.file)
    name = options.name or _own_name(source, header)
    places, lines = _places(options, source)
    sides = {".json": side_file(options, source, header)}
    if options.preview:
        sides[".png"] = preview(Path(options.preview).expanduser())
    steps, written = Steps(len(places), tell, should_stop), list[Written]()
    names, folder = dict[str, str](), source.parent
    try:
        for place in places:
            folder = place.folder
            make_folder(folder)
            endings = sides if place.sides else {}
            names[place.title] = name if options.overwrite else _free(folder, name, source, endings)
            written += _put(place, names[place.title], source, endings, options.overwrite)
            steps.step()
    except OSError as error:  # something that is there cannot be read
        raise failed(folder, error) from error
    except Stopped:
        return _report(options, name, names, written, lines, stopped=len(names) < len(places))
    return _report(options, name, names, written, lines)


def side_file(options: Use, source: Path, header: Header) -> bytes:
    """What A1111 and Forge read beside a LoRA, `<name>.json`, in the form in which they write it."""
    told = header.metadata
    chosen = f"{source.stem} at strength {options.strength:g}"
    side = {
        "description": options.description or told.get("modelspec.description", ""),
        "sd version": _version(header),
        "activation text": options.trigger or "",
        "preferred weight": options.strength,
        "negative text": options.negative or "",
        "notes": f"{options.notes}\n{chosen}" if options.notes else chosen,
    }
    return json.dumps(side, indent=4, ensure_ascii=False).encode("utf-8", "replace")


def preview(path: Path) -> bytes:
    """A picture as a PNG file: one that is a PNG stays to the byte, so that it still says how it was made.

    InputError for what is no picture.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            if image.format == "PNG":
                return path.read_bytes()
            told, file = PngInfo(), io.BytesIO()
            if isinstance(text := image.info.get(CHUNK), str):
                told.add_text(CHUNK, text)
            image.convert("RGB").save(file, "PNG", pnginfo=told)
            return file.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = plain(str(error))
        raise InputError(f"preview: {path} cannot be read as a picture ({why}); choose another") from error


def _lora(text: str) -> tuple[Path, Header]:
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise InputError(f"file: {text} is no file here; choose one of the run's LoRAs")
    if kind_of(path) != "safetensors":
        raise ModelError(path, "is a pickle", "Programs may refuse it; `lora convert` makes a .safetensors file of it.")
    header = read_header(path)
    if not holds_lora(header):
        first = next(iter(header.tensors), "nothing")
        raise ModelError(path, f"is no LoRA, it holds {first[:80]!r}", "Choose one of the run's LoRAs.")
    return path, header


def _own_name(source: Path, header: Header) -> str:
    """The run's output name, else the file's without its number."""
    told = header.metadata.get("ss_output_name", "")
    return told if fits(told) and told != "None" else SAVED.sub("", source.stem)


def _version(header: Header) -> str:
    for name, tensor in header.tensors.items():
        if "attn2_to_k" in name and ("lora_down" in name or "lora_A" in name) and tensor.shape[1] in WIDTHS:
            return WIDTHS[tensor.shape[1]]
    told = header.metadata.get("ss_base_model_version", "")
    return next((version for start, version in VERSIONS.items() if told.startswith(start)), "Unknown")


def _places(options: Use, source: Path) -> tuple[list[Place], list[str]]:
    """The folders, and what a person must do by hand."""
    given = {option: text for option in PROGRAMS if (text := getattr(options, option))}
    places = [Place(PROGRAMS[option].title, lora_folder(option, text)) for option, text in given.items()]
    imports = import_folder(options.invokeai) if options.invokeai else None
    if imports:
        places.append(Place("InvokeAI", imports, sides=False))
    by_hand = bool(options.invokeai) and not imports
    if options.save_to:
        places.append(Place("Folder", Path(options.save_to).expanduser().resolve()))
    elif by_hand or not places:
        home = source.parent.parent if source.parent.name == "checkpoints" else source.parent
        places.append(Place("Folder", home / HOME if home.name != HOME else home))
    if not by_hand:
        return places, []
    told = "InvokeAI takes LoRAs through its own Model Manager: choose Add Models there, and give it the file in"
    return places, [f"{told} {places[-1].folder}"]


def _free(folder: Path, name: str, source: Path, sides: Mapping[str, bytes]) -> str:
    """The name, or with the first number that no other LoRA or side file has; this very LoRA may be there."""
    for number in count(1):
        stem = name if number == 1 else f"{name}-{number}"
        lora = folder / f"{stem}.safetensors"
        if _same(lora, source):
            return stem
        if not lora.exists() and not any((folder / f"{stem}{ending}").exists() for ending in sides):
            return stem
    raise AssertionError("numbers do not end")


def _put(place: Place, name: str, source: Path, sides: Mapping[str, bytes], overwrite: bool) -> Iterator[Written]:
    """Writes the LoRA first, so that a cut off run is known by it and goes on."""
    for ending in (".safetensors", *sides):
        path, data = place.folder / f"{name}{ending}", sides.get(ending)
        if _same(path, source) if data is None else path.is_file() and path.read_bytes() == data:
            yield Written(place.title, path, "already there")
        elif path.exists() and not overwrite:
            yield Written(place.title, path, "kept as it is; overwrite writes it anew")
        else:
            state, size = "written", source.stat().st_size if data is None else len(data)
            need_space(place.folder, size + (path.stat().st_size if path.exists() else 0))
            if path.exists():
                copy = path.with_name(f"{path.name}.{stamp(time.time_ns())}.bak")  # no ending that a program lists
                write_aside(copy, partial(_stream, path))
                state = f"written; the one before is {copy.name}"
            if data is None:
                write_aside(path, partial(_stream, source), partial(_check, source))
            else:
                write_aside(path, data)
            yield Written(place.title, path, state)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and (one.samefile(other) or filecmp.cmp(one, other, shallow=False))


def _stream(source: Path, file: BinaryIO) -> None:
    with source.open("rb") as read:
        shutil.copyfileobj(read, file, 1 << 20)


def _check(source: Path, copy: Path) -> None:
    if not filecmp.cmp(source, copy, shallow=False):
        raise DiskError(f"{copy}: reads back other than {source}; check the disk, and copy it again")


def _report(
    options: Use,
    name: str,
    names: Mapping[str, str],
    written: Sequence[Written],
    by_hand: Sequence[str],
    stopped: bool = False,
) -> Report:
    """What was written where. names: what it is called in each place that was done."""
    lines = [f"{one.title}: {one.path}: {one.state}" for one in written]
    for title, other in names.items():
        if other != name:
            lines.append(f"{title}: called {other}, since another file there has its name; overwrite takes the place")
    if not options.trigger:
        lines.append("No trigger was given, so A1111 puts none into the prompt")
    first = next(iter(names.values()), name)
    prompt = " ".join(filter(None, (f"<lora:{first}:{options.strength:g}>", options.trigger)))
    new = [one.path for one in written if one.state.startswith("written")]
    size = megabytes(sum(path.stat().st_size for path in new))
    what = f"{len(new)} file{'s' * (len(new) > 1)} written, {size}" if new else "all of it was there already"
    said = f"{first} is ready in {', '.join(names)}: {what}. In a prompt: {prompt}" if names else "Nothing was written."
    placed = [{"program": one.title, "file": str(one.path), "state": one.state} for one in written]
    found = {"placed": placed, "names": dict(names), "prompt": prompt}
    said = f"Stopped. {said}" if stopped else said
    return Report(said, [str(path) for path in new], [*lines, *by_hand], found, stopped)
