"""The run directory: the only place that names the files inside it."""

from __future__ import annotations

from pathlib import Path


class RunDir:
    """`runs/NAME` and what lies in it. Making the object touches no disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def saved(self) -> Path:
        """The step of the newest checkpoint, wherever checkpoints lie."""
        return self.path / "saved.json"

    @property
    def model(self) -> Path:
        """The exported Hugging Face folder."""
        return self.path / "model"

    @property
    def base(self) -> Path:
        """Config and tokenizer of a built-in model, made before the run."""
        return self.path / "base"

    @property
    def data(self) -> Path:
        """The shards and token counts made from raw sources."""
        return self.path / "data"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def probe(self) -> Path:
        """Logits of a few eval cases at the best evaluation; an export is compared with them."""
        return self.path / "evaluation" / "probe.pt"

    @property
    def wandb(self) -> Path:
        return self.path / "wandb"

    @property
    def profile(self) -> Path:
        """Traces and memory of every rank, where the recipe asks for them."""
        return self.path / "profile"

    @property
    def nccl(self) -> Path:
        """On GPUs what each rank was waiting for when a collective took too long, for torch's flight recorder."""
        return self.path / "nccl"

    @property
    def lock(self) -> Path:
        """Which process trains this run now."""
        return self.path / "lock.json"

    @property
    def log(self) -> Path:
        """What Ray, DeepSpeed and the workers print."""
        return self.path / "log.txt"
