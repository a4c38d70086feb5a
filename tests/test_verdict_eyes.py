"""The optional eyes of the verdict, on tiny models of the real classes and on ONNX files made here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    pipeline,
)

from tests import describers
from tests.taggers import draw_tagger
from tests.test_images_focus import make_yunet, person
from trainer.downloads import known
from trainer.errors import InputError
from trainer.families.text import load_tokenizer
from trainer.verdict.facial import POINTS, FaceEye, aligned, likeness, mean_face
from trainer.verdict.models import PUBLISHED, Eyes, Found, architecture, available
from trainer.verdict.tagging import TagEye, rivals
from trainer.verdict.vision import Vision

CPU = torch.device("cpu")
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
DINO = Dinov2Config(**{**SMALL, "image_size": 56, "patch_size": 14})
SIGHT = {**SMALL, "image_size": 32, "patch_size": 8}
CLIP = CLIPConfig(text_config=SMALL, vision_config=SIGHT, projection_dim=16)
TEXTS = ["a photo of a red house", "two cats asleep on a sofa, evening light", "zk9"]


def picture(seed: int, size: tuple[int, int] = (90, 70)) -> Image.Image:
    """A coarse pattern of colours."""
    dice = np.random.default_rng(seed)
    coarse = Image.fromarray(dice.integers(0, 256, (6, 6, 3), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


PICTURES = [picture(1), picture(2, (64, 96)), picture(3, (300, 300)), picture(4), picture(5, (33, 50))]


def spread(model: Any) -> Any:
    """Weights large enough that pictures differ in what the model makes of them."""
    torch.manual_seed(3)
    for weights in model.parameters():
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.3)
    return model.eval()


def make(folder: Path, model: Any, processor: Any = None) -> Path:
    spread(model).save_pretrained(folder)
    if processor:
        processor.save_pretrained(folder)
    return folder


def make_clip(folder: Path) -> Path:
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return make(folder, CLIPModel(CLIP), CLIPImageProcessor(**size))


def make_dino(folder: Path) -> Path:
    from transformers import BitImageProcessor

    return make(folder, Dinov2Model(DINO), BitImageProcessor(size={"shortest_edge": 64}, crop_size=56))


def open_eye(kind: Any, file: Path, **options: Any) -> Vision:
    return Vision(Found(kind, (file,)), CPU, **options)


def by_hand(picture: Image.Image, edge: int, side: int, mean: Any, std: Any) -> torch.Tensor:
    """The published recipe word by word: shorter side by bicubic, the middle, 0 to 1, mean and deviation."""
    scale = edge / min(picture.size)
    size = tuple(edge if length == min(picture.size) else int(length * scale) for length in picture.size)
    small = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float64) / 255  # [H, W, 3]
    top, left = (small.shape[0] - side) // 2, (small.shape[1] - side) // 2
    middle = (small[top : top + side, left : left + side] - mean) / std
    return torch.from_numpy(middle.transpose(2, 0, 1)[None]).float()


def test_dinov2_sees_what_transformers_sees(tmp_path: Path) -> None:
    folder = make_dino(tmp_path / "dinov2-tiny")
    eye = open_eye("dino", folder)
    found = eye.look(PICTURES)
    assert found.dtype == torch.float32 and found.shape == (5, 32) and eye.name == "dinov2-tiny"
    assert torch.allclose(found.norm(dim=1), torch.ones(5), atol=1e-6)
    theirs = pipeline("image-feature-extraction", model=str(folder), image_processor=str(folder))
    for one, mine in zip(PICTURES, found, strict=True):
        token = torch.tensor(theirs(one)[0][0])  # the class token, behind the last norm
        assert torch.allclose(mine, token / token.norm(), atol=1e-5)
    assert (found @ found.T - torch.eye(5)).max() < 0.999, "pictures must differ, or nothing was shown"


def test_one_file_is_read_as_it_was_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = spread(Dinov2Model(DINO))
    save_file(
        {name: weights.contiguous() for name, weights in model.state_dict().items()}, tmp_path / "tiny.safetensors"
    )
    monkeypatch.setitem(PUBLISHED, "tiny", ("Dinov2Model", {**SMALL, "image_size": 56, "patch_size": 14}))
    found = open_eye("dino", tmp_path / "tiny.safetensors").look([PICTURES[0]])
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    with torch.no_grad():
        token = model(by_hand(PICTURES[0], 256, 224, mean, std)).pooler_output[0]
    assert torch.allclose(found[0], token / token.norm(), atol=1e-4)


def test_clip_agrees_as_transformers_says(tmp_path: Path) -> None:
    """The folder has no tokenizer: the one that all CLIP models share is shipped."""
    folder = make_clip(tmp_path / "clip")
    eye, model = open_eye("clip", folder), CLIPModel.from_pretrained(folder)
    three = PICTURES[:3]
    processor = CLIPImageProcessor.from_pretrained(folder)
    words = load_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        told = model(**words, **processor(images=three, return_tensors="pt"))
    assert torch.allclose(eye.look(three), told.image_embeds, atol=1e-5)
    expected = told.logits_per_image / model.logit_scale.exp()
    assert torch.allclose(eye.agree(three, TEXTS), expected.diagonal(), atol=1e-5)
    assert torch.allclose(eye.agree([three[0]] * 3, TEXTS), expected[0], atol=1e-5)
    assert expected.std() > 0.01
    assert eye.agree(three[:1], ["cat " * 200]).isfinite().all()


def test_half_a_clip_looks_and_reads_nothing(tmp_path: Path) -> None:
    half = CLIPVisionModelWithProjection(CLIPVisionConfig(**SIGHT, projection_dim=16))
    eye = open_eye("clip", make(tmp_path / "half", half))
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    with torch.no_grad():
        seen = half(by_hand(PICTURES[0], 32, 32, mean, std)).image_embeds[0]
    assert torch.allclose(eye.look(PICTURES[:1])[0], seen / seen.norm(), atol=1e-4)
    with pytest.raises(InputError, match="half reads no text: choose a CLIPModel or SiglipModel, with its token"):
        eye.agree(PICTURES[:1], TEXTS[:1])


def test_siglip_comes_along(tmp_path: Path) -> None:
    text = {**SMALL, "vocab_size": 17, "max_position_embeddings": 8, "projection_size": 32}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=SIGHT))
    folder = make(tmp_path / "siglip", model, SiglipImageProcessor(size={"height": 32, "width": 32}))
    assert not open_eye("clip", folder).reads, "it has no tokenizer yet"
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=f"clip: {folder} cannot be loaded"):
        open_eye("clip", folder)
    describers.tokenizer().save_pretrained(folder)
    eye, texts = open_eye("clip", folder), ["a photo of zk9", "red house"]
    pixels = SiglipImageProcessor.from_pretrained(folder)(images=PICTURES[:2], return_tensors="pt")
    words = describers.tokenizer()(texts, padding="max_length", max_length=8, return_tensors="pt").input_ids
    with torch.no_grad():
        told = model(input_ids=words, **pixels)
    assert torch.allclose(eye.look(PICTURES[:2]), told.image_embeds, atol=1e-5)
    assert torch.allclose(eye.agree(PICTURES[:2], texts), (told.image_embeds * told.text_embeds).sum(-1), atol=1e-5)


@pytest.mark.parametrize(("kind", "make_eye"), [("dino", make_dino), ("clip", make_clip)])
def test_batches_and_company_change_no_number(kind: Any, make_eye: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make_eye(tmp_path / "model")
    whole, singly = (open_eye(kind, folder, batch=batch) for batch in (16, 1))
    assert torch.allclose(whole.look(PICTURES), singly.look(PICTURES), atol=1e-5)
    assert torch.allclose(whole.look(PICTURES[::-1]), whole.look(PICTURES).flip(0), atol=1e-5)
    if kind == "clip":
        texts = [*TEXTS, TEXTS[0], "green"]
        assert torch.allclose(whole.agree(PICTURES, texts), singly.agree(PICTURES, texts), atol=1e-5)


def test_precision_is_the_caller_s(tmp_path: Path) -> None:
    folder = make_dino(tmp_path / "dino")
    exact, half = open_eye("dino", folder).look(PICTURES), open_eye("dino", folder, dtype=torch.bfloat16).look(PICTURES)
    assert half.dtype == torch.float32 and 1e-5 < (exact - half).abs().max() < 0.1
    weights = load_file(folder / "model.safetensors")
    save_file({name: value * (1e6 if name == "layernorm.weight" else 1) for name, value in weights.items()},
              folder / "model.safetensors")  # fmt: skip
    assert open_eye("dino", folder).look(PICTURES).isfinite().all()
    with pytest.raises(InputError, match="precision: dino gives NaN in float16; set it to bf16 or fp32"):
        open_eye("dino", folder, dtype=torch.float16).look(PICTURES)


def spoil(folder: Path, how: str) -> None:
    """Breaks a model's folder in one of the ways that folders break."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    if how == "cut off":
        file.write_bytes(file.read_bytes()[:-1000])
    elif how == "lacks weights":
        weights.pop("layernorm.weight")
        save_file(weights, file)
    elif how == "other shapes":
        save_file({**weights, "layernorm.weight": torch.zeros(7)}, file)
    elif how == "pickled":
        torch.save(weights, folder / "pytorch_model.bin")
        file.unlink()
    else:
        (folder / "preprocessor_config.json").write_text("{")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut off", "cannot be loaded"),
        ("lacks weights", "lacks 1 weights of a Dinov2Model, layernorm.weight among them"),
        ("other shapes", "cannot be loaded"),
        ("pickled", "cannot be loaded"),
        ("its processor", "cannot be loaded"),
    ],
)
def test_a_broken_model_is_named(how: str, said: str, tmp_path: Path) -> None:
    folder = make_dino(tmp_path / "dino")
    spoil(folder, how)
    with pytest.raises(InputError) as error:
        open_eye("dino", folder)
    assert str(error.value).startswith(f"dino: {folder} ") and said in str(error.value)
    assert str(error.value).endswith("get it again, or choose another")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_as_large_as_their_settings_say(name: str) -> None:
    """A wrong width or depth would show: the file is its weights in float32, and a header."""
    kind, settings = PUBLISHED[name]
    model = getattr(transformers, kind)
    with torch.device("meta"):
        made = model(model.config_class(**settings))
    rest = known(name).remote.size - 4 * sum(weights.numel() for weights in made.parameters())
    assert 0 < rest < 200 * len(made.state_dict())
    assert known(name).file.name == f"{name}.safetensors"


