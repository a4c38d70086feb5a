"""Cures: each does what it says, and is taken back byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.doctor.cures import CURES, cure
from trainer.doctor.options import Doctor
from trainer.doctor.report import report
from trainer.errors import InputError
from trainer.snapshots import begin
from trainer.tags import tokens

Files = dict[str, bytes]


def draw(folder: Path, number: int, name: str) -> None:
    """A sharp picture like no other."""
    dice = np.random.default_rng(number)
    cells = Image.fromarray(dice.integers(20, 235, (30, 30, 3), np.uint8))
    folder.mkdir(parents=True, exist_ok=True)
    cells.resize((1000, 1000), Image.Resampling.NEAREST).save(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures with all that cures are for."""
    place = tmp_path / "img" / "10_zk9 woman"
    for number, name in enumerate(("a.png", "b.png", "c.png", "d.png", "e.png", "e.jpg")):
        draw(place, number, name)
    (place / "a.txt").write_bytes(b"zk9, 1girl, blue eyes, brown eyes\r\nsecond line")
    (place / "b.txt").write_bytes("1girl, Stra\u00dfe".encode("utf-16"))
    (place / "c.txt").write_text("zk9, " + ", ".join(f"thing {number} of the list" for number in range(40)))
    (place / "e.txt").write_text("zk9, two of one name")
    draw(place, 9, "near.png")
    Image.open(place / "near.png").resize((1200, 1200)).save(place / "nearer.png")
    (place / "near.txt").write_text("zk9, near")
    (place / "near.webp.txt").write_text("not a caption")
    return tmp_path / "img"


