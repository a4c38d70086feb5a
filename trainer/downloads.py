"""Model files from the network: which are known, where they go, and how one gets here whole.

Nothing here is needed: each file can be put into its place by hand, and every tool says which one it lacks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer import places
from trainer.config.parts import Part
from trainer.durable import failed, make_folder, megabytes, need_space, sync_folder
from trainer.errors import InputError
from trainer.terminal import Stop, Stopped, Tell, bar, never, silent
from trainer.tree import did_you_mean

PIECE = 2**20
ZOO = "https://github.com/opencv/opencv_zoo/raw/main/models/"
HUB = "https://huggingface.co/"
REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/"


@dataclass(frozen=True)
class Remote:
    """A file elsewhere: size in bytes; digest: `sha256:...` or `md5:...`, empty where none is published."""

    url: str
    size: int
    digest: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """A file that can be fetched by its name. place: folder and file name in the models folder."""

    name: str
    what: str
    place: str
    licence: str
    remote: Remote

    @property
    def file(self) -> Path:
        """Where it lies, or would."""
        return models_folder() / self.place

    @property
    def is_here(self) -> bool:
        """Whether it lies there, or anywhere in the models folders under its name, whole as far as its size says."""
        found = [self.file, *in_models(self.file.name), *in_models(f"{self.name}.onnx")]
        return any(file.is_file() and file.stat().st_size == self.remote.size for file in found)

    @property
    def remedy(self) -> str:
        """What to do without it, in words."""
        return f"get {self.remote.url} by another way, and save it as {self.file}"


def _known(name: str, what: str, place: str, licence: str, url: str, size: int, digest: str) -> Known:
    return Known(name, what, place, licence, Remote(url, size, f"sha256:{digest}"))


# Sizes and checksums are those of the published files: of OpenCV's models those in the pointers of its repository, of
# those on the hub what it says of a revision that does not change, the others' of rembg's release, whose own md5 sums
# agree. A file whose checksum nobody publishes is not offered.
KNOWN = (
    _known(
        "yunet",
        "finds faces",
        "faces/face_detection_yunet_2023mar.onnx",
        "MIT",
        f"{ZOO}face_detection_yunet/face_detection_yunet_2023mar.onnx",
        232_589,
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
    _known(
        "sface",
        "tells faces apart, for likeness in a comparison",
        "faces/face_recognition_sface_2021dec.onnx",
        "Apache-2.0",
        f"{ZOO}face_recognition_sface/face_recognition_sface_2021dec.onnx",
        38_696_353,
        "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
    ),
    _known(
        "dinov2-small",
        "sees likeness, for a comparison",
        "vision/dinov2-small.safetensors",
        "Apache-2.0",
        f"{HUB}facebook/dinov2-small/resolve/ed25f3a31f01632728cabb09d1542f84ab7b0056/model.safetensors",
        88_249_960,
        "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
    ),
    _known(
        "dinov2-base",
        "sees likeness, for a comparison; better, and slower on a CPU",
        "vision/dinov2-base.safetensors",
        "Apache-2.0",
        f"{HUB}facebook/dinov2-base/resolve/f9e44c814b77203eaa57a6bdbbd535f21ede1415/model.safetensors",
        346_345_912,
        "d73036b56966966d07975d696bde331762f37297e2f095de8cea0040c3aa0841",
    ),
    _known(
        "clip-vit-base-patch32",
        "sees how well a prompt is obeyed, for a comparison",
        "vision/clip-vit-base-patch32.safetensors",
        "MIT",
        f"{HUB}openai/clip-vit-base-patch32/resolve/eaee4c876b93e66f7fac584b529025a96d71ad66/model.safetensors",
        605_157_884,
        "99d28a652e6ec46629ab7047a0ac82c69b1fe11e0ce672c43af65d3a9a3fc05d",
    ),
    _known(
        "clip-vit-large-patch14",
        "sees how well a prompt is obeyed, for a comparison; better, and slow on a CPU",
        "vision/clip-vit-large-patch14.safetensors",
        "MIT",
        f"{HUB}openai/clip-vit-large-patch14/resolve/32bd64288804d66eefd0ccbe215aa642df71cc41/model.safetensors",
        1_710_540_580,
        "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    ),
    _known(
        "birefnet",
        "takes backgrounds away; the best, and slow without a GPU",
        "background/birefnet-general.onnx",
        "MIT",
        f"{REMBG}BiRefNet-general-epoch_244.onnx",
        972_666_916,
        "58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
    ),
    _known(
        "birefnet-lite",
        "takes backgrounds away; a quarter of it",
        "background/birefnet-general-lite.onnx",
        "MIT",
        f"{REMBG}BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
        224_005_088,
        "5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
    ),
    _known(
        "birefnet-portrait",
        "takes backgrounds away behind people",
        "background/birefnet-portrait.onnx",
        "MIT",
        f"{REMBG}BiRefNet-portrait-epoch_150.onnx",
        972_666_916,
        "1ba1c8ff5a7bbfadc8d8d13fb11d7be793f91f23d9d466549e37a854f6668f99",
    ),
    _known(
        "isnet",
        "takes backgrounds away; a good choice on a CPU",
        "background/isnet-general-use.onnx",
        "Apache-2.0",
        f"{REMBG}isnet-general-use.onnx",
        178_648_008,
        "60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
    ),
    _known(
        "isnet-anime",
        "takes backgrounds away behind drawn figures",
        "background/isnet-anime.onnx",
        "Apache-2.0",
        f"{REMBG}isnet-anime.onnx",
        176_069_933,
        "f15622d853e8260172812b657053460e20806f04b9e05147d49af7bed31a6e99",
    ),
    _known(
        "u2net",
        "takes backgrounds away; fast, with coarser edges",
        "background/u2net.onnx",
        "Apache-2.0",
        f"{REMBG}u2net.onnx",
        175_997_641,
        "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
    ),
    _known(
        "u2netp",
        "takes backgrounds away; tiny and coarse",
        "background/u2netp.onnx",
        "Apache-2.0",
        f"{REMBG}u2netp.onnx",
        4_574_861,
        "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
    ),
)


def models_folder() -> Path:
    """Where models go that are fetched."""
    return places.models()[0]


def in_models(pattern: str) -> Iterator[Path]:
    """What is of a pattern in the folders of models, at any depth."""
    return (path for folder in places.models() for path in folder.rglob(pattern))


def known(name: str) -> Known:
    """A known file by its name; InputError lists those there are."""
    found = {one.name: one for one in KNOWN}
    if name not in found:
        raise InputError(f"names: {name[:60]!r} is none of {', '.join(found)}{did_you_mean(name, list(found))}")
    return found[name]


def how_to_get(*names: str) -> str:
    """How a person gets the one or other of these files: by a command, or by hand."""
    files = " or ".join(known(name).file.name for name in names)
    return (
        f"`python launch.py models get {names[0]}` fetches it"
        f" ({megabytes(known(names[0]).remote.size)}), or put {files} into {models_folder()}"
    )


def fetch(
    remote: Remote,
    target: Path,
    remedy: str,
    again: bool = False,
    tell: Tell = silent,
    should_stop: Stop = never,
) -> None:
    """Brings a file here; what a broken connection left is gone on with, if it is the same file.

    tell: called with (bytes here, bytes in all); again: fetch it though it is here.
    Raises InputError, which ends with the remedy, when the connection fails, or when the size or the checksum is not
    what was published; Stopped when asked to, and what is here is gone on with next time.
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
                done = have if goes_on else 0
                with part.open("ab" if goes_on else "wb") as file:
                    for piece in answer.iter_bytes(PIECE):
                        if should_stop():
                            raise Stopped
                        file.write(piece)
                        done += len(piece)
                        tell(done, remote.size)
                    file.flush()
                    os.fsync(file.fileno())  # a power cut must not leave the name on an empty file of the right size
        _check(part, remote)
        part.replace(target)
        sync_folder(target.parent)
    except httpx.HTTPError as error:
        raise InputError(
            f"{target.name}: the download broke off ({type(error).__name__}); run it again to go on where it stopped, "
            f"or {remedy}"
        ) from error
    except OSError as error:
        raise failed(target, error) from error


