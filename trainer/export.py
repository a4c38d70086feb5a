"""A trained model as a whole: one file of the original layout, or a diffusers folder; written tensor by tensor.

What was not trained is read from the base model's own file again, so that it stays exactly what it was there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from trainer.checkpoint import PRECISIONS, CheckpointError
from trainer.config import Config
from trainer.config.full import Full
from trainer.durable import TEMPORARY, failed, make_folder, need_space, write_aside
from trainer.early import refuse_others
from trainer.families.base import Family
from trainer.families.detect import settle
from trainer.families.find import find_base
from trainer.networks.full import FullNetwork
from trainer.tools.checkpoints import EMA, Checkpoint
from trainer.tools.convert_model import INDEX, marks, write_folder
from trainer.tools.report import Steps, never, silent
from trainer.tools.tensors import Later, at_hand, whole_folder, write

MADE = re.compile(r"-(\d{6}|step\d{8})")


def save_model(place: Path, config: Config, family: Family, network: FullNetwork, metadata: Mapping[str, str]) -> Path:
    """Writes the model that `network` has trained, to `place` or, as a folder, to `place` without its ending.

    Of the metadata a single file gets what sd-scripts gives to models: `modelspec.*`, and our config. It is read back
    before it takes its name. Raises CheckpointError when a number is not finite, DiskError when it cannot be written.
    """
    model = trained(config, family, network)
    steps = Steps(len(model.parameters), silent, never)
    if form(config) == "diffusers":
        folder = place.with_suffix("")
        refuse_others(folder)
        with whole_folder(folder) as temporary:
            write_folder(temporary, model, config.save.precision, steps)
        return folder
    words = {key: text for key, text in metadata.items() if not key.startswith(("ss_", "sshs_"))}
    taken = dict.fromkeys((weight.part, weight.name) for weight in network.weights)
    tensors = model.originals(config.save.precision, dict.fromkeys(taken, lambda tensor: tensor)) | marks(model)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(EMA)}  # of the base, not of this
    write(place, tensors, {"format": "pt", **words, **model.header()}, steps)
    return place


def trained(config: Config, family: Family, network: FullNetwork) -> Checkpoint:
    """The base model on the disk, with the trained weights and a VAE of its own in the place of what it holds."""
    model = Checkpoint("model.base", str(find_base(config.model.base, lambda text: None)))
    model.found = settle(model.found, config.model)
    for weight in network.weights:
        model.parameters[weight.part, weight.name] = _finite(weight.best, f"{weight.part} {weight.name}")
    if config.model.vae:
        state: Mapping[str, Tensor] = family.vae.state_dict()
        for name, tensor in state.items():
            model.parameters["vae", name] = at_hand(tensor.detach().cpu(), name)
    return model


def try_out(config: Config, folder: Path, parts: Mapping[str, nn.Module]) -> None:
    """Whether a folder can be written and has room for one model; DiskError when not."""
    make_folder(folder)
    numbers = sum(weight.numel() for part in parts.values() for weight in part.parameters())
    need_space(folder, numbers * PRECISIONS[config.save.precision].itemsize)
    file = folder / f"{TEMPORARY}trial"
    try:
        write_aside(file, b"\0")
    finally:
        file.unlink(missing_ok=True)


def again(made: Path, place: Path) -> Path | None:
    """The same file in another folder of the same disk, which takes no room; None where that cannot be."""
    goal, aside = place.with_name(made.name), place.with_name(f"{TEMPORARY}{made.name}")
    if made.is_dir():
        return None
    try:
        aside.unlink(missing_ok=True)
        os.link(made, aside)
        os.replace(aside, goal)
    except OSError:
        return None  # another disk, or one without links: it is written again
    return goal


def prune(folder: Path, name: str, keep: int) -> list[str]:
    """Removes all but the newest `keep` folders of earlier epochs and steps; gives their names."""
    mine = [path for path in folder.iterdir() if (path / INDEX).is_file() and _is_made(path.name, name)]
    mine.sort(key=lambda path: (path.stat().st_mtime_ns, path.name))
    old = mine[: max(0, len(mine) - keep)]
    for path in old:
        remove(path)
    return [path.name for path in old]


def remove(folder: Path) -> None:
    """Removes a diffusers folder that was made here; a name that begins with a dot goes first, so no half one stays."""
    if not (folder / INDEX).is_file():
        return
    aside = folder.with_name(f"{TEMPORARY}{folder.name}-old")
    try:
        os.rename(folder, aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise failed(folder, error) from error


def form(config: Config) -> str:
    """In which form the trained model is saved."""
    return config.network.form if isinstance(config.network, Full) else "safetensors"


def _is_made(found: str, name: str) -> bool:
    return found.startswith(name) and MADE.fullmatch(found.removeprefix(name)) is not None


def _finite(tensor: Tensor, name: str) -> Later:
    """A trained weight, when it is written; CheckpointError when it is not fit to be."""

    def make() -> Tensor:
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{name} is not finite: no model was written; lower the learning rate, and go on from the last state"
            )
        return tensor.cpu().contiguous()

    return Later(tensor.dtype, tuple(tensor.shape), make, name)
