"""Recipe: every knob of a run, with its default, its check and one sentence on what it does.

Plain values flow in, a checked `Recipe` flows out. How one is read from a file, and how its faults are told: recipe_file.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from distmed.credentials import without_credentials
from distmed.recipe_checks import check_across_sections
from distmed.tuning import Change, Tune

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lora(Section):
    """Train small low-rank matrices beside frozen weights (Hu et al. 2021, arXiv:2106.09685)."""

    rank: PositiveInt = Field(16, description="Inner dimension of the adapters.")
    alpha: Positive = Field(32, description="The adapters' output is scaled by alpha / rank.")
    dropout: Fraction = Field(0.0, description="Dropout on the adapters' input.")
    targets: str | list[str] = Field("all-linear", description="Names of the linear layers that get an adapter.")
    rank_stabilized: bool = Field(False, description="Scale by alpha / √rank instead (arXiv:2312.03732).")
    dora: bool = Field(False, description="Train the norms of the weights' rows as well (arXiv:2402.09353).")


class Model(Section):
    path: str = Field(description="A Hugging Face folder, a hub id, or builtin:tiny-llama (made on the spot).")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub id.")
    init: Literal["pretrained", "random"] = Field(
        "pretrained", description="Use the weights, or only the architecture."
    )
    lora: Lora | None = Field(None, description="Train adapters instead of all weights.")
    attention: Literal["sdpa", "flash2", "flash3", "flex"] = Field(
        "sdpa", description="The kernel of a decoder's attention; all but sdpa need a GPU, flash its package and bf16."
    )
    quantize: Literal["nf4"] | None = Field(
        None, description="Hold the frozen weights under adapters in 4 bits (QLoRA, arXiv:2305.14314)."
    )
    freeze: list[str] = Field([], description="Patterns of parameters that are not trained: `*embed*`, `*.layers.0.*`.")
    dropout: Fraction | None = Field(None, description="Overrides every dropout of the model; null keeps its own.")
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model, which can do anything on this machine."
    )


class Source(Section):
    source: str = Field(
        description="A file, a glob, a folder, a hub id, s3://… gs://… hf://…, or builtin:patients/train."
    )
    format: str = Field("columns", description="How a row becomes a case: a known data set by name, or `columns`.")
    where: dict[str, Any] = Field({}, description="Keep only rows whose columns have these values.")
    columns: dict[str, str] = Field(
        {}, description="For the format `columns`: which column is text, label, id, group, …"
    )
    groups: tuple[Fraction, Annotated[float, Field(gt=0, le=1)]] | None = Field(
        None,
        description="Keep the groups (patients, papers) whose hash lies in [low, high): a split by group, [0.1, 1] for train.",
    )
    limit: PositiveInt | None = Field(None, description="Take only this many cases from the start.")
    weight: Positive | None = Field(
        None, description="Share of this source in a mixture; null for all: each case once an epoch."
    )


class Data(Section):
    train: list[Source] = Field(min_length=1, description="What the model learns from.")
    eval: list[Source] = Field([], description="What the model is measured on, every `train.eval_every` steps.")
    test: list[Source] = Field([], description="Scored once by `distmed tune`, for the winner; no other verb reads it.")
    seq_len: Annotated[int, Field(ge=8)] = Field(256, description="Tokens of one sequence; packed cases share it.")
    packing: bool = Field(
        True, description="Put several short cases into one sequence, without attention between them."
    )
    unknown_labels: Literal["refuse", "count"] = Field(
        "refuse", description="An eval case whose label train never had stops the run, or counts as answered wrongly."
    )
    on_end: Literal["wrap", "stop"] = Field(
        "wrap",
        description="A source that has had its epochs before the others starts again until all have had them, or ends the run.",
    )
    on_error: Literal["stop", "skip"] = Field(
        "stop",
        description="A row group that cannot be read stops the run, or is skipped within the budget and reported.",
    )
    skip_budget: Fraction = Field(
        0.001, description="Share of the rows that may be skipped; more of them stop the run."
    )
    token_cache: Literal["auto", "ids", "counts"] = Field(
        "auto",
        description="Keep token ids on disk, or only counts and tokenize again; auto: ids, if half the free disk will do.",
    )
    long_cases: Literal["refuse", "drop", "cut"] = Field(
        "refuse",
        description="A case longer than seq_len stops the run, is dropped, or is cut, and is counted; in eval none is dropped.",
    )
    class_weights: Literal["none", "balanced", "effective"] = Field(
        "none",
        description="For classify: weight of a case's loss by its class, n/(k·count) or effective number (arXiv:1901.05555).",
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural", description="Each case once an epoch, or a draw list in which every class has the same share."
    )
    drop_findings: Fraction = Field(
        0.0, description="Chance that a finding is left out in training, keyed by case and epoch."
    )
    shuffle_findings: bool = Field(False, description="Shuffle the findings in training, keyed by case and epoch.")
    excluded_findings: bool = Field(
        True, description="Whether the text tells the findings that were looked for and not found."
    )


class Profile(Section):
    """A PyTorch trace and a memory snapshot of every rank, in the run's folder `profile`."""

    steps: tuple[PositiveInt, PositiveInt] = Field((10, 13), description="The first step, and the one after the last.")

    @model_validator(mode="after")
    def _some_steps(self) -> Profile:
        if self.steps[0] >= self.steps[1]:
            raise ValueError(f"no step lies from {self.steps[0]} to before {self.steps[1]}")
        return self


