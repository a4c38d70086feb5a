"""Networks of LyCORIS, LoRA-FA, and blocks: parity with the library, training, files, resume, sizes, who reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import peft
import pytest
import torch
from diffusers import DDIMScheduler
from lycoris.modules import get_module, make_module
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize

from tests.conftest import Train, Tree
from tests.shapes import rows
from tests.tiny import build
from trainer import readers
from trainer.blocks import BLOCKS, block_of, sizes, weights
from trainer.config import Config, Lora, LoraFa, Network
from trainer.errors import InputError
from trainer.families import FAMILIES, family_class
from trainer.families.loading import SHIPPED
from trainer.filters import filter_of, read_filter
from trainer.kohya.networks import TYPES, arguments_of, kind_of, module_of
from trainer.networks import attach
from trainer.networks.base import Exact
from trainer.networks.chosen import chosen
from trainer.networks.keys import kohya_name
from trainer.networks.lora_file import NetworkError
from trainer.networks.lycoris import LycorisNetwork
from trainer.networks.lycoris_layer import LycorisLayer
from trainer.runfolder import RunFolder
from trainer.shapes import Row, layers_of, size_of, trained_layers
from trainer.step import Draws, micro_loss
from trainer.train import run
from trainer.tree import members

UNET = {"unet": "same", "text_encoder": None, "text_encoder_2": None}
KINDS: dict[str, Tree] = {
    "lora_fa": {"rank": 2, "alpha": 1, "rank_dropout": 0.1},
    "ia3": {},
    "boft": {"rank": 4, "rescaled": True, "module_dropout": 0.1},
    "diag_oft": {"rank": 4, "constraint": 0.01, "rescaled": True, "module_dropout": 0.1},
    "dylora": {"rank": 4, "alpha": 2, "conv_rank": 4, "unit": 2},
    "glora": {"rank": 2, "alpha": 1, "module_dropout": 0.1},
    "locon": {"rank": 2, "alpha": 1, "conv_rank": 3, "tucker": True, "dora": True, "scalar": True, "rank_dropout": 0.1},
    "loha": {"rank": 2, "alpha": 1, "conv_rank": 2, "tucker": True, "scalar": True, "max_norm": 0.05},
    "lokr": {"rank": 1, "alpha": 1, "factor": 4, "decompose_both": True, "dora": True, "rank_dropout": 0.1},
    "native": {"train_norm": True, "rank_dropout": 0.1},
}
"""Every new type, with options that change how it computes."""
PEFT = {
    "lora_down.weight": "lora_A",
    "lora_up.weight": "lora_B",
    "dora_scale": "lora_magnitude_vector",
    "weight": "ia3_l",
}
"""peft's names of matrices."""
LINEAR, CONV = {"preset": "attn-only"}, {"preset": "unet-convblock-only"}
FILES: dict[str, list[tuple[str, Tree]]] = {
    "LoRA, LoRA-FA, LoCon, DyLoRA": [("locon", LINEAR), ("dylora", {**LINEAR, "rank": 4, "unit": 2})],
    "… with DoRA": [("locon", {**LINEAR, "dora": True})],
    "… with Tucker": [("locon", {**CONV, "tucker": True})],
    "LoHa": [("loha", LINEAR)],
    "LoKr": [("lokr", LINEAR)],
    "LoHa, LoKr with DoRA": [("loha", {**LINEAR, "dora": True}), ("lokr", {**LINEAR, "dora": True})],
    "GLoRA": [("glora", LINEAR)],
    "(IA)³": [("ia3", LINEAR)],
    "Diag-OFT": [("diag_oft", {**LINEAR, "rank": 4})],
    "BOFT": [("boft", {**LINEAR, "rank": 4})],
    "Native fine-tuning": [("native", LINEAR)],
    "Norms (train_norm)": [("locon", {**CONV, "train_norm": True})],
}
"""Files for each row of the table of who loads what."""
CONVOLVED = ("locon", "loha", "native")
"""Types whose options are for convolutions."""
GOLDEN = Path(__file__).parent / "golden" / "networks.json"


def config(kind: str, family: str = "sd15", **more: Any) -> Config:
    rates = UNET if more.pop("unet_only", False) else {}
    return Config.model_validate({"network": {"type": kind, **more}, "rates": rates})


