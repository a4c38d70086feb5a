"""ONNX models, opened on the best device that onnxruntime finds here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from trainer.data.pictures import plain
from trainer.errors import InputError

GPUS = ("CUDAExecutionProvider", "MIGraphXExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider")
"""The best first; the CPU is always there."""
CPU = "CPUExecutionProvider"


def open_session(file: Path, option: str) -> tuple[Any, str]:
    """A session, and on what it runs, in words. InputError when the file, given as `option`, is no model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is an exception, or said below
    there = onnxruntime.get_available_providers()
    wanted = [provider for provider in GPUS if provider in there][:1]
    if wanted == ["CUDAExecutionProvider"] and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds the libraries of CUDA that torch brought
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=[*wanted, CPU])
    except Exception as error:  # onnxruntime has a class of its own for each kind of failure
        told = f"{plain(str(file), 1000)}: onnxruntime cannot open it ({plain(str(error), 120)})"
        raise InputError(f"{option}: {told}: get the file again") from error
    used = session.get_providers()[0]
    if wanted and used == CPU:
        return session, f"onnxruntime offers {wanted[0]} but cannot start it here: on the CPU, which is slower"
    if used == CPU and shutil.which("nvidia-smi"):
        return session, f"on the CPU; for the GPU there is {sys.executable} -m pip install onnxruntime-gpu"
    return session, f"on {'the CPU' if used == CPU else used.removesuffix('ExecutionProvider')}"
