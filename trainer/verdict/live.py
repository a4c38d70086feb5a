"""The comparison while a training goes on: its own network draws, is measured, and the training may end by itself.

Pictures draw from generators of their own, and everything is put back as it was, so the training goes on to the bit as
if nobody had looked. What was found stands in the run's events alone: a training that is resumed goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.checkpoint import epoch_name, final_name
from trainer.compare.denoise import Tick
from trainer.compare.generate import ticking
from trainer.compare.info import Info, png_of
from trainer.compare.painter import Painter
from trainer.compare.samplers import KARRAS
from trainer.compare.shot import Base, Shot
from trainer.config import Config
from trainer.data.folders import Collection
from trainer.durable import make_folder, write_aside
from trainer.families.base import Family
from trainer.networks.base import Network
from trainer.report import Report
from trainer.runfolder import RunFolder
from trainer.sample import resting
from trainer.terminal import Stop, Stopped
from trainer.verdict.candidates import losses_of, what_trained
from trainer.verdict.eyes import BaseEye
from trainer.verdict.gallery import open_all, seeded
from trainer.verdict.measures import LARGEST
from trainer.verdict.noise import check
from trainer.verdict.options import Compare
from trainer.verdict.patience import why_end
from trainer.verdict.questions import Question, questions_of
from trainer.verdict.scale import BaseWitness, Exhibit
from trainer.verdict.scores import Row
from trainer.verdict.setting import read_captions

SAMPLER: str = Compare.model_fields["sampler"].default


@dataclass
class Yardstick:
    """What every candidate is held against."""

    asked: list[tuple[Question, int]]
    witness: BaseWitness


@dataclass
class Lookout:
    """Looks at a training. The model is drawn with as it is trained, with its own VAE and in its own precision."""

    folder: RunFolder
    config: Config
    report: Report
    family: Family
    network: Network
    pictures: Collection
    steps: int
    """Of the whole training."""
    _yardstick: Yardstick | None = None

    def look(self, step: int, epoch: int | None, should_stop: Stop) -> str:
        """Compares after the end of an epoch (its number) when it is time to; gives the reason why the training should
        end here, or nothing. should_stop: whether someone wants the training to end, so that it does not wait for this.
        """
        every, measured = self.config.compare.every_epochs, self.config.validation.every_steps
        if every and epoch and epoch % every == 0:
            self._try_to_compare(step, epoch, should_stop)
        if self.config.compare.patience and (epoch or (measured and step % measured == 0)):
            return why_end(self.folder.events(), self.config.compare, step)
        return ""

    def _try_to_compare(self, step: int, epoch: int, should_stop: Stop) -> None:
        try:
            with self._as_it_was():
                self._compare(step, epoch, should_stop)
        except Stopped:
            self.report.say(f"epoch {epoch} was not compared: the training is asked to end")
        except Exception as error:  # whatever it is, hours of training must not end for a comparison
            reason = str(error).partition("\n")[0] or type(error).__name__
            self.report.warning(f"epoch {epoch} could not be compared: {reason}")

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """Everything rests while inside, and goes on as it was; a VAE that overflowed has its precision back."""
        precision = self.family.vae.dtype
        try:
            with resting(self.family, self.network):
                yield
        finally:
            if self.family.vae.dtype != precision:
                self.family.vae.to(dtype=precision)

    def _compare(self, step: int, epoch: int, should_stop: Stop) -> None:
        tick = ticking(lambda: should_stop() or self.folder.asked_to_end())
        if self._yardstick is None:
            self._yardstick = self._make_yardstick(tick)
        asked, witness = self._yardstick.asked, self._yardstick.witness
        files = self._draw(f"e{epoch:06d}", [(question.prompt, seed) for question, seed in asked], tick)
        with self.network.aside():
            values = witness.values(open_all(files))
        name = self.config.output.name
        file = self.folder.checkpoints / (final_name(name) if step == self.steps else epoch_name(name, epoch))
        losses = losses_of(self.folder).get(step, {})
        row = Row(str(file), file.stem, 1.0, epoch, step, "file", values, losses, what_trained(self.config))
        check([row])
        self.report.score(step, epoch, {**row.to_json(), "pictures": [str(picture) for picture in files]})

    def _make_yardstick(self, tick: Tick) -> Yardstick:
        """What is asked, what the base model draws of it, and who looks."""
        watch = self.config.compare
        mine = [picture for picture in self.pictures.pictures if not picture.folder.reg]
        topic, captions = read_captions(mine, self.config)
        questions = questions_of(topic, captions, watch.questions)
        asked = seeded(questions, self.config.sample.seed, watch.seeds)
        by_chance = sorted({picture.digest: picture.path for picture in mine}.items())
        data = open_all([path for _, path in by_chance[:LARGEST]])
        with self.network.aside():
            files = self._draw("base", [(question.bare, seed) for question, seed in asked], tick)
            base = open_all(files)
            eye = BaseEye(lambda: self.family, base[0].size, self.config.train.batch, tick)
            exhibit = Exhibit(asked, base, data, [topic.bare(text) for text in captions])
            witness = BaseWitness(eye, exhibit)
        told = [{**asdict(question), "seed": seed} for question, seed in asked]
        self.folder.event("asked", asked=told)
        self.folder.event("reference", pictures=[str(file) for file in files])
        return Yardstick(asked, witness)

    def _draw(self, name: str, wanted: Sequence[tuple[str, int]], tick: Tick) -> list[Path]:
        """Draws prompts with their seeds, as many at once as a step learns from: no more memory than that is taken."""
        folder, watch = self.folder.path / "compare", self.config.compare
        make_folder(folder)
        side = int(self.family.unet.config.sample_size) * 8
        base = Base(Path(self.config.model.base), None, self.config.model.clip_skip, self.family.name, side)
        shots = [
            Shot(base, prompt, "", (), (), SAMPLER, watch.steps, watch.cfg, seed, side, side, None, None, None)
            for prompt, seed in wanted
        ]
        painter, batch = Painter.holding(self.family, self.report.warning), self.config.train.batch
        files: list[Path] = []
        for start in range(0, len(shots), batch):
            some = shots[start : start + batch]
            for shot, picture in zip(some, painter.paint_many(some, tick), strict=True):
                files.append(folder / f"{self.config.output.name}_{name}_{len(files):02d}_{shot.seed}.png")
                write_aside(files[-1], png_of(picture, _info(shot)))
        return files


def _info(shot: Shot) -> Info:
    """What a picture says of itself; its LoRA has no file yet."""
    return Info(shot.prompt, shot.negative, {
        "Steps": f"{shot.steps}", "Sampler": shot.sampler.removesuffix(KARRAS), "Schedule type": KARRAS.strip(),
        "CFG scale": f"{shot.cfg:g}", "Seed": f"{shot.seed}", "Size": f"{shot.width}x{shot.height}",
    })  # fmt: skip
