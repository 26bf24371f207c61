"""What others script against besides the recipe: verbs, files of a run, names of metrics. Added on purpose, never renamed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import typer

from distmed.cli import app
from distmed.rundir import RunDir


def test_the_verbs_and_their_options() -> None:
    command = typer.main.get_command(app)
    surface = {
        name: sorted(option for parameter in verb.params for option in parameter.opts if option.startswith("--"))
        for name, verb in command.commands.items()  # type: ignore[attr-defined]
    }
    assert surface == {
        "train": ["--force", "--name", "--num-workers", "--resume", "--verbose"],
        "prepare": [
            "--augment",
            "--clean",
            "--columns",
            "--deduplicate",
            "--deidentify",
            "--format",
            "--group-by",
            "--limit",
            "--num-workers",
            "--out",
            "--seed",
            "--split",
            "--split-by-date",
            "--where",
            "--without",
            "--without-format",
        ],
        "plan": ["--gpus", "--json", "--nodes", "--price"],
        "doctor": [],
        "evaluate": [
            "--against",
            "--calibration",
            "--columns",
            "--data",
            "--format",
            "--map",
            "--num-workers",
            "--out",
            "--small-cells",
            "--train",
            "--verbose",
            "--with-text",
        ],
        "predict": ["--calibration", "--columns", "--data", "--format", "--num-workers", "--out", "--verbose"],
        "tune": ["--name", "--num-trials", "--num-workers", "--resume", "--verbose"],
        "export": ["--adapters", "--dtype", "--max-shard-gb", "--out"],
    }


def test_the_files_of_a_run() -> None:
    run = RunDir("runs/a")
    names = {name for name in vars(RunDir) if isinstance(vars(RunDir)[name], property)} - {"name"}
    files = {name: str(getattr(run, name).relative_to(run.path)) for name in names}
    assert files == {
        "recipe": "recipe.yaml",
        "environment": "environment.json",
        "metrics": "metrics.jsonl",
        "summary": "summary.json",
        "checkpoints": "checkpoints",
        "saved": "saved.json",
        "model": "model",
        "base": "base",
        "data": "data",
        "evaluation": "evaluation",
        "probe": "evaluation/probe.pt",
        "wandb": "wandb",
        "profile": "profile",
        "nccl": "nccl",
        "lock": "lock.json",
        "log": "log.txt",
    }


def test_help_and_import_are_fast_because_they_load_nothing_large() -> None:
    code = (
        "import sys, distmed.cli, distmed.recipe;"
        "heavy = {'torch', 'ray', 'deepspeed', 'transformers', 'datasets', 'sklearn', 'pyarrow'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
