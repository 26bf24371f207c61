"""Loading at any world size: each rank reads the flat ranges that it now holds, wherever the saving ranks put them.

A folder and a fresh engine flow in; masters, optimizer state, hyperparameters, weights and random states are as they
were saved, to the bit, and the caller's state flows out. Every function here is a collective: all ranks call it.
"""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from distmed.checkpoint import rng
from distmed.checkpoint.folder import complete_newest_first, names, verify_rank
from distmed.checkpoint.frozen import Frozen, frozen_hashes, frozen_parameters, persistent_buffers, wrapped_sum
from distmed.checkpoint.marker import CorruptCheckpointError, UnreadableCheckpointError
from distmed.checkpoint.read import FROZEN, MASTER, Checkpoint, Wanted
from distmed.checkpoint.slices import Block, View, full_shape, view
from distmed.checkpoint.storage import Storage, StorageError, pause_s
from distmed.checkpoint.tensors import dtype_name, dtype_of
from distmed.errors import UserError, one_of

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine


@dataclass(frozen=True)
class Loaded:
    """What was loaded from where, and a line for each newer checkpoint that was passed over."""

    state: dict[str, Any]
    folder: str
    notes: list[str]


def load_newest(
    engine: DeepSpeedEngine,
    root: str | Path,
    filesystem: Any = None,
    *,
    retry_s: float = 0.0,
    tell: Callable[[str], Any] | None = None,
) -> Loaded | None:
    """Load the newest checkpoint under `root` that is complete and whole; None if there is none.

    Each rank verifies its share of the files; if any is damaged all fall back to the checkpoint before. A storage that fails is
    no damage: it is tried again for `retry_s`, and the first rank may `tell` so. Raises UserError where it fails for longer, or
    is not there on some hosts: to go on from an older checkpoint, or to begin anew, would be lost work.
    """
    where = Storage.at(root, filesystem)
    candidates, notes = _patiently(lambda: _candidates(where), f"what lies in {where}", retry_s, tell)
    for candidate in candidates:
        folder = where / candidate
        try:
            state = _patiently(partial(load, engine, folder), f"checkpoint {folder}", retry_s, tell)
            return Loaded(state, str(folder), notes)
        except CorruptCheckpointError as error:
            notes.append(f"skipped {candidate}: {error}")
    return None


def _patiently(work: Callable[[], Any], what: str, retry_s: float, tell: Callable[[str], Any] | None) -> Any:
    """Run `work`, a collective, again and again while the storage fails on any rank; UserError after `retry_s`."""
    began, said = time.monotonic(), False
    while True:
        try:
            return work()
        except UnreadableCheckpointError as error:
            # By the clock of one rank, so that all give up together.
            over = [time.monotonic() - began >= retry_s]
            dist.broadcast_object_list(over, src=0)
            if over[0]:
                traceback.print_exc()
                raise StorageError(
                    f"{what} cannot be read for {retry_s:g} s (checkpoint.retry_s): {error}",
                    "mend the storage, or take away what is broken; then --resume",
                ) from error
            if tell and not said and dist.get_rank() == 0:
                tell(f"{what} cannot be read ({error}): tried again for {retry_s:g} s")
            said = True
            time.sleep(pause_s(retry_s))


def _candidates(where: Storage) -> tuple[list[str], list[str]]:
    """Complete checkpoints, newest first, and why others are none, as the first rank alone lists them: all try the same."""
    notes: list[str] = []

    def complete() -> list[str]:
        return [str(found) for found, _ in complete_newest_first(where, notes)] if dist.get_rank() == 0 else []

    listed: list[Any] = [_together(complete), notes]
    dist.broadcast_object_list(listed, src=0)
    _check_all_see(where)
    return listed[0], listed[1]


def _check_all_see(where: Storage) -> None:
    """A host that came later may lack the mount: there the folder is empty, and what others see would count as damaged."""
    sees: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(sees, (socket.gethostname(), _together(lambda: bool(names(where)))))
    blind = sorted({host for host, some in sees if not some})
    if blind and any(some for _, some in sees):
        raise StorageError(
            f"{one_of(blind)} sees no checkpoint in {where}, where other hosts see some",
            "mount the same storage on all hosts, or take these out of the cluster; then --resume",
        )


