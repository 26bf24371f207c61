"""The marker of a rank: the small JSON file, written last, that says what the rank's tensor file holds and proves it
whole.

Sizes, hashes, flat ranges, hyperparameters, random states and the caller's state flow in and out; no tensor does.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import xxhash

from distmed.checkpoint.storage import Storage

FORMAT = "distmed-checkpoint"
VERSION = 1
_MARKER = re.compile(r"rank-(\d{5})-of-(\d{5})\.json")


class CorruptCheckpointError(Exception):
    """A checkpoint that is incomplete or damaged; the message says where."""


class UnreadableCheckpointError(CorruptCheckpointError):
    """A checkpoint that may be whole, but its storage does not let it be read now."""


@dataclass(frozen=True)
class Parameter:
    """What is known of a whole parameter: `states` maps a state of its shape (exp_avg, …) to its safetensors dtype."""

    shape: list[int]
    dtype: str
    group: str | None
    states: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, float] = field(default_factory=dict)
    stored: bool = True

    @property
    def numel(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Marker:
    """Of one rank. `ranges` maps a parameter to its flat range [start, stop) in this rank's file; what is the same on
    all ranks (`parameters`, `groups`, `buffers`) stands in the first rank's marker alone."""

    rank: int
    world_size: int
    bytes: int
    hash: str
    ranges: dict[str, list[int]]
    frozen_hashes: dict[str, int]
    rng: dict[str, Any]
    state: dict[str, Any]
    parameters: dict[str, Parameter] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    buffers: list[str] = field(default_factory=list)
    engine_steps: int = 0

    @property
    def data_file(self) -> str:
        return data_file(self.rank, self.world_size)


def data_file(rank: int, world_size: int) -> str:
    return f"rank-{rank + 1:05d}-of-{world_size:05d}.safetensors"


def marker_file(rank: int, world_size: int) -> str:
    return f"rank-{rank + 1:05d}-of-{world_size:05d}.json"


def world_size_of(names: list[str]) -> int | None:
    """The world size that the markers among these file names tell, None without a marker."""
    found = {int(match[2]) for name in names if (match := _MARKER.fullmatch(name))}
    if len(found) > 1:
        raise CorruptCheckpointError(f"markers of several world sizes: {sorted(found)}")
    return found.pop() if found else None


def write_marker(folder: Storage, marker: Marker) -> None:
    body = json.dumps(asdict(marker), separators=(",", ":"))
    head = {"format": FORMAT, "version": VERSION, "marker_hash": xxhash.xxh3_128_hexdigest(body.encode())}
    with (folder / marker_file(marker.rank, marker.world_size)).writing() as file:
        file.write((json.dumps(head) + "\n" + body + "\n").encode())


def read_marker(folder: Storage, rank: int, world_size: int) -> Marker:
    """Raises CorruptCheckpointError where the marker is missing, damaged, or of a version that this code does not
    know."""
    name = marker_file(rank, world_size)
    try:
        first, _, body = (folder / name).read().decode().partition("\n")
        head = json.loads(first)
    except FileNotFoundError as error:
        raise CorruptCheckpointError(f"{name} is missing") from error
    except ValueError as error:
        raise CorruptCheckpointError(f"{name} is damaged") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise CorruptCheckpointError(f"{name} is no marker")
    if head["version"] != VERSION:
        raise CorruptCheckpointError(f"{name} has version {head['version']}, this program reads {VERSION}")
    if xxhash.xxh3_128_hexdigest(body.rstrip("\n").encode()) != head["marker_hash"]:
        raise CorruptCheckpointError(f"{name} is damaged")
    values = json.loads(body)
    values["parameters"] = {key: Parameter(**value) for key, value in values["parameters"].items()}
    return Marker(**values)


def read_markers(folder: Storage, world_size: int) -> list[Marker]:
    """All of them, by rank; many at once, because an object store answers each in tens of milliseconds."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return list(pool.map(lambda rank: read_marker(folder, rank, world_size), range(world_size)))
