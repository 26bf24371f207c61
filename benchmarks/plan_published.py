"""The planner beside published figures of throughput, and beside DeepSpeed's estimators of memory.

`python benchmarks/plan_published.py`. Efficiency is set by the first case alone; all others follow from it. Sources:
mosaicml/llm-foundry scripts/train/benchmarking/README.md (H100 80GB BF16 table); pytorch/torchtitan
benchmarks/llama3_h100_202412_torchtitan.md; Meditron-70B, arXiv:2311.16079, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from distmed.plan.devices import GIB, Machine, find_device
from distmed.plan.memory import model_states
from distmed.plan.setup import Setup
from distmed.plan.shapes import Shape
from distmed.plan.speed import speed_of


def shape_with(total: int, multiplied: int, layers: int, width: int) -> Shape:
    return Shape(
        name="published",
        total=total,
        trained=(total // layers,) * layers,
        multiplied=multiplied,
        multiplied_trainable=multiplied,
        head=0,
        head_trainable=0,
        largest_layer=0,
        block=0,
        packable=0,
        largest_packable=0,
        layers=layers,
        hidden=width,
        vocabulary=0,
        attention_width=width,
        saved=0,
        peak=0,
        kept=0,
    )


def setup_on(machine: Machine, stage: int, **changes: Any) -> Setup:
    values: dict[str, Any] = {
        "machine": machine,
        "stage": stage,
        "offload_optimizer": "none",
        "offload_param": "none",
        "bf16": True,
        "micro_batch": 1,
        "global_batch": machine.workers,
        "seq_len": 2048,
        "checkpointing": False,
        "activations_on_host": False,
        "sharers": 1,
        "lora": None,
        "quantized": False,
        "hpz": 1,
        "overlap": True,
        "bucket": 0,
        "max_live": 10**9,
        "sub_group": 10**9,
        "swap_buffers": 4,
        "store_frozen": False,
    }
    return Setup(**{**values, **changes})


@dataclass(frozen=True)
class Case:
    """`tokens_per_s`: published, for one device. `remark`: what the planner does not know of the run.

    `power`: share of the peak that cards with a lower power limit have, after their owner.
    """

    name: str
    parameters: float
    embeddings: float
    layers: int
    width: int
    device: str
    per_node: int
    nodes: int
    seq_len: int
    micro_batch: int
    accumulation: int
    recomputed: bool
    tokens_per_s: float
    remark: str = ""
    power: float = 1.0

    @property
    def predicted(self) -> float:
        """Tokens a second for one device."""
        device = find_device(self.device)
        device = replace(device, bf16_flops=device.bf16_flops * self.power)
        machine = Machine(device, self.per_node, self.nodes)
        multiplied = int(self.parameters - self.embeddings)
        shape = shape_with(int(self.parameters), multiplied, self.layers, self.width)
        setup = setup_on(
            machine,
            3,
            micro_batch=self.micro_batch,
            global_batch=self.micro_batch * self.accumulation * machine.workers,
            seq_len=self.seq_len,
            checkpointing=self.recomputed,
        )
        return speed_of(shape, setup).tokens_per_s / machine.workers

    @property
    def error(self) -> float:
        return self.predicted / self.tokens_per_s - 1


LLAMA = 128_256
# torchtitan ran on cards at 500 W, whose peak it puts between those of H100 NVL (835.5) and SXM (989.4).
NVL = 835.5 / 989.4
CASES = [
    Case("MPT-7B", 6.659e9, 0, 32, 4096, "H100-80", 8, 1, 2048, 6, 1, False, 10_643, "sets the efficiency"),
    Case("MPT-7B", 6.667e9, 0, 32, 4096, "H100-80", 8, 1, 4096, 16, 2, True, 8_611),
    Case("MPT-7B", 6.684e9, 0, 32, 4096, "H100-80", 8, 1, 8192, 8, 2, True, 6_935),
    Case("MPT-3B", 2.652e9, 0, 32, 2560, "H100-80", 8, 2, 2048, 10, 3, False, 24_142),
    Case("MPT-13B", 12.854e9, 0, 40, 5120, "H100-80", 8, 1, 2048, 2, 1, False, 4_792),
    Case("MPT-13B", 12.854e9, 0, 40, 5120, "H100-80", 8, 8, 2048, 2, 1, False, 4_800),
    Case("MPT-30B", 29.975e9, 0, 48, 7168, "H100-80", 8, 1, 2048, 3, 21, True, 2_002),
    Case("MPT-30B", 29.975e9, 0, 48, 7168, "H100-80", 8, 4, 2048, 14, 3, True, 2_308),
    Case("MPT-70B", 64.862e9, 0, 64, 9216, "H100-80", 8, 8, 2048, 8, 4, True, 1_039),
    Case("Llama-3.1-8B", 8.03e9, LLAMA * 4096, 32, 4096, "H100-80", 8, 1, 8192, 2, 1, False, 5_762,
         "selective recomputation; cards at 500 W, taken as H100 NVL", NVL),
    Case("Llama-3.1-8B", 8.03e9, LLAMA * 4096, 32, 4096, "H100-80", 8, 1, 8192, 2, 1, False, 6_667,
         "the same, compiled", NVL),
    Case("Llama-3.1-70B", 70.6e9, LLAMA * 8192, 80, 8192, "H100-80", 8, 32, 8192, 2, 1, True, 829,
         "fp8, tensor parallel; cards at 500 W", NVL),
    Case("Meditron-70B", 69e9, 32_000 * 8192, 80, 8192, "A100-80", 8, 16, 4096, 2, 4, False, 40_200 / 128,
         "Megatron: tensor and pipeline parallel"),
]  # fmt: skip


def memory_rows() -> Iterator[tuple[str, int, int, float, float]]:
    """Model, stage, devices, and GiB of model states on a device: ours, and DeepSpeed's without its largest layer."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    for name, total in (
        ("Llama-3.2-1B", 1_235_814_400),
        ("Llama-3.1-8B", 8_030_261_248),
        ("Llama-3.1-70B", 70_553_706_496),
    ):
        for devices in (1, 8, 64):
            machine = Machine(find_device("H100-80"), min(devices, 8), max(devices // 8, 1))
            for stage in (2, 3):
                if stage == 3:
                    _, whole, layer = estimate_zero3_model_states_mem_needs(
                        total, 0, machine.per_node, machine.nodes, cpu_offload=False
                    )
                    theirs = whole - layer
                else:
                    _, theirs = estimate_zero2_model_states_mem_needs(
                        total, machine.per_node, machine.nodes, cpu_offload=False
                    )
                mine = sum(model_states(shape_with(total, total, 32, 4096), setup_on(machine, stage)).values())
                yield name, stage, devices, mine / GIB, theirs / GIB


def main() -> None:
    from dated import Dated

    file = Dated("plan_published", "The planner beside published figures")
    file.table("model", "devices", "tokens", "published tok/s a device", "predicted", "error", "remark")
    for case in CASES:
        file.row(
            case.name, f"{case.per_node * case.nodes} x {case.device}", case.seq_len, f"{case.tokens_per_s:,.0f}",
            f"{case.predicted:,.0f}", f"{case.error:+.0%}", case.remark,
        )  # fmt: skip
    others = [abs(case.error) for case in CASES[1:]]
    within = sum(error <= 0.3 for error in others)
    file.line(
        f"\nWithout the first, which sets the efficiency: {within} of {len(others)} within 30 %, worst {max(others):.0%}."
    )
    file.line("\nModel states on a device, GiB, beside `estimate_zero2_/zero3_model_states_mem_needs` of DeepSpeed:\n")
    file.table("model", "stage", "devices", "distmed", "DeepSpeed", "difference")
    for name, stage, devices, mine, theirs in memory_rows():
        file.row(name, stage, devices, f"{mine:.2f}", f"{theirs:.2f}", f"{mine / theirs - 1:+.1%}")
    file.line(
        "\nOurs follows the allocations: the step has a second copy of gradients, of a sub-group (stage 3) or of the share."
    )


if __name__ == "__main__":
    main()