def load(engine: DeepSpeedEngine, folder: str | Path | Storage, filesystem: Any = None) -> dict[str, Any]:
    """Restore `engine` from `folder` and return the caller's state.

    Hashes are checked first, each rank reading its share of the files: a rank reads model/W twice, once to check and
    once to load. At the saved world size a rank gets its own random states and `state` back, at another those of rank
    0 (random states derived, see `rng.derive`). Raises, on all ranks alike, CorruptCheckpointError for damage
    (nothing was touched), UnreadableCheckpointError where the storage fails (load again), and UserError where the
    checkpoint belongs to another model.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    where = Storage.at(folder, filesystem)
    checkpoint: Checkpoint = _together(lambda: Checkpoint(where))
    with checkpoint:
        _together(lambda: _verify_share(checkpoint, rank, world_size))
        engine_view = view(engine)
        _together(lambda: _check_same_model(engine, engine_view, checkpoint))
        with engine_view.settled():
            _together(lambda: _load_blocks(engine_view, checkpoint))
            _load_frozen(engine, engine_view, checkpoint)
        _together(lambda: _load_buffers(engine, checkpoint))
    for name, group in engine_view.groups.items():
        group.update({key: tuple(v) if isinstance(v, list) else v for key, v in checkpoint.groups[name].items()})
    engine.global_steps = checkpoint.markers[0].engine_steps
    if world_size == checkpoint.world_size:
        rng.restore(checkpoint.markers[rank].rng)
        return checkpoint.markers[rank].state
    rng.derive(checkpoint.markers[0].rng, rank, world_size)
    return checkpoint.markers[0].state


def _together(work: Callable[[], Any]) -> Any:
    """Run `work`; if it fails on one rank, raise on all, for a rank that went on would wait for the others for ever."""
    result: Any = None
    fault: Exception | None = None
    try:
        result = work()
    except (CorruptCheckpointError, UserError, MemoryError, torch.OutOfMemoryError) as error:
        fault = error
    except FileNotFoundError as error:
        fault = CorruptCheckpointError(str(error))
    except Exception as error:  # every store behind fsspec has errors of its own
        fault = UnreadableCheckpointError(
            str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        )
        fault.__cause__ = error
    faults: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(faults, fault if fault is None else (type(fault), fault.args))
    first = next((found for found in faults if found), None)
    if first:
        raise first[0](*first[1]) from fault
    return result


def _verify_share(checkpoint: Checkpoint, rank: int, world_size: int) -> None:
    for marker in checkpoint.markers[rank::world_size]:
        wrong = verify_rank(checkpoint.folder, marker)
        if wrong:
            raise CorruptCheckpointError(wrong)


def _check_same_model(engine: DeepSpeedEngine, engine_view: View, checkpoint: Checkpoint) -> None:
    mine = {name: full_shape(parameter) for name, parameter in engine.module.named_parameters()}
    saved = {name: parameter.shape for name, parameter in checkpoint.parameters.items()}
    other = sorted(name for name in mine.keys() | saved.keys() if mine.get(name) != saved.get(name))
    hint = "resume with the model the run began with, or start a new run with another --name"
    if other:
        raise UserError(f"checkpoint {checkpoint.folder.name} is of another model: {one_of(other, 3)} differ", hint)
    stepped = {name for block in engine_view.blocks for name in block.names}
    frozen = {name for name, parameter in checkpoint.parameters.items() if parameter.group is None}
    other = sorted(name for name in saved if (name in stepped) == (name in frozen))
    if other:
        raise UserError(f"checkpoint {checkpoint.folder.name} trained other weights: {one_of(other, 3)} differ", hint)
    groups = sorted(engine_view.groups.keys() - checkpoint.groups.keys())
    if groups:
        raise UserError(f"checkpoint {checkpoint.folder.name} has no parameter group named {one_of(groups)}", hint)


def _load_blocks(engine_view: View, checkpoint: Checkpoint) -> None:
    for block in engine_view.blocks:
        with block.open(True):
            _load_block(block, checkpoint)


def _load_block(block: Block, checkpoint: Checkpoint) -> None:
    """Master and optimizer state of one block. Padding between and behind the parameters keeps what it has; its state
    is zero."""
    known = [checkpoint.parameters[name] for name in block.names]
    if any((each.states, each.scalars) != (known[0].states, known[0].scalars) for each in known):
        raise UserError(
            f"checkpoint {checkpoint.folder.name}: parameters that are stepped together were saved at different steps",
            "resume at the ZeRO stage the run began with",
        )
    flat = block.tensor.detach().view(-1)
    names = [piece.name for piece in block.slices]
    dtype = checkpoint.dtype(MASTER, names[0]) if names else flat.dtype
    master = torch.empty(flat.shape, dtype=dtype, pin_memory=flat.device.type != "cpu")
    read = {MASTER: master} | {
        key: torch.zeros(flat.shape, dtype=dtype_of(name)) for key, name in known[0].states.items()
    }
    checkpoint.read(
        Wanted(key, piece.name, piece.start, host[piece.offset : piece.offset + piece.numel])
        for key, host in read.items()
        for piece in block.slices
    )
    for piece in block.slices:
        part = slice(piece.offset, piece.offset + piece.numel)
        flat[part].copy_(master[part], non_blocking=True)
    old = block.state()
    if not known[0].states:
        block.optimizer.state.pop(block.tensor, None)
        return
    state = block.optimizer.state[block.tensor]
    for key, host in read.items():
        if key == MASTER:
            continue
        if key not in old:
            state[key] = torch.empty_like(block.tensor, dtype=host.dtype, requires_grad=False)
        state[key].view(-1).copy_(host)
    for key, value in known[0].scalars.items():
        state[key] = _scalar(block, key, value)


def _scalar(block: Block, key: str, value: float) -> Any:
    """`step` in the type that the optimizer keeps it in: always a tensor of the block's own, since torch counts it in
    place and a shared one would advance once for every block."""
    if not isinstance(block.optimizer, torch.optim.Adam):
        return int(value) if key == "step" else value
    group = block.optimizer.param_groups[block.group]
    device = block.tensor.device if group["fused"] or group["capturable"] else torch.device("cpu")
    return torch.tensor(value, dtype=torch.float32, device=device)


def _load_frozen(engine: DeepSpeedEngine, engine_view: View, checkpoint: Checkpoint) -> None:
    """Stored frozen weights are read back; the others must be those of the base model that the run began with."""
    stepped = {name for block in engine_view.blocks for name in block.names}
    frozen = frozen_parameters(engine, stepped)
    if not frozen:
        return
    _together(lambda: _read_frozen(frozen, checkpoint))
    mine = frozen_hashes(engine, frozen)
    named = [
        piece.name
        for piece in frozen
        if not checkpoint.parameters[piece.name].stored
        and checkpoint.parameters[piece.name].dtype == dtype_name(piece.parameter.dtype)
    ]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, {name: mine[name] for name in named})
    other = [
        name
        for name in named
        if wrapped_sum([each[name] for each in gathered])
        != wrapped_sum([marker.frozen_hashes[name] for marker in checkpoint.markers])
    ]
    if other:
        raise UserError(
            f"frozen weights are not those of checkpoint {checkpoint.folder.name}: {one_of(sorted(other), 3)}",
            "resume with the same model.path and model.revision the run began with",
        )


def _read_frozen(frozen: list[Frozen], checkpoint: Checkpoint) -> None:
    for piece in frozen:
        if checkpoint.parameters[piece.name].stored:
            host = torch.empty(piece.held.numel(), dtype=dtype_of(checkpoint.parameters[piece.name].dtype))
            checkpoint.read([Wanted(FROZEN, piece.name, piece.held_start, host)])
            piece.held.copy_(host)


def _load_buffers(engine: DeepSpeedEngine, checkpoint: Checkpoint) -> None:
    saved = checkpoint.buffers()
    for name, buffer in persistent_buffers(engine.module).items():
        if name in saved:
            buffer.copy_(saved[name])
