"""Weights under ZeRO-3, each worker reading its own partition and nothing else.

A model whose parameters have no data yet flows in, one whose parameters are partitioned flows out. A partition is one run
of a flattened tensor, so it is one run of bytes in the safetensors file: every byte is read by the one worker that keeps it,
and no worker ever holds more than its partition and one tensor, or one module of fresh weights.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distmed.errors import UserError, one_of
from distmed.model.weight_files import header, weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PIECE_BYTES = 1 << 25
# The names of safetensors for the types that weights come in.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file: `offset` is that of its first byte in the file."""

    path: Path
    dtype: torch.dtype
    shape: list[int]
    offset: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def fits(self, shape: torch.Size, *, may_grow: bool) -> bool:
        """Whether it is the whole of a parameter of `shape` or, of an embedding that `may_grow`, the first rows."""
        return self.shape == list(shape) or (
            may_grow and self.shape[1:] == list(shape[1:]) and self.shape[0] < shape[0]
        )

    def read_into(self, out: Tensor, start: int) -> None:
        """Elements from `start` on into the flat, contiguous `out`: straight, or converted to its dtype a piece at a time."""
        with self.path.open("rb", buffering=0) as file:
            if out.device.type == "cpu" and out.dtype == self.dtype:
                view = out.detach().view(torch.uint8).numpy().data if out.numel() else memoryview(b"")
                _read_at(file.fileno(), view, self.offset + start * self.dtype.itemsize, self.path)
                return
            piece = PIECE_BYTES // self.dtype.itemsize
            buffer = bytearray(min(out.numel(), piece) * self.dtype.itemsize)
            for first in range(0, out.numel(), piece):
                count = min(piece, out.numel() - first)
                view = memoryview(buffer)[: count * self.dtype.itemsize]
                _read_at(file.fileno(), view, self.offset + (start + first) * self.dtype.itemsize, self.path)
                out[first : first + count].copy_(torch.frombuffer(view, dtype=self.dtype))


def _read_at(file: int, into: memoryview, offset: int, path: Path) -> None:
    done = 0
    while done < len(into):
        count = os.preadv(file, [into[done:]], offset + done)
        if count == 0:
            raise OSError(f"{path} ends at byte {offset + done}")
        done += count


def stored_tensors(folder: Path, skip: tuple[str, ...] = ()) -> dict[str, Stored] | None:
    """Every tensor of a model folder by name, without modules named in `skip`; None if one has no plain float type."""
    found: dict[str, Stored] = {}
    for path in weight_files(folder):
        tensors, begin = header(path)
        for name, entry in tensors.items():
            if name.split(".")[0] in skip:
                continue
            dtype = DTYPES.get(entry["dtype"])
            if dtype is None:
                return None
            found[name] = Stored(path, dtype, entry["shape"], begin + entry["data_offsets"][0])
    return found


@contextmanager
def without_data() -> Iterator[None]:
    """Parameters of modules that are made in here have a shape but no data; buffers are made as always."""
    own = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        own(module, name, parameter)
        if parameter is not None and parameter.device.type != "meta":
            module._parameters[name] = nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = own  # type: ignore[method-assign]


def places(hf: PreTrainedModel, stored: dict[str, Stored]) -> dict[str, Stored] | None:
    """For each parameter the tensor it is read from; fresh ones are left out. None where names do not simply match.

    A base model without its task's head lacks the outermost prefix, or has one that this model lacks.
    """
    prefix = f"{hf.base_model_prefix}."
    grown = {
        id(module.weight) for module in (hf.get_input_embeddings(), hf.get_output_embeddings()) if module is not None
    }
    found: dict[str, Stored] = {}
    used: set[str] = set()
    for name, parameter in hf.named_parameters(remove_duplicate=False):
        for candidate in (name, name.removeprefix(prefix), prefix + name):
            tensor = stored.get(candidate)
            if tensor is not None and tensor.fits(parameter.shape, may_grow=id(parameter) in grown):
                found[name] = tensor
                used.add(candidate)
                break
    buffers = {name for name, _ in hf.named_buffers()}
    left = {name for name in stored.keys() - used if name not in buffers and prefix + name not in buffers}
    # Layers that the architecture has no place for, such as another task's head, may stay behind; a renamed one may not.
    roots = {name.removeprefix(prefix).split(".")[0] for name, _ in hf.named_parameters()}
    return None if any(name.removeprefix(prefix).split(".")[0] in roots for name in left) else found


@dataclass(frozen=True)
class Renewed:
    """A parameter that has got data, the first of its names, and the tensor it is read from: None where it is fresh."""

    name: str
    parameter: nn.Parameter
    stored: Stored | None

    @property
    def wants_values(self) -> bool:
        """Whether some of it, such as the rows that an embedding has grown by, is not stored."""
        return self.stored is None or self.stored.numel < self.parameter.numel()


