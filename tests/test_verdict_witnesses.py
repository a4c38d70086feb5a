"""The optional eyes as witnesses: on the base model's scales, as many numbers as it gives, a note where they fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import save_file

from tests.lora_files import META, trained
from tests.taggers import draw_tagger
from tests.test_images_focus import make_yunet
from tests.test_verdict_eyes import SPOTS, face, make_clip, make_dino, make_sface, picture, plain, quiet
from trainer import pocket
from trainer.config import Captions, Model
from trainer.errors import InputError
from trainer.families import load_family
from trainer.tree import validate
from trainer.verdict import run as comparison
from trainer.verdict.facial import FaceEye
from trainer.verdict.models import Eyes, Found, available
from trainer.verdict.options import Compare
from trainer.verdict.questions import Question
from trainer.verdict.scale import Exhibit
from trainer.verdict.tagging import TagEye
from trainer.verdict.vision import Vision
from trainer.verdict.witnesses import FaceWitness, TagWitness, VisionWitness, call

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")

CPU = torch.device("cpu")
Pictures = Sequence[Image.Image]
BARE = ["a creature by the sea", "a creature on a road", "a creature by the sea", "a creature at noon", "a fourth one"]
ASKED = [
    Question("subject", "zk9, a creature by the sea", "a creature by the sea"),
    Question("contradicting", "zk9, a creature with blue theme", "a creature with blue theme", "with blue theme"),
    Question("plain", "a red star", "a red star"),
    Question("subject", "zk9, a creature on a road", "a creature on a road"),
    Question("contradicting", "zk9, a creature in the sea", "a creature in the sea", "in the sea"),
]
SUBJECT, CONTRADICTING = [0, 1, 3, 4], [1, 4]
"""Where likeness and obedience are looked for."""


def exhibit(base: Pictures, data: Pictures, asked: Sequence[Question] = ASKED) -> Exhibit:
    return Exhibit([(question, 42) for question in asked], base, data, BARE)


def vision(kind: Any, folder: Path) -> Vision:
    return Vision(Found(kind, (folder,)), CPU)


# DINOv2 and CLIP


def test_dinov2_says_how_much_of_the_data_set_is_there(tmp_path: Path) -> None:
    eye, notes = vision("dino", make_dino(tmp_path / "dino")), list[str]()
    base, data = [picture(seed) for seed in range(5)], [picture(seed) for seed in (20, 21, 22)]
    shown = [data[0], picture(30), picture(31), base[3], picture(32)]
    witness = VisionWitness(eye, exhibit(base, data), notes)
    told = witness.values(shown)
    assert told.keys() == {"likeness"} and not notes, "it reads nothing"
    zero, ours, seen = (eye.look([given[n] for n in places]).double().numpy() for given, places in (
        (base, SUBJECT), (data, range(3)), (shown, SUBJECT)))  # fmt: skip
    centre = zero.mean(0)

    def near(one: np.ndarray, other: np.ndarray) -> float:
        a, b = one - centre, other - centre
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    among = [np.mean([near(ours[i], ours[j]) for i in range(3) if i != j]) for j in range(3)]
    lack = [max(0.0, among[j] - np.mean([near(one, ours[j]) for one in zero])) for j in range(3)]
    weights = np.array(lack) / sum(lack)
    one = weights @ among
    zeros, values = ([sum(weights[j] * near(s, ours[j]) for j in range(3)) for s in given] for given in (zero, seen))
    expected = [(value - nothing) / (one - np.mean(zeros)) for value, nothing in zip(values, zeros, strict=True)]
    assert told["likeness"] == pytest.approx(expected, abs=1e-3)
    assert told["likeness"][2] == pytest.approx(0, abs=1e-6), "the base's own picture"
    assert max(told["likeness"]) == told["likeness"][0], "a picture of the data set"


def test_an_eye_that_sees_no_difference_says_nothing(tmp_path: Path) -> None:
    notes, alike = list[str](), [picture(1)] * 5
    witness = VisionWitness(vision("dino", make_dino(tmp_path / "dino")), exhibit(alike, alike), notes)
    assert witness.values([picture(seed) for seed in range(5)]) == {}
    assert notes == [
        "likeness was not measured by dino: it sees no difference between the data set and what the base model draws"
    ]


@pytest.fixture
def by_margin(tmp_path: Path) -> tuple[Vision, list[Image.Image], list[Any]]:
    """A CLIP; pictures, those first that it finds most like what is asked; and by how much."""
    eye = vision("clip", make_clip(tmp_path / "clip"))
    many = [picture(seed) for seed in range(12)]
    rivals = np.stack([eye.agree(many, [text] * 12).numpy() for text in BARE[:2] + BARE[3:4]])
    margins = [eye.agree(many, [ASKED[n].bare] * 12).numpy() - rivals.max(0) for n in CONTRADICTING]
    return eye, many, margins


def test_clip_says_whether_the_prompt_is_obeyed(by_margin: Any) -> None:
    eye, many, margins = by_margin
    best, notes = [int(margin.argmax()) for margin in margins], list[str]()
    base, data = [many[n] for n in (0, best[0], 1, 2, best[1])], [picture(20), picture(21)]
    witness = VisionWitness(eye, exhibit(base, data), notes)
    scale = np.mean([max(0, margins[n][best[n]]) for n in range(2)])
    assert scale > 0.01 and not notes
    for shown in (many[:5], many[5:10], base):
        told = witness.values(shown)
        found = [many.index(shown[place]) for place in CONTRADICTING]
        expected = [0.5 + margins[n][found[n]] / (2 * scale) for n in range(2)]
        assert told["obedience"] == pytest.approx(np.clip(expected, 0, 1), abs=1e-4) and len(told["likeness"]) == 4
    assert np.mean(witness.values(base)["obedience"]) > np.mean(witness.values(many[:5])["obedience"])


def test_clip_that_does_not_see_the_base_obey_is_no_judge(by_margin: Any) -> None:
    eye, many, margins = by_margin
    worst, notes = [int(margin.argmin()) for margin in margins], list[str]()
    assert all(margins[n][worst[n]] < 0 for n in range(2))
    base = [many[n] for n in (0, worst[0], 1, 2, worst[1])]
    witness = VisionWitness(eye, exhibit(base, [picture(20), picture(21)]), notes)
    assert witness.values(many[:5]).keys() == {"likeness"}
    unseen = "it does not see in the base model's pictures what they were asked for"
    assert notes == [f"obedience was not measured by clip: {unseen}"]


def test_clip_without_words_and_without_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eye, notes = vision("clip", make_clip(tmp_path / "clip")), list[str]()
    several = [picture(seed) for seed in range(5)]
    plainly = [question for question in ASKED if question.kind != "contradicting"]
    told = VisionWitness(eye, exhibit(several[:3], [picture(20)], plainly), notes).values(several[1:4])
    assert len(told["likeness"]) == 2 and told.keys() == {"likeness"} and not notes
    monkeypatch.setattr(eye, "_tokenizer", None)
    assert VisionWitness(eye, exhibit(several, [picture(20)]), notes).values(several).keys() == {"likeness"}
    assert notes == ["obedience was not measured by clip: it reads no text"]


# Faces


@pytest.fixture
def face_eye(tmp_path: Path) -> FaceEye:
    return FaceEye(Found("face", (make_sface(tmp_path / "sface.onnx"), make_detector(tmp_path / "yunet.onnx"))))


def make_detector(file: Path) -> Path:
    """The made YuNet, with its five points apart."""
    model = onnx.load(make_yunet(file))
    for fixed in model.graph.initializer:
        if fixed.name == "kps_16_add":
            fixed.CopyFrom(numpy_helper.from_array(SPOTS[None, None], fixed.name))
    onnx.save(model, file)
    return file


NOBODY = Image.new("RGB", (64, 64), "#101000")
SELF = [face("#c0a060"), face("#c09050"), face("#b8a058")]
OTHER = [face("#208040"), face("#2060a0")]


def test_faces_are_like_the_data_set_s_or_like_the_base_s(face_eye: FaceEye) -> None:
    notes, base = list[str](), [OTHER[0], OTHER[1], NOBODY, NOBODY, OTHER[0]]
    witness = FaceWitness(face_eye, exhibit(base, [*SELF, NOBODY]), notes)
    faces = [one for one in face_eye.look(SELF) if one is not None]
    alone = [sum(faces[j] for j in range(3) if j != i) for i in range(3)]
    one = np.mean([faces[i] @ alone[i] / np.linalg.norm(alone[i]) for i in range(3)])
    mean = sum(faces) / np.linalg.norm(sum(faces))
    first, second, third = (float(face_eye.look([each])[0] @ mean) for each in (*OTHER, SELF[0]))
    usual = np.mean([first, second, first])  # what stands for the base's picture without a face
    span = one - np.mean([first, second, usual, first])
    assert witness.values([SELF[0], OTHER[0], NOBODY, NOBODY, SELF[0]]) == {
        "likeness": pytest.approx([(third - first) / span, (first - second) / span, 0, (third - first) / span])
    }
    assert 0.8 < (third - first) / span < 1.2, "about as like as they are to each other"
    assert notes == ["face likeness: no face in 1 of 4 pictures, which counts as 0"]
    notes.append("something else")
    assert witness.values(base)["likeness"] == pytest.approx([0, 0, 0, 0])
    witness.values([SELF[0]] * 5)
    assert notes == ["something else", "face likeness: no face in 2 of 12 pictures, which counts as 0"]


@pytest.mark.parametrize(
    ("data", "base", "why"),
    [
        ([SELF[0], NOBODY, NOBODY], OTHER[0], "2 of the data set's 3 pictures have no face"),
        ([NOBODY, NOBODY], OTHER[0], "2 of the data set's 2 pictures have no face"),
        (SELF, SELF[0], "it sees no difference between the data set and what the base model draws"),
    ],
)
def test_without_faces_nothing_is_said_of_them(data: Pictures, base: Image.Image, why: str, face_eye: FaceEye) -> None:
    notes = list[str]()
    assert FaceWitness(face_eye, exhibit([base] * 5, data), notes).values(SELF + OTHER) == {}
    assert notes == [f"likeness was not measured by sface: {why}"]


def test_a_single_face_and_a_base_without_any_are_a_scale(face_eye: FaceEye) -> None:
    witness = FaceWitness(face_eye, exhibit([NOBODY] * 5, SELF[:1]), [])
    assert witness.values([SELF[0]] * 5)["likeness"] == pytest.approx([1, 1, 1, 1])


# Tags


@pytest.fixture
def tag_eye(tmp_path: Path) -> TagEye:
    return TagEye(Found("tagger", (draw_tagger(tmp_path / "wd"),)), quiet)


def test_tags_come_back_and_what_is_asked_is_seen(tag_eye: TagEye) -> None:
    """The data set's own: ^_^, (o)_(o) and zk9 (hat), which all pictures have, red theme and red one."""
    notes, base = list[str](), plain("green", "blue", "green", "green", "green")
    witness = TagWitness(tag_eye, exhibit(base, plain("red", "red", "red", "blue")), notes)
    assert {*witness.wanted[0]} == {*tag_eye.own(tag_eye.look(plain("red")))} and len(witness.wanted[0]) == 5
    assert witness.asked == [[], ["blue theme"], [], [], []] and witness.gone[1] == ["red theme"]
    assert "red theme" not in witness.wanted[1] and len(witness.wanted[1]) == 4, "it is not to come back with blue"
    one = np.mean([(3 * 5 + 3) / 20, (3 * 4 + 3) / 16, (3 * 5 + 3) / 20, (3 * 5 + 3) / 20])
    span = one - np.mean([3 / 5, 3 / 4, 3 / 5, 3 / 5])
    told = witness.values(plain("red", "blue", "red", "green", "green"))
    assert told["likeness"] == pytest.approx([(1 - 3 / 5) / span, 0, 0, 0])
    assert told["obedience"] == (1, 1), "the second prompt asks for what the tagger has no tag for"
    assert witness.values(plain("red", "red", "red", "red", "blue"))["obedience"] == (0, 0)
    told = witness.values(plain("red", "green", "red", "red", "red"))
    assert told["obedience"] == (0.5, 0.5), "the red is gone, but the blue did not come"
    assert told["likeness"] == pytest.approx([0.4 / span, 0, 0.4 / span, 0.4 / span])
    assert not notes


