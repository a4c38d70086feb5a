"""Training of a model's own weights: what changes and what does not, and what the files hold."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.pictures import draw_folder
from tests.test_tools_convert import predicted
from tests.test_train import losses
from tests.tiny import build, tiny_family, tiny_file
from trainer import export
from trainer.config import Captions, Config, Model
from trainer.early import check_early
from trainer.errors import InputError
from trainer.families import FAMILIES, load_family
from trainer.families.detect import detect_base
from trainer.memory import estimate_memory
from trainer.networks import attach
from trainer.networks.full import FullNetwork, block_of
from trainer.optimizers import build as build_optimizer
from trainer.runfolder import RunFolder
from trainer.train import run

GOLDEN = [1.101539, 1.089315]
"""Losses of two steps of SD1.5's U-Net; processors round apart."""
PREFIX = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}


def options(base: Path, images: Path, **more: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "model": {"base": str(base)},
        "data": {"images": str(images), "resolution": 64, "buckets": None, "workers": 0},
        "network": {"type": "full_model"},
        "optimizer": {"type": "adamw", "lr": 1e-3},
        "train": {"steps": 2, "epochs": None, "batch": 2, "threads": 1, "device": "cpu"},
        "save": {"state_minutes": 0, "precision": "fp32", "every_epochs": None},
        "output": {"name": "zk9"},
    }
    for part, values in more.items():
        tree[part] = {**tree.get(part, {}), **values}
    return tree


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    draw_folder(folder / "img", {"2_zk9 thing": 4})
    for family in ("sd15", "sdxl wide"):
        tiny_file(family, folder)
    return folder


@pytest.fixture
def train(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunFolder]:
    monkeypatch.setenv("LIKENESS_HOME", str(place / "home"))

    def start(name: str, family: str, **more: Any) -> RunFolder:
        tree = options(place / f"{family}.safetensors", place / "img", **more)
        folder = RunFolder.create(place / name, Config.model_validate(tree))
        assert run(folder) == 0, folder.log.read_text()
        return folder

    return start


def as_ours(pipeline: Any, ours: Any) -> Any:
    """Models that diffusers has read; copied, for in a file they lie so that a processor rounds apart."""
    return type(ours)({name: copy.deepcopy(getattr(pipeline, name)) for name in ours.modules}, ours.settings)


def same(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() <= 1e-6 * other.norm())


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name].float(), after[name].float())}


def test_sd15_unet_alone_as_a_folder_too(train: Callable[..., RunFolder], place: Path) -> None:
    """The U-Net moves and nothing else, to the bit; fused steps give the same losses, to the bit, and a folder.

    diffusers makes the same of that folder, and of the file, as we do.
    """
    rates = {"text_encoder": None}
    freely = {"clip": None}
    one = train("one", "sd15", rates=rates, train=freely, output={"name": "zk9", "folder": str(place / "out")})
    assert losses(one) == pytest.approx(GOLDEN, rel=1e-4)
    file = one.checkpoints / "zk9.safetensors"
    moved = changed(load_file(place / "sd15.safetensors"), load_file(file))
    assert moved and all(name.startswith(PREFIX["unet"]) for name in moved)
    assert len(moved) > 600
    with safe_open(file, "pt") as opened:
        told = opened.metadata()
    assert told["modelspec.architecture"] == "stable-diffusion-v1" and "likeness_config" in told
    assert not any(key.startswith(("ss_", "sshs_")) for key in told)
    assert (place / "out" / "zk9.safetensors").samefile(file)

    network = {"type": "full_model", "form": "diffusers", "fused": True}
    two = train("two", "sd15", rates=rates, train=freely, network=network)
    assert losses(two) == losses(one)
    ours = load_family(Model(base=str(file)), torch.device("cpu"), torch.float32, Captions(), str)
    made = str(two.checkpoints / "zk9")
    for pipeline in (
        StableDiffusionPipeline.from_pretrained(made, safety_checker=None),
        StableDiffusionPipeline.from_single_file(
            str(file), config=made, local_files_only=True, safety_checker=None, torch_dtype=torch.float32
        ),
    ):
        assert same(predicted(as_ours(pipeline, ours)), predicted(ours))


