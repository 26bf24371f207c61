"""What this rank holds of the engine's parameters and optimizer state, as flat ranges; the same view for ZeRO stages
0 to 3.

A DeepSpeed engine flows in, blocks flow out: a block is one tensor that the optimizer steps, with the slices of
parameters that lie in it. Offsets are those that DeepSpeed 0.19.8 itself steps by (zero/stage3.py,
zero/stage_1_and_2.py, bf16_optimizer.py), so a slice read here is exact to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from distmed.errors import UserError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


@dataclass(frozen=True)
class Slice:
    """Elements [start, stop) of the flattened parameter `name`; the first lies at `offset` in the flattened block."""

    name: str
    start: int
    stop: int
    offset: int

    @property
    def numel(self) -> int:
        return self.stop - self.start


@dataclass
class Block:
    """One tensor that the optimizer steps. `names` are the parameters that it steps with it on all ranks together.

    `on_nvme`: its elements and those of its state are in memory only while it is open.
    """

    tensor: Tensor
    optimizer: torch.optim.Optimizer
    group: int
    names: list[str]
    slices: list[Slice]
    replicated: bool = False
    on_nvme: bool = False
    open: Callable[[bool], contextlib.AbstractContextManager[None]] = field(
        default=lambda write: contextlib.nullcontext()
    )

    @property
    def written(self) -> list[Slice]:
        """The slices that this rank writes: all it has, or an even share of what every rank has."""
        return [_share(piece) for piece in self.slices] if self.replicated else self.slices

    def state(self) -> dict[str, Tensor]:
        """Optimizer state that has a value for each element, flattened; empty before the first step."""
        values = self.optimizer.state.get(self.tensor, {})
        return {
            key: value.view(-1)
            for key, value in values.items()
            if isinstance(value, Tensor) and value.dim() and value.shape == self.tensor.shape
        }

    def scalars(self) -> dict[str, float]:
        """Optimizer state that has one value for the whole block: `step`."""
        values = self.optimizer.state.get(self.tensor, {})
        return {
            key: float(value)
            for key, value in values.items()
            if isinstance(value, int | float) or (isinstance(value, Tensor) and not value.dim())
        }


@dataclass
class View:
    """All blocks of this rank. `settled` surrounds a load; at its end weights are in line with their masters."""

    blocks: list[Block]
    groups: dict[str, dict[str, Any]]
    settled: Callable[[], contextlib.AbstractContextManager[None]]

    def group_name(self, index: int) -> str:
        return list(self.groups)[index]


def view(engine: DeepSpeedEngine) -> View:
    """Raises UserError for an optimizer wrapper whose layout is not known here (bf16 without ZeRO, partial offload,
    ZenFlow)."""
    names = parameter_names(engine.module)
    optimizer = engine.optimizer
    kind = type(optimizer).__name__
    base = getattr(optimizer, "optimizer", optimizer)
    groups: dict[str, dict[str, Any]] = {}
    for index, group in enumerate(base.param_groups):
        name = str(group.get("name", f"group-{index}"))
        if name in groups:
            raise ValueError(f"two parameter groups are named {name}")
        groups[name] = group
    if kind == "DeepSpeedZeroOptimizer_Stage3" and not (
        optimizer.offload_optimizer and optimizer.partial_offload != 1.0
    ):
        return View(_stage3(optimizer, names), groups, lambda: _stage3_settled(optimizer))
    if kind == "DeepSpeedZeroOptimizer":
        return View(_stage_1_and_2(optimizer, names), groups, lambda: _updated(optimizer))
    if kind == "BF16_Optimizer":
        return View(_bf16(optimizer, names), groups, lambda: _updated(optimizer))
    if isinstance(optimizer, torch.optim.Optimizer):
        return View(_plain(optimizer, names), groups, contextlib.nullcontext)
    raise UserError(
        f"checkpoints do not know how {kind} lays out its state",
        "use ZeRO stage 1, 2 or 3 without partial offload, as the files in ds_configs/ do",
    )


def parameter_names(module: torch.nn.Module) -> dict[int, str]:
    """Name by id(parameter); a tied parameter has its first name."""
    return {id(parameter): name for name, parameter in module.named_parameters()}


def group_of(view: View) -> dict[str, str]:
    """The parameter group's name for each parameter that the optimizer steps."""
    return {name: view.group_name(block.group) for block in view.blocks for name in block.names}


def full_shape(parameter: Tensor) -> list[int]:
    return list(getattr(parameter, "ds_shape", parameter.shape))


