"""Pictures made while training goes on, so that a person can see what the model has learned.

A picture follows from its prompt and seed alone: it draws from a generator of its own on the CPU, and sampling leaves
the training as it was, to the bit; only a VAE that overflows in fp16 goes on in fp32. A picture that fails is a warning
and never the end of a training.
"""

from __future__ import annotations

import difflib
import inspect
import io
import math
import re
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    KDPM2AncestralDiscreteScheduler,
    KDPM2DiscreteScheduler,
    PNDMScheduler,
)
from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler  # diffusers itself hides it without scipy
from numpy.polynomial import polynomial
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from tqdm import tqdm

from trainer import config
from trainer.config import SAMPLERS
from trainer.durable import write_aside
from trainer.errors import InputError
from trainer.families.base import Conditioning, Family
from trainer.families.text import CHUNK, number_caption, tokenize
from trainer.networks.base import Network


class SampleError(InputError):
    """A prompt that cannot be read."""


# Prompts


@dataclass(frozen=True)
class Prompt:
    """One picture to make: sizes in pixels, `scale` is classifier-free guidance."""

    text: str
    negative: str = ""
    width: int = 512
    height: int = 512
    steps: int = 30
    scale: float = 7.5
    seed: int = 42
    sampler: str = "ddim"
    notes: tuple[str, ...] = ()
    """What was changed or left out while the prompt was read."""


class Number(NamedTuple):
    """A switch with a number: the field it sets, and the limits of its value."""

    field: str
    low: float
    high: float
    kind: type[int] | type[float] = int


NUMBERS = {
    "w": Number("width", 1, 4096),
    "h": Number("height", 1, 4096),
    "d": Number("seed", 0, 2**32 - 1),
    "s": Number("steps", 1, 500),
    "l": Number("scale", 0, 100, float),
}
OTHER_MODELS = ("g", "cn", "ctr", "rcfg", "fs")  # switches of sd-scripts for models that are not trained here


def read_prompts(sample: config.Sample, side: int) -> tuple[list[Prompt], list[str]]:
    """The prompts of a config, then those of its file; and notes, each once, on what was changed or left out.

    `side` is the size in pixels of prompts that name none: 512 suits SD1.5, 1024 SDXL. Raises SampleError.
    """
    defaults = Prompt("", width=side, height=side, seed=sample.seed, sampler=sample.sampler)
    prompts = [parse_prompt(line, defaults, f"sample.prompts {n}") for n, line in enumerate(sample.prompts, 1)]
    if sample.file:
        lines = enumerate(_read_lines(Path(sample.file)), 1)
        wanted = [(n, line) for n, line in lines if line.strip() and not line.startswith("#")]
        prompts += [parse_prompt(line, defaults, f"{Path(sample.file).name} line {n}") for n, line in wanted]
    return prompts, list(dict.fromkeys(note for prompt in prompts for note in prompt.notes))


def parse_prompt(line: str, defaults: Prompt, where: str = "prompt") -> Prompt:
    """A line such as `a cat --n blurry --w 512 --h 768 --s 30 --l 7.5 --d 1 --ss euler_a`, the syntax of sd-scripts.

    Sizes are rounded down to multiples of 8, and are at least 64. Unknown switches are left out, with a note. No
    switch reads a file. Raises SampleError, which names `where`, the switch, its value and its limits.
    """
    text, *switches = re.split(r"(?:^|\s)--(?=[A-Za-z])", line.strip())
    found: dict[str, Any] = {}
    notes: list[str] = []
    for switch in switches:
        name, _, value = switch.partition(" ")
        name, value = name.lower(), value.strip()
        if name in NUMBERS:
            found[NUMBERS[name].field] = _number(name, value, where)
        elif name == "n":
            found["negative"] = value
        elif name == "ss":
            found["sampler"] = _sampler(value.lower(), where)
        else:
            why = "belongs to other models" if name in OTHER_MODELS else "is no switch for prompts"
            notes.append(f"--{name[:20]} {why}; it was left out")
    for side, switch in (("width", "--w"), ("height", "--h")):
        asked = found.get(side, getattr(defaults, side))
        found[side] = max(64, asked - asked % 8)
        if found[side] != asked:
            notes.append(f"{switch} {asked} was taken as {found[side]}: sides are multiples of 8, and at least 64")
    return replace(defaults, **found, text=text.strip(), notes=tuple(notes))


