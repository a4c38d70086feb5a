"""The tools for folders: what they make, that nobody's pictures are touched, and that each step can be taken back."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from trainer import aside, places
from trainer.data.folders import SHIPPED
from trainer.data.pictures import resize
from trainer.durable import DiskError
from trainer.errors import InputError
from trainer.folders import balance, dedupe, files, group, importing, intake, prepare
from trainer.folders.command import TOOLS, run_tool
from trainer.folders.options import Balance, Dedupe, Group, Import, Prepare
from trainer.images.similar import duplicates, fingerprint, fingerprint_of
from trainer.pocket import draw
from trainer.snapshots import begin, load


def photo(seed: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """Soft colours in large areas, as photos have, unlike those of any other seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def save(path: Path, image: Image.Image | None = None, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or photo(zlib.crc32(path.name.encode()))).save(path, **how)
    return path


def everything(folder: Path) -> dict[str, str]:
    """sha256 of every file, hidden ones too, by name."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """Pictures as a person has them; after each test they are the same, byte for byte."""
    folder = tmp_path / "mine"
    for number, size in enumerate(((96, 96), (120, 80), (64, 128))):
        save(folder / f"{number}.png", photo(number, size))
    (folder / "0.txt").write_text("zk9, standing")
    (folder / "notes.doc").write_text("private")
    before = everything(folder)
    yield folder
    assert everything(folder) == before


# Prepare


def test_prepared_folders_are_compared_copies(source: Path, tmp_path: Path) -> None:
    wish = Prepare(
        trigger="zk9", class_word="cat", repeats=7, images=str(source), reg=str(source), reg_repeats=2,
        destination=str(tmp_path / "set"),
    )  # fmt: skip
    told: list[tuple[int, int]] = []
    report = prepare.run(wish, lambda done, total: told.append((done, total)))
    made = everything(tmp_path / "set")
    for folder in ("img/7_zk9 cat", "reg/2_cat"):
        mine = {f"{folder}/{name}": digest for name, digest in everything(source).items() if name != "notes.doc"}
        assert mine.items() <= made.items()
    assert len(made) == 8 and told[-1] == (8, 8) and report.found["copied"] == 6
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"img", "reg", "log", "model"}
    assert prepare.run(wish).found["copied"] == 0
    (tmp_path / "set" / "reg" / "2_cat" / "0.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already, with other files"):
        prepare.run(wish)
    assert (tmp_path / "set" / "reg" / "2_cat" / "0.png").read_bytes() == b"mine"


def test_a_copy_that_differs_is_refused(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that writes other bytes than it was given."""
    real = files.digest_of
    monkeypatch.setattr(files, "digest_of", lambda path: real(path) + ("!" if path.suffix == ".part" else ""))
    with pytest.raises(InputError, match="the copy differs"):
        prepare.run(Prepare(trigger="zk9", images=str(source), destination=str(tmp_path / "set")))
    assert not list((tmp_path / "set" / "img").iterdir())


def test_preparing_stops_with_nothing_half_done(source: Path, tmp_path: Path) -> None:
    count = iter(range(9))
    wish = Prepare(trigger="zk9", images=str(source), destination=str(tmp_path / "set"))
    report = prepare.run(wish, should_stop=lambda: next(count) >= 2)
    assert report.stopped and not list((tmp_path / "set" / "img").iterdir())
    assert prepare.run(wish).found["copied"] == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trigger": " "}, "trigger: it is empty"),
        ({"images": None}, "images: it is empty"),
        ({"destination": ""}, "destination: it is empty"),
        ({"reg": "."}, "class: it is empty"),
        ({"trigger": "a/b"}, "trigger: 'a/b' cannot be the name"),
        ({"destination": str(places.ROOT / "trainer" / "x")}, "destination: .* is where Likeness itself lies"),
        ({"images": "/no/such"}, "images: .* does not exist"),
    ],
)
def test_what_cannot_be_prepared_is_said(source: Path, tmp_path: Path, change: dict[str, str], words: str) -> None:
    wish = {"trigger": "zk9", "images": str(source), "destination": str(tmp_path / "set")}
    with pytest.raises(InputError, match=words):
        prepare.run(Prepare.model_validate(wish | change))
    assert not (tmp_path / "set").exists()


# Balance


