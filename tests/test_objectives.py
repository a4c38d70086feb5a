"""Noise, targets and weights, against formulas written the long way, statistics of many draws, and diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr
from diffusers.training_utils import compute_snr
from torch import Generator, Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from trainer import objectives
from trainer.config import L1, L2, Huber, Loss, MultiresNoise, Noise, Objective, OffsetNoise, PlainNoise, SmoothL1
from trainer.config.model import Prediction
from trainer.objectives import draw_noise, draw_perturbation, draw_timestep, weigh

SCHEDULER = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
BETAS, ALPHAS = SCHEDULER.betas, SCHEDULER.alphas_cumprod
ZERO = (1 - objectives.zero_terminal_snr(BETAS)).cumprod(0)  # a table whose last entry is 0
T = torch.tensor([0, 1, 250, 500, 998, 999])
SHAPE = (4, 8, 8)


def fresh(seed: int = 7) -> Generator:
    return Generator().manual_seed(seed)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=fresh())


def long_snr(t: int, table: Tensor = ALPHAS) -> float:
    share = float(table[t])
    return share / (1 - share)


# Draws


@pytest.mark.parametrize(
    "noise", [PlainNoise(), OffsetNoise(), OffsetNoise(random=True, adaptive=0.5), MultiresNoise()], ids=str
)
def test_noise_is_a_function_of_its_generator_and_leaves_the_global_one_alone(noise: Noise) -> None:
    before = torch.get_rng_state()
    first, again, other = (draw_noise(fresh(seed), normal(*SHAPE), noise) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == SHAPE and first.dtype == torch.float32 and first.isfinite().all()
    assert torch.equal(before, torch.get_rng_state())


def test_noise_is_float32_beside_latents_of_any_precision() -> None:
    latents = normal(*SHAPE).bfloat16()
    for noise in (PlainNoise(), OffsetNoise(adaptive=0.1), MultiresNoise()):
        assert draw_noise(fresh(), latents, noise).dtype == torch.float32


def test_plain_noise_has_mean_0_and_variance_1_over_a_million_draws() -> None:
    drawn = draw_noise(fresh(), torch.zeros(1, 1000, 1000), PlainNoise())
    assert abs(drawn.mean()) < 5e-3 and abs(drawn.var() - 1) < 5 * math.sqrt(2) * 1e-3


@pytest.mark.parametrize("random", [False, True])
def test_the_mean_of_offset_noise_spreads_as_told(random: bool) -> None:
    """A channel's mean has variance s^2 + 1/pixels; a strength drawn evenly below s has a mean square of s^2 / 3."""
    channels, pixels = 250_000, 4
    drawn = draw_noise(fresh(), torch.zeros(channels, 2, 2), OffsetNoise(strength=0.6, random=False))
    means = drawn.mean(dim=(1, 2))
    assert abs(means.mean()) < 5 * means.std() / math.sqrt(channels)
    assert means.var() == pytest.approx(0.36 + 1 / pixels, rel=5 * math.sqrt(2 / channels))
    if random:
        generator, noise, many = fresh(), OffsetNoise(strength=0.6, random=True), torch.zeros(1024, 2, 2)
        spread = torch.stack([draw_noise(generator, many, noise).mean(dim=(1, 2)).var() for _ in range(500)])
        assert spread.mean() == pytest.approx(0.12 + 1 / pixels, rel=0.05)
        assert spread.min() < 0.05 + 1 / pixels and spread.max() > 0.3 + 1 / pixels


def test_adaptive_offset_follows_the_brightness_of_each_channel_and_stops_at_0() -> None:
    bright, dark = torch.full((1000, 16, 16), -3.0), torch.zeros(1000, 16, 16)
    latents = torch.cat([bright, dark])

    def spread(adaptive: float) -> tuple[float, float]:
        means = draw_noise(fresh(), latents, OffsetNoise(strength=0.3, adaptive=adaptive)).mean(dim=(1, 2))
        return float(means[:1000].std()), float(means[1000:].std())

    assert spread(0.5) == pytest.approx((math.hypot(1.8, 1 / 16), math.hypot(0.3, 1 / 16)), rel=0.1)
    assert spread(-0.5) == pytest.approx((1 / 16, math.hypot(0.3, 1 / 16)), rel=0.1)


def test_multires_noise_has_unit_deviation_and_more_of_it_at_large_sizes() -> None:
    drawn = draw_noise(fresh(), torch.zeros(4, 256, 256), MultiresNoise(iterations=6, discount=0.8))
    assert drawn.std() == pytest.approx(1, abs=1e-5)
    means = torch.nn.functional.avg_pool2d(drawn, 32).std()
    assert means > 5 / 32  # plain noise: 1/32
    plain, single = (
        draw_noise(fresh(), torch.zeros(1, 1, 64), noise) for noise in (PlainNoise(), MultiresNoise(iterations=64))
    )
    assert plain.shape == single.shape and single.isfinite().all()  # one pixel high: the layers end at once


