"""What a training keeps: the LoRA under the names that people know, states to go on from, and sample pictures."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainer import checkpoint, export
from trainer import sample as sampling
from trainer.datasets import datasets_of, folders_of
from trainer.durable import TEMPORARY, DiskError, make_folder
from trainer.errors import InputError
from trainer.metadata import Facts, count_tags, metadata, of_word
from trainer.networks.base import Exact
from trainer.networks.embedding_file import files_of
from trainer.networks.full import FullNetwork
from trainer.optimizers import averaged
from trainer.optimizers import load as load_optimizer
from trainer.plan import Plan
from trainer.work import Work, at_hand


def rates(work: Work) -> dict[str, float]:
    """The learning rate of each part, now."""
    named = zip(work.optimizer.param_groups, work.schedule.get_last_lr(), strict=True)
    now = {str(group["name"]): float(rate or 0) for group, rate in named}
    finding = [group for group in work.optimizer.param_groups if "d" in group]  # Prodigy and its like find a d
    return now | {f"d*lr/{group['name']}": float(group["d"] * group["lr"]) for group in finding}


# The LoRA


def save(work: Work, step: int, epoch: int | None) -> None:
    """Saves after a step: `zk9-000001.safetensors` at an epoch's end, else `zk9-step00000420.safetensors`."""
    if not work.group.leads:
        return
    name = work.config.output.name
    file = checkpoint.epoch_name(name, epoch) if epoch else checkpoint.step_name(name, step)
    try:
        with averaged(work.optimizer, work.network):
            files = write(work, step, file)
        work.report.checkpoint(step, files[0], epoch)
    except DiskError:
        with contextlib.suppress(DiskError):  # the run folder may lie on a better disk
            keep_state(work, step)
        raise
    if keep := work.config.save.keep_last:
        if isinstance(work.network, FullNetwork):
            for old in export.prune(work.folder.checkpoints, name, keep):
                for folder in folders(work):
                    export.remove(folder / old)
        count = file.removeprefix(name)
        for stem in dict.fromkeys(one.name.removesuffix(count) for one in files):
            for old in checkpoint.prune(work.folder.checkpoints, stem, keep):
                for folder in folders(work):  # by name: an output folder may hold files of other runs
                    (folder / old.name).unlink(missing_ok=True)


def finish(work: Work, step: int) -> list[Path]:
    """Saves the last one under the final name, and gives its places."""
    if not work.group.leads:
        return []
    with averaged(work.optimizer, work.network):
        files = write(work, step, checkpoint.final_name(work.config.output.name))
    work.report.checkpoint(step, files[0])
    return files


def rescue(work: Work, step: int) -> None:
    """Keeps what was learned before a step that failed."""
    if step:
        with contextlib.suppress(InputError):
            keep_state(work, step)
        with contextlib.suppress(InputError):
            save(work, step, None)


def try_out(work: Work) -> None:
    """Saves and removes a file in each place, so that a folder that cannot be written fails now."""
    if not work.group.leads:
        return
    if isinstance(work.network, FullNetwork):
        for folder in folders(work):
            export.try_out(work.config, folder, work.family.parts)
        return
    for folder in folders(work):
        files = files_for(work, f"{TEMPORARY}{work.folder.path.name}.safetensors")
        make_folder(folder)
        try:
            put(work, folder, files, {})
        finally:
            for file in files:
                (folder / file).unlink(missing_ok=True)


