"""The comparison: what is asked, what is drawn and measured, what is left out and said, and how it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.conftest import Tree
from tests.lora_files import make_lora
from trainer.__main__ import main
from trainer.compare.options import Look
from trainer.compare.painter import Painter, PaintError
from trainer.compare.shelf import digest_of
from trainer.compare.shot import Stage
from trainer.config import Config
from trainer.data.folders import collect
from trainer.errors import InputError
from trainer.families.header import read_header
from trainer.runfolder import RunFolder
from trainer.terminal import Stopped
from trainer.tools.convert_model import run as run_conversion
from trainer.tools.options import ConvertModel
from trainer.tools.report import Report
from trainer.tree import overlay, validate
from trainer.verdict import run as comparison
from trainer.verdict.options import Compare
from trainer.verdict.questions import LOOKS, PLACES, Question, Topic, own, questions_of, topic_of
from trainer.verdict.setting import read_captions, setting_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")

FEW = {"questions": 1, "seeds": 2, "size": 64, "steps": 1, "sampler": "Euler", "cfg": 2.0, "device": "cpu", "batch": 8}
SENTENCES = ["zk9, a creature on grass", "zk9, a creature in the sea", "zk9, a creature at night"]
TAGS = ["zk9, 1girl, solo, red hair, smile", "zk9, 1girl, outdoors, red hair, hat", "zk9, 1girl, night, red hair, sky"]
PHOTOS = ["a photo of ohwx woman in a park", "ohwx woman, smiling, wearing a blue dress", "ohwx woman on snow"]
STYLE = ["a house by a lake", "two boats", "an old man on a bench"]


# What is asked


def asked(captions: list[str], words: str = "", count: int = 8) -> tuple[Topic, list[Question]]:
    topic = topic_of(captions, words)
    return topic, questions_of(topic, captions, count)


@pytest.mark.parametrize(
    ("captions", "words", "trigger", "kind"),
    [
        (SENTENCES, "zk9 creature", "zk9", "creature"),
        (SENTENCES, "", "zk9", ""),
        (TAGS, "", "zk9", "1girl"),
        (PHOTOS, "ohwx woman", "ohwx", "woman"),
        (STYLE, "style", "", ""),
        (["woman, red", "woman, blue"], "woman", "", "woman"),  # the class alone is no trigger
        (["ねこ9, 生物 grass", "ねこ9, 生物 sea"], "ねこ9 生物", "ねこ9", "生物"),
        (["zk9"], "zk9", "zk9", ""),
        (["", ""], "zk9 creature", "", ""),
        ([], "", "", ""),
    ],
)
def test_the_trigger_and_the_class(captions: list[str], words: str, trigger: str, kind: str) -> None:
    topic = topic_of(captions, words)
    assert (topic.trigger, topic.kind) == (trigger, kind)


def test_a_given_trigger_counts_and_must_stand_in_a_caption() -> None:
    assert topic_of(["my cat sits", "my cat sleeps"], "", "my cat").trigger == "my cat"
    assert topic_of(SENTENCES, "zk9 creature", "creature").trigger == "creature"
    with pytest.raises(InputError, match=r"trigger: 'zk' is in no caption"):
        topic_of(SENTENCES, "zk9 creature", "zk")  # a part of a word is none


def test_a_prompt_is_bare_without_the_trigger() -> None:
    topic = topic_of(SENTENCES, "zk9 creature")
    for prompt in ("zk9, a creature", "ZK9 a creature", "a creature, zk9"):
        assert topic.bare(prompt) == "a creature"
    assert topic.bare("zk99, a creature") == "zk99, a creature"
    assert topic_of(STYLE, "").bare(STYLE[0]) == STYLE[0]


def test_what_the_data_set_shows_is_never_asked_as_contradicting() -> None:
    _, questions = asked(SENTENCES, "zk9 creature")
    contradicting = [question for question in questions if question.kind == "contradicting"]
    shown = ("on grass", "in the sea", "at night")
    assert [one.asked for one in contradicting] == [one.phrase for one in PLACES if one.phrase not in shown]
    assert contradicting[0].prompt == "zk9, a creature on snow" and contradicting[0].bare == "a creature on snow"
    everything = [f"zk9, {', '.join(one.tag for one in PLACES)}"] * 2
    assert not [one for one in asked(everything, "zk9")[1] if one.kind == "contradicting"]


def test_people_get_hair_and_clothes_in_the_words_of_their_captions() -> None:
    topic, questions = asked(TAGS)
    prompts = [one.prompt for one in questions if one.kind == "contradicting"]
    assert topic.is_tags and prompts[0] == "zk9, 1girl, blue dress" and "zk9, 1girl, white hair" in prompts
    assert not any("red hair" in prompt or prompt.endswith(", night") for prompt in prompts)
    _, questions = asked(PHOTOS, "ohwx woman")
    told = {one.asked for one in questions if one.kind == "contradicting"}
    assert "with long red hair" in told and told.isdisjoint({"wearing a blue dress", "on snow"})
    assert {one.phrase for one in LOOKS}.isdisjoint(one.asked for one in asked(SENTENCES, "zk9 creature")[1])


def test_each_kind_has_its_share_and_its_bare_twin() -> None:
    _, questions = asked(SENTENCES, "zk9 creature", 4)
    kinds = [one.kind for one in questions]
    assert (kinds.count("subject"), kinds.count("contradicting"), kinds.count("plain")) == (4, 4, 4)
    assert {one.prompt for one in questions if one.kind == "subject"} == {*SENTENCES}  # one of them twice
    assert not any("zk9" in one.bare for one in questions)
    assert all(one.prompt == one.bare for one in questions if one.kind == "plain")


def test_half_of_the_plain_prompts_are_of_others_of_its_kind() -> None:
    def plain(captions: list[str], words: str) -> list[str]:
        return [one.prompt for one in asked(captions, words, 4)[1] if one.kind == "plain"]

    assert plain(SENTENCES, "zk9 creature") == [
        "a red creature on a grey background", "a blue creature on a grey background", "a creature at night",
        "a red star at night",
    ]  # fmt: skip
    assert plain(PHOTOS, "ohwx woman")[:2] == [
        "woman with long red hair on a grey background",
        "woman with short white hair on a grey background",
    ]
    assert plain(TAGS, "")[:2] == ["1girl, blue dress, grey background", "1girl, white hair, grey background"]
    owls = plain(["zk9, an owl, red", "zk9, an owl on snow"], "zk9 owl")
    assert owls[:2] == ["a blue owl on a grey background", "a green owl on a grey background"]
    assert plain(["zk9, red", "zk9, blue"], "zk9")[:2] == ["blue", "red"]  # no class, no kin


def test_one_caption_an_empty_one_and_a_style() -> None:
    _, questions = asked(["zk9"], "zk9", 2)
    assert [one.prompt for one in questions if one.kind == "subject"] == ["zk9", "zk9"]
    assert all(one.prompt for one in questions)
    _, questions = asked([""], "zk9", 2)
    assert [(one.kind, one.prompt) for one in questions][:3] == [
        ("subject", ""), ("subject", ""), ("contradicting", "at night"),
    ]  # fmt: skip
    assert "plain" not in {one.kind for one in asked(STYLE, "", 2)[1]}  # nothing is to be left out of a prompt


def test_own_prompts_take_the_place_of_made_ones() -> None:
    topic = topic_of(SENTENCES, "zk9 creature")
    assert own(topic, "contradicting", ["zk9, red"]) == [Question("contradicting", "zk9, red", "red", "zk9, red")]


# Runs


@cache
def painter() -> Painter:
    """One for all tests, for a load takes longer than a picture."""
    return Painter(Look(device="cpu"))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files of one training."""
    folder = tmp_path_factory.mktemp("loras")
    told = {"ss_session_id": "7", "ss_output_name": "zk9"}
    return [
        make_lora(folder / f"zk9-00000{epoch}.safetensors", "sd15", epoch, metadata={
            **told, "ss_epoch": str(epoch), "ss_steps": str(10 * epoch)})
        for epoch in (1, 2, 3)
    ]  # fmt: skip


