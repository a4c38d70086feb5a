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
    if name == "mps" and train.processes > 1:
        raise InputError(f"train.processes: {train.processes}, and this Mac has one GPU; set it to 1")
    mine = int(os.environ.get("LOCAL_WORLD_SIZE", train.processes))  # several machines have some each
    if name == "cuda" and mine > (there := torch.cuda.device_count()):
        raise InputError(
            f"train.processes: {mine} here, each needs a GPU of its own, and {there} can be used; set it to {there}"
        )
    return torch.device(name)


def use_threads(wanted: int | None, processes: int = 1) -> int:
    """Sets the CPU threads and gives their number; without a wish, the cores are divided among the processes."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(wanted or max(1, mine // processes))
    return torch.get_num_threads()


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: of the GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    memory = psutil.Process().memory_info()
    return getattr(memory, "peak_wset", 0) or resident_peak()


def most_used(device: torch.device) -> int:
    """Most bytes in use at once, without what torch holds in reserve on a CUDA device."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory(device)


def room(device: torch.device) -> int | None:
    """Bytes that this process may hold on a GPU, what it holds counted; None in main memory, which only gets slow."""
    if device.type == "cuda":  # on Windows what has spilled counts as held
        return min(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device), whole_memory(device))
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return None


def whole_memory(device: torch.device) -> int:
    """Bytes of a CUDA device, whoever holds them; 0 elsewhere."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def held_and_free(device: torch.device) -> tuple[int, int]:
    """Bytes of a CUDA device that this process holds, and bytes that nobody does; (0, 0) elsewhere."""
    if device.type != "cuda":
        return 0, 0
    return torch.cuda.memory_reserved(device), torch.cuda.mem_get_info(device)[0]


def resident_peak() -> int:
    """Most bytes of main memory that this process has held, where the system counts in that way."""
    import resource  # not on Windows, which has told by now

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
