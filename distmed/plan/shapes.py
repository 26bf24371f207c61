"""The sizes of a model, from its config.json alone: parameters by kind, and the activations of one sequence.

A configuration and the parts of a recipe that change the model flow in, a `Shape` flows out. The model is built on the
meta device, so neither weights nor their memory are needed.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from distmed.errors import UserError, first_line
from distmed.model.diagnoser import Diagnoser
from distmed.model.experts import multiplied
from distmed.model.families import FAMILIES
from distmed.model.folder import check_task, find_folder, read_config
from distmed.model.kernels import SDPA
from distmed.model.layers import attention_widths
from distmed.model.lora import freeze_matching, with_lora
from distmed.model.recompute import tile_mlps
from distmed.plan.trace import Traced, trace
from distmed.recipe import Lora, Model, Recipe
from distmed.stream.batch import MicroBatch

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# For tasks whose number of labels is only known once the data were read.
LABELS = 100


@dataclass(frozen=True)
class Shape:
    """Numbers of parameters, and bytes of activations of one sequence in the dtype of training.

    `trained`: of each trained weight, in the model's order. `multiplied`: parameters that each token is multiplied with,
    forward; `largest_layer`: of the largest module of its own; `block`: of one transformer layer. `packable`: of frozen
    linear layers, `largest_packable` of one of them. `vocabulary`: of an output layer that gives losses a chunk of tokens at a
    time, else 0. `attention_width`: heads times head size, the mean of all layers. `saved`, `peak`: see `Traced`, with
    logits that are whole; `kept`: with adapters, what would be saved if nothing were recomputed.
    """

    name: str
    total: int
    trained: tuple[int, ...]
    multiplied: int
    multiplied_trainable: int
    head: int
    head_trainable: int
    largest_layer: int
    block: int
    packable: int
    largest_packable: int
    layers: int
    hidden: int
    vocabulary: int
    attention_width: int
    saved: int
    peak: int
    kept: int

    @property
    def trainable(self) -> int:
        return sum(self.trained)

    @property
    def frozen(self) -> int:
        return self.total - self.trainable


def read_model_config(model: Model) -> PreTrainedConfig:
    """config.json of a folder or a hub id; no weights are fetched. Raises UserError as `distmed train` would."""
    from distmed.model.builtin import TINY_LLAMA, tiny_llama_config

    if model.path == TINY_LLAMA:
        return tiny_llama_config(vocab_size=3072)
    without_weights = model.model_copy(update={"init": "random"})
    return read_config(find_folder(without_weights), without_weights)


def shape_of(
    config: PreTrainedConfig, recipe: Recipe, *, bf16: bool, lora: Lora | None, checkpointing: bool, seq_len: int
) -> Shape:
    """The shape of `config` as `recipe` trains it. Remembered, since advice asks for many variations."""
    key = (
        config.to_json_string(use_diff=False),
        recipe.task,
        bf16,
        _text(lora),
        checkpointing,
        seq_len,
        recipe.data.packing,
        recipe.model.attention,
        recipe.train.mlp_tiles,
        tuple(recipe.model.freeze),
    )
    if key not in _shapes:
        _shapes[key] = _measure(config, recipe, bf16=bf16, lora=lora, checkpointing=checkpointing, seq_len=seq_len)
    return _shapes[key]


_shapes: dict[tuple[Any, ...], Shape] = {}


def _text(lora: Lora | None) -> str:
    return "" if lora is None else lora.model_dump_json()


def _measure(
    config: PreTrainedConfig, recipe: Recipe, *, bf16: bool, lora: Lora | None, checkpointing: bool, seq_len: int
) -> Shape:
    check_task(config, recipe.model, recipe.task)
    dtype = torch.bfloat16 if bf16 else torch.float32
    layers = config.get_text_config().num_hidden_layers
    whole = _build(config, recipe, lora, dtype, layers)

    def activations(recomputed: bool) -> Traced:
        try:
            one, two = (_activations(config, recipe, lora, dtype, min(n, layers), recomputed, seq_len) for n in (1, 2))
        except Exception as error:  # transformers' and peft's code has errors of its own
            raise UserError(
                f"{recipe.model.path}: the activations of {config.model_type} cannot be planned: {first_line(error)}",
                "train a few steps (train.max_steps=3) and look at mem/* in metrics.jsonl",
            ) from error
        return Traced(_of_all(layers, one.saved, two.saved), _of_all(layers, one.peak, two.peak))

    traced = activations(checkpointing)
    text = config.get_text_config()
    parameters = dict(whole.named_parameters())
    embeddings = {id(p) for module in whole.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    output = whole.network.get_output_embeddings()
    head = 0 if output is None else output.weight.numel()
    matrices = [p for p in parameters.values() if id(p) not in embeddings and p.dim() > 1]
    tied = output is not None and id(output.weight) in embeddings
    linear = [module.weight for module in whole.modules() if type(module) is nn.Linear]
    packable = [w.numel() for w in linear if not (w.requires_grad or (output is not None and w is output.weight))]
    return Shape(
        name=config.model_type,
        total=sum(p.numel() for p in parameters.values()),
        trained=tuple(p.numel() for p in parameters.values() if p.requires_grad),
        multiplied=sum(multiplied(p.numel(), p.shape, config) for p in matrices) + (head if tied else 0),
        multiplied_trainable=sum(multiplied(p.numel(), p.shape, config) for p in matrices if p.requires_grad)
        + (head if tied and output.weight.requires_grad else 0),
        head=head,
        head_trainable=head if output is not None and output.weight.requires_grad else 0,
        largest_layer=max(sum(p.numel() for p in m.parameters(recurse=False)) for m in whole.modules()),
        block=_block(whole, layers),
        packable=sum(packable),
        largest_packable=max(packable, default=0),
        layers=layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size if recipe.task == "generate" and whole.gives_losses else 0,
        attention_width=sum(attention_widths(config)) // layers,
        saved=traced.saved,
        peak=traced.peak,
        kept=activations(recomputed=False).saved if checkpointing and lora is not None else traced.saved,
    )


def _of_all(layers: int, one: int, two: int) -> int:
    """Bytes of all layers, from those of a model with one and with two."""
    return one + (layers - 1) * max(two - one, 0)


def _block(model: Diagnoser, layers: int) -> int:
    """Parameters of the largest layer of the longest list of layers."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return max(sum(p.numel() for p in layer.parameters()) for layer in module)
    return sum(p.numel() for p in model.parameters()) // layers


