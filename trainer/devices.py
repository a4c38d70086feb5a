"""Which device, which precision, how many threads; and how much memory was needed."""

from __future__ import annotations

import os
import sys

import psutil
import torch

from trainer.config import Train
from trainer.errors import InputError

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def choose_device(train: Train) -> torch.device:
    """The device that a config asks for; InputError when this machine has none of that kind."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(name for name, there in here.items() if there) if train.device == "auto" else train.device
    if not here[name]:
        raise InputError(
            f"train.device: {name} is not available here; set it to auto, or one of {[n for n in here if here[n]]}"
        )
    if name == "cuda" and train.precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(
            f"train.precision: {torch.cuda.get_device_name()} has no bf16 (RTX 30 and newer do); set it to fp16"
        )
    return torch.device(name)


def use_threads(wanted: int | None) -> int:
    """Sets the CPU threads and gives their number."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(wanted or mine)
    return torch.get_num_threads()


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: of the GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", 0) or resident_peak()


def resident_peak() -> int:
    """Most bytes of main memory that this process has held, where the system counts in that way."""
    import resource  # not on Windows, which has told by now

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
