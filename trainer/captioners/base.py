"""What all captioners have in common: which pictures there are, and how one is asked for captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainer.data.folders import ENDINGS, UNREAD, Problem, read_caption
from trainer.data.pictures import PictureError, plain
from trainer.errors import InputError
from trainer.images.batch import MASKS

if TYPE_CHECKING:
    from trainer.captioners.options import Endpoint, Existing, Sentences

Say = Callable[[str], None]
ENDS = (".", "!", "?")
"""After these no comma stands between two parts of a caption."""


class Captioner(Protocol):
    """Turns pictures into captions. `prepare` runs in several threads, `look` in one; both beside everything else."""

    what: str
    """What is written, in words: "WD14 captions"."""
    by: str
    """All that decides what is written, in one text: with the same, the same picture gets the same caption."""
    batch: int
    """How many pictures `look` takes at once."""
    existing: Existing
    """What becomes of a caption that is there; append and prepend read it."""
    separator: str
    """What stands between two tags, for the count of them."""

    def prepare(self, picture: Path) -> Any:
        """A picture made ready; PictureError when it cannot be used."""
        ...

    def look(self, pictures: Sequence[Any]) -> Sequence[Any]:
        """What is seen in each of some pictures made ready."""
        ...

    def caption(self, seen: Any, before: str | None) -> str:
        """The caption of what was seen; PictureError when there is none.

        before: the caption there, None without one, or when it is not asked for.
        """
        ...


@dataclass
class Report:
    """What became of the pictures of a folder."""

    pictures: int = 0
    captioned: int = 0
    done_before: int = 0
    """Captions that were left as they are: there already, or made by an earlier run in the same way."""
    problems: list[Problem] = field(default_factory=list)
    """Pictures that were left out, and why."""
    tags: Counter[str] = field(default_factory=Counter)
    """How often each tag stands in the captions of the folder's pictures."""
    seconds: float = 0.0
    """Time spent on captioning, without loading the model."""
    snapshot: str | None = None
    """The snapshot that takes the whole run back; None when nothing was changed."""
    stopped: bool = False

    def summary(self) -> str:
        """The figures in a sentence."""
        rate = f" ({self.captioned / self.seconds:,.1f} a second)" if self.captioned and self.seconds else ""
        left = self.pictures - self.captioned - self.done_before - len(self.problems)
        parts = [f"{self.captioned} captioned{rate}"]
        parts += [f"{self.done_before} as they were"] if self.done_before else []
        parts += [f"{len(self.problems)} left out"] if self.problems else []
        parts += [f"{left} still to do: run it again to go on"] if self.stopped else []
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """All of it for a program."""
        problems = [vars(problem) for problem in self.problems]
        return {**vars(self), "problems": problems, "tags": dict(self.tags.most_common())}


def find_pictures(folder: Path, recursive: bool, ending: str) -> tuple[list[Path], list[Problem]]:
    """All pictures of a folder that can get a caption, in order, and what is in the way of the others.

    Names that begin with a dot are the system's and passed over; links to folders are not followed; masks are no
    pictures.
    """
    pictures: list[Path] = []
    problems: list[Problem] = []
    inside: list[Path] = []
    root = folder.resolve()

    def leave(path: Path, what: str) -> None:
        problems.append(Problem(plain(path.relative_to(folder).as_posix()), what, "left out"))

    def walk(place: Path) -> None:
        try:
            entries = sorted(path for path in place.iterdir() if not path.name.startswith("."))
        except OSError as error:
            if place == folder:
                raise InputError(
                    f"folder: {plain(str(folder))} cannot be opened ({error.strerror}): choose the folder of pictures"
                ) from error
            return leave(place, f"cannot be opened ({error.strerror})")
        stems: dict[str, Path] = {}
        for path in entries:
            kind = path.suffix.lower()
            if path.is_dir() and not path.is_symlink():
                if place == folder and path.name == MASKS:
                    continue
                inside.append(path)
                if recursive:
                    walk(path)
            elif kind in UNREAD:
                leave(path, "a kind that is not read: save it as PNG or JPEG")
            elif kind in ENDINGS:
                caption = caption_of(path, ending)
                if (other := stems.setdefault(path.stem, path)) != path:
                    leave(path, f"{plain(other.name)} has the same name, so both would have one caption: rename one")
                elif not path.name.isprintable():
                    leave(path, "its name holds control characters or bytes that are no text: rename it")
                elif path.is_symlink() and not path.resolve().is_relative_to(root):
                    leave(path, "a link that leaves the folder, or leads nowhere")
                elif caption.is_symlink() or (caption.exists() and not caption.is_file()):
                    leave(path, f"its caption {plain(caption.name)} is a link or a folder: remove it")
                else:
                    pictures.append(path)

    walk(folder)
    if not pictures:
        hint = "; the folders in it are read with recursive" if inside and not recursive else ""
        lost = f": {'; '.join(map(str, problems[:5]))}" if problems else f" ({' '.join(ENDINGS)} are read)"
        raise InputError(f"folder: {plain(str(folder))} holds no pictures that can get a caption{lost}{hint}")
    return pictures, problems


def caption_of(picture: Path, ending: str) -> Path:
    """The caption's file of a picture."""
    return picture.with_name(picture.stem + ending)


def with_sentence(options: Sentences | Endpoint, sentence: str, before: str | None) -> str:
    """A caption of one line: prefix, the sentence behind or before what was there if that stays, postfix; none twice.

    Raises PictureError for a sentence without words, so that no caption is lost to it.
    """
    text = " ".join(sentence.split())
    if not text:
        raise PictureError("the model wrote nothing about it")
    first, last = options.prefix.strip(), options.postfix.strip()
    if options.existing in ("append", "prepend") and before:
        old = before if options.existing == "append" else before.removeprefix(first).strip()
        front, back = (old, text) if options.existing == "append" else (text, old)
        text = before if text in before else f"{front}{' ' if front[-1:] in ENDS else ', '}{back}"
    text = text if not first or text.startswith(first) else f"{first} {text}"
    return text if not last or text.endswith(last) else f"{text} {last}"


def asked(options: Sentences | Endpoint, picture: Path) -> str:
    """The prompt for a picture, with its tags in the place of `{tags}`; PictureError when they cannot be read."""
    caption = caption_of(picture, options.caption_extension)
    if "{tags}" not in options.prompt:
        return options.prompt
    return options.prompt.replace("{tags}", read_caption(caption)[0] if caption.is_file() else "")
