"""Stable Diffusion XL (Podell et al. 2023, arXiv 2307.01952) and its descendants: Pony, Illustrious, NoobAI."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from trainer import layout
from trainer.families.base import Conditioning, Sizes, Tokens
from trainer.families.latent import LatentDiffusion, Part
from trainer.families.text import END, join_chunks, pool, weigh


class SDXL(LatentDiffusion):
    """Two text encoders side by side, a pooled text vector, and the sizes that each picture was cut from and to."""

    name = "sdxl"
    LAYOUT: ClassVar = {
        "unet": Part(UNet2DConditionModel, layout.unet_keys),
        "text_encoder": Part(CLIPTextModel, partial(layout.text_keys, prefix=layout.SDXL_TEXT)),
        "text_encoder_2": Part(CLIPTextModelWithProjection, layout.text_2_keys),
        "vae": Part(AutoencoderKL, layout.vae_keys),
    }
    PADS = (END, 0)  # OpenCLIP fills up with zeros

    def encode_tokens(self, tokens: Tokens) -> Conditioning:
        """{"states": [B, 75 * chunks + 2, 768 + 1280], "pooled": [B, 1280]}.

        States of the layer before the last, without the last layer norm: SDXL has never seen others, so there is no
        clip skip. The pooled vector is that of the first chunk.
        """
        chunks = tokens.ids[0].shape[1]
        outs = [
            encoder(ids.flatten(0, 1), output_hidden_states=True)
            for encoder, ids in zip(self.text_encoders, tokens.ids, strict=True)
        ]
        states = torch.cat([out.hidden_states[-2] for out in outs], dim=-1)  # [B * chunks, 77, 768 + 1280]
        pooled = pool(self.text_encoders[1], outs[1].last_hidden_state[::chunks], tokens.ids[1][:, 0])
        return {"states": weigh(join_chunks(states, chunks), tokens.weights), "pooled": pooled}

    def predict(self, noisy: Tensor, timesteps: Tensor, cond: Conditioning, sizes: Sizes | None = None) -> Tensor:
        """The U-Net's answer [B, 4, h, w] in its own precision; without `sizes` pictures count as uncut."""
        time_ids = torch.cat(sizes or Sizes.whole(noisy), dim=1)  # [B, 6]; whole numbers, for fp16 would round them
        added = {"text_embeds": cond["pooled"].to(self.dtype), "time_ids": time_ids}
        states = cond["states"].to(self.dtype)
        return self.unet(noisy.to(self.dtype), timesteps, states, added_cond_kwargs=added, return_dict=False)[0]

    def pipeline(self, scheduler: Any) -> StableDiffusionXLPipeline:
        """A diffusers pipeline on these very modules, without the watermark."""
        self.own_tokenizers()
        return StableDiffusionXLPipeline(
            self.vae, *self.text_encoders, *self.tokenizers, self.unet, scheduler, add_watermarker=False
        )

    def original_state(self) -> dict[str, Tensor]:
        """All weights under the names of the original single-file layout; shares memory where it can."""
        first, second = (encoder.state_dict() for encoder in self.text_encoders)
        return {
            **layout.unet_to_original(self.unet.state_dict()),
            **layout.vae_to_original(self.vae.state_dict()),
            **layout.text_to_original(first, layout.SDXL_TEXT),
            **layout.text_2_to_original(second),
        }