def test_nothing_here_is_said_in_words(models: Path) -> None:
    (models / "sub").mkdir()
    told = [found.sentence for found in available(Eyes())]
    assert told == [
        "likeness by DINOv2 was not measured: DINOv2 is not in the models folder"
        " (python launch.py models get dinov2-small)",
        "agreement with the prompt by CLIP was not measured: CLIP is not in the models folder"
        " (python launch.py models get clip-vit-base-patch32)",
        "face likeness was not measured: SFace and YuNet are not in the models folder"
        " (python launch.py models get sface yunet)",
        "tag recall was not measured: no WD14 tagger is in the models folder"
        f" (the first captioning by WD14 puts one into {models})",
    ]
    make_yunet(models / "face_detection_yunet_2023mar.onnx")
    assert available(Eyes())[2].sentence == (
        "face likeness was not measured: SFace is not in the models folder (python launch.py models get sface)"
    )
    off = available(Eyes(dino=None, clip=None, face=None, tagger=None))
    assert [found.missing for found in off] == [f"{kind} was left empty" for kind in ("dino", "clip", "face", "tagger")]
    assert available(Eyes(detector=None))[2].missing == "detector was left empty"


def test_what_is_here_is_found(models: Path, tmp_path: Path) -> None:
    small, large = make_dino(models / "vision" / "dinov2-tiny"), models / "dinov2-other"
    make(large, Dinov2ForImageClassification(Dinov2Config(**{**SMALL, "num_hidden_layers": 3, "image_size": 56})))
    make_clip(models / "clip-vit-tiny")
    make(models / "encoder", CLIPVisionModelWithProjection(CLIPVisionConfig(**{**SIGHT, "num_hidden_layers": 40})))
    draw_tagger(models / "wd14" / "wd-vit-tagger-v3", side=32)
    (models / "wd14" / "half").mkdir()
    (models / "wd14" / "half" / "selected_tags.csv").write_text("a table without its model")
    make_sface(models / "faces_sface.onnx"), make_yunet(models / "yunet.onnx")
    found = available(Eyes())
    assert [(one.kind, one.name, one.is_here, one.missing) for one in found] == [
        ("dino", "dinov2-other", True, ""),  # the larger
        ("clip", "clip-vit-tiny", True, ""),  # smaller than the encoder, but it reads
        ("face", "faces_sface", True, ""),
        ("tagger", "wd-vit-tagger-v3", True, ""),
    ]
    assert Vision(found[0], CPU).look(PICTURES).shape == (5, 32) and Vision(found[1], CPU).reads
    assert FaceEye(found[2]).look([PICTURES[0]]) == [None] and TagEye(found[3], quiet).tags
    named = available(
        Eyes(dino="facebook/dinov2-tiny", clip=str(models / "encoder"), tagger="SmilingWolf/wd-vit-tagger-v3")
    )
    assert [one.files for one in named[:2]] == [(small,), (models / "encoder",)] and named[3].files == found[3].files
    own = make_sface(tmp_path / "w600k.onnx")
    assert available(Eyes(face=str(own)))[2].files == (own, models / "yunet.onnx")