@pytest.mark.parametrize(
    ("data", "base", "asked", "whys"),
    [
        ("red", "red", "with blue theme", ["likeness: it sees no difference", "obedience: it does not see"]),
        ("red", "green", "in the sea", ["obedience: it has no tag for what contradicting prompts ask"]),
    ],
)
def test_a_tagger_that_cannot_tell_says_so(data: str, base: str, asked: str, whys: list[str], tag_eye: TagEye) -> None:
    notes = list[str]()
    one = [ASKED[0], Question("contradicting", f"zk9 {asked}", asked, asked)]
    told = TagWitness(tag_eye, exhibit(plain(base, base), plain(data), one), notes).values(plain("red", "blue"))
    names = [why.split(":")[0] for why in whys]
    assert sorted([*told, *names]) == ["likeness", "obedience"] and len(notes) == len(whys)
    for note, name, why in zip(notes, names, whys, strict=True):
        assert note.startswith(f"{name} was not measured by wd: {why.partition(': ')[2]}")


def test_a_data_set_without_tags_in_common(tmp_path: Path) -> None:
    names = [("red_theme", 0), ("blue_theme", 0), ("green_theme", 0)]
    eye, notes = TagEye(Found("tagger", (draw_tagger(tmp_path / "wd", names),)), quiet), list[str]()
    base, data = plain("green", "blue", "green", "green", "green"), plain("red", "blue", "lime", "black", "black")
    told = TagWitness(eye, exhibit(base, data), notes).values(base)
    assert told.keys() == {"obedience"}
    assert notes == ["likeness was not measured by wd: no tag is on half of the data set's pictures"]


