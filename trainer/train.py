"""The training loop, and how a training ends."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Sequence

import torch

from trainer import saving, several, thrift
from trainer.config import Sample, Save, Validation
from trainer.data.dataset import Batch
from trainer.devices import held_and_free, peak_memory, whole_memory
from trainer.draws import seed_of
from trainer.errors import InputError
from trainer.families.detect import detect_base
from trainer.fit import fit
from trainer.ladder import advice
from trainer.objectives import draw_noise, draw_perturbation, draw_timestep
from trainer.optimizers import averaged, clip
from trainer.report import Report
from trainer.runfolder import RunFolder
from trainer.spill import Alarm, Pace, may_spill
from trainer.step import Draws, micro_loss
from trainer.terminal import Wish, copied_to
from trainer.work import Work, prepare

MEMORY = (
    "turn on memory.fit, which finds out what makes it fit; or lower train.batch or data.resolution, set"
    " train.checkpointing to true, or train.precision to bf16"
)


def run(folder: RunFolder, flags: Sequence[str] = ()) -> int:
    """Trains in a run folder; 0 done or stopped on request, 2 bad input, 1 a failure of the engine.

    Whatever goes wrong is caught here, once: its cause and a remedy become an event, the traceback stays in the log.
    `flags` say where files are now that have moved since the run was made.
    """
    if folder.state() == "done":
        print(f"{folder.path}: this run is done; its files are in {folder.checkpoints}")
        return 0
    if several.follows():
        return follow(folder, flags)
    with folder.owned(), copied_to(folder.log):
        report = Report(folder)
        try:
            with Wish().heard() as wish, several.company(folder, flags) as group:
                with group.together():
                    work = fit(folder, report, flags, group, rehearse)
                train(work, wish)
            return 0
        except KeyboardInterrupt:
            report.stopped("stop")
            return 0
        except InputError as error:
            report.error(str(error), "")
            return 2
        except torch.OutOfMemoryError as error:
            report.error(f"the GPU's memory is full: {str(error).splitlines()[0]}", MEMORY)
            return 1
        except Exception as error:
            traceback.print_exc()
            report.error(f"{type(error).__name__}: {error}", f"the whole story is in {folder.log}")
            return 1


def follow(folder: RunFolder, flags: Sequence[str]) -> int:
    """Does the same as the first of several processes, which alone hears, tells and writes; gives the exit code."""
    several.end_with_the_first()
    wish, shadow = Wish(), several.Shadow(folder.path)
    with wish.ignored(), several.company(shadow, flags) as group:
        try:
            with group.together():
                work = prepare(shadow, several.Silent(shadow), flags, group)
            train(work, wish)
            return 0
        except Exception as error:
            if not group.over:  # else the first one tells it
                traceback.print_exc()
            return 2 if isinstance(error, InputError) else 1


def train(work: Work, wish: Wish) -> None:
    """Trains from where the run folder stands to the last step, or until someone asks to stop."""
    config, plan, report = work.config, work.plan, work.report
    with work.group.together():
        step = saving.resume(work)
        if step == 0 and work.rehearsal is None:
            rehearse(work)
    if step == 0 and config.sample.first:
        saving.sample(work, step, epoch=0)
    saved = stated = time.monotonic()
    wish.patient = True
    alarm = Alarm(work.rehearsal, whole_memory(work.device) if may_spill() else 0)

    while step < plan.steps:
        began = time.monotonic()
        try:
            loss, scalars = take_step(work, step)
        except (InputError, torch.OutOfMemoryError):
            saving.rescue(work, step)
            raise
        step += 1
        last = step == plan.steps
        epoch = step // plan.steps_per_epoch if step % plan.steps_per_epoch == 0 else None  # the one that ends here
        of = -(-step // plan.steps_per_epoch)
        report.step(step, loss, saving.rates(work), of, peak_memory(work.device), scalars)
        if epoch:
            report.epoch(epoch)
        heed(work, alarm, step, began)

        command = "stop" if wish.stop else work.folder.take_command()
        stopping, why = command in ("stop", "pause") and not last, ""
        if not stopping:
            if last or due(config.validation, step, epoch):
                validate(work, step)
            if command == "sample" or due(config.sample, step, epoch) or (last and by_itself(config.sample)):
                saving.sample(work, step, epoch)
            if why := work.lookout.look(step, epoch, wish.asked):
                command, stopping = "turned", not last
        stopping = work.group.agree(stopping)
        if last:
            break
        if stopping or command == "save" or due(config.save, step, epoch) or passed(saved, config.save.every_minutes):
            saving.save(work, step, epoch if ends_epoch(config.save, epoch) else None)
            saved = time.monotonic()
        if stopping or passed(stated, config.save.state_minutes):
            saving.keep_state(work, step)
            stated = time.monotonic()
        if stopping:
            return report.stopped(str(command), why)

    report.done(saving.finish(work, step))


def take_step(work: Work, step: int) -> tuple[float, dict[str, float]]:
    """One optimizer step: its loss, and scalars for TensorBoard. All draws follow from the seed and the step."""
    epoch, place = divmod(step, work.plan.steps_per_epoch)
    micro = work.plan.batches_of(place)
    total = torch.zeros((), device=work.device)
    names: list[str] = []
    work.network.at(step, work.plan.steps)
    with work.group.together():
        for index in micro:
            batch = work.data.batch(epoch, index)
            work.network.draw(seed_of(work.config.seed, "dropout", epoch, index, *work.group.apart))
            loss = loss_of(work, batch, epoch) * batch.share
            work.scaler.scale(loss / len(micro)).backward()
            total += loss.detach() / len(micro)
            names += batch.names

    work.group.add_up(work.network.parameters(), total)
    work.scaler.unscale_(work.optimizer)
    norm = clip(work.network.parameters(), work.config.train.clip)
    value, size = torch.stack([total, norm.to(total)]).tolist()  # the one wait for the device in a step
    if not math.isfinite(value) or not (math.isfinite(size) or work.scaler.is_enabled()):
        raise InputError(
            f"step {step + 1}: the loss is {value:g} and the gradient {size:g}, with {', '.join(sorted(set(names)))};"
            " the weights before it are kept. Lower optimizer.lr, or set train.precision to bf16 or no"
        )
    scale = work.scaler.get_scale()
    work.scaler.step(work.optimizer)
    work.scaler.update()
    skipped = work.scaler.get_scale() < scale  # fp16 overflowed: the scaler took no step, so the schedule takes none
    if not skipped:
        work.schedule.step()
    work.optimizer.zero_grad(set_to_none=True)
    norms = work.network.limit_norms()
    scalars = {f"max_norm/{name}": float(norm) for name, norm in norms._asdict().items()} if norms else {}
    return value, {**scalars, "skipped/fp16": 1.0} if skipped else scalars


def draw(work: Work, batch: Batch, epoch: int) -> Draws:
    """Noise and timesteps of a batch, each picture's from its own generator, and captions as tokens; on the device."""
    seed, objective = work.config.seed, work.config.objective

    def generator(purpose: str, picture: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of(seed, purpose, epoch, picture))

    pairs = list(zip(batch.latents, batch.pictures, strict=True))
    noise = torch.stack([draw_noise(generator("noise", name), one, objective.noise) for one, name in pairs])
    bounds = objective.min_timestep, objective.max_timestep
    timesteps = torch.stack([draw_timestep(generator("timestep", name), *bounds) for _, name in pairs])
    more = None
    if objective.perturbation:
        how = objective.perturbation, objective.perturbation_random
        more = torch.stack([draw_perturbation(generator("perturbation", name), one.shape, *how) for one, name in pairs])
        more = more.to(work.device)
    kept = torch.tensor(batch.reg, device=work.device) if objective.prior == "model" and any(batch.reg) else None
    batch = batch.to(work.device)
    text = batch.cond or work.family.tokenize(batch.captions).to(work.device)
    prior = None
    if batch.prior is not None:
        prior = batch.prior_cond or work.family.tokenize(batch.prior).to(work.device)
    return Draws(
        batch.latents, noise.to(work.device), timesteps.to(work.device), batch.weights, text, batch.sizes, more, kept,
        batch.mask, prior,
    )  # fmt: skip