def _check(part: Path, remote: Remote) -> None:
    """That a download is whole and unchanged; a wrong one is removed, so that the next try begins anew."""
    size, (kind, _, digest) = part.stat().st_size, remote.digest.partition(":")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest() if digest else ""
    if size == remote.size and found == digest:
        return
    if size >= remote.size:
        part.unlink()
    what = f"{size:,} of {remote.size:,} bytes" if size != remote.size else f"another {kind} than is published"
    raise InputError(f"{part.name}: the download has {what}: run it again")


class Downloads(Part):
    """Which known model files to fetch."""

    names: tuple[str, ...] = ()
    """Names of the list, such as yunet; those that are here are not fetched again."""


@dataclass
class Report:
    """What came of it."""

    fetched: list[str] = field(default_factory=list)
    here: list[str] = field(default_factory=list)
    """Files that were here before."""
    stopped: bool = False

    def summary(self) -> str:
        """The figures in a sentence."""
        parts = [f"{len(self.fetched)} fetched"]
        parts += [f"{len(self.here)} here before"] if self.here else []
        parts += ["stopped; run it again to go on"] if self.stopped else []
        return f"{', '.join(parts)}; they are in {models_folder()}"

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        return vars(self)


def get_models(options: Downloads, tell: Tell = silent, should_stop: Stop = never) -> Report:
    """Fetches known files. tell: called with (bytes here, bytes in all) of all files together."""
    wanted, report = [known(name) for name in options.names], Report()
    total, before = sum(one.remote.size for one in wanted), 0
    for one in wanted:
        began = before

        def told(done: int, _: int, began: int = began) -> None:
            tell(began + done, total)

        if one.is_here:
            report.here.append(one.name)
        else:
            try:
                fetch(one.remote, one.file, one.remedy, again=True, tell=told, should_stop=should_stop)
            except Stopped:
                report.stopped = True
                return report
            report.fetched.append(one.name)
        before += one.remote.size
        tell(before, total)
    return report


