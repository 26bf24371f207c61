"""Bytes by part: model states as DeepSpeed's own estimators count them, and what makes them less."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distmed.plan.devices import GIB, cpu_host
from distmed.plan.memory import checkpoint_bytes, memory_of, model_states
from distmed.plan.setup import Setup
from distmed.plan.shapes import Shape
from distmed.recipe import Lora

BILLION = 10**9
Make = Callable[..., Shape]
MakeSetup = Callable[..., Setup]


# What deepspeed.runtime.zero.stage3.estimate_zero3_model_states_mem_needs counts, without its largest layer: 18 bytes a
# parameter; and stage_1_and_2.estimate_zero2_model_states_mem_needs: 2 and 18 shared.
@pytest.mark.parametrize(
    ("stage", "theirs"),
    [(3, lambda n, w: 18 * n / w), (2, lambda n, w: 2 * n + 18 * n / w)],
    ids=["stage 3", "stage 2"],
)
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_model_states_are_those_that_deepspeed_estimates(
    stage: int, theirs: Callable[[int, int], float], workers: int, shape: Make, setup: MakeSetup
) -> None:
    mine = sum(model_states(shape(7 * BILLION), setup(workers, stage=stage)).values())
    # Ours counts gradients a second time while the optimizer steps, of a sub-group at most.
    assert mine == pytest.approx(theirs(7 * BILLION, workers), rel=0.12)


def test_their_estimator_is_the_one_quoted() -> None:
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs

    _, on_device, layer = estimate_zero3_model_states_mem_needs(7 * BILLION, 10**8, 8, 1, cpu_offload=False)
    assert on_device - layer == 18 * 7 * BILLION // 8


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_device_needs_less_where_there_are_more(stage: int, shape: Make, setup: MakeSetup) -> None:
    totals = [sum(model_states(shape(7 * BILLION), setup(workers, stage=stage)).values()) for workers in (1, 2, 4, 8)]
    assert totals == sorted(totals, reverse=True)
    if stage == 3:
        assert totals[3] == pytest.approx(totals[0] / 8, rel=0.35)


def test_frozen_weights_have_no_gradients_optimizer_or_checkpoint(shape: Make, setup: MakeSetup) -> None:
    lora, full = shape(7 * BILLION, trainable=7 * BILLION // 100), shape(7 * BILLION)
    states, whole = model_states(lora, setup()), model_states(full, setup())
    assert states["weights"] == whole["weights"]
    assert states["gradients"] < whole["gradients"] / 50
    assert states["optimizer"] < whole["optimizer"] / 50
    # In bf16 the model is 14 GB.
    assert checkpoint_bytes(lora, setup()) < 0.07 * 2 * lora.total
    assert checkpoint_bytes(lora, setup(store_frozen=True)) > 2 * lora.frozen


def test_offload_moves_bytes_from_the_device_to_the_host(shape: Make, setup: MakeSetup) -> None:
    plain = memory_of(shape(7 * BILLION), setup())
    offloaded = memory_of(shape(7 * BILLION), setup(offload_optimizer="cpu", offload_param="cpu"))
    on_nvme = memory_of(shape(7 * BILLION), setup(offload_optimizer="nvme", sub_group=10**8))
    assert offloaded.device_total < plain.device_total / 3
    assert offloaded.host_total > plain.host_total + 12 * 7 * BILLION * 0.9
    assert on_nvme.host_total < offloaded.host_total


def test_buffers_for_nvme_hold_the_largest_sub_group(shape: Make, setup: MakeSetup) -> None:
    """Sub-groups of 100 M are full with the weight that crosses it; an embedding of 300 M is one by itself."""
    layers = shape(32 * 60 * 10**6)
    with_embedding = shape(0, trained=(300 * 10**6, *layers.trained))
    for model, largest in ((layers, 120), (with_embedding, 300)):
        host = memory_of(model, setup(devices=1, offload_optimizer="nvme", sub_group=10**8)).host
        assert host["optimizer"] == 4 * 4 * largest * 10**6
        assert host["gradients"] == 2 * model.trainable + 4 * max(model.trained)


def test_a_checkpoint_is_copied_to_the_host_but_for_state_on_nvme(shape: Make, setup: MakeSetup) -> None:
    lora = shape(7 * BILLION, trainable=10**9)
    for place, copied in {"none": 12 * 10**9 // 8, "cpu": 12 * 10**9 // 8, "nvme": 0}.items():
        for stored, frozen in {False: 0, True: 2 * 6 * BILLION // 8}.items():
            host = memory_of(lora, setup(offload_optimizer=place, store_frozen=stored)).host
            # Of all eight workers of a host.
            assert host.get("checkpoint in flight", 0) == 8 * (copied + frozen)


def test_activations_grow_with_the_micro_batch_and_the_loss_does_not(shape: Make, setup: MakeSetup) -> None:
    model = shape(BILLION, saved=BILLION, peak=BILLION, vocabulary=128_000)
    one, four = (memory_of(model, setup(micro_batch=rows)).device for rows in (1, 4))
    assert four["activations"] == 4 * one["activations"]
    assert four["loss"] == one["loss"]


def test_only_the_fuller_of_backward_pass_and_step_counts(shape: Make, setup: MakeSetup) -> None:
    """Activations are gone when the optimizer steps."""
    step = 4 * 7 * BILLION // 8
    small, large = (memory_of(shape(7 * BILLION, saved=n, peak=n), setup()) for n in (BILLION, 10 * BILLION))
    assert (small.moment, large.moment) == ("optimizer step", "backward pass")
    assert "activations" not in small.device and large.device["activations"] == 10 * BILLION
    assert small.device["gradients"] == large.device["gradients"] + step


def test_a_base_in_4_bits_takes_a_quarter_and_one_unpacked_weight(shape: Make, setup: MakeSetup) -> None:
    lora = shape(7 * BILLION, trainable=10**7, packable=6 * BILLION, largest_packable=10**8, saved=1, peak=1)
    plain, packed = (memory_of(lora, setup(stage=2, quantized=on)).device for on in (False, True))
    assert packed["weights"] == pytest.approx(2 * BILLION + 6 * BILLION * 4.13 / 8, rel=0.01)
    assert plain["weights"] == 14 * BILLION
    assert packed["unpacked weights"] == 2 * 10**8


def test_workers_that_share_a_sequence_have_a_part_of_it(setup: MakeSetup) -> None:
    alone, shared = setup(8, seq_len=8192, global_batch=8), setup(8, seq_len=8192, global_batch=8, sharers=4)
    assert (alone.part, shared.part) == (8192, 2048)
    assert (alone.accumulation, shared.accumulation) == (1, 4)


def test_activations_can_wait_in_host_memory(shape: Make, setup: MakeSetup) -> None:
    model = shape(BILLION, saved=32 * BILLION, peak=33 * BILLION)
    here, there = (memory_of(model, setup(checkpointing=True, activations_on_host=on)) for on in (False, True))
    assert here.device["activations"] == 33 * BILLION
    # Of one of 32 layers, and what recomputing it takes.
    assert there.device["activations"] == 2 * BILLION
    assert there.host["activations"] == 8 * 32 * BILLION


def test_on_a_cpu_host_adapters_leave_holes_in_the_heap(shape: Make, setup: MakeSetup) -> None:
    """By all activations of a pass, also where most are recomputed; on a GPU the caching allocator's share is lost."""
    recomputed = shape(BILLION, trainable=10**7, saved=10**8, peak=10**8, kept=BILLION)
    machine = cpu_host(2, 16, 64 * GIB)
    for lora, lost in ((Lora(), 1.7 * 2 * BILLION), (None, 0.4 * 2 * 10**8)):
        host = memory_of(recomputed, setup(machine=machine, micro_batch=2, lora=lora, max_live=0)).device
        assert host["fragmentation"] == pytest.approx(lost, rel=0.01)
    gpu = memory_of(recomputed, setup(micro_batch=2, lora=Lora())).device
    assert gpu["fragmentation"] < BILLION


@pytest.mark.parametrize(("stage", "held"), [(1, 1.0), (2, 0.25)])
def test_stage_1_holds_the_whole_gradient_at_the_end_of_the_passes(
    stage: int, held: float, shape: Make, setup: MakeSetup
) -> None:
    """Measured with DeepSpeed 0.19.8 on four workers: the share of the gradient that a worker has then."""
    model = shape(BILLION, saved=10 * BILLION, peak=10 * BILLION)
    memory = memory_of(model, setup(4, stage=stage))
    assert memory.moment == "backward pass"
    assert memory.device["gradients"] == held * 2 * model.trainable
    # Alone it holds nothing beside its share, and the step has that alone.
    assert memory_of(model, setup(1, stage=stage)).device["gradients"] == 2 * model.trainable
    assert model_states(model, setup(4, stage=1)) == model_states(model, setup(4, stage=2))