@pytest.fixture
def folder(bases: dict[str, Path], images: Path, loras: list[Path], tmp_path: Path) -> RunFolder:
    """A run that saved them."""
    tree = {"model": {"base": str(bases["sd15"])}, "data": {"images": str(images)}, "output": {"name": "zk9"}}
    made = RunFolder.create(tmp_path / "runs", Config.model_validate(tree))
    for lora in loras:
        shutil.copy2(lora, made.checkpoints)
    return made


@pytest.fixture
def events() -> list[Tree]:
    return []


Go = Callable[..., Report]


@pytest.fixture
def go(folder: RunFolder, events: list[Tree]) -> Go:
    """Compares the run, with changes; what it tells comes into `events`."""

    def compare(changes: Tree | None = None, **given: Any) -> Report:
        def event(kind: str, **facts: Any) -> None:
            events.append({"kind": kind, **facts})

        options = validate(Compare, overlay({"folder": str(folder.path), **FEW}, changes or {}))
        return comparison.run(options, event=event, painter=painter(), **given)

    return compare


def cells(tmp_path: Path) -> set[Path]:
    return {*(tmp_path / "home" / "grids" / "cells").glob("*.png")}


def test_a_comparison_from_the_first_picture_to_the_verdict(go: Go, folder: RunFolder, events: list[Tree]) -> None:
    folder.event("epoch", step=20, epoch=2, loss=0.12)
    folder.event("validation", step=20, loss=0.15, train_loss=0.1)
    folder.event("epoch", step=30, epoch=3, loss=float("nan"))
    told: list[tuple[int, int]] = []
    report = go({"finalists": 1}, tell=lambda *done: told.append(done))
    file = folder.path / "verdict.json"
    written = json.loads(file.read_text())
    assert report.files == [str(file)] and written == json.loads(json.dumps(report.to_json()))
    assert not list(folder.path.glob("*.part"))
    assert written["summary"] == written["verdict"]["sentence"] and not written["stopped"]
    assert (written["folder"], written["trigger"]) == (str(folder.path), "zk9")
    rows = [(row["label"], row["strength"], row["kind"]) for row in written["rows"]]
    best = max(written["rows"][:3], key=lambda row: row["total"])["label"]
    average = "average of epochs 1 to 3"
    assert rows == [
        ("zk9-000001", 1, "file"), ("zk9-000002", 1, "file"), ("zk9-000003", 1, "file"),
        (best, 0.8, "file"), (best, 0.6, "file"),
        (average, 1, "average"), (average, 0.8, "average"), (average, 0.6, "average"),
    ]  # fmt: skip
    scores = [row["scores"] for row in written["rows"]]
    assert scores[0]["train_loss"] is None and scores[1]["train_loss"] == 0.12 and scores[2]["train_loss"] is None
    assert scores[1]["held_out_loss"] == 0.15 and scores[1]["gap"] == pytest.approx(0.5)
    assert [(row["epoch"], row["step"]) for row in written["rows"][:3]] == [(1, 10), (2, 20), (3, 30)]
    assert [one["kind"] for one in written["asked"]] == ["subject"] * 2 + ["contradicting"] * 2 + ["plain"] * 2
    assert [one["seed"] for one in written["asked"]] == [42, 43] * 3
    pictures = [picture for row in [written["reference"], *written["rows"]] for picture in row["pictures"]]
    assert len(pictures) == 9 * 6 and all(Path(picture).is_file() for picture in pictures)
    assert len({*pictures}) == 52 and told[-1] == (54, 54)  # without a LoRA a bare caption is also a plain prompt
    assert (folder.path / "averages" / "epochs-1-to-3.safetensors").is_file()
    kinds = [event["kind"] for event in events if event["kind"] != "warning"]
    assert kinds == ["asked", "reference", *["score"] * 8]
    assert [event["row"] for event in events if event["kind"] == "score"] == written["rows"]
    assert events[0]["asked"] == written["asked"]