class Train(Section):
    epochs: Positive = Field(3, description="Passes over the data.")
    max_steps: PositiveInt | None = Field(
        None, description="Stop after this many optimizer steps, whatever `epochs` says."
    )
    global_batch: PositiveInt = Field(32, description="Sequences of one optimizer step, over all workers.")
    micro_batch: PositiveInt = Field(
        8, description="Sequences a worker takes at once; the rest is gradient accumulation."
    )
    seed: Annotated[int, Field(ge=0)] = Field(1, description="Order of the data, fresh weights, dropout.")
    log_every: PositiveInt = Field(10, description="Steps between two lines of metrics.jsonl.")
    eval_every: PositiveInt | None = Field(None, description="Steps between two evaluations; null: once an epoch.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 where the hardware multiplies it (GPU, AMX, AVX512-BF16), else fp32."
    )
    activation_checkpointing: bool | Literal["offload"] = Field(
        False, description="Recompute activations in the backward pass; offload: and keep what is left in host memory."
    )
    mlp_tiles: PositiveInt = Field(
        1,
        description="Parts of a micro-batch's tokens that a decoder's MLP computes one after the other, to save memory.",
    )
    loss: Literal["cross_entropy", "focal", "logit_adjusted"] = Field(
        "cross_entropy",
        description="For classify; focal: arXiv:1708.02002, logit_adjusted: arXiv:2007.07314, for labels equally frequent.",
    )
    focal_gamma: NonNegative = Field(2.0, description="Focusing of the focal loss; 0 is cross entropy.")
    label_smoothing: Fraction = Field(0.0, description="Probability mass spread over all classes.")
    profile: Profile | None = Field(None, description="Profile a few steps: {steps: [10, 13]} are 10, 11 and 12.")
    linear_floor: bool = Field(
        False, description="Fit TF-IDF + logistic regression on the same cases, to print beside the result."
    )


class Optimizer(Section):
    name: Literal["adamw"] = Field("adamw", description="Adam with decoupled weight decay (arXiv:1711.05101).")
    lr: Positive = Field(3e-4, description="Peak learning rate.")
    head_lr: Positive | None = Field(None, description="Peak learning rate of a fresh classification head; null: lr.")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="Decay of the running moments.")
    eps: Positive = Field(1e-8, description="Added to the root of the second moment.")
    weight_decay: NonNegative = Field(0.01, description="Not applied to norms and biases.")
    warmup: NonNegative = Field(0.05, description="Below 1 a fraction of all steps, else a number of steps.")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="After the warm-up.")
    max_grad_norm: Positive | None = Field(1.0, description="Clip the global gradient norm; null: never.")


class Checkpoint(Section):
    every: PositiveInt | None = Field(None, description="Steps between two checkpoints; null: once an epoch.")
    keep: PositiveInt = Field(2, description="How many of the newest stay, beside the best.")
    best: str = Field("eval/loss", description="The metric whose best checkpoint is kept and exported.")
    storage_path: str | None = Field(None, description="Where checkpoints lie; null: in the run directory.")
    retry_s: NonNegative = Field(
        600,
        description="How long a checkpoint that cannot be written, or read at a start, is tried again before the run stops.",
    )

    @field_validator("storage_path")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        """Workers are in other folders than the driver, and all must mean the one that the user is in."""
        return path if path is None or "://" in path else str(Path(path).expanduser().resolve())


