"""Export: a sharded checkpoint becomes a plain Hugging Face folder, in one process, one tensor in memory at a time.

A checkpoint folder and the base model's configuration and tokenizer flow in; safetensors shards, their index and
copies of those files flow out. Nothing here needs deepspeed, a GPU or transformers.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from distmed.checkpoint.folder import verify
from distmed.checkpoint.marker import CorruptCheckpointError
from distmed.checkpoint.read import Checkpoint
from distmed.checkpoint.storage import Storage, is_disk_full
from distmed.checkpoint.tensors import Entry, TensorFile, write_tensors
from distmed.checkpoint.weights import Output, adapter_outputs, config_of, outputs, without_wrapper
from distmed.errors import UserError

GIGABYTE = 10**9
Dtype = Literal["float32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MADE_BY = "distmed"
# What transformers reads beside a tokenizer's configuration, or before it.
BESIDE_TOKENIZER = ("special_tokens_map.json", "added_tokens.json", "chat_template*")
# What loads and describes a model beside its weights: configuration, tokenizer, templates, code, terms.
_CARRIED = (
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer*",
    *BESIDE_TOKENIZER,
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "*.py",
    "LICENSE*",
    "NOTICE*",
)


def export(
    checkpoint: str | Path,
    out: Path,
    base: Path,
    *,
    dtype: Dtype = "float32",
    max_shard_bytes: int = 5 * GIGABYTE,
    config: dict[str, Any] | None = None,
    lora_scale: float | None = None,
    rename: Callable[[str], str] = without_wrapper,
    filesystem: Any = None,
    add: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write the weights of `checkpoint` as a Hugging Face folder `out`, with configuration and tokenizer from `base`.

    Floating weights are the fp32 masters cast to `dtype`. `config` overrides keys of config.json (architectures,
    labels). `lora_scale` (alpha / rank) is needed where there are adapters, which are merged. `rename` gives the
    Hugging Face name of a parameter. `add` writes what else belongs into the folder. `out` appears when everything is in
    it; a former export is replaced, any other folder with something in it is refused. Raises UserError for that, for a
    damaged checkpoint, a frozen weight that is nowhere, and a disk that is full or has no room for it.
    """
    where = Storage.at(checkpoint, filesystem)
    wrong = verify(where)
    if wrong:
        raise UserError(f"{where} is no whole checkpoint: {wrong}", "export an older checkpoint of the run")
    settings = config_of(base) | (config or {}) | {"dtype": str(DTYPES[dtype]).removeprefix("torch.")}
    for gone in ("torch_dtype", "quantization_config"):
        settings.pop(gone, None)
    _refuse_to_overwrite(out, base)
    try:
        with Checkpoint(where) as opened, _appearing(out) as folder:
            tied = bool(settings.get("tie_word_embeddings", False))
            found = outputs(opened, base, DTYPES[dtype], rename, tied=tied, lora_scale=lora_scale)
            _check_room(out, found)
            _write_shards(folder, _shards(found, max_shard_bytes), where.name)
            _carry(base, folder)
            add(folder)
            (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise _no_room(out, "the disk is full") from error


def export_adapters(
    checkpoint: str | Path,
    out: Path,
    base: Path,
    *,
    settings: dict[str, Any],
    dtype: Dtype = "float32",
    filesystem: Any = None,
    add: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write the adapters of `checkpoint` alone, and heads trained in full, as a folder that peft loads upon `base`.

    `settings` become adapter_config.json, `add` writes what else belongs into the folder. Raises UserError as `export` does,
    and for a checkpoint without adapters.
    """
    where = Storage.at(checkpoint, filesystem)
    wrong = verify(where)
    if wrong:
        raise UserError(f"{where} is no whole checkpoint: {wrong}", "export an older checkpoint of the run")
    _refuse_to_overwrite(out, base)
    try:
        with Checkpoint(where) as opened, _appearing(out) as folder:
            found = adapter_outputs(opened, base, DTYPES[dtype])
            if not any(".lora_" in output.name for output in found):
                raise UserError(f"{where} has no adapters", "export the whole model, without --adapters")
            _check_room(out, found)
            _write_file(folder / "adapter_model.safetensors", found, where.name)
            add(folder)
            (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise _no_room(out, "the disk is full") from error


def _check_room(out: Path, found: list[Output]) -> None:
    """A former export goes only when the new one is there, so its room does not count."""
    needs, free = sum(_entry(output).bytes for output in found), shutil.disk_usage(out.parent).free
    if needs > free:
        raise _no_room(out, f"{needs / GIGABYTE:.1f} GB are needed, {free / GIGABYTE:.1f} are free")


def _no_room(out: Path, why: str) -> UserError:
    return UserError(
        f"no space left for {out}: {why}; nothing of it is left", "free some, or name an --out on a larger disk"
    )


def _shards(found: list[Output], max_bytes: int) -> list[list[Output]]:
    """Cut in the model's order; a tensor larger than `max_bytes` has a shard to itself."""
    shards: list[list[Output]] = [[]]
    size = 0
    for output in found:
        own = _entry(output).bytes
        if shards[-1] and size + own > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(output)
        size += own
    return shards


def _entry(output: Output) -> Entry:
    return Entry(output.name, output.dtype, output.shape)


def _write_shards(folder: Path, shards: list[list[Output]], checkpoint_name: str) -> None:
    several = len(shards) > 1
    names = [
        f"model-{number:05d}-of-{len(shards):05d}.safetensors" if several else "model.safetensors"
        for number in range(1, len(shards) + 1)
    ]
    # Two at once: while one is synced, the tensors of the next are made.
    with ThreadPoolExecutor(max_workers=2) as pool:
        total = sum(pool.map(lambda name, shard: _write_file(folder / name, shard, checkpoint_name), names, shards))
    weight_map = {output.name: name for name, shard in zip(names, shards, strict=True) for output in shard}
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_file(path: Path, shard: list[Output], checkpoint_name: str) -> int:
    """One safetensors file, each tensor made when it is written; the bytes of its tensors."""
    metadata = {"format": "pt", "made_by": _MADE_BY, "checkpoint": checkpoint_name}
    shard.sort(key=lambda output: -output.dtype.itemsize)
    entries = [_entry(output) for output in shard]
    with Storage.at(path).writing() as file:
        write_tensors(file, entries, (output.make() for output in shard), metadata)
    return sum(entry.bytes for entry in entries)


def _carry(base: Path, folder: Path) -> None:
    for pattern in _CARRIED:
        for path in base.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)


def _refuse_to_overwrite(out: Path, base: Path) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    hint = "name another --out, or remove it first"
    if out.resolve() == base.resolve():
        raise UserError(f"{out} is the base model itself", hint)
    shard = next(iter(sorted(out.glob("*.safetensors"))), None) if out.is_dir() else None
    if shard is None or not _is_ours(shard):
        raise UserError(f"{out} exists and is no former export", hint)


def _is_ours(shard: Path) -> bool:
    try:
        file = TensorFile(Storage.at(shard))
    except CorruptCheckpointError:
        return False
    file.close()
    return file.metadata.get("made_by") == _MADE_BY


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its name only when the block ends well, and is removed when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear_killed(out)
    partial, former = (out.with_name(f".{out.name}.{os.getpid()}.{what}") for what in ("partial", "former"))
    try:
        partial.mkdir()
    except FileNotFoundError as error:  # as in /proc
        raise UserError(f"{out}: no folder can be made there", "name another --out") from error
    try:
        yield partial
        if out.exists():
            out.rename(former)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def _clear_killed(out: Path) -> None:
    """Remove what exports to `out` left that were killed, and could not remove it themselves."""
    for left in out.parent.glob(f".{out.name}.*.partial"):
        owner = left.name.removesuffix(".partial").rpartition(".")[2]
        if owner.isdigit() and not _runs(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()
