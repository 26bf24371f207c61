"""From a recipe and its manifests to a StreamPlan: labels, token counts, layouts, how many sequences.

Runs once, on the driver. All that is wrong with the data as a whole is found here, before anything is trained.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distmed.errors import UserError, one_of
from distmed.prepare.manifest import Manifest
from distmed.recipe import Recipe
from distmed.stream import order
from distmed.stream.counts import Counting, count, skipped_groups
from distmed.stream.encode import Encode, prompt_hash, tokenizer_hash
from distmed.stream.index import case_file
from distmed.stream.layout import Facts, laid_out
from distmed.stream.mixture import quotas
from distmed.stream.plan import Pool, StreamPlan
from distmed.stream.tokens import IDS, total
from distmed.stream.weights import class_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 3
"""Of the order: raise it with any change that moves a case."""

MAX_LABELS = 200
"""Above this, to score every name for every case would take a generator longer than the training between two evaluations."""

LARGEST_GROUP = 16_000
"""Rows of a row group that may be read piecewise; some hundred of them are in memory at once."""


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
    done: tuple[int, int] = (0, 0),
    tell: Callable[[int, float], None] = lambda tokens, seconds: None,
) -> StreamPlan:
    """Count the tokens (or find them counted in `cache`) and lay out the run. `tell` hears of tokens counted, and seconds.

    `done`: the steps and sequences behind a run that goes on, perhaps with another global batch than it had then.

    An evaluation (`train=False`) drops nothing: where training drops a long case, it is cut, so that every case is answered.

    Raises UserError: labels unknown or missing, cases too long or without a target, a damaged shard, a full disk.
    """
    data = recipe.data
    if recipe.task == "classify":
        _check_labeled(manifests)
        # Not where a recipe is read: runs of earlier versions, which had both, can still be evaluated and exported.
        if train and data.sampling == "balanced" and data.class_weights != "none":
            raise UserError(
                f"data.class_weights={data.class_weights} would weigh again what data.sampling=balanced draws evenly",
                "set data.class_weights=none, or data.sampling=natural",
            )
    if recipe.task == "classify" or (not train and 0 < len(label_index) <= MAX_LABELS):
        _check_labels(manifests, label_index, refuse=train or data.unknown_labels == "refuse")
    labels = sorted(label_index, key=label_index.__getitem__)
    encode = Encode(recipe, tokenizer, label_index)
    cache.mkdir(parents=True, exist_ok=True)
    skip = data.on_error == "skip"
    counting = Counting(
        encode=encode,
        key=f"{tokenizer_hash(tokenizer)}-{prompt_hash(recipe, train)}",
        cache=cache,
        train=train,
        processes=processes,
        keep=data.token_cache,
        skip_rows=math.floor(data.skip_budget * sum(m.rows for m in manifests)) if skip else None,
        tell=tell,
    )
    pools, shares = _pools(recipe, manifests, train)
    plan = StreamPlan(
        recipe=recipe,
        train=train,
        manifests=manifests,
        labels=labels,
        case_folders=[],
        token_folders=[],
        pools=pools,
        quotas=shares,
        identity={},
        ids_kept=False,
        counted_tokens_per_s=0.0,
        skipped=[],
    )
    wanted = None
    if train and recipe.train.max_steps:
        wanted = done[1] + max(0, recipe.train.max_steps - done[0]) * recipe.train.global_batch
    passes = [1 if wanted else math.ceil(recipe.train.epochs) if train else 1] * len(pools)
    while True:
        plan, facts = _extended(plan, passes, counting, tokenizer)
        end, missing = _end(plan, wanted)
        if not missing:
            break
        passes = [max(had, needed) for had, needed in zip(passes, missing, strict=True)]
    counts_K = _class_counts(plan, facts, end)
    weights_K = class_weights(counts_K, data.class_weights if train else "none")
    return replace(plan, total_sequences=end, class_counts_K=counts_K, class_weights_K=weights_K)


def _pools(recipe: Recipe, manifests: list[Manifest], train: bool) -> tuple[list[Pool], list[int]]:
    """(pools, their quotas): all sources as one, or each by itself where the recipe weighs them."""
    weights = [source.weight for source in recipe.data.train] if train else []
    if not any(weights) or len(weights) == 1:
        return [Pool(tuple(range(len(manifests))))], [1]
    return [Pool((s,)) for s in range(len(manifests))], quotas([weight or 0 for weight in weights])


def _extended(
    plan: StreamPlan, passes: list[int], counting: Counting, tokenizer: PreTrainedTokenizerBase
) -> tuple[StreamPlan, list[Facts]]:
    """The plan with so many passes of each pool counted and laid out, and what the first of each holds."""
    epochs_of = {s: range(p) for pool, p in zip(plan.pools, passes, strict=True) for s in pool.sources}
    folders = count(plan.manifests, [epochs_of[s] for s in range(len(plan.manifests))], counting)
    everything = [folder for row in folders for folder in row]
    first = [row[0] for row in folders]
    plan = replace(
        plan,
        # After the counting pass, which compares every byte with the manifest.
        case_folders=[
            case_file(m, counting.cache, processes=counting.processes, skip=counting.skip_rows is not None)
            for m in plan.manifests
        ],
        token_folders=folders,
        ids_kept=counting.keep != "counts" and all((folder / IDS).exists() for folder in everything),
        skipped=skipped_groups(everything),
        counted_tokens_per_s=total(first, "tokens") / max(total(first, "seconds"), 1e-9),
    )
    plan = replace(plan, identity=_identity(plan, tokenizer))
    if not plan.ids_kept:
        _check_groups(plan)
    pools, facts = [], []
    for pool, epochs in zip(plan.pools, passes, strict=True):
        parts = [str(plan.train), *(str(value) for name, value in plan.identity.items() if name != "data.weight")]
        parts += [plan.manifests[s].hash for s in pool.sources] + [str(pool.sources[0] if len(plan.pools) > 1 else "")]
        folder = counting.cache / f"layout-{_short(parts)}"
        laid = [laid_out(plan, pool, epoch, folder, counting.processes) for epoch in range(epochs)]
        pools.append(Pool(pool.sources, tuple(path for path, _, _ in laid), tuple(number for _, number, _ in laid)))
        facts.append(laid[0][2])
    long = sum(of.long for of in facts)
    dropped = long if plan.long_cases == "drop" else 0
    return replace(
        plan,
        pools=pools,
        cases=sum(of.cases for of in facts),
        tokens=sum(of.tokens for of in facts),
        dropped=dropped,
        cut=long - dropped,
    ), facts


def _end(plan: StreamPlan, wanted: int | None) -> tuple[int, list[int]]:
    """(sequences of the run, passes of each pool that are missing for it: none if all are there)."""
    epochs = plan.recipe.train.epochs if plan.train else 1
    if wanted is not None and plan.recipe.data.on_end == "wrap":
        end = wanted
    elif any(len(pool.sequences) < math.ceil(epochs) for pool in plan.pools):
        return 0, [math.ceil(epochs)] * len(plan.pools)
    else:
        end = min(plan.ends_of(epochs), wanted or sys.maxsize)
    needed = plan.mixture.before(end).tolist()
    if all(sum(pool.sequences) >= need for pool, need in zip(plan.pools, needed, strict=True)):
        return end, []
    return 0, [
        max(len(pool.sequences) + (sum(pool.sequences) < need), math.ceil(need / np.mean(pool.sequences)))
        for pool, need in zip(plan.pools, needed, strict=True)
    ]


def unlabeled(manifest: Manifest) -> int:
    """How many of its cases have no label."""
    return manifest.rows - sum(label.count for label in manifest.labels.values())


def _check_labeled(manifests: Sequence[Manifest]) -> None:
    for manifest in manifests:
        if without := unlabeled(manifest):
            raise UserError(
                f"{without} of {manifest.rows} {manifest.format} cases have no label",
                "classify needs one for every case",
            )


def _check_labels(manifests: Sequence[Manifest], label_index: dict[str, int], *, refuse: bool) -> None:
    strange = {k: label for manifest in manifests for k, label in manifest.labels.items() if k not in label_index}
    if strange and refuse:
        cases = sum(label.count for label in strange.values())
        names = one_of([f"{key} ({label.name})" if label.name != key else key for key, label in strange.items()], 6)
        raise UserError(
            f"{cases} cases have one of {len(strange)} labels that training never had: {names}",
            "filter them by `where`, or set data.unknown_labels=count to count them as wrong",
        )


def _check_groups(plan: StreamPlan) -> None:
    """Whether rows can be read and tokenised as they come."""
    if plan.sampling == "balanced":
        raise UserError(
            "data.sampling=balanced draws cases from anywhere, which needs their token ids on the disk",
            "set data.token_cache=ids and make room, or use data.class_weights instead",
        )
    for manifest in plan.manifests:
        for shard in manifest.shards:
            if max(shard.row_groups) > LARGEST_GROUP:
                raise UserError(
                    f"{manifest.folder / shard.path} has row groups of {max(shard.row_groups)} rows, too many to hold at once",
                    "prepare the source again, or set data.token_cache=ids and make room",
                )


def _identity(plan: StreamPlan, tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """What the position depends on, by the name under which a person can set it back."""
    data = plan.recipe.data
    weights = "natural" if len(plan.pools) == 1 else ":".join(map(str, plan.quotas))
    skipped = [f"{entry['shard']}.{entry['group']}" for entry in plan.skipped]
    return {
        "version": f"{VERSION}.{order.WINDOW_ROWS}.{order.LANES}",
        "train.seed": plan.seed,
        "data.seq_len": data.seq_len,
        "data.packing": data.packing,
        "data.sampling": data.sampling,
        "data.long_cases": data.long_cases,
        "data manifest": _short([manifest.hash for manifest in plan.manifests]),
        "labels": _short(plan.labels),
        "tokenizer": tokenizer_hash(tokenizer),
        "prompt": prompt_hash(plan.recipe, plan.train),
        "data.weight": weights if len(weights) < 80 else _short([weights]),
        "rows skipped": _short(skipped) if skipped else "none",
    }


def _short(parts: list[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _class_counts(plan: StreamPlan, facts: list[Facts], end: int) -> np.ndarray:
    """Cases of each class as they are drawn in one epoch; in a mixture, as its sources are passed on average."""
    drawn = [np.array(of.classes, dtype=np.int64) for of in facts]
    if plan.sampling == "balanced":
        drawn = [_evenly(counts_K) for counts_K in drawn]
    if len(plan.pools) == 1:
        return drawn[0]
    passes = plan.mixture.before(end) / np.array([pool.sequences[0] for pool in plan.pools])
    seen_K = sum(share * counts_K for share, counts_K in zip(passes, drawn, strict=True))
    rounded = np.rint(seen_K * plan.cases / max(np.sum(seen_K), 1e-9)).astype(np.int64)
    return np.where((seen_K > 0) & (rounded == 0), 1, rounded)


def _evenly(counts_K: np.ndarray) -> np.ndarray:
    """As many cases, the same share for each class that has any."""
    seen = np.flatnonzero(counts_K)
    even_K = np.zeros_like(counts_K)
    even_K[seen] = (counts_K.sum() + np.arange(len(seen))) // max(1, len(seen))
    return even_K
