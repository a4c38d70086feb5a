"""Pictures of a base with LoRAs and embeddings: equal to diffusers' own, equal to merging, swapped without loading."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.lora_files import changes, make_lora
from tests.test_images_focus import make_yunet, person
from tests.tiny import tiny_file
from trainer.compare import painter as painting
from trainer.compare.denoise import Readings, draw_latents, scheduler_of
from trainer.compare.faces import redraw_faces, soft_mask
from trainer.compare.options import Generate
from trainer.compare.painter import Painter, PaintError
from trainer.compare.pixels import enlarge
from trainer.compare.shot import Shot, Stage, Worn
from trainer.compare.words import Words
from trainer.config import Captions, Model
from trainer.errors import InputError
from trainer.families import load_family
from trainer.families.base import Family
from trainer.images.faces import Detector
from trainer.sample import read_words
from trainer.tools.report import Stopped
from trainer.tree import validate

pytestmark = [  # diffusers' older samplers still use numpy the old way, thousands of times
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_HOME", str(tmp_path_factory.getbasetemp() / "compare"))


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("loras")
    made = {name: make_lora(folder / f"{name}.safetensors", name) for name in ("sd15", "sdxl")}
    return {**made, "other": make_lora(folder / "other.safetensors", "sd15", seed=1, rank=2)}


@pytest.fixture(scope="module")
def painters(bases: dict[str, Path]) -> dict[str, Painter]:
    made = {}
    for name, base in bases.items():
        made[name] = Painter(Generate(base=str(base), device="cpu"), say=lambda text: None)
    return made


@pytest.fixture
def shots(bases: dict[str, Path]) -> Any:
    def make(name: str = "sd15", **options: Any) -> Shot:
        tree = {"base": str(bases[name]), "prompt": "a cat", "negative": "blurry", "size": 64, "steps": 3, **options}
        stage = Stage(validate(Generate, tree))
        return stage.shot(stage.chosen())

    return make


def array(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def held(painter: Painter, shot: Shot) -> tuple[Family, Words]:
    family, _, words = painter.load(shot.base)
    return family, words


# Against diffusers


def pipeline_of(name: str, bases: dict[str, Path], scheduler: Any = None, sampler: str = "") -> Any:
    """diffusers' own pipeline on a model of its own."""
    model = Model(base=str(bases[name]))
    family = load_family(model, torch.device("cpu"), torch.float32, Captions(), say=lambda text: None)
    pipeline = family.pipeline(scheduler or scheduler_of(sampler, family))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def theirs_of(pipeline: Any) -> np.ndarray:
    seed = torch.Generator().manual_seed(7)
    options = {"width": 64, "height": 72, "num_inference_steps": 3, "guidance_scale": 5, "generator": seed}
    return array(pipeline("a cat", negative_prompt="blurry", **options).images[0])


@pytest.mark.parametrize(
    ("name", "sampler"),
    [*(("sd15", name) for name in ("DDIM", "DPM++ 2M Karras", "Euler a", "Heun", "PLMS")), ("sdxl", "DPM++ 2M")],
)
def test_a_picture_is_that_of_a_plain_diffusers_pipeline(
    name: str, sampler: str, painters: Any, shots: Any, bases: dict[str, Path]
) -> None:
    """From words to pixels, and equal in each of them."""
    theirs = theirs_of(pipeline_of(name, bases, sampler=sampler))
    ours = array(painters[name].paint(shots(name, sampler=sampler, size=[64, 72], cfg=5, seed=7)))
    assert ours.shape == (72, 64, 3) and ours.std() > 1
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_with_a_lora_it_is_diffusers_picture_too(
    name: str, painters: Any, shots: Any, loras: Any, bases: dict[str, Path]
) -> None:
    """By diffusers' own noise table and peft, whose last bits differ: one of a thousand values, by one, at most."""
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    pipeline = pipeline_of(name, bases, DPMSolverMultistepScheduler(**noise, use_karras_sigmas=True))
    bare = theirs_of(pipeline)
    pipeline.load_lora_weights(str(loras[name]), adapter_name="zk9")
    pipeline.set_adapters("zk9", 0.7)
    theirs = theirs_of(pipeline)
    options = {"sampler": "DPM++ 2M Karras", "size": [64, 72], "cfg": 5, "seed": 7, "loras": [f"{loras[name]}:0.7"]}
    ours = array(painters[name].paint(shots(name, **options)))
    assert np.abs(ours - theirs).max() <= 1 and (ours != theirs).mean() < 1e-3 < (ours != bare).mean()


