"""`distmed evaluate`: what it writes, what it counts, and that a second run says the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from distmed.cases.case import Case
from distmed.evaluate import pool
from distmed.evaluate.figure import hashed
from tests.evaluate.conftest import LABELS, NAMES, write_cases
from tests.evaluate.door import Door, InProcess

pytestmark = pytest.mark.slow

EVERY_FIGURE = {
    "top1", "top3", "top5", "macro_f1", "micro_f1", "weighted_f1", "balanced_accuracy", "mcc", "auroc_macro", "auprc_macro",
    "prevalence_macro", "nll", "brier", "ece", "ece_mass", "mce", "nll_scaled", "brier_scaled", "ece_scaled", "ece_mass_scaled",
    "mce_scaled", "aurc", "accuracy_at_80", "accuracy_at_90", "coverage_realized_80", "coverage_realized_90",
    "coverage_at_5_risk", "risk_at_5_risk", "conformal_coverage", "conformal_size", "top1_all",
}  # fmt: skip
EVERY_SECTION = {
    "about", "labels", "out_of_set", "per_disease", "confusion", "confusion_suppressed", "calibration", "abstention",
    "subgroups", "curves", "notes", "robustness", "counterfactual", "integrity",
}  # fmt: skip


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    return write_cases(tmp_path / "dev.jsonl")


FORMAT = ("--format", "phenopackets")


def figures_in(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure of metrics.json, wherever it stands; a subgroup's `value` is its name."""
    if isinstance(value, dict) and "value" in value and not isinstance(value["value"], str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from figures_in(inner, f"{path}.{key}")


def test_every_figure_has_its_n_its_interval_and_its_method(door: Door, tiny, dev):
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT)
    figures = {name for name, value in metrics.items() if isinstance(value, dict) and "value" in value}
    assert figures == EVERY_FIGURE
    assert set(metrics) - figures == EVERY_SECTION
    top1 = metrics["top1"]
    assert top1["n"] == 60 and top1["method"] == "wilson" and top1["low"] < top1["value"] < top1["high"]
    assert top1["cluster_low"] <= top1["value"] <= top1["cluster_high"]
    for path, found in figures_in(metrics):
        assert {"value", "low", "high", "n", "method"} <= set(found), path
        assert found["why"] if found["value"] is None else found["method"] and found["n"] > 0, path
    assert metrics["macro_f1"]["method"] == "bootstrap by group, 1000 draws"
    assert metrics["ece_scaled"]["value"] is None and "--calibration" in metrics["ece_scaled"]["why"]
    assert metrics["about"]["data"] == metrics["about"]["data"] | {"cases": 60, "groups": 20, "format": "phenopackets"}
    assert metrics["about"]["model"]["head"] == "trained"
    assert metrics["labels"]["from"] == "model" and metrics["labels"]["names"] == dict(zip(LABELS, NAMES, strict=True))
    assert metrics["integrity"]["whole_number"] and metrics["integrity"]["unique_ids"]
    assert (door.out / "report.html").is_file()
    speed = json.loads((door.out / "speed.json").read_text())
    assert speed["cases_per_s"] > 0 and speed["tokens_per_s"] > 0 and speed["host_peak_gib"] > 0
    assert 0 < speed["latency_p50_s"] <= speed["latency_p95_s"]


def test_predictions_hold_scores_in_the_order_of_the_labels_and_no_text(door: Door, tiny, dev):
    door.evaluate(tiny("classify"), dev, *FORMAT)
    file = door.out / "predictions.parquet"
    table = pq.read_table(file)
    assert table.column_names == [
        "case_id", "group", "gold", "predicted", "confidence", "scores", "status", "prompt_hash", "tokens", "cut", "abstain",
        "age", "sex",
    ]  # fmt: skip
    metadata = {
        key.decode(): json.loads(value) for key, value in table.schema.metadata.items() if key != b"ARROW:schema"
    }
    assert metadata["labels"] == LABELS and metadata["label_names"] == NAMES and metadata["subgroups"] == ["age", "sex"]
    scores_NK = np.stack(table["scores"].to_numpy())
    assert np.allclose(scores_NK.sum(axis=1), 1, atol=1e-5)
    assert table["predicted"].to_pylist() == [LABELS[k] for k in scores_NK.argmax(axis=1)]
    assert table["case_id"].to_pylist() == [f"dev-{n}" for n in range(60)]
    assert file.stat().st_mode & 0o077 == 0
    for path in door.out.rglob("*"):
        assert path.is_dir() or b"finding 1" not in path.read_bytes(), path


