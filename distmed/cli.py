"""The verbs of `distmed`: each parses, calls one function and prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from distmed import __version__
from distmed.errors import DONE, FAILED, INTERRUPTED, mistakes_told
from distmed.refusals import refusal

app = typer.Typer(
    help="Fine-tune open language models for medical diagnosis, and show the evidence.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"distmed {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, help="Print the version.")] = False,
) -> None:
    """Fine-tune open language models for medical diagnosis, and show the evidence."""


@app.command()
def train(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[RECIPE] [key=value …]", help="A YAML file, then overrides.")
    ] = None,
    num_workers: Annotated[int | None, typer.Option(help="World size; overrides cluster.num_workers.")] = None,
    name: Annotated[str | None, typer.Option(help="The run goes to runs/NAME; overrides name.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest complete checkpoint of the run.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Start even if the plan says that it does not fit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray, DeepSpeed and the workers print.")] = False,
) -> None:
    """Fine-tune a model. Without a recipe: with that of the run to resume, or else the built-in smoke run."""
    from distmed.recipe_file import load_recipe
    from distmed.train.driver import run, unnamed_recipe

    words = arguments or []
    path = Path(words[0]) if words and "=" not in words[0] else None
    overrides = words if path is None else words[1:]
    if num_workers is not None:
        overrides = [*overrides, f"cluster.num_workers={num_workers}"]
    if name is not None:
        overrides = [*overrides, f"name={name}"]
    path = path or unnamed_recipe(overrides, resume=resume)
    raise typer.Exit(run(load_recipe(path, overrides), resume=resume, verbose=verbose, force=force))


@app.command()
def prepare(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE…", help="Files, globs, folders, hub ids, URLs.")],
    out: Annotated[Path, typer.Option(help="The folder to write; new or empty.")],
    format: Annotated[str, typer.Option(help="How a row becomes a case.")] = "columns",
    columns: Annotated[list[str] | None, typer.Option(metavar="ROLE=COLUMN", help="For --format columns.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Keep only rows with this value.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take at most this many cases of each source.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE", help="An evaluation set: what overlaps with it is dropped.")
    ] = None,
    without_format: Annotated[str | None, typer.Option(help="Format of the evaluation sets; else --format.")] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Split, and keep all rows of one value together.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME=SHARE,…", help="Default with --group-by: train=0.8,dev=0.1,test=0.1.")
    ] = None,
    split_by_date: Annotated[
        str | None, typer.Option(metavar="COLUMN=DAY[,DAY]", help="Split by day: the later splits begin on these.")
    ] = None,
    clean: Annotated[bool, typer.Option(help="Repair Unicode; drop empty and absurdly long texts.")] = True,
    deidentify: Annotated[bool, typer.Option(help="Replace names, dates, numbers … of patients.")] = True,
    deduplicate: Annotated[bool, typer.Option(help="Drop exact and near duplicates.")] = True,
    augment: Annotated[int, typer.Option(metavar="N", min=0, help="Bring rare labels to N training cases.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and the augmentation.")] = 1,
    num_workers: Annotated[int | None, typer.Option(min=1, help="Processes; else one per core.")] = None,
) -> None:
    """Clean, de-identify, deduplicate and split rows into shards that `train` reads."""
    from distmed.prepare.prepare import prepare as run
    from distmed.prepare.settings import settings_of
    from distmed.prepare.watch import Watch

    settings = settings_of(
        sources,
        format=format,
        columns=columns or (),
        where=where or (),
        limit=limit,
        without=without or (),
        without_format=without_format,
        group_by=group_by,
        split=split,
        split_by_date=split_by_date,
        clean=clean,
        deidentify=deidentify,
        deduplicate=deduplicate,
        augment=augment,
        seed=seed,
    )
    try:
        report = run(settings, out, processes=num_workers or os.cpu_count() or 1, watch=Watch(sys.stdout))
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command continues", err=True)
        raise typer.Exit(INTERRUPTED) from None
    report.show(out, sys.stdout)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A Hugging Face folder or hub id, a run, or a checkpoint.")],
    data: Annotated[str, typer.Option(help="The cases to measure on: a file, a folder, a URL, a hub id.")],
    out: Annotated[Path, typer.Option(help="The folder for metrics.json, predictions.parquet and report.html.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value …]", help="How cases are put, such as choice.shots=5.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="How a row becomes a case, as in a recipe.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=COLUMN", help="For raw tables in the format columns.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="Training cases: for the linear floor, and for solved examples.")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Cases for temperature and thresholds; none of them in --data.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="A second model, compared on the same cases.")] = None,
    num_workers: Annotated[int, typer.Option(min=1, help="Scorers side by side, one per GPU.")] = 1,
    map: Annotated[
        Path | None, typer.Option(help="A CSV that maps the data's labels to the model's: data,model.")
    ] = None,
    small_cells: Annotated[bool, typer.Option("--small-cells", help="Show cells of fewer than 5 patients.")] = False,
    with_text: Annotated[
        bool, typer.Option("--with-text", help="Put what the model reads of each case into predictions.parquet.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray and the scorers print.")] = False,
) -> None:
    """Measure a model: the evidence for its diagnoses, or for two models side by side."""
    from distmed.evaluate.command import Request
    from distmed.evaluate.command import evaluate as run_evaluation

    request = Request(
        model,
        data,
        out,
        format,
        train,
        calibration,
        against,
        num_workers,
        map,
        small_cells,
        tuple(overrides or []),
        with_text,
        tuple(columns or []),
    )
    raise typer.Exit(run_evaluation(request, verbose=verbose))


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A Hugging Face folder or hub id, a run, or a checkpoint.")],
    data: Annotated[str, typer.Option(help="The cases; they need no label.")],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet, .jsonl or .csv.")],
    format: Annotated[str | None, typer.Option(help="How a row becomes a case, as in a recipe.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=COLUMN", help="For a table in the format columns: text, id …")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="The folder of an evaluation, for its temperature and abstention threshold.")
    ] = None,
    num_workers: Annotated[int, typer.Option(min=1, help="Scorers side by side, one per GPU.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray and the scorers print.")] = False,
) -> None:
    """Diagnose cases: the likeliest diagnoses of each, how sure, and when to abstain."""
    from distmed.evaluate.predict import predict as run_prediction

    status = run_prediction(
        model,
        data,
        out,
        format=format,
        columns=columns or (),
        calibration=calibration,
        workers=num_workers,
        verbose=verbose,
    )
    raise typer.Exit(status)


@app.command()
def plan(
    arguments: Annotated[
        list[str], typer.Argument(metavar="RECIPE [key=value …]", help="A YAML file, then overrides.")
    ],
    gpus: Annotated[
        str | None,
        typer.Option(metavar="COUNTxNAME", help="GPUs of each host, as 8xH100-80; else CPUs like this machine's."),
    ] = None,
    nodes: Annotated[int, typer.Option(help="Number of hosts.")] = 1,
    price: Annotated[float | None, typer.Option(help="Price of one device per hour.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Say before a launch whether it fits, how long it takes, what it costs, and what would help."""
    import json

    from distmed.plan.show import show
    from distmed.recipe_file import load_recipe
    from distmed.train.foresight import plan_recipe

    found = plan_recipe(load_recipe(arguments[0], arguments[1:]), gpus=gpus, nodes=nodes, price=price)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else show(found))