def test_sdxl_text_encoders_alone_and_going_on_is_exact(train: Callable[..., RunFolder], place: Path) -> None:
    """The file loads; a training that is stopped and resumed ends where one ends that nobody disturbed."""
    network = {"type": "full_model", "average": 0.9}
    more = {"network": network, "rates": {"unet": None}, "train": {"precision": "bf16"}}
    calm = train("calm", "sdxl wide", **more).checkpoints / "zk9.safetensors"
    moved = changed(load_file(place / "sdxl wide.safetensors"), load_file(calm))
    assert all(name.startswith("conditioner.embedders.") for name in moved)
    assert {name.split(".")[2] for name in moved} == {"0", "1"}

    tree = options(place / "sdxl wide.safetensors", place / "img", **more)
    folder = RunFolder.create(place / "harried", Config.model_validate(tree))
    folder.send("pause")
    assert run(folder) == 0 and folder.state() == "stopped"
    assert run(folder) == 0 and folder.state() == "done"
    assert not changed(load_file(calm), load_file(folder.checkpoints / "zk9.safetensors"))
    family = load_family(Model(base=str(calm)), torch.device("cpu"), torch.float32, Captions(), str)
    assert predicted(family).isfinite().all()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Tiny models, each a copy of one that is loaded once."""
    loaded = {name: tiny_family(name, tmp_path_factory.mktemp(name)) for name in ("sd15", "sdxl wide")}
    return lambda name: type(loaded[name])(copy.deepcopy(loaded[name].modules), loaded[name].settings)


def stepped(family: Any, config: Config, steps: int = 2, of: int = 10) -> FullNetwork:
    """A network after steps on the sum of what its model says of fixed latents."""
    network = attach(family, config)
    assert isinstance(network, FullNetwork)
    optimizer = build_optimizer(config.optimizer, network.groups(config.rates, config.optimizer.lr))
    if network.options.fused:
        network.fuse(optimizer)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for step in range(steps):
        network.at(step, of)
        network.ready()
        said = family.predict(latents, torch.tensor([500]), family.encode_text(["zk9 woman"]))
        said.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        network.limit_norms()
    network.ready()
    return network


def config(**more: Any) -> Config:
    return Config.model_validate(options(Path("pocket"), Path("zk9"), **more))


ADAFACTOR = {"type": "adafactor", "lr": 1e-3, "scale_parameter": False, "warmup_init": False}


def test_fused_equals_not_fused(tiny: Callable[[str], Any]) -> None:
    """Bit for bit on the CPU: each weight's step knows nothing of the others."""
    train = {"clip": None, "precision": "bf16"}
    plain, fused = (
        stepped(tiny("sd15"), config(network={"type": "full_model", "fused": on}, train=train, optimizer=ADAFACTOR))
        for on in (False, True)
    )
    start = dict(tiny("sd15").unet.named_parameters())
    ours, theirs = plain.tensors(), fused.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(ours["unet/conv_in.weight"], start["conv_in.weight"])
    assert all(weight.master.dtype == torch.float32 for weight in fused.weights)
    assert all(weight.own.dtype == torch.bfloat16 for weight in fused.weights)
    assert all(torch.equal(weight.own, weight.master.to(weight.own.dtype)) for weight in fused.weights)


def test_full_bf16_has_no_masters(tiny: Callable[[str], Any]) -> None:
    family = tiny("sd15")
    for module in family.modules.values():
        module.bfloat16()
    network = stepped(family, config(train={"precision": "bf16", "full": True}), steps=1)
    assert all(weight.own is weight.master and weight.own.dtype == torch.bfloat16 for weight in network.weights)


def test_rates_of_blocks(tiny: Callable[[str], Any]) -> None:
    """23 of SDXL in sd-scripts' count; a block at 0 stays, one at a higher rate moves further."""
    family = tiny("sdxl wide")
    rates = [1e-4] * 23
    rates[0], rates[4], rates[22] = 0.0, 1e-2, 0.0
    before = copy.deepcopy(dict(family.unet.named_parameters()))
    network = stepped(family, config(network={"type": "full_model", "block_rates": rates}), steps=1)
    blocks = block_of(build("sdxl").unet)
    assert set(blocks.values()) == set(range(23))
    assert blocks["conv_in.weight"] == 1 and blocks["mid_block.resnets.0.norm1.weight"] == 10
    assert blocks["conv_out.bias"] == 22 and blocks["add_embedding.linear_1.weight"] == 0
    assert len(set(block_of(build("sd15").unet).values())) == 29
    moves = {name: (after - before[name]).abs().max() for name, after in family.unet.named_parameters()}
    for name, move in moves.items():
        rate = rates[blocks[name]]
        assert (move == 0) if not rate else (move <= rate * 1.05 and (move == 0 or move > rate * 0.5)), name
    named = {group["name"] for group in network.groups(config().rates, 1e-3)}
    assert "unet block 04" in named and "unet block 00" not in named and "text_encoder_2" in named


def test_text_encoders_stop(tiny: Callable[[str], Any]) -> None:
    family = tiny("sd15")
    network = stepped(family, config(network={"type": "full_model", "text_stop": "10%"}), steps=1)
    there = {name: tensor.clone() for name, tensor in network.tensors().items()}
    more = stepped(tiny("sd15"), config(network={"type": "full_model", "text_stop": "10%"}), steps=2).tensors()
    moved = changed(there, more)
    assert moved and all(name.startswith("unet/") for name in moved)
    assert any(name.startswith("text_encoder/") for name in changed(network_start(tiny), there))


