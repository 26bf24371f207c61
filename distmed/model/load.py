"""From a model folder to a Diagnoser on this worker's device, and to a tokenizer that has what training needs.

The recipe, the folder and the DeepSpeed configuration flow in. Under ZeRO-3 the weights are partitioned while they are
made or read, so that no worker ever holds the whole model. Fresh ones follow from `train.seed`, at any world size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distmed.errors import UserError, one_of
from distmed.model.diagnoser import Diagnoser
from distmed.model.families import FAMILIES
from distmed.model.first_calls import settle_kernels
from distmed.model.kernels import use_kernel
from distmed.model.lora import freeze, with_lora
from distmed.model.quantize import fill_quantized
from distmed.model.recompute import tile_mlps
from distmed.model.streaming import Stored, initialize, partition, places, stored_tensors, without_data
from distmed.model.weight_files import weight_files
from distmed.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# What models without a pad token keep for padding, or can spare.
SPARE_TOKENS = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<|fim_pad|>", "<unk>", "<|endoftext|>")
NEW_PAD_TOKEN = "<|pad|>"
# What transformers calls the layers over the labels.
HEADS = ("classifier", "score")


def load_tokenizer(folder: str | Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The folder's tokenizer, with a chat template (ours where it has none) and a pad token."""
    from transformers import AutoTokenizer

    from distmed.cases.prompts import DEFAULT_CHAT_TEMPLATE

    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = DEFAULT_CHAT_TEMPLATE
    # Plain transformers reads a decoder's classification at the last token that is not padding. Cases end with the
    # end-of-text token, so padding must be another one, whichever.
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        _give_pad_token(tokenizer, Path(folder))
    return tokenizer


