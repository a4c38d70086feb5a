"""Files that leave a run folder: downloads, all of them as a zip, and small pictures. Nothing outside it is reached."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from starlette.datastructures import Headers, QueryParams
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Receive, Scope, Send

from trainer.data.pictures import PictureError, open_picture
from trainer.durable import make_folder, write_aside
from trainer.jobs import REPORT
from trainer.runfolder import RunFolder
from trainer.verdict.candidates import INDEX
from webui.runs import Missing
from webui.settings import Settings

FOLDERS = ("checkpoints", "samples")
FILES = ("config.json", "stdout.log", REPORT)
CHUNK = 1 << 20  # bytes
SIZES = (32, 1024)  # pixels of a small picture's longer side
MOST_KEPT = 500_000_000  # bytes of small pictures
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}
"""A file may say that it is a web page: the browser must not believe it."""


def locate(run: RunFolder, name: str) -> Path:
    """The file that may be served under a name such as `samples/a.png`, with all links followed; Missing otherwise."""
    path = run.path / name
    try:
        real = path.resolve(strict=True)
        allowed = real.relative_to(run.path).parts
    except (OSError, ValueError, RuntimeError):  # not there; a NUL; leads out of the run; a circle of links
        raise Missing(f"{name[:200]}: there is no such file in this run") from None
    hidden = any(part.startswith(".") for part in allowed)
    inside = allowed[0] in FOLDERS if len(allowed) > 1 else allowed in [(name,) for name in FILES]
    if hidden or not inside or not real.is_file():
        raise Missing(f"{name[:200]}: only files in {', '.join(FOLDERS)}, and {', '.join(FILES)}, can be had") from None
    return real


def download(run: RunFolder, name: str) -> Response:
    """A file as an attachment; a model's folder as a zip that is made while it is sent."""
    if _is_model(run, name):
        inside = [path for path in sorted((run.path / name).rglob("*")) if path.is_file()]
        return _as_zip(run, Path(name).name, {path.relative_to(run.path / name).as_posix(): path for path in inside})
    path = locate(run, name)
    if path == run.log:  # it grows while it is sent, so its length cannot be promised
        headers = {**SAFE, "Content-Disposition": 'attachment; filename="stdout.log"'}
        return StreamingResponse(_read(path), media_type="text/plain; charset=utf-8", headers=headers)
    return FileResponse(path, media_type="application/octet-stream", filename=path.name, headers=SAFE)


def download_all(run: RunFolder) -> Response:
    """All files of a run that may be had, as one zip that is made while it is sent."""
    found = [path for folder in FOLDERS for path in sorted((run.path / folder).rglob("*")) if path.is_file()]
    names = [path.relative_to(run.path).as_posix() for path in found if not path.name.endswith(".part")]
    return _as_zip(run, run.path.name, {name: run.path / name for name in [*FILES, *names]})


def _is_model(run: RunFolder, name: str) -> bool:
    """Whether a name is that of a model in the layout of diffusers among a run's checkpoints."""
    try:
        return locate(run, f"{name}/{INDEX}").parent.parent == run.checkpoints
    except Missing:
        return False


def _as_zip(run: RunFolder, top: str, paths: Mapping[str, Path]) -> Response:
    """Those of a run's files that may be had, in a zip by these names, all in a folder `top`."""
    files = {}
    for name, path in paths.items():
        try:
            files[name] = locate(run, path.relative_to(run.path).as_posix())
        except Missing:  # a link that leads out, or no log yet
            continue
    headers = {**SAFE, "Content-Disposition": attachment(f"{top}.zip")}
    return StreamingResponse(zipped(top, files), media_type="application/zip", headers=headers)


def thumbs_of(settings: Settings) -> Path:
    """The folder of small pictures."""
    return settings.data_dir / "cache" / "thumbs"


def thumb(run: RunFolder, name: str, size: int, thumbs: Path) -> Response:
    """A sample picture at most `size` pixels wide and high, made anew as WebP and kept in `thumbs`."""
    path = locate(run, name)
    if not path.is_relative_to(run.samples):
        raise Missing(f"{name[:200]}: only samples are shown small")
    return small(path, size, thumbs)


def small(path: Path, size: int, thumbs: Path) -> Response:
    """A picture at most `size` pixels wide and high as WebP, kept in `thumbs` until the picture changes.

    Raises Missing for what is no picture.
    """
    size = min(max(size, SIZES[0]), SIZES[1])
    stamp = path.stat()
    key = hashlib.sha256(f"{path}\0{stamp.st_mtime_ns}\0{stamp.st_size}\0{size}".encode()).hexdigest()
    kept = thumbs / key[:2] / f"{key}.webp"
    if not kept.is_file():
        make_folder(kept.parent)
        write_aside(kept, shrunk(path, size))
    headers = {**SAFE, "Cache-Control": "private, no-cache", "ETag": f'"{key[:32]}"'}
    return Small(kept, media_type="image/webp", headers=headers)


class Small(FileResponse):
    """A small picture. The browser asks each time whether it is the same, unless the address bears its stamp as `v`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "v" in QueryParams(scope["query_string"]):
            self.headers["Cache-Control"] = "private, max-age=3600"
        known = Headers(scope=scope).get("if-none-match", "")
        if self.headers["etag"] in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            await NotModifiedResponse(self.headers)(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def prune(thumbs: Path, most: int = MOST_KEPT) -> None:
    """Keeps the newest small pictures, at most so many bytes of them; others are made anew when they are looked at."""
    kept = 0
    with contextlib.suppress(FileNotFoundError):  # another server may do the same
        found = sorted(((path.stat(), path) for path in thumbs.glob("*/*.webp")), key=lambda one: -one[0].st_mtime_ns)
        for stamp, path in found:
            kept += stamp.st_size
            if kept > most:
                path.unlink(missing_ok=True)


def shrunk(path: Path, size: int) -> bytes:
    """A picture as WebP, at most `size` pixels wide and high, with nothing in it but pixels."""
    try:
        image = open_picture(path, "#ffffff").image
    except PictureError as error:
        raise Missing(str(error)) from error
    image.thumbnail((size, size))
    image.info.clear()
    file = io.BytesIO()
    image.save(file, "WEBP", quality=85)
    return file.getvalue()


def attachment(name: str) -> str:
    """The header for a name that may have letters of any script (RFC 6266)."""
    return f"attachment; filename*=UTF-8''{quote(name)}"


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


class _Sink(io.RawIOBase):
    """Takes what the zip writes, until it is sent."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # pyrefly: ignore[bad-override]
        self.data += data
        return len(data)

    def take(self) -> bytes:
        """What was written since."""
        data, self.data = bytes(self.data), bytearray()
        return data


def zipped(top: str, files: dict[str, Path]) -> Iterator[bytes]:
    """Pieces of a zip of files by their names, all in a folder `top`; nothing is compressed: weights hardly shrink."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, path in files.items():
            try:
                info = zipfile.ZipInfo.from_file(path, f"{top}/{name}", strict_timestamps=False)
            except FileNotFoundError:  # an old checkpoint that the engine has let go since
                continue
            with archive.open(info, "w", force_zip64=info.file_size > 1 << 30) as entry:
                for chunk in _read(path):
                    entry.write(chunk)
                    yield sink.take()
    yield sink.take()
