"""Captioning against the bare model: `python benchmarks/captions.py [--pictures N] [--rounds N] [--batch N]`.

The model is an ONNX file of the size of a ViT-B tagger at 448 pixels with random weights, made here; the pictures are
JPEGs of 2048 x 1536. Rates are measured in turns in one process, so that what else runs on the machine hits both.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from trainer.captioners import prepare  # noqa: E402
from trainer.captioners.options import Wd14  # noqa: E402
from trainer.captioners.run import run  # noqa: E402
from trainer.captioners.wd14 import Wd14Captioner  # noqa: E402
from trainer.data.pictures import open_picture  # noqa: E402

SIDE, PATCH, WIDTH, DEPTH, HEADS, TAGS = 448, 16, 768, 12, 12, 10_861
TOKENS = (SIDE // PATCH) ** 2
MOST = 30


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--pictures", type=int, default=16)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--batch", type=int, default=4)
    given = words.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, commit {commit.strip()}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with ProcessPoolExecutor(1) as elsewhere:  # what drawing takes is no memory of captioning
            elsewhere.submit(draw_pictures, folder / "pictures", given.pictures).result()
        many(folder)
        preparing(folder / "pictures")
        draw_vit(folder / "tagger")
        captioning(folder, given)
        moved(folder)


def preparing(folder: Path) -> None:
    """Pictures a second and core that are made ready, by the processor time of one thread, and its parts."""
    files = sorted(folder.glob("*.jpg"))

    def decoded(file: Path) -> Image.Image:
        with Image.open(file) as image:
            image.load()
            return image

    def ready(file: Path, least: int | None = None) -> np.ndarray:
        return prepare.numbers(prepare.square(open_picture(file, "#ffffff", least).image, SIDE))

    images = {file: decoded(file) for file in files[:4]}
    print(f"made ready: {rate(ready, files):.1f} a second and core (goal 70)")
    print(f"  with fast decoding: {rate(lambda file: ready(file, SIDE), files):.1f} a second and core")
    print(f"  of which decoding alone: {rate(decoded, files):.1f} a second")
    print(f"  of which square and filter alone: {rate(lambda file: prepare.square(images[file], SIDE), images):.1f}")


def rate(work: Callable[[Path], object], files: object) -> float:
    """How often a second a piece of work is done: the best of five turns, the least disturbed."""
    best = []
    for _ in range(5):
        for file in list(files)[:4]:  # type: ignore[call-overload]
            began = time.thread_time()
            work(file)
            best.append(time.thread_time() - began)
    return 1 / min(best)


def captioning(folder: Path, given: argparse.Namespace) -> None:
    """The rate of captioning as a share of the model's own, in turns."""
    bare: list[tuple[float, float]] = []  # seconds of each picture on the clock, and of the processor
    whole: list[tuple[float, float]] = []
    options = Wd14(folder=str(folder / "pictures"), model=(str(folder / "tagger"),), batch=given.batch)
    captioner = Wd14Captioner(options)
    session = captioner.taggers[0].session
    noise = np.random.default_rng(0).uniform(0, 255, (given.batch, SIDE, SIDE, 3)).astype(np.float32)
    session.run(None, {"in": noise})
    for _ in range(given.rounds):
        began = time.monotonic(), time.process_time()
        for _ in range(given.pictures // given.batch):
            session.run(None, {"in": noise})
        bare.append(spent(began, given.pictures // given.batch * given.batch))
        for caption in (folder / "pictures").glob("*.txt"):
            caption.unlink()
        began = time.monotonic(), time.process_time()
        whole.append(spent(began, run(captioner, options).captioned))
    shares = [alone[0] / all_of_it[0] for alone, all_of_it in zip(bare, whole, strict=True)]
    work = [alone[1] / all_of_it[1] for alone, all_of_it in zip(bare, whole, strict=True)]
    print(f"bare model: {1 / statistics.median(first for first, _ in bare):.3f} pictures a second, batch {given.batch}")
    print(f"captioning: {1 / statistics.median(first for first, _ in whole):.3f} pictures a second, captions written")
    print(
        f"share by the clock: {statistics.median(shares):.3f} (goal 0.9; from {min(shares):.3f} to {max(shares):.3f})"
    )
    print(f"share of processor time: {statistics.median(work):.3f} (from {min(work):.3f} to {max(work):.3f})")


def moved(folder: Path) -> None:
    """How far fast decoding moves probabilities, beside how far two pictures are apart, and what becomes of tags."""
    files = sorted((folder / "pictures").glob("*.jpg"))[:8]
    found: list[np.ndarray] = []
    seen: list[np.ndarray] = []
    for fast in (False, True):
        options = Wd14(folder=str(folder / "pictures"), model=(str(folder / "tagger"),), fast_decoding=fast)
        captioner = Wd14Captioner(options)
        ready = [captioner.prepare(file) for file in files]
        seen.append(np.stack([picture[SIDE] for picture in ready]))  # [files, side, side, 3]
        found.append(np.concatenate([captioner.look([picture]) for picture in ready]))  # [files, tags]
    exact, fast = found
    apart, others = np.abs(exact - fast), np.abs(exact - np.roll(exact, 1, 0))
    print(f"fast decoding moves a pixel by {np.abs(seen[0] - seen[1]).mean():.2f} of 255;")
    print(f"  a probability by {apart.mean():.5f}, at most {apart.max():.5f};")
    print(f"  between two pictures it differs by {others.mean():.5f}, at most {others.max():.5f}")
    most = [{*np.argsort(row)[-MOST:].tolist()} for row in exact]
    kept = [len(tags & {*np.argsort(row)[-MOST:].tolist()}) / MOST for tags, row in zip(most, fast, strict=True)]
    print(f"  of the {MOST} likeliest tags of a picture {statistics.mean(kept):.1%} stay among them")


def spent(began: tuple[float, float], pictures: int) -> tuple[float, float]:
    """Seconds since then for each picture, on the clock and of the processor."""
    return (time.monotonic() - began[0]) / pictures, (time.process_time() - began[1]) / pictures


def many(folder: Path) -> None:
    """How memory grows from 200 pictures to 5000, with a model that costs nothing."""
    (folder / "small").mkdir()
    draw_labels(folder / "small", 100)
    mean = helper.make_node("ReduceMean", ["in", "axes"], ["mean"], keepdims=0)
    gemm = helper.make_node("MatMul", ["mean", "w"], ["m"])
    values = {"axes": np.array([1, 2], np.int64), "w": np.full((3, 100), -1e-3, np.float32)}
    save(folder / "small" / "model.onnx", [mean, gemm, helper.make_node("Sigmoid", ["m"], ["out"])], values, 100)
    first = Image.open(next((folder / "pictures").glob("*.jpg"))).resize((512, 384))
    memory = []
    for count in (200, 5000):
        place = folder / f"many{count}"
        place.mkdir()
        first.save(place / "0.jpg")
        for i in range(1, count):
            os.link(place / "0.jpg", place / f"{i}.jpg")
        options = Wd14(folder=str(place), model=(str(folder / "small"),))
        report = run(Wd14Captioner(options), options)
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(f"{count} pictures of 512 x 384: {report.captioned / report.seconds:.0f} a second")
    print(f"memory at most after 200: {memory[0]:.0f} MB, after 5000: {memory[1]:.0f} MB")


def draw_pictures(folder: Path, count: int) -> None:
    """Photographs, as far as a decoder can tell: detail as in nature (amplitude 1/f), edges, noise."""
    folder.mkdir()
    height, width = 1536, 2048
    waves = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])  # [H, W/2+1], of one pixel
    waves[0, 0] = 1
    for i in range(count):
        dice = np.random.default_rng(i)
        phases = dice.standard_normal((3, *waves.shape)) + 1j * dice.standard_normal((3, *waves.shape))
        scene = np.fft.irfft2(phases / waves, (height, width))  # [3, H, W]
        scene = 128 + 45 * (scene - scene.mean()) / scene.std() + dice.normal(0, 2, (1, height, width))
        image = Image.fromarray(scene.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
        pen = ImageDraw.Draw(image)
        for _ in range(30):
            x, y, size = dice.uniform(0, width), dice.uniform(0, height), dice.uniform(20, 400)
            pen.ellipse((x, y, x + size, y + size / 2), tuple(dice.integers(0, 256, 3).tolist()))
        image.save(folder / f"{i}.jpg", quality=90)


def draw_vit(folder: Path) -> None:
    """A tagger like SmilingWolf's ViT: 86 million weights, 784 tokens, 10,861 tags."""
    folder.mkdir()
    draw_labels(folder, TAGS)
    dice, values = np.random.default_rng(0), {}
    nodes = []

    def weight(name: str, *shape: int) -> str:
        values[name] = dice.standard_normal(shape, np.float32) * np.float32(0.02)
        return name

    def node(kind: str, given: list[str], out: str, **more: object) -> str:
        nodes.append(helper.make_node(kind, given, [out], **more))
        return out

    def linear(x: str, name: str, out: int, into: int = WIDTH) -> str:
        product = node("MatMul", [x, weight(f"{name}.w", into, out)], f"{name}.p")
        return node("Add", [product, weight(f"{name}.b", out)], f"{name}.o")

    def norm(x: str, name: str) -> str:
        values[f"{name}.s"] = np.ones(WIDTH, np.float32)
        return node("LayerNormalization", [x, f"{name}.s", weight(f"{name}.b", WIDTH)], f"{name}.o", axis=-1)

    values["heads"] = np.array([0, TOKENS, 3, HEADS, WIDTH // HEADS], np.int64)
    values["joined"] = np.array([0, TOKENS, WIDTH], np.int64)
    values["flat"] = np.array([0, WIDTH, TOKENS], np.int64)
    values["one"] = np.array([1], np.int64)
    values["scale"], values["root"] = np.float32(1 / 127.5), np.float32((WIDTH // HEADS) ** -0.5)
    values["half"], values["unit"], values["sqrt2"] = np.float32(0.5), np.float32(1), np.float32(2**0.5)
    x = node("Mul", [node("Transpose", ["in"], "chw", perm=[0, 3, 1, 2]), "scale"], "scaled")
    x = node("Conv", [x, weight("patch", WIDTH, 3, PATCH, PATCH)], "patches", strides=[PATCH, PATCH])
    x = node("Transpose", [node("Reshape", [x, "flat"], "flatted")], "tokens", perm=[0, 2, 1])
    x = node("Add", [x, weight("position", TOKENS, WIDTH)], "placed")
    for i in range(DEPTH):
        name = f"block{i}"
        split = node("Reshape", [linear(norm(x, f"{name}.n1"), f"{name}.qkv", 3 * WIDTH), "heads"], f"{name}.h")
        turned = node("Transpose", [split], f"{name}.t", perm=[2, 0, 3, 1, 4])
        parts = [f"{name}.{part}" for part in "qkv"]
        nodes.append(helper.make_node("Split", [turned], [f"{part}1" for part in parts], axis=0, num_outputs=3))
        values[f"{name}.zero"] = np.array([0], np.int64)
        q, k, v = (node("Squeeze", [f"{part}1", f"{name}.zero"], part) for part in parts)
        key = node("Transpose", [k], f"{name}.kt", perm=[0, 1, 3, 2])
        scores = node("Mul", [node("MatMul", [q, key], f"{name}.s"), "root"], f"{name}.ss")
        mixed = node("MatMul", [node("Softmax", [scores], f"{name}.a", axis=-1), v], f"{name}.m")
        joined = node("Reshape", [node("Transpose", [mixed], f"{name}.mt", perm=[0, 2, 1, 3]), "joined"], f"{name}.j")
        x = node("Add", [x, linear(joined, f"{name}.proj", WIDTH)], f"{name}.x1")
        wide = linear(norm(x, f"{name}.n2"), f"{name}.up", 4 * WIDTH)
        bell = node("Erf", [node("Div", [wide, "sqrt2"], f"{name}.g1")], f"{name}.g2")
        gelu = node(
            "Mul", [node("Mul", [wide, "half"], f"{name}.g3"), node("Add", [bell, "unit"], f"{name}.g4")], f"{name}.g5"
        )
        x = node("Add", [x, linear(gelu, f"{name}.down", WIDTH, 4 * WIDTH)], f"{name}.x2")
    pooled = node("ReduceMean", [norm(x, "last"), "one"], "pooled", keepdims=0)
    node("Sigmoid", [linear(pooled, "head", TAGS)], "out")
    save(folder / "model.onnx", nodes, values, TAGS)


def save(file: Path, nodes: list[onnx.NodeProto], values: dict[str, np.ndarray], tags: int) -> None:
    """A model of any batch."""
    graph = helper.make_graph(
        nodes,
        "tagger",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", tags])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), file)


def draw_labels(folder: Path, count: int) -> None:
    with (folder / "selected_tags.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["tag_id", "name", "category", "count"])
        rows.writerows([i, f"tag_{i}", 9 if i < 4 else 0, 1] for i in range(count))


def processor() -> str:
    """What this machine's processor calls itself."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return next(
        (line.split(": ")[1] for line in told.splitlines() if line.startswith("model name")), platform.machine()
    )


if __name__ == "__main__":
    main()
