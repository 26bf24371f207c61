"""Bytes by part, for each device and each host: what DeepSpeed's wrappers allocate, activations, the loss, and margins.

A `Shape` and a `Setup` flow in, a `Memory` flows out. The parts follow the allocations of DeepSpeed 0.19.8
(zero/stage3.py, zero/stage_1_and_2.py); constants were measured by benchmarks/plan.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from distmed.model.head import chunk_length
from distmed.plan.devices import GIB, MIB
from distmed.plan.setup import Setup
from distmed.plan.shapes import Shape

# A worker on a CPU host before its model is there: interpreter, torch, transformers, DeepSpeed, Ray.
PROCESS = 780 * MIB
# CUDA context, NCCL's buffers, cuBLAS workspaces.
CONTEXT = 1400 * MIB
# What the caching allocator cannot hand out again.
FRAGMENTATION = 0.06
# The same of a process on a CPU host, as a share of what a micro-batch needs. Under stage 3 weights come and go among
# activations.
HEAP_FRAGMENTATION, HEAP_FRAGMENTATION_STAGE_3 = 0.1, 0.4
# With adapters most of what a layer makes is gone before the next, and leaves holes: as a share of all its activations.
HEAP_FRAGMENTATION_LORA = 1.7
# A weight in 4 bits with its scales (model/quantize.py).
NF4_BYTES = 4.13 / 8
# Of one trained weight in a checkpoint: its fp32 master and the two moments of Adam.
BYTES_PER_TRAINED = 12
# Host memory that a GPU worker holds beside what is offloaded.
GPU_WORKER_HOST = 3 * GIB


@dataclass(frozen=True)
class Memory:
    """`device` and `host`: bytes by part, of the fullest device and of one host (empty on CPU: the host is the device), at
    the fullest `moment` of a step."""

    device: dict[str, int]
    host: dict[str, int]
    moment: str

    @property
    def device_total(self) -> int:
        return sum(self.device.values())

    @property
    def host_total(self) -> int:
        return sum(self.host.values())


def memory_of(shape: Shape, setup: Setup) -> Memory:
    """What always lies there, and what either the passes or the optimizer's step have beside it, whichever is more."""
    working, step = _working(shape, setup), {"gradients": _step_copy(shape, setup)}
    moments = {"backward pass": working, "optimizer step": step}
    if setup.machine.device.is_cpu:
        beside = sum(size for part, size in working.items() if part not in ("buckets", "gradients"))
        share = HEAP_FRAGMENTATION_STAGE_3 if setup.stage == 3 else HEAP_FRAGMENTATION
        lost = share * beside if setup.lora is None else HEAP_FRAGMENTATION_LORA * setup.rows * shape.kept
        working["fragmentation"] = int(lost)
        if setup.stage == 3:
            # Little of what the heap keeps is of use to the step.
            moments = {"backward pass": _summed(working, step)}
    moment = max(moments, key=lambda name: sum(moments[name].values()))
    parts = _summed(_lasting(shape, setup), moments[moment])
    host = _offloaded(shape, setup)
    # State on NVMe is read while it is written (checkpoint/swapped.py), through the buffers that are counted there.
    snapshot = 0 if setup.offload_optimizer == "nvme" else BYTES_PER_TRAINED * shape.trainable // setup.workers
    if setup.store_frozen:
        snapshot += setup.bytes * shape.frozen // setup.workers
    host["checkpoint in flight"] = snapshot
    if setup.machine.device.is_cpu:
        return Memory(_summed(parts, host, {"process": PROCESS}), {}, moment)
    if setup.activations_on_host:
        host["activations"] = setup.rows * shape.saved
    host["processes"] = GPU_WORKER_HOST
    parts["context"] = CONTEXT
    parts["fragmentation"] = int(FRAGMENTATION * sum(parts.values()))
    each_host = {part: size * setup.machine.per_node for part, size in host.items()}
    return Memory(_summed(parts), _summed(each_host), moment)


def model_states(shape: Shape, setup: Setup) -> dict[str, int]:
    """Weights, gradients and optimizer state on one device while the optimizer steps."""
    return _summed(_lasting(shape, setup), {"gradients": _step_copy(shape, setup)})


def _lasting(shape: Shape, setup: Setup) -> dict[str, int]:
    """Weights, gradients and optimizer state that lie on one device (Rajbhandari et al. 2020, arXiv:1910.02054).

    A frozen weight has neither gradient nor optimizer state. bf16 weights have fp32 masters beside them; fp32 ones under
    stages 0 and 3 are their own.
    """
    size, workers = setup.bytes, setup.workers
    trained = shape.trainable
    share = workers if setup.stage >= 1 else 1
    weights = size * shape.total
    if setup.quantized:
        weights -= int((size - NF4_BYTES) * shape.packable)
    if setup.stage == 3:
        weights = 0 if setup.offload_param != "none" else weights // workers
        if setup.hpz > 1:
            weights += size * shape.total // setup.hpz
    own_master = not setup.bf16 and setup.stage in (0, 3)
    master = 0 if own_master else 4 * trained // share
    moments = 8 * trained // share
    if setup.offload_optimizer != "none":
        master = moments = 0
    return {"weights": weights, "gradients": _gradients(shape, setup), "optimizer": master + moments}


