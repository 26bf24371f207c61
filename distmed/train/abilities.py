"""What a DeepSpeed file asks of the machine, held against what is there before anything is started.

A resolved configuration flows in; a UserError flows out where the machine lacks something that would fail in the workers.
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path
from typing import Any

from distmed.errors import UserError

# ZeRO++ (arXiv:2306.10209): their kernels exist for GPUs only.
QUANTIZED = ("zero_quantized_weights", "zero_quantized_gradients", "zero_quantized_nontrainable_weights")


def check_abilities(config: dict[str, Any], *, gpu: bool) -> None:
    """Raises UserError for quantized communication without a GPU, and for NVMe without what its reader is compiled of."""
    zero = config.get("zero_optimization", {})
    asked = [key for key in QUANTIZED if zero.get(key)]
    if asked and not gpu:
        raise UserError(f"the DeepSpeed file sets {asked[0]}, whose kernels need a GPU", "remove it, or use GPUs")
    places = [zero.get(part, {}).get("device") for part in ("offload_optimizer", "offload_param")]
    if "nvme" not in places or has_reader():
        return
    if not has_libaio():
        raise UserError(
            "the DeepSpeed file offloads to NVMe, and DeepSpeed cannot compile its reader: libaio.h is missing",
            "install it on every host: apt install libaio-dev (Debian, Ubuntu) or dnf install libaio-devel",
        )
    if gpu and not has_cuda_toolkit():
        raise UserError(
            "the DeepSpeed file offloads to NVMe, and DeepSpeed cannot compile its reader: there is no CUDA toolkit",
            "install it on every host and set CUDA_HOME, or take an environment with DeepSpeed's ops (launch/Containerfile)",
        )


def has_reader() -> bool:
    """Whether DeepSpeed came with its reader of NVMe compiled. deepspeed itself is imported in workers only."""
    found = importlib.util.find_spec("deepspeed")
    folders = found.submodule_search_locations if found else None
    return any(list(Path(folder).glob("ops/aio/async_io_op*.so")) for folder in folders or [])


def has_cuda_toolkit() -> bool:
    """Whether torch knows of one to compile with."""
    from torch.utils import cpp_extension

    return cpp_extension.CUDA_HOME is not None


def has_libaio() -> bool:
    """Whether a compiler would find libaio's header; True where CFLAGS may say where it is."""
    if os.environ.get("CFLAGS"):
        return True
    folders = ["/usr/include", "/usr/local/include", sysconfig.get_paths()["include"]]
    folders += os.environ.get("CPATH", "").split(":")
    return any((Path(folder) / "libaio.h").is_file() for folder in folders if folder)
