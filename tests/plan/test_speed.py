"""How long a step takes: published runs, and what must make it longer or shorter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.plan_published import CASES, Case
from distmed.plan.devices import cpu_host
from distmed.plan.setup import Setup
from distmed.plan.shapes import Shape
from distmed.plan.speed import CPU_ADAM_BANDWIDTH, LINK_EFFICIENCY, flops_per_token, speed_of, traffic

BILLION = 10**9
Make = Callable[..., Shape]
MakeSetup = Callable[..., Setup]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.per_node * case.nodes}-{case.seq_len}")
def test_published_throughput_is_predicted_within_30_percent(case: Case) -> None:
    assert abs(case.error) < 0.3


def test_operations_are_those_of_the_palm_paper(shape: Make) -> None:
    model = shape(BILLION, layers=2, attention_width=64)
    assert flops_per_token(model, 128) == 6 * BILLION + 12 * 2 * 64 * 128
    frozen = shape(BILLION, layers=2, attention_width=64, multiplied_trainable=0)
    assert flops_per_token(frozen, 128) == 4 * BILLION + 12 * 2 * 64 * 128


def test_zero3_moves_weights_in_both_passes_of_each_micro_batch(shape: Make, setup: MakeSetup) -> None:
    model = shape(BILLION)
    one = setup(2, global_batch=2)
    assert traffic(model, one) == 3 * 2 * BILLION // 2
    assert traffic(model, setup(2, global_batch=8)) == 4 * traffic(model, one)
    assert traffic(model, setup(1)) == 0


def test_slow_links_and_offload_make_a_step_longer(shape: Make, setup: MakeSetup) -> None:
    model = shape(7 * BILLION)
    step = speed_of(model, setup()).step_s
    assert speed_of(model, setup(checkpointing=True)).step_s > 1.3 * step
    assert speed_of(model, setup(device="RTX4090")).network_s > 10 * speed_of(model, setup()).network_s
    offloaded = speed_of(model, setup(offload_optimizer="cpu")).step_s
    assert step < offloaded < speed_of(model, setup(offload_optimizer="nvme")).step_s


def test_twice_the_devices_halve_the_arithmetic(shape: Make, setup: MakeSetup) -> None:
    model = shape(7 * BILLION)
    assert speed_of(model, setup(8)).compute_s == pytest.approx(2 * speed_of(model, setup(16)).compute_s)


def test_on_a_cpu_communication_takes_turns_with_arithmetic(shape: Make, setup: MakeSetup) -> None:
    model = shape(7 * BILLION)
    speed = speed_of(model, setup(machine=cpu_host(2, 2, 24 * 2**30)))
    assert speed.step_s == pytest.approx(speed.compute_s + speed.network_s)


def test_offloaded_weights_go_over_the_bus_in_each_pass(shape: Make, setup: MakeSetup) -> None:
    """Of 8 workers each fetches its eighth; recomputation is a third pass, and each micro-batch fetches again."""
    model = shape(8 * BILLION, trainable=0)
    device = setup().machine.device
    once = 2 * BILLION / (device.bus * LINK_EFFICIENCY)
    for batches in (1, 4):
        for recomputed, passes in {False: 2, True: 3}.items():
            wanted = setup(offload_param="cpu", checkpointing=recomputed, global_batch=8 * batches)
            assert speed_of(model, wanted).storage_s == pytest.approx(passes * batches * once)
    # Gradients come down, and an optimizer on a CPU host has no bus to cross.
    both = setup(offload_param="cpu", offload_optimizer="cpu", global_batch=8)
    trained = shape(8 * BILLION)
    down = speed_of(trained, both).storage_s - 28 * BILLION / CPU_ADAM_BANDWIDTH - 2 * once
    assert down == pytest.approx(once)
    here = setup(machine=cpu_host(2, 2, 24 * 2**30), offload_param="cpu")
    assert speed_of(trained, here).storage_s == 0


@pytest.mark.parametrize("trained", [0, BILLION])
def test_recomputation_repeats_the_forward_pass_whatever_is_trained(
    trained: int, shape: Make, setup: MakeSetup
) -> None:
    """2 N operations a token: with frozen weights 4 N become 6 N, else 6 N become 8 N."""
    model = shape(BILLION, multiplied_trainable=trained, attention_width=0)
    once, again = (speed_of(model, setup(checkpointing=on)).compute_s for on in (False, True))
    share = (6 if trained else 4) / (8 if trained else 6)
    assert once == pytest.approx(share * again)
