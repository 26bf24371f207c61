"""calibration.json is a file that others read: its keys stay, and one of an earlier version is read."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from distmed.evaluate.abstention import Thresholds
from distmed.evaluate.calibration_file import Calibration
from distmed.evaluate.learned import Learned

WRITTEN = """{
 "version": 1,
 "model": "0f3a",
 "temperature": 1.25,
 "coverage_80": 0.41,
 "coverage_90": 0.36,
 "risk_5": null,
 "quantile": null,
 "fitted_on": 80,
 "labels": ["OMIM:1", "OMIM:2"],
 "label_names": ["gout", "Ménière disease"]
}
"""
OPENED: Any = SimpleNamespace(hash="0f3a", labels=["OMIM:1", "OMIM:2"], label_names=["gout", "Ménière disease"])


def test_what_is_written_has_the_keys_that_are_promised_and_is_read_again(tmp_path: Path) -> None:
    learned = Learned(1.25, Thresholds(0.41, 0.36, None, float("inf"), 80))
    written = Calibration.of(OPENED, learned)
    assert list(written.model_dump().items()) == list(json.loads(WRITTEN).items())
    (tmp_path / "calibration.json").write_text(WRITTEN, encoding="utf-8")
    assert Calibration.read(tmp_path, OPENED) == Calibration.read(tmp_path / "calibration.json", OPENED) == written
