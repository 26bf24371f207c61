"""One worker of tests/model/test_sequence.py: `python sequence_worker.py JOBS.json RANK WORLD_SIZE PORT OUT.json`.

Each job is a recipe; its model takes three steps over the same four sequences, whatever the number of workers.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.ranks import leave

SEQUENCES = [[5, 17, 23, 9, 40, 12, 77, 8, 3, 60, 61, 62, 63], [60, 8], [33, 34, 35, 36, 37, 38, 39], [50, 51, 52]]


def main(jobs: str, rank: int, world_size: int, port: str, out: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    import torch
    from transformers import modeling_flash_attention_utils as transformers_flash
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from distmed.train.engine import start_process_group
    from tests.model.flash import loaded

    transformers_flash.lazy_import_flash_attention = lambda *_, **__: loaded([])
    torch.set_num_threads(1)
    start_process_group(torch.device("cpu"), 300)
    own = dict(ALL_ATTENTION_FUNCTIONS)
    seen = []
    for values in json.loads(Path(jobs).read_text()):
        seen.append(run(values, rank, world_size))
        ALL_ATTENTION_FUNCTIONS.update(own)
    Path(out).write_text(json.dumps(seen))


def run(values: dict[str, Any], rank: int, world_size: int) -> dict[str, Any]:
    import torch

    from distmed.model import load
    from distmed.model.sequence import Sharing
    from distmed.recipe_file import check
    from distmed.train.deepspeed_config import resolve_config
    from distmed.train.engine import build_engine, train_step

    def use_flash(network: Any, name: str) -> None:
        """What `set_attn_implementation` does where the package is there."""
        if name == "flash2":
            network.config._attn_implementation_internal = "flash_attention_2"

    load.use_kernel = use_flash
    recipe = check(values)
    n = recipe.cluster.sequence_parallel
    config = resolve_config(recipe, world_size=world_size, bf16=False, hidden_size=32, nvme_path=Path("nvme"))
    model = load.load_model(recipe, recipe.model.path, [], [], config, torch.device("cpu"))
    if n > 1:
        model.sharing = Sharing(model.network, n)
    engine = build_engine(model, recipe, config)
    step = step_of(rank // n, world_size // n, packing=recipe.data.packing)
    results = [train_step(engine, step, number, 10, recipe, None, lambda: False) for number in (1, 2, 3)]
    engine.eval()
    with torch.no_grad():
        whole = engine(step.micro_batches[0]).sum().item()
    engine.destroy()
    return {"losses": [r.loss for r in results], "grad_norms": [r.grad_norm for r in results], "evaluated": whole}


def step_of(stream: int, streams: int, *, packing: bool) -> Any:
    import numpy as np

    from distmed.stream.batch import Item, Step, collate

    items = [Item(np.array(ids, dtype=np.int32), 1, -1, 0.0, str(n), n) for n, ids in enumerate(SEQUENCES)]
    rows = [[items[0]], [items[1], items[2]], [items[3]]] if packing else [[item] for item in items]
    mine = [row for number, row in enumerate(rows) if number % streams == stream]
    # No multiple of the number of workers, so that rows have to be evened.
    batches = [collate(mine[at : at + 2], seq_len=13, pad_id=0, targets=True) for at in range(0, len(mine), 2)]
    return Step(batches, float(sum(len(ids) - 1 for ids in SEQUENCES)), 25, 4, 0.0, [0.0], 0, 4)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
    leave()
