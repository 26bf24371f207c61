"""The verbs of `distmed`: each parses, calls one function and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from distmed import __version__, shipped
from distmed.errors import UserError

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
        bool, typer.Option("--resume", help="Continue the newest complete checkpoint of the run.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what Ray, DeepSpeed and the workers print.")] = False,
) -> None:
    """Fine-tune a model. Without a recipe: with that of the run to resume, or else the built-in smoke run."""
    from distmed.recipe import load_recipe
    from distmed.train.driver import run, run_folder

    words = arguments or []
    path = Path(words[0]) if words and "=" not in words[0] else None
    overrides = words if path is None else words[1:]
    if num_workers is not None:
        overrides = [*overrides, f"cluster.num_workers={num_workers}"]
    if name is not None:
        overrides = [*overrides, f"name={name}"]
    if path is None:
        names = ["smoke", *(word.removeprefix("name=") for word in overrides if word.startswith("name="))]
        earlier = run_folder(names[-1]).recipe
        path = earlier if resume and earlier.is_file() else shipped.folder("recipes") / "smoke.yaml"
    raise typer.Exit(run(load_recipe(path, overrides), resume=resume, verbose=verbose))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint folder of a run, or the run itself.")],
    out: Annotated[Path, typer.Option(help="The Hugging Face folder to write.")],
) -> None:
    """Write a Hugging Face folder from a sharded checkpoint."""
    from distmed.checkpoint.publish import export_checkpoint, find_checkpoint

    folder = find_checkpoint(checkpoint)
    export_checkpoint(folder, out)
    typer.echo(f"{out} from {folder}")


def main(argv: list[str] | None = None) -> None:
    """Run a verb; a UserError becomes two lines and status 2."""
    try:
        app(args=argv, prog_name="distmed")
    except UserError as error:
        typer.echo(f"error: {error.message}\n  fix: {error.hint}", err=True)
        sys.exit(2)
