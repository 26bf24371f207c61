"""How fast GPUs multiply at most, by their makers' data sheets: what a plan counts with and the MFU of a run is measured by."""

from __future__ import annotations

from typing import NamedTuple

TERA = 1e12


class Peak(NamedTuple):
    """Dense tera-FLOP/s of one device: matrix units in bf16 (without sparsity), and plain fp32."""

    bf16: float
    fp32: float


# The words that a device's name must have, the more particular name first. Where a data sheet gives the figure with
# sparsity only, it is half of that.
PEAKS: dict[tuple[str, ...], Peak] = {
    ("A100",): Peak(312, 19.5),  # NVIDIA A100 data sheet
    ("A800",): Peak(312, 19.5),  # NVIDIA A800 data sheet
    ("A30",): Peak(165, 10.3),  # NVIDIA A30 data sheet
    ("A40",): Peak(149.7, 37.4),  # NVIDIA A40 data sheet
    ("A10",): Peak(125, 31.2),  # NVIDIA A10 data sheet
    ("A10G",): Peak(70, 35),  # NVIDIA A10G, as AWS states for the G5 instances
    ("RTX", "A6000"): Peak(154.8, 38.7),  # NVIDIA RTX A6000 data sheet
    ("RTX", "3090"): Peak(71, 35.6),  # NVIDIA Ampere GA102 white paper, bf16 with fp32 accumulation
    ("H100", "PCIe"): Peak(756, 51),  # NVIDIA H100 data sheet
    ("H100", "NVL"): Peak(835.5, 60),  # NVIDIA H100 NVL data sheet
    ("H100",): Peak(989.4, 67),  # NVIDIA H100 data sheet, SXM
    ("H800",): Peak(989.4, 67),  # NVIDIA H800 data sheet, SXM
    ("H200", "NVL"): Peak(835.5, 60),  # NVIDIA H200 data sheet
    ("H200",): Peak(989.4, 67),  # NVIDIA H200 data sheet, SXM
    ("GH200",): Peak(989.4, 67),  # NVIDIA GH200 data sheet
    ("H20",): Peak(148, 44),  # NVIDIA H20 data sheet
    ("L4",): Peak(121, 30.3),  # NVIDIA L4 data sheet
    ("L40",): Peak(181.05, 90.5),  # NVIDIA L40 data sheet
    ("L40S",): Peak(362.05, 91.6),  # NVIDIA L40S data sheet
    ("RTX", "6000", "Ada"): Peak(364.2, 91.1),  # NVIDIA RTX 6000 Ada data sheet
    ("RTX", "4090"): Peak(165.2, 82.6),  # NVIDIA Ada white paper, bf16 with fp32 accumulation
    ("RTX", "5090"): Peak(209.5, 104.8),  # NVIDIA RTX Blackwell white paper, bf16 with fp32 accumulation
    ("B200",): Peak(2250, 75),  # NVIDIA Blackwell data sheet, HGX B200
    ("GB200",): Peak(2500, 80),  # NVIDIA Blackwell data sheet, GB200 NVL72
    ("MI210",): Peak(181, 22.6),  # AMD Instinct MI210 data sheet
    ("MI250X",): Peak(191.5, 23.9),  # AMD Instinct MI250X data sheet, one of its two dies, each a device of its own
    ("MI300X",): Peak(1307.4, 163.4),  # AMD Instinct MI300X data sheet
    ("MI325X",): Peak(1307.4, 163.4),  # AMD Instinct MI325X data sheet
}
