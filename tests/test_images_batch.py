"""The tools over folders: every picture is made, skipped or told of, and no original is lost, whatever happens."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pictures import draw_folder
from tests.test_pictures import BROKEN, GOLDEN
from trainer.__main__ import main
from trainer.ahead import THREADS
from trainer.config import Captions, Data
from trainer.data.folders import FolderError, collect
from trainer.data.pictures import open_picture
from trainer.errors import InputError
from trainer.images.batch import Drawn, Piece, Report, Tool, run
from trainer.images.command import run_tool
from trainer.images.edits import edit, put
from trainer.images.geometry import fit
from trainer.images.ledger import Entry, Ledger
from trainer.images.options import Resize
from trainer.images.resize import resize_tool
from trainer.snapshots import load, snapshots

ENDINGS = {"jpeg": ".jpg", "webp": ".webp", "bmp": ".bmp", "gif": ".gif", "tiff": ".tif", "avif": ".avif"}


def resize(folder: Path, **options: Any) -> Report:
    wanted = Resize.model_validate({"folder": str(folder), "sizes": [64], **options})
    return run(wanted, resize_tool(wanted))


def files(folder: Path, but: str = ".likeness") -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and but not in path.parts
    }


@pytest.fixture
def img(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "img", {"10_zk9": 4, "2_more": 3}, (90, 70))


def test_a_folder_is_resized_into_another_with_its_captions(img: Path) -> None:
    (img / "notes.txt").write_text("mine")
    before = files(img)
    report = resize(img, sharpen=1.0)
    out = img.with_name("img_resized")
    assert report.out == out and (report.made, report.skipped, report.problems) == (7, 0, [])
    assert files(img) == before
    assert {name for name in files(out)} == set(before) - {"notes.txt"}
    for name, data in before.items():
        if name.endswith(".png"):
            image = open_picture(img / name, "#ffffff").image
            placement = fit((90, 70), (64, 64), "cover")
            expected = edit(put(image, placement, "#ffffff", "lanczos"), Resize(folder="img", sharpen=1.0))
            assert np.array_equal(np.asarray(Image.open(out / name)), np.asarray(expected))
        elif "/" in name:
            assert (out / name).read_bytes() == data
    found = collect(Data(images=str(out), buckets=None), Captions())
    assert [picture.folder.repeats for picture in found.pictures] == [10] * 4 + [2] * 3 and not found.problems


def test_a_second_run_skips_what_is_done(img: Path) -> None:
    out = img.with_name("img_resized")
    resize(img)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    again = resize(img)
    assert (again.made, again.skipped) == (0, 7)
    assert len(again.pictures) == 7
    (out / "10_zk9" / "1.png").unlink()
    (out / "10_zk9" / "2.txt").unlink()
    Image.new("RGB", (80, 80), "red").save(img / "10_zk9" / "0.png")
    (out / "2_more" / "0.txt").write_text("changed by hand")
    third = resize(img)
    assert (third.made, third.skipped) == (2, 5)
    assert (out / "10_zk9" / "2.txt").exists() and (out / "2_more" / "0.txt").read_text() == "changed by hand"
    assert Image.open(out / "10_zk9" / "0.png").getpixel((5, 5)) == (255, 0, 0)
    assert times[out / "2_more" / "2.png"] == (out / "2_more" / "2.png").stat().st_mtime_ns
    other = resize(img, sizes=[96])
    assert other.made == 7 and {Image.open(path).size for path in out.rglob("*.png")} == {(96, 96)}


def test_other_settings_leave_no_old_files_but_those_changed_by_hand(img: Path) -> None:
    out = img.with_name("img_resized")
    resize(img)
    Image.new("RGB", (64, 64), "blue").save(out / "10_zk9" / "0.png")
    resize(img, format="webp")
    assert sorted(path.name for path in out.rglob("*.png")) == ["0.png"]
    assert len(list(out.rglob("*.webp"))) == 7


def test_files_of_others_are_never_written_over(img: Path) -> None:
    out = img.with_name("img_resized")
    (out / "10_zk9").mkdir(parents=True)
    (out / "10_zk9" / "0.png").write_bytes(b"not ours")
    Image.new("RGB", (80, 80), "red").save(img / "10_zk9" / "1.jpg")  # of the same stem as 1.png
    report = resize(img)
    assert report.made == 8 and (out / "10_zk9" / "0.png").read_bytes() == b"not ours"
    assert {"0-2.png", "0-2.txt", "1.png", "1-2.png"} <= {path.name for path in (out / "10_zk9").iterdir()}
    assert resize(img).skipped == 8
    other = draw_folder(img.with_name("other"), {"10_zk9": 2})  # another folder of the same names, to the same place
    kept = files(out)
    assert resize(other, out=str(out)).made == 2 and kept.items() <= files(out).items()


@pytest.mark.parametrize("kind", ["png", "keep"])
def test_in_place_keeps_the_originals_in_a_snapshot(img: Path, kind: str) -> None:
    big = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    Image.fromarray(big).save(img / "10_zk9" / "photo.jpg", quality=99)
    before = files(img)
    report = resize(img, in_place=True, format=kind, out=None)
    changed = files(img)
    assert report.out == img and report.made == 8 and report.snapshot
    assert ("10_zk9/photo.jpg" in changed) == (kind == "keep")
    pictures = [path for path in img.rglob("*") if path.suffix in (".png", ".jpg") and ".likeness" not in path.parts]
    assert {Image.open(path).size for path in pictures} == {(64, 64)} and len(pictures) == 8
    assert resize(img, in_place=True, format=kind).skipped == 8 and files(img) == changed
    load(img, report.snapshot).restore()
    assert files(img) == before
    assert resize(img, in_place=True, format=kind).made == 8 and files(img) == changed


def test_new_names_and_groups(img: Path) -> None:
    Image.new("RGB", (70, 140), "red").save(img / "10_zk9" / "tall.png")
    report = resize(img, sizes=["64x64", "64x128"], rename="{folder}_{n:03}", group=True)
    names = set(files(report.out))
    assert {"64x64/10_zk9/10_zk9_001.png", "64x64/10_zk9/10_zk9_001.txt", "64x128/10_zk9/10_zk9_005.png"} <= names
    assert len([name for name in names if name.endswith(".png")]) == 8
    assert resize(img, sizes=["64x64", "64x128"], rename="{folder}_{n:03}", group=True).skipped == 8


def test_a_folder_of_repeats_keeps_its_name(img: Path) -> None:
    (img / "10_zk9" / "deep").mkdir()
    Image.new("RGB", (80, 80), "red").save(img / "10_zk9" / "deep" / "a.png")
    report = resize(img / "10_zk9", recursive=False)
    assert report.out == img.with_name("img_resized") / "10_zk9" and report.made == 4
    assert resize(img / "10_zk9").made == 1


def test_an_output_folder_inside_is_not_read(img: Path) -> None:
    (img / ".hidden").mkdir()
    Image.new("RGB", (80, 80)).save(img / ".hidden" / "a.png")
    assert resize(img, out=str(img / "small")).made == 7
    assert resize(img, out=str(img / "small")).skipped == 7


def test_broken_pictures_are_listed_with_their_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "1_all"
    folder.mkdir()
    for number, (data, _) in enumerate(BROKEN.values()):
        (folder / f"broken {number}.jpg").write_bytes(data)
    for number, (name, (data, *_)) in enumerate(GOLDEN.items()):
        (folder / f"good {number}{ENDINGS.get(name.split()[0], '.png')}").write_bytes(data)
    Image.new("RGB", (1, 4000)).save(folder / "thin.png")
    Image.new("RGB", (1, 1)).save(folder / "dot.png")
    (folder / "a.heic").write_bytes(b"x")
    (folder / "folder.png").mkdir()
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "private.png")
    (folder / "private.png").symlink_to(tmp_path / "private.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
    (folder / "a\nb\x1b.png").write_bytes(b"")
    report = resize(folder)
    told = {problem.file: problem.what for problem in report.problems}
    for number, (_, why) in enumerate(BROKEN.values()):
        assert why in told.pop(f"broken {number}.jpg")
    small = [name for name, what in told.items() if "less than 32 on a side" in what]
    assert {"thin.png", "dot.png"} <= set(small) and "HEIC" not in told["a.heic"]
    assert told["gone.png"] == told["private.png"] == "a link that leaves the folder"
    assert told["pipe.png"] == "not a file" and told["a\\nb\\x1b.png"] == "an empty file"
    assert report.made == len(GOLDEN) - (len(small) - 2) and "folder.png" not in told
    again = resize(folder)
    assert again.skipped == report.made and len(again.problems) == len(report.problems)
    contained = resize(folder, how="contain", out=str(tmp_path / "out"))
    assert contained.made == len(GOLDEN) + 2


def test_stopped_and_gone_on_with(img: Path) -> None:
    wanted, told = Resize(folder=str(img), sizes=((64, 64),)), []
    report = run_tool(wanted, lambda *done: told.append(done), lambda: len(told) >= 2)
    assert report.stopped and 2 <= report.made < 7 and "run it again to go on" in report.text()
    assert told == [(number, 7) for number in range(1, report.made + 1)]
    rest = resize(img)
    assert (rest.made, rest.skipped, rest.stopped) == (7 - report.made, report.made, False)
    whole = resize(img, out=str(img.with_name("whole")))
    assert files(rest.out) == files(whole.out)


def test_a_handful_of_pictures_is_in_memory(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path, {"1_a": 40}) / "1_a"
    lock, started, most = threading.Lock(), [0], [0]

    def draw(*given: Any) -> Drawn:
        with lock:
            started[0] += 1
        return Drawn([Piece(given[1])])

    def tell(done: int, total: int) -> None:
        with lock:
            most[0] = max(most[0], started[0] - done)

    report = run(Resize(folder=str(folder)), Tool("resize", draw), tell)
    assert report.made == 40 and most[0] <= THREADS + 1


@pytest.mark.parametrize("moment", [1, 7, 12, 20])
def test_killed_at_any_moment_everything_is_whole(img: Path, moment: int) -> None:
    before = files(img)
    words = [sys.executable, "-m", "trainer", "images", "resize", str(img), "--sizes", "64", "--in-place"]
    words += ["--format", "webp"]
    killed = subprocess.run(words, env=os.environ | {"LIKENESS_FAULT": f"any:{moment}:KILL"}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    for path in img.rglob("*.[pw][ne][gb]*"):
        if ".likeness" not in path.parts and not path.name.endswith(".part"):
            Image.open(path).load()
    assert main(words[3:]) == 0
    assert {Image.open(path).size for path in img.rglob("*.webp") if ".likeness" not in path.parts} == {(64, 64)}
    for made in snapshots(img):
        made.restore()
        if files(img, ".part") == before:
            break
    left = {name: data for name, data in files(img).items() if not name.endswith(".part")}
    assert before.items() <= left.items()


def test_the_disk_s_failure_ends_the_run_and_harms_nothing(
    img: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    before = files(img)
    monkeypatch.setattr("trainer.durable._calls", __import__("collections").Counter())
    monkeypatch.setenv("LIKENESS_FAULT", "write:5:ENOSPC")
    assert main(["images", "resize", str(img), "--sizes", "64"]) == 2
    assert "make room on this disk" in capsys.readouterr().err
    monkeypatch.delenv("LIKENESS_FAULT")
    assert files(img) == before and resize(img).problems == []
    assert len(list(img.with_name("img_resized").rglob("*.png"))) == 7


def test_the_command_line_reports(img: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (img / "10_zk9" / "bad.png").write_bytes(b"")
    words = ["images", "resize", str(img), "--sizes", "64x128", "64", "--how", "contain", "--background", "#102030"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["made"], told["skipped"], told["stopped"]) == (7, 0, False)
    assert told["problems"] == [{"file": "10_zk9/bad.png", "what": "an empty file", "done": "left out"}]
    assert told["pictures"][0] == {"file": "10_zk9/0.png", "made": ["10_zk9/0.png"], "how": ""}
    with Image.open(img.with_name("img_resized") / "10_zk9" / "0.png") as image:
        assert image.size == (64, 64) and image.getpixel((0, 0)) == (16, 32, 48)
    assert main(words) == 0
    said = capsys.readouterr().out
    assert (
        "10_zk9/bad.png: an empty file: left out" in said
        and "0 pictures made, 7 were done before, 1 left out; they are in" in said
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--quality", "101"], 'quality: "101": it must be 100 or less (Quality of JPEG'),
        (["--sizes", "5"], "sizes: 5: it must be 64 or more (Sizes such as"),
        (["--buckets-step", "7"], 'buckets.step: "7": a multiple of 8'),
        (["--in-place", "--group"], "in_place leaves pictures where they are: it goes without group"),
        (["--background", "red"], 'background: "red"'),
        (["--rename", "a"], "gives all pictures one name: put {n:03}"),
        (["--out", "."], "is the folder itself: choose another"),
        (["--out", "a.txt"], "is a file: choose a folder"),
    ],
)
def test_wrong_options_are_named(flags: list[str], said: str, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    (tmp_path / "a.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(["images", "resize", ".", *flags]) == 2
    assert said in capsys.readouterr().err


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: check the path"):
        resize(tmp_path / "gone")
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="is a file"):
        resize(tmp_path / "a")
    assert not issubclass(InputError, FolderError) and resize(tmp_path).made == 0


def test_buckets_by_flags(img: Path) -> None:
    words = ["images", "resize", str(img), "--sizes", "64", "--buckets", "--no-buckets-no-upscale"]
    assert main([*words, "--buckets-step", "16", "--buckets-smallest", "64", "--buckets-largest", "64"]) == 0
    assert {Image.open(path).size for path in img.with_name("img_resized").rglob("*.png")} == {(64, 64)}


def test_the_command_line_brings_no_heavy_library() -> None:
    code = """import argparse, sys
