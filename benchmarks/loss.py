"""The loss over a vocabulary, plain and in chunks: `python benchmarks/loss.py [TOKENS …]` (CPU; about 14 GB free).

Forward and backward of each in a process of its own: resident memory above what was there before, seconds, and how far loss and
gradients are from the plain form's. Peak bytes are also counted operator by operator on the meta device. torch's own
`linear_cross_entropy` stands beside.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dated import Dated
from torch import Tensor
from torch.nn import functional as F

from distmed.model.head import LossHead, Targets
from distmed.plan.trace import trace

VOCABULARY = 131_072
WIDTH = 256
GIB = 2**30
Loss = Callable[[LossHead, Tensor, Tensor], Tensor]


def plain(head: LossHead, states_TD: Tensor, ids_T: Tensor) -> Tensor:
    return F.cross_entropy(head(states_TD).float(), ids_T, reduction="sum")


def chunked(head: LossHead, states_TD: Tensor, ids_T: Tensor) -> Tensor:
    losses_T: Tensor = head(states_TD, Targets(ids_T))
    return losses_T.sum()


def of_torch(head: LossHead, states_TD: Tensor, ids_T: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(states_TD, head.weight, ids_T, reduction="sum", options=options)


LOSSES: dict[str, Loss] = {"plain": plain, "chunked": chunked, "torch": of_torch}


def inputs(tokens: int, device: str) -> tuple[LossHead, Tensor, Tensor]:
    torch.manual_seed(0)
    with torch.device(device):
        head = LossHead(WIDTH, VOCABULARY, bias=False)
        return head, torch.randn(tokens, WIDTH, requires_grad=True), torch.randint(VOCABULARY, (tokens,))


def counted(loss: Loss, tokens: int) -> int:
    """Bytes at the peak above weights and states; gradients are in it."""
    head, states_TD, ids_T = inputs(tokens, "meta")
    return trace(lambda: loss(head, states_TD, ids_T), [head.weight, states_TD, ids_T]).peak


def measured(name: str, tokens: int) -> dict[str, Any]:
    """Of a child process: bytes of resident memory above what was there before, seconds, loss and gradients."""
    from distmed.train.meter import host_peak_bytes

    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                head, states_TD, ids_T = inputs(tokens, "cpu")
                before, started = host_peak_bytes(), time.perf_counter()
                loss = LOSSES[name](head, states_TD, ids_T)
                loss.backward()
                seen = {
                    "s": time.perf_counter() - started,
                    "bytes": host_peak_bytes() - before,
                    "loss": loss.detach().item(),
                }
                (Path(folder) / "seen.json").write_text(json.dumps(seen))
                torch.save([states_TD.grad, head.weight.grad], Path(folder) / "gradients.pt")
                code = 0
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{name} with {tokens} tokens failed")
        seen: dict[str, Any] = json.loads((Path(folder) / "seen.json").read_text())
        return seen | {"gradients": torch.load(Path(folder) / "gradients.pt")}


def difference(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Of the losses, and the largest of the gradients, each relative to the largest of its tensor."""
    pairs = zip(one["gradients"], other["gradients"], strict=True)
    return abs(one["loss"] / other["loss"] - 1), max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def main(lengths: list[int]) -> None:
    torch.set_num_threads(1)
    file = Dated("loss", "The loss over a vocabulary, plain and in chunks")
    file.line(f"float32, width {WIDTH}, vocabulary {VOCABULARY}, one thread.\n")
    file.table("tokens", "loss", "counted GiB", "measured GiB", "of plain", "s", "loss differs by", "gradients by")
    for tokens in lengths:
        first: dict[str, Any] = {}
        for name, loss in LOSSES.items():
            seen = measured(name, tokens)
            first = first or seen
            count = "" if name == "torch" else f"{counted(loss, tokens) / GIB:.2f}"
            by = ("", "") if name == "plain" else tuple(f"{value:.0e}" for value in difference(seen, first))
            share = f"1 / {first['bytes'] / seen['bytes']:.1f}"
            file.row(tokens, name, count, f"{seen['bytes'] / GIB:.2f}", share, f"{seen['s']:.1f}", *by)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [1024, 8192])
