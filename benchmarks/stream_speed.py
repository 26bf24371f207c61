"""One way to read, tokenise and mix a data set, measured on one core: started by benchmarks/stream.py in a process of its own.

    python benchmarks/stream_speed.py PATH WORK DATASET

works a slice for each line of input, and prints its tokens and seconds of CPU (stream_slices.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import stream_data
from stream_slices import serve

SHUFFLE_BUFFER = 10_000
BATCH = 100
"""Of `map`: larger ones are no faster, and a slice must not end within one."""


def main() -> None:
    path, work, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    serve(PATHS[path](work, name))


def floor(work: Path, name: str) -> Iterator[int]:
    """Row groups read by pyarrow, tokenised by `tokenizers` in calls of the size that is fastest, in order."""
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    from distmed.stream.encode import AT_ONCE

    tokenizer = Tokenizer.from_file(str(work / "model" / "tokenizer.json"))
    special = stream_data.TASK[name] == "classify"
    while True:
        for path in sorted((work / name).glob("*.parquet")):
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                texts = file.read_row_group(group)["text"].to_pylist()
                for at in range(0, len(texts), AT_ONCE):
                    encodings = tokenizer.encode_batch_fast(texts[at : at + AT_ONCE], add_special_tokens=special)
                    yield sum(len(encoding.ids) for encoding in encodings)


def ours(work: Path, name: str) -> Iterator[int]:
    """Mixture, shuffle, packing, tensors; rows read and tokenised as they come."""
    yield from _steps(work, name, "counts")


def cached(work: Path, name: str) -> Iterator[int]:
    """The same from kept token ids."""
    yield from _steps(work, name, "ids")


def _steps(work: Path, name: str, keep: str) -> Iterator[int]:
    from distmed.stream.stream import Stream

    plan = stream_data.plan(work, name, weighted=True, data={"token_cache": keep}, train={"max_steps": 3000})
    stream = Stream(plan, stream_data.tokenizer(work), 0, 1)
    while True:
        for step in stream.steps(0, prefetch=False):
            yield step.tokens


def counting(work: Path, name: str) -> Iterator[int]:
    """The counting pass that keeps ids, from nothing."""
    from distmed.stream.counts import Counting, Task, count_group
    from distmed.stream.encode import Encode

    recipe = stream_data.recipe(name)
    how = Counting(Encode(recipe, stream_data.tokenizer(work), {}), "bench", work, train=True)
    out = work / "counting.ids"
    while True:
        with out.open("wb") as file:
            for manifest in stream_data.manifests(work, name):
                for shard, group, _ in manifest.row_groups:
                    (block,) = count_group(how.encode, Task(manifest, shard, group, (0,), True, False))
                    file.write(block.ids.tobytes())
                    yield len(block.ids)


def datasets(work: Path, name: str) -> Iterator[int]:
    """Hugging Face `datasets`: streamed, interleaved by weight, shuffled in a buffer, tokenised by `map` in batches."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from datasets import interleave_datasets, load_dataset

    tokenizer = stream_data.tokenizer(work)
    special = stream_data.TASK[name] == "classify"
    sources = [
        load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        for path in sorted((work / name).glob("*.parquet"))
    ]
    mixed = interleave_datasets(
        sources, probabilities=list(stream_data.WEIGHTS[name]), seed=1, stopping_strategy="all_exhausted"
    ).shuffle(seed=1, buffer_size=SHUFFLE_BUFFER)
    encoded = mixed.map(
        lambda batch: tokenizer(batch["text"], add_special_tokens=special, return_attention_mask=False),
        batched=True,
        batch_size=BATCH,
        remove_columns=["text"],
    )
    while True:
        for row in encoded:
            yield len(row["input_ids"])


PATHS = {"floor": floor, "ours": ours, "cached": cached, "counting": counting, "datasets": datasets}

if __name__ == "__main__":
    main()
