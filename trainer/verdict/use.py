""" "Use this one": a LoRA, an embedding or a model under its final name, with preview and side file, where programs
look for it; a LoRA's new words go along."""

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

from trainer.compare.shelf import ENDINGS, words_beside
from trainer.data.pictures import FORMATS, plain
from trainer.durable import DiskError, failed, make_folder, megabytes, need_space, stamp, write_aside
from trainer.errors import InputError
from trainer.families.header import Header, ModelError, kind_of, read_header
from trainer.terminal import Stop, Stopped, Tell, never, silent
from trainer.tools.report import Report, Steps
from trainer.verdict.candidates import CHOSEN, INDEX, SAVED, what_of
from trainer.verdict.programs import PROGRAMS, Program, folder_for, holds_lora
from trainer.verdict.scores import What
from trainer.verdict.use_options import Use, fits

WIDTHS = {768: "SD1", 1024: "SD2", 2048: "SDXL"}
"""How A1111 calls a model, by the width of what its U-Net is told by the text."""
VERSIONS = {"sdxl": "SDXL", "sd_v2": "SD2", "sd_v1": "SD1"}
"""The same by the beginning of `ss_base_model_version`."""
WORDS = "embeddings"  # in a folder of one's own: a word is often called as its LoRA is
FOLDER = Program("Folder", {})
CHUNK = "parameters"


class Place(NamedTuple):
    """A program and its folders, by what they are for."""

    program: Program
    folders: Mapping[What, Path]


class Chosen(NamedTuple):
    """The file, its default or given name, and its new words that lie beside it."""

    source: Path
    header: Header
    what: What
    name: str
    words: Mapping[str, Path]


class Done(NamedTuple):
    """What a place has: what the file is called there, and its words, and what is written in a prompt."""

    title: str
    name: str
    words: Mapping[str, str]
    prompt: str


class Written(NamedTuple):
    """What became of a file: written, already there, or kept as it was."""

    title: str
    path: Path
    state: str


