"""One rank of a small real DeepSpeed run on CPU: `python worker.py JOBS RANK WORLD PORT` runs the jobs of a JSON file
in turn.

A job trains from `first` (or from the checkpoint `load`) to step 20, saves at the steps in `save`, and writes losses
and the gathered state at those steps to `out`.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from distmed.train.engine import start_process_group
from tests.ranks import leave

GLOBAL_BATCH = 12
STEPS = 20


class Net(nn.Module):
    """Odd sizes, so that no partition is even; an output layer tied to the embedding; a persistent buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(37, 13)
        self.up = nn.Linear(13, 29)
        self.norm = nn.LayerNorm(29)
        self.down = nn.Linear(29, 13)
        self.tiny = nn.Parameter(torch.ones(1))
        self.lm_head = nn.Linear(13, 37, bias=False)
        self.lm_head.weight = self.embed.weight
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, tokens_BL: Tensor) -> Tensor:
        return self.lm_head(self.down(self.norm(torch.tanh(self.up(self.embed(tokens_BL))))) * self.tiny)


class Wrapper(nn.Module):
    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.hf = Net()
        if frozen:
            self.hf.up.requires_grad_(False)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        return self.hf(tokens_BL)


def build(job: dict[str, Any]) -> Any:
    import deepspeed

    torch.manual_seed(job.get("seed", 7))
    model = Wrapper(frozen=job.get("frozen", False))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    groups = [
        {"name": "decay", "params": [p for p in trained.values() if p.dim() > 1], "lr": 1e-2, "weight_decay": 0.1},
        {"name": "no_decay", "params": [p for p in trained.values() if p.dim() == 1], "lr": 3e-2, "weight_decay": 0.0},
    ]
    kind = job.get("optimizer", "torch")
    if kind == "cpu_adam":
        optimizer: Any = deepspeed.ops.adam.DeepSpeedCPUAdam(groups)
    else:
        optimizer = torch.optim.AdamW(groups, fused=job.get("fused", False))
    if job.get("load"):  # a resume must bring the hyperparameters back, not find them there by chance
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = 0.5, 0.5
    config = {
        "train_micro_batch_size_per_gpu": GLOBAL_BATCH // dist.get_world_size(),
        "zero_optimization": {"stage": job["stage"], **job.get("zero", {})},
        "bf16": {"enabled": job.get("bf16", False)},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        **job.get("config", {}),
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine


def train_step(engine: Any, step: int) -> float:
    world_size, rank = dist.get_world_size(), dist.get_rank()
    tokens_BL = torch.randint(0, 37, (GLOBAL_BATCH, 9), generator=torch.Generator().manual_seed(1000 + step))
    mine_BL = tokens_BL[rank * GLOBAL_BATCH // world_size : (rank + 1) * GLOBAL_BATCH // world_size]
    logits = engine(mine_BL)[:, :-1].float()
    loss = nn.functional.cross_entropy(logits.reshape(-1, 37), (mine_BL[:, 1:].reshape(-1) + 1) % 37, reduction="sum")
    loss = loss / (GLOBAL_BATCH * 8)
    engine.backward(loss * world_size)
    engine.step()
    engine.module.hf.seen += 1
    total = loss.detach().double()
    dist.all_reduce(total)
    return float(total)


def gathered(engine: Any) -> dict[str, Tensor]:
    """The whole state by DeepSpeed's own functions, which share no code with the package (stage 3 only)."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    state = {}
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            state[f"master/{name}"] = safe_get_full_fp32_param(parameter).clone()
            for key in ("exp_avg", "exp_avg_sq"):
                state[f"{key}/{name}"] = safe_get_full_optimizer_state(parameter, key).clone()
    return state


def fail_once() -> None:
    """The storage fails the last rank when it has read its first block, with an error that is no OSError."""
    from distmed.checkpoint.read import Checkpoint

    real, reads = Checkpoint.read, itertools.count()

    def read(self: Checkpoint, wanted: Any) -> None:
        real(self, wanted)
        if dist.get_rank() == dist.get_world_size() - 1 and next(reads) == 1:
            raise RuntimeError("Response payload is not completed")

    Checkpoint.read = read  # type: ignore[method-assign]


def run(job: dict[str, Any]) -> None:
    from distmed.checkpoint.folder import name
    from distmed.checkpoint.load import load, load_newest
    from distmed.checkpoint.save import snapshot
    from distmed.errors import UserError

    engine = build(job)
    result: dict[str, Any] = {"losses": {}}
    first = 0
    if job.get("load"):
        try:
            if job.get("newest"):
                if job.get("hiccup"):
                    fail_once()
                found = load_newest(engine, job["load"], retry_s=1.0)
                assert found is not None
                result["folder"], result["notes"], state = found.folder, found.notes, found.state
            else:
                state = load(engine, job["load"])
            first = state["step"]
            result["state"] = state
        except UserError as error:
            result["error"] = str(error)
            first = STEPS
    result["draws"] = [random.random(), float(torch.rand(()))]
    if job["stage"] == 3 and first in (10, 15):
        result["loaded"] = gathered(engine)
    for step in range(first, STEPS):
        result["losses"][step] = train_step(engine, step)
        if step + 1 in job.get("save", []):
            if job["stage"] == 3:
                result[f"gathered-{step + 1}"] = gathered(engine)
            taken = snapshot(engine, {"step": step + 1}, store_frozen=job.get("store_frozen", False))
            if job.get("save_late"):  # the engine moves on before the file is written
                result["losses"][step + 1] = train_step(engine, step + 1)
            folder = Path(job["root"]) / name(step + 1, dist.get_world_size(), 0)
            taken.write(folder)
            result["draws_after_save"] = [random.random(), float(torch.rand(()))]
    if engine.optimizer is not None:
        base = getattr(engine.optimizer, "optimizer", engine.optimizer)
        result["steps"] = [float(s["step"]) for s in base.state.values() if "step" in s]
    result["seen"] = float(engine.module.hf.seen[0])
    result["engine_steps"] = engine.global_steps
    out = Path(job["out"])
    if dist.get_rank() == 0:
        torch.save(result, out)
    elif job.get("all_ranks"):
        torch.save(result, out.with_name(f"{out.name}.{dist.get_rank()}"))
    dist.barrier()
    engine.destroy()


def main(jobs: str, rank: str, world_size: str, port: str) -> None:
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=world_size, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    start_process_group(torch.device("cpu"), timeout_s=300)
    for job in json.loads(Path(jobs).read_text()):
        random.seed(int(rank))
        run(job)


if __name__ == "__main__":
    main(*sys.argv[1:])
    leave()