@pytest.fixture
def shaken() -> Callable[..., Any]:
    """A network on a model with weights that are not at rest."""

    def make(family: Any, made: Config, by: float = 0.02) -> Any:
        network = attach(family, made)
        draws = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in network.parameters():
                weight += by * torch.randn(weight.shape, generator=draws)
        network.ready()
        return network

    return make


@pytest.fixture(scope="module")
def model() -> Any:
    return build("sd15")


@pytest.fixture(scope="module")
def sdxl() -> Any:
    return build("sdxl")


# The library's own numbers


def some(network: Any) -> dict[str, LycorisLayer]:
    """A linear layer, a 1x1 and a 3x3 convolution, and a norm, as far as there are any."""
    found: dict[Any, tuple[str, LycorisLayer]] = {}
    for name, layer in network.layers.items():
        frozen = layer.frozen[0]
        found.setdefault((type(frozen), getattr(frozen, "kernel_size", None)), (name, layer))
    return dict(found.values())


def tried(network: Any) -> tuple[dict[str, Tensor], list[tuple[str, Any, Tensor]]]:
    """A network's file, and the names, frozen layers and answers of some of its layers; it is taken off the model."""
    network.eval()
    layers = [(name, layer.frozen[0], layer(inputs(layer.frozen[0]))) for name, layer in some(network).items()]
    network.detach()
    assert {type(frozen) for _, frozen, _ in layers} == {nn.Linear, nn.Conv2d}
    return network.tensors(), layers


def inputs(layer: nn.Module) -> Tensor:
    draws = torch.Generator().manual_seed(3)
    if isinstance(layer, nn.Conv2d):
        return torch.randn(2, layer.in_channels, 6, 6, generator=draws)
    if isinstance(layer, nn.GroupNorm):
        return torch.randn(2, layer.num_channels, 4, 4, generator=draws)
    return torch.randn(2, 5, layer.weight.shape[-1], generator=draws)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lora_fa"])
