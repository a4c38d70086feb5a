"""Where a tagger's two files are: in a folder of one's own, in the models folder, or on the Hugging Face hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from trainer import places
from trainer.captioners.base import Say
from trainer.captioners.tags import LABELS
from trainer.data.pictures import plain
from trainer.downloads import Remote, fetch, models_folder
from trainer.durable import megabytes
from trainer.errors import InputError
from trainer.terminal import Stop, Tell, never, silent

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){1,3}")
GRAPHS = ("model.onnx", "model_optimized.onnx")


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


def find_tagger(
    name: str, download: bool, again: bool, say: Say, should_stop: Stop = never, fetching: Tell = silent
) -> Files:
    """The two files of a tagger, fetched if they are missing and may be; InputError says what to put where.

    fetching: called with (bytes here, bytes in all) of each. Raises Stopped when a download was asked to stop.
    """
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
    inside = Path("wd14", name.removeprefix("SmilingWolf/").replace("/", "_"))
    folder = models_folder() / inside
    found = next((here for models in places.models() if (here := _in_folder(name, models / inside))), None)
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
        fetch(remote, folder / file, remedy, again, fetching, should_stop)
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
    digest = f"sha256:{told.etag}" if told.etag and len(told.etag) == 64 else ""  # of large files it is the sha256
    return Remote(url, told.size or 0, digest, build_hf_headers())
