"""The result of train_step.py as a dated Markdown page: versions, hardware, command, rates.

The rates of all rounds flow in, text flows out.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import shlex
import sys
from statistics import median
from typing import Any

NAMES = {
    "ours": "distmed: stream and `train_step`",
    "bare": "bare DeepSpeed over prepared batches",
    "trainer": "Hugging Face Trainer",
    "arctic": "arctic-training",
}


def file_name() -> str:
    from distmed.train.hardware import environment

    facts = environment()
    hardware = facts["gpus"][0] if facts["gpus"] else facts["cpu"]
    slug = re.sub(r"[^a-z0-9]+", "-", hardware.lower()).strip("-") or platform.machine()
    return f"train_step_{slug}_{datetime.date.today().isoformat()}.md"


def write(
    options: argparse.Namespace,
    job: Any,
    rounds: list[dict[str, Any]],
    decoder_rounds: list[dict[str, Any]] | None,
    goals: dict[str, float],
    ray: dict[str, float] | None,
) -> str:
    recipe, plan = job.recipe, job.train_plan
    lines = [
        f"# One training step, {datetime.date.today().isoformat()}",
        "",
        f"{options.workers} workers, {recipe.deepspeed}, {'bf16' if job.bf16 else 'fp32'}. {len(rounds)} rounds in turn, "
        f"{options.steps} steps each after a warm-up of {options.warm_up}; medians; real tokens only, padding is not "
        "counted. MFU: operations for real tokens (distmed/train/meter.py) over a matrix product measured in the same "
        "processes.",
        "",
        f"## MiniLM, phenopackets: {plan.cases} cases, {len(job.labels)} labels, {plan.tokens / plan.cases:.0f} tokens a case",
        "",
        f"Packed: {recipe.train.global_batch} sequences of {recipe.data.seq_len} tokens a step. Trainer: {options.batch} "
        "cases a step, padded to the longest of a worker.",
        "",
        *_table(rounds, goals),
    ]
    if ray:
        lines.append(
            f"- through Ray (`distmed train`): {ray['tokens_per_s']:,.0f} tokens/s, MFU {ray['mfu']:.1%}; "
            f"Ray and preparation {ray['prepared_s']:.1f} s, workers and model {ray['start_up_s']:.1f} s, "
            f"first step {ray['first_step_s']:.2f} s"
        )
    if decoder_rounds:
        lines += [
            "",
            "## A Llama of 32 M parameters, MedQuAD, packed to 512 tokens",
            "",
            *_table(decoder_rounds, goals),
        ]
    return "\n".join([*lines, "", *_setting()]) + "\n"


def _table(rounds: list[dict[str, Any]], goals: dict[str, float]) -> list[str]:
    def middle(loop: str, field: str) -> float:
        return median(getattr(of_round[loop], field) for of_round in rounds)

    lines = [
        "| loop | tokens/s | lowest – highest | MFU | cases a step | real share of tokens | first step |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for loop in rounds[0]:
        rates = sorted(of_round[loop].tokens_per_s for of_round in rounds)
        mfu = f"{middle(loop, 'mfu'):.1%}" if rounds[0][loop].mfu is not None else "?"
        lines.append(
            f"| {NAMES[loop]} | {median(rates):,.0f} | {rates[0]:,.0f} – {rates[-1]:,.0f} | {mfu} "
            f"| {middle(loop, 'cases_a_step'):.1f} | {middle(loop, 'fill'):.0%} | {middle(loop, 'first_step_s'):.2f} s |"
        )
    lines.append("")
    for loop in rounds[0]:
        if loop in goals:
            ratios = sorted(of_round["ours"].tokens_per_s / of_round[loop].tokens_per_s for of_round in rounds)
            verdict = "reached" if median(ratios) >= goals[loop] else "missed"
            lines.append(
                f"- ours / {NAMES[loop]}: **{median(ratios):.2f}** ({ratios[0]:.2f} – {ratios[-1]:.2f}); "
                f"goal {goals[loop]:.2f}, {verdict}"
            )
    return lines


def _setting() -> list[str]:
    from importlib import metadata

    from distmed.train.hardware import environment

    facts = environment()
    versions = {**facts["versions"], "accelerate": metadata.version("accelerate")}
    words = [word if not word.startswith("/") else "…/" + word.rsplit("/", 1)[-1] for word in sys.argv[1:]]
    return [
        f"Command: `python benchmarks/train_step.py {shlex.join(words)}`",
        "",
        f"Hardware: {facts['cpu']}, {facts['cpu_cores']} cores, {facts['host_memory_gib']} GiB"
        + (f"; {', '.join(facts['gpus'])}" if facts["gpus"] else "; no GPU"),
        "",
        f"Commit {facts['commit']}{' with changes' if facts['commit_is_modified'] else ''}; Python {facts['python']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if version),
    ]