@app.command()
def tune(
    recipe: Annotated[Path, typer.Argument(help="A YAML file with a `tune:` block.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[key=value …]", help="As for train.")] = None,
    num_trials: Annotated[int | None, typer.Option(min=1, help="Settings to try; overrides tune.trials.")] = None,
    num_workers: Annotated[int | None, typer.Option(min=1, help="Workers of each trial.")] = None,
    name: Annotated[str | None, typer.Option(help="The search goes to runs/NAME; overrides name.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a search; no finished trial runs again.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray, DeepSpeed and the workers print.")] = False,
) -> None:
    """Search for a better recipe. Writes best.yaml, which `train` takes as it is."""
    from distmed.recipe_file import load_recipe
    from distmed.tune.command import run

    options = {"tune.trials": num_trials, "cluster.num_workers": num_workers, "name": name}
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    raise typer.Exit(run(load_recipe(recipe, [*(overrides or []), *given]), resume=resume, verbose=verbose))


@app.command()
def doctor(
    storage: Annotated[str | None, typer.Argument(help="Where checkpoints will lie; else where runs go.")] = None,
) -> None:
    """What this machine, or the cluster at RAY_ADDRESS, can do, and what is wrong with it."""
    from distmed.cluster.doctor import examine

    failed = False
    for finding in examine(storage):
        typer.echo(finding.line())
        failed = failed or finding.state == "fail"
    raise typer.Exit(FAILED if failed else DONE)


@app.command()
def export(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of a run (a folder or URL), or the run itself.")],
    out: Annotated[Path, typer.Option(help="The Hugging Face folder to write.")],
    dtype: Annotated[
        str | None, typer.Option(metavar="float32|bf16|fp16", help="Type of the weights; else that of training.")
    ] = None,
    adapters: Annotated[bool, typer.Option("--adapters", help="LoRA adapters alone, for peft, not merged.")] = False,
    max_shard_gb: Annotated[
        float, typer.Option(min=0.001, help="Largest file, and so the memory that an export takes.")
    ] = 5,
) -> None:
    """Write a Hugging Face folder from a sharded checkpoint."""
    from distmed.checkpoint.publish import export_checkpoint, find_checkpoint, known_dtype, run_of

    folder = find_checkpoint(checkpoint)
    size = int(max_shard_gb * 1e9)
    known = known_dtype(dtype)
    export_checkpoint(folder, out, dtype=known, adapters=adapters, max_shard_bytes=size, run=run_of(checkpoint))
    typer.echo(f"{out} from {folder}")
    if not (out / "README.md").is_file():
        typer.echo(
            "note: without a model card, since the run's recipe is not there: name the run instead of the checkpoint"
        )


def main(argv: list[str] | None = None) -> None:
    """Run a verb; a UserError, or what a file system refuses, becomes two lines and status 2."""
    with mistakes_told():
        try:
            app(args=argv, prog_name="distmed")
        except OSError as error:
            refused = refusal(error, Path.cwd())
            if refused is None:
                raise
            raise refused from error
