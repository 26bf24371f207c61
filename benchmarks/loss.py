"""The loss over a vocabulary, plain and in chunks: `python benchmarks/loss.py` (CPU; about 6 GB free).

Peak bytes are counted operator by operator on the meta device at full size, and measured as resident memory and seconds,
forward and backward, in a process of its own each. torch's own `linear_cross_entropy` stands beside.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from distmed.model.head import LossHead, Targets
from distmed.plan.trace import trace

VOCABULARY = 131_072
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


def inputs(tokens: int, width: int, device: str) -> tuple[LossHead, Tensor, Tensor]:
    torch.manual_seed(0)
    with torch.device(device):
        head = LossHead(width, VOCABULARY, bias=False)
        return head, torch.randn(tokens, width, requires_grad=True), torch.randint(VOCABULARY, (tokens,))


def counted(loss: Loss, tokens: int, width: int) -> int:
    """Bytes at the peak above weights and states; gradients are in it."""
    head, states_TD, ids_T = inputs(tokens, width, "meta")
    return trace(lambda: loss(head, states_TD, ids_T), [head.weight, states_TD, ids_T]).peak


def measured(name: str, tokens: int, width: int) -> tuple[float, float]:
    """GiB of resident memory above what was there before, and seconds, of a child process."""
    from distmed.train.meter import host_peak_bytes

    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            try:
                head, states_TD, ids_T = inputs(tokens, width, "cpu")
                before = host_peak_bytes()
                started = time.perf_counter()
                LOSSES[name](head, states_TD, ids_T).backward()
                seconds = time.perf_counter() - started
                (Path(folder) / "out").write_text(f"{(host_peak_bytes() - before) / GIB} {seconds}")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        gib, seconds = (Path(folder) / "out").read_text().split()
    return float(gib), float(seconds)


def agreement(tokens: int, width: int) -> tuple[float, float]:
    """The largest relative difference of loss and of gradients between plain and chunked."""
    found = []
    for loss in (plain, chunked):
        head, states_TD, ids_T = inputs(tokens, width, "cpu")
        value = loss(head, states_TD, ids_T)
        value.backward()
        assert states_TD.grad is not None and head.weight.grad is not None
        found.append((value.detach(), states_TD.grad, head.weight.grad))
    (loss_1, *gradients_1), (loss_2, *gradients_2) = found
    relative = [((a - b).abs().max() / a.abs().max()).item() for a, b in zip(gradients_1, gradients_2, strict=True)]
    return abs(loss_2 / loss_1 - 1).item(), max(relative)


def main(width: int) -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, float32, width {width}, vocabulary {VOCABULARY}, one thread\n")
    print("| tokens | loss | counted GiB | measured GiB | s |")
    print("| --- | --- | --- | --- | --- |")
    for tokens, names in ((1024, ["plain", "chunked", "torch"]), (8192, ["plain", "chunked"])):
        for name in names:
            count = "" if name == "torch" else f"{counted(LOSSES[name], tokens, width) / GIB:.2f}"
            # The plain form at full size would take what others on this machine need.
            real = ("", "") if (tokens, name) == (8192, "plain") else measured(name, tokens, width)
            shown = [f"{value:.2f}" if isinstance(value, float) else "" for value in real]
            print(f"| {tokens} | {name} | {count} | {shown[0]} | {shown[1]} |", flush=True)
    loss, gradient = agreement(1024, width)
    print(
        f"\nplain and chunked differ by {loss:.1e} in the loss and {gradient:.1e} in gradients, relative to the largest"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