def test_the_text_is_told_only_to_whom_asks_for_it(door: Door, tiny, dev):
    door.evaluate(tiny("classify"), dev, *FORMAT, "--with-text")
    texts = pq.read_table(door.out / "predictions.parquet")["text"].to_pylist()
    assert len(texts) == 60 and all("finding" in text and "Not found: Fever" in text for text in texts)
    assert not any(name in text for name in NAMES for text in texts)
    for path in (door.out / "metrics.json", door.out / "report.html"):
        assert "Not found: Fever" not in path.read_text(), path


def test_scores_are_those_of_plain_transformers(door: Door, tiny, dev):
    import torch
    from transformers import AutoModelForSequenceClassification

    from distmed.cases.read import read_cases
    from distmed.evaluate.loading import open_model
    from distmed.model.load import load_tokenizer
    from distmed.recipe import Source
    from distmed.stream.encode import Encode

    folder = tiny("classify")
    door.evaluate(folder, dev, *FORMAT)
    ours_NK = np.stack(pq.read_table(door.out / "predictions.parquet")["scores"].to_numpy())
    encode = Encode(open_model(str(folder), door.folder).recipe, load_tokenizer(folder), {})
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for n, case in enumerate(read_cases(Source(source=str(dev), format="phenopackets"))):
        ids = torch.from_numpy(encode(case, 0, False).input_ids).long()
        with torch.no_grad():
            theirs_K = torch.softmax(model(input_ids=ids[None]).logits[0], dim=-1).numpy()
        assert ours_NK[n] == pytest.approx(theirs_K, abs=1e-5)


def test_a_second_run_gives_the_same_metrics(door: Door, tiny, dev, tmp_path):
    words = (tiny("classify"), dev, *FORMAT, "--train", write_cases(tmp_path / "train.jsonl", 90, seed=1))
    door.evaluate(*words)
    first = (door.out / "metrics.json").read_bytes()
    door.evaluate(*words)
    assert (door.out / "metrics.json").read_bytes() == first


def test_what_was_interrupted_goes_on_and_says_the_same(door: Door, tiny, dev, monkeypatch):
    words = (tiny("classify"), dev, *FORMAT)
    whole = door.evaluate(*words)
    monkeypatch.setattr(pool, "UNIT", 25)
    run = InProcess._run

    def killed(self, units, numbers, mode):
        for done, found in enumerate(run(self, units, numbers, mode)):
            if done == 2:
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "_run", killed)
        door.run("evaluate", words[0], "--data", dev, "--out", door.out, *FORMAT, status=130)
    again = door.evaluate(*words)
    assert "scoring: 50 cases were scored before" in door.said
    assert again == whole


def test_another_model_finds_nothing_of_the_first(door: Door, tiny, dev, monkeypatch):
    from distmed.evaluate.loading import open_model

    opened = open_model(str(tiny("classify")), door.folder)
    cases: list[Case] = []
    first = InProcess(opened, door.folder, workers=1, progress=None)._hash(cases, "diagnosis")  # type: ignore[arg-type]
    other = InProcess(replace(opened, hash="x"), door.folder, workers=1, progress=None)  # type: ignore[arg-type]
    assert other._hash(cases, "diagnosis") != first


def test_rivals_stand_beside_the_model(door: Door, tiny, dev, tmp_path):
    train = write_cases(tmp_path / "train.jsonl", 90, seed=1)
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT, "--train", train, "--against", tiny("bare"))
    rows = {row["with"]: row for row in metrics["comparison"]}
    assert set(rows) == {"model", "linear floor", "majority floor"}
    # The findings tell the disease, so a line gets all of them right and a random model does not.
    floor = rows["linear floor"]
    assert floor["figures"]["top1"]["other"] == 1 and floor["figures"]["top1"]["difference"]["high"] < 0
    assert floor["mcnemar"]["only_this"] == 0 and floor["mcnemar"]["p_holm"] < 0.001
    assert all(row["mcnemar"]["p_holm"] >= row["mcnemar"]["p"] for row in rows.values())
    assert metrics["about"]["against"]["head"] == "untrained"


def test_a_calibration_split_teaches_temperature_thresholds_and_sets(door: Door, tiny, dev, tmp_path):
    split = write_cases(tmp_path / "calibration.jsonl", 80, seed=2)
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT, "--calibration", split, "--small-cells")
    assert metrics["calibration"]["temperature"] > 0 and metrics["calibration"]["fitted_on"] == 80
    assert metrics["conformal"]["alpha"] == 0.1 and sum(metrics["conformal"]["sizes"].values()) == 60
    assert metrics["conformal_coverage"]["value"] == pytest.approx(0.9, abs=0.12)
    assert metrics["coverage_realized_80"]["value"] == pytest.approx(0.8, abs=0.2)
    assert metrics["nll_scaled"]["value"] is not None
    table = pq.read_table(door.out / "predictions.parquet")
    confidence_N, right_N = table["confidence"].to_numpy(), table["predicted"].to_numpy() == table["gold"].to_numpy()
    limits = metrics["abstention"]["thresholds"]
    for coverage in ("80", "90"):
        answered_N = confidence_N >= limits[coverage]
        assert metrics[f"coverage_realized_{coverage}"]["value"] == pytest.approx(answered_N.mean())
        assert metrics[f"accuracy_at_{coverage}"]["value"] == pytest.approx(right_N[answered_N].mean())
    answered_N = confidence_N >= (np.inf if limits["risk_5"] is None else limits["risk_5"])
    assert table["abstain"].to_pylist() == (~answered_N).tolist()
    assert metrics["coverage_at_5_risk"]["value"] == pytest.approx(answered_N.mean())
    sets_NK = 1 - np.stack(table["scores"].to_numpy()) <= metrics["conformal"]["quantile"]
    assert metrics["conformal_size"]["value"] == pytest.approx(sets_NK.sum(axis=1).mean())


