"""Loss at fixed noise and fixed timesteps: a curve that falls while the model learns, and parts from the training's own
when it only memorizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from trainer.config import Config
from trainer.data.cache import Cache
from trainer.data.dataset import Dataset
from trainer.data.folders import Collection
from trainer.draws import seed_of
from trainer.families.base import Family
from trainer.networks.base import Network
from trainer.objectives import draw_noise
from trainer.plan import once
from trainer.step import Draws, micro_loss


class Checks:
    """What is measured beside the training: pictures that are held out, and as many that are trained."""

    def __init__(self, config: Config, trained: Collection, held_out: Collection, family: Family, cache: Cache) -> None:
        """Encodes the pictures; holds nothing when none are held out."""
        self.config, self.held_out, self.trained = still(config), None, None
        if held_out.pictures:
            self.held_out = Dataset(self.config, held_out, family, cache)
            self.trained = Dataset(self.config, few(trained, config), family, cache)

    @torch.no_grad()
    def measure(self, family: Family, network: Network, data: Dataset) -> float:
        """Mean loss over pictures and timesteps; the same draws each time, whatever else the training does."""
        config, seed = self.config, self.config.seed
        network.eval()
        losses = []
        for index in range(len(data)):
            batch = data.batch(0, index).to(family.unet.device)
            for timestep in config.validation.timesteps:
                generator = torch.Generator().manual_seed(seed_of(seed, "validation", batch.pictures[0], timestep))
                noise = draw_noise(generator, batch.latents[0].cpu(), config.objective.noise)[None].to(batch.latents)
                text = batch.cond or family.tokenize(batch.captions).to(family.unet.device)
                draws = Draws(
                    batch.latents, noise, torch.tensor([timestep]).to(noise.device), batch.weights, text, batch.sizes,
                    mask=batch.mask,
                )  # fmt: skip
                losses.append(micro_loss(family, network, draws, config.objective)[0])
        network.train()
        return float(torch.stack(losses).mean())


def still(config: Config) -> Config:
    """The config with everything off that lets a picture or a caption differ from one use to the next."""
    data: dict[str, Any] = {"flip": False, "color_aug": False, "crop": "center"}
    captions = {
        "shuffle": False,
        "dropout": 0.0,
        "dropout_every_n_epochs": None,
        "tag_dropout": 0.0,
        "token_warmup_steps": 0,
    }
    own = {**data, **captions, "dropout_every_n_epochs": 0, "batch": 1}
    data["subsets"] = tuple(subset.model_copy(update=own) for subset in config.data.subsets)
    parts = {"data": data, "captions": captions, "train": {"batch": 1, "accumulate": 1, "processes": 1}}
    return config.model_copy(update={name: getattr(config, name).model_copy(update=new) for name, new in parts.items()})


def few(trained: Collection, config: Config) -> Collection:
    """Some of the trained pictures, chosen by the seed, each once."""
    mine = [picture for picture in trained.pictures if not picture.folder.reg]
    mine.sort(key=lambda picture: seed_of(config.seed, "measured", picture.digest))
    return once(replace(trained, pictures=mine[: config.validation.pictures], problems=[]))