# Who is called


SHOWN = exhibit([picture(seed) for seed in range(5)], [picture(20), picture(21)])


def asked(notes: list[str], **eyes: Any) -> list[Any]:
    return call(Eyes(**eyes), SHOWN, CPU, torch.float32, 4, notes)


def test_each_eye_that_is_not_there_is_a_note(models: Path) -> None:
    notes = list[str]()
    assert asked(notes) == [] and len(notes) == 4
    assert notes == [found.sentence for found in available(Eyes())]
    notes.clear()
    assert asked(notes, dino=None, clip=None, face=None, tagger=None) == []
    assert all(note.endswith("was left empty") for note in notes) and len(notes) == 4


def test_those_that_are_there_are_called(models: Path) -> None:
    make_dino(models / "dinov2-tiny"), make_clip(models / "clip-tiny"), draw_tagger(models / "wd14" / "wd-tiny")
    make_sface(models / "sface.onnx"), make_detector(models / "yunet.onnx")
    witnesses = asked([])
    assert [witness.name for witness in witnesses] == ["dinov2-tiny", "clip-tiny", "sface", "wd-tiny"]
    sizes = {"likeness": len(SUBJECT), "obedience": len(CONTRADICTING)}
    for witness in witnesses:
        told = witness.values(SHOWN.base)
        assert {name: len(values) for name, values in told.items()}.items() <= sizes.items()


