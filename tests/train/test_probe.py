"""The probe of a run holds cases of patients."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from distmed.rundir import RunDir
from distmed.stream.batch import Item, MicroBatch, collate
from distmed.train.logbook import Logbook
from distmed.train.probe import GENERATED_CASES, take


def test_the_probe_is_for_its_owner_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    book: Any = SimpleNamespace(run=run)
    for content in (b"first", b"better"):
        Logbook.keep_probe(book, content)
    assert run.probe.read_bytes() == b"better"
    assert run.probe.stat().st_mode & 0o777 == 0o600
    assert run.probe.parent.stat().st_mode & 0o777 == 0o700


def test_a_generator_is_asked_for_the_targets_of_the_probed_cases_alone() -> None:
    """Logits over a vocabulary, of all targets, would not fit."""
    lengths, start = (6, 5, 7), 3
    items = [Item(np.arange(n, dtype=np.int32), start, -1, 0.0, f"case-{n}", n) for n in lengths]
    batch = collate([items[:2], items[2:]], seq_len=16, pad_id=0, targets=True)
    asked: list[MicroBatch] = []

    def answer(narrowed: MicroBatch) -> Tensor:
        """The flat place of each target as its logits."""
        asked.append(narrowed)
        assert narrowed.target_index_T is not None
        return narrowed.target_index_T[:, None].expand(-1, 3)

    probe = take(batch, answer)
    (narrowed,) = asked
    assert narrowed.target_ids_T is not None
    assert narrowed.target_ids_T.tolist() == [3, 4, 5, 3, 4], "of the first two cases"
    assert len(probe["input_ids"]) == GENERATED_CASES
    for number, (first, length) in enumerate(zip((0, 6), lengths[:2], strict=True)):
        ids, logits, at = (probe[key][number] for key in ("input_ids", "logits", "positions"))
        assert ids.tolist() == list(range(length))
        assert at.tolist() == list(range(start - 1, length - 1))
        assert (logits[:, 0] - first).tolist() == at.tolist()
