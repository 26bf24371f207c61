"""About: what was evaluated, on what, with which versions; so that a figure can be traced and repeated.

Models and manifests flow in, the section `about` flows out. It holds no time, and no place on
this machine's disk beyond what the user typed.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from distmed import __version__
from distmed.credentials import without_credentials
from distmed.evaluate.loading import Opened
from distmed.evaluate.reading import Read

VERSION = 1
PACKAGES = ("torch", "transformers", "scikit-learn", "scipy", "numpy", "statsmodels")


def about_model(opened: Opened, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": opened.name,
        "hash": opened.hash,
        "architecture": opened.architecture,
        "task": opened.task,
        "parameters": facts["parameters"],
        "dtype": facts["dtype"],
        "head": facts["head"],
        "checkpoint": opened.checkpoint,
    }


def about_data(read: Read) -> dict[str, Any]:
    return {
        "source": without_credentials(read.source),
        "format": read.manifest.format,
        "cases": len(read.cases),
        "groups": len({case.group for case in read.cases}),
        "hash": read.manifest.hash,
        "dropped": read.manifest.dropped,
    }


def about_prompt(opened: Opened, choice: Mapping[str, Any] | None) -> dict[str, Any]:
    """How a case was put into words; the hash changes with any of it. `choice`: templates and examples of exam questions."""
    from distmed.cases import prompts
    from distmed.model.load import load_tokenizer
    from distmed.stream.encode import prompt_hash, tokenizer_hash

    data = opened.recipe.data
    return {
        "version": prompts.VERSION,
        "hash": prompt_hash(opened.recipe, False),
        "example_free": not (choice and choice["shots"]),
        "seq_len": data.seq_len,
        "excluded_findings": data.excluded_findings,
        "template": tokenizer_hash(load_tokenizer(opened.folder)),
        **({"choice": dict(choice)} if choice else {}),
    }


def versions() -> dict[str, str]:
    known = {package: metadata.version(package) for package in PACKAGES}
    return {"distmed": __version__, "python": platform.python_version(), **known}
