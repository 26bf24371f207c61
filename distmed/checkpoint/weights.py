"""Which tensors a Hugging Face folder gets, and how each is put together from a checkpoint and the base model.

An opened checkpoint and the base folder flow in; outputs flow out, each with its name and shape, made only when asked
for. Low-rank adapters are merged: W' = W + alpha/r · B·A (Hu et al. 2021, arXiv:2106.09685), and with DoRA each row of W' is
given the norm that was trained (Liu et al. 2024, arXiv:2402.09353). Or they stay apart, under the names that peft loads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distmed.checkpoint.frozen import partial_hash, wrapped_sum
from distmed.checkpoint.read import FROZEN, MASTER, Checkpoint, whole
from distmed.checkpoint.storage import Storage
from distmed.checkpoint.tensors import TensorFile, dtype_of
from distmed.errors import UserError
from distmed.model.quantize import CODES, NESTED, SCALES
from distmed.model.weight_files import header, weight_files

PEFT_PREFIX = "base_model.model."
_BASE_LAYER, _SAVED, _ORIGINAL = ".base_layer.", ".modules_to_save.default.", ".original_module."
_LORA_A, _LORA_B = ".lora_A.default.weight", ".lora_B.default.weight"
_NAME_THE_BASE = "name the folder of the base model that the run began with"
_MAGNITUDE = ".lora_magnitude_vector.default.weight"


@dataclass(frozen=True)
class Output:
    """One tensor of the exported folder."""

    name: str
    shape: list[int]
    dtype: torch.dtype
    make: Callable[[], Tensor]


def without_wrapper(name: str) -> str:
    """The Hugging Face name of a parameter: the wrapper's `hf.` and peft's prefix taken off."""
    return name.removeprefix("hf.").removeprefix(PEFT_PREFIX)


class BaseWeights:
    """The safetensors of the base model, for frozen weights that the checkpoint names but does not hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stored: dict[str, tuple[Path, list[int]]] = {
            key: (path, entry["shape"])
            for path in weight_files(folder)
            if path.is_file()
            for key, entry in header(path)[0].items()
        }

    def find(self, name: str, shape: list[int]) -> Tensor | None:
        """A base model without its task's head lacks the outermost prefix (`bert.`), or has one that the trained
        model lacks."""
        for key in self._candidates(name):
            path, own = self._stored[key]
            if own == shape:
                file = TensorFile(Storage.at(path))
                try:
                    return file.read(key)
                finally:
                    file.close()
        return None

    def shape_of(self, name: str) -> list[int]:
        for key in self._candidates(name):
            return self._stored[key][1]
        raise UserError(f"frozen weight {name} is not in {self.folder}", _NAME_THE_BASE)

    def _candidates(self, name: str) -> list[str]:
        same = [key for key in self._stored if key == name]
        return same + [key for key in self._stored if name.endswith(f".{key}") or key.endswith(f".{name}")]


def outputs(
    checkpoint: Checkpoint,
    base: Path,
    dtype: torch.dtype,
    rename: Callable[[str], str],
    *,
    tied: bool,
    lora_scale: float | None,
) -> list[Output]:
    """All tensors in the model's order, floating ones in `dtype`. `tied`: the output layer is the embedding, so not
    repeated."""
    base_weights = BaseWeights(base)
    found: list[Output] = []
    adapted = {name.partition(_BASE_LAYER)[0] for name in checkpoint.parameters if _BASE_LAYER in name}
    for name, parameter in checkpoint.parameters.items():
        layer = name.removesuffix(_LORA_A)
        if name.endswith(_LORA_A) and layer not in adapted:
            raise UserError(
                f"the adapter of {rename(layer)} has no weight to be merged with: it is that of another layer",
                "export the adapters alone, with --adapters",
            )
        if name.endswith((_LORA_A, _LORA_B, _MAGNITUDE, SCALES, NESTED)) or _ORIGINAL in name:
            continue
        if ".lora_" in name:
            raise UserError(f"no merge is known for the adapter weight {name}", "use plain LoRA on linear layers")
        target = rename(name).replace(_BASE_LAYER, ".").replace(_SAVED, ".")
        shape, kind = parameter.shape, _kept(dtype_of(parameter.dtype), dtype)
        if name.endswith(CODES):
            target = target.removesuffix(CODES) + ".weight"
            shape, kind = base_weights.shape_of(target), dtype
        layer = name.partition(_BASE_LAYER)[0]
        adapter = layer if _BASE_LAYER in name and layer + _LORA_A in checkpoint.parameters else None
        if adapter and target.endswith(".weight"):
            make = _merged(checkpoint, base_weights, name, adapter, target, lora_scale, kind)
        else:
            make = _plain(checkpoint, base_weights, name, target, kind)
        found.append(Output(target, shape, kind, make))
    for name, buffer in checkpoint.buffers().items():
        kept = _kept(buffer.dtype, dtype)
        found.append(Output(rename(name), list(buffer.shape), kept, lambda buffer=buffer, kept=kept: buffer.to(kept)))  # type: ignore[misc]
    embedding = any(output.name.endswith(("embed_tokens.weight", "wte.weight", "embed_in.weight")) for output in found)
    return [output for output in found if not (tied and embedding and output.name == "lm_head.weight")]


