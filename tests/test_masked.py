"""Masks and the prior without pictures: what is learned less, what is kept, and that both are the formulas they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Train, Tree
from tests.pictures import draw_folder
from tests.test_train import weights
from tests.tiny import build
from trainer import kohya
from trainer.config import Config, Lora, Objective
from trainer.data.cache import Cache
from trainer.data.captions import without
from trainer.data.dataset import Dataset
from trainer.data.folders import FolderError, collect
from trainer.networks import attach
from trainer.objectives import per_sample_loss
from trainer.plan import PlanError, make_plan
from trainer.step import Draws, micro_loss

SIZE = (128, 96)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures: one with alpha; masks of two, one of them by its folder."""
    root = tmp_path_factory.mktemp("masked")
    folder = draw_folder(root / "img", {"1_zk9 thing": 3}, SIZE) / "1_zk9 thing"
    dice = np.random.default_rng(3)
    alpha = Image.fromarray(dice.integers(0, 256, SIZE[::-1]).astype(np.uint8))
    clear = Image.open(folder / "0.png").convert("RGBA")
    clear.putalpha(alpha)
    clear.save(folder / "0.png")
    (root / "masks" / "1_zk9 thing").mkdir(parents=True)
    for place, number in (("masks/1_zk9 thing", 1), ("masks", 2), ("masks", 1)):
        Image.fromarray(dice.integers(0, 256, SIZE[::-1]).astype(np.uint8)).save(root / place / f"{number}.png")
    return root


def made(root: Path, cache: Path, **data: object) -> tuple[Dataset, Config]:
    common = {"images": str(root / "img"), "resolution": 64, "buckets": None, "workers": 0, "flip": True}
    config = Config.model_validate({"data": {**common, **data}, "train": {"batch": 3}})
    return Dataset(config, collect(config.data, config.captions), build("sd15"), Cache(cache)), config


