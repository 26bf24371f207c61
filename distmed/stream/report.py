"""What a person hears of the stream: how fast tokens are counted, how often each source is passed, what was left out.

A plan flows in, lines flow out: numbers, files and row numbers, never a case.
"""

from __future__ import annotations

from collections.abc import Sequence

from distmed.stream.build import MAX_LABELS, unlabeled
from distmed.stream.plan import StreamPlan
from distmed.stream.weights import nothing_to_adjust


def counting_line(tokens: int, seconds: float) -> str:
    """How far the counting pass of one source is."""
    return f"{tokens:,} tokens, {tokens / max(seconds, 1e-9):,.0f} tokens/s"


def notes(plan: StreamPlan) -> list[str]:
    """What a run should say of its data before it starts."""
    name = "data.train" if plan.train else "data.eval"
    lines = [f"{name}: tokens counted at {plan.counted_tokens_per_s:,.0f} tokens/s"]
    for s, manifest in enumerate(plan.manifests):
        lines += [
            f"{name}.{s}: {rows} rows left out: {rule}" for rule, rows in sorted(manifest.dropped.items()) if rows
        ]
    without = sum(unlabeled(manifest) for manifest in plan.manifests)
    if not plan.train and without and 0 < len(plan.labels) <= MAX_LABELS:
        lines.append(f"{name}: {without} of {plan.cases} cases have no label, and are in eval/loss but not in diag/*")
    if not plan.ids_kept:
        lines.append(f"{name}: token ids are not kept, rows are tokenised as they come")
    if plan.dropped or plan.cut:
        lines.append(f"{name}: longer than data.seq_len: {plan.dropped} cases dropped, {plan.cut} cut")
    if len(plan.pools) > 1:
        shares = [quota / sum(plan.quotas) for quota in plan.quotas]
        epochs = plan.epochs_at(plan.total_sequences)
        lines += [
            f"{name}.{s}: {share:.1%} of the sequences, {passes:.2f} epochs in this run"
            for s, (share, passes) in enumerate(zip(shares, epochs, strict=True))
        ]
    if plan.train and plan.recipe.train.loss == "logit_adjusted" and nothing_to_adjust(plan):
        lines.append(f"{name}: every label has the same share already, so train.loss=logit_adjusted adjusts nothing")
    rows = sum(entry["rows"] for entry in plan.skipped)
    lines += [f"{name}: skipped {entry['rows']} rows: {entry['why']}" for entry in plan.skipped]
    if rows:
        lines.append(f"{name}: {rows} rows skipped in all, data.skip_budget={plan.recipe.data.skip_budget:g}")
    return lines


def epochs_by_source(epochs: Sequence[float]) -> dict[str, float]:
    """`train/epoch/N` of every source `data.train.N`, where there are several."""
    return {f"train/epoch/{s}": done for s, done in enumerate(epochs)} if len(epochs) > 1 else {}
