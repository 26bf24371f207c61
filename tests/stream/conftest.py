"""A tokenizer trained on the spot, made-up patients in shards, and a recipe to stream them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distmed.cases.case import Case
from distmed.cases.prompts import DEFAULT_CHAT_TEMPLATE
from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import write_shards
from distmed.recipe import Recipe
from distmed.recipe_file import check
from distmed.stream import order
from distmed.stream.build import build, label_index
from distmed.stream.stream import Stream, StreamPlan

FINDINGS = [
    f"{adjective} {noun}" for adjective in ("acute", "mild", "severe") for noun in ("pain", "fever", "rash", "cough")
]


def patients(count: int, seed: int = 0, classes: int = 5, prefix: str = "case") -> Iterator[Case]:
    """Cases of uneven length and uneven classes."""
    chance = random.Random(seed)
    for number in range(count):
        label = min(int(chance.expovariate(0.7)), classes - 1)
        yield Case(
            id=f"{prefix}-{number}",
            kind="diagnosis",
            group=f"{prefix}-{number}",
            findings=tuple(chance.sample(FINDINGS, chance.randint(1, len(FINDINGS)))),
            label=f"D{label}",
            label_name=f"disease {label}",
        )


def complaint(call: Callable[[], Any]) -> UserError:
    with pytest.raises(UserError) as raised:
        call()
    assert "\n" not in raised.value.message and "\n" not in raised.value.hint
    return raised.value


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several windows an epoch, as a large data set has them."""
    monkeypatch.setattr(order, "WINDOW_ROWS", 45)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A tiny byte-level BPE that knows begin, end and padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = [*FINDINGS, "Which disease does this patient have? Not found: disease 1 Answer with its name only."]
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<pad>", "<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = DEFAULT_CHAT_TEMPLATE
    return fast


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    """`recipe(task=…, data={…}, train={…})`: a recipe with small batches, changed as asked."""

    def make(task: str = "classify", data: dict[str, Any] | None = None, train: dict[str, Any] | None = None) -> Recipe:
        return check(
            {
                "name": "streamed",
                "task": task,
                "model": {"path": "none"},
                "data": {"train": [{"source": "none"}], "seq_len": 128, **(data or {})},
                "train": {"epochs": 2, "global_batch": 8, "micro_batch": 2, "seed": 3, **(train or {})},
            }
        )

    return make


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


@pytest.fixture(scope="session")
def sources(workplace: Path) -> list[Manifest]:
    """Three sources of uneven shards: 37, 250 and 113 cases."""
    sizes = {"a": 37, "b": 250, "c": 113}
    return [
        write_shards(
            patients(size, seed=size, prefix=name),
            workplace / name,
            format="columns",
            rows_per_group=20,
            shard_bytes=4000,
        )
        for name, size in sizes.items()
    ]


@pytest.fixture
def plan_of(sources: list[Manifest], tokenizer: Any, workplace: Path) -> Callable[..., StreamPlan]:
    """`plan_of(recipe, train=…, manifests=…)`: a plan, over the three sources if none are given."""

    def make(recipe: Recipe, **changes: Any) -> StreamPlan:
        index = {label: place for place, label in enumerate(label_index(sources)[0])}
        options: dict[str, Any] = {
            "manifests": sources,
            "tokenizer": tokenizer,
            "label_index": index,
            "cache": workplace / "cache",
            "train": True,
            "processes": 1,
        }
        return build(recipe, **{**options, **changes})

    return make


@pytest.fixture
def stream_of(plan_of: Callable[..., StreamPlan], tokenizer: Any) -> Callable[..., Stream]:
    """`stream_of(recipe, rank, world_size, train=…)`."""

    def make(recipe: Recipe, rank: int = 0, world_size: int = 1, **options: Any) -> Stream:
        return Stream(plan_of(recipe, **options), tokenizer, rank, world_size)

    return make
