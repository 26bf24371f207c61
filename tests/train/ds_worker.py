"""One rank of tests/train/test_ds_configs.py: `python ds_worker.py FOLDER RANK WORLD_SIZE PORT NAME …`.

For each DeepSpeed file it trains four steps with a checkpoint after two, then loads that into another engine and repeats the
last two; `qlora` is zero2 with adapters beside a pretrained base in 4 bits, `base` and `lora` begin with a pretrained one under
zero3, `base_hpz` and `lora_hpz` with copies in hosts of two workers. What it saw goes to FOLDER/NAME-RANK.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from tests.ranks import leave

QLORA = "qlora"
NVME = "zero3_nvme"
LORA = {"lora": {"rank": 4}}
PRETRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    QLORA: ("zero2", {"quantize": "nf4", **LORA}),
    "base": ("zero3", {}),
    "base_hpz": ("zero3_hpz", {}),
    "lora": ("zero3", LORA),
    "lora_hpz": ("zero3_hpz", LORA),
}


def main(folder: str, rank: str, world_size: str, port: str, *names: str) -> None:
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    import torch

    from distmed.train.engine import start_process_group

    torch.set_num_threads(1)
    start_process_group(torch.device("cpu"), 300)
    for name in names:
        seen = run(name, Path(folder), int(world_size))
        (Path(folder) / f"{name}-{rank}.json").write_text(json.dumps(seen))


def run(name: str, folder: Path, world_size: int) -> dict[str, Any]:
    import torch.distributed as dist

    from distmed.checkpoint import folder as folders
    from distmed.checkpoint.load import load

    engine = build(name, folder, world_size)
    losses = [step(engine, n) for n in (1, 2)]
    saved = folder / f"checkpoint-{name}" / str(folders.name(2, world_size, 0))
    seen = save(engine, name, saved)
    dist.barrier()
    losses += [step(engine, n) for n in (3, 4)]
    engine.destroy()
    again = build(name, folder, world_size)
    load(again, str(saved))
    resumed = [step(again, n) for n in (3, 4)]
    again.destroy()
    swapped = [path for path in (folder / "nvme").rglob("*") if path.is_file()]
    return {
        "losses": losses,
        "resumed": resumed,
        "swapped_bytes": sum(path.stat().st_size for path in swapped),
        **seen,
    }


def save(engine: Any, name: str, folder: Path) -> dict[str, Any]:
    """Write a checkpoint. Of state on NVMe: the blocks in the order in which they were read, the most bytes that tensors had
    meanwhile beside what they had before, and whether the file is the one that copies of the state give."""
    import torch.distributed as dist

    from distmed.checkpoint.marker import data_file
    from distmed.checkpoint.save import snapshot
    from distmed.errors import UserError

    if name != NVME:
        # A pretrained base is named by its hash alone.
        snapshot(engine, {"step": 2}, store_frozen=name not in PRETRAINED).write(folder)
        return {}
    gc.unfreeze()  # what `build_engine` froze is there too
    own = data_file(dist.get_rank(), dist.get_world_size())
    before, held = live_bytes(), [0]
    read: list[int] = []
    swap_in = engine.optimizer._optimizer_states_and_gradient_swap_in

    def watched(block: int) -> None:
        swap_in(block)
        read.append(block)
        held.append(live_bytes() - before)

    with mock.patch.object(engine.optimizer, "_optimizer_states_and_gradient_swap_in", watched):
        taken = snapshot(engine, {"step": 2}, store_frozen=True)
        # A write that fails leaves the engine as it was, for a second try and for the next steps.
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{own}.partial").symlink_to("/dev/full")
        with contextlib.suppress(UserError):
            taken.write(folder)
            raise AssertionError("a full disk took a checkpoint")
        read.clear()
        taken.write(folder)
    dataclasses.replace(taken, tensors=taken.tensors | copies(engine)).write(folder.with_name("copied"))
    files = [(each / own).read_bytes() for each in (folder, folder.with_name("copied"))]
    return {"blocks_read": read, "held_bytes": max(held), "same_file": files[0] == files[1]}


def copies(engine: Any) -> dict[str, Any]:
    """Every slice of the optimizer's blocks by its key in a checkpoint."""
    from distmed.checkpoint.slices import view

    found = {}
    for block in view(engine).blocks:
        with block.open(False):
            for kind, flat in {"master": block.tensor.view(-1), **block.state()}.items():
                for piece in block.written:
                    found[f"{kind}/{piece.name}"] = flat[piece.offset : piece.offset + piece.numel].clone()
    return found


def live_bytes() -> int:
    """Of the memory of all tensors of this process."""
    import torch

    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}.values())


def build(name: str, folder: Path, world_size: int) -> Any:
    import torch

    from distmed.model.load import load_model
    from distmed.recipe_file import check
    from distmed.train.deepspeed_config import resolve_config
    from distmed.train.engine import build_engine

    deepspeed, model_settings = PRETRAINED.get(name, (name, {"init": "random"}))
    recipe = check(
        {
            "name": "a",
            "task": "generate",
            "model": {"path": str(folder / "model"), **model_settings},
            "data": {"train": [{"source": "none"}], "seq_len": 16},
            "train": {"micro_batch": 1, "global_batch": world_size, "precision": "fp32"},
            "deepspeed": deepspeed,
            "cluster": {"num_workers": world_size},
        }
    )
    config = resolve_config(
        recipe,
        world_size=world_size,
        per_host=min(world_size, 2),
        bf16=False,
        hidden_size=256,
        nvme_path=folder / "nvme",
    )
    if name == NVME:
        config["zero_optimization"]["sub_group_size"] = 300_000
    model = load_model(recipe, folder / "model", [], [], config, torch.device("cpu"))
    return build_engine(model, recipe, config)


def step(engine: Any, number: int) -> float:
    import numpy as np
    import torch.distributed as dist

    from distmed.recipe import Optimizer, Train
    from distmed.stream.batch import Item, Step, collate
    from distmed.train.engine import train_step

    generator = np.random.default_rng(10 * number + dist.get_rank())
    items = [Item(generator.integers(5, 250, 8, dtype=np.int32), 1, -1, 0.0, "case", 0) for _ in range(2)]
    batch = collate([items], seq_len=16, pad_id=0, targets=True)
    whole = Step([batch], 14.0 * dist.get_world_size(), 14, 2, 0.0, [0.0], number, number + 1)

    class Settings:
        optimizer = Optimizer(lr=1e-3, schedule="constant", warmup=0)
        train = Train()

    return train_step(engine, whole, number, 4, Settings, None, lambda: False).loss  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave()
