"""Small and waiting weights compute what whole ones do; fit to my card finds what is needed, and says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from tests.conftest import Train, Tree
from tests.test_train import weights
from tests.tiny import build
from trainer import early, kohya, thrift
from trainer.__main__ import main
from trainer.config import Config, Memory
from trainer.configio import load
from trainer.errors import InputError
from trainer.families import FAMILIES, family_class
from trainer.families.detect import detect
from trainer.families.loading import SHIPPED
from trainer.fit import Reading, fit
from trainer.ladder import advice, step_down
from trainer.memory import estimate_memory
from trainer.networks import attach
from trainer.packed import PACKED, blocks_of
from trainer.report import Report
from trainer.runfolder import RunFolder
from trainer.several import Group
from trainer.terminal import Wish
from trainer.thrift import BODY, Ferry, ThriftyWeight, activations_wait, largest_blocks, pack, save_memory
from trainer.train import rehearse, train
from trainer.tree import overlay
from trainer.work import Work, at_hand

CPU = torch.device("cpu")
ROUNDED = {"same": 0.0, "int8": 0.012, "fp8": 0.03, "nf4": 0.11}
"""What packing may change, as a share of the weights' own spread."""
WAITING = {"offload_activations": True}
UNET_ALONE: Tree = {"rates": {"text_encoder": None, "text_encoder_2": None}}


