"""Prepared folders in an object store: read by fsspec, piece by piece, with retries.

A URL flows in, a `StoredManifest` flows out, which serves wherever a `Manifest` does; row groups are then fetched as they are
needed. What must lie on a disk (a small eval set, say) is mirrored beside the manifest.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from distmed.cases.files import file_system
from distmed.errors import UserError
from distmed.prepare.manifest import MANIFEST, Manifest, file_hash
from distmed.prepare.open import check_source, open_source
from distmed.recipe import Source

T = TypeVar("T")

ATTEMPTS = 7
FIRST_WAIT_S = 0.5
"""Doubled after each attempt, with a random part so that workers do not come back together: about a minute in all."""

_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError)


def patiently(what: str, call: Callable[[], T]) -> T:
    """The result of `call`, tried again while the store fails or throttles.

    Raises UserError that names `what` and the last error once patience is at its end; at once for what waiting cannot mend.
    """
    wait = FIRST_WAIT_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except UserError:
            raise
        except _FINAL as error:
            raise UserError(
                f"cannot read {what}: {type(error).__name__}", "check the address and your access to it"
            ) from error
        except Exception as error:  # every store behind fsspec has errors of its own
            if attempt == ATTEMPTS:
                raise UserError(
                    f"cannot read {what}: {type(error).__name__}, {ATTEMPTS} attempts in a row",
                    "the store fails or throttles: try again later (nothing is lost), or read with fewer workers",
                ) from error
            time.sleep(wait * random.uniform(0.5, 1.5))
            wait *= 2
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class StoredManifest(Manifest):
    """A manifest whose shards lie at `url`; `folder` holds a copy of the manifest, and shards that were mirrored."""

    url: str = ""

    def verify(self, *, checksums: bool) -> None:
        """Names and sizes at the store. Checksums are compared where a shard is mirrored, as they need every byte."""
        again = "restore it from where it came, or prepare the source again"
        filesystem, root = _open_url(self.url)
        found = patiently(self.url, lambda: filesystem.find(root, detail=True))
        sizes = {name.removeprefix(root).lstrip("/"): info["size"] for name, info in found.items()}
        for shard in self.shards:
            promised = f"{MANIFEST} says {shard.rows} rows, {shard.bytes} bytes"
            if shard.path not in sizes:
                raise UserError(f"shard missing: {self.url}/{shard.path} ({promised})", again)
            if sizes[shard.path] is not None and sizes[shard.path] != shard.bytes:
                raise UserError(
                    f"shard changed: {self.url}/{shard.path} has {sizes[shard.path]} bytes ({promised})", again
                )

    def mirror(self) -> None:
        """Copy the shards that are not yet in `folder`, each compared with its checksum."""
        filesystem, root = _open_url(self.url)
        for shard in self.shards:
            path = self.folder / shard.path
            if path.is_file():
                continue
            part = path.with_name(f".{path.name}.part")
            patiently(
                f"{self.url}/{shard.path}",
                lambda shard=shard, part=part: filesystem.get_file(f"{root}/{shard.path}", str(part)),  # type: ignore[misc]
            )
            if file_hash(part) != shard.sha256:
                raise UserError(
                    f"shard changed: {self.url}/{shard.path} has another checksum than {MANIFEST} says",
                    "restore it from where it came, or prepare the source again",
                )
            part.replace(path)

    def _content(self) -> dict[str, Any]:
        values = super()._content()
        del values["url"]  # the same cases are the same manifest, wherever they lie
        return values


def open_data(source: Source, cache: Path) -> Manifest:
    """The manifest of any source: one that is prepared at a URL is read from there, all else goes to `open_source`."""
    if (manifest := stored(source, cache)) is None:
        return open_source(source, cache)
    manifest.verify(checksums=False)
    return manifest


def check_data(source: Source, task: Literal["classify", "generate"], cache: Path) -> None:
    """As `check_source`, also for what is prepared at a URL."""
    if stored(source, cache) is None:
        check_source(source, task)


def on_disk(manifest: Manifest) -> Manifest:
    """The same manifest with all its shards on this machine."""
    if isinstance(manifest, StoredManifest):
        manifest.mirror()
    return manifest


def stored(source: Source, cache: Path) -> StoredManifest | None:
    """The manifest of what is prepared at a URL; None for all else."""
    if "://" not in source.source:
        return None
    url = source.source.rstrip("/")
    filesystem, root = _open_url(url)
    if not patiently(url, lambda: filesystem.exists(f"{root}/{MANIFEST}")):
        return None
    if source.where or source.columns or source.groups or source.limit:
        raise UserError(
            f"{source.source} is prepared: `where`, `columns`, `groups` and `limit` have no effect on it any more",
            "take them away, or give them to `distmed prepare`",
        )
    content = patiently(f"{url}/{MANIFEST}", lambda: filesystem.cat_file(f"{root}/{MANIFEST}"))
    folder = cache / f"store-{hashlib.sha256(url.encode() + content).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / MANIFEST).write_bytes(content)
    manifest = Manifest.read(folder)
    return StoredManifest(**{name: getattr(manifest, name) for name in Manifest.__dataclass_fields__}, url=url)


def _open_url(url: str) -> tuple[Any, str]:
    filesystem, root = file_system(url)
    return filesystem, root.rstrip("/")
