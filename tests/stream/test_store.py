"""Prepared folders in an object store that fails, throttles, and changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from distmed.errors import UserError
from distmed.prepare.manifest import Manifest
from distmed.prepare.shards import read_cases_of, write_shards
from distmed.recipe import Recipe, Source
from distmed.stream import order, store
from distmed.stream.store import StoredManifest, check_data, on_disk, open_data
from distmed.stream.stream import Stream, StreamPlan
from tests.stream.conftest import patients
from tests.stream.steps import bytes_of

RecipeMaker = Callable[..., Recipe]
PlanMaker = Callable[..., StreamPlan]


class SlowDownError(Exception):
    """What no one could foresee: every store has errors of its own."""


class Flaky(MemoryFileSystem):
    """A store that answers only every `failures`-th reading."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012 (as the class above has it)
    pseudo_dirs = [""]  # noqa: RUF012
    failures = 0
    asked = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("flaky://"))

    def cat_file(self, *args: Any, **options: Any) -> Any:
        self._answer()
        return super().cat_file(*args, **options)

    def _open(self, *args: Any, **options: Any) -> Any:
        if "r" in options.get("mode", args[1] if len(args) > 1 else "rb"):
            self._answer()
        return super()._open(*args, **options)

    def _answer(self) -> None:
        Flaky.asked += 1
        if Flaky.failures and Flaky.asked % (Flaky.failures + 1):
            raise SlowDownError("503 Slow Down")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(store.time, "sleep", waited.append)
    return waited


@pytest.fixture
def remote(tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Manifest]:
    """200 cases in several shards, at flaky://bucket/cases."""
    monkeypatch.setattr(order, "WINDOW_ROWS", 30)
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    manifest = write_shards(patients(200), tmp_path / "here", format="columns", rows_per_group=10, shard_bytes=1000)
    assert len(manifest.shards) >= 2
    Flaky.failures = 0
    Flaky().put(str(tmp_path / "here") + "/", "/bucket/cases", recursive=True)
    yield manifest
    Flaky.failures = 0
    Flaky.store.clear()


SOURCE = Source(source="flaky://bucket/cases")


def test_a_prepared_folder_in_a_store_is_the_same_manifest_and_the_same_stream(
    remote: Manifest, recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, tmp_path: Path
) -> None:
    check_data(SOURCE, "classify", tmp_path / "data")
    found = open_data(SOURCE, tmp_path / "data")
    assert found.hash == remote.hash
    for keep in ("ids", "counts"):
        asked = recipe(data={"token_cache": keep})
        here, there = (
            plan_of(asked, manifests=[manifest], cache=tmp_path / f"{name}-{keep}")
            for name, manifest in (("here", remote), ("there", found))
        )
        assert here.identity == there.identity
        assert bytes_of(Stream(here, tokenizer, 0, 1).steps(0)) == bytes_of(Stream(there, tokenizer, 0, 1).steps(0))
    assert not list(found.folder.glob("*.parquet"))  # nothing was copied


def test_a_store_that_throttles_is_asked_again_later(
    remote: Manifest, recipe: RecipeMaker, plan_of: PlanMaker, tokenizer: Any, tmp_path: Path, waits: list[float]
) -> None:
    Flaky.failures = 3
    found = open_data(SOURCE, tmp_path / "data")
    plan = plan_of(recipe(data={"token_cache": "counts"}), manifests=[found], cache=tmp_path / "cache")
    flaky = bytes_of(Stream(plan, tokenizer, 0, 1).steps(0))
    Flaky.failures = 0
    assert flaky == bytes_of(Stream(plan, tokenizer, 0, 1).steps(0))
    assert max(waits) > 2 * min(waits)  # longer each time


def test_a_store_that_never_answers_is_named(remote: Manifest, tmp_path: Path, waits: list[float]) -> None:
    Flaky.failures = 10**9
    with pytest.raises(
        UserError, match=r"cannot read flaky://bucket/cases/manifest.json: SlowDownError, 7 attempts"
    ) as raised:
        open_data(SOURCE, tmp_path)
    assert "try again later" in raised.value.hint
    assert 20 < sum(waits) < 60


def test_waiting_cannot_mend_what_is_not_there(remote: Manifest, tmp_path: Path, waits: list[float]) -> None:
    found = open_data(SOURCE, tmp_path)
    Flaky().rm("/bucket/cases/00001.parquet")
    with pytest.raises(UserError, match=r"shard missing: flaky://bucket/cases/00001.parquet \(manifest.json says"):
        found.verify(checksums=False)
    with pytest.raises(UserError, match="FileNotFoundError"):
        on_disk(found)
    assert not waits


def test_a_shard_of_another_size_is_found_before_training(remote: Manifest, tmp_path: Path) -> None:
    Flaky().pipe("/bucket/cases/00001.parquet", b"half of it")
    with pytest.raises(UserError, match=r"shard changed: flaky://bucket/cases/00001.parquet has 10 bytes"):
        open_data(SOURCE, tmp_path)


def test_what_must_lie_on_a_disk_is_copied_and_compared(remote: Manifest, tmp_path: Path) -> None:
    found = on_disk(open_data(SOURCE, tmp_path))
    assert isinstance(found, StoredManifest)
    assert list(read_cases_of(found)) == list(read_cases_of(remote))
    for path in found.folder.glob("*.parquet"):
        path.unlink()
    content = bytearray(Flaky().cat("/bucket/cases/00000.parquet"))
    content[40] ^= 1
    Flaky().pipe("/bucket/cases/00000.parquet", bytes(content))
    with pytest.raises(UserError, match="another checksum"):
        on_disk(found)


def test_filters_on_a_prepared_store_are_refused(remote: Manifest, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="have no effect on it any more"):
        open_data(Source(source="flaky://bucket/cases", limit=5), tmp_path)


def test_an_unknown_protocol_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot open nosuch://bucket"):
        open_data(Source(source="nosuch://bucket/x"), tmp_path)