import trainer.images.command
trainer.images.command.add(argparse.ArgumentParser().add_subparsers())
assert not {"torch", "onnxruntime", "PIL", "numpy"} & sys.modules.keys()
import trainer.images.batch, trainer.images.focus, trainer.images.background, trainer.images.resize
assert not {"torch", "onnxruntime", "diffusers", "transformers"} & sys.modules.keys()"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_jpegs_of_one_setting_are_the_same_bytes(img: Path) -> None:
    first, second = (resize(img, format="jpeg", out=str(img.with_name(name))) for name in "ab")
    assert files(first.out) == files(second.out)
    with Image.open(io.BytesIO(files(first.out)["10_zk9/0.jpg"])) as image:
        assert image.format == "JPEG" and image.size == (64, 64)


def test_names_of_all_kinds(tmp_path: Path) -> None:
    folder = tmp_path / "1_ä 女"
    folder.mkdir()
    long = "x" * 245
    for name in ("é 女 😀", "a b", "..dots..", "per%cent {n}", os.fsdecode(b"caf\xe9"), long):
        Image.new("RGB", (80, 80), "red").save(folder / f"{name}.png".lstrip("."))
        (folder / f"{name}.txt".lstrip(".")).write_text("zk9")
    report = resize(folder)
    assert report.made == 5 and [problem.what for problem in report.problems] == [
        "its name is too long to write a new file: shorten it, or set rename"
    ]
    assert len(list(report.out.glob("*.png"))) == len(list(report.out.glob("*.txt"))) == 5
    report.text().encode()
    assert resize(folder).skipped == 5
    before = files(folder)
    changed = resize(folder, in_place=True)
    assert changed.made == 5 and changed.snapshot
    load(folder, changed.snapshot).restore()
    assert files(folder) == before
    short = resize(folder, rename="{n:02}")
    assert short.made == 6 and sorted(path.name for path in report.out.glob("*.png")) == [
        f"0{n}.png" for n in range(1, 7)
    ]