def listing() -> list[dict[str, Any]]:
    """All known files: name, what each is for, where it goes, its size, its licence, and whether it is here."""
    return [
        {
            "name": one.name,
            "what": one.what,
            "file": str(one.file),
            "url": one.remote.url,
            "size": one.remote.size,
            "licence": one.licence,
            "here": one.is_here,
        }
        for one in KNOWN
    ]


def add(words: Any) -> None:
    """Adds the word `models` to the engine's command line."""
    about = "list the models that tools can use, and fetch them"
    models = words.add_parser("models", help=about, description=f"{about[0].upper()}{about[1:]}.")
    models.add_argument("--json", action="store_true", help="print the list as JSON")
    models.set_defaults(do=run_list)
    get = models.add_subparsers(metavar="get NAME ...").add_parser("get", help="fetch models of the list")
    get.add_argument("names", nargs="+", metavar="NAME", help=", ".join(one.name for one in KNOWN))
    get.set_defaults(do=run_get)


def run_list(given: argparse.Namespace) -> int:
    """Prints what is here, what is missing, and where it goes."""
    if given.json:
        print(json.dumps(listing(), indent=2))
        return 0
    for one in KNOWN:
        state = "here" if one.is_here else megabytes(one.remote.size)
        print(f"{one.name:18} {state:>8}  {one.what} ({one.licence}): {one.place}")
    print(f"They lie in {models_folder()}; `models get NAME` fetches one.")
    return 0


def run_get(given: argparse.Namespace) -> int:
    """Fetches models; Ctrl-C stops, and the same command goes on."""
    with bar("B") as tell:
        report = get_models(Downloads(names=tuple(given.names)), tell)
    print(report.summary())
    return 0
