"""Makes the pocket model from nothing, in a few steps; each can be stopped and started again.

python -m trainer.pocket.make draw    FOLDER     pictures and captions
python -m trainer.pocket.make vae     FOLDER     the autoencoder
python -m trainer.pocket.make decoder FOLDER     its decoder once more, on cached latents
python -m trainer.pocket.make model   FOLDER     text encoder and UNet together, on cached latents
python -m trainer.pocket.make export  FOLDER     pocket.safetensors, beside this file
python -m trainer.pocket.make unpack  FOLDER     instead of `vae`: the shipped model, for `decoder` and `model` to go on
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm
from transformers import CLIPTokenizer

from trainer.pocket import draw, models

TOKENIZER = Path(__file__).parents[1] / "families" / "shipped" / "clip"
SAVE_EVERY = 200


def tokenize(captions: list[str]) -> Tensor:
    """Token ids [N, 77] of the real CLIP tokenizer."""
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    return tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def save(path: Path, state: Any) -> None:
    """Writes aside, then renames, so that a crash leaves the older file whole."""
    aside = path.with_suffix(".part")
    torch.save(state, aside)
    os.replace(aside, path)


class Training:
    """What both trainings share: AdamW, averaged weights, exact resume.

    The rate rises for 100 steps, stays, and falls to zero over the last quarter, so `steps` can be raised until then.
    Every random draw is a function of the step, so a resumed training is the one that was stopped.
    """

    def __init__(self, path: Path, parts: nn.ModuleDict, steps: int, lr: float) -> None:
        self.path, self.parts, self.steps = path, parts, steps
        self.optimizer = torch.optim.AdamW(parts.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.schedule = LambdaLR(self.optimizer, lambda step: min(step / 100, 1, 4 * (1 - step / steps)))
        self.average = EMAModel(parts.parameters(), decay=0.998, use_ema_warmup=True, power=0.75)
        self.step = 0
        if path.exists():
            self.restore(torch.load(path, map_location="cpu", weights_only=True))

    def owners(self) -> dict[str, Any]:
        """Everything that has a state."""
        return {k: getattr(self, k) for k in ("parts", "optimizer", "schedule", "average")}

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from a saved state."""
        for name, owner in self.owners().items():
            owner.load_state_dict(state[name])
        self.step = state["step"]

    def save(self) -> None:
        """Saves the state of everything, whole or not at all."""
        save(self.path, {name: owner.state_dict() for name, owner in self.owners().items()} | {"step": self.step})

    def __iter__(self) -> Iterator[torch.Generator]:
        """A generator for each remaining step's draws; saves every now and then, and at the end."""
        progress = tqdm(range(self.step, self.steps), initial=self.step, total=self.steps, mininterval=10)
        for step in progress:
            yield torch.Generator().manual_seed(step)
            progress.set_postfix(loss=f"{self.loss:.4f}", refresh=False)
            self.step = step + 1
            if self.step % SAVE_EVERY == 0 or self.step == self.steps:
                self.save()

    def learn(self, loss: Tensor) -> None:
        """One optimizer step."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        self.average.step(self.parts.parameters())
        value = loss.item()
        self.loss = value if not hasattr(self, "loss") else 0.98 * self.loss + 0.02 * value

    def averaged(self) -> nn.ModuleDict:
        """The networks with their averaged weights, ready for use; the training ends here."""
        self.average.copy_to(self.parts.parameters())
        return self.parts.eval().requires_grad_(False)


def make_pictures(folder: Path, count: int) -> None:
    """Draws `count` pictures: pictures.npy [N, 64, 64, 3] (bytes) and captions.json; and wider.npy, half as many."""
    drawn = [draw.picture(seed) for seed in tqdm(range(count), mininterval=5)]
    np.save(folder / "pictures.npy", np.stack([np.asarray(d.picture) for d in drawn]))
    wider = [np.asarray(draw.wider(seed)) for seed in tqdm(range(count // 2), mininterval=5)]
    np.save(folder / "wider.npy", np.stack(wider))
    (folder / "captions.json").write_text(json.dumps([d.caption for d in drawn]))


def load_pictures(folder: Path, index: Tensor, name: str = "pictures") -> Tensor:
    """Pictures [B, 3, 64, 64] in -1..1."""
    pixels = torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="r")[index.numpy()])
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def train_vae(folder: Path, steps: int, batch: int) -> None:
    """Trains the autoencoder: absolute and squared error, and a light pull of the latents towards a unit normal."""
    torch.manual_seed(0)
    vae = models.build_vae()
    training = Training(folder / "vae.state", nn.ModuleDict({"vae": vae}), steps, lr=2e-3)
    count = len(json.loads((folder / "captions.json").read_text()))
    for draws in training:
        x = load_pictures(folder, torch.randint(count, (batch,), generator=draws))
        noise = torch.randn(batch, 4, 8, 8, generator=draws)
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(x).latent_dist
            y = vae.decode(latents.mean + latents.std * noise).sample.float()
        kl = 0.5 * (latents.mean.float() ** 2 + latents.var.float() - 1 - latents.logvar.float()).mean()
        training.learn(F.l1_loss(y, x) + F.mse_loss(y, x) + 2e-3 * kl)
    save(folder / "vae.pt", cache_latents(training.averaged()["vae"], folder, count))


@torch.no_grad()
def cache_latents(vae: AutoencoderKL, folder: Path, count: int) -> dict[str, Tensor]:
    """Caches each picture's latent mean and deviation, rescaled; returns the rescaled autoencoder's weights.

    SD1.5 multiplies latents by 0.18215 and expects a deviation of one; the two 1x1 convolutions around the latents
    take up the difference.
    """
    moments = []
    for index in tqdm(torch.arange(count).split(128), desc="latents", mininterval=5):
        with torch.autocast("cpu", torch.bfloat16):
            moments.append(vae.quant_conv(vae.encoder(load_pictures(folder, index))).float())
    mean, logvar = torch.cat(moments).chunk(2, dim=1)  # [N, 4, 8, 8] each
    centre = mean.mean((0, 2, 3))
    spread = (mean.var((0, 2, 3)) + logvar.exp().mean((0, 2, 3))).sqrt()
    scale = 1 / (spread * models.SCALING)  # [4]
    into, out = vae.quant_conv, vae.post_quant_conv
    out.bias += out.weight[:, :, 0, 0] @ centre
    out.weight /= scale[None, :, None, None]
    into.weight[:4] *= scale[:, None, None, None]
    into.bias[:4] = (into.bias[:4] - centre) * scale
    into.bias[4:] += 2 * scale.log()
    normal = [(mean - centre[:, None, None]) / spread[:, None, None], (logvar / 2).exp() / spread[:, None, None]]
    torch.save([part.half() for part in normal], folder / "latents.pt")
    return vae.state_dict()


def train_model(folder: Path, steps: int, batch: int, views: int) -> None:
    """Trains text encoder and UNet from nothing to predict the noise (Ho et al. 2020, equation 14).

    The loss is weighted by min(SNR, 5) / SNR (Hang et al. 2023). Each caption of a batch serves `views` noisy versions
    of its picture, since encoding text costs as much as the UNet here; one caption in ten is left empty.
    """
    torch.manual_seed(0)
    noise_schedule = models.build_noise()
    unet = models.build_unet().to(memory_format=torch.channels_last)
    parts = nn.ModuleDict({"unet": unet, "text_encoder": models.build_text_encoder()})
    if (start := folder / "start.pt").exists():
        parts.load_state_dict(torch.load(start, weights_only=True))
    training = Training(folder / "model.state", parts, steps, lr=1e-3)
    mean, deviation = torch.load(folder / "latents.pt", weights_only=True)
    ids = tokenize(json.loads((folder / "captions.json").read_text()))
    empty = tokenize([""])

    def loss_of(x: Tensor, t: Tensor, tokens: Tensor, weight: Tensor, noise: Tensor) -> Tensor:
        text = parts["text_encoder"](tokens).last_hidden_state.repeat_interleave(views, 0)
        error = F.mse_loss(parts["unet"](x, t, text).sample, noise, reduction="none")
        return (error.mean((1, 2, 3)) * weight).mean()

    for draws in training:
        index = torch.randint(len(ids), (batch // views,), generator=draws)
        tokens = torch.where(torch.rand(len(index), 1, generator=draws) < 0.1, empty, ids[index])
        index = index.repeat_interleave(views)
        fuzz, noise = torch.randn(2, batch, 4, 8, 8, generator=draws)
        x = mean[index].float() + deviation[index].float() * fuzz
        t = torch.randint(noise_schedule.config.num_train_timesteps, (batch,), generator=draws)
        snr = compute_snr(noise_schedule, t)
        training.learn(loss_of(noise_schedule.add_noise(x, noise, t), t, tokens, snr.clamp(max=5) / snr, noise))


@torch.no_grad()
def unpack(folder: Path) -> None:
    """Takes the shipped model as the start, and caches the latents of the folder's pictures."""
    from trainer.config import Captions, Model
    from trainer.families import load_family

    family = load_family(Model(), torch.device("cpu"), torch.float32, Captions(), say=print)
    vae, parts = family.vae, nn.ModuleDict({"unet": family.unet, "text_encoder": family.text_encoders[0]})
    count = len(json.loads((folder / "captions.json").read_text()))
    save(folder / "vae.pt", cache_latents(vae, folder, count))
    save(folder / "start.pt", parts.state_dict())