def write(work: Work, step: int, name: str) -> list[Path]:
    """Writes the network into the run folder, and into the output folder when there is one."""
    facts = facts_of(work)
    epoch = max(1, -(-step // work.plan.steps_per_epoch))
    words = metadata(work.config, facts, step, epoch, time.time())
    if isinstance(work.network, FullNetwork):
        made: list[Path] = []
        for folder in folders(work):
            make_folder(folder)
            same = export.again(made[0], folder / name) if made else None
            made.append(same or export.save_model(folder / name, work.config, work.family, work.network, words))
        return made
    files = files_for(work, name)
    for folder in folders(work):
        make_folder(folder)
        put(work, folder, files, words)
    return [folder / file for folder in folders(work) for file in files]


def files_for(work: Work, name: str) -> dict[str, dict[str, torch.Tensor]]:
    """The files that the network is saved as under a name."""
    pivotal = work.config.pivotal
    return files_of(name, work.network.tensors(), pivotal.files if pivotal else "both")


def put(work: Work, folder: Path, files: Mapping[str, Mapping[str, torch.Tensor]], words: Mapping[str, str]) -> None:
    """Writes files into a folder, each with these words for metadata, as far as they are true of it."""
    precision, first = work.config.save.precision, next(iter(files))
    for file, tensors in files.items():
        told = words if file == first else of_word(words)
        checkpoint.save_network(folder / file, tensors, told, precision, work.network.places)


def folders(work: Work) -> list[Path]:
    """Where finished files go."""
    output = work.config.output.folder
    return [work.folder.checkpoints, *([Path(output)] if output else [])]


def facts_of(work: Work) -> Facts:
    """What the file says about how it was made."""
    plan, pictures = work.plan, work.pictures.pictures
    base, vae = work.files.result()
    listed = {folder.name: (folder.repeats, folder.pictures) for folder in plan.folders if not folder.reg}
    reg = {folder.name: (folder.repeats, folder.pictures) for folder in plan.folders if folder.reg}
    datasets = datasets_of(work.config, pictures) if work.config.data.subsets else []
    listed = folders_of(datasets) if datasets else listed
    tags = {
        name: count_tags(p.caption for p in pictures if p.folder.name == name and p.caption_source == "file")
        for name in dict.fromkeys(folder.name for folder in plan.folders)
    }
    return Facts(
        run=work.folder.path.name, family=work.family.name, prediction=work.family.prediction,
        zero_terminal_snr=work.family.zero_terminal_snr, base=base, vae=vae, images=plan.items,
        reg_images=sum(repeats * count for repeats, count in reg.values()), batches=plan.batches, epochs=plan.epochs,
        steps=plan.steps, warmup=plan.warmup, started=work.started, folders=listed, reg_folders=reg, tags=tags,
        validation_images=len(work.checks.held_out) if work.checks.held_out else 0,
        buckets=bucket_info(plan) if work.config.data.buckets else None, datasets=datasets,
    )  # fmt: skip


def bucket_info(plan: Plan) -> dict[str, Any]:
    """`ss_bucket_info` as sd-scripts has it."""
    buckets = {str(i): {"resolution": [b.width, b.height], "count": b.uses} for i, b in enumerate(plan.buckets)}
    return {"buckets": buckets, "mean_img_ar_error": plan.aspect_error}


# States


def keep_state(work: Work, step: int) -> None:
    """Writes everything that the training needs to go on exactly from here; it is the same for all processes."""
    if not work.group.leads:
        return
    live = {
        "optimizer": work.optimizer.state_dict(),
        "schedule": work.schedule.state_dict(),
        "scaler": work.scaler.state_dict(),
    }
    tensors, packed = checkpoint.pack(live, "live")
    network = work.network
    kept = network.state() if isinstance(network, Exact) else network.tensors()
    tensors |= {f"network/{name}": tensor for name, tensor in kept.items()}
    facts = {
        "packed": packed, "report": work.report.kept(), "threads": torch.get_num_threads(),
        "started": work.started, "pictures": fingerprint(work), "torch": torch.__version__,
        "base": work.files.result()[0].sha256,
    }  # fmt: skip
    checkpoint.save_state(work.folder, step, tensors, facts, work.config.save.state_keep)


def resume(work: Work) -> int:
    """Puts everything back as the newest state has it; gives the steps done, 0 when there is no state."""
    step, kept = 0, None
    if work.saved:
        tensors, facts = work.saved
        live = checkpoint.unpack(tensors, facts["packed"])
        network = work.network
        own = {name.removeprefix("network/"): tensors[name] for name in tensors if name.startswith("network/")}
        network.restore(own) if isinstance(network, Exact) else network.load(own)
        load_optimizer(work.optimizer, live["optimizer"])
        work.schedule.load_state_dict(live["schedule"])
        work.scaler.load_state_dict(live["scaler"])
        step, kept, work.saved = facts["step"], facts["report"], None
        if facts["pictures"] != fingerprint(work):
            work.report.warning(
                "the pictures or captions are not those of before; the rest is trained on what is there now"
            )
        if facts["base"] and facts["base"] != work.files.result()[0].sha256:
            work.report.warning("the base model is another than before: its file has changed")
        if facts["torch"] != torch.__version__:
            work.report.warning(f"torch was {facts['torch']} and is {torch.__version__}: the last bits may differ")
    plan = work.plan
    work.report.start(
        plan.steps, plan.epochs, plan.steps_per_epoch, step, kept,
        family=work.family.name, device=str(work.device), images=plan.pictures, batches=plan.batches,
    )  # fmt: skip
    return step


def fingerprint(work: Work) -> str:
    """A hash of all pictures, captions and repeats."""
    lines = [f"{p.digest} {p.folder.repeats} {p.folder.reg} {p.caption}" for p in work.pictures.pictures]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# Samples


def sample(work: Work, step: int, epoch: int | None) -> None:
    """Makes the sample pictures; the output folder gets a copy under `sample/`, as with the Kohya GUI."""
    if not work.prompts:
        return
    begin = sampling.stem(work.config.output.name, step, epoch)
    with averaged(work.optimizer, work.network), at_hand(work):
        made, warnings = sampling.sample(work.family, work.network, work.prompts, work.folder.samples, begin)
    for index, picture in enumerate(made):
        work.report.sample(step, picture.file, picture.prompt, picture.seed, index)
    for warning in warnings:
        work.report.warning(warning)
    if output := work.config.output.folder:
        try:
            (Path(output) / "sample").mkdir(parents=True, exist_ok=True)
            for picture in made:
                shutil.copy2(picture.file, Path(output) / "sample")
        except OSError as error:
            work.report.warning(f"{output}: gets no samples ({error.strerror}); they are in {work.folder.samples}")
