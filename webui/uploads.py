"""Pictures that come from the browser, as files, folders or a zip. Only pictures and their captions are kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from trainer.data.folders import ENDINGS, MOST_REPEATS
from trainer.data.pictures import plain
from trainer.durable import TEMPORARY, failed, make_folder, megabytes, replace_folder, sweep
from trainer.errors import InputError
from trainer.folders.files import STALE, folder_name, free_name, is_picture
from trainer.folders.intake import Intake, Limits, TooLarge, numbered
from webui.routing import whole

MOST_BYTES = Limits.bytes  # of one upload, unpacked too
MOST_FILES = Limits.files
LONGEST_FIELD = 8 * 2**10  # bytes of a field that is no file


class Upload:
    """One upload while it comes in: files lie aside, and show under their names only when all is there."""

    def __init__(self, uploads: Path) -> None:
        make_folder(uploads)
        sweep(uploads, STALE)
        self.uploads = uploads
        self.fields: dict[str, str] = {}
        self.folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=uploads))
        self.intake = Intake(self.folder, Limits(MOST_BYTES, MOST_FILES), numbered)

    def take(self, name: str, path: Path) -> None:
        """Keeps a file that came, lying at `path`, if it is a picture or a caption; unpacks a zip; lists any other."""
        if name.lower().endswith(".zip"):
            self.intake.unpack(name, path)
        else:
            self.intake.take(name, path)

    def finish(self) -> dict[str, Any]:
        """Gives the pictures their names: `img/<repeats>_<words>/`, or the folder of that kind that they came in."""
        kept, problems = self.intake.kept, [str(problem) for problem in self.intake.problems]
        pictures = sum(is_picture(name) for _, name in kept)
        if not pictures:
            told = f": {'; '.join(problems[:3])}" if problems else ""
            raise InputError(f"files: no picture among {self.intake.files} files{told}; choose {', '.join(ENDINGS)}")
        repeats = whole("repeats", self.fields.get("repeats", "10"), 1, MOST_REPEATS)
        words = " ".join(filter(None, (self.fields.get(field, "").strip() for field in ("trigger", "class"))))
        words = folder_name("trigger", words or "pictures")
        ready = self.folder / "ready"
        for (folder, name), path in kept.items():
            place = ready / "img" / (folder or f"{repeats}_{words}")
            make_folder(place)
            path.rename(place / name)
        final = free_name(self.uploads / folder_name("name", self.fields.get("name", "").strip() or words))
        replace_folder(ready, final)
        counts = {"pictures": pictures, "captions": len(kept) - pictures}
        return {"images": str(final / "img"), **counts, "problems": problems}

    def discard(self) -> None:
        """Removes what lies aside still."""
        shutil.rmtree(self.folder, ignore_errors=True)


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