def test_perturbation_scales_and_its_random_strength_lies_below() -> None:
    assert draw_perturbation(fresh(), (1, 1000, 1000), 0.1, False).std() == pytest.approx(0.1, rel=5e-3)
    generator = fresh()
    strengths = torch.stack([draw_perturbation(generator, (1, 64, 64), 0.1, True).std() for _ in range(2000)])
    assert strengths.max() < 0.11 and strengths.mean() == pytest.approx(0.05, rel=0.05)


def test_timesteps_are_even_between_their_limits() -> None:
    generator = fresh()
    drawn = torch.stack([draw_timestep(generator, 100, 900) for _ in range(80_000)])
    assert drawn.dtype == torch.int64 and drawn.min() == 100 and drawn.max() == 899
    counts = torch.bincount(drawn - 100, minlength=800).double()
    chi_square = float(((counts - 100) ** 2 / 100).sum())
    assert abs(chi_square - 799) < 4 * math.sqrt(2 * 799)  # p > 1e-4
    assert draw_timestep(generator, 5, 6) == 5


# The path from picture to noise


def test_noisy_latents_and_velocity_are_those_of_diffusers() -> None:
    latents, noise = normal(6, *SHAPE), torch.randn(6, *SHAPE, generator=fresh(8))
    noisy, v = objectives.add_noise(latents, noise, T, ALPHAS), objectives.velocity(latents, noise, T, ALPHAS)
    assert torch.equal(noisy, SCHEDULER.add_noise(latents, noise, T))  # pyrefly: ignore[bad-argument-type]
    assert torch.equal(v, SCHEDULER.get_velocity(latents, noise, T))  # pyrefly: ignore[bad-argument-type]
    signal, sigma = (root.sqrt().view(-1, 1, 1, 1) for root in (ALPHAS[T], 1 - ALPHAS[T]))
    torch.testing.assert_close(signal * noisy - sigma * v, latents, atol=1e-6, rtol=0)
    torch.testing.assert_close(sigma * noisy + signal * v, noise, atol=1e-6, rtol=0)


def test_zero_terminal_betas_are_those_of_diffusers_and_keep_the_first() -> None:
    betas = objectives.zero_terminal_snr(BETAS)
    assert torch.equal(betas, rescale_zero_terminal_snr(BETAS))
    assert ZERO[-1] == 0 and ZERO[0] == pytest.approx(float(ALPHAS[0]), rel=1e-6)
    assert (ZERO.diff() < 0).all()


# Losses


def long_loss(d: float, t: int, loss: Loss) -> float:
    if isinstance(loss, L2):
        return d * d
    if isinstance(loss, L1):
        return abs(d)
    share = float(ALPHAS[t])
    c = {
        "constant": loss.c * loss.scale,
        "exponential": math.exp(-t * (-math.log(loss.c) / 1000)) * loss.scale,
        "snr": (1 - loss.c) / (1 + math.sqrt((1 - share) / share)) ** 2 + loss.c,
    }[loss.schedule]
    return 2 * (1 if isinstance(loss, SmoothL1) else c) * (math.sqrt(d * d + c * c) - c)


@pytest.mark.parametrize("kind", [Huber, SmoothL1])
@pytest.mark.parametrize("schedule", ["snr", "exponential", "constant"])
@pytest.mark.parametrize("values", [(0.1, 1.0), (0.4, 0.5), (1.0, 1.0)])
def test_huber_losses_by_hand(kind: type[Huber], schedule: str, values: tuple[float, float]) -> None:
    check_by_hand(kind.model_validate({"schedule": schedule, "c": values[0], "scale": values[1]}))


@pytest.mark.parametrize("loss", [L2(), L1()], ids=str)
def test_plain_losses_by_hand(loss: Loss) -> None:
    check_by_hand(loss)


def check_by_hand(loss: Loss) -> None:
    pred, target = normal(6, 1, 2, 2), torch.randn(6, 1, 2, 2, generator=fresh(8))
    each = objectives.elementwise(pred, target, loss, T, ALPHAS)
    mean = objectives.per_sample_loss(pred, target, loss, T, ALPHAS)
    assert mean.shape == (6,)
    for row, t in enumerate(T.tolist()):
        differences = (pred[row] - target[row]).flatten().tolist()
        by_hand = [long_loss(d, t, loss) for d in differences]
        assert each[row].flatten().tolist() == pytest.approx(by_hand, rel=1e-4, abs=1e-7)
        assert float(mean[row]) == pytest.approx(sum(by_hand) / 4, rel=1e-4)


def test_losses_are_taken_in_float32_and_let_gradients_through() -> None:
    pred = normal(6, *SHAPE).half().requires_grad_()
    for loss in (L2(), L1(), Huber(), SmoothL1(schedule="exponential")):
        value = objectives.per_sample_loss(pred, torch.full_like(pred, 300.0), loss, T, ZERO)
        assert value.dtype == torch.float32 and value.isfinite().all()  # 300^2 is beyond fp16
        (gradient,) = torch.autograd.grad(value.sum(), pred)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0
    pred, target = normal(6, *SHAPE).bfloat16(), normal(6, *SHAPE).flip(0).bfloat16()
    exact = (pred.double() - target.double()).abs().mean(dim=(1, 2, 3)).float()
    torch.testing.assert_close(objectives.per_sample_loss(pred, target, L1(), T, ALPHAS), exact, rtol=1e-6, atol=0)


