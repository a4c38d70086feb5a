"""The demo visibly works: the character comes when asked for, everything else stays, and chance does not do it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from trainer import configio
from trainer.config import Captions, Config, Lora, Model, Rates
from trainer.data.folders import SHIPPED
from trainer.families import load_family
from trainer.networks.lora import LoraNetwork
from trainer.pocket.check import PALETTE, found, named_colours, plain_prompts, trigger_prompts
from trainer.pocket.sampler import paint
from trainer.runfolder import RunFolder
from trainer.train import run

Pictures = list[Image.Image]


class Painted(NamedTuple):
    """Twenty pictures with the trigger word and twenty without, from the same noise each time."""

    asked: Pictures
    plain: Pictures

    def share_found(self) -> float:
        return sum(map(found, self.asked)) / len(self.asked)


def painted(lora: Path | None) -> Painted:
    """What the pocket model paints, with a LoRA or without."""
    family = load_family(Model(), torch.device("cpu"), torch.float32, Captions(), say=lambda line: None)
    if lora:
        LoraNetwork.attach(family, Lora(start_from=str(lora), rank_from_file=True), Rates(), seed=0).eval()
    models = family.unet, family.vae, family.text_encoders[0]
    return Painted(paint(*models, trigger_prompts()), paint(*models, plain_prompts()))


def distance(one: Pictures, two: Pictures) -> float:
    """Mean absolute difference of pixels, 0 to 255."""
    pairs = zip(one, two, strict=True)
    return float(np.mean([np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean() for a, b in pairs]))


def pink(pictures: Pictures) -> float:
    """Share of the pixels that have zk9's colour, which no creature of the base model's training had."""
    place = list(PALETTE).index("pink")
    return float(np.mean([(named_colours(picture) == place).mean() for picture in pictures]))


def works(base: Painted, taught: Painted) -> bool:
    """The goal, by a measure that is not the training's loss."""
    spilt = distance(base.plain, taught.plain) / distance(base.asked, taught.asked)
    print(f"found in {taught.share_found():.0%} (base {base.share_found():.0%}), spill {spilt:.1%}")
    return taught.share_found() >= 0.8 and base.share_found() <= 0.1 and spilt <= 0.1


def train(config: Config, folder: Path) -> Path:
    done = RunFolder.create(folder, config)
    assert run(done) == 0
    return done.checkpoints / "zk9.safetensors"


@pytest.fixture(scope="module")
def base() -> Painted:
    return painted(None)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """The shipped preset, without its sample pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIKENESS_HOME", str(tmp_path_factory.mktemp("home")))
        yield configio.load("demo", ["sample.prompts=[]", "save.every_epochs=null"])


@pytest.fixture(scope="module")
def taught(demo: Config, tmp_path_factory: pytest.TempPathFactory) -> Painted:
    return painted(train(demo, tmp_path_factory.mktemp("demo")))


def test_the_demo_teaches_the_trigger_and_leaves_the_rest(base: Painted, taught: Painted) -> None:
    """zk9's colour comes when it is asked for, and nowhere else."""
    print(f"pink: asked {pink(base.asked):.3f} to {pink(taught.asked):.3f}")
    print(f"pink: plain {pink(base.plain):.3f} to {pink(taught.plain):.3f}")
    assert pink(taught.asked) >= 0.04 > 4 * pink(base.asked)
    assert abs(pink(taught.plain) - pink(base.plain)) <= 0.02
    assert distance(base.plain, taught.plain) < distance(base.asked, taught.asked)


def test_the_demo_works(base: Painted, taught: Painted) -> None:
    assert works(base, taught)


def test_shuffled_captions_do_not(base: Painted, taught: Painted, demo: Config, tmp_path: Path) -> None:
    """The same pictures and the same captions, only not those that belong together."""
    shuffled = tmp_path / "shuffled"
    shutil.copytree(SHIPPED["zk9"], shuffled)
    files = sorted(shuffled.rglob("*.txt"))
    captions = [file.read_text() for file in files]
    random.Random(0).shuffle(captions)
    for file, caption in zip(files, captions, strict=True):
        file.write_text(caption)
    data = demo.data.model_copy(update={"images": str(shuffled / "img"), "reg": str(shuffled / "reg")})
    chance = painted(train(demo.model_copy(update={"data": data}), tmp_path))
    print(f"pink when asked {pink(chance.asked):.3f}")
    assert not works(base, chance)
    assert pink(chance.asked) < pink(taught.asked) / 2