def _gradients(shape: Shape, setup: Setup) -> int:
    if setup.stage == 0:
        return setup.bytes * shape.trainable
    # Each worker keeps its share once they are reduced.
    return 0 if setup.offload_optimizer != "none" else setup.bytes * shape.trainable // setup.workers


def _step_copy(shape: Shape, setup: Setup) -> int:
    """The step wants its gradients once more: in fp32 beside bf16, or as one flat tensor, a sub-group at a time."""
    if setup.stage == 0 or setup.offload_optimizer != "none":
        return 0
    return 4 * (_largest_sub_group(shape, setup) if setup.stage == 3 else shape.trainable // setup.workers)


def _largest_sub_group(shape: Shape, setup: Setup) -> int:
    """Elements of one worker's share. A sub-group is full with the weight that crosses its size: one embedding may be more."""
    largest = filled = 0
    for weight in shape.trained:
        filled += weight // setup.workers
        largest = max(largest, filled)
        if filled >= setup.sub_group:
            filled = 0
    return largest


def _offloaded(shape: Shape, setup: Setup) -> dict[str, int]:
    """Bytes a worker keeps in its host's memory instead of on its device; NVMe leaves buffers only."""
    size, trained, workers = setup.bytes, shape.trainable, setup.workers
    found: dict[str, int] = {}
    if setup.offload_optimizer == "cpu":
        found["optimizer"] = (4 + 8) * trained // workers
        found["gradients"] = (4 + size) * trained // workers
    elif setup.offload_optimizer == "nvme":
        found["optimizer"] = setup.swap_buffers * 4 * _largest_sub_group(shape, setup)
        # All of them, and the one that is on its way to the disk in fp32.
        found["gradients"] = (size * trained + 4 * max(shape.trained, default=0)) // workers
    if setup.offload_param == "cpu":
        found["weights"] = size * shape.total // workers
    return found


def _working(shape: Shape, setup: Setup) -> dict[str, int]:
    """What a micro-batch needs while it runs. The loss comes when all activations are there, other work when some went."""
    loss = loss_buffer(setup.rows * setup.part, shape, setup)
    saved = setup.rows * shape.saved
    transient = max(setup.rows * (shape.peak - shape.saved) - loss, 0)
    # Those of the layer at work are on the device.
    parts = {"activations": transient + (saved // shape.layers if setup.activations_on_host else saved), "loss": loss}
    if setup.stage == 3 and (setup.workers > 1 or setup.offload_param != "none"):
        live = max(min(shape.total, setup.max_live), shape.largest_layer)
        parts["gathered weights"] = setup.bytes * (live + gather_copies(setup) * shape.largest_layer)
    if setup.quantized:
        parts["unpacked weights"] = setup.bytes * shape.largest_packable
    if setup.stage:
        buckets = (2 if setup.overlap and setup.stage < 3 else 1) * setup.bucket
        # A host gives memory to what is written there: with all gradients in them buckets are full.
        parts["buckets"] = setup.bytes * (min(buckets, shape.trainable) if setup.machine.device.is_cpu else buckets)
    if setup.stage == 1 and setup.offload_optimizer == "none":
        # Stage 1 lets go of what it reduced at the end of all passes only: until then it is there beside a worker's share.
        parts["gradients"] = setup.bytes * shape.trainable - _gradients(shape, setup)
    return parts


def gather_copies(setup: Setup) -> int:
    """What a layer that is being gathered takes beside itself: the parts one after another, and a copy of them in gloo."""
    if setup.workers == 1:
        return 0
    return 2 if setup.machine.device.is_cpu else 1


def loss_buffer(tokens: int, shape: Shape, setup: Setup) -> int:
    """Logits of one chunk of tokens, in fp32 and where it differs in the dtype of training, and the output layer's gradient,
    which several chunks sum up in fp32."""
    if not shape.vocabulary:
        return 0
    chunk = chunk_length(shape.vocabulary)
    cast = setup.bytes if setup.bf16 else 0
    gradient = setup.bytes if tokens <= chunk else 4 + cast
    return min(chunk, tokens) * shape.vocabulary * (4 + cast) + shape.head_trainable * gradient


def checkpoint_bytes(shape: Shape, setup: Setup) -> int:
    """One checkpoint on disk, of all workers: what is trained, and frozen weights that nothing else holds."""
    return BYTES_PER_TRAINED * shape.trainable + (setup.bytes * shape.frozen if setup.store_frozen else 0)


def checkpoints_at_once(keep: int, workers: int) -> int:
    """The newest are kept, the best beside them, and one is being written; of several workers the first prunes while others
    still write, so that one more lies there."""
    return keep + (2 if workers == 1 else 3)


def _summed(*several: dict[str, int]) -> dict[str, int]:
    """Bytes by part, without parts of none."""
    parts: Counter[str] = Counter()
    for each in several:
        parts.update(each)
    return {part: size for part, size in parts.items() if size > 0}