def loss_of(work: Work, batch: Batch, epoch: int) -> torch.Tensor:
    """The loss of a batch, to go backward from; what it keeps for that waits in main memory if so asked."""
    waiting = thrift.activations_wait(work.family, work.device) if work.config.memory.offload_activations else None
    with waiting or contextlib.nullcontext():
        return micro_loss(work.family, work.network, draw(work, batch, epoch), work.config.objective)[0]


def pace(work: Work, batches: Sequence[Sequence[int]], seconds: float, paused: bool = False) -> Pace:
    """What the spill alarm wants to know of a step: `batches` hold the places of their pictures."""
    shape = tuple((len(items), *work.data.buckets[items[0]]) for items in batches)
    return Pace(seconds, shape, *held_and_free(work.device), paused)


def heed(work: Work, alarm: Alarm, step: int, began: float) -> None:
    """Says it when video memory spills, once, after a step that began at a time."""
    batches = [work.data.batches[index] for index in work.plan.batches_of((step - 1) % work.plan.steps_per_epoch)]
    if found := alarm.hear(began, time.monotonic(), lambda took, paused: pace(work, batches, took, paused)):
        now, should = found
        work.report.warning(
            f"video memory is full and spills into main memory: a step takes {now:.2g} s, and {should:.2g} s would do."
            f" Stop, {advice(work.config, detect_base(work.config.model))}, and start again; memory.fit finds it out"
        )


