"""What the model is asked to predict, and how its error counts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainer.config.parts import Kohya, Part, Text


class PlainNoise(Part):
    """Gaussian noise."""

    type: Literal["plain"] = "plain"


class OffsetNoise(Part):
    """Noise whose mean varies: darker darks, brighter brights (Guttenberg 2023, "Diffusion with offset noise")."""

    type: Literal["offset"] = "offset"
    strength: Annotated[float, Field(ge=0, le=1), Kohya("noise_offset", "Noise offset")] = 0.05
    """Standard deviation of the mean."""
    random: Annotated[bool, Kohya("noise_offset_random_strength", "Noise offset random strength")] = False
    """Draw the strength anew for each picture, between 0 and this."""
    adaptive: Annotated[float, Field(ge=-1, le=1), Kohya("adaptive_noise_scale", "Adaptive noise scale")] = 0.0
    """Added to the strength, times the absolute mean of the latents."""


class MultiresNoise(Part):
    """Noise at several sizes (Whitaker 2023, "Multi-resolution noise for diffusion model training")."""

    type: Literal["multires"] = "multires"
    iterations: Annotated[int, Field(ge=1, le=64), Kohya("multires_noise_iterations", "Multires noise iterations")] = 6
    """Number of coarser layers; 6 to 10 is usual."""
    discount: Annotated[float, Field(gt=0, lt=1), Kohya("multires_noise_discount", "Multires noise discount")] = 0.3
    """Weight of each layer relative to the one before."""


Noise = Annotated[PlainNoise | OffsetNoise | MultiresNoise, Field(discriminator="type")]


class L2(Part):
    """Squared error."""

    type: Annotated[Literal["l2"], Kohya("loss_type", "Loss type")] = "l2"


class L1(Part):
    """Absolute error."""

    type: Annotated[Literal["l1"], Kohya("loss_type", "Loss type")] = "l1"


class Huber(Part):
    """Squared near 0, absolute far away (pseudo-Huber; Khrapov et al. 2024, arXiv 2403.16728)."""

    type: Annotated[Literal["huber"], Kohya("loss_type", "Loss type")] = "huber"
    c: Annotated[float, Field(gt=0, le=1), Kohya("huber_c", "Huber C")] = 0.1
    """Where squared turns into absolute."""
    scale: Annotated[float, Field(gt=0), Kohya("huber_scale", "Huber scale")] = 1.0
    """Factor on c for the constant and exponential schedules."""
    schedule: Annotated[Literal["snr", "exponential", "constant"], Kohya("huber_schedule", "Huber schedule")] = "snr"
    """How c depends on the timestep."""


class SmoothL1(Huber):
    """Huber with the slope of L1 far away."""

    type: Annotated[Literal["smooth_l1"], Kohya("loss_type", "Loss type")] = "smooth_l1"  # pyrefly: ignore[bad-override]


Loss = Annotated[L2 | L1 | Huber | SmoothL1, Field(discriminator="type")]


class Objective(Part):
    """Noise, timesteps, and the weight of each error."""

    noise: Annotated[Noise, Kohya("noise_offset_type", "Noise offset type")] = PlainNoise()
    """The noise that is added, and that the model learns to see."""
    perturbation: Annotated[float, Field(ge=0, le=1), Kohya("ip_noise_gamma", "IP noise gamma")] = 0.0
    """Extra noise in the input only (Ning et al. 2023, arXiv 2301.11706); 0.1 is usual."""
    perturbation_random: Annotated[bool, Kohya("ip_noise_gamma_random_strength", "IP noise gamma random strength")] = (
        False
    )
    """Draw the extra noise's strength anew for each picture, between 0 and this."""
    loss: Annotated[Loss, Kohya("loss_type", "Loss type")] = L2()
    """How the error is measured."""
    min_timestep: Annotated[int, Field(ge=0, le=999), Kohya("min_timestep", "Min Timestep")] = 0
    """First timestep that is trained."""
    max_timestep: Annotated[int, Field(ge=1, le=1000), Kohya("max_timestep", "Max Timestep")] = 1000
    """Timesteps stay below this one."""
    min_snr_gamma: Annotated[float | None, Field(gt=0), Kohya("min_snr_gamma", "Min SNR gamma")] = None
    """Cap on the weight of easy timesteps (Hang et al. 2023, arXiv 2303.09556); 5 is usual."""
    debiased: Annotated[bool, Kohya("debiased_estimation_loss", "Debiased Estimation loss")] = False
    """Weigh timesteps by 1 / sqrt(SNR) (Yu et al. 2023, arXiv 2310.08442)."""
    v_like: Annotated[float | None, Field(gt=0), Kohya("v_pred_like_loss", "V Pred like loss")] = None
    """Add the loss once more, weighed as v-prediction would, times this."""
    scale_v: Annotated[bool, Kohya("scale_v_pred_loss_like_noise_pred", "Scale v prediction loss")] = False
    """Weigh a v-prediction loss as noise prediction would."""
    prior_weight: Annotated[float, Field(ge=0), Kohya("prior_loss_weight", "Prior loss weight")] = 1.0
    """Weight of regularisation pictures (Ruiz et al. 2022, arXiv 2208.12242)."""
    prior: Annotated[Literal["pictures", "model", "trained"], Field(title="Regularisation teaches")] = "pictures"
    """What they show, or to see them as the base model does (less spill); trained does so with the trained pictures."""
    prior_words: Annotated[Text, Field(title="Words left out of the prior")] = None
    """For `trained`: words for what is learned; empty takes the folder's words and the caption prefix."""

    @model_validator(mode="after")
    def _some_timesteps(self) -> Self:
        if self.min_timestep >= self.max_timestep:
            raise ValueError(f"min_timestep {self.min_timestep} must be below max_timestep {self.max_timestep}")
        return self
