"""Options of the picture tools: each has its help and its flag, and a flag says what the option says."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from trainer.config.parts import Part
from trainer.errors import InputError
from trainer.flags import add_flags, read_flags
from trainer.images.command import TOOLS
from trainer.images.options import Background, Crop, Resize
from trainer.tree import fields

GIVEN: dict[str, tuple[list[str], Any]] = {
    "sharpen": (["1.5"], 1.5),
    "brightness": (["1.1"], 1.1),
    "contrast": (["0.9"], 0.9),
    "saturation": (["0"], 0.0),
    "even_out": (["0.5"], 0.5),
    "out": (["somewhere"], "somewhere"),
    "in_place": ([], True),
    "recursive": ("no", False),
    "format": (["webp"], "webp"),
    "quality": (["80"], 80),
    "rename": (["a_{n:03}"], "a_{n:03}"),
    "captions": ([".caption"], ".caption"),
    "group": ([], True),
    "background": (["#ff0080"], "#ff0080"),
    "sizes": (["512x768", "768", "640,512"], ((512, 768), (768, 768), (640, 512))),
    "buckets": ([], {"step": 64}),
    "buckets.smallest": (["128"], {"smallest": 128}),
    "buckets.largest": (["1024"], {"largest": 1024}),
    "buckets.step": (["32"], {"step": 32}),
    "buckets.no_upscale": ("no", {"no_upscale": False}),
    "no_upscale": ([], True),
    "interpolation": (["area"], "area"),
    "how": (["contain"], "contain"),
    "focus": (["face"], "face"),
    "detector": (["yunet.onnx"], "yunet.onnx"),
    "boxes": (["boxes.json"], "boxes.json"),
    "close_ups": ([], True),
    "close_up_factor": (["3"], 3.0),
    "trigger": (["zk9"], "zk9"),
    "face_repeats": (["12"], 12),
    "body_repeats": (["8"], 8),
    "body_size": (["512x640"], (512, 640)),
    "fill": (["blur"], "blur"),
    "colour": (["#112233"], "#112233"),
    "blur": (["7.5"], 7.5),
    "picture": (["beach.jpg"], "beach.jpg"),
    "seed": (["7"], 7),
    "model": (["u2net.onnx"], "u2net.onnx"),
    "kind": (["isnet"], "isnet"),
    "save_masks": ("no", False),
}
APART = {"folder", "split"}  # the one has no flag, the other needs a trigger beside it


def parsed(part: type[Part], *words: str) -> Any:
    parser = argparse.ArgumentParser()
    add_flags(parser, {"tool": part})
    return read_flags(parser.parse_args(["img", *words]), part)


@pytest.mark.parametrize("part", [options for options, _ in TOOLS.values()])
def test_every_option_has_its_help_and_its_flag(part: type[Part]) -> None:
    bare = part.model_validate({"folder": "img"})
    assert parsed(part) == bare
    for name, field in fields(part):
        assert field.description and field.description.endswith("."), name
        if name in APART:
            continue
        words, value = GIVEN[name]
        flag = name.replace(".", "-").replace("_", "-")
        found = parsed(part, *([f"--no-{flag}"] if words == "no" else [f"--{flag}", *words]))
        head = name.split(".")[0]
        assert found == part.model_validate({"folder": "img", head: value}) != bare, name


def test_every_option_is_tried() -> None:
    assert {name for part, _ in TOOLS.values() for name, _ in fields(part)} == {*GIVEN, *APART}


def test_split_takes_a_trigger() -> None:
    assert parsed(Crop, "--split", "--trigger", "zk9") == Crop(folder="img", split=True, trigger="zk9")


def test_every_mistake_is_a_line() -> None:
    with pytest.raises(InputError) as caught:
        parsed(Resize, "--sharpen", "9", "--quality", "x", "--sizes", "512", "9999")
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["sharpen", "quality", "sizes"]
    assert lines[0].startswith('sharpen: "9": it must be 5 or less (How much sharper')


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        (Resize, {"sizes": []}, "no size is given: write one such as 512x512"),
        (Crop, {"split": True, "trigger": " "}, "set trigger, for instance to zk9"),
        (Crop, {"split": True, "trigger": "a", "face_repeats": 16}, "both 16: one folder would hold both"),
        (Crop, {"split": True, "trigger": "a", "boxes": "b"}, "use boxes without split"),
        (Crop, {"in_place": True, "close_ups": True}, "it goes without split and close_ups"),
        (Crop, {"trigger": "a/b"}, "match pattern"),
        (Resize, {"rename": "../{n}"}, "match pattern"),
        (Resize, {"captions": "/etc/passwd"}, "match pattern"),
        (Background, {"fill": "picture"}, "set picture to a file"),
        (Resize, {"in_place": True, "out": "a", "rename": "{n}"}, "it goes without out and rename"),
    ],
)
def test_options_that_contradict_each_other(part: type[Part], values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        part.model_validate({"folder": "img", **values})
