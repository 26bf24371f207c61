"""The planner's throughput beside published figures: `python benchmarks/plan_published.py`.

Efficiency is set by the first case alone; all others follow from it. Sources: mosaicml/llm-foundry
scripts/train/benchmarking/README.md (H100 80GB BF16 table); pytorch/torchtitan
benchmarks/llama3_h100_202412_torchtitan.md; Meditron-70B, arXiv:2311.16079, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from distmed.plan.devices import Machine, find_device
from distmed.plan.setup import Setup
from distmed.plan.shapes import Shape
from distmed.plan.speed import speed_of


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
        shape = Shape(
            name=self.name,
            total=int(self.parameters),
            trainable=int(self.parameters),
            multiplied=multiplied,
            multiplied_trainable=multiplied,
            head=0,
            largest_layer=0,
            block=0,
            layers=self.layers,
            hidden=self.width,
            vocabulary=0,
            attention_width=self.width,
            saved=0,
            peak=0,
        )
        setup = Setup(
            machine=machine,
            stage=3,
            offload_optimizer="none",
            offload_param="none",
            bf16=True,
            micro_batch=self.micro_batch,
            global_batch=self.micro_batch * self.accumulation * machine.workers,
            seq_len=self.seq_len,
            checkpointing=self.recomputed,
            lora=None,
            hpz=1,
            overlap=True,
            bucket=0,
            max_live=10**9,
            sub_group=10**9,
            store_frozen=False,
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


def main() -> None:
    print("| model | devices | tokens | published tok/s a device | predicted | error | |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        devices = f"{case.per_node * case.nodes} x {case.device}"
        print(
            f"| {case.name} | {devices} | {case.seq_len} | {case.tokens_per_s:,.0f} | {case.predicted:,.0f} "
            f"| {case.error:+.0%} | {case.remark} |"
        )


if __name__ == "__main__":
    main()