def test_files_compute_what_the_library_computes(
    kind: str, model: Any, shaken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its module made from our file's tensors gives what ours gives; a DyLoRA is read as the LoRA that it is.

    Our own network takes its file back, and is as large as it was estimated without a model.
    """
    made = config(kind, **KINDS[kind])
    network = shaken(model, made).eval()
    try:
        tensors, layers = network.tensors(), some(network)
        ours = {name: layer(inputs(layer.frozen[0])) for name, layer in layers.items()}
        with torch.no_grad():
            for weight in network.parameters():
                weight.zero_()
        network.load(tensors)
        again = network.tensors()
    finally:
        network.detach()
    assert counted(network, made, model, monkeypatch)
    assert all(torch.allclose(tensors[key], again[key], rtol=1e-6, atol=1e-7) for key in tensors)
    for name, layer in layers.items():
        frozen = layer.frozen[0]
        found, parts = get_module(tensors, name)
        if kind == "ia3":  # the library forgets which side its own file scales
            theirs = type(layer.module)(name, frozen, train_on_input=True)
            theirs.weight.data.copy_(tensors[f"{name}.weight"])
        else:
            theirs = make_module(found, parts, name, frozen)
        torch.testing.assert_close(ours[name], theirs.eval()(inputs(frozen)), rtol=1e-4, atol=1e-5)


def test_peft_computes_the_same(model: Any, shaken: Any) -> None:
    """LoHa, LoKr, DoRA and (IA)3 of peft with our matrices; its LoKr multiplies in the same order."""
    here: Any = {"target_modules": ["layer"]}
    for kind, options, told in (
        ("loha", {"rank": 3, "alpha": 2}, peft.LoHaConfig(r=3, alpha=2, **here)),
        ("lokr", {"rank": 1, "alpha": 2, "factor": 2}, peft.LoKrConfig(r=1, alpha=2, decompose_factor=2, **here)),
        ("locon", {"rank": 3, "alpha": 2, "dora": True}, peft.LoraConfig(r=3, lora_alpha=2, use_dora=True, **here)),
        ("ia3", {}, peft.IA3Config(feedforward_modules=["layer"], **here)),
    ):
        tensors, layers = tried(shaken(model, config(kind, unet_only=True, **options)))
        for name, frozen, ours in layers:
            wrapped = peft.get_peft_model(nn.ModuleDict({"layer": frozen}), told)
            theirs: Any = wrapped.base_model.model["layer"]
            for key in tensors.keys() - {f"{name}.alpha", f"{name}.on_input"}:
                if key.startswith(f"{name}."):
                    own = key.removeprefix(f"{name}.")
                    home = getattr(theirs, PEFT.get(own, own))["default"]
                    home = home.weight if isinstance(home, nn.Module) else home
                    home.data = tensors[key].view(home.shape) + (kind == "ia3")  # ours is added to a factor of 1
            said = theirs.eval()(inputs(frozen))
            assert (said - ours).norm() <= 1e-6 * said.norm(), (kind, name)


@pytest.mark.parametrize("kind", ["diag_oft", "boft"])
def test_peft_turns_alike_but_on_the_other_side(
    kind: str, model: Any, shaken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a layer W ours is s R W, peft's OFT is W R, and its BOFT s W R, so that no matrices of peft's are ours.

    Whatever R and s are, theirs keeps the angles between W's rows; ours does not. The rotation is the same: peft's of
    the transposed layer is ours, block by block and butterfly by butterfly.
    """
    # In place of a kernel for GPUs, without which peft would have one factor alone: blocks along a diagonal.
    diagonals = SimpleNamespace(forward=lambda factors: [torch.stack([torch.block_diag(*one) for one in factors])])
    monkeypatch.setattr("peft.tuners.boft.layer._FBD_CUDA", diagonals)
    tensors, layers = tried(shaken(model, config(kind, rank=4, rescaled=True, unet_only=True), by=0.2))
    for name, frozen, ours in layers:
        weight, blocks = frozen.weight.detach().flatten(1), tensors[f"{name}.oft_blocks"]
        turned = turned_by_peft(weight.T, blocks).T * tensors[f"{name}.rescale"].flatten(1)
        said = functional_call(frozen, {"weight": turned.view_as(frozen.weight)}, inputs(frozen))
        assert (said - ours).norm() <= 1e-6 * said.norm()
        before, after = (normalize(rows) @ normalize(rows).T for rows in (weight, turned))
        assert (before.abs() - after.abs()).abs().max() > 0.1


def turned_by_peft(weight: Tensor, blocks: Tensor) -> Tensor:
    """The weight of a layer after peft's OFT or, where blocks have a fourth dimension, BOFT of ours."""
    size = blocks.shape[-1]
    layer = nn.Linear(*weight.T.shape, bias=False)
    layer.weight = nn.Parameter(weight.clone())
    told: Any = peft.OFTConfig(r=0, oft_block_size=size, use_cayley_neumann=False, target_modules=["layer"])
    if blocks.dim() == 4:
        factors = {"boft_block_num": 0, "boft_n_butterfly_factor": len(blocks)}
        told = peft.BOFTConfig(boft_block_size=size, **factors, target_modules=["layer"])
    wrapped = peft.get_peft_model(nn.ModuleDict({"layer": layer}), told)
    theirs = wrapped.base_model.model["layer"]
    with torch.no_grad():
        if blocks.dim() == 4:  # half of their skew part, turned the other way; ours mixes the two halves of a block
            mixed = torch.arange(size).view(-1, 2).T.flatten()
            theirs.boft_R["default"].copy_(-2 * blocks[..., mixed, :][..., mixed])
        else:
            rows, columns = torch.triu_indices(size, size, 1)
            theirs.oft_R["default"].weight.copy_((blocks - blocks.mT)[:, rows, columns])
    return wrapped.merge_and_unload()["layer"].weight.detach()


def test_small_changes_survive_bf16(shaken: Any) -> None:
    """Beside a bf16 layer a change of a thousandth is there; the library would add it to the weight and lose most."""
    family = build("sd15")
    family.unet.to(torch.bfloat16)
    network = shaken(family, config("locon", rank=4, alpha=4, preset="attn-mlp", unet_only=True), by=0.003).eval()
    layer = next(layer for layer in network.layers.values() if isinstance(layer.frozen[0], nn.Linear))
    frozen = layer.frozen[0]
    x = inputs(frozen).bfloat16()
    wanted = x.float() @ (layer.module.lora_up.weight @ layer.module.lora_down.weight).T
    got = layer(x).float() - layer.module.org_forward(x).float()
    change = (layer.module.op(x, layer.module.make_weight(x.device))).float()
    assert torch.allclose(change, wanted, rtol=0.05, atol=1e-4) and got.abs().max() > 0
    network.detach()


# Training


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_the_golden_ones(kind: str, model: Any) -> None:
    """The losses of two steps; the state after the first gives the second again to the bit."""
    few = {} if kind == "lora_fa" else {"preset": "unet-convblock-only" if kind in CONVOLVED else "attn-only"}
    made = config(kind, unet_only=True, **KINDS[kind], **few)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        text = model.encode_text(["a cat", "zk9 woman, smile"])
    draws = Draws(latents, noise, torch.tensor([17, 801]), torch.ones(2), text)

    def loss_of(network: Any, step: int) -> Tensor:
        network.draw(step)
        return micro_loss(model, network, draws, made.objective)[0]

    network = attach(model, made)
    before = network.tensors()
    optimizer = torch.optim.AdamW(network.groups(made.rates, 1e-2))
    first = loss_of(network, 1)
    first.backward()
    optimizer.step()
    state = network.state() if isinstance(network, Exact) else network.tensors()
    second = loss_of(network, 2)
    network.detach()
    again = attach(model, made)
    again.restore(state) if isinstance(again, Exact) else again.load(state)
    resumed = loss_of(again, 2)
    again.detach()
    assert [first.item(), second.item()] == pytest.approx(json.loads(GOLDEN.read_text())[kind], rel=1e-5)
    assert torch.equal(second, resumed)
    after = network.tensors()
    moved = {key.split(".")[1] for key in after if not torch.equal(after[key], before[key])}
    assert moved == {"lora_up"} if kind == "lora_fa" else moved


def test_a_lora_fa_goes_on_to_the_bit(train: Train, tmp_path: Path) -> None:
    """One step, a stop, and one more give the file of two steps; the other types are in test_resume_methods.py."""
    network = {"type": "lora_fa", **KINDS["lora_fa"]}
    folder = train(
        {"network": network, "save": {"state_minutes": 0, "state_keep": 9}, "train": {"checkpointing": True}}
    )
    again = RunFolder.create(tmp_path / "again", folder.config())
    again.states.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder.states / "00000001", again.states / "00000001")
    assert run(again) == 0
    whole, resumed = (load_file(one.checkpoints / "zk9.safetensors") for one in (folder, again))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("kind", ["lora_fa", "lokr"])
