"""The doctor on a made data set with planted faults, its measures written the long way, its advice and its command."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image, ImageDraw, ImageFilter

from tests import corpus
from tests.corpus import Planted, compared, draw_set, photo
from tests.test_images_focus import make_yunet
from trainer.config import Buckets
from trainer.data.folders import Folder
from trainer.doctor import command, rules
from trainer.doctor.amount import amount, too_few
from trainer.doctor.finding import Finding
from trainer.doctor.framing import Framing, by_tags
from trainer.doctor.options import Doctor
from trainer.doctor.report import Report, report
from trainer.doctor.score import PARTS, score
from trainer.errors import InputError
from trainer.images import measures

SEED = 2007  # the limits were found on seeds 0 to 4


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A data set with faults of every kind."""
    return draw_set(tmp_path_factory.mktemp("set") / "set", SEED, clean=28, each=2)


@pytest.fixture(scope="module")
def found(planted: Planted) -> Report:
    """The report on it, without any model."""
    return report(Doctor(folder=str(planted.folder)))


def kinds_of(found: Report) -> dict[str, set[str]]:
    return {finding.kind: set(finding.pictures) for finding in found.findings}


def test_faults_are_found_and_hardly_any_is_invented(planted: Planted, found: Report) -> None:
    table = compared(planted, kinds_of(found))
    real, hits, false = (sum(row[place] for row in table.values()) for place in range(3))
    assert len(planted.faults) >= 17 and real >= 45
    assert hits >= 0.95 * real, table
    assert false <= 0.05 * (hits + false), table


def test_every_finding_says_why_and_how_it_is_cured(found: Report) -> None:
    told = found.to_json()
    assert json.loads(json.dumps(told)) == told
    for finding in told["findings"]:
        assert finding["title"] and finding["why"] and finding["severity"] in ("bad", "care", "hint")
        assert set(finding["pictures"]) <= {*told["measured"]}
        for cure in finding["cures"]:
            assert {"do", "label", "pictures"} <= cure.keys()
            assert set(cure["pictures"]) <= {*finding["pictures"]}
    by_kind = {finding["kind"]: finding for finding in told["findings"]}
    assert "limit" in next(iter(by_kind["blurred"]["details"].values()))
    pairs = by_kind["duplicates"]
    assert pairs["keep"] == [group[0] for group in pairs["groups"]]
    assert {*pairs["cures"][0]["pictures"]} == {*pairs["pictures"]} - {*pairs["keep"]}
    assert [finding["severity"] for finding in told["findings"]] == sorted(
        (finding["severity"] for finding in told["findings"]), key=["bad", "care", "hint"].index
    )


def test_the_score_is_the_sum_of_its_parts_and_each_says_why(found: Report) -> None:
    told = found.to_json()["score"]
    assert told["points"] == sum(part["points"] for part in told["parts"])
    assert told["of"] == sum(part["of"] for part in told["parts"]) <= 100
    assert all(0 <= part["points"] <= part["of"] and part["why"] for part in told["parts"])
    assert next(part for part in told["parts"] if part["name"] == "Sharpness")["points"] < PARTS["Sharpness"].of
    whole = score([], 30, [])
    assert (whole.points, whole.of) == (100, 100)
    assert score([], 30, ["Subject", "Watermarks"]).of == 80
    few = score([Finding("blurred", "bad", "2 pictures are blurred", "", ["a", "b"])], 30, [])
    assert next(part for part in few.parts if part.name == "Sharpness").points == round(15 * (1 - 2 * 2 / 30))


def test_what_was_not_checked_is_said(found: Report, models: Path) -> None:
    told = "\n".join(found.not_checked)
    assert "no face detector" in told and "yunet" in told.lower() and "by tags only" in told
    assert "sessions by camera and time" in told
    assert found.framing.source == "tags" and 0 < found.framing.share("close_up") < 1


def test_a_style_is_judged_otherwise(planted: Planted) -> None:
    kinds = kinds_of(report(Doctor(folder=str(planted.folder), purpose="style")))
    assert not kinds.keys() & {"other_people", "face_missing", "eyes", "session", "framing", "costume"}
    assert {"blurred", "duplicates", "trigger", "watermark"} <= kinds.keys()


def test_it_stops_when_asked_and_says_so(planted: Planted) -> None:
    done: list[int] = []
    found = report(Doctor(folder=str(planted.folder)), lambda n, total: done.append(n), lambda: len(done) >= 5)
    assert found.stopped and len(found.measured) == 5 and "Stopped before the end" in found.text()