def adapter_outputs(checkpoint: Checkpoint, base: Path, dtype: torch.dtype) -> list[Output]:
    """The trained tensors alone, by the names of peft's adapter_model.safetensors."""
    base_weights = BaseWeights(base)
    found: list[Output] = []
    for name, parameter in checkpoint.parameters.items():
        # Frozen ones belong to the base; `original_module` is what a head trained in full has replaced.
        if _ORIGINAL in name or not (".lora_" in name or _SAVED in name):
            continue
        target = name.removeprefix("hf.").replace(_SAVED, ".").replace(".default.weight", ".weight")
        target = target.replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector")
        kind = _kept(dtype_of(parameter.dtype), dtype)
        found.append(Output(target, parameter.shape, kind, _plain(checkpoint, base_weights, name, target, kind)))
    return found


def _kept(own: torch.dtype, wanted: torch.dtype) -> torch.dtype:
    return wanted if own.is_floating_point else own


def _plain(
    checkpoint: Checkpoint, base: BaseWeights, name: str, target: str, dtype: torch.dtype
) -> Callable[[], Tensor]:
    return lambda: _weight(checkpoint, base, name, target).to(dtype)


def _merged(
    checkpoint: Checkpoint,
    base: BaseWeights,
    name: str,
    layer: str,
    target: str,
    scale: float | None,
    dtype: torch.dtype,
) -> Callable[[], Tensor]:
    if scale is None:
        raise ValueError(f"{checkpoint.folder.name} has adapters: they need lora_scale, alpha / rank, to be merged")

    def make() -> Tensor:
        A_RI = _weight(checkpoint, base, layer + _LORA_A, "").float()
        B_OR = _weight(checkpoint, base, layer + _LORA_B, "").float()
        merged_OI = _weight(checkpoint, base, name, target).float() + scale * (B_OR @ A_RI)
        if layer + _MAGNITUDE in checkpoint.parameters:
            norm_O = _weight(checkpoint, base, layer + _MAGNITUDE, "").float()
            merged_OI *= (norm_O / merged_OI.norm(dim=1))[:, None]
        return merged_OI.to(dtype)

    return make


def _weight(checkpoint: Checkpoint, base: BaseWeights, name: str, target: str) -> Tensor:
    """The master of a trained weight; a frozen one from the checkpoint if it is there, else from the base, held to
    its hash."""
    if name.endswith(CODES):
        return _unpacked(checkpoint, base, name, target)
    parameter = checkpoint.parameters[name]
    if parameter.group is not None:
        return whole(checkpoint, MASTER, name)
    if parameter.stored:
        return whole(checkpoint, FROZEN, name)
    weight = base.find(target, parameter.shape)
    if weight is None:
        raise UserError(f"frozen weight {target} is neither in the checkpoint nor in {base.folder}", _NAME_THE_BASE)
    weight = weight.to(dtype_of(parameter.dtype))
    _check_hash(checkpoint, base, name, target, weight)
    return weight


def _unpacked(checkpoint: Checkpoint, base: BaseWeights, name: str, target: str) -> Tensor:
    """A weight that was trained in 4 bits, as the run saw it: packed once more, and held to the hashes of all its parts."""
    from distmed.model.quantize import check_installed, pack, unpack

    check_installed()
    weight_OI = base.find(target, base.shape_of(target))
    assert weight_OI is not None
    packed = pack(weight_OI)
    for part, bytes_ in packed._asdict().items():
        _check_hash(checkpoint, base, f"{name.removesuffix(CODES)}.{part}", target, bytes_)
    return unpack(packed, (weight_OI.shape[0], weight_OI.shape[1]), torch.float32)


def _check_hash(checkpoint: Checkpoint, base: BaseWeights, name: str, target: str, weight: Tensor) -> None:
    saved = wrapped_sum([marker.frozen_hashes[name] for marker in checkpoint.markers])
    if partial_hash(weight.view(-1), 0) != saved:
        raise UserError(f"{target} in {base.folder} is not the weight that the run was trained with", _NAME_THE_BASE)


def config_of(base: Path) -> dict[str, Any]:
    """The base model's config.json."""
    path = base / "config.json"
    if not path.is_file():
        raise UserError(f"no config.json in {base}", "name the folder with the model's configuration and tokenizer")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config
