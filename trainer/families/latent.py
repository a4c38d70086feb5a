"""What SD1.5 and SDXL share: diffusion on the latents of a VAE, conditioned on CLIP texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from trainer.config import FamilyName, Prediction
from trainer.families.base import Conditioning, Tokens
from trainer.families.text import END, apart, load_tokenizer, number_caption, numbers_of, teach, tokenize
from trainer.objectives import add_noise, velocity, zero_terminal_snr

Say = Callable[[str], None]
Names = Mapping[str, object]


@dataclass(frozen=True)
class Part:
    """One module of a model: its class, and where a single file of the original layout keeps its parameters."""

    kind: type[Any]
    keys: Callable[[Names], dict[str, str]]

    def build(self, config: Mapping[str, Any]) -> nn.Module:
        """The module from a diffusers or transformers configuration, with whatever weights its class starts from."""
        if self.kind in (CLIPTextModel, CLIPTextModelWithProjection):
            return self.kind(CLIPTextConfig(**config))
        return self.kind.from_config(dict(config))


@dataclass(frozen=True)
class Settings:
    """How a loaded model is used."""

    prediction: Prediction = "epsilon"
    zero_terminal_snr: bool = False
    clip_skip: int | None = None
    max_tokens: int = 75
    weighted: bool = False
    say: Say = print


class LatentDiffusion:
    """A loaded model of either family; `modules` by the names of a diffusers folder, on one device."""

    name: FamilyName
    LAYOUT: ClassVar[Mapping[str, Part]]  # all modules, in the order in which they are loaded and saved
    PADS: ClassVar[tuple[int, ...]] = (END,)  # what each tokenizer fills up with

    def __init__(self, modules: Mapping[str, Any], settings: Settings) -> None:
        self.modules, self.settings = modules, settings
        self.unet: UNet2DConditionModel = modules["unet"]
        self.vae: AutoencoderKL = modules["vae"]
        self.text_encoders = tuple(module for name, module in modules.items() if name.startswith("text_encoder"))
        self.tokenizers = tuple(load_tokenizer(pad) for pad in self.PADS)
        self.prediction, self.zero_terminal_snr = settings.prediction, settings.zero_terminal_snr
        self.latent_scale = float(modules["vae"].config.scaling_factor)
        self.alphas_cumprod = noise_table(settings.zero_terminal_snr).to(self.unet.device)  # [1000]

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What can be trained, in saving order."""
        return {name: module for name, module in self.modules.items() if name != "vae"}

    @property
    def dtype(self) -> torch.dtype:
        """The U-Net's precision; diffusers' own property goes through all parameters at each call."""
        return self.unet.conv_in.weight.dtype

    @torch.no_grad()
    def encode_images(self, pixels: Tensor) -> Tensor:
        """Scaled latents [B, 4, H / 8, W / 8] for pixels [B, 3, H, W] in -1..1: the posterior's mean, no draw."""
        return self._by_vae(lambda x: self.vae.encode(x).latent_dist.mean, pixels) * self.latent_scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in about -1..1 for scaled latents [B, 4, H / 8, W / 8]."""
        return self._by_vae(lambda x: self.vae.decode(x).sample, latents / self.latent_scale)

    def _by_vae(self, work: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        """What the VAE makes of something; SDXL's own overflows in fp16: it then goes on in fp32 for good."""
        made = work(given.to(self.vae.device, self.vae.dtype))
        if self.vae.dtype == torch.float16 and given.isfinite().all() and not made.isfinite().all():
            self.settings.say("The VAE gave NaN in fp16 and goes on in fp32; model.vae_precision fp32 starts it so.")
            self.vae.to(dtype=torch.float32)
            made = work(given.to(self.vae.device, self.vae.dtype))
        return made

    def count_tokens(self, caption: str) -> int:
        """How many tokens a caption has, begin and end not counted; those beyond `captions.max_tokens` are cut."""
        return len(number_caption(self.tokenizers[0], caption, self.settings.weighted)[0])

    def numbers(self, text: str) -> list[int]:
        """The tokens of a text, without begin and end."""
        return numbers_of(self.tokenizers[0], text)

    def teach(self, word: str, count: int) -> list[int]:
        """The numbers of a new word's tokens, which captions and prompts read from now on; all tokenizers agree."""
        self.own_tokenizers()
        taught = [teach(tokenizer, word, count) for tokenizer in self.tokenizers]
        return taught[0]

    def own_tokenizers(self) -> None:
        """Sets its tokenizers apart from those of all other models: what comes next may add words to them."""
        self.tokenizers = tuple(map(apart, self.tokenizers))

    def tokenize(self, captions: Sequence[str]) -> Tokens:
        """Captions as token ids, cut into chunks of 75; tensors on the CPU."""
        return tokenize(self.tokenizers, captions, self.settings.max_tokens, self.settings.weighted)

    def encode_tokens(self, tokens: Tokens) -> Conditioning:
        """What the U-Net reads; differentiable, and a function of tensors alone."""
        raise NotImplementedError

    def encode_text(self, captions: Sequence[str]) -> Conditioning:
        """`tokenize` and `encode_tokens` in one."""
        return self.encode_tokens(self.tokenize(captions).to(self.text_encoders[0].device))

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Latents after `timesteps` [B] of noise (Ho et al. 2020, arXiv 2006.11239, equation 4)."""
        return add_noise(latents, noise, timesteps, self.alphas_cumprod)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What `predict` should answer: the noise, or the velocity (Salimans & Ho 2022, arXiv 2202.00512)."""
        if self.prediction == "epsilon":
            return noise
        return velocity(latents, noise, timesteps, self.alphas_cumprod)

    def enable_checkpointing(self) -> None:
        """Compute activations twice in place of keeping them, in every part.

        Both libraries do so only in training mode, which changes nothing else here: no part has dropout or batch norms.
        """
        self.unet.enable_gradient_checkpointing()
        for encoder in self.text_encoders:
            encoder.gradient_checkpointing_enable({"use_reentrant": False})
        for module in self.parts.values():
            module.train()

    def original_state(self) -> dict[str, Tensor]:
        """All weights under the names of the original single-file layout; shares memory where it can."""
        raise NotImplementedError


def noise_table(zero_terminal: bool) -> Tensor:
    """Share of signal left at each timestep, [1000] float32: SD's schedule, or the same with none left at the last."""
    betas = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").betas
    return (1 - (zero_terminal_snr(betas) if zero_terminal else betas)).cumprod(0)