def test_noise_is_immerkaer_s(models: Path) -> None:
    dice = np.random.default_rng(0)
    values = (128 + np.linspace(0, 50, 96)[None] + dice.normal(0, 7, (80, 96))).astype(np.float32)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    answer = np.array([[abs((values[y : y + 3, x : x + 3] * mask).sum()) for x in range(94)] for y in range(78)])
    blocks = [answer[y : y + 16, x : x + 16].mean() for y in range(0, 64, 16) for x in range(0, 80, 16)]
    expected = np.percentile(blocks, 10) * math.sqrt(math.pi / 2) / 6
    assert measures.noise(values) == pytest.approx(expected, abs=0.01)
    assert measures.noise(values) == pytest.approx(7, rel=0.15)


def test_sharpness_is_the_width_of_edges() -> None:
    """A board of large fields, blurred by a known width; above 3 pixels eight bits cannot tell widths apart."""
    board = Image.fromarray((np.indices((12, 12)).sum(0) % 2 * 160 + 40).astype(np.uint8))
    values = np.asarray(board.resize((600, 600), Image.Resampling.NEAREST).rotate(20).crop((120, 120, 480, 480)), float)
    waves = np.fft.fftfreq(360)
    widths: list[float] = []
    for sigma in (1.0, 1.5, 2.0, 2.5, 4.0):
        pass_ = np.exp(-2 * (math.pi * sigma) ** 2 * (waves[:, None] ** 2 + waves[None] ** 2))  # of a Gaussian
        blurred = np.fft.ifft2(np.fft.fft2(values) * pass_).real[30:330, 30:330]
        found = measures.sharpness(Image.fromarray(blurred.clip(0, 255).astype(np.uint8)))
        widths.append(100 * measures.SHARP / found)
    assert widths == sorted(widths) and widths[1:4] == pytest.approx([1.5, 2.0, 2.5], rel=0.25)
    assert measures.sharpness(Image.new("L", (300, 300), "#808080")) == 0


def test_light_and_cast() -> None:
    ramp = np.repeat(np.linspace(0, 255, 256, dtype=np.float32)[None], 64, 0)
    seen = measures.light(ramp)
    assert seen.white == pytest.approx(6 / 256, abs=0.002) and seen.black == pytest.approx(6 / 256, abs=0.002)
    assert seen.bright == pytest.approx(229, abs=2)
    studio = np.full((100, 100), 255, np.float32)
    studio[20:, 30:70] = np.linspace(20, 200, 40)
    assert measures.light(studio).white == 0
    grey = np.repeat(ramp[:, ::4, None], 3, 2)
    assert measures.cast(grey) == 0
    lamp = np.array([1, 0.7, 0.4]) ** 2.2
    angle = math.degrees(math.acos(lamp.sum() / (np.linalg.norm(lamp) * math.sqrt(3))))
    assert measures.cast(grey * np.array([1, 0.7, 0.4], np.float32)) == pytest.approx(angle, abs=0.1)
    leaves = grey.copy()
    leaves[:48] *= np.array([0.4, 0.8, 0.3], np.float32)  # a green wood below a white sky
    assert measures.cast(leaves) < rules.COLOURED


def make_pictures(folder: Path, count: int, size: tuple[int, int] = (1000, 1000)) -> Path:
    """Sharp pictures that have nothing wrong, with different contents."""
    folder.mkdir(parents=True)
    for number in range(count):
        dice = np.random.default_rng(number)
        image = photo(dice, "close_up", "room").crop((0, 0, 1000, 1000)).resize(size, Image.Resampling.LANCZOS)
        image.save(folder / f"{number}.jpg", quality=92)
    return folder


def test_sizes_buckets_and_what_is_cut_off(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "10_zk9", 2)
    Image.open(folder / "0.jpg").resize((1600, 500)).save(folder / "wide.jpg", quality=92)
    Image.open(folder / "1.jpg").resize((512, 512)).save(folder / "ready.jpg", quality=92)
    Image.open(folder / "1.jpg").resize((500, 500)).save(folder / "little.jpg", quality=92)
    cut = report(Doctor(folder=str(folder), buckets=None))
    kinds = {finding.kind: finding for finding in cut.findings}
    assert kinds["shape"].details["wide.jpg"] == "69% cut off, limit 25%"
    assert kinds["too_small"].details == {"little.jpg": "500 x 500 pixels, 512x512 wanted"}
    assert kinds["small"].pictures == ["wide.jpg"]  # and not the one that is cropped to size
    assert cut.lost == pytest.approx((1 - 500 / 1600) / 5, abs=0.002)
    assert cut.measured["wide.jpg"]["lost"] == pytest.approx(0.6875, abs=0.001)
    assert [(bucket.size, bucket.pictures) for bucket in cut.buckets] == [((512, 512), 5)]
    sorted_ = report(Doctor(folder=str(folder), buckets=Buckets(no_upscale=False)))
    assert "shape" not in kinds_of(sorted_) and ((832, 256), 1) in [(b.size, b.pictures) for b in sorted_.buckets]
    with pytest.raises(InputError, match=r"data\.buckets\.step: 48 must be a multiple of 64"):
        report(Doctor(folder=str(folder), buckets=Buckets(step=48)))