def test_the_mask_goes_the_way_of_its_picture(pictures: Path, tmp_path: Path) -> None:
    """128 x 96 becomes 85 x 64, its middle 64 columns are kept, then mirrored; a latent's place is 8 x 8 pixels."""
    options = {"masks": str(pictures / "masks"), "alpha_mask": True}
    cached, config = made(pictures, tmp_path, **options)
    fresh, _ = made(pictures, tmp_path, cache_latents=False, **options)
    ahead, _ = made(pictures, tmp_path, cache_latents=False, **{**options, "workers": 2})
    sides = set()
    for epoch in range(4):
        batches = [data.batch(epoch, 0) for data in (cached, fresh, ahead)]
        for batch in batches[1:]:
            assert batch.mask is not None and batches[0].mask is not None and torch.equal(batch.mask, batches[0].mask)
        mask = batches[0].mask
        assert mask is not None and mask.shape == (3, 1, 8, 8)
        for name, seen, shot in zip(batches[0].names, mask, cached.shots_of(epoch, 0), strict=True):
            folder = pictures / "masks" / ("1_zk9 thing" if name == "1.png" else "")
            source = Image.open(folder / name if name != "0.png" else shot.picture.path)
            values = np.asarray(source.getchannel("A") if name == "0.png" else source, np.float64)
            rows = np.stack([spread(values[:, x], 64) for x in range(SIZE[0])], 1)
            small = np.rint(np.stack([spread(row, 85) for row in rows]))[:, 10:74]
            small = small[:, ::-1] if shot.flipped else small
            wanted = [[small[8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean() / 255 for x in range(8)] for y in range(8)]
            assert np.abs(np.asarray(wanted) - seen[0].numpy()).max() < 0.003  # of 8-bit steps in between
            sides.add(shot.flipped)
    assert sides == {False, True}
    plain, _ = made(pictures, tmp_path)
    assert plain.batch(0, 0).mask is None
    assert config.data.masked


def spread(values: np.ndarray, length: int) -> np.ndarray:
    """The mean of each of `length` equal stretches, counted in small pieces."""
    fine = np.repeat(values, 85 * 64)
    return fine.reshape(length, -1).mean(1)


def test_what_is_wrong_with_masks_is_said(pictures: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.new("L", (10, 10)).save(masks / "1.png")
    data: Tree = {"images": str(pictures / "img"), "masks": str(masks)}
    config = Config.model_validate({"data": data})
    said = " ".join(map(str, collect(config.data, config.captions).problems))
    assert "its mask has 10 x 10 pixels, not 128 x 96: make them alike: left out" in said
    assert "2 of 2 pictures have no mask (0.png, 2.png): all of each counts" in said
    config = Config.model_validate({"data": {**data, "masks": str(tmp_path / "gone")}})
    with pytest.raises(FolderError, match=r"data.masks: .*gone cannot be opened"):
        collect(config.data, config.captions)


def test_a_masked_loss_the_long_way() -> None:
    torch.manual_seed(0)
    pred, target, mask = torch.randn(2, 4, 6, 5), torch.randn(2, 4, 6, 5), torch.rand(2, 1, 6, 5)
    found = per_sample_loss(pred, target, Objective().loss, torch.tensor([3, 9]), torch.rand(1000), mask)
    for b in range(2):
        total = 0.0
        for c in range(4):
            for y in range(6):
                for x in range(5):
                    total += float((pred[b, c, y, x] - target[b, c, y, x]) ** 2 * mask[b, 0, y, x])
        assert float(found[b]) == pytest.approx(total / (4 * 6 * 5), rel=1e-5)


def test_masks_change_what_is_learned(train: Train, images: Path, tmp_path: Path) -> None:
    for folder in sorted(images.iterdir()):
        (tmp_path / folder.name).mkdir()
        for picture in folder.glob("*.png"):
            Image.new("L", Image.open(picture).size, 0).save(tmp_path / folder.name / picture.name)
    black = train({"data": {"masks": str(tmp_path)}})
    steps = [event for event in black.events() if event["kind"] == "step"]
    assert [step["loss"] for step in steps] == [0.0, 0.0]  # nothing counts, so nothing is learned
    assert all(not tensor.any() for name, tensor in weights(black).items() if "lora_up" in name)


def test_masked_loss_of_a_kohya_file() -> None:
    def read(**keys: object) -> kohya.Reading:
        return kohya.read({"train_data_dir": "/img", "pretrained_model_name_or_path": "/m", **keys}, "k.json")

    bare = read(masked_loss=True)
    assert "data" not in bare.config_tree or "alpha_mask" not in bare.config_tree["data"]
    assert any("no masks are named" in line for line in bare.lines())
    both = read(masked_loss=True, additional_parameters="--alpha_mask --in_json=/meta.json")
    assert both.config_tree["data"]["alpha_mask"] is True and both.config_tree["data"]["metadata"] == "/meta.json"
    config = Config.model_validate({"data": {"alpha_mask": True, "metadata": "/meta.json"}})
    written = kohya.write(config)
    assert written["masked_loss"] is True and "--alpha_mask" in written["additional_parameters"]
    assert not kohya.lost(config)
    assert json.dumps(written)


# The prior without pictures


@pytest.mark.parametrize(
    ("caption", "words", "left"),
    [
        ("zk9, thing 0, red", "zk9 thing", "0, red"),
        ("a photo of ZK9 woman in a park", "zk9", "a photo of woman in a park"),
        ("zk9 woman", "zk9 woman", ""),
        ("zk99, red", "zk9", "zk99, red"),
    ],
)
def test_words_left_out(caption: str, words: str, left: str) -> None:
    assert without(caption, words) == left


def test_the_prior_is_the_base_model_s_own_view() -> None:
    """Loss = |pred - noise|^2 + weight |pred(bare) - base(bare)|^2, each a mean over channels and places."""
    family = build("sd15")
    network = attach(family, Config(network=Lora(rank=2, alpha=2)))
    torch.manual_seed(1)
    latents, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    said, bare = ["zk9, red", "zk9, blue"], ["red", "blue"]
    draws = Draws(latents, noise, torch.tensor([100, 700]), torch.ones(2), family.tokenize(said))
    asked = replace(draws, prior=family.tokenize(bare))
    network.train(False)
    objective = Objective(prior="trained", prior_weight=0.5)
    with torch.no_grad():
        alone, same = (micro_loss(family, network, one, objective)[1] for one in (draws, asked))
        assert torch.equal(alone, same)  # nothing is learned yet, so there is nothing to keep
        for name, parameter in enumerate(network.parameters()):
            torch.manual_seed(name)
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        network.ready()
        alone, kept = (micro_loss(family, network, one, objective)[1] for one in (draws, asked))
        noisy = family.noisy(latents, noise, draws.timesteps)
        learned = family.predict(noisy, draws.timesteps, family.encode_text(bare))
        with network.aside():
            base = family.predict(noisy, draws.timesteps, family.encode_text(bare))
    for b in range(2):
        spill = float(((learned[b] - base[b]) ** 2).sum()) / (4 * 8 * 8)
        assert spill > 1e-4
        assert float(kept[b] - alone[b]) == pytest.approx(0.5 * spill, rel=1e-3)


def test_the_prior_in_a_training(train: Train, images: Path) -> None:
    own: Tree = {"objective": {"prior": "trained"}}
    kept, other = (
        weights(train(change)) for change in (own, {"objective": {**own["objective"], "prior_words": "red"}})
    )
    assert any(not torch.equal(other[name], kept[name]) for name in kept)
    config = Config.model_validate(
        {"data": {"images": str(images)}, "objective": {"prior": "trained", "prior_words": "no"}}
    )
    with pytest.raises(PlanError, match=r"objective.prior: trained leaves the words out"):
        make_plan(config, collect(config.data, config.captions), "sd15")
    with pytest.raises(ValueError, match="takes the place of regularisation pictures"):
        Config.model_validate({"data": {"reg": str(images)}, **own})
