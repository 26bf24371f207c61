"""The safetensors format (https://huggingface.co/docs/safetensors) by byte range: written in a stream, read in parts.

The library writes to a local path only and wants all tensors at once. Here tensors flow into any open file one by
one, and the part of a tensor that a rank needs flows out of a local file or an object store.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import torch
import xxhash
from torch import Tensor

from distmed.checkpoint.marker import CorruptCheckpointError, UnreadableCheckpointError
from distmed.checkpoint.storage import Storage
from distmed.model.streaming import DTYPES

CHUNK_BYTES = 64 << 20
_DTYPES = DTYPES | {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def dtype_name(dtype: torch.dtype) -> str:
    return _NAMES[dtype]


def dtype_of(name: str) -> torch.dtype:
    return _DTYPES[name]


@dataclass(frozen=True)
class Entry:
    """A tensor announced before its bytes are there."""

    key: str
    dtype: torch.dtype
    shape: Sequence[int]

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def write_tensors(
    file: IO[bytes], entries: Sequence[Entry], tensors: Iterable[Tensor], metadata: dict[str, str] | None = None
) -> tuple[int, str]:
    """Write `tensors` (host memory, in the order of `entries`) as one safetensors file; its bytes and its xxh3_128."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for entry in entries:
        header[entry.key] = {
            "dtype": dtype_name(entry.dtype),
            "shape": list(entry.shape),
            "data_offsets": [end, end + entry.bytes],
        }
        end += entry.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    hasher = xxhash.xxh3_128()
    written = _put(file, hasher, memoryview(struct.pack("<Q", len(text)) + text))
    for entry, tensor in zip(entries, tensors, strict=True):
        if tensor.dtype != entry.dtype or tensor.numel() * tensor.itemsize != entry.bytes:
            raise ValueError(f"{entry.key}: {tensor.dtype} of {tensor.numel()} elements is not what was announced")
        written += _put(file, hasher, _bytes_of(tensor))
    return written, hasher.hexdigest()


def _put(file: IO[bytes], hasher: Any, view: memoryview) -> int:
    for start in range(0, len(view), CHUNK_BYTES):
        part = view[start : start + CHUNK_BYTES]
        hasher.update(part)
        file.write(part)
    return len(view)


def _bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)


class TensorFile:
    """A safetensors file opened for reading ranges. Several threads may read at once.

    Raises CorruptCheckpointError where the file is missing, shorter than its header says, or no safetensors file, and
    UnreadableCheckpointError where the storage fails.
    """

    def __init__(self, file: Storage) -> None:
        self.file = file
        self._handle: int | None = None
        try:
            if file.is_local:
                self._handle = os.open(file.path, os.O_RDONLY)
            (length,) = struct.unpack("<Q", self._range(0, 8))
            header = json.loads(self._range(8, 8 + length))
        except (FileNotFoundError, struct.error, ValueError) as error:
            self.close()
            raise CorruptCheckpointError(f"{file.name} cannot be read: {error}") from error
        except OSError as error:
            self.close()
            raise UnreadableCheckpointError(f"{file.name} cannot be read: {error}") from error
        self._data = 8 + length
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self.header: dict[str, dict[str, Any]] = header

    def dtype(self, key: str) -> torch.dtype:
        if key not in self.header:
            raise CorruptCheckpointError(f"{self.file.name} lacks {key}")
        return dtype_of(self.header[key]["dtype"])

    def read_into(self, key: str, start: int, out: Tensor) -> None:
        """Fill `out` (flat, host memory, of the file's dtype) with elements from `start` on of the flattened tensor
        `key`."""
        if self.dtype(key) != out.dtype:
            raise ValueError(f"{key} is {self.dtype(key)} in {self.file.name}, not {out.dtype}")
        first = self._data + self.header[key]["data_offsets"][0] + start * out.itemsize
        self._fill(first, _bytes_of(out))

    def read(self, key: str) -> Tensor:
        """A whole tensor."""
        entry = self.header[key]
        out = torch.empty(entry["shape"], dtype=dtype_of(entry["dtype"]))
        self.read_into(key, 0, out.view(-1))
        return out

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _range(self, start: int, stop: int) -> bytes:
        out = bytearray(stop - start)
        self._fill(start, memoryview(out))
        return bytes(out)

    def _fill(self, start: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            if self._handle is not None:
                got = os.preadv(self._handle, [view[done : done + CHUNK_BYTES]], start + done)
            else:
                end = start + min(len(view), done + CHUNK_BYTES)
                part = self.file.filesystem.cat_file(self.file.path, start + done, end)
                got = len(part)
                view[done : done + got] = part
            if not got:
                raise CorruptCheckpointError(f"{self.file.name} is shorter than its header says")
            done += got