def test_folders_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    for words in (str(tmp_path / "gone"), str(tmp_path)):
        with pytest.raises(InputError, match="folder: "):
            report(Doctor(folder=words))


def folder_of(name: str, count: int) -> tuple[Folder, list[str]]:
    repeats = int(name.split("_")[0]) if name[0].isdigit() else 1
    return Folder(name, Path(name), repeats, "zk9"), [f"{name}/{number}.png" for number in range(count)]


def test_a_set_without_a_picture_that_can_be_read_has_no_good_score(tmp_path: Path) -> None:
    (tmp_path / "10_zk9").mkdir()
    (tmp_path / "10_zk9" / "broken.png").write_bytes(b"PNG, or so it says")
    told = report(Doctor(folder=str(tmp_path))).to_json()
    assert [part["name"] for part in told["score"]["parts"]] == ["Files", "Amount"] and told["score"]["points"] == 0
    assert {finding["kind"] for finding in told["findings"]} == {"broken", "too_few"}
    assert told["not_checked"] == ["No picture can be read, so nothing else was looked at"]


def test_the_advice_shows_its_arithmetic() -> None:
    unknown = Framing("none", {})
    one = amount([folder_of("10_zk9", 30)], Doctor(folder="."), unknown)
    assert one is not None
    assert one.steps == math.ceil(30 * one.repeats * one.epochs / one.batch)
    assert one.arithmetic == (
        f"30 pictures x {one.repeats} repeats x {one.epochs} epochs / batch {one.batch} = {one.steps} steps"
    )
    assert 0.8 * 1500 <= one.steps <= 1.2 * 1500 and one.folders[0].now == 10
    planned = amount([folder_of("zk9", 30)], Doctor(folder=".", steps=3000), unknown)
    assert planned is not None and abs(planned.steps - 3000) <= 0.1 * 3000 and planned.folders[0].now is None
    folders = [folder_of("1_close", 30), folder_of("2_far", 18)]
    shots = Framing("tags", {name: "close_up" for name in folders[0][1]} | {name: "full" for name in folders[1][1]})
    two = amount(folders, Doctor(folder="."), shots)
    assert two is not None and two.folders[0].repeats > two.folders[1].repeats
    assert two.folders[0].repeats / two.folders[1].repeats == pytest.approx(1.5, rel=0.35)
    assert two.arithmetic.startswith("(30 pictures x ") and " + 18 pictures x " in two.arithmetic
    assert amount([], Doctor(folder="."), unknown) is None


def test_too_few_pictures_for_the_steps_planned() -> None:
    unknown, names = Framing("none", {}), [str(number) for number in range(20)]
    plan = amount([folder_of("10_zk9", 20)], Doctor(folder=".", steps=9000), unknown)
    said = too_few(plan, names, Doctor(folder=".", steps=9000))
    assert said[0].title == "Too few pictures for 9000 steps" and "would be seen" in said[0].why
    assert too_few(plan, names, Doctor(folder=".")) == []
    assert too_few(plan, names[:9], Doctor(folder="."))[0].title == "9 pictures, 15 or more are usual"


def test_shots_by_tags_are_told_where_one_is_named() -> None:
    assert by_tags(["zk9", "portrait"]) == "close_up" and by_tags(["cowboy shot"]) == "half"
    assert by_tags(["full_body"]) == "full" and by_tags(["portrait", "full body"]) == "unknown" == by_tags([])


def test_too_many_close_ups_and_a_costume(tmp_path: Path) -> None:
    folder = tmp_path / "10_zk9"
    folder.mkdir()
    for number in range(10):
        dice = np.random.default_rng(number)
        Image.fromarray(dice.integers(0, 256, (600, 600, 3), np.uint8)).save(folder / f"{number}.png")
        shot, worn = ("portrait" if number < 9 else "full body"), (", red dress" if number < 4 else "")
        (folder / f"{number}.txt").write_text(f"zk9, 1girl, {shot}{worn}")
    found = {finding.kind: finding for finding in report(Doctor(folder=str(folder))).findings}
    assert found["framing"].title == "Too many close-ups: 90%, 75% at most" and len(found["framing"].pictures) == 9
    assert found["costume"].title == "red dress is on 4 of 10 pictures (40%, limit 25%)"
    assert set(found["costume"].pictures) == {f"{number}.png" for number in range(4)}
    character = report(Doctor(folder=str(folder), purpose="character"))
    assert any("60% at most" in finding.title for finding in character.findings)