def rehearse(work: Work) -> None:
    """One pass forward and back at the largest bucket, and one save: what would fail at hour three fails now."""
    batches = work.data.batches
    areas = [len(items) * work.data.buckets[items[0]][0] * work.data.buckets[items[0]][1] for items in batches]
    largest = areas.index(max(areas))
    batch = work.data.batch(0, largest)
    began = time.monotonic()
    loss = loss_of(work, batch, 0)
    work.scaler.scale(loss).backward()
    loss.item()  # waits for the device
    work.rehearsal = pace(work, [batches[largest]], time.monotonic() - began)
    work.optimizer.zero_grad(set_to_none=True)
    saving.try_out(work)
    width, height = work.data.buckets[batches[largest][0]]
    peak = (peak_memory(work.device) + work.plan.memory.get("optimizer", 0)) / 1e9
    work.report.say(f"rehearsed: {len(batches[largest])} x {width}x{height}, and a save; peak memory {peak:.1f} GB")


def validate(work: Work, step: int) -> None:
    """Measures held-out and trained pictures, where there are any."""
    checks = work.checks
    if checks.held_out and checks.trained:
        with averaged(work.optimizer, work.network):
            held_out, trained = (
                checks.measure(work.family, work.network, data) for data in (checks.held_out, checks.trained)
            )
        work.report.validation(step, held_out, trained)


Every = Save | Sample | Validation


def due(every: Every, step: int, epoch: int | None) -> bool:
    """Whether something is due after a step that ends an epoch (its number) or none (None)."""
    return ends_epoch(every, epoch) or (every.every_steps is not None and step % every.every_steps == 0)


def ends_epoch(every: Every, epoch: int | None) -> bool:
    """Whether something is due by the epoch that ends, if one does."""
    return every.every_epochs is not None and epoch is not None and epoch % every.every_epochs == 0


def by_itself(every: Every) -> bool:
    """Whether something is done without being asked for."""
    return every.every_epochs is not None or every.every_steps is not None


def passed(since: float, minutes: float | None) -> bool:
    """Whether so many minutes have passed; never when there is no number."""
    return minutes is not None and time.monotonic() - since >= 60 * minutes
