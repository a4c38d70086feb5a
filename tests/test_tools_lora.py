"""Extract, merge and resize: against numbers written the long way, and against a LoRA at work beside its model."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.lora_files import changes, distance, make_lora, metadata_of, same_tensors, trained
from tests.tiny import build, tiny_file
from trainer.checkpoint import hashes
from trainer.config import Captions, Model
from trainer.errors import InputError
from trainer.families import load_family
from trainer.tools.blocks import ALL, ATTENTION, block_of, read_weights
from trainer.tools.checkpoints import spots
from trainer.tools.command import run_tool
from trainer.tools.options import Extract, Merge, Resize

FAMILIES = ("sd15", "sdxl")
FULL = {"dim": 4096, "conv_dim": 4096, "clamp_quantile": 1, "save_precision": "fp32"}


@pytest.fixture(scope="module")
def pair(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """A base model of each family in fp32, and one that was tuned from it: every weight a LoCon knows has moved."""
    made = {}
    for name in FAMILIES:
        folder = tmp_path_factory.mktemp(name)
        tensors = {key: tensor.float() for key, tensor in load_file(bases[name]).items()}
        header = metadata_of(bases[name])
        save_file(tensors, folder / "base.safetensors", header)
        generator = torch.Generator().manual_seed(5)
        moved = {
            key: tensor + 0.05 * torch.randn(tensor.shape, generator=generator) if tensor.ndim > 1 else tensor
            for key, tensor in tensors.items()
        }
        save_file(moved, folder / "tuned.safetensors", header)
        made[name] = folder / "base.safetensors", folder / "tuned.safetensors"
    return made


@pytest.fixture(scope="module")
def whole(pair: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The whole difference of each pair as a LoCon of full rank."""
    folder = tmp_path_factory.mktemp("whole")
    for name in FAMILIES:
        extract(pair[name], folder / f"{name}.safetensors", **FULL)
    return {name: folder / f"{name}.safetensors" for name in FAMILIES}


def extract(pair: tuple[Path, Path], out: Path, **options: Any) -> Any:
    base, tuned = map(str, pair)
    given = {"model_org": base, "model_tuned": tuned, "save_to": str(out), "overwrite": True}
    return run_tool(Extract.model_validate({**given, **options}))


# Extract


@pytest.mark.parametrize("name", FAMILIES)
def test_full_rank_is_the_difference(name: str, pair: Any, whole: dict[str, Path], tmp_path: Path) -> None:
    """Each layer against the two files' own tensors, by the long way; then merged back: the tuned model."""
    out = whole[name]
    base, tuned = (load_family(Model(base=str(file)), torch.device("cpu"), torch.float32, Captions(), str)
                   for file in pair[name])  # fmt: skip
    found = changes(out)
    config = json.dumps(
        {k: v for k, v in json.loads(metadata_of(pair[name][0])["likeness_model"]).items() if k != "family"},
        sort_keys=True,
    )
    known = {key: spot for key, spot in spots(name, config).items() if spot.kind != "other"}
    assert found.keys() == known.keys()
    for key, spot in known.items():
        weights = [dict(model.parts[spot.part].named_parameters())[f"{spot.path}.weight"] for model in (tuned, base)]
        wanted = (weights[0].double() - weights[1].double()).detach().numpy()
        assert np.linalg.norm(found[key] - wanted) <= 1e-5 * np.linalg.norm(wanted), key

    back = tmp_path / "back.safetensors"
    run_tool(Merge(sd_model=str(pair[name][0]), models=(str(out),), save_to=str(back), save_precision="keep"))
    merged, aim, before = (load_file(file) for file in (back, pair[name][1], pair[name][0]))
    assert merged.keys() == aim.keys()
    touched = [key for key in merged if not torch.equal(merged[key], before[key])]
    gap = sum(float((merged[key] - aim[key]).square().sum()) for key in touched)
    assert gap <= 1e-10 * sum(float((aim[key] - before[key]).square().sum()) for key in touched)


