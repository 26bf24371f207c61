"""Looks at a model before anything is started: is it there, is it whole, can it do the task, may it be packed.

The recipe's `model` section flows in, a `ModelFacts` flows out; every fault is the user's to mend and is told as one.
No weight is loaded, only the headers of the safetensors files are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distmed.errors import UserError, first_line, one_of
from distmed.model.families import FAMILIES
from distmed.model.fidelity import check_reads_one_way, check_tied, quantized_by, turning_point
from distmed.model.hash import model_hash
from distmed.model.kernels import check_kernel
from distmed.model.layers import key_value_heads
from distmed.model.weight_files import INDEX, header, weight_files
from distmed.recipe import Model

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class ModelFacts:
    """What the driver knows of a model. `max_positions` is the longest case it can read, None if there is no limit.

    `heads` are those of keys and values. `hash` changes with the config, the tokenizer and the weights. `turns_at`: see
    `fidelity.turning_point`; `quantized`: how its weights were, None if they were not.
    """

    folder: Path
    model_type: str
    hidden_size: int
    max_positions: int | None
    heads: int
    hash: str
    turns_at: int | None = None
    quantized: str | None = None


def check_model(model: Model, task: Literal["classify", "generate"], *, packing: bool) -> ModelFacts:
    """Find the model and hold it against the task. Raises UserError with what is wrong and how to mend it."""
    folder = find_folder(model)
    config = read_config(folder, model)
    tokens = _check_tokenizer(folder, model)
    if model.init == "pretrained":
        _check_weights(folder)
    check_task(config, model, task)
    if packing and config.model_type not in FAMILIES:
        raise UserError(
            f"{model.path}: packing was not tested with {config.model_type} models, and cases might see each other",
            f"set data.packing=false, or use one of {', '.join(sorted(FAMILIES))}",
        )
    check_kernel(model.attention, config.model_type)
    check_reads_one_way(folder, config)
    text = config.get_text_config()
    if task == "generate" and model.init == "pretrained" and getattr(text, "tie_word_embeddings", False):
        check_tied(folder, weight_files(folder), _without_weights(config, model, task))
    if model.lora is not None:
        from distmed.model.lora import check_targets

        check_targets(_without_weights(config, model, task), model.lora)
    if model.quantize is not None:
        from distmed.model.quantize import check_installed

        check_installed()
    if model.lora is not None and tokens > text.vocab_size:
        raise UserError(
            f"{folder}: the tokenizer has {tokens} tokens, the model {text.vocab_size}: adapters would not train new ones",
            "train without model.lora, or let a run without it grow the embedding first",
        )
    positions = getattr(text, "max_position_embeddings", None)
    family = FAMILIES.get(config.model_type)
    if positions is not None and family is not None and family.position_offset:
        positions -= text.pad_token_id + 1
    return ModelFacts(
        folder=folder,
        model_type=config.model_type,
        hidden_size=text.hidden_size,
        max_positions=positions,
        heads=key_value_heads(config),
        hash=model_hash(folder),
        turns_at=turning_point(text),
        quantized=quantized_by(config) if model.init == "pretrained" else None,
    )


def find_folder(model: Model) -> Path:
    """The folder that `model.path` names: itself, or the local copy of a hub id (downloaded if it is missing)."""
    local = Path(model.path).expanduser()
    if local.is_dir():
        return local.resolve()
    if model.path.startswith("builtin:"):
        raise UserError(f"model.path: there is no built-in model {model.path}", "the one there is: builtin:tiny-llama")
    if model.path.startswith((".", "/", "~")) or model.path.count("/") > 1:
        raise UserError(f"model.path: no such folder: {model.path}", "name a folder with config.json, or a hub id")
    return _download(model)


def _download(model: Model) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    patterns = ["*.json", "*.txt", "*.model", "*.jinja"]
    patterns += ["*.safetensors"] if model.init == "pretrained" else []
    patterns += ["*.py"] if model.trust_remote_code else []
    missing = f"model.path: {model.path} is neither a folder nor a model on the Hugging Face hub"
    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=patterns))
    except GatedRepoError as error:
        raise UserError(
            f"{model.path} is gated, and this account may not read it",
            f"ask for access at https://huggingface.co/{model.path}, then log in: `hf auth login`, or set HF_TOKEN",
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(
            f"{model.path} has no revision {model.revision}", "name a branch, tag or commit it has"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            missing, "check the spelling; for a private model log in: `hf auth login`, or set HF_TOKEN"
        ) from error
    except OSError as error:
        # Offline, or the network failed: huggingface_hub derives all of those from OSError.
        raise UserError(
            f"{missing} that can be reached from here", "copy the model here and name its folder, or go online"
        ) from error


def read_config(folder: Path, model: Model) -> PreTrainedConfig:
    """config.json of a model folder; raises UserError where transformers could not build the model from it."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig

    path = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder} holds LoRA adapters, not a model",
            "merge them into their base model first, with peft's merge_and_unload",
        )
    if not path.is_file():
        raise UserError(f"{folder}: no config.json", "model.path must name a Hugging Face model folder")
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON", "fetch the model again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is no JSON object", "fetch the model again")
    model_type = values.get("model_type")
    if "auto_map" in values and model_type not in CONFIG_MAPPING and not model.trust_remote_code:
        raise UserError(
            f"{model.path} needs Python code that comes with it, and that code could do anything on this machine",
            "read the .py files in its folder; if you trust them, set model.trust_remote_code=true",
        )
    if "auto_map" not in values and model_type not in CONFIG_MAPPING:
        raise UserError(
            f"{path}: transformers does not know the architecture {model_type!r}", "name a model that it knows"
        )
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=model.trust_remote_code)
    except StrictDataclassError as error:
        # Its first line does not say what is wrong.
        said = " ".join(str(error).split())
        raise UserError(f"{path} does not describe a {model_type} model: {said}", "mend it") from error
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise UserError(f"{path} does not describe a {model_type} model: {first_line(error)}", "mend it") from error