def _give_pad_token(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """One that no text has, so that the same words stay the same ids; the same one in every process."""
    known = tokenizer.get_vocab()
    added = sorted(tokenizer.added_tokens_decoder.items())
    special = [token.content for _, token in added if token.special]
    spare = [token for token in (*SPARE_TOKENS, tokenizer.bos_token, *special) if token in known]
    found = next((token for token in spare if token != tokenizer.eos_token), None)
    tokenizer.add_special_tokens({"pad_token": found or NEW_PAD_TOKEN})
    if found is None and tokenizer.pad_token_id >= _embedding_rows(folder):
        raise UserError(
            f"{folder}: the tokenizer has no token for padding, and the model no embedding to spare for one",
            f"add one: tokenizer.add_special_tokens({{'pad_token': '{NEW_PAD_TOKEN}'}}); tokenizer.save_pretrained(folder)",
        )


def _embedding_rows(folder: Path) -> int:
    config = folder / "config.json"
    known = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    return int(known.get("text_config", known).get("vocab_size", 0))


def is_whole_tokenizer(folder: Path) -> bool:
    """Whether the folder's files have all that `load_tokenizer` would add, so that they serve as they are."""
    config = folder / "tokenizer_config.json"
    if not config.is_file() or (folder / "additional_chat_templates").exists():
        return False
    known = json.loads(config.read_text(encoding="utf-8"))
    earlier = folder / "special_tokens_map.json"
    if earlier.is_file():
        known |= json.loads(earlier.read_text(encoding="utf-8"))
    has_template = bool(known.get("chat_template")) or (folder / "chat_template.jinja").is_file()
    pad, eos = (
        token["content"] if isinstance(token, dict) else token
        for token in (known.get("pad_token"), known.get("eos_token"))
    )
    return has_template and pad not in (None, eos)


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
    from transformers import AutoConfig
    from transformers.integrations import HfDeepSpeedConfig

    settle_kernels()
    folder = Path(folder)
    options: dict[str, Any] = {"trust_remote_code": recipe.model.trust_remote_code}
    config = AutoConfig.from_pretrained(str(folder), **options)
    # A head over other labels means nothing here, even where their number is the same.
    skip = () if list(config.id2label.values()) == labels else HEADS
    _fit(config, recipe, labels, label_names)
    tokenizer = load_tokenizer(folder, trust_remote_code=recipe.model.trust_remote_code)
    rows = max(len(tokenizer), config.get_text_config().vocab_size)
    classify = recipe.task == "classify"
    auto = transformers.AutoModelForSequenceClassification if classify else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        architecture = type(auto.from_config(config, **options))

    partitioned = ds_config.get("zero_optimization", {}).get("stage", 0) == 3
    dtype = torch.bfloat16 if ds_config.get("bf16", {}).get("enabled") else torch.float32
    torch.manual_seed(recipe.train.seed)
    hf: Any
    if partitioned:
        config.get_text_config().vocab_size = rows
        hf, fresh = _partitioned(architecture, config, recipe, folder, ds_config, dtype, skip)
    elif recipe.model.quantize is not None:
        hf, fresh = _quantized(architecture, config, folder, dtype, skip)
    elif recipe.model.init == "random":
        hf, _ = _hollow(architecture, config, dtype, None)
        initialize(hf, dtype)
        fresh = set()
    else:
        hf, fresh = _whole(architecture, config, folder, dtype, skip)
    if rows > hf.get_input_embeddings().num_embeddings:
        hf.resize_token_embeddings(rows, mean_resizing=False)
    if recipe.model.init == "random":
        fresh = _outside_backbone(hf) if classify else set()
    else:
        _check_fresh(hf, folder, fresh, classify)
    # transformers and peft look for this object when they touch partitioned weights.
    alive = HfDeepSpeedConfig(ds_config) if partitioned else None
    family = FAMILIES.get(config.model_type)
    if family is None or not family.position_offset:
        # Where positions begin behind the id of padding, plain transformers would count them otherwise than here.
        hf.config.pad_token_id = tokenizer.pad_token_id
    use_kernel(hf, recipe.model.attention)
    if recipe.train.activation_checkpointing:
        hf.gradient_checkpointing_enable({"use_reentrant": False})
    if recipe.train.mlp_tiles > 1:
        tile_mlps(hf, recipe.train.mlp_tiles)
    if recipe.model.lora:
        head = _outside_backbone(hf) if classify else set()
        hf = with_lora(hf, recipe.model.lora, trained_in_full=head | fresh)
        fresh = {name for name, _ in hf.named_parameters() if ".modules_to_save." in name}
    if recipe.model.freeze:
        freeze(hf, recipe.model.freeze)
    del alive
    model = Diagnoser(hf if partitioned else hf.to(device), frozenset(f"hf.{name}" for name in fresh))
    model.offloads = recipe.train.activation_checkpointing == "offload"
    return model


def _partitioned(
    architecture: type[PreTrainedModel],
    config: PreTrainedConfig,
    recipe: Recipe,
    folder: Path,
    ds_config: dict[str, Any],
    dtype: torch.dtype,
    skip: tuple[str, ...],
) -> tuple[PreTrainedModel, set[str]]:
    """The model under ZeRO-3, each worker with its partition, and the names of what is fresh."""
    from transformers.integrations import HfDeepSpeedConfig

    stored = {} if recipe.model.init == "random" else stored_tensors(folder, skip)
    hf, source = _hollow(architecture, config, dtype, stored)
    if source is not None:
        return hf, partition(hf, ds_config, source, dtype)
    # Tensors that transformers renames, cuts or joins: it gathers and partitions them itself, more slowly.
    alive = HfDeepSpeedConfig(ds_config)
    loaded = _whole(architecture, config, folder, dtype, skip)
    del alive
    return loaded


def _quantized(
    architecture: type[PreTrainedModel],
    config: PreTrainedConfig,
    folder: Path,
    dtype: torch.dtype,
    skip: tuple[str, ...],
) -> tuple[PreTrainedModel, set[str]]:
    """The model with its linear layers in 4 bits, and the names of what is fresh."""
    hf, source = _hollow(architecture, config, dtype, stored_tensors(folder, skip))
    if source is None:
        raise UserError(
            f"{folder}: model.quantize cannot read its weights, which transformers renames or cuts",
            "save the model once with transformers (save_pretrained), or train without model.quantize",
        )
    return hf, fill_quantized(hf, source, dtype)


def _hollow(
    architecture: type[PreTrainedModel],
    config: PreTrainedConfig,
    dtype: torch.dtype,
    stored: dict[str, Stored] | None,
) -> tuple[PreTrainedModel, dict[str, Stored] | None]:
    """The model with parameters that have no data yet, and for each of them the stored tensor it is read from.

    None for the tensors where what is stored is none, or does not simply match.
    """
    with without_data():
        hf = architecture._from_config(config, dtype=dtype)
    hf.tie_weights()
    return hf, None if stored is None else places(hf, stored)


def _whole(
    architecture: type[PreTrainedModel],
    config: PreTrainedConfig,
    folder: Path,
    dtype: torch.dtype,
    skip: tuple[str, ...],
) -> tuple[PreTrainedModel, set[str]]:
    """The model as transformers loads it, and the names of what is fresh."""
    weights = _state_dict(folder, skip)
    loaded: Any = architecture.from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
    )
    hf, info = loaded
    if info["mismatched_keys"]:
        raise UserError(
            f"{folder}: its weights have other sizes than its config.json says: "
            f"{one_of(sorted(str(key[0]) for key in info['mismatched_keys']), 4)}",
            "name a folder whose weights fit its config.json, or set model.init=random",
        )
    return hf, set(info["missing_keys"])


def _fit(config: PreTrainedConfig, recipe: Recipe, labels: list[str], label_names: list[str]) -> None:
    """Write the recipe's labels and dropout into the model's config, with which it is exported later."""
    if recipe.task == "classify":
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        config.label_names = label_names
        config.problem_type = "single_label_classification"
    if recipe.model.dropout is not None:
        for key, value in config.to_dict().items():
            if ("dropout" in key or key.endswith("pdrop")) and (value is None or isinstance(value, float | int)):
                setattr(config, key, recipe.model.dropout)


def _check_fresh(hf: PreTrainedModel, folder: Path, fresh: set[str], classify: bool) -> None:
    """A head and its pooler may be made anew; anything else that is missing means that weights and config do not fit."""
    allowed = {name for name in fresh if "pooler." in name} | _outside_backbone(hf) if classify else set()
    missing = sorted(fresh - allowed)
    if missing:
        raise UserError(
            f"{folder}: its weights lack {one_of(missing, 4)}",
            "name a folder whose weights fit its config.json, or set model.init=random",
        )


def _state_dict(folder: Path, skip: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The folder's weights, mapped from the disk: read when they are copied, without the modules named in `skip`."""
    from safetensors import safe_open

    weights: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            weights.update({name: file.get_tensor(name) for name in names if name.split(".")[0] not in skip})
    return weights


def _outside_backbone(hf: PreTrainedModel) -> set[str]:
    """Names of the parameters of the task's head."""
    return {name for name, _ in hf.named_parameters() if not name.startswith(f"{hf.base_model_prefix}.")}
