"""From a recipe and its manifests to a StreamPlan: labels, token counts, what is too long, how many sequences.

Runs once, on the driver. All that is wrong with the data as a whole is found here, before anything is trained.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distmed.errors import UserError, one_of
from distmed.prepare.manifest import Manifest
from distmed.recipe import Recipe
from distmed.stream.counts import count
from distmed.stream.encode import Encode, prompt_hash, tokenizer_hash
from distmed.stream.order import WINDOW_ROWS
from distmed.stream.plan import StreamPlan
from distmed.stream.sequences import Epoch
from distmed.stream.table import Table
from distmed.stream.tokens import case_file, total
from distmed.stream.weights import class_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1
"""Of the order: raise it with any change that moves a case."""


def label_index(manifests: Sequence[Manifest]) -> tuple[list[str], list[str]]:
    """(label keys in the order of the classes, their names), of the training sources."""
    names: dict[str, str] = {}
    for manifest in manifests:
        for key, label in manifest.labels.items():
            names.setdefault(key, label.name)
    labels = sorted(names)
    return labels, [names[key] for key in labels]


def build(
    recipe: Recipe,
    manifests: list[Manifest],
    tokenizer: PreTrainedTokenizerBase,
    label_index: dict[str, int],
    cache: Path,
    *,
    train: bool,
    processes: int,
) -> StreamPlan:
    """Count the tokens (or find them counted in `cache`) and lay out the run.

    An evaluation (`train=False`) drops nothing: where training drops a long case, it is cut, so that every case is answered.

    Raises UserError: labels unknown or missing, cases too long or without a target, a damaged shard, a full disk.
    """
    data = recipe.data
    if recipe.task == "classify":
        _check_labels(manifests, label_index, refuse=train or data.unknown_labels == "refuse")
    key = f"{tokenizer_hash(tokenizer)}-{prompt_hash(recipe, train)}"
    labels = sorted(label_index, key=label_index.__getitem__)
    encode = Encode(recipe, tokenizer, label_index)
    cache.mkdir(parents=True, exist_ok=True)
    epochs = math.ceil(recipe.train.epochs) if train else 1
    wanted = recipe.train.max_steps * recipe.train.global_batch if train and recipe.train.max_steps else None
    if wanted:
        epochs = 1  # how many it takes shows when one is packed
    folders = count(manifests, range(epochs), encode, key, cache, train=train, processes=processes)
    plan = StreamPlan(
        task=recipe.task,
        train=train,
        seq_len=data.seq_len,
        packing=data.packing,
        long_cases="cut" if data.long_cases == "drop" and not train else data.long_cases,
        sampling=data.sampling,
        seed=recipe.train.seed,
        global_batch=recipe.train.global_batch,
        micro_batch=recipe.train.micro_batch,
        manifests=manifests,
        labels=labels,
        case_folders=[case_file(manifest, cache) for manifest in manifests],
        token_folders=folders,
        class_counts_K=np.zeros(len(label_index), dtype=np.int64),
        class_weights_K=np.ones(len(label_index), dtype=np.float32),
        window_sequences=[],
        total_sequences=0,
        cases=0,
        tokens=0,
        dropped=0,
        cut=0,
        counted_tokens_per_s=0.0,
        identity=_identity(recipe, manifests, tokenizer, labels, train),
    )
    while True:
        made = len(plan.window_sequences)
        plan = _checked(plan, range(made, epochs))
        table = plan.table()
        plan.window_sequences.extend(_window_sequences(plan, table, epoch) for epoch in range(made, epochs))
        per_epoch = [plan.sequences_per_epoch(epoch) for epoch in range(epochs)]
        if wanted is None or sum(per_epoch) >= wanted:
            break
        epochs = max(epochs + 1, math.ceil(epochs * wanted / sum(per_epoch)))
        folders = count(manifests, range(epochs), encode, key, cache, train=train, processes=processes)
        plan = replace(plan, token_folders=folders)
    if wanted is None:
        part = recipe.train.epochs % 1 if train else 0
        wanted = sum(per_epoch) - (per_epoch[-1] - math.ceil(per_epoch[-1] * part) if part else 0)
    counts_K = _class_counts(plan, table)
    weights_K = class_weights(counts_K, data.class_weights if train else "none")
    return replace(plan, total_sequences=wanted, class_counts_K=counts_K, class_weights_K=weights_K)


def _check_labels(manifests: Sequence[Manifest], label_index: dict[str, int], *, refuse: bool) -> None:
    for manifest in manifests:
        unlabeled = manifest.rows - sum(label.count for label in manifest.labels.values())
        if unlabeled:
            raise UserError(
                f"{unlabeled} of {manifest.rows} {manifest.format} cases have no label",
                "classify needs one for every case",
            )
    strange = {k: label for manifest in manifests for k, label in manifest.labels.items() if k not in label_index}
    if strange and refuse:
        cases = sum(label.count for label in strange.values())
        names = one_of([f"{key} ({label.name})" if label.name != key else key for key, label in strange.items()], 6)
        raise UserError(
            f"{cases} cases have one of {len(strange)} labels that training never had: {names}",
            "filter them by `where`, or set data.unknown_labels=count to count them as wrong",
        )


def _identity(
    recipe: Recipe, manifests: list[Manifest], tokenizer: PreTrainedTokenizerBase, labels: list[str], train: bool
) -> dict[str, object]:
    """What the position depends on, by the name under which a person can set it back."""
    data = recipe.data
    return {
        "version": f"{VERSION}.{WINDOW_ROWS}",
        "train.seed": recipe.train.seed,
        "data.seq_len": data.seq_len,
        "data.packing": data.packing,
        "data.sampling": data.sampling,
        "data.long_cases": data.long_cases,
        "data manifest": _short([manifest.hash for manifest in manifests]),
        "labels": _short(labels),
        "tokenizer": tokenizer_hash(tokenizer),
        "prompt": prompt_hash(recipe, train),
    }


def _short(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _checked(plan: StreamPlan, epochs: range) -> StreamPlan:
    """Look over all counts of the epochs; note cases, tokens and long ones of the first."""
    table = plan.table()
    every_N = np.arange(table.size)
    for epoch in epochs:
        if epoch and len(plan.token_folders) == 1:
            break  # the tokens of all epochs are the same
        count_N = table.counts(every_N, epoch)
        long_N = count_N > plan.seq_len
        long = int(long_N.sum())
        if long and plan.long_cases == "refuse":
            raise UserError(
                f"{long} of {table.size} cases are longer than data.seq_len={plan.seq_len}, the longest has {count_N.max()}",
                "raise data.seq_len, or set data.long_cases to drop or cut",
            )
        dropped = long if plan.long_cases == "drop" else 0
        kept_N = ~long_N if dropped else np.ones_like(long_N)
        if not kept_N.any():
            raise UserError(f"all {table.size} cases are longer than data.seq_len={plan.seq_len}", "raise data.seq_len")
        fitting_N = np.minimum(count_N, plan.seq_len)
        if plan.task == "generate":
            _check_targets(plan, table, every_N[kept_N & (fitting_N <= table.starts(every_N, epoch))])
        if epoch == 0:
            first = plan.token_folders[0]
            plan = replace(
                plan,
                cases=int(kept_N.sum()),
                tokens=int(fitting_N[kept_N].sum()),
                dropped=dropped,
                cut=long - dropped,
                counted_tokens_per_s=total(first, "tokens") / max(total(first, "seconds"), 1e-9),
            )
    return plan


def _check_targets(plan: StreamPlan, table: Table, without_N: np.ndarray) -> None:
    if len(without_N):
        names = one_of(table.names(without_N[:5]) + ["…"] * (len(without_N) > 5))
        raise UserError(
            f"{len(without_N)} cases have no token to learn from, their answer is empty or cut off: {names}",
            "raise data.seq_len, or take these cases out" + (", or set data.long_cases=drop" if plan.train else ""),
        )


def _window_sequences(plan: StreamPlan, table: Table, epoch: int) -> np.ndarray:
    laid = Epoch(plan, table, epoch)
    return np.array([len(laid.window(w)[1]) - 1 for w in range(laid.windows)], dtype=np.int64)


def _class_counts(plan: StreamPlan, table: Table) -> np.ndarray:
    """Cases of each class in the first epoch."""
    rows_N = np.arange(table.size)
    if plan.long_cases == "drop":
        rows_N = rows_N[table.counts(rows_N, 0) <= plan.seq_len]
    label_N = table.labels(rows_N)
    return np.bincount(label_N[label_N >= 0], minlength=len(plan.labels))