def run(options: Use, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Copies the file, its preview and its side file to every folder; a second time finds them there.

    InputError for a file that holds nothing of the kind, and for folders where no program keeps such files, before
    anything is written; DiskError when there is no room, or the disk fails.
    """
    chosen = _chosen(options)
    picture = preview(Path(options.preview).expanduser()) if options.preview else None
    places, by_hand = _places(options, chosen)
    steps, done, written = Steps(len(places), tell, should_stop), list[Done](), list[Written]()
    folder = chosen.source.parent
    try:
        for place in places:
            folder = place.folders[chosen.what]
            done.append(_fill(place, options, chosen, picture, written))
            steps.step()
    except OSError as error:  # something that is there cannot be read
        raise failed(folder, error) from error
    except Stopped:
        return _report(options, chosen, done, written, by_hand, stopped=len(done) < len(places))
    return _report(options, chosen, done, written, by_hand)


def side_file(options: Use, chosen: Chosen, words: str) -> bytes:
    """What A1111 and Forge read beside a file, `<name>.json`, in the form in which they write it.

    words: those for a prompt.
    """
    is_lora, told = chosen.what == "lora", chosen.header.metadata
    which = f"{chosen.source.stem} at strength {options.strength:g}" if is_lora else chosen.source.stem
    side = {
        "description": options.description or told.get("modelspec.description", ""),
        "notes": f"{options.notes}\n{which}" if options.notes else which,
    }
    of_lora = {
        "sd version": _version(chosen.header),
        "activation text": words,
        "preferred weight": options.strength,
        "negative text": options.negative or "",
    }
    return json.dumps(side | of_lora if is_lora else side, indent=4, ensure_ascii=False).encode("utf-8", "replace")


def with_words(text: str, called: Mapping[str, str]) -> str:
    """A text for a prompt with new words as they are called; those that it lacks stand at its end."""
    names = {word.lower(): name for word, name in called.items()}
    some = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    pattern = re.compile(rf"(?<!\w)<?({some})>?(?!\w)", re.IGNORECASE)
    missing = names.keys() - {word.lower() for word in pattern.findall(text)}
    text = pattern.sub(lambda found: names[found[1].lower()], text) if names else text
    return ", ".join(filter(None, (text, *(name for word, name in names.items() if word in missing))))


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


def _chosen(options: Use) -> Chosen:
    path = Path(options.file).expanduser().resolve()
    if (path / INDEX).is_file():
        raise InputError(
            f"file: {path} is a folder of diffusers, and programs list models that are one file; make one with "
            f"Utilities > Convert model, or `model convert {path} --form safetensors --save-to FILE`"
        )
    if not path.is_file():
        raise InputError(f"file: {options.file} is no file here; choose one of the run's")
    if kind_of(path) != "safetensors":
        remedy = "`lora convert` makes a .safetensors file of a LoRA, `model convert` of a model."
        raise ModelError(path, "is a pickle", f"Programs may refuse it; {remedy}")
    header, what = read_header(path), what_of(path)
    if what == "lora" and not holds_lora(header):
        first = next(iter(header.tensors), "nothing")
        raise ModelError(
            path, f"is no LoRA, embedding or model, it holds {first[:80]!r}", "Choose one of the run's files."
        )
    words = words_beside(path) if what == "lora" else {}
    return Chosen(path, header, what, options.name or _own_name(path, header, what), words)


def _own_name(source: Path, header: Header, what: What) -> str:
    """The run's output name, else the file's without its number; of an embedding the latter, which is its word."""
    told = header.metadata.get("ss_output_name", "") if what != "embedding" else ""
    return told if fits(told) and told != "None" else SAVED.sub("", source.stem)


def _version(header: Header) -> str:
    for name, tensor in header.tensors.items():
        if "attn2_to_k" in name and ("lora_down" in name or "lora_A" in name) and tensor.shape[1] in WIDTHS:
            return WIDTHS[tensor.shape[1]]
    told = header.metadata.get("ss_base_model_version", "")
    return next((version for start, version in VERSIONS.items() if told.startswith(start)), "Unknown")


def _places(options: Use, chosen: Chosen) -> tuple[list[Place], list[str]]:
    """The folders, and what a person must do by hand."""
    kinds: set[What] = {chosen.what, "embedding"} if chosen.words else {chosen.what}
    places, by_hand = list[Place](), False
    for option, program in PROGRAMS.items():
        if text := getattr(options, option):
            found = {kind: folder for kind in kinds if (folder := folder_for(option, text, kind))}
            by_hand |= not found
            places += [Place(program, found)] if found else []
    home = Path(options.save_to).expanduser().resolve() if options.save_to else None
    if not home and (by_hand or not places):
        near = chosen.source.parent
        near = near.parent if near.name == "checkpoints" else near
        home = near / CHOSEN if near.name != CHOSEN else near
    if home:
        places.append(Place(FOLDER, {"embedding": home / WORDS, chosen.what: home}))
    if not by_hand:
        return places, []
    told = "InvokeAI takes files through its own Model Manager: choose Add Models there, and give it those in"
    return places, [f"{told} {home}"]


def _fill(place: Place, options: Use, chosen: Chosen, picture: bytes | None, written: list[Written]) -> Done:
    """Writes everything that belongs into a place; the words first, whose names stand in the side file."""
    program, folders, what = place.program, place.folders, chosen.what

    def put(kind: What, name: str, source: Path, sides: Mapping[str, bytes]) -> str:
        make_folder(folders[kind])
        name = name if options.overwrite else _free(folders[kind], name, source, sides)
        written.extend(_put(program.title, folders[kind] / name, source, sides, options.overwrite))
        return name

    words = {word: put("embedding", word, source, {}) for word, source in chosen.words.items()}
    text = with_words(options.trigger or "", {word: program.word.format(name) for word, name in words.items()})
    sides = {".json": side_file(options, chosen, text)}
    if picture:  # A1111 looks for an embedding in any other picture among its embeddings
        sides[".preview.png" if what == "embedding" else ".png"] = picture
    name = put(what, chosen.name, chosen.source, sides if program.sides else {})
    if what == "embedding":
        text = with_words(text, {chosen.name: program.word.format(name)})
    worn = f"<lora:{name}:{options.strength:g}>" if what == "lora" else ""
    return Done(program.title, name, words, " ".join(filter(None, (worn, text))))


def _free(folder: Path, name: str, source: Path, sides: Mapping[str, bytes]) -> str:
    """The name, or with the first number that no other file or side file has; this very file may be there."""
    for number in count(1):
        stem = name if number == 1 else f"{name}-{number}"
        if _same(folder / f"{stem}.safetensors", source):
            return stem
        if not any((folder / f"{stem}{ending}").exists() for ending in (*ENDINGS, *sides)):
            return stem
    raise AssertionError("numbers do not end")


def _put(title: str, stem: Path, source: Path, sides: Mapping[str, bytes], overwrite: bool) -> Iterator[Written]:
    """Writes the file itself first, so that a cut off run is known by it and goes on."""
    for ending in (".safetensors", *sides):
        path, data = stem.with_name(f"{stem.name}{ending}"), sides.get(ending)
        if _same(path, source) if data is None else path.is_file() and path.read_bytes() == data:
            yield Written(title, path, "already there")
        elif path.exists() and not overwrite:
            yield Written(title, path, "kept as it is; overwrite writes it anew")
        else:
            state, size = "written", source.stat().st_size if data is None else len(data)
            need_space(path.parent, size + (path.stat().st_size if path.exists() else 0))
            if path.exists():
                copy = path.with_name(f"{path.name}.{stamp(time.time_ns())}.bak")  # no ending that a program lists
                write_aside(copy, partial(_stream, path))
                state = f"written; the one before is {copy.name}"
            if data is None:
                write_aside(path, partial(_stream, source), partial(_check, source))
            else:
                write_aside(path, data)
            yield Written(title, path, state)


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
    chosen: Chosen,
    done: Sequence[Done],
    written: Sequence[Written],
    by_hand: Sequence[str],
    stopped: bool = False,
) -> Report:
    """What was written where."""
    lines = [f"{one.title}: {one.path}: {one.state}" for one in written]
    first = done[0] if done else Done("", chosen.name, {}, "")
    for one in done:
        for wanted, name in ((chosen.name, one.name), *one.words.items()):
            if name != wanted:
                lines.append(
                    f"{one.title}: called {name}, since another file there has its name; overwrite takes the place"
                )
        if one.prompt != first.prompt:
            lines.append(f"{one.title}: in a prompt: {one.prompt}")
    if chosen.what == "lora" and not (options.trigger or chosen.words):
        lines.append("No trigger was given, so A1111 puts none into the prompt")
    new = [one.path for one in written if one.state.startswith("written")]
    size = megabytes(sum(path.stat().st_size for path in new))
    what = f"{len(new)} file{'s' * (len(new) > 1)} written, {size}" if new else "all of it was there already"
    names = {one.title: one.name for one in done}
    said = f"{first.name} is ready in {', '.join(names)}: {what}." if names else "Nothing was written."
    said += f" In a prompt: {first.prompt}" if first.prompt else ""
    placed = [{"program": one.title, "file": str(one.path), "state": one.state} for one in written]
    found = {"placed": placed, "names": names, "prompt": first.prompt}
    said = f"Stopped. {said}" if stopped else said
    return Report(said, [str(path) for path in new], [*lines, *by_hand], found, stopped)