BREAKERS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "dino": (lambda models: make_dino(models / "dinov2") / "model.safetensors", "dinov2", "likeness by DINOv2"),
    "clip": (lambda models: make_clip(models / "clip") / "model.safetensors", "clip", "agreement with the prompt"),
    "face": (lambda models: make_sface(models / "sface.onnx"), "sface.onnx", "face likeness"),
    "detector": (lambda models: make_detector(models / "yunet.onnx"), "yunet.onnx", "face likeness"),
    "tagger": (lambda models: draw_tagger(models / "wd14" / "wd") / "model.onnx", "wd14/wd", "tag recall"),
}


@pytest.mark.parametrize("option", BREAKERS)
def test_a_broken_one_is_a_note_if_found_and_an_error_if_named(option: str, models: Path) -> None:
    make, name, measure = BREAKERS[option]
    make_sface(models / "sface.onnx"), make_detector(models / "yunet.onnx")
    file, notes = make(models), list[str]()
    file.write_bytes(b"x")
    asked(notes)
    said = [note for note in notes if note.startswith(measure)]
    with pytest.raises(InputError) as error:
        asked([], **{option: str(models / name)})
    assert len(said) == 1 and said[0].endswith(f" was not measured: {error.value}")


# In a comparison


def test_a_comparison_asks_all_that_are_there(models: Path, tmp_path: Path) -> None:
    """The same pictures, drawn once: what the eyes say of likeness is averaged with what the base model's own say."""
    family = load_family(Model(base="pocket"), CPU, torch.float32, Captions(), quiet)
    (tmp_path / "zk9").mkdir(), (tmp_path / "img" / "1_zk9 creature").mkdir(parents=True)
    for file in sorted((Path(pocket.__file__).parent / "zk9" / "img" / "10_zk9 creature").iterdir())[:6]:
        shutil.copy(file, tmp_path / "img" / "1_zk9 creature")  # three pictures, three captions
    save_file(trained(family, conv_rank=None).tensors(), tmp_path / "zk9" / "zk9.safetensors", META)
    options = {
        "folder": str(tmp_path / "zk9"), "base": "pocket", "data": str(tmp_path / "img"), "questions": 1, "seeds": 2,
        "steps": 1, "strengths": [1.0], "device": "cpu",
    }  # fmt: skip

    def compare() -> dict[str, Any]:
        report = comparison.run(validate(Compare, options))
        told = json.loads((tmp_path / "zk9" / "verdict.json").read_text())
        assert set(told["notes"]) <= set(report.lines)
        return told

    without = compare()
    looked = "the base model's own eyes"
    assert without["eyes"] == [looked]
    assert without["notes"] == [found.sentence for found in available(Eyes())]
    make_dino(models / "dinov2-tiny"), make_clip(models / "clip-tiny")
    beside = compare()
    assert beside["eyes"] == [looked, "dinov2-tiny", "clip-tiny"]
    assert {found.sentence for found in available(Eyes())[2:]} <= {*beside["notes"]}
    (before,), (after,) = without["rows"], beside["rows"]
    assert before["pictures"] == after["pictures"] and len(before["values"]["likeness"]) == 4
    pairs = [(Question(**{k: v for k, v in one.items() if k != "seed"}), one["seed"]) for one in beside["asked"]]
    data = sorted((tmp_path / "img").rglob("*.png"))
    base, ours, drawn = (
        [Image.open(file).convert("RGB") for file in files]
        for files in (beside["reference"]["pictures"], data, after["pictures"])
    )
    others = call(Eyes(), Exhibit(pairs, base, ours, ["a creature"]), CPU, torch.float32, 4, [])
    said = [witness.values(drawn)["likeness"] for witness in others]
    assert after["values"]["likeness"] == pytest.approx(
        np.mean([before["values"]["likeness"], *said], axis=0), abs=1e-3
    )
    assert after["values"]["likeness"] != pytest.approx(before["values"]["likeness"], abs=1e-2)
    assert after["values"]["copying"] == before["values"]["copying"]