def test_a_second_time_nothing_is_drawn(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = go()
    before = cells(tmp_path)
    monkeypatch.setattr(Painter, "paint_many", lambda *given: pytest.fail("a picture was drawn again"))
    again = go()
    assert cells(tmp_path) == before
    assert [row["values"] for row in again.found["rows"]] == [row["values"] for row in first.found["rows"]]


def test_a_killed_one_goes_on(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies after the pictures of the base and of one file."""
    whole, drawn = Painter.paint_many, list[int]()

    def paint(self: Painter, shots: Any, tick: Any) -> Any:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(len(shots))
        return whole(self, shots, tick)

    monkeypatch.setattr(Painter, "paint_many", paint)
    with pytest.raises(KeyboardInterrupt):
        go({"average": False, "strengths": [1.0]})
    kept = cells(tmp_path)
    assert sum(drawn) == len(kept) == 10  # six, of which the base model has two twice
    drawn.clear()
    monkeypatch.setattr(Painter, "paint_many", lambda self, shots, tick: drawn.append(len(shots)) or whole(
        self, shots, tick))  # fmt: skip
    report = go({"average": False, "strengths": [1.0]})
    assert sum(drawn) == 12 and kept < cells(tmp_path) and len(report.found["rows"]) == 3


def test_stopped_it_tells_the_rows_so_far_and_gives_no_verdict(go: Go, folder: RunFolder, events: list[Tree]) -> None:
    report = go(should_stop=lambda: sum(event["kind"] == "score" for event in events) == 2)
    assert report.stopped and not report.files and report.found["verdict"] is None
    assert [row["label"] for row in report.found["rows"]] == ["zk9-000001", "zk9-000002"]
    assert report.said.startswith("Stopped after 2 candidates") and not (folder.path / "verdict.json").exists()
    with pytest.raises(Stopped):
        painter().paint(comparison_shot(folder), stop)
    assert len(go({"strengths": [1.0]}).found["rows"]) == 4


def stop() -> None:
    raise Stopped


def comparison_shot(folder: RunFolder) -> Any:
    from trainer.compare.shot import Stage

    stage = Stage(Look(base=folder.config().model.base, size=64, steps=1))
    return stage.shot(stage.chosen())


def test_a_lora_that_does_nothing_is_as_the_base_model(go: Go, folder: RunFolder) -> None:
    """With prompts that have no trigger, so that the base model is asked for the very same."""
    for file in folder.checkpoints.iterdir():
        tensors = {key: tensor * (0 if "lora_up" in key else 1) for key, tensor in load_file(file).items()}
        save_file(tensors, file, {"ss_epoch": file.stem[-1]})
    words = {"prompts": ["a thing"], "contradicting": ["a thing at night"], "plain": ["a star"]}
    report = go({**words, "average": False, "strengths": [1.0]})
    for row in report.found["rows"]:
        assert row["scores"]["likeness"] == pytest.approx(0, abs=1e-4)
        assert row["scores"]["spill"] == pytest.approx(0, abs=1e-4) and row["scores"]["burn"] == 0
        assert row["scores"]["obedience"] == pytest.approx(1, abs=1e-4)
        assert row["scores"]["variety"] == pytest.approx(1, abs=0.3)
    assert report.found["verdict"]["diagnosis"] != "good"


# Whole models and new words


def a_run(tmp_path: Path, bases: dict[str, Path], images: Path, network: Tree) -> RunFolder:
    tree = {"model": {"base": str(bases["sd15"])}, "data": {"images": str(images)}, "network": network}
    return RunFolder.create(tmp_path / "runs", Config.model_validate({**tree, "compare": {"afterwards": True}}))


def convert(options: Tree) -> None:
    """Writes a model as a diffusers folder."""
    run_conversion(validate(ConvertModel, options))


def test_whole_models_are_drawn_with_one_at_a_time_and_have_no_strength(
    bases: dict[str, Path], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files and a diffusers folder, whose ages the run tells; what they draw is what the model itself draws."""
    run = a_run(tmp_path, bases, images, {"type": "full_model"})
    for epoch in (1, 2):
        held = load_file(bases["sd15"])
        changed = {
            key: value * (1 + 0.2 * epoch) if key.endswith("to_v.weight") else value for key, value in held.items()
        }
        save_file(changed, run.checkpoints / f"m-00000{epoch}.safetensors", read_header(bases["sd15"]).metadata)
        run.event("checkpoint", file=f"checkpoints/m-00000{epoch}.safetensors", step=10 * epoch, epoch=epoch)
    convert({"model": str(run.checkpoints / "m-000002.safetensors"), "save_to": str(run.checkpoints / "m")})
    run.event("epoch", step=30, epoch=3, loss=0.1)
    run.event("checkpoint", file="checkpoints/m", step=30, epoch=None)
    held_at_once: list[int] = []
    load = Painter.load

    def counted(self: Painter, base: Any) -> Any:
        gone = ref(self._held[0]) if self._held else None
        before, made = self._base, load(self, base)
        if gone and before != self._base:
            held_at_once.append(gone() is not None)
        return made

    monkeypatch.setattr(Painter, "load", counted)
    told: list[tuple[int, int]] = []
    options = validate(Compare, {"folder": str(run.path), **FEW})
    mine = Painter(Look(device="cpu"))
    report = comparison.run(options, painter=mine, tell=lambda *done: told.append(done))
    rows = report.found["rows"]
    assert [(row["label"], row["strength"], row["what"]) for row in rows] == [
        (label, 1, "model") for label in ("m-000001", "m-000002", "m")
    ]
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 10), (2, 20), (3, 30)]
    assert rows[2]["scores"]["train_loss"] == 0.1 and told[-1] == (24, 24)
    assert held_at_once == [False] * 6  # the base, and each model and the base again
    assert rows[0]["pictures"] != rows[1]["pictures"] != rows[2]["pictures"]
    second, third = ([np.asarray(Image.open(file)) for file in row["pictures"]] for row in rows[1:])
    assert np.array_equal(second, third)  # the folder is the second file in another form
    assert not any("strength" in text for text in [report.said, *report.lines])
    assert not (run.path / "averages").exists()
    look = {
        **FEW,
        "base": str(run.checkpoints / "m-000001.safetensors"),
        "prompt": report.found["asked"][0]["prompt"],
        "seed": 42,
    }
    alone = Stage(validate(Look, {key: value for key, value in look.items() if key in Look.model_fields}))
    drawn = np.asarray(mine.paint(alone.shot(alone.chosen())))
    own, other = (np.asarray(Image.open(row["pictures"][0])) for row in rows[:2])
    apart = [int(np.abs(drawn.astype(int) - picture).max()) for picture in (own, other)]
    assert apart[0] <= 3 < apart[1]  # a batch adds up in another order


