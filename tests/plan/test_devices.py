"""The table of devices: what a name means, and that the meter of a run means the same."""

from __future__ import annotations

import pytest

from distmed.errors import UserError
from distmed.plan.devices import DEVICES, GIB, cpu_host, parse_machine
from distmed.train.hardware import gpu_peak_flops


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("8xH100-80", 8, "H100-80"),
        ("8xH100", 8, "H100-80"),
        ("4 x a100", 4, "A100-80"),
        ("A100-40GB", 1, "A100-40"),
        ("2xRTX 4090", 2, "RTX4090-24"),
    ],
)
def test_a_machine_by_count_and_name(text: str, count: int, name: str) -> None:
    machine = parse_machine(text, nodes=3)
    assert (machine.per_node, machine.device.name, machine.workers) == (count, name, 3 * count)


@pytest.mark.parametrize(("text", "near"), [("8xH1000", "H100-80"), ("MI300", "MI300X-192"), ("8xL40", "L40S-48")])
def test_an_unknown_device_is_told_with_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UserError) as error:
        parse_machine(text)
    assert "unknown device" in error.value.message
    assert f"did you mean {near}?" in error.value.hint


@pytest.mark.parametrize("text", ["", "8x", "0xH100", "00xH100", "x8"])
def test_what_names_no_device_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--gpus"):
        parse_machine(text)


@pytest.mark.parametrize(
    ("name", "driver_name"),
    [
        ("A100-80", "NVIDIA A100-SXM4-80GB"),
        ("H100-80", "NVIDIA H100 80GB HBM3"),
        ("H200-141", "NVIDIA H200"),
        ("B200-180", "NVIDIA B200"),
        ("MI300X-192", "AMD Instinct MI300X"),
        ("L40S-48", "NVIDIA L40S"),
        ("RTX4090-24", "NVIDIA GeForce RTX 4090"),
    ],
)
def test_peaks_are_those_that_a_run_is_measured_by(name: str, driver_name: str) -> None:
    assert DEVICES[name].bf16_flops == gpu_peak_flops(driver_name, bf16=True)
    assert DEVICES[name].fp32_flops == gpu_peak_flops(driver_name, bf16=False)


def test_every_device_names_its_source() -> None:
    assert all(device.source for device in DEVICES.values())


def test_workers_share_a_cpu_host() -> None:
    machine = cpu_host(4, cores=8, memory=64 * GIB, nodes=2)
    assert (machine.per_node, machine.nodes, machine.device.memory) == (2, 2, 32 * GIB)
