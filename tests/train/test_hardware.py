"""What is known about a machine, and what must never be told about it."""

from __future__ import annotations

import getpass
import json
import platform
import time
from pathlib import Path

import pytest
import torch

from distmed.train import hardware
from distmed.train.hardware import environment, gpu_peak_flops, measured_matmul_flops, native_bf16, peak_flops


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA A10", 125),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA B200", 2250),
        ("NVIDIA GB200", 2500),
        ("NVIDIA RTX 6000 Ada Generation", 364.2),
        ("AMD Instinct MI300X", 1307.4),
    ],
)
def test_peak_is_found_by_the_drivers_name(name, tera):
    assert gpu_peak_flops(name, bf16=True) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 3090 Ti",
        "Tesla T4",
    ],
)
def test_unknown_device_has_no_peak_rather_than_a_wrong_one(name):
    assert gpu_peak_flops(name, bf16=True) is None


def test_fp32_is_plain_unless_tf32_is_on():
    assert gpu_peak_flops("NVIDIA A100-SXM4-80GB", bf16=False) == pytest.approx(19.5e12)
    assert gpu_peak_flops("NVIDIA A100-SXM4-80GB", bf16=False, tf32=True) == pytest.approx(156e12)


@pytest.mark.parametrize(("flags", "native"), [("flags\t: fpu avx2", False), ("flags : avx2 amx_bf16", True),
                                               ("Features : fp asimd bf16", True)])  # fmt: skip
def test_native_bf16_by_the_flags_of_the_cpu(flags, native, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : Some CPU\n{flags}\n")
    monkeypatch.setattr(hardware, "CPUINFO", tmp_path / "cpuinfo")
    assert native_bf16(gpu=False) is native


def test_measured_peak_bounds_another_product_and_takes_no_time():
    started = time.perf_counter()
    peak = peak_flops(torch.device("cpu"), bf16=False)
    assert time.perf_counter() - started < 5
    assert peak is not None
    left = torch.rand(256, 256)
    started = time.perf_counter()
    for _ in range(20):
        left @ left
    assert 2 * 256**3 * 20 / (time.perf_counter() - started) < 3 * peak
    assert measured_matmul_flops(bf16=True) > 0


def test_environment_names_versions_and_hardware():
    facts = environment()
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["python"] == platform.python_version()
    assert facts["cpu"]
    assert facts["cpu_cores"] >= 1


def test_environment_tells_no_secret_no_user_and_no_path(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "s3cret-value")
    text = json.dumps(environment())
    assert "s3cret-value" not in text
    assert str(Path.cwd()) not in text
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert platform.node() not in text
    if getpass.getuser() != "root":
        assert getpass.getuser() not in text


def test_no_repository_means_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert environment()["commit"] is None