def renewed(
    hf: PreTrainedModel, source: dict[str, Stored], data: Callable[[nn.Parameter], Tensor | None]
) -> Iterator[tuple[nn.Module, list[Renewed]]]:
    """Every module, with those of its parameters that now have `data` (None: it stays as it is). Tied ones come once."""
    names: dict[int, list[str]] = {}
    for name, parameter in hf.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    made: dict[int, nn.Parameter] = {}
    for module in list(hf.modules()):
        found: list[Renewed] = []
        for key, bare in module._parameters.items():
            if bare is None:
                continue
            if id(bare) not in made and (given := data(bare)) is not None:
                made[id(bare)] = nn.Parameter(given, bare.requires_grad)
                called = names[id(bare)]
                stored = next((source[name] for name in called if name in source), None)
                found.append(Renewed(called[0], made[id(bare)], stored))
            module._parameters[key] = made.get(id(bare), bare)
        yield module, found


@torch.no_grad()
def draw_values(hf: PreTrainedModel, module: nn.Module, parameters: list[Renewed]) -> None:
    """Let the model itself initialize `module`, of which `parameters` are fresh.

    Raises UserError where it knows no values for one of them, which would be whatever lay in memory.
    """
    if not parameters:
        return
    for each in parameters:
        each.parameter.fill_(math.nan)
    hf._init_weights(module)
    unset = [each.name for each in parameters if each.parameter.sum().isnan()]
    if unset:
        raise UserError(
            f"{hf.config.model_type} gives no initial values to {len(unset)} of its parameters: {one_of(unset, 4)}",
            "set model.init=pretrained and name a folder that has them",
        )


def partition(
    hf: PreTrainedModel, ds_config: dict[str, Any], source: dict[str, Stored], dtype: torch.dtype
) -> set[str]:
    """Give every parameter of `hf` its data and partition it over the workers; the names of those made anew.

    What `source` lacks is initialized by the model itself, a module at a time: the same on every worker, since all draw the
    same numbers.
    """
    import deepspeed
    from deepspeed.utils import groups

    # hpZ's group is the process's: a second model in it takes the one that is there.
    intra = groups._get_zero_param_intra_parallel_group()
    init = deepspeed.zero.Init(config_dict_or_path=ds_config, dtype=dtype, zero_param_parallel_group=intra)
    if init.mem_efficient_linear:
        # What the context manager would do: without it a graph keeps gathered weights alive.
        init._enable_mem_efficient_linear()

    def single(bare: nn.Parameter) -> Tensor:
        """A shape over a single element, until it is known what this worker keeps."""
        return torch.empty((), dtype=dtype, device=init.local_device).expand(bare.shape)

    fresh: set[str] = set()
    for module, found in renewed(hf, source, single):
        anew = [each for each in found if each.wants_values]
        if anew:
            for each in found:
                each.parameter.data = torch.empty_like(each.parameter, memory_format=torch.contiguous_format)
            draw_values(hf, module, anew)
        for each in found:
            init._convert_to_deepspeed_param(each.parameter)
            if each.stored is not None:
                _fill(each.parameter, each.stored, init, whole=bool(anew))
            each.parameter.partition()  # type: ignore[attr-defined]
        fresh |= {each.name for each in found if each.stored is None}
    return fresh


def initialize(hf: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give every parameter of `hf`, which has no data yet, fresh values: those that `partition` makes at the same seed."""
    for module, found in renewed(hf, {}, lambda bare: torch.empty(bare.shape, dtype=dtype)):
        draw_values(hf, module, found)


def _fill(parameter: Any, tensor: Stored, init: Any, *, whole: bool) -> None:
    """Read what this worker will keep; the rest of the tensor is never touched.

    `whole`: into the parameter, which has all its elements already. Else into a partition of its own where DeepSpeed keeps
    it in plain memory: made here, because its own way needs the whole tensor beside it.
    """
    run = -(-parameter.ds_numel // parameter.ds_zero_partition_world_size)
    start = min(run * parameter.ds_zero_partition_rank, tensor.numel)
    stop = min(start + run, tensor.numel)
    plain = init.zero_param_process_group is None and not init.quantized_nontrainable_weights
    if whole or not plain or init.remote_device == "nvme":
        if not whole:
            parameter.data = torch.empty_like(parameter, memory_format=torch.contiguous_format)
        ranges = [(start, stop)]
        if init.zero_param_process_group is not None:
            # hpZ's copy within a host: of all elements a larger part, in another place.
            size = run * parameter.ds_zero_partition_world_size // init.num_ranks_in_param_group
            first = min(size * init.rank_in_group, tensor.numel)
            ranges.append((first, min(first + size, tensor.numel)))
        with torch.no_grad():
            for first, last in ranges:
                tensor.read_into(parameter.data.view(-1)[first:last], first)
        return
    from deepspeed.accelerator import get_accelerator
    from deepspeed.runtime.zero.partition_parameters import PartitionedParamStatus

    place = init.local_device if parameter.ds_persist else init.remote_device
    kept: Any = torch.empty(run, dtype=parameter.dtype, device=place)
    if init.pin_memory and kept.device.type == "cpu":
        kept = get_accelerator().pin_memory(kept)
    tensor.read_into(kept[: stop - start], start)
    kept[stop - start :].zero_()
    kept.ds_numel, kept.status, kept.final_location = run, PartitionedParamStatus.AVAILABLE, None
    parameter.ds_tensor, parameter.ds_numel_aligned = kept, run * parameter.ds_zero_partition_world_size
