"""Tracking: metrics.jsonl in the run directory, and a Weights & Biases run with the same names.

Metrics of steps and evaluations flow in; lines of strict JSON and a W&B run flow out. Only the recipe, class names and
numbers leave: no case id, no text, no code, no command line. If W&B fails, the training goes on without it.
"""

from __future__ import annotations

import json
import math
import netrc
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from distmed.credentials import without_credentials
from distmed.errors import UserError
from distmed.evaluate.figure import SMALLEST_CELL
from distmed.evaluate.metrics import Confusion, DiseaseRow
from distmed.evaluate.plots import Plot
from distmed.recipe import Recipe
from distmed.rundir import RunDir

if TYPE_CHECKING:
    from wandb import Run

Mode = Literal["online", "offline", "disabled"]
MODES: dict[str, Mode] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
INIT_TIMEOUT_S = 60


class Tracker:
    """Keeps the record of one run over all its attempts. `notes` collects what a person should be told."""

    def __init__(self, recipe: Recipe, run: RunDir) -> None:
        run.path.mkdir(parents=True, exist_ok=True)
        self.notes: list[str] = []
        self._metrics = run.metrics
        self._attempt = 1
        self._shows_few = recipe.tracking.log_examples
        self._wandb: Run | None = None
        mode = wandb_mode(recipe.tracking.wandb)
        if mode != "disabled":
            self._guarded(lambda: self._start_wandb(recipe, run, mode))

    def attempt_starts(self, step: int, attempt: int) -> None:
        """Training goes on after `step`: later lines are cut.

        W&B cannot forget; there the repeated steps carry a higher `attempt`.
        """
        self._attempt = attempt
        cut_back(self._metrics, step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one optimizer step."""
        record = {"step": step, "attempt": self._attempt, **metrics}
        self._write(record)
        self._to_wandb(lambda run: run.log(record))

    def log_late(self, step: int, evaluation: Mapping[str, float]) -> None:
        """The evaluation of a step that was logged without it, in place of one that an attempt before this made late, too."""
        _keep(self._metrics, lambda line: line["step"] != step or "train/loss" in line)
        self.log(step, evaluation)

    def log_tables(
        self,
        step: int,
        confusion: Sequence[Confusion],
        per_disease: Sequence[DiseaseRow],
        plots: Sequence[Plot] = (),
    ) -> None:
        """The two tables and the plots of an evaluation; they go to W&B only, with class names.

        Cells of fewer than five patients stay here, unless the recipe lets examples out.
        """
        least = 1 if self._shows_few else SMALLEST_CELL
        shown = [cell for cell in confusion if cell.n >= least]
        rows = [row for row in per_disease if row.n >= least]
        # The tables and charts are made inside, for making one needs W&B, and may fail like it.
        self._to_wandb(
            lambda run: run.log({"step": step, "attempt": self._attempt, **_tables(shown, rows), **_charts(plots)})
        )

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Close the W&B run with the run's final figures, as failed if there are none."""

        def close(run: Run) -> None:
            import wandb

            run.summary.update({name: value for name, value in summary.items() if not isinstance(value, dict)})
            run.finish(exit_code=0 if summary else 1)
            # The file of an offline run is written by W&B's own process, after `finish` has returned; this waits for its end.
            wandb.teardown()

        self._to_wandb(close)
        self._wandb = None

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps({name: _strict(value) for name, value in record.items()}, allow_nan=False)
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _start_wandb(self, recipe: Recipe, run: RunDir, mode: Mode) -> None:
        import wandb

        run.wandb.mkdir(exist_ok=True)
        # Tables wait here for their upload, and an offline run needs them for `wandb sync`: they belong to the run.
        os.environ.setdefault("WANDB_DATA_DIR", str(run.wandb / "data"))
        try:
            self._wandb = _init(recipe, run, mode)
        except wandb.Error as error:
            if mode == "offline":
                raise
            self.notes.append(f"W&B cannot be reached ({type(error).__name__}): this run is tracked offline")
            self._wandb = _init(recipe, run, "offline")
        self._wandb.define_metric("step", hidden=True)
        self._wandb.define_metric("*", step_metric="step")

    def _to_wandb(self, call: Callable[[Run], None]) -> None:
        if self._wandb is not None:
            run = self._wandb
            self._guarded(lambda: call(run))

    def _guarded(self, call: Callable[[], None]) -> None:
        import wandb

        try:
            call()
        except (wandb.Error, OSError) as error:
            # A run is worth more than its curve on a service, and metrics.jsonl keeps the curve.
            self._wandb = None
            self.notes.append(f"W&B stopped ({type(error).__name__}): metrics.jsonl goes on without it")


def wandb_mode(configured: str) -> Mode:
    """WANDB_MODE if it is set, else the recipe's; `auto` is online where a key is found, offline otherwise.

    Raises UserError for a WANDB_MODE that does not exist.
    """
    wanted = os.environ.get("WANDB_MODE", "").strip().lower() or configured
    if wanted == "auto":
        return "online" if _has_key() else "offline"
    if wanted not in MODES:
        raise UserError(f"WANDB_MODE={wanted} is no mode of W&B", "set it to online, offline or disabled, or unset it")
    return MODES[wanted]


def wandb_environment() -> dict[str, str]:
    """A cluster that was there before knows nothing of this shell's W&B settings."""
    return {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}


def cut_back(metrics: Path, step: int) -> None:
    """Keep the lines of metrics.jsonl up to `step`, and no half-written one."""
    _keep(metrics, lambda line: line["step"] <= step)


def _keep(metrics: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    if not metrics.exists():
        return
    kept: list[str] = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            if wanted(json.loads(line)):
                kept.append(line + "\n")
    fresh = metrics.with_name(metrics.name + ".tmp")
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(metrics)


def _init(recipe: Recipe, run: RunDir, mode: Mode) -> Run:
    import wandb

    # W&B reads it again, and stops at spellings that `wandb_mode` takes, an empty one among them.
    os.environ["WANDB_MODE"] = mode
    return wandb.init(
        project=recipe.tracking.project,
        name=recipe.name,
        group=recipe.tracking.group,
        tags=recipe.tracking.tags,
        config=without_credentials(recipe.model_dump(mode="json")),
        id=_run_id(run),
        resume="allow" if mode == "online" else None,
        dir=str(run.path),
        mode=mode,
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            save_code=False,
            disable_git=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_save_requirements=False,
            host="",
            program="distmed",
            init_timeout=INIT_TIMEOUT_S,
        ),
    )


def _run_id(run: RunDir) -> str:
    """One W&B run for all attempts and resumes: its id lies beside the offline runs."""
    file = run.wandb / "run_id"
    if not file.exists():
        file.write_text(secrets.token_hex(4) + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    for file in [Path(named)] if named else [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]:
        try:
            if netrc.netrc(file).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _tables(confusion: Sequence[Confusion], per_disease: Sequence[DiseaseRow]) -> dict[str, Any]:
    import wandb

    tables: dict[str, Any] = {}
    if confusion:
        columns: list[str | int] = ["Actual", "Predicted", "nPredictions"]
        cells = wandb.Table(columns=columns, data=[[cell.gold, cell.predicted, cell.n] for cell in confusion])
        fields = {str(name): name for name in columns}
        tables["diag/confusion"] = wandb.plot_table("wandb/confusion_matrix/v1", cells, fields)
    if per_disease:
        tables["diag/per_disease"] = wandb.Table(
            columns=["label", "n", "sensitivity", "ppv", "fewer than 10 cases"],
            data=[[row.label, row.n, row.sensitivity, row.ppv, row.few] for row in per_disease],
        )
    return tables


def _charts(plots: Sequence[Plot]) -> dict[str, Any]:
    import wandb

    return {
        plot.name: wandb.plot.line_series(
            [line.x for line in plot.lines],
            [line.y for line in plot.lines],
            keys=[line.name for line in plot.lines],
            title=plot.title,
            xname=plot.across,
        )
        for plot in plots
    }


def _strict(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
