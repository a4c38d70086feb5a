"""Masks by models of three signatures, and every way to fill a background, against NumPy written the long way."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFilter

from trainer.__main__ import main
from trainer.draws import dice
from trainer.errors import InputError
from trainer.images.background import background_tool, blurred, random_colour, replaced
from trainer.images.batch import Report, run
from trainer.images.matting import KINDS, Matter, open_matter
from trainer.images.options import Background

NAMES = {
    **{"birefnet": "birefnet-general.onnx", "isnet": "isnet-general-use.onnx", "u2net": "u2net_human_seg.onnx"},
    "anime": "isnet-anime.onnx",
}
SIDES = {"birefnet": 1024, "isnet": 1024, "u2net": 320, "anime": 1024}
PLAIN = ("birefnet", "isnet", "u2net")


def make_model(file: Path, kind: str, side: Any = None, scale: float = 1.0) -> Path:
    """A model whose mask is its input's red plane, times `scale`: BiRefNet's one output is `output_image`, U²-Net gives
    seven masks of which the first counts."""
    side = side or SIDES[kind]
    source = {"birefnet": "input_image", "isnet": "input", "u2net": "input.1", "anime": "img"}[kind]
    names = {
        "birefnet": ["output_image"],
        "isnet": ["output"],
        "u2net": [str(n) for n in range(1959, 1966)],
        "anime": ["mask"],
    }[kind]
    fixed = [numpy_helper.from_array(np.array([0]), "red")]
    fixed += [numpy_helper.from_array(np.array(scale if i == 0 else 0, np.float32), f"s{i}") for i in range(len(names))]
    nodes = [helper.make_node("Gather", [source, "red"], ["plane"], axis=1)]
    nodes += [helper.make_node("Mul", ["plane", f"s{i}"], [name]) for i, name in enumerate(names)]
    inputs = [helper.make_tensor_value_info(source, TensorProto.FLOAT, [1, 3, side, side])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, side, side]) for name in names]
    graph = helper.make_graph(nodes, kind, inputs, outputs, fixed)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def subject(size: tuple[int, int] = (120, 80)) -> Image.Image:
    """A red disc before grass."""
    noise = np.random.default_rng(2).integers(60, 120, (size[1], size[0], 3))
    noise[:, :, 0] = 0
    image = Image.fromarray(noise.astype(np.uint8))
    ImageDraw.Draw(image).ellipse((size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4), "#ff1020")
    return image


@pytest.fixture
def img(tmp_path: Path) -> Path:
    folder = tmp_path / "img" / "10_zk9"
    folder.mkdir(parents=True)
    for number in range(3):
        subject((120, 80 + 10 * number)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("zk9")
    return folder.parent


def fill(folder: Path, **options: Any) -> Report:
    wanted = Background.model_validate({"folder": str(folder), **options})
    return run(wanted, background_tool(wanted))


PREPARED = {
    "birefnet": lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    "isnet": lambda x: x / 255 - 0.5,
    "u2net": lambda x: (x / x.max() - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
}


@pytest.mark.parametrize("kind", PLAIN)
def test_each_model_gets_its_own_size_and_normalisation(models: Path, kind: str) -> None:
    matter = Matter(make_model(models / NAMES[kind], kind))
    dark = subject().point(lambda value: value * 0.7)
    found = matter.prepared(dark)
    side = SIDES[kind]
    small = np.asarray(dark.resize((side, side), Image.Resampling.LANCZOS), np.float64)
    assert found.shape == (1, 3, side, side) and found.dtype == np.float32
    assert np.abs(found[0].transpose(1, 2, 0) - PREPARED[kind](small)).max() < 1e-5


@pytest.mark.parametrize("kind", PLAIN)
def test_each_model_s_answer_is_read_as_its_authors_do(models: Path, kind: str) -> None:
    image = subject()
    matter = Matter(make_model(models / NAMES[kind], kind, scale=3.0))
    raw = matter.prepared(image)[0, 0].astype(np.float64) * np.float64(3.0)
    stretched = (raw - raw.min()) / (raw.max() - raw.min())
    values = 1 / (1 + np.exp(-raw)) if kind == "birefnet" else stretched
    expected = Image.fromarray(np.rint(values * 255).astype(np.uint8)).resize(image.size, Image.Resampling.LANCZOS)
    found = matter.mask(image)
    assert found.mode == "L" and found.size == image.size
    assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= 1
    assert np.asarray(found)[40, 60] > 240 and (kind == "birefnet" or np.asarray(found)[4, 4] < 8)


def test_drawn_figures_are_boxed_as_their_authors_do(models: Path) -> None:
    image = subject((120, 80))
    matter = Matter(make_model(models / NAMES["anime"], "anime"))
    found, expected = matter.prepared(image)[0], np.zeros((3, 1024, 1024))
    inner = np.asarray(image.resize((1024, int(1024 * 80 / 120)), Image.Resampling.LANCZOS), np.float64) / 255
    above = (1024 - inner.shape[0]) // 2
    expected[:, above : above + inner.shape[0]] = inner.transpose(2, 0, 1)
    assert np.abs(found - expected).max() < 1e-6
    red = Image.fromarray(np.rint(inner[:, :, 0] * 255).astype(np.uint8)).resize(image.size, Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(matter.mask(image), int) - np.asarray(red, int)).max() <= 1


def test_the_model_for_drawn_figures_is_not_taken_for_photos(models: Path) -> None:
    make_model(models / NAMES["anime"], "anime")
    assert open_matter(None, "isnet") is None
    assert (only := open_matter(None, "auto")) and only.kind is KINDS["anime"]
    make_model(models / NAMES["isnet"], "isnet")
    assert (first := open_matter(None, "auto")) and first.model.file.name == NAMES["isnet"]
    assert (asked := open_matter(None, "anime")) and asked.model.file.name == NAMES["anime"]


def test_sizes_follow_the_file_and_kinds_the_name(models: Path) -> None:
    assert Matter(make_model(models / "birefnet-small.onnx", "birefnet", 64)).sides == (64, 64)
    free = make_model(models / "mine.onnx", "u2net", "side")
    with pytest.raises(InputError, match=r"mine.onnx does not say which model it is: set kind to birefnet, isnet"):
        Matter(free)
    assert Matter(free, "u2net").sides == (320, 320) and Matter(free, "isnet").sides == (1024, 1024)
    assert set(KINDS) == {*PLAIN, "anime"}
    flat = Image.new("RGB", (50, 50), "#808080")
    assert Matter(free, "isnet").mask(flat).getextrema() == (0, 0)  # nothing to stretch


@pytest.mark.parametrize("way", ["colour", "random", "transparent", "picture"])
def test_backgrounds_are_laid_behind_by_the_mask(way: Any, tmp_path: Path) -> None:
    image = subject()
    mask = Image.fromarray(np.linspace(0, 255, 120 * 80).reshape(80, 120).astype(np.uint8))
    behind = Image.fromarray(np.random.default_rng(3).integers(0, 256, (90, 60, 3), np.uint8))
    options = Background(folder="img", fill=way, colour="#102030", picture="x", seed=7)
    found = np.asarray(replaced(image, mask, options, "a.png", behind if way == "picture" else None), np.float64)
    alpha, values = np.asarray(mask, np.float64)[:, :, None] / 255, np.asarray(image, np.float64)
    if way == "transparent":
        assert np.array_equal(found[:, :, :3], values) and np.array_equal(found[:, :, 3], np.asarray(mask))
        return
    ground = {
        "colour": np.array([16, 32, 48.0]),
        "random": np.array(random_colour(7, "a.png"), np.float64),
        "picture": np.asarray(behind.crop((0, 25, 60, 65)).resize((120, 80), Image.Resampling.LANCZOS), np.float64),
    }[way]
    assert np.abs(found - (values * alpha + ground * (1 - alpha))).max() <= 1


def test_random_colours_are_a_function_of_seed_and_name() -> None:
    colours = {name: random_colour(42, name) for name in (f"{n}.png" for n in range(200))}
    for name, colour in colours.items():
        hue = dice(42, "background", name).random()
        assert colour == tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.5, 0.5))
        assert max(colour) == 128 and min(colour) == 64  # value 0.5, saturation 0.5
    hues = sorted(colorsys.rgb_to_hsv(*colour)[0] for colour in colours.values())
    assert len(set(colours.values())) > 100 and max(np.diff(hues)) < 0.06  # all around the circle
    assert random_colour(43, "0.png") != colours["0.png"]


def test_a_blurred_background_holds_nothing_of_the_subject() -> None:
    image, mask = subject(), Image.new("L", (120, 80))
    ImageDraw.Draw(mask).ellipse((28, 18, 92, 62), 255)
    found = np.asarray(blurred(image, mask, 6.0), np.float64)
    outside = 1 - np.asarray(mask, np.float64)[:, :, None] / 255
    soft = ImageFilter.GaussianBlur(6.0)

    def smooth(values: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(np.rint(values).astype(np.uint8)).filter(soft), np.float64)

    weight = smooth(255 * outside[:, :, 0])[:, :, None] / 255
    expected = smooth(np.asarray(image, np.float64) * outside) / np.maximum(weight, 1 / 255)
    seen = weight[:, :, 0] > 0.2
    assert np.abs(found - expected)[seen].max() <= 2
    assert found[seen][:, 0].max() < 6  # the grass has no red, the disc has: none of it bleeds
    assert found[seen][:, 1].mean() == pytest.approx(90, abs=3)
    whole = replaced(image, mask, Background(folder="img", fill="blur", blur=5), "a.png")
    assert np.array_equal(np.asarray(whole)[40, 60], np.asarray(image)[40, 60])


def test_a_folder_gets_backgrounds_and_masks(models: Path, img: Path) -> None:
    make_model(models / NAMES["u2net"], "u2net", 64)
    report = fill(img, seed=5)
    out = img.with_name("img_background")
    assert (report.made, report.problems) == (3, []) and "3 x by u2net_human_seg.onnx" in report.text()
    for number in range(3):
        colour = random_colour(5, f"{number}.png")
        found = np.asarray(Image.open(out / "10_zk9" / f"{number}.png"), int)
        mask = np.asarray(Image.open(out / "masks" / "10_zk9" / f"{number}.png"))
        assert mask.shape == found.shape[:2] and np.abs(found[2, 2] - colour).max() <= 3
        assert mask[40, 60] > 250 and mask[2, 2] < 5 and found[40, 60, 0] > 250
    assert (out / "10_zk9" / "0.txt").read_text() == "zk9" and not list((out / "masks").rglob("*.txt"))
    assert fill(img, seed=5).skipped == 3


def test_a_mask_made_by_hand_goes_before_the_model_s(models: Path, img: Path) -> None:
    make_model(models / NAMES["isnet"], "isnet", 64)
    report = fill(img, fill="colour", colour="#ffffff")
    corrected = report.out / "masks" / "10_zk9" / "1.png"
    hand = Image.new("L", (120, 90))
    ImageDraw.Draw(hand).rectangle((0, 0, 59, 89), 255)
    hand.save(corrected)
    again = fill(img, fill="colour", colour="#ffffff")
    assert (again.made, again.skipped) == (1, 2)
    found, original = (np.asarray(Image.open(place / "10_zk9" / "1.png")) for place in (report.out, img))
    assert np.array_equal(found[:, :60], original[:, :60]) and (found[:, 60:] == 255).all()
    other = fill(img, fill="colour", colour="#000000")  # and is not lost when all are made again
    assert other.made == 3 and np.array_equal(np.asarray(Image.open(corrected)), np.asarray(hand))
    assert [picture["how"] for picture in other.pictures].count("by a mask made by hand") == 1
    given = img / "masks" / "10_zk9"
    given.mkdir(parents=True)
    Image.new("L", (120, 80), 255).save(given / "0.png")
    third = fill(img, fill="colour", colour="#000000")
    assert (third.made, third.skipped) == (1, 2)
    assert np.array_equal(*(np.asarray(Image.open(place / "10_zk9" / "0.png")) for place in (report.out, img)))
    Image.new("L", (500, 80), 255).save(given / "0.png")
    assert "of another shape" in fill(img, fill="colour", colour="#000000").problems[0].what


def test_masks_for_all_need_no_model(models: Path, img: Path, capsys: Any) -> None:
    assert main(["images", "background", str(img)]) == 2
    assert f"birefnet-general.onnx or u2net.onnx into {models}" in capsys.readouterr().err
    for path in list((img / "10_zk9").glob("*.png")):
        (img / "masks" / "10_zk9").mkdir(parents=True, exist_ok=True)
        Image.new("L", Image.open(path).size).save(img / "masks" / "10_zk9" / path.name)
    assert main(["images", "background", str(img), "--fill", "colour", "--colour", "#123456"]) == 0
    out = img.with_name("img_background")
    assert Image.open(out / "10_zk9" / "0.png").getcolors() == [(120 * 80, (0x12, 0x34, 0x56))]
    assert "3 x no subject was found: look at its mask" in capsys.readouterr().out


def test_in_place_masks_of_ours_are_not_taken_for_made_by_hand(models: Path, img: Path) -> None:
    make_model(models / NAMES["isnet"], "isnet", 64)
    first = fill(img, in_place=True, fill="transparent")
    assert first.made == 3 and (img / "masks" / "10_zk9" / "0.png").exists()
    with Image.open(img / "10_zk9" / "0.png") as image:
        assert image.mode == "RGBA" and image.getpixel((2, 2))[3] < 5 and image.getpixel((60, 40))[3] > 250
    again = fill(img, in_place=True, fill="transparent")
    assert (again.made, again.skipped) == (0, 3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fill", "picture"], "fill picture needs one: set picture"),
        (["--fill", "transparent", "--format", "jpeg"], "format jpeg cannot be transparent: set it to png or webp"),
        (["--fill", "picture", "--picture", "gone.png"], "picture: gone.png: cannot be opened"),
        (["--model", "gone-u2net.onnx"], "gone-u2net.onnx does not exist: put the file there"),
        (["--model", "broken-u2net.onnx"], "onnxruntime cannot open it"),
    ],
)
def test_what_is_missing_is_said(
    models: Path, img: Path, flags: list[str], said: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(models)
    Path("broken-u2net.onnx").write_bytes(b"x")
    assert main(["images", "background", str(img), *flags]) == 2
    assert said in capsys.readouterr().err
