"""What the machine is: which precision it multiplies natively, how fast at most, and the facts of environment.json.

Device names and the kernel's files flow in. Peaks of GPUs come from plan/peaks.py, that of a CPU from matrix products
measured on the spot.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmed.plan.peaks import PEAKS, TERA

if TYPE_CHECKING:
    import torch

MEASURING_S = 0.3
MATRIX_SIZES = (512, 1024, 2048)
STACK = (
    "distmed",
    "torch",
    "deepspeed",
    "transformers",
    "datasets",
    "ray",
    "peft",
    "wandb",
    "numpy",
    "scikit-learn",
    "pyarrow",
    "safetensors",
    "tokenizers",
)
CPUINFO = Path("/proc/cpuinfo")
# bf16 is the flag of Arm, avx512_bf16 and amx_bf16 those of x86.
NATIVE_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}


# Slices of a GPU and variants that carry the name of another chip.
OTHER_CHIPS = {"MIG", "LAPTOP", "D", "TI"}


def native_bf16(*, gpu: bool) -> bool:
    """Whether bf16 is multiplied in hardware. A driver without a GPU takes the workers' GPUs to do so."""
    if not gpu:
        return bool(NATIVE_BF16_FLAGS & _cpu_flags())
    import torch

    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


def peak_flops(device: torch.device, *, bf16: bool) -> float | None:
    """FLOP/s that `device` reaches at most: a GPU by its data sheet (None if not in the table), a CPU measured."""
    import torch

    if device.type == "cuda":
        tf32 = torch.backends.cuda.matmul.allow_tf32
        return gpu_peak_flops(torch.cuda.get_device_name(device), bf16=bf16, tf32=tf32)
    return measured_matmul_flops(bf16=bf16) if device.type == "cpu" else None


def gpu_peak_flops(name: str, *, bf16: bool, tf32: bool = False) -> float | None:
    """Dense FLOP/s of a GPU by its driver's name for it: bf16, TF32 (half of bf16) or fp32; None if unknown."""
    words = set(name.replace("-", " ").replace("_", " ").upper().split())
    if words & OTHER_CHIPS:
        return None
    for key, peak in PEAKS.items():
        if {word.upper() for word in key} <= words:
            return TERA * (peak.bf16 if bf16 else peak.bf16 / 2 if tf32 else peak.fp32)
    return None


def measured_matmul_flops(*, bf16: bool) -> float:
    """FLOP/s of the fastest square matrix product on the CPU with torch's present threads; takes about 0.3 s."""
    best = _matmul_flops(MATRIX_SIZES[0], bf16=bf16)
    for size in MATRIX_SIZES[1:]:
        # Many cores need larger matrices to be kept busy; a slow machine has no time for them.
        if 2 * size**3 / best < MEASURING_S / 3:
            best = max(best, _matmul_flops(size, bf16=bf16))
    return best


def _matmul_flops(size: int, *, bf16: bool) -> float:
    import torch

    left, right = (torch.full((size, size), 0.5, dtype=torch.bfloat16 if bf16 else torch.float32) for _ in range(2))
    out = torch.empty_like(left)
    fastest = float("inf")
    with torch.no_grad():
        torch.mm(left, right, out=out)
        end = time.perf_counter() + MEASURING_S / len(MATRIX_SIZES)
        while (started := time.perf_counter()) < end:
            torch.mm(left, right, out=out)
            fastest = min(fastest, time.perf_counter() - started)
    return 2 * size**3 / fastest


def environment() -> dict[str, Any]:
    """What a result depends on: versions, hardware, commit. No host name, no user, no path, no environment variable."""
    import psutil
    import torch

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "versions": {name: _version(name) for name in STACK},
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "cpu": _cpu_name(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "host_memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "native_bf16": native_bf16(gpu=torch.cuda.is_available()),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        **_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> dict[str, Any]:
    """The git commit of the working directory, and whether tracked files differ from it."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "commit_is_modified": None}
    return {"commit": commit, "commit_is_modified": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu_flags() -> set[str]:
    return set(_cpuinfo("flags", "Features").split())


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*names: str) -> str:
    """The value of the first line with one of these names: all cores of a host are taken to be alike."""
    if not CPUINFO.exists():
        return ""
    for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""