def test_an_embedding_is_drawn_with_under_its_word(bases: dict[str, Path], images: Path, tmp_path: Path) -> None:
    run = a_run(tmp_path, bases, images, {"type": "embedding", "token": "NewOne", "template": "object"})
    known = load_file(bases["sd15"])["cond_stage_model.transformer.text_model.final_layer_norm.weight"].shape[0]
    for epoch, width in ((1, known), (2, known), (3, 5)):
        vectors = torch.randn(2, width, generator=torch.Generator().manual_seed(epoch))
        told = {"ss_steps": str(10 * epoch), "ss_epoch": str(epoch)}
        save_file({"emb_params": vectors}, run.checkpoints / f"zk9-00000{epoch}.safetensors", told)
    report = comparison.run(validate(Compare, {"folder": str(run.path), **FEW}), painter=painter())
    rows = report.found["rows"]
    assert [(row["label"], row["strength"], row["what"], row["epoch"]) for row in rows] == [
        ("zk9-000001", 1, "embedding", 1), ("zk9-000002", 1, "embedding", 2),
    ]  # fmt: skip
    assert report.found["trigger"] == "NewOne" and "NewOne" in report.found["asked"][0]["prompt"]
    assert any(note.startswith("zk9-000003 was left out") and "[2, 5]" in note for note in report.found["notes"])
    assert {*rows[0]["pictures"]}.isdisjoint(rows[1]["pictures"])
    hashed = digest_of(run.checkpoints / "zk9-000001.safetensors")[:12]
    assert f"TI hashes: newone: {hashed}" in Image.open(rows[0]["pictures"][0]).info["parameters"].replace('"', "")
    several = a_run(tmp_path, bases, images, {"type": "lora"})
    tree = several.config().model_dump(mode="json") | {"network": {"type": "embedding", "token": "a, b"}}
    with pytest.raises(ValueError, match=r"compare\.afterwards .*network\.token"):
        Config.model_validate(tree)
    tree["compare"]["afterwards"] = False
    words = RunFolder.create(tmp_path / "runs", Config.model_validate(tree))
    shutil.copy2(run.checkpoints / "zk9-000001.safetensors", words.checkpoints)
    with pytest.raises(InputError, match=r"folder: .* learned 2 words"):
        setting_of(Compare(folder=str(words.path)))


