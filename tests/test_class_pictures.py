"""Class pictures: made by the base model, resumed where they were stopped, and found as regularisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.__main__ import parser
from trainer.compare.options import ClassPictures
from trainer.compare.painter import Painter
from trainer.compare.reg import run
from trainer.config import Config
from trainer.data.folders import collect
from trainer.errors import InputError
from trainer.jobs import JOBS
from trainer.tree import validate

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")


def test_they_are_made_once_and_train_as_regularisation(
    bases: dict[str, Path], images: Path, tmp_path: Path, models: Path
) -> None:
    wish: dict[str, Any] = {
        **{"folder": str(tmp_path / "reg"), "words": "woman", "base": str(bases["sd15"]), "device": "cpu"},
        **{"count": 3, "batch": 2, "steps": 1, "size": 64, "cfg": 1.0, "sampler": "Euler", "seed": 7},
    }
    options = validate(ClassPictures, wish)
    painter = Painter(options, say=lambda text: None)
    told: list[tuple[int, int]] = []
    seen: list[str] = []
    asked = iter([False, True])  # a tick for each step: the second batch is stopped

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    def event(kind: str, /, **facts: Any) -> None:
        seen.append(kind)

    first = run(options, tell, lambda: next(asked, True), event, painter)
    place = tmp_path / "reg" / "1_woman"
    assert first.stopped and [path.name for path in sorted(place.iterdir())] == ["00001-7.png", "00002-8.png"]
    kept = {path: path.read_bytes() for path in place.iterdir()}
    rest = run(options, tell, painter=painter)
    assert [Path(file).name for file in rest.files] == ["00003-9.png"] and not rest.stopped
    assert all(path.read_bytes() == kept[path] for path in kept)
    assert told[-1] == (3, 3) and seen.count("picture") == 2
    (place / "00002-8.png").unlink()
    again = run(validate(ClassPictures, {**wish, "batch": 1}), painter=painter)
    assert [Path(file).name for file in again.files] == ["00002-8.png"] and "2 were there" in again.said
    assert not run(options, painter=painter).files

    config = Config.model_validate({"data": {"images": str(images), "reg": str(tmp_path / "reg")}})
    reg = [one for one in collect(config.data, config.captions).pictures if one.folder.reg]
    assert [(one.caption, one.folder.repeats) for one in reg] == [("woman", 1)] * 3


@pytest.mark.parametrize("words", ["", "../out", "a/b", ".hidden", "a\nb", "c:d"])
def test_a_class_is_part_of_a_folder_s_name(words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="words"):
        validate(ClassPictures, {"folder": str(tmp_path), "words": words})


def test_it_is_a_word_and_a_job() -> None:
    assert JOBS["reg.make"].options is ClassPictures and JOBS["reg.make"].gpu
    given = parser().parse_args(["reg", "make", "some/reg", "--words", "woman", "--count", "5"])
    assert given.do
