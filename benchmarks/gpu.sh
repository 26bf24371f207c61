#!/bin/sh
# One GPU, one command, under 8 minutes: full fine-tuning of 1 B and 8 B and LoRA of 8 B, each beside a bare PyTorch loop.
# Writes benchmarks/gpu_DATE.md. What the plan says does not fit this device is named there and left out.
set -eu
cd "$(dirname "$0")/.."
exec timeout 470 python benchmarks/gpu.py "$@"
