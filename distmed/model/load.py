"""From a model folder to a Diagnoser on this worker's device, and to a tokenizer that has what training needs.

The recipe, the folder and the DeepSpeed configuration flow in. Under ZeRO-3 the weights are partitioned while they are
made or read, so that no worker ever holds the whole model. Fresh ones follow from `train.seed`, at any world size.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distmed.errors import UserError, one_of
from distmed.model.diagnoser import Diagnoser
from distmed.model.lora import with_lora
from distmed.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Tokens that models without a pad token keep for it; never the end-of-text token if it can be helped: plain
# transformers reads a decoder's classification at the last token that is not padding.
SPARE_PAD_TOKENS = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<|endoftext|>", "<unk>")


def load_tokenizer(folder: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The folder's tokenizer, with a chat template (ours where it has none) and a pad token."""
    from transformers import AutoTokenizer

    from distmed.cases.prompts import DEFAULT_CHAT_TEMPLATE

    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = DEFAULT_CHAT_TEMPLATE
    if tokenizer.pad_token is None:
        known = tokenizer.get_vocab()
        spare = [token for token in SPARE_PAD_TOKENS if token in known and token != tokenizer.eos_token]
        tokenizer.pad_token = spare[0] if spare else tokenizer.eos_token
    return tokenizer


def load_model(
    recipe: Recipe,
    folder: str | Path,
    labels: list[str],
    label_names: list[str],
    ds_config: dict[str, Any],
    device: torch.device,
) -> Diagnoser:
    """The model of the recipe; for classify with a head over `labels`, fresh unless the folder has one for just these.

    The process group must be up if `ds_config` asks for ZeRO stage 3. Raises UserError if the weights do not cover the
    architecture.
    """
    import transformers
    from transformers.integrations import HfDeepSpeedConfig

    config = _config(recipe, folder, labels, label_names)
    auto = getattr(
        transformers, "AutoModelForSequenceClassification" if recipe.task == "classify" else "AutoModelForCausalLM"
    )
    dtype = torch.bfloat16 if ds_config.get("bf16", {}).get("enabled") else torch.float32
    partitioned = ds_config.get("zero_optimization", {}).get("stage", 0) == 3
    # transformers looks for this object while it builds a model, and partitions at once if it is there.
    alive = HfDeepSpeedConfig(ds_config) if partitioned else None
    torch.manual_seed(recipe.train.seed)
    options = {"dtype": dtype, "trust_remote_code": recipe.model.trust_remote_code}
    if recipe.model.init == "random":
        hf = auto.from_config(config, **options)
        fresh = _outside_backbone(hf) if recipe.task == "classify" else set()
    else:
        hf, fresh = _pretrained(auto, folder, config, labels, options)
    hf.config.pad_token_id = load_tokenizer(folder, trust_remote_code=recipe.model.trust_remote_code).pad_token_id
    if recipe.train.activation_checkpointing:
        hf.gradient_checkpointing_enable({"use_reentrant": partitioned})
    if recipe.model.lora:
        hf = with_lora(hf, recipe.model.lora, sorted({name.split(".")[0] for name in _outside_backbone(hf)}))
        fresh = {name for name, _ in hf.named_parameters() if ".modules_to_save." in name}
    del alive
    return Diagnoser(hf if partitioned else hf.to(device), recipe.task, frozenset(f"hf.{name}" for name in fresh))


def _config(recipe: Recipe, folder: str | Path, labels: list[str], label_names: list[str]) -> PreTrainedConfig:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(folder), trust_remote_code=recipe.model.trust_remote_code)
    if recipe.task == "classify":
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        config.label_names = label_names
        config.problem_type = "single_label_classification"
    if recipe.model.dropout is not None:
        for key, value in config.to_dict().items():
            if ("dropout" in key or key.endswith("pdrop")) and (value is None or isinstance(value, float | int)):
                setattr(config, key, recipe.model.dropout)
    return config


def _pretrained(
    auto: Any, folder: str | Path, config: PreTrainedConfig, labels: list[str], options: dict[str, Any]
) -> tuple[PreTrainedModel, set[str]]:
    """The model with the folder's weights, and the names of the parameters that the folder had none for."""
    from transformers import AutoConfig

    before = AutoConfig.from_pretrained(str(folder), trust_remote_code=options["trust_remote_code"])
    if list(before.id2label.values()) != labels:
        # A head over other labels means nothing here, even where their number is the same.
        options = {**options, "key_mapping": {r"^(classifier|score)\.": "head_over_other_labels."}}
    options = {**options, "config": config, "output_loading_info": True, "use_safetensors": True}
    hf, info = auto.from_pretrained(str(folder), **options)
    fresh = set(info["missing_keys"])
    strange = sorted(name for name in fresh - _outside_backbone(hf) if "pooler." not in name)
    if strange or (fresh and "CausalLM" in auto.__name__):
        raise UserError(
            f"{folder}: its weights lack {one_of(strange or sorted(fresh), 4)}",
            "name a folder whose weights fit its config.json, or set model.init=random",
        )
    return hf, fresh


def _outside_backbone(hf: PreTrainedModel) -> set[str]:
    """Names of the parameters of the task's head."""
    return {name for name, _ in hf.named_parameters() if not name.startswith(f"{hf.base_model_prefix}.")}