def _check_tokenizer(folder: Path, model: Model) -> int:
    """The number of its tokens."""
    from transformers import AutoTokenizer

    hint = "copy the tokenizer of its base model into the folder: tokenizer.save_pretrained(folder)"
    # Without any of these files transformers may make an empty tokenizer and say nothing.
    if not any((folder / name).is_file() for name in TOKENIZER_FILES) and not model.trust_remote_code:
        raise UserError(f"{folder}: no tokenizer", hint)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=model.trust_remote_code)
    except Exception as error:
        raise UserError(f"{folder}: the tokenizer cannot be read: {first_line(error)}", hint) from error
    if not len(tokenizer):
        raise UserError(f"{folder}: the tokenizer is empty", hint)
    return len(tokenizer)


def _check_weights(folder: Path) -> None:
    hint = "fetch the model again, or set model.init=random for fresh weights"
    files = weight_files(folder)
    if not files:
        pickles = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
        if pickles:
            raise UserError(
                f"{folder}: its weights are pickles ({one_of(pickles, 3)}), which can run code when they are read",
                "convert them once where you trust them: model.save_pretrained(folder) writes safetensors",
            )
        raise UserError(f"{folder}: no weights (model.safetensors)", hint)
    for path in files:
        if not path.is_file():
            raise UserError(f"{folder}: {path.name} is missing, and {INDEX} names it", hint)
        try:
            tensors, begin = header(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is no safetensors file", hint) from error
        size = begin + max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        if path.stat().st_size != size:
            raise UserError(f"{path} is truncated: {path.stat().st_size} bytes of {size}", hint)
        if not tensors:
            raise UserError(f"{path} holds no weights", hint)


def check_task(config: PreTrainedConfig, model: Model, task: str) -> None:
    """Raises UserError where the architecture has no head for the task."""
    from transformers.models.auto import modeling_auto as auto

    if task == "classify":
        known, own = auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, "AutoModelForSequenceClassification"
    else:
        known, own = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "AutoModelForCausalLM"
    if config.model_type not in known and own not in (getattr(config, "auto_map", None) or {}):
        what = "a classification head" if task == "classify" else "a language-model head"
        raise UserError(f"{model.path}: transformers has no {config.model_type} with {what}", _other(task))
    family = FAMILIES.get(config.model_type)
    encoder = (family is not None and not family.causal) or config.is_encoder_decoder
    if task == "generate" and encoder:
        raise UserError(f"{model.path}: {config.model_type} models do not write text from left to right", _other(task))


def _without_weights(config: PreTrainedConfig, model: Model, task: str) -> Any:
    """The architecture with parameters that hold no data."""
    import torch
    import transformers

    auto = transformers.AutoModelForSequenceClassification if task == "classify" else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config, trust_remote_code=model.trust_remote_code)


def _other(task: str) -> str:
    if task == "classify":
        return "choose another model, or task: generate"
    return "choose a decoder (Llama, Qwen, Mistral, Gemma, ...), or task: classify"