def test_the_average_is_what_is_saved(place: Path, tiny: Callable[[str], Any], tmp_path: Path) -> None:
    """By its formula, of the weights before and after each step."""
    before, told = network_start(tiny), config(network={"type": "full_model", "average": 0.75})
    first, second = (stepped(tiny("sd15"), config(), steps).tensors() for steps in (1, 2))
    family = tiny("sd15")
    network = stepped(family, told)
    after = network.tensors()
    for name in before:
        average = 0.75 * (0.75 * before[name] + 0.25 * first[name]) + 0.25 * second[name]
        torch.testing.assert_close(after[f"average/{name}"], average, rtol=0, atol=1e-6)
        assert torch.equal(after[name], second[name])
    on_disk = Config.model_validate(options(place / "sd15.safetensors", place, network=told.network.model_dump()))
    file = load_file(export.save_model(tmp_path / "zk9.safetensors", on_disk, family, network, {}))
    assert torch.equal(file[f"{PREFIX['unet']}out.2.weight"], after["average/unet/conv_out.weight"])
    assert not torch.equal(after["average/unet/conv_out.weight"], second["unet/conv_out.weight"])


def network_start(tiny: Callable[[str], Any]) -> dict[str, Tensor]:
    return attach(tiny("sd15"), config()).tensors()


@pytest.mark.parametrize(("average", "precision"), [(None, "bf16"), (0.5, "no")])
def test_aside_eval_and_back(average: float | None, precision: str, tiny: Callable[[str], Any]) -> None:
    """Aside the model is what it was, in eval mode what is saved, and afterwards what it was trained to, to the bit."""
    family = tiny("sd15")
    lowered = family.unet.conv_in.weight.detach().to(torch.bfloat16 if precision == "bf16" else torch.float32).clone()
    told = config(
        network={"type": "full_model", "average": average}, objective={"prior": "model"}, train={"precision": precision}
    )
    network = stepped(family, told)
    weight = family.unet.conv_in.weight
    trained = weight.detach().clone()
    average_now = network.tensors().get("average/unet/conv_in.weight", trained).to(weight.dtype)
    assert torch.equal(average_now, trained) is (average is None)
    network.eval()
    assert torch.equal(weight, average_now)
    with network.aside():
        network.ready()
        assert torch.equal(weight, lowered)
    assert torch.equal(weight, average_now)
    network.train()
    assert torch.equal(weight, trained)
    with pytest.raises(InputError, match=r"objective\.prior"), attach(tiny("sd15"), config()).aside():
        pass


def test_aside_between_forward_and_backward(tiny: Callable[[str], Any]) -> None:
    """The model's own prediction as a target leaves no trace in the gradients, though autograd has kept the weights."""
    grads = []
    for looks_aside in (False, True):
        family = tiny("sd15")
        network = attach(family, config(objective={"prior": "model"}))
        said = family.predict(torch.ones(1, 4, 8, 8), torch.tensor([9]), family.encode_text(["zk9"]))
        if looks_aside:
            with torch.no_grad(), network.aside():
                family.predict(torch.ones(1, 4, 8, 8), torch.tensor([9]), family.encode_text(["zk9"]))
        said.square().mean().backward()
        grads.append([weight.grad for weight in network.parameters() if weight.grad is not None])
    assert all(torch.equal(one, two) for one, two in zip(*grads, strict=True))


def test_what_would_be_lost_is_refused(place: Path, tmp_path: Path) -> None:
    """The base model under the finished one's name, and a folder of something else."""
    base = tiny_file("sd15", tmp_path)
    (tmp_path / "zk9").mkdir()
    for name, form, words in (
        ("sd15", "safetensors", "is the base model"),
        ("zk9", "diffusers", "no diffusers folder"),
    ):
        network = {"type": "full_model", "form": form}
        told = Config.model_validate(
            options(base, place / "img", network=network, output={"name": name, "folder": str(tmp_path)})
        )
        with pytest.raises(InputError, match=words):
            check_early(told, detect_base(told.model))