def test_sdxl_learns_and_reads_its_own_file(kind: str, sdxl: Any, shaken: Any) -> None:
    """At rest the model is as before, its own weights never move, gradients arrive, a file brings all of it back."""
    few = {} if kind == "lora_fa" else {"preset": "attn-mlp"}
    family, made = sdxl, config(kind, **KINDS[kind], **few)
    own = {name: weight.clone() for name, weight in family.unet.state_dict().items()}
    network = attach(family, made)
    network.draw(3)
    layer = next(iter(network.layers.values()))
    x = inputs(layer.frozen[0])
    rest = layer(x)
    network.detach()
    torch.testing.assert_close(rest.detach(), layer.frozen[0](x), rtol=1e-4, atol=1e-5)
    rest.square().sum().backward()
    assert any(weight.grad is not None for weight in layer.parameters())

    network = shaken(family, made).eval()
    tensors = network.tensors()
    network.detach()
    other = attach(family, made).eval()
    other.load(tensors)
    again = other.tensors()
    other.detach()
    assert tensors.keys() == again.keys()
    assert all(torch.allclose(tensors[key], again[key], rtol=1e-6, atol=1e-7) for key in tensors)
    assert all(torch.equal(own[name], weight) for name, weight in family.unet.state_dict().items())
    assert {key.split(".")[0] for key in tensors} <= {*network.places}
    assert all(name.startswith(("lora_unet_", "lora_te1_", "lora_te2_")) for name in network.places)


