"""The language of prompts in A1111, what pictures say of themselves, axes of a grid, and names of LoRAs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from tests.lora_files import make_lora
from trainer.compare.info import Info, info_of, parse_info, png_of, read_info
from trainer.compare.options import Axis, Face, Generate, Grid
from trainer.compare.plan import values_of
from trainer.compare.prompts import PRESETS, Tag, by_step, take_tags
from trainer.compare.samplers import KARRAS, NAMES, WORDS, name_of
from trainer.compare.shelf import Shelf, _digest, checkpoints_of, digest_of, is_embedding, network_hash
from trainer.compare.shot import Chosen, Stage
from trainer.config import SAMPLERS
from trainer.errors import InputError
from trainer.families.weights import parse_weights
from trainer.sample import TABLE
from trainer.tree import validate


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lora(tmp_path_factory.mktemp("loras") / "zk9.safetensors", "sd15")


# Words that change


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a (red:1.2) [cat]", ["a (red:1.2) [cat]"] * 4),
        ("a [cat:dog:2] x", ["a cat x", "a cat x", "a dog x", "a dog x"]),
        ("a [cat:dog:0.25]", ["a cat", "a dog", "a dog", "a dog"]),
        ("a [cat:dog:1.0]", ["a cat"] * 4),
        ("[dog:3]", ["", "", "", "dog"]),
        ("[cat::0.5]", ["cat", "cat", "", ""]),
        ("[red|green|blue]", ["red", "green", "blue", "red"]),
        ("[red|]", ["red", "", "red", ""]),
        ("[a [x|y]:b:3]", ["a x", "a y", "a x", "b"]),
        ("([a|b]:1.3)", ["(a:1.3)", "(b:1.3)"] * 2),
        ("[(a:1.2):b:2]", ["(a:1.2)", "(a:1.2)", "b", "b"]),
        ("[(a|b):c:1]", ["(a|b)", "c", "c", "c"]),
        ("[a:b:c]", ["[a:b:c]"] * 4),
        ("16:9, a|b", ["16:9, a|b"] * 4),
        (r"\[a|b\], \(x\)", [r"\[a|b\], \(x\)"] * 4),
        (r"[a\:b:c:2]", [r"a\:b", r"a\:b", "c", "c"]),
        ("[a|b:0.5]", ["a", "b:0.5", "a", "b:0.5"]),
        ("[never closed", ["[never closed"] * 4),
        ("closed] [a|b", ["closed] [a|b"] * 4),
        ("[a:b: 0.5 ]", ["a", "a", "b", "b"]),
    ],
)
def test_texts_by_step(prompt: str, wanted: list[str]) -> None:
    assert list(by_step(prompt, 4)) == wanted


@pytest.mark.parametrize("prompt", ["a AND b", "[a:b:c:0.5]", "[" * 60 + "a" + "|b]" * 60])
def test_what_is_not_known_is_refused_and_never_read_as_words(prompt: str) -> None:
    with pytest.raises(InputError, match=r"^prompt: "):
        by_step(prompt, 4)


@given(st.text(alphabet="[]()|:\\ab0.5 ", max_size=40), st.integers(1, 5))
def test_any_text_is_read_or_refused(prompt: str, steps: int) -> None:
    try:
        texts = by_step(prompt, steps)
    except InputError:
        return
    assert len(texts) == steps
    if not set(prompt) & set("|:"):
        assert texts == (prompt,) * steps


def test_a_thousand_brackets_are_read() -> None:
    prompt = "[" * 3000 + "a" + "]" * 3000
    assert by_step(prompt, 1) == (prompt,)


def test_escapes_reach_the_weights() -> None:
    assert parse_weights(by_step(r"smile \(happy\), [x\|y]", 1)[0])[0] == ("smile (happy), ", 1.0)


# LoRAs


@pytest.mark.parametrize(
    ("prompt", "left", "tags"),
    [
        ("a cat <lora:zk9:0.8>, red", "a cat , red", [Tag("zk9", 0.8, 0.8)]),
        ("<lora:zk9>a", "a", [Tag("zk9", 1, 1)]),
        ("<lora:zk9:0.5:0.7> <lyco:b:-1>", "", [Tag("zk9", 0.7, 0.5), Tag("b", -1, -1)]),
        ("<lora:zk9:te=0:unet=.5>", "", [Tag("zk9", 0.5, 0)]),
        ("<lora:zk9:unet=0.5>", "", [Tag("zk9", 0.5, 1)]),
        ("a  b", "a  b", []),
        ("a < b > c", "a < b > c", []),
    ],
)
def test_tags(prompt: str, left: str, tags: list[Tag]) -> None:
    assert take_tags(prompt) == (left, tags)


@pytest.mark.parametrize(
    "prompt", ["<hypernet:x:1>", "<lora:zk9:strong>", "<lora::1>", "<lora:a:1:1:8>", "<lora:a:lbw=MIDD>"]
)
def test_tags_that_are_refused(prompt: str) -> None:
    with pytest.raises(InputError, match=r"^prompt: "):
        take_tags(prompt)


def test_an_unknown_lora_is_an_error_with_near_names(lora: Path) -> None:
    shelf = Shelf([lora.parent])
    assert shelf.lora("ZK9") == shelf.lora("zk9.safetensors") == lora
    with pytest.raises(InputError, match=r"'zk8'.*did you mean zk9\?"):
        shelf.lora("zk8")
    with pytest.raises(InputError, match="give its file"):
        shelf.lora("something else")


def test_strengths_of_files_and_names(lora: Path) -> None:
    look = Generate(
        prompt="<lora:zk9:0.3>", loras=(f"{lora}:0.5", "zk9:0.8:0", f"{lora}", "zk9:0"), folders=(str(lora.parent),)
    )
    worn = Stage(look).shot(Stage(look).chosen()).loras
    assert [(each.file, each.unet, each.text) for each in worn] == [
        (lora, 0.5, 0.5), (lora, 0.8, 0.0), (lora, 1.0, 1.0), (lora, 0.3, 0.3)
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"^loras: "):
        Stage(Generate(loras=("zk9:a",))).shot(Stage(look).chosen())
    with pytest.raises(InputError, match=r"^face\.prompt: .*move it"):
        Stage(Generate(face=Face(prompt="<lora:zk9:1>"))).shot(Stage(look).chosen())
    with pytest.raises(InputError, match=r"^negative: .*move it"):
        Stage(look).shot(Stage(look).chosen()._replace(negative="<lora:zk9:1>"))


def test_checkpoints_come_in_the_order_of_training(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    for name, steps in (("zk9", 30), ("zk9-000002", 20), ("zk9-000001", 10), ("zk9-step00000015", 15)):
        save_file({"a": torch.zeros(1)}, run / "checkpoints" / f"{name}.safetensors", {"ss_steps": str(steps)})
    names = ["zk9-000001", "zk9-step00000015", "zk9-000002", "zk9"]
    assert [file.stem for file in checkpoints_of(str(run))] == names
    assert Shelf([run]).lora("zk9").parent.name == "checkpoints"
    with pytest.raises(InputError, match="does not exist"):
        checkpoints_of(str(tmp_path / "none"))


def test_embeddings_are_told_from_loras(tmp_path: Path, lora: Path) -> None:
    save_file({"emb_params": torch.zeros(2, 32)}, tmp_path / "bad hands.safetensors")
    torch.save({"string_to_param": {"*": torch.zeros(1, 32)}, "name": "x"}, tmp_path / "old.pt")
    (tmp_path / "cat.safetensors").write_bytes(lora.read_bytes())
    shelf = Shelf([tmp_path])
    assert [one.word for one in shelf.embeddings("(Bad Hands:1.2), cat, old")] == ["bad hands", "old"]
    assert shelf.embeddings("bad handsome, older") == []
    assert not is_embedding(lora) and not is_embedding(tmp_path / "none")


def test_digests_follow_the_content_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    file = tmp_path / "a.safetensors"
    file.write_bytes(b"one")
    assert digest_of(file) == hashlib.sha256(b"one").hexdigest()
    with monkeypatch.context() as forbidden:
        forbidden.setattr(hashlib, "file_digest", lambda *given: pytest.fail("read again"))
        digest_of(file)
        _digest.cache_clear()
        assert digest_of(file) == hashlib.sha256(b"one").hexdigest()  # known from the disk
    file.write_bytes(b"other")
    assert digest_of(file) == hashlib.sha256(b"other").hexdigest()
    folder = digest_of(tmp_path)
    (tmp_path / "b.safetensors").write_bytes(b"one")
    assert digest_of(tmp_path) != folder


def test_a_lora_s_hash_is_that_of_a1111(tmp_path: Path) -> None:
    tensors = {"a.lora_down.weight": torch.arange(4.0)}
    save_file(tensors, tmp_path / "a.safetensors", {"ss_steps": "1"})
    save_file(tensors, tmp_path / "b.safetensors", {"ss_steps": "22"})
    save_file(tensors, tmp_path / "c.safetensors", {"sshs_model_hash": "0" * 64})
    hashes = [network_hash(tmp_path / f"{name}.safetensors") for name in "abc"]
    assert hashes[0] == hashes[1] and hashes[2] == "0" * 64


# Pictures that say how they were made


def test_a1111_s_text_is_read(tmp_path: Path) -> None:
    text = (
        "a cat, (red:1.2)\nsecond line\nNegative prompt: blurry,\nugly\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086,"
        ' Size: 512x512, Model hash: 45dee52b, Lora hashes: "zk9: 0123, b: 4567", Version: v1.9.4'
    )
    info = parse_info(text)
    assert info.prompt == "a cat, (red:1.2)\nsecond line" and info.negative == "blurry,\nugly"
    assert info.settings["Seed"] == "965400086" and info.settings["Lora hashes"] == "zk9: 0123, b: 4567"
    assert parse_info("only words: here") == Info("only words: here")
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    assert read_info(tmp_path / "bare.png") is None
    (tmp_path / "no.png").write_text("no")
    with pytest.raises(InputError, match=r"no\.png"):
        read_info(tmp_path / "no.png")


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30),
)
def test_what_is_written_is_read_back(prompt: str, value: str) -> None:
    settings = {"Steps": "20", "Sampler": "Euler a", "Seed": "1", "Model": value.strip() or "m", "VAE": 'a "b", c: d'}
    info = Info(prompt.strip(), "blurry, (bad:1.2)", settings)
    assert parse_info(info.text()) == info


def test_everything_that_was_set_is_told(tmp_path: Path, lora: Path, models: Path) -> None:
    vae = tmp_path / "my, vae.safetensors"
    save_file({"a": torch.zeros(1)}, vae)
    save_file({"emb_params": torch.zeros(2, 32)}, models / "word.safetensors")
    (models / "yunet.onnx").write_bytes(b"only its digest is asked for")
    tree = {
        "prompt": "a word: 1, 2\n<lora:zk9:0.2:0.8>", "negative": "red", "vae": str(vae), "clip_skip": 2, "cfg": 5.5,
        "face": {"prompt": "a face, near"}, "hires": {"upscaler": "Lanczos"}, "folders": [str(lora.parent)],
        "size": [64, 96],
    }  # fmt: skip
    stage = Stage(validate(Generate, tree))
    info = info_of(stage.shot(stage.chosen()))
    assert parse_info(info.text()) == info
    assert info.prompt == "a word: 1, 2 <lora:zk9:0.2:0.8>" and info.negative == "red"
    wanted = {
        "Steps": "20", "Sampler": "DPM++ 2M", "Schedule type": "Karras", "CFG scale": "5.5", "Size": "64x96",
        "VAE": "my, vae.safetensors", "Clip skip": "2", "Denoising strength": "0.6", "Hires upscale": "2",
        "Hires steps": "20", "Hires upscaler": "Lanczos", "Face detail strength": "0.4",
        "Face detail prompt": "a face, near",
        "Model": "pocket", "Lora hashes": f"zk9: {network_hash(lora)[:12]}",
        "TI hashes": f"word: {digest_of(models / 'word.safetensors')[:12]}",
    }  # fmt: skip
    assert wanted.items() <= info.settings.items()
    assert take_tags(info.prompt)[1] == [Tag("zk9", 0.8, 0.2)]


def test_a_png_keeps_its_text(tmp_path: Path) -> None:
    info = Info("ein Käfer 虫", "", {"Steps": "2", "Sampler": "DDIM", "Seed": "7"})
    (tmp_path / "a.png").write_bytes(png_of(Image.new("RGB", (8, 8)), info))
    assert read_info(tmp_path / "a.png") == info


# Options and axes


def test_samplers_are_those_of_training_by_a1111_s_names() -> None:
    assert {word: TABLE[word].name for word in TABLE} == {word: name for name, word in WORDS.items()}
    assert {name.removesuffix(KARRAS) for name in NAMES} == set(WORDS)
    assert {name_of(word) for word in SAMPLERS} == set(WORDS)
    assert Generate(sampler="k_euler_a").sampler == "Euler a"  # pyrefly: ignore
    assert name_of("dpm++ 2m karras") == "DPM++ 2M Karras"


def test_negative_presets_come_last() -> None:
    assert Generate(negative="red").negatives == "red"
    assert Generate(negative="red", negative_preset="photo").negatives == f"red, {PRESETS['photo']}"
    assert Generate(negative_preset="person").negatives == PRESETS["person"]


@pytest.mark.parametrize(
    ("part", "tree", "told"),
    [
        (Generate, {"size": [100, 64]}, "size.*multiples of 8, such as 96"),
        (Generate, {"sampler": "eular"}, "sampler"),
        (Generate, {"cfg": -1}, "cfg"),
        (Grid, {"x": {"values": ["1"]}}, "have no kind"),
        (Grid, {"x": {"kind": "seed"}}, "has no values"),
        (Grid, {"x": {"kind": "seed", "values": ["1"]}, "y": {"kind": "seed", "values": ["2"]}}, "seed is on two axes"),
    ],
)
def test_options_that_are_refused(part: Any, tree: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        validate(part, tree)


CHOSEN = Chosen("pocket", "a red cat", "a dog", "DDIM", 20, 7.0, 42)


def changed(kind: Any, *values: str) -> list[Chosen]:
    return [value.change(CHOSEN) for value in values_of("x", Axis(kind=kind, values=values), CHOSEN)]


@pytest.mark.parametrize(
    ("kind", "values", "numbers"),
    [
        ("seed", ["1-3", "10"], [1, 2, 3, 10]),
        ("seed", ["1, 5 ,7"], [1, 5, 7]),
        ("strength", ["0.6-1 (+0.2)"], [0.6, 0.8, 1.0]),
        ("strength", ["-1"], [-1]),
        ("cfg", ["1-9 [3]"], [1, 5, 9]),
        ("steps", ["30-10 (-10)"], [30, 20, 10]),
    ],
)
def test_numbers_and_ranges(kind: str, values: list[str], numbers: list[float]) -> None:
    assert [getattr(choice, kind) for choice in changed(kind, *values)] == numbers


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("seed", "-1", "it must be 0 or more"),
        ("seed", "1.5", "it must be a whole number"),
        ("cfg", "high", "no number"),
        ("cfg", "1-5 (+0)", "no range"),
        ("steps", "900", "500 or less"),
        ("sampler", "Eular", "did you mean Euler"),
        ("prompt", "blue", "is not in the prompt"),
        ("checkpoint", "nowhere", "does not exist"),
    ],
)
def test_values_that_are_refused(kind: str, value: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        changed(kind, value)


def test_search_and_replace_in_both_prompts() -> None:
    found = changed("prompt", "a ", "the ", "")
    assert [choice.prompt for choice in found] == ["a red cat", "the red cat", "red cat"]
    assert [choice.negative for choice in found] == ["a dog", "the dog", "dog"]


def test_keys_follow_what_decides_the_pixels(tmp_path: Path, lora: Path) -> None:
    def key(precision: str = "fp32", **options: Any) -> str:
        stage = Stage(validate(Generate, {"prompt": "a", "size": 64, "loras": [str(lora)], **options}))
        return stage.shot(stage.chosen()).key(precision)

    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(lora.read_bytes())
    assert key() == key(loras=[str(copy)]) == key(loras=[f"{lora}:1:1"]) == key(device="cpu")
    others: list[dict[str, Any]] = [
        {"prompt": "b"}, {"negative": "b"}, {"seed": 1}, {"steps": 3}, {"cfg": 2}, {"size": 72}, {"sampler": "DDIM"},
        {"loras": []}, {"loras": [f"{lora}:0.5"]}, {"loras": [f"{lora}:1:0"]}, {"clip_skip": 2}, {"hires": {}},
        {"hires": {"scale": 1.5}},
    ]  # fmt: skip
    keys = [key(), key("bf16"), *(key(**other) for other in others)]
    assert len(set(keys)) == len(keys)
    assert key(cfg=1, negative="b") == key(cfg=1)  # nothing is avoided


def test_the_room_of_plans_brings_no_torch() -> None:
    import subprocess
    import sys

    names = ("options", "prompts", "samplers", "shelf", "shot", "info", "plan", "sheet", "command")
    code = f"""import importlib, sys
for name in {names}:
    importlib.import_module(f"trainer.compare.{{name}}")
    assert not {{"torch", "diffusers", "transformers", "peft"}} & sys.modules.keys(), name"""
    subprocess.run([sys.executable, "-c", code], check=True)