def _read_lines(path: Path) -> list[str]:
    if path.suffix.lower() in (".json", ".toml"):
        raise SampleError(f"sample.file {path}: only text files are read; write one prompt a line into a .txt file")
    try:
        return path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SampleError(f"sample.file {path} cannot be read ({error}); give a text file in UTF-8") from error


def _number(name: str, value: str, where: str) -> float:
    field, low, high, kind = NUMBERS[name]
    try:
        number = kind(value)
    except ValueError:
        number = math.nan
    if not low <= number <= high:  # NaN too
        what = "a whole number" if kind is int else "a number"
        raise SampleError(f"{where}: --{name} {value[:40]!r} ({field}) must be {what} from {low} to {high}")
    return number


def _sampler(value: str, where: str) -> str:
    if value not in SAMPLERS:
        close = difflib.get_close_matches(value, SAMPLERS, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise SampleError(f"{where}: --ss {value[:40]!r} is no sampler; {meant}There are {', '.join(SAMPLERS)}")
    return value


# Samplers


class _Lms(LMSDiscreteScheduler):
    """Integrates its polynomials itself, and exactly: diffusers needs all of scipy for this one integral."""

    def get_lms_coefficient(self, order: int, t: int, current_order: int) -> float:
        at = [float(self.sigmas[t - k]) for k in range(order)]
        others = at[:current_order] + at[current_order + 1 :]
        whole = polynomial.polyint(polynomial.polyfromroots(others))
        start, end = polynomial.polyval([at[0], float(self.sigmas[t + 1])], whole)
        return float(end - start) / math.prod(at[current_order] - other for other in others)


class Sampler(NamedTuple):
    """A scheduler of diffusers, its name in A1111, and the settings that are its own."""

    kind: type[Any]
    name: str
    options: dict[str, Any]


TABLE = {
    "ddim": Sampler(DDIMScheduler, "DDIM", {}),
    "pndm": Sampler(PNDMScheduler, "PLMS", {"skip_prk_steps": True}),
    "lms": Sampler(_Lms, "LMS", {}),
    "euler": Sampler(EulerDiscreteScheduler, "Euler", {}),
    "euler_a": Sampler(EulerAncestralDiscreteScheduler, "Euler a", {}),
    "heun": Sampler(HeunDiscreteScheduler, "Heun", {}),
    "dpm_2": Sampler(KDPM2DiscreteScheduler, "DPM2", {}),
    "dpm_2_a": Sampler(KDPM2AncestralDiscreteScheduler, "DPM2 a", {}),
    "dpmsolver": Sampler(
        DPMSolverMultistepScheduler, "DPM 2M", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}
    ),
    "dpmsolver++": Sampler(DPMSolverMultistepScheduler, "DPM++ 2M", {}),
    "dpmsingle": Sampler(DPMSolverSinglestepScheduler, "DPM++ 2S", {"lower_order_final": True}),
}


def make_scheduler(sampler: str, family: Family) -> Any:
    """A diffusers scheduler for one of SAMPLERS, on the family's own noise table and prediction.

    Settings are those of SD's own configuration, which diffusers' pipelines also insist on; sd-scripts clips latents to
    -1..1 where a prompt names its sampler, which costs contrast, and this does not. With zero-terminal SNR, steps start
    at the last timestep (Lin et al. 2023, arXiv 2305.08891, section 3.3), where the signal counts as 2^-24, because
    samplers divide by it.
    """
    kind, _, options = TABLE[sampler.removeprefix("k_")]
    shares = family.alphas_cumprod.cpu().double().clamp(min=2**-24)  # [1000]; MPS has no doubles
    betas = 1 - shares / torch.cat([shares.new_ones(1), shares[:-1]])
    common: dict[str, Any] = {"steps_offset": 1, "clip_sample": False}
    if family.zero_terminal_snr:
        common["timestep_spacing"] = "trailing"
    known = inspect.signature(kind.__init__).parameters
    return kind(
        trained_betas=betas.tolist(),
        prediction_type={"epsilon": "epsilon", "v": "v_prediction"}[family.prediction],
        **options,
        **{name: value for name, value in common.items() if name in known},
    )


# Pictures


class Sampled(NamedTuple):
    """A picture that was made."""

    file: Path
    prompt: str
    seed: int


def stem(name: str, step: int, epoch: int | None) -> str:
    """How files begin, as with sd-scripts: `zk9_e000001` at an epoch's end, else `zk9_000500` after a step."""
    return f"{name}_{step:06d}" if epoch is None else f"{name}_e{epoch:06d}"