def test_links_show_nothing_private(img: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "words.txt").write_text("secret")
    Image.new("RGB", (80, 80)).save(tmp_path / "private" / "a.png")
    (img / "10_zk9" / "0.txt").unlink()
    (img / "10_zk9" / "0.txt").symlink_to(tmp_path / "private" / "words.txt")
    (img / "2_more" / "0.txt").write_text("x" * 70_000)
    (img / "3_link").symlink_to(tmp_path / "private")
    (img / "4_circle").symlink_to(img)
    report = resize(img)
    told = {problem.file: problem.what for problem in report.problems}
    assert told == {
        **{"3_link": "a link to a folder", "4_circle": "a link to a folder"},
        **{"10_zk9/0.txt": "no caption that can be read", "2_more/0.txt": "no caption that can be read"},
    }
    assert report.made == 7 and not any(b"secret" in data for data in files(report.out).values())


def test_a_folder_that_moved_with_what_was_made_is_done(img: Path) -> None:
    assert resize(img).made == 7
    moved = img.parent / "elsewhere"
    moved.mkdir()
    for name in ("img", "img_resized"):
        img.with_name(name).rename(moved / name)
    again = resize(moved / "img")
    assert (again.made, again.skipped) == (0, 7)


def test_a_torn_line_costs_that_line_alone(img: Path) -> None:
    for name in "ab":
        ledger = Ledger.read(img)
        ledger.add(Entry("resize", f"{name}.png", (1, 2), "x", {}))
        place = img / ".likeness" / "images.jsonl"
        place.write_bytes(place.read_bytes() + b'{"tool": "resize", "sour')
    assert set(Ledger.read(img).entries) == {("resize", "a.png"), ("resize", "b.png")}


def test_the_ledger_goes_through_no_link(img: Path, tmp_path: Path) -> None:
    (tmp_path / "private.jsonl").write_text("mine")
    (img / ".likeness").mkdir()
    (img / ".likeness" / "images.jsonl").symlink_to(tmp_path / "private.jsonl")
    with pytest.raises(InputError, match=r"images\.jsonl: a link leads out of the folder"):
        Ledger(img).add(Entry("resize", "a.png", (1, 2), "x", {}))
    with pytest.raises(InputError, match=r"images\.jsonl: a link leads out of the folder"):
        Ledger.read(img)
    assert (tmp_path / "private.jsonl").read_text() == "mine"