def even_share(numel: int, rank: int, world_size: int) -> tuple[int, int]:
    """The flat range of rank `rank` when `numel` elements are cut into equal runs; the last ones may be short or
    empty."""
    run = -(-numel // world_size)
    return min(rank * run, numel), min((rank + 1) * run, numel)


def _share(piece: Slice) -> Slice:
    start, stop = even_share(piece.numel, dist.get_rank(), dist.get_world_size())
    return Slice(piece.name, piece.start + start, piece.start + stop, piece.offset + start)


def _stage3(optimizer: Any, names: dict[int, str]) -> list[Block]:
    blocks = []
    for index, parameters in enumerate(optimizer.fp16_groups):
        slices, offset = [], 0
        for parameter in parameters:
            numel = parameter.partition_numel()
            start = numel * optimizer._get_param_partition_rank(parameter)
            stop = min(start + numel, parameter.ds_numel)
            if start < stop:
                slices.append(Slice(names[id(parameter)], start, stop, offset))
            offset += numel
        blocks.append(
            Block(
                tensor=optimizer.fp32_partitioned_groups_flat[index],
                optimizer=optimizer.optimizer,
                group=optimizer.sub_group_to_group_id[index],
                names=[names[id(parameter)] for parameter in parameters],
                slices=slices,
                on_nvme=bool(optimizer._swappable_optimizer_subgroup(index)),
                open=lambda write, index=index: _stage3_open(optimizer, index, write),  # type: ignore[misc]
            )
        )
    return blocks


@contextlib.contextmanager
def _stage3_open(optimizer: Any, index: int, write: bool) -> Iterator[None]:
    """The block's tensors are in memory inside (they may live on NVMe); after a write, weights and NVMe have the new
    values."""
    on_nvme = optimizer._swappable_optimizer_subgroup(index)
    if on_nvme:
        optimizer._optimizer_states_and_gradient_swap_in(index)
    try:
        yield
        if write:
            optimizer._reassign_or_swap_out_partitioned_parameters(index)
        if on_nvme and write:
            optimizer._optimizer_states_and_gradient_swap_out(index)
    finally:
        # After an error too: DeepSpeed has buffers for no second block. Where they were swapped out this finds nothing.
        if on_nvme:
            optimizer._release_swap_buffers(index)


@contextlib.contextmanager
def _stage3_settled(optimizer: Any) -> Iterator[None]:
    """Gathered copies of small parameters would keep the old weights: release all, then gather the persistent ones
    anew."""
    optimizer.checkpoint_event_prologue()
    yield
    optimizer.checkpoint_event_epilogue()


def _stage_1_and_2(optimizer: Any, names: dict[int, str]) -> list[Block]:
    return [
        _flat_block(
            optimizer,
            index,
            flat=optimizer.single_partition_of_fp32_groups[index],
            rank=dist.get_rank(group=optimizer.real_dp_process_group[index]),
            placed=[
                (names[id(parameter)], offset, parameter.numel())
                for parameter, offset in zip(
                    optimizer.round_robin_bit16_groups[index], optimizer.round_robin_bit16_offsets[index], strict=True
                )
            ],
        )
        for index in range(len(optimizer.bit16_groups))
    ]


def _bf16(optimizer: Any, names: dict[int, str]) -> list[Block]:
    blocks = []
    for index, parameters in enumerate(optimizer.bf16_groups):
        placed, offset = [], 0
        for parameter in parameters:
            placed.append((names[id(parameter)], offset, parameter.numel()))
            offset += parameter.numel()
        rank = dist.get_rank(group=optimizer.real_dp_process_group[index])
        blocks.append(_flat_block(optimizer, index, optimizer.fp32_groups_flat_partition[index], rank, placed))
    return blocks


def _flat_block(optimizer: Any, index: int, flat: Tensor, rank: int, placed: list[tuple[str, int, int]]) -> Block:
    """Parameters lie one after another (`placed`: name, offset, numel) in a long tensor that is cut evenly among the
    ranks."""
    first, last = rank * flat.numel(), (rank + 1) * flat.numel()
    slices = []
    for name, offset, numel in placed:
        start, stop = max(offset, first), min(offset + numel, last)
        if start < stop:
            slices.append(Slice(name, start - offset, stop - offset, start - first))
    return Block(flat, optimizer.optimizer, index, [name for name, _, _ in placed], slices)


@contextlib.contextmanager
def _updated(optimizer: Any) -> Iterator[None]:
    yield
    optimizer.update_lp_params()


def _plain(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> list[Block]:
    blocks = []
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            if parameter.requires_grad:
                name = names[id(parameter)]
                whole = [Slice(name, 0, parameter.numel(), 0)]
                blocks.append(Block(parameter, optimizer, index, [name], whole, replicated=True))
    return blocks
