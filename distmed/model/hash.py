"""The hash of a model folder, by which a run, a checkpoint and an export know whether it is still the model they began with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from distmed.model.weight_files import header, weight_files

CHUNK = 1 << 16
SAMPLES = 16
TENSOR_CHUNK = 1 << 12


def model_hash(folder: str | Path) -> str:
    """A hash of config, tokenizer and weights that reads little: of the weights the headers, the sizes, and of every tensor
    its start, its middle and its end."""
    digest = _hash_evenly(Path(folder))
    for path in weight_files(Path(folder)):
        try:
            tensors, begin = header(path)
        except ValueError:  # With fresh weights nobody reads the file.
            continue
        with path.open("rb") as file:
            digest.update(file.read(begin))
            for start, stop in sorted(tensor["data_offsets"] for tensor in tensors.values()):
                for at in (start, (start + stop - TENSOR_CHUNK) // 2, stop - TENSOR_CHUNK):
                    place = max(at, start)
                    file.seek(begin + place)
                    digest.update(file.read(min(TENSOR_CHUNK, stop - place)))
    return digest.hexdigest()


def earlier_model_hash(folder: str | Path) -> str:
    """What checkpoints hold in place of `model_hash` that were written when only places of whole files were sampled."""
    return _hash_evenly(Path(folder)).hexdigest()


def _hash_evenly(folder: Path) -> hashlib._Hash:
    digest = hashlib.sha256()
    small = [path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".model", ".jinja")]
    for path in sorted(small):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for path in weight_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\0".encode())
        with path.open("rb") as file:
            for sample in range(SAMPLES):
                file.seek(max(size - CHUNK, 0) * sample // (SAMPLES - 1))
                digest.update(file.read(CHUNK))
    return digest
