"""Whether a launch fits its cluster: versions, storage that all hosts read and write, the disk of the checkpoints to come."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from distmed.checkpoint.storage import Storage
from distmed.errors import UserError
from distmed.recipe import Checkpoint, Cluster
from distmed.train import fit


def test_another_version_on_a_host_is_named() -> None:
    with pytest.raises(UserError, match=r"torch is 2\.1 on 10\.0\.0\.2, 2\.2 on 10\.0\.0\.1"):
        fit.check_versions({"10.0.0.1": {"torch": "2.2"}, "10.0.0.2": {"torch": "2.1"}})


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[Callable[[], Any]], Any]]:
    """Two hosts by how each of them answers a question; as long as nothing else is said, both are this one."""
    answers: dict[str, Callable[[Callable[[], Any]], Any]] = {
        "10.0.0.1": lambda ask: ask(),
        "10.0.0.2": lambda ask: ask(),
    }
    monkeypatch.setattr(fit, "on_every_host", lambda ask: {host: answer(ask) for host, answer in answers.items()})
    return answers


@pytest.mark.usefixtures("hosts")
def test_storage_that_all_hosts_share_is_left_as_it_was(tmp_path: Path) -> None:
    fit.check_shared(Storage.at(tmp_path / "new"), "the run directory")
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_has_another_disk_under_the_name_is_named(
    hosts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(ask: Callable[[], Any]) -> Any:
        with monkeypatch.context() as other:
            other.setattr(Storage, "read", lambda self: b"")
            return ask()

    hosts["10.0.0.2"] = elsewhere
    with pytest.raises(UserError, match=r"the run directory: 10\.0\.0\.2 cannot read what this host writes"):
        fit.check_shared(Storage.at(tmp_path), "the run directory")
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_may_only_read_is_named(
    hosts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def refused(storage: Storage) -> Iterator[None]:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        yield

    def read_only(ask: Callable[[], Any]) -> Any:
        with monkeypatch.context() as other:
            other.setattr(Storage, "writing", refused)
            return ask()

    hosts["10.0.0.2"] = read_only
    with pytest.raises(UserError, match=r"10\.0\.0\.2 cannot write to .*: Read-only file system"):
        fit.check_shared(Storage.at(tmp_path), "the run directory")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_the_checkpoints_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"weight": np.zeros((1000, 1000), dtype=np.float16)}, tmp_path / "model.safetensors")
    # The same once more in another layout, as in the folders of Mistral: it is not loaded.
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "consolidated.safetensors")
    recipe = SimpleNamespace(
        checkpoint=Checkpoint(keep=2), cluster=Cluster(num_workers=2), model=SimpleNamespace(lora=None)
    )
    job: Any = SimpleNamespace(checkpoints=str(tmp_path / "checkpoints"), model_folder=tmp_path, recipe=recipe)
    needed = 12 * 1_000_000 * 5
    monkeypatch.setattr(fit.shutil, "disk_usage", lambda path: SimpleNamespace(free=needed))
    fit.check_disk(job)
    monkeypatch.setattr(fit.shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(UserError, match=r"has 0\.1 GiB free, the checkpoints of this run need 0\.1 GiB"):
        fit.check_disk(job)


def test_a_run_directory_need_only_be_read(
    hosts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where checkpoints go to a store."""
    asked: list[tuple[str, bool]] = []
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}] * 2)
    monkeypatch.setattr(fit, "check_shared", lambda folder, what, *, written=True: asked.append((str(folder), written)))
    fit.check_hosts(str(tmp_path / "shelf"), tmp_path)
    assert asked == [(str(tmp_path / "shelf"), True), (str(tmp_path), False)]
