"""The data of benchmarks/stream.py, made once into its work folder: generated patients, MedQuAD, phenopackets, each as sources.

For ours they are shards; for the others the same prompts lie ready as one text column, in Parquet and as JSON lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from distmed.cases.case import Case
    from distmed.prepare.manifest import Manifest
    from distmed.recipe import Recipe
    from distmed.stream.plan import StreamPlan

SHARES = {"generated": (0.5, 0.35, 0.15), "medquad": (0.7, 0.3), "phenopackets": (0.7, 0.3)}
"""Of the rows and, where sources are mixed by weight, other ones: nobody wants the natural ones."""
WEIGHTS = {"generated": (0.4, 0.3, 0.3), "medquad": (0.5, 0.5), "phenopackets": (0.5, 0.5)}
TASK = {"generated": "classify", "medquad": "generate", "phenopackets": "classify"}
SHARD_BYTES = 2 * 2**20
"""Small, so that there are many, and the last of each source is uneven."""


def make(work: Path, rows: int, real: dict[str, Path | None]) -> list[str]:
    """Write what is not there yet; the names of the data sets. `real`: files of MedQuAD and phenopackets, if there are any."""
    from distmed.cases.read import read_cases
    from distmed.cases.synthetic import patients
    from distmed.model.builtin import make_tiny_llama
    from distmed.recipe import Source

    if not (work / "generated" / "done").exists():
        _write(work / "generated", "generated", patients("train", rows), rows)
    for name, path in real.items():
        if path and not (work / name / "done").exists():
            cases = list(read_cases(Source(source=str(path), format=name)))
            _write(work / name, name, iter(cases), len(cases))
    if not (work / "model" / "tokenizer.json").exists():
        texts = (json.loads(line)["text"] for path in sorted(work.glob("*/*.jsonl")) for line in _head(path, 4000))
        make_tiny_llama(work / "model", texts, vocab_size=8192)
    return [name for name in SHARES if (work / name / "done").exists()]


def _head(path: Path, lines: int) -> list[str]:
    with path.open(encoding="utf-8") as file:
        return list(islice(file, lines))


def _write(folder: Path, name: str, cases: Iterator[Case], rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from distmed.cases.prompts import DEFAULT_CHAT_TEMPLATE
    from distmed.prepare.shards import read_cases_of, write_shards

    for number, share in enumerate(SHARES[name]):
        of_source = islice(cases, round(share * rows))
        manifest = write_shards(of_source, folder / str(number), format=name, shard_bytes=SHARD_BYTES)
        texts = _prompts(name, read_cases_of(manifest), DEFAULT_CHAT_TEMPLATE)
        with (folder / f"{number}.jsonl").open("w", encoding="utf-8") as lines:
            schema = pa.schema({"text": pa.string()})
            with pq.ParquetWriter(folder / f"{number}.parquet", schema, compression="zstd") as parquet:
                while some := list(islice(texts, 1000)):
                    parquet.write_table(pa.table({"text": some}, schema))
                    lines.writelines(json.dumps({"text": text}) + "\n" for text in some)
    (folder / "done").touch()


def _prompts(name: str, cases: Iterator[Case], template: str) -> Iterator[str]:
    from jinja2 import Template

    from distmed.cases.prompts import Prompt

    prompt = Prompt(TASK[name], recipe(name).data)  # type: ignore[arg-type]
    chat = Template(template)
    for case in cases:
        if TASK[name] == "classify":
            yield prompt.text(case)
        else:
            yield chat.render(messages=prompt.messages(case), eos_token="</s>")


def recipe(name: str, *, weighted: bool = False, **changes: Any) -> Recipe:
    """The recipe of a data set; `changes` by section: `data={…}`, `train={…}`."""
    from distmed.recipe_file import check

    sources = [{"source": str(n)} for n in range(len(SHARES[name]))]
    if weighted:
        sources = [{**source, "weight": w} for source, w in zip(sources, WEIGHTS[name], strict=True)]
    data = {"train": sources, "seq_len": 1024, "long_cases": "cut", **changes.get("data", {})}
    train = {"epochs": 1, "global_batch": 64, "micro_batch": 16, **changes.get("train", {})}
    return check({"name": "bench", "task": TASK[name], "model": {"path": "none"}, "data": data, "train": train})


def manifests(work: Path, name: str) -> list[Manifest]:
    from distmed.prepare.manifest import Manifest

    return [Manifest.read(work / name / str(n)) for n in range(len(SHARES[name]))]


def tokenizer(work: Path) -> PreTrainedTokenizerBase:
    from distmed.model.load import load_tokenizer

    return load_tokenizer(work / "model", trust_remote_code=False)


def plan(work: Path, name: str, cache: str = "cache", **options: Any) -> StreamPlan:
    """The plan of a data set; `options` are those of `recipe`."""
    from distmed.stream.build import build, label_index

    found = manifests(work, name)
    index = {label: n for n, label in enumerate(label_index(found)[0])}
    return build(recipe(name, **options), found, tokenizer(work), index, work / name / cache, train=True, processes=1)