def polish_decoder(folder: Path, steps: int, batch: int) -> None:
    """Trains the decoder further; the encoder, and so the latents and the UNet, stay what they are.

    The error of the edges (differences of neighbouring pixels) counts as much as that of the pixels: eyes are small.
    Half of the pictures are the wider ones.
    """
    torch.manual_seed(0)
    vae = models.build_vae()
    vae.load_state_dict(torch.load(folder / "vae.pt", weights_only=True))
    parts = nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    training = Training(folder / "decoder.state", parts, steps, lr=1e-3)
    count = len(json.loads((folder / "captions.json").read_text()))
    for draws in training:
        known, wider = torch.randint(count // 2, (2, batch // 2), generator=draws)
        x = torch.cat([load_pictures(folder, known), load_pictures(folder, wider, "wider")])
        noise = torch.randn(batch, 4, 8, 8, generator=draws)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(x).latent_dist
            y = vae.decode(latents.mean + latents.std * noise).sample.float()
        edges = sum(F.l1_loss(y.diff(dim=axis), x.diff(dim=axis)) for axis in (2, 3))
        training.learn(F.l1_loss(y, x) + F.mse_loss(y, x) + edges)
    training.averaged()
    save(folder / "vae.pt", vae.state_dict())


def main() -> None:
    """Runs one step of the making."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["draw", "vae", "decoder", "model", "export", "unpack"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=24_000)
    parser.add_argument("--vae-steps", type=int, default=2200)
    parser.add_argument("--vae-batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=8100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--views", type=int, default=4, help="noisy versions of a picture for each caption")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    if args.stage == "draw":
        make_pictures(args.folder, args.pictures)
    elif args.stage == "vae":
        train_vae(args.folder, args.vae_steps, args.vae_batch)
    elif args.stage == "decoder":
        polish_decoder(args.folder, args.vae_steps, args.vae_batch)
    elif args.stage == "model":
        train_model(args.folder, args.steps, args.batch, args.views)
    elif args.stage == "unpack":
        unpack(args.folder)
    else:
        from trainer.pocket.export import export

        export(args.folder)


if __name__ == "__main__":
    main()