# What does not fit


def test_a_file_that_does_not_fit_and_one_of_nan_are_left_out(
    go: Go, folder: RunFolder, events: list[Tree], loras: list[Path]
) -> None:
    make_lora(folder.checkpoints / "foreign.safetensors", "sdxl", 5)
    tensors = {key: tensor * (torch.nan if "lora_up" in key else 1) for key, tensor in load_file(loras[0]).items()}
    save_file(tensors, folder.checkpoints / "zk9-000004.safetensors", {"ss_epoch": "4", "ss_steps": "40"})
    told: list[tuple[int, int]] = []
    report = go({"finalists": 1, "strengths": [1.0]}, tell=lambda *done: told.append(done))
    labels = [row["label"] for row in report.found["rows"]]
    assert labels == ["zk9-000001", "zk9-000002", "zk9-000003", "average of epochs 1 to 3"]
    said = [note for note in report.found["notes"] if "was left out" in note]
    assert len(said) == 2 and all(note in report.lines for note in said)
    assert said[0].startswith("zk9-000004 at strength 1 was left out") and "NaN" in said[0]
    assert "foreign" in said[1] and "a LoRA for sdxl" in said[1]
    assert [event["text"] for event in events if event["kind"] == "warning"] == said
    assert told[-1] == (30, 30)
    for file in folder.checkpoints.iterdir():
        if file.stem != "foreign":
            file.unlink()
    with pytest.raises(InputError, match=r"none of the files in .* can be compared: .*foreign at strength 1"):
        go()