@pytest.mark.parametrize("family", ["sd15", "sdxl wide"])
def test_export_of_an_untrained_model_is_the_model(family: str, place: Path, tiny: Any, tmp_path: Path) -> None:
    """To the bit."""
    base = place / f"{family}.safetensors"
    told = Config.model_validate(options(base, place, save={"precision": "fp16"}))
    model = tiny(family)
    network = attach(model, told)
    assert isinstance(network, FullNetwork)
    made = export.save_model(
        tmp_path / "zk9.safetensors", told, model, network, {"ss_steps": "1", "modelspec.title": "zk9"}
    )
    before, after = load_file(base), load_file(made)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_diffusers_reads_a_trained_sdxl(place: Path, tiny: Any, tmp_path: Path) -> None:
    """Folder and single file: what both text encoders and the U-Net say is what the trained model in memory says."""
    base = place / "sdxl wide.safetensors"
    told = [
        Config.model_validate(options(base, place, network={"type": "full_model", "form": form}))
        for form in ("diffusers", "safetensors")
    ]
    model = tiny("sdxl wide")
    untrained = model.encode_text(["zk9 woman"]), predicted(model)
    network = stepped(model, told[0], steps=1)
    text, prediction = model.encode_text(["zk9 woman"]), predicted(model)
    folder, file = (str(export.save_model(tmp_path / "zk9.safetensors", one, model, network, {})) for one in told)
    for pipeline in (
        StableDiffusionXLPipeline.from_pretrained(folder),
        StableDiffusionXLPipeline.from_single_file(
            file, config=folder, local_files_only=True, torch_dtype=torch.float32
        ),
    ):
        theirs = as_ours(pipeline, model)
        read = theirs.encode_text(["zk9 woman"])
        for key in ("states", "pooled"):
            assert same(read[key], text[key]) and not same(read[key], untrained[0][key])
        assert same(predicted(theirs), prediction) and not same(prediction, untrained[1])


def test_a_weight_that_is_not_finite_is_not_saved(place: Path, tiny: Any, tmp_path: Path) -> None:
    told = Config.model_validate(options(place / "sd15.safetensors", place))
    model = tiny("sd15")
    network = attach(model, told)
    assert isinstance(network, FullNetwork)
    network.weights[0].master.data[0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        export.save_model(tmp_path / "zk9.safetensors", told, model, network, {})
    assert not (tmp_path / "zk9.safetensors").exists()


def test_older_folders_go(tmp_path: Path) -> None:
    """Only folders that were made here, by this name."""
    for age, name in enumerate(("zk9-000001", "zk9-000002", "zk9-mine", "other-000001", "zk9-step00000003")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text("{}")
        os.utime(tmp_path / name, (age, age))
    (tmp_path / "zk9-000004").mkdir()  # not a model: somebody's own folder
    assert set(export.prune(tmp_path, "zk9", 1)) == {"zk9-000001", "zk9-000002"}
    left = {"zk9-000004", "zk9-mine", "other-000001", "zk9-step00000003"}
    assert {path.name for path in tmp_path.iterdir()} == left


FUSED = {"network": {"type": "full_model", "fused": True}, "train": {"clip": None}}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"train": {"accumulate": 2}}, "accumulate"),
        ({"train": {"clip": 1.0}}, "clip"),
        ({"train": {"precision": "fp16"}}, "fp16"),
        ({"optimizer": {"type": "prodigy", "lr": 1.0}}, "prodigy"),
        ({"train": {"processes": 2}}, "processes"),
    ],
)
def test_what_cannot_be_fused(more: dict[str, Any], words: str) -> None:
    merged = {part: {**FUSED.get(part, {}), **more.get(part, {})} for part in {*FUSED, *more}}
    config(**FUSED)
    with pytest.raises(ValidationError, match=words):
        config(**merged)


def test_the_wrong_number_of_blocks_is_told_before_anything_is_loaded(place: Path) -> None:
    tree = options(
        place / "sdxl wide.safetensors", place / "img", network={"type": "full_model", "block_rates": [1e-5] * 22}
    )
    told = Config.model_validate(tree)
    with pytest.raises(InputError, match=r"22 rates.*23 blocks"):
        check_early(told, detect_base(told.model))


def test_memory_of_a_full_training() -> None:
    """Bytes by arithmetic, of SDXL's U-Net."""

    def need(**more: Any) -> dict[str, int]:
        rates = {"text_encoder": None, "text_encoder_2": None}
        return estimate_memory(config(rates=rates, **more), "sdxl", 1024 * 1024)

    count = FAMILIES["sdxl"].counts.unet
    model = {"model": {"base": "sdxl.safetensors"}}
    plain = need(**model, train={"precision": "bf16"})
    assert plain["gradients and masters"] == count * 8 and plain["optimizer"] == count * 8
    lean = need(
        **model,
        network={"type": "full_model", "fused": True},
        optimizer=ADAFACTOR,
        train={"precision": "bf16", "full": True, "clip": None},
    )
    assert "gradients and masters" not in lean and lean["optimizer"] < count // 50
    average = need(**model, train={"precision": "bf16"}, network={"type": "full_model", "average": 0.99})
    assert average["gradients and masters"] == count * 12
