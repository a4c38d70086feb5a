"""The pocket model's networks: Stable Diffusion 1.5 with the same modules, only narrower.

SD1.5 (runwayml/stable-diffusion-v1-5, the `config.json` of each part) has widths 320-1280 (UNet), 128-512 (VAE) and
768 (text); every list of blocks below is the same as there, so a trainer finds the same modules to train.
"""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

TEXT_WIDTH = 48
SCALING = 0.18215  # what SD1.5 multiplies latents by, so that their standard deviation is about one

UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [64, 80, 64, 32],
    "layers_per_block": 2,
    "attention_head_dim": 4,  # as in SD1.5's file, this is the number of heads
    "cross_attention_dim": TEXT_WIDTH,
    "norm_num_groups": 8,
}
VAE: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 32, 48, 48],
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "scaling_factor": SCALING,
}
TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 4 * TEXT_WIDTH,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}
NOISE: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "clip_sample": False,
}


def build_unet() -> UNet2DConditionModel:
    """The noise predictor: latents [B, 4, 8, 8], t [B], text [B, 77, 48] -> noise [B, 4, 8, 8]."""
    return UNet2DConditionModel(**UNET)


def build_vae() -> AutoencoderKL:
    """The autoencoder: pictures [B, 3, 64, 64] in -1..1 <-> latents [B, 4, 8, 8]."""
    return AutoencoderKL(**VAE)


def build_text_encoder() -> CLIPTextModel:
    """The text encoder: token ids [B, 77] -> [B, 77, 48]."""
    return CLIPTextModel(CLIPTextConfig(**TEXT))


def build_noise() -> DDPMScheduler:
    """The noise schedule of SD1.5."""
    return DDPMScheduler(**NOISE)