def files(folder: Path) -> Files:
    """All files that are no snapshots."""
    found = [path for path in folder.rglob("*") if path.is_file() and ".likeness" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def cures_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The first cure of each kind of finding, as the page gets it."""
    found = report(Doctor(folder=str(folder))).to_json()["findings"]
    return {finding["kind"]: finding["cures"][0] for finding in found if finding["cures"]}


def do(folder: Path, told: dict[str, Any]) -> dict[str, Any]:
    """What the page does with a cure: it sends back what it got."""
    return cure(str(folder), told["do"], told["pictures"], told)


@pytest.mark.parametrize("kind", ["duplicates", "trigger", "long_caption", "contradiction", "no_caption", "same_name"])
def test_a_cure_ends_its_finding_and_is_taken_back_byte_for_byte(folder: Path, kind: str) -> None:
    before, told = files(folder), cures_of(folder)
    done = do(folder, told[kind])
    assert done["done"] > 0 and done["what"]
    after = files(folder)
    assert after != before and kind not in cures_of(folder)
    again = do(folder, done["undo"])
    assert files(folder) == before and kind in cures_of(folder)
    if again["undo"]["do"] == "restore":  # what is taken back can be done again
        do(folder, again["undo"])
        assert files(folder) == after


def test_captions_are_cured_as_said(folder: Path) -> None:
    told, place = cures_of(folder), folder / "10_zk9 woman"
    do(folder, told["trigger"])
    assert (place / "b.txt").read_text("utf-8") == "zk9, 1girl, Stra\u00dfe"
    do(folder, told["contradiction"])
    assert (place / "a.txt").read_bytes() == b"zk9, 1girl, blue eyes\r\nsecond line"
    assert told["no_caption"]["words"] == "zk9 woman"
    do(folder, told["no_caption"])
    assert (place / "d.txt").read_text() == "zk9 woman"
    do(folder, told["long_caption"])
    line = (place / "c.txt").read_text()
    assert tokens.count([line])[0] <= 75 < tokens.count([f"{line}, thing 19 of the list"])[0]
    do(folder, told["same_name"])
    assert not (place / "e.png").exists() or not (place / "e.jpg").exists()
    stems = {path.stem: path for path in place.iterdir() if path.suffix in (".png", ".jpg")}
    assert (place / "e-2.txt").read_text() == (place / "e.txt").read_text() and {"e", "e-2"} <= stems.keys()


def test_the_best_of_a_group_stays_and_the_others_lie_aside_with_their_captions(folder: Path) -> None:
    told = cures_of(folder)["duplicates"]
    assert told["label"] == "Keep the best of each group" and told["pictures"] == ["10_zk9 woman/near.png"]
    done = do(folder, told)
    aside = folder / ".likeness" / "aside"
    assert {path.name for path in aside.rglob("*.*")} >= {"near.png", "near.txt"}
    assert (folder / "10_zk9 woman" / "nearer.png").is_file()
    draw(folder / "10_zk9 woman", 30, "near.png")  # a new one has taken the name
    with pytest.raises(InputError, match=r"near\.png"):
        do(folder, done["undo"])
    (folder / "10_zk9 woman" / "near.png").unlink()
    assert do(folder, done["undo"])["done"] == 1
    assert (folder / "10_zk9 woman" / "near.txt").read_text() == "zk9, near"


@pytest.mark.parametrize(
    ("name", "pictures", "arguments", "said"),
    [
        ("burn", [], {}, "do: burn is no cure: choose from set_aside"),
        ("set_aside", ["../private.png"], {}, "pictures: "),
        ("set_aside", ["10_zk9 woman/gone.png"], {}, "gone.png is not there any more"),
        ("set_aside", [".likeness/snapshots"], {}, "pictures: "),
        ("put_back", ["nothing.png"], {}, "is not set aside"),
        ("add_trigger", ["10_zk9 woman/a.png"], {"trigger": " "}, "trigger: is empty"),
        ("add_trigger", ["a.png"], {"trigger": "zk9"}, "a.png is none of"),
        ("add_trigger", ["10_zk9 woman/a.png"], {"trigger": 5}, "trigger: 5 is no argument"),
        ("write_missing", ["10_zk9 woman/d.png"], {"words": ","}, "words: is empty"),
        ("truncate", ["10_zk9 woman/c.png"], {"tokens": 10}, "tokens: 10 is no limit"),
        ("truncate", ["10_zk9 woman/c.png"], {"size": "75"}, "size: 75 is no argument"),
        ("restore", [], {"snapshot": "../.."}, "snapshot: "),
        ("write_missing", ["10_zk9 woman/d.png"], {"words": "x", "caption_extension": "/../x"}, "caption_extension: "),
        ("write_missing", ["10_zk9 woman/d.png"], {"words": "x", "caption_extension": ".x\0"}, "caption_extension: "),
        ("write_missing", ["10_zk9 woman/d.png"], {"words": "x", "caption_extension": "txt"}, "caption_extension: "),
        ("rename", ["10_zk9 woman/e.png", "10_zk9 woman/e.jpg"], {"caption_extension": ""}, "caption_extension: "),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    folder: Path, name: str, pictures: list[str], arguments: dict[str, Any], said: str
) -> None:
    (folder.parent / "private.png").write_bytes(b"private")
    before = files(folder.parent)
    with pytest.raises(InputError, match=said.replace(".", r"\.")):
        cure(str(folder), name, pictures, arguments)
    assert files(folder.parent) == before
    with pytest.raises(InputError, match="folder: "):
        cure(str(folder / "gone"), "set_aside", [])


@pytest.mark.parametrize("names", [["a.png"], ["a.png", "b.png"]])
def test_a_cure_is_taken_back_by_its_own_snapshot(folder: Path, names: list[str]) -> None:
    other = begin(folder, "of another writer")
    other.id = "9999-12-31_235959-999999999"
    other.keep(folder / "10_zk9 woman" / "c.txt")
    before = files(folder)
    done = cure(str(folder), "add_trigger", [f"10_zk9 woman/{name}" for name in names], {"trigger": "sks"})
    assert done["done"] == len(names) and files(folder) != before
    do(folder, done["undo"])
    assert files(folder) == before


def test_every_cure_of_a_report_is_known(folder: Path) -> None:
    found = report(Doctor(folder=str(folder))).to_json()["findings"]
    cures = [told for finding in found for told in finding["cures"]]
    assert {told["do"] for told in cures} <= CURES.keys() and len(cures) >= 6


KINDS = ("duplicates", "trigger", "long_caption", "contradiction", "same_name")


@settings(max_examples=40)
@given(order=st.lists(st.sampled_from(KINDS), max_size=5))
def test_any_sequence_of_cures_is_taken_back(order: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("set")
    place = folder / "10_zk9"
    place.mkdir()
    for name, words in (("a.png", "red hair, blue hair"), ("b.png", "zk9, x"), ("b.jpg", ""), ("c.png", "zk9, " * 90)):
        (place / name).write_bytes(name.encode())  # cures read no pixels
        if words:
            (place / name).with_suffix(".txt").write_text(words)
    cures: dict[str, tuple[str, list[str], dict[str, Any]]] = {
        "duplicates": ("set_aside", ["10_zk9/c.png"], {}),
        "trigger": ("add_trigger", ["10_zk9/a.png"], {"trigger": "zk9"}),
        "long_caption": ("truncate", ["10_zk9/c.png"], {"tokens": 75}),
        "contradiction": ("fix_captions", ["10_zk9/a.png"], {}),
        "same_name": ("rename", ["10_zk9/b.jpg", "10_zk9/b.png"], {}),
    }
    states, undos = [files(folder)], []
    for step in order:
        name, pictures, arguments = cures[step]
        if all((folder / picture).exists() for picture in pictures):
            done = cure(str(folder), name, pictures, arguments)
            if done["undo"]:
                undos.append(done["undo"])
                states.append(files(folder))
    for undo, state in zip(reversed(undos), reversed(states[:-1]), strict=True):
        cure(str(folder), undo["do"], undo["pictures"], undo)
        assert files(folder) == state
