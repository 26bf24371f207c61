"""docs/first_day.md as a newcomer follows it: commands, recipe and code, with fresh weights in the place of a training."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distmed.recipe_file import load_recipe
from distmed.rundir import RunDir
from distmed.train.job import Job
from distmed.train.preparation import check_inputs, make_job, write_run_files
from distmed.train.progress import Progress
from tests.evaluate.door import Door
from tests.prepare.conftest import note

PAGE = (Path(__file__).parents[2] / "docs" / "first_day.md").read_text(encoding="utf-8")
CONSOLE = [shlex.split(line) for line in re.findall(r"^\$ (.+)$", PAGE.replace("\\\n", " "), flags=re.MULTILINE)]


def block(language: str) -> str:
    (only,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(only)


def shown(verb: str) -> list[str]:
    """The words of the verb's command."""
    (only,) = [words[1:] for words in CONSOLE if words[:2] == ["distmed", verb] and words[2:]]
    return only


def write_table(path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "icd10", "patient_id", "sex", "site"])
        for n in range(240):
            text = f"{note(n)} Seen by Dr. Kowalczyk." if n % 2 else note(n)
            writer.writerow([text, f"M{n % 3}", f"patient-{n // 2}", "FM"[n % 2], f"ward {n % 4}"])


def ready(run: RunDir) -> Job:
    """All of `distmed train` up to the first step."""
    recipe = load_recipe("mine.yaml")
    check_inputs(recipe, run, resume=False)
    run.path.mkdir(parents=True)
    job = make_job(recipe, run, gpu=False, resume=False, progress=Progress(sys.stdout))
    write_run_files(job)
    return job


def save_fresh(job: Job) -> None:
    """What a run exports, had it learned nothing."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    config = AutoConfig.from_pretrained(job.model_folder)
    config.id2label = dict(enumerate(job.labels))
    config.label2id = {label: k for k, label in enumerate(job.labels)}
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(job.run.model)
    AutoTokenizer.from_pretrained(job.model_folder).save_pretrained(job.run.model)


@pytest.mark.slow
def test_the_page_of_the_first_day_works_as_it_is_written(door: Door, tmp_path: Path) -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra `privacy` is not installed")
    write_table(tmp_path / "notes.csv")
    door.run(*shown("prepare"), "--num-workers", "1")
    look = next(words for words in CONSOLE if words[0] == "python")
    texts = subprocess.run([sys.executable, *look[1:]], capture_output=True, text=True, check=True).stdout
    assert "[NAME-1]" in texts and "Kowalczyk" not in texts

    Path("mine.yaml").write_text(block("yaml"))
    assert "disk" in door.run(*shown("plan"))
    save_fresh(ready(RunDir("runs/mine")))

    door.run(*shown("evaluate"))
    long = " ".join(note(n) for n in range(20))
    new = [note(1000), "fever", long]
    Path("new.csv").write_text("".join(f"{line}\n" for line in ["note", *new]))
    door.run(*shown("predict"))
    with Path("answers.csv").open(encoding="utf-8") as file:
        answers = list(csv.DictReader(file))
    assert [row["case_id"].rpartition("/")[2] for row in answers] == ["new.csv:2", "new.csv:3", "new.csv:4"]
    assert [row["cut"] for row in answers] == ["False", "False", "True"]

    served: dict[str, Any] = {}
    exec(block("python"), served)
    for text, row in zip(new, answers, strict=True):
        label, confidence, abstain = served["diagnose"](text)
        assert (label, str(abstain)) == (row["predicted"], row["abstain"])
        assert confidence == pytest.approx(float(row["confidence"]), abs=1e-4)
