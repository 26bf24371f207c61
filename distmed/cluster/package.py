"""What `ray job submit` will ship: `python -m distmed.cluster.package FOLDER RUNTIME_ENV OUT`.

A working directory and a runtime environment flow in; its size flows out, or a refusal with the largest folders, and OUT: the
runtime environment with DISTMED_RUNS and the settings of this shell that a run heeds. No secret is among them.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from distmed.errors import UserError, mistakes_told

LIMIT_BYTES = 100 * 2**20
HANDED_ON = ("DISTMED_RUNS", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "HF_HUB_OFFLINE")
FAMILIES = ("NCCL_", "GLOO_")
# Not NCCL_IB_PKEY, the index of a partition.
SECRET = re.compile(r"_KEY|TOKEN|SECRET|PASSW|CREDENTIAL")


def size_of(folder: Path, excludes: list[str]) -> Counter[str]:
    """Bytes that would be shipped, by the first folder or file below `folder`: by Ray's own walk, which follows links and
    heeds each .gitignore."""
    from ray._private.runtime_env import packaging

    sizes: Counter[str] = Counter()

    def count(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(folder).parts[0]] += path.stat().st_size

    packaging._dir_travel(folder, [packaging._get_excludes(folder, excludes)], count, include_gitignore=True)
    return sizes


def check_size(sizes: Counter[str]) -> int:
    """The sum; raises UserError past what Ray's dashboard takes."""
    total = sum(sizes.values())
    if total > LIMIT_BYTES:
        largest = ", ".join(f"{name} ({size / 2**20:.0f} MiB)" for name, size in sizes.most_common(4))
        raise UserError(
            f"the working directory is {total / 2**20:.0f} MiB, Ray takes {LIMIT_BYTES / 2**20:.0f}; largest: {largest}",
            "add them to `excludes` in launch/runtime_env.yaml; data and models belong on shared storage",
        )
    return total


def runtime_env(values: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """`values` with the settings of `environment` that a run heeds."""
    handed_on = {name: value for name, value in environment.items() if _heeded(name)}
    return {**values, "env_vars": {**values.get("env_vars", {}), **handed_on}}


def _heeded(name: str) -> bool:
    """Each setting of NCCL and Gloo is, whatever this version of them knows; none is if it is called as secrets are."""
    return name in HANDED_ON or (name.startswith(FAMILIES) and not SECRET.search(name))


def main() -> None:
    folder, source, out = (Path(word) for word in sys.argv[1:4])
    values = yaml.safe_load(source.read_text(encoding="utf-8"))
    with mistakes_told():
        total = check_size(size_of(folder, values.get("excludes", [])))
    print(f"ships {total / 2**20:.1f} MiB of {folder.resolve()}")
    out.write_text(yaml.safe_dump(runtime_env(values, dict(os.environ))), encoding="utf-8")


if __name__ == "__main__":
    main()
