"""Where a tagger's two files are: in a folder of one's own, in the models folder, or on the Hugging Face hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from trainer import places
from trainer.captioners.tags import LABELS
from trainer.data.pictures import plain
from trainer.durable import failed, make_folder, megabytes, need_space
from trainer.errors import InputError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){1,3}")
GRAPHS = ("model.onnx", "model_optimized.onnx")
PIECE = 2**20


@dataclass(frozen=True)
class Files:
    """A tagger on the disk."""

    name: str
    graph: Path
    labels: Path

    def identity(self) -> str:
        """Changes when another file lies there."""
        states = [path.stat() for path in (self.graph, self.labels)]
        return " ".join([self.name, *(f"{state.st_size} {state.st_mtime_ns}" for state in states)])


@dataclass(frozen=True)
class Remote:
    """A file of the hub: size in bytes; digest: its sha256, where the hub tells it."""

    url: str
    size: int
    digest: str
    headers: dict[str, str]


def find_tagger(name: str, download: bool, again: bool, say: Callable[[str], None]) -> Files:
    """The two files of a tagger, fetched if they are missing and may be; InputError says what to put where."""
    own = Path(name).expanduser()
    if own.is_dir():
        if found := _in_folder(name, own):
            return found
        raise InputError(f"model: {plain(str(own))} lacks {GRAPHS[0]} or {LABELS[0]}: put both files into it")
    if own.is_file() or not HUB_NAME.fullmatch(name):
        raise InputError(
            f"model: {plain(name)!r} is no folder here: give a folder with {GRAPHS[0]} and {LABELS[0]}, "
            "or a tagger's name on the Hugging Face hub, such as SmilingWolf/wd-vit-tagger-v3"
        )
    folder = places.home() / "models" / "wd14" / name.removeprefix("SmilingWolf/").replace("/", "_")
    found = _in_folder(name, folder)
    if found and not again:
        return found
    wanted = (GRAPHS[1], LABELS[1]) if name.count("/") > 1 else (GRAPHS[0], LABELS[0])
    remedy = f"get {wanted[0]} and {wanted[1]} from its page, huggingface.co/{name}, and put both into {folder}"
    if not download:
        raise InputError(f"model: {name} is not on this machine, and download is off: set it, or {remedy}")
    for file in reversed(wanted):  # the small one first, so that a wrong name costs nothing
        try:
            remote = look_up(name, file)
        except Exception as error:  # httpx, OSError, and a dozen classes of the hub's own
            raise InputError(
                f"model: {name} cannot be found on the hub ({type(error).__name__}): check the name and the network, "
                f"or {remedy}"
            ) from error
        say(f"Fetching {file} of {name} ({megabytes(remote.size)}).")
        fetch(remote, folder / file, again, remedy)
    return Files(name, folder / wanted[0], folder / wanted[1])


def _in_folder(name: str, folder: Path) -> Files | None:
    graph = next((folder / file for file in GRAPHS if (folder / file).is_file()), None)
    labels = next((folder / file for file in LABELS if (folder / file).is_file()), None)
    return Files(name, graph, labels) if graph and labels else None


def look_up(name: str, file: str) -> Remote:
    """What the hub says of a file; the first thing here that goes to the network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    owner, repository, *inside = name.split("/")
    url = hf_hub_url(f"{owner}/{repository}", "/".join([*inside, file]))
    told = get_hf_file_metadata(url)
    digest = told.etag if told.etag and len(told.etag) == 64 else ""  # of large files it is the sha256
    return Remote(url, told.size or 0, digest, build_hf_headers())


def fetch(remote: Remote, target: Path, again: bool, remedy: str) -> None:
    """Brings a file here with a progress bar; what a broken connection left is gone on with, if it is the same file.

    Raises InputError when the connection fails, or when the size or the checksum is not what the hub says.
    """
    import httpx

    if target.is_file() and not again and target.stat().st_size == remote.size:
        return
    make_folder(target.parent)
    mark = hashlib.sha256(f"{remote.digest} {remote.size}".encode()).hexdigest()[:8]
    part = target.with_name(f"{target.name}.{mark}.part")
    try:
        have = part.stat().st_size if part.is_file() else 0
        need_space(target.parent, remote.size - have)
        headers = {**remote.headers, "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        if have < remote.size:
            with httpx.stream("GET", remote.url, headers=headers, follow_redirects=True, timeout=30) as answer:
                answer.raise_for_status()
                goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
                with (
                    part.open("ab" if goes_on else "wb") as file,
                    tqdm(
                        total=remote.size, initial=have if goes_on else 0, unit="B", unit_scale=True, desc=target.name
                    ) as bar,
                ):
                    for piece in answer.iter_bytes(PIECE):
                        file.write(piece)
                        bar.update(len(piece))
        _check(part, remote)
        part.replace(target)
    except httpx.HTTPError as error:
        raise InputError(
            f"{target.name}: the download broke off ({type(error).__name__}); run it again to go on where it stopped, "
            f"or {remedy}"
        ) from error
    except OSError as error:
        raise failed(target, error) from error


def _check(part: Path, remote: Remote) -> None:
    """That a download is whole and unchanged; a wrong one is removed, so that the next try begins anew."""
    size = part.stat().st_size
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest() if remote.digest else ""
    if size == remote.size and digest == remote.digest:
        return
    if size >= remote.size:
        part.unlink()
    what = f"{size:,} of {remote.size:,} bytes" if size != remote.size else "another checksum than the hub's"
    raise InputError(f"{part.name}: the download has {what}: run it again")