@pytest.mark.parametrize("sampler", ["DDIM", "Euler a", "DPM++ 2M Karras", "Heun"])
def test_the_second_pass_is_diffusers_image_to_image(sampler: str, painters: Any, shots: Any) -> None:
    shot = shots(sampler=sampler, steps=4, cfg=5, hires={"scale": 1.5, "strength": 0.6})
    ours = painters["sd15"].paint(shot)
    family, words = held(painters["sd15"], shot)
    plain = family.pipeline(scheduler_of(sampler, family))
    parts = {**plain.components, "safety_checker": None, "feature_extractor": None, "image_encoder": None}
    again = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    cond = words.read(["blurry", "a cat"])["states"]
    told = {"prompt_embeds": cond[1:], "negative_prompt_embeds": cond[:1]}
    told |= {"num_inference_steps": 4, "guidance_scale": 5}
    for pipeline in (plain, again):
        pipeline.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(42)
    first = plain(**told, width=64, height=64, generator=seed, output_type="latent").images
    again.scheduler = scheduler_of(sampler, family)
    seed = torch.Generator().manual_seed(42)
    theirs = again(**told, image=enlarge(family, first, 1.5, "Latent"), strength=0.6, generator=seed).images[0]
    assert ours.size == (96, 96)
    np.testing.assert_array_equal(array(ours), array(theirs))


@pytest.mark.parametrize("upscaler", ["Latent", "Latent (nearest-exact)", "Lanczos"])
def test_upscalers_differ_and_steps_count(upscaler: str, painters: Any, shots: Any) -> None:
    ticks: list[int] = []
    shot = shots(steps=2, hires={"scale": 2, "upscaler": upscaler, "strength": 0.5, "steps": 4})
    picture = painters["sd15"].paint(shot, lambda: ticks.append(1))
    assert picture.size == (128, 128) and len(ticks) == 2 + 2
    others = [replace(shot, hires=shot.hires.model_copy(update=change)) for change in ({"strength": 1.0}, {"steps": 2})]
    assert all((array(painters["sd15"].paint(other)) != array(picture)).any() for other in others)


# LoRAs


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_a_lora_at_a_strength_is_merging_at_that_strength(
    name: str, painters: Any, shots: Any, loras: Any, tmp_path: Path
) -> None:
    """Text encoders, attention and convolutions, two LoRAs at once; merged the long way, in float64."""
    files = [loras[name]] + ([loras["other"]] if name == "sd15" else [])
    strengths = [0.8, -0.35][: len(files)]
    shot = shots(name)
    family, wardrobe, words = painters[name].load(shot.base)
    noise, t = draw_latents([1], 64, 64)[0], torch.tensor([500])

    def answers() -> tuple[torch.Tensor, torch.Tensor]:
        words._read.clear()
        with torch.no_grad():
            cond = words.read(["a cat"])
            return cond["states"], family.predict(noise, t, cond)

    wardrobe.wear([])
    before = answers()
    wardrobe.wear([Worn(file, strength, strength) for file, strength in zip(files, strengths, strict=True)])
    worn = answers()
    wardrobe.wear([])
    kept = {}
    for file, strength in zip(files, strengths, strict=True):
        for key, change in changes(file).items():
            weight = wardrobe.places[key].module.weight
            kept.setdefault(key, weight.data)
            weight.data = (weight.data.double() + strength * torch.from_numpy(change).reshape(weight.shape)).float()
    merged = answers()
    for key, weight in kept.items():
        wardrobe.places[key].module.weight.data = weight
    for ours, theirs, bare in zip(worn, merged, before, strict=True):
        assert (ours - theirs).abs().max() <= 1e-6 * max(1.0, float(theirs.abs().max()))
        assert (ours - bare).norm() > 1e-3 * bare.norm()
    assert all(torch.equal(now, then) for now, then in zip(answers(), before, strict=True))


