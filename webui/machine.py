"""What this machine has: its NVIDIA GPUs as their driver tells them, processor, memory, room on the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

Gpu = dict[str, Any]
FRESH = 1.0  # seconds for which an answer of the driver is used again: many pages may ask

_lock = threading.Lock()
_known: tuple[float, list[Gpu]] = (-FRESH, [])


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that jobs may use, memory in bytes, temperature in degrees Celsius, load in percent.

    `bf16`: whether it computes in that; a compute capability of 8.0 (RTX 30) is the first that does. What a GPU cannot
    tell is None. Empty without such a GPU or its driver.
    """
    global _known
    with _lock:
        if time.monotonic() - _known[0] >= FRESH:
            _known = time.monotonic(), visible(_ask_driver(), os.environ)
        return _known[1]


def machine(folder: Path) -> dict[str, Any]:
    """GPUs, processor (load in percent), memory, and the bytes that are free where runs are kept."""
    memory = psutil.virtual_memory()
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    cpu = {"cores": psutil.cpu_count(), "load": psutil.cpu_percent()}
    cpu |= {"memory_total": memory.total, "memory_free": memory.available}
    return {"gpus": gpus(), "cpu": cpu, "disk_free": shutil.disk_usage(there).free}


def visible(found: list[Gpu], environ: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to us: it lists numbers or ids, up to the first that is not there."""
    wish = environ.get("CUDA_VISIBLE_DEVICES")
    if wish is None:
        return found
    kept: list[Gpu] = []
    for word in map(str.strip, wish.split(",")):
        match = [gpu for gpu in found if word == str(gpu["index"]) or (word and gpu["uuid"].startswith(word))]
        if len(match) != 1:
            break
        kept += match
    return kept


def _ask_driver() -> list[Gpu]:
    try:
        import pynvml as nvml
    except ImportError:  # not made for every system
        return []
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # no driver
        return []
    try:
        return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    facts: Gpu = {"index": index, "uuid": nvml.nvmlDeviceGetUUID(handle), "name": nvml.nvmlDeviceGetName(handle)}
    facts |= dict.fromkeys(("memory_total", "memory_used", "memory_free", "bf16", "temperature", "load"))
    with contextlib.suppress(nvml.NVMLError):  # each is missing on some card
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        facts |= {"memory_total": memory.total, "memory_used": memory.used, "memory_free": memory.free}
    with contextlib.suppress(nvml.NVMLError):
        facts["bf16"] = nvml.nvmlDeviceGetCudaComputeCapability(handle)[0] >= 8
    with contextlib.suppress(nvml.NVMLError):
        facts["temperature"] = nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
    with contextlib.suppress(nvml.NVMLError):
        facts["load"] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
    return facts