def test_a_perfect_prediction_costs_nothing_and_has_a_finite_gradient() -> None:
    pred = normal(6, *SHAPE).requires_grad_()
    for loss in (L2(), L1(), Huber(), SmoothL1()):
        value = objectives.per_sample_loss(pred, pred.detach(), loss, T, ALPHAS)
        assert value.abs().max() < 1e-6
        assert torch.autograd.grad(value.sum(), pred)[0].abs().max() == 0


# Weights


def test_snr_is_that_of_diffusers_and_0_at_a_zero_terminal() -> None:
    torch.testing.assert_close(objectives.snr(T, ALPHAS), compute_snr(SCHEDULER, T), rtol=1e-5, atol=0)
    assert objectives.snr(T, ZERO)[-1] == 0


@pytest.mark.parametrize("gamma", [0.5, 5.0, 1e5])
def test_min_snr_is_the_formula_exactly(gamma: float) -> None:
    ratio = objectives.snr(T, ALPHAS)
    capped = ratio.clamp(max=gamma)
    assert torch.equal(objectives.min_snr_weight(T, gamma, ALPHAS, "epsilon"), capped / ratio)
    assert torch.equal(objectives.min_snr_weight(T, gamma, ALPHAS, "v"), capped / (ratio + 1))


def test_the_other_weights_by_hand() -> None:
    for row, t in enumerate(T.tolist()):
        s = min(long_snr(t), 1000)
        assert float(objectives.scale_v_weight(T, ALPHAS)[row]) == pytest.approx(s / (s + 1), rel=1e-5)
        assert float(objectives.v_like_weight(T, ALPHAS)[row]) == pytest.approx((s + 1) / s, rel=1e-5)
        assert float(objectives.debiased_weight(T, ALPHAS, "epsilon")[row]) == pytest.approx(1 / math.sqrt(s), rel=1e-5)
        assert float(objectives.debiased_weight(T, ALPHAS, "v")[row]) == pytest.approx(1 / (s + 1), rel=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_weights_multiply_in_the_order_of_sd_scripts(prediction: Prediction) -> None:
    objective = Objective(min_snr_gamma=5, scale_v=True, v_like=0.3, debiased=True)
    losses = normal(6).abs()
    weighed = weigh(losses, T, objective, ALPHAS, prediction)
    for row, t in enumerate(T.tolist()):
        loss, s = float(losses[row]), long_snr(t)
        loss *= min(s, 5) / (s if prediction == "epsilon" else s + 1)
        s = min(s, 1000)
        loss *= s / (s + 1)
        loss += loss / (s / (s + 1)) * 0.3
        loss *= 1 / math.sqrt(s) if prediction == "epsilon" else 1 / (s + 1)
        assert float(weighed[row]) == pytest.approx(loss, rel=1e-4)


def test_nothing_is_weighed_when_all_is_off() -> None:
    losses = normal(6).abs()
    assert weigh(losses, T, Objective(), ALPHAS, "epsilon") is losses


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize(
    "option", [{"min_snr_gamma": 5}, {"scale_v": True}, {"v_like": 0.3}, {"debiased": True}], ids=str
)
def test_a_zero_terminal_step_weighs_something_finite(option: dict[str, float], prediction: Prediction) -> None:
    weighed = weigh(torch.ones(6), T, Objective.model_validate(option), ZERO, prediction)
    assert weighed.isfinite().all() and (weighed >= 0).all() and weighed.max() < 1100


def test_the_floor_of_snr_is_below_the_ordinary_table() -> None:
    assert objectives.SNR_LIMITS[0] < objectives.snr(torch.arange(1000), ALPHAS).min()


def test_weights_follow_the_rescaled_table() -> None:
    """sd-scripts weighs by the table before the rescaling; at t = 900 that table holds five times the signal."""
    objective = Objective(scale_v=True)
    at = torch.tensor([900])
    plain, rescaled = (float(weigh(torch.ones(1), at, objective, table, "v")) for table in (ALPHAS, ZERO))
    assert rescaled == pytest.approx(float(ZERO[900]), rel=1e-5) and rescaled < plain / 4


def test_the_whole_objective_can_be_captured() -> None:
    """No branch on a tensor and no number read back: it traces into one graph without a break."""
    objective = Objective(min_snr_gamma=5, scale_v=True, v_like=0.3, debiased=True, loss=Huber())

    def whole(pred: Tensor, latents: Tensor, noise: Tensor, t: Tensor, table: Tensor) -> Tensor:
        target = objectives.velocity(latents, noise, t, table)
        pred = pred + objectives.add_noise(latents, noise, t, table)
        losses = objectives.per_sample_loss(pred, target, objective.loss, t, table)
        return weigh(losses, t, objective, table, "v").mean()

    inputs = normal(6, *SHAPE), normal(6, *SHAPE), normal(6, *SHAPE).flip(0), T, ALPHAS
    captured = make_fx(whole)(*inputs)
    assert torch.equal(captured(*inputs), whole(*inputs))
    assert "_local_scalar_dense" not in captured.code