def test_loras_are_swapped_without_loading_and_leave_no_trace(
    painters: Any, shots: Any, loras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    painter = painters["sd15"]
    bare = painter.paint(shots())
    weights = {key: tensor.clone() for key, tensor in painter.load(shots().base)[0].unet.state_dict().items()}
    read: list[Path] = []
    real = painting.Wardrobe._read
    monkeypatch.setattr(painting, "load_family", lambda *given: pytest.fail("the base was loaded again"))
    monkeypatch.setattr(painting.Wardrobe, "_read", lambda self, lora: read.append(lora.file) or real(self, lora))
    drawn = [painter.paint(shots(loras=[f"{loras['sd15']}:{strength}"])) for strength in (1, 0.5, 1)]
    assert read == [loras["sd15"]]  # a new strength reads no file
    assert drawn[0].tobytes() == drawn[2].tobytes() != drawn[1].tobytes()
    both = painter.paint(shots(loras=[str(loras["sd15"]), str(loras["other"])]))
    assert read == [loras["sd15"], loras["other"]] and both.tobytes() not in {drawn[0].tobytes(), bare.tobytes()}
    assert painter.paint(shots()).tobytes() == bare.tobytes()
    family = painter.load(shots().base)[0]
    assert all(torch.equal(weights[key], tensor) for key, tensor in family.unet.state_dict().items())
    assert not any("forward" in vars(module) for module in family.unet.modules())


def test_strengths_of_unet_and_text_are_apart(painters: Any, shots: Any, loras: Any) -> None:
    _, wardrobe, words = painters["sd15"].load(shots().base)

    def states() -> torch.Tensor:
        words.wearing(wardrobe.in_text)
        return words.read(["a cat"])["states"]

    wardrobe.wear([])
    bare = states()
    wardrobe.wear([Worn(loras["sd15"], 1, 0)])
    assert torch.equal(states(), bare)
    assert all(name.startswith("lora_unet") for name in wardrobe.layers)
    wardrobe.wear([Worn(loras["sd15"], 0, 1)])
    changed = states()
    assert not torch.equal(changed, bare) and all(name.startswith("lora_te") for name in wardrobe.layers)
    wardrobe.wear([Worn(loras["sd15"], 0.5, 1)])
    assert torch.equal(states(), changed)
    wardrobe.wear([])
    assert torch.equal(states(), bare)


def test_what_does_not_fit_is_said(painters: Any, shots: Any, loras: Any, tmp_path: Path) -> None:
    bare = painters["sd15"].paint(shots())
    painters["sd15"].paint(shots(loras=[str(loras["sd15"])]))
    with pytest.raises(InputError, match="a LoRA for sdxl"):
        painters["sd15"].paint(shots(loras=[str(loras["sdxl"])]))
    assert painters["sd15"].paint(shots()).tobytes() == bare.tobytes()  # words read with the LoRA are forgotten too
    tensors = {f"lora_unet_nowhere.{end}": torch.zeros(1, 1) for end in ("lora_down.weight", "lora_up.weight")}
    save_file({**load_file(loras["sd15"]), **tensors}, tmp_path / "more.safetensors")
    said: list[str] = []
    painter = Painter(Generate(device="cpu"), say=said.append)
    painter.paint(shots(loras=[str(tmp_path / "more.safetensors")]))
    assert "more.safetensors: 1 layers have no place in the model, such as lora_unet_nowhere" in said


# Words


def test_prompts_are_read_as_in_training_samples(painters: Any, shots: Any) -> None:
    for name in ("sd15", "sdxl"):
        family, words = held(painters[name], shots(name))
        for text in ("a (red:1.3) [cat], \\(x\\)", "cat, " * 90, ""):
            ours, theirs = words.read([text, "a"]), read_words(family, [text, "a"])
            for key in theirs:
                torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=1e-5)


def test_chunks(painters: Any, shots: Any) -> None:
    _, words = held(painters["sd15"], shots())
    assert [len(chunk.ids) for chunk in words.chunks("cat " * 80)] == [75, 5]
    chunks = words.chunks("a (cat BREAK dog:1.5) BREAK")
    assert [len(chunk.ids) for chunk in chunks] == [2, 1, 0] and [chunk.weights for chunk in chunks[:2]] == [
        [1, 1.5],
        [1.5],
    ]
    assert words.chunks("BREAKFAST")[0].ids and len(words.chunks("BREAKFAST")) == 1
    assert words.read(["a BREAK b"])["states"].shape[1] == 152
    assert not torch.equal(words.read(["a BREAK b"])["states"][:, :77], words.read(["a b"])["states"])


