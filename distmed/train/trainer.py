"""Ray's TorchTrainer without its data sets: cases come from our own stream."""

from __future__ import annotations

from typing import Any

from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback


class Trainer(TorchTrainer):
    """One process less at each start of the workers, and no pass over all of them to hand out the settings of Ray Data."""

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]
        return [callback for callback in callbacks if not isinstance(callback, DatasetsCallback)]