def test_a_bare_backbone_is_scored_with_a_head_that_is_called_untrained(door: Door, tiny, dev):
    metrics = door.evaluate(tiny("bare"), dev, *FORMAT)
    assert metrics["about"]["model"]["head"] == "untrained" and metrics["labels"]["from"] == "data"
    assert "untrained" in metrics["notes"][0]


def test_a_generator_is_scored_over_the_names_of_the_diagnoses(door: Door, tiny, dev):
    metrics = door.evaluate(tiny("generate"), dev, *FORMAT)
    assert metrics["about"]["kind"] == "diagnosis" and metrics["about"]["model"]["task"] == "generate"
    assert metrics["labels"]["model"] == 4
    # Random weights sit at chance, whatever the harness does: one in four, within what 60 cases allow.
    assert metrics["top1"]["low"] < 0.35


def test_cases_that_the_model_cannot_know_are_counted_and_scored_apart(door: Door, tiny, tmp_path):
    dev = write_cases(tmp_path / "dev.jsonl")
    strange = write_cases(tmp_path / "strange.jsonl", 7, ["OMIM:999"])
    few = write_cases(tmp_path / "few.jsonl", 2, ["OMIM:998"])
    several = write_cases(tmp_path / "several.jsonl", 6, ["OMIM:100;OMIM:200"])
    dev.write_text("".join(path.read_text() for path in (dev, strange, few, several)))
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT)
    out = metrics["out_of_set"]
    assert metrics["top1"]["n"] == 60 and metrics["top1_all"]["n"] == 75
    assert out["cases"] == 9 and out["share"]["value"] == 9 / 75
    assert [(row["label"], row["n"]) for row in out["labels"]] == [("OMIM:999", 7), ("OMIM:998", None)]
    assert out["several"]["cases"] == out["several"]["top1"]["n"] == 6
    assert out["confidence"]["n"] == 9
    assert out["confidence"]["low"] < out["confidence"]["value"] < out["confidence"]["high"]
    table = pq.read_table(door.out / "predictions.parquet").to_pydict()
    assert [table["status"].count(s) for s in ("in set", "out of set", "several")] == [60, 9, 6]
    assert {g for g, s in zip(table["gold"], table["status"], strict=True) if s == "out of set"} == {
        "OMIM:999",
        "OMIM:998",
    }


def test_differentials_of_ddxplus_are_scored(door: Door, tiny, tmp_path):
    rows = []
    for n in range(12):
        label = NAMES[n % 4]
        rows.append(
            {"row_key": str(n), "age": 30, "sex": "F", "label": label, "evidences": {"Do you cough?": "True"},
             "differential": [[label, 0.6], [NAMES[(n + 1) % 4], 0.3], ["Plague", 0.1]], "severity": n % 4 + 1}
        )  # fmt: skip
    data = tmp_path / "ddx.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = door.evaluate(tiny("classify"), data, "--format", "ddxplus")
    for name in ("gtpa", "gtpa_at_1", "gtpa_at_3", "gtpa_at_5", "ddr", "ddp", "ddf1", "dsr", "severity_recall"):
        assert 0 <= metrics[name]["value"] <= 1, name
    # Two of three diseases of every gold differential are in the model's reach.
    assert metrics["ddr"]["value"] <= 2 / 3 + 1e-6
    assert metrics["gtpa_at_5"]["value"] == 1


def test_perturbed_cases_are_put_again_and_flips_counted(door: Door, tiny, dev):
    metrics = door.evaluate(tiny("classify"), dev, *FORMAT)
    rows = {row["name"]: row for section in ("robustness", "counterfactual") for row in metrics[section]}
    assert rows
    for row in rows.values():
        assert row["n"] <= 60 and 0 <= row["flips"]["value"] <= 1
        assert row["change"]["value"] == pytest.approx(row["after"] - row["before"], abs=1e-6)


def test_hashed_ids_do_not_tell_the_id():
    assert len(hashed("patient 7")) == 10 and "7" != hashed("patient 7") != hashed("patient 8")