class Tracking(Section):
    wandb: Literal["auto", "online", "offline", "disabled"] = Field(
        "auto", description="auto: online with a key, else offline. WANDB_MODE takes precedence."
    )
    project: str = Field("distmed", description="W&B project.")
    group: str | None = Field(None, description="W&B group.")
    tags: list[str] = Field([], description="W&B tags.")
    log_examples: bool = Field(False, description="Let cells of fewer than 5 patients go to W&B's tables and plots.")


def _workers(value: Any) -> int | tuple[int, int]:
    """A number, or the least and the most of an elastic run."""
    numbers = value if isinstance(value, list | tuple) else [value]
    whole = all(type(number) is int and number > 0 for number in numbers)
    if not whole or not (numbers is not value or (len(numbers) == 2 and numbers[0] <= numbers[1])):
        raise PydanticCustomError("workers", "Input should be a number of at least 1, or [least, most]")
    return (numbers[0], numbers[1]) if numbers is value else numbers[0]


def _plain(value: int | tuple[int, int]) -> int | list[int]:
    return list(value) if isinstance(value, tuple) else value


class Cluster(Section):
    num_workers: Annotated[int | tuple[int, int], PlainValidator(_workers), PlainSerializer(_plain)] = Field(
        1,
        description="World size: one worker per GPU, or CPU processes. [2, 8]: as many as there is room for, from 2 to 8.",
    )
    sequence_parallel: PositiveInt = Field(
        1, description="Workers that share the tokens of each sequence (Ulysses, arXiv:2309.14509); for generate."
    )
    max_failures: Annotated[int, Field(ge=-1)] = Field(3, description="Restarts after a lost worker; -1: no limit.")
    max_preemptions: Annotated[int, Field(ge=-1)] = Field(
        -1, description="Restarts after a host was taken away with notice; -1: no limit."
    )
    wait_s: NonNegative = Field(0, description="How long to wait for the workers' resources.")
    collective_timeout_s: Positive = Field(
        600,
        description="A collective that takes longer ends the attempt; below stall_timeout_s, to be told which it was.",
    )
    stall_timeout_s: Positive = Field(900, description="The attempt ends when there was no step for this long.")

    @property
    def least(self) -> int:
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def most(self) -> int:
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers


class Choice(Section):
    chat: Literal["auto", "always", "never"] = Field(
        "auto", description="Ask as a chat; auto: if the model has a chat template."
    )
    letter_prompt: str | None = Field(None, description="Jinja over `question` and `options`; null: built in.")
    text_prompt: str | None = Field(None, description="The same for scoring options by their text; null: built in.")
    answers: list[str] = Field(["yes", "no", "maybe"], description="How a question without options is answered.")
    shots: Annotated[int, Field(ge=0)] = Field(0, description="Solved questions of train shown before each one.")
    shot_choice: Literal["fixed", "nearest"] = Field("fixed", description="The same for all, or the most similar.")
    shot_seed: Annotated[int, Field(ge=0)] = Field(1, description="Seed of the draw of fixed shots.")
    max_new_tokens: PositiveInt = Field(16, description="Longest generated answer.")


class Recipe(Section):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="The run is written to runs/NAME.")
    task: Literal["classify", "generate"] = Field(description="A head over the diagnoses, or the answer as text.")
    model: Model
    data: Data
    train: Train = Train()
    optimizer: Optimizer = Optimizer()
    deepspeed: str = Field("zero3", description="A name in ds_configs/, or the path of your own JSON.")
    checkpoint: Checkpoint = Checkpoint()
    tracking: Tracking = Tracking()
    cluster: Cluster = Cluster()
    choice: Choice = Choice()
    changes: list[Change] = Field([], description="Changes of settings in the middle of the run, as pbt found them.")
    tune: Tune | None = Field(None, description="What `distmed tune` searches; the other verbs leave it alone.")

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        check_across_sections(self)
        return self

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)

    def write(self, path: Path) -> None:
        """A file from which the run can be repeated; for its owner alone where a URL in it carries credentials."""
        text = self.to_yaml()
        if without_credentials(text) != text:
            path.touch(0o600)
            path.chmod(0o600)
        path.write_text(text, encoding="utf-8")