def _build(config: PreTrainedConfig, recipe: Recipe, lora: Lora | None, dtype: torch.dtype, layers: int) -> Diagnoser:
    import transformers

    config = _shortened(config, layers)
    task = recipe.task
    if task == "classify":
        config.num_labels = max(config.num_labels or 0, LABELS)
        auto: Any = transformers.AutoModelForSequenceClassification
    else:
        auto = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        hf = auto.from_config(config, dtype=dtype, trust_remote_code=recipe.model.trust_remote_code)
        if lora is not None:
            prefix = f"{hf.base_model_prefix}."
            head = {name for name, _ in hf.named_parameters() if not name.startswith(prefix)}
            hf = with_lora(hf, lora, trained_in_full=head if task == "classify" else set())
    freeze_matching(hf, recipe.model.freeze)
    # On meta, peft leaves its adapters in float32.
    return Diagnoser(hf.to(dtype))


def _shortened(config: PreTrainedConfig, layers: int) -> PreTrainedConfig:
    """The same with the first `layers` layers only."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    return config


def _activations(
    config: PreTrainedConfig,
    recipe: Recipe,
    lora: Lora | None,
    dtype: torch.dtype,
    layers: int,
    checkpointing: bool,
    seq_len: int,
) -> Traced:
    """Of one sequence of two packed cases, or of one case; a loss in chunks over a vocabulary is left to `memory`."""
    model = _build(config, recipe, lora, dtype, layers)
    model.train()
    if checkpointing:
        model.network.gradient_checkpointing_enable({"use_reentrant": False})
    if recipe.train.mlp_tiles > 1:
        tile_mlps(model.network, recipe.train.mlp_tiles)
    # Other kernels are told where packed cases end, and have no mask, as if each row were one case.
    packed = recipe.data.packing and config.model_type in FAMILIES and recipe.model.attention == SDPA
    whole = recipe.task == "generate" and not model.gives_losses
    targets = 0 if recipe.task == "classify" else seq_len if whole else 1
    batch = _meta_batch(seq_len, cases=2 if packed else 1, targets=targets)
    tensors = list(model.parameters()) + list(model.buffers())
    return trace(lambda: model(batch, label_smoothing=0.0 if whole else None), tensors)


@cache
def _meta_batch(seq_len: int, *, cases: int, targets: int) -> MicroBatch:
    def row(dtype: torch.dtype = torch.int64, *shape: int) -> torch.Tensor:
        return torch.empty(shape or (1, seq_len), dtype=dtype, device="meta")

    target = row(torch.int64, targets) if targets else None
    return MicroBatch(
        input_ids_BL=row(),
        position_ids_BL=row(),
        segment_ids_BL=row(torch.int32),
        target_index_T=target,
        target_ids_T=target,
        case_last_C=row(torch.int64, cases),
        case_first_C=row(torch.int64, cases),
        case_label_C=row(torch.int64, cases),
        case_weight_C=row(torch.float32, cases),
        case_ids=[""] * cases,
        case_number_C=row(torch.int64, cases),
        masked=False,
    )
