"""Training of the model's own weights: DreamBooth and fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trainer.config.parts import Kohya, Part, Span, step_of

if TYPE_CHECKING:
    from trainer.config import Config

FUSABLE = ("adafactor", "adamw", "adamw8bit", "lion")
"""Optimizers that treat each weight by itself, so that each can be stepped when its gradient is there."""


def _numbers(value: Any) -> Any:
    """Numbers with commas between, as sd-scripts writes them; nothing is None."""
    return [part for part in value.split(",") if part.strip()] or None if isinstance(value, str) else value


BlockRates = Annotated[tuple[Annotated[float, Field(ge=0)], ...] | None, BeforeValidator(_numbers)]


class Full(Part):
    """The model's own weights (DreamBooth, Ruiz et al. 2022, arXiv 2208.12242)."""

    type: Annotated[Literal["full_model"], Field(title="LoRA type")] = "full_model"
    text_stop: Annotated[
        Span | None, Kohya("stop_text_encoder_training", "Stop text encoder training", "Stop TE (% of total steps)")
    ] = None
    """Train the text encoders up to this step alone, or to a share of all steps such as `30%`; empty to the end."""
    block_rates: Annotated[BlockRates, Kohya("block_lr", "Block LR")] = None
    """A learning rate for each block of the UNet, 23 of SDXL, 29 of SD1.5: time embedding, inputs, middle, outputs,
    last layer; 0 leaves a block as it is, empty takes one rate for all."""
    average: Annotated[float | None, Field(gt=0, lt=1, title="EMA decay")] = None
    """Keep a moving average of the weights, which is what is saved and sampled; 0.999 looks back a thousand steps."""
    fused: Annotated[bool, Kohya("fused_backward_pass", "Fused backward pass")] = False
    """Step each weight as soon as its gradient is there, which is then dropped: far less memory."""
    form: Annotated[Literal["safetensors", "diffusers"], Kohya("save_model_as", "Save trained model as")] = (
        "safetensors"
    )
    """One file of the original layout, which web UIs load, or a diffusers folder."""

    @property
    def start_from(self) -> None:
        """There is no file to go on from: the base model is one."""

    def stop_step(self, steps: int) -> int | None:
        """The step of `steps` from which on text encoders stay as they are; None for none."""
        return step_of(self.text_stop, steps)


def check_full(config: Config) -> None:
    """Raises ValueError when options of a training of the model's own weights do not go together."""
    network = config.network
    if not isinstance(network, Full):
        return
    rates, train, kind = config.rates, config.train, config.optimizer.type
    if network.block_rates and rates.unet is None:
        raise ValueError("network.block_rates are for the UNet, and rates.unet is empty: set it to same, or empty them")
    if network.block_rates and not any(network.block_rates):
        raise ValueError("network.block_rates are all 0: raise one, or set rates.unet to empty to leave the UNet alone")
    if network.text_stop is not None and rates.unet is None:
        raise ValueError("network.text_stop would leave nothing to train: rates.unet is empty; set it to same")
    if not network.fused:
        return
    if kind not in FUSABLE:
        raise ValueError(
            f"network.fused steps each weight by itself, and {kind} looks at all of them: set optimizer.type to"
            f" {', '.join(FUSABLE[:-1])} or {FUSABLE[-1]}"
        )
    if train.accumulate > 1:
        raise ValueError(
            "network.fused drops each gradient at once, so none can be added up: set train.accumulate to 1"
        )
    if train.clip is not None:
        raise ValueError(
            "network.fused never has all gradients at once, which train.clip measures: leave it empty (Adafactor limits"
            " its steps itself, by optimizer.clip_threshold)"
        )
    if train.processes > 1:
        raise ValueError(
            "network.fused drops gradients before processes could share them: set it to false, or train.processes to 1"
        )
    if train.precision == "fp16":
        raise ValueError(
            "network.fused steps before it is known whether fp16 has overflowed: set train.precision to bf16 or no"
        )
