"""What a worker loads before its first step."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

STARTED = """
import sys
import torch
from distmed.train.engine import start_process_group
start_process_group(torch.device("cpu"), 60)
from deepspeed.runtime.zero.utils import is_zero_supported_optimizer
assert is_zero_supported_optimizer(torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))]))
print("torch._inductor.compile_fx" in sys.modules)
"""


@pytest.mark.slow
def test_deepspeeds_look_at_the_optimizer_loads_no_compiler() -> None:
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    environment = {**os.environ, **alone, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, "-c", STARTED]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False"
