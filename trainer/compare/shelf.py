"""Where LoRAs and embeddings lie, what their files hold, and by which digest each is known. Works without torch."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from trainer import places
from trainer.config.embedding import word_of
from trainer.durable import make_folder, read_json, write_json
from trainer.errors import InputError
from trainer.families.header import ModelError, bundled_words, kind_of, pickle_names, read_header

ENDINGS = (".safetensors", ".pt", ".bin")
LARGEST_EMBEDDING = 16 * 2**20  # bytes; 75 vectors of SDXL have 0.6 MB
EMBEDDING = re.compile(r"(emb_params|string_to_param.*|clip_[lg]|<.*>)")
MODEL_FILES = (".safetensors", ".bin", ".json", ".ckpt", ".pt")


class Embedding(NamedTuple):
    """A word of a prompt, and the file whose vectors it stands for; `bundled`: a LoRA, which brings them along."""

    word: str
    file: Path
    bundled: bool = False


class Shelf:
    """The files of some folders by name; in a run folder its checkpoints. An earlier folder goes before a later one."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(dict.fromkeys(folder.resolve() for folder in folders))
        self.notes: list[str] = []
        self._files: dict[str, list[Path]] = {}
        for folder in self.folders:
            for file in _files(folder):
                self._files.setdefault(file.stem.lower(), []).append(file)

    def lora(self, name: str) -> Path:
        """The LoRA of a name; InputError says what is near."""
        plain = name.lower().removesuffix(".safetensors")
        found = [file for file in self._files.get(plain, []) if file.suffix == ".safetensors"]
        if not found:
            names = sorted({file.stem for files in self._files.values() for file in files})
            close = difflib.get_close_matches(plain, [other.lower() for other in names], 3, 0.5)
            near = [other for other in names if other.lower() in close]
            hint = f"did you mean {' or '.join(near)}?" if near else "give its file, or its folder in folders"
            where = ", ".join(map(str, self.folders)) or "no folder"
            raise InputError(f"loras: {name[:80]!r} is in none of these folders: {where}; {hint}")
        if len(found) > 1:
            self.notes.append(f"{len(found)} files are called {name}: {found[0]} was taken")
        return found[0]

    def embeddings(self, text: str) -> list[Embedding]:
        """The embeddings whose names stand in a prompt, the longest names first."""
        found: list[Embedding] = []
        for name in sorted(self._files, key=len, reverse=True):
            if not re.search(word_pattern(name), text, re.IGNORECASE):
                continue
            if file := next((file for file in self._files[name] if is_embedding(file)), None):
                found.append(Embedding(name, file))
        return found


def word_pattern(name: str) -> str:
    """A pattern for a name as a word of its own in a prompt."""
    return rf"(?<!\w){re.escape(name)}(?!\w)"


def is_embedding(file: Path) -> bool:
    """Whether a file holds vectors for a word, by the names of its tensors."""
    try:
        if file.stat().st_size > LARGEST_EMBEDDING:
            return False
        names = list(read_header(file).tensors) if kind_of(file) == "safetensors" else pickle_names(file)
    except (ModelError, OSError):
        return False
    return any(EMBEDDING.fullmatch(name) for name in names)


def words_beside(lora: Path) -> dict[str, Path]:
    """The new words whose own files lie beside a LoRA, and these; one that another training left there is none."""
    named = {
        word: file for file in sorted(lora.parent.glob("*.safetensors")) if (word := word_of(lora.name, file.name))
    }
    return {word: file for word, file in named.items() if is_embedding(file) and _session(file) == _session(lora)}


def _session(file: Path) -> str | None:
    return read_header(file).metadata.get("ss_session_id")


def bundled_in(file: Path) -> list[Embedding]:
    """The new words that a LoRA brings along; whether the file is whole is for those to say who wear it."""
    try:
        return [Embedding(word.lower(), file, True) for word in _bundled(file, digest_of(file))]
    except ModelError:
        return []


@lru_cache(1000)
def _bundled(file: Path, digest: str) -> tuple[str, ...]:
    return tuple(bundled_words(read_header(file)))


def checkpoints_of(text: str) -> list[Path]:
    """The LoRA files of a run folder or of any other, in the order in which they were saved; or the one file.

    New words that lie beside them are none. InputError when there are none.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    files = [file for file in _files(path) if file.suffix == ".safetensors" and not is_embedding(file)]
    if not files:
        what = "holds no LoRA" if path.is_dir() else "does not exist"
        raise InputError(f"checkpoint: {text} {what}; give a LoRA, or a run folder")
    return sorted(files, key=lambda file: (_steps(file), file.name))


def _steps(file: Path) -> int:
    """Steps after which a LoRA was saved; the final file of a run comes after the others of the same step."""
    told = read_header(file).metadata.get("ss_steps", "")
    final = not re.search(r"-(step)?\d+$", file.stem)
    return 2 * (int(told) if told.isdigit() else 2**31 * final) + final


def _files(folder: Path) -> Iterator[Path]:
    folder = (
        folder / "checkpoints" if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir() else folder
    )
    yield from sorted(file for file in folder.rglob("*") if file.suffix in ENDINGS and file.is_file())


# Digests


def digest_of(path: Path) -> str:
    """sha256 of a file, or of all model files of a folder; kept in the cache by path, size and time of change."""
    if path.is_dir():
        inner = sorted(file for file in path.rglob("*") if file.suffix in MODEL_FILES and file.is_file())
        text = "\n".join(f"{file.relative_to(path).as_posix()} {digest_of(file)}" for file in inner)
        return hashlib.sha256(text.encode()).hexdigest()
    try:
        told = path.stat()
        return _digest(path.resolve(), told.st_size, told.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


@lru_cache(1000)
def _digest(path: Path, size: int, changed: int) -> str:
    """The digest of a file as it was then: this process knows it, or the cache, or it is read."""
    told = _known().get(str(path))
    if isinstance(told, list) and told[:2] == [size, changed]:
        return str(told[2])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    make_folder(_ledger().parent)
    write_json(_ledger(), {**_known(), str(path): [size, changed, digest]})
    return digest


def network_hash(path: Path) -> str:
    """The hash by which A1111 knows a LoRA: sha256 of its tensors, without the header."""
    told = read_header(path).metadata.get("sshs_model_hash", "")
    if re.fullmatch(r"[0-9a-f]{64}", told):
        return told
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ledger() -> Path:
    return places.cache() / "digests.json"


def _known() -> dict[str, Any]:
    try:
        told = read_json(_ledger())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