def sample(
    family: Family, network: Network | None, prompts: Sequence[Prompt], folder: Path, begin: str
) -> tuple[list[Sampled], list[str]]:
    """Makes a PNG of each prompt in `folder`, and says in words what went wrong.

    Names are `<begin>_<number of the prompt>_<time>_<seed>.png`, such as `zk9_e000001_00_20261121141200_42.png`. The
    network's dropouts rest meanwhile; afterwards everything is in the mode it was in.
    """
    made: list[Sampled] = []
    warnings: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    with resting(family, network):
        for index, prompt in enumerate(tqdm(prompts, "samples", leave=False)):
            file = folder / f"{begin}_{index:02d}_{time.strftime('%Y%m%d%H%M%S')}_{prompt.seed}.png"
            what = f"sample {index} ({prompt.text[:60]!r})"
            try:
                pixels = draw(family, prompt)
                if not pixels.isfinite().all():
                    pixels = torch.full_like(pixels, -1)
                    warnings.append(
                        f"{what} came out as NaN and is black; try model.vae_precision fp32, or a lower rate"
                    )
                write_aside(file, png(pixels, prompt))
                made.append(Sampled(file, prompt.text, prompt.seed))
            except Exception as error:  # whatever it is, hours of training must not end for a preview
                reason = str(error).partition("\n")[0] or type(error).__name__
                smaller = "; give smaller --w and --h" if isinstance(error, torch.OutOfMemoryError) else ""
                warnings.append(f"{what} could not be made: {reason}{smaller}")
    return made, warnings


@torch.no_grad()
def draw(family: Family, prompt: Prompt) -> Tensor:
    """Pixels [3, height, width] in about -1..1, float32 on the CPU (guidance: Ho & Salimans 2022, arXiv 2207.12598).

    Latents stay in float32 whatever the model's precision. Noise starts from the seed itself, as in other tools.
    """
    device, generator = family.unet.device, torch.Generator().manual_seed(prompt.seed)
    cond = read_words(family, [prompt.negative, prompt.text])
    scheduler = make_scheduler(prompt.sampler, family)
    scheduler.set_timesteps(prompt.steps, device=device)
    draws = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    latents = torch.randn(1, 4, prompt.height // 8, prompt.width // 8, generator=generator).to(device)
    latents = latents * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        both = scheduler.scale_model_input(latents, t).expand(2, -1, -1, -1)  # [2, 4, h, w]
        away, towards = family.predict(both, t.expand(2), cond).float().chunk(2)
        latents = scheduler.step(away + prompt.scale * (towards - away), t, latents, **draws).prev_sample
    return family.decode(latents)[0].float().cpu()


def read_words(family: Family, texts: Sequence[str]) -> Conditioning:
    """What the U-Net reads of prompts, of any length and with weights as in A1111, however captions are trained."""
    numbers = [number_caption(tokenizer, text, weighted=True)[0] for tokenizer in family.tokenizers for text in texts]
    chunks = max(1, *(math.ceil(len(ids) / CHUNK) for ids in numbers))
    tokens = tokenize(family.tokenizers, texts, chunks * CHUNK, weighted=True)
    return family.encode_tokens(tokens.to(family.unet.device))


def png(pixels: Tensor, prompt: Prompt) -> bytes:
    """A PNG file of pixels [3, H, W] in -1..1, which says how it was made in the words of A1111."""
    grid = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)  # [H, W, 3]
    info = PngInfo()
    info.add_text("parameters", parameters(prompt))
    file = io.BytesIO()
    Image.fromarray(grid.numpy()).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def parameters(prompt: Prompt) -> str:
    """The text that A1111 reads from a picture."""
    negative = f"Negative prompt: {prompt.negative}\n" if prompt.negative else ""
    name = TABLE[prompt.sampler.removeprefix("k_")].name
    return (
        f"{prompt.text}\n{negative}Steps: {prompt.steps}, Sampler: {name}, CFG scale: {prompt.scale:g},"
        f" Seed: {prompt.seed}, Size: {prompt.width}x{prompt.height}"
    )


@contextmanager
def resting(family: Family, network: Network | None) -> Generator[None]:
    """Everything in eval mode, and afterwards each module in the mode it was in."""
    roots = [family.unet, family.vae, *family.text_encoders]
    awake = [module for root in roots for module in root.modules() if module.training]
    training = network is not None and network.training
    for root in roots:
        root.eval()
    if network is not None:
        network.eval()  # readies a LoRA's weights too
    try:
        yield
    finally:
        for module in awake:
            module.training = True
        if network is not None:
            network.train(training)