def test_dropouts_are_functions_of_the_seed(model: Any, shaken: Any) -> None:
    for kind, options in (
        ("locon", {"rank": 2, "bypass": True, "dropout": 0.5, "rank_dropout": 0.3}),
        ("lokr", {"rank": 2, "module_dropout": 0.5, "rank_dropout": 0.3}),
        ("dylora", {"rank": 4}),
        ("diag_oft", {"rank": 4, "module_dropout": 0.5}),
    ):
        network = shaken(model, config(kind, unet_only=True, preset="attn-only", **options))
        layers = [*network.layers.values()][:6]
        outcomes = []
        for seed in (1, 1, 2):
            network.draw(seed)
            torch.manual_seed(len(outcomes))  # a state that must not matter, and is left as it is
            state = torch.get_rng_state()
            outcomes.append([layer(inputs(layer.frozen[0])) for layer in layers])
            assert torch.equal(torch.get_rng_state(), state)
        network.detach()
        one, same, other = outcomes
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
        assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), kind


# Files


def test_a_file_to_go_on_from(model: Any, shaken: Any, tmp_path: Path) -> None:
    few = {"preset": "attn-only", "unet_only": True}
    made = config("loha", rank=2, alpha=1, **few)
    network = shaken(model, made).eval()
    layer = next(iter(some(network).values()))
    before, tensors = layer(inputs(layer.frozen[0])), network.tensors()
    network.detach()
    path = tmp_path / "loha.safetensors"
    save_file(tensors, path)
    louder = attach(model, config("loha", rank=2, alpha=2, start_from=str(path), **few)).eval()
    after = next(iter(some(louder).values()))
    louder.detach()
    torch.testing.assert_close(after(inputs(layer.frozen[0])), before, rtol=1e-5, atol=1e-6)
    assert louder.loaded and len(louder.loaded.taken) == len(tensors) // 5
    for wrong, words in (
        (config("lokr", rank=2, start_from=str(path), **few), "type and options"),
        (config("loha", rank=3, alpha=1, start_from=str(path), **few), "rank, factor and unit"),
    ):
        with pytest.raises(NetworkError, match=words):
            attach(model, wrong)


def test_boft_that_does_not_fit_says_so(model: Any) -> None:
    with pytest.raises(NetworkError, match=r"boft of rank 1 does not fit lora_"):
        attach(model, config("boft", rank=1))


# Which layers


def names(family: Any, **options: Any) -> set[str]:
    layers = filter_of(config("locon", rank=1, **options).network)
    return {
        kohya_name(family.name, part, choice.path)
        for part in family.parts
        for choice in chosen(family.parts[part], family.name, part, layers, "train_norm" in options)
    }


def test_presets_choose_what_sd_scripts_has(model: Any, sdxl: Any) -> None:
    """Counts of a full-size SD1.5 are those that were seen in sd-scripts' files, and the tiny one has its names."""
    counts = {
        preset: sum(row.count for row in layers_of("sd15") if _in(row, preset))
        for preset in ("full", "attn-mlp", "attn-only")
    }
    assert counts == {"full": 354, "attn-mlp": 264, "attn-only": 128 + 48}
    full = names(model)
    assert {"lora_unet_conv_in", "lora_unet_conv_out", "lora_unet_time_embedding_linear_1"} <= full
    linear = names(model, preset="attn-mlp")
    assert names(model, preset="kohya") == linear < names(model, preset="kohya", conv_rank=1) < full
    assert not [name for name in names(model, preset="unet-transformer-only") if "_te_" in name]
    blocks = names(model, preset="unet-convblock-only")
    assert "lora_unet_conv_in" in blocks and not [name for name in blocks if "attentions" in name]
    assert any("norm" in name for name in names(model, train_norm=True)) and not any("norm" in name for name in full)
    large = names(sdxl, preset="full")
    assert not [name for name in large if "input_blocks_0_0" in name or "time_embed" in name], (
        "as sd-scripts names them"
    )


def _in(row: Any, preset: str) -> bool:
    return any(row is other for other, _ in trained_layers(config("ia3", preset=preset).network, "sd15", "sd15"))


