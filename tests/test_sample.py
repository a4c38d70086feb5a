"""Sample pictures: prompts as in sd-scripts, the sixteen samplers, and a training that does not notice."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.tiny import build
from trainer import config, sample
from trainer.config import SAMPLERS
from trainer.families.base import Family
from trainer.families.latent import noise_table
from trainer.networks.lora import LoraNetwork
from trainer.sample import Prompt, SampleError, draw, make_scheduler, parse_prompt, png, read_prompts, read_words, stem

pytestmark = [  # diffusers' older samplers still use numpy the old way, thousands of times
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:numpy"),
]

BASE = Prompt("", width=512, height=512)
SMALL = Prompt("a cat", negative="blurry", width=64, height=64, steps=4, seed=1)


@pytest.fixture(scope="module")
def sd15() -> Family:
    return build("sd15")


@pytest.fixture(scope="module")
def sdxl() -> Family:
    return build("sdxl")


def awake(family: Family) -> LoraNetwork:
    """A LoRA with every dropout on and something learned, in training mode."""
    lora = config.Lora(rank=4, alpha=4, dropout=0.3, rank_dropout=0.3, module_dropout=0.3)
    network = LoraNetwork.attach(family, lora, config.Rates(), seed=3)
    with torch.no_grad():
        for number, layer in enumerate(network.layers.values()):
            layer.up.normal_(0, 0.05, generator=torch.Generator().manual_seed(number))
    network.draw(5)
    return network.train()


# Prompts


def test_all_switches_are_read() -> None:
    line = "a cat, (red:1.2) hat --n blurry, -- odd --w 640 --h 768 --d 12 --s 25 --l 6.5 --ss k_euler_a"
    assert parse_prompt(line, BASE) == Prompt(
        "a cat, (red:1.2) hat", "blurry, -- odd", 640, 768, 25, 6.5, 12, "k_euler_a"
    )


def test_switches_are_read_in_any_case_and_order_and_the_last_one_counts() -> None:
    prompt = parse_prompt("a cat  --H 128 --D 7 --SS EULER --d 8", BASE)
    assert (prompt.text, prompt.width, prompt.height, prompt.seed, prompt.sampler) == ("a cat", 512, 128, 8, "euler")


def test_a_prompt_without_switches_takes_the_defaults() -> None:
    defaults = Prompt("", width=1024, height=1024, seed=9, sampler="heun")
    assert parse_prompt("well-known -- dash", defaults) == Prompt(
        "well-known -- dash", width=1024, height=1024, seed=9, sampler="heun"
    )
    assert parse_prompt("--n only this", BASE) == Prompt("", "only this")


@pytest.mark.parametrize(("asked", "taken"), [(70, 64), (1, 64), (519, 512), (520, 520), (4096, 4096)])
def test_sizes_are_rounded_down_to_8_and_at_least_64_and_it_is_said(asked: int, taken: int) -> None:
    prompt = parse_prompt(f"a --w {asked}", BASE)
    assert prompt.width == taken
    assert bool(prompt.notes) == (asked != taken) and all(
        str(asked) in note and str(taken) in note for note in prompt.notes
    )


@pytest.mark.parametrize(
    ("switch", "limit"),
    [
        *(
            ("w 99999999", "1 to 4096"),
            ("h 0", "1 to 4096"),
            ("w -8", "1 to 4096"),
            ("w 5.5", "whole number"),
            ("h", "1 to"),
        ),
        *(("d 4294967296", "0 to 4294967295"), ("d -1", "0 to"), ("s 0", "1 to 500"), ("s 501", "1 to 500")),
        *(
            ("l nan", "0 to 100"),
            ("l inf", "0 to 100"),
            ("l -1", "0 to 100"),
            ("l abc", "a number"),
            ("w " + "9" * 9999, "4096"),
        ),
        *(("ss eular", "did you mean euler"), ("ss", "ddim, pndm"), ("ss ../../etc", "ddim, pndm")),
    ],
)
def test_a_value_out_of_bounds_names_the_line_the_switch_and_the_limit(switch: str, limit: str) -> None:
    with pytest.raises(SampleError, match=re.escape(limit)) as error:
        parse_prompt(f"a --{switch}", BASE, "prompts.txt line 3")
    assert str(error.value).startswith(f"prompts.txt line 3: --{switch.split(' ')[0]}") and len(str(error.value)) < 400


def test_switches_of_other_models_and_unknown_ones_are_left_out_and_said_once(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    lines = [f"a --g 3 --cn {secret} --ctr 1 --rcfg 2 --fs 3 --zz 1", f"b --zz 2 --i {secret} --w 72"]
    prompts, notes = read_prompts(config.Sample(prompts=lines), 64)
    assert [prompt.text for prompt in prompts] == ["a", "b"] and prompts[1].width == 72
    assert [note.split()[0] for note in notes] == ["--g", "--cn", "--ctr", "--rcfg", "--fs", "--zz", "--i"]
    assert not any("secret" in note for note in notes)


def test_prompts_come_from_the_config_and_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeff# a comment\r\n\r\nein Käfer --s 3\r\n #1 of two\r\n".encode())
    prompts, notes = read_prompts(config.Sample(prompts=["a cat"], file=str(file), seed=5, sampler="lms"), 128)
    assert [(prompt.text, prompt.steps) for prompt in prompts] == [("a cat", 30), ("ein Käfer", 3), ("#1 of two", 30)]
    assert {(prompt.width, prompt.height, prompt.seed, prompt.sampler) for prompt in prompts} == {(128, 128, 5, "lms")}
    assert notes == []


def test_a_file_s_errors_name_the_file_and_the_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("# fine\na --w 64\nb --s many\n")
    with pytest.raises(SampleError, match=r"^prompts\.txt line 3: --s 'many'"):
        read_prompts(config.Sample(file=str(file)), 64)
    with pytest.raises(SampleError, match="cannot be read"):
        read_prompts(config.Sample(file=str(tmp_path / "none.txt")), 64)
    file.write_bytes(b"\xff\xfea\x00")
    with pytest.raises(SampleError, match="UTF-8"):
        read_prompts(config.Sample(file=str(file)), 64)
    with pytest.raises(SampleError, match="one prompt a line"):
        read_prompts(config.Sample(file=str(tmp_path / "prompts.toml")), 64)


# Samplers


def test_every_sampler_of_the_schema_is_there() -> None:
    assert {name.removeprefix("k_") for name in SAMPLERS} == sample.TABLE.keys()


@pytest.mark.parametrize(("prediction", "zero", "steps"), [("epsilon", False, 1), ("v", False, 3), ("v", True, 3)])
@pytest.mark.parametrize("sampler", sample.TABLE)
def test_every_sampler_gives_a_finite_picture_whatever_the_model_predicts(
    sampler: str, prediction: str, zero: bool, steps: int, sd15: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sd15, "alphas_cumprod", noise_table(zero))
    monkeypatch.setattr(sd15, "prediction", prediction)
    monkeypatch.setattr(sd15, "zero_terminal_snr", zero)
    pixels = draw(sd15, parse_prompt(f"a cat --w 64 --h 72 --s {steps} --ss {sampler}", BASE))
    assert pixels.shape == (3, 72, 64) and pixels.dtype == torch.float32 and pixels.isfinite().all()


def test_samplers_differ_and_their_older_names_do_not(sd15: Family) -> None:
    drawn = {name: draw(sd15, parse_prompt(f"a cat --w 64 --h 64 --s 3 --ss {name}", BASE)) for name in SAMPLERS}
    for name, pixels in drawn.items():
        assert pixels.isfinite().all()
        same = {other for other, theirs in drawn.items() if torch.equal(pixels, theirs)}
        assert same == {other for other in SAMPLERS if other.removeprefix("k_") == name.removeprefix("k_")}


@pytest.mark.parametrize("sampler", sample.TABLE)
def test_schedulers_stand_on_the_family_s_noise_table(
    sampler: str, sd15: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = make_scheduler(sampler, sd15)
    torch.testing.assert_close(scheduler.alphas_cumprod, sd15.alphas_cumprod, rtol=1e-5, atol=1e-7)
    assert scheduler.config.prediction_type == "epsilon"
    monkeypatch.setattr(sd15, "alphas_cumprod", noise_table(True))
    monkeypatch.setattr(sd15, "zero_terminal_snr", True)
    scheduler = make_scheduler(sampler, sd15)
    scheduler.set_timesteps(5)
    assert int(scheduler.timesteps.max()) == 999  # the step that zero-terminal SNR is about


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_coefficients_are_the_integrals_of_the_paper(order: int, sd15: Family) -> None:
    """Against a sum over a fine grid; the last step, down to sigma 0, is the largest."""
    scheduler = make_scheduler("lms", sd15)
    scheduler.set_timesteps(8)
    sigmas = scheduler.sigmas.double()
    for t in range(order - 1, 8):
        grid = torch.linspace(float(sigmas[t]), float(sigmas[t + 1]), 200_001, dtype=torch.float64)
        for current in range(order):
            basis = torch.ones_like(grid)
            for other in set(range(order)) - {current}:
                basis *= (grid - sigmas[t - other]) / (sigmas[t - current] - sigmas[t - other])
            by_hand = float(torch.trapezoid(basis, grid))
            assert scheduler.get_lms_coefficient(order, t, current) == pytest.approx(by_hand, rel=1e-6, abs=1e-9)


# Pictures


@pytest.mark.parametrize(
    ("name", "sampler"), [*(("sd15", sampler) for sampler in sample.TABLE), ("sdxl", "ddim"), ("sdxl", "euler_a")]
)
def test_pictures_are_those_of_the_diffusers_pipeline(name: str, sampler: str, sd15: Family, sdxl: Family) -> None:
    family = {"sd15": sd15, "sdxl": sdxl}[name]
    prompt = parse_prompt(f"a cat --n blurry --w 64 --h 80 --s 3 --l 5 --ss {sampler}", BASE)
    pipeline = family.pipeline(make_scheduler(sampler, family))
    pipeline.set_progress_bar_config(disable=True)
    cond = family.encode_text(["blurry", "a cat"])
    words = {"prompt_embeds": cond["states"][1:], "negative_prompt_embeds": cond["states"][:1]}
    if name == "sdxl":
        words |= {"pooled_prompt_embeds": cond["pooled"][1:], "negative_pooled_prompt_embeds": cond["pooled"][:1]}
    theirs = pipeline(
        **words, width=64, height=80, num_inference_steps=3, guidance_scale=5, output_type="np",
        generator=torch.Generator().manual_seed(42),
    ).images[0]  # fmt: skip
    ours = (draw(family, prompt) / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_weighted_and_long_prompts_are_read(sd15: Family, sdxl: Family) -> None:
    for family in (sd15, sdxl):
        short = read_words(family, ["", "a (red) cat"])
        assert short["states"].shape[:2] == (2, 77)
        assert not torch.equal(short["states"], read_words(family, ["", "a red cat"])["states"])
        assert torch.equal(read_words(family, ["a red cat"])["states"], family.encode_text(["a red cat"])["states"])
        assert read_words(family, ["", "cat, " * 50])["states"].shape[:2] == (2, 152)


@pytest.mark.parametrize(
    "change",
    [{"text": "a dog"}, {"negative": ""}, {"seed": 2}, {"scale": 3.0}, {"steps": 5}, {"sampler": "euler"}],
    ids=str,
)
def test_every_part_of_a_prompt_changes_the_picture(change: dict[str, Any], sd15: Family) -> None:
    assert not torch.equal(draw(sd15, SMALL), draw(sd15, replace(SMALL, **change)))


def test_files_are_named_as_in_sd_scripts_and_say_how_they_were_made(sd15: Family, tmp_path: Path) -> None:
    prompts = [parse_prompt("ein Käfer --n blurry --w 64 --h 72 --s 2 --d 7 --ss euler_a", BASE), SMALL]
    made, warnings = sample.sample(sd15, None, prompts, tmp_path / "samples", stem("zk9", step=500, epoch=1))
    assert warnings == [] and [(each.prompt, each.seed) for each in made] == [("ein Käfer", 7), ("a cat", 1)]
    assert re.fullmatch(r"zk9_e000001_00_\d{14}_7\.png", made[0].file.name)
    assert re.fullmatch(r"zk9_e000001_01_\d{14}_1\.png", made[1].file.name)
    assert stem("zk9", step=500, epoch=None) == "zk9_000500"
    with Image.open(made[0].file) as picture:
        assert picture.size == (64, 72) and picture.mode == "RGB"
        assert picture.info["parameters"] == (
            "ein Käfer\nNegative prompt: blurry\nSteps: 2, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 64x72"
        )
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "samples", *(each.file for each in made)])


def test_pixels_are_rounded_right() -> None:
    pixels = torch.tensor([-1.0, 0.0, 1.0, 7.0]).expand(3, 2, 4)
    with Image.open(io.BytesIO(png(pixels, SMALL))) as picture:
        assert np.asarray(picture)[0, :, 0].tolist() == [0, 128, 255, 255]


def test_sampling_twice_gives_the_same_bytes_and_leaves_global_draws_alone(sd15: Family, tmp_path: Path) -> None:
    network = awake(sd15)
    before = torch.get_rng_state()
    prompts = [SMALL, parse_prompt("a dog --w 64 --h 64 --s 3 --ss euler_a --d 3", BASE)]
    first, _ = sample.sample(sd15, network, prompts, tmp_path, "a")
    again, _ = sample.sample(sd15, network, prompts[::-1], tmp_path, "b")
    network.detach()
    without, _ = sample.sample(sd15, None, prompts, tmp_path, "c")
    assert [each.file.read_bytes() for each in first] == [each.file.read_bytes() for each in reversed(again)]
    assert first[0].file.read_bytes() != without[0].file.read_bytes()  # the LoRA shows
    assert torch.equal(before, torch.get_rng_state())


def test_sampling_leaves_training_as_it_was_to_the_bit(sd15: Family, tmp_path: Path) -> None:
    def losses(between: Callable[[LoraNetwork], Any]) -> list[float]:
        network = awake(sd15)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
        seen = []
        for step in range(4):
            network.draw(step)
            network.ready()
            noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(step))
            loss = sd15.predict(noisy, torch.tensor([500]), sd15.encode_text(["a cat"])).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(loss.item())
            between(network)
            assert network.training and all(layer.training for layer in network.layers.values())
        network.detach()
        return seen

    quiet = losses(lambda network: None)
    assert quiet == losses(lambda network: sample.sample(sd15, network, [SMALL], tmp_path, "a"))
    assert len(set(quiet)) == 4


def test_dropouts_rest_and_every_module_wakes_as_it_slept(sd15: Family, tmp_path: Path) -> None:
    network = awake(sd15)
    sd15.unet.down_blocks.train()
    modes = [module.training for root in (sd15.unet, sd15.vae, *sd15.text_encoders) for module in root.modules()]
    sample.sample(sd15, network, [SMALL], tmp_path, "a")
    assert network.training
    assert modes == [
        module.training for root in (sd15.unet, sd15.vae, *sd15.text_encoders) for module in root.modules()
    ]
    network.eval()
    sample.sample(sd15, network, [SMALL], tmp_path, "b")
    assert not network.training
    first, second = (next(tmp_path.glob(f"{name}_*")).read_bytes() for name in "ab")
    assert first == second
    sd15.unet.eval()
    network.detach()


def test_a_picture_that_fails_is_a_warning_and_the_others_are_made(sd15: Family, tmp_path: Path) -> None:
    class Breaks(nn.Module):
        """A U-Net that runs out of memory at the second prompt."""

        def __init__(self, unet: nn.Module) -> None:
            super().__init__()
            self.unet, self.calls = unet, 0

        def __getattr__(self, name: str) -> Any:
            return (
                super().__getattr__(name)
                if name in ("unet", "calls")
                else getattr(self.__dict__["_modules"]["unet"], name)
            )

        def forward(self, *args: Any, **options: Any) -> Any:
            self.calls += 1
            if 4 < self.calls <= 5:
                raise torch.OutOfMemoryError("CUDA out of memory\nand much more")
            return self.unet(*args, **options)

    healthy = sd15.unet
    sd15.unet = Breaks(healthy)
    made, warnings = sample.sample(sd15, None, [SMALL, SMALL, SMALL], tmp_path, "a")
    sd15.unet = healthy
    assert len(made) == 2
    assert warnings == ["sample 1 ('a cat') could not be made: CUDA out of memory; give smaller --w and --h"]


def test_nan_is_a_black_picture_and_a_warning(sd15: Family, tmp_path: Path) -> None:
    bias = sd15.vae.decoder.conv_out.bias
    kept = bias.detach().clone()
    bias.data.fill_(math.nan)
    made, warnings = sample.sample(sd15, None, [SMALL], tmp_path, "a")
    bias.data.copy_(kept)
    with Image.open(made[0].file) as picture:
        assert picture.getextrema() == ((0, 0), (0, 0), (0, 0))
    assert len(warnings) == 1 and "NaN" in warnings[0] and "vae_precision" in warnings[0]


def test_a_full_disk_is_a_warning(sd15: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKENESS_FAULT", "write:1:ENOSPC")
    monkeypatch.setattr("trainer.durable._calls", Counter())
    made, warnings = sample.sample(sd15, None, [SMALL, SMALL], tmp_path, "a")
    assert len(made) == 1 and len(warnings) == 1 and "make room" in warnings[0]
    assert len(list(tmp_path.iterdir())) == 1
