"""One worker of tests/model/test_zero3.py: for each job loads a model, takes two steps, writes down what it saw.

Run as `python zero_worker.py JOBS.json RANK WORLD_SIZE PORT OUT.json`; a job is a recipe and a ZeRO stage.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.ranks import leave


def main(jobs: str, rank: int, world_size: int, port: str, out: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    import torch

    from distmed.train.engine import start_process_group

    torch.set_num_threads(1)
    start_process_group(torch.device("cpu"), timeout_s=300)
    seen = [run(recipe, stage, rank, world_size) for recipe, stage in json.loads(Path(jobs).read_text())]
    Path(out).write_text(json.dumps(seen))


def run(values: dict[str, Any], stage: int, rank: int, world_size: int) -> dict[str, Any]:
    import deepspeed
    import numpy as np
    import torch
    from deepspeed.utils import safe_get_full_grad

    from distmed.model import head, streaming
    from distmed.model.candidates import plant, score
    from distmed.model.groups import parameter_groups
    from distmed.model.load import load_model
    from distmed.model.loss import training_loss
    from distmed.recipe_file import check
    from distmed.stream.batch import Item, collate

    recipe = check(values)
    # Two target tokens at once, so that a few make several chunks.
    head.CHUNK_ELEMENTS = 2 * 400
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    labels = ["a", "b", "c"]
    read: list[int] = []
    own = streaming._read_at

    def counted(file: int, into: memoryview, offset: int, path: Path) -> None:
        read.append(len(into))
        own(file, into, offset, path)

    streaming._read_at = counted
    model = load_model(recipe, recipe.model.path, labels, labels, config, torch.device("cpu"))
    streaming._read_at = own
    parameters = dict(model.named_parameters())
    seen: dict[str, Any] = {
        "elements": sum(getattr(p, "ds_numel", p.numel()) for p in parameters.values()),
        "held": held(parameters.values()),
        "trained": sum(getattr(p, "ds_numel", p.numel()) for p in parameters.values() if p.requires_grad),
        "whole": sum(p.numel() for p in parameters.values()),
        "read": sum(read),
        "fresh": {},
    }
    digest = hashlib.sha256()
    for name, parameter in parameters.items():
        with deepspeed.zero.GatheredParameters([parameter]) if stage == 3 else contextlib.nullcontext():
            digest.update(name.encode() + parameter.detach().numpy().tobytes())
            if name in model.fresh:
                seen["fresh"][name] = parameter.detach().flatten().tolist()
    seen["hash"] = digest.hexdigest()

    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.optimizer))
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    # Adapters are partitioned when the engine is made.
    seen["held_in_training"] = held(parameters.values())
    engine.train()
    cases = [[5, 17, 23, 9, 40, 12], [60, 8], [33, 34, 35, 36, 37], [50, 51, 52]]
    items = [Item(np.array(ids, dtype=np.int32), 1, n % 3, 1.0, str(n), n) for n, ids in enumerate(cases)]
    generate = recipe.task == "generate"
    batch = collate([items[:2], items[2:]], seq_len=32, pad_id=0, targets=generate)
    seen["losses"] = []
    for step in range(2):
        loss = training_loss(engine, batch, recipe.train)
        engine.backward(loss)
        if step == 0:
            grads = {name: safe_get_full_grad(p) for name, p in model.named_parameters() if p.requires_grad}
            seen["grad_norms"] = {name: g.norm().item() for name, g in grads.items()}
        engine.step()
        seen["losses"].append(loss.item())
    seen["stepped"] = sum(
        value.numel() for state in optimizer.state.values() for value in state.values() if value.numel() > 1
    )
    if generate:
        engine.eval()
        trees = plant(cases[: rank + 1], [[[7, 8], [9]]] * (rank + 1), rows=1, max_length=16, pad_id=0)
        log_p_NK, _ = score(engine, trees, (rank + 1, 2), torch.device("cpu"), passes=world_size)
        seen["log_p"] = log_p_NK[0].tolist()
    return seen


def held(parameters: Iterable[Any]) -> int:
    """Elements that lie on this worker."""
    return sum(p.ds_tensor.numel() if hasattr(p, "ds_id") else p.numel() for p in parameters)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
    leave()