def test_the_error_falls_with_the_rank(pair: Any, whole: dict[str, Path], tmp_path: Path) -> None:
    errors, aim = [], changes(whole["sd15"])
    for rank in (1, 4, 16):
        report = extract(pair["sd15"], tmp_path / "out.safetensors", **{**FULL, "dim": rank, "conv_dim": rank})
        errors.append(report.found["error"])
        assert distance(changes(tmp_path / "out.safetensors"), aim) == pytest.approx(errors[-1], rel=1e-3)
    assert all(after < before for before, after in pairwise(errors))
    assert errors[-1] < 0.5 < errors[0]


@pytest.mark.parametrize(
    ("mode", "rule"),
    [
        ("threshold", lambda s: (s > 0.5).sum()),
        ("ratio", lambda s: (s > 0.5 * s[0]).sum()),
        ("quantile", lambda s: (np.cumsum(s) < 0.5 * s.sum()).sum()),
    ],
)
def test_ranks_by_singular_values(mode: str, rule: Any, pair: Any, whole: dict[str, Path], tmp_path: Path) -> None:
    """Against numpy's singular values of the difference that full rank gives."""
    options = {f"{kind}_{mode}": 0.5 for kind in ("linear", "conv")}
    report = extract(pair["sd15"], tmp_path / "out.safetensors", **{**FULL, **options, "mode": mode})
    for name, change in changes(whole["sd15"]).items():
        values = np.linalg.svd(change.reshape(len(change), -1), compute_uv=False)
        found = next(line["rank"] for line in report.found["modules"] if line["name"] == name)
        assert abs(found - max(1, int(rule(values)))) <= 1, name  # a value on the edge may fall on either side
    assert len({line["rank"] for line in report.found["modules"]}) > 3


def test_clamping_is_that_of_sd_scripts(pair: Any, whole: dict[str, Path], tmp_path: Path) -> None:
    """U S and Vh, cut off at the quantile of all their values, by numpy."""
    extract(pair["sd15"], tmp_path / "out.safetensors", **{**FULL, "dim": 4, "conv_dim": 4, "clamp_quantile": 0.9})
    found = changes(tmp_path / "out.safetensors")
    for name, change in changes(whole["sd15"]).items():
        left, values, right = np.linalg.svd(change.reshape(len(change), -1), full_matrices=False)
        up, down = left[:, :4] * values[:4], right[:4]
        # which way round a singular vector points is the library's choice, and the quantile sees it
        limits = []
        for sign in np.array(np.meshgrid(*[[1, -1]] * 4)).T.reshape(-1, 4):
            limit = np.quantile(np.concatenate([(up * sign).ravel(), (down * sign[:, None]).ravel()]), 0.9)
            limits.append((up.clip(-limit, limit) @ down.clip(-limit, limit)).reshape(change.shape))
        assert min(np.abs(found[name] - one).max() for one in limits) <= 1e-4 * np.abs(change).max(), name


