"""A storage that cannot be read when a run begins again: nothing is begun anew, because what was saved may be whole."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
import torch

from distmed.checkpoint import folder as folders
from distmed.checkpoint import load as loading
from distmed.checkpoint.marker import CorruptCheckpointError, UnreadableCheckpointError
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


class ClientPayloadError(Exception):
    """As of aiohttp; the errors of botocore and gcsfs are no OSErrors either."""


FAULTS = [
    OSError(5, "Input/output error"),
    ConnectionResetError(104, "Connection reset by peer"),
    ClientPayloadError("Response payload is not completed"),
    pa.ArrowInvalid("truncated"),
]


class CheckedError(Exception):
    """The checkpoint was checked and would be loaded."""


@pytest.fixture
def loads(alone: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Load from two checkpoints, with ten seconds of patience and a clock that only sleeping moves, where `broken` fails as
    often as there are faults; which would be loaded, what was said, and the seconds it took.
    """
    now, engine = [0.0], cast(Any, None)
    monkeypatch.setattr(loading.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(loading.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    for step in (10, 20):
        make.write(tmp_path, step)
    opened: list[str] = []

    def stop(_: Any) -> None:
        raise CheckedError

    class Checkpoint(loading.Checkpoint):
        def __init__(self, folder: Any) -> None:
            opened.append(folder.name)
            super().__init__(folder)

    monkeypatch.setattr(loading, "view", stop)
    monkeypatch.setattr(loading, "Checkpoint", Checkpoint)

    def load(broken: str, faults: list[Exception]) -> tuple[str, list[str], float]:
        real, said = getattr(loading, broken), list[str]()

        def fail(*arguments: Any) -> Any:
            if faults:
                raise faults.pop(0)
            return real(*arguments)

        monkeypatch.setattr(loading, broken, fail)
        with pytest.raises(CheckedError):
            loading.load_newest(engine, tmp_path, retry_s=10, tell=said.append)
        return opened[-1], said, now[0]

    return load


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("broken", ["verify_rank", "complete_newest_first", "names"])
def test_a_storage_that_fails_for_a_while_costs_no_step(
    loads: Callable[..., Any], broken: str, fault: Exception, tmp_path: Path
) -> None:
    """The same checkpoint is tried again, and that is said once; an older one would be lost work."""
    loaded, said, waited = loads(broken, [fault, fault])
    assert loaded == folders.name(20, 2, 0)
    assert len(said) == 1 and str(tmp_path) in said[0] and str(fault) in said[0]
    assert said[0].endswith(": tried again for 10 s")
    assert waited == 5


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_storage_that_stays_away_ends_the_run(loads: Callable[..., Any], fault: Exception) -> None:
    with pytest.raises(UserError) as refused:
        loads("verify_rank", [fault] * 99)
    assert folders.name(20, 2, 0) in refused.value.message
    assert "cannot be read for 10 s (checkpoint.retry_s): " in refused.value.message
    assert str(fault) in refused.value.message and "mend the storage" in refused.value.hint


@pytest.mark.parametrize(
    "fault",
    [
        FileNotFoundError(2, "No such file or directory"),
        CorruptCheckpointError("its hash is not the one in its marker"),
    ],
)
def test_damage_is_passed_over_at_once(loads: Callable[..., Any], fault: Exception) -> None:
    assert loads("verify_rank", [fault]) == (folders.name(10, 2, 0), [], 0)


@pytest.mark.parametrize("fault", [*FAULTS, torch.OutOfMemoryError("CUDA out of memory")])
def test_whatever_one_rank_meets_is_raised_on_all(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """A rank that raised before the others heard of it would leave them waiting."""
    told: list[Any] = []
    monkeypatch.setattr(loading, "dist", group(lambda mine: told.append(mine) or [None, mine]))

    def fail() -> None:
        raise fault

    with pytest.raises((UnreadableCheckpointError, torch.OutOfMemoryError), match=str(fault.args[-1])):
        loading._together(fail)
    kind, arguments = pickle.loads(pickle.dumps(told[-1]))
    assert str(fault.args[-1]) in str(kind(*arguments))


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
