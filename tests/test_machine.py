"""Which PyTorch fits which machine, and how launch.py looks at the machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.launcher.machine import Gpu, pick_backend, probe_nvidia, probe_rocm

posix = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for nvidia-smi")

GTX1080, V100, T4, A100, RTX4090, H100, B200, RTX5090 = (6, 1), (7, 0), (7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0)
NEW, OLD, ANCIENT = (580, 65, 6), (535, 104), (470, 82)


@pytest.mark.parametrize(
    ("system", "machine", "gpus", "rocm", "backend"),
    [
        ("Linux", "x86_64", [], None, "cpu"),
        ("Linux", "x86_64", [(RTX4090, NEW)], None, "cu130"),
        ("Linux", "x86_64", [(RTX4090, (580,))], None, "cu130"),
        ("Linux", "x86_64", [(RTX4090, (579, 99))], None, "cu126"),
        ("Linux", "x86_64", [(T4, NEW)], None, "cu130"),
        ("Linux", "x86_64", [(V100, NEW)], None, "cu126"),  # CUDA 13 has no kernels for it, whatever the driver
        ("Linux", "x86_64", [(GTX1080, NEW)], None, "cu126"),
        ("Linux", "x86_64", [((5, 0), NEW)], None, "cu126"),
        ("Linux", "x86_64", [((3, 5), ANCIENT)], None, "cpu"),
        ("Linux", "x86_64", [(H100, OLD)], None, "cu126"),
        ("Linux", "x86_64", [(A100, (525, 60, 13))], None, "cu126"),
        ("Linux", "x86_64", [(A100, (525, 53))], None, "cpu"),
        ("Linux", "x86_64", [(A100, ANCIENT)], None, "cpu"),
        ("Linux", "x86_64", [(B200, NEW)], None, "cu130"),
        ("Linux", "x86_64", [(RTX5090, (570, 86))], None, "cu128"),  # 12.6 has no kernels for it
        ("Linux", "x86_64", [(GTX1080, NEW), (RTX4090, NEW)], None, "cu126"),  # one build for both
        ("Linux", "x86_64", [(RTX5090, NEW), (GTX1080, NEW)], None, "cu130"),  # none for both: the newer
        ("Linux", "aarch64", [(H100, OLD)], None, "cu126"),
        ("Linux", "aarch64", [((12, 1), NEW)], None, "cu130"),
        ("Linux", "aarch64", [(T4, NEW)], None, "cpu"),
        ("Windows", "AMD64", [(RTX4090, (591, 44))], None, "cu130"),
        ("Windows", "AMD64", [(RTX4090, (528, 33))], None, "cu126"),
        ("Windows", "AMD64", [(RTX4090, (527, 41))], None, "cpu"),
        ("Windows", "AMD64", [(RTX5090, (576, 2))], None, "cu128"),
        ("Windows", "ARM64", [(RTX4090, NEW)], None, "cpu"),
        ("Windows", "AMD64", [], (), "cpu"),
        ("Darwin", "arm64", [], None, "cpu"),
        ("Linux", "x86_64", [], (7, 2), "rocm7.2"),
        ("Linux", "x86_64", [], (7, 1), "rocm7.1"),
        ("Linux", "x86_64", [], (), "rocm7.1"),
        ("Linux", "x86_64", [], (6, 4), "rocm7.1"),
        ("Linux", "x86_64", [], (6, 3), "cpu"),
        ("Linux", "aarch64", [], (7, 2), "cpu"),
        ("Linux", "x86_64", [(RTX4090, NEW)], (7, 2), "cu130"),
    ],
)
def test_the_build_that_fits(system: str, machine: str, gpus: list, rocm: tuple | None, backend: str) -> None:
    pick = pick_backend(system, machine, [Gpu(*gpu) for gpu in gpus], rocm)
    assert pick.backend == backend and pick.why


# Looking at the machine


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script of this text in the place of nvidia-smi."""

    def write(text: str) -> None:
        script = tmp_path / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return write


@posix
def test_gpus_as_nvidia_smi_tells_them(nvidia_smi: Callable[[str], None]) -> None:
    nvidia_smi('[ "$1 $2" = "--query-gpu=compute_cap,driver_version --format=csv,noheader" ] || exit 6\n'
               "echo '8.9, 580.65.06'; echo '[N/A], [N/A]'; echo '6.1, 580.65.06'")  # fmt: skip
    assert probe_nvidia() == [Gpu((8, 9), (580, 65, 6)), Gpu((6, 1), (580, 65, 6))]


@posix
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9",
            "exit code 9: NVIDIA",
        ),
        ("echo 'Field \"compute_cap\" is not a valid field to query.'; exit 2", "not a valid field"),
        ("exec sleep 20", "did not answer"),
        ("echo '[N/A], [N/A]'", "names no GPU"),
    ],
)
def test_a_broken_nvidia_smi_is_no_gpu_and_said(
    nvidia_smi: Callable[[str], None], capsys: pytest.CaptureFixture[str], script: str, said: str
) -> None:
    nvidia_smi(script)
    assert probe_nvidia(seconds=0.3 if "sleep" in script else 15) == []
    assert said in capsys.readouterr().err


@posix
def test_rocm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "dev").mkdir()
    version = tmp_path / "opt/rocm/.info/version"
    version.parent.mkdir(parents=True)
    version.write_text("7.1.1-38\n")
    assert probe_rocm(tmp_path) is None  # the software, but no GPU
    (tmp_path / "dev/kfd").touch()
    assert probe_rocm(tmp_path) == (7, 1)
    version.unlink()
    assert probe_rocm(tmp_path) is None
    (tmp_path / "rocminfo").touch(mode=0o755)
    assert probe_rocm(tmp_path) == ()