def test_words_that_change_are_read_at_their_step(painters: Any, shots: Any) -> None:
    painter = painters["sd15"]

    def draw(prompt: str) -> bytes:
        return painter.paint(shots(prompt=prompt, steps=4)).tobytes()

    assert draw("[a cat:a dog:1.0]") == draw("a cat") == draw("[a cat|a cat]")
    assert draw("[a cat:a dog:0]") == draw("a dog")
    assert len({draw("a cat"), draw("a dog"), draw("[a cat:a dog:2]"), draw("[a cat|a dog]")}) == 4
    readings = Readings(held(painter, shots())[1], ["[cat|" + "long " * 90 + "]"], "bad", 4, True)
    assert [readings.at(step, 1)["states"].shape for step in (0, 1)] == [(2, 152, 32)] * 2
    assert draw("a (cat:1.4)") != draw("a cat")


def test_without_guidance_nothing_is_avoided(painters: Any, shots: Any) -> None:
    drawn = {painters["sd15"].paint(shots(cfg=1, negative=text)).tobytes() for text in ("", "a dog")}
    assert len(drawn) == 1
    assert painters["sd15"].paint(shots(negative="a dog")).tobytes() != painters["sd15"].paint(shots()).tobytes()


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_an_embedding_of_a_word_s_own_vector_is_that_word(name: str, painters: Any, shots: Any, tmp_path: Path) -> None:
    family, words = held(painters[name], shots(name))
    number = family.tokenizers[0]("cat", add_special_tokens=False).input_ids[0]
    plain = [table[number].clone() for table in words.plain]
    keys = ["emb_params"] if name == "sd15" else ["clip_l", "clip_g"]
    save_file(
        {key: row[None].repeat(2, 1) for key, row in zip(keys, plain, strict=True)}, tmp_path / "my-word.safetensors"
    )
    if name == "sd15":
        torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": plain[0][None]}}, tmp_path / "single.pt")
    shot = shots(name, prompt="a (My-Word:1.2), single", folders=[str(tmp_path)])
    words.learn(shot.embeddings)
    assert len(words.rows["my-word"]) == 2
    assert torch.equal(words.read(["a (My-Word:1.2), red"])["states"], words.read(["a (cat cat:1.2), red"])["states"])
    assert [len(chunk.ids) for chunk in words.chunks("red " * 74 + "my-word")] == [74, 2]  # never cut in two
    if name == "sd15":
        assert torch.equal(words.read(["single"])["states"], words.read(["cat"])["states"])
    alone = painters[name].paint(shot)
    without = shots(name, folders=[str(tmp_path)])
    both = painters[name].paint_many([without, shot])  # one prompt names an embedding, and the other does not
    assert not without.embeddings and np.abs(array(both[1]) - array(alone)).max() <= 1
    words.learn(())
    assert all(torch.equal(table.weight, plain) for table, plain in zip(words.tables, words.plain, strict=True))


def test_an_embedding_for_another_model_is_refused(painters: Any, shots: Any, tmp_path: Path) -> None:
    save_file({"emb_params": torch.zeros(2, 768)}, tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match=r"wide.*\[2, 768\].*made for another model"):
        painters["sd15"].paint(shots(prompt="wide", folders=[str(tmp_path)]))
    (tmp_path / "evil.pt").write_bytes(b"\x80\x04string_to_param")
    assert not shots(prompt="evil", folders=[str(tmp_path)]).embeddings


# Pictures


def test_the_same_shot_is_the_same_picture_in_any_batch(painters: Any, shots: Any) -> None:
    shot = shots(sampler="Euler a")
    painter = painters["sd15"]
    state = torch.get_rng_state()
    alone = [painter.paint(replace(shot, seed=seed)) for seed in (5, 6)]
    together = painter.paint_batch(shot, [5, 6])
    for one, other in zip(alone, together, strict=True):
        assert np.abs(array(one) - array(other)).max() <= 1
    assert alone[0].tobytes() == painter.paint(replace(shot, seed=5)).tobytes() != alone[1].tobytes()
    assert torch.equal(state, torch.get_rng_state())


def test_it_stops_between_two_steps_and_draws_on(painters: Any, shots: Any) -> None:
    whole = painters["sd15"].paint(shots())

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        painters["sd15"].paint(shots(), stop)
    assert painters["sd15"].paint(shots()).tobytes() == whole.tobytes()


