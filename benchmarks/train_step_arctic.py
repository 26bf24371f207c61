"""One worker of arctic-training, in the environment where that is installed: it knows nothing of distmed.

Run as `train_step_arctic.py CONFIG.json RANK WORLD_SIZE PORT OUT.json`. Its configuration flows in; when each optimizer
step ended, and the real tokens in it, flow out.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main(config_path: str, rank: str, world_size: str, port: str, out: str) -> None:
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_SIZE": world_size}
    import torch
    from arctic_training.config.trainer import get_config
    from arctic_training.registry import get_registered_trainer

    if not torch.cuda.is_available():
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    config = get_config(Path(config_path))
    trainer = get_registered_trainer(name=config.type)(config, mode="train")
    ends: list[float] = []
    tokens, cases, slots = [0], [0], [0]
    step = trainer.step

    def timed(batch: dict[str, Any]) -> None:
        lengths = [length for row in batch["packed_sample_seqlens"] for length in row]
        step(batch)
        tokens[-1] += sum(lengths)
        cases[-1] += len(lengths)
        slots[-1] += batch["input_ids"].numel()
        if trainer.gas_boundary:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter() - started)
            for column in (tokens, cases, slots):
                column.append(0)

    trainer.step = timed
    started = time.perf_counter()
    trainer.train()
    columns = {"tokens_S": tokens, "cases_S": cases, "slots_S": slots}
    done = {name: column[: len(ends)] for name, column in columns.items()}
    Path(out).write_text(json.dumps({"ends_S": ends, **done, "flops_per_token": 0.0, "peak_flops": 0.0}))


if __name__ == "__main__":
    main(*sys.argv[1:])
