"""Data sets of captions for the tests of the tag editor; the pictures are empty files, since nothing opens them."""

from __future__ import annotations

from pathlib import Path

from trainer.tags.captions import CaptionSet


def tagged(root: Path, captions: dict[str, str | bytes | None], **options: str | bool) -> CaptionSet:
    """A data set with a picture for each name such as `1_zk9/a`, and its caption if it is not None."""
    for name, words in captions.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.png").touch()
        if words is not None:
            path.with_name(f"{path.name}.txt").write_bytes(words.encode() if isinstance(words, str) else words)
    return CaptionSet(str(root), **options)  # pyrefly: ignore


def files(root: Path) -> dict[str, bytes]:
    """Every caption that lies in a folder, snapshots aside."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob("[!.]*/*.txt"))}