def test_nan_names_the_precision(shots: Any) -> None:
    painter = Painter(Generate(device="cpu"), say=lambda text: None)
    painter.load(shots().base)[0].vae.decoder.conv_out.bias.data.fill_(math.nan)
    with pytest.raises(PaintError, match="precision: fp32 gives NaN"):
        painter.paint(shots())
    painter.free()
    assert array(painter.paint(shots())).std() > 0  # loaded anew


def test_a_vae_that_overflows_is_fp32_for_that_picture_alone(shots: Any) -> None:
    said: list[str] = []
    painter = Painter(Generate(device="cpu"), say=said.append)
    vae = painter.load(shots().base)[0].vae.half()
    for weight in vae.decoder.conv_in.parameters():
        weight.data.fill_(60_000)
    for seed in (1, 2):
        painter.paint(shots(steps=1, seed=seed))
        assert {weight.dtype for weight in vae.parameters()} == {torch.float16}
    assert sum("fp32" in line for line in said) == 1  # said once


def test_one_base_is_held_at_a_time(shots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    painter = Painter(Generate(device="cpu"), say=lambda text: None)
    free: list[bool] = []
    real = painting.load_family
    monkeypatch.setattr(painting, "load_family", lambda *given: free.append(painter._held is None) or real(*given))
    for name in ("sd15", "sdxl", "sdxl"):
        painter.paint(shots(name, steps=1))
    assert free == [True, True]


def test_a_base_that_has_changed_on_the_disk_is_loaded_anew(tmp_path: Path) -> None:
    base = tiny_file("sd15", tmp_path)
    painter = Painter(Generate(device="cpu"), say=lambda text: None)

    def draw() -> bytes:
        stage = Stage(validate(Generate, {"base": str(base), "size": 64, "steps": 1}))
        return painter.paint(stage.shot(stage.chosen())).tobytes()

    before = draw()
    tensors = load_file(base)
    with safe_open(base, "pt") as file:
        save_file({name: 0.9 * tensor for name, tensor in tensors.items()}, base, file.metadata())
    assert draw() != before


# Faces


def test_faces_are_drawn_again_and_the_rest_stays(painters: Any, shots: Any, models: Path) -> None:
    detector = make_yunet(models / "yunet.onnx")
    shot = shots(steps=4, face={"strength": 0.5, "padding": 1.5})
    assert shot.detector == detector
    family, words = held(painters["sd15"], shot)
    picture = person((320, 256), (96, 128))
    found = Detector(detector).faces(picture)
    assert found
    readings = Readings(words, ["a cat"], "", 4, True)
    with torch.no_grad():
        after = redraw_faces(family, replace(shot, cfg=5), readings, picture, Detector(detector), lambda: None)
    changed = np.abs(array(after) - array(picture)).max(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert changed[128, 96] and not changed[:, 250:].any()
    assert columns.min() >= 0 and columns.max() < 96 + 0.5 * 1.5 * 96 + 16 and rows.max() <= 128 + 0.5 * 1.5 * 96 + 16
    with torch.no_grad():
        assert (
            redraw_faces(family, shot, readings, Image.new("RGB", (64, 64)), Detector(detector), stop_it).getbbox()
            is None
        )


def stop_it() -> None:
    raise AssertionError("there is no face to draw")


def test_edges_are_soft_inside_and_hard_at_the_picture_s() -> None:
    mask = np.asarray(soft_mask(100, (0, 40, 100, 140), (200, 300)))
    assert mask[50, 0] == 255 and mask[50, 50] == 255  # the picture ends at the left
    assert mask[0, 50] < 8 and mask[99, 50] < 8 and mask[50, 99] < 8
    assert 8 < mask[9, 50] < 247


def test_a_missing_detector_is_said_and_the_picture_is_drawn(
    models: Path, bases: dict[str, Path], painters: Any
) -> None:
    stage = Stage(validate(Generate, {"base": str(bases["sd15"]), "size": 64, "steps": 1, "face": {}}))
    shot = stage.shot(stage.chosen())
    assert shot.face is None and "yunet" in stage.notes[0].lower() and "not drawn again" in stage.notes[0]
    assert painters["sd15"].paint(shot).size == (64, 64)
    with pytest.raises(InputError, match=r"face\.detector: .*does not exist"):
        Stage(validate(Generate, {"face": {"detector": "nowhere.onnx"}}))
