"""Pictures that come from the browser, as files, folders or a zip. Only pictures and their captions are kept."""

from __future__ import annotations

import lzma
import mmap
import re
import shutil
import stat
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

import anyio.to_thread
from PIL import Image
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from trainer.config.run import RESERVED
from trainer.data.folders import ENDINGS, MOST_REPEATS
from trainer.data.pictures import FORMATS, plain
from trainer.durable import TEMPORARY, failed, make_folder, megabytes, replace_folder, sweep
from trainer.errors import InputError

CAPTIONS = (".txt", ".caption", ".tags")
MOST_BYTES = 4 * 2**30  # of one upload, unpacked too
MOST_FILES = 20_000
LARGEST = 256 * 2**20  # bytes of one picture
LONGEST_CAPTION = 64 * 2**10
LONGEST_FIELD = 8 * 2**10  # bytes of a field that is no file
MOST_SHRUNK = 100  # a picture shrinks little in a zip: what unfolds more than this is a bomb
STALE = 24 * 3600  # seconds after which what a broken upload left is swept
KOHYA = re.compile(r"\d+_.+")
DAMAGED = zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError, struct.error
NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')


class TooLarge(InputError):
    """More than one upload may bring."""


class Upload:
    """One upload while it comes in: files lie aside, and show under their names only when all is there."""

    def __init__(self, uploads: Path) -> None:
        make_folder(uploads)
        sweep(uploads, STALE)
        self.uploads = uploads
        self.fields: dict[str, str] = {}
        self.problems: list[str] = []
        self.unpacked = 0  # bytes
        self.files = 0
        self.folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=uploads))
        self._kept: dict[tuple[str, str], Path] = {}  # by the folder's name (of Kohya's kind, or ""), and the file's

    def take(self, name: str, path: Path) -> None:
        """Keeps a file that came, lying at `path`, if it is a picture or a caption; unpacks a zip; lists any other."""
        if name.lower().endswith(".zip"):
            self._unpack(name, path)
        else:
            self._keep(name, path)

    def finish(self) -> dict[str, Any]:
        """Gives the pictures their names: `img/<repeats>_<words>/`, or the folder of that kind that they came in."""
        if not any(is_picture(name) for _, name in self._kept):
            told = f": {'; '.join(self.problems[:3])}" if self.problems else ""
            raise InputError(f"files: no picture among {self.files} files{told}; choose {', '.join(ENDINGS)}")
        repeats = whole("repeats", self.fields.get("repeats", "10"), 1, MOST_REPEATS)
        words = " ".join(filter(None, (self.fields.get(field, "").strip() for field in ("trigger", "class"))))
        words = folder_name("trigger", words or "pictures")
        ready = self.folder / "ready"
        for (folder, name), path in self._kept.items():
            place = ready / "img" / (folder or f"{repeats}_{words}")
            make_folder(place)
            path.rename(place / name)
        final = free_name(self.uploads / folder_name("name", self.fields.get("name", "").strip() or words))
        replace_folder(ready, final)
        pictures = sum(is_picture(name) for _, name in self._kept)
        counts = {"pictures": pictures, "captions": len(self._kept) - pictures}
        return {"images": str(final / "img"), **counts, "problems": self.problems}

    def discard(self) -> None:
        """Removes what lies aside still."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, name: str, path: Path) -> None:
        self.files += 1
        if self.files > MOST_FILES:
            raise TooLarge(f"files: more than {MOST_FILES:,}; bring them in parts")
        *above, short = re.split(r"[/\\]", name)
        folder = above[-1] if above and KOHYA.fullmatch(above[-1]) and not bad_name(above[-1]) else ""
        size, limit = path.stat().st_size, LARGEST if is_picture(short) else LONGEST_CAPTION
        if not is_picture(short) and not short.lower().endswith(CAPTIONS):
            why = "neither a picture nor a caption"
        elif ".." in above or name[:1] in ("/", "\\") or bad_name(short):
            why = "a name that cannot be kept"
        elif (folder, short) in self._kept:
            why = "another of this name came before"
        elif size > limit:
            why = f"larger than {megabytes(limit)}"
        else:
            why = why_no_picture(path) if is_picture(short) else ""
        if why:
            return self._leave_out(name, why)
        self._kept[folder, short] = path.rename(self.folder / str(self.files))

    def _unpack(self, name: str, path: Path) -> None:
        if count_entries(path) > MOST_FILES:
            raise TooLarge(f"{plain(name)}: more than {MOST_FILES:,} files; bring them in parts")
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir():
                        self._unpack_one(archive, entry)
        except (*DAMAGED, ValueError) as error:
            if isinstance(error, InputError):
                raise
            self._leave_out(name, f"a damaged zip ({error})")

    def _unpack_one(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        if entry.flag_bits & 1:
            return self._leave_out(entry.filename, "locked with a password")
        if stat.S_ISLNK(entry.external_attr >> 16):
            return self._leave_out(entry.filename, "a link")
        if entry.file_size > 2**20 and entry.file_size > MOST_SHRUNK * max(1, entry.compress_size):
            return self._leave_out(entry.filename, "it unfolds to more than a picture would")
        self.unpacked += entry.file_size
        if self.unpacked > MOST_BYTES:
            raise TooLarge(f"{plain(archive.filename or '')}: more than {megabytes(MOST_BYTES)}; bring it in parts")
        path = self.folder / "entry"
        try:
            with archive.open(entry) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file)  # reads no more than the size that was looked at
        except DAMAGED as error:
            return self._leave_out(entry.filename, f"damaged in the zip ({error})")
        except OSError as error:
            raise failed(self.folder, error) from error
        self._keep(entry.filename, path)

    def _leave_out(self, name: str, why: str) -> None:
        """What systems add by themselves is not worth a word."""
        parts = re.split(r"[/\\]", name)
        if not (parts[-1].startswith(".") or "__MACOSX" in parts or parts[-1].lower() in ("thumbs.db", "desktop.ini")):
            self.problems.append(f"{plain(name)}: {why}: left out")


async def receive(upload: Upload, content_type: str, stream: AsyncIterator[bytes]) -> None:
    """Takes in a multipart/form-data body piece by piece: one file lies open at a time, however many come."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise InputError("upload: send the files as multipart/form-data")
    form = _Form(upload)
    parser = MultipartParser(boundary, form.callbacks())  # pyrefly: ignore[bad-argument-type]
    came = 0
    try:
        async for chunk in stream:
            came += len(chunk)
            if came > MOST_BYTES:
                raise TooLarge(f"files: more than {megabytes(MOST_BYTES)}; bring them in parts")
            await anyio.to_thread.run_sync(parser.write, chunk)
        parser.finalize()
    except FormParserError as error:
        raise InputError(f"upload: broken on its way ({error}); send it again") from error
    finally:
        form.close()


