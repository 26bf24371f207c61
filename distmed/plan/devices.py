"""The table of devices, with sources, and the machines that `--gpus 8xH100-80 --nodes 4` names.

A device's name flows in, its `Device` flows out; a name that is not in the table is told with the nearest that is.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, replace

from distmed.errors import UserError
from distmed.plan.peaks import PEAKS, TERA

GB = 10**9
GIB = 2**30
MIB = 2**20
CPU = "CPU"


@dataclass(frozen=True)
class Device:
    """One accelerator, or one worker's share of a CPU host.

    `memory`: bytes that its driver reports. `bf16_flops`, `fp32_flops`: dense peak FLOP/s.
    `link`: to its neighbors in the host, bytes/s in one direction; `network`: to other hosts, bytes/s. `host_memory`: of
    the host for each device, `storage`, bytes/s of its disk, and `bus`, bytes/s in one direction between a device and its
    host's memory: as sold in common servers, so look at your own.
    """

    name: str
    memory: int
    bf16_flops: float
    fp32_flops: float
    link: float
    network: float
    host_memory: int
    storage: float
    bus: float
    source: str

    @property
    def is_cpu(self) -> bool:
        return self.name == CPU


def _gpu(
    name: str,
    memory: int,
    words: str,
    link: float,
    network: float,
    host_memory: int,
    storage: float,
    bus: float,
    source: str,
) -> Device:
    """`words`: those of its name in the table of peaks."""
    peak = PEAKS[tuple(words.split())]
    return Device(name, memory, TERA * peak.bf16, TERA * peak.fp32, link, network, host_memory, storage, bus, source)


# Sixteen lanes of 16 and 32 GT/s, in one direction (PCI-SIG, PCI Express base specifications 4.0 and 5.0): what the data sheets
# name, taken to be what the server has, with no other device on the same lanes.
PCIE_4, PCIE_5 = 31.5e9, 63e9
# NVLink figures are half of the "bidirectional" one of the data sheet. Hosts: DGX/HGX class with 400 Gb/s (H100 and later) or
# 200 Gb/s (A100) for each GPU; workstation cards behind PCIe 4.0 x16.
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _gpu("A100-40", 40_960 * MIB, "A100", 300e9, 25e9, 128 * GIB, 3e9, PCIE_4, "NVIDIA A100 data sheet"),
        _gpu("A100-80", 81_920 * MIB, "A100", 300e9, 25e9, 256 * GIB, 3e9, PCIE_4, "NVIDIA A100 data sheet"),
        _gpu("H100-80", 81_559 * MIB, "H100", 450e9, 50e9, 256 * GIB, 6e9, PCIE_5, "NVIDIA H100 data sheet"),
        _gpu("H200-141", 143_771 * MIB, "H200", 450e9, 50e9, 256 * GIB, 6e9, PCIE_5, "NVIDIA H200 data sheet"),
        _gpu("B200-180", 183_359 * MIB, "B200", 900e9, 50e9, 256 * GIB, 6e9, PCIE_5, "NVIDIA Blackwell data sheet"),
        _gpu("MI300X-192", 196_592 * MIB, "MI300X", 448e9, 50e9, 256 * GIB, 6e9, PCIE_5, "AMD MI300X data sheet"),
        _gpu("L40S-48", 46_068 * MIB, "L40S", 32e9, 12.5e9, 128 * GIB, 3e9, PCIE_4, "NVIDIA L40S data sheet"),
        _gpu("RTX4090-24", 24_564 * MIB, "RTX 4090", 32e9, 1.25e9, 64 * GIB, 3e9, PCIE_4, "NVIDIA Ada white paper"),
    )
}  # fmt: skip
# A core with AVX2 as measured here (94 GFLOP/s, two fused multiply-adds of 8 floats a cycle).
CPU_CORE_FLOPS = 90e9
# gloo, between two workers of one host of two cores: all-gathers of 32 to 128 MiB send 0.33 to 0.37 GB/s, 0.7 of this.
CPU_LINK = 0.5e9


@dataclass(frozen=True)
class Machine:
    """`nodes` hosts with `per_node` devices each; a worker has one device."""

    device: Device
    per_node: int
    nodes: int

    @property
    def workers(self) -> int:
        return self.per_node * self.nodes

    @property
    def host_memory(self) -> int:
        return self.device.host_memory * self.per_node

    def __str__(self) -> str:
        here = f"{self.per_node} x {self.device.name}"
        return here if self.nodes == 1 else f"{self.nodes} hosts with {here}"


def parse_machine(text: str, nodes: int = 1) -> Machine:
    """`8xH100-80`, `H100`, `2xRTX4090`: count, name, and memory where a name has several."""
    match = re.fullmatch(r"(?:(\d+)\s*[xX*]\s*)?([A-Za-z][\w .-]*)", text.strip())
    if match is None or int(match[1] or 1) == 0:
        raise UserError(f"--gpus: {text} names no devices", "write COUNTxNAME, for example 8xH100-80")
    return Machine(find_device(match[2]), int(match[1] or 1), nodes)


def find_device(name: str) -> Device:
    """By name with or without its memory; the largest where several are left. Raises UserError with the nearest name."""
    wanted = re.sub(r"[ _]", "", name).upper().removesuffix("GB")
    found = [
        device for key, device in DEVICES.items() if key.upper() == wanted or key.upper().partition("-")[0] == wanted
    ]
    if found:
        return max(found, key=lambda device: device.memory)
    near = difflib.get_close_matches(wanted, list(DEVICES), n=1, cutoff=0.3)
    known = f"known: {', '.join(DEVICES)}"
    raise UserError(f"--gpus: unknown device {name}", f"did you mean {near[0]}? {known}" if near else known)


def cpu_host(workers: int, cores: int, memory: int, nodes: int = 1) -> Machine:
    """`workers` processes on `nodes` hosts of `cores` cores and `memory` bytes each."""
    per_node = -(-workers // nodes)
    share = cores / per_node
    device = Device(
        CPU,
        memory // per_node,
        CPU_CORE_FLOPS * share,
        CPU_CORE_FLOPS * share,
        CPU_LINK,
        CPU_LINK,
        memory // per_node,
        1e9,
        math.inf,
        "measured by train/hardware.py on a Zen 3 core",
    )
    return Machine(device, per_node, nodes)


def with_flops(machine: Machine, flops: float) -> Machine:
    """The same machine, whose devices were measured to reach `flops`."""
    return replace(machine, device=replace(machine.device, bf16_flops=flops, fp32_flops=flops))
