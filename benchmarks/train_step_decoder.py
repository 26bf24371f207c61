"""The second workload of train_step.py: a decoder of 32 million fresh weights that learns to answer, packed.

MedQuAD flows in; a job for our loop, and the same model and cases as arctic-training reads them, flow out.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distmed.train.job import Job

CASES = 3000
SEQ_LEN = 512
SEQUENCES_OF_A_WORKER = 4


def prepare(options: argparse.Namespace, folder: Path) -> Job:
    """Write `model/` with weights, `cases/` as a `datasets` folder, and count tokens for our loop."""
    import torch
    from datasets import Dataset

    from distmed.cases.prompts import Prompt
    from distmed.prepare.open import open_source
    from distmed.prepare.shards import read_cases_of
    from distmed.recipe_file import check
    from distmed.rundir import RunDir
    from distmed.train.preparation import make_job
    from distmed.train.progress import Progress

    recipe = check(
        {
            "name": "decoder",
            "task": "generate",
            "model": {"path": str(folder / "model")},
            "data": {
                "train": [{"source": str(options.medquad), "format": "medquad", "limit": CASES}],
                "seq_len": SEQ_LEN,
                "long_cases": "drop",
            },
            "train": {
                "global_batch": SEQUENCES_OF_A_WORKER * options.workers,
                "micro_batch": SEQUENCES_OF_A_WORKER,
                "max_steps": options.warm_up + options.steps,
            },
            "cluster": {"num_workers": options.workers},
        }
    )
    run = RunDir(folder / "decoder")
    run.path.mkdir()
    prompt = Prompt(recipe.task, recipe.data)
    talks = [prompt.messages(case) for case in read_cases_of(open_source(recipe.data.train[0], run.data))]
    _make_model(folder / "model", [message["content"] for talk in talks for message in talk])
    Dataset.from_list([{"messages": talk} for talk in talks]).save_to_disk(folder / "cases")
    gpu = torch.cuda.is_available()
    return make_job(recipe, run, gpu=gpu, resume=False, progress=Progress(sys.stderr, live=False))


def _make_model(folder: Path, texts: list[str]) -> None:
    """The built-in tokenizer under a larger Llama, with weights, readable by transformers 4 too."""
    import torch
    from llama import write_llama_32m
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(write_llama_32m(folder, islice(texts, 2 * CASES)))
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    path.write_text(json.dumps(settings))


def arctic_config(job: Job, zero: dict[str, Any], folder: Path, steps: int) -> dict[str, Any]:
    """Of arctic-training: it packs only with one sequence a micro-batch, so accumulation makes the same global batch."""
    return {
        "type": "sft",
        "micro_batch_size": 1,
        "gradient_accumulation_steps": SEQUENCES_OF_A_WORKER,
        "model": {
            "name_or_path": str(folder / "model"),
            "dtype": "bf16" if job.bf16 else "fp32",
            "disable_activation_checkpoint": True,
        },
        "data": {
            "sources": [{"type": "huggingface", "name_or_path": str(folder / "cases")}],
            "max_length": SEQ_LEN,
            "pack_samples": True,
            "num_proc": 1,
            "dl_num_workers": 1,
            "cache_dir": str(folder / "arctic-cache"),
        },
        "optimizer": {"type": "cpu_adam" if not _cuda() else "fused_adam", "learning_rate": job.recipe.optimizer.lr},
        "logger": {"output_dir": str(folder / "arctic-logs")},
        "train_log_metrics_path": str(folder / "arctic-metrics.jsonl"),
        "deepspeed": {"zero_optimization": zero},
        "exit_iteration": steps,
    }


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