def with_eyes(file: Path) -> Path:
    """The made detector with eyes: a stride's width to the left and right of the middle, and a little above."""
    model = onnx.load(make_yunet(file))
    for fixed in model.graph.initializer:
        if fixed.name == "kps_16_add":
            points = np.array([-0.7, 0, 1.7, 0, 0.5, 0.7, 0, 1.5, 1, 1.5], np.float32)
            fixed.CopyFrom(numpy_helper.from_array(points[None, None], "kps_16_add"))
    onnx.save(model, file)
    return file


def scene(*middles: tuple[int, int], eyes: bool = True) -> Image.Image:
    """A picture of 640 pixels, sharp and without blue, with a blue patch where a face is, and dark eyes."""
    dice = np.random.default_rng(sum(map(sum, middles)) + eyes)
    values = np.asarray(photo(dice, "full", "room").crop((0, 0, 640, 640)), np.float32) * np.array([1, 0.8, 0.45])
    image = Image.fromarray(values.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for x, y in middles:
        draw.rectangle((x - 40, y - 60, x + 40, y + 60), (150, 110, 60))
        draw.rectangle((x - 10, y - 10, x + 9, y + 9), "#0000ff")
        for side in (-19, 19) if eyes else ():
            draw.ellipse((x + side - 3, y - 11, x + side + 3, y - 5), "black")
            draw.line((x + side - 4, y - 8, x + side + 4, y - 8), "white", 2)
    return image


def test_faces_are_counted_measured_and_their_eyes_looked_at(models: Path, tmp_path: Path) -> None:
    with_eyes(models / "face_detection_yunet_2023mar.onnx")
    folder = tmp_path / "10_zk9"
    folder.mkdir()
    scene((328, 328)).save(folder / "one.png")
    scene((200, 328), (456, 328)).save(folder / "two.png")
    scene().save(folder / "none.png")
    scene((328, 8)).save(folder / "cut.png")
    scene((328, 328), eyes=False).save(folder / "shut.png")
    found = report(Doctor(folder=str(folder)))
    kinds = {finding.kind: finding.details for finding in found.findings}
    assert kinds["other_people"] == {"two.png": "2 faces (YuNet)"}
    assert kinds["face_missing"] == {"none.png": "no face found (YuNet)"}
    assert kinds["face_cut"] == {"cut.png": "the picture's edge goes through the face (YuNet)"}
    assert set(kinds["eyes"]) == {"shut.png"} and "limit 0.3 (YuNet)" in kinds["eyes"]["shut.png"]
    assert found.framing.source == "detector" and found.measured["two.png"]["faces"] == 2
    assert found.framing.shots["one.png"] == "half"  # 96 of 640 pixels
    assert not any("no face detector" in what for what in found.not_checked)
    drawn = report(Doctor(folder=str(folder), purpose="character")).findings
    assert next(finding for finding in drawn if finding.kind == "face_missing").severity == "hint"


def test_folders_that_are_no_sets_of_repeats_give_no_trigger(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "my_holiday", 3)
    for number in range(3):
        (folder / f"{number}.txt").write_text(f"1girl, thing {number}")
    found = report(Doctor(folder=str(folder)))
    assert "trigger" not in kinds_of(found) and any("whether captions hold the trigger" in w for w in found.not_checked)
    for number in range(2):
        (folder / f"{number}.txt").write_text("zk9, landscape, wardrobe")
    assert kinds_of(report(Doctor(folder=str(folder))))["trigger"] == {"2.jpg"}
    assert kinds_of(report(Doctor(folder=str(folder), trigger="ohwx")))["trigger"] == {"0.jpg", "1.jpg", "2.jpg"}
    assert "points" in found.summary() and "(3 pictures)" in found.summary()


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    given = parser.parse_args(["report", *words])
    return given.do(given)


def test_the_command_prints_a_report(planted: Planted, capsys: Any, models: Path) -> None:
    assert run(str(planted.folder), "--trigger", "zk9", "--resolution", "512") == 0
    told = capsys.readouterr().out
    assert "Score: " in told and "Advice: " in told and "Not checked: " in told and "BAD" in told
    small = planted.folder / "24_zk9 woman"
    assert run(str(small), "--json", "--purpose", "style", "--steps", "2000") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["folder"] == str(small.resolve()) and found["pictures"] == len(found["measured"])
    with pytest.raises(InputError, match="steps: "):
        run(str(small), "--steps", "none")


def test_the_corpus_is_what_it_says() -> None:
    dice = np.random.default_rng(0)
    clean = photo(dice, "half", "room")
    assert clean.size == corpus.SIZE and np.asarray(clean).std() > 20
    assert np.abs(np.asarray(clean, float) - np.asarray(clean.filter(ImageFilter.GaussianBlur(3)), float)).mean() > 2