class _Form:
    """The parts of a form as they come: fields are kept as text, files are written aside and handed on."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self._header: tuple[bytes, bytes] = (b"", b"")
        self._name = ""
        self._file_name: str | None = None
        self._text = b""
        self._file: BinaryIO | None = None

    def callbacks(self) -> dict[str, Any]:
        """What the parser calls."""
        names = (
            "header_field",
            "header_value",
            "header_end",
            "headers_finished",
            "part_begin",
            "part_data",
            "part_end",
        )
        return {f"on_{name}": getattr(self, f"_{name}") for name in names}

    def close(self) -> None:
        """Closes what lies open."""
        if self._file:
            self._file.close()

    def _part_begin(self) -> None:
        self._name, self._file_name, self._text, self._header = "", None, b"", (b"", b"")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(data[start:end], b"")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(b"", data[start:end])

    def _grow(self, field: bytes, value: bytes) -> None:
        self._header = self._header[0] + field, self._header[1] + value  # the parser limits the length

    def _header_end(self) -> None:
        field, value = self._header
        if field.lower() == b"content-disposition":
            options = parse_options_header(value)[1]
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            if (name := options.get(b"filename")) is not None:
                self._file_name = name.decode("utf-8", "replace")
        self._header = b"", b""

    def _headers_finished(self) -> None:
        if self._file_name is not None:
            self._file = (self.upload.folder / "part").open("wb")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file:
            try:
                self._file.write(data[start:end])
            except OSError as error:
                raise failed(self.upload.folder, error) from error
        else:
            self._text += data[start:end]
            if len(self._text) > LONGEST_FIELD:
                raise InputError(f"{plain(self._name)}: longer than {LONGEST_FIELD} bytes; shorten it")

    def _part_end(self) -> None:
        if not self._file or self._file_name is None:
            self.upload.fields[self._name] = self._text.decode("utf-8", "replace")
            return
        self._file.close()
        self._file = None
        part = self.upload.folder / "part"
        if self._file_name:  # a form without a chosen file sends an empty name
            self.upload.take(self._file_name, part)
        part.unlink(missing_ok=True)


# Names and files


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its ending."""
    return name.lower().endswith(ENDINGS)


def why_no_picture(path: Path) -> str:
    """Why a file is no picture, "" when it begins like one: whether all of it is whole is seen before training."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS):
            return ""
    except Exception:  # on damaged bytes decoders raise nearly anything
        return "not a picture that can be read"


def bad_name(name: str) -> bool:
    """Whether a file cannot have this name on every system."""
    return (
        not name or name != name.strip(" .") or len(name.encode("utf-8", "replace")) > 200
        or bool(NOT_IN_NAMES.search(name) or RESERVED.match(name)) or plain(name) != name
    )  # fmt: skip


def folder_name(field: str, name: str) -> str:
    """A name that a folder can have; InputError when this one cannot be."""
    if bad_name(name):
        raise InputError(
            f'{field}: {plain(name)!r} cannot be the name of a folder: no < > : " / \\ | ? *, no dot or space at an'
            " end, at most 200 bytes; choose another"
        )
    return name


def whole(field: str, value: Any, least: int, most: int) -> int:
    """A whole number within limits, from JSON or from a form."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or number != float(value) or not least <= number <= most:
        raise InputError(f"{field}: {plain(str(value), 40)!r} is not a whole number from {least} to {most:,}")
    return number


def free_name(folder: Path) -> Path:
    """The folder, or the first of `-2`, `-3`, ... that is not there."""
    count, free = 1, folder
    while free.exists():
        count += 1
        free = folder.with_name(f"{folder.name}-{count}")
    return free


def count_entries(path: Path) -> int:
    """Entries of a zip by their marks, counted no further than matters: its own table may lie, or hold millions."""
    if not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count = place = 0
        while count <= MOST_FILES and (place := data.find(b"PK\1\2", place) + 1):
            count += 1
        return count
