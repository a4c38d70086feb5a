"""Faces by YuNet's rules, what stands out, and what pictures are cut to, with an ONNX file of YuNet's signature."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

from trainer.__main__ import main
from trainer.errors import InputError
from trainer.images.batch import Report, run
from trainer.images.faces import OUTPUTS, STRIDES, Detector, Face, decode, largest, overlap
from trainer.images.focus import crop_tool, read_boxes
from trainer.images.geometry import Box, fit
from trainer.images.options import Crop
from trainer.images.saliency import SIDE, SPREAD, saliency, subject

WIDE, HIGH = 4.0, 6.0  # sides of the made detector's boxes, in strides


def make_yunet(file: Path, sides: tuple[Any, Any] = (640, 640)) -> Path:
    """A detector of blue: a cell of stride 16 is a face as far as its mean blue goes; 64 wide and 96 high around it.

    The signature is that of face_detection_yunet_2023mar.onnx: `input` [1, 3, H, W] in BGR, twelve outputs.
    """
    height, width = sides
    nodes, outputs, fixed = [], [], []

    def constant(name: str, values: Any, kind: type = np.float32) -> str:
        fixed.append(numpy_helper.from_array(np.array(values, kind), name))
        return name

    constant("column", [-1, 1], np.int64), constant("blue", [0], np.int64)
    constant("full", 1 / 255), constant("none", 0.0)
    nodes.append(helper.make_node("Gather", ["input", "blue"], ["plane"], axis=1))
    for stride in STRIDES:
        pooled, flat = f"pooled_{stride}", f"flat_{stride}"
        constant(f"shape_{stride}", [1, -1, 1], np.int64)
        pool = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
        nodes.append(helper.make_node("AveragePool", ["plane"], [pooled], **pool))
        nodes.append(helper.make_node("Reshape", [pooled, f"shape_{stride}"], [flat]))
        for name in OUTPUTS:
            scale = "full" if stride == 16 and name in ("cls", "obj") else "none"
            scaled = f"scaled_{name}_{stride}"
            nodes.append(helper.make_node("Mul", [flat, scale], [scaled]))
            values = {"bbox": [0.5, 0.5, math.log(WIDE), math.log(HIGH)], "kps": [0.5] * 10}.get(name, [0.0])
            constant(f"{name}_{stride}_add", [[values]])
            nodes.append(helper.make_node("Add", [scaled, f"{name}_{stride}_add"], [f"{name}_{stride}"]))
    for name, wide in OUTPUTS.items():
        outputs += [helper.make_tensor_value_info(f"{name}_{s}", TensorProto.FLOAT, [1, None, wide]) for s in STRIDES]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, height, width])]
    graph = helper.make_graph(nodes, "yunet", inputs, outputs, fixed)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    onnx.save(made, file)
    return file


@pytest.fixture
def yunet(models: Path) -> Path:
    return make_yunet(models / "face_detection_yunet_2023mar.onnx")


def person(size: tuple[int, int], *middles: tuple[int, int], side: int = 64, colour: str = "#0000ff") -> Image.Image:
    """A red picture with squares where faces are."""
    image = Image.new("RGB", size, "#aa2000")
    for x, y in middles:
        ImageDraw.Draw(image).rectangle((x - side // 2, y - side // 2, x + side // 2 - 1, y + side // 2 - 1), colour)
    return image


def crop(folder: Path, **options: Any) -> Report:
    wanted = Crop.model_validate({"folder": str(folder), "sizes": [64], **options})
    return run(wanted, crop_tool(wanted))


def test_outputs_are_read_as_opencv_reads_them() -> None:
    dice = np.random.default_rng(3)
    width, height = 96, 64
    outputs, expected = {}, []
    for stride in STRIDES:
        rows, columns = height // stride, width // stride
        cls, obj = (dice.uniform(-0.2, 1.2, (1, rows * columns, 1)).astype(np.float32) for _ in "ab")
        bbox = dice.normal(0.7, 0.4, (1, rows * columns, 4)).astype(np.float32)
        kps = dice.normal(0, 1, (1, rows * columns, 10)).astype(np.float32)
        outputs |= {f"cls_{stride}": cls, f"obj_{stride}": obj, f"bbox_{stride}": bbox, f"kps_{stride}": kps}
        for r in range(rows):
            for c in range(columns):
                i = r * columns + c
                score = math.sqrt(min(max(float(cls[0, i, 0]), 0), 1) * min(max(float(obj[0, i, 0]), 0), 1))
                if score < 0.7:
                    continue
                cx, cy = (c + float(bbox[0, i, 0])) * stride, (r + float(bbox[0, i, 1])) * stride
                w, h = math.exp(float(bbox[0, i, 2])) * stride, math.exp(float(bbox[0, i, 3])) * stride
                points = [
                    ((float(kps[0, i, 2 * n]) + c) * stride, (float(kps[0, i, 2 * n + 1]) + r) * stride)
                    for n in range(5)
                ]
                expected.append((score, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), points))
    found = decode(outputs, (width, height))
    assert len(expected) > len(found) > 5
    kept: list[Any] = []
    for score, box, points in sorted(expected, key=lambda face: -face[0]):  # non-maximum suppression, the plain way
        overlaps = []
        for _, other, _ in kept:
            inner = [max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])]
            shared = max(0, inner[2] - inner[0]) * max(0, inner[3] - inner[1])
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
            overlaps.append(shared / (sum(areas) - shared))
        if all(part <= 0.3 for part in overlaps):
            kept.append((score, box, points))
    assert len(found) == len(kept)
    for face, (score, box, points) in zip(found, kept, strict=True):
        assert face.score == pytest.approx(score, abs=1e-6)
        assert face.box == pytest.approx(box, abs=1e-3) and np.abs(face.points - points).max() < 1e-3


@pytest.mark.parametrize("sides", [(640, 640), ("height", "width")])
@pytest.mark.parametrize(
    ("size", "middle"), [((640, 640), (232, 120)), ((400, 300), (200, 136)), ((1280, 960), (528, 400))]
)
def test_a_face_is_found_where_it_is(tmp_path: Path, sides: Any, size: Any, middle: Any) -> None:
    """Sizes at which the square of the face covers whole cells of stride 16 once the picture is scaled."""
    detector = Detector(make_yunet(tmp_path / "yunet.onnx", sides))
    scale = 640 / max(size) if sides == (640, 640) else min(1, 640 / max(size))
    side = round(16 / scale) + 2 * round(1 / scale)
    x, y = (round((math.floor(place * scale / 16) * 16 + 8) / scale) for place in middle)
    faces = detector.faces(person(size, (x, y), side=side))
    assert len(faces) == 1
    box = faces[0].box
    assert box.centre == pytest.approx((x, y), abs=2 / scale)
    assert box.size == pytest.approx((WIDE * 16 / scale, HIGH * 16 / scale), rel=0.02)
    assert np.abs(faces[0].points - box.centre).max() < 1e-3 + 0.02 * max(size)
    assert detector.faces(person(size)) == [] == detector.faces(person(size, (x, y), side=side, colour="#ff0000"))


def test_boxes_end_at_the_picture_s_edge(yunet: Path) -> None:
    faces = Detector(yunet).faces(person((640, 400), (8, 8), side=20))
    assert [face.box for face in faces] == [pytest.approx(Box(0, 0, 40, 56))]


def test_the_largest_face_counts() -> None:
    faces = [Face(Box(0, 0, side, side), np.zeros((5, 2)), 0.9) for side in (10, 30, 20)]
    assert largest(faces) is faces[1] and largest([]) is None
    assert (
        overlap(Box(0, 0, 2, 2), Box(1, 0, 3, 2)) == pytest.approx(1 / 3)
        and overlap(Box(0, 0, 1, 1), Box(5, 5, 6, 6)) == 0
    )


def test_crops_are_around_the_face_and_the_report_says_so(yunet: Path, tmp_path: Path) -> None:
    folder = tmp_path / "img"
    folder.mkdir()
    person((640, 320), (520, 168), side=20).save(folder / "right.png")
    person((640, 320), (120, 168), side=20).save(folder / "left.png")
    person((640, 320)).save(folder / "nobody.png")
    report = crop(folder)
    how = {picture["file"]: picture["how"] for picture in report.pictures}
    assert how["right.png"] == how["left.png"] == "around the face (YuNet)"
    assert how["nobody.png"] == "in the middle: nothing stands out (no face found)"
    assert "2 x around the face (YuNet)" in report.text()
    for name, start in (("right", 320), ("left", 0)):  # the face at the middle, as far as the picture goes
        expected = (
            Image.open(folder / f"{name}.png")
            .crop((start, 0, start + 320, 320))
            .resize((64, 64), Image.Resampling.LANCZOS)
        )
        assert np.array_equal(np.asarray(Image.open(report.out / f"{name}.png")), np.asarray(expected))
    assert crop(folder).skipped == 3
    assert {picture["how"] for picture in crop(folder, focus="centre").pictures} == {"in the middle"}


def test_close_ups_and_bodies_go_into_folders_with_their_repeats(yunet: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    person((640, 640), (328, 104), side=20).save(folder / "body.png")
    person((256, 256), (136, 136), side=20).save(folder / "face.png")  # scaled to 640: its box is 38 pixels high
    person((640, 640)).save(folder / "back.png")
    (folder / "body.txt").write_text("zk9, standing")
    report = crop(folder, split=True, trigger="zk9", close_ups=True, sizes=["96x96"], body_size="64x96")
    assert report.problems == [] and report.made == 3
    made = {path.relative_to(report.out).as_posix(): Image.open(path) for path in report.out.rglob("*.png")}
    assert set(made) == {"16_zk9/body.png", "24_zk9/body_face.png", "16_zk9/face.png", "16_zk9/back.png"}
    assert made["16_zk9/body.png"].size == (64, 96) and made["24_zk9/body_face.png"].size == (96, 96)
    assert (report.out / "24_zk9" / "body_face.txt").read_text() == "zk9, standing"
    side = 96 * 2.2  # of the close-up: the face's height, enlarged; its middle is at (328, 104)
    left, top = 328 - side / 2, max(0, 104 - side / 2)
    box = tuple(round(value) for value in (left, top, left + side, top + side))
    expected = Image.open(folder / "body.png").crop(box).resize((96, 96), Image.Resampling.LANCZOS)
    difference = np.abs(np.asarray(made["24_zk9/body_face.png"], int) - np.asarray(expected, int))
    assert difference.mean() < 2  # a pixel of rounding
    assert report.notes["no close-up: the face is smaller than 192 pixels with its surroundings"] == 1
    near = crop(folder, split=True, trigger="zk9", out=str(tmp_path / "near"), face_repeats=3)
    assert sorted(path.parent.name for path in near.out.rglob("*.png")) == ["16_zk9"] * 3


def test_a_picture_that_is_close_goes_to_the_faces(yunet: Path, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    person((640, 320), (328, 168), side=20).save(folder / "near.png")  # a face of 96 in 320: 30 %
    report = crop(folder, split=True, trigger="zk9", close_ups=True, buckets={}, sizes=[128, "64x128"])
    assert Image.open(report.out / "24_zk9" / "near.png").size == (128, 128)
    assert [picture["made"] for picture in report.pictures] == [["24_zk9/near.png"]]


def test_boxes_drawn_by_hand_go_first(yunet: Path, tmp_path: Path) -> None:
    folder = tmp_path / "img"
    folder.mkdir()
    dice = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(dice.integers(0, 256, (200, 400, 3), np.uint8)).save(folder / f"{name}.png")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.png": [0.5, 0.25, 0.75, 0.75]}))
    report = crop(folder, boxes=str(boxes))
    assert report.pictures[0]["how"] == "around the box drawn by hand"
    expected = Image.open(folder / "a.png").crop((200, 50, 300, 150)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(Image.open(report.out / "a.png")), np.asarray(expected))
    boxes.write_text(json.dumps({"a.png": [0.5, 0.25, 0.75, 0.8]}))
    again = crop(folder, boxes=str(boxes))
    assert (again.made, again.skipped) == (1, 1)
    for wrong in (
        '{"a.png": [0, 0, 0, 1]}',
        '{"a.png": [0, 0, 1]}',
        '{"a.png": [0, 0, 640, 480]}',
        "[1]",
        "{",
        '{"a": "b"}',
        "[" * 100_000,
    ):
        boxes.write_text(wrong)
        with pytest.raises(InputError, match=r"^boxes: ") as caught:
            read_boxes(str(boxes))
        assert "640" not in str(caught.value)  # the file may be anybody's: no value of it is told


def test_saliency_is_edges_and_colour_times_the_middle() -> None:
    image = person((SIDE, 60), (70, 20), side=12)
    noise = np.random.default_rng(0).integers(0, 9, (60, SIDE, 3), np.uint8)
    image = Image.fromarray(np.asarray(image) // 2 + noise)
    values = np.asarray(image, np.float64) / 255
    grey = values.mean(2)
    edges, colour = np.zeros_like(grey), np.zeros_like(grey)
    rim = [(y, x) for y in range(60) for x in range(SIDE) if y in (0, 59) or x in (0, SIDE - 1)]
    ground = sum(values[place] for place in rim) / len(rim)
    spread = sum(np.outer(values[place] - ground, values[place] - ground) for place in rim) / len(rim)
    spread += np.diag([0.05**2] * 3)
    for y in range(60):
        for x in range(SIDE):
            up, down, left, right = max(y - 1, 0), min(y + 1, 59), max(x - 1, 0), min(x + 1, SIDE - 1)
            slopes = (grey[down, x] - grey[up, x]) / (down - up), (grey[y, right] - grey[y, left]) / (right - left)
            edges[y, x] = math.hypot(*slopes)
            off = values[y, x] - ground
            colour[y, x] = math.sqrt(off @ np.linalg.solve(spread, off))
    edges = np.maximum(edges - sum(edges[place] for place in rim) / len(rim), 0)
    expected = (edges / edges.max() + colour / colour.max()) ** 3
    for y in range(60):
        for x in range(SIDE):
            far = (x / (SIDE - 1) - 0.5) ** 2 + (y / 59 - 0.5) ** 2
            expected[y, x] *= math.exp(-far / (2 * SPREAD**2))
    assert np.abs(saliency(image) - expected / expected.sum()).max() < 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_the_subject_is_whole_in_a_crop_though_its_background_is_busy(seed: int) -> None:
    """A disc before leaves, or before a sky that darkens; a crop in the middle would cut more than half of them."""
    dice = np.random.default_rng(seed)
    leaves = dice.integers(40, 160, (30, 60, 3)) // [4, 1, 1]
    sky = np.linspace(60, 200, 30)[:, None, None] + dice.integers(0, 20, (30, 60, 3))
    blocks = leaves if seed % 2 else sky
    image = Image.fromarray(blocks.astype(np.uint8)).resize((1200, 600), Image.Resampling.BICUBIC)
    x, y = int(dice.integers(120, 1080)), int(dice.integers(120, 480))
    ImageDraw.Draw(image).ellipse((x - 80, y - 100, x + 80, y + 100), "#ff6040")
    left, _, right, _ = fit(image.size, (512, 512), "cover", subject(image)).crop
    assert left <= x - 80 and x + 80 <= right


@pytest.mark.parametrize("middle", [(100, 100), (500, 100), (320, 300), (520, 320)])
def test_what_stands_out_is_found(middle: tuple[int, int]) -> None:
    box = subject(person((640, 400), middle, side=80))
    assert box is not None and box.centre == pytest.approx(middle, abs=20) and 40 < box.size[0] < 100
    assert subject(person((640, 400))) is None


def test_without_a_detector_it_is_saliency_and_said(models: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "img"
    folder.mkdir()
    person((640, 320), (560, 100), colour="#10e010").save(folder / "a.png")
    assert main(["images", "crop", str(folder), "--sizes", "64"]) == 0
    assert "1 x around what stands out" in capsys.readouterr().out
    found = np.asarray(Image.open(tmp_path / "img_cropped" / "a.png"))
    green = np.argwhere(found[:, :, 1] > 200)
    assert green.min(0)[1] >= 40 and green.max(0)[1] <= 56  # whole, in a crop of the right half
    for words, said in (
        (["--focus", "face"], "focus: needs a face detector: `python launch.py models get yunet` fetches it (0.2 MB)"),
        (["--split", "--trigger", "zk9"], "split: needs a face detector"),
        (["--split"], "split names its folders after the trigger: set trigger"),
        (["--detector", str(tmp_path / "gone.onnx")], "gone.onnx does not exist: put the file there"),
    ):
        assert main(["images", "crop", str(folder), *words]) == 2
        told = capsys.readouterr().err
        assert said in told and (str(models) in told or "needs" not in told)


def test_files_that_are_no_yunet_are_refused(models: Path, tmp_path: Path) -> None:
    (models / "yunet.onnx").write_bytes(b"<html>404</html>")
    with pytest.raises(InputError, match="onnxruntime cannot open it"):
        crop_tool(Crop(folder=str(tmp_path)))
    flat = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [flat], [out])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), models / "yunet.onnx"
    )
    with pytest.raises(InputError, match=r"takes \[1, 5\], not one picture"):
        crop_tool(Crop(folder=str(tmp_path)))
    other = make_yunet(tmp_path / "cut.onnx")
    model = onnx.load(other)
    del model.graph.output[0]
    onnx.save(model, other)
    with pytest.raises(InputError, match="has no output cls_8: it is not YuNet"):
        crop_tool(Crop(folder=str(tmp_path), detector=str(other)))
