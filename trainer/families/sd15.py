"""Stable Diffusion 1.5 (Rombach et al. 2022, arXiv 2112.10752) and its many descendants."""

from __future__ import annotations

from typing import Any, ClassVar

from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from trainer.families.base import Conditioning, Sizes, Tokens
from trainer.families.latent import LatentDiffusion, Part
from trainer.families.text import join_chunks, weigh
from trainer.layout import text_keys, text_to_original, unet_keys, unet_to_original, vae_keys, vae_to_original


class SD15(LatentDiffusion):
    """One CLIP text encoder, whose states [B, 77, 768] are all that the U-Net reads."""

    name = "sd15"
    LAYOUT: ClassVar = {
        "unet": Part(UNet2DConditionModel, unet_keys),
        "text_encoder": Part(CLIPTextModel, text_keys),
        "vae": Part(AutoencoderKL, vae_keys),
    }

    def encode_tokens(self, tokens: Tokens) -> Conditioning:
        """{"states": [B, 75 * chunks + 2, 768]}.

        `clip_skip` n takes the n-th layer from the end and still applies the last layer norm, as A1111 does.
        """
        encoder, skip = self.text_encoders[0], self.settings.clip_skip
        ids = tokens.ids[0]  # [B, chunks, 77]
        out = encoder(ids.flatten(0, 1), output_hidden_states=skip is not None)
        states = out.last_hidden_state if skip is None else encoder.final_layer_norm(out.hidden_states[-skip])
        return {"states": weigh(join_chunks(states, ids.shape[1]), tokens.weights)}

    def predict(self, noisy: Tensor, timesteps: Tensor, cond: Conditioning, sizes: Sizes | None = None) -> Tensor:
        """The U-Net's answer [B, 4, h, w] in its own precision; `sizes` mean nothing to SD1.5."""
        states = cond["states"].to(self.dtype)
        return self.unet(noisy.to(self.dtype), timesteps, states, return_dict=False)[0]

    def pipeline(self, scheduler: Any) -> StableDiffusionPipeline:
        """A diffusers pipeline on these very modules, without the safety checker that SD1.5 came with."""
        self.own_tokenizers()
        return StableDiffusionPipeline(
            self.vae, self.text_encoders[0], self.tokenizers[0], self.unet, scheduler,
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip

    def original_state(self) -> dict[str, Tensor]:
        """All weights under the names of the original single-file layout; shares memory where it can."""
        unet, text, vae = self.unet.state_dict(), self.text_encoders[0].state_dict(), self.vae.state_dict()
        return {**unet_to_original(unet), **vae_to_original(vae), **text_to_original(text)}