def test_a_strength_that_gives_nan_is_left_out_and_the_file_is_not(
    go: Go, events: list[Tree], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Painter.paint_many

    def paint(self: Painter, shots: Any, tick: Any) -> Any:
        if any(lora.unet == 2 for lora in shots[0].loras):
            raise PaintError("precision: fp16 gives NaN with this model")
        return whole(self, shots, tick)

    monkeypatch.setattr(Painter, "paint_many", paint)
    told: list[tuple[int, int]] = []
    report = go({"strengths": [1.0, 2.0], "finalists": 2}, tell=lambda *done: told.append(done))
    assert [row["strength"] for row in report.found["rows"]] == [1.0] * 4 and len(report.found["rows"]) == 4
    said = [event["text"] for event in events if event["kind"] == "warning"]
    assert len(said) == 3 and all("at strength 2 was left out: precision" in text for text in said)
    assert told[-1] == (30, 30)


def test_files_of_several_trainings_have_no_average(go: Go, folder: RunFolder) -> None:
    make_lora(folder.checkpoints / "zk9.safetensors", "sd15", 4, metadata={"ss_session_id": "8", "ss_steps": "40"})
    (folder.checkpoints / "zk9-000001.safetensors").unlink()
    report = go({"strengths": [1.0]})
    assert len(report.found["rows"]) == 3 and any("No average was tried" in note for note in report.lines)


def test_a_folder_that_is_no_run_needs_base_and_data(
    bases: dict[str, Path], images: Path, loras: list[Path], tmp_path: Path
) -> None:
    plain = shutil.copytree(loras[0].parent, tmp_path / "plain")
    with pytest.raises(InputError, match=r"base: .*--base"):
        setting_of(Compare(folder=str(plain)))
    base = {"folder": str(plain), "base": str(bases["sd15"])}
    with pytest.raises(InputError, match=r"data: .*--data"):
        setting_of(Compare(**base))
    options = validate(Compare, {**base, "data": str(images), **FEW, "strengths": [1.0]})
    first = comparison.run(options, painter=painter())
    assert [row["epoch"] for row in first.found["rows"]] == [1, 2, 3, None]
    shutil.copytree(loras[0].parent, plain / "chosen")
    assert len(setting_of(options).files) == 3  # neither the average that was made nor what was put to use
    assert json.loads((plain / "verdict.json").read_text())["trigger"] == "zk9"


def test_folders_that_cannot_be_compared_are_named(folder: RunFolder, tmp_path: Path) -> None:
    job = RunFolder.make(tmp_path / "runs", "grid", {"job": "compare.grid", "options": {}})
    with pytest.raises(InputError, match=r"folder: .*_grid is no training but a compare\.grid"):
        setting_of(Compare(folder=str(job.path)))
    for wrong in (tmp_path / "none", next(folder.checkpoints.iterdir())):
        with pytest.raises(InputError, match=f"folder: {wrong} is no folder"):
            setting_of(Compare(folder=str(wrong)))
    for file in folder.checkpoints.iterdir():
        file.unlink()
    with pytest.raises(InputError, match=f"folder: {folder.path} holds no LoRA, model or embedding yet"):
        setting_of(Compare(folder=str(folder.path)))


def test_a_data_set_that_is_gone_is_named(
    bases: dict[str, Path], images: Path, loras: list[Path], tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    tree = {"model": {"base": str(bases["sd15"])}, "data": {"images": str(gone), "reg": str(gone / "reg")}}
    made = RunFolder.create(tmp_path / "runs", Config.model_validate(tree))
    shutil.copy2(loras[0], made.checkpoints)
    with pytest.raises(InputError, match=f"data: {gone} .*--data"):
        setting_of(Compare(folder=str(made.path)))
    found = setting_of(Compare(folder=str(made.path), data=str(images)))
    assert len(found.pictures) == 6 and found.topic.trigger == "zk9"  # regularisation is not needed


def test_captions_have_the_words_of_their_own_subset(images: Path) -> None:
    own = {"folder": str(images / "2_zk9 thing"), "prefix": "zk8"}
    tree = {"data": {"subsets": [own, {"folder": str(images / "1_zk9 body")}]}, "captions": {"prefix": "all"}}
    config = Config.model_validate(tree)
    _, texts = read_captions(collect(config.data, config.captions).pictures, config)
    assert sorted(text.split()[0] for text in texts) == ["all"] * 2 + ["zk8"] * 4


def test_the_run_s_own_vae_clip_skip_and_background_are_taken(
    bases: dict[str, Path], images: Path, loras: list[Path], tmp_path: Path
) -> None:
    model = {"base": str(bases["sd15"]), "vae": "own.safetensors", "clip_skip": 2}
    tree = {"model": model, "data": {"images": str(images), "background": "#102030"}}
    made = RunFolder.create(tmp_path / "runs", Config.model_validate(tree))
    shutil.copy2(loras[0], made.checkpoints)
    found = setting_of(Compare(folder=str(made.path)))
    assert found.clip_skip == 2 and found.vae and found.vae.endswith("own.safetensors")
    assert found.background == "#102030"
    other = setting_of(Compare(folder=str(made.path), base=str(bases["sd15"])))
    assert (other.vae, other.clip_skip) == (None, 2)


# The command line


def test_the_command_line(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--questions", "1", "--seeds", "1", "--size", "64", "--steps", "1", "--device", "cpu", "--no-average"]
    assert main(["compare", str(folder.path), *flags, "--strengths", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["rows"]) == 3 and told["verdict"]["sentence"] == told["summary"]
    assert main(["compare", str(folder.path), "--trigger", "qqq"]) == 2
    assert "trigger: 'qqq' is in no caption" in capsys.readouterr().err
    assert main(["compare", str(folder.path), "--seeds", "0"]) == 2
    assert "seeds" in capsys.readouterr().err
