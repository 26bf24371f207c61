"""The other side of choice.py: the same questions scored by lm-evaluation-harness, in whatever environment holds it.

A model folder and JSON lines files (questions, solved examples) flow in; a JSON file for each run flows out: per question the
log-likelihood of every answer, and the seconds that `loglikelihood` took, tokenizing included. Of several batch sizes the
fastest counts. It imports nothing of distmed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

# `doc_to_text` and `doc_to_choice` of the harness' own tasks headqa_en and mmlu.
TASKS: dict[str, dict[str, str]] = {
    "text": {"doc_to_text": "Question: {{qtext}}\nAnswer:", "doc_to_choice": "{{options}}"},
    "letter": {
        "doc_to_text": "{{qtext}}\n{% for o in options %}{{'ABCDE'[loop.index0]}}. {{o}}\n{% endfor %}Answer:",
        "doc_to_choice": "{{letters}}",
    },
}


class Timed(HFLM):
    seconds = 0.0

    def loglikelihood(self, requests: Any, disable_tqdm: bool = True) -> Any:
        started = time.perf_counter()
        answers = super().loglikelihood(requests, disable_tqdm=True)
        self.seconds += time.perf_counter() - started
        return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="holds items.jsonl and examples-SHOTS.jsonl")
    parser.add_argument("--runs", nargs="+", required=True, help="MODE:SHOTS, for example letter:5")
    parser.add_argument("--batches", type=int, nargs="+", required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Timed(str(arguments.model), device=device, dtype="float32", batch_size=1)
    for run in arguments.runs:
        mode, _, shots = run.partition(":")
        found = [score(model, arguments.work, mode, int(shots), batch) for batch in arguments.batches]
        best = min(found, key=lambda each: each["seconds"])
        (arguments.work / f"harness-{mode}-{shots}.json").write_text(json.dumps(best), encoding="utf-8")


def score(model: Timed, work: Path, mode: str, shots: int, batch: int) -> dict[str, Any]:
    task = {
        "task": f"choice_{mode}",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(work / "items.jsonl"), "examples": str(work / f"examples-{shots}.jsonl")}
        },
        "output_type": "multiple_choice",
        "test_split": "test",
        "fewshot_split": "examples",
        "fewshot_config": {"sampler": "first_n"},
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        **TASKS[mode],
    }
    model.batch_size_per_gpu = batch
    model.seconds = 0.0
    results = simple_evaluate(
        model, tasks=[task], num_fewshot=shots, bootstrap_iters=0, task_manager=TaskManager(), log_samples=True
    )
    samples = sorted(results["samples"][task["task"]], key=lambda sample: sample["doc_id"])
    return {
        "scores": [[float(answer[0]) for answer in sample["filtered_resps"]] for sample in samples],
        "metrics": {key: value for key, value in results["results"][task["task"]].items() if key.startswith("acc")},
        "seconds": model.seconds,
        "batch": batch,
        "version": importlib.metadata.version("lm_eval"),
    }


if __name__ == "__main__":
    main()