# One layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ROUNDED)
def test_a_packed_layer_is_one_with_the_rounded_weights(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    shapes: list[tuple[Any, Tensor]] = [
        (nn.Linear(24, 20), torch.randn(2, 5, 24)),
        (nn.Conv2d(8, 6, 3, padding=1).to(memory_format=torch.channels_last), torch.randn(2, 8, 9, 9)),
    ]
    for layer, x in shapes:
        layer.to(dtype).requires_grad_(False)
        first = layer.weight.detach().float()
        packed = pack(layer.weight, kind, CPU, Ferry(CPU) if kind == "same" else None)
        assert (packed.whole().float() - first).std() <= ROUNDED[kind] * first.std()
        results = []
        for weight in (packed, packed.whole()):
            layer.weight = nn.Parameter(weight, False)
            given = x.to(dtype).requires_grad_()
            out = layer(given)
            out.square().sum().backward()
            results.append((out, given.grad))
        assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_fp8_uses_its_range() -> None:
    weight = torch.randn(64, 64) * 0.004  # most of it below the steps of plain e4m3
    plain = weight.to(torch.float8_e4m3fn).float()
    scaled = pack(weight, "fp8", CPU, None).whole()
    assert (scaled - weight).std() < 0.3 * (plain - weight).std()
    assert torch.equal(pack(torch.zeros(4, 4), "fp8", CPU, None).whole(), torch.zeros(4, 4))


def test_it_moves_as_any_weight_and_is_whole_for_whoever_asks() -> None:
    layer = nn.Sequential(nn.Linear(8, 8).bfloat16()).requires_grad_(False)
    layer[0].weight = nn.Parameter(pack(layer[0].weight, "fp8", CPU, None), False)
    weight: Any = layer.to("meta")[0].weight
    assert isinstance(weight, ThriftyWeight) and weight.device.type == weight.pieces[0].device.type == "meta"
    waiting = pack(torch.randn(8, 8), "same", CPU, Ferry(CPU))
    assert isinstance(waiting.t(), ThriftyWeight) and torch.equal(waiting.t() + 0, waiting.whole().t())
    assert type(pack(torch.randn(8, 8).half(), "nf4", CPU, None).float()) is Tensor


# A model with a network


def a_step(memory: Tree, checkpointing: bool = False, waits: bool = False) -> tuple[Any, ...]:
    """(what save_memory did, the family, loss, gradients, moves in a forward pass, moves in all)."""
    family: Any = build("sd15")
    if checkpointing:
        family.enable_checkpointing()
    done = save_memory(family, Memory.model_validate(memory), CPU)
    config = Config.model_validate(overlay(UNET_ALONE, {"network": {"rank": 2}}))
    network: Any = attach(family, config)
    for name, layer in network.layers.items():
        nn.init.normal_(layer.up, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    network.ready()
    generator = torch.Generator().manual_seed(3)
    latents, states = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, 32, generator=generator)
    moves: list[int] = []

    def predict() -> Tensor:
        return family.predict(latents, torch.tensor([10, 900]), {"states": states}).square().mean()

    with torch.no_grad():
        predict()
    once = done.ferry.moves
    if waits:
        with activations_wait(family, CPU, smallest=0) as moves:
            loss = predict()
    else:
        loss = predict()
    loss.backward()
    grads = [weight.grad for weight in network.parameters()]
    return done, family, loss, grads, once, done.ferry.moves - once, moves


@pytest.fixture(scope="module")
def plain() -> tuple[Any, ...]:
    return a_step({})


def equal(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    return torch.equal(one[2], two[2]) and all(map(torch.equal, one[3], two[3]))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_weights_and_activations_that_wait_change_nothing_and_every_move_is_counted(
    plain: Any, checkpointing: bool
) -> None:
    found = a_step({"swap": 100}, checkpointing, waits=True)
    done, family, *_, forward, both, moves = found
    layers = [
        layer
        for block in largest_blocks(family.unet)
        for layer in block.modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    assert equal(plain, found)
    assert done.waiting == len(layers) == forward  # each once, and gone again
    assert forward < both <= forward * (3 if checkpointing else 2)
    assert len(moves) > (10 if checkpointing else 500)


def test_a_model_of_small_weights_is_the_model_of_the_rounded_ones(plain: Any) -> None:
    found = a_step({"base_weights": "nf4", "swap": 5}, checkpointing=True)
    done, family = found[:2]
    bodies = [
        layer
        for part in family.parts.values()
        for path, layer in part.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and path.startswith(BODY)
    ]
    assert done.small == len(bodies) and all(layer.weight.how.kind == "nf4" for layer in bodies)
    assert 0 < done.waiting < done.small
    assert not isinstance(family.unet.conv_in.weight, ThriftyWeight)
    assert not torch.equal(found[2], plain[2]) and torch.isclose(found[2], plain[2], rtol=0.2)
    rounded: Any = build("sd15")
    with torch.no_grad():
        for part, small in zip(rounded.parts.values(), family.parts.values(), strict=True):
            for layer, packed in zip(part.modules(), small.modules(), strict=True):
                if isinstance(getattr(packed, "weight", None), ThriftyWeight):
                    layer.weight.copy_(packed.weight.whole())
    latents, states = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 32)
    with torch.no_grad():
        ours, theirs = (one.unet(latents, torch.tensor([10]), states).sample for one in (plain_of(family), rounded))
    assert torch.equal(ours, theirs)


def plain_of(family: Any) -> Any:
    """The model without its network."""
    for module in family.unet.modules():
        vars(module).pop("forward", None)
    return family


# Whole trainings


def test_a_training_stays_the_same_to_the_bit(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of LyCORIS's networks; above it was a LoRA."""
    monkeypatch.setattr(thrift, "SMALLEST", 0)
    plain = {**UNET_ALONE, "network": {"type": "loha"}}
    one, two = (weights(train({**plain, "memory": memory})) for memory in ({}, {"swap": 100, **WAITING}))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# What is refused


def test_what_does_not_go_together_is_said_early(monkeypatch: pytest.MonkeyPatch, bases: dict[str, Path]) -> None:
    def config(**options: Any) -> Config:
        return Config.model_validate({"model": {"base": str(bases["sd15"])}, **options})

    with pytest.raises(ValueError, match="fp8 is for mixed precision"):
        config(memory={"base_weights": "fp8"})
    with pytest.raises(ValueError, match=r"network\.type full_model trains them"):
        config(memory={"swap": 3}, network={"type": "full_model"})
    small, found = config(memory={"base_weights": "nf4"}), detect(bases["sd15"])
    monkeypatch.setattr(early, "on_mps", lambda train: True)
    with pytest.raises(InputError, match="nf4 does not run on a Mac's GPU: set it to same"):
        early.check_early(small, found)
    monkeypatch.setattr(early, "find_spec", lambda name: name != "bitsandbytes" or None)
    with pytest.raises(InputError, match="nf4 needs the package bitsandbytes"):
        early.check_early(small, found)


def test_fp8_base_of_the_kohya_gui() -> None:
    tree = kohya.read({"LoRA_type": "Standard", "fp8_base": True, "mixed_precision": "bf16"}, "x.json").config_tree
    assert tree["memory"] == {"base_weights": "fp8"}
    config = Config.model_validate({"memory": {"base_weights": "fp8"}, "train": {"precision": "bf16"}})
    assert kohya.write(config)["fp8_base"] is True
    assert "memory.base_weights 'nf4'" in kohya.lost(Config.model_validate({"memory": {"base_weights": "nf4"}}))


# The estimate


@pytest.mark.parametrize("family", PACKED)
def test_the_estimate_counts_what_is_packed(family: str) -> None:
    kind = family_class(family)
    found: dict[str, Any] = {}
    for part in (name for name in kind.LAYOUT if name != "vae"):
        config = json.loads((SHIPPED / family / part / "config.json").read_text("utf-8"))
        with init_empty_weights(include_buffers=False):
            found[part] = kind.LAYOUT[part].build(config)

    def count(model: nn.Module, within: str | tuple[str, ...]) -> int:
        layers = [layer for path, layer in model.named_modules() if path.startswith(within)]
        return sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d))

    packed = PACKED[family]
    assert [count(model, BODY) for model in found.values()] == [packed.unet, *packed.text]
    assert [count(block, "") for block in largest_blocks(found["unet"])] == [
        size for size, times in packed.blocks for _ in range(times)
    ]


def test_the_estimate_follows_each_option() -> None:
    def unet(**memory: Any) -> dict[str, int]:
        tree = {"model": {"base": "x.safetensors"}, "train": {"precision": "bf16"}, "memory": memory}
        return estimate_memory(Config.model_validate(tree), "sdxl", 1024 * 1024)

    sizes = {kind: unet(base_weights=kind)["UNet"] / 1e9 for kind in ("same", "fp8", "int8", "nf4")}
    assert sizes == pytest.approx({"same": 5.13, "fp8": 2.58, "int8": 2.58, "nf4": 1.46}, abs=0.01)
    assert unet(base_weights="nf4")["text encoders"] < 0.45 * unet()["text encoders"]
    assert unet(swap=87)["UNet"] < 0.15e9 < unet(swap=40)["UNet"] < unet()["UNet"]
    assert unet(swap=87, base_weights="fp8")["UNet"] < unet(swap=40, base_weights="fp8")["UNet"]
    assert "activations" not in unet(offload_activations=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_presets_of_each_family(family: str) -> None:
    sums = []
    for name in ("light", "balanced", "fast"):
        config = load(f"{family}-{name}", ["model.base=x.safetensors"])
        assert config.about
        side = FAMILIES[family].side
        sums.append(sum(estimate_memory(config, family, side * side).values()))
    assert sums == sorted(sums) and len({*sums}) == 3


# Fit to my card


def test_the_ladder_ends_and_each_step_asks_for_less(bases: dict[str, Path]) -> None:
    found = detect(bases["sdxl"])
    start = {"model": {"base": str(bases["sdxl"])}, "train": {"batch": 6, "attention": "none", "precision": "bf16"}}
    config = Config.model_validate(overlay(overlay(start, UNET_ALONE), {"optimizer": {"type": "adamw", "lr": 3e-4}}))
    taken: list[str] = []
    with pytest.raises(InputError, match="does not fit with everything that saves memory turned on: lower data"):
        while True:
            rung, lower = step_down(config, found)
            before, after = (sum(estimate_memory(one, "sdxl", 1024**2).values()) for one in (config, lower))
            assert after < before
            assert lower.train.batch * lower.train.accumulate == 6 and lower.optimizer.lr == 3e-4
            taken, config = [*taken, *rung], lower
    assert taken == [
        *("train.attention=sdpa", "train.checkpointing=true", "data.cache_text=true"),
        *("train.batch=3", "train.accumulate=2", "train.batch=1", "train.accumulate=6"),
        *("optimizer.type=adamw8bit", "optimizer.lr=0.0003"),
        *("memory.offload_activations=true", "memory.swap=43", "memory.base_weights=fp8"),
        *(f"memory.swap={blocks_of('sdxl')}", "memory.base_weights=nf4"),
    ]
    varied = Config.model_validate(overlay(start, {"captions": {"shuffle": True}, "train": {"attention": "sdpa"}}))
    assert advice(varied, found) == "set train.checkpointing to true"


def test_fit_turns_on_what_is_needed_and_keeps_it(small: Tree, tmp_path: Path) -> None:
    config = Config.model_validate(overlay(small, {"train": {"batch": 2, "steps": 1}, "memory": {"fit": True}}))
    folder = RunFolder.create(tmp_path / "runs", config)
    tried: list[Config] = []

    def gauge(work: Work) -> Reading:
        """A card on which a batch of one fits, with checkpointing."""
        on = work.config.train
        return Reading(peak=(8 if on.checkpointing else 12) * on.batch, room=9)

    def rehearsed(work: Work) -> None:
        tried.append(work.config)
        if work.config.train.batch == 1:
            rehearse(work)
        elif work.config.train.checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with folder.owned():
        report = Report(folder)
        work = fit(folder, report, (), Group(), rehearsed, gauge)
        assert [(one.train.checkpointing, one.train.batch) for one in tried] == [(False, 2), (True, 2), (True, 1)]
        assert work.rehearsal is not None and work.config.train.accumulate == 2
        train(work, Wish())
    told = [event["text"] for event in folder.events() if event["kind"] == "warning" and "to fit" in event["text"]]
    assert told == [
        "to fit this card: train.checkpointing is now true (a step takes 0.0 GB, and 0.0 GB are free)",
        "to fit this card: train.batch is now 1 and train.accumulate is now 2"
        " (CUDA out of memory. Tried to allocate 20.00 MiB)",
    ]
    again = RunFolder(folder.path)
    assert again.state() == "done" and again.config() == work.config
    assert json.loads((folder.path / "config.json").read_text())["train"]["batch"] == 2
    with pytest.raises(InputError, match=r"memory\.fit measures one GPU"):
        fit(RunFolder.create(tmp_path / "runs", config), report, (), Group(size=2), rehearse, gauge)


def test_fit_is_a_word_of_the_command_line(
    small: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr("trainer.train.run", lambda folder: seen.append(folder.config().memory.fit) or 0)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(small))
    words = ["train", str(file), "--runs", str(tmp_path / "runs")]
    assert [main(words), main([*words, "--fit"])] == [0, 0] and seen == [False, True]
    assert main(["train", "--run", str(next((tmp_path / "runs").iterdir())), "--fit"]) == 2
    assert "--fit: a run that goes on keeps the settings" in capsys.readouterr().err


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("memory", [{"swap": 100}, {"base_weights": "nf4"}, {"base_weights": "int8", "swap": 5}])
def test_on_a_gpu_weights_wait_in_main_memory_and_compute_the_same(memory: Tree) -> None:
    device, results = torch.device("cuda"), []
    family: Any = build("sd15")
    saved = save_memory(family, Memory.model_validate(memory), device)
    whole: Any = build("sd15").unet.to(device)
    for layer, packed in zip(whole.modules(), family.unet.modules(), strict=True):
        weight = getattr(packed, "weight", None)
        if isinstance(weight, ThriftyWeight):
            layer.weight = nn.Parameter(weight.whole(), False)
            assert all((piece.device.type == "cpu") == bool(weight.how.ferry) for piece in weight.pieces)
    for unet in (family.unet, whole):
        unet.enable_gradient_checkpointing()
        latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(device).requires_grad_()
        states = torch.ones(1, 77, 32, device=device)
        with activations_wait(family, device, smallest=0):
            out = unet.train()(latents, torch.tensor([10], device=device), states).sample
        out.square().sum().backward()
        results.append((out, latents.grad))
    assert all(torch.allclose(one, two, rtol=1e-6, atol=1e-6) for one, two in zip(*results, strict=True))
    assert saved.ferry.moves or not saved.waiting


@pytest.mark.gpu
def test_on_a_gpu_what_is_cached_leaves_the_card_but_for_samples(train: Train) -> None:
    seen: list[list[str]] = []
    folder = train(
        {
            **UNET_ALONE,
            "train": {"device": "cuda"},
            "data": {"cache_text": True},
            "sample": {"prompts": ["zk9 --w 64 --h 64 --s 2"], "every_steps": 1},
        }
    )
    work = fit(RunFolder.create(folder.path.parent, folder.config()), Report(folder), (), Group(), rehearse)
    parts = (work.family.vae, *work.family.text_encoders)
    seen.append([part.device.type for part in parts])
    with at_hand(work):
        seen.append([part.device.type for part in parts])
    assert seen == [["cpu", "cpu"], ["cuda", "cuda"]] and work.family.unet.device.type == "cuda"
    assert list(folder.samples.iterdir())
