"""The manifest of a prepared folder: what its shards hold, and a hash over it all.

`write_shards` makes one, `manifest.json` keeps it, training reads it: rows per row group, labels with counts, checksums. It
holds neither time nor place, so the same cases give the same manifest anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distmed.errors import UserError, one_of

MANIFEST = "manifest.json"
VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One Parquet file. `row_groups` are the rows of each of its row groups."""

    path: str
    rows: int
    row_groups: tuple[int, ...]
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Label:
    """A label of the set: the name a reader sees, and how many cases have it."""

    name: str
    count: int


@dataclass(frozen=True)
class Manifest:
    """What lies in `folder`. `dropped`: cases left out, by rule; `labels` are in the order of their keys; `settings`: those
    of `distmed prepare`, empty for a source that training read as it is."""

    folder: Path
    format: str
    rows: int
    labels: dict[str, Label]
    shards: tuple[Shard, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 of everything but the place."""
        text = json.dumps(self._content(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def row_groups(self) -> list[tuple[int, int, int]]:
        """(shard, row group in it, rows) of every row group, in order."""
        return [(s, g, rows) for s, shard in enumerate(self.shards) for g, rows in enumerate(shard.row_groups)]

    def write(self) -> None:
        """Put `manifest.json` there at once and whole; its presence means that the shards are complete."""
        text = json.dumps({**self._content(), "hash": self.hash}, indent=1, ensure_ascii=False) + "\n"
        part = self.folder / f".{MANIFEST}.{os.getpid()}"
        part.touch(0o600)
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / MANIFEST)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Open the folder's manifest. Raises UserError if it is missing, no manifest, or edited since it was written."""
        path = folder / MANIFEST
        again = "prepare the source again into a fresh folder"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            found, version = values.pop("hash"), values.pop("version")
            if version != VERSION:
                raise UserError(f"{path} has version {version}, this distmed reads {VERSION}", again)
            manifest = cls(
                folder=folder.resolve(),
                format=values["format"],
                rows=values["rows"],
                labels={key: Label(**label) for key, label in values["labels"].items()},
                shards=tuple(
                    Shard(**{**shard, "row_groups": tuple(shard["row_groups"])}) for shard in values["shards"]
                ),
                dropped=values["dropped"],
                settings=values.get("settings", {}),
            )
        except FileNotFoundError as error:
            raise UserError(f"no {MANIFEST} in {folder}", "name a folder that `distmed prepare` finished") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is no manifest: {type(error).__name__}", again) from error
        if manifest.hash != found:
            raise UserError(f"{path} was changed after it was written: its hash does not fit its content", again)
        return manifest

    def verify(self, *, checksums: bool) -> None:
        """Compare the shards with the manifest: names and sizes, and on demand every byte.

        Raises UserError that names the first shard which is missing, truncated, changed or extra.
        """
        again = "restore it from where it came, or prepare the source again"
        for shard in self.shards:
            path = self.folder / shard.path
            promised = f"{MANIFEST} says {shard.rows} rows, {shard.bytes} bytes"
            if not path.is_file():
                raise UserError(f"shard missing: {path} ({promised})", again)
            size = path.stat().st_size
            if size != shard.bytes:
                verb = "truncated" if size < shard.bytes else "changed"
                raise UserError(f"shard {verb}: {path} has {size} bytes ({promised})", again)
            if checksums and file_hash(path) != shard.sha256:
                raise UserError(
                    f"shard changed: {path} has another checksum ({promised}, sha256 {shard.sha256[:12]}…)", again
                )
        known = {shard.path for shard in self.shards}
        extra = sorted(path.name for path in self.folder.glob("*.parquet") if path.name not in known)
        if extra:
            raise UserError(
                f"{self.folder} holds shards that {MANIFEST} does not know: {one_of(extra)}", "take them away"
            )

    def _content(self) -> dict[str, Any]:
        values = asdict(self)
        del values["folder"]
        if not self.settings:
            del values["settings"]
        values["labels"] = dict(sorted(values["labels"].items()))
        return {"version": VERSION, **values}


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return bytes_hash(file)


def bytes_hash(file: Any) -> str:
    """SHA-256 of all that an open file holds; also one of fsspec, which `hashlib.file_digest` refuses."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