def concepts(root: Path, counts: dict[str, int]) -> Path:
    """A data set of folders with so many pictures."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.png").write_bytes(name.encode() + bytes([number]))
    return root


@given(pictures=st.integers(1, 5000), steps=st.integers(1, 100_000))
def test_kohya_s_rule(pictures: int, steps: int) -> None:
    repeats = balance.repeats_for(pictures, steps)
    assert 1 <= repeats <= 10_000
    if 1 < repeats < 10_000:
        assert abs(pictures * repeats - steps) <= pictures / 2 + 1e-6


@settings(max_examples=60)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=6))
def test_equal_weights_are_as_even_as_numbers_allow(pictures: list[int]) -> None:
    repeats = balance.equal_repeats(pictures)
    uses = [count * each for count, each in zip(pictures, repeats, strict=True)]
    assert min(repeats) >= 1
    if max(uses) > 1.05 * min(uses):  # then no smaller numbers of the largest folder do better
        most = max(pictures)
        for times in range(1, balance.MOST_EQUAL + 1):
            other = [count * max(1, round(most * times / count)) for count in pictures]
            assert max(other) / min(other) >= max(uses) / min(uses) - 1e-9
    if len(set(pictures)) == 1:
        assert repeats == [1] * len(pictures)


def test_balancing_shows_a_plan_renames_and_goes_back(tmp_path: Path) -> None:
    root = concepts(tmp_path / "img", {"10_zk9": 4, "5_cat": 8, "3_empty": 0, "plain": 2})
    before = everything(root)
    wish = Balance(folder=str(root), steps=100)
    report = balance.run(wish)
    assert everything(root) == before
    plan = {line["old"]: (line["new"], line["pictures"], line["steps"]) for line in report.found["plan"]}
    assert plan == {"10_zk9": ("25_zk9", 4, 100), "5_cat": ("12_cat", 8, 96)}
    assert {str(problem) for problem in report.problems} == {
        "3_empty: holds no pictures: left as it is",
        "plain: its name has no number of repeats: left as it is",
    }
    report = balance.run(wish.model_copy(update={"apply": True}))
    assert report.summary() == "2 of 2 folders renamed." and report.found["undo"]
    assert {path.name for path in root.iterdir()} == {"25_zk9", "12_cat", "3_empty", "plain", ".likeness"}
    balance.run(Balance(folder=str(root), undo=True))
    assert everything(root) == before
    with pytest.raises(InputError, match="nothing to take back"):
        balance.run(Balance(folder=str(root), undo=True))


def test_what_was_set_aside_or_kept_comes_back_under_the_new_name(tmp_path: Path) -> None:
    root = concepts(tmp_path / "img", {"10_zk9": 3, "5_cat": 9})
    caption = root / "10_zk9" / "1.txt"
    caption.write_text("old")
    snapshot = begin(root, "captions")
    snapshot.write(caption, b"new")
    names = aside.set_aside(root, [root / "10_zk9" / "0.png"])
    balance.run(Balance(folder=str(root), how="equal", apply=True))
    assert {path.name for path in root.iterdir()} == {"9_zk9", "2_cat", ".likeness"}  # of two pictures, and of nine
    (name,) = aside.names(root)
    assert name != names[0]
    aside.put_back(root, [name])
    load(root, snapshot.id).restore()
    (folder,) = root.glob("*_zk9")
    assert {path.name for path in folder.iterdir()} == {"0.png", "1.png", "2.png", "1.txt"}
    assert (folder / "1.txt").read_text() == "old" and not (root / "10_zk9").exists()


class Crash(BaseException):
    """The machine goes off."""


def renamed_until(moment: int, fault: BaseException, monkeypatch: pytest.MonkeyPatch, wish: Balance) -> bool:
    """Balances with a fault at that renaming or writing; False when there are not so many."""
    count = 0

    def counted(real: Any) -> Any:
        def call(*paths: Any) -> None:
            nonlocal count
            count += 1
            if count == moment:
                raise fault
            real(*paths)

        return call

    with monkeypatch.context() as change:
        for name in ("rename", "replace"):
            change.setattr(os, name, counted(getattr(os, name)))
        try:
            balance.run(wish)
        except (Crash, DiskError):
            return True
    return count >= moment


def twice(tmp_path: Path, count: int) -> tuple[Path, dict[str, str], dict[str, str]]:
    """Folders balanced once, that are to be balanced again in a chain; and all files before both."""
    root = tmp_path / f"img{count}"
    for name, pictures in (("2_zk9", 5), ("20_zk9", 2)):
        (root / name).mkdir(parents=True)
        for number in range(pictures):
            (root / name / f"{number}.png").write_bytes(f"{name}{number}".encode())
        begin(root, "captions").write(root / name / "0.txt", b"new")
    aside.set_aside(root, [root / "2_zk9" / "4.png"])
    first = everything(root)
    balance.run(Balance(folder=str(root), steps=80, apply=True))  # 2 -> 20 -> 40
    second = everything(root)
    assert {path.name for path in root.glob("*_zk9")} == {"20_zk9", "40_zk9"}
    return root, first, second


@pytest.mark.parametrize("fault", [Crash(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("undo", [False, True])
def test_a_renaming_cut_off_anywhere_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, undo: bool
) -> None:
    moment, cut = 1, 0
    root, first, second = twice(tmp_path, moment)
    again, back = Balance(folder=str(root), steps=160, apply=True), Balance(folder=str(root), undo=True)
    if undo:
        balance.run(again)
        second.pop(".likeness/balance.json")
    while renamed_until(moment, fault, monkeypatch, back if undo else again):
        begun = (root / ".likeness" / "renaming.json").exists()
        if begun:
            with pytest.raises(InputError, match="take that back first, with undo in Dataset balancing"):
                load(root, min(os.listdir(root / ".likeness" / "snapshots"))).restore()
            with pytest.raises(InputError, match="take that back first"):
                aside.put_back(root, aside.names(root))
        cut += begun
        if begun or undo:
            balance.run(back)
        assert everything(root) == second
        if undo:
            balance.run(again)
        moment += 1
    assert moment == (7 if undo else 8) and cut == (5 if undo else 6 if isinstance(fault, Crash) else 0)
    if undo:
        assert everything(root) == second
    else:
        balance.run(back)
        assert {path.name for path in root.glob("*_zk9")} == {"20_zk9", "40_zk9"}
        root, first, second = twice(tmp_path, 0)
        assert renamed_until(4, fault, monkeypatch, Balance(folder=str(root), steps=160, apply=True))
        for _ in range(2 if isinstance(fault, Crash) else 1):  # the renaming before can be taken back as ever
            balance.run(Balance(folder=str(root), undo=True))
        assert everything(root) == first


def test_a_renaming_cut_off_is_taken_back_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, _, second = twice(tmp_path, 0)
    wish = Balance(folder=str(root), steps=160, apply=True)
    assert renamed_until(4, Crash(), monkeypatch, wish) and (root / ".likeness" / "renaming.json").exists()
    assert {path.name for path in root.glob("*_zk9")} != {"20_zk9", "40_zk9"}
    balance.run(wish)
    assert {path.name: len([*path.glob("*.png")]) for path in root.glob("*_zk9")} == {"40_zk9": 4, "80_zk9": 2}
    balance.run(Balance(folder=str(root), undo=True))
    kept = everything(root)
    assert {name: kept[name] for name in kept} == {name: second[name] for name in second if "balance" not in name}


def test_balancing_touches_nothing_behind_links(tmp_path: Path) -> None:
    outside = concepts(tmp_path / "outside", {"10_zk9": 1})
    (outside / "list.jsonl").write_text("private 10_zk9/")
    for number, place in enumerate((".likeness", ".likeness/aside", ".likeness/aside/x", ".likeness/snapshots/x")):
        root = concepts(tmp_path / str(number), {"10_zk9": 2})
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(outside)
        with pytest.raises(InputError, match="a link leads out of the folder"):
            balance.run(Balance(folder=str(root), steps=100, apply=True))
        assert (root / "10_zk9").is_dir()
    assert {path.name for path in outside.iterdir()} == {"10_zk9", "list.jsonl"}
    assert (outside / "list.jsonl").read_text() == "private 10_zk9/"


def test_two_pictures_of_one_name_that_were_set_aside_are_both_kept(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        (tmp_path / "a.png").write_bytes(content)
        aside.set_aside(tmp_path, [tmp_path / "a.png"])
    before = everything(tmp_path)
    with pytest.raises(InputError, match=r"a\.png: two files would have this name"):
        aside.put_back(tmp_path, aside.names(tmp_path))
    assert everything(tmp_path) == before
    newest, oldest = aside.names(tmp_path)
    aside.put_back(tmp_path, [newest])
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    aside.put_back(tmp_path, [oldest])
    assert [(tmp_path / name).read_bytes() for name in ("a.png", "b.png")] == [b"first", b"second"]


def test_all_are_moved_or_none_when_a_folder_cannot_be_made(tmp_path: Path) -> None:
    names = aside.set_aside(tmp_path, [save(tmp_path / folder / "0.png", photo(1)) for folder in ("a", "b")])
    (tmp_path / "b").rmdir()
    (tmp_path / "b").write_text("in the way")
    before = everything(tmp_path)
    with pytest.raises(DiskError, match="cannot be written"):
        aside.put_back(tmp_path, names)
    assert everything(tmp_path) == before


def test_insecure_renaming_numbers_all_and_weighs_braces(tmp_path: Path) -> None:
    root = concepts(tmp_path / "img", {"{2}zk9": 10, "dog": 10, "4_cat": 20})
    balance.run(Balance(folder=str(root), steps=100, insecure=True, apply=True))
    assert {path.name for path in root.iterdir()} == {"20_zk9", "10_dog", "5_cat", ".likeness"}


def test_names_that_clash_are_refused_and_chains_are_not(tmp_path: Path) -> None:
    root = concepts(tmp_path / "a", {"24_zk9": 4, "16_zk9": 4})
    with pytest.raises(InputError, match=r"16_zk9 and 24_zk9 would both become 25_zk9"):
        balance.run(Balance(folder=str(root), steps=100, apply=True))
    chain = concepts(tmp_path / "b", {"10_zk9": 5, "20_zk9": 2})
    before = everything(chain)
    balance.run(Balance(folder=str(chain), steps=100, apply=True))  # 10 becomes 20, which becomes 50
    assert everything(chain).keys() == {
        *(f"20_zk9/{n}.png" for n in range(5)), *(f"50_zk9/{n}.png" for n in range(2)), ".likeness/balance.json"
    }  # fmt: skip
    balance.run(Balance(folder=str(chain), undo=True))
    assert everything(chain) == before
    swap = concepts(tmp_path / "c", {"10_zk9": 5, "20_zk9": 10})
    with pytest.raises(InputError, match="which is there already"):
        balance.run(Balance(folder=str(swap), steps=100, apply=True))
    (tmp_path / "a" / "100_x").mkdir()
    assert {path.name for path in root.iterdir()} == {"24_zk9", "16_zk9", "100_x"}


def test_faces_and_bodies_get_the_tutorials_repeats(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "img" / "5_zk9" / f"{number}.png", photo(number, (64, 64)))
        save(tmp_path / "img" / "7_zk9" / f"{number}.png", photo(number, (64, 96)))
    report = balance.run(Balance(folder=str(tmp_path / "img"), how="faces"))
    assert {line["old"]: line["new"] for line in report.found["plan"]} == {"5_zk9": "24_zk9", "7_zk9": "16_zk9"}
    assert "5_zk9 would have 60 % of the training" in report.found["hint"]
    turned = balance.run(Balance(folder=str(tmp_path / "img"), how="faces", faces="7_zk9")).found["plan"]
    assert {line["old"]: line["repeats"] for line in turned} == {"5_zk9": 16, "7_zk9": 24}
    with pytest.raises(InputError, match="faces: 'x' is none of 5_zk9, 7_zk9"):
        balance.run(Balance(folder=str(tmp_path / "img"), how="faces", faces="x"))


def test_balancing_points_to_the_right_folder(tmp_path: Path) -> None:
    concepts(tmp_path / "set" / "img", {"dog": 1})
    with pytest.raises(InputError, match=r"choose .*img"):
        balance.run(Balance(folder=str(tmp_path / "set")))
    with pytest.raises(InputError, match="dog has none: set insecure"):
        balance.run(Balance(folder=str(tmp_path / "set" / "img")))
    with pytest.raises(InputError, match="is where Likeness itself lies"):
        balance.run(Balance(folder=str(SHIPPED["zk9"] / "img"), apply=True))
    (tmp_path / "set" / "img" / ".likeness").mkdir()
    for evil in ({"10_a": "../../b"}, {"10_a": ".likeness"}):
        (tmp_path / "set" / "img" / ".likeness" / "balance.json").write_text(json.dumps(evil))
        with pytest.raises(InputError, match="nothing was renamed"):
            balance.run(Balance(folder=str(tmp_path / "set" / "img"), undo=True))


# Duplicates


def marked(image: Image.Image) -> Image.Image:
    """With a small watermark in a corner."""
    image = image.copy()
    image.paste((255, 255, 255), (70, 88, 94, 94))
    return image


ALTERED = {
    "same": lambda image: image,
    "small": lambda image: image.resize((40, 40)),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "cropped": lambda image: image.crop((2, 1, 94, 95)),
    "marked": marked,
    "stronger": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "mirrored": ImageOps.mirror,
}


def test_near_duplicates_are_found_and_others_are_not() -> None:
    sources = [photo(number) for number in range(40)]
    pictures = sources + [change(image) for change in ALTERED.values() for image in sources]
    found = duplicates([fingerprint(image) for image in pictures])
    wanted = [{place + 40 * copy for copy in range(len(ALTERED) + 1)} for place in range(40)]
    right = sum(len(set(members) & next(want for want in wanted if members[0] in want)) for members in found)
    assert right >= 0.95 * len(pictures)
    assert all(any(set(members) <= want for want in wanted) for members in found)
    assert duplicates([]) == [] == duplicates([fingerprint(sources[0])])


def test_drawings_of_one_creature_are_no_duplicates() -> None:
    shipped = [Image.open(path) for path in sorted((SHIPPED["zk9"] / "img").rglob("*.png"))]
    assert len(shipped) == 12 and duplicates([fingerprint(image) for image in shipped]) == []
    drawn = [fingerprint(draw.picture(seed).picture) for seed in range(300)]
    assert sum(map(len, duplicates(drawn))) <= 0.05 * len(drawn)  # of 300 simple drawings a few do look the same


def test_plain_grounds_are_duplicates_when_they_are_equal() -> None:
    plain = [fingerprint(Image.new("RGB", (64, 64), colour)) for colour in ("red", "blue", "red")]
    assert duplicates(plain) == [[0, 2]]


def test_the_quick_way_sees_the_same_picture(tmp_path: Path) -> None:
    image = photo(3, (1200, 900))
    plain = save(tmp_path / "a.jpg", image, quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path / "b.jpg", image.transpose(Image.Transpose.ROTATE_90), quality=90, exif=exif)
    lossless = save(tmp_path / "c.png", image)
    prints = [fingerprint_of(path) for path in (plain, turned, lossless)]
    assert duplicates(prints) == [[0, 1, 2]]
    assert np.abs(prints[0].astype(int) - fingerprint(image)).mean() < 3
    with pytest.raises(InputError, match="damaged"):
        fingerprint_of(save(tmp_path / "d.jpg", image)) if not (tmp_path / "d.jpg").write_bytes(
            plain.read_bytes()[:3000]
        ) else fingerprint_of(tmp_path / "d.jpg")


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    """Two data sets with pictures in common."""
    one, two = tmp_path / "one", tmp_path / "two"
    save(one / "10_a" / "large.png", photo(1, (120, 120)))
    save(one / "10_a" / "small.png", photo(1, (120, 120)).resize((60, 60)))
    (one / "10_a" / "small.txt").write_text("words")
    save(two / "copy.png", photo(1, (120, 120)))
    (two / "copy.txt").write_text("of the copy")
    fine = Image.blend(photo(2, (100, 100)), Image.effect_noise((100, 100), 90).convert("RGB"), 0.2)
    save(two / "blurred.png", fine.filter(ImageFilter.GaussianBlur(2)))
    save(two / "sharp.png", fine)
    save(two / "alone.png", photo(3))
    (two / "link.png").symlink_to(two / "sharp.png")
    (two / "torn.png").write_bytes((two / "sharp.png").read_bytes()[:300])
    return one, two


def test_duplicates_across_folders_are_grouped_with_the_best_first(twins: tuple[Path, Path]) -> None:
    one, two = twins
    before = everything(one) | everything(two)
    told: list[tuple[int, int]] = []
    wish = Dedupe(folder=str(one), others=(str(two),))
    report = dedupe.run(wish, lambda done, total: told.append((done, total)))
    first, second = report.found["groups"]
    assert [(Path(line["path"]).name, line["same"], line["why"]) for line in first] == [
        ("copy.png", "", "it has a caption"),
        ("large.png", "the same file", ""),
        ("small.png", "nearly the same", ""),
    ]
    assert Path(second[0]["path"]).name == "sharp.png" and second[0]["why"] == "it is the sharpest"
    assert report.summary() == "3 of 6 pictures are duplicates, in 2 groups."
    assert told[-1] == (7, 7) and [problem.file for problem in report.problems] == ["two/link.png", "two/torn.png"]
    assert everything(one) | everything(two) == before
    exact = dedupe.run(wish.model_copy(update={"near": False})).found["groups"]
    assert [[Path(line["path"]).name for line in members] for members in exact] == [["copy.png", "large.png"]]
    assert dedupe.run(wish, should_stop=lambda: True).stopped


def test_the_others_are_set_aside_and_come_back_byte_for_byte(twins: tuple[Path, Path]) -> None:
    one, two = twins
    before = everything(one), everything(two)
    report = dedupe.run(Dedupe(folder=str(one), others=(str(two),), apply=True))
    left = {path.name for root in twins for path in root.rglob("*") if ".likeness" not in path.parts and path.is_file()}
    assert left == {"copy.png", "copy.txt", "sharp.png", "alone.png", "torn.png", "link.png"}
    assert {Path(name).name for part in report.found["aside"] for name in part["names"]} == {
        *("large.png", "small.png", "blurred.png")
    }
    assert dedupe.run(Dedupe(folder=str(one), others=(str(two),))).found["groups"] == []
    assert sorted(before[0].values()) + sorted(before[1].values()) == [
        *sorted(everything(one).values()), *sorted(everything(two).values())
    ]  # fmt: skip
    undone = dedupe.run(Dedupe(folder=str(one), others=(str(two),), undo=True))
    assert undone.summary() == "3 pictures are back."
    assert (everything(one), everything(two)) == before


def test_only_pictures_of_these_folders_are_set_aside(twins: tuple[Path, Path], tmp_path: Path) -> None:
    other = save(tmp_path / "other" / "a.png")
    for wrong in (other, twins[0] / ".." / "other" / "a.png", twins[0] / "10_a" / "small.txt"):
        with pytest.raises(InputError, match="is no picture of these folders"):
            dedupe.set_aside(twins, [wrong])
    assert other.is_file()


def test_a_folder_inside_another_counts_once(twins: tuple[Path, Path]) -> None:
    one, _ = twins
    report = dedupe.run(Dedupe(folder=str(one), others=(str(one / "10_a"), str(one)), near=False))
    assert report.found["pictures"] == 2 and report.found["groups"] == []
    with pytest.raises(InputError, match="no picture lies in"):
        (one / "none").mkdir()
        dedupe.run(Dedupe(folder=str(one / "none")))


# Import


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def png(seed: int) -> bytes:
    file = io.BytesIO()
    photo(seed, (40, 40)).save(file, "PNG")
    return file.getvalue()


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_in_with_captions_and_without_what_is_known(source: Path, tmp_path: Path) -> None:
    goal = tmp_path / "set" / "10_zk9"
    save(goal / "0.png", photo(50))
    (goal / "0.txt").write_text("mine")
    shutil.copy(source / "1.png", goal / "known.png")
    before = everything(goal)
    told: list[tuple[int, int]] = []
    report = importing.run(Import(folder=str(goal), source=str(source)), lambda done, total: told.append((done, total)))
    after = everything(goal)
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {"0-2.png", "0-2.txt", "2.png"}
    assert (goal / "0-2.txt").read_text() == "zk9, standing"
    assert (goal / "0-2.png").read_bytes() == (source / "0.png").read_bytes()
    assert report.summary() == "2 pictures and 1 captions came in, 1 pictures were there already."
    assert [str(problem) for problem in report.problems] == ["notes.doc: neither a picture nor a caption: left out"]
    assert importing.run(Import(folder=str(goal), source=str(source))).found["known"] == 3 and told
    assert everything(goal) == after


def test_what_comes_in_is_flushed_as_windows_wants_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: list[tuple[int, bool]] = []

    def flush(file: int) -> None:
        flags.append((fcntl.fcntl(file, fcntl.F_GETFL), stat.S_ISREG(os.fstat(file).st_mode)))

    monkeypatch.setattr(os, "fsync", flush)
    (source / "0.png").chmod(0o400)
    importing.run(Import(source=str(source), folder=str(tmp_path / "set")))
    modes = [flag & os.O_ACCMODE for flag, is_file in flags if is_file]
    assert modes == [os.O_RDWR] * 4  # three pictures and a caption
    assert (tmp_path / "set" / "0.png").stat().st_mode & stat.S_IWUSR
    (source / "0.png").chmod(0o600)


def test_kohya_s_folders_in_a_zip_keep_their_names(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "set.zip", {
        "set/img/5_zk9/a.png": png(1), "set/img/5_zk9/a.txt": b"one", "set/more/a.png": png(2), "set/b/a.png": png(3),
        "set/b/a.txt": b"three", "set/b/again.png": png(1), "set/b/lost.txt": b"alone",
    })  # fmt: skip
    report = importing.run(Import(folder=str(tmp_path / "img"), source=str(archive)))
    assert names_in(tmp_path / "img") == {"5_zk9/a.png", "5_zk9/a.txt", "a.png", "a.txt", "a-2.png"}
    assert (tmp_path / "img" / "a.txt").read_bytes() == b"three"  # with the picture it lay beside
    assert (tmp_path / "img" / "a.png").read_bytes() == png(3)
    assert [problem.what for problem in report.problems] == ["a caption without its picture"]
    flat = tmp_path / "3_all"
    importing.run(Import(folder=str(flat), source=str(archive)))
    assert names_in(flat) == {"a.png", "a.txt", "a-2.png", "a-2.txt", "a-3.png"}


def test_a_hostile_zip_brings_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "evil.zip", {
        "ok.png": png(1), "../../slip.png": png(2), "/abs.png": png(3), "..\\back.png": png(4), "CON.png": png(5),
        "bomb.png": b"\0" * 30_000_000, "page.png": b"<html>", "run.sh": b"rm", "in.zip": png(1),
        "big.txt": b"x" * 70_000, "5_a\n/x.png": png(6), ".hidden/y.png": png(7),
    })  # fmt: skip
    with zipfile.ZipFile(archive, "a") as more:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        more.writestr(link, "/etc/passwd")
    report = importing.run(Import(folder=str(tmp_path / "set"), source=str(archive)))
    assert names_in(tmp_path / "set") == {"ok.png", "x.png", "y.png"} and not list(tmp_path.rglob("slip.png"))
    assert {problem.file for problem in report.problems} == {
        *("../../slip.png", "/abs.png", "..\\back.png", "CON.png", "bomb.png", "page.png", "run.sh", "in.zip"),
        *("big.txt", "link.png"),
    }
    assert not list((tmp_path / "set").glob(".tmp-*"))
    monkeypatch.setattr(importing, "Limits", lambda: intake.Limits(files=3))
    with pytest.raises(intake.TooLarge, match="more than 3 files"):
        importing.run(Import(folder=str(tmp_path / "b"), source=str(archive)))
    monkeypatch.setattr(importing, "Limits", lambda: intake.Limits(bytes=1000))
    with pytest.raises(intake.TooLarge, match="bring it in parts"):
        importing.run(Import(folder=str(tmp_path / "b"), source=str(archive)))
    assert names_in(tmp_path / "b") == set()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_torn_zip_gives_what_is_whole(tmp_path: Path, method: int) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.png": png(1), "b.png": png(2)}, method)
    data = bytearray(archive.read_bytes())
    data[120:140] = bytes(20)
    archive.write_bytes(bytes(data))
    report = importing.run(Import(folder=str(tmp_path / "set"), source=str(archive)))
    assert names_in(tmp_path / "set") == {"b.png"} and [problem.file for problem in report.problems] == ["a.png"]
    archive.write_bytes(bytes(data[:-30]))
    with pytest.raises(InputError, match="is no zip"):
        importing.run(Import(folder=str(tmp_path / "set"), source=str(archive)))


def test_links_that_lead_out_are_not_followed(source: Path, tmp_path: Path) -> None:
    secret = save(tmp_path / "secret.png")
    shutil.copytree(source, tmp_path / "linked")
    (tmp_path / "linked" / "s.png").symlink_to(secret)
    (tmp_path / "linked" / "all").symlink_to(tmp_path)
    report = importing.run(Import(folder=str(tmp_path / "set"), source=str(tmp_path / "linked")))
    assert names_in(tmp_path / "set") == names_in(source) - {"notes.doc"}
    assert {problem.file for problem in report.problems} == {"s.png", "all", "notes.doc"}


def test_importing_stops_with_nothing_in(source: Path, tmp_path: Path) -> None:
    turns = iter(range(9))
    report = importing.run(
        Import(folder=str(tmp_path / "set"), source=str(source)), should_stop=lambda: next(turns) > 1
    )
    assert report.stopped and names_in(tmp_path / "set") == set()
    for wrong in (source / "deeper", source.parent):
        with pytest.raises(InputError, match="lie in each other"):
            importing.run(Import(folder=str(wrong), source=str(source)))
    with pytest.raises(InputError, match="is no zip"):
        importing.run(Import(folder=str(tmp_path / "set"), source=str(source / "0.txt")))
    with pytest.raises(InputError, match="does not exist"):
        importing.run(Import(folder=str(tmp_path / "set"), source=str(tmp_path / "no.zip")))


# Group


def test_groups_get_their_mean_shape_and_lose_no_pixels(tmp_path: Path) -> None:
    mine = tmp_path / "5_zk9 cat"
    sizes = [(100, 100), (110, 100), (60, 120), (64, 120), (120, 60)]
    for number, size in enumerate(sizes):
        save(mine / f"{number}.png", photo(number, size))
    (mine / "1.txt").write_text("words")
    (mine / "1.npz").write_bytes(b"latents")
    before = everything(mine)
    wish = Group(folder=str(mine), out=str(tmp_path / "out"), group_size=2, caption=True)
    report = group.run(wish)
    assert [told["size"] for told in report.found["groups"]] == [(62, 120), (105, 100), (120, 60)]
    for number, told in enumerate(report.found["groups"], 1):
        for place, (new, old) in enumerate(told["pictures"], 1):
            assert new == f"group-{number}-image-{place}.png"
            assert Image.open(tmp_path / "out" / new).size == told["size"]
            assert (tmp_path / "out" / new).with_suffix(".txt").read_text() == (
                "words" if old == "1.png" else "zk9 cat"
            )
    assert not list((tmp_path / "out").glob("*.npz")) and everything(mine) == before
    with pytest.raises(InputError, match=r"holds group-1-image-1\.\w+ already"):
        group.run(wish)
    assert group.run(wish, should_stop=lambda: True).stopped


def test_cut_and_padded_pixels_are_those_of_the_picture(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    wide, square = photo(1, (160, 80)), photo(2, (80, 80))
    save(mine / "wide.png", wide)
    save(mine / "square.png", square)
    cut = group.run(Group(folder=str(mine), out=str(tmp_path / "cut"), group_size=2)).found["groups"]
    assert cut[0]["size"] == (120, 80)  # the mean aspect is 1.5
    made = np.asarray(Image.open(tmp_path / "cut" / "group-1-image-2.png"))
    assert np.array_equal(made, np.asarray(wide)[:, 20:140])
    short = square.crop((0, 13, 80, 66))
    made = np.asarray(Image.open(tmp_path / "cut" / "group-1-image-1.png"))
    assert np.array_equal(made, np.asarray(resize(short, (120, 80), "lanczos")))
    padded = group.run(Group(folder=str(mine), out=str(tmp_path / "pad"), group_size=2, pad=True)).found["groups"]
    assert padded[0]["size"] == (160, 107)
    made = np.asarray(Image.open(tmp_path / "pad" / "group-1-image-2.png"))
    assert np.array_equal(made[13:93], np.asarray(wide)) and not made[:13].any() and not made[93:].any()


def test_grouping_reads_folders_inside_when_it_is_told(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    save(mine / "a.png")
    save(mine / "deep" / "b.png")
    (mine / "torn.png").write_bytes(b"\x89PNG")
    assert len(group.run(Group(folder=str(mine), out=str(tmp_path / "one"))).problems) == 1
    assert len(names_in(tmp_path / "one")) == 1
    group.run(Group(folder=str(mine), out=str(tmp_path / "two"), subfolders=True, format="jpeg"))
    assert names_in(tmp_path / "two") == {"group-1-image-1.jpg", "group-1-image-2.jpg"}
    with pytest.raises(InputError, match=r"out: .* is the input folder"):
        group.run(Group(folder=str(mine), out=str(mine)))


# The command line


def test_every_tool_has_its_word_and_its_report_is_json(twins: tuple[Path, Path]) -> None:
    import argparse

    from trainer.folders import command

    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    wishes = {
        "dedupe": [str(twins[0]), "--others", str(twins[1])],
        "balance": [str(twins[0]), "--how", "equal"],
        "import": [str(twins[0] / "10_a"), "--source", str(twins[1])],
        "group": [str(twins[0] / "10_a"), "--out", str(twins[0].parent / "grouped"), "--group-size", "2"],
        "prepare": [
            *("--trigger", "zk9", "--images", str(twins[1]), "--destination", str(twins[0].parent / "set")),
        ],
    }
    assert wishes.keys() == TOOLS.keys()
    for word, flags in wishes.items():
        given = parser.parse_args(["folders", word, *flags, "--json"])
        assert given.do(given) == 0
    report = run_tool(Balance(folder=str(twins[0])))
    assert json.loads(json.dumps(report.to_json()))["summary"] == report.summary()
    assert report.text().endswith(report.summary())