def test_filter_files(model: Any, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(
        'enable_conv = false\nunet_target_module = ["CrossAttention"]\ntext_encoder_target_module = []\n'
        'unet_target_name = [".*proj_in"]\nexclude_name = [".*to_v"]\n'
        '[module_algo_map.CrossAttention]\nalgo = "lokr"\ndim = 2\nfactor = 2\n[name_algo_map.".*proj_in"]\nalpha = 3\n'
    )
    network = attach(model, config("locon", rank=4, filter=str(file)))
    tensors = network.tensors()
    network.detach()
    assert isinstance(network, LycorisNetwork) and not any("to_v" in name or "_te_" in name for name in network.places)
    ends = {
        name: sorted(key.split(".", 1)[1] for key in tensors if key.split(".")[0] == name) for name in network.places
    }
    assert all(("lokr_w1" in " ".join(keys)) == ("attn" in name) for name, keys in ends.items())
    assert {float(tensors[f"{name}.alpha"]) for name in ends if name.endswith("proj_in")} == {3.0}
    for text, words in (
        ("enable_conv = 3", "enable_conv is 3"),
        ("unet_target_modules = []", "did you mean unet_target_module"),
        ('unet_target_name = ["("]', "no regular expression"),
        ("[module_algo_map.Attention]\nalgo = 'magic'", "write one of lora"),
        ("[", "cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=words):
            read_filter(file)


# Blocks


def test_blocks_are_sd_scripts_blocks() -> None:
    assert [BLOCKS[family].all for family in ("sd15", "sdxl")] == [25, 23]
    for family, name, block in (
        ("sd15", "lora_unet_down_blocks_0_attentions_1_proj_in", 2),
        ("sd15", "lora_unet_down_blocks_2_downsamplers_0_conv", 9),
        ("sd15", "lora_unet_mid_block_resnets_0_conv1", 12),
        ("sd15", "lora_unet_up_blocks_3_attentions_2_proj_out", 24),
        ("sdxl", "lora_unet_input_blocks_4_1_proj_in", 5),
        ("sdxl", "lora_unet_middle_block_1_proj_in", 11),
        ("sdxl", "lora_unet_output_blocks_8_0_in_layers_2", 21),
    ):
        assert block_of(family, name) == block
    options = Lora(down_weights="sine+.5", mid_weights="0.25", zero_threshold=0.5)
    found = weights(options, "sd15")
    assert found and found[:2] == [0.0, pytest.approx(0.5 + 0.14231, abs=1e-4)] and found[11:14] == [1.5, 0.0, 1.0]
    assert weights(Lora(up_weights="reverse_linear"), "sdxl") == [1.0] * 13 + [
        step / 8 for step in range(8, -1, -1)
    ] + [1.0]
    table = sizes(Lora(down_weights="zeros", block_ranks=tuple(range(25)), conv_rank=2, conv_alpha=3), "sd15")
    assert table and [size.rank for size in table] == [0] * 12 + [*range(12, 25)] and table[13].conv_rank == 2
    for wrong, words in ((Lora(block_ranks=(1, 2)), "2 numbers for the 25"), (Lora(mid_weights="1,2"), "1 blocks")):
        with pytest.raises(InputError, match=words):
            sizes(wrong, "sd15")


def test_blocks_with_ranks_and_rates_of_their_own(model: Any) -> None:
    ranks = tuple(0 if block < 10 else 1 + block % 3 for block in range(25))
    made = config("lora", rank=5, alpha=2, block_ranks=ranks, conv_block_ranks=ranks, up_weights="linear", loraplus=2)
    network = attach(model, made)
    network.detach()
    unet = {name: len(layer.down) for name, layer in network.layers.items() if name.startswith("lora_unet")}
    got = {(block_of("sd15", name), rank) for name, rank in unet.items()}
    assert got == {(block, rank) for block, rank in enumerate(ranks) if rank and block != 13}, "linear begins with 0"
    assert all(len(layer.down) == 5 for name, layer in network.layers.items() if "_te_" in name)
    groups = {group["name"]: group["lr"] for group in network.groups(made.rates, 1e-3)}
    assert groups["unet_block24"] == 1e-3 and groups["unet_block18 plus"] == pytest.approx(2e-3 * 5 / 11)
    assert "unet_block13" not in groups and groups["text_encoder"] == 1e-3
    trained = {id(weight) for group in network.groups(made.rates, 1e-3) for weight in group["params"]}
    assert trained == {id(weight) for weight in network.parameters()}


# Sizes


def test_the_table_of_shapes_is_the_models() -> None:
    for name in FAMILIES:
        kind = family_class(name)
        with torch.device("meta"):
            parts = {
                part: where.build(json.loads((SHIPPED / name / part / "config.json").read_text()))
                for part, where in kind.LAYOUT.items()
                if part != "vae"
            }
        assert [tuple(row) for row in rows(name, parts)] == [
            (row.part, row.kind, row.block, [*row.shape], row.count) for row in layers_of(name)
        ]


def counted(network: Any, made: Config, family: Any, patch: pytest.MonkeyPatch) -> bool:
    """Whether the estimate's parameters are the network's; a tiny model's shapes stand in for the full one's."""
    tiny = [Row(part, kind, block, tuple(shape), count) for part, kind, block, shape, count in rows_of(family)]
    patch.setattr("trainer.shapes.layers_of", lambda name: tiny)
    actual = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    if made.network.type == "native":
        actual -= sum(weight.numel() for name, weight in network.named_parameters() if name.endswith("module.bias"))
    return size_of(made, "sd15")[0] == actual


@pytest.mark.parametrize("kind", ["lora", "lora_fa"])
def test_sizes_are_counted_without_a_model(kind: str, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(kind, rank=2, conv_rank=3)
    network = attach(model, made)
    network.detach()
    assert counted(network, made, model, monkeypatch)


@cache
def rows_of(family: Any) -> list[list[Any]]:
    return rows("sd15", family.parts)


# Words


def test_metadata_is_in_the_words_of_sd_scripts() -> None:
    lokr = config("lokr", rank=8, alpha=4, factor=8, dora=True, preset="attn-mlp", conv_rank=4, conv_alpha=1).network
    assert (kind_of(lokr), module_of(lokr)) == ("LyCORIS/LoKr", "lycoris.kohya")
    assert arguments_of(lokr) == {
        "algo": "lokr", "preset": "attn-mlp", "conv_dim": "4", "conv_alpha": "1", "factor": "8", "dora_wd": "True",
    }  # fmt: skip
    oft = config("diag_oft", constraint=0.5).network
    assert arguments_of(oft) == {"algo": "diag-oft", "preset": "full", "constraint": "0.5"}
    assert (
        arguments_of(LoraFa(rank_dropout=0.1)) == {"rank_dropout": "0.1"} and module_of(LoraFa()) == "networks.lora_fa"
    )
    kohya = config("lokr", preset="kohya", factor=4).network
    assert (module_of(kohya), arguments_of(kohya)) == ("networks.lokr", {"factor": "4"})
    assert arguments_of(Lora(block_ranks=(1, 2))) == {"block_dims": "1,2"}
    assert {one.type for one in TYPES.values()} == {
        kind.model_fields["type"].default for kind in members(get_args(Network)[0])
    } - {"embedding", "full_model"}
    golden = {*json.loads(GOLDEN.read_text()), "lora"}  # a LoRA's are in losses.json
    assert {one.type for one in TYPES.values()} == golden


def test_the_page_of_networks_is_up_to_date() -> None:
    page = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()
    assert page == readers.document(), "run: python -m trainer.readers > docs/networks.md"
    assert FILES.keys() == readers.LOADS.keys(), "each row is tried below"


@pytest.mark.parametrize("row", FILES)
def test_diffusers_loads_what_the_table_says(row: str, model: Any, pipeline: Any, shaken: Any) -> None:
    """It loads a file if its model then predicts what ours does."""
    inputs = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([300])
    for kind, options in FILES[row]:
        network = shaken(model, config(kind, unet_only=True, **options)).eval()
        tensors = network.tensors()
        with torch.no_grad():
            text = model.encode_text(["a cat"])
            ours = model.predict(*inputs, text)
            network.detach()
            plain = model.predict(*inputs, text)
            try:
                pipeline.load_lora_weights(tensors)
                loaded = torch.allclose(pipeline.unet(*inputs, text["states"]).sample, ours, atol=1e-5)
                pipeline.unload_lora_weights()
            except ValueError:
                loaded = False
        assert not torch.allclose(plain, ours, atol=1e-4)
        assert loaded is (readers.LOADS[row][-1] == "yes")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return build("sd15").pipeline(DDIMScheduler(steps_offset=1, clip_sample=False))
