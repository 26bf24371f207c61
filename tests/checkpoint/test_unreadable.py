"""A storage that cannot be read when a run begins again: nothing is begun anew, because what was saved may be whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distmed.checkpoint import load as loading
from distmed.checkpoint.marker import CorruptCheckpointError
from distmed.errors import UserError

from . import make


def group(gather: Callable[[Any], list[Any]]) -> Any:
    """A group in which this is the first rank; `gather` says what all have where this one has some object."""

    def all_gather_object(found: list[Any], mine: Any) -> None:
        found[:] = gather(mine)

    return SimpleNamespace(
        get_rank=lambda: 0,
        get_world_size=lambda: len(gather(None)),
        all_gather_object=all_gather_object,
        broadcast_object_list=lambda objects, src: None,
    )


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "dist", group(lambda mine: [mine]))


@pytest.mark.parametrize(
    ("fault", "refused"),
    [
        (OSError(5, "Input/output error"), True),
        (FileNotFoundError(2, "No such file or directory"), False),
        (CorruptCheckpointError("its hash is not the one in its marker"), False),
    ],
)
@pytest.mark.usefixtures("alone")
def test_a_storage_that_fails_is_no_damage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: Exception, refused: bool
) -> None:
    def fail(*_: Any) -> None:
        raise fault

    for step in (10, 20):
        make.write(tmp_path, step)
    monkeypatch.setattr(loading, "verify_rank", fail)
    engine: Any = None
    if not refused:
        assert loading.load_newest(engine, tmp_path) is None
        return
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read: .*Input/output error"):
        loading.load_newest(engine, tmp_path)


@pytest.mark.parametrize("blind", ["this rank", "the other rank"])
def test_a_host_without_the_mount_is_no_damage_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blind: str
) -> None:
    """A spare took the place of a lost host: what others see must not count as damaged, nor the run begin anew."""
    make.write(tmp_path / "seen", 10)
    here = tmp_path / ("nowhere" if blind == "this rank" else "seen")

    def gather(mine: Any) -> list[Any]:
        sees = mine if mine is None or not isinstance(mine[1], bool) else ("other", blind == "this rank")
        return [mine, sees]

    monkeypatch.setattr(loading, "dist", group(gather))
    engine: Any = None
    with pytest.raises(UserError, match=r"sees no checkpoint in .*, where other hosts see some") as refused:
        loading.load_newest(engine, here)
    assert refused.value.message.startswith("other") == (blind == "the other rank")
