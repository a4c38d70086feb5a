"""Which build of PyTorch fits this machine: probe_... look at it, pick_backend decides and is pure."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from trainer.launcher import say

TORCH = "2.13.0"
OTHER_TORCH = {"cu128": "2.11.0"}  # the last release with builds for CUDA 12.8


class Gpu(NamedTuple):
    """One NVIDIA GPU: compute capability (8, 9), driver (580, 65, 6)."""

    compute: tuple[int, ...]
    driver: tuple[int, ...]


class Pick(NamedTuple):
    """A build of PyTorch, by uv's name for it (cu126, rocm7.1, cpu, ...), and why it was chosen."""

    backend: str
    why: str


def pick_backend(system: str, machine: str, gpus: list[Gpu], rocm: tuple[int, ...] | None = None) -> Pick:
    """The build of PyTorch that fits a machine; pure. `rocm` is None without ROCm, () when its version is unknown.

    Builds of PyTorch 2.12 to 2.14 (RELEASE.md of pytorch/pytorch): CUDA 12.6 for compute 5.0 to 9.0, CUDA 13.0 for 7.5
    and newer, on 64-bit ARM both from 8.0; ROCm 7.1 and 7.2. CUDA 12.8 ended with PyTorch 2.11.

    Drivers (NVIDIA, CUDA Toolkit Release Notes, minimum driver for minor version compatibility): CUDA 12.x runs from
    525.60 on Linux and 528.33 on Windows, CUDA 13.x from 580. Within a major version an older driver runs a newer
    toolkit, so 525 is enough for 12.6. Blackwell (10.0 and newer) has no kernels in 12.6, and no driver before 570.

    AMD's kernel driver works with ROCm two releases before and after its own (AMD, user and kernel-space support
    matrix), and the builds bring their ROCm along: 7.1 reaches down to the driver of 6.4.
    """
    if system == "Darwin":
        return Pick("cpu", "macOS: its one build, which drives Apple GPUs through Metal (MPS)")
    if gpus:
        return _pick_cuda(system, machine.lower() in ("arm64", "aarch64"), gpus)
    if rocm is None:
        return Pick("cpu", "no GPU that PyTorch can use was found")
    if system != "Linux" or machine != "x86_64":
        return Pick("cpu", f"an AMD GPU, which PyTorch drives on Linux x86_64 only, not on {system} {machine}")
    if rocm and rocm < (6, 4):
        return Pick("cpu", f"ROCm {_dots(rocm)} is too old for ROCm 7.1; update it to 6.4 or newer to use the GPU")
    return Pick("rocm7.2" if rocm >= (7, 2) else "rocm7.1", f"ROCm {_dots(rocm) or 'of unknown version'}")


def _pick_cuda(system: str, arm: bool, gpus: list[Gpu]) -> Pick:
    """The CUDA build for these GPUs; where no build fits them all, the newest GPU counts."""
    oldest, newest, driver = min(gpus).compute, max(gpus).compute, min(gpu.driver for gpu in gpus)
    needed = (528, 33) if system == "Windows" else (525, 60)
    found = f"NVIDIA GPU of compute {_dots(newest)}, driver {_dots(driver)}"
    if system not in ("Linux", "Windows") or (arm and system == "Windows"):
        return Pick("cpu", f"{found}, but PyTorch has no CUDA build for {system} on this processor")
    if newest < ((8, 0) if arm else (5, 0)):
        return Pick("cpu", f"{found}: PyTorch no longer has kernels for it")
    if driver < needed:
        return Pick("cpu", f"{found}; update the driver to {_dots(needed)} or newer to use the GPU")
    if newest >= (10, 0):
        found += f"; the one of compute {_dots(oldest)} has no kernels here" if oldest < (7, 5) else ""
        if driver >= (580,):
            return Pick("cu130", found)
        return Pick("cu128", f"{found}; with driver 580 or newer it would be PyTorch {TORCH}")
    if oldest < (7, 5):
        return Pick("cu126", f"{found}; CUDA 12.6 is the last with Maxwell, Pascal and Volta (oldest: {_dots(oldest)})")
    return Pick("cu130" if driver >= (580,) else "cu126", found)


def _dots(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def numbers(text: str) -> tuple[int, ...]:
    """The whole numbers in a text: "580.65.06" gives (580, 65, 6)."""
    return tuple(map(int, re.findall(r"\d+", text)))


def probe_nvidia(seconds: float = 15) -> list[Gpu]:
    """The NVIDIA GPUs, as nvidia-smi tells them; none, said aloud, when it is missing, fails or hangs."""
    places = [shutil.which("nvidia-smi"), "/usr/lib/wsl/lib/nvidia-smi"]
    tool = next((place for place in places if place and os.path.exists(place)), None)
    if tool is None:
        return []
    query = [tool, "--query-gpu=compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, errors="replace", timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"nvidia-smi did not answer ({error}): going on without an NVIDIA GPU.")
        return []
    rows = re.findall(r"^\s*(\d+\.\d+)\s*,\s*(\d+[\d.]*)\s*$", answer.stdout, re.MULTILINE)
    if answer.returncode or not rows:
        words = " ".join((answer.stdout + answer.stderr).split())[:200]
        say(f"nvidia-smi names no GPU (exit code {answer.returncode}: {words}): going on without an NVIDIA GPU.")
        return []
    return [Gpu(numbers(compute), numbers(driver)) for compute, driver in rows]


def probe_rocm(root: Path = Path("/")) -> tuple[int, ...] | None:
    """The version of ROCm, () when it is there but does not say, None without an AMD GPU."""
    if os.name == "nt":
        return () if os.environ.get("HIP_PATH") else None
    if not (root / "dev/kfd").exists():
        return None
    with contextlib.suppress(OSError):
        return numbers((root / "opt/rocm/.info/version").read_text())[:2]
    return () if shutil.which("rocminfo") else None


def choose() -> Pick:
    """The build for this machine, or the one that LIKENESS_TORCH names."""
    wish = os.environ.get("LIKENESS_TORCH")
    if wish:
        return Pick(wish, "LIKENESS_TORCH asks for it")
    return pick_backend(platform.system(), platform.machine(), probe_nvidia(), probe_rocm())