def test_a_safety_checker_is_no_clip(models: Path) -> None:
    """Those of old base models say `"model_type": "clip"`, and would load as a CLIP with random weights."""
    folder = make_clip(models / "sd15" / "safety_checker")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, "architectures": ["StableDiffusionSafetyChecker"]}))
    assert architecture(folder) == "StableDiffusionSafetyChecker" and not available(Eyes())[1].is_here
    for text in ("", "[]", '{"architectures": []}', '{"architectures": null}'):
        (folder / "config.json").write_text(text)
        assert architecture(folder) is None and not available(Eyes())[1].is_here


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dino": "facebook/dinov2-huge"}, "dino: 'facebook/dinov2-huge' is no folder or file here, nor in"),
        ({"dino": "."}, "does not say what it is: give a transformers folder of a Dinov2Model"),
        ({"clip": "clip"}, "is a Dinov2Model: give a transformers folder of a CLIPModel"),
        ({"face": "gone.onnx"}, "face: gone.onnx does not exist: put the file there"),
        ({"detector": "gone.onnx"}, "detector: gone.onnx does not exist: put the file there"),
        ({"tagger": "SmilingWolf/none"}, "tagger: 'SmilingWolf/none' is no folder here, nor in"),
    ],
)
def test_what_was_named_must_be_there(options: Any, said: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    make_dino(models / "clip")
    with pytest.raises(InputError) as error:
        available(Eyes(**options))
    assert said in str(error.value)


def test_what_is_fetched_is_found(models: Path) -> None:
    """Each file of the list that is for looking lies, once fetched, where it is looked for."""
    for name in (*PUBLISHED, "sface", "yunet"):
        file = known(name).file
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * (known(name).remote.size // 1_000_000 + 1))
    assert [one.name for one in available(Eyes())] == [
        *("dinov2-base", "clip-vit-large-patch14", "face_recognition_sface_2021dec", "")
    ]
    files = {"dino": "dinov2-small", "clip": "clip-vit-base-patch32"}
    assert [one.name for one in available(Eyes(**files))[:2]] == list(files.values())


def test_looking_for_eyes_brings_no_torch() -> None:
    code = """import sys
from trainer.verdict import facial, models, tagging
models.available(models.Eyes())
assert not {"torch", "transformers", "onnxruntime"} & sys.modules.keys()"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def quiet(text: str) -> None:
    """Nobody listens."""


def make_sface(file: Path, name: str = "data", side: int = 112) -> Path:
    """A recognizer of ArcFace's form that sees the mean colour of each patch of 28 pixels."""
    kernel = {"kernel_shape": [28, 28], "strides": [28, 28]}
    pool = helper.make_node("AveragePool", [name], ["pooled"], **kernel)
    graph = helper.make_graph(
        [pool, helper.make_node("Flatten", ["pooled"], ["fc1"])],
        "sface",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 3 * (side // 28) ** 2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


SPOTS = np.array([-0.7, 0, 1.7, 0, 0.5, 0.7, 0, 1.5, 1, 1.5], np.float32)
"""Five points around the middle of the made detector's cell, in strides."""


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """The made YuNet, with its five points apart."""
    model = onnx.load(make_yunet(tmp_path / "yunet.onnx"))
    for fixed in model.graph.initializer:
        if fixed.name == "kps_16_add":
            fixed.CopyFrom(numpy_helper.from_array(SPOTS[None, None], fixed.name))
    onnx.save(model, tmp_path / "yunet.onnx")
    return tmp_path / "yunet.onnx"


def umeyama(points: np.ndarray) -> np.ndarray:
    """Rows [2, 3] of the similarity to POINTS, by singular values as OpenCV finds it."""
    around, target = points - points.mean(0), POINTS - POINTS.mean(0)
    u, s, vt = np.linalg.svd(target.T @ around / 5)
    signs = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = u @ np.diag(signs) @ vt
    scaled = turn * (s @ signs) / around.var(0).sum()
    return np.column_stack([scaled, POINTS.mean(0) - scaled @ points.mean(0)])


@pytest.mark.parametrize("mirrored", [False, True])
def test_faces_are_aligned_as_opencv_does(mirrored: bool) -> None:
    dice = np.random.default_rng(1)
    image = picture(8, (200, 160))
    turn = 1.3 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    points = (POINTS - 56) @ turn.T / 2 * ((-1, 1) if mirrored else (1, 1)) + (100, 80) + dice.normal(0, 2, (5, 2))
    rows = umeyama(points)
    back = np.linalg.inv(rows[:, :2])
    pixels, found = np.asarray(image, np.float64), np.asarray(aligned(image, points), np.float64)
    inside = 0
    for y in range(0, 112, 5):
        for x in range(0, 112, 5):
            sx, sy = back @ (np.array([x, y]) - rows[:, 2])
            if not (1 <= sx < 198 and 1 <= sy < 158):
                continue
            inside, i, j = inside + 1, int(sx), int(sy)
            fx, fy = sx - i, sy - j
            top = pixels[j, i] * (1 - fx) + pixels[j, i + 1] * fx
            low = pixels[j + 1, i] * (1 - fx) + pixels[j + 1, i + 1] * fx
            assert np.abs(found[y, x] - (top * (1 - fy) + low * fy)).max() <= 1.5, (x, y)
    assert inside > 200


def face(colour: str, size: tuple[int, int] = (640, 640)) -> Image.Image:
    """A picture with a face of a colour around the blue that the made detector finds."""
    image = Image.new("RGB", size, "#101000")
    image.paste(colour, (168, 56, 296, 184))
    image.paste(Image.new("RGB", (18, 18), "#0000ff"), (223, 111))
    return image


def test_likeness_is_to_the_mean_face_and_pictures_without_one_are_counted(tmp_path: Path, detector: Path) -> None:
    eye = FaceEye(Found("face", (make_sface(tmp_path / "sface.onnx"), detector)))
    ours = eye.look([face("#c0a060"), face("#c09050"), person((64, 64))])
    assert ours[2] is None and all(np.linalg.norm(one) == pytest.approx(1) for one in ours[:2] if one is not None)
    mean = mean_face(ours)
    assert mean is not None and mean == pytest.approx((ours[0] + ours[1]) / np.linalg.norm(ours[0] + ours[1]))
    told = likeness(eye.look([face("#c09858"), face("#208040"), person((640, 640))]), mean)
    same, other, nobody = told.values
    assert nobody is None and told.faces == (same, other) and same > 0.99 > 0.9 > other
    assert told.missing == "no face in 1 of 3 pictures" and likeness(ours[:2], mean).missing == ""
    assert mean_face([None, None]) is None and likeness([None], mean).missing == "no face in 1 of 1 picture"


@pytest.mark.parametrize(
    ("file", "name", "scaled"),
    [
        ("sface.onnx", "data", False),
        ("my_SFace.onnx", "x", False),
        ("r100.onnx", "data", False),
        ("w600k.onnx", "input.1", True),
    ],
)
def test_each_recognizer_gets_the_numbers_that_it_wants(
    file: str, name: str, scaled: bool, tmp_path: Path, detector: Path
) -> None:
    eye = FaceEye(Found("face", (make_sface(tmp_path / file, name), detector)))
    points = (SPOTS.reshape(5, 2) + np.array([232 // 16, 120 // 16])) * 16
    values = np.asarray(aligned(face("#c0a060"), points), np.float64).transpose(2, 0, 1)  # RGB
    values = (values - 127.5) / 127.5 if scaled else values
    patches = values.reshape(3, 4, 28, 4, 28).mean((2, 4)).ravel()
    assert eye.look([face("#c0a060")])[0] == pytest.approx(patches / np.linalg.norm(patches), abs=1e-5)


def test_a_file_of_another_kind_is_no_recognizer(tmp_path: Path, detector: Path) -> None:
    (tmp_path / "sface.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"face: .*sface.onnx: onnxruntime cannot open it"):
        FaceEye(Found("face", (tmp_path / "sface.onnx", detector)))
    wide = make_sface(tmp_path / "wide.onnx", side=224)
    with pytest.raises(InputError, match=r"face: wide.onnx takes \(224, 224\) pixels, not 112x112"):
        FaceEye(Found("face", (wide, detector)))
    with pytest.raises(InputError, match="it is not YuNet"):
        FaceEye(Found("face", (wide, wide)))
    model = onnx.load(make_sface(tmp_path / "flat.onnx"))
    model.graph.node[1].CopyFrom(helper.make_node("Identity", ["pooled"], ["fc1"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 3, 4, 4]))
    onnx.save(model, tmp_path / "flat.onnx")
    with pytest.raises(InputError, match=r"face: flat.onnx gives \[1, 3, 4, 4\] numbers"):
        FaceEye(Found("face", (tmp_path / "flat.onnx", detector))).look([face("#c0a060")])


@pytest.fixture
def tagger(tmp_path: Path) -> TagEye:
    return TagEye(Found("tagger", (draw_tagger(tmp_path / "wd"),)), quiet)


def plain(*colours: str) -> list[Image.Image]:
    return [Image.new("RGB", (40, 60), colour) for colour in colours]


def test_the_data_set_s_tags_come_back_or_not(tagger: TagEye) -> None:
    ours = tagger.look(plain("red", "red", "blue"))
    assert ours.shape == (3, len(tagger.tags)) and "general" not in tagger.tags, "a rating says nothing of a picture"
    own = tagger.own(ours)
    assert set(own) == {"^_^", "(o)_(o)", "zk9 (hat) (creature)", "red theme", "red one"}
    assert own.index("red theme") > own.index("^_^"), "the most frequent first"
    assert tagger.recall(tagger.look(plain("red", "green")), own) == (1.0, pytest.approx(3 / 5))
    assert tagger.recall(ours, []) == () and tagger.own(ours[:0]) == []


def test_batches_of_pictures_change_no_tag(tagger: TagEye) -> None:
    many = [picture(seed) for seed in range(19)]
    assert np.array_equal(tagger.look(many), np.concatenate([tagger.look([one]) for one in many]))
    assert tagger.look([]).shape == (0, len(tagger.tags))


def test_contradicting_prompts_are_followed_or_not(tagger: TagEye) -> None:
    own = tagger.own(tagger.look(plain("red", "red")))
    asked = tagger.asked("zk9, (Blue_Theme:1.2) at night, never")
    assert asked == ["blue theme", "never"]
    gone = rivals(asked, own)
    assert gone == ["red theme"]
    drawn = tagger.look(plain("blue", "red", "green"))
    assert tagger.obeyed(drawn, asked, gone) == pytest.approx((2 / 3, 0, 1 / 3))
    assert tagger.obeyed(drawn, asked[:1], []) == (1, 0, 0) and tagger.obeyed(drawn, [], gone) == ()


def test_longer_tags_go_before_those_within(tmp_path: Path) -> None:
    names = ["hair", "red_hair", "long_hair", "v", "red", "very_long_hair", "1girl", "t-shirt"]
    eye = TagEye(Found("tagger", (draw_tagger(tmp_path / "wd", [(name, 0) for name in names]),)), quiet)
    assert eye.asked("1girl with very long hair and a T-shirt, red hair, v") == [
        *("1girl", "very long hair", "t-shirt", "red hair")
    ]
    assert eye.asked("hairy redhead") == []


@pytest.mark.parametrize(
    ("asked", "own", "gone"),
    [
        ("red hair", "blonde hair, long hair, blue eyes, hair ribbon", "blonde hair"),
        ("short hair", "blonde hair, long hair", "long hair"),
        ("black dress", "red dress, white shirt, dress", "red dress"),
        ("outdoors", "indoors, sky", "indoors"),
        ("red hair", "red hair, 1girl", ""),
    ],
)
def test_rivals_are_what_cannot_stand_together(asked: str, own: str, gone: str) -> None:
    assert rivals([asked], own.split(", ")) == [tag for tag in gone.split(", ") if tag]


def test_a_broken_tagger_is_named(tmp_path: Path) -> None:
    folder = draw_tagger(tmp_path / "wd")
    (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"model.onnx: onnxruntime cannot open it"):
        TagEye(Found("tagger", (folder,)), quiet)