def test_without_conv_it_is_a_plain_lora(pair: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    extract(pair["sdxl"], tmp_path / "out.safetensors", **{**FULL, "conv_dim": 0, "save_precision": "fp16"})
    found = load_file(tmp_path / "out.safetensors")
    kinds = {spots("sdxl")[key.split(".")[0]].kind for key in found}
    assert kinds == {"lora"}
    assert {tensor.dtype for tensor in found.values()} == {torch.float16}
    metadata = metadata_of(tmp_path / "out.safetensors")
    assert metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    assert metadata["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert {key: metadata[key] for key in ("sshs_model_hash", "sshs_legacy_hash")} == hashes(
        found, {key: text for key, text in metadata.items() if not key.startswith("sshs_")}
    )


def test_a_text_encoder_that_hardly_differs_is_left_out(pair: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    report = extract(pair["sdxl"], tmp_path / "out.safetensors", min_diff=10)
    assert not [key for key in load_file(tmp_path / "out.safetensors") if key.startswith("lora_te")]
    assert len([line for line in report.lines if "min_diff is 10" in line]) == 2


# Merge into a checkpoint


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("strength", [1.0, -0.3])
def test_merging_is_applying(name: str, strength: float, tmp_path: Path) -> None:
    """The model with the LoRA beside it at a strength, against the merged file loaded anew: text and picture."""
    base = tiny_file(name, tmp_path)
    save_file({key: tensor.float() for key, tensor in load_file(base).items()}, base, metadata_of(base))
    family = load_family(Model(base=str(base)), torch.device("cpu"), torch.float32, Captions(), str)
    network = trained(family)
    save_file(network.tensors(), tmp_path / "lora.safetensors")
    run_tool(
        Merge(
            sd_model=str(base), models=(str(tmp_path / "lora.safetensors"),), ratios=(strength,),
            save_to=str(tmp_path / "merged"), save_precision="keep",
        )
    )  # fmt: skip
    merged = load_family(
        Model(base=str(tmp_path / "merged.safetensors")), torch.device("cpu"), torch.float32, Captions(), str
    )
    with torch.no_grad():
        for layer in network.layers.values():
            layer.up.mul_(strength)
    network.eval()
    latents, times = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([500])
    with torch.no_grad():
        beside = family.predict(latents, times, family.encode_text(["zk9 woman"]))
        inside = merged.predict(latents, times, merged.encode_text(["zk9 woman"]))
        network.detach()
        without = family.predict(latents, times, family.encode_text(["zk9 woman"]))
    assert (beside - inside).norm() <= 1e-6 * beside.norm()
    assert (beside - without).norm() > 1e-3 * without.norm()


def test_layers_of_one_pixel_fit_either_way_and_tables_stay(bases: dict[str, Path], tmp_path: Path) -> None:
    """A linear LoRA on SD1.5's 1x1 convolutions, and noise tables that keep their precision."""
    tensors = load_file(bases["sd15"]) | {"betas": torch.linspace(0, 1, 1000)}
    save_file(tensors, tmp_path / "base.safetensors", metadata_of(bases["sd15"]))
    name = "lora_unet_down_blocks_0_attentions_0_proj_in"
    up, down = torch.randn(16, 2), torch.randn(2, 16)
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, tmp_path / "a.safetensors")
    options = {"sd_model": str(tmp_path / "base.safetensors"), "models": [str(tmp_path / "a.safetensors")]}
    run_tool(Merge.model_validate({**options, "save_to": "b", "save_precision": "bf16"}))
    merged, key = load_file(tmp_path / "b.safetensors"), "model.diffusion_model.input_blocks.1.1.proj_in.weight"
    assert torch.equal(merged[key], (tensors[key].float() + (up @ down)[:, :, None, None]).bfloat16())
    assert torch.equal(merged["betas"], tensors["betas"])


def test_block_weights_reach_their_blocks(bases: dict[str, Path], tmp_path: Path) -> None:
    lora = make_lora(tmp_path / "lora.safetensors", "sd15")
    weights = ["1"] * 17
    weights[0], weights[ATTENTION["sd15"].index("MID")] = "0", "0.5"
    both = {}
    for word, lbws in (("numbers", ",".join(weights)), ("names", "base:0, mid:0.5")):
        run_tool(Merge(models=(str(lora),), lbws=(lbws,), save_to=str(tmp_path / word), save_precision="fp32"))
        both[word] = load_file(tmp_path / f"{word}.safetensors")
    assert same_tensors(both["numbers"], both["names"])
    before, after = changes(lora), changes(tmp_path / "names.safetensors")
    assert not [name for name in after if name.startswith("lora_te")]
    for name, change in after.items():
        factor = 0.5 if "mid_block" in name else 1
        assert np.allclose(change, before[name] * factor, rtol=0, atol=1e-7), name


def test_blocks_are_those_of_the_original_layout() -> None:
    found = {
        family: {block_of(*spot[:2]) for spot in spots(family).values() if spot.kind == "lora"} for family in FAMILIES
    }
    assert found == {family: set(blocks) for family, blocks in ATTENTION.items()}
    every = {family: {block_of(*spot[:2]) for spot in spots(family).values()} - {""} for family in FAMILIES}
    assert every["sd15"] == set(ALL["sd15"]) and every["sdxl"] == set(ALL["sdxl"])
    assert block_of("unet", "down_blocks.0.downsamplers.0.conv") == "IN03"
    assert block_of("unet", "up_blocks.2.upsamplers.0.conv") == "OUT08"


@pytest.mark.parametrize(
    ("family", "text", "said"),
    [
        ("sd15", "1,1,1", "3 numbers for Stable Diffusion 1.5; give 17"),
        ("sdxl", ",".join("1" * 17), "17 numbers for SDXL; give 12"),
        ("sdxl", "IN10:1", "IN10. is no block of SDXL"),
        ("sd15", "IN04", "'IN04' is no number"),
        ("sd15", "IN04:x", "has no number"),
    ],
)
def test_wrong_block_weights_are_refused(family: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_weights(text, family)


def test_both_lengths_and_json_are_read() -> None:
    assert read_weights(json.dumps([0.5] * 26), "sd15") == dict.fromkeys(ALL["sd15"], 0.5)
    assert read_weights(" ".join("1" * 20), "sdxl") == dict.fromkeys(ALL["sdxl"], 1.0)
    assert read_weights("in04 : 0.5, OUT03:-1", "sd15") == {"IN04": 0.5, "OUT03": -1.0}


# Merge into one LoRA


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_sum_is_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    a = make_lora(tmp_path / "a.safetensors", "sdxl", 1, dtype)
    b = make_lora(tmp_path / "b.safetensors", "sdxl", 2, dtype, rank=3, alpha=1, conv_rank=None)
    options = {
        "models": (str(a), str(b)),
        "ratios": (0.7, -0.4),
        "save_to": str(tmp_path / "c"),
        "save_precision": "keep",
    }
    run_tool(Merge.model_validate(options))
    one, other, merged = changes(a), changes(b), changes(tmp_path / "c.safetensors")
    wanted = {name: 0.7 * one[name] - 0.4 * other.get(name, 0) for name in one}
    assert distance(merged, wanted) <= (1e-6 if dtype == torch.float32 else 5e-4)
    ranks = {key: len(tensor) for key, tensor in load_file(tmp_path / "c.safetensors").items() if "down" in key}
    assert sorted(set(ranks.values())) == [2, 4, 7]
    metadata = metadata_of(tmp_path / "c.safetensors")
    assert (metadata["ss_network_dim"], metadata["modelspec.merged_from"]) == ("Dynamic", "a, b")


def test_the_sum_at_a_new_rank_is_the_nearest_there_is(tmp_path: Path) -> None:
    a, b = (make_lora(tmp_path / f"{name}.safetensors", "sd15", seed) for seed, name in enumerate("ab"))
    run_tool(
        Merge(
            models=(str(a), str(b)), ratios=(0.5,), method="svd", new_rank=3, new_conv_rank=1,
            save_to=str(tmp_path / "c"), save_precision="fp32",
        )
    )  # fmt: skip
    one, other = changes(a), changes(b)
    for name, change in changes(tmp_path / "c.safetensors").items():
        wanted = 0.5 * (one[name] + other[name])
        left, values, right = np.linalg.svd(wanted.reshape(len(wanted), -1), full_matrices=False)
        rank = 1 if wanted.ndim == 4 and wanted.shape[-1] == 3 else 3
        best = ((left[:, :rank] * values[:rank]) @ right[:rank]).reshape(wanted.shape)
        assert np.linalg.norm(change - best) <= 1e-5 * np.linalg.norm(wanted), name


# Resize


def rank_by(method: str, values: np.ndarray, number: float) -> int:
    """sd-scripts' rules, one value after another."""
    if method == "sv_ratio":
        return sum(value > values[0] / number for value in values)
    power = 2 if method == "sv_fro" else 1
    wanted, total, count = number**power * (values**power).sum(), 0.0, 0
    while total < wanted:
        total, count = total + values[count] ** power, count + 1
    return count


@pytest.mark.parametrize(
    ("method", "number"), [("sv_ratio", 2.0), ("sv_fro", 0.8), ("sv_cumulative", 0.6), ("None", 0.9)]
)
def test_resizing_keeps_the_best_of_each_layer(method: str, number: float, tmp_path: Path) -> None:
    lora = make_lora(tmp_path / "a.safetensors", "sdxl", rank=8, alpha=3, conv_rank=6, conv_alpha=1)
    report = run_tool(
        Resize.model_validate(
            {"model": str(lora), "save_to": str(tmp_path / "b"), "new_rank": 5, "dynamic_method": method,
             "dynamic_param": number, "save_precision": "fp32"}
        )
    )  # fmt: skip
    after, ranks = changes(tmp_path / "b.safetensors"), set()
    for name, change in changes(lora).items():
        left, values, right = np.linalg.svd(change.reshape(len(change), -1), full_matrices=False)
        rank = 5 if method == "None" else min(5, rank_by(method, values, number))
        best = ((left[:, :rank] * values[:rank]) @ right[:rank]).reshape(change.shape)
        assert np.linalg.norm(after[name] - best) <= 1e-5 * np.linalg.norm(change), name
        ranks.add(rank)
    assert {line["rank"] for line in report.found["modules"]} == ranks
    metadata = metadata_of(tmp_path / "b.safetensors")
    assert metadata["ss_network_dim"] == ("5" if method == "None" else "Dynamic")
    assert metadata["ss_training_comment"].endswith("; first try")
    assert metadata["ss_tag_frequency"] == metadata_of(lora)["ss_tag_frequency"]


def test_resizing_up_and_back_changes_nothing(tmp_path: Path) -> None:
    lora = make_lora(tmp_path / "a.safetensors", "sd15")
    for source, out, rank in (("a", "b", 64), ("b", "c", 4)):
        options = {"model": str(tmp_path / f"{source}.safetensors"), "save_to": str(tmp_path / out), "new_rank": rank}
        run_tool(Resize.model_validate({**options, "dynamic_method": "None", "save_precision": "fp32"}))
    assert distance(changes(tmp_path / "c.safetensors"), changes(lora)) <= 1e-6


def test_alphas_that_a_type_cannot_hold_go_into_the_matrices(tmp_path: Path) -> None:
    for number, alpha in enumerate((0.0, 1e-4, 3.3)):
        lora = make_lora(tmp_path / f"{number}.safetensors", "sd15", alpha=alpha, conv_rank=None)
        out = tmp_path / f"{number}-half.safetensors"
        run_tool(Resize(model=str(lora), save_to=str(out), new_rank=4, dynamic_method="None"))
        found, wanted = changes(out), changes(lora)
        for name in wanted:
            assert np.linalg.norm(found[name] - wanted[name]) <= 2e-3 * np.linalg.norm(wanted[name]), (name, alpha)


def test_a_layer_of_zeros_gets_rank_one(tmp_path: Path) -> None:
    tensors = trained(build("sd15")).tensors()
    name = next(key for key in tensors if key.endswith("lora_up.weight"))
    save_file({**tensors, name: torch.zeros_like(tensors[name])}, tmp_path / "a.safetensors")
    run_tool(Resize(model=str(tmp_path / "a.safetensors"), save_to=str(tmp_path / "b")))
    found = load_file(tmp_path / "b.safetensors")
    assert found[name].shape[1] == 1 and not found[name].any()
